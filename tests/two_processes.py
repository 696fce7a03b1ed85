"""What tests/test_processes.py starts: small trainings in float64, so that only the order of sums can differ."""

import os
import signal
import sys

import small
import torch

import rvlib
from rvlib import recipes
from rvlib.degrade import Bicubic, MotionBlur
from rvlib.losses import PIXEL_LOSSES
from rvlib.pairs import Patches
from rvlib.train import Batch, Settings, fit

SMALL = small.SMALL | {"swinir": {**small.SMALL["swinir"], "drop_path": 0.0}}  # they are drawn per process
RANK, WORLD = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))


def prepared(method: str):
    """(what is trained, its objective in float64, patches), as `recipes.train` makes them."""
    recipe, start = recipes.RECIPES[method], small.before(method)
    torch.manual_seed(0)
    model = rvlib.create(recipes.METHOD_OF[method].network, **{**recipe.arguments, **SMALL[method]})
    trained, objective = recipe.prepare(model, start, PIXEL_LOSSES[recipe.loss])

    def precise(model, batch):
        return objective(model, Batch(batch.degraded.double(), batch.reference.double(), batch.step))

    degradation = MotionBlur(5.0) if model.task == "deblurring" else Bicubic(4)
    return trained, precise, Patches(small.photos(), degradation, patch_size=32, channels=model.channels)


def disturbed(objective, case: str):
    """In step 13, the last process alone has a loss that is no number, or hears a signal."""

    def compute(model, batch):
        terms = objective(model, batch)
        if batch.step == 12 and RANK == WORLD - 1 and case == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
        broken = batch.step == 14 and RANK == WORLD - 1 and case == "nan"
        return {**terms, "loss": terms["loss"] * (float("nan") if broken else 1.0)}

    return compute


def main(methods: str, run: str, case: str = "", steps: str = "20") -> None:
    """Train each method in a folder of its own; `{rank}` in `run` gives each process its own disk."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.randn = torch.ones  # DiffIR's noise and its t are drawn per process
    torch.randint = lambda *_: torch.tensor(1)
    for method in methods.split(","):
        trained, objective, patches = prepared(method)
        settings = Settings(steps=int(steps), batch_size=4, learning_rate=1e-3, validate_every=5, clip_norm=0.5)
        fit(
            trained,
            disturbed(objective, case),
            patches,
            settings,
            run=f"{run.format(rank=RANK)}/{method}",
            validate=lambda _: {},
        )
        assert all(parameter.device.type == "cpu" for parameter in trained.parameters())
    print(f"{WORLD} processes")


if __name__ == "__main__":
    main(*sys.argv[1:])
