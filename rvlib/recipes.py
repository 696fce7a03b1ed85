"""Training a method by its recipe, which stands in the method's record next to its network (`rvlib.models`)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from rvlib.degrade import Bicubic, MotionBlur
from rvlib.errors import UserError
from rvlib.losses import PIXEL_LOSSES
from rvlib.metrics import psnr
from rvlib.models import METHODS, create
from rvlib.pairs import Pair, Patches, photo_pairs
from rvlib.processes import in_processes
from rvlib.restore import restore
from rvlib.settings import Settings
from rvlib.train import checksum, fit

SHAKE = MotionBlur(length=(5.0, 25.0))
"""The camera shake that deblurring is measured on: 5 to 25 pixels, the same all over the photo, averaged in light."""

TRAINING_SHAKE = MotionBlur(
    length=(0.0, 12.0, 40.0),
    spacing=(0.5, 2.0),
    still=0.05,
    turn=0.2,
    zoom=0.2,
    linear=0.75,
    noise=1.0,
    highlights=0.1,
)
"""The camera shake that deblurring learns to undo: of every kind that photos show, and none at all."""

METHOD_OF = {name: method for method in METHODS.values() for name in method.recipes}
"""The method that a recipe trains, by the recipe's name."""

RECIPES = {name: method.recipes[name] for name, method in METHOD_OF.items()}
"""The recipes of all methods, by the name that `train` takes."""


def degradation(task: str, scale: int, *, training: bool = False) -> Bicubic | MotionBlur:
    """What a task's methods learn to undo, or are measured on: MATLAB's bicubic downscaling, or camera shake."""
    if task == "deblurring":
        return TRAINING_SHAKE if training else SHAKE
    return Bicubic(scale)


def train(
    method: str,
    references: dict[str, np.ndarray],
    *,
    run: str | Path,
    degraded: dict[str, np.ndarray] | None = None,
    validation: dict[str, np.ndarray] | None = None,
    start: nn.Module | None = None,
    scale: int | None = None,
    arguments: dict | None = None,
    loss: str | None = None,
    patch_size: int | None = None,
    replace_run: bool = False,
    processes: int = 1,
    on_log: Callable[[pd.DataFrame], None] | None = None,
    **settings,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a method on photos (uint8 H x W x 3 by name) and return the model and its log.

    The model learns to undo the task's degradation, or to make the references from the `degraded` photos of the same
    names. `start` is a model to continue from: SRResNet for SRGAN, stage 1 for stage 2 of DiffIR. `arguments` go to
    the model; `loss` (a name of `losses.PIXEL_LOSSES`) and `settings` (steps, batch_size, learning_rate, ...) overwrite
    the recipe's. `validation` photos are restored now and then, and their mean PSNR chooses the best weights
    (`mean_psnr`). With `replace_run`, another run in the folder is set aside. Several `processes` share each batch, a
    GPU each where there are any, and reach the same weights; the call then finds their run complete. Raises UserError
    for an unknown method, loss or setting, or a value out of range.
    """
    if method not in RECIPES:
        raise UserError(f"there is no recipe for {method!r}: choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[method]
    known = set(Settings.__dataclass_fields__)
    for name in settings:
        if name not in known:
            raise UserError(f"unknown setting {name!r}: choose among {', '.join(sorted(known))}")
    loss = recipe.loss if loss is None else loss
    if loss not in PIXEL_LOSSES:
        raise UserError(f"unknown loss {loss!r}: choose one of {', '.join(PIXEL_LOSSES)}")
    if processes > 1:
        given = {"degraded": degraded, "validation": validation, "start": start, "scale": scale, "arguments": arguments}
        given |= {"run": run, "loss": loss, "patch_size": patch_size, "replace_run": replace_run}
        in_processes(processes, train, method, references, **given, **settings)
    chosen = replace(recipe.settings, **settings)
    torch.manual_seed(chosen.seed)  # the fresh weights
    given = {} if scale is None else {"scale": scale}
    model = create(METHOD_OF[method].network, **{**recipe.arguments, **given, **(arguments or {})})
    model.method = METHOD_OF[method].key
    begun_from = checksum(start)
    trained, objective = recipe.prepare(model, start, PIXEL_LOSSES[loss])
    patches = Patches(
        references,
        degradation(model.task, model.scale, training=True) if degraded is None else degraded,
        patch_size=patch_size or recipe.patch_size,
        channels=model.channels,
        seed=chosen.seed,
    )
    pairs = photo_pairs(validation, degradation(model.task, model.scale)) if validation else {}
    history = fit(
        trained,
        objective,
        patches,
        chosen,
        run=run,
        facts={"method": method, "start": begun_from},
        validate=(lambda average: mean_psnr(average, pairs)) if pairs else None,
        replace=replace_run,
        on_log=on_log,
    )
    return model, history


def mean_psnr(model: nn.Module, pairs: dict[str, Pair]) -> dict[str, float]:
    """Mean PSNR in dB over photo pairs, named with its convention.

    Super-resolution is measured on Y with a border of `scale` pixels cropped, deblurring on RGB with nothing cropped.
    """
    channel, crop = ("rgb", 0) if model.task == "deblurring" else ("y", model.scale)
    scores = [
        psnr(restore(model, degraded, reference=reference), reference, channel=channel, crop=crop)
        for degraded, reference in pairs.values()
    ]
    return {f"psnr_{channel}_crop{crop}": float(np.mean(scores))}
