"""Adapting to one's own photos, and learning from noisy photos alone."""

import os
import re

import numpy as np
import pytest
import torch

import rvlib
from rvlib import losses, objectives
from rvlib.adapt import Adapted
from rvlib.degrade import BlurredSampling
from rvlib.objectives import BlindSpot, hide
from rvlib.photos import middle, write
from rvlib.settings import Batch


@pytest.fixture(scope="module")
def page():
    """Stripes of one period, as no photo has them: a photo that a network can learn something from."""
    rows, columns = np.mgrid[:160, :160]
    stripes = 255 * ((rows + 2 * columns) % 40 < 15)
    return np.repeat(stripes[..., None].astype(np.uint8), 3, axis=2)


class TestAdapt:
    def test_it_beats_its_start_on_its_own_pairs(self, tmp_path, page):
        """The gain is that of restoring with the weights in the folder, and the network that was given stays."""
        start = rvlib.load("fsrcnn-x4")
        adapted = rvlib.adapt(start, {"page": page}, run=tmp_path / "run", steps=40)
        assert adapted.after > adapted.before + 0.1
        small = rvlib.degrade.imresize(page, 1 / 4)
        loaded = rvlib.load(tmp_path / "run")
        for model, stated in ((start, adapted.before), (loaded, adapted.after)):
            assert rvlib.metrics.psnr(rvlib.restore(model, small), page, crop=4) == pytest.approx(stated, abs=1e-3)
        assert loaded.method == "fsrcnn"

    def test_it_learns_another_degradation(self, tmp_path, page):
        blurred = BlurredSampling(4)
        first, second = (
            rvlib.adapt("fsrcnn-x4", {"page": page}, run=tmp_path / str(given), degradation=given, steps=4)
            for given in (None, blurred)
        )
        assert first.bicubic - second.bicubic > 0.2
        state = [each.model.state_dict()["last_part.weight"] for each in (first, second)]
        assert not torch.equal(*state)

    def test_on_the_command_line(self, rv, tmp_path, page):
        """A file that can be used, a second run that takes the first, a longer one that goes on, another photo."""
        write(tmp_path / "page.png", page)
        words = ["adapt", tmp_path / "page.png", "--model", "fsrcnn-x4", "-o", tmp_path / "mine.safetensors"]
        status, out, _ = rv(*words, "--steps", 4)
        assert status == 0
        assert re.search(r"bicubic [\d.]+ dB, fsrcnn-x4 [\d.]+ dB, adapted [\d.]+ dB \([+-][\d.]+\)", out)
        first = (tmp_path / "mine.safetensors").read_bytes()
        (tmp_path / "mine.safetensors").unlink()
        assert rv(*words, "--steps", 4)[0] == 0
        assert (tmp_path / "mine.safetensors").read_bytes() == first
        assert rv(*words, "--steps", 6)[0] == 0
        assert "lengthened from 4 to 6" in (tmp_path / "mine.run/run.json").read_text()
        assert rvlib.load(tmp_path / "mine.safetensors").scale == 4
        write(tmp_path / "page.png", page[:, ::-1])
        assert "holds another run" in rv(*words, "--steps", 6)[2]
        assert rv(*words, "--steps", 6, "--replace")[0] == 0

    def test_a_stop_loses_nothing(self, rv, tmp_path, page, monkeypatch):
        write(tmp_path / "page.png", page)
        words = ["adapt", tmp_path / "page.png", "--model", "fsrcnn-x4", "-o", tmp_path / "mine.safetensors"]
        step, stopped = objectives.Pixelwise.__call__, []

        def stopping(self, model, batch):
            if batch.step == 2 and not stopped:
                stopped.append(os.kill(os.getpid(), 2))
            return step(self, model, batch)

        monkeypatch.setattr(objectives.Pixelwise, "__call__", stopping)
        status, _, said = rv(*words, "--steps", 5)
        assert status == 130
        assert "stopped at step 3" in said
        assert not (tmp_path / "mine.safetensors").exists()
        assert rv(*words, "--steps", 5)[0] == 0
        assert '"event": "resumed"' in (tmp_path / "mine.run/run.json").read_text()

    def test_a_loss_is_said(self, rv, tmp_path, page, monkeypatch):
        write(tmp_path / "page.png", page)
        worse = Adapted(None, 20.0, 21.0, 20.5)

        def losing(*_, run, **__):
            run.mkdir()
            (run / "last.safetensors").write_bytes(b"")
            return worse

        monkeypatch.setattr(rvlib, "adapt", losing)
        words = ["adapt", tmp_path / "page.png", "--model", "fsrcnn-x4", "-o", tmp_path / "mine.safetensors"]
        status, _, said = rv(*words)
        assert status == 0
        assert "nothing was gained" in said

    @pytest.mark.parametrize(
        ("model", "message"),
        [
            ("nafnet-deblur", "a network for deblurring that keeps the size cannot be adapted"),
            ("srgan-x4", "SRGAN cannot be adapted"),
            ("diffir-x4", "DiffIR cannot be adapted"),
            (rvlib.create("swinir", variant="denoise", embed=12, depths=(2,), heads=(2,)), "a network for denoising"),
            (rvlib.create("srcnn", scale=1), "that keeps the size"),
            ("nothing-x4", "no released weights are called"),
        ],
        ids=str,
    )
    def test_networks_that_cannot_be_adapted(self, tmp_path, page, model, message):
        with pytest.raises(rvlib.UserError, match=message):
            rvlib.adapt(model, {"page": page}, run=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_what_can_be_adapted_is_named(self, tmp_path, page):
        exported = rvlib.create("fsrcnn")
        exported.spec = {"name": "onnx", "arguments": {}}
        with pytest.raises(
            rvlib.UserError, match="an ONNX file cannot be adapted: take weights of SRCNN, FSRCNN, .* or SwinIR"
        ):
            rvlib.adapt(exported, {"page": page}, run=tmp_path / "run")

    def test_photos_that_cannot_be_learned_from(self, rv, tmp_path, page):
        folder = tmp_path / "photos"
        folder.mkdir()
        write(folder / "small.png", page[:47])
        (tmp_path / "rubbish.png").write_bytes(b"rubbish" * 50)
        (tmp_path / "dots.gif").write_bytes(b"GIF89a")
        (tmp_path / "empty").mkdir()
        for name, message in {
            "photos": "small has 160 x 47 pixels, fewer than the 48 x 48 of a patch",
            "photos/small.png": "small has 160 x 47 pixels",
            "rubbish.png": "rubbish.png",
            "dots.gif": "a GIF mixes its colours from dots",
            "empty": "holds no photos",
            "nowhere.jpg": "nowhere.jpg",
        }.items():
            with pytest.raises(rvlib.UserError, match=message):
                rvlib.adapt("fsrcnn-x4", tmp_path / name, run=tmp_path / "run")
        assert not (tmp_path / "run").exists()
        said = rv("adapt", folder, "--model", "fsrcnn-x4", "-o", tmp_path / "mine.pth")[2]
        assert "ends in .safetensors" in said


def test_the_middle_of_a_photo_is_as_far_from_both_edges():
    photo = np.arange(7 * 4 * 3).reshape(7, 4, 3)
    assert np.array_equal(middle(photo, 3), photo[2:5, 0:3])
    assert np.array_equal(middle(photo, 5), photo[1:6])
    assert np.array_equal(middle(photo, 9), photo)


class TestBlindSpot:
    def test_a_guess_does_not_depend_on_the_pixel_that_it_is_for(self):
        """By its gradient, and by changing the pixel, in a network that looks at the mean of the whole photo."""
        torch.manual_seed(0)
        model = rvlib.create("nafnet", width=8, encoder=(1,), middle=1, decoder=(1,))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)  # fresh ones are the identity
        image = torch.rand(1, 3, 16, 20, requires_grad=True)
        for place in (0, 6, 15):
            hidden, spots = hide(image, place)
            guessed = model(hidden)[spots]
            (gradient,) = torch.autograd.grad(guessed.sum(), image)
            assert not gradient[spots].any()
            assert gradient.any()
            changed = image.detach().clone()
            changed[spots] = torch.rand_like(changed[spots])
            with torch.no_grad():
                assert torch.equal(model(hide(changed, place)[0])[spots], guessed)

    def test_every_pixel_is_hidden_at_one_place_and_replaced_by_its_neighbours(self):
        image = torch.rand(2, 3, 9, 10, dtype=torch.float64)
        counts = torch.zeros(9, 10)
        for place in range(objectives.CELL**2):
            hidden, spots = hide(image, place)
            counts[spots] += 1
            rest = torch.ones(9, 10, dtype=torch.bool)
            rest[spots] = False
            assert torch.equal(hidden[..., rest], image[..., rest])
        assert (counts == 1).all()
        around = image[0, 1, 3:6, 4:7].numpy() * [[1, 2, 1], [2, 0, 2], [1, 2, 1]] / 12
        assert hide(image, 4 * 0 + 1)[0][0, 1, 4, 5].item() == pytest.approx(around.sum())

    def test_the_reference_is_not_looked_at_and_each_step_hides_others(self):
        model = rvlib.create("nafnet", width=8, encoder=(1,), middle=1, decoder=(1,))
        noisy, losses_found = torch.rand(2, 3, 16, 16), []
        for step in (0, 16, 17):
            values = [
                BlindSpot(losses.mse)(model, Batch(noisy, reference, step))["loss"].item()
                for reference in (noisy, torch.zeros_like(noisy))
            ]
            assert values[0] == values[1]
            losses_found.append(values[0])
        assert losses_found[0] == losses_found[1] != losses_found[2]


def test_a_blurred_sample_lies_where_bicubic_has_it():
    """A ramp keeps its values, and a point is spread as the formula says, its axes turned."""
    ramp = np.repeat(np.add.outer(np.arange(64.0), 2 * np.arange(64.0))[..., None], 3, axis=2).astype(np.uint8)
    blurred, plain = (d(ramp, None)[5:-5, 5:-5].astype(int) for d in (BlurredSampling(4), rvlib.degrade.Bicubic(4)))
    assert np.abs(blurred - plain).max() <= 1
    for scale in (2, 3, 4):
        kernel = BlurredSampling(scale, (3.0, 1.0), 30.0)
        point = np.zeros((61, 61, 3), np.uint8)
        point[30, 30] = 255
        found = kernel(point, None)[..., 0].astype(float)
        y, x = np.mgrid[: found.shape[0], : found.shape[1]] * scale + (scale - 1) / 2 - 30
        turn = np.radians(30)
        along, beside = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        expected = np.exp(-(along**2) / 18 - beside**2 / 2) / (2 * np.pi * 3)
        np.testing.assert_allclose(found, 255 * expected, atol=0.6)
