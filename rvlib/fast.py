"""Computations that CPUs do faster in another form than the one they are defined in.

Each function stands next to its plain twin, whose name begins with `plain_`. The twin is the definition: it says what
is computed, and a reader of a network needs nothing else. The fast function gives the same values and gradients, up to
rounding, and its comments say why it is faster. `benchmarks/bench.py` measures what each gains.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest import mock

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def plain_few_at_a_time(function: Callable[..., Tensor], *tensors: Tensor | None, few: int, dim: int) -> Tensor:
    """The function of whole tensors."""
    return function(*tensors)


def few_at_a_time(function: Callable[..., Tensor], *tensors: Tensor | None, few: int, dim: int) -> Tensor:
    """A function that treats the slices along `dim` independently, computed on a CPU for a few slices at a time.

    Its intermediate results stay in the cache if they are few. `few` counts slices of float32, for one photo: half
    precision takes twice as many, a batch fewer. All tensors have the same number of slices along `dim`; None remains
    None. A part whose gradient is wanted would keep its intermediate results, so then all slices are computed at once.
    """
    first = tensors[0]
    if first.requires_grad or first.device.type != "cpu":
        return function(*tensors)
    few = max(1, few * 4 // first.element_size() // len(first))
    if few >= first.shape[dim]:
        return function(*tensors)
    parts = []
    for start in range(0, first.shape[dim], few):
        count = min(few, first.shape[dim] - start)
        parts.append(function(*(None if each is None else each.narrow(dim, start, count) for each in tensors)))
    return torch.cat(parts, dim=dim)


def plain_channel_norm(x: Tensor, weight: Tensor, bias: Tensor, *, eps: float) -> Tensor:
    """Normalise each pixel over its channels: (x - μ) / √(σ² + ε) · w + b; (b c h w), (c), (c) -> (b c h w)."""
    mean = x.mean(dim=1, keepdim=True)
    variance = x.var(dim=1, keepdim=True, unbiased=False)
    return (x - mean) / torch.sqrt(variance + eps) * weight[:, None, None] + bias[:, None, None]


def channel_norm(x: Tensor, weight: Tensor, bias: Tensor, *, eps: float) -> Tensor:
    """`plain_channel_norm` in one pass over memory, if the channels of a pixel lie next to each other there."""
    pixels = x.permute(0, 2, 3, 1)  # (b h w c): a view
    return F.layer_norm(pixels, weight.shape, weight, bias, eps).permute(0, 3, 1, 2)


def plain_channel_scale(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """Divide each pixel by the deviation of its channels; the mean stays: x / √(σ² + ε) · w; (b c h w) -> (b c h w)."""
    variance = x.var(dim=1, keepdim=True, unbiased=False)
    return x / torch.sqrt(variance + eps) * weight[:, None, None]


def channel_scale(x: Tensor, weight: Tensor, *, eps: float) -> Tensor:
    """`plain_channel_scale` with the variance in two passes: `Tensor.var` over channels is 20 times slower."""
    variance = (x - x.mean(dim=1, keepdim=True)).square().mean(dim=1, keepdim=True)
    return x * torch.rsqrt(variance + eps) * weight[:, None, None]


def plain_add_scaled(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """x + w · y, as at the end of a residual branch: (b c h w), (b c h w), (1 c 1 1) -> (b c h w)."""
    return x + weight * y


def add_scaled(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """`plain_add_scaled` in one pass over memory."""
    return torch.addcmul(x, y, weight)


def plain_cosines(x: Tensor, y: Tensor) -> Tensor:
    """Cosines of the angles between rows: (... k n), (... m n) -> (... k m)."""
    return F.normalize(x, dim=-1) @ F.normalize(y, dim=-1).transpose(-2, -1)


def cosines(x: Tensor, y: Tensor) -> Tensor:
    """`plain_cosines` with the lengths divided out of the small product, not of the long rows."""
    return x @ y.transpose(-2, -1) / (_lengths(x) * _lengths(y).transpose(-2, -1))


def _lengths(x: Tensor) -> Tensor:
    """√(Σ x²) along the last axis, at least 10⁻¹² as in `F.normalize`: (... n) -> (... 1)."""
    if x.dtype.itemsize < 4:
        x = x.float()  # half precision cannot hold such sums
    # this sum reads memory in the order it has; `vector_norm` jumps from pixel to pixel, five times as slow
    return x.square().sum(dim=-1, keepdim=True).clamp_min(1e-24).sqrt()


def plain_deconvolution(x: Tensor, weight: Tensor, bias: Tensor, *, scale: int) -> Tensor:
    """The transposed convolution Wᵀ of stride `scale`, with an odd kernel, that makes x exactly `scale` times as large.

    (b c h w), (c out k k), (out) -> (b out scale·h scale·w)
    """
    padding = weight.shape[-1] // 2
    return F.conv_transpose2d(x, weight, bias, stride=scale, padding=padding, output_padding=scale - 1)


def deconvolution(x: Tensor, weight: Tensor, bias: Tensor, *, scale: int) -> Tensor:
    """`plain_deconvolution` as a convolution of the small image and a pixel shuffle.

    Each output pixel uses only every n-th of the k weights in each direction (n the scale). There are n² such subsets,
    one per position inside an n × n cell of the large image. The layer therefore equals one convolution of the small
    image with n² small kernels, followed by a pixel shuffle:

        Wᵀ x = shuffle_n(V * x),   V[n·r_y + r_x, j] = W[r + n·j]   (zero outside of W, j counted backwards).

    Some of V is zero and multiplied in vain, and yet it is several times as fast: nothing is scattered.
    """
    n = scale
    middle = weight.shape[-1] // 2
    reach = (middle + n - 1) // n  # of V, in pixels of the small image
    before = n * reach - middle
    after = n * (reach + 1) - middle - 1
    padded = F.pad(weight, (before, after, before, after))  # (c out n·(2·reach + 1) n·(2·reach + 1))
    kernels = rearrange(padded, "c o (j_y r_y) (j_x r_x) -> (o r_y r_x) c j_y j_x", r_y=n, r_x=n).flip(-2, -1)
    return F.pixel_shuffle(F.conv2d(x, kernels, padding=reach), n) + bias[:, None, None]


def plain_convolution_to_few(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution with an odd kernel, padded with zeros: (b c h w), (out c k k), (out) -> (b out h w)."""
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def convolution_to_few(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`plain_convolution_to_few` for a large kernel and few output channels: y_i = b + Σ_r W_r * x_{i+r-k/2}.

    Convolution libraries compute output channels in blocks of about a dozen; with three outputs, most of a block is
    wasted. The k rows W_r of the kernel are one convolution of 1 x k with k times as many outputs; folding adds them,
    each moved by its place in the kernel.
    """
    side = weight.shape[-1]
    rows = F.conv2d(x, rearrange(weight.flip(-2), "o c r k -> (o r) c 1 k"), padding=(0, side // 2))  # (b out·k h w)
    return F.fold(rows.flatten(2), x.shape[-2:], (side, 1), padding=(side // 2, 0)) + bias[:, None, None]


TWINS = {
    "few_at_a_time": plain_few_at_a_time,
    "channel_norm": plain_channel_norm,
    "channel_scale": plain_channel_scale,
    "add_scaled": plain_add_scaled,
    "cosines": plain_cosines,
    "deconvolution": plain_deconvolution,
    "convolution_to_few": plain_convolution_to_few,
}
"""The plain twin of each fast function, by the fast function's name."""


def plain() -> AbstractContextManager:
    """Let networks compute by the plain twins inside the `with` block."""
    return mock.patch.multiple(sys.modules[__name__], **TWINS)
