"""Which tests run, which worker runs them, how often faults are injected, and what came of the faults.

Markers choose: `make check` leaves out `slow` and `pipeline`, `make test` runs one case of each kind, and cases that
only `make drill` runs are marked `drill`. In the drill a fault is injected thousands of times in place of a few.
"""

import json
import os
import random
import socket
import subprocess
import sys
import warnings
from collections import Counter, defaultdict
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

DRILL = bool(os.environ.get("RV_DRILL"))
FOLDER = Path(__file__).parent.parent / "runs" / "drill"
COUNTS = defaultdict(Counter)

checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
settings.register_profile("fast", max_examples=25, deadline=None, suppress_health_check=checks, derandomize=True)
settings.register_profile("drill", max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("drill" if DRILL else "fast")


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="run only what is marked neither slow nor pipeline")
    parser.addini("quick_seconds", "seconds of CPU that a test may take without the marker slow", default="5")


def is_wanted(item, quick):
    """Whether this run has the test: the quick ones, all but the drill, or the drill."""
    marked = {mark.name for mark in item.iter_markers()}
    if DRILL:
        return "drill" in marked or item.path.parent.name == "faults"
    return not marked & ({"drill", "slow", "pipeline"} if quick else {"drill"})


def pytest_collection_modifyitems(config, items):
    """Deselect by marker rather than by `-m`, so that `-m "not pipeline"` does not start the drill."""
    quick = config.getoption("quick")
    config.hook.pytest_deselected(items=[item for item in items if not is_wanted(item, quick)])
    items[:] = [item for item in items if is_wanted(item, quick)]
    if hasattr(config, "workerinput"):
        items.sort(key=longest_first(items))


def longest_first(items):
    """An order for workers that take files in turn: none is left alone with the pipeline or a notebook at the end."""
    files = {name: {item.path for item in items if item.get_closest_marker(name)} for name in ("pipeline", "slow")}
    return lambda item: (
        item.path not in files["pipeline"],
        item.path.suffix != ".ipynb",
        item.path not in files["slow"],
    )


def cpu_seconds():
    """What this process and the processes that it waited for have computed so far."""
    return sum(os.times()[:4])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail a quick test that is not quick, so that `make check` stays short whatever is added."""
    before = cpu_seconds()
    result = yield
    limit = float(item.config.getini("quick_seconds"))
    if item.config.getoption("quick") and cpu_seconds() - before > limit:
        pytest.fail(f"took {cpu_seconds() - before:.1f} s of CPU, over {limit:g}: make it quicker, or mark it slow")
    return result


def pytest_sessionfinish(session):
    """Let a worker hand over what its tests counted."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["faults"] = {fault: dict(outcomes) for fault, outcomes in COUNTS.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    """Add up what the workers counted."""
    for fault, outcomes in getattr(node, "workeroutput", {}).get("faults", {}).items():
        COUNTS[fault].update(outcomes)


@pytest.fixture
def tally():
    """Counts outcomes: `tally("bit of state.pt flipped", "refused")`."""

    def count(fault, outcome):
        COUNTS[fault][outcome] += 1

    return count


@pytest.fixture
def times():
    """How often to inject a fault: `times(20, 2000)` is 20 here and 2000 in the drill."""
    return lambda few, many: many if DRILL else few


@pytest.fixture(scope="session")
def photos():
    """Two small photos to train on, by name."""
    import small  # here: it imports torch, which the tests of notebooks need not wait for

    return small.photos()


@pytest.fixture
def vgg16(monkeypatch):
    """Something small in place of the network that SRGAN's content loss looks through, which would be fetched."""
    from torch import nn

    from rvlib.models import srgan

    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(4)).requires_grad_(False)
    monkeypatch.setattr(srgan, "vgg16_features", lambda: features)


@cache
def missing(name):
    """Why weights that are fetched on first use cannot be had; each try takes seconds where there is no network."""
    from rvlib import UserError, backbones, naturalness

    try:
        naturalness.model() if name == "niqe" else backbones.backbone_weights(name)
    except UserError as error:
        return str(error)
    return ""


@pytest.fixture
def fetched():
    """Skips a test without the weights that it names: `fetched("alexnet")`, `fetched("niqe")`."""

    def require(name):
        if missing(name):
            pytest.skip(missing(name))

    return require


@pytest.fixture
def closed_port():
    """A port of this machine where nobody answers: it is taken, and nobody listens to it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def rv(monkeypatch, capfd):
    """Run a command in this process: (exit status, what it printed, what it said); a traceback fails the test."""
    from rvlib import cli

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["rvlib", *map(str, words)])
        monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code, (out, err) = stopped.value.code, capfd.readouterr()
        if not isinstance(code, str):
            return code or 0, out, err
        assert "\n" not in code
        assert len(code) < 500
        return 1, out, err + code  # as Python ends with it

    return run


def damaged(content, count, seed=0):
    """`count` versions of some bytes: a bit flipped in two of three, cut off in one; with what was done."""
    rng = random.Random(seed)
    for number in range(count):
        position = rng.randrange(len(content))
        if number % 3 == 2:
            yield "cut off", content[:position]
        else:
            flipped = bytearray(content)
            flipped[position] ^= 1 << rng.randrange(8)
            yield "bit flipped", bytes(flipped)


@contextmanager
def small_disk(folder, size):
    """A file system of `size` ("128k") at a folder, where this system allows to mount one."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:  # a failed writer may be alive in its traceback
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def pytest_terminal_summary(terminalreporter):
    if not COUNTS:
        return
    terminalreporter.section("faults")
    for fault, outcomes in sorted(COUNTS.items()):
        told = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(outcomes.items()))
        terminalreporter.write_line(f"{fault:55} {sum(outcomes.values()):6}   {told}")
    if DRILL:
        FOLDER.mkdir(parents=True, exist_ok=True)
        file = FOLDER / "counts.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(known | {fault: dict(counts) for fault, counts in COUNTS.items()}, indent=1))
