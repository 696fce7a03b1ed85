"""What a training is told: its settings, what it minimises, and the recipe of both that a method comes with."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rvlib.errors import UserError

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


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

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate", "validate_every"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise UserError(f"{name} must be a whole number of at least 1, not {getattr(self, name)}")
        if not 0 < self.learning_rate < 10:
            raise UserError(f"learning_rate must lie between 0 and 10, not {self.learning_rate}")
        if self.batch_size % self.accumulate:
            raise UserError(f"batch_size {self.batch_size} cannot be cut into {self.accumulate} equal parts")
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


def alone(objective: Callable[[Loss], Objective]) -> Prepare:
    """The model alone is trained, from fresh weights or from those of `start`."""

    def prepare(model: nn.Module, start: nn.Module | None, loss: Loss) -> tuple[nn.Module, Objective]:
        if start is not None:
            model.load_state_dict(start.state_dict())
        return model, objective(loss)

    return prepare


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
