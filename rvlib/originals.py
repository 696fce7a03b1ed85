"""One way in and one way out for a photo: its pixels in 8 or 16 bits, sRGB-like RGB or grey, and what belongs to them.

`rvlib restore` hands back what it was given: a grey photo stays grey, 16 bits stay 16 bits, and transparency, profile,
EXIF, XMP and resolution are kept where the format of the result holds them (`Original.plan` says what it does not).
Pillow reads 8 bits and every compression, tifffile reads deeper TIFFs and writes all of them, ImageCms knows inks.
"""

import io
import os
import struct
import warnings
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from scipy.ndimage import distance_transform_edt

from rvlib import metadata
from rvlib.degrade import resize_photo, resized_side
from rvlib.errors import UserError
from rvlib.files import reason_of, write_atomically
from rvlib.metadata import Metadata

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
"""The formats that photos are written in."""

UNREAD = {".heic", ".heif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".psd", ".exr"}
"""Photos that other programs read: they are named, not passed over in silence."""

# restored photos are looked at closely: what a format loses by default (JPEG quality 75) would hide what was gained
SAVE_OPTIONS = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True, "exact": True}}
LARGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "PNG": 2**31 - 1, "BMP": 2**31 - 1, "TIFF": 2**31 - 1}  # pixels
WHITE = 65_535
STRIP = 256  # rows of a large photo that are worked on at a time
MOST_PAGES = 64  # that are looked at: two are too many already
ELSEWHERE = {b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1"}  # brands of HEIF, in its first bytes
# what Pillow is to try, whatever a name ends in: no EPS, for which it starts Ghostscript, and nothing that is no photo
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "GIF", "BMP", "DIB", "JPEG2000", "PPM", "QOI", "TGA", "ICO")
IN_EIGHT_BITS = ("JPEG2000", "AVIF")  # which Pillow reads so, whatever they hold
COLOURS = {0: 1, 1: 1, 2: 3}  # channels by a TIFF's photometric: grey with white as zero, grey, RGB
MULTIPLIED_IN, BESIDE = 1, 2  # how a TIFF's extra channel is alpha


@dataclass
class Original:
    """RGB as uint8 or uint16 H x W x 3, upright, and what else there was.

    `alpha` has the depth of the image; `notes` say what reading could not keep.
    """

    image: np.ndarray
    is_grey: bool = False
    alpha: np.ndarray | None = None  # H x W
    metadata: Metadata = field(default_factory=Metadata)
    notes: list[str] = field(default_factory=list)

    @property
    def visible(self) -> np.ndarray:
        """The image to restore: under full transparency, where one colour stands, the nearest visible one.

        A restoration looks around each pixel, and what a cut-out left there would come out as a fringe.
        """
        hidden = None if self.alpha is None else self.alpha == 0
        if hidden is None or not hidden.any() or hidden.all():
            return self.image
        if np.ptp(self.image[hidden], axis=0).any():  # a picture that a mask hides
            return self.image
        rows, columns = distance_transform_edt(hidden, return_distances=False, return_indices=True)
        return self.image[rows, columns]

    def plan(self, path: Path, factor: float = 1) -> list[str]:
        """What the format of `path` will not hold of this photo, `factor` times as large, in words: before the work.

        Raises UserError where it cannot hold the photo at all: an unknown suffix, its depth or its size.
        """
        kind = format_of(path)
        height, width = (resized_side(side, factor) for side in self.image.shape[:2])
        most = LARGEST_SIDE[kind]
        if max(height, width) > most:
            raise UserError(f"{path}: {kind} holds sides of up to {most:,} pixels, not {width} x {height}: choose .tif")
        is_plain = self.is_grey and self.alpha is None
        if self.image.dtype == np.uint16 and kind not in (("PNG", "TIFF") if is_plain else ("TIFF",)):
            raise UserError(
                f"{path}: a photo of 16 bits needs .tif{' or .png' if is_plain else ''}: choose that ending"
            )
        notes = list(self.notes)
        if self.alpha is not None and kind in ("JPEG", "BMP"):
            notes.append(f"{kind} holds no transparency: white is behind the photo")
        return notes + self.metadata.kept(kind, width, height)[1]

    def write(
        self,
        path: Path,
        restored: np.ndarray,
        *,
        factor: float | None = None,
        quality: int | None = None,
        made_by: str = "",
    ) -> None:
        """Write a restored version of the photo (its dtype, H' x W' x 3) to a file, in one step.

        It is `factor` times as large, a whole number without it. Alpha is resized by bicubic interpolation; JPEG and
        BMP, which hold none, get a white ground. `quality` is that of JPEG and lossy WebP; `made_by` is written beside
        the pixels (`metadata.maker`). Raises UserError as `plan` does, and where the file cannot be written.
        """
        path = Path(path)
        factor = restored.shape[0] // self.image.shape[0] if factor is None else factor
        self.plan(path, factor)
        kind = format_of(path)
        kept, _ = self.metadata.kept(kind, restored.shape[1], restored.shape[0])
        if made_by:
            kept = kept.signed(kind, made_by)
        pixels = _grey(restored) if self.is_grey else restored
        alpha = None if self.alpha is None else resize_photo(self.alpha, factor)
        if kind == "TIFF":
            write_atomically(path, lambda temporary: _write_tiff(temporary, pixels, alpha, kept))
            return
        image = Image.fromarray(pixels)
        if alpha is not None:
            image.putalpha(Image.fromarray(alpha))
            if kind in ("JPEG", "BMP"):
                image = on_white(image).convert("L" if self.is_grey else "RGB")
        save(image, path, quality=quality, **kept.options(kind))


def save(image: Image.Image, path: Path, *, quality: int | None = None, **options) -> None:
    """Write an image of Pillow's in one step, in the format of the name; raises UserError where it cannot be."""
    kind = format_of(path)
    options |= SAVE_OPTIONS.get(kind, {})
    if quality is not None and kind in ("JPEG", "WEBP"):
        options |= {"quality": quality} | ({"lossless": False} if kind == "WEBP" else {})
    content = io.BytesIO()  # what an encoder cannot do is told from what the disk cannot
    try:
        image.save(content, format=kind, **options)
    except Exception as error:  # encoders raise whatever they run into
        raise UserError(f"{path} could not be written as {kind} ({error}): choose .tif or .png") from None
    write_atomically(path, lambda temporary: Path(temporary).write_bytes(content.getbuffer()))


def read(path: str | Path, *, exactly: bool = True) -> Original:
    """Read a photo with all that belongs to it, turned as its EXIF says.

    Palettes and inks become RGB (inks by their profile); floats count as 0 to 1, or as 0 to 255 where most are above 1.
    Raises UserError, which names the file, for a missing or damaged one and for what is no photo of 8 or 16 bits; and,
    as long as it is to be read `exactly`, for several frames and for a depth that no reader here keeps. Otherwise the
    first frame is read, and such depths in 8 bits.
    """
    path = Path(path)
    try:
        if not path.is_file() or not path.stat().st_size:
            raise UserError(f"{path} {_no_file(path)}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata and from half its limit of pixels on
            original = _read_tiff(path, exactly=exactly)
            return _read_with_pillow(path, exactly=exactly) if original is None else original
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(_too_large(path)) from None
    except MemoryError:
        raise UserError(f"{path} does not fit into memory: make it smaller first") from None
    except UnidentifiedImageError:
        raise UserError(
            f"{path} is no readable photo (its format is {_unknown(path)}): export it as PNG or JPEG"
        ) from None
    except Exception as error:  # a damaged file makes the decoders raise whatever they run into
        if isinstance(error, PermissionError):
            raise UserError(f"{path} may not be read: change its permissions") from None
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{path} could not be read {reason_of(error)}") from None
        raise UserError(f"{path} is no readable photo ({error}): it may be damaged, export it again") from error


def from_image(image: Image.Image) -> Original:
    """A photo out of an image of Pillow's, of any mode, upright; raises UserError for 32-bit integers."""
    pixels, is_grey, alpha = _pixels(image)
    turn = metadata.orientation(image)
    return Original(turned(pixels, turn), is_grey, None if alpha is None else turned(alpha, turn))


def eight_bits(original: Original) -> np.ndarray:
    """The photo as uint8 H x W x 3: 16 bits rounded, what is transparent laid on white."""
    image, alpha = (None if each is None else _in_eight_bits(each) for each in (original.image, original.alpha))
    if alpha is None:
        return image
    return np.array(on_white(Image.fromarray(np.dstack([image, alpha]))).convert("RGB"))


def _in_eight_bits(pixels: np.ndarray) -> np.ndarray:
    """uint8 as it is, uint16 rounded to it."""
    return pixels if pixels.dtype == np.uint8 else ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def on_white(image: Image.Image) -> Image.Image:
    """An image with alpha laid on white, some rows at a time: whole, a large one would lie in memory four times."""
    image = image.convert("RGBA")
    for top in range(0, image.height, STRIP):
        box = (0, top, image.width, min(top + STRIP, image.height))
        strip = image.crop(box)
        image.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip), box)
    return image


def side_by_side(left: np.ndarray, right: np.ndarray) -> Image.Image:
    """Two photos of one size, uint8 or uint16 H x W x 3, as one of 8 bits."""
    height, width = left.shape[:2]
    both = Image.new("RGB", (2 * width, height))
    for column, pixels in ((0, left), (width, right)):
        for top in range(0, height, STRIP):
            both.paste(Image.fromarray(_in_eight_bits(pixels[top : top + STRIP])), (column, top))
    return both


def _grey(image: np.ndarray) -> np.ndarray:
    """The mean of the colours, rounded: H x W x 3 -> H x W."""
    strips = [image[top : top + STRIP] for top in range(0, len(image), STRIP)]
    return np.concatenate([strip.mean(axis=2).round().astype(image.dtype) for strip in strips])


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn H x W [x C] as an EXIF orientation (1 to 8) says."""
    if orientation in (5, 6, 7, 8):  # 5 swaps rows and columns; the others are that and a mirror or two
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def format_of(path: Path) -> str:
    """Pillow's name of the format that a name's suffix stands for; raises UserError for one that is not written."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: choose a name that ends in one of {', '.join(sorted(SUFFIXES))}")
    return {".jpg": "JPEG", ".tif": "TIFF"}.get(path.suffix.lower(), path.suffix[1:].upper())


def _no_file(path: Path) -> str:
    """Why there is no photo at a path, and what to do."""
    if os.path.islink(path) and not os.path.exists(path):
        return "is a link that leads to no file: check the name of the photo"
    if not os.path.exists(path):
        return "does not exist: check the name of the photo"
    if path.is_file():
        return "is empty: get it again"
    return f"is a {'folder' if path.is_dir() else 'pipe or device'}, not a photo: check the name of the photo"


def _too_large(path: Path) -> str:
    most = 2 * Image.MAX_IMAGE_PIXELS / 1e6  # where Pillow stops, so that a small file cannot fill the memory
    return f"{path} has too many pixels to be read safely, more than {most:.0f} million: make it smaller first"


def _unknown(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:] in ELSEWHERE:
        return "HEIC, which is not read here"
    return f"{path.suffix}, which is not read here" if path.suffix.lower() in UNREAD else "unknown"


# 8 bits, and 16 bits of grey: Pillow ----------------------------------------------------------------------------------


def _read_with_pillow(path: Path, *, exactly: bool) -> Original:
    # by its name, Pillow (13.0) maps a TIFF into memory, by the sides that it has when it is turned
    with path.open("rb") as opened, Image.open(opened, formats=FORMATS) as image:
        if image.format == "TIFF":  # Pillow stumbles over a mask
            with tifffile.TiffFile(path) as file:
                frames = _photos_in(file)
        else:
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # a camera's JPEG with a preview
        if exactly and frames > 1:
            raise UserError(f"{path} has {frames} frames or pages: save the one to restore as a photo")
        if exactly and _is_reduced(image):
            raise UserError(
                f"{path} has up to 16 bits per colour, which are read here as 8: export it as TIFF, uncompressed or "
                f"with ZIP"
            )
        image.load()
        try:
            original = from_image(image)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        original.metadata = metadata.of_image(image, path)
        if image.format == "MPO" and getattr(image, "n_frames", 1) > 1:
            original.notes.append("the other pictures in a camera's JPEG are left out")
        if image.mode in ("CMYK", "LAB"):
            original.notes.append(f"{image.mode} became sRGB")
        if image.format in IN_EIGHT_BITS and original.image.dtype == np.uint8:
            original.notes.append(f"{image.format} is read with 8 bits per colour")
    return original


def _is_reduced(image: Image.Image) -> bool:
    """Whether Pillow is about to make 8 bits of more: of what it unpacks, it gives the name or the largest number."""
    arguments = image.tile[0].args if image.tile else ""
    if image.format == "PPM":
        return image.mode == "RGB" and isinstance(arguments, tuple) and arguments[1] > 255
    raw = (
        arguments
        if isinstance(arguments, str)
        else next((each for each in arguments or () if isinstance(each, str)), "")
    )
    return ";16" in raw and raw != "BGR;16" and not image.mode.startswith("I")  # that one is 5 + 6 + 5 bits


def _pixels(image: Image.Image) -> tuple[np.ndarray, bool, np.ndarray | None]:
    """Any mode of Pillow: RGB, whether it is grey, alpha."""
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16)
        key = image.info.get("transparency")
        alpha = np.where(grey == key, 0, WHITE).astype(np.uint16) if isinstance(key, int) else None
        return _three(grey), True, alpha
    if image.mode == "F":
        return _three(_from_floats(np.asarray(image))), True, None
    if image.mode == "I" and image.format == "PPM":  # scaled to 16 bits by Pillow
        return _three(np.asarray(image).astype(np.uint16)), True, None
    if image.mode == "I":
        raise UserError("holds 32-bit integers, whose white is not stated: export it with 8 or 16 bits")
    if image.mode in ("CMYK", "LAB"):
        return np.array(_through_profile(image)), False, None
    is_grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
        return np.array(image.convert("RGB")), is_grey, np.array(image.getchannel("A"))
    return np.array(image.convert("RGB")), is_grey, None


def _through_profile(image: Image.Image) -> Image.Image:
    """Inks or CIELAB as sRGB: inks by their own profile where there is one."""
    try:
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, KeyError, TypeError, ValueError):
        return image.convert("RGB")


def _three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _from_floats(values: np.ndarray) -> np.ndarray:
    """Floats as uint16: 1 is white, and a few highlights beyond it are clipped; or 255 is, where most are above 1."""
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=np.inf, neginf=0.0)
    beyond, largest = float((values > 1).mean()), float(values[np.isfinite(values)].max(initial=0))
    if beyond <= 0.05 and largest <= 16:
        white = 1.0
    elif beyond >= 0.5 and 64 < largest <= 255:
        white = 255.0
    else:
        raise UserError(f"holds floats up to {largest:.3g}, and not which is white: export it with 8 or 16 bits")
    return (values / white * WHITE).round().clip(0, WHITE).astype(np.uint16)


# TIFFs that are not for Pillow: tifffile ------------------------------------------------------------------------------


def _read_tiff(path: Path, *, exactly: bool) -> Original | None:
    """A TIFF of more than 8 bits, which Pillow would reduce or misread, or of a layout that it does not know.

    None for every other file.
    """
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            is_deep = page.dtype not in (None, np.uint8, np.bool_)
            is_apart = page.axes == "SYX" and page.samplesperpixel == 2  # grey here, its alpha there
            if page.dtype is None or page.photometric is None or not (is_deep or is_apart or _is_strange(path)):
                return None
            return _page(path, page, _photos_in(file), exactly=exactly)
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from None
    except (PermissionError, MemoryError):
        raise
    except Exception:  # no TIFF, or a damaged one: Pillow says what is wrong
        return None


def _is_strange(path: Path) -> bool:
    """Whether Pillow does not know what it is."""
    try:
        with Image.open(path, formats=FORMATS):
            return False
    except UnidentifiedImageError:
        return True


def _photos_in(file: tifffile.TiffFile) -> int:
    """How many pages of a TIFF are photos, and not smaller copies or masks of one; a damaged file's never end."""
    return max(1, sum(not (page.is_reduced or page.is_mask) for page in islice(file.pages, MOST_PAGES)))


def _page(path: Path, page: tifffile.TiffPage, pages: int, *, exactly: bool) -> Original | None:
    """The photo in a page of a TIFF; None where it is damaged or Pillow reads it, too."""
    if exactly and pages > 1:
        raise UserError(f"{path} has {pages} frames or pages: save the one to restore as a photo")
    if Image.MAX_IMAGE_PIXELS is not None and page.imagelength * page.imagewidth > 2 * Image.MAX_IMAGE_PIXELS:
        raise UserError(_too_large(path))
    kind, colours = page.dtype.kind, COLOURS.get(int(page.photometric))
    is_known = kind == "f" or (kind == "u" and page.dtype.itemsize <= 2)
    if colours is None or page.axes not in ("YX", "YXS", "SYX") or not is_known:
        if not exactly and kind == "u" and page.dtype.itemsize == 2:
            return None  # Pillow's 8 bits
        what = f"{page.dtype} numbers as {page.photometric.name}"
        raise UserError(f"{path} holds {what}: export it as RGB or grey with 8 or 16 bits")
    if kind == "u" and page.bitspersample not in (8, 16):  # Pillow would show 12 bits as the lower ones of 16
        raise UserError(f"{path} has {page.bitspersample} bits per colour: export it with 8 or 16")
    pixels = _unpacked(path, page, exactly=exactly)
    if pixels is None:
        return None
    pixels = _channels_last(pixels, page.axes)
    extras = pixels.shape[2] - colours
    if extras not in (0, 1):
        raise UserError(f"{path} has {pixels.shape[2]} channels: export it as RGB or grey")
    depth = np.uint8 if page.dtype == np.uint8 else np.uint16
    colour = _from_floats(pixels[..., :colours]) if kind == "f" else pixels[..., :colours].astype(depth)
    alpha, meaning = None, int(page.extrasamples[0]) if extras and page.extrasamples else 0
    if meaning in (MULTIPLIED_IN, BESIDE):
        alpha = _alpha(pixels[..., colours], depth)
    if meaning == MULTIPLIED_IN:
        colour = _divided(colour, alpha)
    if int(page.photometric) == 0:
        colour = np.iinfo(depth).max - colour
    tag = page.tags.get(metadata.ORIENTATION)
    turn = tag.value if tag is not None and tag.value in range(1, 9) else 1
    image = turned(np.repeat(colour, 3, axis=2) if colours == 1 else colour, turn)
    original = Original(image, colours == 1, None if alpha is None else turned(alpha, turn))
    original.metadata = metadata.of_page(path, page)
    if kind == "f" and np.isnan(pixels).any():
        original.notes.append("what is no number became black")
    if extras and alpha is None:
        original.notes.append("a fourth channel of unknown meaning is left out")
    return original


def _unpacked(path: Path, page: tifffile.TiffPage, *, exactly: bool) -> np.ndarray | None:
    """The numbers of a page; None where it is damaged or Pillow unpacks it, UserError where nothing here does."""
    try:
        pixels = page.asarray()
    except (ValueError, KeyError, NotImplementedError) as error:
        if "codec" not in str(error).lower() and "COMPRESSION" not in str(error):
            return None  # damaged
        is_plain = int(page.photometric) == 1 and page.samplesperpixel == 1 and page.dtype.kind == "u"
        if page.dtype.itemsize == 2 and (is_plain or not exactly):
            return None  # Pillow unpacks every compression, and keeps 16 bits of grey
        how = page.compression.name + (" and a predictor" if page.predictor > 1 else "")
        what = f"{page.bitspersample} bits compressed with {how}"
        raise UserError(f"{path} has {what}, which cannot be unpacked here: export it uncompressed") from None
    return pixels if pixels.shape == page.shape else None  # damaged tags contradict each other


def _channels_last(pixels: np.ndarray, axes: str) -> np.ndarray:
    """Pixels of the axes "YX", "SYX" or "YXS" as H x W x C."""
    if axes == "YX":
        return pixels[..., None]
    return pixels.transpose(1, 2, 0) if axes == "SYX" else pixels


def _alpha(channel: np.ndarray, depth: type) -> np.ndarray:
    """A channel as alpha of a depth, uint8 or uint16; of floats, 1 is opaque."""
    if channel.dtype.kind != "f":
        return channel.astype(depth)
    return (np.nan_to_num(channel.astype(np.float64)).clip(0, 1) * np.iinfo(depth).max).round().astype(depth)


def _divided(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours H x W x C as they were before alpha (H x W, of their depth) was multiplied in."""
    white = np.iinfo(colour.dtype).max
    shares = np.maximum(alpha, 1).astype(np.float64)[..., None] / white
    return (colour / shares).round().clip(0, white).astype(colour.dtype)


def _write_tiff(path: str, pixels: np.ndarray, alpha: np.ndarray | None, kept: Metadata) -> None:
    """One page, uncompressed; EXIF's own directories follow the pixels, and what points to them is set last."""
    colour = "minisblack" if pixels.ndim == 2 else "rgb"
    if alpha is not None:
        pixels = np.dstack([pixels, alpha])
    groups = {group: tags for group, tags in kept.exif.items() if group in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)}
    tags = [_tiff_tag(tag, value) for tag, value in kept.exif.get(0, {}).items() if tag not in (0x011A, 0x011B, 0x0128)]
    tags += [(int(group) - 1, 4, 1, 0, True) for group in groups]  # tifffile writes no tag of that name
    if kept.xmp:
        tags.append((700, 1, len(kept.xmp), kept.xmp, True))
    tifffile.imwrite(
        path,
        pixels,
        byteorder="<",
        photometric=colour,
        planarconfig="contig" if pixels.ndim == 3 else None,
        extrasamples=None if alpha is None else ["unassalpha"],
        metadata=None,
        software=False,
        iccprofile=kept.profile,
        resolution=kept.dpi or (72, 72),
        resolutionunit="INCH" if kept.dpi else "NONE",
        extratags=sorted(tag for tag in tags if tag is not None),
    )
    for group, content in groups.items():
        offset = os.path.getsize(path) + os.path.getsize(path) % 2
        if offset > 2**32 - 2**20:  # a BigTIFF has room for a photo's own tags alone
            return
        with tifffile.TiffFile(path) as file:
            entry = file.pages[0].tags[int(group) - 1].offset
        directory = ImageFileDirectory_v2(b"II*\0\x08\0\0\0", group=int(group))
        for tag, value in content.items():
            directory[tag] = value
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(directory.tobytes(offset))
            file.seek(entry)
            file.write(struct.pack("<HHII", int(group), 4, 1, offset))


def _tiff_tag(tag: int, value: object) -> tuple | None:
    """A tag of the photo as tifffile takes it: (code, type, count, value, once)."""
    if isinstance(value, str):
        return (tag, 2, 0, value.encode("ascii", "replace") + b"\0", True)
    if isinstance(value, bytes):
        return (tag, 2, 0, value + b"\0", True) if tag < 0x9C9B else (tag, 1, len(value), value, True)
    if isinstance(value, int) and 0 <= value < 2**32:
        return (tag, 3 if value < 2**16 else 4, 1, value, True)
    return None
