"""The command line: it restores, and what is wrong is one line without a traceback."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

import rvlib
from rvlib import cli, metadata, photos, recipes
from rvlib.commands import train

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
        (["fetch", "official/"], "no official weights are called 'official/'"),
        (["fetch", "official/a.pth"], "no official weights are called 'official/a.pth'"),
        (["evaluate", "--model", "{weights}", "--reference", "nowhere"], "nowhere does not exist"),
        (
            ["restore", "{photo}", "--model", "{weights}", "-o", "x.png", "--precision", "fp16"],
            "unknown precision 'fp16'",
        ),
        (["notebook", "99_nothing"], "no notebook '99_nothing'"),
        ([*RESTORE, "--width", "-3"], "width must be positive, not -3"),
        ([*RESTORE, "--height", "0"], "height must be positive, not 0"),
        ([*RESTORE, "--factor", "0"], "factor must be positive, not 0"),
        ([*RESTORE, "--factor", "5"], "32 x 24 pixels become at most 4 times as large here, not 5 times"),
        ([*RESTORE, "--factor", "2", "--width", "9"], "a size is given by one of factor, width"),
        ([*RESTORE, "--then", "nothing"], "no released weights are called 'nothing'"),
        ([*RESTORE, "--realism", "0.5"], "has no partner to mix it with"),
        ([*SRGAN, "--realism", "1.5"], "realism lies between 0"),
        ([*RESTORE, "--jobs", "0"], "--jobs lies between 1"),
        ([*RESTORE, "--quality", "101"], "--quality lies between 1"),
        ([*RESTORE, "--format", "gif"], "--format gif is for a folder"),
        ([*RESTORE, "--device", "gpu"], "there is no device 'gpu' here (unknown): choose auto or cpu"),
        ([*RESTORE, "--tile", "3"], "tile must be at least 64"),
        (["compare", "{photo}", "--models", "a,b", "-o", "x.html"], "no released weights are called 'a'"),
        (["compare", "{photo}", "--models", ",", "-o", "x.html"], "--models names none"),
        (["compare", "{photo}", "--models", "{weights}+", "-o", "x.html"], "a model without a name"),
        (["compare", "{photo}", "--models", "{weights}", "-o", "x.png"], "choose a name that ends in .html"),
        (["compare", "{photo}", "--models", "{weights}", "-o", "x.html", "--side", "0"], "sides of 16 to 1024"),
        (["evaluate", "--model", "{weights}", "--reference", ".", "--level", "25"], "super-resolution has no level 25"),
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
    assert "on 1 training photo (parts of photos that it saw" in done.stdout
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


def test_photos_that_no_patch_fits_into_are_named(capsys):
    photos = {name: np.zeros((side, 60, 3), np.uint8) for name, side in (("a", 48), ("b", 47), ("c", 8))}
    train._say_small(photos, 48)
    assert capsys.readouterr().err == "note: 2 of 3 photos are smaller than a patch of 48: b, c\n"
    for none_is_said in (8, 61, "abc"):
        train._say_small(photos, none_is_said)
    assert capsys.readouterr().err == ""


def identity(run):
    return json.loads((run / "run.json").read_text())["identity"]


@STARTS
def test_every_setting_and_the_architecture_can_be_chosen(photo, tmp_path):
    words = ["--set", "milestones=[1,2]", "--set", "ema=0.9", "--set", "optimizer=adamw", "--set", "clip_norm=null"]
    words += ["--set", "learning_rate=1e-4", "--argument", "d=20", "--argument", "m=2", "--set", "loss=l1"]
    words += ["--set", "augment=false"]
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
    assert found["data"]["augment"] is False
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
        (["fsrcnn", "--section", "diffir"], "does not say how to train"),
        (["fsrcnn", "--set", "betas=5"], "betas must be two numbers"),
        (["fsrcnn", "--set", "run=elsewhere"], "unknown setting 'run'"),
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


def command(*words, monkeypatch, code=0):
    """Run a command in this process."""
    monkeypatch.setattr(sys, "argv", ["rvlib", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert (stopped.value.code or 0) == code


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("a.png", "b.jpg", "deep/c.png")):
        photos.write(tmp_path / "in" / name, photos.sample("coffee")[:24, : 32 + number])
    return tmp_path / "in"


def contents(place):
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_what_another_model_made_is_not_there_already(weights, folder, tmp_path, monkeypatch, capsys):
    common = ["restore", folder, "-o", tmp_path / "out", "--recursive"]
    command(*common, "--model", weights, monkeypatch=monkeypatch)
    first = contents(tmp_path / "out")
    assert list(first) and "on cpu" in capsys.readouterr().out
    command(*common, "--model", weights, monkeypatch=monkeypatch)
    assert "3 of 3 were there already" in capsys.readouterr().err
    assert contents(tmp_path / "out") == first
    for more in (["--factor", 2], ["--twice", "--factor", "4"], ["--self-ensemble"]):
        command(*common, "--model", weights, *more, monkeypatch=monkeypatch)
        said = capsys.readouterr()
        assert "3 restored by fsrcnn.safetensors (" in said.out
        assert "had made there is replaced (3 photos)" in said.err
    (tmp_path / "out/a.png").unlink()
    photos.write(tmp_path / "out/a.png", photos.sample("coffee")[:5, :5])
    command(*common, "--model", weights, monkeypatch=monkeypatch)
    assert "1 of 3 were there already" in capsys.readouterr().err, "a file that says nothing of its maker is left alone"


def test_several_at_a_time_make_the_same(weights, folder, tmp_path, monkeypatch):
    for jobs in (1, 3):
        words = ["restore", folder, "--model", weights, "-o", tmp_path / f"out{jobs}", "--recursive", "--jobs", jobs]
        command(*words, monkeypatch=monkeypatch)
    assert contents(tmp_path / "out1") == contents(tmp_path / "out3")


def test_a_dry_run_tells_and_does_nothing(weights, folder, tmp_path, monkeypatch, capsys):
    words = ["restore", folder, "--model", weights, "-o", tmp_path / "out", "--recursive", "--longest", 50]
    command(*words, "--dry-run", monkeypatch=monkeypatch)
    said = capsys.readouterr().out
    assert f"{folder / 'b.jpg'} (33 x 24) -> {tmp_path / 'out/b.jpg'} (50 x 37)" in said
    assert "nothing is done yet: 3 photos, 0.0 megapixels to restore, about" in said
    assert not (tmp_path / "out").exists()
    command(*words, monkeypatch=monkeypatch)
    assert photos.read(tmp_path / "out/b.jpg").shape == (37, 50, 3)
    command(*words, "--dry-run", monkeypatch=monkeypatch)
    assert capsys.readouterr().out.count("is there already") == 3
    (folder / "bad.png").write_text("no photo")
    command(*words, "--dry-run", monkeypatch=monkeypatch, code="error: 1 of 4 photos would fail")


def test_a_chain_is_named_in_its_result(weights, photo, tmp_path, monkeypatch, capsys):
    words = ["restore", photo, "--model", "nafnet-deblur", "--then", weights, "-o", tmp_path / "out.png"]
    command(*words, monkeypatch=monkeypatch)
    expected = rvlib.restore([rvlib.load("nafnet-deblur"), rvlib.load(weights)], photo)
    assert np.array_equal(photos.read(tmp_path / "out.png"), expected)
    assert metadata.maker(tmp_path / "out.png").startswith("nafnet-deblur + fsrcnn.safetensors (")


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    command("--version", monkeypatch=monkeypatch)
    assert capsys.readouterr().out == f"rvlib {rvlib.__version__}\n"


def test_a_comparison_is_a_page(weights, photo, tmp_path, monkeypatch, capsys):
    words = ["compare", photo, photo, "--models", f"{weights}, nafnet-deblur+{weights}", "-o", tmp_path / "page.html"]
    command(*words, monkeypatch=monkeypatch)
    assert (tmp_path / "page.html").read_text().count("<article>") == 2
    assert "MiB of memory" in capsys.readouterr().out


@pytest.mark.parametrize(("task", "window", "level"), [("denoising", 8, 25), ("jpeg", 7, 40)])
def test_noise_and_jpeg_are_measured_against_the_degraded_photo(tmp_path, monkeypatch, task, window, level):
    arguments = {"task": task, "scale": 1, "upsampler": "none", "window": window}
    rvlib.save(rvlib.create("swinir", embed=12, depths=(2,), heads=(2,), **arguments), tmp_path / "w.safetensors")
    reference = photos.sample("coffee")[:48, :64]
    photos.write(tmp_path / "in/photo.png", reference)
    words = ["evaluate", "--model", tmp_path / "w.safetensors", "--reference", tmp_path / "in"]
    command(*words, "-o", tmp_path / "rows.csv", monkeypatch=monkeypatch)
    table = pd.read_csv(tmp_path / "rows.csv").set_index("label")
    kind = {"denoising": "noisy", "jpeg": "compressed"}[task]
    degraded = recipes.degradation(task, 1, level=level)(reference, np.random.default_rng(0))
    assert table.loc[f"{kind} input", "psnr_rgb_crop0"] == pytest.approx(
        rvlib.metrics.psnr(degraded, reference, channel="rgb"), abs=0.1
    )
    assert table.index.tolist() == [f"{kind} input", "this run"]
    command(*words, "--level", 5, "-o", tmp_path / "rows.csv", monkeypatch=monkeypatch)
    other = pd.read_csv(tmp_path / "rows.csv").set_index("label").loc[f"{kind} input", "psnr_rgb_crop0"]
    assert (other > 30) == (task == "denoising"), "little noise, or hardly anything of the photo"


@STARTS
def test_two_processes_share_the_photos(weights, folder, tmp_path):
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
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("3 restored by") == (name == "restore")
        assert rv(name, *options, f"{tmp_path}/one-{name}").returncode == 0
    assert contents(tmp_path / "two-restore") == contents(tmp_path / "one-restore")
    rows = [pd.read_csv(tmp_path / f"{number}-evaluate.csv").drop(columns="seconds") for number in ("one", "two")]
    pd.testing.assert_frame_equal(*rows)
    assert len(rows[0]) == 4


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
