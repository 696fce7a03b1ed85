"""Every recipe in two processes of torchrun, in float64: weights, running statistics and log are those of one."""

import pytest
from test_processes import assert_equal, start, state
from two_processes import SMALL

from rvlib import recipes

pytestmark = pytest.mark.drill


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    for number in (1, 2):
        done = start(folder, ",".join(SMALL), f"{number}", number=number)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_recipe_is_tried():
    assert SMALL.keys() == recipes.RECIPES.keys()


@pytest.mark.parametrize("method", SMALL)
def test_two_processes_equal_one(runs, method):
    # some of DiffIR's attention has next to no gradient in patches so small, and Adam divides by it
    tolerance = 1e-6 if method.startswith("diffir") else 1e-9
    assert_equal(state(runs / "1" / method), state(runs / "2" / method), tolerance)
