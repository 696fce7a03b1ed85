"""What each method is trained with: its objective and its settings.

The objectives stand here in the open, in the order of the study. `Recipe.settings` are small enough for a laptop;
the profiles in params.yaml overwrite them with what their time allows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from rvlib.degrade import Bicubic
from rvlib.errors import UserError
from rvlib.metrics import psnr
from rvlib.models import create
from rvlib.pairs import Pair, Patches, photo_pairs
from rvlib.restore import restore
from rvlib.train import Batch, Objective, Settings, fit


def mean_squared_error(model: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """ℓ = mean (f(x) - y)², which PSNR is the logarithm of (SRCNN eq. 4, FSRCNN section 4.1)."""
    return {"loss": F.mse_loss(model(batch.degraded), batch.reference)}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a method is trained: objective, settings, side of the reference patch, and model arguments."""

    objective: Objective
    settings: Settings
    patch_size: int


RECIPES = {
    "srcnn": Recipe(objective=mean_squared_error, settings=Settings(steps=2000, learning_rate=1e-3), patch_size=48),
    # without clipping and warm-up, Adam at this rate now and then throws FSRCNN's tiny deconvolution off for good
    "fsrcnn": Recipe(
        objective=mean_squared_error,
        settings=Settings(steps=2000, learning_rate=2e-3, warmup_steps=500, clip_norm=0.5),
        patch_size=48,
    ),
}


def train(
    method: str,
    references: dict[str, np.ndarray],
    *,
    run: str | Path,
    validation: dict[str, np.ndarray] | None = None,
    scale: int = 4,
    arguments: dict | None = None,
    patch_size: int | None = None,
    replace_run: bool = False,
    on_log: Callable[[pd.DataFrame], None] | None = None,
    **settings,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a method on photos (uint8 H x W x 3 by name) and return the model and its log.

    `arguments` go to the model, `settings` overwrite the recipe's (steps, batch_size, learning_rate, ...);
    `validation` photos are restored now and then, and their mean PSNR (Y, border of `scale` pixels cropped) chooses
    the best weights. Raises UserError for an unknown method or a value out of range.
    """
    if method not in RECIPES:
        raise UserError(f"there is no recipe for {method!r}: choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[method]
    known = set(Settings.__dataclass_fields__)
    for name in settings:
        if name not in known:
            raise UserError(f"unknown setting {name!r}: choose among {', '.join(sorted(known))}")
    chosen = replace(recipe.settings, **settings)
    torch.manual_seed(chosen.seed)  # the fresh weights
    model = create(method, scale=scale, **(arguments or {}))
    degradation = Bicubic(scale)
    patches = Patches(
        references,
        degradation,
        patch_size=patch_size or recipe.patch_size,
        channels=model.channels,
        seed=chosen.seed,
    )
    pairs = photo_pairs(validation, degradation) if validation else {}
    history = fit(
        model,
        recipe.objective,
        patches,
        chosen,
        run=run,
        validate=(lambda average: mean_psnr(average, pairs)) if pairs else None,
        replace=replace_run,
        on_log=on_log,
    )
    return model, history


def mean_psnr(model: nn.Module, pairs: dict[str, Pair]) -> dict[str, float]:
    """Mean PSNR in dB over photo pairs, on Y with a border of `scale` pixels cropped, named with its convention."""
    crop = model.scale if model.scale > 1 else 0
    scores = [
        psnr(restore(model, degraded), reference, channel="y", crop=crop) for degraded, reference in pairs.values()
    ]
    return {f"psnr_y_crop{crop}": float(np.mean(scores))}
