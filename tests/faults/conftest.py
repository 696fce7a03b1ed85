"""Faults: how often they are injected (a few times by default, thousands of times in the drill) and what came of it."""

import json
import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

DRILL = bool(os.environ.get("RV_DRILL"))
FOLDER = Path(__file__).parent.parent.parent / "runs" / "drill"
COUNTS = defaultdict(Counter)

checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
settings.register_profile("fast", max_examples=25, deadline=None, suppress_health_check=checks, derandomize=True)
settings.register_profile("drill", max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("drill" if DRILL else "fast")


def pytest_collection_modifyitems(config, items):
    """The marker is no option of `-m`, so that `-m "not pipeline"` does not start the drill."""
    if not DRILL:
        long = [item for item in items if item.get_closest_marker("drill")]
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


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
