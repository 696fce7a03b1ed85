"""What a photo's file says beside its pixels: colour profile, EXIF, XMP, resolution, and what each format can hold."""

import io
import math
import os
import re
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import tifffile
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

import rvlib

ORIENTATION, DESCRIPTION, SOFTWARE = 0x0112, 0x010E, 0x0131
SIGNATURE = re.compile(r"rvlib [^:]*: ([^;]*)")  # "rvlib 0.2.0: fsrcnn-x4; what the camera's program wrote"
WIDTH, HEIGHT, INTEROPERABILITY = 0xA002, 0xA003, 0xA005  # in the camera's part of EXIF
TAGS = {
    # a TIFF's own tags say where its strips are and what they hold: those of the photo alone are handed on
    *(0x010E, 0x010F, 0x0110),  # description, make, model
    *(0x011A, 0x011B, 0x0128),  # resolution and its unit
    *(0x0131, 0x0132, 0x013B, 0x013C),  # software, date, artist, computer
    *(0x4746, 0x4749, 0x8298),  # rating, in stars and per cent; copyright
    *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords and subject of Windows
}
IPTC, IPTC_IN_JPEG = 0x83BB, 0x0404  # a TIFF's tag, and a resource of Photoshop's in a JPEG
ELSEWHERE = ("Software", "XML:com.adobe.xmp", "Raw profile type ")  # texts of a PNG that are no mere texts
CHUNKS = (b"gAMA", b"cHRM", b"cICP")  # of PNG: what its numbers mean as colours
NAMES = {
    "profile": "colour profile",
    "exif": "EXIF",
    "xmp": "XMP",
    "dpi": "resolution",
    "chunks": "gamma, primaries or cICP",
    "texts": "texts of a PNG",
    "comment": "comment of a JPEG",
}
HOLDS = {
    "PNG": ("profile", "exif", "xmp", "dpi", "chunks", "texts"),
    "JPEG": ("profile", "exif", "xmp", "dpi", "comment"),
    "TIFF": ("profile", "exif", "xmp", "dpi"),
    "WEBP": ("profile", "exif", "xmp"),
    "BMP": ("dpi",),
}
LONGEST = 65_000  # bytes of EXIF or XMP in a JPEG, whose segments end at 65,533 with their headers


@dataclass
class Metadata:
    """What belongs to a photo beside its pixels; empty where the file says nothing."""

    profile: bytes | None = None  # ICC
    exif: dict[int, dict[int, object]] = field(default_factory=dict)  # 0: of the photo; by pointer: camera and place
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()  # of a PNG, by name
    texts: dict[str, str] = field(default_factory=dict)  # of a PNG, by keyword
    comment: bytes | None = None  # of a JPEG
    software: str = ""  # a PNG's own text; the other formats have it in their EXIF
    has_iptc: bool = False

    def kept(self, kind: str, width: int, height: int) -> tuple["Metadata", list[str]]:
        """What a format (Pillow's name) holds of this for a photo of that size, and what it does not, in words."""
        notes = [f"{kind} holds no {NAMES[name]}" for name in NAMES if getattr(self, name) and name not in HOLDS[kind]]
        if self.has_iptc:
            notes.append("IPTC is left out")
        kept = Metadata(**{name: getattr(self, name) for name in HOLDS[kind] if getattr(self, name)})
        kept.software = self.software
        camera = kept.exif.get(ExifTags.IFD.Exif, {})
        size = {tag: side for tag, side in ((WIDTH, width), (HEIGHT, height)) if tag in camera}
        if size:
            kept.exif = {**kept.exif, ExifTags.IFD.Exif: camera | size}
        if kind == "JPEG" and kept.xmp and len(kept.xmp) > LONGEST:
            kept.xmp = None
            notes.append("XMP is too long for JPEG")
        if kind == "JPEG" and len(kept.exif_bytes() or b"") > LONGEST:
            kept.exif, lost = _shortened(kept.exif)
            notes.append(f"{lost} of the EXIF tags are too long for JPEG")
        return kept, notes

    def signed(self, kind: str, made_by: str) -> "Metadata":
        """The same with the name of what made the photo before what wrote it first; BMP has no place for it."""
        if kind == "BMP":
            return self
        photo = self.exif.get(0, {})
        before = photo.get(SOFTWARE, "")
        before = before.decode("latin-1") if isinstance(before, bytes) else before
        said = signature(made_by, self.software or before)
        if kind == "PNG":
            return replace(self, software=said)
        return replace(self, exif={**self.exif, 0: {**photo, SOFTWARE: said}})

    def exif_bytes(self) -> bytes | None:
        """EXIF as JPEG, PNG and WebP take it."""
        if not self.exif:
            return None
        exif = Image.Exif()
        for group, tags in self.exif.items():
            exif.update(tags) if group == 0 else exif.get_ifd(group).update(tags)
        return exif.tobytes()

    def options(self, kind: str) -> dict:
        """What Pillow's `save` is to be given."""
        options = {"icc_profile": self.profile, "exif": self.exif_bytes(), "dpi": self.dpi, "comment": self.comment}
        if kind == "PNG" and (self.xmp or self.chunks or self.texts or self.software):
            info = PngImagePlugin.PngInfo()
            for name, text in (self.texts | ({"Software": self.software} if self.software else {})).items():
                info.add_text(name, text)
            for name, content in self.chunks:
                info.add(name, content)
            if self.xmp:
                info.add_itxt("XML:com.adobe.xmp", self.xmp.decode("utf-8", "replace"))
            options["pnginfo"] = info
        elif self.xmp and kind != "BMP":
            options["xmp"] = self.xmp
        return {name: value for name, value in options.items() if value}


def signature(made_by: str, before: str = "") -> str:
    """What a file says of what made it, in ASCII, which every format holds, and after it what was said before."""
    own = f"rvlib {rvlib.__version__}: {made_by}" if made_by else f"rvlib {rvlib.__version__}"
    return "; ".join(text for text in (own.encode("ascii", "replace").decode(), before) if text)


def maker(path: Path) -> str | None:
    """What made a restored photo, as `Original.write` was told; None where the file does not say."""
    if not os.path.isfile(path):  # a pipe would wait for who writes into it
        return None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            said = image.info.get("Software") if image.format == "PNG" else image.getexif().get(SOFTWARE)
    except Exception:  # damaged, or no photo
        return None
    found = SIGNATURE.match(said) if isinstance(said, str) else None
    return found.group(1) if found else None


def of_image(image: Image.Image, path: Path | None = None) -> Metadata:
    """The metadata of an image that Pillow opened and loaded; what is damaged there is left out."""
    found = Metadata(xmp=_xmp(image.info.get("xmp")))
    if image.format != "TIFF" or 0x011A in image.tag_v2:  # Pillow says 1 dpi of a TIFF without one
        found.dpi = _resolution(image.info.get("dpi"))
    with suppress(Exception):  # broken EXIF is no reason to refuse the photo
        found.exif = _exif(image.getexif())
    profile = image.info.get("icc_profile")
    if isinstance(profile, bytes) and image.mode not in ("CMYK", "LAB"):
        found.profile = _fitting(profile, is_grey=image.mode[0] in "1LI")
    if image.format == "PNG" and path is not None:
        found.chunks = _chunks(path)
        found.texts = {name: text for name, text in image.text.items() if not name.startswith(ELSEWHERE)}
        found.software = str(image.info.get("Software", ""))
    if image.format in ("JPEG", "MPO"):
        found.comment = image.info.get("comment")
        found.has_iptc = IPTC_IN_JPEG in image.info.get("photoshop", {})
    elif image.format == "TIFF":
        found.has_iptc = IPTC in image.tag_v2
    return found


def of_page(path: Path, page: tifffile.TiffPage) -> Metadata:
    """The same of a page that tifffile opened, whatever its layout."""
    exif = Image.Exif()
    exif.endian, exif.bigtiff = page.parent.byteorder, page.parent.is_bigtiff
    found = Metadata()
    with suppress(Exception), path.open("rb") as file:  # broken EXIF is no reason to refuse the photo
        exif.load_from_fp(file, page.offset)
        found.exif = _exif(exif)
    photo = found.exif.get(0, {})
    unit = {2: 1.0, 3: 2.54}.get(photo.get(0x0128, 2))
    if unit is not None and 0x011A in photo and 0x011B in photo:
        found.dpi = _resolution([unit * float(photo[tag]) for tag in (0x011A, 0x011B)])
    if page.iccprofile:
        found.profile = _fitting(page.iccprofile, is_grey=int(page.photometric) < 2)
    xmp = page.tags.get(700)
    found.xmp = _xmp(xmp.value) if xmp is not None else None
    found.has_iptc = IPTC in page.tags
    return found


def orientation(image: Image.Image) -> int:
    """How a loaded image is to be turned, 1 to 8 as EXIF counts; 1 where it says nothing that can be."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF is no reason to refuse the photo
        return 1
    return value if value in range(1, 9) else 1


def _exif(exif: Image.Exif) -> dict[int, dict[int, object]]:
    """The tags that tell of the photo, each of which can be written again."""
    found = {}
    for group in (0, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        try:
            tags = exif if group == 0 else exif.get_ifd(group)
        except Exception:  # a directory beyond the end of the file
            continue
        kept = {}
        for tag in list(tags):
            if (group == 0 and tag not in TAGS) or tag == INTEROPERABILITY:
                continue
            try:
                value = _writable(group, tag, tags[tag])
                if not (tag == DESCRIPTION and _is_of_a_program(value)):
                    kept[tag] = value
            except Exception:  # a text for a number, a negative size: that tag is left out
                continue
        if kept:
            found[group] = kept
    return found


def _writable(group: int, tag: int, value: object) -> object:
    """A tag's value, where it can be written; texts that are no ASCII as the bytes they were."""
    if isinstance(value, str) and not value.isascii():
        value = value.encode("latin-1")
    directory = ImageFileDirectory_v2(group=group or None)
    directory[tag] = value
    directory.tobytes()
    return value


def _is_of_a_program(description: object) -> bool:
    """Whether a description is a program's note on how the pixels are laid, which are not laid so any more."""
    text = description.decode("latin-1") if isinstance(description, bytes) else str(description)
    return text.startswith(('{"shape":', "ImageJ=")) or "<OME " in text


def _shortened(exif: dict[int, dict[int, object]]) -> tuple[dict[int, dict[int, object]], int]:
    """EXIF without its longest tags, so that a JPEG holds it, and how many they were."""
    exif = {group: dict(tags) for group, tags in exif.items()}
    lost = 0
    while len(Metadata(exif=exif).exif_bytes() or b"") > LONGEST:
        lengths = {}
        for group, tags in exif.items():
            for tag, value in tags.items():
                directory = ImageFileDirectory_v2(group=group or None)
                directory[tag] = value
                lengths[group, tag] = len(directory.tobytes())
        group, tag = max(lengths, key=lengths.get)
        del exif[group][tag]
        lost += 1
    return {group: tags for group, tags in exif.items() if tags}, lost


def _resolution(dpi: object) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if all(math.isfinite(value) and 1 <= value < 65_536 for value in (across, down)) else None


def _fitting(profile: bytes, *, is_grey: bool) -> bytes | None:
    """A profile, if it describes the colours that the pixels are handed on in: that of inks tells nothing of RGB."""
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()
    except Exception:  # a profile that only another program understands
        return profile
    return profile if space == "RGB" or (is_grey and space == "GRAY") else None


def _xmp(content: object) -> bytes | None:
    """XMP as bytes, saying that the photo is upright."""
    content = content.encode("utf-8", "replace") if isinstance(content, str) else content
    if not isinstance(content, bytes) or not content:
        return None
    return re.sub(rb'(tiff:Orientation(="|>))[2-8]', rb"\g<1>1", content)


def _chunks(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    """The chunks of a PNG before its pixels that say what its numbers mean, and that Pillow does not hand on."""
    found = {}
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"IDAT" or length > 2**24:
                break
            content = file.read(length)
            file.seek(4, 1)
            if name in CHUNKS and content:
                found[name] = content
    return tuple(found.items())
