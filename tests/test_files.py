"""Files are put in place in one step, with the permissions that they had or that the mask leaves, through links."""

import errno
import os
import runpy
import stat
import sys
from pathlib import Path
from unittest import mock

import pytest

import rvlib
from rvlib import download
from rvlib.files import alone, write_atomically


def write(path, content=b"new"):
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(content))


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o002])
def test_a_new_file_has_what_the_mask_leaves(tmp_path, mask):
    before = os.umask(mask)
    try:
        write(tmp_path / "new")
        rvlib.save(rvlib.create("srcnn"), tmp_path / "weights.safetensors")  # its writer makes a file of its own
    finally:
        os.umask(before)
    assert mode(tmp_path / "new") == mode(tmp_path / "weights.safetensors") == 0o666 & ~mask


@pytest.mark.parametrize("kept", [0o600, 0o640, 0o664, 0o444])
def test_an_existing_file_keeps_its_permissions(tmp_path, kept):
    (tmp_path / "file").write_text("old")
    (tmp_path / "file").chmod(kept)
    write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert mode(tmp_path / "file") == kept


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(tmp_path, exists):
    (tmp_path / "place").mkdir()
    if exists:
        (tmp_path / "place/file").write_text("old")
    (tmp_path / "link").symlink_to("place/file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "place/file").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "link", "place"]


def test_what_is_no_plain_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "folder", "loop"):
        with pytest.raises(rvlib.UserError, match=name):
            write(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert (tmp_path / "loop").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "loop", "pipe"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "change the permissions"),
        (errno.EROFS, "read-only"),
        (errno.ENAMETOOLONG, "shorter name"),
        (errno.EMFILE, "ulimit"),
    ],
)
def test_the_advice_is_about_what_happened(tmp_path, number, advice):
    (tmp_path / "file").write_text("old")

    def fails(_):
        raise OSError(number, os.strerror(number))

    with pytest.raises(rvlib.UserError, match=advice) as caught:
        write_atomically(tmp_path / "file", fails)
    assert ("free some space" in str(caught.value)) == (advice == "free some space")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_names_that_are_too_long_or_go_through_a_file_are_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(rvlib.UserError, match="shorter name"):
        write(tmp_path / ("x" * 300))
    with pytest.raises(rvlib.UserError, match="is a file"):
        write(tmp_path / "file/inside")


def test_what_fails_in_the_making_of_a_file_stays_what_it_is(tmp_path):
    """A network that cannot be computed is no full disk."""

    def fails(_):
        raise RuntimeError("CUDA error") from KeyError("cause")

    with pytest.raises(RuntimeError, match="CUDA error") as caught:
        write_atomically(tmp_path / "file", fails)
    assert isinstance(caught.value.__cause__, KeyError)
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time_works_at_a_place_and_the_lock_is_removed(tmp_path):
    place, lock = tmp_path / "new/run", tmp_path / "new/.run.lock"
    with alone(place, "taken"):
        (tmp_path / "link").symlink_to(place)
        for same in (place, tmp_path / "link", tmp_path / "new/../new/run"):
            with pytest.raises(rvlib.UserError, match="taken"), alone(same, "taken"):
                pass
        assert lock.exists(), "who was refused leaves it to its holder"
        with alone(tmp_path / "new/other", "taken"):
            pass
    assert not list((tmp_path / "new").iterdir())


@pytest.mark.parametrize("refusal", ["taken", ""])
@pytest.mark.parametrize("made_again", [False, True])
def test_a_lock_whose_holder_has_just_ended_is_looked_at_again(tmp_path, monkeypatch, refusal, made_again):
    fcntl = pytest.importorskip("fcntl")
    lock, take, seen = tmp_path / ".run.lock", fcntl.flock, []

    def taken(file, how):
        seen.append(file)
        if len(seen) == 1:  # between the opening and the lock
            lock.unlink()
            if made_again:
                lock.touch()
        take(file, how)

    monkeypatch.setattr(fcntl, "flock", taken)
    with alone(tmp_path / "run", refusal):
        assert os.path.samestat(os.fstat(seen[-1].fileno()), lock.stat())
        with pytest.raises(rvlib.UserError, match="taken"), alone(tmp_path / "run", "taken"):
            pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES])
def test_a_lock_that_could_not_be_opened_stays(tmp_path, number):
    with alone(tmp_path / "run", "taken"):
        with mock.patch.object(Path, "open", side_effect=OSError(number, os.strerror(number))):
            with alone(tmp_path / "run", "taken"):
                pass
        assert (tmp_path / ".run.lock").exists()


def test_a_system_without_locks_downloads_and_works_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert runpy.run_path(download.__file__)["Downloads"]
    with alone(tmp_path / "run", "taken"), alone(tmp_path / "run", "taken"):
        pass
    assert not list(tmp_path.iterdir())
