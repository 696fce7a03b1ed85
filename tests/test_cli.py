"""The command line: it restores, and what is wrong is one line without a traceback."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import rvlib
from rvlib import cli, photos, recipes

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


def rv(*words, folder=None):
    command = [sys.executable, "-m", "rvlib", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@STARTS
def test_restores_a_photo(weights, photo, tmp_path):
    done = rv("restore", photo, "--model", weights, "-o", tmp_path / "big.png")
    assert done.returncode == 0, done.stderr
    expected = rvlib.restore(rvlib.load(weights), photo)
    assert np.array_equal(photos.read(tmp_path / "big.png"), expected)


@STARTS
def test_goes_on_after_a_bad_photo_and_says_so(weights, photo, tmp_path):
    (tmp_path / "bad.png").write_text("no photo")
    done = rv("restore", tmp_path / "bad.png", photo, "--model", weights, "-o", tmp_path / "out")
    assert done.returncode != 0
    assert "bad.png is no readable photo" in done.stderr
    assert "Traceback" not in done.stderr
    assert "1 of 2 photos failed" in done.stderr
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
    again = rv(*command[3:], folder=tmp_path)
    assert again.returncode == 0
    assert f"{len(finished)} of 60 were there already" in again.stderr
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
        (["fetch", "Set6", "--target", "t"], "unknown set 'Set6'"),
        (["evaluate", "--model", "{weights}", "--reference", "nowhere"], "nowhere does not exist"),
        (
            ["restore", "{photo}", "--model", "{weights}", "-o", "x.png", "--precision", "fp16"],
            "unknown precision 'fp16'",
        ),
        (["notebook", "99_nothing"], "no notebook '99_nothing'"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_bad_input_is_one_clear_line(weights, photo, tmp_path, words, message, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rvlib", *(word.format(weights=weights, photo=photo) for word in words)])
    with pytest.raises(SystemExit) as stopped:  # anything else would be a traceback
        cli.main()
    code = stopped.value.code
    said = capsys.readouterr().err + (code if isinstance(code, str) else "")  # Python prints such a code at the end
    assert code not in (0, None)
    assert message in said
    assert len(said.strip().splitlines()[-1]) < 500


@STARTS
def test_trains_and_evaluates_on_own_photos(photo, tmp_path):
    done = rv("train", "fsrcnn", "--photos", tmp_path, "--run", tmp_path / "run", "--steps", 3, "--patch-size", 16)
    assert done.returncode == 0, done.stderr
    assert "on 1 training photos (parts of photos that it saw" in done.stdout
    assert "dB against bicubic" in done.stdout
    done = rv("evaluate", "--model", tmp_path / "run", "--reference", tmp_path, "-o", tmp_path / "rows")
    assert done.returncode == 0, done.stderr
    assert "bicubic" in done.stdout
    assert (tmp_path / "rows.csv").exists()
    again = tmp_path / "run"  # more steps lengthen the run, with the warm-up that belongs to them
    done = rv("train", "fsrcnn", "--photos", tmp_path, "--run", again, "--steps", 40, "--patch-size", 16)
    assert done.returncode == 0, done.stderr
    settings = identity(again)["settings"]
    assert settings["steps"] == 40
    assert settings["warmup_steps"] == 4


def identity(run):
    return json.loads((run / "run.json").read_text())["identity"]


@STARTS
def test_every_setting_and_the_architecture_can_be_chosen(photo, tmp_path):
    words = ["--set", "milestones=[1,2]", "--set", "ema=0.9", "--set", "optimizer=adamw", "--set", "clip_norm=null"]
    words += ["--set", "learning_rate=1e-4", "--argument", "d=20", "--argument", "m=2", "--set", "loss=l1"]
    done = rv(
        "train",
        "fsrcnn",
        "--photos",
        tmp_path,
        "--run",
        "run",
        "--steps",
        3,
        "--patch-size",
        16,
        *words,
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = identity(tmp_path / "run")
    assert found["model"]["arguments"] == {"d": 20, "m": 2}
    assert found["objective"]["loss"] == "l1"
    expected = {"milestones": [1, 2], "ema": 0.9, "optimizer": "adamw", "clip_norm": None, "learning_rate": 1e-4}
    assert {name: found["settings"][name] for name in expected} == expected


@STARTS
def test_a_profile_says_how_to_train(tmp_path):
    photos.write(tmp_path / "photos/photo.png", photos.sample("coffee")[:256, :256])
    words = ["--photos", tmp_path / "photos", "--run", tmp_path / "run", "--profile", "paper", "--steps", 2]
    done = rv("train", "swinir", *words, "--batch-size", 1, "--patch-size", 64)
    assert done.returncode == 0, done.stderr
    found = identity(tmp_path / "run")["settings"]
    assert found["milestones"] == [250000, 400000, 450000, 475000]
    assert found["warmup_steps"] == 0
    assert found["clip_norm"] is None


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
def test_a_start_brings_its_architecture(tmp_path, monkeypatch, method, name, arguments):
    rvlib.save(rvlib.create(name, **arguments), tmp_path / "start.safetensors")
    photos.write(tmp_path / "photos/photo.png", photos.sample("coffee")[:64, :64])
    sizes = ["--steps", "1", "--patch-size", "64", "--batch-size", "1"]
    places = ["--photos", tmp_path / "photos", "--run", tmp_path / "run", "--start", tmp_path / "start.safetensors"]
    monkeypatch.setattr(sys, "argv", ["rvlib", "train", method, *map(str, places), *sizes])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    found = identity(tmp_path / "run")["model"]["arguments"]
    assert found == {key: value for key, value in arguments.items() if key != "stage"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fsrcnn", "--start", "swinir-small-x4"], "are swinir's, and fsrcnn is to be trained"),
        (["fsrcnn", "--start", "fsrcnn-x4", "--argument", "d=20"], "another architecture (first_part.0.weight: (56,"),
        (["fsrcnn", "--set", "steps"], "'steps' is no name=value"),
        (["fsrcnn", "--set", "speed=9"], "unknown setting 'speed'"),
        (["fsrcnn", "--argument", "width=9"], "fsrcnn has no argument 'width'"),
        (["fsrcnn", "--profile", "phone"], "there is no profile 'phone'"),
        (["fsrcnn", "--section", "99_nothing"], "has no section 99_nothing"),
        (["fsrcnn", "--seed", "-1"], "seed must be a whole number from 0"),
        (["fsrcnn", "--degraded", ".", "--validation", "."], "put validation pairs into"),
        (["diffir-s2", "--start", "fsrcnn-x4"], "are fsrcnn's, and diffir is to be trained"),
    ],
)
def test_what_cannot_be_trained_is_one_clear_line(photo, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rvlib", "train", *words, "--photos", ".", "--run", "run", "--patch-size", "16"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert message in str(ended.value.code)
    assert str(ended.value.code).startswith("error: ")


def command(*words, monkeypatch):
    """Run a command in this process."""
    monkeypatch.setattr(sys, "argv", ["rvlib", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code


def test_evaluate_names_the_method_and_not_the_network(photo, tmp_path, monkeypatch):
    """SRResNet's network is SRGAN's generator."""
    words = ["evaluate", "--model", "srresnet-x4", "--reference", photo.parent, "-o", tmp_path / "rows"]
    command(*words, monkeypatch=monkeypatch)
    table = pd.read_csv(tmp_path / "rows.csv")
    assert table[["method", "label"]].to_numpy().tolist() == [
        ["bicubic", "bicubic input"],
        ["srresnet", "released weights"],
    ]


def test_help_names_every_recipe(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "300")
    command("train", "--help", monkeypatch=monkeypatch)
    help_text = capsys.readouterr().out
    assert all(name in help_text for name in recipes.RECIPES)


@STARTS
def test_lists_models():
    done = rv("models")
    assert done.returncode == 0, done.stderr
    assert "fsrcnn" in done.stdout
