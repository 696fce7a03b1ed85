"""The leak check: is a test photo, or a near duplicate of one, among the training photos?"""

import numpy as np
import pandas as pd
from PIL import Image

SIDE = 16  # a hash has SIDE x SIDE bits
BITS = 44  # hashes that differ in at most so many of 256 bits are looked at more closely
CORRELATION = 0.9  # and count as duplicates if their 48 x 48 thumbnails correlate so much
FRACTIONS = (1.0, 0.5)  # sides of the crops: the whole photo and its overlapping halves


def find_leaks(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> pd.DataFrame:
    """Test photos that stand, whole or cropped, in the training photos (uint8 H x W x 3 by name).

    Difference hashes of the whole photos and of overlapping crops of half their sides are compared; what comes near is
    confirmed by the correlation of small thumbnails, so that two skies are no duplicate. Survives re-encoding,
    resizing and shifts by a few pixels. One row per pair: test, train, bits that differ, correlation.
    """
    train_names, train_hashes, train_thumbnails = _describe(train)
    test_names, test_hashes, test_thumbnails = _describe(test)
    found = {}
    for name, code, thumbnail in zip(test_names, test_hashes, test_thumbnails, strict=True):
        differing = np.count_nonzero(train_hashes != code, axis=1)
        for index in np.flatnonzero(differing <= BITS):
            correlation = float(np.mean(train_thumbnails[index] * thumbnail))
            pair = (name, train_names[index])
            if correlation >= CORRELATION and correlation > found.get(pair, (0, 0.0))[1]:
                found[pair] = (int(differing[index]), correlation)
    rows = [(*pair, bits, round(correlation, 4)) for pair, (bits, correlation) in found.items()]
    return pd.DataFrame(rows, columns=["test", "train", "bits", "correlation"])


def _describe(photos: dict[str, np.ndarray]) -> tuple[list[str], np.ndarray, np.ndarray]:
    names, hashes, thumbnails = [], [], []
    for name, photo in photos.items():
        grey = Image.fromarray(photo).convert("L")
        # one small image stands for the photo: its crops need no more than a thumbnail's resolution
        grey.thumbnail((256, 256), Image.Resampling.BOX)
        for box in _boxes(*grey.size):
            small = np.asarray(grey.resize((48, 48), Image.Resampling.BOX, box=box), dtype=np.float64)
            if small.std() < 8:  # a flat crop is like any other flat crop
                continue
            tiny = np.asarray(grey.resize((SIDE + 1, SIDE), Image.Resampling.BOX, box=box), dtype=np.float64)
            names.append(name)
            hashes.append((tiny[:, 1:] > tiny[:, :-1]).ravel())
            thumbnails.append((small - small.mean()) / small.std())
    return names, np.array(hashes).reshape(-1, SIDE * SIDE), np.array(thumbnails).reshape(-1, 48, 48)


def _boxes(width: int, height: int) -> list[tuple[float, float, float, float]]:
    boxes = []
    for fraction in FRACTIONS:
        w, h = width * fraction, height * fraction
        for across in np.unique(np.linspace(0, width - w, 3)):
            for down in np.unique(np.linspace(0, height - h, 3)):
                boxes.append((across, down, across + w, down + h))
    return boxes
