"""imresize equals MATLAB's in every golden; degradations are what their formulas say."""

import numpy as np
import pytest
import torch
from golden import tensors
from hypothesis import given, settings
from hypothesis import strategies as st

import rvlib
from rvlib.degrade import Bicubic, cubic, imresize, mod_crop
from rvlib.photos import sample

FACTORS = {"d4": 1 / 4, "d3": 1 / 3, "d2": 1 / 2}


@pytest.mark.parametrize("image", ["cat_62x61", "astro_97x131"])
@pytest.mark.parametrize("name", FACTORS)
def test_shrinking_equals_matlab(image, name):
    stored = tensors(f"metrics_{image}")
    reference, expected = stored[f"{image}.gt"].numpy(), stored[f"{image}.imresize.{name}"].numpy()
    shrunk = imresize(reference / 255, FACTORS[name])
    assert shrunk.shape == expected.shape
    np.testing.assert_allclose(shrunk, expected, atol=2e-6)
    rounded = imresize(reference, FACTORS[name]).astype(int) - stored[f"{image}.imresize.{name}.u8"].numpy().astype(int)
    assert np.abs(rounded).max() <= 1  # a value on the edge of rounding may fall to the other side
    assert np.mean(rounded != 0) < 0.002


@pytest.mark.parametrize("image", ["cat_62x61", "astro_97x131"])
@pytest.mark.parametrize(("name", "factor"), [("u2", 2), ("u4", 4)])
def test_enlarging_equals_matlab(image, name, factor):
    stored = tensors(f"metrics_{image}")
    crop = stored[f"{image}.gt"].numpy()[8:40, 8:40] / 255
    np.testing.assert_allclose(imresize(crop, factor), stored[f"{image}.imresize.{name}"].numpy(), atol=2e-6)


def test_kernel_is_a_partition_of_unity():
    for offset in np.linspace(0, 1, 11):
        assert cubic(np.arange(-2, 3) + offset).sum() == pytest.approx(1, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1 / 4, 1 / 3, 0.37, 1, 1.5, 4]), st.floats(-2, 2))
def test_constant_stays_constant_at_any_size(height, width, factor, value):
    resized = imresize(np.full((height, width), value), factor)
    assert resized.shape == (int(np.ceil(round(height * factor, 9))), int(np.ceil(round(width * factor, 9))))
    np.testing.assert_allclose(resized, value, atol=1e-9)


def test_linear():
    a, b = np.random.default_rng(0).random((2, 31, 45, 3))
    np.testing.assert_allclose(imresize(2 * a - b, 1 / 3), 2 * imresize(a, 1 / 3) - imresize(b, 1 / 3), atol=1e-12)


def test_numpy_and_torch_give_the_same():
    image = np.random.default_rng(0).random((24, 36, 3))
    planes = torch.from_numpy(image.transpose(2, 0, 1))[None]
    np.testing.assert_allclose(imresize(planes, 1 / 4)[0].permute(1, 2, 0).numpy(), imresize(image, 1 / 4), atol=1e-12)
    assert imresize(planes.float(), 2).dtype == torch.float32


def test_does_not_clip_floats_but_bytes():
    edge = np.zeros((16, 16))
    edge[:, 8:] = 1
    enlarged = imresize(edge, 4)
    assert enlarged.min() < -0.01
    assert enlarged.max() > 1.01
    assert imresize((edge * 255).astype(np.uint8), 4).max() == 255


def test_same_seed_same_pair():
    reference = mod_crop(sample("coffee"), 4)
    first, second = (Bicubic(4)(reference, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first, second)
    assert first.shape == (reference.shape[0] // 4, reference.shape[1] // 4, 3)


@pytest.mark.parametrize("factor", [0, -1, float("nan")])
def test_refuses_a_factor_that_is_not_positive(factor):
    with pytest.raises(rvlib.UserError, match="factor"):
        imresize(np.zeros((4, 4)), factor)
