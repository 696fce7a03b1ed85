"""Losses equal the official values and do what their formulas say."""

import numpy as np
import pytest
import torch
from golden import entry, tensors, weights
from torchvision.models import vgg16

from rvlib import backbones, losses


@pytest.fixture(scope="module")
def pair():
    stored = tensors("losses")
    return stored["x"].double(), stored["y"].double()


@pytest.fixture(scope="module")
def values():
    return entry("losses")["values"]


def test_pixel_losses(pair, values):
    assert losses.mse(*pair).item() == pytest.approx(values["mse"], rel=1e-5)
    assert losses.l1(*pair).item() == pytest.approx(values["l1"], rel=1e-5)
    assert losses.negative_psnr(*pair).item() == pytest.approx(values["psnr_loss_nafnet"], rel=1e-5)


def test_smooth_and_bounded_losses(pair):
    """Charbonnier lies above |x - y| by less than its ε, and the bounded PSNR above -45 dB."""
    restored, reference = pair
    distance = losses.charbonnier(restored, reference) - losses.l1(restored, reference)
    assert 0 < distance < 1e-3
    assert losses.charbonnier(restored, restored).item() == pytest.approx(1e-3)
    assert losses.bounded_psnr(restored, restored).item() == pytest.approx(-45, abs=1e-9)
    for share in (1, 1e-3):  # the smaller error is one that the bound changes by decibels
        near = reference + share * (restored - reference)
        squares = ((near - reference).numpy() ** 2).mean(axis=(1, 2, 3))
        expected = np.mean(10 * np.log10(squares + 10**-4.5))
        assert losses.bounded_psnr(near, reference).item() == pytest.approx(expected, rel=1e-9)


def test_loss_of_frequencies_takes_the_whole_spectrum(pair):
    """As MIMO-UNet's code does: the L1 distance of real and imaginary parts, at all frequencies."""
    error = (pair[0] - pair[1]).numpy()
    spectrum = np.fft.fft2(error)
    expected = np.abs(error).mean() + 0.1 * np.abs([spectrum.real, spectrum.imag]).mean()
    assert losses.l1_and_frequency(*pair).item() == pytest.approx(expected, rel=1e-5)


def test_total_variation(pair, values):
    assert losses.total_variation(pair[0]).item() == pytest.approx(values["tv_iso_zeropad_sum_over_HW"], rel=1e-5)


def test_total_variation_has_a_gradient_where_the_image_is_flat():
    image = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    losses.total_variation(image).backward()
    assert torch.equal(image.grad, torch.zeros_like(image))


def test_adversarial_losses(values):
    stored = tensors("losses")

    logits = stored["logit_fake"], stored["logit_real"]
    assert 5e-3 * losses.generator_adversarial(logits[0]).item() == pytest.approx(
        values["gan_vanilla_G(w=5e-3)"], rel=1e-5
    )
    assert losses.discriminator_adversarial(*logits).item() == pytest.approx(
        values["gan_vanilla_D_real"] + values["gan_vanilla_D_fake"], rel=1e-5
    )


def test_perceptual_loss_with_rule_filled_vgg16(pair, values, monkeypatch):
    with torch.device("meta"):
        shapes = {key: list(value.shape) for key, value in vgg16(weights=None).features.state_dict().items()}
    state = weights([[k, shapes[k], "", k.split(".")[1], j] for j, k in enumerate(sorted(shapes))])
    state = {k: v * torch.tensor(1.41421356) if v.ndim == 4 else v for k, v in state.items()}
    monkeypatch.setattr(backbones, "backbone_weights", {"vgg16": state}.get)
    features = backbones.vgg16_features.__wrapped__().double()
    found = losses.perceptual(*pair, features)
    assert found.item() == pytest.approx(values["perceptual_vgg16_31_mse_rule_weights"], rel=1e-4)
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_prior_losses(values):
    stored = tensors("losses")
    found = losses.prior_distance(stored["ipr_s2"], stored["ipr_s1"])
    assert found.item() == pytest.approx(values["kd_l1"], rel=1e-5)
    divergence = losses.prior_divergence(stored["ipr_s2"], stored["ipr_s1"])
    assert divergence.item() == pytest.approx(values["kd_kl_T0.15"], rel=1e-4)
    assert losses.prior_divergence(stored["ipr_s1"], stored["ipr_s1"]).item() == pytest.approx(0, abs=1e-12)
