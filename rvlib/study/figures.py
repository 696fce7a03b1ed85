"""Every picture of the study: one theme, one colour per method, crops that can be compared."""

import inspect
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython import get_ipython
from IPython.core.pylabtools import print_figure
from IPython.display import Code
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from rvlib import color, measures
from rvlib.models import METHODS

PALETTE = sns.color_palette("colorblind")
COLORS = {
    "bicubic": "0.55",
    "blurry": "0.55",
    "back-projection": "0.7",
    "wiener": "#5e3c99",
    "richardson-lucy": "#5c4210",
    **{key: PALETTE[each.colour] if isinstance(each.colour, int) else each.colour for key, each in METHODS.items()},
}
"""A method has one colour in every figure; inputs are grey."""


def theme() -> None:
    """Set the look of all figures of the study."""
    sns.set_theme(context="notebook", style="whitegrid", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.dpi": 84,  # ten inches are the width of a laptop's notebook
            "savefig.dpi": 200,
            "savefig.bbox": "tight",
            "svg.hashsalt": "rvlib",  # the same figure gives the same file
            "axes.titlesize": "medium",
            "image.interpolation": "nearest",
            "figure.constrained_layout.use": True,
        }
    )
    _store_small()


def _store_small() -> None:
    """In a notebook, figures with photos become JPEG, a fifth of their PNG; drawings PNG of 256 colours, a third."""
    shell = get_ipython()
    if shell is None:
        return
    plt.switch_backend(plt.get_backend())  # starts the notebook's backend, which would reset the formats later
    formatters = shell.display_formatter.formatters

    def photo(figure: Figure) -> bytes | None:
        options = {"quality": 75, "optimize": True, "progressive": True}
        return print_figure(figure, "jpeg", bbox_inches="tight", pil_kwargs=options) if _has_photo(figure) else None

    def drawing(figure: Figure) -> bytes | None:
        return None if _has_photo(figure) else _of_256_colours(print_figure(figure, "png", bbox_inches="tight"))

    formatters["image/jpeg"].for_type(Figure, photo)
    formatters["image/png"].for_type(Figure, drawing)


def _of_256_colours(png: bytes) -> bytes:
    small = BytesIO()
    few = Image.open(BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    return small.getvalue()


def _has_photo(figure: Figure) -> bool:
    return any(image.get_array().size > 10_000 for axis in figure.axes for image in axis.images)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG with 200 pixels per inch, and as SVG where it has no pictures in it."""
    figure.savefig(path.with_suffix(".png"))
    if not any(axis.images for axis in figure.axes):
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def show_source(thing) -> Code:
    """The library's own source of a class or function, highlighted: what a notebook explains is what runs."""
    return Code(inspect.getsource(thing), language="python")


def images(pictures: dict[str, np.ndarray], *, width: float = 3.2, columns: int = 4) -> Figure:
    """Pictures side by side, each under its title; arrays with one channel are shown in grey."""
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    ratio = max(picture.shape[0] / picture.shape[1] for picture in pictures.values())
    size = (width * columns, (width * ratio + 0.45) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, picture) in zip(axes.flat, pictures.items(), strict=False):
        axis.imshow(picture, cmap="gray" if picture.ndim == 2 else None)
        axis.set_title(title)
    return figure


def zoom_strip(
    pictures: dict[str, np.ndarray],
    *,
    box: tuple[int, int, int, int],
    context: np.ndarray | None = None,
    notes: dict[str, str] | None = None,
) -> Figure:
    """The same crop of several pictures of one size, side by side, each with its note (a PSNR) underneath.

    `box` is (top, left, height, width) in pixels; `context` is the whole photo, shown first with the box drawn in.
    """
    top, left, height, width = box
    panels = len(pictures) + (context is not None)
    rows = -(-panels // 5)  # more than five in a row would be too small to see
    columns, tall = -(-panels // rows), 2.7
    ratios = [width / height] * columns
    if context is not None and rows == 1:
        ratios[0] = context.shape[1] / context.shape[0]
    tall = min(tall, 12 / sum(ratios))  # wider than a page, a picture is only shown smaller
    size = (tall * sum(ratios), (tall + 0.6) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, width_ratios=ratios, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        sns.despine(ax=axis, left=True, bottom=True)
    for axis in axes.flat[panels:]:
        axis.set_axis_off()
    axes = list(axes.flat[:panels])
    if context is not None:
        axis = axes.pop(0)
        axis.imshow(context)
        axis.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor="yellow", linewidth=2))
        axis.set_title("whole photo")
        if notes:
            axis.set_xlabel("numbers: of the whole photo")
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture[top : top + height, left : left + width])
        axis.set_title(title)
        axis.set_xlabel((notes or {}).get(title, ""))
    return figure


def curves(
    history: pd.DataFrame,
    *,
    columns: list[str],
    baseline: dict[str, float] | None = None,
    input_name: str = "bicubic",
    loss_name: str = "loss",
) -> Figure:
    """Training curves, one panel per column of the log; `baseline` draws a dashed line of that height.

    A column that holds a measure is titled by it, others by their names: `loss_name` says what the loss is. The line is
    that of the input: `input_name`.
    """
    figure, axes = plt.subplots(1, len(columns), figsize=(4.6 * len(columns), 3.2), squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        sns.lineplot(history, x="step", y=column, ax=axis, marker="o", markersize=4)
        measure = measures.find(column)
        name = loss_name if column == "loss" else column
        axis.set(xlabel="step of training", ylabel=f"{measure.title} in {measure.unit}" if measure else name)
        axis.xaxis.set_major_locator(plt.MaxNLocator(5))
        if column == "loss" and history[column].max() > 3 * history[column].min() > 0:  # minus a PSNR is negative
            axis.set_yscale("log")
        if baseline and column in baseline:
            axis.axhline(baseline[column], color=COLORS["bicubic"], linestyle="--", label=input_name)
            axis.legend()
        axis.set_title(f"validation photos: {measure.protocol}" if measure else f"training {column}", fontsize="small")
    return figure


def luminance(image: np.ndarray) -> np.ndarray:
    """BT.601 luminance of uint8 H x W x 3 as H x W in grey levels, 16 to 235, for showing."""
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).double()
    return color.luminance(planes, white=255.0)[0].numpy()


def signed_difference(restored: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Where and how a restored photo is wrong: luminance difference in grey levels, H x W, for a diverging map."""
    return luminance(restored) - luminance(reference)


def difference_map(differences: dict[str, np.ndarray], *, limit: float = 40, columns: int = 4) -> Figure:
    """Signed differences in rows of up to `columns`, on one scale: blue is too dark, red too bright, white is right.

    The colours end at ± `limit` grey levels; pointed ends of the scale say that there can be more.
    """
    ratio = max(values.shape[0] / values.shape[1] for values in differences.values())
    columns = min(columns, len(differences))
    rows = -(-len(differences) // columns)
    size = (3.4 * columns + 0.6, (3.4 * ratio + 0.5) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, values) in zip(axes.flat, differences.items(), strict=False):
        shown = axis.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(title)
    figure.colorbar(shown, ax=axes.ravel().tolist(), label="grey levels", shrink=0.8, extend="both", extendfrac=0.03)
    return figure


def plain_legend(axis, *, sets: bool = True) -> None:
    """The legend of a seaborn plot beside its axis, without the names of columns; without the sets' markers on wish.

    The plot has the methods as colours and the sets as markers, in this order; a gap parts the two.
    """
    handles, labels = axis.get_legend_handles_labels()
    heads = [index for index, label in enumerate(labels) if label in ("network", "set")]
    end = len(labels) if sets else heads[-1]
    kept = [index for index in range(end) if index != heads[0]]
    names = ["" if index in heads else labels[index] for index in kept]
    axis.legend([handles[i] for i in kept], names, loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")


def live_curve() -> Callable[[pd.DataFrame], None]:
    """A function that draws the loss in place, in a notebook, whenever it is given the log so far."""
    from IPython.display import display

    handle = display(display_id=True)

    def draw(log: pd.DataFrame) -> None:
        axis = log.plot(x="step", y="loss", marker="o", figsize=(5, 2.2), legend=False, ylabel="loss")
        handle.update(axis.figure)
        plt.close(axis.figure)

    return draw
