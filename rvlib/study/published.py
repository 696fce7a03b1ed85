"""Does the study measure as the papers do? Their own weights, measured here, beside the numbers that they publish."""

from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

import rvlib
from rvlib import evaluate, official
from rvlib.errors import UserError
from rvlib.measures import find
from rvlib.models.swinir import SwinIR

TABLE = Path(__file__).parent / "published.csv"
LABEL = "official weights"
TOLERANCES = {"PSNR": 0.02, "SSIM": 0.001, "LPIPS": 0.001}
DIGITS = 4
"""Behind the point of a measured number and its difference: finer than the tolerances."""
CONFIRMED = "protocol confirmed"


def label(name: str) -> str:
    """The label of the rows of official weights, which one method may have several of."""
    return f"{LABEL}: {name.removeprefix(official.PREFIX)}"


def models(names: list[str]) -> tuple[dict[tuple[str, str], nn.Module], dict[str, str]]:
    """Official networks by method and label, on a GPU where there is one; and why the others are left out, by name."""
    found, missing = {}, {}
    for name in names:
        try:
            model = rvlib.load(name, device="auto")
            found[model.method, label(name)] = model
        except UserError as error:
            missing[name] = str(error)
    return found, missing


def restorer(model: nn.Module) -> evaluate.Restorer:
    """Restore as the papers' own test programs do: SwinIR's mirrors the photo's border, up to one window more."""
    restore = evaluate.with_model(model)
    if not isinstance(model, SwinIR):
        return restore

    def padded(degraded: np.ndarray) -> np.ndarray:
        height, width = degraded.shape[:2]
        down, across = (model.window - side % model.window for side in (height, width))
        larger = np.pad(degraded, ((0, down), (0, across), (0, 0)), mode="symmetric")
        return restore(larger)[: height * model.scale, : width * model.scale]

    return padded


def compare(means: pd.DataFrame) -> pd.DataFrame:
    """Published and measured numbers of official weights, their difference and a verdict: a row each.

    means: `tables.means` of rows with labels of `label`. Only what was measured is listed.
    """
    known = pd.read_csv(TABLE)
    known["label"] = known["weights"].map(label)
    columns = [column for column in means if column in set(known["measure"])]
    measured = means.melt(["set", "label"], columns, "measure", "here").dropna(subset="here")
    both = known.merge(measured, on=["set", "label", "measure"])
    rows = [_row(each) for each in both.itertuples()]
    columns = ["weights", "set", "measure", "published", "measured here", "difference", "verdict", "source"]
    return pd.DataFrame(rows, columns=columns)


def _row(each) -> dict[str, str]:
    measure = find(each.measure)
    if measure.title not in TOLERANCES:
        raise UserError(f"{TABLE} has a number of {measure.title}: say in TOLERANCES how near a measured one must come")
    difference, limit = each.here - each.published, TOLERANCES[measure.title]
    is_confirmed = round(abs(difference), 6) <= limit
    return {
        "weights": each.weights,
        "set": each.set,
        "measure": measure.title,
        "published": f"{each.published:g}",
        "measured here": f"{each.here:.{DIGITS}f}",
        "difference": f"{difference:+.{DIGITS}f}",
        "verdict": CONFIRMED if is_confirmed else f"off by more than {limit:g}",
        "source": each.source,
    }
