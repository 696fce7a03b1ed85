"""SRGAN: old and damaged checkpoints."""

import pytest
import torch

import rvlib
from rvlib import losses
from rvlib.models import srgan

STYLES = {"paper": "conv1.0.weight", "compact": "block1.0.weight", "msrresnet": "conv_first.weight"}


def test_the_discriminator_begins_alike_whether_vgg16_was_made_before_or_not(monkeypatch):
    def first():
        torch.rand(1)  # as what makes the network does
        return torch.nn.Identity()

    begun = []
    for features in (first, torch.nn.Identity):
        monkeypatch.setattr(srgan, "vgg16_features", features)
        torch.manual_seed(0)
        model = rvlib.create("srgan", features=8, blocks=1)
        begun.append(srgan.against_discriminator(model, model, losses.mse)[0].discriminator.state_dict())
    assert all(torch.equal(begun[0][key], begun[1][key]) for key in begun[0])


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
