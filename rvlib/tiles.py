"""Large photos in bounded memory: overlapping tiles, whose seams are blended, put together row by row of tiles.

A side is cut at boundaries b_1 < b_2 < ... A tile reaches `overlap` pixels beyond its boundaries. Of that, the outer
`margin` pixels, which the tile's edge spoils, have weight 0; over the rest the weight falls linearly,

    w(p) = (1 - (p - b) / (overlap - margin)) / 2   for p = b - (overlap - margin) ... b + (overlap - margin),

and the neighbour's rises by as much, so that weights add up to one.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

GRID = 64  # boundaries lie at multiples of about this: of 8, of each stride and window (56 for windows of 7)


def assemble(
    restore: Callable[[np.ndarray], Tensor],
    image: np.ndarray,
    *,
    scale: int,
    tile: int,
    overlap: int,
    margin: int,
    grid: int = GRID,
    progress: bool = False,
) -> np.ndarray:
    """Restore an image H x W x C tile by tile: `restore(crop) -> (1 c scale·h scale·w)` in [0, 1].

    `tile` and `overlap` are in degraded pixels, boundaries are multiples of `grid`. Returns the integer type of the
    image. Beside the result, memory holds one row of tiles. `progress` shows how many tiles are done, after a second.
    """
    height, width = image.shape[:2]
    white = np.iinfo(image.dtype).max
    output = np.empty((height * scale, width * scale, image.shape[2]), image.dtype)
    ramp = (overlap - margin) * scale
    carried = None  # the lower seam of the row of tiles before
    count = len(places(height, width, tile, grid))
    bar = tqdm(total=count, unit="tile", delay=1, leave=False, disable=not progress)
    for top, bottom in _cells(height, tile, grid):
        first, last = max(top * scale - ramp, 0), min(bottom * scale + ramp, height * scale)
        rows = np.zeros((last - first, width * scale, image.shape[2]), np.float32)
        for left, right in _cells(width, tile, grid):
            y0, y1 = max(top - overlap, 0), min(bottom + overlap, height)
            x0, x1 = max(left - overlap, 0), min(right + overlap, width)
            restored = restore(image[y0:y1, x0:x1])[0].permute(1, 2, 0).float().cpu().numpy()
            from_x, to_x = max(left * scale - ramp, 0), min(right * scale + ramp, width * scale)
            kept = restored[first - y0 * scale : last - y0 * scale, from_x - x0 * scale : to_x - x0 * scale]
            down = _weights(first, last, top * scale, bottom * scale, ramp, height * scale)
            across = _weights(from_x, to_x, left * scale, right * scale, ramp, width * scale)
            rows[:, from_x:to_x] += kept * down[:, None, None] * across[:, None]
            bar.update()
        if carried is not None:
            rows[: len(carried)] += carried
        done = len(rows) if bottom == height else len(rows) - 2 * ramp
        carried = rows[done:].copy()
        finished = rows[:done]  # in place from here: it may be most of the memory that is used
        finished *= white
        output[first : first + done] = finished.round(out=finished).clip(0, white, out=finished)
    bar.close()
    return output


def places(height: int, width: int, tile: int, grid: int = GRID) -> list[tuple[int, int]]:
    """Where the tiles begin, (row, column), in the order in which they are restored."""
    return [(top, left) for top, _ in _cells(height, tile, grid) for left, _ in _cells(width, tile, grid)]


def _cells(length: int, tile: int, grid: int) -> Iterator[tuple[int, int]]:
    """Cut a side into about equal cells, at multiples of `grid` and none shorter than that, of about `tile`."""
    count = -(-length // tile)
    starts = {round(index * length / count / grid) * grid for index in range(count)}
    starts = sorted(start for start in starts if start == 0 or start <= length - grid)
    yield from zip(starts, [*starts[1:], length], strict=True)


def _weights(first: int, last: int, begin: int, end: int, ramp: int, length: int) -> np.ndarray:
    """Weight of each position from `first` to `last` of a cell from `begin` to `end`."""
    position = np.arange(first, last, dtype=np.float32) + 0.5
    weights = np.ones(last - first, np.float32)
    if ramp and begin > 0:
        weights *= ((position - begin + ramp) / (2 * ramp)).clip(0, 1)
    if ramp and end < length:
        weights *= ((end + ramp - position) / (2 * ramp)).clip(0, 1)
    return weights


_photos = 1  # that are restored at the same time, in this process


@contextmanager
def sharing_memory(photos: int) -> Iterator[None]:
    """Let that many photos be restored at the same time inside the `with` block: `fitting` gives each its part."""
    global _photos
    before, _photos = _photos, photos
    try:
        yield
    finally:
        _photos = before


def fitting(bytes_per_pixel: float, bytes_per_row: float, device: torch.device, overlap: int, grid: int = GRID) -> int:
    """The side of the largest tile that fits into 1 GiB or half of what is free, or half of a GPU's free memory.

    A row of tiles, which is as wide as the photo, is to fit into half a GiB. Photos at the same time share both
    (`sharing_memory`).
    """
    if device.type == "cuda":
        # what torch keeps is free to be used again
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget = (torch.cuda.mem_get_info(device)[0] + kept) / 2
    else:
        import psutil

        budget = min(2**30, psutil.virtual_memory().available / 2)
    row = 2**29 / _photos / bytes_per_row
    side = int(min((budget / _photos / bytes_per_pixel) ** 0.5, row)) - 2 * overlap
    return max(side // grid * grid, grid)
