"""Inputs that networks were not trained for, and the budgets that a comparison names."""

import math

import numpy as np
import pandas as pd
import pytest
import small
from PIL import Image

from rvlib import checkpoint, evaluate, measures, photos, recipes
from rvlib.study import provenance, robustness


def test_other_programs_make_other_small_photos():
    photo = photos.sample("coffee")[:64, :96]
    small = {name: robustness.Resized(name)(photo) for name in ("Pillow", "area", "OpenCV")}
    assert {image.shape for image in small.values()} == {(16, 24, 3)}
    cells = photo.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    assert np.abs(small["area"] - cells).max() < 1  # rounded once for each axis
    assert np.array_equal(small["Pillow"], np.array(Image.fromarray(photo).resize((24, 16), Image.Resampling.BICUBIC)))


def test_opencv_does_not_antialias():
    """Its kernel reads only the 4 x 4 pixels around a centre: with a = -3/4 their weights are (-3, 19, 19, -3) / 32."""
    photo = photos.sample("chelsea")[:32, :32]
    line = np.array([-3, 19, 19, -3]) / 32
    cells = photo.astype(float).reshape(8, 4, 8, 4, 3)
    expected = np.einsum("iajbc,a,b->ijc", cells, line, line).round().clip(0, 255)
    assert np.abs(robustness.Resized("OpenCV")(photo) - expected).max() <= 1


def test_first_condition_is_what_a_task_is_measured_on():
    first = {task: next(iter(conditions.values())) for task, conditions in robustness.CONDITIONS.items()}
    assert first == {
        task: recipes.degradation(task, scale) for task, scale in (("super-resolution", 4), ("deblurring", 1))
    }


def test_input_neither_gains_nor_loses_on_its_own_condition():
    measure = measures.for_task("deblurring")[0]
    crops = {name: photos.sample(name)[:48, :48] for name in ("coffee", "chelsea")}
    restorers = {**evaluate.baseline("deblurring"), ("nafnet", "this run"): lambda photo: photo}
    rows = robustness.measure(restorers, crops, "deblurring", measure)
    assert set(rows["condition"]) == set(robustness.CONDITIONS["deblurring"])
    drawn = robustness.figure(rows, measure, "blurry", {"blurry": "input", "nafnet": "NAFNet"})
    lost, gain = (axis.collections[0].get_array() for axis in drawn.axes)
    assert np.allclose(lost[:, 0], 0)
    assert np.allclose(gain, 0), "what returns its input gains nothing anywhere"


def test_a_map_has_no_minus_zero():
    measure = measures.for_task("deblurring")[0]
    keys = [(method, condition) for method in ("blurry", "nafnet") for condition in ("shake", "blur")]
    rows = pd.DataFrame(keys, columns=["method", "condition"]).assign(**{measure.key: [30.0, 30.04, 29.98, 29.0]})
    drawn = robustness.figure(rows, measure, "blurry", {"blurry": "input", "nafnet": "NAFNet"})
    texts = [text.get_text() for axis in drawn.axes for text in axis.texts]
    assert texts == ["0.0", "0.0", "0.0", "1.0", "0.0", "-1.0"]


def test_budget_is_read_from_the_files(tmp_path):
    """Patches count in reference pixels, whatever the scale; what has no file has no budget."""
    for method, scale in (("fsrcnn", 4), ("nafnet", 1)):
        arguments = {} if scale == 4 else {"width": 8, "encoder": (1,), "middle": 1, "decoder": (1,)}
        facts = {"steps": 2, "batch_size": 3, "patch_size": 32, "arguments": arguments}
        recipes.train(method, small.photos(), run=tmp_path / method, **facts)
        file = tmp_path / method / "last.safetensors"
        assert provenance.training_patch(file) == 32
        assert provenance.pixels_seen(file) == pytest.approx(2 * 3 * 32**2 / 1e9)
        log = pd.read_csv(file.with_name("log.csv"))
        log.assign(step=1).to_csv(file.with_name("log.csv"), index=False)  # it ended early
        assert provenance.pixels_seen(file) == pytest.approx(1 * 3 * 32**2 / 1e9)
    again = tmp_path / "again" / "last.safetensors"
    facts = {"steps": 5, "batch_size": 2, "patch_size": 32, "arguments": arguments}
    recipes.train("nafnet", small.photos(), run=again.parent, start=checkpoint.load(file), **facts)
    assert provenance.pixels_seen(again) == pytest.approx((5 * 2 + 1 * 3) * 32**2 / 1e9)  # with what it goes on from
    assert math.isnan(provenance.pixels_seen(None))
    assert provenance.weights_file("official", "nafnet", "official weights: nafnet-gopro-w32", {}) is None


def test_an_input_is_called_harmed_only_if_the_photos_tell_it_apart():
    by_condition = {"shake": [1.0, 2.0, 3.0], "blur": [-1.0, -1.1, -0.9], "noise": [-3.0, 1.0, 0.0]}
    rows = [
        {"method": method, "label": method, "condition": condition, "photo": photo, "psnr": 30.0 + gain * is_network}
        for condition, gains in by_condition.items()
        for photo, gain in enumerate(gains)
        for method, is_network in (("input", 0), ("network", 1))
    ]
    found = robustness.harmed(pd.DataFrame(rows), "psnr", ("network", "network"), ("input", "input"))
    assert found == (["blur"], ["noise"])
    assert robustness.in_words(*found) == "blur; in the mean alone: noise"
