"""Photos in files: reading anything that is one, writing without ever leaving half a file."""

import importlib.resources
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rvlib.errors import UserError
from rvlib.files import write_atomically

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
SAMPLES = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "chelsea": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
}


def read(path: str | Path) -> np.ndarray:
    """Read a photo as uint8 H x W x 3 RGB, turned as its EXIF says; raises UserError for what is none."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist: check the name of the photo")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image = ImageOps.exif_transpose(image)
                if image.mode in ("I;16", "I;16B", "I;16L", "I"):
                    return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
                return np.array(image.convert("RGB"))  # a copy that may be written to
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{path} has too many pixels to be read safely: make it smaller first") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is no readable photo ({error}): it may be damaged, export it again") from None


def write(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 H x W x 3 to a file, in one step."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: choose a name that ends in one of {', '.join(sorted(SUFFIXES))}")
    kind = Image.registered_extensions()[path.suffix.lower()]
    write_atomically(path, lambda temporary: Image.fromarray(image).save(temporary, format=kind))


def sample(name: str) -> np.ndarray:
    """One of the test photos that the installed scikit-image and scikit-learn bring."""
    if name not in SAMPLES:
        raise UserError(f"there is no sample photo {name!r}: choose one of {', '.join(SAMPLES)}")
    package, file = SAMPLES[name]
    return read(Path(str(importlib.resources.files(package))) / file)


def folder(path: str | Path) -> list[Path]:
    """The photo files of a folder, sorted by name; raises UserError where there is none."""
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path} is not a folder")
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"{path} holds no photos ({', '.join(sorted(SUFFIXES))})")
    return found


def load_set(root: Path, name: str, *, split: str = "test", role: str = "reference", limit: int | None = None):
    """The photos of a fetched set by name: {stem: uint8 H x W x 3}."""
    return {file.stem: read(file) for file in folder(Path(root) / name / split / role)[:limit]}
