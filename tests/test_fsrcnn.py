"""FSRCNN and SRCNN: they cost and start as the papers say, and their weights tell their sizes."""

import pytest
import torch

import rvlib
from rvlib import complexity
from rvlib.models import fsrcnn


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("method", ["fsrcnn", "srcnn"])
@pytest.mark.parametrize("size", [(1, 1), (7, 13)])
def test_output_is_scale_times_as_large(method, scale, size):
    model = rvlib.create(method, scale=scale)
    assert model(torch.rand(2, 1, *size)).shape == (2, 1, scale * size[0], scale * size[1])


@pytest.mark.parametrize(("d", "s", "m"), [(56, 12, 4), (32, 5, 1), (17, 3, 2)])
def test_counted_multiply_adds_equal_the_papers_formula(d, s, m):
    x = torch.zeros(1, 1, 20, 30)
    model = rvlib.create("fsrcnn", d=d, s=s, m=m)
    counted = complexity.multiply_adds(model, x)
    assert counted == x.numel() * (25 * d + s * d + 9 * m * s**2 + d * s + 81 * d)


def test_starts_as_the_paper_says():
    torch.manual_seed(0)
    model = rvlib.create("fsrcnn", d=256, s=64, m=1)
    layer = model.mid_part[2]
    assert layer.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert model.last_part.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert all(not p.any() for n, p in model.named_parameters() if n.endswith("bias"))


@pytest.mark.parametrize("arguments", [{}, {"d": 20, "s": 7, "m": 2}, {"expand": False}, {"channels": 3}, {"scale": 2}])
def test_architecture_is_inferred_from_the_weights(arguments):
    model = rvlib.create("fsrcnn", **arguments)
    name, found, state = fsrcnn.recognise(model.state_dict(), scale=arguments.get("scale", 4))
    again = rvlib.create(name, **found)
    again.load_state_dict(state)
    x = torch.rand(1, arguments.get("channels", 1), 8, 9)
    assert torch.equal(model(x), again(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 5}, "scale 5"),
        ({"d": 0}, "d must be"),
        ({"m": -1}, "m must be"),
        ({"width": 3}, "no argument 'width'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(rvlib.UserError, match=message):
        rvlib.create("fsrcnn", **arguments)


def test_unknown_names_are_named():
    with pytest.raises(rvlib.UserError, match="unknown model 'edsr'.*fsrcnn"):
        rvlib.create("edsr")
    with pytest.raises(rvlib.UserError, match="no variant 'huge'"):
        rvlib.create("fsrcnn", variant="huge")
