"""Fetching: whatever a server does, the right bytes arrive or nothing does, and the error says why."""

import hashlib
import http.server
import threading
from pathlib import Path

import pandas as pd
import pytest

import rvlib
from rvlib import fetch as fetching
from rvlib.fetch import fetch, manifest

CONTENT = bytes(range(256)) * 1200
GOOD = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as its `behaviour` says and remembers what was asked."""

    behaviour, asked = "good", []

    def do_GET(self):
        kind, asked = type(self).behaviour, type(self).asked
        asked.append(self.headers.get("Range"))
        start = int(self.headers["Range"][6:-1]) if self.headers.get("Range") and kind != "ignores ranges" else 0
        if kind == "404" or (kind == "503 once" and len(asked) == 1) or kind == "503":
            self.send_error(404 if kind == "404" else 503)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if kind == "wrong bytes":
            body = body[:-1] + b"?"
        if (kind in ("drops once", "ignores ranges") and len(asked) == 1) or kind == "drops":
            body = body[:100_000]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    row = {"set": "toy", "split": "test", "role": "reference", "source": "github", "path": "a/b/c/photo.png"}
    row |= {"file": "photo.png", "licence": "none", "size": len(CONTENT), "sha256": GOOD}
    pd.DataFrame([row]).to_csv(tmp_path / "manifest.csv", index=False)
    monkeypatch.setattr(fetching, "MANIFEST", tmp_path / "manifest.csv")
    monkeypatch.setattr(fetching, "GITHUB", f"http://127.0.0.1:{httpd.server_port}")
    monkeypatch.setattr(fetching.time, "sleep", lambda _: None)
    monkeypatch.delenv("RV_MIRROR", raising=False)
    Server.asked = []
    yield Server
    httpd.shutdown()
    httpd.server_close()


def get(target):
    fetch(["toy"], target, progress=False)
    return target / "toy/test/reference/photo.png"


@pytest.mark.parametrize("behaviour", ["good", "503 once", "drops once", "ignores ranges"])
def test_the_right_bytes_arrive(server, tmp_path, behaviour):
    server.behaviour = behaviour
    path = get(tmp_path / "data")
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == (1 if behaviour == "good" else 2)
    assert [file.name for file in path.parent.iterdir()] == ["photo.png"]


def test_a_dropped_download_goes_on_where_it_ended(server, tmp_path):
    server.behaviour = "drops once"
    get(tmp_path / "data")
    assert server.asked[1].startswith("bytes=")
    assert int(server.asked[1][6:-1]) > 0


@pytest.mark.parametrize(
    ("behaviour", "message", "requests"),
    [("404", "status 404", 1), ("503", "status 503", 4), ("wrong bytes", "wrong bytes", 1)],
)
def test_what_cannot_be_fetched_is_named_and_nothing_is_kept(server, tmp_path, behaviour, message, requests):
    server.behaviour = behaviour
    with pytest.raises(rvlib.UserError, match=f"photo.png of toy could not be fetched: .*{message}"):
        get(tmp_path / "data")
    assert len(server.asked) == requests
    assert not (tmp_path / "data/toy/test/reference/photo.png").exists()


def test_what_is_there_is_kept_and_what_is_damaged_is_got_again(server, tmp_path):
    server.behaviour = "good"
    path = get(tmp_path / "data")
    get(tmp_path / "data")
    assert len(server.asked) == 1
    path.write_bytes(CONTENT[:-1] + b"!")
    assert get(tmp_path / "data").read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_the_mirror_comes_first_and_the_address_is_the_second_choice(server, tmp_path, monkeypatch):
    server.behaviour = "good"
    mirrored = tmp_path / "mirror/a/b/c/photo.png"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_bytes(CONTENT)
    monkeypatch.setenv("RV_MIRROR", str(tmp_path / "mirror"))
    get(tmp_path / "first")
    assert server.asked == []
    mirrored.write_bytes(b"something else")
    assert get(tmp_path / "second").read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_full_disk_is_one_clear_error(server, tmp_path, monkeypatch):
    server.behaviour = "good"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching.os, "replace", full)
    with pytest.raises(rvlib.UserError, match="No space left on device"):
        get(tmp_path / "data")


def test_unknown_sets_are_named(tmp_path):
    with pytest.raises(rvlib.UserError, match="unknown set 'Set6': choose among samples, Set5"):
        fetch(["Set6"], tmp_path)


def test_sample_photos_need_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.requests, "get", None)
    fetch(["samples"], tmp_path, progress=False)
    assert len(list(tmp_path.glob("samples/test/reference/*"))) == 4


def test_the_manifest_is_sound():
    listed = manifest()
    assert not listed.isna().any().any()
    assert listed["sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert not listed.duplicated(["set", "split", "role", "file"]).any()
    by_split = {split: set(rows["sha256"]) for split, rows in listed.groupby("split")}
    assert not by_split["train"] & by_split["test"]
    assert not by_split["train"] & by_split["validation"]
    assert not listed["path"].str.contains("images/val/").any(), "BSDS500's validation folder is the test set BSD100"
    for name in ("Set5", "Set14", "Urban100"):
        rows = listed[listed["set"] == name]
        sides = [set(rows[rows["role"] == role]["file"]) for role in ("reference", "degraded")]
        assert sides[0] == sides[1]
        assert len(sides[0]) == {"Set5": 5, "Set14": 14, "Urban100": 100}[name]
    for file in listed[listed["source"] == "github"]["path"]:
        assert len(Path(file).parts[2]) == 40, f"{file} is not pinned by a commit"
