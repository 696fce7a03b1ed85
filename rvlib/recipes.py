"""How each method is trained: its objective, its loss and its settings.

`Recipe.settings` are small enough for a laptop; the profiles in params.yaml overwrite them with what their time allows.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from rvlib import shelf
from rvlib.checkpoint import load, save
from rvlib.degrade import Bicubic, MotionBlur
from rvlib.errors import UserError
from rvlib.losses import PIXEL_LOSSES
from rvlib.metrics import psnr
from rvlib.models import create
from rvlib.models.srgan import Adversaries, Discriminator
from rvlib.objectives import JointDiffusion, Loss, PerceptualAdversarial, Pixelwise, SeparateDiffusion, WithReference
from rvlib.pairs import Pair, Patches, photo_pairs
from rvlib.processes import in_processes
from rvlib.restore import restore
from rvlib.train import Objective, Settings, checksum, fit

SHAKE = MotionBlur(length=(5.0, 25.0))
"""The camera shake that deblurring is measured on: 5 to 25 pixels, the same all over the photo, averaged in light."""

TRAINING_SHAKE = MotionBlur(
    length=(0.0, 40.0), spacing=(0.5, 3.0), still=0.05, turn=0.3, zoom=0.3, linear=0.5, noise=2.0, highlights=0.25
)
"""The camera shake that deblurring learns to undo: of every kind that photos show, and none at all."""

Prepare = Callable[[nn.Module, nn.Module | None, Loss], tuple[nn.Module, Objective]]
"""(model, start, pixel loss) -> (what is trained, objective); `start` holds the weights to begin with, or is None."""


def alone(objective: type) -> Prepare:
    """The model alone is trained, from fresh weights or from those of `start`."""

    def prepare(model: nn.Module, start: nn.Module | None, loss: Loss) -> tuple[nn.Module, Objective]:
        if start is not None:
            _take_over(model, start)
        return model, objective(loss)

    return prepare


def against_discriminator(model: nn.Module, start: nn.Module | None, loss: Loss) -> tuple[nn.Module, Objective]:
    """The generator continues from its training with a pixel loss; the discriminator begins."""
    if start is None:
        raise UserError("srgan continues from weights of srresnet: train that first and give it as start")
    _take_over(model, start)
    return Adversaries(model, Discriminator()), PerceptualAdversarial(loss)


def after_stage_1(objective: Callable[[Loss, nn.Module, nn.Module], Objective]) -> Prepare:
    """Stage 2 takes over stage 1's restoring part G and learns to guess stage 1's IPR."""

    def prepare(model: nn.Module, start: nn.Module | None, loss: Loss) -> tuple[nn.Module, Objective]:
        if not hasattr(start, "prior"):
            raise UserError("stage 2 of DiffIR continues from stage 1: train diffir-s1 first and give it as start")
        _take_over(model.G, start.G)
        return model, objective(loss, deepcopy(start).requires_grad_(False), model)

    return prepare


def _take_over(model: nn.Module, start: nn.Module) -> None:
    """Give a network the weights of another one of the same architecture."""
    mine, theirs = ({key: each.shape for key, each in network.state_dict().items()} for network in (model, start))
    if mine != theirs:
        key = next(key for key in [*mine, *theirs] if mine.get(key) != theirs.get(key))
        sizes = (f"{tuple(side[key])}" if key in side else "none" for side in (theirs, mine))
        raise UserError(
            f"the weights to start from belong to another architecture ({key}: {' -> '.join(sizes)}): leave the "
            f"arguments away, and it is that of the start"
        )
    model.load_state_dict(start.state_dict())


def joint_diffusion(loss: Loss, stage_1: nn.Module, model: nn.Module) -> Objective:
    """All parts of stage 2 learn at once, as the paper has it."""
    return JointDiffusion(loss, stage_1)


def separate_diffusion(loss: Loss, stage_1: nn.Module, model: nn.Module) -> Objective:
    """The denoising network learns alone, one step of the chain at a time."""
    model.G.requires_grad_(False)  # several processes would wait for its gradients
    return SeparateDiffusion(stage_1, len(model.diffusion.betas))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a method is trained."""

    model: str
    arguments: dict = field(default_factory=dict)
    loss: str  # the pixel loss, by its name in `losses.PIXEL_LOSSES`
    prepare: Prepare
    settings: Settings
    patch_size: int  # side of the reference patch


_NAFNET = Settings(
    steps=1000,
    batch_size=8,
    learning_rate=1e-3,
    final_learning_rate=1e-7,
    optimizer="adamw",
    betas=(0.9, 0.9),
    weight_decay=1e-3,
    clip_norm=0.01,
    channels_last=True,
)
_DIFFIR = Settings(
    steps=1000, batch_size=8, learning_rate=5e-4, betas=(0.9, 0.99), warmup_steps=200, clip_norm=1.0, channels_last=True
)

RECIPES = {
    "srcnn": Recipe(
        model="srcnn",
        loss="mse",
        prepare=alone(Pixelwise),
        settings=Settings(steps=2000, learning_rate=1e-3),
        patch_size=48,
    ),
    # without clipping and warm-up, Adam at this rate now and then throws FSRCNN's tiny deconvolution off for good
    "fsrcnn": Recipe(
        model="fsrcnn",
        loss="mse",
        prepare=alone(Pixelwise),
        settings=Settings(steps=2000, learning_rate=2e-3, warmup_steps=500, clip_norm=0.5, channels_last=True),
        patch_size=48,
    ),
    "srresnet": Recipe(
        model="srgan",
        loss="mse",
        prepare=alone(Pixelwise),
        settings=Settings(steps=2000, learning_rate=5e-4, warmup_steps=200, bf16=True, channels_last=True),
        patch_size=96,
    ),
    "srgan": Recipe(
        model="srgan",
        loss="mse",
        prepare=against_discriminator,
        settings=Settings(steps=500, learning_rate=1e-4, ema=0.99, bf16=True, channels_last=True),
        patch_size=96,
    ),
    "swinir": Recipe(
        model="swinir",
        loss="l1",
        prepare=alone(Pixelwise),
        settings=Settings(steps=1000, learning_rate=1e-3, warmup_steps=200, clip_norm=1.0),
        patch_size=64,
    ),
    **{
        name: Recipe(model=name, loss="negative_psnr", prepare=alone(Pixelwise), settings=_NAFNET, patch_size=96)
        for name in ("plainnet", "baseline", "nafnet")
    },
    "diffir-s1": Recipe(
        model="diffir", arguments={"stage": 1}, loss="l1", prepare=alone(WithReference), settings=_DIFFIR, patch_size=64
    ),
    "diffir-s2": Recipe(
        model="diffir",
        loss="l1",
        prepare=after_stage_1(joint_diffusion),
        settings=_DIFFIR,
        patch_size=64,
    ),
    "diffir-s2-separate": Recipe(
        model="diffir",
        loss="l1",
        prepare=after_stage_1(separate_diffusion),
        settings=_DIFFIR,
        patch_size=64,
    ),
}


def degradation(task: str, scale: int, *, training: bool = False) -> Bicubic | MotionBlur:
    """What a task's methods learn to undo, or are measured on: MATLAB's bicubic downscaling, or camera shake."""
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
    replace_run: bool = False,
    processes: int = 1,
    on_log: Callable[[pd.DataFrame], None] | None = None,
    **settings,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a method on photos (uint8 H x W x 3 by name) and return the model and its log.

    The model learns to undo the task's degradation, or to make the references from the `degraded` photos of the same
    names. `start` is a model to continue from, or what `load` takes: SRResNet for SRGAN, stage 1 for stage 2 of
    DiffIR. `arguments` go to the model; without them it has the architecture of the start, or the recipe's. `loss` (a
    name of `losses.PIXEL_LOSSES`) and `settings` (steps, batch_size, learning_rate, ...) overwrite the recipe's, whose
    warm-up takes a tenth of the steps at most. `validation` photos, or pairs (degraded, reference), are restored now
    and then, and their mean PSNR chooses the best weights (`mean_psnr`). With `replace_run`, another run in the folder
    is set aside. Several `processes` share each batch, a GPU each where there are any, and reach the same weights
    (`rvlib.processes`); the call then finds their run complete. Raises UserError for an unknown method, loss or
    setting, or a value out of range.
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
        given = {"run": run, "validation": validation, "scale": scale, "arguments": arguments, "loss": loss}
        given |= {"patch_size": patch_size, "replace_run": replace_run}
        _train_in(processes, method, references, degraded, start, **given, **settings)
    chosen = replace(recipe.settings, **settings)
    if "warmup_steps" not in settings:
        chosen = replace(chosen, warmup_steps=min(chosen.warmup_steps, chosen.steps // 10))
    start = load(start) if isinstance(start, str | Path) else start
    if start is not None and not arguments:
        arguments = _architecture(start, recipe.model)
    torch.manual_seed(chosen.seed)  # the fresh weights
    given = {} if scale is None else {"scale": scale}
    model = create(recipe.model, **{**recipe.arguments, **given, **(arguments or {})})
    begun_from = checksum(start)
    trained, objective = recipe.prepare(model, start, PIXEL_LOSSES[loss])
    patches = Patches(
        references,
        degradation(model.task, model.scale, training=True) if degraded is None else degraded,
        patch_size=patch_size or recipe.patch_size,
        channels=model.channels,
        seed=chosen.seed,
    )
    pairs = validation_pairs(validation or {}, model)
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
    model.requires_grad_(True)
    return model, history


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


def _architecture(start: nn.Module, name: str) -> dict:
    """The arguments of the network to start from, without what says which stage of DiffIR it is."""
    recipe = start.recipe
    if recipe["name"] != name:
        raise UserError(f"the weights to start from are {recipe['name']}'s, and {name} is to be trained")
    return {key: value for key, value in recipe["arguments"].items() if key != "stage"}


def validation_pairs(validation: Mapping, model: nn.Module) -> dict[str, Pair]:
    """Pairs as they are given, and photos degraded as the task asks; raises UserError for one that is too small."""
    kind, pairs = degradation(model.task, model.scale), {}
    for name, given in validation.items():
        reference = given[1] if isinstance(given, tuple) else given
        if min(reference.shape[:2]) < 4 * model.scale:
            raise UserError(f"validation photo {name} is smaller than {4 * model.scale} pixels: take it away")
        pairs[name] = given if isinstance(given, tuple) else photo_pairs({name: given}, kind)[name]
    return pairs


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
