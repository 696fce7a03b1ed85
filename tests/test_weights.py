"""Released weights: small, described, loadable by name, and as good as the committed tables say."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors import safe_open

import rvlib
from rvlib import evaluate, measures, recipes
from rvlib.checkpoint import WEIGHTS
from rvlib.degrade import Bicubic
from rvlib.files import sha256
from rvlib.photos import sample
from rvlib.study import provenance, release
from rvlib.study.fetch import fetch

NAMES = rvlib.released()
REPORT = Path(rvlib.ROOT) / "reports" / "release"


def test_all_methods_are_released():
    wanted = "fsrcnn-x4 srresnet-x4 srgan-x4 swinir-small-x4 nafnet-deblur diffir-x4 diffir-deblur".split()
    assert sorted(wanted) == NAMES
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*.safetensors")) < 60 * 2**20


@pytest.mark.parametrize("name", NAMES)
def test_card_describes_the_file(name):
    cards = re.split(r"^## ", (WEIGHTS / "README.md").read_text(), flags=re.MULTILINE)
    (card,) = [each for each in cards if each.startswith(f"{name}\n")]
    assert sha256(WEIGHTS / f"{name}.safetensors") in card
    said = "Model,Use it for,Not for,Data,Photos and their licences,Training,Cost,Learning curve,sha256,Failure case"
    for part in said.split(","):
        assert f"**{part}**" in card
    assert "core-hours" in card or "GPU-hours" in card
    pictures = re.findall(r"\]\((\S+failure.png)\)", card)
    assert pictures and all((WEIGHTS / picture).is_file() for picture in pictures), "the picture is in the repository"
    for line in re.findall(r"^\| \w.* ± .*$", card, flags=re.MULTILINE):
        assert int(line.split("|")[-2]) > 1, "the number of photos"


@pytest.mark.parametrize("name", NAMES)
def test_record_is_that_of_the_file(name):
    record = provenance.record(name)
    with safe_open(WEIGHTS / f"{name}.safetensors", framework="np") as file:
        assert record["identity"] == json.loads(file.metadata()["rvlib"])["training"]
    log = pd.DataFrame(record["log"])[["step", "seconds"]].dropna()
    assert log["step"].is_monotonic_increasing and log["seconds"].is_monotonic_increasing
    assert record["history"] and record["sets"]


@pytest.mark.parametrize("name", NAMES)
def test_file_is_plain_safetensors_that_rebuilds_its_model(name):
    with safe_open(WEIGHTS / f"{name}.safetensors", framework="np") as file:
        assert all(np.isfinite(file.get_tensor(key)).all() for key in file.keys())
        assert "rvlib" in file.metadata()
    model = rvlib.load(name)
    assert (model.task == "deblurring") == name.endswith("deblur")
    photo = sample("coffee")[100:140, 200:250]
    assert rvlib.restore(model, photo).shape == (40 * model.scale, 50 * model.scale, 3)


@pytest.fixture(scope="session")
def benchmarks(tmp_path_factory):
    """Set5 and GoPro's sample pairs from the mirror."""
    if not os.environ.get("RV_MIRROR"):
        pytest.skip("the benchmark photos are not at RV_MIRROR")
    folder = tmp_path_factory.mktemp("benchmarks")
    fetch(["Set5"], folder, progress=False)
    return folder


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("x4")])
def test_set5_is_as_committed(name, benchmarks):
    committed = pd.read_csv(REPORT / "compare_super_resolution" / "rows.csv")
    committed = committed[(committed["set"] == "Set5") & (committed["weights"] == name)].set_index("photo")
    restorers = {(name, "released weights"): evaluate.with_model(rvlib.load(name))}
    chosen = measures.for_task("super-resolution", 4)
    measured = evaluate.sets(restorers, benchmarks, ["Set5"], Bicubic(4), chosen).set_index("photo")
    assert len(committed) == len(measured) == 5
    for column, tolerance in (("psnr_y_crop4", 0.01), ("ssim_y_crop4", 0.0005)):
        assert (committed[column] - measured[column]).abs().max() < tolerance


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("deblur")])
def test_undoes_shake_that_it_has_not_seen(name):
    model, gains = rvlib.load(name), []
    for photo in ("astronaut", "coffee", "chelsea"):
        sharp = sample(photo)[100:260, 100:260]
        blurred = recipes.SHAKE(sharp, np.random.default_rng(5))
        error = [((image.astype(float) - sharp) ** 2).mean() for image in (blurred, rvlib.restore(model, blurred))]
        gains.append(10 * np.log10(error[0] / error[1]))
    assert np.mean(gains) > 0


def test_the_limit_holds_for_the_folder_that_git_keeps_alone(tmp_path, monkeypatch):
    """The official sizes of the paper profile take 280 MB, which stay on their machine."""
    monkeypatch.setattr(rvlib, "ROOT", tmp_path)
    monkeypatch.setattr(release, "LARGEST_RELEASE", 1000)
    for words in ("write_cards", "write_means"):  # of comparisons, which this profile has none of
        monkeypatch.setattr(release, words, lambda *_: None)
    photos = {"coffee": sample("coffee")[:64, :64]}
    small = {"steps": 1, "patch_size": 32, "batch_size": 1, "arguments": {"d": 8, "s": 4, "m": 1}}
    recipes.train("fsrcnn", photos, run=tmp_path / "runs/toy/fsrcnn/fsrcnn", **small)
    content = {"profile": "toy", "methods": {"fsrcnn": {"releases": {"toy-x4": "fsrcnn"}, "train_sets": ["samples"]}}}
    parameters = tmp_path / "params.yaml"
    parameters.write_text(yaml.safe_dump(content | {"weights": "weights"}))
    with pytest.raises(rvlib.UserError, match="MiB of weights, more than"):
        release.release(parameters)
    parameters.write_text(yaml.safe_dump(content | {"weights": "reports/toy/weights"}))
    release.release(parameters)
    assert (tmp_path / "reports/toy/weights/toy-x4.safetensors").is_file()
