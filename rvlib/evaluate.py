"""Rows of measured quality: one per photo and method, with a column per measure."""

import copy
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from rvlib import checkpoint
from rvlib.backbones import MissingBackboneError
from rvlib.degrade import imresize
from rvlib.edge import OnnxModel
from rvlib.errors import UserError
from rvlib.measures import Measure
from rvlib.memory import lacks_memory
from rvlib.models.base import device_of, unwrapped
from rvlib.pairs import Pair, set_pairs
from rvlib.restore import WHOLE, restore

Restorer = Callable[[np.ndarray], np.ndarray]
"""Makes a restored photo of a degraded one, both uint8 H x W x 3."""

Restorers = dict[tuple[str, str], Restorer]
"""Restorers by method ("bicubic", "swinir") and label, which says what the row is ("bicubic input", "this run")."""


def timed(work: Callable, *inputs) -> tuple[object, float]:
    """The result of `work(*inputs)`, and the seconds of wall time that it took."""
    started = time.perf_counter()
    result = work(*inputs)
    return result, time.perf_counter() - started


def bicubic(scale: int) -> Restorer:
    """The baseline of super-resolution: enlarge by MATLAB's bicubic interpolation."""
    return lambda degraded: imresize(degraded, scale)


def baseline(task: str, scale: int = 1) -> Restorers:
    """The rows that a method of this task has to beat: the input, brought to the size of the reference."""
    if task == "super-resolution":
        return {("bicubic", "bicubic input"): bicubic(scale)}
    kind = {"deblurring": "blurry", "denoising": "noisy", "jpeg": "compressed"}[task]
    return {(kind, f"{kind} input"): lambda degraded: degraded}


def with_model(model: nn.Module, device: str | torch.device | None = None) -> Restorer:
    """Restore with a model of the study, photos of up to a megapixel in one piece: that is what the papers measure.

    What does not fit into memory is cut into tiles, with a warning. A copy of the model computes on the `device`:
    without one where the model is, or on a GPU for a model on the CPU; an ONNX file computes on the CPU. The model
    itself stays where it is. Raises UserError for a photo of which not even tiles fit into memory.
    """
    here = device_of(model)
    if device is None:
        device = checkpoint.automatic_device() if here.type == "cpu" else here
    stays = torch.device(device) == here or isinstance(unwrapped(model), OnnxModel)
    network = model if stays else copy.deepcopy(model).to(device)

    def restorer(degraded: np.ndarray) -> np.ndarray:
        for tile in (WHOLE, None):
            try:
                return restore(network, degraded, tile=tile)
            except (MemoryError, RuntimeError) as error:
                if not lacks_memory(error):
                    raise
            if tile is not None:  # here, where the error does not keep the memory of the forward any more
                warnings.warn("a photo does not fit into memory in one piece: it is cut into tiles", stacklevel=3)
        on_cpu = device_of(network).type == "cpu"
        elsewhere = "" if on_cpu else ", or compute on the CPU (--device cpu)"
        raise UserError(f"the photo does not fit into memory, not even in tiles: leave it out{elsewhere}")

    return restorer


def evaluate(
    restorers: Restorers,
    pairs: dict[str, Pair],
    *,
    set_name: str,
    measures: Sequence[Measure],
    faults: list[str] | None = None,
) -> pd.DataFrame:
    """Restore every degraded photo with every restorer and compare it with its reference: one row each.

    restorers: what restores, by method and label.
    pairs: degraded and reference photo by name, as `pairs.photo_pairs` and `pairs.set_pairs` make them.
    set_name: the content of the column `set`.
    measures: one column each (`measures.for_task`). A perceptual one is empty, with a warning, where the weights of its
    network cannot be had or the photo is too small for it. `seconds` is the wall time of the restoration.
    faults: takes what is wrong with photos that cannot be measured, which are left out; without it, the first of them
    raises UserError.
    """
    rows, left_out, missing = [], set(), set()
    for (method, label), restorer in restorers.items():
        photos = tqdm(pairs.items(), desc=f"{method} on {set_name}", unit="photo", leave=False)
        for photo, (degraded, reference) in photos:
            if photo in left_out:
                continue
            try:
                restored, seconds = timed(restorer, degraded)
                values = {each.key: _value(each, photo, restored, reference, missing) for each in measures}
            except UserError as error:
                if faults is None:
                    raise UserError(f"{photo}: {error}") from None
                faults.append(f"{photo}: {error}")
                left_out.add(photo)
                continue
            heads = {"set": set_name, "photo": photo, "method": method, "label": label}
            rows.append({**heads, **values, "seconds": round(seconds, 4)})
    return pd.DataFrame([row for row in rows if row["photo"] not in left_out])


def sets(
    restorers: Restorers, data: Path, test_sets: Iterable[str], degradation, measures: Sequence[Measure]
) -> pd.DataFrame:
    """The rows of `evaluate` for several sets of a data folder.

    degradation: makes the degraded photos of a set that brings none (`pairs.set_pairs`).
    """
    parts = [
        evaluate(restorers, set_pairs(data, name, degradation), set_name=name, measures=measures) for name in test_sets
    ]
    return pd.concat(parts, ignore_index=True)


def _value(measure: Measure, photo: str, restored: np.ndarray, reference: np.ndarray, missing: set[str]) -> float:
    """A measure's value; NaN where a perceptual one cannot be had, without asking again for the `missing`."""
    if measure.key in missing:
        return float("nan")
    try:
        return measure.compute(restored, reference)
    except MissingBackboneError as error:
        missing.add(measure.key)
        warnings.warn(f"{measure.title} is left empty: {error}", stacklevel=3)
    except UserError as error:
        if not measure.perceptual:
            raise
        warnings.warn(f"{measure.title} is left empty: {error} ({photo})", stacklevel=3)
    return float("nan")
