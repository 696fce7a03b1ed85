"""Every model is its official implementation: same keys, same sizes, same numbers for the same weights."""

from collections import OrderedDict
from itertools import pairwise

import pytest
import torch
from golden import (
    assert_equal_to_golden,
    assert_gradients_equal_to_golden,
    entry,
    made_input,
    made_noise,
    official,
    tensors,
    weights,
)
from torch import nn

import rvlib
from rvlib import complexity

UNET = {"width": 8, "encoder": (1, 1, 2), "middle": 1, "decoder": (1, 1, 1)}
LOCAL = {"local": True, "train_size": (16, 16)}
SWIN = {"embed": 24, "depths": (2, 2), "heads": (2, 2), "window": 4, "drop_path": 0.0}
GOLDENS = {
    "srcnn_955": ("srcnn", {"scale": 1}),
    "fsrcnn_x2": ("fsrcnn", {"scale": 2}),
    "fsrcnn_x4": ("fsrcnn", {}),
    "nafnet_w8": ("nafnet", UNET),
    "baseline_w8": ("baseline", UNET),
    "plainnet_w8_derived": ("plainnet", UNET),
    "nafnet_local_w8": ("nafnet", UNET | LOCAL),
    "baseline_local_w8": ("baseline", UNET | LOCAL),
    "swinir_pixelshuffle_x2": ("swinir", SWIN | {"scale": 2, "upsampler": "pixelshuffle"}),
    "swinir_pixelshuffle_x4": ("swinir", SWIN | {"scale": 4, "upsampler": "pixelshuffle"}),
    "swinir_direct_x3": ("swinir", SWIN | {"scale": 3}),
    "swinir_nearestconv_x4_3conv": ("swinir", SWIN | {"scale": 4, "upsampler": "nearest+conv", "body": "3conv"}),
    "swinir_denoise_gray_w7": (
        "swinir",
        SWIN | {"task": "jpeg", "scale": 1, "upsampler": "none", "window": 7, "img_range": 255.0, "channels": 1},
    ),
    "srgan_lt_g_x4": ("srgan", {"style": "compact"}),
    "srresnet_lorna_x4": ("srgan", {"features": 16, "blocks": 2}),
    "msrresnet_x2": ("srgan", {"style": "msrresnet", "scale": 2, "features": 16, "blocks": 2}),
    "msrresnet_x4": ("srgan", {"style": "msrresnet", "scale": 4, "features": 16, "blocks": 2}),
}

DIFFIR = {"super-resolution": {}, "deblurring": {"task": "deblurring"}}
OFFICIAL = {
    "fsrcnn_x2": ("fsrcnn", {"scale": 2}),
    "fsrcnn_x3": ("fsrcnn", {"scale": 3}),
    "fsrcnn_x4": ("fsrcnn", {}),
    "srcnn_955": ("srcnn", {"scale": 1}),
    "srgan_leftthomas_g_x4": ("srgan", {"variant": "compact"}),
    "srresnet_lornatang_x4": ("srgan", {}),
    **{f"msrresnet_x{s}": ("srgan", {"variant": "msrresnet", "scale": s}) for s in (2, 3, 4)},
    **{f"swinir_classical_s48_x{s}": ("swinir", {"variant": "classical", "scale": s}) for s in (2, 3, 4, 8)},
    **{f"swinir_classical_s64_x{s}": ("swinir", {"variant": "classical", "scale": s}) for s in (2, 4)},
    **{f"swinir_light_x{s}": ("swinir", {"variant": "light", "scale": s}) for s in (2, 3, 4)},
    **{f"swinir_real_M_x{s}": ("swinir", {"variant": "real-m", "scale": s}) for s in (2, 4)},
    "swinir_real_L_x4": ("swinir", {"variant": "real-l"}),
    "swinir_colordn": ("swinir", {"variant": "denoise"}),
    "swinir_graydn": ("swinir", {"variant": "denoise-grey"}),
    "swinir_jpegcar": ("swinir", {"variant": "jpeg-grey"}),
    **{f"nafnet_{v.replace('-', '_')}": ("nafnet", {"variant": v}) for v in ("gopro-w32", "gopro-w64", "sidd-w32")},
    "nafnet_sidd_w64": ("nafnet", {"variant": "sidd-w64"}),
    "nafnet_local_gopro_w32": ("nafnet", {"variant": "gopro-w32", "local": True}),
    **{f"baseline_{v.replace('-', '_')}": ("baseline", {"variant": v}) for v in ("gopro-w32", "gopro-w64", "sidd-w32")},
    "diffir_s1_sr_x4": ("diffir", {"stage": 1}),
    **{f"diffir_s2_sr_x{s}": ("diffir", {"scale": s}) for s in (1, 2, 4)},
    "diffir_s1_deblur": ("diffir", {"stage": 1, "task": "deblurring"}),
    "diffir_s2_deblur": ("diffir", {"task": "deblurring"}),
}
DERIVED = ("relative_position_index", "attn_mask")


def filled(name):
    method, arguments = GOLDENS[name]
    model = rvlib.create(method, **arguments)
    golden = entry(name)
    model.load_state_dict(weights(golden["keys"], golden["salt"]), strict=False)
    return model


@pytest.mark.parametrize("name", GOLDENS)
def test_same_numbers(name):
    assert_equal_to_golden(filled(name), name)


@pytest.mark.parametrize("name", [name for name in GOLDENS if "grad" in entry(name)])
def test_same_gradients(name):
    assert_gradients_equal_to_golden(filled(name), name)


@pytest.mark.parametrize("name", OFFICIAL)
def test_same_keys_shapes_and_parameters_at_full_size(name):
    method, arguments = OFFICIAL[name]
    with torch.device("meta"):
        model = rvlib.create(method, **arguments)
    found = {key: list(value.shape) for key, value in model.state_dict().items()}
    keys = official()[name]["keys"]
    skipped = ("diffusion.",)  # schedule and aliases
    expected = {k: shape for k, shape, *_ in keys if not k.startswith(skipped) and not k.endswith(DERIVED)}
    assert found == expected
    assert complexity.parameters(model) == official()[name]["params"]


@pytest.mark.parametrize("name", [
    "swinir_light_x4", "swinir_jpegcar", pytest.param("nafnet_local_gopro_w32", marks=pytest.mark.slow),
    "baseline_gopro_w32", "srgan_leftthomas_g_x4", "srresnet_lornatang_x4",
    "diffir_s1_sr_x4", "diffir_s2_sr_x4", "diffir_s2_sr_x2", "diffir_s2_deblur",
])  # fmt: skip
def test_same_numbers_at_full_size(name):
    method, arguments = OFFICIAL[name]
    facts = official()[name]
    model = rvlib.create(method, **arguments)
    model.load_state_dict(weights(facts["keys"]), strict=False)
    inputs = [made_input(facts["input"]["shape"], facts["input"]["seed"])]
    if method == "diffir":
        is_first = arguments.get("stage") == 1
        inputs += [made_input(facts["gt"]["shape"], 7002) if is_first else made_noise(1, 7003)]
    with torch.no_grad():
        restored = model(*inputs)
    assert list(restored.shape) == facts["shape"]
    flat = restored.flatten()
    samples = flat[[k * (flat.numel() - 1) // 63 for k in range(64)]]
    assert (samples - torch.tensor(facts["sample"])).abs().max() <= facts["atol"]


def test_swinirs_buffers_and_intermediate_features():
    from rvlib.models.windows import shift_mask

    model, stored = filled("swinir_pixelshuffle_x2"), tensors("swinir_pixelshuffle_x2")
    attention = model.layers[0].residual_group.blocks[1].attn
    assert torch.equal(attention.relative_position_index, stored["buf.relative_position_index"])
    # the official -100 gives weights of e⁻¹⁰⁰, which float32 has no normal number for; -∞ gives none
    assert torch.equal(
        shift_mask(16, 16, 4, 2), stored["buf.attn_mask"].masked_fill(stored["buf.attn_mask"] < 0, -torch.inf)
    )
    seen = {}
    model.conv_first.register_forward_hook(lambda *a: seen.update(conv_first=a[-1]))
    for index, name in enumerate(("block00", "block01_shifted")):
        layer = model.layers[0].residual_group.blocks[index]
        layer.register_forward_hook(lambda *a, name=name: seen.update({name: a[-1]}))
    model.layers[0].register_forward_hook(lambda *a: seen.update(rstb0=a[-1].flatten(1, 2)))
    with torch.no_grad():
        model(stored["in.0"])
    for name, found in seen.items():
        torch.testing.assert_close(found, stored[f"mid.{name}"], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("task", DIFFIR)
def test_diffir_step_by_step(task):
    name = "diffir_sr_x4" if task == "super-resolution" else "diffir_deblur"
    golden, stored = entry(name), tensors(name)
    sizes = {"task": task, "dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "encoder": 2}
    first, second = (rvlib.create("diffir", stage=stage, **sizes) for stage in (1, 2))
    for model, number in ((first, 1), (second, 2)):
        model.load_state_dict(weights(golden[f"keys_s{number}"], golden[f"salt_s{number}"]))
        assert complexity.parameters(model) == golden[f"params_s{number}"]
    degraded, reference = stored["in.lq"], stored["in.gt"]
    with torch.no_grad():
        found = {"out.s1.ipr": first.prior(degraded, reference), "out.s1": first(degraded, reference)}
        condition = second.condition(torch.nn.functional.pixel_unshuffle(degraded, second.unshuffle))
        steps = second.diffusion.reverse(stored["in.x_T"], condition, second.denoise)
        found |= {f"out.s2.step{index}": step for index, step in enumerate(steps)}
        found |= {"out.s2.cond": condition, "out.s2.denoise_x0_T": second.denoise(stored["in.x_T"], 3, condition)}
        found |= {"out.s2": second(degraded, stored["in.x_T"])}
        found |= {"out.g_given_ipr": second.G(degraded, stored["out.s1.ipr"])}
        found |= {"out.q_sample": second.diffusion.diffuse(stored["out.s1.ipr"], stored["in.q_noise"])}
        restored, guesses = second(degraded, stored["in.q_noise"], prior=stored["out.s1.ipr"])
        found |= {"out.train.sr": restored, "out.train.ipr_list": torch.stack(guesses)}
    for key, value in found.items():
        assert (value - stored[key]).abs().max() <= golden["atol"][key], key
    for buffer, value in second.diffusion.named_buffers(recurse=False):
        torch.testing.assert_close(value, stored[f"buf.{buffer}"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("task", DIFFIR)
def test_diffirs_training_loss_and_gradients(task):
    from rvlib import losses

    name = "diffir_sr_x4" if task == "super-resolution" else "diffir_deblur"
    golden, stored = entry(name), tensors(name)
    model = rvlib.create("diffir", task=task, dim=8, blocks=(1, 1, 1, 1), refinement=1, encoder=2).double()
    model.load_state_dict(weights(golden["keys_s2"], golden["salt_s2"]))
    prior = stored["out.s1.ipr"].double()
    restored, steps = model(stored["in.lq"].double(), stored["in.q_noise"].double(), prior=prior)
    pixel, distance = losses.l1(restored, stored["in.gt"].double()), losses.prior_distance(steps[-1], prior)
    assert pixel.item() == pytest.approx(golden["losses"]["pix"], rel=1e-5)
    assert distance.item() == pytest.approx(golden["losses"]["kd_abs"], rel=1e-5)
    assert losses.prior_divergence(steps[-1], prior).item() == pytest.approx(golden["losses"]["kd_kl"], rel=1e-4)
    (pixel + distance).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad.norm().item() == pytest.approx(golden["grad_norms_s2"][key], rel=2e-3, abs=1e-8), key


def test_diffir_padded_by_restore():
    from rvlib.restore import pad

    golden, stored = entry("diffir_sr_padded"), tensors("diffir_sr_padded")
    model = rvlib.create("diffir", dim=8, blocks=(1, 1, 1, 1), refinement=1, encoder=2)
    model.load_state_dict(weights(entry("diffir_sr_x4")["keys_s2"], golden["salt"]))
    degraded = stored["in.lq"]
    height, width = degraded.shape[-2:]
    padded = pad(degraded, -height % model.multiple_of, -width % model.multiple_of)
    with torch.no_grad():
        restored = model(padded, stored["in.x_T"])[..., : 4 * height, : 4 * width]
    assert (restored - stored["out.0"]).abs().max() <= golden["atol"]


def test_the_discriminator():
    from rvlib.models.srgan import Discriminator

    golden, stored = entry("srgan_lt_d"), tensors("srgan_lt_d")
    model = Discriminator().eval()
    model.load_state_dict(weights(golden["keys"], golden["salt"]), strict=False)
    with torch.no_grad():
        assert (model(stored["in.0"]) - stored["out.logit.0"]).abs().max() <= golden["atol_logit"]
        assert (model(stored["in.0"]).sigmoid() - stored["out.0"]).abs().max() <= golden["atol"]
        assert (model.train()(stored["in.0"]) - stored["out.train.0"]).abs().max() <= golden["atol_logit"]
    norm = model.net[3]
    torch.testing.assert_close(norm.running_mean, stored["out.train.running_mean"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.running_var, stored["out.train.running_var"], atol=1e-5, rtol=1e-5)


def test_the_convolutions_of_the_papers_discriminator():
    """Lornatang's has the same convolutions, without biases in front of BatchNorm, and the paper's dense layers."""
    from rvlib.models.srgan import discriminator_convolutions

    golden, stored = entry("disc_lorna_c8"), tensors("disc_lorna_c8")
    features = nn.Sequential(*discriminator_convolutions(8))
    for layer, following in pairwise(features):
        if isinstance(following, nn.BatchNorm2d):
            layer.bias = None
    dense = nn.Sequential(nn.Linear(8 * 8 * 6 * 6, 1024), nn.LeakyReLU(0.2), nn.Linear(1024, 1))
    model = nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), classifier=dense)).eval()
    missing = model.load_state_dict(weights(golden["keys"], golden["salt"]), strict=False)
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    assert not missing.unexpected_keys
    with torch.no_grad():
        assert (model(stored["in.0"]) - stored["out.0"]).abs().max() <= golden["atol"]
