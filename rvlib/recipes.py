"""Training a method by its recipe, which stands in the method's record next to its network (`rvlib.models`)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from rvlib import measures, runs, shelf
from rvlib.checkpoint import load, save
from rvlib.degrade import Bicubic, Degradation, Jpeg, MotionBlur, Noise
from rvlib.errors import UserError
from rvlib.losses import PIXEL_LOSSES
from rvlib.models import METHODS, create
from rvlib.models.base import RestorationModel
from rvlib.pairs import Pair, Patches, check_given, given_pair, photo_pairs
from rvlib.processes import in_processes
from rvlib.restore import WHOLE, restore
from rvlib.settings import check
from rvlib.train import checksum, fit, identity, is_complete

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


LEVELS = {"denoising": 25, "jpeg": 40}
"""What the photos of a task are measured with: noise in grey levels of 255, the quality of a JPEG."""


def degradation(task: str, scale: int, *, training: bool = False, level: int | None = None) -> Degradation:
    """What a task's methods learn to undo, or are measured on: MATLAB's bicubic downscaling, or camera shake.

    Denoising has white noise of `level` grey levels, rounded to 8 bits as photos are, and "jpeg" a JPEG of quality
    `level`, by default those of `LEVELS`; the other tasks have no level. Raises UserError for an unknown task and for a
    level out of range.
    """
    if task not in measures.TASKS:
        raise UserError(f"unknown task {task!r}: choose one of {', '.join(measures.TASKS)}")
    if level is not None and not (task in LEVELS and 1 <= level <= 95):
        raise UserError(f"{task} has no level {level}: noise and JPEG have one, from 1 to 95")
    if task == "denoising":
        return Noise(LEVELS[task] if level is None else level)
    if task == "jpeg":
        return Jpeg(LEVELS[task] if level is None else level)
    if task == "deblurring":
        return TRAINING_SHAKE if training else SHAKE
    return Bicubic(scale)


def train(
    method: str,
    references: Mapping[str, np.ndarray],
    *,
    run: str | Path,
    degraded: Mapping[str, np.ndarray] | None = None,
    validation: Mapping[str, np.ndarray | Pair] | None = None,
    start: nn.Module | str | Path | None = None,
    scale: int | None = None,
    arguments: dict | None = None,
    loss: str | None = None,
    patch_size: int | None = None,
    augment: bool = True,
    replace_run: bool = False,
    processes: int = 1,
    on_log: Callable[[pd.DataFrame], None] | None = None,
    **settings,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a method on photos (uint8 H x W x 3 by name) and return the model and its log.

    The model learns to undo the task's degradation, or to make the references from the `degraded` photos of the same
    names. `start` is a model to continue from, or what `load` takes: SRResNet for SRGAN, stage 1 for stage 2 of
    DiffIR, or a stage 2 whose restoring part stage 1 takes over; released weights that these very settings continued
    are finished. `arguments` go to the model; without them it has the architecture of the start, or the recipe's.
    `loss` (a name of `losses.PIXEL_LOSSES`) and `settings` (steps, batch_size, learning_rate, ...) overwrite the
    recipe's, whose warm-up takes a tenth of the steps at most.
    `augment` flips and turns patches; `False` leaves them as they are, for `degraded` photos with a blur that has the
    same direction in all of them. `validation` photos, or pairs (degraded, reference), are restored now and then, and
    their mean PSNR chooses the best weights (`mean_psnr`). With `replace_run`, another run in the folder is set aside.
    Several `processes` share each batch, a GPU each where there are any, and reach the same weights
    (`rvlib.processes`); they are started only where something is left to train.
    Training seeds torch's random numbers: what the caller draws afterwards is the same each time.
    Raises UserError for an unknown method, loss or setting, a value out of range, and what is no photo.
    """
    if method not in RECIPES:
        raise UserError(f"there is no recipe for {method!r}: choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[method]
    check(settings)
    for name, value in (("patch_size", patch_size), ("processes", processes)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise UserError(f"{name} must be a whole number of at least 1, not {value}")
    if not isinstance(augment, bool):
        raise UserError(f"augment must be true or false, not {augment}")
    for photos in (references, degraded or {}, validation or {}):
        _check_photos(photos)
    loss = recipe.loss if loss is None else loss
    if not isinstance(loss, str) or loss not in PIXEL_LOSSES:
        raise UserError(f"unknown loss {loss!r}: choose one of {', '.join(PIXEL_LOSSES)}")
    chosen = replace(recipe.settings, **settings)
    if "warmup_steps" not in settings:
        chosen = replace(chosen, warmup_steps=min(chosen.warmup_steps, chosen.steps // 10))
    named = start if isinstance(start, str) else ""
    start = load(start) if isinstance(start, str | Path) else start
    sized = {} if scale is None else {"scale": scale}
    if start is not None and not arguments:
        arguments = _architecture(start, method) | sized
    torch.manual_seed(chosen.seed)  # the fresh weights
    model = create(METHOD_OF[method].network, **{**recipe.arguments, **sized, **(arguments or {})})
    if model.channels not in (1, 3):
        raise UserError(f"photos have 1 channel (luminance) or 3 (RGB), not {model.channels}: choose other arguments")
    model.method = METHOD_OF[method].key
    trained, objective = recipe.prepare(model, start, PIXEL_LOSSES[loss])
    if degraded is not None:
        check_given(references, degraded, model.scale)
    patches = Patches(
        references,
        degradation(model.task, model.scale, training=True) if degraded is None else degraded,
        patch_size=recipe.patch_size if patch_size is None else patch_size,
        channels=model.channels,
        augment=augment,
        seed=chosen.seed,
    )
    pairs = validation_pairs(validation or {}, model)
    facts = {"method": method, "start": checksum(start)}
    if named:
        again = runs.earlier_start(named, identity(trained, objective, patches, chosen) | facts, run)
        facts["start"] = again or facts["start"]
    training = {"run": run, "facts": facts}
    if processes > 1 and not is_complete(trained, objective, patches, chosen, **training):
        given = {"run": run, "validation": validation, "scale": scale, "arguments": arguments, "loss": loss}
        given |= {"patch_size": patch_size, "augment": augment, "replace_run": replace_run}
        _train_in(processes, method, references, degraded, start, **given, **settings)
    history = fit(
        trained,
        objective,
        patches,
        chosen,
        **training,
        validate=(lambda average: mean_psnr(average, pairs)) if pairs else None,
        replace=replace_run,
        on_log=on_log,
    )
    model.requires_grad_(True)
    return model, history


def _check_photos(photos: Mapping) -> None:
    """Raise UserError where a mapping holds something else than photos, or pairs of them."""
    for name, given in photos.items():
        for photo in given if isinstance(given, tuple) else (given,):
            is_array = isinstance(photo, np.ndarray) and photo.dtype == np.uint8
            if not (is_array and photo.ndim == 3 and photo.shape[2] == 3):
                raise UserError(
                    f"{name}: photos to train on are uint8 H x W x 3 arrays, as rvlib.photos.read gives them"
                )


def _train_in(processes: int, method: str, references: Mapping, degraded: Mapping | None, start, **given) -> None:
    """Train in several processes, which get photos and start as files: each of them maps what lies in memory once."""
    folder = shelf.place(given["run"])
    try:
        references = shelf.write(references.items(), folder / "references.u8")
        degraded = None if degraded is None else shelf.write(degraded.items(), folder / "degraded.u8")
        if isinstance(start, nn.Module):
            save(start, folder / "start.safetensors")
            start = folder / "start.safetensors"
        in_processes(processes, train, method, references, degraded=degraded, start=start, **given)
    finally:
        shelf.clear(given["run"])


def _architecture(start: RestorationModel, method: str) -> dict:
    """The arguments of the network to start from, without what says which stage of DiffIR it is."""
    spec, wanted = start.spec, METHOD_OF[method]
    if spec["name"] != wanted.network:
        key = start.method if start.method in METHODS else spec["name"]
        given = "an ONNX file" if key == "onnx" else f"weights of {METHODS[key].title}"
        needed = METHOD_OF[RECIPES[method].starts_from or method].title
        raise UserError(
            f"{wanted.title} cannot be trained from {given}: take weights of {needed}, by name or as a .safetensors or "
            f".pth file"
        )
    return {key: value for key, value in spec["arguments"].items() if key != "stage"}


def validation_pairs(validation: Mapping, model: nn.Module) -> dict[str, Pair]:
    """Given pairs, and photos degraded as the task asks; raises UserError for what is too small or does not fit."""
    kind, least, pairs = degradation(model.task, model.scale), 4 * model.scale, {}
    for name, given in validation.items():
        reference = given[1] if isinstance(given, tuple) else given
        height, width = reference.shape[:2]
        if min(height, width) < least:
            raise UserError(
                f"validation photo {name} has {width} x {height} pixels: leave it out, or take one of at least {least} "
                f"pixels a side"
            )
        is_pair = isinstance(given, tuple)
        pairs[name] = given_pair(name, *given, model.scale) if is_pair else photo_pairs({name: given}, kind)[name]
    return pairs


def mean_psnr(model: nn.Module, pairs: dict[str, Pair]) -> dict[str, float]:
    """Mean PSNR in dB over photo pairs, named with its convention: the first measure of the task.

    Photos of up to a megapixel are restored in one piece, larger ones in tiles.
    """
    measure = measures.for_task(model.task, model.scale)[0]
    scores = [
        measure.compute(restore(model, degraded, tile=WHOLE, reference=reference), reference)
        for degraded, reference in pairs.values()
    ]
    return {measure.key: float(np.mean(scores))}
