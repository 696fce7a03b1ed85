"""Rows of measured quality: one per photo and method, every column named with its convention."""

import time
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from torch import nn
from tqdm import tqdm

from rvlib import metrics
from rvlib.degrade import imresize
from rvlib.errors import UserError
from rvlib.pairs import Pair
from rvlib.restore import restore


def timed(work: Callable, *inputs) -> tuple[object, float]:
    """What `work(*inputs)` gives, and the seconds of wall time that it took."""
    started = time.perf_counter()
    result = work(*inputs)
    return result, time.perf_counter() - started


def bicubic(scale: int) -> Callable[[np.ndarray], np.ndarray]:
    """The baseline of super-resolution: enlarge by MATLAB's bicubic interpolation."""
    return lambda degraded: imresize(degraded, scale)


def with_model(model: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """Restore with a model of the study, photos of up to a megapixel in one piece: that is what the papers measure."""
    return lambda degraded: restore(model, degraded, tile=1024)


def evaluate(
    restorer: Callable[[np.ndarray], np.ndarray],
    pairs: dict[str, Pair],
    *,
    method: str,
    label: str,
    set_name: str,
    crop: int,
    channel: str = "y",
    perceptual: bool = False,
) -> pd.DataFrame:
    """Restore every degraded photo and compare it with its reference: one row per photo.

    `label` says what the row is: "bicubic input", "this run", "released weights". PSNR in dB and SSIM are measured
    after `crop` pixels were cut off each border: on the luminance, or on RGB (`channel="rgb"`, with NAFNet's 3-D
    SSIM), as the columns say. `perceptual` adds LPIPS-Alex of the uncropped RGB photos; it is empty where the weights
    of its backbone cannot be had. `seconds` is the wall time of the restoration.
    """
    window = "rgb3d" if channel == "rgb" else channel
    rows = []
    for photo, (degraded, reference) in tqdm(pairs.items(), desc=f"{method} on {set_name}", unit="photo", leave=False):
        restored, seconds = timed(restorer, degraded)
        row = {
            "set": set_name,
            "photo": photo,
            "method": method,
            "label": label,
            f"psnr_{channel}_crop{crop}": metrics.psnr(restored, reference, channel=channel, crop=crop),
            f"ssim_{window}_crop{crop}": metrics.ssim(restored, reference, channel=window, crop=crop),
        }
        if perceptual:
            row["lpips_alex"] = _lpips(restored, reference)
        rows.append({**row, "seconds": round(seconds, 4)})
    return pd.DataFrame(rows)


def _lpips(restored: np.ndarray, reference: np.ndarray) -> float:
    try:
        return metrics.lpips(restored, reference)
    except UserError as error:
        warnings.warn(f"LPIPS is left empty: {error}", stacklevel=3)
        return float("nan")
