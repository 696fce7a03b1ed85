"""Objectives: what a training step minimises, as functions of a model and a batch.

They are in the order of the study. A loss compares two images (`rvlib.losses`); an objective says what a method does
with it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rvlib import losses
from rvlib.settings import Batch, Loss


@dataclass(frozen=True)
class Pixelwise:
    """ℓ = loss(f(x), y): the restored patches are compared with their references, pixel by pixel.

    `losses.mse` is SRCNN's eq. 4, FSRCNN's and SRResNet's, `losses.l1` SwinIR's eq. 6, `losses.negative_psnr` NAFNet's.
    """

    can_be_recorded = True

    loss: Loss

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One forward."""
        return {"loss": self.loss(model(batch.degraded), batch.reference)}


@dataclass(frozen=True)
class PerceptualAdversarial:
    """SRGAN's game: the generator is to look right to VGG16 and to the discriminator, which learns to tell.

    ℓ_G = MSE + 6·10⁻³ content + 10⁻³ adversarial + 2·10⁻⁸ total variation,   ℓ_D as in eq. 2 (SRGAN eq. 3, report's
    table 2; the weight of the content term is leftthomas'). Neither loss has a gradient for the other's weights, so
    their sum trains both at once.
    """

    can_be_recorded = True

    loss: Loss
    features: nn.Module

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`model` is `Adversaries`; `features` are φ, VGG16 up to its fifth pooling."""
        restored, real, fake, judged = model(batch.degraded, batch.reference)
        features = self.features.to(restored.device)
        parts = {
            "pixel": self.loss(restored, batch.reference),
            "content": 6e-3 * losses.perceptual(restored, batch.reference, features),
            "adversarial": 1e-3 * losses.generator_adversarial(judged),
            "total_variation": 2e-8 * losses.total_variation(restored),
        }
        discriminator = losses.discriminator_adversarial(fake, real)
        return {"loss": sum(parts.values()) + discriminator, **parts, "discriminator": discriminator}


@dataclass(frozen=True)
class WithReference:
    """ℓ = loss(G(x, z), y), z = CPEN(x, y): the IPR may look at the answer (DiffIR stage 1, eq. 6)."""

    can_be_recorded = True

    loss: Loss

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One forward of stage 1."""
        return {"loss": self.loss(model(batch.degraded, batch.reference), batch.reference)}


@dataclass(frozen=True)
class JointDiffusion:
    """ℓ = loss(G(x, ẑ), y) + mean |ẑ - z|: all T reverse steps are in the graph (DiffIR stage 2, eq. 11 and 12)."""

    can_be_recorded = True

    loss: Loss
    stage_1: nn.Module

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """z is the IPR of stage 1, which is not trained any more."""
        with torch.no_grad():
            prior = self.stage_1.to(batch.degraded.device).prior(batch.degraded, batch.reference)
        restored, steps = model(batch.degraded, prior=prior)
        pixel, distance = self.loss(restored, batch.reference), losses.prior_distance(steps[-1], prior)
        divergence = losses.prior_divergence(steps[-1], prior)  # watched, not minimised
        return {"loss": pixel + distance, "pixel": pixel, "distance": distance, "divergence": divergence}


@dataclass(frozen=True)
class SeparateDiffusion:
    """ℓ = mean |f(z_t, t, c) - z| at one random t: how diffusion models are usually trained, with G left as it was."""

    stage_1: nn.Module
    timesteps: int

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One t is drawn for what is computed at once: the batch, a process's share of it, or a part (`accumulate`)."""
        t = int(torch.randint(self.timesteps, ()))
        with torch.no_grad():
            prior = self.stage_1.to(batch.degraded.device).prior(batch.degraded, batch.reference)
        distance = losses.prior_distance(model(batch.degraded, prior=prior, t=t), prior)
        return {"loss": distance, "distance": distance}


CELL = 4
"""Side of the cells of which one pixel is hidden at a time: no hidden pixel is a neighbour of another."""


def hide(image: Tensor, place: int) -> tuple[Tensor, tuple]:
    """An image (b c h w) without its pixels at one of the CELL² places of a cell, and the index of those pixels J.

    A hidden pixel becomes the mean of its eight neighbours, those beside it counting twice, as in the authors' code
    (czbiohub-sf/noise2self, mask.py): what is left holds nothing of x_J.
    """
    spots = (..., slice(place // CELL, None, CELL), slice(place % CELL, None, CELL))
    around = image.new_tensor([[1.0, 2.0, 1.0], [2.0, 0.0, 2.0], [1.0, 2.0, 1.0]]) / 12
    planes = F.pad(image, (1, 1, 1, 1), mode="reflect").flatten(0, 1).unsqueeze(1)
    means = F.conv2d(planes, around[None, None]).view_as(image)
    hidden = image.clone()
    hidden[spots] = means[spots]
    return hidden, spots


@dataclass(frozen=True)
class BlindSpot:
    """ℓ = loss(f(x without x_J)_J, x_J): each hidden pixel is guessed from the others (Batson and Royer 2019).

    No clean photo is looked at: noise that is independent from pixel to pixel cannot be guessed, so what is learned is
    the photo. With the mean squared error that is its mean, with `losses.l1` its median. J is the next place of
    the cells at each step.
    """

    loss: Loss

    def __call__(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """One forward on what is not hidden."""
        hidden, spots = hide(batch.degraded, batch.step % CELL**2)
        return {"loss": self.loss(model(hidden)[spots], batch.degraded[spots])}
