"""Degradations x = D(y): what turns a reference photo into the input of a restoration method."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np
import torch
from torch import Tensor

from rvlib.errors import UserError


def cubic(t: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -1/2 (Keys 1981, eq. 15); zero for |t| >= 2."""
    t = np.abs(t)
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


@lru_cache(maxsize=64)
def _contributions(length: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """For each of ceil(factor·length) outputs the inputs it reads (o, k) and their weights (o, k), as MATLAB has it."""
    output = ceil(round(length * factor, 9))
    stretch = min(factor, 1.0)  # antialiasing: shrinking stretches the kernel to s·k(s·t)
    width = 4.0 / stretch
    centre = (np.arange(1, output + 1) / factor) + 0.5 * (1 - 1 / factor)  # in MATLAB's coordinates, from 1
    left = np.floor(centre - width / 2)
    taken = left[:, None] + np.arange(ceil(width) + 2)
    weights = stretch * cubic(stretch * (centre[:, None] - taken))
    weights /= weights.sum(axis=1, keepdims=True)
    mirror = np.concatenate([np.arange(length), np.arange(length - 1, -1, -1)])  # symmetric border
    indices = mirror[np.mod(taken.astype(np.int64) - 1, 2 * length)]
    used = np.any(weights != 0, axis=0)
    return indices[:, used], weights[:, used]


def imresize(image: np.ndarray | Tensor, factor: float) -> np.ndarray | Tensor:
    """MATLAB's imresize: bicubic, antialiased where it shrinks, height first, then width.

    numpy H x W [x C] or torch (..., h, w) -> the same with sides ceil(factor · side). Floating point stays so and is
    not clipped; uint8 is rounded and clipped. Raises UserError for a factor that is not positive.
    """
    if not 0 < factor < 100:
        raise UserError(f"the factor of a resize must be positive, not {factor}")
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3):
            raise UserError(f"a numpy image has H x W or H x W x C pixels, not shape {image.shape}")
        planes = torch.from_numpy(np.ascontiguousarray(image if image.ndim == 2 else image.transpose(2, 0, 1)))
        resized = imresize(planes, factor).numpy()
        return resized if image.ndim == 2 else np.ascontiguousarray(resized.transpose(1, 2, 0))
    if image.dtype == torch.uint8:
        return imresize(image.float(), factor).round().clamp(0, 255).byte()
    rows, columns = (_matrix(side, factor).to(image) for side in image.shape[-2:])
    return rows @ image @ columns.T


@lru_cache(maxsize=64)
def _matrix(length: int, factor: float) -> Tensor:
    """The resize of one axis as a matrix (output, input)."""
    indices, weights = _contributions(length, factor)
    matrix = np.zeros((len(indices), length))
    np.add.at(matrix, (np.arange(len(indices))[:, None], indices), weights)
    return torch.from_numpy(matrix)


def mod_crop(image: np.ndarray, scale: int) -> np.ndarray:
    """Crop H x W [x C] at the right and bottom to multiples of the scale, as every benchmark script does first."""
    return image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]


@dataclass(frozen=True)
class Bicubic:
    """x = round(imresize(y, 1/scale)): the degradation that "x4 super-resolution" means in the literature."""

    scale: int = 4

    def __call__(self, reference: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 H x W x 3 -> uint8 H/scale x W/scale x 3; draws nothing."""
        return imresize(reference, 1 / self.scale)
