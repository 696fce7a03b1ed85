"""A full disk: the old file stays, nothing half-written is left, and the error is one line that names the file."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import small_disk
from pooch import file_hash

import rvlib
from rvlib import photos, recipes, runs
from rvlib.files import write_atomically
from rvlib.study import fetch as fetching
from rvlib.study import notebooks, report, tables

NOISE = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
TABLE = pd.DataFrame({"set": ["Set5"] * 20_000, "psnr": range(20_000)})


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "128k") as folder:
        yield folder


WRITERS = {
    "weights": lambda folder: rvlib.save(rvlib.create("fsrcnn", d=120, s=60), folder / "file.safetensors"),
    "training state": lambda folder: write_atomically(
        folder / "file.pt", lambda path: runs._write_state({"model": torch.rand(100_000)}, path)
    ),
    "table": lambda folder: tables.write(TABLE, folder / "file"),
    "numbers": lambda folder: tables.write_json(
        {str(number): number for number in range(20_000)}, folder / "file.json"
    ),
    "photo": lambda folder: photos.write(folder / "file.png", NOISE),
    "report": lambda folder: report.render(
        [{"title": "A", "text": "", "parts": ["x" * 300_000]}], folder / "file.html", profile="p", commit="c"
    ),
    "backbone": lambda folder: write_atomically(
        folder / "file.bin", lambda path: Path(path).write_bytes(bytes(300_000))
    ),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_what_does_not_fit_is_one_error_and_the_old_file_stays(disk, kind, tally):
    for suffix in ("safetensors", "pt", "csv", "json", "png", "html", "bin"):
        (disk / f"file.{suffix}").write_text("old")
    before = sorted(os.listdir(disk))
    with pytest.raises(rvlib.UserError, match=r"disk/file\.\w+ could not be written \(.*free some space"):
        WRITERS[kind](disk)
    assert sorted(os.listdir(disk)) == before
    assert all((disk / name).read_text() == "old" for name in before)
    tally("disk full while writing", f"{kind}: refused, old file kept")


def test_training_on_a_full_disk_stops_with_one_error_and_goes_on_when_there_is_room(disk, tmp_path, tally):
    picture = {"coffee": photos.sample("coffee")[:64, :64]}
    whole = {"steps": 4, "validate_every": 2, "patch_size": 32, "batch_size": 2}
    whole |= {"arguments": {"d": 8, "s": 4, "m": 1}}
    filler = disk / "filler"

    def fill(_):
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    with pytest.raises(rvlib.UserError, match="could not be written .*free some space"):
        recipes.train("fsrcnn", picture, run=disk / "run", on_log=fill, **whole)
    filler.unlink()
    assert torch.load(disk / "run/state.pt", weights_only=True)["step"] == 2
    shutil.move(disk / "run", tmp_path / "run")
    recipes.train("fsrcnn", picture, run=tmp_path / "run", **whole)
    recipes.train("fsrcnn", picture, run=tmp_path / "undisturbed", **whole)
    first, second = ((tmp_path / name / "last.safetensors").read_bytes() for name in ("run", "undisturbed"))
    assert first == second
    tally("disk full while training", "refused, went on, same weights")


def test_fetching_onto_a_full_disk_keeps_what_arrived(tmp_path, monkeypatch, tally):
    with small_disk(tmp_path / "disk", "1m") as disk, monkeypatch.context() as patch:
        patch.setattr(fetching, "PARALLEL", 1)  # so that one photo is whole before the disk is full
        with pytest.raises(rvlib.UserError, match="free some space"):
            fetching.fetch(["samples"], disk / "data", progress=False)
        right = set(fetching.manifest()["sha256"])
        arrived = [path for path in disk.rglob("*") if path.is_file() and path.suffix != ".part"]
        assert arrived
        assert all(file_hash(str(path)) in right for path in arrived)
    fetching.fetch(["samples"], tmp_path / "data", progress=False)
    tally("disk full while fetching", "refused, nothing half-written")


@pytest.mark.parametrize("moment", ["while cells run", "at the end"])
def test_a_notebook_on_a_full_disk_is_one_error(tmp_path, monkeypatch, moment, tally):
    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    target = tmp_path / "reports" / "01_data.ipynb"
    target.parent.mkdir()
    target.write_text("old")

    def ran(_, raw, **__):
        if moment == "while cells run":
            Path(raw).write_text('{"cells": [')
            full()
        nbformat.write(nbformat.v4.new_notebook(), raw)
        monkeypatch.setattr(os, "replace", full)

    monkeypatch.setattr(notebooks.papermill, "execute_notebook", ran)
    with pytest.raises(rvlib.UserError, match="01_data.ipynb could not be written .*No space left"):
        notebooks.execute(nbformat.v4.new_notebook(), target, {}, folder=tmp_path)
    assert target.read_text() == "old"
    tally("disk full while a notebook runs", "refused, old file kept")
