"""Every recipe on the emulated GPU: trained, validated, stopped, resumed, and given back on the CPU."""

import pytest
from test_gpu import assert_the_same, start
from two_processes import SMALL

pytestmark = pytest.mark.drill


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu")
    start(SMALL, folder)
    return folder


@pytest.mark.parametrize("method", SMALL)
def test_fit_validation_and_resume(runs, method):
    assert_the_same(runs, method)
