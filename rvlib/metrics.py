"""How near a restored photo is to its reference, with the convention as arguments."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rvlib.color import luminance
from rvlib.errors import UserError


def psnr(restored, reference, *, channel: str = "y", crop: int = 0):
    """PSNR in dB: 10 log₁₀(255² / mean (restored - reference)²), in float64.

    uint8 H x W x 3 arrays -> float; float tensors (b c h w) in [0, 1] -> (b). `crop` pixels are cut off each border
    first; channel "y" is the unrounded BT.601 luminance, "rgb" all channels together. Identical images give inf.
    """
    first, second, single = _prepare(restored, reference, channel, ("y", "rgb"), crop)
    error = ((first - second) ** 2).mean(dim=(1, 2, 3))
    value = 10 * torch.log10(255.0**2 / error)
    return float(value[0]) if single else value


def ssim(restored, reference, *, channel: str = "y", crop: int = 0):
    """Structural similarity (Wang et al. 2004, eq. 13) with an 11 x 11 Gaussian window, σ = 1.5, valid region.

        SSIM = (2 μ_x μ_y + c₁)(2 σ_xy + c₂) / ((μ_x² + μ_y² + c₁)(σ_x² + σ_y² + c₂)),   c₁ = 2.55², c₂ = 7.65²

    Arguments and shapes as in `psnr`. Channel "rgb" is the mean over the channels; "rgb3d" is NAFNet's protocol, an
    11 x 11 x 11 window over height, width and colour with the border repeated, which is far more lenient.
    """
    first, second, single = _prepare(restored, reference, channel, ("y", "rgb", "rgb3d"), crop)
    if channel != "rgb3d" and min(first.shape[-2:]) < 11:
        raise UserError("SSIM needs images of at least 11 x 11 pixels after cropping")
    blur = _blur_3d if channel == "rgb3d" else _blur_2d
    mean_1, mean_2, energy, product = (blur(each) for each in (first, second, first**2 + second**2, first * second))
    means, squared = mean_1 * mean_2, mean_1**2 + mean_2**2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    # σ_x² + σ_y² = blur(x² + y²) - (μ_x² + μ_y²),   σ_xy = blur(xy) - μ_x μ_y
    value = (2 * means + c1) * (2 * (product - means) + c2) / ((squared + c1) * (energy - squared + c2))
    value = value.mean(dim=(1, 2, 3))
    return float(value[0]) if single else value


def _weighted(image: Tensor, dim: int) -> Tensor:
    """Gaussian mean over 11 values along one dimension, valid region, so that 10 values are lost."""
    window = torch.exp(-(torch.arange(-5, 6, dtype=torch.float64) ** 2) / (2 * 1.5**2))
    window = (window / window.sum()).tolist()
    length = image.shape[dim] - 10
    # shifted sums in place are faster than a convolution with one channel in float64
    total = image.narrow(dim, 0, length) * window[0]
    for k in range(1, 11):
        total.add_(image.narrow(dim, k, length), alpha=window[k])
    return total


def _blur_2d(image: Tensor) -> Tensor:
    """Gaussian mean over 11 x 11 pixels, valid region: the window is separable, so rows and columns in turn."""
    return _weighted(_weighted(image, -2), -1)


def _blur_3d(image: Tensor) -> Tensor:
    """Gaussian mean over 11 x 11 x 11 of height, width and colour, the border repeated."""
    padded = F.pad(image[:, None], (5, 5, 5, 5, 5, 5), mode="replicate")[:, 0]
    return _blur_2d(_weighted(padded, 1))


def lpips(restored, reference, *, net: str = "alex", crop: int = 0):
    """Learned perceptual distance (Zhang et al. 2018, eq. 1), version 0.1; 0 for identical images.

    Arguments and shapes as in `psnr`; `net` is "alex" or "vgg". Always the real backbone: raises UserError, which says
    why, where its weights cannot be had.
    """
    from rvlib.backbones import lpips_network

    first, second, single = _prepare(restored, reference, "rgb", ("rgb",), crop)
    network = lpips_network(net).to(first.device)
    with torch.inference_mode():
        pair = [image.float().div_(127.5).sub_(1) for image in (first, second)]  # in [-1, 1]
        value = network(*pair).flatten()
    return float(value[0]) if single else value


def _prepare(restored, reference, channel: str, known: tuple[str, ...], crop: int) -> tuple[Tensor, Tensor, bool]:
    """Both images as float64 (b c h w) in 0..255, cropped and converted; whether one array was given."""
    if channel not in known:
        raise UserError(f"unknown channel {channel!r}: choose one of {', '.join(known)}")
    if tuple(restored.shape) != tuple(reference.shape):
        raise UserError(f"images of different shapes, {tuple(restored.shape)} and {tuple(reference.shape)}")
    single = isinstance(restored, np.ndarray)
    pair = []
    for image in (restored, reference):
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3:
                raise UserError(f"an image is a uint8 H x W x 3 array, not {image.dtype} of shape {image.shape}")
            image = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float64))[None]
        else:
            image = image.double() * 255
        height, width = image.shape[-2:]
        if min(height, width) <= 2 * crop:
            raise UserError(f"nothing is left of {height} x {width} pixels after cropping {crop} from each border")
        image = image[..., crop : height - crop, crop : width - crop]
        if channel == "y" and image.shape[1] == 3:
            image = luminance(image, white=255.0)
        pair.append(image)
    return pair[0], pair[1], single
