"""Nothing let in: no code from a file runs, no bomb unpacks, nothing is written elsewhere, no text becomes markup."""

import json
import os
import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from test_batch import _png

import rvlib
from rvlib import checkpoint, cli, compare, originals, photos
from rvlib.study import report

ROOT = Path(__file__).parent.parent.parent
HOSTILE = "<script>alert(1)</script>\"' onerror=alert(1) ${{7*7}} {{7*7}} </td></table> & ../../x"


# Weights --------------------------------------------------------------------------------------------------------------


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
LYING = {
    "header longer than the file": safetensors({"a": ONE}, bytes(4), length=2**40),
    "header of 2^63 bytes": safetensors({"a": ONE}, bytes(4), length=2**63),
    "no header": safetensors(b"", b""),
    "header is no JSON": safetensors(b"{nonsense", bytes(4)),
    "header is a list": safetensors([1], bytes(4)),
    "header nested deeply": safetensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "offsets beyond the file": safetensors({"a": ONE | {"data_offsets": [0, 4_000_000]}}, bytes(4)),
    "offsets backwards": safetensors({"a": ONE | {"data_offsets": [4, 0]}}, bytes(4)),
    "offsets that overlap": safetensors({"a": ONE, "b": ONE}, bytes(4)),
    "shape larger than the data": safetensors({"a": ONE | {"shape": [10**9]}}, bytes(4)),
    "shape that overflows": safetensors({"a": ONE | {"shape": [2**32, 2**32]}}, bytes(4)),
    "negative shape": safetensors({"a": ONE | {"shape": [-1]}}, bytes(4)),
    "unknown numbers": safetensors({"a": ONE | {"dtype": "F99"}}, bytes(4)),
    "hole before the data": safetensors({"a": ONE | {"data_offsets": [4, 8]}}, bytes(8)),
    "no tensors": safetensors({}),
    "tensors of no model": safetensors({"a": ONE}, bytes(4)),
}


@pytest.mark.parametrize("kind", LYING)
def test_lying_headers_are_refused(tmp_path, kind, tally):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(LYING[kind])
    own = {"no tensors": "holds no state_dict", "tensors of no model": "holds no network"}
    with pytest.raises(
        rvlib.UserError, match=rf"weights\.safetensors {own.get(kind, 'is no readable safetensors file')}"
    ):
        rvlib.load(path)
    tally("safetensors with a lying header", "refused")


SWINIR = {"embed": 4, "depths": [1], "heads": [1], "window": 2}
METADATA = {
    "no JSON": "{",
    "no object": "[1]",
    "nested deeply": '{"arguments":' * 100_000,
    "no name": '{"arguments": {}}',
    "unknown name": {"name": "os.system", "arguments": {}},
    "name is a path": {"name": "../../fsrcnn", "arguments": {}},
    "unknown argument": {"name": "fsrcnn", "arguments": {"callback": "os.system"}},
    "argument twice": {"name": "fsrcnn", "arguments": {"name": "srcnn"}},
    "text for a number": {"name": "fsrcnn", "arguments": {"d": "__import__('os')"}},
    "negative": {"name": "fsrcnn", "arguments": {"d": -1}},
    "zero channels": {"name": "swinir", "arguments": SWINIR | {"embed": 0}},
    "a billion layers": {"name": "fsrcnn", "arguments": {"m": 10**9}},
    "a billion channels": {"name": "srgan", "arguments": {"features": 10**9}},
    "infinite layers": '{"name": "fsrcnn", "arguments": {"m": Infinity}}',
    "no number": '{"name": "fsrcnn", "arguments": {"m": NaN}}',
    "many blocks": {"name": "swinir", "arguments": {"depths": [10**6] * 4, "heads": [6] * 4}},
    "lists for numbers": {"name": "nafnet", "arguments": {"width": [1, 2], "encoder": 3}},
    "a window of a thousand": {"name": "swinir", "arguments": SWINIR | {"window": 1000}},
    "a million time steps": {"name": "diffir", "arguments": {"timesteps": 10**9}},
    "object for a list": {"name": "diffir", "arguments": {"blocks": {"a": 1}}},
    "another model's": {"name": "nafnet", "arguments": {}},
    "wrong hash": {"name": "fsrcnn", "arguments": {}, "sha256": "0" * 64},
    "hash is a list": {"name": "fsrcnn", "arguments": {}, "sha256": []},
}


@pytest.mark.parametrize("kind", METADATA)
def test_lying_metadata_is_refused_at_no_cost(tmp_path, monkeypatch, kind, tally):
    path, created_on = tmp_path / "weights.safetensors", set()

    def create(*arguments, **named):
        created_on.add(torch.get_default_device().type)
        return rvlib.create(*arguments, **named)

    monkeypatch.setattr(checkpoint, "create", create)
    name, arguments = ("swinir", SWINIR) if kind in ("zero channels", "a window of a thousand") else ("fsrcnn", {})
    state = rvlib.create(name, **arguments).state_dict()
    save_file(state, path, metadata={"rvlib": json.dumps({"name": name, "arguments": arguments})})
    assert rvlib.load(path).spec["name"] == name, "metadata that does not lie"
    created_on.clear()
    text = METADATA[kind] if isinstance(METADATA[kind], str) else json.dumps(METADATA[kind])
    save_file(state, path, metadata={"rvlib": text})
    with pytest.raises(rvlib.UserError, match=r"weights\.safetensors") as caught:
        rvlib.load(path)
    assert created_on <= {"meta"}, "its size is known before memory is taken"
    assert len(str(caught.value)) < 50_000
    tally("safetensors with lying metadata", "refused")


def test_a_window_that_needs_terabytes_is_refused(tmp_path):
    """Shapes that fit a small file may still ask for a large table of positions."""
    with torch.device("meta"):
        model = rvlib.create("swinir", embed=2, depths=(1,), heads=(1,), window=300)
    state = {name: torch.zeros(value.shape) for name, value in model.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(rvlib.UserError, match=r"weights\.safetensors describes a model that does not fit into memory"):
        rvlib.load(tmp_path / "weights.safetensors")


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.complex64, torch.bfloat16, torch.float8_e4m3fn])
def test_numbers_of_another_kind_are_taken_or_refused(tmp_path, dtype):
    state = {name: value.to(dtype) for name, value in rvlib.create("fsrcnn").state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    try:
        rvlib.load(tmp_path / "weights.safetensors")
    except rvlib.UserError as error:
        assert "weights.safetensors" in str(error)


class Runs:
    """A pickle that makes a folder when it is read."""

    def __init__(self, folder, function="os.mkdir"):
        self.folder, self.function = str(folder), function

    def __reduce__(self):
        if self.function == "os.mkdir":
            return os.mkdir, (self.folder,)
        if self.function == "eval":
            return eval, (f"__import__('os').mkdir({self.folder!r})",)
        return subprocess.call, (["mkdir", self.folder],)


@pytest.mark.parametrize("function", ["os.mkdir", "eval", "subprocess.call"])
@pytest.mark.parametrize("place", ["whole", "value", "nested", "key", "state of a run"])
def test_hostile_pickles_do_not_run(tmp_path, function, place, tally):
    hostile = Runs(tmp_path / "executed", function)
    state = rvlib.create("fsrcnn").state_dict()
    content = {
        "whole": hostile, "value": {**state, "x": hostile}, "nested": {"params": state, "extra": [{"a": hostile}]},
        "key": {("a", hostile): 1}, "state of a run": {"model": state, "average": hostile},
    }[place]  # fmt: skip
    torch.save(content, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(content))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(rvlib.UserError, match=rf"{name} .*nothing in it was executed"):
            rvlib.load(tmp_path / name)
        assert not (tmp_path / "executed").exists()
        tally("hostile pickle", "refused, nothing ran")


def test_a_hostile_training_state_does_not_run(tmp_path, tally):
    from rvlib import recipes

    pictures = {"coffee": photos.sample("coffee")[:48, :48]}
    options = {"steps": 2, "validate_every": 1, "patch_size": 16, "batch_size": 2}
    recipes.train("fsrcnn", pictures, run=tmp_path / "run", **options)
    torch.save({"model": Runs(tmp_path / "executed")}, tmp_path / "run/state.pt")
    with pytest.raises(rvlib.UserError, match=r"state\.pt is damaged"):
        recipes.train("fsrcnn", pictures, run=tmp_path / "run", **options)
    assert not (tmp_path / "executed").exists()
    tally("hostile pickle", "refused, nothing ran")


# Photos ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [photos.read, originals.read])
def test_photos_that_are_bombs_are_refused_before_they_unpack(tmp_path, read, tally):
    bombs = {
        "bomb.png": _png(60_000, 60_000),
        "wide.png": _png(2**31 - 1, 1),
        "tall.png": _png(1, 2**31 - 1),
        "bomb.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(rvlib.UserError, match=f"{name} has too many pixels"):
            read(tmp_path / name)
        tally("photo that is a bomb", "refused")


# Texts ----------------------------------------------------------------------------------------------------------------


def test_hostile_texts_are_shown_and_not_interpreted(tmp_path, tally):
    from html.parser import HTMLParser

    table = pd.DataFrame({"set": [HOSTILE], "method": ["<img src=x onerror=alert(1)>"], "psnr_y_crop4": [30.0]})
    table.to_csv(tmp_path / "table.csv", index=False)
    place = tmp_path / "a<script>alert(1)<"
    place.mkdir()
    Image.new("RGB", (4, 3)).save(place / "x onerror=alert(1).png")
    image = photos.sample("coffee")[:8, :8]
    parts = [
        report.table_html(tmp_path / "table.csv"),
        report.figure_html(place / "x onerror=alert(1).png", HOSTILE),
        compare.slider_html(image, image, HOSTILE),
    ]
    report.render([{"title": HOSTILE, "text": HOSTILE, "parts": parts}], tmp_path / "page.html", profile=HOSTILE,
                  commit=HOSTILE, summary=[(HOSTILE, [HOSTILE])])  # fmt: skip
    page = (tmp_path / "page.html").read_text()
    found = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

    Parser().feed(page)
    assert [attributes for tag, attributes in found if tag == "script"] == [{}], "the page's own"
    assert not [(tag, a) for tag, a in found if any(name.startswith("on") for name in a) and tag != "input"]
    assert all(a["src"].startswith("data:") for tag, a in found if tag == "img")
    assert len([tag for tag, _ in found if tag == "table"]) == page.count("</table>") == 1
    policy = next(
        a["content"] for tag, a in found if tag == "meta" and "content" in a and "default-src" in a["content"]
    )
    assert "default-src 'none'" in policy
    assert not re.search(r"https?:", policy)
    tally("hostile text in the report", "shown as text")


@pytest.mark.parametrize("text", ["a | b", "a || b | c", "\\|", "`|`"])
def test_a_bar_in_a_name_moves_no_number_to_another_column(tmp_path, text):
    from html.parser import HTMLParser

    pd.DataFrame({"method": [text], "psnr_y_crop4": [30.25]}).to_csv(tmp_path / "table.csv", index=False)
    page = report.table_html(tmp_path / "table.csv")
    cells = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, _):
            if tag == "td":
                cells.append("")

        def handle_data(self, data):
            if cells:
                cells[-1] += data

    Parser().feed(page)
    assert len(cells) == 2
    assert "30.25" in cells[1]


# Shells and servers ---------------------------------------------------------------------------------------------------

META = [
    "; touch evil",
    "$(touch evil)",
    "`touch evil`",
    "| touch evil",
    "&& touch evil",
    "x\ntouch evil",
    "'; touch evil '",
]


@pytest.mark.parametrize("text", META)
def test_the_name_of_a_set_is_no_command(tmp_path, monkeypatch, text, tally):
    content = {"profile": "laptop", "fetch": {"sets": [text]}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rvlib", "fetch", "--params", "params.yaml", "--target", "data"])
    with pytest.raises(SystemExit, match="unknown set"):
        cli.main()
    assert not list(tmp_path.rglob("*evil*"))
    tally("shell metacharacters as the name of a set", "taken as a name, refused")


def test_commands_of_the_pipeline_contain_the_names_of_parameters_file_and_method_alone():
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        command = stage.get("do", stage)["cmd"]
        assert set(re.findall(r"\$\{(.*?)\}", command)) <= {"params", "key"}, name
    for file in (ROOT / "params.yaml", *ROOT.glob("profiles/*/params.yaml")):
        content = yaml.safe_load(file.read_text())
        assert re.fullmatch(r"[\w./-]+", content["params"]), f"{file}: {content['params']}"
        for method in content["methods"]:
            assert re.fullmatch(r"[a-z][a-z0-9_]*", method), f"{file}: {method}"


def test_the_library_starts_no_shell():
    for file in (ROOT / "rvlib").rglob("*.py"):
        assert not re.search(r"shell\s*=\s*True|os\.system|os\.popen|(?<![.\w])(eval|exec)\(", file.read_text()), (
            file.name
        )


def test_jupyterlab_listens_on_this_machine_alone_and_keeps_its_token():
    line = re.search(r"^lab:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.M)[1]
    assert "--ip=127.0.0.1" in line
    for weakened in ("token", "password", "allow_origin", "disable_check_xsrf", "allow_remote"):
        assert weakened not in line
    assert line.count("allow-root") == line.count("$(if $(filter 0,$(shell id -u)),--allow-root)") == 1, (
        "for root alone"
    )


@pytest.mark.drill
def test_jupyterlab_refuses_who_has_no_token(tmp_path, tally):
    import socket
    import time
    import urllib.error
    import urllib.request

    line = re.search(r"^lab:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.M)[1]
    line = re.sub(r"\$\(if .*\$\(OPTIONS\)", "", line).split()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    extra = ["--no-browser", f"--port={port}", "--ServerApp.port_retries=0"]
    extra += ["--allow-root"] if os.geteuid() == 0 else []
    log = (tmp_path / "log").open("w")
    program = [str(Path(sys.executable).parent / line[0]), *line[1:], *extra]
    process = subprocess.Popen(program, cwd=ROOT, stderr=log, stdout=log)
    try:
        for _ in range(120):
            if f"127.0.0.1:{port}/lab?token=" in (tmp_path / "log").read_text():
                break
            time.sleep(0.5)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/contents")
        assert caught.value.code == 403
        token = re.search(r"token=(\w+)", (tmp_path / "log").read_text())[1]
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/api/contents?token={token}").status == 200
        others = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)}
        for address in others - {"127.0.0.1"}:
            with socket.socket() as outside:
                assert address.startswith("127.") or outside.connect_ex((address, port)) != 0
    finally:
        process.terminate()
        process.wait()
    tally("JupyterLab asked without its token", "refused")
