"""Intervals over photos: they agree with scipy's t test, hold what they promise, and refuse what has no interval."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_1samp

import rvlib
from rvlib import study
from rvlib.study import tables
from rvlib.study.statistics import Interval, differences, mean_interval, over_seeds, paired_difference

VALUES = np.random.default_rng(1).normal(28, 3, size=14)


def test_agrees_with_scipy():
    ours = mean_interval(VALUES)
    theirs = ttest_1samp(VALUES, 0).confidence_interval(0.95)
    assert ours.mean == pytest.approx(VALUES.mean())
    assert (ours.low, ours.high) == pytest.approx(theirs)


@pytest.mark.parametrize("photos", [2, 3, 5, 14])
def test_one_in_twenty_differences_of_nothing_is_told_apart(photos):
    drawn = np.random.default_rng(photos).normal(size=(4000, photos))
    assert 0.035 < np.mean([mean_interval(each).decided for each in drawn]) < 0.065


def test_a_paired_difference_sees_what_two_intervals_cannot():
    better = VALUES + np.linspace(0.05, 0.15, len(VALUES))
    found = paired_difference(better, VALUES)
    assert found.decided
    assert found.mean == pytest.approx(0.1)
    assert mean_interval(better).low < mean_interval(VALUES).high
    assert found.text(2, "dB") == f"+0.10 dB (95 %: {found.low:+.2f} to {found.high:+.2f}, 14 photos)"


def test_zero_inside_is_said():
    found = paired_difference(VALUES, VALUES[::-1])
    assert not found.decided
    assert "cannot be told from zero" in found.text()


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-0.0679, -0.0035, "-0.036 dB (95 %: -0.068 to -0.004, 4 photos)"),
        (-0.0012, 0.164, "+0.081 dB (95 %: -0.001 to +0.164, 4 photos; cannot be told from zero)"),
        (0.1, 0.3, "+0.20 dB (95 %: +0.10 to +0.30, 4 photos)"),
        (0.0, 0.0, "+0.00 dB (95 %: +0.00 to +0.00, 4 photos; cannot be told from zero)"),
    ],
)
def test_an_end_keeps_its_sign(low, high, text):
    assert Interval((low + high) / 2, low, high, 4).text(unit="dB") == text


@pytest.mark.parametrize("values", [[1.0], [], [1.0, float("nan")], [[1.0, 2.0]]])
def test_no_interval(values):
    with pytest.raises(rvlib.UserError, match="at least two finite numbers"):
        mean_interval(values)


def test_photos_must_be_the_same():
    with pytest.raises(rvlib.UserError, match="same photos on both sides, not 2 and 3"):
        paired_difference([1, 2], [1, 2, 3])


def test_rows_are_paired_by_photo_whatever_their_order():
    values = {"a": [30.0, 20.0, 25.0], "b": [29.5, 19.0, 24.0]}
    rows = pd.DataFrame(
        [
            {"set": "Set5", "photo": f"{photo}", "method": method, "label": "this run", "psnr": value}
            for method, column in values.items()
            for photo, value in enumerate(column)
        ]
        + [{"set": "One", "photo": "x", "method": method, "label": "this run", "psnr": 1.0} for method in values]
    )
    found = differences(rows.sample(frac=1, random_state=3), "psnr", ("a", "this run"), ("b", "this run"))
    assert list(found) == ["Set5"]
    assert found["Set5"].mean == pytest.approx(2.5 / 3)
    assert found["Set5"].low == pytest.approx(2.5 / 3 - 4.303 * np.std([0.5, 1, 1], ddof=1) / 3**0.5, abs=1e-3)


def test_a_difference_over_seeds_is_decided_by_three_seeds_and_the_interval():
    by_seed = pd.DataFrame({0: [0.0, 0.1, 0.1], 1: [0.0, 0.11, 0.3], 2: [0.0, 0.09, 0.2]}, index=["a", "b", "c"])
    low, high = ttest_1samp([0.1, 0.3, 0.2], 0).confidence_interval()
    mean, decided, told = over_seeds(by_seed, "b", "a")
    assert decided and np.isclose(mean, 0.1)
    assert told == "+0.100 dB, seeds from +0.090 to +0.110 (95 %: +0.075 to +0.125)"
    mean, decided, told = over_seeds(by_seed, "c", "a")
    assert not decided and np.isclose(mean, 0.2)
    assert told.endswith(f"(95 %: {low:+.3f} to {high:+.3f}; cannot be told from zero)")
    _, decided, told = over_seeds(by_seed[[0, 1]], "b", "a")
    assert not decided and told == "+0.105 dB, seeds from +0.100 to +0.110; too few seeds to tell"


def test_an_infinite_number_has_no_interval_and_breaks_no_table():
    """The PSNR of a photo that equals its reference is infinite."""
    rows = pd.DataFrame(
        [
            {"set": "a", "photo": photo, "method": method, "label": "this run", "psnr_y_crop4": value}
            for method, values in (("fsrcnn", (np.inf, 30.0)), ("swinir", (31.0, 32.0)))
            for photo, value in zip("xy", values, strict=True)
        ]
    )
    assert differences(rows, "psnr_y_crop4", ("fsrcnn", "this run"), ("swinir", "this run")) == {}
    shown = tables.markdown(tables.means(rows))
    assert "inf" in shown
    assert "31.50 ± 6.35" in shown


def test_how_far_an_experiment_came_is_said_with_and_without_released_weights():
    gains = pd.DataFrame({0: [0.1, 0.5], 1: [0.2, 0.7]}, index=["plain", "whole"])
    assert re.fullmatch(
        r"the best of these networks gains 0\.60 dB, fsrcnn-x4 \d\.\d\d dB on its validation photos",
        study.reach(gains, "fsrcnn-x4"),
    )
    assert study.reach(gains, "never-released") == "the best of these networks gains 0.60 dB"
