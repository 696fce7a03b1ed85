"""Fetching: whatever a server or an archive does, the right bytes arrive or nothing does, and the error says why."""

import hashlib
import http.server
import io
import os
import re
import tarfile
import threading
import time
import zipfile
from collections import Counter
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

import rvlib
from rvlib import download, photos
from rvlib.study import fetch as fetching
from rvlib.study.fetch import fetch, manifest


def photo(seed=0, side=300):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


CONTENT = photo()
GOOD = hashlib.sha256(CONTENT).hexdigest()
COLUMNS = ["set", "split", "role", "source", "path", "members", "file", "licence", "size", "sha256"]


class Server(http.server.BaseHTTPRequestHandler):
    """Gives `files` by path and misbehaves as its `behaviour` says; remembers the ranges that were asked for."""

    files: dict[str, bytes]
    behaviour: str
    asked: list[str | None]
    lock = threading.Lock()
    running = most = 0
    modified = "Wed, 01 Jan 2020 00:00:00 GMT"

    def do_GET(self):
        kind = type(self)
        with kind.lock:
            kind.running += 1
            kind.most = max(kind.most, kind.running)
            kind.asked.append(self.headers.get("Range"))
            number = len(kind.asked)
        try:
            self.answer(kind.behaviour, number)
        finally:
            with kind.lock:
                kind.running -= 1

    def answer(self, behaviour, number):
        body = self.files.get(self.path)
        if behaviour == "503" or (behaviour == "503 once" and number == 1) or body is None:
            self.send_error(404 if body is None else 503)
            return
        size, start = len(body), 0
        if self.headers.get("Range") and behaviour != "ignores ranges":
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
            if behaviour == "changed" and self.headers.get("If-Unmodified-Since"):
                self.send_error(412)
                return
            if start >= size:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{size}")
                self.end_headers()
                return
        self.send_response(206 if start else 200)
        if start:
            moved = 1 if behaviour == "wrong range" else 0
            self.send_header("Content-Range", f"bytes {start - moved}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.send_header("Last-Modified", self.modified)
        self.end_headers()
        if behaviour == "wrong bytes":
            body = body[:-1] + b"?"
        drops = {"drops once": number == 1, "ignores ranges": number == 1, "wrong range": number == 1}
        if behaviour == "drops" or drops.get(behaviour):
            self.wfile.write(body[start : start + 100_000])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body[start:])

    def log_message(self, *_):
        pass


def row(path="a/b/c/photo.png", **changes):
    known = {"set": "toy", "split": "test", "role": "reference", "source": "github", "path": path, "members": ""}
    known |= {"file": path.rpartition("/")[2], "licence": "none", "size": len(CONTENT), "sha256": GOOD}
    return known | changes


@pytest.fixture
def server(monkeypatch, tmp_path):
    handler = type("Handler", (Server,), {"files": {"/a/b/c/photo.png": CONTENT}, "behaviour": "good", "asked": []})
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    handler.httpd = httpd
    handler.address = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setattr(fetching, "MANIFEST", tmp_path / "manifest.csv")
    monkeypatch.setattr(fetching, "GITHUB", handler.address)
    monkeypatch.setattr(download, "BACK_OFF", 0.001)
    monkeypatch.delenv("RV_MIRROR", raising=False)
    lists(tmp_path, row())
    yield handler
    httpd.shutdown()
    httpd.server_close()


def lists(tmp_path, *rows):
    pd.DataFrame(list(rows), columns=COLUMNS).to_csv(tmp_path / "manifest.csv", index=False)


def get(target):
    fetch(["toy"], target, progress=False)
    return target / "toy/test/reference/photo.png"


def files(target):
    return sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())


@pytest.mark.parametrize("behaviour", ["good", "503 once", "drops once", "drops", "ignores ranges", "wrong range"])
@pytest.mark.parametrize("sha256", [GOOD, None])
def test_the_right_bytes_arrive(server, tmp_path, behaviour, sha256):
    lists(tmp_path, row(sha256=sha256, size=len(CONTENT) if sha256 else None))
    server.behaviour = behaviour
    target = tmp_path / "data"
    assert get(target).read_bytes() == CONTENT
    expected = {"good": 1, "drops": 3, "wrong range": 3}.get(behaviour, 2)
    assert len(server.asked) == expected
    assert files(target) == ([] if sha256 else ["checksums.csv"]) + ["toy/test/reference/photo.png"]


def test_a_dropped_download_goes_on_where_it_ended(server, tmp_path):
    server.behaviour = "drops once"
    get(tmp_path / "data")
    assert len(server.asked) == 2
    assert 80_000 < int(server.asked[1][6:-1]) <= 100_000


@pytest.mark.parametrize("sha256", [GOOD, None])
@pytest.mark.parametrize("length", [100_000, len(CONTENT), len(CONTENT) + 5])
def test_the_part_of_a_killed_run_is_gone_on_with(server, tmp_path, sha256, length):
    lists(tmp_path, row(sha256=sha256, size=len(CONTENT) if sha256 else None))
    place = tmp_path / "data/toy/test/reference/photo.png"
    place.parent.mkdir(parents=True)
    Path(f"{place}.part").write_bytes((CONTENT + b"hello")[:length])
    assert get(tmp_path / "data").read_bytes() == CONTENT
    assert not Path(f"{place}.part").exists()
    whole = [] if sha256 else [f"bytes={length}-"]  # without a hash, the server says whether there is more
    expected = {100_000: ["bytes=100000-"], len(CONTENT): whole}
    assert server.asked == expected.get(length, [f"bytes={length}-", None])


def test_a_part_of_a_file_that_changed_since_is_not_gone_on_with(server, tmp_path):
    lists(tmp_path, row(sha256=None, size=None))
    server.behaviour = "changed"
    place = tmp_path / "data/toy/test/reference/photo.png"
    place.parent.mkdir(parents=True)
    Path(f"{place}.part").write_bytes(photo(1)[:1000])
    assert get(tmp_path / "data").read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]


def test_a_wrong_part_is_found_out_and_thrown_away(server, tmp_path):
    place = tmp_path / "data/toy/test/reference/photo.png"
    place.parent.mkdir(parents=True)
    Path(f"{place}.part").write_bytes(photo(1)[:1000])
    with pytest.raises(rvlib.UserError, match="wrong bytes"):
        get(tmp_path / "data")
    assert get(tmp_path / "data").read_bytes() == CONTENT


@pytest.mark.parametrize(("behaviour", "message", "requests"), [("404", "status 404", 1), ("503", "status 503", 4)])
def test_what_cannot_be_fetched_is_named_and_nothing_is_kept(server, tmp_path, behaviour, message, requests):
    server.behaviour = behaviour
    if behaviour == "404":
        server.files = {}
    with pytest.raises(rvlib.UserError, match=f"photo.png of toy could not be fetched: .*{message}.*RV_MIRROR"):
        get(tmp_path / "data")
    assert len(server.asked) == requests
    assert files(tmp_path / "data") == []


def test_wrong_bytes_are_named_with_both_hashes(server, tmp_path):
    server.behaviour = "wrong bytes"
    found = hashlib.sha256(CONTENT[:-1] + b"?").hexdigest()
    with pytest.raises(rvlib.UserError, match=f"photo.png of toy .* SHA-256 {found} instead of {GOOD}"):
        get(tmp_path / "data")
    server.behaviour, server.files = "good", {"/a/b/c/photo.png": b"<html>please log in</html>"}
    with pytest.raises(rvlib.UserError, match=f"wrong bytes, 26 of them instead of {len(CONTENT)}"):
        get(tmp_path / "data")
    lists(tmp_path, row(sha256=None, size=None))
    with pytest.raises(rvlib.UserError, match="wrong bytes, no photo"):
        get(tmp_path / "data")
    assert files(tmp_path / "data") == []


def test_nobody_answers(server, tmp_path, monkeypatch, closed_port):
    monkeypatch.setattr(fetching, "GITHUB", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(rvlib.UserError, match="no connection"):
        get(tmp_path / "data")


def test_what_is_there_is_kept_and_what_is_damaged_is_got_again(server, tmp_path):
    path = get(tmp_path / "data")
    get(tmp_path / "data")
    assert len(server.asked) == 1
    path.write_bytes(CONTENT[:-1] + b"!")
    assert get(tmp_path / "data").read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_an_unknown_hash_is_recorded_and_holds(server, tmp_path):
    lists(tmp_path, row(sha256=None, size=None))
    path = get(tmp_path / "data")
    assert f"toy/test/reference/photo.png,{len(CONTENT)},{GOOD}," in (tmp_path / "data/checksums.csv").read_text()
    get(tmp_path / "data")
    assert len(server.asked) == 1
    path.unlink()
    server.behaviour = "wrong bytes"
    with pytest.raises(rvlib.UserError, match="wrong bytes.*checksums.csv"):
        get(tmp_path / "data")
    (tmp_path / "data/checksums.csv").write_text("nonsense")
    with pytest.raises(rvlib.UserError, match="checksums.csv is damaged"):
        get(tmp_path / "data")


@pytest.mark.parametrize("web", [False, True])
def test_the_mirror_comes_first_and_the_address_is_the_second_choice(server, tmp_path, monkeypatch, web):
    lists(tmp_path, row(), row("d.org/e/other.png", source="url").copy() | {"path": "http://d.org/e/other.png"})
    server.files |= {"/m/a/b/c/photo.png": CONTENT, "/m/d.org/e/other.png": CONTENT}
    for name in ("a/b/c/photo.png", "d.org/e/other.png"):
        (tmp_path / "mirror" / name).parent.mkdir(parents=True)
        (tmp_path / "mirror" / name).write_bytes(CONTENT)
    monkeypatch.setattr(rvlib, "ROOT", tmp_path)
    monkeypatch.setenv("RV_MIRROR", f"{server.address}/m/" if web else "mirror")  # a relative path counts from there
    get(tmp_path / "first")
    assert len(server.asked) == (2 if web else 0)
    lists(tmp_path, row())
    server.files["/m/a/b/c/photo.png"] = b"something else"
    (tmp_path / "mirror/a/b/c/photo.png").write_bytes(b"something else")
    assert get(tmp_path / "second").read_bytes() == CONTENT
    del server.files["/m/a/b/c/photo.png"]
    (tmp_path / "mirror/a/b/c/photo.png").unlink()
    assert get(tmp_path / "third").read_bytes() == CONTENT


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_full_disk_is_one_clear_error(server, tmp_path, monkeypatch, mirrored):
    def full(*_):
        raise OSError(28, "No space left on device")

    if mirrored:
        (tmp_path / "mirror/a/b/c").mkdir(parents=True)
        (tmp_path / "mirror/a/b/c/photo.png").write_bytes(CONTENT)
        monkeypatch.setenv("RV_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(download.shutil, "copyfile", full)
    monkeypatch.setattr(fetching.os, "replace", full)
    with pytest.raises(rvlib.UserError, match="free some space"):
        get(tmp_path / "data")
    assert not (tmp_path / "data/toy/test/reference/photo.png").exists()


def test_many_files_in_parallel_and_a_failure_keeps_what_arrived(server, tmp_path):
    many = {f"/a/b/c/{number:02d}.png": photo(number, 40) for number in range(40)}
    server.files = dict(many)
    rows = [
        row(name[1:], size=len(content), sha256=hashlib.sha256(content).hexdigest()) for name, content in many.items()
    ]
    lists(tmp_path, *rows)
    good = server.answer
    server.answer = lambda self, *given: time.sleep(0.05) or good(self, *given)  # so that requests meet
    del server.files["/a/b/c/39.png"]
    with pytest.raises(rvlib.UserError, match="39.png of toy could not be fetched"):
        get(tmp_path / "data")
    arrived = len(files(tmp_path / "data"))
    assert arrived > 20
    server.files, server.asked = many, []
    get(tmp_path / "data")
    assert len(server.asked) == 40 - arrived
    assert len(photos.load_set(tmp_path / "data", "toy")) == 40
    assert server.most == 8


def test_an_older_manifest_leaves_nothing_behind(server, tmp_path):
    old = get(tmp_path / "data")
    lists(tmp_path, row(), row("a/b/c/other.png"))
    server.files["/a/b/c/other.png"] = CONTENT
    get(tmp_path / "data")
    lists(tmp_path, row(split="validation"))
    get(tmp_path / "data")
    assert files(tmp_path / "data") == ["toy/validation/reference/photo.png"]
    old.write_bytes(photo(3))
    with pytest.raises(rvlib.UserError, match="photo.png is not a part of toy .* move it elsewhere"):
        get(tmp_path / "data")
    assert old.exists()


# Archives ---------------------------------------------------------------------------------------------------------

PAIRS = {f"G/{split}/S{k}/{side}/{n:06d}.png": photo(100 * k + n, 30)
         for split in ("train", "test") for k in (1, 2) for side in ("sharp", "blur") for n in (1, 2)}  # fmt: skip


def zipped(members, **attributes):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = attributes.get(name, 0) << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def tarred(members, **kinds):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if len(members) % 2 else "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type = len(content), kinds.get(name, tarfile.REGTYPE)
            info.linkname = "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archived(server, tmp_path, content, *, known=True, kind="zip"):
    server.files = {f"/G.{kind}": content}
    sha256 = hashlib.sha256(content).hexdigest() if known else None
    common = {"source": "url", "sha256": sha256, "size": len(content) if known else None}
    lists(tmp_path, *[
        row(f"{server.address}/G.{kind}", split=split, role=role,
            members=rf"G/{split}/(S\d)/{side}/(\d+\.png)", **common)
        for split in ("train", "test") for role, side in (("reference", "sharp"), ("degraded", "blur"))
    ])  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_archives_are_unpacked_once_and_checked_from_then_on(server, tmp_path, known, kind):
    pack = zipped if kind == "zip" else tarred
    archived(server, tmp_path, pack(PAIRS | {"G/readme.txt": b"x", "G/train/S1/gamma/000001.png": b"y"}), known=known)
    target = tmp_path / "data"
    get(target)
    sides = [f"toy/{s}/{r}/S{k}_{n:06d}.png" for s in ("test", "train") for r in ("degraded", "reference")
             for k in (1, 2) for n in (1, 2)]  # fmt: skip
    assert files(target) == ["checksums.csv", *sides]
    assert (target / "toy/test/degraded/S2_000001.png").read_bytes() == PAIRS["G/test/S2/blur/000001.png"]
    assert len(photos.pair_folder(target / "toy/train/degraded", target / "toy/train/reference")) == 4
    before = (target / "checksums.csv").read_bytes()
    get(target)
    assert len(server.asked) == 1
    (target / sides[3]).write_bytes(b"damaged")
    get(target)
    assert len(server.asked) == 2
    assert files(target) == ["checksums.csv", *sides]
    assert (target / "checksums.csv").read_bytes() == before


LINK, DEVICE = 0o120777, 0o060666
HOSTILE = {
    "parent": zipped({"../../evil.png": b"x"} | PAIRS),
    "parent last": zipped(PAIRS | {"G/train/../../../evil.png": b"x"}),
    "absolute": zipped(PAIRS | {"/tmp/evil.png": b"x"}),
    "backslash": zipped(PAIRS | {"..\\evil.png": b"x"}),
    "drive": zipped(PAIRS | {"C:evil.png": b"x"}),
    "zip link": zipped(PAIRS | {"G/l": b"/etc/passwd"}, **{"G/l": LINK}),
    "zip device": zipped(PAIRS | {"G/l": b""}, **{"G/l": DEVICE}),
    "tar parent": tarred(PAIRS | {"./../evil.png": b"x"}),
    "tar absolute": tarred(PAIRS | {"/evil.png": b"x"}),
    "tar link": tarred(PAIRS | {"G/l": b""}, **{"G/l": tarfile.SYMTYPE}),
    "tar hard link": tarred(PAIRS | {"G/train/S1/sharp/000009.png": b""},
                            **{"G/train/S1/sharp/000009.png": tarfile.LNKTYPE}),
    "tar device": tarred(PAIRS | {"G/d": b""}, **{"G/d": tarfile.BLKTYPE}),
    "tar pipe": tarred(PAIRS | {"G/d": b""}, **{"G/d": tarfile.FIFOTYPE}),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("known", [True, False])
def test_hostile_archives_leave_nothing(server, tmp_path, kind, known):
    archived(server, tmp_path, HOSTILE[kind], known=known)
    target = tmp_path / "deep/er/data"
    with pytest.raises(rvlib.UserError, match=r"G.zip of toy was not unpacked: .* is unsafe"):
        get(target)
    assert [file for file in files(target) if file != "checksums.csv"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "manifest.csv"]
    assert not any(tmp_path.rglob("*evil*"))


def test_bombs_doubles_damage_and_foreign_archives_are_refused(server, tmp_path):
    bomb = zipped(PAIRS | {"G/train/S1/sharp/000009.png": bytes(10_000_000)})
    with pytest.warns(UserWarning, match="Duplicate name"):
        buffer = io.BytesIO(zipped(PAIRS))
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.writestr("G/train/S1/sharp/000001.png", b"x")
    whole = tarred(PAIRS)
    broken = bytearray(zipped(PAIRS))
    broken[200] ^= 255
    cases = {
        "far too large": bomb,
        "is in it twice": buffer.getvalue(),
        "is no archive or damaged": bytes(broken),
        "no archive or damaged": b"<html>quota exceeded</html>",
        "does not hold the expected photos": zipped({"readme.txt": b"x"}),
        "archive or damaged": whole[: len(whole) // 2],
    }
    for message, content in cases.items():
        for known in (True, False):
            archived(server, tmp_path, content, known=known)
            with pytest.raises(rvlib.UserError, match=f"not unpacked: .*{message}"):
                get(tmp_path / "data")
            assert [file for file in files(tmp_path / "data") if file != "checksums.csv"] == []
    archived(server, tmp_path, whole, known=False)  # what was recorded of a refused archive does not hold
    get(tmp_path / "data")


def test_an_archive_that_was_not_unpacked_yet_is_not_got_again(server, tmp_path, monkeypatch):
    archived(server, tmp_path, zipped(PAIRS), known=False)
    monkeypatch.setattr(fetching._Jobs, "unpack", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        get(tmp_path / "data")
    monkeypatch.undo()
    monkeypatch.setattr(fetching, "MANIFEST", tmp_path / "manifest.csv")
    get(tmp_path / "data")
    assert len(server.asked) == 1
    assert len(files(tmp_path / "data")) == 17


# The manifest of the study ------------------------------------------------------------------------------------------


def test_unknown_sets_are_named(tmp_path):
    with pytest.raises(rvlib.UserError, match="unknown set 'Set6': choose among samples, Set5"):
        fetch(["Set6"], tmp_path)


def test_sample_photos_need_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(download.requests, "get", None)
    fetch(["samples"], tmp_path, progress=False)
    assert sorted(photos.load_set(tmp_path, "samples")) == ["astronaut", "chelsea", "coffee", "flower"]
    assert not (tmp_path / "checksums.csv").exists()  # every hash is known
    for name in photos.SAMPLES:
        assert any(path.stem == name for path in tmp_path.glob("samples/*/reference/*"))


def test_the_manifest_is_sound():
    listed = manifest()
    assert list(listed.columns) == COLUMNS
    assert not listed.drop(columns=["size", "sha256"]).isna().any().any()
    known = listed.dropna(subset="sha256")
    assert known["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert known["size"].gt(0).all()
    assert set(listed[listed["sha256"].isna()]["set"]) == {"Flickr2K", "GoPro"}
    assert set(listed["split"]) == {"train", "validation", "test"}
    assert not listed[listed["members"] == ""].duplicated(["set", "split", "role", "file"]).any()
    by_split = {split: set(rows["sha256"].dropna()) for split, rows in listed[listed["members"] == ""].groupby("split")}
    assert not by_split["train"] & by_split["test"]
    assert not by_split["train"] & by_split["validation"]
    assert not listed["path"].str.contains("images/val/").any(), "BSDS500's validation folder is the test set BSD100"
    photos_of = Counter(listed[(listed["role"] == "reference") & (listed["members"] == "")]["set"])
    for name, count in {"Set5": 5, "Set14": 14, "BSD100": 100, "Urban100": 100}.items():
        rows = listed[listed["set"] == name]
        sides = [set(rows[rows["role"] == role]["file"]) for role in ("reference", "degraded")]
        assert sides[0] == sides[1]
        assert photos_of[name] == len(sides[0]) == count
    assert photos_of["Set12"] == 12
    assert photos_of["T91"] == 91
    assert listed[listed["set"] == "CID22"]["split"].value_counts().to_dict() == {"train": 208, "validation": 41}
    assert set(listed[listed["set"] == "CLIC2025"]["split"]) == {"train"}
    assert photos_of["CLIC2025"] == 41
    assert set(listed[listed["set"] == "Kodak"]["split"]) == {"test"}
    assert photos_of["Kodak"] == 24
    for file in listed[listed["source"] == "github"]["path"]:
        assert len(Path(file).parts[2]) == 40, f"{file} is not pinned by a commit"
    for address, pattern in listed[listed["source"] == "url"][["path", "members"]].itertuples(index=False):
        assert address.startswith("https://")
        re.compile(pattern)


def test_a_photo_that_leaked_stays_out():
    names = set(manifest().query("split == 'train'")["path"].map(Path).map(attrgetter("stem")))
    assert not names & {"302003", "3316926_opo25u"}, "the woman of Set5; a photo of CID22's validation"


def test_the_release_profile_checks_its_photos_against_every_test_set_it_fetches():
    content = yaml.safe_load((rvlib.ROOT / "profiles/release/params.yaml").read_text())
    listed = manifest()
    fetched = listed[listed["set"].isin(content["fetch"]["sets"]) & (listed["set"] != "samples")]
    for split, checked in (("train", "train_sets"), ("test", "test_sets")):
        assert set(content["data"][checked]) == set(fetched[fetched["split"] == split]["set"])
    used = {name for section in content.values() if isinstance(section, dict) for name in section.get("train_sets", [])}
    assert used == set(content["data"]["train_sets"])


@pytest.mark.parametrize(("name", "count"), [("CID22", 249), ("CLIC2025", 41), ("Kodak", 24)])
def test_the_mirror_has_the_photos_of_the_manifest(name, count, tmp_path, monkeypatch):
    mirror = Path(os.environ.get("RV_MIRROR", ""))
    paths = manifest().query("set == @name")["path"]
    if not os.environ.get("RV_MIRROR") or not all((rvlib.ROOT / mirror / path).is_file() for path in paths):
        pytest.skip("the photos are not at RV_MIRROR")
    monkeypatch.setattr(download.requests, "get", None)
    fetch([name], tmp_path, progress=False)
    assert len(list(tmp_path.glob(f"{name}/*/reference/*.png"))) == count
    assert not (tmp_path / "checksums.csv").exists()  # every hash is known
    for path in tmp_path.glob(f"{name}/*/reference/*.png"):
        with Image.open(path) as image:
            assert max(image.size) == {"CID22": 512, "CLIC2025": 2048, "Kodak": 768}[name]


@pytest.mark.parametrize(
    ("name", "split", "member", "file"),
    [
        ("DIV2K", "train", "DIV2K_train_HR/0001.png", "0001.png"),
        ("DIV2K", "validation", "DIV2K_valid_HR/0801.png", "0801.png"),
        ("Flickr2K", "train", "Flickr2K/Flickr2K_HR/000001.png", "000001.png"),
        ("GoPro", "test", "GOPRO_Large/test/GOPR0384_11_00/sharp/000001.png", "GOPR0384_11_00_000001.png"),
        ("GoPro", "train", "train/GOPR0372_07_00/blur/000047.png", "GOPR0372_07_00_000047.png"),
    ],
)
def test_archives_are_read_by_their_published_layout(name, split, member, file):
    rows = manifest().query("set == @name and split == @split")
    matches = [re.fullmatch(pattern, member) for pattern in rows["members"]]
    assert ["_".join(match.groups()) for match in matches if match] == [file]
    others = [f"{member}x", *([member.replace("blur", "blur_gamma")] if "blur" in member else [])]
    assert not any(re.fullmatch(pattern, other) for pattern in rows["members"] for other in others)
