"""SRGAN: old and damaged checkpoints."""

import pytest
import torch

import rvlib

STYLES = {"paper": "conv1.0.weight", "compact": "block1.0.weight", "msrresnet": "conv_first.weight"}


@pytest.mark.parametrize("style", STYLES)
def test_files_that_do_not_count_batches_load(style, tmp_path):
    model = rvlib.create("srgan", style=style, features=8)
    torch.save({k: v for k, v in model.state_dict().items() if "num_batches" not in k}, tmp_path / "old.pth")
    x = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        assert torch.equal(rvlib.load(tmp_path / "old.pth")(x), model(x))


@pytest.mark.parametrize("shape", [(), (8,), (0, 3, 9, 9)])
@pytest.mark.parametrize("style", STYLES)
def test_damaged_files_are_named(style, shape, tmp_path):
    state = rvlib.create("srgan", style=style, features=8).state_dict()
    state[STYLES[style]] = torch.zeros(shape)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(rvlib.UserError, match=STYLES[style]):
        rvlib.load(tmp_path / "x.pth")
