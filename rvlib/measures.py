"""The measures of the study: each is one record, which says how it is computed, ranked and written.

A new measure is a new record in `MEASURES`. Evaluation, ranks, formats and the command line read the records. What the
README, the cards and the audit show is named there.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd

from rvlib import metrics
from rvlib.errors import UserError

TASKS = ("super-resolution", "deblurring", "denoising", "jpeg")
SAME_SIZE = TASKS[1:]  # what is measured on RGB, with nothing cropped


@dataclass(frozen=True)
class Measure:
    """A number that says how good a restored photo is, with the protocol that it is measured by.

    name: what is measured, with the network and the colours: `psnr_y`, `lpips_alex_rgb`.
    title: how tables and sentences write it.
    better: "high" or "low".
    digits: how many are written after the point.
    function: called with (restored, reference, crop=...), both uint8 H x W x 3; None for what has no reference.
    view: the part of the photo that is compared, in words.
    tolerance: how near a measured value must come to a claim to reproduce it; None where no claim can be checked.
    unit: written after the number; empty where it has none.
    crop: pixels cut off each border; "scale" for as many as the task's scale; None where nothing is compared.
    tasks: the tasks that are measured by it.
    perceptual: it needs a fetched network or model: measured on request, empty where that cannot be had.
    """

    name: str
    title: str
    better: Literal["high", "low"]
    digits: int
    function: Callable[..., float] | None = None
    view: str = ""
    tolerance: float | None = None
    unit: str = ""
    crop: int | Literal["scale"] | None = 0
    tasks: tuple[str, ...] = TASKS
    perceptual: bool = False

    @property
    def key(self) -> str:
        """The column's name, protocol included: `psnr_y_crop4`."""
        return self.name if self.crop is None else f"{self.name}_crop{self.crop}"

    @property
    def arrow(self) -> str:
        """Which way is better, for the heading of a column."""
        return "↑" if self.better == "high" else "↓"

    @property
    def protocol(self) -> str:
        """The protocol as part of a sentence: "PSNR on luminance, 4 pixels cropped"."""
        cropped = f"{self.crop} pixels cropped" if self.crop else "nothing cropped"
        return f"{self.title} on {self.view}, {cropped}"

    def at(self, scale: int) -> "Measure":
        """The same measure for one scale, where the scale says how much is cropped."""
        return replace(self, crop=scale) if self.crop == "scale" else self

    def compute(self, restored: np.ndarray, reference: np.ndarray) -> float:
        """Measure one photo (uint8 H x W x 3) against its reference of the same shape."""
        return self.function(restored, reference, crop=self.crop)

    def text(self, value: float) -> str:
        """A value as tables write it, without the unit; a dash where it is missing."""
        return "–" if pd.isna(value) else f"{value:,.{self.digits}f}"

    def ordered(self, values: pd.Series) -> pd.Series:
        """The values that are not missing, best first."""
        return values.dropna().sort_values(ascending=self.better == "low", kind="stable")


MEASURES = (
    Measure(
        name="psnr_y",
        title="PSNR",
        better="high",
        digits=2,
        function=partial(metrics.psnr, channel="y"),
        view="luminance",
        tolerance=0.1,
        unit="dB",
        crop="scale",
        tasks=("super-resolution",),
    ),
    Measure(
        name="ssim_y",
        title="SSIM",
        better="high",
        digits=4,
        function=partial(metrics.ssim, channel="y"),
        view="luminance",
        tolerance=0.005,
        crop="scale",
        tasks=("super-resolution",),
    ),
    Measure(
        name="psnr_rgb",
        title="PSNR",
        better="high",
        digits=2,
        function=partial(metrics.psnr, channel="rgb"),
        view="RGB",
        tolerance=0.1,
        unit="dB",
        tasks=SAME_SIZE,
    ),
    Measure(
        name="ssim_rgb3d",
        title="SSIM",
        better="high",
        digits=4,
        function=partial(metrics.ssim, channel="rgb3d"),
        view="RGB with a 3-D window",
        tolerance=0.005,
        tasks=SAME_SIZE,
    ),
    Measure(
        name="lpips_alex_rgb",
        title="LPIPS",
        better="low",
        digits=4,
        function=partial(metrics.lpips, net="alex"),
        view="RGB with AlexNet",
        tolerance=0.01,
        perceptual=True,
    ),
    Measure(
        name="niqe_y",
        title="NIQE",
        better="low",
        digits=2,
        function=lambda restored, reference, *, crop: metrics.niqe(restored, crop=crop),
        view="luminance without a reference",
        perceptual=True,
    ),
)
"""What photos are measured by, in the order of a table's columns."""

SECONDS = Measure(name="seconds", title="seconds", better="low", digits=2, unit="s", crop=None, tasks=())
"""The wall time of a restoration. It is taken beside the measures and belongs to its machine."""


def for_task(task: str, scale: int = 1, *, perceptual: bool = False) -> tuple[Measure, ...]:
    """The measures of a task, as the papers on it measure; `perceptual` adds those that fetch a network or model.

    Raises UserError for a task that is not in `TASKS`.
    """
    if task not in TASKS:
        raise UserError(f"unknown task {task!r}: choose one of {', '.join(TASKS)}")
    wanted = [measure for measure in MEASURES if task in measure.tasks and (perceptual or not measure.perceptual)]
    return tuple(measure.at(scale) for measure in wanted)


def find(column: str) -> Measure | None:
    """The measure that a column holds, or None: its last word is a key, whatever the crop, or a title."""
    word = str(column).split(" ")[-1]
    name, _, crop = word.rpartition("_crop")
    for measure in (*MEASURES, SECONDS):
        if name == measure.name and crop.isdecimal():
            return replace(measure, crop=int(crop))
        if word.lower() == measure.title.lower():
            return measure
    return None


def psnr_column(table: pd.DataFrame) -> str | None:
    """The column that has the PSNR, whatever its protocol; None without one."""
    return next((column for column in table if column.startswith("psnr")), None)
