"""Released weights: small, described, loadable by name, and as good as the committed tables say."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
import yaml
from safetensors import safe_open

import rvlib
from rvlib import evaluate, measures, recipes, runs
from rvlib.checkpoint import WEIGHTS
from rvlib.degrade import Bicubic
from rvlib.files import sha256
from rvlib.photos import sample
from rvlib.study import cards, provenance, release, tables
from rvlib.study.fetch import fetch

NAMES = rvlib.released()
REPORT = Path(rvlib.ROOT) / "reports" / "release"


def test_all_methods_are_released():
    wanted = "fsrcnn-x4 srresnet-x4 srgan-x4 swinir-small-x4 nafnet-deblur diffir-x4 diffir-deblur".split()
    assert sorted(wanted) == NAMES
    assert sum(path.stat().st_size for path in WEIGHTS.glob("*.safetensors")) < 60 * 2**20


@pytest.mark.parametrize("name", NAMES)
def test_card_describes_the_file(name):
    parts = re.split(r"^## ", (WEIGHTS / "README.md").read_text(), flags=re.MULTILINE)
    (card,) = [each for each in parts if each.startswith(f"{name}\n")]
    assert sha256(WEIGHTS / f"{name}.safetensors") in card
    said = (
        "Model,Use it for,Not for,Would we use it?,Data,Photos and their licences,Training,Cost,Learning curve,SHA-256"
    )
    for part in (*said.split(","), "Failure case"):
        assert f"**{part}**" in card
    assert "core-hours" in card or "GPU-hours" in card
    before = [part for part in provenance.record(name).get("before", []) if "identity" in part]
    assert card.count("**Continues**") == bool(before)
    assert all(f"{part['log'][-1]['step']:,} steps on" in card for part in before)
    pictures = re.findall(r"\]\((\S+failure.png)\)", card)
    assert len(pictures) == (name in cards.PICTURES)
    assert all((WEIGHTS / picture).is_file() for picture in pictures), "the picture is in the repository"
    assert f"[all points](../reports/release/curves/{name}.csv)" in card
    for line in re.findall(r"^\| \w.* ± .*$", card, flags=re.MULTILINE):
        assert int(line.split("|")[-2]) > 1, "the number of photos"


@pytest.mark.parametrize(
    ("psnr", "lpips", "seconds", "says"),
    [
        (2.0, -0.2, 1.0, "Yes, for what it is for."),
        (0.5, -0.05, 0.01, "Yes, where time counts."),
        (0.5, -0.05, 9.0, "It restores, but other-x4 is better."),
        (2.0, 0.1, 1.0, "With a look at each photo"),
        (-0.5, -0.2, 1.0, "For looks, not where values count."),
        (-0.5, 0.1, 1.0, "No."),
    ],
)
def test_the_card_says_from_numbers_whether_to_use_the_weights(psnr, lpips, seconds, says, tmp_path):
    kinds = [
        ("bicubic", "bicubic input", "", 0.0, 0.0, 0.0),
        ("mine", "released weights", "mine-x4", psnr, lpips, seconds),
    ]
    kinds.append(("other", "released weights", "other-x4", 1.0, -0.1, 2.0))
    rows = [
        {"set": "Set5", "photo": photo, "method": method, "label": label, "weights": weights, "seconds": time}
        | {"psnr_y_crop4": 28.0 + number + gain, "lpips_alex_rgb_crop0": 0.4 + change}
        for number, photo in enumerate("abc")
        for method, label, weights, gain, change, time in kinds
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    text = cards._verdict(tmp_path, "mine-x4")
    assert text.startswith(says)
    assert f"PSNR {psnr:+.2f} dB on Set5" in text and f"LPIPS {'better' if lpips < 0 else 'worse'} on Set5" in text
    assert f"{3 * (psnr < 0)} of 3 photos came out worse" in text
    best = ["mine-x4" if mine else "other-x4" for mine in (psnr > 1, lpips < -0.1)]
    by_both = best[0] == best[1]
    assert f"{best[0]} is best by PSNR{' and LPIPS.' if by_both else f', {best[1]} by LPIPS.'}" in text


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (2.0, "Yes, for what it is for, by PSNR alone: LPIPS was not measured."),
        (0.5, "It restores, but other-x4 is better, by PSNR alone: LPIPS was not measured."),
        (-0.5, "No."),
    ],
)
def test_the_card_judges_nothing_by_an_lpips_that_was_not_measured(gain, says, tmp_path):
    kinds = [
        ("bicubic", "bicubic input", "", 0.0, 0.1),
        ("mine", "released weights", "mine-x4", gain, 2.0),
        ("other", "released weights", "other-x4", 1.0, 1.0),
    ]
    rows = [
        {"set": "Set5", "photo": photo, "method": method, "label": label, "weights": weights, "seconds": seconds}
        | {"psnr_y_crop4": 28.0 + number + change, "lpips_alex_rgb_crop0": None}
        for number, photo in enumerate("abc")
        for method, label, weights, change, seconds in kinds
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    text = cards._verdict(tmp_path, "mine-x4")
    assert text.startswith(says) and text.count("LPIPS") == says.count("LPIPS")
    assert text.endswith(f" {'mine' if gain > 1 else 'other'}-x4 is best by PSNR.")


@pytest.mark.parametrize(
    ("psnr", "lpips", "says"),
    [
        ({"A": [1, 1, 1], "B": [3, 0, 0]}, {"A": [-0.1] * 3, "B": [-0.1, 0, 0]}, "Yes, for what it is for."),
        ({"A": [1, 1, 1], "B": [3, 0, 0]}, {"A": [0.1, 0, -0.1], "B": [-0.1, 0, 0]}, "With a look at each photo"),
        ({"A": [1, 1, 1], "B": [-1, -1, -1]}, {"A": [0.1] * 3, "B": [0.1] * 3}, "No."),
        ({"A": [1, 0, -1], "B": [3, 0, 0]}, {"A": [0.1, 0, 0], "B": [-0.1, 0, 0]}, "These photos cannot tell."),
    ],
)
def test_what_a_set_cannot_tell_counts_neither_for_nor_against_the_weights(psnr, lpips, says, tmp_path):
    rows = [
        {"set": name, "photo": photo, "method": method, "label": label, "weights": weights, "seconds": 1.0}
        | {"psnr_y_crop4": 28.0 + used * psnr[name][photo], "lpips_alex_rgb_crop0": 0.4 + used * lpips[name][photo]}
        for name in psnr
        for photo in range(3)
        for method, label, weights, used in (
            ("bicubic", "bicubic input", "", 0),
            ("mine", "released weights", "mine", 1),
        )
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    text = cards._verdict(tmp_path, "mine")
    assert text.startswith(says) and ("on B (cannot be told from zero)" in text) == (psnr["B"] == [3, 0, 0])


def test_a_picture_is_linked_where_it_is_one_of_these_weights(tmp_path):
    assert cards._picture("fsrcnn-x4", tmp_path, tmp_path, "fsrcnn") == "", "there is none"
    for place in ("methods/fsrcnn", "compare_super_resolution"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "failure.png").touch()
    linked = {name: cards._picture(name, tmp_path, tmp_path, "fsrcnn") for name in [*NAMES, "own-x4"]}
    of_each = [name for name, link in linked.items() if "](compare_super_resolution/failure.png)" in link]
    assert of_each == ["diffir-x4", "srresnet-x4", "swinir-small-x4"], "their notebooks show a chart, or another task"
    assert [name for name, link in linked.items() if not link] == ["own-x4"]


def test_the_card_tells_what_happened_to_a_training_and_what_was_seen(tmp_path, monkeypatch):
    """From the record alone: commit and date of one entry, events that not every training has, a look at photos."""
    monkeypatch.setattr(tables, "COMPARISONS", ())
    known = {key: value for key, value in provenance.record("fsrcnn-x4").items() if key != "seen"}
    begun = {"commit": 40 * "a", "date": "2026-11-26 03:20", "device": "cpu", "event": "begun", "step": 0}
    carried = {"commit": 40 * "b", "date": "2026-11-26 05:00", "event": "carried over changed code", "step": 7}
    longer = {"commit": 40 * "c", "date": "2026-11-26 06:00", "event": "lengthened from 7 to 9 steps", "step": 1007}
    resumed = begun | {"commit": 40 * "c", "date": "2026-11-26 06:01", "event": "resumed", "step": 7, "seconds": 1.0}
    (tmp_path / "fsrcnn-x4.safetensors").write_bytes((WEIGHTS / "fsrcnn-x4.safetensors").read_bytes())

    def card(**changes):
        (tmp_path / "fsrcnn-x4.json").write_text(json.dumps(known | changes))
        return cards.card("fsrcnn-x4", tmp_path, tmp_path, "fsrcnn")

    plain = card(history=[begun, carried])
    assert f"commit {40 * 'a'}, 2026-11-26 03:20; released with torch {known['versions']['torch']}\n" in plain
    assert "in part or whole by the clock" in plain, "seconds of before commit 4b29454"
    assert len(re.findall(r"\bseed \d", plain)) == 1
    assert not any(word in plain for word in ("Not in one go", "earlier state", "By eye"))
    text = card(history=[begun, carried, longer, resumed], seen="ten photos: sharper edges.")
    assert f"2026-11-26 03:20; taken up last at commit {40 * 'c'}, 2026-11-26 06:01; released" in text
    told = f"lengthened from 7 to 9 steps (step 1,007, commit {12 * 'c'}, 2026-11-26 06:00)"
    assert f"- **Not in one go**: {told}\n" in text and "- **By eye**: ten photos: sharper edges.\n" in text
    old = begun | {"event": f"{cards.BEFORE_RECORDS}; the curve is that of its first card", "date": "2026-11-25"}
    text = card(history=[old], validation=None)
    told = f"the curve is that of its first card (commit {12 * 'a'}, 2026-11-25)"
    assert f"- **By an earlier state of the profile**: {cards.BEFORE_RECORDS}; {told}\n" in text
    assert "Not in one go" not in text and "(one photo, not those of the other cards)" in text
    ended = {"commit": 40 * "d", "date": "2026-11-26 07:00", "event": "ended: time was over", "step": 3}
    assert "- **Not in one go**: in a part before: ended: time was over" in card(
        history=[begun], before=[{"history": [ended], "log": []}]
    )


@pytest.mark.parametrize("name", NAMES)
def test_record_is_that_of_the_file(name):
    """The file has the code that made it; where the record has later code, its history says how it got there."""
    record = provenance.record(name)
    with safe_open(WEIGHTS / f"{name}.safetensors", framework="np") as file:
        made = json.loads(file.metadata()["rvlib"])["training"]
    told, made_by = dict(record["identity"]), made.pop("code", None)
    told_by = told.pop("code", None)
    assert told == made
    carried = [each["event"] for each in record["history"] if each["event"].startswith(("carried over", "code of"))]
    assert carried or told_by == made_by
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


@pytest.mark.parametrize("name", NAMES)
def test_a_record_names_commits_that_a_clone_has(name):
    git = ["git", "-C", str(rvlib.ROOT)]
    asked = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True, check=False)
    if asked.stdout.strip() != "false":
        pytest.skip("a clone without history")
    record = provenance.record(name)
    for entry in [each for part in runs.parts(record) for each in part["history"]]:
        known = [*git, "merge-base", "--is-ancestor", entry["commit"].partition(" ")[0], "HEAD"]
        assert subprocess.run(known, check=False).returncode == 0, entry


def test_a_damaged_record_is_named_and_one_that_is_not_there_is_empty(tmp_path, monkeypatch):
    file, known = tmp_path / "mine.json", provenance.record("diffir-x4")
    assert runs.read_record(file) == {} and runs.parts({}) == [{}]
    assert [*known["before"], known] == runs.parts(known)
    events = [{"evenu": "begun"}]
    for change in ({"identity": [1]}, {"history": {}}, {"history": events}, {"log": "none"}, {"before": {"a": 1}}):
        file.write_text(json.dumps(known | change))
        with pytest.raises(rvlib.UserError, match=r"mine\.json is damaged: restore it with git"):
            runs.read_record(file)
    monkeypatch.setattr(runs, "WEIGHTS", tmp_path)
    (tmp_path / "mine.safetensors").touch()
    for text in ("[1]", "{", json.dumps({key: known[key] for key in ("history", "log")})):
        file.write_text(text)
        with pytest.raises(rvlib.UserError, match=r"mine\.json is damaged"):  # not: there is none, train anew
            runs.find_record(known["identity"])


@pytest.fixture(scope="session")
def benchmarks(tmp_path_factory):
    """Set5 and Set14 from the mirror."""
    if not os.environ.get("RV_MIRROR"):
        pytest.skip("the benchmark photos are not at RV_MIRROR")
    folder = tmp_path_factory.mktemp("benchmarks")
    fetch(["Set5", "Set14"], folder, progress=False)
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


def test_the_committed_rows_of_deblurring_have_the_blur_that_is_drawn_now(benchmarks):
    """Rows of networks that were measured on other draws cannot be compared."""
    committed = pd.read_csv(REPORT / "compare_deblurring" / "rows.csv").query("set == 'Set14' and method == 'blurry'")
    chosen = measures.for_task("deblurring")[:1]
    measured = evaluate.sets(evaluate.baseline("deblurring"), benchmarks, ["Set14"], recipes.SHAKE, chosen)
    both = committed.set_index("photo")["psnr_rgb_crop0"] - measured.set_index("photo")["psnr_rgb_crop0"]
    assert len(both) == 14 and both.abs().max() < 0.01


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
    monkeypatch.setattr(release.curves, "validated", lambda *_: {"set": "samples", "photos": 1, "input": 20.0})
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
    other = tmp_path / "reports/toy/weights/other.safetensors"
    other.write_bytes(b"somebody's")
    with pytest.raises(rvlib.UserError, match=r"does not release \(other\): move them"):
        release.release(parameters)
    assert other.read_bytes() == b"somebody's"


@pytest.mark.parametrize("name", NAMES)
def test_the_record_knows_the_present_code_so_that_a_clone_trains_nothing_again(name, vgg16):
    known = provenance.record(name)["identity"]
    now = small.identity(known["method"], known["model"]["arguments"], loss=known["objective"]["loss"])
    assert now["code"] == known["code"]
    assert now["data"]["degraded"] == known["data"]["degraded"]


def test_the_cards_of_a_profile_say_how_to_load_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(rvlib, "ROOT", tmp_path)
    folder = tmp_path / "reports/paper/weights"
    folder.mkdir(parents=True)
    cards.write_cards(folder, tmp_path / "reports/paper", {})
    text = (folder / "README.md").read_text()
    assert '`rvlib.load("reports/paper/weights/NAME.safetensors")` loads them' in text
    assert "a name alone loads the released weights" in text
