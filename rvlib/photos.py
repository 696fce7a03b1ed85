"""Photos in files: reading anything that is one, writing without ever leaving half a file, finding and pairing them."""

import importlib.util
import os
from collections import Counter
from pathlib import Path

import numpy as np

import rvlib
from rvlib import originals
from rvlib.errors import UserError
from rvlib.files import reason_of
from rvlib.originals import SUFFIXES, UNREAD, Original

READ = SUFFIXES | {".avif", ".gif", ".jfif", ".jpe", ".jp2", ".ppm", ".pgm", ".qoi", ".tga"}
"""What a folder's photos end in; `SUFFIXES` are those that are written."""

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

    Grey and palette photos become RGB, inks are converted by their profile, 16 bits are rounded to 8, and what is
    transparent is laid on white. Of several frames the first is read. Floats count as 0 to 1, or as 0 to 255 where most
    are above 1. Raises UserError for a missing file and for one that is no photo, damaged, or beyond Pillow's limit of
    pixels (179 million). `originals.read` gives all that belongs to a photo.
    """
    return originals.eight_bits(originals.read(path, exactly=False))


def write(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 H x W x 3 to a file in one step; its suffix names the format.

    JPEG is written at quality 95, the other formats without loss. Raises UserError for another kind of array, for no
    pixels, for an unknown suffix and where the file cannot be written; what stood there before then stays.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3:
        found = f"one of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"a photo is written from an array H x W x 3, not {found}")
    if image.dtype != np.uint8:
        raise UserError(f"a photo is written from uint8, not {image.dtype}: round it first")
    if not image.size:
        raise UserError("the photo has no pixels: there is nothing to write")
    Original(image).write(Path(path), image)


def sample(name: str) -> np.ndarray:
    """One of the photos that the installed scikit-image and scikit-learn bring (`SAMPLES` lists them)."""
    if name not in SAMPLES:
        raise UserError(f"there is no sample photo {name!r}: choose one of {', '.join(SAMPLES)}")
    return read(in_package(SAMPLES[name]))


def in_package(path: str) -> Path:
    """The place of a file that an installed package brings: "skimage/data/coffee.png"."""
    package, _, inside = path.partition("/")
    return Path(importlib.util.find_spec(package).origin).parent / inside


def middle(photo: np.ndarray, side: int) -> np.ndarray:
    """The middle of a photo, at most `side` pixels in height and width."""
    top, left = (max(0, (each - side) // 2) for each in photo.shape[:2])
    return photo[top : top + side, left : left + side]


def folder(path: str | Path) -> list[Path]:
    """The photo files of a folder, sorted by name; raises UserError where there is none, or it may not be read."""
    found, faults = walk(Path(path))
    if faults:
        raise UserError(faults[0])
    if not found:
        raise UserError(no_photos(Path(path)))
    return found


def walk(path: Path, *, recursive: bool = False) -> tuple[list[Path], list[str]]:
    """The photo files of a folder, sorted, and what of it could not be looked into, in words.

    What other systems leave beside photos ("._photo.jpg", __MACOSX) is none. Links to folders are not followed. Raises
    UserError where there is no such folder.
    """
    if not os.path.isdir(path):
        reason = "is not a folder" if os.path.exists(path) else "does not exist, so it is not a folder"
        raise UserError(f"{path} {reason}: name a folder of photos")
    found, faults = [], []

    def note(error: OSError) -> None:
        may_not = isinstance(error, PermissionError)
        reason = "may not be read: change its permissions" if may_not else f"could not be read {reason_of(error)}"
        faults.append(f"{error.filename} {reason}")

    for place, folders, names in os.walk(path, onerror=note):
        folders[:] = [name for name in folders if recursive and _is_seen(name)]
        files = [Path(place) / name for name in names if _is_seen(name) and Path(name).suffix.lower() in READ]
        # a link to nothing is named later, a device or a pipe is no photo
        found += [file for file in files if os.path.isfile(file) or not os.path.exists(file)]
    return sorted(found), faults


def no_photos(path: Path, *, recursive: bool = False) -> str:
    """What is said of a folder without photos."""
    inside = " and its folders hold" if recursive else " holds"
    told = [f"{path}{inside} no photos ({', '.join(sorted(READ))})", passed_over(path, recursive=recursive)]
    if not recursive and any(each.is_dir() and _is_seen(each.name) for each in Path(path).iterdir()):
        told.append("the folders in it are not looked into (restore: give --recursive)")
    return "; ".join(each for each in told if each)


def passed_over(path: Path, *, recursive: bool = False) -> str:
    """In words how many files of a folder are photos that nothing here reads, or clips; empty where there are none."""
    from rvlib import video  # which reads photos itself

    kinds: Counter[str] = Counter()
    for _, folders, names in os.walk(path):
        folders[:] = [name for name in folders if recursive and _is_seen(name)]
        kinds.update(Path(name).suffix.lower() for name in names if _is_seen(name))
    unread = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind in UNREAD)
    told = [f"{unread} in {path} cannot be read here: export them as PNG, TIFF or JPEG"] if unread else []
    clips = sum(count for kind, count in kinds.items() if kind in video.READ)
    if clips:
        told.append(f"clips in {path} ({clips}) are left out: `rvlib restore` takes one at a time, by its name")
    return "; ".join(told)


def _is_seen(name: str) -> bool:
    return not name.startswith((".", "~$")) and name != "__MACOSX"


def by_name(files: list[Path]) -> dict[str, Path]:
    """Photo files by their name without suffix; where two share it (a.png, a.jpg), by the whole name."""
    stems, whole = Counter(file.stem for file in files), {file.name for file in files}
    # the stem of a.png.tif is another's whole name
    return {file.name if stems[file.stem] > 1 or file.stem in whole else file.stem: file for file in files}


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
            told = "pairs need the same names, without an ending such as x4"
            raise UserError(f"{mine[single[0]]}{more} has no partner in {place}: {told}")
    return [(sides[0][name], sides[1][name]) for name in sides[0]]


def place(root: str | Path, name: str, *, split: str = "test", role: str = "reference") -> Path:
    """The folder of a set: below `root` where it was fetched to, or a folder of your own where `name` has a slash.

    Your own folder holds photos, or pairs of them in `reference/` and `degraded/`; it serves as any split.
    """
    if "/" not in name:
        return Path(root) / name / split / role
    own = rvlib.ROOT / os.path.expanduser(name)  # leaves an unknown user's name as it is
    return own if role == "reference" and not (own / role).is_dir() else own / role


def load_set(
    root: str | Path, name: str, *, split: str = "test", role: str = "reference", limit: int | None = None
) -> dict[str, np.ndarray]:
    """The photos of a set, which `place` finds, by name (`by_name`): uint8 H x W x 3, the first `limit` of them."""
    files = by_name(folder(place(root, name, split=split, role=role)))
    return {photo: read(file) for photo, file in list(files.items())[:limit]}


def files_of(root: str | Path, names: list[str], *, split: str, role: str = "reference") -> dict[str, Path]:
    """The photo files of several sets as one, by "set/photo"; sets without photos of this role add none."""
    found = {}
    for name in names:
        where = place(root, name, split=split, role=role)
        if role == "reference" or where.is_dir():
            found |= {f"{name}/{photo}": file for photo, file in by_name(folder(where)).items()}
    return found


def load_sets(root: str | Path, names: list[str], *, split: str, role: str = "reference") -> dict[str, np.ndarray]:
    """The photos of `files_of`: uint8 H x W x 3."""
    return {name: read(file) for name, file in files_of(root, names, split=split, role=role).items()}
