"""The study's methods: each family of networks is one file, with the records of its methods; one table lists them."""

import inspect
from collections.abc import Callable

from rvlib.errors import UserError, in_short
from rvlib.memory import lacks_memory
from rvlib.models import diffir, fsrcnn, nafnet, srgan, swinir
from rvlib.models.base import RestorationModel
from rvlib.models.method import Method

METHODS: dict[str, Method] = {
    method.key: method
    for method in (
        fsrcnn.SRCNN_METHOD,
        fsrcnn.FSRCNN_METHOD,
        srgan.SRRESNET_METHOD,
        srgan.SRGAN_METHOD,
        swinir.SWINIR_METHOD,
        nafnet.PLAINNET_METHOD,
        nafnet.BASELINE_METHOD,
        nafnet.NAFNET_METHOD,
        diffir.DIFFIR_METHOD,
    )
}
"""The methods by their keys, in the order in which they are shown and in which a file of weights is tried."""

MODELS = {method.network: method for method in METHODS.values()}
"""The networks that `create` builds, each with a method that it belongs to."""


def method_of(weights: str) -> str:
    """The key of the method that weights are named after: "swinir" of "swinir-small-x4"."""
    return weights.partition("-")[0]


def builder(name: str) -> Callable[..., RestorationModel]:
    """The class or function that builds a network."""
    return MODELS[name].builder


def create(name: str, *, variant: str | None = None, **arguments) -> RestorationModel:
    """Build a network with fresh weights, in eval mode.

    `variant` names an official configuration, keyword arguments are the paper's hyper-parameters and win over it.
    Raises UserError for an unknown name, variant or argument, and for values that a network refuses.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}: choose one of {', '.join(MODELS)}")
    build, variants = builder(name), MODELS[name].variants
    if variant is not None and variant not in variants:
        known = ", ".join(variants) or "none"
        raise UserError(f"{name} has no variant {variant!r}: its variants are {known}")
    accepted = _keywords(build)
    for argument in arguments:
        if argument not in accepted:
            raise UserError(f"{name} has no argument {argument!r}: it takes {', '.join(accepted)}")
    arguments = {**variants.get(variant, {}), **arguments}
    try:
        model = build(**arguments).eval()
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
        if lacks_memory(error):
            raise
        raise UserError(f"{name} cannot be built of these arguments ({in_short(error)}): choose others") from None
    model.spec = {"name": name, "arguments": arguments}  # what `save` writes and `load` rebuilds from
    return model


def _keywords(build: Callable[..., RestorationModel]) -> list[str]:
    """The keyword-only arguments of a function, or of a class and of its bases, to which it passes the others on."""
    functions = inspect.getmro(build) if inspect.isclass(build) else [build]
    names = []
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                names.append(parameter.name)
    return names
