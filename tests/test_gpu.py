"""Training on a GPU, emulated (`tests/emulated_gpu.py`): nothing is left behind on the CPU, and the weights are its."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from rvlib import complexity, evaluate, tiles, train
from rvlib.train import Settings, fit

PROGRAM = Path(__file__).parent / "emulated_gpu.py"


def on_gpu(*words):
    """What the program prints."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(PROGRAM), *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def start(methods, folder):
    """Train methods on the CPU, on the emulated GPU, and there with a stop in between."""
    assert '"mixing": "refused"' in on_gpu("recipes", ",".join(methods), folder)  # it is able to fail


def assert_the_same(folder, method):
    """As on the CPU, up to the order of sums; and a run that was stopped bit for bit as one that was not."""
    cpu, gpu, parts = (
        torch.load(folder / place / method / "state.pt", weights_only=True) for place in ("cpu", "gpu", "parts")
    )
    assert cpu["step"] == gpu["step"] == parts["step"] == 6
    for name, value in gpu["average"].items():
        assert torch.equal(value, parts["average"][name]), name
        torch.testing.assert_close(value, cpu["average"][name], rtol=1e-3, atol=1e-4)
    logs = [pd.DataFrame(each["rows"]).drop(columns="seconds") for each in (gpu, parts, cpu)]
    pd.testing.assert_frame_equal(logs[0], logs[1])
    pd.testing.assert_frame_equal(logs[0], logs[2], rtol=1e-3)


@pytest.mark.slow
def test_fit_validation_and_resume(tmp_path):
    """The simplest method, and the one with most parts; tests/faults tries every recipe."""
    start(["fsrcnn", "diffir-s2"], tmp_path)
    for method in ("fsrcnn", "diffir-s2"):
        assert_the_same(tmp_path, method)


@pytest.mark.slow
def test_training_cells_of_a_notebook(tmp_path):
    """What they leave is on the CPU, where later cells have their photos; tests/faults tries every notebook."""
    assert '"networks"' in on_gpu("notebook", "fsrcnn", tmp_path)


def test_too_little_memory_names_the_setting(tmp_path, monkeypatch):
    import rvlib
    from rvlib.degrade import Bicubic
    from rvlib.pairs import Patches
    from rvlib.photos import sample

    def objective(model, batch):
        raise torch.OutOfMemoryError("2 TiB")

    patches = Patches({"coffee": sample("coffee")[:64, :64]}, Bicubic(4), patch_size=32, channels=1)
    with pytest.raises(rvlib.UserError, match=r"does not suffice for 4 pairs at a time: .*\(accumulate=4\)"):
        fit(rvlib.create("fsrcnn"), objective, patches, Settings(steps=1, batch_size=8, accumulate=2), run=tmp_path)


def test_kernels_are_chosen_for_a_gpu_alone_and_put_back():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    with train._kernels(Settings(steps=1), torch.device("cpu")):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == before
    for tf32, deterministic in ((True, False), (False, True)):
        settings = Settings(steps=1, tf32=tf32, deterministic=deterministic)
        with train._kernels(settings, torch.device("cuda:0")):
            assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
            assert torch.backends.cudnn.benchmark != deterministic
            assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_memory_is_measured_on_the_device_of_the_photo(monkeypatch):
    """On the current one, cuda:1 would seem to take nothing, and the tile's size would be divided by zero."""
    asked = []

    class Photo:
        is_cuda, device = True, torch.device("cuda:1")

    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device=None: asked.append(device) or 5)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device=None: asked.append(device))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: asked.append(device) or 12)
    assert complexity.peak_memory(lambda photo: None, Photo()) == 7
    assert asked == [Photo.device] * 3


def test_the_tile_does_not_depend_on_what_was_restored_before(monkeypatch):
    """What torch keeps of earlier photos is as free as what it never took."""
    device, sides = torch.device("cuda:0"), []
    for kept in (0, 3 * 2**30):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, kept=kept: (8 * 2**30 - kept, 80 * 2**30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _, kept=kept: kept + 5)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 5)
        sides.append(tiles.fitting(10_000.0, 1.0, device, 32))
    assert sides[0] == sides[1] > 500


def test_evaluation_computes_on_the_gpu_that_is_there_and_leaves_the_model(monkeypatch):
    moved = []

    class Network:
        def to(self, device):
            moved.append((self, device))
            return self

    network = Network()
    evaluate.with_model(network)
    assert not moved
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    evaluate.with_model(network)
    assert [device for _, device in moved] == ["cuda"]
    assert moved[0][0] is not network
