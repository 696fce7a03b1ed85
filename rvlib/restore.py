"""From a degraded photo to the restored one with any model of the study."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil, isfinite, lcm, prod
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from rvlib import complexity, originals, photos, tiles
from rvlib.color import rgb_to_ycbcr, ycbcr_to_rgb
from rvlib.degrade import imresize, resize_photo
from rvlib.errors import UserError
from rvlib.models.base import RestorationModel, device_of, unwrapped

MOST_OVERLAP = 2 * tiles.GRID  # degraded pixels: with more, most of the work would be done twice
OVERLAP = 32  # degraded pixels around a tile where a model's reach is not limited: attention, means over the photo
LEAST = 4  # pixels of a side; smaller ones are padded, else what networks see is mostly the zeros of their borders
WHOLE = 1024  # photos of at most its square of pixels are measured in one piece, as the papers measure


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size that a restored photo is to have, by one of these; without any, what the network makes of it."""

    factor: float | None = None
    """How many times larger than the photo."""

    width: int | None = None
    height: int | None = None
    longest: int | None = None
    """Pixels of a side; the other one follows."""

    def __post_init__(self):
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if len(given) > 1:
            raise UserError(f"a size is given by one of {', '.join(given)}: leave the others out")
        for name, value in given.items():
            if not 0 < value < float("inf"):
                raise UserError(f"{name} must be positive, not {value}")

    def of(self, height: int, width: int, scale: int) -> float:
        """How many times larger than a photo of that size; raises UserError where a network of that scale ends."""
        sides = {"width": width, "height": height, "longest": max(height, width)}
        wanted = {name: getattr(self, name) for name in sides if getattr(self, name) is not None}
        factor = self.factor if self.factor is not None else float(scale)
        for name, pixels in wanted.items():
            factor = pixels / sides[name]
        if factor * max(height, width) < 0.999:  # n times 1/n may be less than 1
            raise UserError(f"at {factor:.3g} times, nothing is left of {width} x {height} pixels: ask for more")
        if factor > scale * (1 + 1e-9):
            raise UserError(
                f"{width} x {height} pixels become at most {scale} times as large here, not {factor:.8g} times: ask "
                f"for less, or for more with --twice or --then (in Python, a list of models)"
            )
        return factor


@torch.no_grad()  # what is kept between calls (`imresize`) may need gradients later: no inference tensors
def restore(
    model: nn.Module | Sequence[nn.Module],
    image: str | Path | Image.Image | np.ndarray,
    *,
    factor: float | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    self_ensemble: bool = False,
    precision: str = "fp32",
    seed: int = 0,
    reference: np.ndarray | None = None,
    progress: bool = False,
    notes: list[str] | None = None,
) -> np.ndarray:
    """Restore one photo: path, PIL image or uint8 H x W x 3 -> uint8 scale·H x scale·W x 3 (uint16 gives uint16).

    Several models are a chain: each restores what the one before made of the photo, and the scales multiply. `factor`
    asks for another size, up to that: what the models made is shrunk by `degrade.imresize`.
    A photo that fits into memory is restored in one forward. A larger one is cut into tiles of about `tile` degraded
    pixels, each seeing `overlap` pixels around it: by default the model's reach, so that no pixel changes, or 32 where
    the reach is the whole photo. (GPUs compute convolutions in TF32: there, and against a CPU, values may differ by a
    grey level.) DiffIR's IPR is about that of the whole photo: in tiles, it comes from their mean.
    `progress` shows the tiles.
    `self_ensemble` averages over the eight symmetries of the square (EDSR, section 3.4), at eight times the cost.
    `precision="bf16"` computes products in bfloat16: faster where the processor multiplies matrices of it (most GPUs,
    few CPUs), else slower. It is off by a grey level here and there; with SwinIR and luminance networks in up to a
    third of the values, a few by two.
    Deterministic for a given tile size: `seed` feeds DiffIR's noise, the other models draw none. Without `tile`, free
    memory decides, on which the result then depends a little where the reach is the whole photo.
    One-channel models restore the luminance; the chroma, to which the eye is less sensitive, is enlarged by bicubic
    interpolation. Those that remove noise restore each colour instead, and those for JPEG take a grey photo as it is.
    Stage 1 of DiffIR alone looks at a `reference` too, which shows what its IPR is worth where the answer is known.
    `notes` takes what is odd about the result, in words (`oddities`).
    Raises UserError if `image` is not a photo, if `factor`, `tile` or `overlap` is out of range, or if the size of a
    `reference` that is looked at is not that of the result.
    """
    is_chain = isinstance(model, Sequence) and not isinstance(model, str)
    photo, chain = _as_array(image), list(model) if is_chain else [model]
    scale = scale_of(chain)
    check_options(tile=tile, precision=precision)
    ratio = Size(factor=factor).of(*photo.shape[:2], scale) / scale
    options = {"tile": tile, "overlap": overlap, "self_ensemble": self_ensemble, "precision": precision, "seed": seed}
    for each in chain:
        photo = _restore(each, photo, reference=reference, progress=progress, notes=notes, **options)
    return photo if ratio == 1 else resize_photo(photo, ratio)


def scale_of(chain: Sequence[nn.Module]) -> int:
    """How many times larger a chain of models makes a photo; raises UserError for an empty one."""
    if not chain:
        raise UserError("a chain holds no model: give at least one")
    for each in chain:
        if not isinstance(each, nn.Module):
            raise UserError(f"{each!r} is no model: rvlib.load makes one of a name or a file")
        kinds = {parameter.dtype for parameter in each.parameters()} - {torch.float32}
        if kinds:
            raise UserError(f"the model's weights are {kinds.pop()}: call model.float(), and use precision='bf16'")
    return prod(unwrapped(each).scale for each in chain)


def check_options(*, tile: int | None = None, precision: str = "fp32") -> None:
    """Raise UserError for what no photo can be restored with."""
    if precision not in ("fp32", "bf16"):
        raise UserError(f"unknown precision {precision!r}: choose fp32 or bf16 (fp16 overflows in attention)")
    if tile is not None and (not isinstance(tile, int | np.integer) or tile < tiles.GRID):
        raise UserError(f"tile must be a whole number of at least {tiles.GRID} pixels, not {tile!r}")


def _restore(
    model: nn.Module,
    photo: np.ndarray,
    *,
    tile: int | None,
    overlap: int | None,
    reference: np.ndarray | None,
    progress: bool,
    notes: list[str] | None,
    **options,
) -> np.ndarray:
    """What `restore` says, with one model."""
    network, device = unwrapped(model), device_of(model)
    # tiles meet where two windows do (or two strides), and two of JPEG's blocks
    step = lcm(network.window, network.multiple_of)
    base = lcm(8, step)
    grid = base * max(1, round(tiles.GRID / base))
    # a quarter of the overlap is margin; the three quarters that are blended reach half a cell of the grid at most
    most = MOST_OVERLAP if network.reach is not None else min(MOST_OVERLAP, grid // 2 * 4 // 3)
    if overlap is None:
        overlap = OVERLAP if network.reach is None else network.reach
        overlap = min(overlap, most)  # of a network deeper than any released one, tiles then differ a little
    if not 0 <= overlap <= most:
        raise UserError(f"overlap {overlap} is negative or too large: take 0 to {most} pixels")
    margin = overlap // 4 if network.reach is None else overlap
    more = -overlap % step  # what a tile sees ends there too, else its windows would not be the photo's
    overlap, margin = overlap + more, margin + more
    is_grey = bool((photo == photo[..., :1]).all())
    if tile is None:
        batch = 3 if network.channels == 1 and network.task == "denoising" and not is_grey else 1  # as in `_colour`
        bytes_per_row = photo.shape[1] * 3 * 4 * network.scale**2  # in float32
        tile = tiles.fitting(batch * _bytes_per_pixel(network, photo), bytes_per_row, device, overlap, grid)
    sees_reference = network.needs_reference and reference is not None
    if sees_reference:
        _check_reference(reference, photo, network.scale)
        options["reference"] = to_tensor(reference).to(device)
    is_whole = photo.shape[0] * photo.shape[1] <= tile**2 or sees_reference
    if network.needs_description and not is_whole:
        options["description"] = _description(network, photo, tile)
    beyond: list[float] = []  # of each tile, how far it left [0, 1]

    def restore_part(part: np.ndarray) -> Tensor:
        extremes: list[float] = []
        restored = _colour(model, to_tensor(part).to(device), is_grey=is_grey, extremes=extremes, **options)
        beyond.append(float(np.max(extremes)))  # NaN if one of them is, which `max` may lose
        return restored if isfinite(beyond[-1]) else restored.nan_to_num(0)

    if is_whole:
        restored, places = to_array(restore_part(photo), photo.dtype), [(0, 0)]
    else:
        sizes = {"tile": tile, "overlap": overlap, "margin": margin, "grid": grid}
        restored = tiles.assemble(restore_part, photo, scale=network.scale, progress=progress, **sizes)
        places = tiles.places(*photo.shape[:2], tile, grid)
    if notes is not None:
        notes += oddities(network, photo, restored, dict(zip(places, beyond, strict=True)))
    return restored


def _check_reference(reference: np.ndarray, photo: np.ndarray, scale: int) -> None:
    """Raise UserError for a reference that has not the size of the restored photo."""
    height, width = (scale * side for side in photo.shape[:2])
    if reference.shape[:2] != (height, width):
        found = f"{reference.shape[1]} x {reference.shape[0]}"
        raise UserError(f"the reference must have {width} x {height} pixels, not {found}")


def oddities(
    network: RestorationModel, photo: np.ndarray, restored: np.ndarray, beyond: dict[tuple[int, int], float]
) -> list[str]:
    """What a user should hear about a result, in words; nothing where it is as it should be.

    `beyond` says for each tile, by its place (row, column), how far the network's numbers left [0, 1].
    """
    said, lost = [], [place for place, excess in beyond.items() if not isfinite(excess)]
    if lost:
        row, column = lost[0]
        return [
            f"the network's numbers are not finite on {len(lost)} of {len(beyond)} tiles, first at row {row}, column "
            f"{column}: the result is wrong there; try other weights (after --precision bf16: fp32)"
        ]
    for (row, column), excess in beyond.items():
        if excess > 0.5:
            said.append(
                f"the network left the range of colours by {excess:.1f} on the tile at row {row}, column {column}: "
                f"look at it there, or try another --tile"
            )
    if network.scale != 1:
        return said
    level = np.iinfo(photo.dtype).max // 255
    strips = [slice(top, top + 256) for top in range(0, len(photo), 256)]
    change = max(int(np.abs(photo[rows].astype(np.int32) - restored[rows]).max()) for rows in strips)
    if change <= level:
        said.append("the network changed nothing, the result is the photo within a grey level")
    elif network.task == "deblurring" and _detail(restored) < 0.95 * _detail(photo):
        said.append("the result is softer than the photo, which is sharp already or noisy: compare the two")
    return said


def _detail(image: np.ndarray) -> float:
    """How much neighbouring pixels differ, on average: less of it in a softer version of a photo."""
    total = 0.0
    for top in range(0, len(image), 256):
        strip = image[top : top + 257, :, 1].astype(np.float32)  # with the first row of the next one
        total += float(np.abs(np.diff(strip[:256], axis=1)).sum() + np.abs(np.diff(strip, axis=0)).sum())
    return total / image[..., 0].size


def _colour(model: nn.Module, degraded: Tensor, *, is_grey: bool, **options) -> Tensor:
    """RGB (1 3 h w) -> restored RGB, also where the model knows luminance alone."""
    network = unwrapped(model)
    if network.channels != 1:
        return forward_any_size(model, degraded, **options)
    if network.task == "denoising" or (network.task == "jpeg" and is_grey):  # noise is in every colour
        planes = degraded[:, :1] if is_grey else degraded
        restored = forward_any_size(model, planes.transpose(0, 1), **options).transpose(0, 1)
        return restored.expand(-1, 3, -1, -1)
    ycbcr = rgb_to_ycbcr(degraded)
    luminance = forward_any_size(model, ycbcr[:, :1], **options)
    chroma = ycbcr[:, 1:] if network.scale == 1 else imresize(ycbcr[:, 1:], network.scale)
    return ycbcr_to_rgb(torch.cat([luminance, chroma], dim=1))


def forward_any_size(
    model: nn.Module,
    degraded: Tensor,
    *,
    seed: int = 0,
    reference: Tensor | None = None,
    self_ensemble: bool = False,
    precision: str = "fp32",
    description: Tensor | None = None,
    extremes: list[float] | None = None,
) -> Tensor:
    """One forward in eval mode at any size: (b c h w) -> (b c scale·h scale·w), both in [0, 1].

    Models whose official forward does not pad name the multiple that they need in `multiple_of`; the photo is
    reflected at its right and bottom edge up to there, and to four pixels at least, and the result is cropped.
    `extremes` takes how far the network's numbers left [0, 1]. A `description` of the upright photo serves all eight
    copies of `self_ensemble`: theirs hardly differ.
    """
    if self_ensemble:
        plain = {"seed": seed, "precision": precision, "description": description, "extremes": extremes}
        total = 0.0
        for turn in range(8):
            seen = None if reference is None else _turn(reference, turn)
            restored = forward_any_size(model, _turn(degraded, turn), reference=seen, **plain)
            total += _turn(restored, turn, back=True)
        return total / 8
    network, (height, width) = unwrapped(model), degraded.shape[-2:]
    multiple, scale = network.multiple_of, network.scale
    bottom, right = (ceil(max(side, LEAST) / multiple) * multiple - side for side in (height, width))
    degraded = pad(degraded, bottom, right)
    inputs = {} if description is None else {"description": description}
    if network.noise_size:
        generator = torch.Generator().manual_seed(seed)
        inputs["noise"] = torch.randn(len(degraded), network.noise_size, generator=generator).to(degraded)
    if network.needs_reference:
        if reference is None:
            raise UserError("stage 1 of DiffIR needs the reference that it is to restore: take stage 2 for photos")
        inputs["reference"] = pad(reference, scale * bottom, scale * right)
    with evaluating(model), torch.autocast(degraded.device.type, torch.bfloat16, enabled=precision == "bf16"):
        restored = model(degraded, **inputs).float()
    restored = restored[..., : height * scale, : width * scale]
    if extremes is not None:
        least, most = restored.aminmax()
        extremes.append(max(-float(least), float(most) - 1))
    return restored.clamp(0, 1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Let a model be in eval mode inside the `with` block, and in its own mode again after it."""
    modes = [(module, module.training) for module in model.modules()]  # a part may be frozen in a training model
    model.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def _turn(image: Tensor, turn: int, *, back: bool = False) -> Tensor:
    """One of the eight symmetries of the square, or its inverse: quarter turns, then a mirror for turns 4 to 7."""
    if back:
        return torch.rot90(image.flip(-1) if turn >= 4 else image, -turn % 4, dims=(-2, -1))
    image = torch.rot90(image, turn % 4, dims=(-2, -1))
    return image.flip(-1) if turn >= 4 else image


def _description(model: RestorationModel, photo: np.ndarray, tile: int) -> Tensor:
    """What DiffIR extracts from the whole photo: the mean over tiles, weighted by their pixels."""
    device, total = device_of(model), 0.0
    for top in range(0, photo.shape[0], tile):
        for left in range(0, photo.shape[1], tile):
            part = to_tensor(photo[top : top + tile, left : left + tile]).to(device)
            pixels = part.shape[-2] * part.shape[-1]
            part = pad(part, -part.shape[-2] % model.multiple_of, -part.shape[-1] % model.multiple_of)
            total = total + pixels * model.describe(part)
    return total / (photo.shape[0] * photo.shape[1])


def _bytes_per_pixel(model: RestorationModel, photo: np.ndarray) -> float:
    """Memory that a forward takes per degraded pixel, measured once on a small image; nothing for small photos."""
    side = ceil(64 / model.multiple_of) * model.multiple_of
    if photo.shape[0] * photo.shape[1] <= 4 * side**2 or model.needs_reference:
        return 1.0
    if model.bytes_per_pixel is None:
        probe = torch.zeros(1, model.channels, side, side, device=device_of(model))
        with evaluating(model):
            model.bytes_per_pixel = max(complexity.peak_memory(model, probe) / side**2, 1.0)
    return model.bytes_per_pixel


def pad(image: Tensor, bottom: int, right: int) -> Tensor:
    """Reflect (..., h, w) at its bottom and right edge, as often as it takes (an image of one pixel is repeated)."""
    while bottom or right:
        height, width = image.shape[-2:]
        down, across = min(bottom, height - 1), min(right, width - 1)
        if (height == 1 and bottom) or (width == 1 and right):
            rows, columns = bottom if height == 1 else 0, right if width == 1 else 0
            image = F.pad(image, (0, columns, 0, rows), mode="replicate")
        else:
            rows, columns = down, across
            image = F.pad(image, (0, columns, 0, rows), mode="reflect")
        bottom, right = bottom - rows, right - columns
    return image


def to_tensor(image: np.ndarray) -> Tensor:
    """uint8 or uint16 H x W x 3 -> float32 (1 3 h w) in [0, 1]."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    return torch.from_numpy(planes.astype(np.float32) / np.iinfo(image.dtype).max).unsqueeze(0)


def to_array(image: Tensor, dtype: type = np.uint8) -> np.ndarray:
    """float (1 3 h w) in [0, 1] -> uint8 or uint16 H x W x 3, rounded and clipped."""
    scaled = (image[0].clamp(0, 1) * np.iinfo(dtype).max).round()
    return scaled.permute(1, 2, 0).cpu().numpy().astype(dtype)


def _as_array(image) -> np.ndarray:
    if isinstance(image, (str, Path)):
        return photos.read(image)
    if isinstance(image, Image.Image):
        try:
            image.load()
        except (OSError, SyntaxError, ValueError) as error:  # of a damaged file, or closed
            raise UserError(f"the image cannot be read ({error}): open its file again") from None
        try:
            original = originals.from_image(image) if all(image.size) else None
        except UserError as error:
            raise UserError(f"the image {error}") from None
        image = np.empty((0, 0, 3), np.uint8) if original is None else originals.eight_bits(original)
    if (
        isinstance(image, np.ndarray)
        and image.dtype in (np.uint8, np.uint16)
        and image.ndim == 3
        and image.shape[2] == 3
    ):
        if image.size:
            return image
        raise UserError("the photo has no pixels")
    what = f"{image.dtype} array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"a photo is a path, a PIL image or a uint8 or uint16 H x W x 3 array, not a {what}")
