"""Official weights by name: whatever happens on the way, the right bytes are loaded or an error says what to do."""

import csv
import hashlib
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from test_fetch import server  # noqa: F401  (a fixture)

import rvlib
from rvlib import download, official, photos
from rvlib.measures import TASKS
from rvlib.models import METHODS

SMALL = {"embed": 12, "depths": (2,), "heads": (2,), "window": 4, "scale": 2}


def saved(model):
    buffer = io.BytesIO()
    torch.save({"params": model.state_dict(), "ballast": torch.zeros(60_000)}, buffer)  # enough for a cut connection
    return buffer.getvalue()


torch.manual_seed(0)
CONTENT = saved(rvlib.create("swinir", **SMALL))
NAFNET = saved(rvlib.create("nafnet", width=4, encoder=(1,), middle=1, decoder=(1,)))


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def row(name="swinir-toy-x2", file="toy.pth", content=CONTENT, **changes):
    known = {"name": f"official/{name}", "file": file, "method": "swinir", "task": "super-resolution", "scale": 2}
    known |= {"local": "", "trained_on": "toys", "size": len(content), "sha256": sha256(content), "url": "", "note": ""}
    return known | {"page": "http://127.0.0.1/page", "licence": "MIT"} | changes


@pytest.fixture
def shelf(server, tmp_path, monkeypatch):  # noqa: F811
    """A server that has toy.pth at /toy.pth, and a cache of its own; `shelf.lists(rows)` makes the table."""

    def lists(*rows):
        path = tmp_path / f"official-{len(list(tmp_path.glob('official-*')))}.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row()))
            writer.writeheader()
            writer.writerows(rows)
        monkeypatch.setattr(official, "TABLE", path)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server.files = {"/toy.pth": CONTENT}
    server.lists = lists
    server.cache = tmp_path / "cache/rvlib/official"
    lists(row(url=f"{server.address}/toy.pth"))
    return server


def load(name="swinir-toy-x2", **hints):
    return rvlib.load(f"official/{name}", **hints)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_one_line_loads_it_and_the_second_time_needs_no_network(shelf, capsys):
    model = load()
    said = capsys.readouterr().err
    assert "licence: MIT" in said
    assert "Liang et al. 2021" in said
    assert (model.scale, model.task, model.method, model.training) == (2, "super-resolution", "swinir", False)
    assert (shelf.cache / "toy.pth").read_bytes() == CONTENT
    assert names(shelf.cache) == ["toy.pth"]
    again = load()
    assert len(shelf.asked) == 1
    assert capsys.readouterr().err == ""
    x = torch.rand(1, 3, 9, 8)
    assert torch.equal(model(x), again(x))


def test_a_name_brings_the_hints_that_its_file_needs(shelf):
    shelf.files["/naf.pth"] = NAFNET
    facts = {"name": "naf", "method": "nafnet", "scale": 1, "url": f"{shelf.address}/naf.pth"}
    given = row(file="naf.pth", content=NAFNET, **facts)
    shelf.lists(given | {"task": "deblurring", "local": "yes"})
    assert load("naf").spec["arguments"]["local"] is True
    assert "local" not in load("naf", local=False).spec["arguments"]
    shelf.lists(given | {"task": "denoising"})
    model = load("naf")
    assert "local" not in model.spec["arguments"]
    assert model.task == "denoising"
    with pytest.raises(rvlib.UserError, match="official/naf holds weights for scale 1, not for scale 2"):
        load("naf", scale=2)


@pytest.mark.parametrize("behaviour", ["drops once", "drops", "503 once", "ignores ranges"])
@pytest.mark.parametrize("known", [True, False])
def test_a_cut_connection_goes_on_where_it_ended(shelf, behaviour, known):
    shelf.lists(row(url=f"{shelf.address}/toy.pth", **({} if known else {"size": "", "sha256": ""})))
    shelf.behaviour = behaviour
    load()
    assert (shelf.cache / "toy.pth").read_bytes() == CONTENT
    assert names(shelf.cache) == ["toy.pth"] + ([] if known else ["toy.pth.sha256"])


def test_the_part_of_a_killed_run_is_gone_on_with(shelf):
    shelf.cache.mkdir(parents=True)
    (shelf.cache / "toy.pth.part").write_bytes(CONTENT[:50_000])
    load()
    assert shelf.asked == ["bytes=50000-"]


def test_the_second_address_is_asked_where_the_first_has_nothing(shelf):
    shelf.lists(row(url=f"{shelf.address}/gone.pth {shelf.address}/toy.pth"))
    load()
    assert len(shelf.asked) == 2
    shelf.files["/gone.pth"] = CONTENT[:-1] + b"?"
    (shelf.cache / "toy.pth").unlink()
    load()
    assert (shelf.cache / "toy.pth").read_bytes() == CONTENT
    assert len(shelf.asked) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:-1] + b"?", f"SHA-256 .* instead of {sha256(CONTENT)}"),
        (CONTENT[:-1], f"{len(CONTENT) - 1} of them instead of {len(CONTENT)}"),
        (None, "status 404"),
    ],
    ids=["wrong bytes", "wrong size", "not there"],
)
def test_wrong_bytes_are_never_loaded_or_kept(shelf, monkeypatch, content, message):
    shelf.files = {} if content is None else {"/toy.pth": content}
    with monkeypatch.context() as nobody:
        nobody.setattr(torch, "load", None)
        with pytest.raises(rvlib.UserError, match=message) as caught:
            load()
    for word in ("toy.pth", "official/swinir-toy-x2", f"{shelf.address}/toy.pth", str(shelf.cache), "RV_MIRROR"):
        assert word in str(caught.value)
    assert names(shelf.cache) == []


def test_a_web_page_is_no_checkpoint(shelf):
    shelf.lists(row(url=f"{shelf.address}/toy.pth", size="", sha256=""))
    shelf.files["/toy.pth"] = b"<html>Google Drive: quota exceeded</html>"
    with pytest.raises(rvlib.UserError, match="no checkpoint"):
        load()
    assert names(shelf.cache) == []


@pytest.mark.parametrize("known", [True, False])
def test_a_damaged_file_of_the_cache_is_found_and_fetched_again(shelf, capsys, known):
    shelf.lists(row(url=f"{shelf.address}/toy.pth", **({} if known else {"size": "", "sha256": ""})))
    load()
    (shelf.cache / "toy.pth").write_bytes(CONTENT[:-1] + b"?")
    load()
    assert "toy.pth is damaged: it is fetched again" in capsys.readouterr().err
    assert (shelf.cache / "toy.pth").read_bytes() == CONTENT
    assert len(shelf.asked) == 2


def test_a_file_without_a_hash_is_held_to_its_first_download(shelf, capsys):
    shelf.lists(row(url=f"{shelf.address}/toy.pth", size="", sha256=""))
    load()
    assert "no hash of toy.pth is published" in capsys.readouterr().err
    assert (shelf.cache / "toy.pth.sha256").read_text() == f"{sha256(CONTENT)}  toy.pth\n"
    (shelf.cache / "toy.pth").unlink()
    shelf.files["/toy.pth"] = CONTENT + b"?"
    with pytest.raises(rvlib.UserError, match=r"instead of .*remove .*toy.pth.sha256"):
        load()


def test_the_first_digits_of_a_hash_are_held_to(shelf):
    shelf.lists(row(url=f"{shelf.address}/toy.pth", size="", sha256=sha256(CONTENT)[:8]))
    load()
    shelf.lists(row(url=f"{shelf.address}/toy.pth", size="", sha256="01234567", file="other.pth"))
    with pytest.raises(rvlib.UserError, match="instead of 01234567"):
        load()


def test_a_file_without_an_address_is_put_in_its_place_by_hand(shelf):
    shelf.lists(row(size="", sha256=""))
    with pytest.raises(rvlib.UserError, match="no address of its own. Get it from http://127.0.0.1/page and put it at"):
        load()
    (shelf.cache / "toy.pth").write_bytes(CONTENT)
    load()
    (shelf.cache / "toy.pth").write_bytes(CONTENT + b"?")
    with pytest.raises(
        rvlib.UserError,
        match=r"toy.pth is not official/swinir-toy-x2: wrong bytes, .*put it at .*remove .*toy.pth.sha256",
    ):
        load()


@pytest.mark.parametrize("web", [False, True])
def test_the_mirror_comes_first(shelf, tmp_path, monkeypatch, web):
    shelf.lists(row(url=f"{shelf.address}/toy.pth"))
    (tmp_path / "mirror/official").mkdir(parents=True)
    (tmp_path / "mirror/official/toy.pth").write_bytes(CONTENT)
    shelf.files["/m/official/toy.pth"] = shelf.files.pop("/toy.pth")
    monkeypatch.setenv("RV_MIRROR", f"{shelf.address}/m" if web else str(tmp_path / "mirror"))
    load()
    assert len(shelf.asked) == web


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
def test_without_a_network_an_error_comes_within_ten_seconds(shelf, monkeypatch, closed_port, silent):
    monkeypatch.setattr(download, "BACK_OFF", 0.5)  # as it is outside of tests
    monkeypatch.setattr(official, "PATIENCE", official.PATIENCE / 4)
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # accepts, and never answers
        port = deaf.getsockname()[1] if silent else closed_port
        shelf.lists(row(url=f"http://127.0.0.1:{port}/toy.pth http://127.0.0.1:{port}/mirror/toy.pth"))
        started = time.monotonic()
        with pytest.raises(rvlib.UserError, match="no answer within|no connection") as caught:
            load()
    assert time.monotonic() - started < official.PATIENCE + 1.5
    for word in ("toy.pth", f"http://127.0.0.1:{port}/toy.pth", str(shelf.cache)):
        assert word in str(caught.value)


def test_patience_ends_before_ten_seconds():
    assert official.PATIENCE + 1 < 10


PROGRAM = """
import sys
from pathlib import Path
from rvlib import download, official
official.TABLE, download.CHUNK = Path(sys.argv[1]), 1000
official.listed()["official/swinir-toy-x2"].fetch()
"""


@pytest.mark.slow
def test_two_processes_fetch_it_once(shelf):
    command = [sys.executable, "-c", PROGRAM, str(official.TABLE)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert len(shelf.asked) == 1
    assert names(shelf.cache) == ["toy.pth"]


def test_a_file_does_not_wait_for_another_one(shelf, monkeypatch):
    shelf.files["/other.pth"] = CONTENT
    known = {"a": "toy.pth", "b": "other.pth"}
    shelf.lists(*(row(name, file, url=f"{shelf.address}/{file}") for name, file in known.items()))
    bring, waited = official._bring, []

    def brings(wanted):
        if wanted.file == "toy.pth":
            other = threading.Thread(target=official.listed()["official/b"].fetch, daemon=True)
            other.start()
            other.join(20)
            waited.append(other.is_alive())
        bring(wanted)

    monkeypatch.setattr(official, "_bring", brings)
    official.listed()["official/a"].fetch()
    assert waited == [False]
    assert names(shelf.cache) == ["other.pth", "toy.pth"]


@pytest.fixture
def read_only(shelf):
    """Makes the cache read-only: root may write where the mode says no, so it takes a file system that refuses."""
    folder, mounted = shelf.cache, []

    def close():
        if os.geteuid():
            folder.chmod(0o555)
            return
        content = {path.name: path.read_bytes() for path in folder.iterdir()}
        if (
            sys.platform != "linux"
            or subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False).returncode
        ):
            pytest.skip("no file system can be mounted here")
        mounted.append(folder)
        for name, each in content.items():
            (folder / name).write_bytes(each)
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)

    yield close
    for each in mounted:
        subprocess.run(["umount", "--lazy", each], check=True)
    if folder.exists():
        folder.chmod(0o755)


@pytest.mark.parametrize("known", [True, False])
def test_a_read_only_cache_is_read(shelf, read_only, known):
    shelf.lists(row(url=f"{shelf.address}/toy.pth", **({} if known else {"size": "", "sha256": ""})))
    shelf.cache.mkdir(parents=True)
    (shelf.cache / "toy.pth").write_bytes(CONTENT)
    read_only()
    load()
    assert not shelf.asked


def test_a_read_only_cache_that_lacks_the_file_is_one_clear_error(shelf, read_only):
    shelf.cache.mkdir(parents=True)
    read_only()
    with pytest.raises(rvlib.UserError, match="toy.pth could not be written .*XDG_CACHE_HOME"):
        load()


def test_a_cache_that_cannot_be_made_is_one_clear_error(shelf, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(rvlib.UserError, match="toy.pth could not be written .*XDG_CACHE_HOME"):
        load()


def test_unknown_names_are_answered_with_those_that_look_alike(shelf):
    with pytest.raises(rvlib.UserError, match=r"did you mean official/swinir-toy-x2\? `rvlib models`"):
        load("swinir-toys-x2")


def test_a_file_of_that_name_is_a_file(shelf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("official").mkdir()
    Path("official/swinir-toy-x2").write_bytes(NAFNET)
    assert load().spec["name"] == "nafnet"
    assert not shelf.asked


# The command line ----------------------------------------------------------------------------------------------------


@pytest.fixture
def told(rv):
    """Run a command that must succeed: what it printed."""

    def run(*words):
        status, out, err = rv(*words)
        assert status == 0, err
        return out

    return run


def test_weights_are_fetched_ahead_listed_and_counted(shelf, told):
    shelf.lists(row(url=f"{shelf.address}/toy.pth"), row("by-hand-x2", "other.pth", size="", sha256=""))
    listed = {each["name"]: each for each in json.loads(told("models", "--json"))["official"]}
    assert not listed["official/swinir-toy-x2"]["cached"]
    assert told("fetch", "official/swinir-toy-x2") == f"{shelf.cache / 'toy.pth'}\n"
    listed = {each["name"]: each for each in json.loads(told("models", "--json"))["official"]}
    assert listed["official/swinir-toy-x2"]["cached"]
    said = told("cache")
    assert f"{len(CONTENT) / 1e6:.1f} MB  official/toy.pth" in said
    assert str(shelf.cache.parent) in said


def test_evaluate_calls_them_official(shelf, tmp_path, told):
    photos.write(tmp_path / "photos/coffee.png", photos.sample("coffee")[:32, :32])
    words = ["--model", "official/swinir-toy-x2", "--reference", str(tmp_path / "photos")]
    assert "| official weights |" in told("evaluate", *words)


def test_the_name_of_official_weights_says_what_they_are_measured_with(shelf, tmp_path, told):
    network = saved(rvlib.create("swinir", task="denoising", upsampler="none", **SMALL | {"scale": 1}))
    shelf.files["/noise.pth"] = network
    facts = {"task": "denoising", "scale": 1, "url": f"{shelf.address}/noise.pth"}
    shelf.lists(*(row(f"toy-{level}", f"{level}.pth", network, **facts) for level in (5, 25)))
    photos.write(tmp_path / "in/photo.png", np.full((40, 40, 3), 128, np.uint8))
    measured = []
    for level in (5, 25):
        words = ["evaluate", "--model", f"official/toy-{level}", "--reference", str(tmp_path / "in")]
        told(*words, "-o", str(tmp_path / "rows.csv"))
        measured.append(float((tmp_path / "rows.csv").read_text().splitlines()[1].split(",")[4]))
    assert measured[0] == pytest.approx(34.2, abs=1), "20 log(255 / 5)"
    assert measured[1] == pytest.approx(20.2, abs=1)


def test_models_lists_each_name_as_one_types_it(told):
    said = told("models")
    for name in (*official.listed(), *rvlib.released()):
        assert f"| {name} " in said
    for name in ("Apache-2.0", "MIT", "DIV2K", "is fetched on first use", "by hand", "denoise-grey"):
        assert name in said


# The table of the project --------------------------------------------------------------------------------------------


def test_the_table_is_sound():
    listed = official.listed()
    assert len({each.file for each in listed.values()}) == len(listed), "two files would overwrite each other"
    for name, each in listed.items():
        assert name.startswith("official/")
        assert official.find(name) is each
        assert METHODS[each.method].paper
        assert each.task in (*TASKS, "inpainting")
        assert each.page.startswith("https://")
        assert each.licence
        assert each.trained_on
        assert all(url.startswith("https://") for url in each.urls)
        assert len(each.sha256) in (0, 8, 64)
        assert set(each.sha256) <= set("0123456789abcdef")
        assert each.local == (each.method in ("nafnet", "baseline") and each.task == "deblurring")
    assert Counter(bool(each.size and len(each.sha256) == 64) for each in listed.values())[True] >= 21


def test_each_listed_scale_and_task_is_one_of_its_method():
    for each in official.listed().values():
        assert each.scale in (1, 2, 3, 4, 8)
        assert (each.scale == 1) == (each.task != "super-resolution") or each.name == "official/diffir-real-v2-x1"
