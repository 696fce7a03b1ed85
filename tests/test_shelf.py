"""Shelves: photos that several processes map from one file."""

import errno
import os
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest

from rvlib import runs, shelf
from rvlib.degrade import Bicubic
from rvlib.errors import UserError
from rvlib.pairs import Patches


def test_photos_come_back_as_they_were_and_travel_as_a_path(tmp_path):
    rng = np.random.default_rng(0)
    photos = {f"set/{side}": rng.integers(0, 256, (side, 7, 3), dtype=np.uint8) for side in (5, 300, 1)}
    photos["turned"] = photos["set/300"][::-1, ::2]  # not one piece of memory
    made = shelf.write(photos.items(), tmp_path / "shelf.u8")
    sent = pickle.dumps(made)
    assert len(sent) < 1000
    for mine in (made, pickle.loads(sent)):
        assert list(mine) == list(photos)
        for name, photo in photos.items():
            assert np.array_equal(mine[name], photo)
            assert not mine[name].flags.owndata
    assert (tmp_path / "shelf.u8").stat().st_size == sum(photo.size for photo in photos.values())


def test_a_second_writer_changes_nothing_that_is_mapped(tmp_path):
    first = shelf.write([("one", np.full((20, 30, 3), 7, np.uint8))], tmp_path / "shelf.u8")
    for shape in ((20, 30, 3), (1, 1, 3)):
        second = shelf.write([("one", np.full(shape, 99, np.uint8))], tmp_path / "shelf.u8")
        assert (second["one"] == 99).all()
        assert (first["one"] == 7).all()


def test_a_run_has_its_own_place_and_leaves_nothing(tmp_path):
    file = shelf.place(tmp_path / "run") / "references.u8"
    made = shelf.write([("one", np.ones((2, 3, 3), np.uint8))], file)
    shelf.clear(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    assert made["one"].sum() == 18  # what is mapped stays readable


def test_a_training_that_was_refused_leaves_the_shelf_of_the_first_one(tmp_path):
    """It is read again by each process that cuts patches, which gets its path."""
    made = shelf.write([("one", np.ones((2, 3, 3), np.uint8))], shelf.place(tmp_path / "run") / "references.u8")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with runs.alone(tmp_path / "run"):
        for run in (tmp_path / "run", tmp_path / "link/run"):
            shelf.clear(run)
            assert pickle.loads(pickle.dumps(made))["one"].sum() == 18
    shelf.clear(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_clearing_what_was_never_made_makes_nothing(tmp_path):
    shelf.clear(tmp_path / "new/run")
    assert not list(tmp_path.iterdir())


def test_patches_from_a_shelf_are_those_from_memory(tmp_path):
    """The same batches and the same identity of a run, whether photos lie in memory or in a file."""
    rng = np.random.default_rng(0)
    photos = {name: rng.integers(0, 256, (40, 56, 3), dtype=np.uint8) for name in "ab"}
    low = {name: photo[::4, ::4].copy() for name, photo in photos.items()}
    shelves = [shelf.write(each.items(), tmp_path / f"{number}.u8") for number, each in enumerate((photos, low))]
    for kept, mapped in (((photos, low), shelves), ((photos, Bicubic(4)), (shelves[0], Bicubic(4)))):
        first, second = (Patches(*each, patch_size=16) for each in (kept, mapped))
        assert first.provenance == second.provenance
        for here, there in zip(first.cut(3, 5)[:2], second.cut(3, 5)[:2], strict=True):
            assert np.array_equal(here, there)


def test_a_shelf_is_a_mapping(tmp_path):
    made = shelf.write([("a", np.ones((2, 3, 3), np.uint8))], tmp_path / "one.u8")
    assert ("a" in made, "b" in made, len(made), list(made.keys())) == (True, False, 1, ["a"])
    with pytest.raises(KeyError):
        made["b"]
    assert dict(shelf.write([], tmp_path / "none.u8")) == {}


def test_one_process_keeps_photos_in_memory(tmp_path):
    photos = shelf.shared([("a", np.ones((2, 3, 3), np.uint8))], tmp_path / "run", "references")
    assert isinstance(photos, dict)
    assert list(tmp_path.iterdir()) == []


def test_one_process_fills_the_shelf_and_the_others_wait_for_it(tmp_path, monkeypatch):
    """Not for what a run that was killed left there."""
    together, roles = threading.Barrier(2), threading.local()
    one, place = np.ones((2, 3, 3), np.uint8), shelf.place(tmp_path / "run")
    shelf.write([("old", one)], place / "references-0.u8")
    monkeypatch.setattr(
        shelf,
        "Accelerator",
        lambda: mock.Mock(
            num_processes=2,
            process_index=1 - roles.is_first,
            local_process_index=1 - roles.is_first,
            is_local_main_process=roles.is_first,
            wait_for_everyone=lambda: together.wait(10),
        ),
    )

    def decoded():
        time.sleep(0.3)
        yield "a", one

    def work(is_first):
        roles.is_first = is_first
        return shelf.shared(decoded() if is_first else (), tmp_path / "run", "references")

    with ThreadPoolExecutor(2) as pool:
        assert [list(made) for made in pool.map(work, (True, False))] == [["a"], ["a"]]


def test_machines_of_one_name_on_one_disk_fill_a_shelf_each(tmp_path, monkeypatch):
    """Containers are often all called localhost."""
    together, machines = threading.Barrier(2), threading.local()
    monkeypatch.setattr(
        shelf,
        "Accelerator",
        lambda: mock.Mock(
            num_processes=4,
            process_index=2 * machines.index,
            local_process_index=0,
            is_local_main_process=True,
            wait_for_everyone=lambda: together.wait(10),
        ),
    )

    def work(index):
        machines.index = index
        photos = [("a", np.full((2, 3, 3), index, np.uint8)), ("b", np.ones((2, 3, 3), np.uint8))]

        def decoded():
            for photo in photos:
                yield photo
                together.wait(10)  # both are half-way

        return shelf.shared(decoded(), tmp_path / "run", "references")

    with ThreadPoolExecutor(2) as pool:
        for index, made in enumerate(pool.map(work, (0, 1))):
            assert (list(made), made["a"].sum()) == (["a", "b"], 18 * index)


def test_who_waits_for_a_shelf_that_no_longer_grows_stops(tmp_path, monkeypatch):
    other = mock.Mock(num_processes=2, is_local_main_process=False, process_index=1, local_process_index=1)
    monkeypatch.setattr(shelf, "Accelerator", lambda: other)
    monkeypatch.setattr(shelf, "PATIENCE", 0.3)
    with pytest.raises(UserError, match="has not grown for 0.3 seconds"):
        shelf.shared((), tmp_path / "run", "references")


def test_a_disk_that_cannot_hold_the_photos_is_named(tmp_path, monkeypatch):
    photos = [("a", np.ones((2, 3, 3), np.uint8))]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/one\.u8 could not be written .* a part of that name is a file"):
        shelf.write(photos, tmp_path / "file" / "one.u8")
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(shelf.np, "ascontiguousarray", mock.Mock(side_effect=full))
    with pytest.raises(UserError, match=r"one\.u8 could not be written .*its disk must hold all photos"):
        shelf.write(photos, tmp_path / "one.u8")
