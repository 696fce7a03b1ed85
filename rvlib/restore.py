"""From a degraded photo to the restored one with any model of the study."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from rvlib import complexity, originals, photos, tiles
from rvlib.color import rgb_to_ycbcr, ycbcr_to_rgb
from rvlib.degrade import imresize
from rvlib.errors import UserError
from rvlib.models.base import RestorationModel, unwrapped

OVERLAP = 32  # degraded pixels around a tile where a model's reach is not limited: attention, means over the photo


@torch.inference_mode()
def restore(
    model: nn.Module,
    image: str | Path | Image.Image | np.ndarray,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    self_ensemble: bool = False,
    precision: str = "fp32",
    seed: int = 0,
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Restore one photo: path, PIL image or uint8 H x W x 3 -> uint8 scale·H x scale·W x 3 (uint16 gives uint16).

    A photo that fits into memory is restored in one forward. A larger one is cut into tiles of about `tile` degraded
    pixels, each seeing `overlap` pixels around it: by default the model's reach, so that no pixel changes, or 32 where
    the reach is the whole photo. DiffIR's IPR is that of the whole photo in any case.
    `self_ensemble` averages over the eight symmetries of the square (EDSR, section 3.4), at eight times the cost.
    `precision="bf16"` computes products in half precision: faster, and off by a grey level here and there.
    Deterministic: `seed` feeds DiffIR's noise, the other models draw none. One-channel models restore the luminance;
    the chroma, to which the eye is less sensitive, is enlarged by bicubic interpolation. Those that remove noise
    restore each colour instead, and those for JPEG take a grey photo as it is.
    Stage 1 of DiffIR alone looks at a `reference` too, which shows what its IPR is worth where the answer is known.
    Raises UserError if `image` is not a photo or if `tile` or `overlap` is out of range.
    """
    photo = _as_array(image)
    if precision not in ("fp32", "bf16"):
        raise UserError(f"unknown precision {precision!r}: choose fp32 or bf16 (fp16 overflows in attention)")
    network, device = unwrapped(model), next(model.parameters()).device
    if tile is not None and tile < tiles.GRID:
        raise UserError(f"tile must be at least {tiles.GRID} pixels, not {tile}")
    overlap = (OVERLAP if network.reach is None else network.reach) if overlap is None else overlap
    margin = overlap // 4 if network.reach is None else overlap
    if overlap < 0 or overlap - margin > tiles.GRID // 2 or overlap > 2 * tiles.GRID:
        raise UserError(f"overlap {overlap} is negative or too large: take 0 to {OVERLAP} pixels")
    if tile is None:
        bytes_per_row = photo.shape[1] * 3 * 4 * network.scale**2  # in float32
        tile = tiles.fitting(_bytes_per_pixel(network, photo), bytes_per_row, device, overlap)
    seen = None if reference is None else to_tensor(reference).to(device)
    is_grey = bool((photo == photo[..., :1]).all())
    options = {"seed": seed, "reference": seen, "self_ensemble": self_ensemble, "precision": precision}
    is_whole = photo.shape[0] * photo.shape[1] <= tile**2 or seen is not None
    if network.needs_description and not is_whole:
        options["description"] = _description(network, photo, tile)

    def restore_part(part: np.ndarray) -> Tensor:
        return _colour(model, to_tensor(part).to(device), is_grey=is_grey, **options)

    if is_whole:
        return to_array(restore_part(photo), photo.dtype)
    return tiles.assemble(restore_part, photo, scale=network.scale, tile=tile, overlap=overlap, margin=margin)


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
) -> Tensor:
    """One forward in eval mode at any size: (b c h w) -> (b c scale·h scale·w), both in [0, 1].

    Models whose official forward does not pad name the multiple that they need in `multiple_of`; the photo is
    reflected at its right and bottom edge up to there, and the result is cropped.
    """
    if self_ensemble:
        plain = {"seed": seed, "precision": precision, "description": description}
        restored = [
            _turn(forward_any_size(model, _turn(degraded, turn), **plain), turn, back=True) for turn in range(8)
        ]
        return torch.stack(restored).mean(dim=0)
    network, was_training = unwrapped(model), model.training
    model.eval()
    height, width = degraded.shape[-2:]
    multiple, scale = network.multiple_of, network.scale
    degraded = pad(degraded, -height % multiple, -width % multiple)
    inputs = {} if description is None else {"description": description}
    if network.noise_size:
        generator = torch.Generator().manual_seed(seed)
        inputs["noise"] = torch.randn(len(degraded), network.noise_size, generator=generator).to(degraded)
    if network.needs_reference:
        if reference is None:
            raise UserError("stage 1 of DiffIR needs the reference that it is to restore: take stage 2 for photos")
        inputs["reference"] = pad(reference, *(scale * (-side % multiple) for side in (height, width)))
    with torch.autocast(degraded.device.type, torch.bfloat16, enabled=precision == "bf16"):
        restored = model(degraded, **inputs).float()
    model.train(was_training)
    return restored[..., : height * scale, : width * scale].clamp(0, 1)


def _turn(image: Tensor, turn: int, *, back: bool = False) -> Tensor:
    """One of the eight symmetries of the square, or its inverse: quarter turns, then a mirror for turns 4 to 7."""
    if back:
        return torch.rot90(image.flip(-1) if turn >= 4 else image, -turn % 4, dims=(-2, -1))
    image = torch.rot90(image, turn % 4, dims=(-2, -1))
    return image.flip(-1) if turn >= 4 else image


def _description(model: RestorationModel, photo: np.ndarray, tile: int) -> Tensor:
    """What DiffIR extracts from the whole photo: the mean over tiles, weighted by their pixels."""
    device, total = next(model.parameters()).device, 0.0
    for top in range(0, photo.shape[0], tile):
        for left in range(0, photo.shape[1], tile):
            part = to_tensor(photo[top : top + tile, left : left + tile]).to(device)
            pixels = part.shape[-2] * part.shape[-1]
            part = pad(part, -part.shape[-2] % model.multiple_of, -part.shape[-1] % model.multiple_of)
            total = total + pixels * model.describe(part)
    return total / (photo.shape[0] * photo.shape[1])


def _bytes_per_pixel(model: RestorationModel, photo: np.ndarray) -> float:
    """Memory that a forward takes per degraded pixel, measured once on a small image; nothing for small photos."""
    side = 64
    if photo.shape[0] * photo.shape[1] <= 4 * side**2 or model.needs_reference:
        return 1.0
    if model.bytes_per_pixel is None:
        device = next(model.parameters()).device
        probe = torch.zeros(1, model.channels, side, side, device=device)
        model.bytes_per_pixel = complexity.peak_memory(model, probe) / side**2
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
        return originals.eight_bits(originals.from_image(image))
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
    raise UserError(f"a photo is a path, a PIL image or a uint8 H x W x 3 array, not a {what}")
