"""Several processes share each batch: the same weights and the same log come out as from one, whatever goes wrong.

The processes are started by torchrun and talk through gloo; `tests/two_processes.py` is what they run.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import rvlib
from rvlib import processes, recipes
from rvlib.errors import UserError
from rvlib.photos import sample

STARTS = pytest.mark.slow  # processes that start processes
PROGRAM = Path(__file__).parent / "two_processes.py"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]


def start(folder, *words, number=2, **environment):
    """Run the program in so many processes; torchrun is what makes them several."""
    launcher = [*TORCHRUN, str(number)] if number > 1 else []
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, *launcher, str(PROGRAM), *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode or f"{number} processes" in done.stdout
    return done


def state(run):
    return torch.load(run / "state.pt", weights_only=True)


def assert_equal(first, second, tolerance=1e-9):
    """Weights, their averages, running statistics and logs of two runs in float64."""
    assert first["step"] == second["step"]
    for part in ("model", "average"):
        assert any(value.dtype == torch.float64 for value in first[part].values())
        for key, value in first[part].items():
            assert torch.allclose(value, second[part][key], rtol=0, atol=tolerance), (part, key)
    logs = [pd.DataFrame(each["rows"]).drop(columns="seconds") for each in (first, second)]
    pd.testing.assert_frame_equal(*logs, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    done = start(folder, "srresnet,diffir-s2-separate", "run", number=1)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "run"


@STARTS
def test_two_processes_equal_one(tmp_path, alone):
    """With BatchNorm, and with a part that gets no gradient; tests/faults tries every recipe."""
    done = start(tmp_path, "srresnet,diffir-s2-separate", "run")
    assert done.returncode == 0, done.stderr[-3000:]
    for method in ("srresnet", "diffir-s2-separate"):
        assert_equal(state(alone / method), state(tmp_path / "run" / method))
        moved = state(alone / method)["model"]  # else the weights of two trainings would be equal whatever they saw
        fresh = rvlib.create("srgan", features=8, blocks=1).state_dict() if method == "srresnet" else {}
        assert all((moved[key] - value).abs().max() > 1e-3 for key, value in fresh.items() if key.endswith("mean"))


@STARTS
def test_a_signal_that_one_process_hears_stops_all_at_the_same_step(tmp_path, alone):
    done = start(tmp_path, "srresnet", "run", "stop")
    assert done.returncode
    assert "stopped at step 14; started again, the run resumes there" in done.stderr  # one after the signal
    assert state(tmp_path / "run/srresnet")["step"] == 14
    rvlib.load(tmp_path / "run/srresnet/last.safetensors")
    done = start(tmp_path, "srresnet", "run", number=1)  # and another number of processes goes on from there
    assert done.returncode == 0, done.stderr[-3000:]
    assert_equal(state(alone / "srresnet"), state(tmp_path / "run/srresnet"))


@STARTS
def test_a_loss_that_is_no_number_in_one_process_spoils_nothing(tmp_path):
    done = start(tmp_path, "srresnet", "run", "nan")  # in a step that validates and saves
    assert done.returncode
    assert done.stderr.count("the loss is nan at step 15, on patches of chelsea, coffee; ") == 2
    assert done.stderr.count("the last good state is that of step 10") == 2
    saved = state(tmp_path / "run/srresnet")
    assert saved["step"] == 10
    assert all(torch.isfinite(value).all() for value in saved["model"].values())


@STARTS
def test_machines_without_a_shared_disk_are_refused(tmp_path):
    done = start(tmp_path, "fsrcnn", "node-{rank}")
    assert done.returncode
    assert "fsrcnn at different steps (0, none): the run folder must lie on a disk that all machines share" in (
        done.stderr.replace("node-0/", "").replace("node-1/", "")
    )


@STARTS
def test_the_configuration_of_accelerate_changes_nothing(tmp_path, alone):
    asked = {
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
        "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR",
        "ACCELERATE_USE_FSDP": "true",
    }
    done = start(tmp_path, "srresnet", "run", number=1, **asked)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "not used, for a run's settings alone say how it trains: ACCELERATE_MIXED_PRECISION=bf16" in done.stderr
    assert_equal(state(alone / "srresnet"), state(tmp_path / "run/srresnet"), tolerance=0)


@STARTS
def test_train_starts_its_own_processes(tmp_path, photos):
    facts = {"steps": 5, "batch_size": 4, "patch_size": 32, "validate_every": 5, "learning_rate": 1e-3}
    facts |= {"warmup_steps": 0, "start": rvlib.create("fsrcnn", d=20)}
    alone, log = recipes.train("fsrcnn", photos, run=tmp_path / "one", **facts)
    shared, same_log = recipes.train("fsrcnn", photos, run=tmp_path / "two", processes=2, **facts)
    pd.testing.assert_frame_equal(log.drop(columns="seconds"), same_log.drop(columns="seconds"), atol=1e-7)
    for ours, theirs, before in zip(*(m.parameters() for m in (alone, shared, facts["start"])), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
        assert (ours - before).abs().max() > 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]  # what they shared is gone


def test_a_complete_run_starts_no_processes(tmp_path, monkeypatch):
    photos, begun = {"coffee": sample("coffee")[:64, :64]}, []
    facts = {"run": tmp_path / "run", "batch_size": 4, "patch_size": 32, "start": rvlib.create("fsrcnn", d=20)}
    _, log = recipes.train("fsrcnn", photos, steps=2, **facts)
    monkeypatch.setattr(recipes, "in_processes", lambda number, *_, **__: begun.append(number))
    _, same = recipes.train("fsrcnn", photos, steps=2, processes=2, **facts)
    pd.testing.assert_frame_equal(log, same)
    assert not begun
    recipes.train("fsrcnn", photos, steps=3, processes=2, **facts)
    assert begun == [2]


@STARTS
@pytest.mark.parametrize("machines", [pytest.param(1, marks=pytest.mark.drill), 2])
def test_the_lines_of_the_readme_train_together(machines, tmp_path):
    """As they stand, but for the sizes: two processes of one machine, or of two, which share this one's disk."""
    readme = (Path(__file__).parent.parent / "README.md").read_text().replace("\n", " ")
    line = re.findall(r"`(torchrun [^`]+ -m rvlib -- train) ", readme)[machines - 1]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        line = line.replace("HOST:29500", f"localhost:{free.getsockname()[1]}")
    line = line.replace("--nproc_per_node 8", f"--nproc_per_node {2 // machines}")
    (tmp_path / "photos").mkdir()
    Image.fromarray(sample("coffee")[:96, :128]).save(tmp_path / "photos" / "coffee.png")
    words = "fsrcnn --photos photos --run run --steps 4 --set batch_size=4".split()
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *line.split()[1:], *words],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(machines)
    ]
    said = [process.communicate(timeout=300)[1] for process in begun]
    assert [process.returncode for process in begun] == [0] * machines, "\n".join(each[-3000:] for each in said)
    assert json.loads((tmp_path / "run/run.json").read_text())["history"][0]["processes"] == 2
    assert rvlib.load(tmp_path / "run").spec["name"] == "fsrcnn"


class Process:
    """One of several, as far as `Training` looks at it before the first step."""

    num_processes, process_index, device = 4, 1, torch.device("cpu")


def test_a_batch_that_cannot_be_shared_is_refused():
    assert processes.share(8, Process()) == slice(2, 4)
    with pytest.raises(UserError, match="batch_size 6 cannot be shared equally by 4 processes"):
        processes.share(6, Process())


def test_accumulate_cuts_the_share_of_a_process():
    from rvlib.degrade import Bicubic
    from rvlib.losses import mse
    from rvlib.objectives import Pixelwise
    from rvlib.pairs import Patches
    from rvlib.train import Settings, Training

    patches = Patches({"coffee": sample("coffee")[:64, :64]}, Bicubic(4), patch_size=32, channels=1)
    for accumulate in (1, 2):
        Training(
            rvlib.create("fsrcnn"),
            Pixelwise(mse),
            patches,
            Settings(steps=1, batch_size=8, accumulate=accumulate),
            Process(),
        )
    with pytest.raises(UserError, match="each of 4 processes has 2 of 8 pairs, which cannot be cut into 4 equal parts"):
        Training(
            rvlib.create("fsrcnn"), Pixelwise(mse), patches, Settings(steps=1, batch_size=8, accumulate=4), Process()
        )


def test_processes_that_would_each_train_alone_are_refused(monkeypatch):
    for name, value in (("TORCHELASTIC_RUN_ID", "none"), ("WORLD_SIZE", "2")):
        processes.check_together(mock.Mock(num_processes=1))
        monkeypatch.setenv(name, value)
    processes.check_together(mock.Mock(num_processes=2))
    with pytest.raises(UserError, match="2 processes were started, and each would train alone"):
        processes.check_together(mock.Mock(num_processes=1))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="2 processes need a GPU each, and this machine has 1"):
        processes.in_processes(2, print)


def test_ctrl_c_is_no_traceback_of_the_launcher(monkeypatch):
    stop = processes.SignalException("Process 1 got signal: 2", signal.SIGINT)
    monkeypatch.setattr(processes, "elastic_launch", lambda *_: mock.Mock(side_effect=stop))
    with pytest.raises(KeyboardInterrupt, match="started again, the run resumes") as caught:
        processes.in_processes(2, print)
    assert caught.value.__suppress_context__


def test_a_shared_norm_evaluates_and_is_saved_as_the_one_it_replaces():
    model = rvlib.create("srgan", features=8, blocks=1).train()
    before, x = model.state_dict(), torch.rand(2, 3, 8, 8)
    expected = rvlib.create("srgan", features=8, blocks=1)
    expected.load_state_dict(before)
    processes.synchronise(model)
    assert sum(isinstance(module, processes.SharedBatchNorm) for module in model.modules()) == 3
    assert model.state_dict().keys() == before.keys()
    assert not any(type(module) is nn.BatchNorm2d for module in model.modules())
    for mode in (True, False):  # in one process, training too is what it was
        assert torch.equal(model.train(mode)(x), expected.train(mode)(x))
