"""Where restored photos are wrong: at which spatial frequencies, and next to which edges."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.ndimage import sobel

from rvlib.study import figures

BANDS = 16
"""Rings of equal width in the spectrum, from 0 to half a cycle per pixel."""
PARTS = 10
"""Classes of as many pixels each, from the flattest places of the reference to its steepest edges."""


def by_frequency(restored: np.ndarray, reference: np.ndarray) -> pd.Series:
    """Power of the error over that of the reference in rings of the luminance spectrum, by frequency in cycles a pixel.

    Both uint8 H x W x 3. 0 is restored, 1 is as wrong as an empty ring, and more is worse than that. A Hann window
    keeps the border out; the spectrum's corners above half a cycle are left out.
    """
    powers = []
    for image in (figures.signed_difference(restored, reference), figures.luminance(reference)):
        window = np.outer(*(np.hanning(length) for length in image.shape))
        powers.append(np.abs(np.fft.fft2((image - np.average(image, weights=window)) * window)) ** 2)
    distance = np.hypot(*np.meshgrid(*(np.fft.fftfreq(length) for length in image.shape), indexing="ij"))
    ring = np.minimum((2 * BANDS * distance).astype(int), BANDS)
    error, whole = (np.bincount(ring.ravel(), power.ravel(), BANDS + 1)[:BANDS] for power in powers)
    return pd.Series(error / whole, index=pd.Index((np.arange(BANDS) + 0.5) / BANDS / 2, name="frequency"))


def by_gradient(restored: np.ndarray, reference: np.ndarray) -> pd.Series:
    """Root mean square error of the luminance, by the mean steepness of the reference; in grey levels, a pixel.

    Both uint8 H x W x 3. The pixels are sorted by the reference's gradient (Sobel) into `PARTS` classes of one size.
    """
    whole = figures.luminance(reference)
    steepness = np.hypot(sobel(whole, 0), sobel(whole, 1)).ravel() / 8
    error = figures.signed_difference(restored, reference).ravel() ** 2
    classes = np.array_split(np.argsort(steepness, kind="stable"), PARTS)
    index = pd.Index([steepness[each].mean() for each in classes], name="steepness")
    return pd.Series([np.sqrt(error[each].mean()) for each in classes], index=index)


def measure(pictures: Mapping[str, Mapping[str, np.ndarray]], references: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Both of them for restored photos by method and photo: rows method, photo, by, place (from 0), at, error."""
    rows = []
    for method, restored in pictures.items():
        for photo, image in restored.items():
            for by, compute in (("frequency", by_frequency), ("gradient", by_gradient)):
                found = compute(image, references[photo])
                facts = {"method": method, "photo": photo, "by": by}
                rows += [{**facts, "place": n, "at": at, "error": e} for n, (at, e) in enumerate(found.items())]
    return pd.DataFrame(rows)


def figure(rows: pd.DataFrame, colours: Mapping[str, object], *, known: float | None = None) -> Figure:
    """The rows of `measure` as two panels, a line a method, the mean over photos.

    colours: by method, in the order of the legend. known: the highest frequency that the input holds, drawn dotted.
    """
    drawn, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    for axis, (by, part) in zip(axes, rows.groupby("by"), strict=True):
        # the first are drawn broadest, so that a line shows as a rim where others lie on it
        for width, (method, colour) in zip(np.linspace(3.6, 1, len(colours)), colours.items(), strict=True):
            mean = part[part["method"] == method].groupby("place")[["at", "error"]].mean()
            dots = {"marker": "o", "markersize": 2 + width, "linewidth": width}
            axis.plot(mean["at"], mean["error"], color=colour, label=method, **dots)
        if by == "frequency":
            axis.axhline(1, color="0.4", linestyle="--")
            axis.set(
                yscale="log", ylim=(1e-5, 3), xlabel="frequency in cycles per pixel", ylabel="error over signal (power)"
            )
            if known is not None:
                axis.axvline(known, color="0.4", linestyle=":")
        else:
            axis.set(xscale="log", ylabel="error in grey levels (RMS)")
            axis.set_xlabel("steepness of the reference in grey levels per pixel")
    axes[0].legend(title="", fontsize="small")
    return drawn
