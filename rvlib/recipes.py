"""What each method is trained with: its objective and its settings.

The objectives stand here in the open, in the order of the study. `Recipe.settings` are small enough for a laptop;
the profiles in params.yaml overwrite them with what their time allows.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from rvlib import losses
from rvlib.backbones import vgg16_features
from rvlib.degrade import Bicubic, MotionBlur
from rvlib.errors import UserError
from rvlib.metrics import psnr
from rvlib.models import create
from rvlib.models.srgan import Adversaries, Discriminator
from rvlib.pairs import Pair, Patches, photo_pairs
from rvlib.restore import restore
from rvlib.train import Batch, Objective, Settings, fit, in_processes

SHAKE = MotionBlur(length=(5.0, 25.0))
"""What the deblurring methods learn to undo: camera shake of 5 to 25 pixels."""


def mean_squared_error(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """ℓ = mean (f(x) - y)², which PSNR is the logarithm of (SRCNN eq. 4, FSRCNN section 4.1, SRGAN eq. 4)."""
    return {"loss": losses.mse(model(batch.degraded), batch.reference)}


def mean_absolute_error(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """ℓ = mean |f(x) - y| (SwinIR eq. 6)."""
    return {"loss": losses.l1(model(batch.degraded), batch.reference)}


def negative_psnr(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """ℓ = mean over the patches of -PSNR(f(x), y): each patch counts alike, however blurred (NAFNet)."""
    return {"loss": losses.negative_psnr(model(batch.degraded), batch.reference)}


class PerceptualAdversarial:
    """SRGAN's game: the generator is to look right to VGG16 and to the discriminator, which learns to tell.

    ℓ_G = MSE + 6·10⁻³ content + 10⁻³ adversarial + 2·10⁻⁸ total variation,   ℓ_D as in eq. 2 (SRGAN eq. 3, report's
    table 2; the weight of the content term is leftthomas'). Neither loss has a gradient for the other's weights, so
    that their sum trains both at once.
    """

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`model` is `Adversaries`."""
        restored, real, fake, judged = model(batch.degraded, batch.reference)
        features = vgg16_features().to(restored.device)
        parts = {
            "pixel": losses.mse(restored, batch.reference),
            "content": 6e-3 * losses.perceptual(restored, batch.reference, features),
            "adversarial": 1e-3 * losses.generator_adversarial(judged),
            "total_variation": 2e-8 * losses.total_variation(restored),
        }
        discriminator = losses.discriminator_adversarial(fake, real)
        return {"loss": sum(parts.values()) + discriminator, **parts, "discriminator": discriminator}


def with_reference(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """ℓ = mean |G(x, z) - y|, z = CPEN(x, y): the IPR may look at the answer (DiffIR stage 1, eq. 6)."""
    return {"loss": losses.l1(model(batch.degraded, batch.reference), batch.reference)}


@dataclass(frozen=True)
class JointDiffusion:
    """ℓ = mean |G(x, ẑ) - y| + mean |ẑ - z|: all T reverse steps are in the graph (DiffIR stage 2, eq. 11 and 12)."""

    stage_1: nn.Module

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """z is the IPR of stage 1, which is not trained any more."""
        with torch.no_grad():
            prior = self.stage_1.to(batch.degraded.device).prior(batch.degraded, batch.reference)
        restored, steps = model(batch.degraded, prior=prior)
        pixel, distance = losses.l1(restored, batch.reference), losses.prior_distance(steps[-1], prior)
        divergence = losses.prior_divergence(steps[-1], prior)  # watched, not minimised
        return {"loss": pixel + distance, "pixel": pixel, "distance": distance, "divergence": divergence}


@dataclass(frozen=True)
class SeparateDiffusion:
    """ℓ = mean |f(z_t, t, c) - z| at one random t: how diffusion models are usually trained, with G left as it was."""

    stage_1: nn.Module
    timesteps: int

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One t is drawn for the whole batch."""
        t = int(torch.randint(self.timesteps, ()))
        with torch.no_grad():
            prior = self.stage_1.to(batch.degraded.device).prior(batch.degraded, batch.reference)
        distance = losses.prior_distance(model(batch.degraded, prior=prior, t=t), prior)
        return {"loss": distance, "distance": distance}


def from_scratch(objective: Objective) -> Callable:
    """Fresh weights, or those of `start`, and nothing beside the model."""

    def prepare(model: nn.Module, start: nn.Module | None) -> tuple[nn.Module, Objective]:
        if start is not None:
            model.load_state_dict(start.state_dict())
        return model, objective

    return prepare


def against_discriminator(model: nn.Module, start: nn.Module | None) -> tuple[nn.Module, Objective]:
    """The generator goes on from its training with a pixel loss, the discriminator begins."""
    if start is None:
        raise UserError("srgan goes on from weights of srresnet: train that first and give it as start")
    model.load_state_dict(start.state_dict())
    return Adversaries(model, Discriminator()), PerceptualAdversarial()


def after_stage_1(objective: Callable[[nn.Module, nn.Module], Objective]) -> Callable:
    """Stage 2 takes over stage 1's restoring part G; stage 1's IPR is what it learns to guess."""

    def prepare(model: nn.Module, start: nn.Module | None) -> tuple[nn.Module, Objective]:
        if not hasattr(start, "prior"):
            raise UserError("stage 2 of DiffIR goes on from stage 1: train diffir-s1 first and give it as start")
        model.G.load_state_dict(start.G.state_dict())
        return model, objective(model, start.requires_grad_(False))

    return prepare


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a method is trained: model and arguments, what is minimised, settings, side of the reference patch."""

    model: str
    arguments: dict = field(default_factory=dict)
    prepare: Callable[[nn.Module, nn.Module | None], tuple[nn.Module, Objective]]
    settings: Settings
    patch_size: int


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
        prepare=from_scratch(mean_squared_error),
        settings=Settings(steps=2000, learning_rate=1e-3),
        patch_size=48,
    ),
    # without clipping and warm-up, Adam at this rate now and then throws FSRCNN's tiny deconvolution off for good
    "fsrcnn": Recipe(
        model="fsrcnn",
        prepare=from_scratch(mean_squared_error),
        settings=Settings(steps=2000, learning_rate=2e-3, warmup_steps=500, clip_norm=0.5, channels_last=True),
        patch_size=48,
    ),
    "srresnet": Recipe(
        model="srgan",
        prepare=from_scratch(mean_squared_error),
        settings=Settings(steps=2000, learning_rate=5e-4, warmup_steps=200, bf16=True, channels_last=True),
        patch_size=96,
    ),
    "srgan": Recipe(
        model="srgan",
        prepare=against_discriminator,
        settings=Settings(steps=500, learning_rate=1e-4, ema=0.99, bf16=True, channels_last=True),
        patch_size=96,
    ),
    "swinir": Recipe(
        model="swinir",
        prepare=from_scratch(mean_absolute_error),
        settings=Settings(steps=1000, learning_rate=1e-3, warmup_steps=200, clip_norm=1.0),
        patch_size=64,
    ),
    **{
        name: Recipe(model=name, prepare=from_scratch(negative_psnr), settings=_NAFNET, patch_size=96)
        for name in ("plainnet", "baseline", "nafnet")
    },
    "diffir-s1": Recipe(
        model="diffir", arguments={"stage": 1}, prepare=from_scratch(with_reference), settings=_DIFFIR, patch_size=64
    ),
    "diffir-s2": Recipe(
        model="diffir",
        prepare=after_stage_1(lambda model, stage_1: JointDiffusion(stage_1)),
        settings=_DIFFIR,
        patch_size=64,
    ),
    "diffir-s2-separate": Recipe(
        model="diffir",
        prepare=after_stage_1(lambda model, stage_1: SeparateDiffusion(stage_1, len(model.diffusion.betas))),
        settings=_DIFFIR,
        patch_size=64,
    ),
}


def degradation(task: str, scale: int) -> Callable:
    """What a task's methods learn to undo: MATLAB's bicubic shrinking, or camera shake."""
    return SHAKE if task == "deblurring" else Bicubic(scale)


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
    patch_size: int | None = None,
    replace_run: bool = False,
    processes: int = 1,
    on_log: Callable[[pd.DataFrame], None] | None = None,
    **settings,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a method on photos (uint8 H x W x 3 by name) and return the model and its log.

    What is learned is to undo the task's degradation, or to make the references out of the `degraded` photos of the
    same names. `start` is a model to go on from: SRResNet for SRGAN, stage 1 for stage 2 of DiffIR. `arguments` go to
    the model, `settings` overwrite the recipe's (steps, batch_size, learning_rate, ...); `validation` photos are
    restored now and then, and their mean PSNR (Y, border of `scale` pixels cropped) chooses the best weights. Several
    `processes` share each batch, a GPU each where there are any, and come to the same weights. Raises UserError for an
    unknown method or a value out of range.
    """
    if processes > 1:  # they finish the run, and what follows finds it complete
        given = {"degraded": degraded, "validation": validation, "start": start, "scale": scale, "arguments": arguments}
        given |= {"run": run, "patch_size": patch_size, "replace_run": replace_run}
        in_processes(processes, train, method, references, **given, **settings)
    if method not in RECIPES:
        raise UserError(f"there is no recipe for {method!r}: choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[method]
    known = set(Settings.__dataclass_fields__)
    for name in settings:
        if name not in known:
            raise UserError(f"unknown setting {name!r}: choose among {', '.join(sorted(known))}")
    chosen = replace(recipe.settings, **settings)
    torch.manual_seed(chosen.seed)  # the fresh weights
    given = {} if scale is None else {"scale": scale}
    model = create(recipe.model, **{**recipe.arguments, **given, **(arguments or {})})
    trained, objective = recipe.prepare(model, start)
    degrade = degradation(model.task, model.scale)
    patches = Patches(
        references,
        degrade if degraded is None else degraded,
        patch_size=patch_size or recipe.patch_size,
        channels=model.channels,
        seed=chosen.seed,
    )
    pairs = photo_pairs(validation, degrade) if validation else {}
    history = fit(
        trained,
        objective,
        patches,
        chosen,
        run=run,
        facts={"method": method, "start": _checksum(start)},
        validate=(lambda average: mean_psnr(average, pairs)) if pairs else None,
        replace=replace_run,
        on_log=on_log,
    )
    return model, history


def _checksum(start: nn.Module | None) -> str:
    values = start.state_dict().values() if start is not None else ()
    return f"{zlib.crc32(b''.join(value.cpu().numpy().tobytes() for value in values)):08x}"


def mean_psnr(model: nn.Module, pairs: dict[str, Pair]) -> dict[str, float]:
    """Mean PSNR in dB over photo pairs, on Y with a border of `scale` pixels cropped, named with its convention."""
    crop = model.scale if model.scale > 1 else 0
    scores = [
        psnr(restore(model, degraded, reference=reference), reference, channel="y", crop=crop)
        for degraded, reference in pairs.values()
    ]
    return {f"psnr_y_crop{crop}": float(np.mean(scores))}
