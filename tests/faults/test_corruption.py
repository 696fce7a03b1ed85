"""Flipped bits and cut files: detected with the file named, without any effect, or repaired; never used in silence."""

import copy
import hashlib
import re
import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import damaged
from test_fetch import CONTENT, GOOD, PAIRS, files, get, lists, photo, row, zipped

import rvlib
from rvlib import cli, download, photos, recipes
from rvlib.runs import Run
from rvlib.study import fetch as fetching
from rvlib.study import notebooks

SMALL = {"arguments": {"d": 4, "s": 3, "m": 1}, "patch_size": 16, "batch_size": 2}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def restored_or_refused(path, content, read, is_right, tally, times, seed=0):
    """Damage a file again and again; whatever is read from it must be right, or an error that names the file."""
    assert is_right(read()), "the undamaged file"
    for damage, version in damaged(content, times(60, 3000), seed):
        path.write_bytes(version)
        try:
            result = read()
        except rvlib.UserError as error:
            assert path.name in str(error)
            tally(f"{path.name}: {damage}", "refused")
        else:
            assert is_right(result), f"{path.name} was used though it is damaged ({damage})"
            tally(f"{path.name}: {damage}", "no effect")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return rvlib.create("fsrcnn", d=8, s=4, m=1, scale=2)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights(model, tmp_path, suffix, tally, times):
    path = tmp_path / f"weights{suffix}"
    rvlib.save(model, path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)

    def is_right(loaded):
        return same(loaded.state_dict(), model.state_dict()) and loaded.scale == model.scale

    read = lambda: rvlib.load(path, scale=None if suffix == ".safetensors" else 2)  # noqa: E731
    restored_or_refused(path, path.read_bytes(), read, is_right, tally, times)


@pytest.mark.parametrize("disk", [1, 2**32 - 1])
def test_an_archive_that_python_itself_refuses(model, tmp_path, disk):
    """In a file of torch's, the record of 64 bits says that the archive goes on on another disk."""
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x06\x07") + 4
    content[place : place + 4] = disk.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(rvlib.UserError, match=r"weights\.pth is a damaged archive"):
        rvlib.load(path, scale=2)


def test_an_archive_whose_end_cannot_be_read_is_checked_all_the_same(model, tmp_path):
    """Torch looks at the first bytes; Python looks for the end, which four bytes behind it hide."""
    path = tmp_path / "weights.pth"
    torch.save(model.state_dict(), path)
    content = bytearray(path.read_bytes())
    weight = model.last_part.weight.detach().numpy().tobytes()
    content[content.index(weight) + len(weight) // 2] ^= 1
    path.write_bytes(content + b"PK\x05\x06")
    with pytest.raises(rvlib.UserError, match=r"weights\.pth"):
        rvlib.load(path, scale=2)


def test_metadata_of_weights(model, tmp_path, tally, times):
    """The header alone, where a flipped bit could change the scale or hide the recipe."""
    path = tmp_path / "header.safetensors"
    rvlib.save(model, path)
    content = path.read_bytes()
    end = content.index(b"}}", 8)

    def is_right(loaded):
        return same(loaded.state_dict(), model.state_dict()) and loaded.scale == 2

    assert is_right(rvlib.load(path))
    for position in range(8, min(end, 400), 1 if times(1, 2) == 2 else 7):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                assert is_right(rvlib.load(path)), f"bit {bit} of byte {position}"
                tally("metadata of weights: bit flipped", "no effect")
            except rvlib.UserError as error:
                assert path.name in str(error)
                tally("metadata of weights: bit flipped", "refused")


def test_equal_weights_are_equal_files(model, tmp_path):
    places = [tmp_path / f"{name}.safetensors" for name in "abcdef"]
    for place in places:
        rvlib.save(model, place, note=[1, 2])
    assert len({place.read_bytes() for place in places}) == 1


@pytest.fixture
def run(tmp_path):
    """A complete run; its photos too."""
    pictures = {"coffee": photos.sample("coffee")[:48, :48]}
    recipes.train("fsrcnn", pictures, run=tmp_path / "run", steps=2, validate_every=1, **SMALL)
    return tmp_path / "run", lambda: recipes.train(
        "fsrcnn", pictures, run=tmp_path / "run", steps=2, validate_every=1, **SMALL
    )


def test_training_state(run, tally, times):
    folder, _ = run
    path = folder / "state.pt"
    right = torch.load(path, weights_only=True)

    def read():
        model = rvlib.create("fsrcnn", **SMALL["arguments"])
        slow, usual = list(model.last_part.parameters()), [*model.first_part.parameters(), *model.mid_part.parameters()]
        optimizer = torch.optim.Adam([{"params": usual}, {"params": slow}])
        state = Run(folder, model, copy.deepcopy(model), optimizer)
        state.reload()
        return state

    def is_right(state):
        moments = state.optimizer.state_dict()["state"]
        return (
            same(state.model.state_dict(), right["model"])
            and same(state.average.state_dict(), right["average"])
            and all(same(moments[key], right["optimizer"]["state"][key]) for key in moments)
            and (state.step, state.rows) == (right["step"], right["rows"])
        )

    restored_or_refused(path, path.read_bytes(), read, is_right, tally, times)


def test_a_foreign_training_state_is_refused(run):
    folder, again = run
    for content in ({}, {"model": {}}, [1], {"model": {"a": torch.ones(1)}, "average": {}, "optimizer": {}, "step": 1}):
        torch.save(content, folder / "state.pt")
        with pytest.raises(rvlib.UserError, match=r"state\.pt is damaged: delete"):
            again()


@pytest.mark.parametrize("name", ["last.safetensors", "log.csv"])
def test_files_of_a_complete_run_are_mended_from_its_state(run, name, tally, times):
    folder, again = run
    right = (folder / name).read_bytes()
    for damage, version in [*damaged(right, times(3, 100)), ("removed", None)]:
        (folder / name).unlink() if version is None else (folder / name).write_bytes(version)
        again()
        assert (folder / name).read_bytes() == right
        tally(f"{name} of a complete run: {damage}", "repaired")


def test_description_of_a_run(run, tally, times):
    folder, again = run
    weights = (folder / "last.safetensors").read_bytes()
    file = folder / "run.json"
    again()  # the undamaged file
    right = file.read_bytes()
    for damage, version in damaged(right, times(12, 500)):
        file.write_bytes(version)
        try:
            again()
            assert (folder / "last.safetensors").read_bytes() == weights
            tally(f"run.json: {damage}", "no effect")
        except rvlib.UserError as error:
            assert str(folder) in str(error)
            tally(f"run.json: {damage}", "refused")


# Data ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mirror(monkeypatch, tmp_path, closed_port):
    """A mirror in a folder with one photo; no network."""
    folder = tmp_path / "mirror"
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "a/b/c/photo.png").write_bytes(CONTENT)
    monkeypatch.setenv("RV_MIRROR", str(folder))
    monkeypatch.setattr(fetching, "MANIFEST", tmp_path / "manifest.csv")
    monkeypatch.setattr(fetching, "GITHUB", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setattr(download, "BACK_OFF", 0)
    lists(tmp_path, row())
    return folder


def test_a_damaged_photo_is_fetched_again(mirror, tmp_path, tally, times):
    path = get(tmp_path / "data")
    for damage, version in damaged(CONTENT, times(10, 1000)):
        path.write_bytes(version)
        assert get(tmp_path / "data").read_bytes() == CONTENT
        tally(f"fetched photo: {damage}", "repaired")


def test_a_damaged_source_is_refused(mirror, tmp_path, tally, times):
    for damage, version in damaged(CONTENT, times(5, 500)):
        (mirror / "a/b/c/photo.png").write_bytes(version)
        with pytest.raises(rvlib.UserError, match=r"photo\.png of toy .*wrong bytes"):
            get(tmp_path / "data")
        assert files(tmp_path / "data") == []
        tally(f"photo at its source: {damage}", "refused")


@pytest.mark.parametrize("known", [True, False])
def test_a_damaged_archive_is_refused_or_gives_the_right_photos(mirror, tmp_path, known, tally, times):
    content, address = zipped(PAIRS), fetching.GITHUB.removeprefix("http://")
    archive = mirror / address / "G.zip"
    archive.parent.mkdir()
    sha256 = hashlib.sha256(content).hexdigest() if known else None
    common = {"source": "url", "sha256": sha256, "size": len(content) if known else None}
    lists(tmp_path, *[
        row(f"http://{address}/G.zip", split="test", role=role, members=rf"G/test/(S\d)/{side}/(\d+\.png)", **common)
        for role, side in (("reference", "sharp"), ("degraded", "blur"))
    ])  # fmt: skip
    label, target = f"archive, hash {'known' if known else 'unknown'}", tmp_path / "data"
    archive.write_bytes(content)
    get(target)
    assert len(files(target)) == 9
    for damage, version in damaged(content, times(20, 1000)):
        archive.write_bytes(version)
        shutil.rmtree(target, ignore_errors=True)
        try:
            get(target)
            right = {"S1_000001.png", "S1_000002.png", "S2_000001.png", "S2_000002.png"}
            for role, side in (("reference", "sharp"), ("degraded", "blur")):
                found = {path.name: path.read_bytes() for path in (target / "toy/test" / role).iterdir()}
                assert found.keys() <= right
                for name, photo in found.items():
                    assert photo == PAIRS[f"G/test/{name[:2]}/{side}/{name[3:]}"]
            whole = len(files(target)) == 9
            tally(f"{label}: {damage}", "right photos" if whole else "right photos, one left out")
        except rvlib.UserError as error:
            assert "G.zip" in str(error)
            tally(f"{label}: {damage}", "refused")


DAMAGES = {
    "a compression that is another": lambda content: content.replace(
        b"PK\x01\x02\x14\x03\x14\0\0\0\x08", b"PK\x01\x02\x14\x03\x14\0\0\0\x0c"
    ),
    "one of a photo's two names": lambda content: (
        content[: content.rindex(b"1.png")] + b"1.pnf" + content[content.rindex(b"1.png") + 5 :]
    ),
    "a name that is no UTF-8": lambda content: content.replace("é".encode(), b"\xe9\xff"),
    "a name that is empty": lambda content: (
        content[: content.rindex(b"G/")] + b"\0" + content[content.rindex(b"G/") + 1 :]
    ),
    "a place outside": lambda content: content[:-6] + b"\xff\xff\xff\xff" + content[-2:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_archive_of_unknown_hash_that_was_damaged_is_fetched_again(mirror, tmp_path, damage):
    content, address = zipped({f"é/{name}": photo for name, photo in PAIRS.items()} | PAIRS), "127.0.0.1"
    archive = mirror / address / "G.zip"
    archive.parent.mkdir()
    members = {"members": r"G/test/(S\d)/sharp/(\d+\.png)", "sha256": None, "size": None}
    lists(tmp_path, row(f"http://{address}/G.zip", source="url", split="test", role="reference", **members))
    damaged_archive = DAMAGES[damage](content)
    assert damaged_archive != content
    archive.write_bytes(damaged_archive)
    with pytest.raises(rvlib.UserError, match=r"G\.zip of toy was not unpacked: it is no archive or damaged"):
        get(tmp_path / "data")
    archive.write_bytes(content)
    get(tmp_path / "data")
    assert len(files(tmp_path / "data")) == 5


def test_a_damaged_list_of_checksums_never_lets_wrong_bytes_in(mirror, tmp_path, tally, times):
    lists(tmp_path, row(sha256=None, size=None))
    file, place = tmp_path / "data/checksums.csv", get(tmp_path / "data")
    right = file.read_bytes()
    (mirror / "a/b/c/photo.png").write_bytes(photo(1))  # the source has another photo by now
    for number, (damage, version) in enumerate(damaged(right, times(30, 2000))):
        place.unlink(missing_ok=True)
        if number % 2:
            place.write_bytes(CONTENT)
        file.write_bytes(version)
        with pytest.raises(rvlib.UserError, match=r"checksums\.csv is damaged"):
            get(tmp_path / "data")
        assert place.exists() == bool(number % 2)
        tally(f"checksums.csv: {damage}", "refused")
    file.write_bytes(right)
    place.write_bytes(CONTENT)
    assert get(tmp_path / "data").read_bytes() == CONTENT
    file.write_bytes(right.partition(b"\n")[2])  # a list of before, without its digest
    assert get(tmp_path / "data").read_bytes() == CONTENT


def test_a_damaged_manifest_never_lets_wrong_bytes_in(mirror, tmp_path, tally, times):
    file = tmp_path / "manifest.csv"
    right, target = file.read_bytes(), tmp_path / "data"
    assert get(target).read_bytes() == CONTENT
    for number, (damage, version) in enumerate(damaged(right, times(60, 3000))):
        file.write_bytes(version)
        shutil.rmtree(target, ignore_errors=True)
        (mirror / "a/b/c/photo.png").write_bytes(photo(1) if number % 2 else CONTENT)
        try:
            get(target)
            found = [path for path in target.rglob("*") if path.is_file() and path.name != "checksums.csv"]
            assert [path.read_bytes() for path in found] == [CONTENT]
            moved = found[0].relative_to(target).as_posix() != "toy/test/reference/photo.png"
            tally(f"manifest.csv: {damage}", "right photo in another folder" if moved else "right photo")
        except rvlib.UserError as error:  # it names the manifest, or what this one asks for in vain
            named = r"manifest\.csv is damaged|\S of toy could not be fetched|unknown set 'toy'"
            assert re.search(named, str(error))
            tally(f"manifest.csv: {damage}", "refused")
    (mirror / "a/b/c/photo.png").write_bytes(photo(1))
    for end in range(1, len(f",{len(CONTENT)},{GOOD}\n")):  # the last row's size and hash, or a part of them
        file.write_bytes(right[:-end])
        with pytest.raises(rvlib.UserError, match=r"manifest\.csv is damaged"):
            get(target)


def test_a_damaged_photo_that_nobody_hashed_is_refused_or_still_a_photo(tmp_path, tally, times):
    """Own photos have no hash; PNG carries checksums, so that no pixel is wrong in silence."""
    path = tmp_path / "own.png"
    path.write_bytes(CONTENT)
    right = photos.read(path)

    restored_or_refused(
        path, CONTENT, lambda: photos.read(path), lambda image: np.array_equal(image, right), tally, times
    )


# Parameters -----------------------------------------------------------------------------------------------------------

TEXT = (notebooks.rvlib.ROOT / "params.yaml").read_text()


@pytest.mark.slow
def test_flipped_bits_of_the_parameters_are_refused_or_another_valid_study(tmp_path, tally, times):
    """A digit that became another one is a valid study: git, `dvc params diff` and the report's commit show it."""
    file = tmp_path / "params.yaml"
    right = yaml.safe_load(TEXT)

    def read():
        content = notebooks.read_parameters(file)
        for name in notebooks.names():
            notebooks.section(content, name.partition("_")[2], file)
        return content

    file.write_text(TEXT)
    assert read() == right, "the undamaged file"
    refused = 0
    for damage, version in damaged(TEXT.encode(), times(30, 3000)):
        file.write_bytes(version)
        try:
            content = read()
            tally(f"params.yaml: {damage}", "no effect" if content == right else "another study, shown by git and DVC")
        except rvlib.UserError as error:
            assert "params.yaml" in str(error)
            tally(f"params.yaml: {damage}", "refused")
            refused += 1
    assert refused, "whatever is damaged, it is taken"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("fsrcnn: {stepz: 3}", "fsrcnn has no entry 'stepz', choose among train_sets"),
        ("fsrcnn: {steps: -3}", "fsrcnn.steps must be a whole number of at least 1, not -3"),
        ("fsrcnn: {steps: 1.5}", "fsrcnn.steps must be a whole number"),
        ("fsrcnn: {steps: true}", "fsrcnn.steps must be a whole number"),
        ("fsrcnn: {learning_rate: .inf}", "learning_rate must be a number of at least 0, not inf"),
        ("fsrcnn: {learning_rate: 1e-3x}", "learning_rate must be a number"),
        ("fsrcnn: {train_sets: samples}", "train_sets must be a list of names"),
        ("fsrcnn: {experiment_seeds: [0, a]}", "experiment_seeds must be a number"),
        ("swinir: {training: {patch_size: 0}}", "swinir.training.patch_size must be a whole number"),
        ("cost: {sides: [16, no]}", "cost.sides must be a whole number"),
        ("cost: 3", "cannot be used as a profile.s parameters"),
        ("fetch: {set: [samples]}", "fetch has no entry 'set'"),
        ("fetch: {sets: [1]}", "fetch.sets must be a list of names"),
    ],
)
def test_impossible_parameters_are_named_with_their_file(tmp_path, section, message):
    file = tmp_path / "params.yaml"
    file.write_text(f"profile: laptop\n{section}\n")
    with pytest.raises(rvlib.UserError, match=message) as caught:
        notebooks.read_parameters(file)
    assert "params.yaml" in str(caught.value)


@pytest.mark.parametrize("profile", ["laptop", "release", "paper"])
def test_the_parameters_of_the_study_are_possible(profile):
    folder = rvlib.ROOT if profile == "laptop" else rvlib.ROOT / "profiles" / profile
    assert notebooks.read_parameters(folder / "params.yaml")["profile"] == profile


def test_a_missing_section_is_no_empty_one(tmp_path):
    (tmp_path / "params.yaml").write_text("profile: laptop\n")
    with pytest.raises(rvlib.UserError, match=r"params\.yaml has no section data"):
        notebooks.run("01_data", tmp_path / "params.yaml")


def test_a_profile_is_no_path(tmp_path):
    (tmp_path / "params.yaml").write_text("profile: ../../elsewhere\n")
    with pytest.raises(rvlib.UserError, match=r"params\.yaml .*no plain word"):
        notebooks.read_parameters(tmp_path / "params.yaml")


@pytest.mark.parametrize("command", ["fetch", "notebook 01_data", "release", "cells", "rehearse", "train"])
@pytest.mark.parametrize(
    "content", ["- 1", "profile: laptop", "{", "profile: laptop\nfetch: 3\ndata: 3", "methods: 3", None]
)
def test_damaged_parameters_meet_no_command_unnoticed(tmp_path, monkeypatch, command, content):
    if content is not None:
        (tmp_path / "params.yaml").write_text(content)
    words = {"rehearse": ["rehearse", "laptop"], "train": ["train", "fsrcnn", "--run", "r"]}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rvlib, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["rvlib", *words.get(command, [*command.split(), "--params", "params.yaml"])])
    with pytest.raises(SystemExit, match=r"error: .*params\.yaml"):
        cli.main()
