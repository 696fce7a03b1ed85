"""Learning curves over hours: what may stand together, where a curve begins, what is left out and why."""

import pandas as pd
import pytest

from rvlib import metrics, recipes, study
from rvlib.pairs import photo_pairs
from rvlib.study import curves, provenance

HOUR = 3600.0


def record(method, score, *, validation="CID22", device="cpu", threads=1, hours=(1, 2), before=()):
    """A record of released weights as `release` writes it."""
    log = [{"step": hour, "seconds": hour * HOUR / threads, score: 30.0 + hour} for hour in hours]
    found = {"identity": {"method": method}, "log": [*log[:1], {"step": 1, "seconds": None, score: None}, *log[1:]]}
    found["history"] = [{"event": "begun", "device": device, "threads": threads, "processes": 1}]
    found |= {"validation": {"set": validation, "photos": 16, "input": 26.75}} if validation else {}
    return found | ({"before": list(before)} if before else {})


@pytest.fixture
def released(monkeypatch):
    y, rgb = "psnr_y_crop4", "psnr_rgb_crop0"
    pixels = record("srresnet", y, threads=2)
    mixed = record("swinir", y)
    mixed["history"].append({"event": "resumed", "device": "NVIDIA H100", "seconds": HOUR})
    known = {
        "srresnet-x4": pixels,
        "srgan-x4": record("srgan", y, hours=(0.5, 1), before=[pixels]),
        "swinir-small-x4": record("swinir", y, validation="samples"),
        "fsrcnn-x4": record("fsrcnn", y, validation=None),
        "diffir-x4": record("diffir-s2", y, before=[{"history": [], "log": []}]),
        "mixed-x4": mixed,
        "nafnet-deblur": record("nafnet", rgb, device="NVIDIA H100", threads=8),
        "diffir-deblur": record("diffir-s2", rgb, device="NVIDIA H100", before=[record("diffir-s1", rgb)]),
        "plain-x4": {"identity": {"method": "fsrcnn"}, "log": [{"step": 1, "loss": 0.5}]},
    }
    monkeypatch.setattr(curves.rvlib, "released", lambda: list(known))
    monkeypatch.setattr(provenance, "record", known.get)


def test_a_curve_counts_core_hours_and_begins_where_the_training_before_it_ends(released):
    found, _ = curves.collect("demo", {}, task="super-resolution")
    hours = {name: part["hours"].tolist() for name, part in found.groupby("weights")}
    assert hours == {"srresnet-x4": [1, 2], "srgan-x4": [2.5, 3], "swinir-small-x4": [1, 2]}
    assert found.groupby("weights")["PSNR"].max()["srresnet-x4"] == 32.0
    assert set(found["method"]) == {"srresnet", "srgan", "swinir"} and set(found["input"]) == {26.75}


def test_a_training_that_continues_its_own_method_has_the_whole_curve():
    first = record("nafnet", "psnr_rgb_crop0")
    whole = curves.points(record("nafnet", "psnr_rgb_crop0", before=[first]))
    assert whole["step"].tolist() == [1, 2, 3, 4] and whole["hours"].tolist() == [1, 2, 3, 4]
    third = curves.points(record("nafnet", "psnr_rgb_crop0", before=[first, first]))
    assert third["step"].tolist() == third["hours"].tolist() == [1, 2, 3, 4, 5, 6]
    other = curves.points(record("srgan", "psnr_y_crop4", before=[record("srresnet", "psnr_y_crop4")]))
    assert other["step"].tolist() == [1, 2] and other["hours"].tolist() == [3, 4]


def test_hours_of_another_device_are_named_and_not_added():
    y, gpu = "psnr_y_crop4", {"device": "NVIDIA H100"}
    first = [record("diffir-s1", y, **gpu), record("diffir-s2", y), record("diffir-s1", y)]
    known = record("diffir-s2", y, before=first)
    curve = curves.points(known)
    assert curve["hours"].tolist() == [1, 2, 5, 6] and curve["step"].tolist() == [1, 2, 3, 4]
    assert curves.unit(known) == "core-hours" and curves.after(known) == "2.0 GPU-hours"
    known = record("fsrcnn", y, before=[record("fsrcnn", y, **gpu)])
    curve = curves.points(known)
    assert curve["hours"].isna().tolist() == [True, True, False, False] and curve["step"].tolist() == [1, 2, 3, 4]
    assert curve["hours"].tolist()[2:] == [1, 2]
    unknown = record("fsrcnn", y, before=[{"history": [], "log": []}], **gpu)
    assert curves.after(unknown) == "core-hours that were not kept"


def test_hours_go_on_after_the_last_validation():
    log = [{"step": 1, "seconds": HOUR, "psnr_y_crop4": 30.0}, {"step": 2, "seconds": 2 * HOUR, "psnr_y_crop4": None}]
    assert curves.points({**record("fsrcnn", "psnr_y_crop4"), "log": log})["hours"].tolist() == [1.0]


def test_what_cannot_stand_beside_others_is_left_out_with_a_reason(released):
    _, absent = curves.collect("demo", {})
    assert absent.removeprefix("left out: ").split("; ") == [
        "fsrcnn-x4 (released weights, whose records do not name their validation photos)",
        "diffir-x4 (released weights, whose hours were not kept)",
        "mixed-x4 (released weights, whose last training ran on a GPU and on a CPU: their hours cannot be added)",
        "plain-x4 (released weights, which have no learning curve)",
    ]


def test_a_panel_has_one_task_one_set_of_photos_and_one_kind_of_device(released):
    found, _ = curves.collect("demo", {})
    axes = [axis for axis in curves.figure(found).axes if axis.axison]
    assert [(axis.get_title(), axis.get_xlabel()) for axis in axes] == [
        ("deblurring: CID22, 16 photos", "GPU-hours"),
        ("super-resolution: CID22, 16 photos", "core-hours"),
        ("super-resolution: samples, 16 photos", "core-hours"),
    ]
    names = [[text.get_text() for text in axis.get_legend().get_texts()] for axis in axes]
    assert names[1] == ["SRResNet, released weights", "SRGAN, released weights", "input, not restored"]
    assert "DiffIR, released weights (after 2.0 core-hours)" in names[0]


def test_the_input_is_measured_as_the_runs_are(monkeypatch):
    photos = {name: study.photos.sample(name)[:64, :64] for name in ("coffee", "chelsea")}
    monkeypatch.setattr(study, "validation", lambda profile, name: photos)
    curves.validated.cache_clear()
    found = curves.validated("demo", "two", "deblurring", 1)
    curves.validated.cache_clear()
    pairs = photo_pairs(photos, recipes.SHAKE).values()
    assert found["set"] == "two" and found["photos"] == 2
    assert found["input"] == pytest.approx(pd.Series([metrics.psnr(*pair, channel="rgb") for pair in pairs]).mean())
