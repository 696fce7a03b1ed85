"""Photos in files: reading anything that is one, writing without ever leaving half a file, finding and pairing them."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

import rvlib
from rvlib.errors import UserError
from rvlib.files import write_atomically

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# restored photos are looked at closely: what a format loses by default (JPEG quality 75) would hide what was gained
SAVE_OPTIONS = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}
SAMPLES = {
    "astronaut": "skimage/data/astronaut.png",
    "chelsea": "skimage/data/chelsea.png",
    "coffee": "skimage/data/coffee.png",
    "rocket": "skimage/data/rocket.jpg",
    "flower": "sklearn/datasets/images/flower.jpg",
    "china": "sklearn/datasets/images/china.jpg",
    "motorcycle_left": "skimage/data/motorcycle_left.png",
    "hubble_deep_field": "skimage/data/hubble_deep_field.jpg",
}


def read(path: str | Path) -> np.ndarray:
    """Read a photo as uint8 H x W x 3 RGB, turned as its EXIF says.

    Grey and palette photos become RGB, CMYK is converted, 16 bits are rounded to 8, floats count as 0 to 1 or 0 to 255,
    and what is transparent is laid on white. Of several frames the first is read. Raises UserError for a missing file
    and for one that is no photo, damaged, or beyond Pillow's limit of pixels (179 million).
    """
    path = Path(path)
    if not path.is_file():
        reason = "is a folder, not a photo" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {reason}: check the name of the photo")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata and from half its limit of pixels on
            with Image.open(path) as image:
                image.load()
                return _rgb(upright(image))
    except Image.DecompressionBombError:
        raise UserError(f"{path} has too many pixels to be read safely: make it smaller first") from None
    except MemoryError:
        raise UserError(f"{path} does not fit into memory: make it smaller first") from None
    except PermissionError:
        raise UserError(f"{path} may not be read: change its permissions") from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is no readable photo (its format is unknown): export it as PNG or JPEG") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise whatever they run into
        raise UserError(f"{path} is no readable photo ({error}): it may be damaged, export it again") from error


def write(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 H x W x 3 to a file in one step; its suffix names the format.

    JPEG is written at quality 95, the other formats without loss. Raises UserError for an unknown suffix and where the
    file cannot be written; what stood there before then stays.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: choose a name that ends in one of {', '.join(sorted(SUFFIXES))}")
    if image.dtype != np.uint8:
        raise ValueError(f"a photo is written from uint8, not {image.dtype}")
    kind = Image.registered_extensions()[path.suffix.lower()]
    options = SAVE_OPTIONS.get(kind, {})
    write_atomically(path, lambda temporary: Image.fromarray(image).save(temporary, format=kind, **options))


def sample(name: str) -> np.ndarray:
    """One of the photos that the installed scikit-image and scikit-learn bring (`SAMPLES` lists them)."""
    if name not in SAMPLES:
        raise UserError(f"there is no sample photo {name!r}: choose one of {', '.join(SAMPLES)}")
    package, _, inside = SAMPLES[name].partition("/")
    return read(Path(importlib.util.find_spec(package).origin).parent / inside)


def folder(path: str | Path) -> list[Path]:
    """The photo files of a folder, sorted by name; raises UserError where there is none."""
    path = Path(path)
    if not path.is_dir():
        reason = "is not a folder" if path.exists() else "does not exist, so it is not a folder"
        raise UserError(f"{path} {reason}")
    hidden = (".", "~")  # what other systems leave beside photos ("._photo.jpg") is none
    found = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(hidden)]
    found = sorted(file for file in found if file.is_file())
    if not found:
        raise UserError(f"{path} holds no photos ({', '.join(sorted(SUFFIXES))})")
    return found


def pair_folder(degraded: str | Path, reference: str | Path) -> list[tuple[Path, Path]]:
    """Pairs (degraded, reference) of two folders, matched by name without suffix and sorted.

    Raises UserError where a photo of one folder has no partner, or several, in the other.
    """
    sides = []
    for path in (degraded, reference):
        photos: dict[str, Path] = {}
        for file in folder(path):
            if file.stem in photos:
                raise UserError(f"{file} and {photos[file.stem].name} have the same name: rename or remove one of them")
            photos[file.stem] = file
        sides.append(photos)
    for mine, others, place in ((sides[0], sides[1], reference), (sides[1], sides[0], degraded)):
        single = sorted(mine.keys() - others.keys())
        if single:
            more = f" (and {len(single) - 1} more photos)" if len(single) > 1 else ""
            raise UserError(f"{mine[single[0]]}{more} has no partner in {place}: pairs need the same names")
    return [(sides[0][name], sides[1][name]) for name in sides[0]]


def place(root: str | Path, name: str, *, split: str = "test", role: str = "reference") -> Path:
    """The folder of a set: below `root` where it was fetched to, or a folder of your own where `name` has a slash.

    Your own folder holds photos, or pairs of them in `reference/` and `degraded/`; it serves as any split.
    """
    if "/" not in name:
        return Path(root) / name / split / role
    own = rvlib.ROOT / Path(name).expanduser()
    return own if role == "reference" and not (own / role).is_dir() else own / role


def load_set(
    root: str | Path, name: str, *, split: str = "test", role: str = "reference", limit: int | None = None
) -> dict[str, np.ndarray]:
    """The photos of a set, which `place` finds, by name: {stem: uint8 H x W x 3}, the first `limit` of them."""
    return {file.stem: read(file) for file in folder(place(root, name, split=split, role=role))[:limit]}


def load_sets(root: str | Path, names: list[str], *, split: str, role: str = "reference") -> dict[str, np.ndarray]:
    """The photos of several sets as one, "set/photo" being their names; sets without photos of this role add none."""
    loaded = {}
    for name in names:
        if role == "reference" or place(root, name, split=split, role=role).is_dir():
            found = load_set(root, name, split=split, role=role)
            loaded |= {f"{name}/{photo}": image for photo, image in found.items()}
    return loaded


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF data is no reason to refuse the photo
        return image


def _rgb(image: Image.Image) -> np.ndarray:
    """Any mode of Pillow to uint8 H x W x 3."""
    if image.mode == "F" or image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.float64)
        if image.mode != "F":
            eight_bits = image.mode == "I" and grey.max() <= 255  # that mode holds either
            grey = grey if eight_bits else grey / 257
        elif 0 <= grey.min() and grey.max() <= 1:
            grey = 255 * grey
        grey = np.nan_to_num(grey).round().clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))  # a copy that may be written to
