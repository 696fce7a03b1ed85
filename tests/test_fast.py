"""Every fast function computes what its plain twin does, values and gradients, and the networks call it."""

import inspect
from unittest import mock

import pytest
import torch

import rvlib
from rvlib import fast

NETWORKS = {
    "swinir": ("swinir", {"embed": 12, "depths": (2,), "heads": (2,), "window": 4}, "few_at_a_time"),
    "nafnet": ("nafnet", {"width": 8, "encoder": (1,), "middle": 1, "decoder": (1,)}, "channel_norm"),
    "nafnet, block": ("nafnet", {"width": 8, "encoder": (1,), "middle": 1, "decoder": (1,)}, "add_scaled"),
    "diffir": ("diffir", {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "encoder": 1}, "channel_scale"),
    "diffir, attention": ("diffir", {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "encoder": 1}, "cosines"),
    "fsrcnn": ("fsrcnn", {}, "deconvolution"),
    "srgan": ("srgan", {"features": 8, "blocks": 1}, "convolution_to_few"),
}
LAYOUTS = {"channels apart": torch.contiguous_format, "channels together": torch.channels_last}


def random(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


def assert_twins(name, *tensors, **options):
    """Same values from both and the same gradients for every tensor, in float64."""
    results = []
    for function in (getattr(fast, name), fast.TWINS[name]):
        leaves = [each.detach().clone().requires_grad_() for each in tensors]
        y = function(*leaves, **options)
        gradients = torch.autograd.grad((y * random(*y.shape)).sum(), leaves)
        with torch.no_grad():
            results.append([function(*leaves, **options), y, *gradients])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-11)


def test_every_function_has_a_twin_of_its_parameters():
    here = {name for name, each in vars(fast).items() if getattr(each, "__module__", None) == fast.__name__}
    functions = {name for name in here if not name.startswith("_")} - {"plain"}
    assert functions == set(fast.TWINS) | {f"plain_{name}" for name in fast.TWINS}
    for name, twin in fast.TWINS.items():
        assert twin.__name__ == f"plain_{name}"
        assert inspect.signature(twin) == inspect.signature(getattr(fast, name))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 7, 5, 3), (1, 16, 1, 9)])
class TestPixelByPixel:
    def test_channel_norm(self, shape, layout):
        x = (3 + random(*shape)).to(memory_format=LAYOUTS[layout])
        assert_twins("channel_norm", x, random(shape[1]), random(shape[1] + 1)[1:], eps=1e-6)

    def test_channel_scale(self, shape, layout):
        x = (3 + random(*shape)).to(memory_format=LAYOUTS[layout])
        assert_twins("channel_scale", x, random(shape[1]), eps=1e-5)

    def test_add_scaled(self, shape, layout):
        x, y = (each.to(memory_format=LAYOUTS[layout]) for each in (random(*shape), random(*shape, 2)[..., 1]))
        assert_twins("add_scaled", x, y, random(1, shape[1], 1, 1))


@pytest.mark.parametrize(("k", "m", "n"), [(1, 1, 1), (3, 5, 7), (8, 8, 121)])
def test_cosines(k, m, n):
    x, y = random(2, 3, k, n), random(2, 3, m, n + 1)[..., 1:]
    assert_twins("cosines", x, y)


def test_cosines_of_nothing_are_zero():
    x = torch.zeros(1, 2, 9)
    assert torch.equal(fast.cosines(x, x), torch.zeros(1, 2, 2))
    assert torch.equal(fast.plain_cosines(x, x), torch.zeros(1, 2, 2))


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("side", [1, 3, 5, 9])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 8)])
def test_deconvolution(scale, side, height, width):
    assert_twins("deconvolution", random(2, 3, height, width), random(3, 2, side, side), random(2), scale=scale)


@pytest.mark.parametrize("side", [1, 3, 9])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 12)])
def test_convolution_to_few(side, height, width):
    assert_twins("convolution_to_few", random(2, 5, height, width), random(3, 5, side, side), random(3))


@pytest.mark.parametrize("few", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 3])
class TestFewAtATime:
    @staticmethod
    def parts(few, dtype, batch):
        """How many slices the function sees in each call."""
        calls = []

        def function(x, y, nothing):
            assert nothing is None
            calls.append(x.shape[1])
            return (x * y).cumsum(dim=-1)

        x, y = random(batch, 7, 4).to(dtype), random(1, 7, 1).to(dtype)
        whole = fast.plain_few_at_a_time(function, x, y, None, few=few, dim=-2)
        assert calls.pop() == 7
        assert torch.equal(fast.few_at_a_time(function, x, y, None, few=few, dim=-2), whole)
        return calls

    def test_all_slices_are_seen_once(self, few, dtype, batch):
        calls = self.parts(few, dtype, batch)
        assert sum(calls) == 7
        assert len(set(calls[:-1])) <= 1, "parts are of one size, but for the last"

    def test_a_part_takes_no_more_memory_than_asked_for(self, few, dtype, batch):
        largest = max(self.parts(few, dtype, batch))
        assert largest == 1 or largest * batch * dtype.itemsize <= few * 4


def test_gradients_are_computed_at_once():
    calls = []

    def function(x):
        calls.append(len(x))
        return 2 * x

    x = random(1, 9).requires_grad_()
    fast.few_at_a_time(function, x, few=2, dim=1).sum().backward()
    assert len(calls) == 1
    assert torch.equal(x.grad, torch.full_like(x, 2))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_compute_the_same_with_plain_twins(name):
    method, arguments, trick = NETWORKS[name]
    torch.manual_seed(0)
    model = rvlib.create(method, **arguments).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    inputs = [random(2, model.channels, 16, 24)]
    if model.noise_size:
        inputs.append(random(2, model.noise_size))
    plain = mock.Mock(side_effect=fast.TWINS[trick])
    with torch.no_grad():
        expected = model(*inputs)
        with mock.patch.object(fast, trick, plain):
            found = model(*inputs)
    assert plain.called
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
