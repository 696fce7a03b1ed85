"""One way in, one way out: over formats, depths, channels, turns and what belongs to a photo, against plain readers."""

import contextlib
import itertools
import os
import struct

import numpy as np
import pytest
import tifffile
from PIL import EpsImagePlugin, ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.IptcImagePlugin import getiptcinfo

import rvlib
from rvlib import metadata, originals, photos
from rvlib.degrade import imresize, resize_photo
from rvlib.metadata import HEIGHT, ORIENTATION, WIDTH
from rvlib.originals import Original

NOISE = np.random.default_rng(0)
RGB = NOISE.integers(0, 256, (6, 10, 3), dtype=np.uint8)
ALPHA = NOISE.integers(1, 256, (6, 10), dtype=np.uint8)
DEEP = NOISE.integers(0, 65536, (6, 10, 4)).astype(np.uint16)
MODES = {"L": RGB[..., 0], "LA": np.dstack([RGB[..., 0], ALPHA]), "RGB": RGB, "RGBA": np.dstack([RGB, ALPHA])}
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
CAMERA, PLACE = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA", "CMYK"])
def test_an_uncompressed_tiff_is_turned_as_its_pixels_are(tmp_path, mode, orientation):
    stored = RGB[..., 0].astype(np.uint16) * 257 if mode == "I;16" else np.asarray(Image.fromarray(RGB).convert(mode))
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    Image.fromarray(stored, mode if mode == "CMYK" else None).save(tmp_path / "a.tif")
    Image.fromarray(stored, mode if mode == "CMYK" else None).save(tmp_path / "turned.tif", exif=tags)
    upright, turned = (originals.read(tmp_path / name).image for name in ("a.tif", "turned.tif"))
    assert np.array_equal(turned, originals.turned(upright, orientation))


def exif(orientation=1):
    """EXIF of a camera: texts that are no ASCII, fractions, bytes, a place, and the size before restoration."""
    tags = Image.Exif()
    tags[ORIENTATION], tags[0x010F], tags[0x0132] = orientation, "Müller".encode("latin-1"), "2024:01:02 03:04:05"
    tags.get_ifd(CAMERA).update({0x9003: "2024:01:02 03:04:05", WIDTH: 10, HEIGHT: 6, 0x829A: 0.01, 0x927C: b"own\0x"})
    tags.get_ifd(PLACE).update({1: "N", 2: (48.0, 7.0, 30.5)})
    return tags


def tells(path, size):
    """Check by Pillow that a file tells all that `exif` says, upright and of its own size."""
    with Image.open(path) as image:
        image.load()
        tags = image.getexif()
        camera, place = tags.get_ifd(CAMERA), tags.get_ifd(PLACE)
        assert image.size == size
        assert (tags[0x010F], tags[0x0132], tags.get(ORIENTATION, 1)) == ("Müller", "2024:01:02 03:04:05", 1)
        assert (camera[WIDTH], camera[HEIGHT]) == size
        assert (camera[0x9003], camera[0x927C], float(camera[0x829A])) == ("2024:01:02 03:04:05", b"own\0x", 0.01)
        assert (place[1], tuple(map(float, place[2]))) == ("N", (48.0, 7.0, 30.5))
        return image.info


# What trainings read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}), ("a.bmp", {}), ("a.jpg", {"quality": 75}), ("a.jpg", {"quality": 95, "subsampling": 0}),
        ("a.jpg", {"progressive": True}), ("a.png", {"icc_profile": PROFILE}), ("a.jpg", {"icc_profile": PROFILE}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_photos_of_eight_bits_are_what_pillow_reads(tmp_path, name, options, mode):
    if mode == "P" and name == "a.jpg":
        pytest.skip("JPEG has no palette")
    Image.fromarray(np.tile(RGB, (5, 5, 1))).convert(mode).save(tmp_path / name, **options)
    with Image.open(tmp_path / name) as image:
        expected = np.array(image.convert("RGB"))
    read = photos.read(tmp_path / name)
    assert np.array_equal(read, expected)
    assert read.flags.writeable
    assert read.flags.c_contiguous


@pytest.mark.parametrize("name", photos.SAMPLES)
def test_sample_photos_are_what_pillow_reads(name, monkeypatch):
    seen = []
    monkeypatch.setattr(photos, "read", seen.append)
    photos.sample(name)
    monkeypatch.undo()
    with Image.open(seen[0]) as image:
        assert np.array_equal(photos.read(seen[0]), np.array(image.convert("RGB")))


# Formats x modes x turns ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_are_pillows(orientation):
    image = Image.fromarray(RGB)
    image.getexif()[ORIENTATION] = orientation
    assert np.array_equal(originals.turned(RGB, orientation), np.array(ImageOps.exif_transpose(image)))
    assert np.array_equal(originals.from_image(image).image, np.array(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("target", ["png", "tif", "webp", "jpg", "bmp"])
@pytest.mark.parametrize("source", ["png", "tif", "webp", "jpg"])
def test_what_a_photo_is_and_tells_comes_out_again(tmp_path, source, target):
    """Every mode and three turns, through a restoration that repeats each pixel twice."""
    for (mode, pixels), orientation in itertools.product(MODES.items(), (1, 6, 7)):
        if source == "jpg" and mode.endswith("A"):
            continue
        options = {"exif": exif(orientation), "icc_profile": PROFILE, "dpi": (300, 300)}
        options |= {"lossless": True, "exact": True} if source == "webp" else {}
        path, made = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
        Image.fromarray(pixels).save(path, **options)
        original = originals.read(path)
        notes = original.plan(made, 2)
        original.write(made, original.image.repeat(2, axis=0).repeat(2, axis=1))
        with path.open("rb") as file, Image.open(file) as image:  # by its name, Pillow (13.0) garbles a turned TIFF
            upright = ImageOps.exif_transpose(image)
        size = (2 * upright.width, 2 * upright.height)
        if target in ("png", "tif", "webp"):
            with Image.open(made) as image:
                assert image.size == size
                assert np.array_equal(np.asarray(image.convert("RGB"))[::2, ::2], np.asarray(upright.convert("RGB")))
                assert ("A" in image.mode) == ("A" in mode)
                assert ("L" in image.mode) == ("L" in mode) or "webp" in (source, target)  # WebP knows no grey
        if target == "bmp":
            assert {"BMP holds no EXIF", "BMP holds no colour profile"} <= set(notes)
            continue
        if source == "tif":  # Pillow writes no place into a TIFF
            continue
        info = tells(made, size)
        assert info["icc_profile"] == PROFILE
        if target != "webp" and source != "webp":
            assert float(info["dpi"][0]) == pytest.approx(300, abs=0.5)
        assert ("A" in mode and target == "jpg") == any("transparency" in note for note in notes)


@pytest.mark.parametrize("target", ["png", "tif", "webp", "jpg"])
def test_xmp_stays_and_says_upright(tmp_path, target):
    Image.fromarray(RGB).save(tmp_path / "in.jpg", xmp=XMP)
    original = originals.read(tmp_path / "in.jpg")
    assert original.image.shape[:2] == (10, 6)
    original.write(tmp_path / f"out.{target}", original.image)
    with Image.open(tmp_path / f"out.{target}") as image:
        image.load()
        assert image.info["xmp"] == XMP.replace(b'"6"', b'"1"')
        assert image.size == (6, 10)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_deep_tiffs(tmp_path, channels):
    """Compression x planes x byte order x BigTIFF x predictor: the numbers that were written, turned."""
    path = tmp_path / "deep.tif"
    pixels = DEEP[..., :channels]
    meanings = ("minisblack", "miniswhite") if channels < 3 else ("rgb",)
    for compression, planes, order, big, predictor, meaning in itertools.product(
        (None, "zlib"), ("contig", "separate"), "<>", (False, True), (False, True), meanings
    ):
        if (channels == 1 and planes == "separate") or (predictor and not compression):
            continue
        laid = pixels[..., 0] if channels == 1 else pixels if planes == "contig" else pixels.transpose(2, 0, 1).copy()
        tifffile.imwrite(
            path, laid, photometric=meaning, planarconfig=planes if channels > 1 else None, compression=compression,
            predictor=predictor, byteorder=order, bigtiff=big, metadata=None, extratags=[(274, 3, 1, 5, True)],
            extrasamples=["unassalpha"] if channels in (2, 4) else None, iccprofile=PROFILE,
        )  # fmt: skip
        original = originals.read(path)
        colours = pixels[..., :3] if channels > 2 else pixels[..., :1].repeat(3, axis=2)
        colours = 65535 - colours if meaning == "miniswhite" else colours
        assert np.array_equal(original.image, colours.swapaxes(0, 1))
        assert original.is_grey == (channels < 3)
        assert original.metadata.profile == PROFILE
        if channels in (2, 4):
            assert np.array_equal(original.alpha, pixels[..., -1].T)
        else:
            assert np.abs(photos.read(path) - original.image / 257).max() <= 0.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint16])
def test_alpha_that_was_multiplied_in_is_divided_out(tmp_path, dtype):
    colours, alpha = np.full((6, 10, 3), 0.75), np.linspace(0.5, 1, 60).reshape(6, 10)
    pixels = np.dstack([colours * alpha[..., None], alpha])
    pixels = (pixels * 65535).round().astype(dtype) if dtype == np.uint16 else pixels.astype(dtype)
    tifffile.imwrite(tmp_path / "in.tif", pixels, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
    original = originals.read(tmp_path / "in.tif")
    assert np.abs(original.image / 65535 - 0.75).max() < 1e-3
    assert np.abs(original.alpha / 65535 - alpha).max() < 1e-3


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiffs_that_are_written(tmp_path, channels, dtype):
    """The numbers by tifffile, and what belongs to them by Pillow where it reads such a TIFF."""
    pixels = (DEEP >> 8 if dtype == np.uint8 else DEEP).astype(dtype)
    image = pixels[..., :3] if channels > 2 else pixels[..., :1].repeat(3, axis=2)
    Image.fromarray(RGB).save(tmp_path / "told.jpg", exif=exif(), icc_profile=PROFILE, dpi=(300, 300), xmp=XMP)
    told = originals.read(tmp_path / "told.jpg").metadata
    alpha = pixels[..., 3] if channels in (2, 4) else None
    Original(image, channels < 3, alpha, told).write(tmp_path / "out.tif", image)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        page = file.pages[0]
        assert page.dtype == dtype
        written = page.asarray().reshape(6, 10, channels)
        assert np.array_equal(written[..., : 1 if channels < 3 else 3], image[..., : 1 if channels < 3 else 3])
        assert alpha is None or np.array_equal(written[..., -1], alpha)
        assert page.tags[34665].value["DateTimeOriginal"] == "2024:01:02 03:04:05"
        assert page.tags[34853].value["GPSLatitudeRef"] == "N"
        codes = [tag.code for tag in page.tags]
        assert codes == sorted(set(codes))
    again = originals.read(tmp_path / "out.tif")
    resolution = {0x011A, 0x011B, 0x0128}
    assert {tag: value for tag, value in again.metadata.exif[0].items() if tag not in resolution} == told.exif[0]
    assert all(again.metadata.exif[group] == told.exif[group] for group in (CAMERA, PLACE))
    assert again.metadata.profile == PROFILE
    assert again.metadata.xmp == told.xmp
    assert again.metadata.dpi == pytest.approx((300, 300), abs=0.1)
    assert np.array_equal(again.image, image)


def test_a_tiffs_own_tags_are_not_handed_on(tmp_path):
    Image.fromarray(np.tile(RGB, (9, 1, 1))).save(tmp_path / "in.tif", compression="tiff_lzw", exif=exif())
    original = originals.read(tmp_path / "in.tif")
    for target in ("jpg", "png", "webp", "tif"):
        original.write(tmp_path / f"out.{target}", original.image[:4])
        with Image.open(tmp_path / f"out.{target}") as image:
            tags = image.getexif()
            if target != "tif":
                assert not {256, 257, 258, 259, 273, 277, 278, 279, 284} & set(tags)
            assert tags[0x010F] == "Müller"
            assert image.size == (10, 4)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_no_resolution_is_made_up(tmp_path, mode):
    Image.fromarray(RGB).convert(mode).save(tmp_path / "in.tif")
    with Image.open(tmp_path / "in.tif") as image:
        assert 0x011A not in image.tag_v2
    original = originals.read(tmp_path / "in.tif")
    original.write(tmp_path / "out.png", original.image)
    with Image.open(tmp_path / "out.png") as image:
        assert "dpi" not in image.info


def test_what_is_no_number_is_said_to_be_black(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", np.array([[np.nan, 0.5], [1.0, 0.0]], np.float32))
    original = originals.read(tmp_path / "in.tif")
    assert original.image[..., 0].tolist() == [[0, 32768], [65535, 0]]
    assert original.notes == ["what is no number became black"]


def test_smaller_copies_and_previews_are_no_pages(tmp_path):
    for dtype in (np.uint8, np.uint16):
        with tifffile.TiffWriter(tmp_path / "thumbnail.tif") as file:
            file.write(RGB.astype(dtype), photometric="rgb")
            file.write(RGB[::2, ::2].astype(dtype), photometric="rgb", subfiletype=1)
        assert np.array_equal(originals.read(tmp_path / "thumbnail.tif").image, RGB.astype(dtype))
    preview = Image.fromarray(RGB[::2, ::2])
    Image.fromarray(RGB).save(tmp_path / "camera.jpg", "MPO", save_all=True, append_images=[preview], quality=100)
    camera = originals.read(tmp_path / "camera.jpg")
    assert camera.image.shape == RGB.shape
    assert camera.notes == ["the other pictures in a camera's JPEG are left out"]


def test_a_mask_is_no_page_and_no_fault(tmp_path):
    with tifffile.TiffWriter(tmp_path / "masked.tif") as file:
        file.write(RGB, photometric="rgb")
        file.write(RGB[..., 0] > 99, subfiletype=4, photometric="mask")
    assert np.array_equal(originals.read(tmp_path / "masked.tif").image, RGB)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_layouts_of_eight_bits_that_pillow_does_not_know(tmp_path, channels):
    """A big-endian BigTIFF; floats and 8 bits of a compression that is not here name it."""
    shown = MODES[("L", "LA", "RGB", "RGBA")[channels - 1]]
    meaning = {"photometric": "rgb" if channels > 2 else "minisblack", "planarconfig": "contig"}
    meaning |= {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    tifffile.imwrite(tmp_path / "in.tif", shown, byteorder=">", bigtiff=True, **meaning)
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "in.tif")
    read = originals.read(tmp_path / "in.tif")
    assert read.image.dtype == np.uint8
    assert np.array_equal(read.image[..., 1], shown if channels == 1 else shown[..., 0 if channels == 2 else 1])
    assert (read.alpha is None) == (channels in (1, 3))
    assert read.alpha is None or np.array_equal(read.alpha, ALPHA)
    assert np.array_equal(photos.read(tmp_path / "in.tif"), originals.eight_bits(read))
    with tifffile.TiffFile(tmp_path / "in.tif", mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(34887)
    for reader in (originals.read, photos.read):
        with pytest.raises(rvlib.UserError, match="has 8 bits compressed with LERC, which cannot be unpacked"):
            reader(tmp_path / "in.tif")


def test_what_pillow_reads_in_eight_bits_is_said(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "in.jp2", irreversible=False)
    read = originals.read(tmp_path / "in.jp2")
    assert np.array_equal(read.image, RGB)
    assert read.notes == ["JPEG2000 is read with 8 bits per colour"]


def test_pages_that_never_end_are_not_waited_for(tmp_path, monkeypatch):
    """Damaged pointers make a chain of millions of pages, each of which parses."""
    tifffile.imwrite(tmp_path / "in.tif", DEEP[..., :3], photometric="rgb")
    monkeypatch.setattr(tifffile.TiffPages, "__iter__", lambda pages: itertools.repeat(pages[0]))
    with pytest.raises(rvlib.UserError, match=r"in\.tif has \d+ frames or pages"):
        originals.read(tmp_path / "in.tif")


# Depth and range ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("values", "mean"),
    [
        (np.linspace(0, 1, 60), 127.5), (np.linspace(0, 1.01, 60), 128.7), (np.linspace(0, 255, 60), 127.5),
        (np.r_[np.nan, np.linspace(0, 1, 59)], 125.4), (np.linspace(-1, 1, 60), 64.8), (np.zeros(60), 0),
    ],
)  # fmt: skip
def test_floats_have_a_white(tmp_path, values, mean, dtype):
    tifffile.imwrite(tmp_path / "floats.tif", values.reshape(6, 10).astype(dtype))
    assert photos.read(tmp_path / "floats.tif").mean() == pytest.approx(mean, abs=0.6)
    assert originals.read(tmp_path / "floats.tif").image.dtype == np.uint16


def _int32():
    return {"data": np.arange(60, dtype=np.int32).reshape(6, 10)}


UNKNOWN = {
    "floats of no known white": {"data": np.linspace(0, 5, 60, dtype=np.float32).reshape(6, 10)},
    "signed 8 bits": {"data": RGB[..., 0].astype(np.int8), "photometric": "minisblack"},
    "signed 16 bits": {"data": DEEP[..., 0].astype(np.int16), "photometric": "minisblack"},
    "signed 32 bits": {"data": DEEP[..., 0].astype(np.int32), "photometric": "minisblack"},
    "unsigned 32 bits": {"data": DEEP[..., 0].astype(np.uint32), "photometric": "minisblack"},
    "16 bits of ink": {"data": DEEP, "photometric": "separated"},
    "16 bits of CIELAB": {"data": DEEP[..., :3], "photometric": "cielab"},
    "five channels": {"data": np.dstack([DEEP, DEEP[..., :1]]), "photometric": "rgb", "planarconfig": "contig"},
    "two pages": {"data": np.stack([DEEP[..., :3]] * 2), "photometric": "rgb"},
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_has_no_known_white_is_refused(tmp_path, kind):
    tifffile.imwrite(tmp_path / "odd.tif", **UNKNOWN[kind])
    with pytest.raises(rvlib.UserError, match=r"odd\.tif"):
        originals.read(tmp_path / "odd.tif")


def test_sixteen_bits_that_no_reader_unpacks_are_refused_and_not_halved(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", DEEP[..., :3], photometric="rgb")
    with tifffile.TiffFile(tmp_path / "in.tif", mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(5)
    with pytest.raises(rvlib.UserError, match=r"in\.tif has 16 bits compressed with LZW"):
        originals.read(tmp_path / "in.tif")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_grey_of_sixteen_bits_in_every_compression(tmp_path, compression):
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "in.tif", compression=compression)
    assert np.array_equal(originals.read(tmp_path / "in.tif").image[..., 1], DEEP[..., 0])


def test_inks_without_a_profile_and_lab_become_srgb(tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "ink.tif")
    assert np.abs(originals.read(tmp_path / "ink.tif").image.astype(int) - RGB).max() <= 1
    srgb = ImageCms.createProfile("sRGB")
    lab = ImageCms.profileToProfile(Image.fromarray(RGB), srgb, ImageCms.createProfile("LAB"), outputMode="LAB")
    lab.save(tmp_path / "lab.tif")
    original = originals.read(tmp_path / "lab.tif")
    assert np.abs(original.image.astype(int) - RGB).mean() < 3
    assert original.notes == ["LAB became sRGB"]


def ink_profile(colours):
    """An ICC profile of four inks, by a table of its corners, which have the given CIELAB colours."""
    table = bytearray()
    for cyan, _, _, black in itertools.product((0, 1), repeat=4):
        lightness, a, b = colours["black" if black else "cyan" if cyan else "paper"]
        table += bytes([round(lightness * 2.55), round(a + 128), round(b + 128)])
    identity = struct.pack(">9i", *(65536 if index % 4 == 0 else 0 for index in range(9)))
    ramp = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + bytes(table) + ramp * 3
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"inks\0" + bytes(78)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, body = [], b""
    for name, content in ((b"desc", text), (b"wtpt", white), (b"A2B0", lut)):
        content += bytes(-len(content) % 4)
        tags.append(name + struct.pack(">II", 128 + 4 + 36 + len(body), len(content)))
        body += content
    head = struct.pack(">I4sI4s4s4s", 168 + len(body), bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12)
    head += b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", 3) + b"".join(tags) + body


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_inks_are_those_of_their_profile(tmp_path, suffix):
    profile = ink_profile({"paper": (100, 0, 0), "cyan": (62, -30, -48), "black": (0, 0, 0)})
    inks = np.zeros((16, 24, 4), np.uint8)
    inks[:, 8:16, 0] = 255
    inks[:, 16:, 3] = 255
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    Image.fromarray(inks, "CMYK").save(tmp_path / f"ink.{suffix}", icc_profile=profile, **options)
    original = originals.read(tmp_path / f"ink.{suffix}")
    paper, cyan, black = (original.image[8, column].astype(int) for column in (3, 12, 20))
    assert paper.min() > 250
    assert black.max() < 5
    assert np.abs(cyan - (0, 161, 234)).max() < 15  # of that CIELAB colour, by the formulas of sRGB
    assert original.metadata.profile is None


# What is beside the pixels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    [
        struct.pack("<HHI4s", 0x011A, 2, 4, b"72\0\0"),  # a resolution in letters
        struct.pack("<HHIi", 0x0100, 9, 1, -5),  # a negative size
        struct.pack("<HHII", 0x010F, 2, 2**31, 2**31),  # a text beyond the file
        struct.pack("<HHII", 0x8769, 4, 1, 2**31),  # a directory beyond the file
        struct.pack("<HHII", 0x0112, 3, 1, 99),  # a turn that there is not
        struct.pack("<HHII", 0x0112, 5, 1, 0),  # a turn that is a fraction
    ],
)
def test_odd_tags_are_left_out(tmp_path, entry):
    good = struct.pack("<HHI4s", 0x0110, 2, 4, b"M1\0\0")
    content = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + good + entry + bytes(4)
    Image.fromarray(RGB).save(tmp_path / "in.jpg", exif=content)
    original = originals.read(tmp_path / "in.jpg")
    for target in ("png", "jpg", "tif", "webp"):
        original.write(tmp_path / f"out.{target}", original.image)
        with Image.open(tmp_path / f"out.{target}") as image:
            assert image.size == (10, 6)


@pytest.mark.parametrize("length", [1000, 70_000])
def test_a_jpeg_keeps_the_tags_that_fit(tmp_path, length):
    tags = exif()
    tags[0x010E] = "x" * length
    Image.fromarray(RGB).save(tmp_path / "in.png", exif=tags)
    original = originals.read(tmp_path / "in.png")
    notes = original.plan(tmp_path / "out.jpg")
    original.write(tmp_path / "out.jpg", original.image)
    tells(tmp_path / "out.jpg", (10, 6))
    with Image.open(tmp_path / "out.jpg") as image:
        assert (0x010E in image.getexif()) == (length == 1000) == (not notes)


def test_what_a_pngs_numbers_mean_stays(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    chunks = ((b"gAMA", struct.pack(">I", 100_000)), (b"cICP", bytes([9, 16, 0, 1])))
    info = PngInfo()
    for name, content in chunks:
        info.add(name, content)
    Image.fromarray(RGB).save(tmp_path / "in.png", pnginfo=info)
    original = originals.read(tmp_path / "in.png")
    original.write(tmp_path / "out.png", original.image)
    assert dict(originals.read(tmp_path / "out.png").metadata.chunks) == dict(chunks)
    assert "JPEG holds no gamma, primaries or cICP" in original.plan(tmp_path / "out.jpg")


def test_the_texts_of_a_png_stay(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Title", "Zürich", zip=True)
    info.add_itxt("Author", "雪", lang="ja")
    for name, text in (("Software", "GIMP"), ("Raw profile type iptc", "\niptc\n0\n")):
        info.add_text(name, text)
    Image.fromarray(RGB).save(tmp_path / "in.png", pnginfo=info)
    original = originals.read(tmp_path / "in.png")
    original.write(tmp_path / "out.png", original.image, made_by="x")
    with Image.open(tmp_path / "out.png") as image:
        assert {name: image.text[name] for name in ("Title", "Author")} == {"Title": "Zürich", "Author": "雪"}
        assert image.text["Author"].lang == "ja"
        assert image.text["Software"].endswith(": x; GIMP") and len(image.text) == 3
    assert original.plan(tmp_path / "out.jpg") == ["JPEG holds no texts of a PNG"]


@pytest.mark.parametrize("kind", ["jpg", "tif"])
def test_comments_stay_where_they_can_and_iptc_is_said_to_be_lost(tmp_path, kind):
    caption = b"\x1c\x02\x78\x00\x05snowy"
    if kind == "jpg":
        resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(caption)) + caption
        segment = b"Photoshop 3.0\0" + resource
        Image.fromarray(RGB).save(
            tmp_path / "in.jpg", comment=b"\xe9t\xe9", extra=b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment
        )
    else:
        Image.fromarray(RGB).save(tmp_path / "in.tif", tiffinfo={0x83BB: caption})
    with Image.open(tmp_path / f"in.{kind}") as image:
        assert getiptcinfo(image) == {(2, 120): b"snowy"}
    original = originals.read(tmp_path / f"in.{kind}")
    lost = ["PNG holds no comment of a JPEG"] * (kind == "jpg") + ["IPTC is left out"]
    assert original.plan(tmp_path / "out.png") == lost
    original.write(tmp_path / f"out.{kind}", original.image)
    with Image.open(tmp_path / f"out.{kind}") as image:
        assert image.info.get("comment") == (b"\xe9t\xe9" if kind == "jpg" else None)


def test_the_profile_of_inks_does_not_belong_to_rgb(tmp_path):
    profile = ink_profile({"paper": (100, 0, 0), "cyan": (62, -30, -48), "black": (0, 0, 0)})
    Image.fromarray(RGB).save(tmp_path / "in.png", icc_profile=profile)
    assert originals.read(tmp_path / "in.png").metadata == metadata.Metadata()


# Before the work ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("original", "name", "message"),
    [
        (Original(RGB), "out.heic", "ends in"),
        (Original(RGB), "out", "ends in"),
        (Original(DEEP[..., :3]), "out.png", r"a photo of 16 bits needs \.tif: choose"),
        (Original(DEEP[..., :3], is_grey=True), "out.jpg", r"needs \.tif or \.png: choose"),
        (Original(DEEP[..., :3], is_grey=True, alpha=DEEP[..., 3]), "out.png", r"needs \.tif: choose"),
        (Original(np.zeros((1, 4100, 3), np.uint8)), "out.webp", "16,383 pixels"),
        (Original(np.zeros((16_400, 1, 3), np.uint8)), "out.jpg", "65,500 pixels"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_the_work(tmp_path, original, name, message):
    with pytest.raises(rvlib.UserError, match=message):
        original.plan(tmp_path / name, 4)
    assert not list(tmp_path.iterdir())


# Transparency ---------------------------------------------------------------------------------------------------------


def test_under_a_cut_out_lies_the_nearest_visible_colour():
    rows, columns = np.mgrid[:48, :48]
    disc = (rows - 23.5) ** 2 + (columns - 23.5) ** 2 < 225
    image = np.where(disc[..., None], np.uint8([255, 0, 0]), np.uint8(0))
    assert (Original(image, alpha=np.where(disc, 255, 0).astype(np.uint8)).visible == (255, 0, 0)).all()
    hidden = Original(RGB, alpha=np.where(ALPHA > 128, 255, 0).astype(np.uint8))
    assert hidden.visible is RGB, "a picture under a mask is not touched"
    for alpha in (None, np.zeros((6, 10), np.uint8), np.full((6, 10), 255, np.uint8)):
        assert np.array_equal(Original(RGB, alpha=alpha).visible, RGB)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("height", "factor"), [(1, 2), (255, 2), (256, 3), (257, 2), (515, 4), (700, 0.5), (1111, 0.37), (300, 1 / 97)]
)
def test_resizing_some_rows_at_a_time_is_resizing(height, factor, dtype):
    for shape in ((height, 50), (height, 9, 3)):
        image = NOISE.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
        assert np.array_equal(resize_photo(image, factor), imresize(image, factor))


# Images of Pillow -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "F", "La", "RGBa"]
)
def test_images_of_every_mode_are_what_they_show(mode):
    smooth = np.linspace(0, 255, 60).round().astype(np.uint8).reshape(6, 10)
    grey = Image.fromarray(smooth)
    if mode == "1":
        smooth = np.where(smooth > 127, 255, 0).astype(np.uint8)
        grey = Image.fromarray(smooth)
    if mode == "I;16":
        image = Image.fromarray(smooth.astype(np.uint16) * 257)
    elif mode in ("1", "F", "LA"):
        image = grey.convert(mode)
    elif mode in ("La", "RGBa", "P", "PA"):
        image = grey.convert({"La": "LA", "RGBa": "RGBA"}.get(mode, "P")).convert(mode)
    else:
        image = grey.convert("RGB").convert(mode)
    shown = originals.eight_bits(originals.from_image(image))
    assert shown.dtype == np.uint8
    assert np.abs(shown - smooth[..., None].astype(int)).max() <= 3


def test_an_image_of_32_bit_integers_is_refused():
    with pytest.raises(rvlib.UserError, match="32-bit integers"):
        originals.from_image(Image.fromarray(DEEP[..., 0].astype(np.int32)))


@pytest.mark.parametrize("bits", [6, 10, 12, 14])
def test_grey_of_odd_depths_is_refused_and_not_shown_dark(tmp_path, bits):
    """Cameras of microscopes store 12 bits, which Pillow puts into the lower ones of 16."""
    numbers = np.full((6, 16), 2**bits - 1, ">u2").view(np.uint8).reshape(-1, 2)
    packed = np.packbits(np.unpackbits(numbers, axis=1)[:, 16 - bits :]).tobytes()
    tags = {256: 16, 257: 6, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 6, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed
    (tmp_path / "odd.tif").write_bytes(head + struct.pack("<H", len(tags)) + entries + bytes(4))
    for read in (originals.read, photos.read):
        with pytest.raises(rvlib.UserError, match=rf"odd\.tif has {bits} bits per colour"):
            read(tmp_path / "odd.tif")


@pytest.mark.parametrize("largest", [65_535, 1023, 255])
def test_depths_of_netpbm(tmp_path, largest):
    """Grey keeps its depth; colours of more than 8 bits, which Pillow reduces, are refused where depth counts."""
    numbers = (DEEP[..., :3].astype(np.float64) / 65_535 * largest).round()
    raw = numbers.astype(">u2" if largest > 255 else np.uint8)
    for name, kind, content in (("grey.pgm", b"P5", raw[..., 0]), ("colours.ppm", b"P6", raw)):
        (tmp_path / name).write_bytes(kind + b" 10 6 %d\n" % largest + content.tobytes())
    grey = originals.read(tmp_path / "grey.pgm")
    white = np.iinfo(grey.image.dtype).max
    assert white == (255 if largest == 255 else 65_535)
    assert np.array_equal(grey.image[..., 1], (numbers[..., 0] / largest * white).round())
    if largest > 255:
        with pytest.raises(rvlib.UserError, match="up to 16 bits per colour"):
            originals.read(tmp_path / "colours.ppm")
    assert np.abs(photos.read(tmp_path / "colours.ppm") - numbers / largest * 255).max() <= 0.51


def test_a_bitmap_of_sixteen_bits_a_pixel_has_no_more_than_eight_a_colour(tmp_path):
    red, green, blue = (RGB[..., channel].astype(np.uint16) >> shift for channel, shift in ((0, 3), (1, 2), (2, 3)))
    pixels = (red << 11 | green << 5 | blue).astype("<u2").tobytes()
    head = struct.pack("<IiiHHIIiiII", 40, 10, -6, 1, 16, 3, 0, 0, 0, 0, 0) + struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    (tmp_path / "in.bmp").write_bytes(b"BM" + struct.pack("<IHHI", 66 + len(pixels), 0, 0, 66) + head + pixels)
    expected = np.dstack([part * 255 / most for part, most in ((red, 31), (green, 63), (blue, 31))])
    assert np.abs(originals.read(tmp_path / "in.bmp").image - expected).max() <= 1


def test_deep_grey_of_jpeg_2000_stays_deep(tmp_path):
    Image.fromarray(DEEP[..., 0]).save(tmp_path / "in.jp2", irreversible=False)
    read = originals.read(tmp_path / "in.jp2")
    assert np.array_equal(read.image[..., 1], DEEP[..., 0])
    assert not read.notes


# What is no photo -----------------------------------------------------------------------------------------------------


def test_the_reason_is_said(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    cases = {
        "photo.png": "is HEIC, which is not read here",
        "x" * 300 + ".png": "name",
        "none.png": "does not exist",
        ".": "is a folder",
        "loop.png": "is a link that leads to no file",
        "empty.png": "is empty",
        "pipe.png": "is a pipe or device",
    }
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in cases.items():
        with pytest.raises(rvlib.UserError, match=message):
            originals.read(tmp_path / name)
    assert metadata.maker(tmp_path / "pipe.png") is None  # and it did not wait


def test_no_program_is_started_for_a_photo(tmp_path, monkeypatch):
    """Pillow hands a PostScript file to Ghostscript, whatever its name ends in."""
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *words, **_: started.append(words))
    Image.fromarray(RGB).save(tmp_path / "photo.png", "EPS")
    with Image.open(tmp_path / "photo.png") as image, contextlib.suppress(Exception):
        image.load()
    assert started, "this test can fail"
    started.clear()
    for read in (originals.read, photos.read):
        with pytest.raises(rvlib.UserError, match="its format is unknown"):
            read(tmp_path / "photo.png")
    assert not started


def test_sixteen_bits_become_eight_in_one_way():
    deep = np.random.default_rng(0).integers(2**16, size=(300, 20, 3), dtype=np.uint16)
    rounded = (deep / 257).round().astype(np.uint8)
    assert np.array_equal(originals.eight_bits(Original(deep)), rounded)
    assert np.array_equal(np.asarray(originals.side_by_side(deep, rounded)), np.hstack([rounded, rounded]))


def test_a_script_that_lifts_pillows_limit_reads_deep_tiffs(tmp_path, monkeypatch):
    deep = np.random.default_rng(0).integers(2**16, size=(20, 30, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert np.array_equal(originals.read(tmp_path / "deep.tif").image, deep)
