"""How good a restored photo is, with the convention as arguments: near its reference, or natural by itself."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rvlib.color import luminance
from rvlib.errors import UserError

SMALLEST = 32
"""Pixels of a side that the backbones of LPIPS look at: below, their last layers see nothing."""


def psnr(restored, reference, *, channel: str = "y", crop: int = 0):
    """PSNR in dB: 10 log₁₀(255² / mean (restored - reference)²), in float64.

    Two uint8 arrays H x W x 3 give a float; two tensors (b c h w), floats in [0, 1] or uint8, give a tensor (b).
    `crop` pixels are cut off each border first; channel "y" is the unrounded BT.601 luminance, "rgb" all channels
    together. Of one channel an image is compared as it is: luminance spans 219 of the 255 levels, so the PSNR is
    20 log₁₀(255 / 219) = 1.32 dB below that of the same grey photo in RGB. Identical images give inf. Raises UserError
    for images that cannot be compared.
    """
    x, y = (_view(image, channel, ("y", "rgb"), crop) for image in _pair(restored, reference))
    error = ((x - y) ** 2).mean(dim=(1, 2, 3))
    return _like(restored, 10 * torch.log10(255.0**2 / error))


def ssim(restored, reference, *, channel: str = "y", crop: int = 0):
    """Structural similarity (Wang et al. 2004, eq. 13) with an 11 x 11 Gaussian window, σ = 1.5, valid region.

    Returns and takes the same as `psnr`. With c₁ = 2.55² and c₂ = 7.65²

        SSIM = (2 μ_x μ_y + c₁)(2 σ_xy + c₂) / ((μ_x² + μ_y² + c₁)(σ_x² + σ_y² + c₂)).

    Channel "rgb" is the mean over the channels; "rgb3d" is NAFNet's protocol, an 11 x 11 x 11 window over height, width
    and colour with the border repeated, which gives much higher values.
    """
    x, y = (_view(image, channel, ("y", "rgb", "rgb3d"), crop) for image in _pair(restored, reference))
    if channel != "rgb3d" and min(x.shape[-2:]) < 11:
        raise UserError("SSIM needs images of at least 11 x 11 pixels after cropping")
    blur = _blur_3d if channel == "rgb3d" else _blur_2d
    mu_x, mu_y = blur(x), blur(y)
    mu_xy = mu_x * mu_y
    mu_squared = mu_x**2 + mu_y**2
    sigma_xy = blur(x * y) - mu_xy
    sigma_squared = blur(x**2 + y**2) - mu_squared  # σ_x² + σ_y² with one blur instead of two
    c1 = (0.01 * 255) ** 2
    c2 = (0.03 * 255) ** 2
    value = (2 * mu_xy + c1) * (2 * sigma_xy + c2) / ((mu_squared + c1) * (sigma_squared + c2))
    return _like(restored, value.mean(dim=(1, 2, 3)))


def _gaussian_1d(image: Tensor, dim: int) -> Tensor:
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
    return _gaussian_1d(_gaussian_1d(image, -2), -1)


def _blur_3d(image: Tensor) -> Tensor:
    """Gaussian mean over 11 x 11 x 11 of height, width and colour, the border repeated."""
    padded = F.pad(image[:, None], (5, 5, 5, 5, 5, 5), mode="replicate")[:, 0]
    return _blur_2d(_gaussian_1d(padded, 1))


def lpips(restored, reference, *, net: str = "alex", crop: int = 0):
    """Learned perceptual distance (Zhang et al. 2018, eq. 1), version 0.1; 0 for identical images.

    Returns and takes the same as `psnr`, always on RGB; `net` is "alex" or "vgg". It never runs without the real
    backbone: raises UserError, which says why, where its weights cannot be had.
    """
    from rvlib.backbones import lpips_network

    x, y = (_view(image, "rgb", ("rgb",), crop) for image in _pair(restored, reference))
    if min(x.shape[-2:]) < SMALLEST:
        raise UserError(f"LPIPS needs images of at least {SMALLEST} x {SMALLEST} pixels after cropping")
    network = lpips_network(net).to(x.device)
    with torch.inference_mode():
        value = network(*(image.float().div_(127.5).sub_(1) for image in (x, y)))  # in [-1, 1]
    return _like(restored, value.flatten())


def niqe(image, *, crop: int = 0):
    """Naturalness of a photo without a reference (Mittal et al. 2013, eq. 10), on rounded luminance; lower is better.

    Takes and returns the same as `psnr`, but one image. Equal to the authors' MATLAB release, with its model of
    undegraded photos. Raises UserError for less than 192 x 192 pixels, and where that model cannot be fetched.
    """
    from rvlib import naturalness

    view = _view(_float64(image), "y", ("y",), crop).round()
    if min(view.shape[-2:]) < 2 * naturalness.BLOCK:
        raise UserError(f"NIQE needs images of at least {2 * naturalness.BLOCK} pixels a side after cropping")
    return _like(image, torch.tensor([naturalness.niqe(each[0].cpu().numpy()) for each in view], dtype=torch.float64))


def _pair(restored, reference) -> tuple[Tensor, Tensor]:
    """Both images as float64 (b c h w) in 0..255."""
    pair = _float64(restored), _float64(reference)
    if tuple(restored.shape) != tuple(reference.shape):
        raise UserError(
            f"the images have different shapes, {tuple(restored.shape)} and {tuple(reference.shape)}: give two of one "
            f"size"
        )
    return pair


def _float64(image) -> Tensor:
    if not isinstance(image, np.ndarray):
        return _from_tensor(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise UserError(f"an image is a uint8 array H x W x 3 or H x W x 1, not {image.dtype} of shape {image.shape}")
    return torch.from_numpy(image.transpose(2, 0, 1).astype(np.float64))[None]


def _from_tensor(image: Tensor) -> Tensor:
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[1] not in (1, 3):
        what = f"shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise UserError(f"images are arrays H x W x 3 or tensors (b c h w) of 1 or 3 channels, not {what}")
    if image.dtype == torch.uint8:
        return image.double()
    if not image.is_floating_point():
        raise UserError(f"a tensor holds floats in [0, 1] or uint8, not {image.dtype}")
    low, high = (float(each) for each in image.detach().aminmax()) if image.numel() else (0.0, 1.0)
    reaches = "a tensor of floats lies in [0, 1], and this one reaches"
    if high > 2:  # a network's result may leave [0, 1], but not by this much
        raise UserError(f"{reaches} {high:.3g}: divide it by 255")
    if low < -0.5:
        raise UserError(f"{reaches} {low:.3g}: give (x + 1) / 2 if it lies in [-1, 1]")
    return image.double() * 255


def _view(image: Tensor, channel: str, known: tuple[str, ...], crop: int) -> Tensor:
    """The part of an image (b c h w) that is compared: without `crop` pixels of each border, "y" as luminance."""
    if channel not in known:
        raise UserError(f"unknown channel {channel!r}: choose one of {', '.join(known)}")
    if not isinstance(crop, int | np.integer) or crop < 0:
        raise UserError(f"crop is a whole number of pixels, at least 0, not {crop}")
    height, width = image.shape[-2:]
    if min(height, width) <= 2 * crop:
        raise UserError(f"nothing is left of {height} x {width} pixels after cropping {crop} from each border")
    image = image[..., crop : height - crop, crop : width - crop]
    return luminance(image, white=255.0) if channel == "y" and image.shape[1] == 3 else image


def _like(image, values: Tensor) -> float | Tensor:
    """A float for one array, the values (b) for a batch of tensors."""
    return float(values[0]) if isinstance(image, np.ndarray) else values
