"""Every recipe and every notebook's training on the emulated GPU: trained, stopped, resumed, given back on the CPU."""

import pytest
from test_gpu import assert_the_same, on_gpu, start
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


@pytest.mark.parametrize("notebook", ["fsrcnn", "srgan", "swinir", "nafnet", "diffir", "self_supervised"])
def test_training_cells(notebook, tmp_path):
    assert '"networks"' in on_gpu("notebook", notebook, tmp_path)
