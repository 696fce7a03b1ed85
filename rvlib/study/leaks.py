"""The leak check: is a test photo, or a near duplicate of one, among the training photos?"""

import numpy as np
import pandas as pd
from PIL import Image

SIDE = 16  # a hash has SIDE x SIDE bits
THUMBNAIL = 32  # side of the crops that are compared where hashes come near
BITS = 60  # hashes that differ in at most so many of 256 bits (two photos: about 128) are looked at more closely
CORRELATION = 0.85  # and count as duplicates if their thumbnails correlate so much; different photos stay below 0.77
DEGREE = 2  # of the polynomial that is taken off a thumbnail first: bright corners and a paler sky are no content
FRACTIONS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # sides of the crops in parts of the photo's
POSITIONS = 5  # of a crop along each side
CONTRAST = 8.0  # grey levels of standard deviation of what is left; a flatter crop is like any other flat crop
ROWS = 2**10  # hashes compared at a time


def find_leaks(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> pd.DataFrame:
    """Test photos that stand, whole or in part, in the training photos (uint8 H x W x 3 by name).

    Difference hashes of the photos and of their overlapping crops, down to half a side, are compared each with each;
    what comes near is confirmed by the correlation of small thumbnails less their smooth shading, so that two skies are
    no duplicate. Survives re-encoding, resizing, shifts and crops that keep most of a photo; a mirrored or turned photo
    is another photo.
    One row per pair, the closest match of its crops: test, train, bits that differ (of 256), correlation.
    """
    train_names, train_signs, train_thumbnails = _describe(train)
    test_names, test_signs, test_thumbnails = _describe(test)
    found: dict[tuple[str, str], tuple[int, float]] = {}
    for start in range(0, len(test_signs), ROWS):
        agreement = test_signs[start : start + ROWS] @ train_signs.T  # 256 bits: the same less the different ones
        rows, columns = np.nonzero(agreement >= SIDE**2 - 2 * BITS)
        for part in np.array_split(np.arange(len(rows)), len(rows) // ROWS + 1):
            tests, trains = rows[part] + start, columns[part]
            correlations = (test_thumbnails[tests] * train_thumbnails[trains]).sum(axis=1)
            near = correlations >= CORRELATION
            for of_test, of_train, correlation in zip(tests[near], trains[near], correlations[near], strict=True):
                pair = (test_names[of_test], train_names[of_train])
                if correlation > found.get(pair, (0, 0.0))[1]:
                    bits = (SIDE**2 - agreement[of_test - start, of_train]) / 2
                    found[pair] = (int(bits), float(correlation))
    rows = [(*pair, bits, round(correlation, 4)) for pair, (bits, correlation) in sorted(found.items())]
    return pd.DataFrame(rows, columns=["test", "train", "bits", "correlation"])


def _describe(photos: dict[str, np.ndarray]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Of every crop with contrast: its photo's name, its hash as signs, its thumbnail less shading, of length 1."""
    names, signs, thumbnails = [], [], []
    smooth = _polynomials()
    for name, photo in photos.items():
        grey = Image.fromarray(photo).convert("L")
        # one small image stands for the photo: its crops need no more than a thumbnail's resolution
        grey.thumbnail((128, 128), Image.Resampling.BOX)
        for box in _boxes(*grey.size):
            small = np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, box=box), dtype=np.float32)
            small = small.ravel() - smooth @ (smooth.T @ small.ravel())
            if small.std() < CONTRAST:
                continue
            tiny = np.asarray(grey.resize((SIDE + 1, SIDE), Image.Resampling.BOX, box=box), dtype=np.int16)
            names.append(name)
            signs.append(np.where(tiny[:, 1:] > tiny[:, :-1], 1, -1).ravel())
            thumbnails.append(small / np.linalg.norm(small))
    return (
        names,
        np.array(signs, dtype=np.float32).reshape(-1, SIDE**2),
        np.array(thumbnails, dtype=np.float32).reshape(-1, THUMBNAIL**2),
    )


def _polynomials() -> np.ndarray:
    """An orthonormal basis of the polynomials of a thumbnail's two coordinates, one column each; the first is flat."""
    across, down = np.meshgrid(*2 * [np.linspace(-1, 1, THUMBNAIL, dtype=np.float32)])
    powers = [(i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i)]
    return np.linalg.qr(np.stack([(across**i * down**j).ravel() for i, j in powers], axis=1))[0]


def _boxes(width: int, height: int) -> list[tuple[float, float, float, float]]:
    boxes = []
    for fraction in FRACTIONS:
        w, h = width * fraction, height * fraction
        for across in np.unique(np.linspace(0, width - w, POSITIONS)):
            for down in np.unique(np.linspace(0, height - h, POSITIONS)):
                boxes.append((across, down, across + w, down + h))
    return boxes
