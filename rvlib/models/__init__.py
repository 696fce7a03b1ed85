"""The study's models by name; each family is one file, imported when it is first asked for."""

import importlib
import inspect

from torch import nn

from rvlib.errors import UserError

MODELS = {
    # name: (file, class)
    "srcnn": ("fsrcnn", "SRCNN"),
    "fsrcnn": ("fsrcnn", "FSRCNN"),
    "srgan": ("srgan", "srgan"),
    "swinir": ("swinir", "SwinIR"),
    "nafnet": ("nafnet", "NAFNet"),
    "baseline": ("nafnet", "Baseline"),
    "plainnet": ("nafnet", "PlainNet"),
    "diffir": ("diffir", "diffir"),
}


def family(file: str):
    """Import one model file of this package."""
    return importlib.import_module(f"rvlib.models.{file}")


def builder(name: str):
    """The class or function that builds a model."""
    file, attribute = MODELS[name]
    return getattr(family(file), attribute)


def create(name: str, *, variant: str | None = None, **arguments) -> nn.Module:
    """Build a model with fresh weights, in eval mode.

    `variant` names an official configuration, keyword arguments are the paper's hyper-parameters and win over it.
    Raises UserError for an unknown name, variant or argument, and for values that a model refuses.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    build, module = builder(name), family(MODELS[name][0])
    variants = getattr(module, "VARIANTS", {}).get(name, {})
    if variant is not None and variant not in variants:
        known = ", ".join(variants) or "none"
        raise UserError(f"{name} has no variant {variant!r}: its variants are {known}")
    levels = inspect.getmro(build) if inspect.isclass(build) else [build]  # a class passes on what its base takes
    named = [each for level in levels for each in inspect.signature(level).parameters.values()]
    accepted = dict.fromkeys(each.name for each in named if each.kind is inspect.Parameter.KEYWORD_ONLY)
    for argument in arguments:
        if argument not in accepted:
            raise UserError(f"{name} has no argument {argument!r}: it takes {', '.join(accepted)}")
    arguments = {**variants.get(variant, {}), **arguments}
    model = build(**arguments).eval()
    model.recipe = {"name": name, "arguments": arguments}  # what `save` writes and `load` rebuilds from
    return model
