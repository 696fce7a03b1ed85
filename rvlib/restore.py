"""From a degraded photo to the restored one with any model of the study."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from rvlib import photos
from rvlib.color import rgb_to_ycbcr, ycbcr_to_rgb
from rvlib.degrade import imresize
from rvlib.errors import UserError


@torch.inference_mode()
def restore(
    model: nn.Module,
    image: str | Path | Image.Image | np.ndarray,
    *,
    seed: int = 0,
    reference: np.ndarray | None = None,
) -> np.ndarray:
    """Restore one photo: path, PIL image or uint8 H x W x 3 -> uint8 scale·H x scale·W x 3.

    Deterministic: `seed` feeds DiffIR's noise, the other models draw none. One-channel models restore the luminance;
    the chroma, to which the eye is less sensitive, is enlarged by bicubic interpolation.
    Stage 1 of DiffIR alone looks at a `reference` too: what it restores is what stage 2 can hope for.
    Raises UserError for what is not a photo.
    """
    degraded = to_tensor(_as_array(image)).to(next(model.parameters()).device)
    if model.channels == 1:
        ycbcr = rgb_to_ycbcr(degraded)
        luminance = run(model, ycbcr[:, :1], seed=seed)
        chroma = ycbcr[:, 1:] if model.scale == 1 else imresize(ycbcr[:, 1:], model.scale)
        restored = ycbcr_to_rgb(torch.cat([luminance, chroma], dim=1))
    else:
        seen = None if reference is None else to_tensor(reference).to(degraded)
        restored = run(model, degraded, seed=seed, reference=seen)
    return to_array(restored)


def run(model: nn.Module, degraded: Tensor, *, seed: int = 0, reference: Tensor | None = None) -> Tensor:
    """One forward in eval mode at any size: (b c h w) -> (b c scale·h scale·w), both in [0, 1].

    Models whose official forward does not pad name the multiple that they need in `multiple_of`; the photo is
    reflected at its right and bottom edge up to there, and the result is cropped.
    """
    was_training = model.training
    model.eval()
    height, width = degraded.shape[-2:]
    multiple = getattr(model, "multiple_of", 1)
    degraded = pad(degraded, -height % multiple, -width % multiple)
    more = {}
    if getattr(model, "noise_size", 0):
        generator = torch.Generator().manual_seed(seed)
        more["noise"] = torch.randn(len(degraded), model.noise_size, generator=generator).to(degraded)
    if getattr(model, "needs_reference", False):
        if reference is None:
            raise UserError("stage 1 of DiffIR needs the reference that it is to restore: take stage 2 for photos")
        more["reference"] = pad(reference, *(model.scale * (-side % multiple) for side in (height, width)))
    restored = model(degraded, **more)
    model.train(was_training)
    return restored[..., : height * model.scale, : width * model.scale].clamp(0, 1)


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
    """uint8 H x W x 3 -> float32 (1 3 h w) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).unsqueeze(0).float() / 255


def to_array(image: Tensor) -> np.ndarray:
    """float (1 3 h w) in [0, 1] -> uint8 H x W x 3, rounded and clipped."""
    return (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def _as_array(image) -> np.ndarray:
    if isinstance(image, (str, Path)):
        return photos.read(image)
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        if image.size:
            return image
        raise UserError("the photo has no pixels")
    what = f"{image.dtype} array of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"a photo is a path, a PIL image or a uint8 H x W x 3 array, not a {what}")
