"""Training: it learns, it goes on exactly where it was stopped, and it says what is wrong."""

import copy
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from small import SMALL, before

import rvlib
from rvlib import checkpoint, losses, recipes, train
from rvlib.degrade import Bicubic
from rvlib.objectives import Pixelwise
from rvlib.pairs import Patches, photo_pairs
from rvlib.photos import sample
from rvlib.runs import REPLAYED, alone, commit
from rvlib.settings import KINDS, check
from rvlib.study import provenance
from rvlib.train import Settings, fit

TINY = {"patch_size": 32, "batch_size": 4}


def state(path):
    return rvlib.load(path / "last.safetensors").state_dict()


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_overfits_one_patch(tmp_path):
    torch.manual_seed(0)
    smooth = np.linspace(40, 200, 32)[None, :, None] + np.linspace(0, 40, 32)[:, None, None] + np.zeros(3)
    patches = Patches({"ramp": smooth.astype(np.uint8)}, Bicubic(4), patch_size=32, channels=1, augment=False)
    model = rvlib.create("fsrcnn")
    settings = Settings(steps=600, batch_size=1, learning_rate=5e-3, validate_every=600)
    fit(model, Pixelwise(losses.mse), patches, settings, run=tmp_path / "run")
    degraded, reference, _ = patches.batch(0, 1)
    with torch.no_grad():
        error = torch.nn.functional.mse_loss(model(degraded), reference)
    assert 10 * math.log10(1 / error) > 40


ALIKE = ("srcnn", "srresnet", "plainnet", "baseline", "diffir-s1")  # they differ from others in the network alone


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(each, marks=pytest.mark.drill if each in ALIKE else pytest.mark.slow if each == "srgan" else [])
        for each in SMALL
    ],
)
def test_stopped_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, photos, vgg16, method, monkeypatch):
    arguments, start = SMALL[method], before(method)
    whole = {"steps": 8, "validate_every": 4, "validation": photos, "arguments": arguments, **TINY}
    recipes.train(method, photos, run=tmp_path / "whole", start=start, **whole)
    recipe = recipes.RECIPES[method]
    calls = 0

    def prepare(model, start, loss):
        trained, objective = recipe.prepare(model, start, loss)

        def stopping(model, batch):
            nonlocal calls
            calls += 1
            if calls == 6:
                os.kill(os.getpid(), signal.SIGTERM)  # reaches the middle of a step, after the first checkpoint
            return objective(model, batch)

        return trained, stopping

    monkeypatch.setitem(recipes.RECIPES, method, replace(recipe, prepare=prepare))
    with pytest.raises(KeyboardInterrupt, match="step 6"):
        recipes.train(method, photos, run=tmp_path / "parts", start=start, **whole)
    recipes.train(method, photos, run=tmp_path / "parts", start=start, **whole)
    assert calls == 8 + 2 * REPLAYED  # six steps before the stop, two after it, and those of two proofs
    assert equal(state(tmp_path / "whole"), state(tmp_path / "parts"))
    logs = [pd.read_csv(tmp_path / run / "log.csv").drop(columns="seconds") for run in ("whole", "parts")]
    pd.testing.assert_frame_equal(*logs)


@pytest.mark.slow
def test_survives_being_killed(tmp_path, photos):
    """SIGKILL leaves a run that goes on where it was saved, and ends as if nothing had happened."""
    facts = {"steps": 300, "validate_every": 20, **TINY}
    program = (
        "import sys\n"
        "from rvlib import recipes, train\n"
        "from rvlib.photos import sample\n"
        "train.FIRST_SAVE = 1e9\n"  # nothing but a validation saves, on a slow machine too
        "photos = {n: sample(n)[:96, :128] for n in ('coffee', 'chelsea')}\n"
        f"recipes.train('fsrcnn', photos, run=sys.argv[1], **{facts})\n"
    )
    run, saved = tmp_path / "killed", [0]

    def written():
        return (run / "state.pt").stat().st_mtime_ns if (run / "state.pt").exists() else 0

    for moment in (0.0, 0.05):  # right after it was saved, and some steps later
        last = written()
        process = subprocess.Popen([sys.executable, "-c", program, str(run)], stderr=subprocess.DEVNULL)
        while written() == last and process.poll() is None:
            time.sleep(0.01)
        time.sleep(moment)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        saved.append(torch.load(run / "state.pt", weights_only=True)["step"])
        rvlib.load(run / "last.safetensors")
    assert saved == sorted(set(saved)), "each went on from what the one before had saved"
    assert all(step % 20 == 0 for step in saved)
    for name in ("killed", "undisturbed"):
        recipes.train("fsrcnn", photos, run=tmp_path / name, **facts)
    assert equal(state(run), state(tmp_path / "undisturbed"))


def test_a_complete_run_is_taken_as_it_is(tmp_path, photos):
    first, history = recipes.train("fsrcnn", photos, run=tmp_path, steps=4, validate_every=2, **TINY)
    written = (tmp_path / "last.safetensors").stat().st_mtime_ns
    again, same = recipes.train("fsrcnn", photos, run=tmp_path, steps=4, validate_every=2, **TINY)
    assert equal(first.state_dict(), again.state_dict())
    assert (tmp_path / "last.safetensors").stat().st_mtime_ns == written
    pd.testing.assert_frame_equal(history, same)


def test_another_run_in_the_folder_is_not_overwritten(tmp_path, photos):
    recipes.train("fsrcnn", photos, run=tmp_path, steps=2, **TINY)
    with pytest.raises(rvlib.UserError, match=r"another run.*settings.learning_rate \(0.002 -> 0.003\)"):
        recipes.train("fsrcnn", photos, run=tmp_path, steps=2, learning_rate=3e-3, **TINY)
    with pytest.raises(rvlib.UserError, match="another run.*data.crc.*data.photos"):
        recipes.train("fsrcnn", {"coffee": photos["coffee"]}, run=tmp_path, steps=2, **TINY)


def test_a_second_training_in_a_folder_is_refused(tmp_path, photos):
    facts = {"run": tmp_path / "run", "steps": 1, **TINY}
    with alone(tmp_path / "run"), pytest.raises(rvlib.UserError, match="run is being trained in: wait"):
        recipes.train("fsrcnn", photos, **facts)
    recipes.train("fsrcnn", photos, **facts)
    assert os.listdir(tmp_path) == ["run"], "no lock is left, and no folder of the training that was refused"


def test_what_cannot_be_locked_is_trained_in(tmp_path, photos, monkeypatch):
    monkeypatch.setattr("fcntl.flock", mock.Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    recipes.train("fsrcnn", photos, run=tmp_path / "run", steps=1, **TINY)
    assert os.listdir(tmp_path) == ["run"]


def test_the_gpu_of_apple_is_refused(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(train, "Accelerator", lambda: mock.Mock(device=torch.device("mps")))
    with pytest.raises(rvlib.UserError, match="let the CPU do it"):
        recipes.train("fsrcnn", photos, run=tmp_path / "run", steps=1, **TINY)


@pytest.mark.parametrize("kind", ["references", "degraded", "validation", "pair"])
@pytest.mark.parametrize(
    "wrong",
    [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3)), Path("photo.png")],
    ids=["grey", "with alpha", "floats", "a path"],
)
def test_what_is_no_photo_is_named_before_training(tmp_path, photos, kind, wrong):
    given = {"references": photos, "degraded": None, "validation": None}
    given |= {"validation": {"odd": (photos["coffee"], wrong)}} if kind == "pair" else {kind: {"odd": wrong}}
    with pytest.raises(rvlib.UserError, match="^odd: photos to train on are uint8 H x W x 3 arrays"):
        recipes.train("fsrcnn", **given, run=tmp_path, steps=1, **TINY)


def test_not_finite_loss_names_step_and_photos(tmp_path, photos, monkeypatch):
    def objective(model, batch):
        loss = Pixelwise(losses.mse)(model, batch)["loss"]
        return {"loss": loss * (float("nan") if batch.step == 5 else 1)}

    broken = replace(recipes.RECIPES["fsrcnn"], prepare=lambda model, start, loss: (model, objective))
    monkeypatch.setitem(recipes.RECIPES, "fsrcnn", broken)
    with pytest.raises(rvlib.UserError, match="nan at step 6, on patches of (chelsea|coffee).*that of step 4"):
        recipes.train("fsrcnn", photos, run=tmp_path, steps=10, validate_every=2, **TINY)


@pytest.mark.parametrize("way", ["validation", "clock", "stop", "last step"])
def test_weights_that_are_not_finite_do_not_take_the_place_of_good_ones(tmp_path, photos, monkeypatch, way):
    """A gradient that is not finite under a finite loss, in the step after which everything is written."""
    kept = {}

    def objective(model, batch):
        loss = Pixelwise(losses.mse)(model, batch)["loss"]
        if batch.step == 3:
            kept.update({file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name != "run.json"})
            weight = model.first_part[0].weight
            loss = loss + 0 * (weight - weight.detach()).abs().sqrt().sum()
            if way == "stop":
                os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": loss}

    if way == "clock":
        monkeypatch.setattr(train, "FIRST_SAVE", -1.0)
        monkeypatch.setattr(train, "SAVE_EVERY", -1.0)
    patches = Patches(photos, Bicubic(4), patch_size=32, channels=1)
    every = {"validation": 1, "clock": 50}.get(way, 3)
    settings = Settings(steps=4 if way == "last step" else 9, batch_size=2, validate_every=every)
    told = "not finite after step 4, though the loss was: the last good state is that of step 3: lower learning_rate"
    with pytest.raises((rvlib.UserError, KeyboardInterrupt), match=told):
        fit(rvlib.create("fsrcnn"), objective, patches, settings, run=tmp_path)
    assert {"state.pt", "last.safetensors", "log.csv"} <= kept.keys()
    for name, content in kept.items():
        assert (tmp_path / name).read_bytes() == content, name


def test_a_training_leaves_no_gradient_to_the_next_one(tmp_path, photos):
    """A model that met a loss that is not finite, and is trained anew with other settings."""

    def objective(model, batch):
        return {"loss": Pixelwise(losses.mse)(model, batch)["loss"] * (float("nan") if broken else 1)}

    model, patches = rvlib.create("fsrcnn"), Patches(photos, Bicubic(4), patch_size=32, channels=1)
    broken = True
    with pytest.raises(rvlib.UserError, match="the loss is nan at step 1"):
        fit(model, objective, patches, Settings(steps=2, batch_size=2), run=tmp_path / "first")
    broken = False
    fit(model, objective, patches, Settings(steps=2, batch_size=2), run=tmp_path / "second")
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_averaged_weights_follow_their_formula(tmp_path, photos):
    model = rvlib.create("fsrcnn")
    patches = Patches(photos, Bicubic(4), patch_size=32, channels=1)
    seen = []

    def objective(model, batch):
        seen.append(model.first_part[0].weight.detach().clone())
        return Pixelwise(losses.mse)(model, batch)

    fit(model, objective, patches, Settings(steps=3, batch_size=2, ema=0.9), run=tmp_path)
    last = torch.load(tmp_path / "state.pt", weights_only=True)["model"]["first_part.0.weight"]
    average = seen[0].clone()
    for step, weight in enumerate([*seen[1:3], last]):
        beta = min(0.9, (1 + step) / (10 + step))
        average = beta * average + (1 - beta) * weight
    torch.testing.assert_close(model.first_part[0].weight, average)


@pytest.mark.parametrize(("optimizer", "plain"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
@pytest.mark.parametrize("clip", [None, 0.02])
def test_a_training_takes_the_steps_of_plain_torch(tmp_path, photos, monkeypatch, optimizer, plain, clip):
    """Warm-up, cosine, betas, weight decay, clipping, and a batch in parts that is one batch to the optimizer."""
    torch.manual_seed(0)
    model, patches = rvlib.create("fsrcnn"), Patches(photos, Bicubic(4), patch_size=32, channels=1)
    monkeypatch.setattr(type(model), "slow_parameters", lambda _: [])  # which have a test of their own
    settings = {"learning_rate": 1e-2, "warmup_steps": 3, "betas": (0.5, 0.7), "weight_decay": 0.1, "clip_norm": clip}
    chosen = Settings(steps=4, batch_size=4, accumulate=2, ema=0.0, optimizer=optimizer, **settings)
    twin = copy.deepcopy(model)
    steps = plain(twin.parameters(), betas=(0.5, 0.7), weight_decay=0.1)
    for number, rate in enumerate((1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2 * (1 + math.cos(0.75 * math.pi)) / 2)):
        degraded, reference, _ = patches.batch(number, 4)
        steps.param_groups[0]["lr"] = rate
        steps.zero_grad()
        torch.nn.functional.mse_loss(twin(degraded), reference).backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), math.inf if clip is None else clip)
        steps.step()
    fit(model, Pixelwise(losses.mse), patches, chosen, run=tmp_path)
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)


def test_averaged_weights_have_the_running_statistics_of_the_last_step(tmp_path, photos):
    facts = {"arguments": SMALL["srresnet"], "steps": 3, **TINY}
    recipes.train("srresnet", photos, run=tmp_path, **facts)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    for key, mean in saved["average"].items():
        if key.endswith("running_mean"):
            assert torch.equal(mean, saved["model"][key])
            assert mean.abs().max() > 0, "it moved"


@pytest.mark.parametrize(("bf16", "kind"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bf16_is_the_kind_of_the_forward_and_not_of_the_weights(tmp_path, photos, bf16, kind):
    model, patches, seen = rvlib.create("fsrcnn"), Patches(photos, Bicubic(4), patch_size=32, channels=1), []
    model.first_part[0].register_forward_hook(lambda layer, given, found: seen.append(found.dtype))
    fit(model, Pixelwise(losses.mse), patches, Settings(steps=1, batch_size=2, bf16=bf16), run=tmp_path)
    assert set(seen) == {kind}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_deconvolution_learns_at_a_tenth_of_the_rate(tmp_path, photos):
    model = rvlib.create("fsrcnn")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    patches = Patches(photos, Bicubic(4), patch_size=32, channels=1)
    fit(model, Pixelwise(losses.mse), patches, Settings(steps=1, batch_size=2, ema=0.0), run=tmp_path)
    moved = {name: (value - before[name]).abs().max().item() for name, value in model.state_dict().items()}
    # Adam's first step moves every weight by its learning rate
    assert moved["last_part.weight"] == pytest.approx(1e-4, rel=0.02)
    assert moved["mid_part.2.weight"] == pytest.approx(1e-3, rel=0.02)


def test_accumulated_parts_equal_the_whole_batch(tmp_path, photos):
    for parts in (1, 4):
        run = tmp_path / str(parts)
        recipes.train("fsrcnn", photos, run=run, steps=3, patch_size=32, batch_size=8, accumulate=parts)
    first, second = state(tmp_path / "1"), state(tmp_path / "4")
    for key in first:
        torch.testing.assert_close(first[key], second[key], rtol=1e-3, atol=2e-5)


def test_checkpoint_says_what_it_is(tmp_path, photos):
    recipes.train("fsrcnn", photos, run=tmp_path, steps=2, validation=photos, arguments={"d": 20}, **TINY)
    from safetensors import safe_open

    with safe_open(tmp_path / "best.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["rvlib"])
    assert facts["name"] == "fsrcnn"
    assert facts["arguments"] == {"d": 20}
    assert facts["step"] == 2
    assert facts["scores"]["psnr_y_crop4"] > 0
    assert facts["training"]["settings"]["batch_size"] == 4
    assert facts["commit"] == commit()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": -5}, "steps must be a whole number of at least 1, not -5"),
        ({"learning_rate": 0}, "learning_rate must lie"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"batch_size": 6, "accumulate": 4}, "cannot be cut into 4"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion'"),
        ({"warp": 9}, "unknown setting 'warp'"),
        ({"scale": 5}, "scale 5"),
        ({"patch_size": 30}, "multiple of the scale"),
        ({"augment": 0}, "augment must be true or false, not 0"),
        ({"patch_size": 512}, "no training photo is as large"),
        ({"patch_size": 0}, "patch_size must be a whole number of at least 1, not 0"),
        ({"patch_size": "x"}, "patch_size must be a whole number"),
        ({"processes": 0}, "processes must be a whole number of at least 1"),
        ({"steps": True}, "steps must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number from 0"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, not fast"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number, not nan"),
        ({"final_learning_rate": -1}, "final_learning_rate must be a number from 0"),
        ({"weight_decay": -1}, "weight_decay must be a number from 0"),
        ({"ema": 2}, "ema must be a number from 0 to 1"),
        ({"clip_norm": 0}, "clip_norm must be a number above 0, or null"),
        ({"warmup_steps": -5}, "warmup_steps must be a whole number of at least 0"),
        ({"betas": 5}, "betas must be two numbers"),
        ({"betas": [0.9]}, "betas must be two numbers"),
        ({"betas": [0.9, 1.0]}, "betas must be two numbers from 0 to below 1"),
        ({"milestones": 5}, "milestones must be a list of steps"),
        ({"milestones": ["a"]}, "milestones must be a list of steps"),
        ({"bf16": "maybe"}, "bf16 must be true or false"),
        ({"optimizer": ["adam"]}, "optimizer must be a name"),
        ({"loss": ["l1"]}, "unknown loss"),
        ({"arguments": {"channels": 2}}, r"photos have 1 channel \(luminance\) or 3"),
    ],
)
def test_wrong_values_are_named(tmp_path, photos, settings, message):
    with pytest.raises(rvlib.UserError, match=message):
        recipes.train("fsrcnn", photos, run=tmp_path / "run", **({"steps": 2} | settings))
    assert not (tmp_path / "run").exists()


def test_each_setting_has_a_kind_and_every_recipe_keeps_to_them():
    assert KINDS.keys() == Settings.__dataclass_fields__.keys()
    for recipe in recipes.RECIPES.values():
        check(asdict(recipe.settings))


class TestPatches:
    def test_reference_degraded_again_is_the_degraded_patch(self, photos):
        patches = Patches(photos, Bicubic(4), patch_size=64, seed=3)
        degraded, reference, names = patches.batch(7, 6)
        assert degraded.shape == (6, 3, 16, 16)
        assert reference.shape == (6, 3, 64, 64)
        assert set(names) <= set(photos)
        again = rvlib.degrade.imresize(reference, 1 / 4).mul(255).round().div(255)
        inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))  # the border saw the photo around the patch
        torch.testing.assert_close(again[inner], degraded[inner], atol=1.01 / 255, rtol=0)

    def test_a_batch_is_a_function_of_seed_and_number(self, photos):
        first, second = (Patches(photos, Bicubic(4), patch_size=32, seed=5).batch(11, 4) for _ in range(2))
        assert torch.equal(first[0], second[0])
        other = Patches(photos, Bicubic(4), patch_size=32, seed=6).batch(11, 4)
        assert not torch.equal(first[0], other[0])

    def test_all_eight_symmetries_occur(self):
        photo = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3).astype(np.uint8)
        patches = Patches({"one": photo}, lambda y, rng: y, patch_size=32)
        _, reference, _ = patches.batch(0, 200)
        assert len({tensor.numpy().tobytes() for tensor in reference}) == 8


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("diffir_sr", {"milestones": (500, 700)}),
        ("nafnet_gopro", {"final_learning_rate": 1e-7}),
    ],
)
def test_rates_are_those_of_the_official_schedules(name, settings):
    golden = json.loads((Path(__file__).parent / "goldens" / "lr_schedules.json").read_text())[name]
    chosen = Settings(steps=max(map(int, golden["lrs"])), learning_rate=golden["lr"], **settings)
    for step, rate in golden["lrs"].items():
        assert chosen.rate(int(step)) == pytest.approx(rate, rel=1e-6)


class TestWeightsInTheFirstMinute:
    def test_a_clock_saves_between_validations_and_changes_nothing(self, tmp_path, photos, monkeypatch):
        whole = {"steps": 8, "validate_every": 8, "validation": photos, **TINY}
        recipes.train("fsrcnn", photos, run=tmp_path / "plain", **whole)
        saved = []
        save = train.Run.save

        def noted(run):
            save(run)
            table, weights = (
                pd.read_csv(run.folder / "log.csv"),
                checkpoint.read_metadata(run.folder / "last.safetensors"),
            )
            saved.append((run.step, list(table["step"]), weights["step"]))

        monkeypatch.setattr(train.Run, "save", noted)
        monkeypatch.setattr(train, "FIRST_SAVE", -1.0)  # at once
        recipes.train("fsrcnn", photos, run=tmp_path / "first", **whole)
        assert saved == [(1, [1], 1), (8, [8], 8)]
        saved.clear()
        monkeypatch.setattr(train, "SAVE_EVERY", -1.0)
        recipes.train("fsrcnn", photos, run=tmp_path / "often", **whole)
        assert [step for step, _, _ in saved] == list(range(1, 9))
        for run in ("first", "often"):
            assert equal(state(tmp_path / "plain"), state(tmp_path / run))
            logs = [pd.read_csv(tmp_path / name / "log.csv").drop(columns="seconds") for name in ("plain", run)]
            pd.testing.assert_frame_equal(*logs)

    def test_a_stop_leaves_weights_and_a_curve(self, tmp_path, photos, monkeypatch):
        def objective(model, batch):
            if batch.step == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return Pixelwise(losses.mse)(model, batch)

        stopping = replace(recipes.RECIPES["fsrcnn"], prepare=lambda model, start, loss: (model, objective))
        monkeypatch.setitem(recipes.RECIPES, "fsrcnn", stopping)
        with pytest.raises(KeyboardInterrupt, match="stopped at step 3"):
            recipes.train("fsrcnn", photos, run=tmp_path, steps=1000, **TINY)
        facts = checkpoint.read_metadata(tmp_path / "last.safetensors")
        assert facts["step"] == 3
        assert rvlib.load(tmp_path).spec["name"] == "fsrcnn"
        log = pd.read_csv(tmp_path / "log.csv")
        assert list(log["step"]) == [3]
        assert log["loss"].item() > 0

    def test_the_bar_shows_the_loss_from_the_first_step(self, tmp_path, photos, capsys, monkeypatch):
        monkeypatch.setenv("JPY_SESSION_NAME", "a person looks")
        recipes.train("fsrcnn", photos, run=tmp_path, steps=60, on_log=lambda log: None, **TINY)
        assert "loss=" in capsys.readouterr().err.partition("60/60")[0]


def test_warmup_is_a_tenth_of_the_steps_at_most(tmp_path, photos):
    for steps, asked, expected in ((20, {}, 2), (20, {"warmup_steps": 15}, 15)):
        run = tmp_path / f"{steps}-{expected}"
        recipes.train("fsrcnn", photos, run=run, steps=steps, **asked, **TINY)
        assert json.loads((run / "run.json").read_text())["identity"]["settings"]["warmup_steps"] == expected
    assert recipes.RECIPES["fsrcnn"].settings.warmup_steps == 500


def test_validation_takes_pairs_as_they_are(tmp_path, photos):
    made = photo_pairs(photos, Bicubic(4))
    grey = {name: (np.full_like(low, 128), high) for name, (low, high) in made.items()}
    scores = []
    for number, validation in enumerate((photos, made, grey)):
        _, log = recipes.train("fsrcnn", photos, run=tmp_path / str(number), steps=40, validation=validation, **TINY)
        scores.append(log["psnr_y_crop4"].item())
    assert scores[0] == scores[1]
    assert scores[1] > scores[2] + 0.5
    with pytest.raises(
        rvlib.UserError,
        match="validation photo tiny has .* x 3 pixels: leave it out, or take one of at least 16 pixels",
    ):
        recipes.train("fsrcnn", photos, run=tmp_path / "x", steps=1, validation={"tiny": photos["coffee"][:3]}, **TINY)


def test_large_validation_photos_are_cut_into_tiles(monkeypatch):
    network, seen = rvlib.create("fsrcnn"), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:].numel()))
    pairs = photo_pairs({"coffee": sample("coffee")}, Bicubic(4))
    whole = recipes.mean_psnr(network, pairs)
    assert len(seen) == len(pairs), "photos of up to a megapixel are measured in one piece"
    largest = max(seen)
    seen.clear()
    monkeypatch.setattr(recipes, "WHOLE", 64)
    assert recipes.mean_psnr(network, pairs) == pytest.approx(whole)
    assert len(seen) > len(pairs)
    assert max(seen) < largest


def test_new_settings_leave_older_runs_what_they_were(tmp_path, photos):
    recipes.train("fsrcnn", photos, run=tmp_path, steps=2, **TINY)
    identity = json.loads((tmp_path / "run.json").read_text())["identity"]
    settings, data = identity["settings"], identity["data"]
    assert not settings.keys() & {"tf32", "deterministic"}
    older = json.loads((rvlib.ROOT / "weights/fsrcnn-x4.json").read_text())["identity"]["data"]
    assert data.keys() == older.keys()
    assert data["augment"] is older["augment"] is True
    assert settings["clip_norm"] == 0.5
    assert settings["milestones"] == []
    with pytest.raises(rvlib.UserError, match=r"different: settings.tf32 \(none -> false\)"):
        recipes.train("fsrcnn", photos, run=tmp_path, steps=2, tf32=False, **TINY)


def test_a_scale_beside_a_start_is_the_scale(tmp_path, photos):
    facts = {"patch_size": 32, "batch_size": 1, "steps": 1}
    trained, _ = recipes.train("fsrcnn", photos, run=tmp_path, start="fsrcnn-x4", scale=2, **facts)
    assert trained.scale == 2


def test_stage_1_takes_over_the_restoring_part_of_a_stage_2_and_records_name_every_part(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(rvlib, "released", list)
    small = {"patch_size": 32, "batch_size": 1, "steps": 1}
    arguments = SMALL["diffir-s1"]
    first, _ = recipes.train("diffir-s1", photos, run=tmp_path / "a1", arguments=arguments, **small)
    second, _ = recipes.train("diffir-s2", photos, run=tmp_path / "a2", start=first, arguments=arguments, **small)
    # a rate that moves no weight shows what training begins from
    still = {"learning_rate": 1e-12, "final_learning_rate": 0.0, "seed": 1}
    third, _ = recipes.train("diffir-s1", photos, run=tmp_path / "b1", start=second, **still, **small)
    assert all(torch.allclose(each, second.G.state_dict()[key]) for key, each in third.G.state_dict().items())
    fourth, _ = recipes.train("diffir-s2", photos, run=tmp_path / "b2", start=third, arguments=arguments, **small)
    assert not equal(fourth.G.state_dict(), third.G.state_dict())
    methods = ["diffir-s1", "diffir-s2", "diffir-s1"]
    record = provenance.run_record(tmp_path / "b2")
    assert [part["identity"]["method"] for part in record["before"]] == methods
    # released and then lengthened, where the first two runs are gone
    (tmp_path / "mine.json").write_text(json.dumps(record))
    monkeypatch.setattr(rvlib, "released", lambda: ["mine"])
    monkeypatch.setattr(provenance, "WEIGHTS", tmp_path)
    for gone in ("a1", "a2"):
        shutil.rmtree(tmp_path / gone)
    settings = small | {"steps": 2}
    recipes.train("diffir-s2", photos, run=tmp_path / "b2", start=third, arguments=arguments, **settings)
    record = provenance.run_record(tmp_path / "b2")
    assert [part["identity"]["method"] for part in record["before"]] == methods
    assert record["identity"]["settings"]["steps"] == 2
