"""What `rvlib restore` takes in and hands back: every kind of photo, every kind of rubbish."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

import rvlib
from rvlib import metadata, photos
from rvlib.batch import Batch, restore_photo
from rvlib.restore import Size

RGB = photos.sample("coffee")[:20, :28]


@pytest.fixture(scope="module")
def model():
    """A network whose last layer is zero, so that it enlarges by bilinear interpolation."""
    network = rvlib.create("srgan", style="msrresnet", scale=2, features=4, blocks=1)
    torch.nn.init.zeros_(network.conv_last.weight)
    torch.nn.init.zeros_(network.conv_last.bias)
    return network


def restored(model, tmp_path, source, name="out.png", **options):
    target = tmp_path / name
    batch = Batch([source], target)
    restore_photo(model, *batch.jobs[0], **options)
    return target


@pytest.mark.parametrize("mode", ["L", "1", "I;16"])
def test_grey_stays_grey(model, tmp_path, mode):
    image = Image.fromarray(RGB).convert("L")
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    image.save(tmp_path / "in.png")
    with Image.open(restored(model, tmp_path, tmp_path / "in.png")) as out:
        assert out.mode == ("I;16" if mode == "I;16" else "L")
        assert out.size == (56, 40)
        if mode == "I;16":
            assert np.unique(np.asarray(out) % 257).size > 5  # not eight bits in disguise


def test_sixteen_bit_colour_stays(model, tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", RGB.astype(np.uint16) * 257)
    out = tifffile.imread(restored(model, tmp_path, tmp_path / "in.tif", "out.tif"))
    assert out.dtype == np.uint16
    assert out.shape == (40, 56, 3)
    assert np.abs(out / 257 - rvlib.restore(model, RGB)).max() < 0.51


def test_alpha_stays(model, tmp_path):
    alpha = np.zeros(RGB.shape[:2], np.uint8)
    alpha[:, 14:] = 255
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "in.png")
    out = np.asarray(Image.open(restored(model, tmp_path, tmp_path / "in.png")))
    assert out.shape == (40, 56, 4)
    assert out[:, :24, 3].max() < 10
    assert out[:, 32:, 3].min() > 245
    assert np.array_equal(out[..., :3], rvlib.restore(model, RGB))  # colours do not depend on what hides them
    white = np.asarray(Image.open(restored(model, tmp_path, tmp_path / "in.png", "out.jpg")))
    assert white[:, :20].min() > 235


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(model, tmp_path, orientation):
    exif = Image.Exif()
    exif[metadata.ORIENTATION], exif[0x010F] = orientation, "camera"
    Image.fromarray(RGB).save(tmp_path / "in.png", exif=exif)
    with Image.open(restored(model, tmp_path, tmp_path / "in.png")) as out:
        assert out.size == ((56, 40) if orientation < 5 else (40, 56))
        assert out.getexif().get(metadata.ORIENTATION, 1) == 1
        assert out.getexif()[0x010F] == "camera"
        assert np.array_equal(np.asarray(out), rvlib.restore(model, photos.read(tmp_path / "in.png")))


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.webp", "out.tif"])
def test_profile_stays(model, tmp_path, name):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB).save(tmp_path / "in.png", icc_profile=profile)
    with Image.open(restored(model, tmp_path, tmp_path / "in.png", name)) as out:
        assert out.info["icc_profile"] == profile


def test_inks_become_colours(model, tmp_path):
    Image.fromarray(RGB).convert("CMYK").save(tmp_path / "in.jpg", quality=95)
    with Image.open(restored(model, tmp_path, tmp_path / "in.jpg")) as out:
        assert out.mode == "RGB"
        assert abs(np.asarray(out).mean() - RGB.mean()) < 12


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.webp", "out.tif", "out.bmp"])
def test_a_result_names_what_made_it_and_keeps_what_was_said_before(model, tmp_path, name):
    exif = Image.Exif()
    exif[metadata.SOFTWARE], exif[0x010F] = "darkroom 5", "camera"
    Image.fromarray(RGB).save(tmp_path / "in.jpg", exif=exif)
    assert metadata.maker(tmp_path / "in.jpg") is None
    target = restored(model, tmp_path, tmp_path / "in.jpg", name, made_by="toy-x2, factor 2")
    assert metadata.maker(target) == (None if name == "out.bmp" else "toy-x2, factor 2")
    again = restored(model, tmp_path, target, f"again-{name}", made_by="another")
    assert metadata.maker(again) == (None if name == "out.bmp" else "another")
    with Image.open(again) as out:
        if name == "out.png":
            both = f"rvlib {rvlib.__version__}: another; rvlib {rvlib.__version__}: toy-x2, factor 2"
            assert out.info["Software"].startswith(both)
            assert out.getexif()[metadata.SOFTWARE] == "darkroom 5"
        elif name != "out.bmp":
            assert out.getexif()[metadata.SOFTWARE].endswith(": toy-x2, factor 2; darkroom 5")
            assert out.getexif()[0x010F] == "camera"


@pytest.mark.parametrize("name", ["none.png", "text.png"])
def test_what_says_nothing_of_its_maker_has_none(tmp_path, name):
    (tmp_path / "text.png").write_text("no photo")
    assert metadata.maker(tmp_path / name) is None


@pytest.mark.parametrize(("suffix", "lossless"), [("jpg", False), ("webp", False), ("png", True)])
def test_quality_is_that_of_lossy_formats(model, tmp_path, suffix, lossless):
    Image.fromarray(RGB).save(tmp_path / "in.png")
    sizes = [
        restored(model, tmp_path, tmp_path / "in.png", f"{quality}.{suffix}", quality=quality).stat().st_size
        for quality in (20, 95, None)
    ]
    assert (sizes[0] == sizes[1]) if lossless else (sizes[0] < sizes[1] <= sizes[2])


@pytest.mark.parametrize(
    ("wanted", "size"), [({"factor": 1.5}, (42, 30)), ({"width": 33}, (33, 24)), ({"height": 40}, (56, 40))]
)
def test_a_size_is_that_of_photo_alpha_and_comparison(model, tmp_path, wanted, size):
    alpha = np.zeros(RGB.shape[:2], np.uint8)
    alpha[:, 14:] = 255
    Image.fromarray(np.dstack([RGB, alpha])).save(tmp_path / "in.png")
    target = restored(model, tmp_path, tmp_path / "in.png", size=Size(**wanted), compare=True)
    with Image.open(target) as out:
        assert (out.size, out.mode) == (size, "RGBA")
    with Image.open(tmp_path / "out.compare.png") as both:
        assert both.size == (2 * size[0], size[1])
    with pytest.raises(rvlib.UserError, match="--twice"):
        restored(model, tmp_path, tmp_path / "in.png", "large.png", size=Size(width=57))
    assert not (tmp_path / "large.png").exists()


def test_what_is_odd_names_the_photo(model, tmp_path):
    Image.fromarray(RGB).save(tmp_path / "in.png")
    same = rvlib.create("nafnet", width=4, encoder=(1,), middle=1, decoder=(1,))
    torch.nn.init.zeros_(same.ending.weight)
    torch.nn.init.zeros_(same.ending.bias)
    notes = restore_photo([same, model], tmp_path / "in.png", tmp_path / "out.png")
    assert len(notes) == 1
    assert "in.png: the network changed nothing" in notes[0]


def test_comparison_stands_beside(model, tmp_path):
    Image.fromarray(RGB).save(tmp_path / "in.png")
    restored(model, tmp_path, tmp_path / "in.png", compare=True)
    both = photos.read(tmp_path / "out.compare.png")
    assert both.shape == (40, 112, 3)
    assert np.array_equal(both[:, 56:], photos.read(tmp_path / "out.png"))


def _png(width, height, depth=8, colour=2, data=b""):
    chunk = lambda kind, body: (  # noqa: E731
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _whole(suffix, **options):
    from io import BytesIO

    buffer = BytesIO()
    Image.fromarray(RGB).save(buffer, suffix, **options)
    return buffer.getvalue()


def _animation(suffix):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    return lambda: _whole(suffix, save_all=True, append_images=frames[1:])


RUBBISH = {
    "empty.png": lambda: b"",
    "text.png": lambda: b"this is no photo",
    "html.jpg": lambda: b"<html>404</html>",
    "zeros.png": lambda: bytes(1000),
    "header-only.png": lambda: _png(20, 20)[:33],
    "no-data.png": lambda: _png(20000, 8000),
    "bomb.png": lambda: _png(60000, 60000),
    "zero-wide.png": lambda: _png(0, 20),
    "deep-colour.png": lambda: _png(2, 2, 16, 2, b"\0" + bytes(12) + b"\0" + bytes(12)),
    "heic.png": lambda: b"\0\0\0\x18ftypheic" + bytes(100),
    "pdf.jpg": lambda: b"%PDF-1.7 ...",
    "pickle.png": lambda: b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x02os\x94.",
    "animated.webp": _animation("WEBP"),
    "pages.tif": _animation("TIFF"),
    "animated.png": _animation("PNG"),
    **{f"cut-{part}.{kind}": (lambda k=kind, p=part: _whole(k)[: int(len(_whole(k)) * p / 100)])
       for kind in ("png", "tiff", "bmp") for part in (5, 40, 90)},
    **{f"cut-{part}.jpg": (lambda p=part: _whole("JPEG")[: int(len(_whole("JPEG")) * p / 100)]) for part in (5, 40)},
}  # fmt: skip


@pytest.mark.parametrize("name", RUBBISH)
def test_rubbish_is_named_and_leaves_nothing(model, tmp_path, name):
    (tmp_path / name).write_bytes(RUBBISH[name]())
    with pytest.raises(rvlib.UserError, match=name):
        restored(model, tmp_path, tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_any_size(model, tmp_path, size):
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / "in.png")
    out = photos.read(restored(model, tmp_path, tmp_path / "in.png"))
    assert out.shape == (2 * size[0], 2 * size[1], 3)


@pytest.mark.parametrize("name", ["ünï cødé 照片.png", "a" * 240 + ".png", "-o.png", "two.dots.png", "space .PNG"])
def test_any_name(model, tmp_path, name):
    (tmp_path / "out").mkdir()
    Image.fromarray(RGB).save(tmp_path / name, format="PNG")
    batch = Batch([tmp_path / name], tmp_path / "out")
    restore_photo(model, *batch.jobs[0])
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_folders_keep_their_shape(tmp_path):
    for name in ("a.png", "deep/b.jpg", "deep/deeper/c.tif", "deep/notes.txt"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    flat = Batch([tmp_path / "in"], tmp_path / "out")
    assert [target.relative_to(tmp_path).as_posix() for _, target in flat.jobs] == ["out/a.png"]
    assert flat.notes == [f"the folders in {tmp_path / 'in'} (1) are left out: --recursive looks into them"]
    for output in ("in/deep", "in/deep/deeper/out"):  # a folder of results is not missed
        assert Batch([tmp_path / "in"], tmp_path / output).notes == []
    deep = Batch([tmp_path / "in"], tmp_path / "out", recursive=True, suffix="_x4")
    names = ["out/a_x4.png", "out/deep/b_x4.jpg", "out/deep/deeper/c_x4.tif"]
    assert [target.relative_to(tmp_path).as_posix() for _, target in deep.jobs] == names
    assert deep.notes == []
    asked = Batch([tmp_path / "in"], tmp_path / "out", recursive=True, kind="WebP")
    assert {target.suffix for _, target in asked.jobs} == {".webp"}


def test_formats_that_cannot_be_are_refused(tmp_path):
    for name in ("in/a.jpg", "in/a.png", "in/b.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [target.name for _, target in Batch([tmp_path / "in"], tmp_path / "out").jobs] == ["a.jpg", "a.png", "b.png"]
    for kind, message in (("png", "would both become"), ("heic", "heic is not written: choose --format among bmp")):
        with pytest.raises(rvlib.UserError, match=message):
            Batch([tmp_path / "in"], tmp_path / "out", kind=kind)
    with pytest.raises(rvlib.UserError, match="--format png is for a folder"):
        Batch([tmp_path / "in/a.jpg"], tmp_path / "out.jpg", kind="png")
    with pytest.raises(rvlib.UserError, match="name a file or a folder"):
        Batch([tmp_path / "in/a.jpg"], Path("-"))


def test_two_photos_never_share_a_target(tmp_path):
    for name in ("a.gif", "a.png"):
        (tmp_path / name).touch()
    with pytest.raises(rvlib.UserError, match="would both become"):
        Batch([tmp_path / "a.gif", tmp_path / "a.png"], tmp_path / "out")


@pytest.mark.parametrize("output", ["a.png", "../{here}/a.png", "."])
def test_the_original_is_never_overwritten(tmp_path, output):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    with pytest.raises(rvlib.UserError, match="would be overwritten"):
        Batch([tmp_path / "a.png"], tmp_path / output.format(here=tmp_path.name))


def test_what_an_earlier_run_wrote_is_no_photo_to_restore(model, tmp_path):
    """The same command again, into a folder inside the given one, or beside the photos with a suffix."""
    for name in ("a.png", "deep/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(RGB).save(tmp_path / name)
    for output, options in ((tmp_path / "big", {}), (tmp_path, {"suffix": "_x2", "compare": True})):
        jobs = []
        for _ in range(2):
            batch = Batch([tmp_path], output, recursive=True, **options)
            jobs.append([job for job in batch.jobs if tmp_path / "big" not in job[0].parents])
            for photo, target in jobs[-1]:
                restore_photo(model, photo, target, compare=options.get("compare", False))
        assert jobs[0] == jobs[1]
        assert len(jobs[0]) == 2


def test_what_other_systems_leave_beside_photos_is_none(tmp_path):
    for name in ("in/a.png", "in/._a.png", "in/__MACOSX/a.png", "in/.hidden/b.png", "in/~$a.png", "in/c.HEIC"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    batch = Batch([tmp_path / "in"], tmp_path / "out", recursive=True)
    assert [photo.name for photo, _ in batch.jobs] == ["a.png"]
    assert ["1 .heic in" in note for note in batch.notes] == [True]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything may be read here")
def test_folders_that_may_not_be_read_are_named(tmp_path):
    for name in ("in/a.png", "in/closed/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in/closed").chmod(0)
    batch = Batch([tmp_path / "in"], tmp_path / "out", recursive=True)
    assert [photo.name for photo, _ in batch.jobs] == ["a.png"]
    assert "closed may not be read" in batch.faults[0]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    (tmp_path / "in/closed").mkdir(parents=True)
    (tmp_path / "in/a.png").touch()
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, os.strerror(13), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    batch = Batch([tmp_path / "in"], tmp_path / "out", recursive=True)
    assert [photo.name for photo, _ in batch.jobs] == ["a.png"]
    assert ["closed may not be read" in fault for fault in batch.faults] == [True]


def test_nothing_that_was_not_named_is_overwritten(tmp_path):
    for name in ("a.png", "b.png", "a_x2.compare.png"):
        Image.fromarray(RGB).save(tmp_path / name)
    with pytest.raises(rvlib.UserError, match="--suffix"):
        Batch([tmp_path / "a.png"], tmp_path / "out.png", suffix="_x2")
    with pytest.raises(rvlib.UserError, match="would be overwritten"):
        Batch([tmp_path / "a.png", tmp_path / "a_x2.compare.png"], tmp_path, suffix="_x2", compare=True)
    (tmp_path / "link.png").symlink_to("a.png")
    with pytest.raises(rvlib.UserError, match="would be overwritten"):
        Batch([tmp_path / "a.png"], tmp_path / "link.png")


@pytest.mark.parametrize(
    ("name", "message"), [("out.gif", "ends in"), ("file/out.png", "is a file"), ("folder.png", "is a folder")]
)
def test_outputs_that_cannot_be(model, tmp_path, name, message):
    Image.fromarray(RGB).save(tmp_path / "in.png")
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(rvlib.UserError, match=message):
        restore_photo(model, tmp_path / "in.png", tmp_path / name)


def test_what_cannot_be_written_is_said_before_the_work(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "deep.tif", np.tile(RGB, (2, 2, 1)).astype(np.uint16) * 257)
    Image.fromarray(np.zeros((2, 9000, 3), np.uint8)).save(tmp_path / "wide.png")
    worked = []
    monkeypatch.setattr("rvlib.batch.restore", lambda *_, **__: worked.append(1))
    with pytest.raises(rvlib.UserError, match="ends in"):
        Batch([tmp_path / "wide.png"], tmp_path / "out.heic")
    network = rvlib.create("fsrcnn", d=4, s=2, m=1, scale=2)
    for photo, target in (("deep.tif", "out.png"), ("wide.png", "out.webp"), ("wide.png", "wide.png/out.png")):
        with pytest.raises(rvlib.UserError):
            restore_photo(network, tmp_path / photo, tmp_path / target)
    assert not worked


def test_memory_that_does_not_suffice_is_said(model, tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "in.png")
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA"), RuntimeError("can't allocate memory: 9 bytes")):

        def full(*_, error=error, **__):
            raise error

        monkeypatch.setattr("rvlib.batch.restore", full)
        with pytest.raises(
            rvlib.UserError, match=r"in\.png does not fit into memory: give a smaller --tile or fewer --jobs, or"
        ):
            restored(model, tmp_path, tmp_path / "in.png")


def test_a_cut_out_has_no_fringe(model, tmp_path):
    rows, columns = np.mgrid[:48, :48]
    disc = (rows - 23.5) ** 2 + (columns - 23.5) ** 2 < 225
    cut_out = np.zeros((48, 48, 4), np.uint8)
    cut_out[disc] = (255, 0, 0, 255)
    Image.fromarray(cut_out).save(tmp_path / "in.png")
    out = np.asarray(Image.open(restored(model, tmp_path, tmp_path / "in.png"))).astype(int)
    edge = (out[..., 3] > 20) & (out[..., 3] < 235)
    assert edge.sum() > 50
    assert np.abs(out[edge][:, :3] - (255, 0, 0)).max() <= 2


def test_a_full_disk_is_said(model, tmp_path, monkeypatch):
    Image.fromarray(RGB).save(tmp_path / "in.png")

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(rvlib.UserError, match="No space left"):
        restored(model, tmp_path, tmp_path / "in.png")
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]
