"""BT.601 luminance and chroma in studio range, as MATLAB's rgb2ycbcr and every super-resolution paper use it."""

import torch
from torch import Tensor

# [Y Cb Cr] = M [R G B] / 255 + [16 128 128] / 255 for R, G, B in [0, 1]
_MATRIX = torch.tensor(
    [[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]], dtype=torch.float64
)
_INVERSE = torch.linalg.inv(_MATRIX / 255)
_OFFSET = torch.tensor([16.0, 128.0, 128.0], dtype=torch.float64)


def rgb_to_ycbcr(image: Tensor) -> Tensor:
    """RGB (..., 3, h, w) in [0, 1] -> YCbCr of the same shape: Y in [16, 235] / 255, not rounded (ITU-R BT.601)."""
    matrix, offset = (_MATRIX / 255).to(image), (_OFFSET / 255).to(image)
    return torch.einsum("yc,...chw->...yhw", matrix, image) + offset[:, None, None]


def luminance(image: Tensor, *, white: float = 1.0) -> Tensor:
    """The Y of `rgb_to_ycbcr` alone: RGB (..., 3, h, w) in [0, white] -> (..., 1, h, w)."""
    red, green, blue = (_MATRIX[0] / 255).tolist()
    r, g, b = image.unbind(-3)
    return torch.add(red * r, g, alpha=green).add_(b, alpha=blue).add_(16 / 255 * white).unsqueeze(-3)


def ycbcr_to_rgb(image: Tensor) -> Tensor:
    """The inverse of `rgb_to_ycbcr`, not clipped: (..., 3, h, w) -> (..., 3, h, w)."""
    inverse, offset = _INVERSE.to(image), (_OFFSET / 255).to(image)
    return torch.einsum("cy,...yhw->...chw", inverse, image - offset[:, None, None])
