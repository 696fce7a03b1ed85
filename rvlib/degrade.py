"""Degradations x = D(y): what turns a reference photo into the input of a restoration method."""

import io
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

import numpy as np
import torch
from PIL import Image
from scipy.signal import fftconvolve
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
    not clipped; uint8 is computed in float64, rounded and clipped. Raises UserError for a factor that is not positive.
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
        return _resize(image, factor, torch.float64).round().clamp(0, 255).byte()
    return _resize(image, factor, image.dtype)


def _resize(image: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """Of (..., h, w), computed in `dtype`: whole grey levels shrink by 2 and 4 without rounding in float64.

    So every machine makes the same photo of them, even where a value lies in the middle of two grey levels.
    """
    down, across = (_bands(side, factor) for side in image.shape[-2:])
    rows = [weights.to(image.device, dtype) @ image[..., inputs, :].to(dtype) for weights, inputs in down]
    tall = torch.cat(rows, dim=-2)
    columns = [tall[..., inputs] @ weights.to(tall).T for weights, inputs in across]
    return torch.cat(columns, dim=-1)


@lru_cache(maxsize=64)
def _bands(length: int, factor: float) -> list[tuple[Tensor, slice]]:
    """The resize of one axis: for 32 outputs at a time the inputs they read and a matrix (outputs, inputs) of weights.

    One matrix for the whole axis would be nearly all zeros beside its diagonal.
    """
    indices, weights = _contributions(length, factor)
    bands = []
    for start in range(0, len(indices), 32):
        some, shares = indices[start : start + 32], weights[start : start + 32]
        first, last = int(some.min()), int(some.max()) + 1
        matrix = np.zeros((len(some), last - first))
        np.add.at(matrix, (np.arange(len(some))[:, None], some - first), shares)
        bands.append((torch.from_numpy(matrix), slice(first, last)))
    return bands


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


@dataclass(frozen=True)
class MotionBlur:
    """Camera shake, made as the GoPro set was made (Nah et al. 2017, eq. 1-2).

        x = ((1/N) Σ_k y(· - p_k)^γ)^(1/γ),   γ = 2.2

    The sensor adds light, not grey levels, so N sharp frames are averaged after their gamma curve was undone. Here the
    frames are one photo, shifted along a random smooth path p_1 ... p_N of `length` pixels.
    """

    length: float | tuple[float, float] = 15.0  # of the path in pixels, or from where to where it is drawn
    frames: int = 25
    gamma: float = 2.2

    def path(self, rng: np.random.Generator) -> np.ndarray:
        """Positions (frames, 2) around their mean: a velocity that turns slowly, as a hand does."""
        length = rng.uniform(*self.length) if isinstance(self.length, tuple) else self.length
        turns = np.cumsum(rng.normal(0, 0.35, self.frames)) + rng.uniform(0, 2 * np.pi)
        speeds = rng.uniform(0.5, 1.5, self.frames)
        steps = np.stack([np.sin(turns), np.cos(turns)], axis=1) * (speeds / speeds.sum() * length)[:, None]
        positions = np.cumsum(steps, axis=0)
        return positions - positions.mean(axis=0)

    def kernel(self, rng: np.random.Generator) -> np.ndarray:
        """The path as a kernel that sums to 1: each position is shared by the four pixels around it."""
        positions = self.path(rng)
        reach = int(np.ceil(np.abs(positions).max())) + 1
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
        whole = np.floor(positions).astype(int)
        part = positions - whole
        for down in (0, 1):
            for across in (0, 1):
                weight = np.abs(1 - down - part[:, 0]) * np.abs(1 - across - part[:, 1])
                np.add.at(kernel, (whole[:, 0] + reach + down, whole[:, 1] + reach + across), weight)
        return kernel / self.frames

    def __call__(self, reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 H x W x 3 -> the same; the photo is mirrored beyond its border."""
        light = (reference / 255) ** self.gamma
        return _to_bytes(_convolve(light, self.kernel(rng)) ** (1 / self.gamma) * 255)


@dataclass(frozen=True)
class GaussianBlur:
    """x = k * y with k(t) ∝ exp(-|t|² / 2σ²), cut off at 4σ."""

    std: float = 1.6

    def __call__(self, reference: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 H x W x 3 -> the same; draws nothing."""
        reach = ceil(4 * self.std)
        line = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * self.std**2))
        line /= line.sum()
        return _to_bytes(_convolve(reference.astype(np.float64), np.outer(line, line)))


@dataclass(frozen=True)
class Noise:
    """x = y + n, n ~ N(0, std²) for each pixel and channel, `std` in grey levels of 255."""

    std: float = 15.0

    def __call__(self, reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 H x W x 3 -> the same."""
        return _to_bytes(reference + rng.normal(0, self.std, reference.shape))


@dataclass(frozen=True)
class Jpeg:
    """x = decode(encode(y, quality)): blocks of 8 x 8 whose cosine coefficients are rounded."""

    quality: int = 40

    def __call__(self, reference: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 H x W x 3 -> the same; draws nothing."""
        if not 1 <= self.quality <= 95:
            raise UserError(f"the quality of a JPEG lies between 1 and 95, not {self.quality}")
        buffer = io.BytesIO()
        Image.fromarray(reference).save(buffer, "JPEG", quality=self.quality)
        return np.array(Image.open(buffer))


class Chain:
    """Degradations one after the other: x = D_n(... D_1(y)); `scale` is the product of theirs."""

    def __init__(self, *steps):
        self.steps = steps
        self.scale = prod(getattr(step, "scale", 1) for step in steps)

    def __repr__(self) -> str:
        return f"Chain{self.steps}"

    def __call__(self, reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Each step draws from the same generator, in order."""
        for step in self.steps:
            reference = step(reference, rng)
        return reference


def _convolve(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Each channel of H x W x 3 with the kernel, the photo mirrored beyond its border."""
    reach = kernel.shape[0] // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    # fftconvolve leaves tiny negative values, which no power can be taken of
    return np.clip(fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1)), 0, None)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
