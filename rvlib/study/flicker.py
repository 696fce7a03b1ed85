"""Clips made of a photo by a known camera motion, and how much of a clip changes that should not: flicker.

The measure is the root of the warping error of Lai et al. 2018, *Learning Blind Video Temporal Consistency*, which is a
mean square, without its mask of hidden places: a camera that moves over a flat photo hides nothing.
"""

from itertools import pairwise

import numpy as np
from scipy.ndimage import map_coordinates
from skimage.color import rgb2gray
from skimage.registration import optical_flow_ilk

WINDOW = 12  # pixels around a place whose motion is one: small enough for a scene, large enough not to follow noise


def pan(photo: np.ndarray, path: np.ndarray, side: int) -> list[np.ndarray]:
    """The frames of a camera that moves over a photo: side x side pixels each, from (row, column) of the path on.

    Positions are whole pixels, so that frames hold the photo's own pixels, moved without any interpolation.
    """
    return [photo[top : top + side, left : left + side] for top, left in path]


def known(path: np.ndarray) -> list[np.ndarray]:
    """The motion from each frame of a pan to the next, as `estimated` gives it: (2 1 1), rows and columns."""
    return [-step[:, None, None].astype(np.float64) for step in np.diff(path, axis=0)]


def estimated(frames: list[np.ndarray]) -> list[np.ndarray]:
    """The motion of each pixel to the next frame, (2 H W), by iterative Lucas-Kanade on grey frames.

    Le Besnerais and Champagnat 2005, as scikit-image has it.
    """
    grey = [rgb2gray(frame) for frame in frames]
    return [optical_flow_ilk(*pair, radius=WINDOW) for pair in pairwise(grey)]


def moved_back(frame: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """What a frame shows at the places that `motion` names, H x W x 3 in float64 (cubic splines)."""
    places = np.mgrid[: frame.shape[0], : frame.shape[1]] + motion
    planes = np.moveaxis(frame.astype(np.float64), -1, 0)
    return np.stack([map_coordinates(plane, places, order=3, mode="nearest") for plane in planes], axis=-1)


def flicker(frames: list[np.ndarray], motions: list[np.ndarray], *, margin: int = 16) -> float:
    """How much the same place changes from frame to frame: root mean square in grey levels, of uint8 H x W x 3 frames.

    Where each place goes, `known` or `estimated` says; `margin` pixels at the frames' edges do not count, for
    there a network sees less, and places leave the picture.
    """
    height, width = frames[0].shape[:2]
    changes = [
        (moved_back(after, motion) - before)[margin : height - margin, margin : width - margin]
        for (before, after), motion in zip(pairwise(frames), motions, strict=True)
    ]
    return float(np.sqrt(np.mean(np.square(changes))))
