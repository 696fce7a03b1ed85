"""imresize equals MATLAB's in every golden; degradations are what their formulas say."""

import numpy as np
import pytest
import torch
from golden import tensors
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve

import rvlib
from rvlib.degrade import Bicubic, Chain, GaussianBlur, Jpeg, MotionBlur, Noise, cubic, imresize, mod_crop
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


@pytest.mark.parametrize("scale", [2, 4])
def test_bytes_shrink_without_rounding_but_at_the_end(scale):
    """The oracle computes in whole numbers: the weights for 1/2 and 1/4 are multiples of 2⁻¹²."""
    photo = sample("coffee")[:96, :120]
    taps = np.arange(4 * scale) - (4 * scale - 1) / 2  # distances from the middle of an output pixel
    weights = cubic(taps / scale) / scale * 2**12
    assert np.array_equal(weights, weights.round())
    assert weights.sum() == 2**12
    exact = photo.astype(np.int64)
    for axis in (0, 1):
        padded = np.pad(exact, [(2 * scale, 2 * scale) if a == axis else (0, 0) for a in range(3)], mode="symmetric")
        views = np.lib.stride_tricks.sliding_window_view(padded, 4 * scale, axis=axis)
        starts = np.arange(0, exact.shape[axis], scale) + 2 * scale - (4 * scale - scale) // 2
        exact = np.take(views, starts, axis=axis) @ weights.astype(np.int64)
    half, whole = 2**23, 2**24
    below, rest = np.divmod(exact, whole)
    expected = below + ((rest > half) | ((rest == half) & (below % 2 == 1)))  # to the even one from the middle
    assert np.array_equal(imresize(photo, 1 / scale), expected.clip(0, 255))


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


@pytest.mark.parametrize("factor", [0, -1, float("nan")])
def test_refuses_a_factor_that_is_not_positive(factor):
    with pytest.raises(rvlib.UserError, match="factor"):
        imresize(np.zeros((4, 4)), factor)


class TestDegradations:
    @pytest.fixture(scope="class")
    def photo(self):
        return sample("astronaut")[:120, :100]

    @pytest.mark.parametrize(
        "degradation",
        [Bicubic(4), MotionBlur(), GaussianBlur(), Noise(), Jpeg(), Chain(MotionBlur(9), Noise(3), Bicubic(2))],
        ids=lambda each: type(each).__name__,
    )
    def test_same_seed_same_photo(self, photo, degradation):
        first, second = (degradation(photo, np.random.default_rng(5)) for _ in range(2))
        assert first.dtype == np.uint8
        assert np.array_equal(first, second)
        scale = getattr(degradation, "scale", 1)
        assert first.shape == (photo.shape[0] // scale, photo.shape[1] // scale, 3)
        assert not np.array_equal(first, photo)

    @pytest.mark.parametrize("degradation", [MotionBlur(20), GaussianBlur(3), Jpeg(90)], ids=str)
    def test_a_constant_photo_stays(self, degradation):
        photo = np.full((40, 50, 3), 90, np.uint8)
        assert np.array_equal(degradation(photo, np.random.default_rng(0)), photo)

    def test_the_kernel_is_the_path(self):
        blur = MotionBlur(length=12)
        kernel, path = (getattr(blur, name)(np.random.default_rng(2)) for name in ("kernel", "path"))
        assert kernel.sum() == pytest.approx(1)
        assert kernel.min() >= 0
        steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
        assert steps.sum() == pytest.approx(12)
        grid = np.arange(len(kernel)) - len(kernel) // 2
        centre = (kernel.sum(1) @ grid, kernel.sum(0) @ grid)
        assert np.allclose(centre, 0, atol=1e-9)

    def test_shake_equals_a_convolution_with_its_path(self, photo):
        """scipy's convolution of light is the oracle, inside of the border that shakes reach."""
        kernel = MotionBlur(12.0).kernel(np.random.default_rng(4))
        light = np.stack([convolve((photo[..., c] / 255) ** 2.2, kernel) for c in range(3)], axis=-1)
        blurred = MotionBlur(12.0)(photo, np.random.default_rng(4))
        difference = np.abs(blurred - 255 * light ** (1 / 2.2))[12:-12, 12:-12]
        assert difference.max() < 0.6

    @pytest.mark.parametrize("blur", [MotionBlur((0.0, 30.0)), MotionBlur(25.0, turn=0.5, zoom=0.5, highlights=1.0)])
    @pytest.mark.parametrize("place", [(0, 0), (31, 17), (72, 52)])
    def test_a_part_is_cut_from_the_whole(self, photo, blur, place):
        top, left = place
        for seed in range(4):
            whole = blur(photo, np.random.default_rng(seed))[top : top + 48, left : left + 48]
            part = blur.part(photo, np.random.default_rng(seed), top, left, 48)
            assert np.abs(whole.astype(int) - part).max() <= 1

    @pytest.mark.parametrize(
        "degradation",
        [
            GaussianBlur(2.0),
            Bicubic(4),
            Jpeg(),
            Chain(GaussianBlur(1.0), Bicubic(2)),
            Chain(Bicubic(4), Jpeg()),
            Chain(Jpeg(), Bicubic(2), GaussianBlur(1.0)),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("place", [(0, 0), (8, 16), (92, 76), (176, 140)])
    def test_a_part_of_what_draws_nothing_is_exact(self, degradation, place):
        photo, scale = sample("astronaut")[:241, :205], degradation.scale
        whole = degradation(mod_crop(photo, scale), None)
        down, across = (slice(start // scale, (start + 64) // scale) for start in place)
        assert np.array_equal(degradation.part(photo, None, *place, 64), whole[down, across])

    @pytest.mark.parametrize(
        "chain",
        [
            Chain(MotionBlur(25.0, turn=0.5), GaussianBlur(1.0)),
            Chain(MotionBlur(9.0), Jpeg()),
            Chain(MotionBlur(9.0), Bicubic(2), Jpeg()),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("place", [(0, 0), (92, 76), (176, 140)])
    def test_a_part_of_a_chain_has_the_shake_of_the_whole(self, chain, place):
        photo = sample("astronaut")[:240, :204]
        down, across = (slice(start // chain.scale, (start + 64) // chain.scale) for start in place)
        whole = chain(photo, np.random.default_rng(0))[down, across]
        difference = np.abs(chain.part(photo, np.random.default_rng(0), *place, 64).astype(int) - whole)
        assert difference.max() <= 4  # where the shake is rounded otherwise, a coefficient of a JPEG may be so, too
        assert np.mean(difference > 1) < 0.01

    def test_no_shake_leaves_the_photo(self, photo):
        still = MotionBlur(0.0, turn=1.0, zoom=1.0, linear=0.5, highlights=0.5)
        assert all(np.array_equal(still(photo, np.random.default_rng(seed)), photo) for seed in range(5))

    def test_some_photos_are_still(self, photo):
        small, blur = photo[40:64, 30:54], MotionBlur(9.0, still=0.3)
        still = [np.array_equal(blur(small, np.random.default_rng(seed)), small) for seed in range(40)]
        assert 4 <= sum(still) <= 20

    @pytest.mark.parametrize("kind", ["turn", "zoom"])
    def test_turning_and_zooming_blur_the_corners_and_not_the_centre(self, kind):
        dots = np.zeros((101, 101, 3), np.uint8)
        dots[::10, ::10] = 255
        changes = [
            np.abs(MotionBlur(30.0, **{kind: 1.0})(dots, rng).astype(int) - MotionBlur(30.0)(dots, same).astype(int))
            for rng, same in ((np.random.default_rng(k), np.random.default_rng(k)) for k in range(8))
        ]
        change = np.mean(changes, axis=(0, 3))
        assert change[:25, :25].mean() > 1.5 * change[38:63, 38:63].mean()

    @pytest.mark.parametrize("seed", range(3))
    def test_motion_blur_averages_light_or_grey_levels(self, seed):
        """About half of the time white and half black: half the light is grey level 186, half the grey levels 128."""
        photo = np.zeros((21, 60, 3), np.uint8)
        photo[:, 30:] = 255
        light, grey = (
            MotionBlur(2000.0, spacing=5.0, linear=share)(photo, np.random.default_rng(seed)) for share in (1.0, 0.0)
        )
        assert ((light / 255) ** 2.2).mean() == pytest.approx(0.5, abs=0.1)
        assert grey.mean() == pytest.approx(127.5, abs=20)
        assert light.mean() > grey.mean() + 40

    def test_the_noise_of_a_shake_is_mostly_weak(self):
        """Its deviation is `noise` times the square of a uniform number, a third of `noise` on average."""
        grey, blur = np.full((40, 40, 3), 128, np.uint8), MotionBlur(0.0, noise=9.0)
        deviations = [blur(grey, np.random.default_rng(seed)).std() for seed in range(60)]
        assert max(deviations) <= 9.3
        assert 2 < np.mean(deviations) < 4

    def test_highlights_leave_brighter_streaks(self):
        """White that was up to six times as bright: a streak's grey level rises by the power 1 / 2.2 of that."""
        dots = np.zeros((61, 61, 3), np.uint8)
        dots[10::20, 10::20] = 255
        bright, plain = (
            np.mean([MotionBlur(9.0, highlights=share)(dots, np.random.default_rng(seed)) for seed in range(8)])
            for share in (1.0, 0.0)
        )
        assert 1.2 * plain < bright < 6 ** (1 / 2.2) * plain

    def test_gaussian_blur_equals_its_formula(self, photo):
        squares = np.add.outer(np.arange(-7, 8) ** 2, np.arange(-7, 8) ** 2)  # of the distances, up to ⌈4 · 1.6⌉
        kernel = np.exp(-squares / (2 * 1.6**2))
        expected = convolve(photo.astype(float), kernel[:, :, None] / kernel.sum(), mode="reflect")
        assert np.abs(GaussianBlur(1.6)(photo) - expected).max() <= 0.5 + 1e-6

    def test_noise_has_its_standard_deviation(self):
        grey = np.full((200, 200, 3), 128, np.uint8)
        assert (Noise(10)(grey, np.random.default_rng(0)) - 128.0).std() == pytest.approx(10, rel=0.02)

    def test_wrong_quality_is_named(self, photo):
        with pytest.raises(rvlib.UserError, match="between 1 and 95"):
            Jpeg(0)(photo)
