"""A measure is one record: what it computes, which way is better, how it is written. Nothing else knows its name."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest

import rvlib
from rvlib import checkpoint, evaluate, measures, metrics, recipes, study
from rvlib.degrade import Bicubic
from rvlib.measures import Measure
from rvlib.pairs import photo_pairs, set_pairs
from rvlib.photos import sample, write
from rvlib.study import audit, report, tables

SUPER_RESOLUTION = measures.for_task("super-resolution", 4, perceptual=True)
DEBLURRING = measures.for_task("deblurring", perceptual=True)


@pytest.fixture
def pairs():
    return photo_pairs({name: sample(name)[:64, :80] for name in ("astronaut", "coffee")}, Bicubic(2))


@pytest.fixture
def toy(monkeypatch):
    """A seventh record, with other digits than all others and better when low."""

    def function(restored, reference, *, crop):
        assert crop == 0
        return float(np.abs(restored.astype(float) - reference).mean())

    record = Measure("mae_rgb", "MAE", better="low", digits=3, function=function, view="RGB", tolerance=0.5)
    monkeypatch.setattr(measures, "MEASURES", (*measures.MEASURES, record))
    return record


def test_keys_name_the_measure_its_network_its_colours_and_its_crop():
    keys = [measure.key for measure in (*SUPER_RESOLUTION, *DEBLURRING)]
    assert keys[:4] == ["psnr_y_crop4", "ssim_y_crop4", "lpips_alex_rgb_crop0", "niqe_y_crop0"]
    assert keys[4:] == ["psnr_rgb_crop0", "ssim_rgb3d_crop0", "lpips_alex_rgb_crop0", "niqe_y_crop0"]
    assert [measure.key for measure in measures.for_task("super-resolution", 2)] == ["psnr_y_crop2", "ssim_y_crop2"]


@pytest.mark.parametrize("measure", [*SUPER_RESOLUTION[:2], *DEBLURRING[:2]], ids=lambda measure: measure.key)
def test_a_measure_computes_what_its_key_says(measure):
    name, channel, crop = re.fullmatch(r"(psnr|ssim)_(\w+)_crop(\d+)", measure.key).groups()
    reference = sample("coffee")[:40, :48]
    restored = np.roll(reference, 1, axis=0)
    expected = getattr(metrics, name)(restored, reference, channel=channel, crop=int(crop))
    others = {getattr(metrics, name)(restored, reference, channel=c, crop=k) for c in ("y", "rgb") for k in (0, 4)}
    assert measure.compute(restored, reference) == expected
    assert len(others) == 4, "every convention gives another number, so that the right one is seen"


@pytest.mark.parametrize("measure", [*SUPER_RESOLUTION, *DEBLURRING[:2]], ids=lambda measure: measure.key)
def test_the_direction_is_that_of_the_numbers(measure, fetched):
    if measure.perceptual:
        fetched({"LPIPS": "alexnet", "NIQE": "niqe"}[measure.title])
    reference = sample("coffee")[:192, :192]
    noise = np.random.default_rng(0).normal(0, 1, reference.shape)
    near, far = (np.clip(reference + sigma * noise, 0, 255).astype(np.uint8) for sigma in (5, 40))
    values = pd.Series({"far": measure.compute(far, reference), "near": measure.compute(near, reference)})
    assert list(measure.ordered(values).index) == ["near", "far"]
    assert measure.arrow == ("↑" if values["near"] > values["far"] else "↓")


def test_columns_are_found_by_key_and_by_title():
    for column in ("psnr_y_crop4", "Set14 psnr_y_crop2", "PSNR", "Set5 PSNR", "psnr"):
        assert measures.find(column).title == "PSNR"
    assert measures.find("psnr_y_crop17").key == "psnr_y_crop17"
    assert measures.find("lpips_alex_rgb_crop0") == SUPER_RESOLUTION[2]
    assert measures.find("seconds") is measures.SECONDS
    for column in ("psnr_lab_crop4", "psnr_y_crop²", "psnr_y_crop", "lpips_alex", "photos", "PSNR in dB", "", 7):
        assert measures.find(column) is None, column


def test_text_has_the_digits_of_the_measure():
    assert [SUPER_RESOLUTION[0].text(value) for value in (30, 28.126, float("nan"), float("inf"))] == [
        "30.00",
        "28.13",
        "–",
        "inf",
    ]
    assert SUPER_RESOLUTION[2].text(0) == "0.0000"


def test_an_unknown_task_is_named():
    with pytest.raises(rvlib.UserError, match="unknown task 'colouring'.*deblurring"):
        measures.for_task("colouring")


def test_one_record_more_is_measured_ranked_formatted_and_shown(toy, pairs, tmp_path):
    chosen = measures.for_task("super-resolution", 2)
    assert [measure.key for measure in chosen] == ["psnr_y_crop2", "ssim_y_crop2", "mae_rgb_crop0"]
    dark = lambda degraded: evaluate.bicubic(2)(degraded) // 2  # noqa: E731
    restorers = evaluate.baseline("super-resolution", 2)
    restorers |= {("good", "this run"): evaluate.bicubic(2), ("dark", "this run"): dark}
    rows = evaluate.evaluate(restorers, pairs, set_name="two", measures=chosen)
    means = tables.means(rows)
    value = {method: toy.text(means.set_index("method")["mae_rgb_crop0"][method]) for method in ("good", "dark")}
    assert float(value["good"]) < float(value["dark"])
    assert tables.winners(means[means["label"] == "this run"], "mae_rgb_crop0") == {"two": "good"}

    compared, places = tables.compare(means, [measure.key for measure in chosen])
    assert dict(zip(compared["method"], places["two mae_rgb_crop0"], strict=True)) == {
        "bicubic": tables.BEST,
        "good": tables.LEVEL,
        "dark": tables.WORSE_AND_LEVEL,  # of two photos
    }
    tables.write(compared, tmp_path / "compared", places)
    assert re.search(rf"bicubic .*\*\*{value['good']} ± .*\*\*", (tmp_path / "compared.md").read_text())
    assert re.search(rf"{value['dark']} ± .* ▼", (tmp_path / "compared.md").read_text())
    assert rf"\textbf{{{value['good']} " in (tmp_path / "compared.tex").read_text()

    page = report.table_html(means, tables.rank(means))
    assert "MAE (RGB)\u00a0↓</th>" in page
    assert f"<b>{value['good']} ± " in page
    assert re.search(rf"{value['dark']} ± [\d.]+ <span class=.worse", page)


def test_one_record_more_is_audited(toy, monkeypatch, tmp_path):
    monkeypatch.setitem(
        tables.AUDITED, "table 4", tables.Audited(["nafnet"], ["GoPro"], ["psnr_rgb_crop0", "mae_rgb_crop0"])
    )
    label, facts = "report's claim, table 4", {"recipe": "nafnet", "parameters": 7}
    row = {"set": "GoPro", "method": "nafnet", **facts}
    claims = pd.DataFrame([row | {"label": label, "source": "audited", "mae_rgb_crop0": 1.5}])
    known = {"label": label, "set": "GoPro", "method": "nafnet", "measure": "mae_rgb_crop0", "cites": ""}
    pd.DataFrame([known | {"verdict": "contradicts", "reason": "by far too low"}]).to_csv(tmp_path / "audit.csv")
    monkeypatch.setattr(audit, "FOLDER", tmp_path)
    for here, expected in ((1.9, "reproduced"), (2.1, "contradicts")):
        rows = pd.DataFrame([row | {"photo": "a", "label": "this run", "mae_rgb_crop0": here}])
        found = audit.verdicts([rows], claims).iloc[0]
        assert found[["measure", "measured here", "verdict"]].tolist() == ["MAE", f"{here:.3f}", expected]
    assert report.protocol("table 4").endswith("MAE on RGB, nothing cropped")


def test_rows_of_evaluate(pairs):
    chosen = measures.for_task("super-resolution", 2)
    rows = evaluate.evaluate(evaluate.baseline("super-resolution", 2), pairs, set_name="two", measures=chosen)
    assert list(rows) == ["set", "photo", "method", "label", "psnr_y_crop2", "ssim_y_crop2", "seconds"]
    assert rows["photo"].tolist() == ["astronaut", "coffee"]
    assert set(zip(rows["set"], rows["method"], rows["label"], strict=True)) == {("two", "bicubic", "bicubic input")}
    for photo, value in zip(rows["photo"], rows["psnr_y_crop2"], strict=True):
        degraded, reference = pairs[photo]
        assert value == metrics.psnr(evaluate.bicubic(2)(degraded), reference, crop=2)


def test_a_perceptual_measure_without_its_network_is_empty_with_a_warning(pairs, monkeypatch):
    def nowhere(restored, reference, *, crop):
        raise rvlib.UserError("no route to host")

    blind = Measure("blind", "BLIND", better="low", digits=1, function=nowhere, perceptual=True)
    baseline = evaluate.baseline("super-resolution", 2)
    with pytest.warns(UserWarning, match="BLIND is left empty: no route to host"):
        rows = evaluate.evaluate(baseline, pairs, set_name="two", measures=[blind])
    assert rows["blind_crop0"].isna().all()
    strict = Measure("blind", "BLIND", better="low", digits=1, function=nowhere)
    with warnings.catch_warnings(action="error"), pytest.raises(rvlib.UserError, match="no route"):
        evaluate.evaluate(baseline, pairs, set_name="two", measures=[strict])


def test_sets_are_measured_one_after_the_other(tmp_path):
    for name, photo in (("one", "coffee"), ("two", "chelsea")):
        write(tmp_path / "data" / name / "test" / "reference" / "a.png", sample(photo)[:48, :48])
    restorers = evaluate.baseline("deblurring")
    chosen = measures.for_task("deblurring")
    rows = evaluate.sets(restorers, tmp_path / "data", ["two", "one"], recipes.SHAKE, chosen)
    assert rows["set"].tolist() == ["two", "one"]
    assert rows.index.tolist() == [0, 1]
    blurred, reference = set_pairs(tmp_path / "data", "two", recipes.SHAKE)["a"]
    assert rows["psnr_rgb_crop0"][0] == metrics.psnr(blurred, reference, channel="rgb")


def test_the_best_weights_are_the_released_ones_where_a_profile_shows_them(monkeypatch):
    trained, shipped = object(), object()
    monkeypatch.setattr(rvlib, "released", lambda: ["srgan-x4"])
    monkeypatch.setattr(rvlib, "load", lambda name: shipped)
    assert study.best("laptop", "srgan-x4", trained) == (shipped, "released weights")
    assert study.best("laptop", "srgan-x2", trained) == (trained, "this run")
    assert study.best("release", "srgan-x4", trained) == (trained, "released weights"), "it makes them"


def test_the_demo_shows_a_released_curve_only_if_it_has_all_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    own = pd.DataFrame({"step": [1], "loss": [0.5], "psnr_y_crop4": [20.0]})
    kept = [{"step": 9, "loss": 0.1, "psnr_y_crop4": 30.0, "seconds": 7}]
    for log, whose in ((kept, "released weights"), ([{"step": 9, "psnr_y_crop4": 30.0}], "this run")):
        (tmp_path / "toy-x4.json").write_text(json.dumps({"identity": {}, "history": [], "log": log}))
        assert study.learning_curve("demo", "toy-x4", own)[1] == whose
    assert study.learning_curve("laptop", "toy-x4", own)[0] is own
    assert study.learning_curve("demo", "without a record", own)[0] is own


def test_a_curve_is_called_the_last_steps_only_of_a_training_of_the_same_method(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    curve = pd.DataFrame({"step": [1000, 20000]})
    for before, words in (([], "20,000"), (["pixels"], "20,000"), (["pixels", "game"], "the last 20,000")):
        parts = [{"identity": {"method": method}} for method in before]
        record = {"identity": {"method": "game"}, "history": [], "log": [], "before": parts}
        (tmp_path / "toy.json").write_text(json.dumps(record))
        assert study.length("toy", "released weights", curve, {"start": "what this run goes on from"}) == words
    assert study.length("toy", "this run", curve, {"start": "toy"}) == "the last 20,000"
    assert study.length("toy", "this run", curve, {}) == "20,000"
