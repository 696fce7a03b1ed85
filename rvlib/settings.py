"""What a training is told: its settings, what it minimises, and the recipe of both that a method comes with."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rvlib.errors import UserError

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}

LATER = {"tf32": True, "deterministic": False}
"""Settings that came after the first runs: at these values they are not in a run's identity, as in those runs."""


class Batch(NamedTuple):
    """What an objective sees: patches (b c p p) and (b c s·p s·p) in [0, 1], and the number of the step from 0."""

    degraded: Tensor
    reference: Tensor
    step: int


Objective = Callable[[nn.Module, Batch], dict[str, Tensor]]
"""(model, batch) -> {"loss": what is minimised, any other name: what is logged next to it}."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""(restored, reference) -> a number."""

Prepare = Callable[[nn.Module, nn.Module | None, Loss], tuple[nn.Module, Objective]]
"""(model, start, pixel loss) -> (what is trained, objective); `start` holds the weights to begin with, or is None."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How long and how fast to train; the defaults are Adam with a cosine schedule."""

    steps: int
    batch_size: int = 16
    learning_rate: float = 1e-3
    final_learning_rate: float = 0.0  # where the cosine ends
    milestones: tuple[int, ...] = ()  # where given, the rate is halved at each of these steps instead
    warmup_steps: int = 0  # linear from zero
    optimizer: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_norm: float | None = None  # largest norm of the whole gradient
    ema: float = 0.999  # decay of the averaged weights, which are validated and saved
    bf16: bool = False  # forward in bfloat16; float16 overflows in attention models
    channels_last: bool = False  # memory layout in which convolutions are faster
    accumulate: int = 1  # parts that a batch is cut into where memory is short
    validate_every: int = 1000
    seed: int = 0
    tf32: bool = True  # on a GPU, products in TensorFloat-32, as torch had them when the official runs were made
    deterministic: bool = False  # on a GPU, the same bits on every run; else cuDNN takes the fastest by trial

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate", "validate_every"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise UserError(f"{name} must be a whole number of at least 1, not {getattr(self, name)}")
        if not 0 < self.learning_rate < 10:
            raise UserError(f"learning_rate must lie between 0 and 10, not {self.learning_rate}")
        if self.batch_size % self.accumulate:
            raise UserError(
                f"batch_size {self.batch_size} cannot be cut into {self.accumulate} equal parts: choose another "
                f"accumulate"
            )
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise UserError(f"seed must be a whole number from 0 to 2**32 - 1, not {self.seed}")
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"unknown optimizer {self.optimizer!r}: choose one of {', '.join(OPTIMIZERS)}")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0.

        cosine  η(k) = η_end + (η - η_end) · (1 + cos(π k / K)) / 2        steps  η(k) = η / 2^(milestones passed)
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.milestones:
            return self.learning_rate * 0.5 ** sum(step >= milestone for milestone in self.milestones)
        cosine = (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine


def stated(settings: Settings) -> dict:
    """The settings as a run's identity has them, without those of `LATER` that are as they always were."""
    return {name: each for name, each in asdict(settings).items() if name not in LATER or each != LATER[name]}


def _number(least: float = -math.inf, most: float = math.inf) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _whole(least: int, most: int = 2**63) -> Callable[[object], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _each(accepts: Callable[[object], bool], size: int | None = None) -> Callable[[object], bool]:
    return lambda values: isinstance(values, list | tuple) and all(map(accepts, values)) and size in (None, len(values))


KINDS = {
    **dict.fromkeys(
        ("bf16", "channels_last", "tf32", "deterministic"), ("true or false", lambda value: isinstance(value, bool))
    ),
    **dict.fromkeys(
        ("steps", "batch_size", "accumulate", "validate_every"), ("a whole number of at least 1", _whole(1))
    ),
    "warmup_steps": ("a whole number of at least 0", _whole(0)),
    "seed": ("a whole number from 0 to 2**32 - 1", _whole(0, 2**32 - 1)),
    "learning_rate": ("a number", _number()),
    "final_learning_rate": ("a number from 0 to 10", _number(0, 10)),
    "weight_decay": ("a number from 0 to 10", _number(0, 10)),
    "ema": ("a number from 0 to 1", _number(0, 1)),
    "clip_norm": ("a number above 0, or null", lambda value: value is None or (_number(0)(value) and value > 0)),
    "betas": ("two numbers from 0 to below 1", _each(lambda value: _number(0, 1)(value) and value < 1, 2)),
    "milestones": ("a list of steps", _each(_whole(1))),
    "optimizer": ("a name", lambda value: isinstance(value, str)),
}
"""What each setting is to be, in words and as a test."""


def check(settings: dict) -> None:
    """Raise UserError for a setting that is unknown, of another kind or out of range.

    `Settings` keeps to what it always checked, since its code is a part of what makes a run the same.
    """
    for name, value in settings.items():
        if name not in KINDS:
            raise UserError(f"unknown setting {name!r}: choose among {', '.join(sorted(KINDS))}")
        kind, accepts = KINDS[name]
        if not accepts(value):
            raise UserError(f"{name} must be {kind}, not {value}")


def alone(objective: Callable[[Loss], Objective]) -> Prepare:
    """The model alone is trained, from fresh weights or from those of `start`."""

    def prepare(model: nn.Module, start: nn.Module | None, loss: Loss) -> tuple[nn.Module, Objective]:
        if start is not None:
            take_over(model, start)
        return model, objective(loss)

    return prepare


def take_over(model: nn.Module, start: nn.Module) -> None:
    """Give a network the weights of another one; raises UserError where its architecture is another."""
    mine, theirs = ({key: each.shape for key, each in network.state_dict().items()} for network in (model, start))
    if mine != theirs:
        key = next(key for key in [*mine, *theirs] if mine.get(key) != theirs.get(key))
        sizes = (f"{tuple(side[key])}" if key in side else "none" for side in (theirs, mine))
        raise UserError(
            f"the weights to start from belong to another architecture ({key}: {' -> '.join(sizes)}): leave out "
            f"--argument and --scale, then the network has the architecture of the start"
        )
    model.load_state_dict(start.state_dict())


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a method is trained.

    The settings are small enough for a laptop; the profiles in params.yaml overwrite them with what their time allows.
    """

    loss: str  # the pixel loss, by its name in `losses.PIXEL_LOSSES`
    prepare: Prepare
    settings: Settings
    patch_size: int  # side of the reference patch
    arguments: dict = field(default_factory=dict)  # of the network
    sections: tuple[str, ...] = ()  # of params.yaml that say how it is trained; the first where none is asked for
    starts_from: str = ""  # the recipe whose network this one continues from
    is_adversarial: bool = False  # whether it trains against a discriminator
