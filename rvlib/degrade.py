"""Degradations x = D(y): what turns a reference photo into the input of a restoration method."""

import io
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from torch import Tensor
from torch.nn import functional as F

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
    not clipped; integers are computed in float64, rounded and clipped to what they hold. Raises UserError for a factor
    that does not lie between 0 and 100, and for truth values.
    """
    if not 0 < factor < 100:
        raise UserError(f"the factor of a resize lies between 0 and 100, and {factor} does not")
    if isinstance(image, np.ndarray):
        if image.ndim not in (2, 3):
            raise UserError(f"a numpy image has H x W or H x W x C pixels, not shape {image.shape}")
        planes = torch.from_numpy(np.ascontiguousarray(image if image.ndim == 2 else image.transpose(2, 0, 1)))
        resized = imresize(planes, factor).numpy()
        return resized if image.ndim == 2 else np.ascontiguousarray(resized.transpose(1, 2, 0))
    if image.dtype == torch.bool or image.is_complex():
        raise UserError(f"an image of {image.dtype} cannot be resized: give integers or floats")
    if not image.is_floating_point():
        limits = torch.iinfo(image.dtype)
        return _resize(image, factor, torch.float64).round().clamp(limits.min, limits.max).to(image.dtype)
    return _resize(image, factor, image.dtype)


def _resize(image: Tensor, factor: float, dtype: torch.dtype) -> Tensor:
    """Resize (..., h, w), computing in `dtype`.

    In float64, whole grey levels shrink by 2 and 4 without rounding, so that all machines round ties alike.
    """
    down, across = (_bands(side, factor) for side in image.shape[-2:])
    rows = [weights.to(image.device, dtype) @ image[..., inputs, :].to(dtype) for weights, inputs in down]
    tall = torch.cat(rows, dim=-2)
    columns = [tall[..., inputs] @ weights.to(tall).T for weights, inputs in across]
    return torch.cat(columns, dim=-1)


@lru_cache(maxsize=64)
def _bands(length: int, factor: float) -> list[tuple[Tensor, slice]]:
    """Resize one axis in bands of 32 outputs: the inputs that each band reads, and its weights (outputs, inputs).

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


def resized_side(length: int, factor: float) -> int:
    """How many pixels a side has after a resize."""
    return ceil(round(length * factor, 9))


def resize_photo(photo: np.ndarray, factor: float) -> np.ndarray:
    """`imresize` of a photo of integers, H x W [x C], some rows at a time: in float64 a large one takes gigabytes."""
    if not 0 < factor < 100:
        raise UserError(f"the factor of a resize lies between 0 and 100, and {factor} does not")
    down, across = (_bands(side, factor) for side in photo.shape[:2])
    limits, parts = np.iinfo(photo.dtype), []
    for number in range(0, len(down), 8):
        group = down[number : number + 8]
        first, last = min(rows.start for _, rows in group), max(rows.stop for _, rows in group)
        planes = torch.from_numpy(photo[first:last].astype(np.float64)).movedim(1, -1)  # (rows [C] W)
        planes = planes.movedim(0, -2).contiguous()
        tall = torch.cat([weights @ planes[..., slice(r.start - first, r.stop - first), :] for weights, r in group], -2)
        wide = torch.cat([tall[..., columns] @ weights.T for weights, columns in across], -1)
        wide = wide.round().clamp(limits.min, limits.max).movedim(-2, 0).movedim(-1, 1)
        parts.append(wide.numpy().astype(photo.dtype, order="C"))
    return np.concatenate(parts)


def mod_crop(image: np.ndarray, scale: int) -> np.ndarray:
    """Crop H x W [x C] at the right and bottom to multiples of the scale, as every benchmark script does first."""
    return image[: image.shape[0] // scale * scale, : image.shape[1] // scale * scale]


class Degradation:
    """What turns a reference into a degraded photo: called with uint8 H x W x 3 and a source of random numbers."""

    scale = 1
    """How many times smaller the degraded photo is."""

    is_random = False
    """Whether it draws anything: training then degrades a patch anew at each visit."""

    margin = 0
    """Pixels around a part of the reference that its degraded pixels depend on."""

    def __call__(self, reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 H x W x 3 -> uint8 H/scale x W/scale x 3."""
        raise NotImplementedError

    def part(self, reference: np.ndarray, rng: np.random.Generator, top: int, left: int, side: int) -> np.ndarray:
        """The degraded version of the square `side` x `side` of the reference at (top, left), and no more than that."""
        first = [max(0, start - self.margin) // self.scale * self.scale for start in (top, left)]
        rows, columns = (slice(f, start + side + self.margin) for f, start in zip(first, (top, left), strict=True))
        around = self(mod_crop(reference[rows, columns], self.scale), rng)
        down, across = ((start - f) // self.scale for f, start in zip(first, (top, left), strict=True))
        return around[down : down + side // self.scale, across : across + side // self.scale]


@dataclass(frozen=True)
class Bicubic(Degradation):
    """x = round(imresize(y, 1/scale)): the degradation that "x4 super-resolution" means in the literature."""

    scale: int = 4

    @property
    def margin(self) -> int:
        """The cubic kernel reaches two degraded pixels."""
        return 3 * self.scale

    def __call__(self, reference: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 H x W x 3 -> uint8 H/scale x W/scale x 3; draws nothing."""
        return imresize(reference, 1 / self.scale)


@dataclass(frozen=True)
class MotionBlur(Degradation):
    """Camera shake, made as the GoPro set was made (Nah et al. 2017, eq. 1-2): the average of sharp frames.

        x = ((1/N) Σ_k (y ∘ w_k)^γ)^(1/γ),   w_k(p) = c - t_k + (1 + z_k) R(a_k) (p - c)

    The frames are one photo, which w_k moves by t_k along a random smooth path of `length` pixels, turns by a_k and
    shrinks by 1 + z_k (enlarges where z_k < 0) around its centre c. The sensor adds light (γ = 2.2), but some cameras
    and benchmarks average grey levels (γ = 1). A field that is a pair (from, to) is drawn uniformly for each photo, a
    triple (from, most likely, to) from a triangular distribution.
    """

    is_random = True

    length: float | tuple[float, ...] = 15.0  # of the path in pixels
    spacing: float | tuple[float, ...] = 0.5  # pixels between frames: a video's frames leave gaps
    still: float = 0.0  # probability of no shake at all
    turn: float = 0.0  # turning moves a photo's corner by at most this share of the length
    zoom: float = 0.0  # and zooming by at most this
    linear: float = 1.0  # probability that light is averaged, not grey levels
    noise: float = 0.0  # largest standard deviation of the sensor's noise, in grey levels
    highlights: float = 0.0  # probability that white was brighter than a sensor records

    gamma = 2.2

    def path(self, rng: np.random.Generator) -> np.ndarray:
        """Positions t_k (frames, 2) around their mean: a velocity that turns slowly, as a hand does."""
        length, spacing = _draw(self.length, rng), _draw(self.spacing, rng)
        if rng.random() < self.still:
            length = 0.0
        steps = ceil(length / spacing)
        angles = np.cumsum(rng.normal(0, 1.75 / max(steps, 1) ** 0.5, steps)) + rng.uniform(0, 2 * np.pi)
        speeds = rng.uniform(0.5, 1.5, steps)
        lengths = speeds / speeds.sum() * length
        moves = np.stack([np.sin(angles), np.cos(angles)], axis=1) * lengths[:, None]
        positions = np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
        return positions - positions.mean(axis=0)

    def kernel(self, rng: np.random.Generator) -> np.ndarray:
        """The path as a picture that sums to 1: each position is shared by the four pixels around it.

        Without turning and zooming, the blurred photo is the photo convolved with it.
        """
        positions = self.path(rng)
        reach = int(np.ceil(np.abs(positions).max())) + 1
        kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
        whole = np.floor(positions).astype(int)
        share = positions - whole
        for down in (0, 1):
            for across in (0, 1):
                weight = np.abs(1 - down - share[:, 0]) * np.abs(1 - across - share[:, 1])
                np.add.at(kernel, (whole[:, 0] + reach + down, whole[:, 1] + reach + across), weight)
        return kernel / len(positions)

    def __call__(self, reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 H x W x 3 -> the same; the photo is mirrored beyond its border."""
        return self._blurred(reference, rng, 0, 0, *reference.shape[:2])

    def part(self, reference: np.ndarray, rng: np.random.Generator, top: int, left: int, side: int) -> np.ndarray:
        """The square at (top, left) of the blurred photo, without blurring the rest."""
        return self._blurred(reference, rng, top, left, side, side)

    def _blurred(self, reference: np.ndarray, rng: np.random.Generator, top, left, height, width) -> np.ndarray:
        positions = self.path(rng)
        motions = self._motions(positions, reference.shape[:2], rng)
        gamma = self.gamma if rng.random() < self.linear else 1.0
        levels = np.linspace(0, 1, 256) ** gamma
        if rng.random() < self.highlights:
            levels[255] *= rng.uniform(1, 6)
        mean = _mean_of_frames(reference, levels.astype(np.float32), motions, top, left, height, width)
        image = 255 * mean.clip(0, 1) ** (1 / gamma)
        std = self.noise * rng.random() ** 2
        if std > 0:
            image += rng.normal(0, std, image.shape).astype(np.float32)
        return _to_bytes(image)

    def _motions(self, positions: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """Affine maps (frames, 2, 3) from pixels of the blurred photo to pixels of the sharp one, as (y, x, 1)."""
        frames, (height, width) = len(positions), size
        length = np.linalg.norm(np.diff(positions, axis=0), axis=1).sum()
        corner = np.hypot(height, width) / 2
        progress = np.linspace(-0.5, 0.5, frames) if frames > 1 else np.zeros(1)
        angles = progress * rng.uniform(-1, 1) * self.turn * length / corner
        sizes = 1 + progress * rng.uniform(-1, 1) * self.zoom * length / corner
        cos, sin = sizes * np.cos(angles), sizes * np.sin(angles)
        linear = np.stack([np.stack([cos, -sin], axis=1), np.stack([sin, cos], axis=1)], axis=1)
        centre = np.array([(height - 1) / 2, (width - 1) / 2])
        return np.concatenate([linear, (centre - positions - linear @ centre)[:, :, None]], axis=2)


@dataclass(frozen=True)
class GaussianBlur(Degradation):
    """x = k * y with k(t) ∝ exp(-|t|² / 2σ²), cut off at 4σ."""

    std: float = 1.6

    @property
    def margin(self) -> int:
        """Where the kernel is cut off."""
        return ceil(4 * self.std)

    def __call__(self, reference: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 H x W x 3 -> the same; draws nothing."""
        image = reference.astype(np.float64)
        return _to_bytes(gaussian_filter(image, self.std, mode="reflect", radius=self.margin, axes=(0, 1)))


@dataclass(frozen=True)
class BlurredSampling(Degradation):
    """x = round((k * y)↓s): blurred by an elongated Gaussian, then every s-th pixel: a lens that is not MATLAB's.

        k(t) ∝ exp(-(u·t)² / 2a² - (v·t)² / 2b²),   u = (sin θ, cos θ), v ⟂ u, cut off at 4a

    `stds` are (a, b) in pixels of the reference, a the larger one, `angle` is θ in degrees from the horizontal. Samples
    lie in the middle of the s x s pixels that they stand for, as those of `Bicubic` do, so nothing is shifted.
    """

    scale: int = 4
    stds: tuple[float, float] = (3.5, 1.5)
    angle: float = 30.0

    @property
    def margin(self) -> int:
        """Where the kernel is cut off."""
        return ceil(4 * self.stds[0])

    def kernel(self) -> np.ndarray:
        """k at the pixels around a sample, (2·margin + s)² of them, as a picture that sums to 1."""
        line = np.arange(-self.margin, self.margin + self.scale) - (self.scale - 1) / 2
        down, across = line[:, None], line[None]
        sin, cos = np.sin(np.radians(self.angle)), np.cos(np.radians(self.angle))
        along, beside = (sin * down + cos * across) / self.stds[0], (cos * down - sin * across) / self.stds[1]
        kernel = np.exp(-(along**2 + beside**2) / 2)
        return kernel / kernel.sum()

    def __call__(self, reference: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 H x W x 3 -> uint8 H/scale x W/scale x 3; draws nothing, mirrors the photo beyond its border."""
        around = (self.margin, self.margin)
        padded = np.pad(mod_crop(reference, self.scale).astype(np.float64), (around, around, (0, 0)), mode="symmetric")
        blurred = fftconvolve(padded, self.kernel()[::-1, ::-1, None], mode="valid", axes=(0, 1))
        return _to_bytes(blurred[:: self.scale, :: self.scale])


@dataclass(frozen=True)
class Noise(Degradation):
    """x = y + n, n ~ N(0, std²) for each pixel and channel, `std` in grey levels of 255."""

    is_random = True

    std: float = 15.0

    def __call__(self, reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """uint8 H x W x 3 -> the same."""
        return _to_bytes(reference + rng.normal(0, self.std, reference.shape))


@dataclass(frozen=True)
class Jpeg(Degradation):
    """x = decode(encode(y, quality)): blocks of 8 x 8 whose cosine coefficients are rounded.

    Colour has half the resolution, so that 16 x 16 pixels are encoded together.
    """

    quality: int = 40

    unit = 16
    margin = unit  # colour is enlarged from this unit and its neighbours

    def __call__(self, reference: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 H x W x 3 -> the same; draws nothing."""
        if not 1 <= self.quality <= 95:
            raise UserError(f"the quality of a JPEG lies between 1 and 95, not {self.quality}")
        buffer = io.BytesIO()
        Image.fromarray(reference).save(buffer, "JPEG", quality=self.quality)
        return np.array(Image.open(buffer))

    def part(self, reference: np.ndarray, rng: np.random.Generator, top: int, left: int, side: int) -> np.ndarray:
        """The square at (top, left), encoded in the units of the whole photo."""
        first = [max(0, start - self.margin) // self.unit * self.unit for start in (top, left)]
        around = self(reference[first[0] : top + side + self.margin, first[1] : left + side + self.margin])
        return around[top - first[0] :, left - first[1] :][:side, :side]


class Chain(Degradation):
    """Degradations one after the other: x = D_n(... D_1(y)); `scale` is the product of theirs."""

    def __init__(self, *steps):
        self.steps = steps
        self.scale = prod(step.scale for step in steps)
        self.is_random = any(step.is_random for step in steps)
        scales = np.cumprod([1] + [step.scale for step in steps])
        self.margin = sum(int(scale) * step.margin for scale, step in zip(scales, steps, strict=False))

    def __repr__(self) -> str:
        return f"Chain{self.steps}"

    def __call__(self, reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Each step draws from the same generator, in order."""
        for step in self.steps:
            reference = step(reference, rng)
        return reference

    def part(self, reference: np.ndarray, rng: np.random.Generator, top: int, left: int, side: int) -> np.ndarray:
        """The square at (top, left) as the whole photo has it, but for noise; a shake has to come first."""
        reference, first, later = mod_crop(reference, self.scale), self.steps[0], Chain(*self.steps[1:])
        if not later.steps:
            return first.part(reference, rng, top, left, side)
        margin, grid = first.scale * later.margin, Jpeg.unit * self.scale  # any step can begin at a multiple of it
        y, x = (max(0, start - margin) // grid * grid for start in (top, left))
        around = first.part(reference, rng, y, x, max(top - y, left - x) + side + margin)
        # a shake goes on beyond the border of the photo, where the next step has to see the border
        height, width = ((size - start) // first.scale for size, start in zip(reference.shape, (y, x), strict=False))
        down, across, side = (n // first.scale for n in (top - y, left - x, side))
        return later.part(around[:height, :width], rng, down, across, side)


def _draw(value: float | tuple[float, ...], rng: np.random.Generator) -> float:
    if not isinstance(value, tuple):
        return value
    return rng.uniform(*value) if len(value) == 2 else rng.triangular(*value)


def _mean_of_frames(
    reference: np.ndarray, levels: np.ndarray, motions: np.ndarray, top: int, left: int, height: int, width: int
) -> np.ndarray:
    """The mean of moved photos over a rectangle, bilinear between pixels: float32 height x width x 3.

    `levels` are the values of the 256 grey levels, `motions` (frames, 2, 3) says where each pixel comes from.
    """
    corners = np.array([[y, x, 1] for y in (top, top + height - 1) for x in (left, left + width - 1)])
    sources = motions @ corners.T  # (frames, 2, corners)
    first = np.floor(sources.min(axis=(0, 2))).astype(int) - 1
    last = np.ceil(sources.max(axis=(0, 2))).astype(int) + 2
    sides = np.array(reference.shape[:2])
    if (last - first >= sides).all():
        first, last = np.zeros(2, int), sides
    first, last = first.clip(0, sides - 2), last.clip(2, sides)
    crop = levels[reference[first[0] : last[0], first[1] : last[1]]]
    image = torch.from_numpy(crop).permute(2, 0, 1)[None]
    # grid_sample has coordinates from -1 to 1, x first, and mirrors at the border of the crop: the photo's, if any
    scale, shift = 2 / (last - first), (1 - 2 * first) / (last - first) - 1
    rows, columns = (torch.from_numpy(start + np.arange(size)) for start, size in ((top, height), (left, width)))
    total = torch.zeros(1, 3, height, width)
    for motion in motions * scale[:, None] + np.array([[0, 0, 1]]) * shift[:, None]:
        y, x = ((row[0] * rows[:, None] + row[1] * columns + row[2]).float() for row in motion)
        total += F.grid_sample(image, torch.stack([x, y], dim=-1)[None], padding_mode="reflection", align_corners=False)
    return (total[0] / len(motions)).permute(1, 2, 0).numpy()


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
