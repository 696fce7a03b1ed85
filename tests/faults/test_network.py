"""Servers that misbehave in ways that test_fetch.py leaves out: one error that names file and address, nothing kept."""

import shutil
import ssl
import subprocess
import threading
import time

import pytest
from test_fetch import CONTENT, files, get, lists, row, server  # noqa: F401  (a fixture)

import rvlib
from rvlib import download
from rvlib.study import fetch as fetching

OVER = threading.Event()  # until then, servers that fall silent stay connected


def answers(server, answer):  # noqa: F811
    server.answer = lambda self, behaviour, number: answer(self, number)


def redirects_in_circles(request, number):
    request.send_response(302)
    request.send_header("Location", request.path)
    request.end_headers()


def is_too_busy(request, number):
    request.send_error(429)


def says_nothing(request, number):
    OVER.wait(20)


def sends_a_byte_and_falls_silent(request, number):
    request.send_response(200)
    request.send_header("Content-Length", str(len(CONTENT)))
    request.end_headers()
    request.wfile.write(CONTENT[:1])
    request.wfile.flush()
    OVER.wait(20)


def claims_another_length(request, number):
    request.send_response(200)
    request.send_header("Content-Length", str(len(CONTENT) + 7))
    request.end_headers()
    request.wfile.write(CONTENT)


def sends_an_endless_header(request, number):
    request.wfile.write(b"HTTP/1.0 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n")


def sends_no_http(request, number):
    request.wfile.write(b"\x00\x01\x02 hello\r\n\r\n")


MISBEHAVIOURS = [
    redirects_in_circles, is_too_busy, says_nothing, sends_a_byte_and_falls_silent, claims_another_length,
    sends_an_endless_header, sends_no_http,
]  # fmt: skip


@pytest.mark.parametrize("behaviour", MISBEHAVIOURS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_a_server_that_misbehaves(server, tmp_path, monkeypatch, behaviour, size, tally):  # noqa: F811
    monkeypatch.setattr(download, "TIMEOUT", (0.3, 0.3))
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    lists(tmp_path, row(size=size))
    answers(server, behaviour)
    OVER.clear()
    began = time.monotonic()
    with pytest.raises(rvlib.UserError, match=rf"photo\.png of toy could not be fetched: {server.address}.*RV_MIRROR"):
        get(tmp_path / "data")
    OVER.set()
    assert time.monotonic() - began < 15, "the server was waited for"
    assert [file for file in files(tmp_path / "data") if not file.endswith(".part")] == []
    tally("server: " + behaviour.__name__.replace("_", " "), "refused")


def test_a_busy_server_is_asked_again(server, tmp_path, tally):  # noqa: F811
    good = server.answer
    server.answer = lambda self, behaviour, number: self.send_error(429) if number < 3 else good(self, "good", number)
    assert get(tmp_path / "data").read_bytes() == CONTENT
    tally("server: is too busy twice", "asked again, right bytes")


def test_a_server_without_tls_is_refused(server, tmp_path, monkeypatch, tally):  # noqa: F811
    monkeypatch.setattr(fetching, "GITHUB", server.address.replace("http:", "https:"))
    with pytest.raises(rvlib.UserError, match="no connection"):
        get(tmp_path / "data")
    assert files(tmp_path / "data") == []
    tally("server: no TLS behind https", "refused")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_server_whose_certificate_nobody_signed_is_refused(server, tmp_path, monkeypatch, tally):  # noqa: F811
    made = "req -x509 -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -days 2"
    pair = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"]
    subprocess.run(["openssl", *made.split(), *pair], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    server.httpd.socket = context.wrap_socket(server.httpd.socket, server_side=True)
    monkeypatch.setattr(fetching, "GITHUB", server.address.replace("http:", "https:"))
    with pytest.raises(rvlib.UserError, match="no connection"):
        get(tmp_path / "data")
    assert files(tmp_path / "data") == []
    assert server.asked == [], "nothing is asked of it"
    tally("server: a certificate that nobody signed", "refused")
