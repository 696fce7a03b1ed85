"""Parsers of this project meet what nobody wrote on purpose: the right answer comes out, or a UserError.

25 examples of each here, 10,000 in the drill.
"""

import io
import json

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps, features
from safetensors.torch import save_file

import rvlib
from rvlib import metadata, originals, photos
from rvlib.models import MODELS
from rvlib.study import fetch as fetching
from rvlib.study import report, tables

RGB = photos.sample("coffee")[:12, :16]


def only_user_errors(tally, parser, call):
    try:
        result = call()
    except rvlib.UserError as error:
        assert str(error)
        tally(f"fuzz: {parser}", "refused")
        return None
    tally(f"fuzz: {parser}", "read")
    return result


@st.composite
def mutated(draw, seeds):
    """Bytes near to valid ones: changed, cut, doubled or replaced in up to four places."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, max(len(content) - 1, 0)))
        stop = min(len(content), start + draw(st.integers(0, 40)))
        content[start:stop] = draw(
            st.one_of(
                st.binary(max_size=8),
                st.just(bytes(content[start:stop]) * 2),
                st.sampled_from(
                    [b",", b"\n", b'"', b"\0", b"\xff" * 4, b"1e999", b"-1", b"\x00" * 4, b"NaN", b"\xef\xbb\xbf"]
                ),
            )
        )
    return bytes(content)


# The manifest ---------------------------------------------------------------------------------------------------------

LINES = fetching.MANIFEST.read_bytes().splitlines(keepends=True)
LISTS = [b"".join(LINES[:4]), b"".join([LINES[0], *LINES[-6:]]), LINES[0], b""]


@given(content=st.one_of(mutated(LISTS), st.binary(max_size=200)))
def test_manifest(tmp_path, content, tally):
    fetching.MANIFEST, kept = tmp_path / "manifest.csv", fetching.MANIFEST
    try:
        fetching.MANIFEST.write_bytes(content)
        listed = only_user_errors(tally, "manifest", fetching.manifest)
    finally:
        fetching.MANIFEST = kept
    if listed is not None:
        for row in listed.itertuples():
            place = tmp_path / fetching._Jobs(tmp_path / "none", listed).name(row)
            assert place.resolve().is_relative_to(tmp_path.resolve())


# Weights --------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
ARGUMENTS = [
    "scale", "d", "s", "m", "channels", "features", "blocks", "style", "embed", "depths", "heads", "window", "width",
    "encoder", "middle", "decoder", "local", "train_size", "stage", "task", "dim", "refinement", "timesteps", "betas",
    "variant", "upsampler", "img_range", "mlp_ratio", "hidden", "expand", "drop_path", "linear_start", "factor",
]  # fmt: skip
SMALL = st.integers(-1, 6) | st.lists(st.integers(-1, 6), max_size=5) | JSON
FITTING = {"name": "fsrcnn", "arguments": {"d": 4, "s": 2, "m": 1}}
RECIPE = st.just(FITTING) | st.fixed_dictionaries(
    {
        "name": st.sampled_from(list(MODELS)) | JSON,
        "arguments": st.dictionaries(st.sampled_from(ARGUMENTS), SMALL, max_size=5) | JSON,
    },
    optional={"sha256": JSON},
)


@given(metadata=RECIPE.map(json.dumps) | JSON.map(json.dumps) | st.text(max_size=40))
def test_metadata_of_weights(tmp_path, metadata, tally):
    state = rvlib.create("fsrcnn", **FITTING["arguments"]).state_dict()
    try:
        save_file(state, tmp_path / "weights.safetensors", metadata={"rvlib": metadata})
    except UnicodeEncodeError:  # half of a surrogate pair cannot be written at all
        return
    only_user_errors(tally, "metadata of weights", lambda: rvlib.load(tmp_path / "weights.safetensors"))


TINY = {
    "srcnn": {},
    "fsrcnn": {"d": 4, "s": 2, "m": 1},
    "srgan": {"features": 4, "blocks": 1},
    "msrresnet": {"style": "msrresnet", "features": 4, "blocks": 1},
    "compact": {"style": "compact", "features": 4},
    "swinir": {"embed": 4, "depths": (1,), "heads": (1,), "window": 2},
    "real": {"embed": 4, "depths": (1,), "heads": (1,), "window": 2, "upsampler": "nearest+conv"},
    **{
        name: {"width": 2, "encoder": (1,), "middle": 1, "decoder": (1,)} for name in ("nafnet", "baseline", "plainnet")
    },
    "stage-1": {"stage": 1, "dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "encoder": 1},
    "stage-2": {"stage": 2, "dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "encoder": 1},
}
FAMILIES = {"msrresnet": "srgan", "compact": "srgan", "real": "swinir", "stage-1": "diffir", "stage-2": "diffir"}
with torch.device("meta"):
    STATES = {
        name: {
            key: tuple(value.shape)
            for key, value in rvlib.create(FAMILIES.get(name, name), **sizes).state_dict().items()
        }
        for name, sizes in TINY.items()
    }


@given(data=st.data())
def test_inference_from_keys_and_shapes(tmp_path, data, tally):
    """A state_dict of some model with shapes, keys and kinds of numbers changed."""
    shapes = dict(STATES[data.draw(st.sampled_from(list(STATES)))])
    for _ in range(data.draw(st.integers(0, 4))):
        key = data.draw(st.sampled_from(sorted(shapes)))
        change = data.draw(st.sampled_from(["shape", "missing", "renamed", "added"]))
        if change == "shape":
            shapes[key] = tuple(data.draw(st.lists(st.integers(0, 9), max_size=5)))
        elif change == "missing" and len(shapes) > 1:
            del shapes[key]
        elif change == "renamed":
            shapes[data.draw(st.sampled_from([key + ".x", key[:-3], key.replace("0", "7"), "module." + key]))] = shapes[
                key
            ]
        elif change == "added":
            shapes[data.draw(st.text(max_size=12))] = (2,)
    dtype = data.draw(st.sampled_from([torch.float32] * 4 + [torch.int64, torch.bool, torch.float16]))
    torch.save({key: torch.zeros(shape, dtype=dtype) for key, shape in shapes.items()}, tmp_path / "weights.pth")
    only_user_errors(tally, "keys and shapes of weights", lambda: rvlib.load(tmp_path / "weights.pth"))


def _checkpoints():
    model = rvlib.create("fsrcnn", d=4, s=2, m=1)
    legacy, modern = io.BytesIO(), io.BytesIO()
    torch.save(model.state_dict(), legacy, _use_new_zipfile_serialization=False)
    torch.save(model.state_dict(), modern)
    return [legacy.getvalue(), modern.getvalue()]


@given(content=mutated(_checkpoints()) | st.binary(max_size=100))
def test_bytes_of_checkpoints(tmp_path, content, tally):
    (tmp_path / "weights.pth").write_bytes(content)
    only_user_errors(tally, "bytes of checkpoints", lambda: rvlib.load(tmp_path / "weights.pth"))


# Tables ---------------------------------------------------------------------------------------------------------------

TABLES = [
    b"set,photo,method,label,psnr_y_crop4\nSet5,baby,fsrcnn,this run,31.25\nSet5,baby,bicubic,bicubic input,28.5\n",
    b"set,method,label,psnr_y_crop4,ssim_y_crop4,photos\nSet5,fsrcnn,this run,31.25,0.9,5\n",
    b"",
]


@given(
    content=mutated(TABLES)
    | st.binary(max_size=100)
    | st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))
)
def test_tables(tmp_path, content, tally):
    (tmp_path / "table.csv").write_bytes(content)
    only_user_errors(tally, "tables", lambda: report.table_html(tmp_path / "table.csv"))


NUMBER = st.none() | st.floats() | st.integers(-(10**12), 10**12)


@given(rows=st.lists(st.tuples(st.text(max_size=12), NUMBER, NUMBER), min_size=1, max_size=4))
def test_numbers_and_names_become_a_table(rows, tally):
    table = pd.DataFrame(rows, columns=["method", "psnr_y_crop4", "seconds"]).astype(
        {"psnr_y_crop4": float, "seconds": float}
    )
    text = only_user_errors(tally, "numbers and names to Markdown", lambda: tables.markdown(table))
    assert text.startswith("|")


# Photos ---------------------------------------------------------------------------------------------------------------


def _photos():
    exif, rich = Image.Exif(), Image.Exif()
    exif[metadata.ORIENTATION] = rich[metadata.ORIENTATION] = 6
    rich[0x010F], rich[0x011A] = "camera", 300.0
    rich.get_ifd(0x8769).update({0x9003: "2024:01:02 03:04:05", 0xA002: 16, 0x927C: b"own"})
    rich.get_ifd(0x8825).update({1: "N", 2: (48.0, 7.0, 30.5)})
    srgb = ImageCms.createProfile("sRGB")
    profile = ImageCms.ImageCmsProfile(srgb).tobytes()
    found = {}
    for kind, mode, options in [
        ("PNG", "RGB", {"exif": exif}), ("PNG", "P", {"transparency": 0}), ("PNG", "LA", {}), ("PNG", "1", {}),
        ("JPEG", "RGB", {"exif": exif}), ("JPEG", "CMYK", {}), ("JPEG", "L", {"progressive": True}), ("BMP", "RGB", {}),
        ("TIFF", "RGB", {"compression": "tiff_lzw"}), ("TIFF", "F", {}), ("WEBP", "RGBA", {"exif": exif}),
        ("GIF", "P", {}), ("PNG", "RGB", {"exif": rich, "dpi": (300, 300)}),
        ("JPEG", "RGB", {"exif": rich, "xmp": b"<x/>"}),
        ("WEBP", "RGB", {"lossless": True, "xmp": b"<x/>"}), ("TIFF", "CMYK", {}), ("TIFF", "LAB", {}),
        ("TIFF", "RGB", {"exif": rich, "compression": "tiff_adobe_deflate"}), ("MPO", "RGB", {}), ("AVIF", "RGB", {}),
    ]:  # fmt: skip
        if kind == "AVIF" and not features.check("avif"):
            continue
        buffer = io.BytesIO()
        image = Image.fromarray(RGB)
        if mode == "LAB":
            image = ImageCms.profileToProfile(image, srgb, ImageCms.createProfile("LAB"), outputMode="LAB")
        elif mode == "F":
            image = image.convert("L").convert("F")
        else:
            image = image.convert(mode)
        image.save(buffer, kind, **options)
        found[f"{kind} {mode}"] = buffer.getvalue()
    deep = RGB.astype(np.uint16) * 257
    with_alpha = np.dstack([deep, deep[..., :1]])
    for number, (pixels, options) in enumerate(
        [
            (deep, {"photometric": "rgb", "iccprofile": profile}),
            (deep.transpose(2, 0, 1).copy(), {"photometric": "rgb", "planarconfig": "separate"}),
            (deep, {"photometric": "rgb", "compression": "zlib", "predictor": True, "bigtiff": True}),
            (deep[..., 0], {"photometric": "miniswhite", "byteorder": ">"}),
            (with_alpha, {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
            (RGB.astype(np.float32) / 255, {"photometric": "rgb"}),
        ]
    ):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, metadata=None, **options)
        found[f"deep TIFF {number}"] = buffer.getvalue()
    return list(found.values())


@pytest.mark.parametrize("read", [photos.read, originals.read], ids=["photos", "originals"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@given(content=mutated(_photos()) | st.binary(max_size=100))
def test_photos(tmp_path, read, suffix, content, tally):
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(content)
    image = only_user_errors(tally, f"{read.__module__.removeprefix('rvlib.')}.read", lambda: read(path))
    image = getattr(image, "image", image)
    if image is not None:
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert image.dtype in (np.uint8, np.uint16)


@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.tif", "out.webp", "out.bmp"])
@given(content=mutated(_photos()))
def test_photos_that_are_read_are_written(tmp_path, target, content, tally):
    """What was read comes out in every format, or `plan` refuses it; what is written is read again, as large."""
    (tmp_path / "in").write_bytes(content)
    original = only_user_errors(tally, "originals.read", lambda: originals.read(tmp_path / "in"))
    if original is None:
        return
    notes = only_user_errors(tally, f"plan of {target}", lambda: original.plan(tmp_path / target))
    if notes is not None:
        original.write(tmp_path / target, original.image)
        again = originals.read(tmp_path / target)
        assert again.image.shape == original.image.shape
        if target == "out.tif":
            assert np.array_equal(again.image, original.image)


# What cameras and programs write: formats x depths x channels x layouts x turns x what belongs to a photo -------------

WRITERS = {
    "PNG": [{}, {"optimize": True}, {"dpi": (300, 300)}],
    "JPEG": [{"quality": 98}, {"quality": 98, "progressive": True}, {"quality": 98, "restart_marker_blocks": 1}],
    "TIFF": [{"compression": name} for name in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma")],
    "WEBP": [{"lossless": True, "exact": True}, {"quality": 98}],
    "AVIF": [{"quality": 98}],
    "JPEG2000": [{}, {"irreversible": True}],
    "BMP": [{}],
    "GIF": [{}],
    "PPM": [{}],
    "TGA": [{}, {"compression": "tga_rle"}],
}
HOLD = {"JPEG": ("L", "RGB", "CMYK"), "BMP": ("1", "L", "P", "RGB"), "GIF": ("L", "P"), "PPM": ("1", "L", "RGB")}
HOLD |= {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"),
}
LARGE = np.ascontiguousarray(photos.sample("coffee")[100:124, 100:132])


def shown(image):
    """What Pillow shows of an image, upright: uint8 H x W x 3."""
    image = ImageOps.exif_transpose(image)
    return np.asarray((image.point(lambda v: v / 257, "L") if image.mode == "I;16" else image).convert("RGB")).astype(
        int
    )


@given(data=st.data())
def test_photos_that_programs_write(tmp_path, data, tally):
    """A photo that Pillow writes comes in as Pillow shows it, with its depth, greyness, transparency and turn."""
    kind = data.draw(st.sampled_from([each for each in WRITERS if each != "AVIF" or features.check("avif")]))
    mode = data.draw(st.sampled_from(HOLD.get(kind, ("L", "RGB", "RGBA") if kind == "TGA" else ("RGB", "RGBA"))))
    options = dict(data.draw(st.sampled_from(WRITERS[kind])))
    turn = data.draw(st.integers(1, 8)) if kind in ("PNG", "JPEG", "TIFF", "WEBP", "AVIF") else 1
    height, width = data.draw(st.tuples(st.integers(1, 24), st.integers(1, 32)))
    image = Image.fromarray(LARGE[:height, :width])
    if mode in ("LA", "RGBA"):
        image.putalpha(image.getchannel("R"))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    image = image.convert(mode)
    if turn > 1:
        options["exif"] = Image.Exif()
        options["exif"][metadata.ORIENTATION] = turn
    if kind in ("PNG", "JPEG", "TIFF", "WEBP") and data.draw(st.booleans()):
        options["icc_profile"] = b"an ICC profile that no program understands"
    path = tmp_path / data.draw(st.sampled_from(["photo.png", "photo.tif", "photo"]))  # content counts, not the name
    try:
        image.save(path, kind, **options)
    except (OSError, ValueError, SystemError):  # this Pillow does not write that
        return
    original = only_user_errors(tally, f"photos as {kind}", lambda: originals.read(path))
    assert original is not None, (kind, mode, options)
    with path.open("rb") as file, Image.open(file) as again:  # by its name, Pillow (13.0) garbles turned TIFFs
        expected = shown(again)
        has_alpha = again.has_transparency_data
    found = originals.eight_bits(originals.Original(original.image)).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1
    assert original.image.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    assert (original.alpha is not None) == has_alpha
    if kind in ("PNG", "TIFF") and mode != "P":
        assert original.is_grey == (mode in ("1", "L", "LA", "I;16"))


@given(data=st.data())
def test_deep_photos_that_programs_write(tmp_path, data, tally):
    """TIFFs: kind of number x channels x photometric x planes x tiles x byte order x BigTIFF x compression."""
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.float16, np.float32]))
    channels = data.draw(st.integers(1, 4))
    options = {"bigtiff": data.draw(st.booleans()), "byteorder": data.draw(st.sampled_from("<>")), "metadata": None}
    options["compression"] = data.draw(st.sampled_from([None, "zlib", "lzma"]))
    options["tile"] = data.draw(st.sampled_from([None, (16, 16)]))
    options["photometric"] = data.draw(st.sampled_from(["minisblack", "miniswhite"])) if channels < 3 else "rgb"
    if channels in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    turn = data.draw(st.integers(1, 8))
    options["extratags"] = [(metadata.ORIENTATION, 3, 1, turn, True)]
    values = np.dstack([LARGE, LARGE[::-1, :, 0]])[..., : 2 if channels == 2 else channels]
    white = {np.uint8: 255, np.uint16: 65_535}.get(dtype, 1)
    pixels = (values.astype(np.float64) / 255 * white).astype(dtype)
    if channels == 1:
        pixels = pixels[..., 0]
    elif data.draw(st.booleans()):
        pixels, options["planarconfig"] = pixels.transpose(2, 0, 1).copy(), "separate"
    else:
        options["planarconfig"] = "contig"
    tifffile.imwrite(tmp_path / "in.tif", pixels, **options)
    original = only_user_errors(tally, "photos as deep TIFF", lambda: originals.read(tmp_path / "in.tif"))
    assert original is not None, options
    expected = values[..., :1] if channels < 3 else values[..., :3]
    if options["photometric"] == "miniswhite":
        expected = 255 - expected
    expected = originals.turned(np.broadcast_to(expected, LARGE.shape), turn).astype(int)
    found = originals.eight_bits(originals.Original(original.image)).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1
    assert original.image.dtype == (np.uint8 if dtype is np.uint8 else np.uint16)
    assert (original.alpha is not None) == (channels in (2, 4))
