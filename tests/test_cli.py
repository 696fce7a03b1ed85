"""The command line: it restores, and what is wrong is one line without a traceback."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from small import SMALL

import rvlib
from rvlib import checkpoint, cli, complexity, edge, metadata, photos, realism, recipes, study, tiles
from rvlib.commands import train
from rvlib.degrade import imresize
from rvlib.objectives import Pixelwise
from rvlib.study import profiles

RESTORE = ("restore", "{photo}", "--model", "{weights}", "-o", "x.png")
SRGAN = ("restore", "{photo}", "--model", "srgan-x4", "-o", "x.png")
STARTS = pytest.mark.slow  # a Python with torch is started


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "fsrcnn.safetensors"
    rvlib.save(rvlib.create("fsrcnn"), path)
    return path


@pytest.fixture
def photo(tmp_path):
    photos.write(tmp_path / "photo.png", photos.sample("coffee")[:24, :32])
    return tmp_path / "photo.png"


def start(*words, folder=None):
    """Run a command in a process of its own, as a shell does."""
    command = [sys.executable, "-m", "rvlib", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@STARTS
def test_restores_a_photo(weights, photo, tmp_path):
    done = start("restore", photo, "--model", weights, "-o", tmp_path / "big.png")
    assert done.returncode == 0, done.stderr
    expected = rvlib.restore(rvlib.load(weights), photo)
    assert np.array_equal(photos.read(tmp_path / "big.png"), expected)


def test_goes_on_after_a_bad_photo_and_says_so(rv, weights, photo, tmp_path):
    (tmp_path / "bad.png").write_text("no photo")
    status, _, said = rv("restore", tmp_path / "bad.png", photo, "--model", weights, "-o", tmp_path / "out")
    assert status == 1
    assert "bad.png is no readable photo" in said
    assert "1 of 2 photos failed, 1 were restored" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.png"]


@STARTS
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(weights, tmp_path):
    image, names = photos.sample("coffee")[:120, :120], [f"{number:02}.png" for number in range(60)]
    for name in names:
        photos.write(tmp_path / "in" / name, image)
    command = [sys.executable, "-m", "rvlib", "restore", "in", "--model", str(weights), "-o", "out"]
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731 - tests in the background ignore it
    run = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    while not len(list((tmp_path / "out").glob("*.png"))) >= 2:
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1]
    finished = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert run.returncode == 130
    assert "Traceback" not in said
    assert f"stopped: {len(finished)} restored, {len(names) - len(finished)} left" in said
    assert finished == names[: len(finished)], "nothing half written stands beside them"
    assert all(photos.read(tmp_path / "out" / name).shape == (480, 480, 3) for name in finished)
    again = start(*command[3:], folder=tmp_path)
    assert again.returncode == 0
    assert f"{len(finished)} of 60 skipped, restored already: --overwrite restores" in again.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["restore", "missing.png", "--model", "{weights}", "-o", "x.png"], "missing.png does not exist"),
        (["restore", "{photo}", "--model", "nothing", "-o", "x.png"], "no released weights are called 'nothing'"),
        (["restore", "{photo}", "--model", "{photo}", "-o", "x.png"], "damaged, truncated or no checkpoint"),
        (["restore", "{photo}", "--model", "{weights}", "-o", "x.gif"], "choose a name that ends in"),
        (["train", "fsrcnn", "--photos", ".", "--run", "r", "--steps", "-3"], "steps must be"),
        (["train", "fsrcnn", "--photos", ".", "--run", "r", "--scale", "5"], "scale 5 is not supported"),
        (["train", "edsr", "--photos", ".", "--run", "r"], "no recipe for 'edsr'"),
        (["train", "fsrcnn", "--photos", "nowhere", "--run", "r"], "nowhere does not exist"),
        (["restore", "{photo}", "{photo}", "--model", "{weights}", "-o", "x.png"], "several photos go to a folder"),
        (["restore", ".", "--model", "{weights}", "-o", "x.png"], "several photos go to a folder"),
        (["fetch", "Set6", "--target", "t"], "unknown set 'Set6'"),
        (["fetch", "T91"], "name a folder (--target)"),
        (["rehearse", "paper", "--only", "nafnt"], "no training has 'nafnt' in its name"),
        (["fetch", "official/"], "no official weights are called 'official/'"),
        (["fetch", "official/a.pth"], "no official weights are called 'official/a.pth'"),
        (["evaluate", "--model", "{weights}", "--reference", "nowhere"], "nowhere does not exist"),
        (
            ["restore", "{photo}", "--model", "{weights}", "-o", "x.png", "--precision", "fp16"],
            "unknown precision 'fp16'",
        ),
        (["notebook", "99_nothing"], "no notebook '99_nothing'"),
        (["notebook", "tour", "--only", "training"], "give --params, too"),
        (["evaluate", *"--model {weights} --reference . --degraded . --level 9".split()], "leave it or --degraded out"),
        ([*RESTORE, "--width", "-3"], "width must be positive, not -3"),
        ([*RESTORE, "--height", "0"], "height must be positive, not 0"),
        ([*RESTORE, "--factor", "0"], "factor must be positive, not 0"),
        ([*RESTORE, "--factor", "1e-12"], "nothing is left of 32 x 24 pixels"),
        ([*RESTORE, "--factor", "5"], "32 x 24 pixels become at most 4 times as large here, not 5 times"),
        ([*RESTORE, "--factor", "2", "--width", "9"], "a size is given by one of factor, width"),
        ([*RESTORE, "--then", "nothing"], "no released weights are called 'nothing'"),
        ([*RESTORE, "--realism", "0.5"], "has no partner to mix it with"),
        ([*SRGAN, "--realism", "1.5"], "realism lies between 0"),
        ([*RESTORE, "--jobs", "0"], "--jobs lies between 1"),
        ([*RESTORE, "--quality", "101"], "--quality lies between 1"),
        ([*RESTORE, "--format", "gif"], "--format gif is for a folder"),
        ([*RESTORE, "--device", "gpu"], "there is no device 'gpu' here (unknown): choose auto or cpu"),
        ([*RESTORE, "--device", "meta"], "the device meta holds no numbers: choose auto or cpu"),
        ([*RESTORE, "--tile", "3"], "tile must be a whole number of at least 64"),
        (["compare", "{photo}", "--models", "a,b", "-o", "x.html"], "no released weights are called 'a'"),
        (["compare", "{photo}", "--models", ",", "-o", "x.html"], "--models names none"),
        (["compare", "{photo}", "--models", "{weights}+", "-o", "x.html"], "a model without a name"),
        (["compare", "{photo}", "--models", "{weights}", "-o", "x.png"], "choose a name that ends in .html"),
        (["compare", "{photo}", "--models", "{weights}", "-o", "x.html", "--side", "0"], "sides of 16 to 1024"),
        (["evaluate", "--model", "{weights}", "--reference", ".", "--level", "25"], "super-resolution has no level 25"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_line(rv, weights, photo, tmp_path, words, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, said = rv(*(word.format(weights=weights, photo=photo) for word in words))
    assert status == 1
    assert message in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models", "--jsn"], "No such option: --jsn"),
        (["restore", "--tile", "many"], "Invalid value for '--tile'"),
        (["cache", "more"], "Got unexpected extra argument"),
        (["nothing"], "No such command 'nothing'"),
    ],
)
def test_what_is_no_option_has_a_status_of_its_own(rv, words, message):
    status, _, said = rv(*words)
    assert status == 2
    assert "Usage: " in said
    assert message in said


def test_trains_and_evaluates_on_own_photos(rv, photo, tmp_path):
    words = ["train", "fsrcnn", "--photos", tmp_path, "--run", tmp_path / "run", "--patch-size", 16]
    status, out, said = rv(*words, "--steps", 3)
    assert status == 0, said
    assert "on 1 training photo (parts of photos that it saw" in out
    assert "dB against bicubic" in out
    status, out, said = rv("evaluate", "--model", tmp_path / "run", "--reference", tmp_path, "-o", tmp_path / "rows")
    assert status == 0, said
    assert "bicubic" in out
    assert (tmp_path / "rows.csv").exists()
    status, _, said = rv(*words, "--steps", 40)  # a run is lengthened, with the warm-up that belongs to its steps
    assert status == 0, said
    settings = identity(tmp_path / "run")["settings"]
    assert settings["steps"] == 40
    assert settings["warmup_steps"] == 4


def test_evaluate_measures_the_degraded_photos_that_are_given(done, weights, tmp_path):
    reference, grey = photos.sample("coffee")[:48, :64], np.full((12, 16, 3), 128, np.uint8)
    photos.write(tmp_path / "high/photo.png", reference)
    photos.write(tmp_path / "low/photo.png", grey)
    words = ["--reference", tmp_path / "high", "--degraded", tmp_path / "low", "-o", tmp_path / "rows.csv"]
    done("evaluate", "--model", weights, *words)
    found = pd.read_csv(tmp_path / "rows.csv").set_index("method")["psnr_y_crop4"]
    enlarged = {"bicubic": np.full_like(reference, 128), "fsrcnn": rvlib.restore(rvlib.load(weights), grey)}
    for method, image in enlarged.items():
        assert found[method] == pytest.approx(rvlib.metrics.psnr(image, reference, channel="y", crop=4), abs=1e-6)


def test_a_training_that_is_stopped_says_where_its_weights_are(rv, photo, tmp_path, monkeypatch):
    compute = Pixelwise.__call__

    def stopping(self, model, batch):
        if batch.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(self, model, batch)

    monkeypatch.setattr(Pixelwise, "__call__", stopping)
    words = ["--photos", tmp_path, "--run", tmp_path / "run", "--patch-size", 16, "--steps", 9]
    status, out, said = rv("train", "fsrcnn", *words)
    assert (status, out) == (130, "")
    assert "stopped at step 3; started again, the run resumes there\n" in said
    assert f"weights so far: {tmp_path / 'run/last.safetensors'}\n" in said


def test_a_gain_is_told_in_numbers_and_where_there_is_none_what_to_do(weights):
    part = photos.sample("coffee")[:96, :96]
    low = imresize(part, 1 / 4)
    for model, hint in (("fsrcnn-x4", ""), (weights, "; train longer (--steps), or from released weights (--start)")):
        network = rvlib.load(model)
        results = rvlib.restore(network, low), imresize(low, 4)
        after, before = (rvlib.metrics.psnr(result, part, channel="y", crop=4) for result in results)
        assert (after > before) == (not hint)
        told = f"{after:.2f} dB on 2 validation photos, {after - before:+.2f} dB against bicubic{hint}"
        assert train._gain(network, {"a": part, "b": part}, "validation") == told
    assert train._gain(network, {}, "training") == "not measured: no photo is large enough"
    first = rvlib.create("diffir", stage=1, **SMALL["diffir-s1"])
    assert train._gain(first, {"a": part}, "training").startswith("not measured: stage 1 of DiffIR sees the reference")


def test_photos_that_no_patch_fits_into_are_named(capsys):
    photos = {name: np.zeros((side, 60, 3), np.uint8) for name, side in (("a", 48), ("b", 47), ("c", 8))}
    train._say_small(photos, 48)
    assert capsys.readouterr().err == "note: 2 of 3 photos left out, smaller than a patch of 48 pixels: b, c\n"
    for none_is_said in (8, 61, "abc"):
        train._say_small(photos, none_is_said)
    assert capsys.readouterr().err == ""


def identity(run):
    return json.loads((run / "run.json").read_text())["identity"]


def test_every_setting_and_the_architecture_can_be_chosen(rv, photo, tmp_path):
    words = ["--set", "milestones=[1,2]", "--set", "ema=0.9", "--set", "optimizer=adamw", "--set", "clip_norm=null"]
    words += ["--set", "learning_rate=1e-4", "--argument", "d=20", "--argument", "m=2", "--set", "loss=l1"]
    words += ["--set", "augment=false", "--steps", 3, "--patch-size", 16]
    status, _, said = rv("train", "fsrcnn", "--photos", tmp_path, "--run", tmp_path / "run", *words)
    assert status == 0, said
    found = identity(tmp_path / "run")
    assert found["model"]["arguments"] == {"d": 20, "m": 2}
    assert found["objective"]["loss"] == "l1"
    assert found["data"]["augment"] is False
    expected = {"milestones": [1, 2], "ema": 0.9, "optimizer": "adamw", "clip_norm": None, "learning_rate": 1e-4}
    assert {name: found["settings"][name] for name in expected} == expected


@pytest.mark.slow
def test_a_profile_says_how_to_train(rv, tmp_path):
    photos.write(tmp_path / "photos/photo.png", photos.sample("coffee")[:256, :256])
    words = ["--photos", tmp_path / "photos", "--run", tmp_path / "run", "--profile", "paper", "--steps", 2]
    status, _, said = rv("train", "swinir", *words, "--batch-size", 1, "--patch-size", 64)
    assert status == 0, said
    found = identity(tmp_path / "run")["settings"]
    assert found["milestones"] == [250000, 400000, 450000, 475000]
    assert found["warmup_steps"] == 0
    assert found["clip_norm"] is None


@pytest.mark.parametrize(
    ("words", "place", "expected"),
    [
        (["--seed", 1], ("settings", "seed"), 1),
        (["--validate-every", 1], ("settings", "validate_every"), 1),
        (["--learning-rate", 3e-4], ("settings", "learning_rate"), 3e-4),
        (["--scale", 2], ("model", "arguments"), {"scale": 2}),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_an_option_of_train_is_what_the_run_records(rv, photo, tmp_path, words, place, expected):
    training = ["train", "fsrcnn", "--photos", tmp_path, "--run", tmp_path / "run", "--steps", 2, "--patch-size", 16]
    status, _, said = rv(*training, *words)
    assert status == 0, said
    found = identity(tmp_path / "run")
    for key in place:
        found = found[key]
    assert found == expected


def test_photos_may_be_those_of_the_profile_and_a_run_is_replaced_when_asked(rv, tmp_path, monkeypatch):
    part = photos.sample("coffee")[:48, :64]
    photos.write(photos.place(tmp_path, "samples", split="train", role="reference") / "one.png", part)
    photos.write(tmp_path / "chosen/two.png", part[::-1].copy())
    monkeypatch.setattr(study, "data", lambda profile: tmp_path)
    words = ["train", "fsrcnn", "--run", tmp_path / "run", "--steps", 2, "--patch-size", 16]
    status, out, said = rv(*words, "--validation", tmp_path / "chosen")
    assert status == 0, said
    assert "dB on 1 validation photo, " in out
    assert rvlib.load(tmp_path / "run/best.safetensors").spec["name"] == "fsrcnn"
    assert identity(tmp_path / "run")["data"]["photos"] == 1
    first = contents(tmp_path / "run")
    status, _, said = rv(*words, "--seed", 1)
    assert status == 1
    assert "settings.seed (0 -> 1)" in said
    assert contents(tmp_path / "run") == first
    status, _, said = rv(*words, "--seed", 1, "--replace")
    assert status == 0, said
    (aside,) = tmp_path.glob("run.*")
    assert contents(aside) == first
    assert identity(tmp_path / "run")["settings"]["seed"] == 1


@pytest.mark.parametrize(
    ("method", "name", "arguments"),
    [
        ("swinir", "swinir", {"embed": 12, "depths": [2], "heads": [2]}),
        ("srresnet", "srgan", {"features": 8, "blocks": 1}),
        ("srgan", "srgan", {"features": 8, "blocks": 1, "style": "msrresnet"}),
        ("nafnet", "nafnet", {"width": 8, "encoder": [1], "middle": 1, "decoder": [1]}),
        ("diffir-s2", "diffir", {"stage": 1, "dim": 8, "blocks": [1, 1, 1, 1], "refinement": 1, "encoder": 1}),
    ],
)
def test_a_start_brings_its_architecture(rv, vgg16, tmp_path, method, name, arguments):
    rvlib.save(rvlib.create(name, **arguments), tmp_path / "start.safetensors")
    photos.write(tmp_path / "photos/photo.png", photos.sample("coffee")[:64, :64])
    sizes = ["--steps", "1", "--patch-size", "64", "--batch-size", "1"]
    places = ["--photos", tmp_path / "photos", "--run", tmp_path / "run", "--start", tmp_path / "start.safetensors"]
    status, _, said = rv("train", method, *places, *sizes)
    assert status == 0, said
    found = identity(tmp_path / "run")["model"]["arguments"]
    assert found == {key: value for key, value in arguments.items() if key != "stage"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fsrcnn", "--start", "swinir-small-x4"], "FSRCNN cannot be trained from weights of SwinIR: take"),
        (["fsrcnn", "--start", "fsrcnn-x4", "--argument", "d=20"], "another architecture (first_part.0.weight: (56,"),
        (["fsrcnn", "--set", "steps"], "'steps' is no name=value, such as --set steps=1000"),
        (["fsrcnn", "--argument", "embed"], "'embed' is no name=value, such as --argument embed=32"),
        (["fsrcnn", "--set", "speed=9"], "unknown setting 'speed'"),
        (["fsrcnn", "--argument", "width=9"], "fsrcnn has no argument 'width'"),
        (["fsrcnn", "--profile", "phone"], "there is no profile 'phone'"),
        (["fsrcnn", "--section", "99_nothing"], "has no section 99_nothing"),
        (["fsrcnn", "--section", "diffir"], "does not say how to train"),
        (["swinir", "--argument", "depths=5"], "swinir cannot be built of these arguments"),
        (["nafnet", "--argument", "width=abc"], "nafnet cannot be built of these arguments"),
        (["fsrcnn", "--set", "betas=5"], "betas must be two numbers"),
        (["fsrcnn", "--set", "run=elsewhere"], "unknown setting 'run'"),
        (["fsrcnn", "--seed", "-1"], "seed must be a whole number from 0"),
        (["fsrcnn", "--degraded", ".", "--validation", "."], "put validation pairs into"),
        (["srgan"], "srgan continues from weights of srresnet: train that first and give it as start (--start)"),
        (["diffir-s2"], "continues from stage 1: train diffir-s1 first and give it as start (--start)"),
        (["diffir-s2", "--start", "fsrcnn-x4"], "DiffIR cannot be trained from weights of FSRCNN: take"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_line(rv, photo, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, _, said = rv("train", *words, "--photos", ".", "--run", "run", "--patch-size", "16")
    assert status == 1
    assert message in said.splitlines()[-1]
    assert said.splitlines()[-1].startswith("error: ")


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("a.png", "b.jpg", "deep/c.png")):
        photos.write(tmp_path / "in" / name, photos.sample("coffee")[:24, : 32 + number])
    return tmp_path / "in"


def contents(place):
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.fixture
def done(rv):
    """Run a command that must succeed: (what it printed, what it said)."""

    def run(*words):
        status, out, err = rv(*words)
        assert status == 0, err
        return out, err

    return run


def test_what_another_model_made_is_not_there_already(done, weights, folder, tmp_path):
    common = ["restore", folder, "-o", tmp_path / "out", "--recursive", "--device", "cpu"]
    out, _ = done(*common, "--model", weights)
    first = contents(tmp_path / "out")
    assert list(first) and "on cpu" in out
    _, said = done(*common, "--model", weights)
    assert "3 of 3 skipped, restored already: --overwrite restores them again" in said
    assert contents(tmp_path / "out") == first
    for more in (["--factor", 2], ["--twice", "--factor", "4"], ["--self-ensemble"]):
        out, said = done(*common, "--model", weights, *more)
        assert "3 restored by fsrcnn.safetensors (" in out
        assert "had made there is replaced (3 photos)" in said
    (tmp_path / "out/a.png").unlink()
    photos.write(tmp_path / "out/a.png", photos.sample("coffee")[:5, :5])
    _, said = done(*common, "--model", weights)
    assert "1 of 3 were there already and do not say what made them" in said, "it is left alone"


def test_a_result_is_that_of_the_photo_and_of_the_options_given_last(done, weights, tmp_path):
    image, first, second = photos.sample("coffee"), tmp_path / "first.png", tmp_path / "second.png"
    photos.write(first, image[:12, :16])
    photos.write(second, image[100:112, :16])
    target, common = tmp_path / "out.jpg", ["--model", weights, "-o", tmp_path / "out.jpg"]
    done("restore", first, *common)
    of_first = target.read_bytes()
    _, said = done("restore", second, *common)
    assert "of another photo, or of an earlier state of this one, is replaced" in said
    assert target.read_bytes() != of_first
    done("restore", first, *common)
    assert target.read_bytes() == of_first
    done("restore", first, *common, "--quality", 30)
    assert target.read_bytes() != of_first
    out, _ = done("restore", first, *common, "--quality", 30, "--compare", "--dry-run")
    assert "is there already" not in out
    _, said = done("restore", first, *common, "--quality", 30, "--compare")
    assert "restored already" not in said
    assert (tmp_path / "out.compare.png").is_file()
    _, said = done("restore", first, *common, "--quality", 30, "--compare")
    assert "1 of 1 skipped, restored already: --overwrite restores it again" in said
    _, said = done("restore", first, *common, "--quality", 30, "--tile", 64)
    assert "restored already" not in said
    assert metadata.maker(target).partition(" (")[2].partition("), ")[2].startswith("quality 30, tile 64, of ")
    (tmp_path / "out.compare.png").unlink()
    photos.write(target, image[:5, :5])
    mine = target.read_bytes()
    _, said = done("restore", first, *common, "--compare")
    assert "do not say what made them" in said
    assert target.read_bytes() == mine


@pytest.mark.parametrize(
    ("model", "words", "options"),
    [
        ("nafnet-deblur", ["--precision", "bf16"], {"precision": "bf16"}),
        ("nafnet-deblur", ["--tile", 64], {"tile": 64}),
        ("srgan-x4", ["--realism", 0.5], {}),
    ],
)
def test_an_option_of_restore_does_what_that_of_the_library_does(done, tmp_path, model, words, options):
    photos.write(tmp_path / "photo.png", photos.sample("coffee")[:72, :128])  # two tiles
    done("restore", tmp_path / "photo.png", "--model", model, "-o", tmp_path / "out.png", *words)
    network = realism.mixed(model, 0.5) if "--realism" in words else rvlib.load(model)
    restored, plain = photos.read(tmp_path / "out.png"), rvlib.restore(rvlib.load(model), tmp_path / "photo.png")
    assert np.array_equal(restored, rvlib.restore(network, tmp_path / "photo.png", **options))
    assert not np.array_equal(restored, plain)


def test_before_and_after_stand_side_by_side_when_asked(done, weights, folder, tmp_path):
    done("restore", folder, "--model", weights, "-o", tmp_path / "out", "--compare")
    assert set(contents(tmp_path / "out")) == {"a.png", "a.compare.png", "b.jpg", "b.compare.png"}
    restored, both = (photos.read(tmp_path / "out" / name) for name in ("a.png", "a.compare.png"))
    assert np.array_equal(both[:, -restored.shape[1] :], restored)


def test_several_at_a_time_make_the_same(done, weights, folder, tmp_path):
    for jobs in (1, 3):
        done("restore", folder, "--model", weights, "-o", tmp_path / f"out{jobs}", "--recursive", "--jobs", jobs)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out3")


def test_a_dry_run_tells_and_does_nothing(rv, done, weights, folder, tmp_path):
    words = ["restore", folder, "--model", weights, "-o", tmp_path / "out", "--recursive", "--longest", 50]
    out, _ = done(*words, "--dry-run")
    assert f"{folder / 'b.jpg'} (33 x 24) -> {tmp_path / 'out/b.jpg'} (50 x 37)" in out
    assert "nothing is done yet: 3 photos, 0.0 megapixels to restore, about" in out
    assert not (tmp_path / "out").exists()
    done(*words)
    assert photos.read(tmp_path / "out/b.jpg").shape == (37, 50, 3)
    out, _ = done(*words, "--dry-run")
    assert out.count("is there already") == 3
    (folder / "bad.png").write_text("no photo")
    status, _, said = rv(*words, "--dry-run")
    assert status == 1
    assert said.splitlines()[-1] == "error: 1 of 4 photos would fail"


def test_a_dry_run_names_what_cannot_be_read(rv, weights, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "walk", lambda path, recursive=False: ([path / "a.png"], ["deep may not be read"]))
    status, _, said = rv("restore", folder, "--model", weights, "-o", tmp_path / "out", "--recursive", "--dry-run")
    assert status == 1 and "error: deep may not be read" in said


def test_a_dry_run_says_what_is_left_out_also_where_a_photo_would_fail(rv, weights, folder, tmp_path):
    (folder / "phone.heic").write_bytes(b"a format that is not read")
    (folder / "broken.png").write_bytes(b"no photo")
    status, _, said = rv("restore", folder, "--model", weights, "-o", tmp_path / "out", "--dry-run")
    assert status == 1 and "1 .heic" in said and "would fail" in said.splitlines()[-1]


def test_a_file_that_is_called_like_released_weights_is_named_as_a_file(weights, tmp_path, monkeypatch):
    """What lies in the working directory goes before a released name: the result must not say the name alone."""
    monkeypatch.chdir(tmp_path)
    assert checkpoint.signature("fsrcnn-x4") == "fsrcnn-x4"
    (tmp_path / "fsrcnn-x4").write_bytes(weights.read_bytes())
    assert re.fullmatch(r"fsrcnn-x4 \([0-9a-f]{8}\)", checkpoint.signature("fsrcnn-x4"))


@pytest.mark.parametrize(
    ("words", "seed", "start"),
    [([], 1, "swinir-small-x4"), (["--seed", 3], 3, "swinir-small-x4"), (["--start", ""], 1, None)],
)
def test_training_takes_seed_and_start_of_the_profile_unless_told_otherwise(
    rv, folder, tmp_path, monkeypatch, words, seed, start
):
    given = {}

    def train(*_, **options):
        given.update(options)
        raise rvlib.UserError("enough")

    monkeypatch.setattr(recipes, "train", train)
    monkeypatch.setattr(profiles, "settings", lambda *_: {"seed": 1, "start": "swinir-small-x4", "steps": 5})
    status, _, said = rv("train", "swinir", "--photos", folder, "--run", tmp_path / "run", *words)
    assert status == 1 and said.endswith("error: enough")
    assert (given["seed"], given["start"], given["steps"]) == (seed, start, 5)


@pytest.mark.parametrize("words", [["--dry-run"], [], ["--jobs", 2]])
def test_a_photo_that_would_become_too_large_is_named(rv, weights, folder, tmp_path, words):
    photos.write(folder / "large.png", photos.sample("coffee")[:40, :64])
    status, _, said = rv("restore", folder, "--model", weights, "-o", tmp_path / "out", "--longest", 200, *words)
    problems = [line for line in said.splitlines() if "times as large" in line]
    assert status == 1
    assert [line.partition(" pixels")[0] for line in problems] == [
        f"error: {folder / 'a.png'}: 32 x 24",
        f"error: {folder / 'b.jpg'}: 33 x 24",
    ]
    assert said.splitlines()[-1].startswith("error: 2 of 3 photos")
    assert (tmp_path / "out/large.png").exists() != ("--dry-run" in words)


def test_a_dry_run_finds_what_a_format_does_not_hold_and_times_what_is_asked_for(rv, weights, tmp_path, monkeypatch):
    asked, whole = [], rvlib.restore
    monkeypatch.setattr(rvlib, "restore", lambda *given, **options: asked.append(options) or whole(*given, **options))
    Image.fromarray(np.zeros((24, 32), np.uint16)).save(tmp_path / "deep.png")
    words = ["restore", tmp_path / "deep.png", "--model", weights, "-o", tmp_path / "out.jpg", "--dry-run"]
    status, _, said = rv(*words, "--self-ensemble", "--tile", 64)
    assert status == 1
    assert "out.jpg: a photo of 16 bits needs .tif or .png: choose that ending" in said
    assert asked == [{"tile": 64, "self_ensemble": True, "precision": "fp32"}] * 2


def test_photos_at_the_same_time_share_the_memory(done, weights, folder, tmp_path, monkeypatch):
    """And what a network takes is measured before they begin."""
    shared, measured, sharing = [], [], tiles.sharing_memory
    monkeypatch.setattr(tiles, "sharing_memory", lambda count: shared.append(count) or sharing(count))
    alone = threading.main_thread()
    peak = complexity.peak_memory
    monkeypatch.setattr(
        complexity, "peak_memory", lambda *given: measured.append(threading.current_thread() is alone) or peak(*given)
    )
    photos.write(folder / "a.png", photos.sample("coffee")[:140, :130])
    done("restore", folder, "--model", weights, "-o", tmp_path / "out", "--jobs", 3)
    assert (measured, shared) == ([True], [3])


def test_a_chain_is_named_in_its_result(done, weights, photo, tmp_path):
    done("restore", photo, "--model", "nafnet-deblur", "--then", weights, "-o", tmp_path / "out.png")
    expected = rvlib.restore([rvlib.load("nafnet-deblur"), rvlib.load(weights)], photo)
    assert np.array_equal(photos.read(tmp_path / "out.png"), expected)
    assert metadata.maker(tmp_path / "out.png").startswith("nafnet-deblur + fsrcnn.safetensors (")


def test_the_version_is_that_of_the_package(done):
    assert done("--version")[0] == f"rvlib {rvlib.__version__}\n"


def test_a_comparison_is_a_page(done, weights, photo, tmp_path):
    models = f"{weights}, nafnet-deblur+{weights}"
    out, _ = done("compare", photo, photo, "--models", models, "-o", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("<article>") == 2
    assert "MiB of memory" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "x.bin"], "x.bin: choose a name that ends in .onnx"),
        (["-o", "x.onnx", "--int8", "--precision", "fp16"], "--int8 is a precision of its own"),
        (["-o", "x.onnx", "--calibration", "."], "--calibration is for --int8"),
        (["-o", "x.onnx", "--precision", "int8", "--calibration", "."], "holds no photos"),
    ],
)
def test_what_cannot_be_exported_is_one_clear_line(rv, weights, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, _, said = rv("export", weights, *words)
    assert status == 1
    assert message in said.splitlines()[-1]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_exports_a_file_that_restores_as_the_weights_do(done, weights, photo, tmp_path):
    for extra in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(extra)
    out, _ = done("export", weights, "-o", tmp_path / "x.onnx")
    assert re.search(rf"x\.onnx: [\d.]+ MB, opset {edge.OPSET}, at most \d\.\de-\d\d \(of 1\) away", out)
    done("restore", photo, "--model", tmp_path / "x.onnx", "-o", tmp_path / "x.png")
    expected = rvlib.restore(rvlib.load(weights), photo).astype(int)
    assert np.abs(photos.read(tmp_path / "x.png") - expected).max() <= 1


@pytest.mark.parametrize(("task", "window", "kind"), [("denoising", 8, "noisy"), ("jpeg", 7, "compressed")])
def test_a_gain_names_the_input_that_it_is_over(task, window, kind):
    arguments = {"task": task, "scale": 1, "upsampler": "none", "window": window}
    network = rvlib.create("swinir", embed=12, depths=(2,), heads=(2,), **arguments)
    told = train._gain(network, {"coffee": photos.sample("coffee")[:64, :64]}, "validation")
    assert f"dB against the {kind} input" in told


@pytest.mark.parametrize(("task", "window", "level"), [("denoising", 8, 25), ("jpeg", 7, 40)])
def test_noise_and_jpeg_are_measured_against_the_degraded_photo(done, tmp_path, task, window, level):
    arguments = {"task": task, "scale": 1, "upsampler": "none", "window": window}
    rvlib.save(rvlib.create("swinir", embed=12, depths=(2,), heads=(2,), **arguments), tmp_path / "w.safetensors")
    reference = photos.sample("coffee")[:48, :64]
    photos.write(tmp_path / "in/photo.png", reference)
    words = ["evaluate", "--model", tmp_path / "w.safetensors", "--reference", tmp_path / "in"]
    done(*words, "-o", tmp_path / "rows.csv")
    table = pd.read_csv(tmp_path / "rows.csv").set_index("label")
    kind = {"denoising": "noisy", "jpeg": "compressed"}[task]
    degraded = recipes.degradation(task, 1, level=level)(reference, np.random.default_rng(0))
    assert table.loc[f"{kind} input", "psnr_rgb_crop0"] == pytest.approx(
        rvlib.metrics.psnr(degraded, reference, channel="rgb"), abs=0.1
    )
    assert table.index.tolist() == [f"{kind} input", "given weights"]
    (tmp_path / "run.json").touch()
    done(*words, "--level", 5, "-o", tmp_path / "rows.csv")
    table = pd.read_csv(tmp_path / "rows.csv").set_index("label")
    assert table.index.tolist() == [f"{kind} input", "this run"], "beside its record"
    other = table.loc[f"{kind} input", "psnr_rgb_crop0"]
    assert (other > 30) == (task == "denoising"), "little noise, or hardly anything of the photo"


@STARTS
def test_two_processes_share_the_photos(done, weights, folder, tmp_path):
    """Each restores its part, no two write one file, and both together measure what one alone measures."""
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "rvlib",
        "--",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    words = {
        "restore": ["--model", weights, "--recursive", folder, "-o"],
        "evaluate": ["--model", weights, "--reference", folder, "-o"],
    }
    for name, options in words.items():
        command = [*launcher, name, *options, f"{tmp_path}/two-{name}"]
        two = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
        assert two.returncode == 0, two.stderr[-2000:]
        assert two.stdout.count("3 restored by") == (name == "restore")
        done(name, *options, f"{tmp_path}/one-{name}")
    assert contents(tmp_path / "two-restore") == contents(tmp_path / "one-restore")
    rows = [pd.read_csv(tmp_path / f"{number}-evaluate.csv").drop(columns="seconds") for number in ("one", "two")]
    pd.testing.assert_frame_equal(*rows)
    assert len(rows[0]) == 4


def test_evaluate_names_the_method_and_not_the_network(done, photo, tmp_path):
    """SRResNet's network is SRGAN's generator."""
    done("evaluate", "--model", "srresnet-x4", "--reference", photo.parent, "-o", tmp_path / "rows")
    table = pd.read_csv(tmp_path / "rows.csv")
    assert table[["method", "label"]].to_numpy().tolist() == [
        ["bicubic", "bicubic input"],
        ["srresnet", "released weights"],
    ]


def test_help_names_every_recipe(done, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    out, _ = done("train", "--help")
    assert all(name in out for name in recipes.RECIPES)


def test_a_reader_that_has_enough_ends_a_command_without_a_word(monkeypatch, capfd):
    """`rvlib models | head`: a pipe that nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    unread = os.fdopen(writing, "w")
    for name, value in (("argv", ["rvlib", "--version"]), ("stdout", unread), ("stderr", sys.stderr)):
        monkeypatch.setattr(sys, name, value)
    monkeypatch.setattr(os, "_exit", sys.exit)
    with pytest.raises(SystemExit):
        cli.main()
    with contextlib.suppress(BrokenPipeError):
        unread.close()
    assert capfd.readouterr().err == ""


def test_an_empty_name_is_no_folder(rv, photo, weights, tmp_path, monkeypatch):
    """As an unset variable of the shell leaves it; the working directory was restored."""
    monkeypatch.chdir(photo.parent)
    for words in (["", "-o", tmp_path / "out"], [photo, "-o", ""]):
        status, _, said = rv("restore", *words, "--model", weights)
        assert status == 2
        assert "the name is empty" in said
    assert not (tmp_path / "out").exists()


def test_rows_of_a_fetched_set_are_called_as_the_studys_are(done, weights, tmp_path):
    photos.write(tmp_path / "Set5/test/reference/img_001.png", photos.sample("coffee")[:48, :64])
    done("evaluate", "--model", weights, "--reference", tmp_path / "Set5/test/reference", "-o", tmp_path / "rows.csv")
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert set(rows["set"]) == {"Set5"}
    assert set(rows["photo"]) == {"img_001"}


def test_help_shows_names_that_can_be_typed_on_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    shown = subprocess.run([sys.executable, "-m", "rvlib", "restore", "--help"], capture_output=True, text=True).stdout
    assert "official/swinir-real-m-x4" in shown
    assert not re.search(r"official/\S*…", shown)


def test_submodules_are_offered_and_found():
    assert {"evaluate", "naturalness", "study", "commands", "models"} <= set(dir(rvlib))
    assert rvlib.study.tables.means
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = rvlib.nothing
