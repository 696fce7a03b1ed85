"""Attention inside windows: how an image is cut into them, which of their tokens see each other, and the equation.

Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", section 3.2.

Symbols: ws side of a window, n = ws² its tokens, d channels of a head.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor


def split_windows(x: Tensor, side: int) -> Tensor:
    """Cut into windows: (b h w c) -> (b·windows, n, c)."""
    return rearrange(x, "b (h p) (w q) c -> (b h w) (p q) c", p=side, q=side)


def relative_positions(side: int) -> Tensor:
    """Index into the bias table for each pair of tokens: (n, n); (Δy + ws - 1)(2 ws - 1) + Δx + ws - 1."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    y, x = y.flatten(), x.flatten()
    down = y[:, None] - y[None, :] + side - 1
    across = x[:, None] - x[None, :] + side - 1
    return down * (2 * side - 1) + across


def shift_mask(height: int, width: int, side: int, shift: int, device: torch.device | None = None) -> Tensor:
    """What a shifted window may not attend to: (windows, n, n), 0 or -∞.

    Rolling the image joins its opposite borders in one window. Tokens of different regions get -∞ before softmax, where
    the official code has -100: e⁻¹⁰⁰ is subnormal in float32, and CPUs multiply subnormal numbers about eighty times
    slower. Its share of a softmax is zero either way.
    """
    regions = torch.zeros(1, height, width, 1, device=device)  # nine of them, numbered
    parts = (slice(0, -side), slice(-side, -shift), slice(-shift, None))
    for row, down in enumerate(parts):
        for column, across in enumerate(parts):
            regions[:, down, across] = 3 * row + column
    regions = split_windows(regions, side).squeeze(-1)  # (windows n)
    apart = regions[:, :, None] != regions[:, None, :]  # (windows n n)
    return torch.zeros(apart.shape, device=device).masked_fill(apart, -torch.inf)


class Windows(NamedTuple):
    """How the tokens of an image are cut into windows."""

    order: Tensor  # (windows, n): the numbers of each window's tokens, row by row through the image
    place: Tensor  # (tokens): the place of each token in `order`, which puts the image together again
    mask: Tensor | None  # (windows, 1, n, n), the same for each head; None for windows that are not shifted


def window_order(image: Tensor, side: int, shift: int) -> Windows:
    """Window layout for an image (b c h w) rolled up and left by `shift`; `side` must divide its height and width."""
    height, width = image.shape[-2:]
    numbers = torch.arange(height * width, device=image.device).view(1, height, width, 1)
    order = split_windows(numbers.roll((-shift, -shift), dims=(1, 2)), side).squeeze(-1)
    mask = shift_mask(height, width, side, shift, image.device)[:, None].to(image) if shift else None
    return Windows(order, order.flatten().argsort(), mask)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, *, bias: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √d + B) V (SwinIR, section 3.2): q, k, v (b windows heads n d), bias (heads n n) -> like v."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (b windows heads n n)
    scores += bias  # in place: fresh memory costs more than the sums
    if mask is not None:
        scores += mask
    return scores.softmax(dim=-1) @ v
