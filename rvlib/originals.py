"""A photo with everything that its file says beside RGB: depth, grey, alpha, colour profile, EXIF.

`rvlib restore` hands back what it was given: a grey photo stays grey, 16 bits stay 16 bits, transparency, profile and
EXIF are kept (the orientation is applied and set to upright, for a turned photo is restored turned).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from rvlib import photos
from rvlib.degrade import imresize
from rvlib.errors import UserError
from rvlib.files import write_atomically

ORIENTATION = 0x0112  # EXIF tag
LOSSLESS = {".png", ".tif", ".tiff", ".bmp", ".webp"}


@dataclass
class Original:
    """RGB as uint8 or uint16 H x W x 3, and what else there was."""

    image: np.ndarray
    is_grey: bool = False
    alpha: np.ndarray | None = None  # uint8 H x W
    profile: bytes | None = None
    exif: bytes | None = None

    def write(self, path: Path, restored: np.ndarray) -> None:
        """Write a restored version of the photo (its dtype, H' x W' x 3) to a file, in one step.

        Alpha is enlarged by bicubic interpolation where the photo was; JPEG, which has none, gets a white ground.
        """
        if path.suffix.lower() not in photos.SUFFIXES:
            raise UserError(f"{path}: choose a name that ends in one of {', '.join(sorted(photos.SUFFIXES))}")
        kind = Image.registered_extensions()[path.suffix.lower()]
        deep = restored.dtype == np.uint16
        if deep and kind not in (("PNG", "TIFF") if self.is_grey else ("TIFF",)):
            raise UserError(f"{path}: 16 bits are kept by .tif{' and .png' if self.is_grey else ''} alone")
        pixels = restored.mean(axis=2).round().astype(restored.dtype) if self.is_grey else restored
        if deep and kind == "TIFF":
            write_atomically(path, lambda temporary: tifffile.imwrite(temporary, pixels))
            return
        image = Image.fromarray(pixels)
        if self.alpha is not None:
            scale = restored.shape[0] // self.alpha.shape[0]
            image.putalpha(Image.fromarray(self.alpha if scale == 1 else imresize(self.alpha, scale)))
            if kind in ("JPEG", "BMP"):
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
                image = image.convert("L" if self.is_grey else "RGB")
        kept = {"icc_profile": self.profile, "exif": self.exif} if kind != "BMP" else {}
        options = {**photos.SAVE_OPTIONS.get(kind, {}), **{name: value for name, value in kept.items() if value}}
        write_atomically(path, lambda temporary: image.save(temporary, format=kind, **options))


def read(path: Path) -> Original:
    """Read a photo with all that belongs to it; raises UserError as `photos.read` does, and for several frames."""
    try:
        return _read(path)
    except UserError:
        raise
    except Exception as error:  # damaged metadata makes the readers raise whatever they run into
        raise UserError(f"{path} is no readable photo ({error}): it may be damaged, export it again") from error


def _read(path: Path) -> Original:
    if path.suffix.lower() in (".tif", ".tiff"):
        deep = _deep_tiff(path)
        if deep is not None:
            return deep
    rgb = photos.read(path)
    with Image.open(path) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise UserError(f"{path} has {image.n_frames} frames or pages: save the one to restore as a photo")
        if image.format == "PNG" and _is_deep_colour(path):
            raise UserError(f"{path} has 16 bits per colour, which PNG readers here reduce to 8: export it as TIFF")
        exif = image.getexif()
        exif.pop(ORIENTATION, None)  # `photos.read` has turned the pixels
        original = Original(rgb, profile=image.info.get("icc_profile"), exif=exif.tobytes() if exif else None)
        original.is_grey = image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I")
        if image.mode == "CMYK":
            original.profile = None  # it describes inks, and the pixels are RGB now
        if image.has_transparency_data:
            turned = photos.upright(image).convert("RGBA")
            original.image, original.alpha = np.array(turned.convert("RGB")), np.array(turned.getchannel("A"))
        if image.mode.startswith("I;16"):
            original.image = np.repeat(np.asarray(photos.upright(image)).astype(np.uint16)[..., None], 3, axis=2)
    return original


def _deep_tiff(path: Path) -> Original | None:
    """A 16-bit colour TIFF, which Pillow cannot read; None for every other file."""
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            if len(file.pages) > 1 or page.dtype != np.uint16 or page.ndim != 3 or page.shape[2] not in (3, 4):
                return None
            if page.size > 4 * Image.MAX_IMAGE_PIXELS:
                raise UserError(f"{path} has too many pixels to be read safely: make it smaller first")
            pixels = page.asarray()
            if pixels.shape != page.shape:  # damaged tags contradict each other
                return None
            return Original(pixels[..., :3])
    except (OSError, ValueError, IndexError, tifffile.TiffFileError):
        return None  # `photos.read` says what is wrong


def _is_deep_colour(path: Path) -> bool:
    """Depth and colour type stand at fixed places of a PNG's header."""
    with path.open("rb") as file:
        header = file.read(26)
    return header[24] == 16 and header[25] in (2, 6)
