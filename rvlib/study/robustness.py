"""How a network does on inputs that it was not trained for: the same photos, degraded in other ways and strengths."""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.nn import functional as F

from rvlib import evaluate, recipes
from rvlib.degrade import Bicubic, Chain, Degradation, GaussianBlur, Jpeg, MotionBlur, Noise
from rvlib.measures import Measure
from rvlib.pairs import photo_pairs
from rvlib.study.statistics import paired


@dataclass(frozen=True)
class Resized(Degradation):
    """x4 smaller by another program: Pillow's bicubic and area filters, or OpenCV's bicubic without antialiasing."""

    scale = 4

    program: str

    def __call__(self, reference: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """uint8 H x W x 3 -> uint8 H/4 x W/4 x 3; draws nothing."""
        height, width = (side // self.scale for side in reference.shape[:2])
        if self.program == "OpenCV":  # torch has its kernel, a = -3/4
            planes = torch.from_numpy(reference).permute(2, 0, 1)[None].float()
            small = F.interpolate(planes, (height, width), mode="bicubic", antialias=False)
            return small[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        filters = {"Pillow": Image.Resampling.BICUBIC, "area": Image.Resampling.BOX}
        return np.array(Image.fromarray(reference).resize((width, height), filters[self.program]))


def _after(degradation: Degradation) -> dict[str, Degradation]:
    """Noise and JPEG of several strengths after what the networks were trained for."""
    noise = {f"noise {std}": Chain(degradation, Noise(std)) for std in (1, 3, 10)}
    return noise | {f"JPEG {quality}": Chain(degradation, Jpeg(quality)) for quality in (95, 75, 30)}


CONDITIONS = {
    "super-resolution": {
        "MATLAB": Bicubic(4),
        **{program: Resized(program) for program in ("Pillow", "area", "OpenCV")},
        **{f"blur {std}": Chain(GaussianBlur(std), Bicubic(4)) for std in (1.0, 2.0)},
        **_after(Bicubic(4)),
    },
    "deblurring": {
        "shake": recipes.SHAKE,
        "grey levels": MotionBlur(length=(5.0, 25.0), linear=0.0),
        "turn, zoom": MotionBlur(length=(5.0, 25.0), turn=0.5, zoom=0.5),
        **{f"blur {std}": GaussianBlur(std) for std in (1.0, 2.0)},
        **_after(recipes.SHAKE),
    },
}
"""Degradations by task and by the words on the axis; the first of a task is the one that it is measured on."""


def measure(
    restorers: evaluate.Restorers, photos: Mapping[str, np.ndarray], task: str, measure: Measure
) -> pd.DataFrame:
    """Rows of `evaluate` for each condition of a task, named in the column `condition`.

    restorers: with the input's baseline among them.
    photos: references, uint8 H x W x 3 by name.
    """
    parts = []
    for name, degradation in CONDITIONS[task].items():
        rows = evaluate.evaluate(
            restorers, photo_pairs(dict(photos), degradation), set_name="samples", measures=[measure]
        )
        parts.append(rows.assign(condition=name))
    return pd.concat(parts, ignore_index=True)


def harmed(
    rows: pd.DataFrame, column: str, network: tuple[str, str], untouched: tuple[str, str]
) -> tuple[list[str], list[str]]:
    """The conditions in which a network is worse than its input: those told apart on these photos, and the others.

    rows: those of `measure`, of whose `column` more is better. network, untouched: method and label, of the network and
    of the input.
    """
    found = {name: paired(part, column, network, untouched) for name, part in rows.groupby("condition", sort=False)}
    worse = {name: each for name, each in found.items() if each is not None and each.mean < 0}
    return [name for name in worse if worse[name].decided], [name for name in worse if not worse[name].decided]


def in_words(decided: list[str], others: list[str]) -> str:
    """What `harmed` found, in words: "OpenCV; in the mean alone: noise 10"."""
    listed = ", ".join(decided) or "none told apart"
    return listed + (f"; in the mean alone: {', '.join(others)}" if others else "")


def figure(rows: pd.DataFrame, measure: Measure, baseline: str, names: Mapping[str, str]) -> Figure:
    """Two maps over methods and conditions: what each loses against its first condition, and its gain over `baseline`.

    rows: those of `measure` above, of one label for each method.
    """
    mean = rows.groupby(["method", "condition"], sort=False)[measure.key].mean().unstack()
    mean = mean[list(dict.fromkeys(rows["condition"]))].rename(index=names)
    first = mean.columns[0]
    maps = {
        f"{measure.title} lost against {first!r}, in {measure.unit}": mean.rsub(mean[first], axis=0),
        f"gain over {names[baseline]}, in {measure.unit}": mean.sub(mean.loc[names[baseline]]).drop(
            index=names[baseline]
        ),
    }
    height = 0.38 * len(mean) + 1.3
    drawn, axes = plt.subplots(2, 1, figsize=(10, 2 * height), height_ratios=[len(mean) + 2, len(mean) + 1])
    for axis, (title, values), colours in zip(axes, maps.items(), ("vlag", "vlag_r"), strict=True):
        values = values.round(1) + 0.0  # no minus zero
        limit = max(float(np.nanmax(np.abs(values.to_numpy()))), 0.1)  # red is a loss in both maps
        scale = {"vmin": -limit, "vmax": limit, "cmap": colours}
        sns.heatmap(values, annot=True, fmt=".1f", cbar=False, annot_kws={"fontsize": 9}, ax=axis, **scale)
        axis.set(title=title, xlabel="", ylabel="")
        axis.tick_params(axis="x", rotation=30)
        axis.tick_params(axis="y", rotation=0)
    return drawn
