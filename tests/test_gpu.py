"""Training on a GPU, emulated (`tests/emulated_gpu.py`): nothing is left behind on the CPU, and the weights are its."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pandas as pd
import pytest
import torch
from small import SMALL, before
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import rvlib
from rvlib import complexity, evaluate, losses, recipes, tiles, train
from rvlib.degrade import Bicubic, MotionBlur
from rvlib.models import srgan
from rvlib.models.base import RestorationModel
from rvlib.objectives import BlindSpot, Pixelwise
from rvlib.pairs import Ahead, Patches
from rvlib.photos import sample
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


def photo(degradation=None, channels=1):
    """Patches of one small photo, for FSRCNN."""
    return Patches({"coffee": sample("coffee")[:64, :64]}, degradation or Bicubic(4), patch_size=32, channels=channels)


@pytest.mark.parametrize(
    ("batch", "advice"),
    [
        (8, r"4 pairs at a time: cut .* \(--set accumulate=4\), or give --set bf16=true"),
        (6, "3 pairs at a time: lower --patch-size or --batch-size, or give"),
        (2, "1 pair at a time: lower --patch-size, or give"),
    ],
)
def test_too_little_memory_names_the_setting(tmp_path, batch, advice):
    def objective(model, batch):
        raise torch.OutOfMemoryError("2 TiB")

    settings = Settings(steps=1, batch_size=batch, accumulate=2)
    with pytest.raises(rvlib.UserError, match=f"does not suffice for {advice}") as told:
        fit(rvlib.create("fsrcnn"), objective, photo(), settings, run=tmp_path)
    assert told.value.__context__ is None  # whose traceback would keep the step's memory


def test_kernels_are_chosen_for_a_gpu_alone_and_put_back():
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    with train._kernels(Settings(steps=1), torch.device("cpu")):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == before
    for tf32, deterministic in ((True, False), (False, True)):
        settings = Settings(steps=1, tf32=tf32, deterministic=deterministic)
        with train._kernels(settings, torch.device("cuda:0")):
            assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
            assert torch.backends.cudnn.enabled  # which cudnn.flags() takes back where it is not told
            assert torch.backends.cudnn.allow_tf32 == tf32
            assert torch.backends.cudnn.deterministic == deterministic
            assert torch.backends.cudnn.benchmark != deterministic
            assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark) == before
    assert not torch.are_deterministic_algorithms_enabled()


class Tape(TorchDispatchMode):
    """What a CUDA graph is, on the CPU: the operations of a recording, repeated on the same tensors.

    What Python decided while it recorded is decided for good; random numbers are drawn anew.
    """

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        if operation is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = operation(*arguments, **(named or {}))
        self.operations.append((operation, arguments, named or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        for operation, arguments, named, result in self.operations:
            again = operation(*arguments, **named)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Recording:
    """`torch.cuda.graph` for a tape; a recording draws no random numbers."""

    def __init__(self, tape, *, capture_error_mode):
        assert capture_error_mode == "thread_local"
        self.tape = tape

    def __enter__(self):
        self.drawn = torch.get_rng_state()
        self.tape.__enter__()

    def __exit__(self, *error):
        self.tape.__exit__(*error)
        torch.set_rng_state(self.drawn)


@pytest.fixture
def tapes(monkeypatch):
    """Calling it lets trainings be recorded, whatever their objective says; returns what was recorded."""

    def record():
        made = []

        class Recordable(train.Training):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                self.can_be_recorded = True

        monkeypatch.setattr(train, "Training", Recordable)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: made.append(Tape()) or made[-1])
        monkeypatch.setattr(torch.cuda, "graph", Recording)
        return made

    return record


def play(method, run, *, stop=False):
    """Train for nine steps, four more than are tried before a recording; the weights of the last step."""
    if method == "blind spot":
        torch.manual_seed(0)
        model, degradation, objective = rvlib.create("nafnet", **SMALL["nafnet"]), MotionBlur(5.0), BlindSpot(losses.l1)
    else:
        recipe, start = recipes.RECIPES[method], before(method)
        torch.manual_seed(0)
        arguments = {**recipe.arguments, **SMALL[method]}
        model, objective = recipe.prepare(
            rvlib.create(recipes.METHOD_OF[method].network, **arguments), start, losses.PIXEL_LOSSES[recipe.loss]
        )
        degradation = Bicubic(4)

    def stopping(log):
        if stop and len(log) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    settings = Settings(steps=9, batch_size=4, accumulate=2, clip_norm=0.5, validate_every=7)
    facts = {"run": run, "on_log": stopping}
    if stop:
        with pytest.raises(KeyboardInterrupt, match="stopped at step 7"):
            fit(model, objective, photo(degradation, model.channels), settings, **facts)
    fit(model, objective, photo(degradation, model.channels), settings, **facts)
    return torch.load(run / "state.pt", weights_only=True)["model"], objective


@pytest.mark.parametrize(
    ("method", "stop"),
    [
        ("fsrcnn", True),
        ("swinir", False),
        pytest.param("diffir-s1", False, marks=pytest.mark.slow),
        pytest.param("diffir-s2", False, marks=pytest.mark.slow),
    ],
)
def test_what_is_recorded_computes_the_same(method, stop, tmp_path, tapes):
    """With parts of a batch, dropped paths and noise, and where a run goes on."""
    expected, objective = play(method, tmp_path / "plain")
    assert objective.can_be_recorded
    made = tapes()
    found, _ = play(method, tmp_path / "recorded", stop=stop)
    assert len(made) == 1
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("method", ["blind spot", "diffir-s2-separate"])
def test_objectives_that_look_at_the_step_or_draw_on_the_cpu_are_not_recorded(method, tmp_path, tapes):
    """A recording would hold the place, or the t, of one step."""
    expected, objective = play(method, tmp_path / "plain")
    assert not getattr(objective, "can_be_recorded", False)
    tapes()
    try:
        found, _ = play(method, tmp_path / "recorded")
    except RuntimeError as error:
        assert "when stream is capturing" in str(error)
    else:
        assert not all(torch.equal(found[name], value) for name, value in expected.items())


class CutByOthers(train.Training):
    """As on a GPU, other processes cut the batches."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.batches = Ahead(self._cut, pin=False)


needs_fork = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no other process cuts batches here")


def strike(number, signals):
    """An objective that in step `number` sends signals to the processes that cut, and waits for their end."""
    own = set(multiprocessing.active_children())

    def objective(model, batch):
        if batch.step == number:
            cutting = set(multiprocessing.active_children()) - own
            assert cutting
            for process in cutting:
                for each in signals:
                    os.kill(process.pid, each)
                process.join(0.5)
            if signal.SIGKILL not in signals:
                os.kill(os.getpid(), signals[0])
        return Pixelwise(losses.mse)(model, batch)

    return objective


@needs_fork
def test_a_signal_to_all_processes_of_a_job_stops_it_like_one_to_the_first(tmp_path, monkeypatch):
    """As `timeout`, batch systems and a notebook's interrupt send it; what a stopped cell keeps is no process."""
    monkeypatch.setattr(train, "Training", CutByOthers)
    own, settings = set(multiprocessing.active_children()), Settings(steps=6, batch_size=4, validate_every=6)
    torch.manual_seed(0)
    model = rvlib.create("fsrcnn")
    objective = strike(2, (signal.SIGTERM, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="stopped at step 3; started again") as kept:
        fit(model, objective, photo(), settings, run=tmp_path)
    assert set(multiprocessing.active_children()) == own
    assert kept.tb  # a notebook holds it until its next error
    assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 3
    fit(model, objective, photo(), settings, run=tmp_path)
    assert set(multiprocessing.active_children()) == own


@needs_fork
def test_a_lost_process_is_one_clear_error(tmp_path, monkeypatch):
    """The system kills one where memory is short."""
    monkeypatch.setattr(train, "Training", CutByOthers)
    with pytest.raises(
        rvlib.UserError, match="a process that cuts batches was lost .* resumes from what it saved last"
    ):
        fit(rvlib.create("fsrcnn"), strike(2, (signal.SIGKILL,)), photo(), Settings(steps=50), run=tmp_path)


def test_other_errors_of_a_step_stay_what_they_are():
    class Step:
        def step(self, number):
            raise self.error

    given = Step()
    given.error = ConnectionRefusedError("Caught ConnectionRefusedError in pin memory thread for device 0.")
    with pytest.raises(rvlib.UserError, match="was lost"):
        train._step(given, 0)
    given.error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="^mat1 and mat2"):
        train._step(given, 0)


def test_a_game_fetches_its_network_before_anything_runs(tmp_path, monkeypatch):
    """Nodes that compute may have no network, and the first step may be hours away."""

    def unreachable():
        raise rvlib.UserError("no network")

    monkeypatch.setattr(srgan, "vgg16_features", unreachable)
    start = rvlib.create("srgan", **SMALL["srgan"])
    with pytest.raises(rvlib.UserError, match="no network"):
        recipes.train("srgan", {"coffee": sample("coffee")}, run=tmp_path / "run", start=start, steps=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("someone_looks", [True, False])
def test_where_nobody_looks_the_bar_says_one_line_a_minute(someone_looks, tmp_path, monkeypatch, capsys):
    """What runs a notebook keeps each line: ten a second were gigabytes in the weeks of the paper profile."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    if someone_looks:
        monkeypatch.setenv("JPY_SESSION_NAME", "a notebook")
    ticks = iter(range(1_000_000))
    monkeypatch.setattr("tqdm.std.time", lambda: next(ticks) / 2)  # half a second passes at each look
    settings = Settings(steps=30, batch_size=2, validate_every=30)
    fit(rvlib.create("fsrcnn"), Pixelwise(losses.mse), photo(), settings, run=tmp_path, on_log=lambda log: None)
    lines = capsys.readouterr().err.count("\r")
    assert lines > 20 if someone_looks else lines < 6


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


@pytest.mark.parametrize(
    ("asked", "here", "rank", "there"),
    [(None, "cpu", 0, "cuda:0"), (None, "cpu", 1, "cuda:1"), (None, "cuda:1", 0, None), ("cpu", "cpu", 0, None)],
)
def test_evaluation_computes_where_it_is_told_and_leaves_the_model(monkeypatch, asked, here, rank, there):
    """Without being told: where the model is, or on a GPU, of which each process takes its own."""
    moved = []

    class Network(RestorationModel):
        def to(self, device):
            moved.append((self, str(device)))
            return self

        def parameters(self, recurse=True):
            return iter([mock.Mock(device=torch.device(here))])

    network = Network()
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    evaluate.with_model(network, asked)
    assert [device for _, device in moved] == [there] * (there is not None)
    assert not any(each is network for each, _ in moved)


def test_a_photo_too_large_for_memory_is_measured_in_tiles(monkeypatch):
    tried = []

    def restore(network, degraded, *, tile):
        tried.append(tile)
        if tile is not None or len(degraded) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return degraded

    monkeypatch.setattr(evaluate, "restore", restore)
    restorer = evaluate.with_model(rvlib.create("fsrcnn"), "cpu")
    photo = sample("coffee")[:50, :50]
    with pytest.warns(UserWarning, match="it is cut into tiles"):
        assert restorer(photo) is photo
    assert tried == [1024, None]
    with pytest.warns(UserWarning), pytest.raises(rvlib.UserError, match="does not fit into memory"):
        restorer(sample("coffee")[:101])
    monkeypatch.setattr(evaluate, "restore", mock.Mock(side_effect=RuntimeError("shapes")))
    with pytest.raises(RuntimeError, match="shapes"):
        restorer(photo)
