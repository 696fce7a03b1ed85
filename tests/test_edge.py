"""ONNX files against torch, through onnxruntime; without the extra `edge` only the refusal is tested."""

import importlib.util
import logging
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
import torch

import rvlib
from rvlib import edge, evaluate, fast, models, photos
from rvlib.degrade import imresize

WITH_THE_EXTRA = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra `edge` is not installed",
)
NETWORKS = {
    "fsrcnn": {"scale": 3},
    "srcnn": {"scale": 2},
    "srgan": {"blocks": 1},
    "swinir": {"embed": 12, "depths": [2], "heads": [2]},
    "nafnet": {"width": 8, "encoder": [1, 1], "middle": 1, "decoder": [1, 1]},
    "diffir": {"task": "deblurring", "dim": 8, "blocks": [1, 1, 1, 1], "refinement": 1, "encoder": 1},
}


def made(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return rvlib.create(name, **NETWORKS[name]).eval()


@pytest.fixture(scope="module")
def small() -> np.ndarray:
    return imresize(photos.sample("coffee")[:320, :400], 1 / 4)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The released FSRCNN as torch has it, and as a file."""
    path = tmp_path_factory.mktemp("edge") / "fsrcnn.onnx"
    network = rvlib.load("fsrcnn-x4")
    assert rvlib.export(network, path) < 1e-5
    return network, path


def drilled(names):
    return [name if name in ("srcnn", "nafnet") else pytest.param(name, marks=pytest.mark.drill) for name in names]


@WITH_THE_EXTRA
@pytest.mark.slow
def test_two_exports_at_once_leave_everything_as_it_was(tmp_path):
    def replaced():
        loggers = [logging.getLogger(name).level for name in ("torch.onnx", "onnxscript")]
        return [*(getattr(fast, name) for name in fast.TWINS), models.fsrcnn.imresize, *loggers]

    before = replaced()
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda name: rvlib.export(made("srcnn"), tmp_path / name), ["a.onnx", "b.onnx"]))
    assert max(found) <= edge.LIMITS["fp32"]
    assert replaced() == before


@WITH_THE_EXTRA
@pytest.mark.slow
@pytest.mark.parametrize("name", drilled(NETWORKS))
def test_a_file_computes_what_torch_does_at_sizes_that_were_never_traced(name, tmp_path):
    import onnx
    import onnxruntime

    network, path = made(name), tmp_path / "network.onnx"
    assert rvlib.export(network, path) <= edge.LIMITS["fp32"]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(path)
    inputs = [each.name for each in session.get_inputs()]
    assert inputs == (["degraded", "noise"] if network.noise_size else ["degraded"])
    assert [each.name for each in session.get_outputs()] == ["restored"]
    assert session.get_inputs()[0].shape == ["batch", network.channels, "height", "width"], "what is free is named"
    side = network.multiple_of
    degraded = torch.rand(3, network.channels, side * -(-40 // side), side * -(-57 // side))
    given = (degraded, torch.randn(3, network.noise_size))[: len(inputs)]
    with torch.no_grad():
        expected = network(*given)
    found = session.run(None, {key: value.numpy() for key, value in zip(inputs, given, strict=True)})[0]
    assert np.abs(found - expected.numpy()).max() < 1e-4


@WITH_THE_EXTRA
@pytest.mark.slow
def test_restore_takes_a_file_like_any_network(released, small):
    network, path = released
    file = rvlib.load(path)
    expected = rvlib.restore(network, small).astype(int)
    for tile in (None, 64):
        assert np.abs(rvlib.restore(file, small, tile=tile) - expected).max() <= 1
    assert (file.task, file.scale, file.channels, file.method) == ("super-resolution", 4, 1, "fsrcnn")


@WITH_THE_EXTRA
@pytest.mark.slow
@pytest.mark.parametrize("name", ["fsrcnn", "swinir"])
def test_the_colour_around_the_luminance_is_that_of_restore(name, small, tmp_path):
    torch.manual_seed(0)
    network = rvlib.create(name, **NETWORKS[name], channels=1)
    rvlib.export(network, tmp_path / "rgb.onnx", rgb=True)
    file = rvlib.load(tmp_path / "rgb.onnx")
    assert (file.reach, file.window, file.multiple_of) == (network.reach, network.window, network.multiple_of)
    assert np.abs(rvlib.restore(file, small).astype(int) - rvlib.restore(network, small)).max() <= 1


@WITH_THE_EXTRA
@pytest.mark.slow
@pytest.mark.parametrize(("precision", "decibels", "share"), [("fp16", 55, 0.75), ("int8", 35, 1.2)])
def test_lower_precision_stays_near(precision, decibels, share, released, small, tmp_path):
    network, whole = released
    path = tmp_path / "small.onnx"
    rvlib.export(network, path, precision=precision)
    found = rvlib.restore(rvlib.load(path), small)
    assert rvlib.metrics.psnr(found, rvlib.restore(network, small)) > decibels
    assert path.stat().st_size < share * whole.stat().st_size


@WITH_THE_EXTRA
def test_a_file_is_measured_and_computed_by_the_cpu(released, small):
    _, path = released
    with mock.patch("torch.accelerator.current_accelerator", return_value=torch.device("meta")):
        file = rvlib.load(path, device="auto")
        assert evaluate.with_model(file)(small).shape == (4 * small.shape[0], 4 * small.shape[1], 3)
    with pytest.raises(rvlib.UserError, match="is computed by the CPU, not by cuda:7: choose auto or cpu"):
        rvlib.load(path, device="cuda:7")


@WITH_THE_EXTRA
def test_a_file_is_opened_once(released):
    with mock.patch.object(edge, "_session", wraps=edge._session) as opened:
        rvlib.load(released[1])
    assert opened.call_count == 1


@WITH_THE_EXTRA
def test_a_file_says_what_it_holds(released):
    import hashlib
    import json

    import onnx

    _, path = released
    found = {each.key: json.loads(each.value) for each in onnx.load(path).metadata_props}
    weights = (rvlib.checkpoint.WEIGHTS / "fsrcnn-x4.safetensors").read_bytes()
    assert found["sha256"] == hashlib.sha256(weights).hexdigest()
    assert (found["task"], found["scale"], found["precision"]) == ("super-resolution", 4, "fp32")
    assert found["licence"] == "Apache-2.0"


@WITH_THE_EXTRA
@pytest.mark.slow
def test_what_is_too_far_off_is_never_written(tmp_path, monkeypatch):
    path = tmp_path / "network.onnx"
    path.write_bytes(b"what was there")
    monkeypatch.setattr(edge, "quantised", lambda content, *_: content)
    found = [("fp32", 0.1), ("fp32", float("nan")), ("fp32", float("inf")), ("int8", float("inf"))]
    for precision, difference in found:
        with mock.patch.object(edge, "_largest_difference", return_value=difference):
            with pytest.raises(rvlib.UserError, match="away from torch"):
                rvlib.export(made("fsrcnn"), path, precision=precision)
        assert path.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [path]


@WITH_THE_EXTRA
def test_a_damaged_file_and_a_strangers_file_are_refused_in_one_line(released, tmp_path):
    import onnx

    path = tmp_path / "network.onnx"
    path.write_bytes(released[1].read_bytes()[:5000])
    with pytest.raises(rvlib.UserError, match="export it again"):
        rvlib.load(path)
    for spoil in (lambda each: each.ClearField("value"), lambda each: setattr(each, "value", '"four"')):
        stranger = onnx.load(released[1])
        spoil(next(each for each in stranger.metadata_props if each.key == "scale"))
        onnx.save(stranger, path)
        with pytest.raises(rvlib.UserError, match="does not say how it restores"):
            rvlib.load(path)
    del stranger.metadata_props[:]
    onnx.save(stranger, path)
    with pytest.raises(rvlib.UserError, match="does not say how it restores"):
        rvlib.load(path)
    with pytest.raises(rvlib.UserError, match="does not exist"):
        rvlib.load(tmp_path / "nothing.onnx")
    with pytest.raises(rvlib.UserError, match="leave --precision out"):
        rvlib.restore(rvlib.load(released[1]), photos.sample("chelsea")[:20, :20], precision="bf16")


@WITH_THE_EXTRA
@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "options", "problem"),
    [
        ("nafnet", {"rgb": True}, "luminance"),
        ("nafnet", {"precision": "bf16"}, "fp32, fp16, int8"),
    ],
)
def test_what_cannot_be_exported_says_why(network, options, problem, tmp_path):
    with pytest.raises(rvlib.UserError, match=problem):
        rvlib.export(made(network), tmp_path / "network.onnx", **options)
    deep = made("nafnet")
    tiny = [np.zeros((deep.multiple_of - 1, 32, 3), np.uint8)]
    with pytest.raises(rvlib.UserError, match=f"need {deep.multiple_of} pixels a side"):
        rvlib.export(deep, tmp_path / "network.onnx", precision="int8", calibration=tiny)
    with pytest.raises(rvlib.UserError, match="export stage 2"):
        rvlib.export(rvlib.create("diffir", stage=1), tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_extra_the_command_says_how_to_get_it(tmp_path):
    with mock.patch.object(importlib.util, "find_spec", return_value=None):
        with pytest.raises(rvlib.UserError, match=r"pip install -c constraints.txt -e '.\[edge\]'"):
            rvlib.export(made("fsrcnn"), tmp_path / "network.onnx")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_enlarging_by_a_convolution_is_imresize(scale):
    image = torch.rand(2, 2, 13, 30)
    assert (edge.enlarge(image, scale) - imresize(image, scale)).abs().max() < 1e-5
