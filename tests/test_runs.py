"""Runs: they know their code, say what differs, are lengthened and carried over, and are never deleted."""

import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import small
import torch
import yaml
from torch import nn

import rvlib
from rvlib import checkpoint, losses, recipes, runs
from rvlib.degrade import Bicubic
from rvlib.files import sha256
from rvlib.fingerprint import code
from rvlib.models import METHODS, srgan
from rvlib.objectives import PerceptualAdversarial, Pixelwise
from rvlib.pairs import Patches
from rvlib.settings import Settings
from rvlib.study import cells, profiles, rehearsal
from rvlib.train import Training, checksum, fit
from rvlib.train import identity as computed

TINY = {"patch_size": 32, "batch_size": 4, "validate_every": 2}
SWINIR = {"arguments": {"embed": 12, "depths": (2,), "heads": (2,)}}
NAFNET = {"arguments": {"width": 8, "encoder": (1,), "middle": 1, "decoder": (1,)}}


def described(run):
    """What a run.json says, without the digest of it, as such files were before: so that tests can write it anew."""
    content = json.loads((run / "run.json").read_text())
    return {key: value for key, value in content.items() if key != "digest"}


def identity(run):
    return described(run)["identity"]


def history(run):
    return [each["event"] for each in described(run)["history"]]


class TestFingerprints:
    def test_follow_what_is_used_and_nothing_else(self):
        found = code(Patches, type(Pixelwise(losses.l1)), losses.l1)
        assert {"losses.l1", "pairs.Patches", "objectives.Pixelwise", "color.luminance"} <= found.keys()
        assert "losses.mse" not in found
        assert not [name for name in found if name.startswith(("swinir", "metrics", "report"))]

    @pytest.mark.parametrize("key", METHODS)
    def test_a_method_does_not_depend_on_the_others(self, key):
        """No record, no table of records and no other family is in the code of a network."""
        builder, modules = METHODS[key].builder, rvlib.create(METHODS[key].network).modules()
        networks = {type(module) for module in modules if type(module).__module__.startswith("rvlib.")}
        found = code(Training, Patches, builder, *networks)
        assert not [name for name in found if "METHOD" in name or name.endswith(("Method", "Recipe", "RECIPES"))]
        families = {method.builder.__module__.rpartition(".")[2] for method in METHODS.values()}
        assert {name.partition(".")[0] for name in found} & families == {builder.__module__.rpartition(".")[2]}

    def test_the_game_knows_its_network_by_the_weights_and_not_by_how_they_were_fetched(self, photos):
        assert not [name for name in code(PerceptualAdversarial) if name.startswith(("backbones", "files"))]
        game = srgan.Adversaries(rvlib.create("srgan", features=8, blocks=1), srgan.Discriminator())
        patches = Patches(photos, Bicubic(4), patch_size=32, channels=3)
        played = [PerceptualAdversarial(losses.mse, nn.Conv2d(3, 1, 1)) for _ in range(2)]
        known = [computed(game, each, patches, Settings(steps=1))["objective"]["features"] for each in played]
        assert known[0].startswith("weights ") and known[0] != known[1]

    def test_a_function_from_elsewhere_counts_with_what_it_uses(self):
        def objective(model, batch):
            return {"loss": losses.l1(model(batch.degraded), batch.reference)}

        found = code(objective)
        assert "losses.l1" in found
        assert len(found) == 2

    def test_the_same_on_every_call(self):
        assert code(Patches) == code(Patches)


class TestCells:
    @pytest.mark.parametrize(("method", "section"), rehearsal.trainings())
    def test_dvc_sees_what_a_run_knows_itself_by(self, vgg16, method, section):
        run = small.identity(method, profiles.settings("laptop", method, section).get("arguments", {}))
        notebook = section.partition(".")[0]
        parameters = yaml.safe_load((rvlib.ROOT / "params.yaml").read_text())["methods"][notebook]
        seen = cells.computed(notebook, parameters)["recipes"][method]
        assert run["code"].items() <= seen["code"].items()
        assert run["data"]["degraded"] in seen["degradations"]
        assert run["settings"] == seen["settings"]

    def test_dvc_sees_what_cells_use_without_a_recipe(self):
        seen = cells.computed("self_supervised", {})
        assert {"adapt.adapt", "degrade.BlurredSampling", "objectives.hide", "losses.mse"} <= seen["code"].keys()
        assert not [name for name in seen["code"] if name.startswith(("recipes", "runs", "photos", "swinir"))]
        assert seen["weights"] == {"fsrcnn-x4": sha256(checkpoint.WEIGHTS / "fsrcnn-x4.safetensors")}
        assert "fsrcnn.FSRCNN" in seen["recipes"]["fsrcnn"]["code"], "those weights are trained further"


CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import rvlib
assert rvlib.__file__.startswith(sys.argv[1]), rvlib.__file__
from rvlib import recipes
from rvlib.photos import sample
photos = {name: sample(name)[:96, :128] for name in ("coffee", "chelsea")}
for method, arguments in json.loads(sys.argv[3]).items():
    facts = {"steps": 3, "patch_size": 32, "batch_size": 2, "validate_every": 3, "arguments": arguments}
    recipes.train(method, photos, run=f"{sys.argv[2]}/{method}", replace_run=True, **facts)
from rvlib.study import cells
cells.write(rvlib.ROOT / "params.yaml")
"""
SMALL = {"fsrcnn": {}, "swinir": SWINIR["arguments"], "nafnet": NAFNET["arguments"]}
L1 = "return F.l1_loss(restored, reference)"
GATE = "def simple_gate(x: Tensor) -> Tensor:"
STYLE = "x = self.body(F.leaky_relu(self.conv_first(degraded), 0.1))"  # of MSRResNet, which is no recipe's own
# edits (file, text, new text), runs that must be trained again, training stages that DVC must run; self_supervised
# trains two networks of others, which it names as recipes
EDITS = {
    "words, what is not used, equal code and adapting": (
        [
            ("losses.py", '"""Mean |x - y|', '"""The mean of |x - y|'),
            ("pairs.py", "# too small to cut a patch from", "# smaller than a patch"),
            ("pairs.py", "must be a positive multiple of the scale", "has to be a multiple of the scale"),
            ("losses.py", "+ 1e-6", "+ 1e-8"),  # of a loss that no method names
            ("losses.py", L1, "return (restored - reference).abs().mean()"),
            ("adapt.py", "recipe.settings.learning_rate / 10", "recipe.settings.learning_rate / 20"),
        ],
        set(),  # DVC runs the stages, and they find that their runs are as good as new
        {"swinir", "diffir", "self_supervised"},
    ),
    "loss and network": (
        [("losses.py", L1, L1.replace("F.", "2 * F.")), ("models/nafnet.py", GATE, f"{GATE}\n    x = 0.5 * x")],
        {"swinir", "nafnet"},
        {"swinir", "diffir", "nafnet", "self_supervised"},
    ),
    "style and shake": (
        [("models/srgan.py", STYLE, STYLE.replace("0.1", "0.2")), ("recipes.py", "zoom=0.2", "zoom=0.3")],
        {"nafnet"},
        {"srgan", "nafnet", "diffir", "self_supervised"},
    ),
    "degradation": (
        [("degrade.py", "stretch = min(factor, 1.0)", "stretch = min(0.9 * factor, 1.0)")],
        {"fsrcnn", "swinir"},
        {"fsrcnn", "srgan", "swinir", "diffir", "self_supervised"},
    ),
    "default": (
        [("settings.py", "ema: float = 0.999", "ema: float = 0.99")],
        {"fsrcnn", "swinir", "nafnet"},
        {"fsrcnn", "srgan", "swinir", "nafnet", "diffir", "self_supervised"},
    ),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A copy of the library, a run of three methods by it, and what DVC is told that all trainings compute."""
    place = tmp_path_factory.mktemp("trained")
    for folder in ("rvlib", "notebooks/text"):
        shutil.copytree(rvlib.ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(rvlib.ROOT / "params.yaml", place)
    train(place, place / "runs", SMALL)
    return place


def train(place, folder, methods):
    subprocess.run(
        [sys.executable, "-c", CODE, str(place), str(folder), json.dumps(methods)],
        check=True,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_a_run_is_trained_again_where_what_it_computes_changed(trained, tmp_path, name):
    edits, expected, stages = EDITS[name]
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    for file, old, new in edits:
        text = (tmp_path / "rvlib" / file).read_text()
        assert old in text
        (tmp_path / "rvlib" / file).write_text(text.replace(old, new))
    train(tmp_path, tmp_path / "runs", SMALL)
    written = [place / "runs/laptop/cells" for place in (trained, tmp_path)]
    names = [file.name for file in written[0].glob("*.json")]
    _, others, broken = filecmp.cmpfiles(*written, names, shallow=False)
    assert not broken
    assert {name.removesuffix(".json") for name in others} == stages
    aside = {path.name.partition(".step-")[0] for path in (tmp_path / "runs").glob("*.step-3-*")}
    assert aside == expected
    for method in aside:  # the old run is still there, weights and all
        (old_run,) = (tmp_path / "runs").glob(f"{method}.step-3-*")
        assert (old_run / "last.safetensors").read_bytes() == (
            trained / "runs" / method / "last.safetensors"
        ).read_bytes()
    if name == "loss and network":  # what replaces a run begins where a first run would
        train(tmp_path, tmp_path / "fresh", {"swinir": SMALL["swinir"]})
        again, fresh = (tmp_path / folder / "swinir/state.pt" for folder in ("runs", "fresh"))
        again, fresh = (torch.load(file, weights_only=True)["model"] for file in (again, fresh))
        assert all(torch.equal(again[key], fresh[key]) for key in fresh)
    for method in SMALL.keys() - aside:
        kept, before = (place / "runs" / method for place in (tmp_path, trained))
        assert (kept / "state.pt").read_bytes() == (before / "state.pt").read_bytes()
    if "equal code" in name:
        assert history(tmp_path / "runs/swinir")[-1].startswith("carried over changed code")
        assert history(tmp_path / "runs/nafnet") == history(trained / "runs/nafnet")


def test_what_differs_is_named(photos, tmp_path):
    recipes.train("swinir", photos, run=tmp_path, steps=2, **SWINIR, **TINY)
    wider = {"arguments": {**SWINIR["arguments"], "embed": 16}}
    with pytest.raises(rvlib.UserError, match=r"different: model.arguments.embed \(12 -> 16\)"):
        recipes.train("swinir", photos, run=tmp_path, steps=2, **wider, **TINY)
    with pytest.raises(rvlib.UserError, match=r"objective.loss \(\"l1\" -> \"charbonnier\"\)"):
        recipes.train("swinir", photos, run=tmp_path, steps=2, loss="charbonnier", **SWINIR, **TINY)
    with pytest.raises(rvlib.UserError, match=r"settings.steps \(2 -> 1\)"):
        recipes.train("swinir", photos, run=tmp_path, steps=1, **SWINIR, **TINY)
    assert identity(tmp_path)["objective"] == {"name": "Pixelwise", "loss": "l1"}


def test_a_replaced_run_is_set_aside(photos, tmp_path):
    run = tmp_path / "run"
    for rate in (1e-3, 2e-3, 1e-3, 2e-3, 1e-3):
        recipes.train("fsrcnn", photos, run=run, steps=2, learning_rate=rate, replace_run=True, **TINY)
    others = sorted(tmp_path.glob("run.step-2-*"))
    assert len(others) == 4
    rates = [identity(other)["settings"]["learning_rate"] for other in others]
    assert sorted(rates) == [1e-3, 1e-3, 2e-3, 2e-3]


def test_weights_that_nothing_tells_of_are_set_aside(photos, tmp_path):
    run = tmp_path / "run"
    recipes.train("fsrcnn", photos, run=run, steps=2, **TINY)
    content = (run / "last.safetensors").read_bytes()
    (run / "run.json").unlink()
    recipes.train("fsrcnn", photos, run=run, steps=2, learning_rate=1e-3, **TINY)
    (aside,) = tmp_path.glob("run.step-2-*")
    assert (aside / "last.safetensors").read_bytes() == content
    assert identity(run)["settings"]["learning_rate"] == 1e-3


def test_a_run_with_damaged_weights_is_set_aside_too(photos, tmp_path):
    run = tmp_path / "run"
    recipes.train("fsrcnn", photos, run=run, steps=2, **TINY)
    content = (run / "last.safetensors").read_bytes()
    (run / "last.safetensors").write_bytes(content[: len(content) // 2])
    recipes.train("fsrcnn", photos, run=run, steps=2, learning_rate=1e-3, replace_run=True, **TINY)
    (aside,) = tmp_path.glob("run.step-0-*")
    assert (aside / "last.safetensors").read_bytes() == content[: len(content) // 2]
    assert identity(run)["settings"]["learning_rate"] == 1e-3


def test_the_best_weights_are_those_of_the_highest_score(photos, tmp_path):
    scores, patches = iter((1.0, 3.0, 2.0)), Patches(photos, Bicubic(4), patch_size=32, channels=1)
    settings = Settings(steps=3, batch_size=2, validate_every=1)
    network, validate = rvlib.create("fsrcnn"), lambda _: {"psnr": next(scores)}
    fit(network, Pixelwise(losses.mse), patches, settings, run=tmp_path, validate=validate)
    best, last = (checkpoint.read_metadata(tmp_path / f"{name}.safetensors") for name in ("best", "last"))
    assert (best["step"], best["scores"]) == (2, {"psnr": 3.0})
    assert (last["step"], last["scores"]) == (3, {"psnr": 2.0})


def test_a_longer_schedule_lengthens_the_run(photos, tmp_path):
    recipes.train("fsrcnn", photos, run=tmp_path, steps=4, **TINY)
    _, log = recipes.train("fsrcnn", photos, run=tmp_path, steps=8, **TINY)
    assert list(log["step"]) == [2, 4, 6, 8]
    events = json.loads((tmp_path / "run.json").read_text())["history"]
    assert [each["event"] for each in events] == ["begun", "lengthened from 4 to 8 steps", "resumed"]
    assert [each["step"] for each in events] == [0, 4, 4]


def test_a_run_is_lengthened_by_changed_code_only_where_it_computes_the_same(photos, tmp_path):
    patches = Patches(photos, Bicubic(4), patch_size=32, channels=1)

    def objective(model, batch):
        return {"loss": factor * Pixelwise(losses.mse)(model, batch)["loss"]}

    def train(steps):
        fit(rvlib.create("fsrcnn"), objective, patches, Settings(steps=steps, batch_size=2), run=tmp_path)

    factor = 1
    train(2)
    content = described(tmp_path)
    content["identity"]["code"]["losses.mse"] = "another"
    (tmp_path / "run.json").write_text(json.dumps(content))
    factor = 2
    with pytest.raises(rvlib.UserError, match=r"the changed code gives loss .* at step 3 instead of"):
        train(4)
    assert history(tmp_path) == ["begun"]
    factor = 1
    train(4)
    carried = "carried over changed code, whose numbers are the same"
    assert history(tmp_path) == ["begun", carried, "lengthened from 2 to 4 steps", "resumed"]


def test_a_run_that_is_ended_early_is_taken_as_it_is(photos, tmp_path, monkeypatch):
    """With its state and without; lengthened, it goes on."""
    with pytest.raises(rvlib.UserError, match="no stopped run"):
        runs.end(tmp_path, "enough")
    cut, sent = Patches.cut, []

    def stop_once(self, number, *arguments, **named):
        if number == 2 and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGTERM))
        return cut(self, number, *arguments, **named)

    monkeypatch.setattr(Patches, "cut", stop_once)
    with pytest.raises(KeyboardInterrupt):
        recipes.train("fsrcnn", photos, run=tmp_path, steps=8, **TINY)
    with runs.alone(tmp_path), pytest.raises(rvlib.UserError, match="is being trained in"):
        runs.end(tmp_path, "enough")
    runs.end(tmp_path, "enough")
    monkeypatch.setattr(Patches, "cut", lambda *_, **__: pytest.fail("it trained"))
    model, _ = recipes.train("fsrcnn", photos, run=tmp_path, steps=8, **TINY)
    kept = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").unlink()
    again, log = recipes.train("fsrcnn", photos, run=tmp_path, steps=8, **TINY)
    assert log["step"].max() == checkpoint.read_metadata(tmp_path / "last.safetensors")["step"] == 3
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert history(tmp_path) == ["begun", "ended: enough"]
    (tmp_path / "state.pt").write_bytes(kept)
    monkeypatch.setattr(Patches, "cut", cut)
    _, log = recipes.train("fsrcnn", photos, run=tmp_path, steps=10, **TINY)
    assert log["step"].max() == 10


DAMAGES = {
    "a letter of identity": lambda known: {"identitx": known["identity"], "history": known["history"]},
    "a letter of history": lambda known: {"identity": known["identity"], "historx": known["history"]},
    "a letter of event": lambda known: known | {"history": [{"evenu": "begun", "step": 0}]},
    "a list of all": lambda known: [known],
    "a list for identity": lambda known: known | {"identity": list(known["identity"])},
    "a list for settings": lambda known: known | {"identity": known["identity"] | {"settings": [8]}},
    "an object for history": lambda known: known | {"history": known["history"][0]},
    "words for an event": lambda known: known | {"history": ["begun"]},
}


def test_a_damaged_description_is_named_by_all_who_read_it(photos, tmp_path):
    facts = {"run": tmp_path, "steps": 2, **TINY}
    recipes.train("fsrcnn", photos, **facts)
    known = described(tmp_path)
    for damage, change in DAMAGES.items():
        text = json.dumps(change(known))
        (tmp_path / "run.json").write_text(text)
        for read in (
            lambda: recipes.train("fsrcnn", photos, **facts),
            lambda: runs.end(tmp_path, "enough"),
            lambda: runs.is_complete(tmp_path, known["identity"]),
            lambda: runs.earlier_start("fsrcnn-x4", known["identity"], tmp_path),
            lambda: runs.record(tmp_path),
        ):
            with pytest.raises(rvlib.UserError, match=r"run\.json is damaged: delete .* to start the run anew"):
                pytest.fail(f"{damage}: {read()}")
        assert (tmp_path / "run.json").read_text() == text


def test_a_description_that_says_something_else_is_damaged(photos, tmp_path):
    """A commit with another letter, or a step with another digit, is one that could be."""
    facts = {"run": tmp_path, "steps": 2, **TINY}
    recipes.train("fsrcnn", photos, **facts)
    written = json.loads((tmp_path / "run.json").read_text())
    event = written["history"][0]
    for change in ({"commit": "0" * 40}, {"step": 1}, {"event": "begun again"}):
        (tmp_path / "run.json").write_text(json.dumps(written | {"history": [event | change]}))
        with pytest.raises(rvlib.UserError, match=r"run\.json is damaged"):
            recipes.train("fsrcnn", photos, **facts)
    (tmp_path / "run.json").write_text(json.dumps(described(tmp_path) | {"digesu": written["digest"]}))
    with pytest.raises(rvlib.UserError, match=r"run\.json is damaged"):
        runs.record(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(written))
    assert runs.record(tmp_path).keys() == {"identity", "history", "log"}


def test_descriptions_of_before_are_read(photos, tmp_path):
    """An entry of a history without a commit, and an identity alone, from before runs knew their code."""
    facts = {"run": tmp_path, "steps": 3, **TINY}
    recipes.train("fsrcnn", photos, **facts | {"steps": 2})
    known = described(tmp_path)
    del known["history"][0]["commit"]
    (tmp_path / "run.json").write_text(json.dumps(known))
    recipes.train("fsrcnn", photos, **facts)
    assert history(tmp_path) == ["begun", "lengthened from 2 to 3 steps", "resumed"]
    old = {key: value for key, value in identity(tmp_path).items() if key != "code"}
    (tmp_path / "run.json").write_text(json.dumps(old))
    assert runs.record(tmp_path)["identity"] == old
    recipes.train("fsrcnn", photos, **facts)
    assert history(tmp_path) == ["carried over changed code, whose numbers are the same"]


def test_steps_without_numbers_prove_nothing(photos, tmp_path):
    """A loss that is not finite past the end of a run gives none."""

    def objective(model, batch):
        loss = Pixelwise(losses.mse)(model, batch)["loss"]
        return {"loss": loss * (float("nan") if broken and batch.step >= 2 else 1)}

    patches = Patches(photos, Bicubic(4), patch_size=32, channels=1)
    parts = objective, patches, Settings(steps=2, batch_size=2)
    broken = True
    fit(rvlib.create("fsrcnn"), *parts, run=tmp_path)
    assert not (tmp_path / "replay.json").exists()
    broken = False
    content = described(tmp_path)
    content["identity"]["code"]["losses.mse"] = "another"
    (tmp_path / "run.json").write_text(json.dumps(content))
    for numbers in ([{}, {}, {}], [{"loss": 0.1}, {}, {}], [], {}, [[]], None):
        (tmp_path / "replay.json").write_text(json.dumps({"step": 2, "numbers": numbers}))
        with pytest.raises(rvlib.UserError, match="code of losses.mse.*no numbers were kept"):
            fit(rvlib.create("fsrcnn"), *parts, run=tmp_path)
    assert history(tmp_path) == ["begun"]


def test_a_failed_start_blocks_nothing(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(Patches, "cut", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recipes.train("fsrcnn", photos, run=tmp_path, steps=2, **TINY)
    monkeypatch.undo()
    recipes.train("fsrcnn", photos, run=tmp_path, steps=2, learning_rate=1e-4, **TINY)
    assert identity(tmp_path)["settings"]["learning_rate"] == 1e-4


def test_a_committed_record_counts_as_the_finished_run(photos, tmp_path, monkeypatch):
    first, log = recipes.train("fsrcnn", photos, run=tmp_path / "run", steps=4, **TINY)
    released = tmp_path / "weights"
    released.mkdir()
    (released / "mine.json").write_text(json.dumps(runs.record(tmp_path / "run")))
    shutil.copy(tmp_path / "run/last.safetensors", released / "mine.safetensors")
    monkeypatch.setattr(runs, "WEIGHTS", released)
    monkeypatch.setattr(Patches, "cut", lambda *_, **__: pytest.fail("it trained"))
    again, same = recipes.train("fsrcnn", photos, run=tmp_path / "elsewhere", steps=4, **TINY)
    pd.testing.assert_frame_equal(log, same)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert history(tmp_path / "elsewhere")[-1] == "taken from the record of mine.safetensors"
    recipes.train("fsrcnn", photos, run=tmp_path / "elsewhere", steps=4, **TINY)  # and again, without a state
    with pytest.raises(rvlib.UserError, match=r"settings.steps \(4 -> 6\).*state is gone"):
        recipes.train("fsrcnn", photos, run=tmp_path / "elsewhere", steps=6, **TINY)


def test_released_weights_that_were_trained_on_are_finished(photos, tmp_path, monkeypatch):
    """A profile may train released weights on; when they are released again, its training is over."""
    monkeypatch.setattr(checkpoint, "WEIGHTS", tmp_path)
    monkeypatch.setattr(runs, "WEIGHTS", tmp_path)

    def release(run):
        (tmp_path / "mine.json").write_text(json.dumps(runs.record(run)))
        shutil.copy(run / "last.safetensors", tmp_path / "mine.safetensors")

    recipes.train("fsrcnn", photos, run=tmp_path / "first", steps=2, **TINY)
    release(tmp_path / "first")
    facts = {"start": "mine", "seed": 1, **TINY}
    second, log = recipes.train("fsrcnn", photos, run=tmp_path / "second", steps=4, **facts)
    release(tmp_path / "second")
    with monkeypatch.context() as patched:
        patched.setattr(Patches, "cut", lambda *_, **__: pytest.fail("it trained"))
        for run in (tmp_path / "second", tmp_path / "of a clone"):
            again, same = recipes.train("fsrcnn", photos, run=run, steps=4, **facts)
            pd.testing.assert_frame_equal(log, same)
            assert checksum(again) == checksum(second)
            assert identity(run) == identity(tmp_path / "second")
    finished = identity(tmp_path / "second")
    assert runs.is_complete(tmp_path / "first", finished), "`fit` sets the other run in that folder aside"
    recipes.train("fsrcnn", photos, run=tmp_path / "other settings", steps=5, **facts)
    assert history(tmp_path / "other settings") == ["begun"]
    assert identity(tmp_path / "other settings")["start"] == checksum(second)
    assert identity(tmp_path / "second")["start"] == checksum(rvlib.load(tmp_path / "first"))
    last = runs.record(tmp_path / "other settings")  # "second" becomes a part on the way to the released weights
    (tmp_path / "mine.json").write_text(json.dumps({**last, "before": [runs.record(tmp_path / "second")]}))
    shutil.copy(tmp_path / "other settings/last.safetensors", tmp_path / "mine.safetensors")
    with monkeypatch.context() as patched:
        patched.setattr(Patches, "cut", lambda *_, **__: pytest.fail("it trained"))
        again, _ = recipes.train("fsrcnn", photos, run=tmp_path / "second", steps=4, **facts)
    assert checksum(again) == checksum(second)
    recipes.train("fsrcnn", photos, run=tmp_path / "no run on the way", steps=4, **facts)
    assert history(tmp_path / "no run on the way") == ["begun"]


def test_the_weights_of_another_run_are_not_taken(photos, tmp_path):
    for seed in (0, 1):
        recipes.train("fsrcnn", photos, run=tmp_path / str(seed), steps=1, seed=seed, **TINY)
    assert runs.is_complete(tmp_path / "1", identity(tmp_path / "1"))
    shutil.copy(tmp_path / "0/last.safetensors", tmp_path / "1")
    (tmp_path / "1/state.pt").unlink()
    assert not runs.is_complete(tmp_path / "1", identity(tmp_path / "1"))
    with pytest.raises(rvlib.UserError, match="its state is gone"):
        recipes.train("fsrcnn", photos, run=tmp_path / "1", steps=1, seed=1, **TINY)


def test_a_changed_architecture_is_not_called_damage(photos, tmp_path):
    facts = {"run": tmp_path, "steps": 2, **NAFNET, **TINY}
    recipes.train("nafnet", photos, **facts)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    state["model"].popitem()  # as if the network had got a layer since
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(rvlib.UserError, match="damaged"):  # by the same code
        recipes.train("nafnet", photos, **facts)
    content = described(tmp_path)
    content["identity"]["code"]["nafnet.NAFBlock"] = "another"
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(rvlib.UserError, match=r"code of nafnet.NAFBlock.*the network's code changed"):
        recipes.train("nafnet", photos, **facts)


def test_numbers_are_kept_for_the_proof(photos, tmp_path):
    recipes.train("nafnet", photos, run=tmp_path, steps=4, **NAFNET, **TINY)
    kept = json.loads((tmp_path / "replay.json").read_text())
    assert kept["step"] == 4
    assert len(kept["numbers"]) == runs.REPLAYED
    assert all(np.isfinite(list(each.values())).all() for each in kept["numbers"])


def test_a_commit_says_whether_what_numbers_come_from_differs(tmp_path, monkeypatch):
    files = ["rvlib/a.py", "notebooks/text/b.py", "params.yaml", "profiles/c/params.yaml", "weights/d.safetensors"]
    for file in [*files, "notebooks/b.ipynb"]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("as committed")
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "c"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(rvlib, "ROOT", tmp_path)
    (tmp_path / "notebooks/b.ipynb").write_text("saved with outputs")
    assert len(runs.commit()) == 40
    for file in files:
        (tmp_path / file).write_text("edited")
        assert runs.commit().endswith(" with changes"), file
        (tmp_path / file).write_text("as committed")
    assert len(runs.commit()) == 40


def test_outside_of_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    assert len(runs.commit().split()[0]) == 40
    monkeypatch.setattr(rvlib, "ROOT", tmp_path)
    assert runs.commit() == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))  # and where there is no git
    assert runs.commit() == "unknown"


def test_differences_are_in_words():
    before = {"settings": {"a": 1, "b": (2, 3)}, "code": {"losses.l1": "x"}, "start": "0"}
    now = {"settings": {"a": 2, "b": (2, 3)}, "code": {"losses.l1": "y", "degrade.Noise": "z"}, "start": "0"}
    expected = ["code of degrade.Noise", "code of losses.l1", "settings.a (1 -> 2)"]
    assert runs.differences(before, now) == expected
    assert runs.differences(before, before) == []
