"""SwinIR's weights tell its sizes, whatever they are."""

import pytest
import torch

import rvlib


@pytest.mark.parametrize("hidden", [90, 120, 123])
def test_hidden_features_that_are_no_multiple_of_the_others_are_read(hidden, tmp_path):
    """60 * (123 / 60) is less than 123 in floating point."""
    sizes = {"embed": 60, "depths": (1,), "heads": (2,), "window": 4, "drop_path": 0.0}
    made = rvlib.create("swinir", **sizes, mlp_ratio=(hidden + 0.5) / 60)
    torch.save(made.state_dict(), tmp_path / "official.pth")
    loaded = rvlib.load(tmp_path / "official.pth")
    assert loaded.layers[0].residual_group.blocks[0].mlp.fc1.out_features == hidden
    assert loaded.spec["arguments"]["mlp_ratio"] == pytest.approx(hidden / 60, rel=1e-15)
    rvlib.save(loaded, tmp_path / "own.safetensors")
    x = torch.rand(1, 3, 8, 12)
    with torch.no_grad():
        assert torch.equal(rvlib.load(tmp_path / "own.safetensors")(x), made(x))


def test_fresh_weights_have_the_spread_of_the_official_code():
    torch.manual_seed(0)
    block = rvlib.create("swinir").layers[0].residual_group.blocks[0]
    for weights in (block.attn.qkv.weight, block.mlp.fc1.weight, block.attn.relative_position_bias_table):
        assert weights.std().item() == pytest.approx(0.02, rel=0.05)
        assert abs(weights.mean().item()) < 0.002
    for layer in (block.attn.qkv, block.attn.proj, block.mlp.fc1, block.mlp.fc2):
        assert not layer.bias.any()
