"""Adapting: a super-resolution network is trained further on photos of one's own, by their own shrunk versions.

A photo is a reference, too: of its own shrunk version. What repeats in it in several sizes can be learned from it
(Shocher et al. 2018, "Zero-Shot" Super-Resolution Using Deep Internal Learning).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from rvlib import photos
from rvlib.checkpoint import load
from rvlib.errors import UserError
from rvlib.models import METHODS
from rvlib.models.base import RestorationModel, unwrapped
from rvlib.photos import middle  # by name: `photos` is a parameter of `adapt`

MEASURED = 512
"""Side of the middle part of a photo that is measured before and after, in pixels."""

LOOKED_AT = 16
"""How many photos of a folder are measured."""

REFUSED = {
    "srgan": "its weights come from adversarial training, which needs a discriminator: adapt srresnet-x4",
    "diffir": "its second stage learns from a first one, which weights do not hold: adapt another network",
}
"""Methods whose training needs more than the photo, by their key, with what to do instead."""


class Adapted(NamedTuple):
    """A network that has seen the photos, and PSNR in dB on luminance, means over the photos' own pairs."""

    model: nn.Module
    bicubic: float
    before: float
    after: float


def adapt(
    model: nn.Module | str | Path,
    photos: str | Path | Mapping[str, np.ndarray],
    *,
    run: str | Path,
    degradation=None,
    steps: int = 300,
    **settings,
) -> Adapted:
    """Train a super-resolution network a little longer, on photos and their own shrunk versions.

    `model` is a network, or what `load` takes; `photos` a file, a folder, or uint8 H x W x 3 by name. The photos are
    shrunk by `degradation`, by default as the network's inputs were (`degrade.Bicubic`); one that has a direction asks
    for `augment=False`. It is training by the method's recipe (`recipes.train`, which takes `settings`), at a tenth of
    its learning rate: a stopped `run` is resumed and a complete one is taken as it is. The pairs that are measured are
    those that were learned from: how the enlarged photo looks, they do not say.
    Raises UserError, before anything is written, for a network that does not enlarge or was trained in a game, and for
    photos that are missing, damaged, GIFs, or smaller than a patch.
    """
    # here, since the training library takes a quarter of a second to import
    from rvlib import recipes
    from rvlib.degrade import Bicubic, imresize
    from rvlib.metrics import psnr
    from rvlib.pairs import photo_pairs

    network = load(model) if isinstance(model, str | Path) else unwrapped(model)
    method, shrink = _method(network), degradation or Bicubic(network.scale)
    recipe = recipes.RECIPES[method]
    own = dict(photos) if isinstance(photos, Mapping) else _read(Path(photos))
    size = recipe.patch_size // network.scale * network.scale
    chosen = {"patch_size": size, "batch_size": 8, "learning_rate": recipe.settings.learning_rate / 10}
    chosen |= settings
    for name, photo in own.items():
        if min(photo.shape[:2]) < chosen["patch_size"]:
            size = f"{photo.shape[1]} x {photo.shape[0]}"
            raise UserError(
                f"{name} has {size} pixels, fewer than the {chosen['patch_size']} x {chosen['patch_size']} of a patch "
                f"that this network learns from: leave it out, or take a larger photo"
            )
    parts = {name: middle(photo, MEASURED) for name, photo in list(own.items())[:LOOKED_AT]}
    pairs = photo_pairs(parts, shrink)
    enlarged = [psnr(imresize(low, network.scale), high, crop=network.scale) for low, high in pairs.values()]
    (before,) = recipes.mean_psnr(network, pairs).values()
    given = {} if degradation is None else {"degraded": {n: low for n, (low, _) in photo_pairs(own, shrink).items()}}
    adapted, _ = recipes.train(method, own, run=run, start=network, steps=steps, **given, **chosen)
    (after,) = recipes.mean_psnr(adapted, pairs).values()
    return Adapted(adapted, float(np.mean(enlarged)), before, after)


def _method(network: RestorationModel) -> str:
    """The method whose recipe a network goes on with; raises UserError for one that photos alone cannot teach."""
    if network.task != "super-resolution" or network.scale == 1:
        raise UserError(
            f"a network for {network.task} that keeps the size cannot be adapted: shrinking a photo shows what "
            f"enlarging has to undo, and nothing else; take one that enlarges, such as fsrcnn-x4"
        )
    method = network.method or network.spec["name"]
    if method in REFUSED:
        raise UserError(f"{METHODS[method].title} cannot be adapted: {REFUSED[method]}")
    if method not in METHODS or method not in METHODS[method].recipes:
        able = [
            each.title
            for key, each in METHODS.items()
            if "super-resolution" in each.tasks and key in each.recipes and key not in REFUSED
        ]
        given = "an ONNX file" if method == "onnx" else method
        raise UserError(f"{given} cannot be adapted: take weights of {', '.join(able[:-1])} or {able[-1]}")
    return method


def _read(path: Path) -> dict[str, np.ndarray]:
    """The photos of a file or a folder by name."""
    files = photos.folder(path) if path.is_dir() else [path]
    for file in files:
        if file.suffix.lower() == ".gif":
            raise UserError(
                f"{file}: a GIF mixes its colours from dots, which would be learned: give JPEG, PNG or TIFF"
            )
    return {name: photos.read(file) for name, file in photos.by_name(files).items()}
