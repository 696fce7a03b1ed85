"""Several processes share a batch: the same weights come out as from one."""

import os
import subprocess
import sys

import pytest
import torch

from rvlib import recipes
from rvlib.errors import UserError
from rvlib.photos import sample

pytestmark = pytest.mark.slow  # processes that start processes
# float64, so that only the order of sums can differ; rank 0 writes the weights
PROGRAM = """
import sys
import torch
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
from rvlib import losses
from rvlib.objectives import Pixelwise
from rvlib.degrade import Bicubic, MotionBlur
from rvlib.pairs import Patches
from rvlib.photos import sample
from rvlib.train import Batch, Settings, fit
import rvlib
method, run = sys.argv[1:]
photos = {name: sample(name)[:96, :128] for name in ("coffee", "chelsea")}
torch.manual_seed(0)
if method == "fsrcnn":
    model, objective, degradation = rvlib.create("fsrcnn"), Pixelwise(losses.mse), Bicubic(4)
else:
    model = rvlib.create("nafnet", width=8, encoder=(1,), middle=1, decoder=(1,))
    objective, degradation = Pixelwise(losses.negative_psnr), MotionBlur(5.0)
def precise(model, batch):
    return objective(model, Batch(batch.degraded.double(), batch.reference.double(), batch.step))
patches = Patches(photos, degradation, patch_size=32, channels=model.channels)
fit(model, precise, patches, Settings(steps=20, batch_size=4, validate_every=20, learning_rate=1e-3), run=run)
"""


@pytest.mark.parametrize("method", ["fsrcnn", pytest.param("nafnet", marks=pytest.mark.drill)])
def test_two_processes_equal_one(tmp_path, method):
    (tmp_path / "program.py").write_text(PROGRAM)
    plain = [sys.executable, "program.py", method]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"]
    launch += ["--main_process_port", "0"]
    for name, command in (("one", plain), ("two", [sys.executable, *launch, *plain[1:]])):
        done = subprocess.run(
            [*command, name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("one", "two"))
    assert one["step"] == two["step"] == 20
    for key, value in one["model"].items():
        assert value.dtype == torch.float64
        assert torch.allclose(value, two["model"][key], rtol=0, atol=1e-8), key


def test_train_starts_its_own_processes(tmp_path):
    photos = {name: sample(name)[:96, :128] for name in ("coffee", "chelsea")}
    facts = {"steps": 5, "batch_size": 4, "patch_size": 32, "validate_every": 5}
    alone, log = recipes.train("fsrcnn", photos, run=tmp_path / "one", **facts)
    shared, same_log = recipes.train("fsrcnn", photos, run=tmp_path / "two", processes=2, **facts)
    assert list(same_log["step"]) == list(log["step"]) == [5]
    for ours, theirs in zip(alone.parameters(), shared.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)
    with pytest.raises(UserError, match="batch_size 4 cannot be shared equally by 3 processes"):
        recipes.train("fsrcnn", photos, run=tmp_path / "three", processes=3, **facts)
