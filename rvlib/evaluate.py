"""Rows of measured quality: one per photo and method, every column named with its convention."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from rvlib import metrics
from rvlib.degrade import imresize
from rvlib.pairs import Pair
from rvlib.restore import restore


def bicubic(scale: int) -> Callable[[np.ndarray], np.ndarray]:
    """The baseline of super-resolution: enlarge by MATLAB's bicubic interpolation."""
    return lambda degraded: imresize(degraded, scale)


def with_model(model: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Restore with a model of the study."""
    return lambda degraded: restore(model, degraded)


def evaluate(
    restorer: Callable[[np.ndarray], np.ndarray],
    pairs: dict[str, Pair],
    *,
    method: str,
    label: str,
    set_name: str,
    crop: int,
) -> pd.DataFrame:
    """Restore every degraded photo and compare it with its reference.

    `label` says what the row is: "bicubic input", "this run", "released weights". PSNR in dB and SSIM are measured on
    the luminance after `crop` pixels were cut off each border; `seconds` is the wall time of the restoration.
    """
    rows = []
    for photo, (degraded, reference) in tqdm(pairs.items(), desc=f"{method} on {set_name}", unit="photo", leave=False):
        started = time.perf_counter()
        restored = restorer(degraded)
        seconds = time.perf_counter() - started
        rows.append(
            {
                "set": set_name,
                "photo": photo,
                "method": method,
                "label": label,
                f"psnr_y_crop{crop}": metrics.psnr(restored, reference, channel="y", crop=crop),
                f"ssim_y_crop{crop}": metrics.ssim(restored, reference, channel="y", crop=crop),
                "seconds": round(seconds, 4),
            }
        )
    return pd.DataFrame(rows)
