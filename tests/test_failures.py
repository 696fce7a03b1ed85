"""Errors by frequency and by gradient: known errors are found where they were put."""

import numpy as np
import pytest
from scipy.ndimage import sobel

from rvlib import photos
from rvlib.study import failures, figures


@pytest.fixture
def reference():
    return np.clip(photos.sample("coffee")[:128, :192], 30, 225)


def test_a_photo_has_no_error_against_itself(reference):
    assert (failures.by_frequency(reference, reference) == 0).all()
    assert (failures.by_gradient(reference, reference) == 0).all()


def test_grey_in_place_of_a_photo_is_as_wrong_as_an_empty_ring(reference):
    assert failures.by_frequency(np.full_like(reference, 77), reference).to_numpy() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("frequency", [0.05, 0.2, 0.4])
def test_a_wave_is_an_error_of_its_frequency(frequency):
    noise = np.random.default_rng(0).integers(60, 200, size=(96, 128, 1), dtype=np.uint8).repeat(3, axis=2)
    wave = 20 * np.sin(2 * np.pi * frequency * np.arange(128))[None, :, None]
    found = failures.by_frequency((noise + wave).round().astype(np.uint8), noise)
    assert abs(found.idxmax() - frequency) <= 0.25 / failures.BANDS
    assert found.max() > 50 * found.median()


def test_an_error_on_edges_is_one_of_the_steep_classes(reference):
    whole = figures.luminance(reference)
    steepness = np.hypot(sobel(whole, 0), sobel(whole, 1))
    wrong = (reference + 10 * (steepness > np.median(steepness))[..., None]).astype(np.uint8)
    found = failures.by_gradient(wrong, reference)
    half = failures.PARTS // 2
    assert found.to_numpy()[:half] == pytest.approx(0, abs=1)
    assert found.to_numpy()[half:] == pytest.approx(10 * 219 / 255, abs=1e-6)
    assert found.index.is_monotonic_increasing


def test_rows_and_figure_have_every_method_and_photo(reference):
    restored = {"same": {"a": reference, "b": reference}, "grey": {"a": reference // 2, "b": reference // 2}}
    rows = failures.measure(restored, {"a": reference, "b": reference})
    assert rows.groupby(["method", "photo", "by"]).size().unstack().to_numpy().tolist() == [[16, 10]] * 4
    drawn = failures.figure(rows, {"same": "red", "grey": "blue"}, known=0.125)
    left, right = drawn.axes
    assert [line.get_label() for line in left.lines[:2]] == ["same", "grey"]
    assert np.allclose(right.lines[0].get_ydata(), 0)
    assert (right.lines[1].get_ydata() > 0).all()
