"""What trains in a moment: photos, arguments for a network of each recipe, and what each training starts from."""

import torch

import rvlib
from rvlib import recipes, train
from rvlib.losses import PIXEL_LOSSES
from rvlib.pairs import Patches
from rvlib.photos import sample

SMALL = {
    "srcnn": {},
    "fsrcnn": {},
    "srresnet": {"features": 8, "blocks": 1},
    "srgan": {"features": 8, "blocks": 1},
    "swinir": {"embed": 12, "depths": (2,), "heads": (2,)},
    **{
        name: {"width": 8, "encoder": (1,), "middle": 1, "decoder": (1,)} for name in ("plainnet", "baseline", "nafnet")
    },
    **{
        f"diffir-{name}": {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "encoder": 1}
        for name in ("constant", "s1", "s2", "s2-separate")
    },
}


def photos():
    """Two photos of 96 x 128 pixels."""
    return {name: sample(name)[:96, :128] for name in ("coffee", "chelsea")}


def before(method):
    """The network that a method goes on from, with the same weights at each call; None where it begins afresh."""
    torch.manual_seed(1)
    if method == "srgan":
        return rvlib.create("srgan", **SMALL[method])
    return rvlib.create("diffir", stage=1, **SMALL[method]) if method.startswith("diffir-s2") else None


def identity(method, arguments, *, loss=None):
    """What a run of a method with the recipe's settings is known by."""
    recipe, network = recipes.RECIPES[method], recipes.METHOD_OF[method].network
    arguments = {**recipe.arguments, **arguments}
    model = rvlib.create(network, **arguments)
    start = rvlib.create(network, **arguments, stage=1) if method.startswith("diffir-s2") else model
    trained, objective = recipe.prepare(model, start, PIXEL_LOSSES[loss or recipe.loss])
    made = recipes.degradation(model.task, model.scale, training=True)
    patches = Patches(photos(), made, patch_size=64, channels=model.channels)
    return train.identity(trained, objective, patches, recipe.settings)
