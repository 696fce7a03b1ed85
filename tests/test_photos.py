"""Photos: every kind of image file becomes 8-bit RGB, and what is none is named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rvlib
from rvlib import photos, study


@pytest.fixture
def colours():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)


def test_written_and_read_again(colours, tmp_path):
    photos.write(tmp_path / "photo.png", colours)
    assert np.array_equal(photos.read(tmp_path / "photo.png"), colours)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16", "F"])
def test_every_mode_becomes_rgb(colours, tmp_path, mode):
    path = tmp_path / ("photo.tif" if mode in ("CMYK", "F") else "photo.png")
    if mode == "I;16":
        Image.fromarray((colours[..., 0].astype(np.uint16) << 8) + 77).save(path)
    else:
        Image.fromarray(colours).convert(mode).save(path)
    image = photos.read(path)
    assert image.shape == (12, 20, 3)
    assert image.dtype == np.uint8
    if mode == "I;16":
        exact = (256.0 * colours[..., 0] + 77) * 255 / 65535
        assert np.abs(image[..., 1] - exact).max() <= 0.5


def test_exif_rotation_is_applied(colours, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    Image.fromarray(colours).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(photos.read(tmp_path / "turned.png"), np.rot90(colours, -1))


def test_what_is_no_photo_is_named(colours, tmp_path):
    (tmp_path / "text.png").write_text("not a photo")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.fromarray(np.tile(colours, (20, 20, 1))).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    for name in ("text.png", "cut.jpg"):
        with pytest.raises(rvlib.UserError, match=f"{name} is no readable photo"):
            photos.read(tmp_path / name)
    with pytest.raises(rvlib.UserError, match="empty.png is empty: get it again"):
        photos.read(tmp_path / "empty.png")
    with pytest.raises(rvlib.UserError, match="does not exist"):
        photos.read(tmp_path / "none.png")


def test_too_many_pixels_are_refused(colours, tmp_path, monkeypatch):
    photos.write(tmp_path / "photo.png", colours)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(rvlib.UserError, match="too many pixels"):
        photos.read(tmp_path / "photo.png")


def test_folders(colours, tmp_path):
    with pytest.raises(rvlib.UserError, match="holds no photos"):
        photos.folder(tmp_path)
    (tmp_path / "below").mkdir()
    with pytest.raises(
        rvlib.UserError, match="holds no photos .*; the folders in it are not looked into .restore: give --recursive"
    ):
        photos.folder(tmp_path)
    with pytest.raises(rvlib.UserError, match="is not a folder"):
        photos.folder(tmp_path / "none")
    for name in ("b.png", "a.jpg"):
        photos.write(tmp_path / name, colours)
    (tmp_path / "notes.txt").write_text("x")
    assert [path.name for path in photos.folder(tmp_path)] == ["a.jpg", "b.png"]
    assert photos.passed_over(tmp_path) == ""
    for name in ("c.CR2", "d.MP4"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in photos.folder(tmp_path)] == ["a.jpg", "b.png"]
    told = photos.passed_over(tmp_path)
    assert "1 .cr2 in" in told
    assert f"clips in {tmp_path} (1) are left out" in told
    with pytest.raises(rvlib.UserError, match=r"its format is .CR2, which is not read here"):
        photos.read(tmp_path / "c.CR2")


def test_no_photo_hides_another_of_its_name():
    files = [Path(name) for name in ("a.jpg", "a.png", "a.png.tif", "b.png")]
    assert photos.by_name(files) == {"a.jpg": files[0], "a.png": files[1], "a.png.tif": files[2], "b": files[3]}


def test_curves_are_measured_on_the_first_sixteen_validation_photos(colours, tmp_path, monkeypatch):
    names = [f"{number:02}" for number in range(17)]
    for split, found in (("train", ["a"]), ("validation", names), ("test", ["b"])):
        for name in found:
            photos.write(photos.place(tmp_path, "toy", split=split) / f"{name}.png", colours)
    monkeypatch.setattr(study, "data", lambda profile: tmp_path)
    assert list(study.validation("any", "toy")) == names[:16]


def test_unknown_suffix_and_sample(colours, tmp_path):
    with pytest.raises(rvlib.UserError, match="choose a name that ends in"):
        photos.write(tmp_path / "photo.xyz", colours)
    with pytest.raises(rvlib.UserError, match="from uint8, not float32: round it first"):
        photos.write(tmp_path / "photo.png", colours.astype("float32"))
    with pytest.raises(rvlib.UserError, match="has no pixels"):
        photos.write(tmp_path / "empty.png", np.zeros((0, 4, 3), np.uint8))
    for array in (np.zeros((4, 4), np.uint8), np.zeros((2, 4, 4, 3), np.uint8), np.zeros((4, 4, 4), np.uint8), [[0]]):
        with pytest.raises(rvlib.UserError, match="a photo is written from an array H x W x 3, not"):
            photos.write(tmp_path / "photo.tif", array)
    assert not list(tmp_path.glob("photo.tif"))
    with pytest.raises(rvlib.UserError, match="does not exist"):
        photos.load_set(tmp_path, "~nosuchuser/photos")
    with pytest.raises(rvlib.UserError, match="no sample photo 'lena'"):
        photos.sample("lena")
