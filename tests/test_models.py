"""What holds for every model: any size, any precision, and a checkpoint that says what it is."""

from dataclasses import replace

import pytest
import torch

import rvlib
from rvlib import losses
from rvlib.complexity import multiply_adds
from rvlib.errors import UserError
from rvlib.models import METHODS, MODELS, method_of
from rvlib.models.base import RestorationModel
from rvlib.models.srgan import Adversaries, Discriminator
from rvlib.models.swinir import start_as_interpolation_
from rvlib.restore import forward_any_size

SMALL_UNET = {"width": 8, "encoder": (1, 2), "middle": 1, "decoder": (1, 1)}
SMALL_SWIN = {"embed": 12, "depths": (2, 3), "heads": (2, 3), "window": 4, "drop_path": 0.0}
SMALL_DIFFIR = {"dim": 8, "blocks": (1, 2, 1, 1), "refinement": 2, "encoder": 1}
CASES = {
    "srcnn": ("srcnn", {}),
    "fsrcnn": ("fsrcnn", {"d": 12, "s": 5, "m": 3}),
    "fsrcnn-shared": ("fsrcnn", {"expand": False, "shared_kernel": True}),
    "fsrcnn-narrow": ("fsrcnn", {"d": 12, "s": 12, "expand": False}),
    "srgan": ("srgan", {"features": 8, "blocks": 3}),
    "srgan-compact": ("srgan", {"style": "compact", "features": 8, "scale": 2}),
    "msrresnet": ("srgan", {"style": "msrresnet", "features": 8, "blocks": 2, "scale": 3}),
    "swinir-light": ("swinir", SMALL_SWIN),
    "swinir-classical": ("swinir", SMALL_SWIN | {"upsampler": "pixelshuffle", "scale": 8, "mlp_ratio": 1.5}),
    "swinir-x3": ("swinir", SMALL_SWIN | {"upsampler": "pixelshuffle", "scale": 3, "qkv_bias": False}),
    "swinir-real": ("swinir", SMALL_SWIN | {"upsampler": "nearest+conv", "body": "3conv", "patch_norm": False}),
    "swinir-real-x2": ("swinir", SMALL_SWIN | {"upsampler": "nearest+conv", "scale": 2, "window": 7}),
    "swinir-denoise": ("swinir", SMALL_SWIN | {"task": "denoising", "scale": 1, "upsampler": "none"}),
    "swinir-jpeg-grey": (
        "swinir",
        SMALL_SWIN | {"task": "jpeg", "scale": 1, "upsampler": "none", "window": 7, "channels": 1, "img_range": 255.0},
    ),
    "swinir-positions": ("swinir", SMALL_SWIN | {"positions": 16}),
    "nafnet": ("nafnet", SMALL_UNET),
    "nafnet-attention": ("nafnet", SMALL_UNET | {"simplified": False}),
    "nafnet-local": ("nafnet", SMALL_UNET | {"local": True, "train_size": (16, 16)}),
    "baseline": ("baseline", SMALL_UNET | {"expand": 2}),
    "plainnet": ("plainnet", SMALL_UNET | {"width": 5}),
    "plainnet-norm": ("plainnet", SMALL_UNET | {"norm": True}),
    "diffir-constant": ("diffir", SMALL_DIFFIR | {"stage": 0}),
    "diffir-x4": ("diffir", SMALL_DIFFIR | {"timesteps": 3}),
    "diffir-x2": ("diffir", SMALL_DIFFIR | {"scale": 2, "bias": True, "factor": 1.7}),
    "diffir-x1": ("diffir", SMALL_DIFFIR | {"scale": 1, "denoiser": 3, "heads": (1, 1, 2, 4)}),
    "diffir-deblurring": ("diffir", SMALL_DIFFIR | {"task": "deblurring", "dim": 12}),
}
CASES |= {name: (name, {}) for name in MODELS if name not in {network for network, _ in CASES.values()}}
HINTS = ("local", "train_size")


def build(name):
    torch.manual_seed(0)
    method, arguments = CASES[name]
    model = rvlib.create(method, **arguments)
    for parameter in model.parameters():  # residual scales that start at zero would hide their branch
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def image(model, height, width):
    return torch.rand(1, model.channels, height, width, generator=torch.Generator().manual_seed(1))


def test_names_and_colours_tell_methods_apart():
    assert list(MODELS) == list(dict.fromkeys(method.network for method in METHODS.values()))
    for each in ("key", "title", "colour"):
        values = [getattr(method, each) for method in METHODS.values()]
        assert len(set(values)) == len(values), each
    recipes = [name for method in METHODS.values() for name in method.recipes]
    assert len(set(recipes)) == len(recipes)


def test_weights_are_named_after_a_key_without_a_hyphen():
    assert [method_of(name) for name in ("swinir-small-x4", "fsrcnn-x4", "nafnet")] == ["swinir", "fsrcnn", "nafnet"]
    with pytest.raises(UserError, match="a key has no hyphen"):
        replace(METHODS["swinir"], key="swinir-small")


@pytest.mark.parametrize("key", METHODS)
def test_a_record_says_what_its_network_is(key):
    method = METHODS[key]
    with torch.device("meta"):
        networks = [rvlib.create(method.network, variant=variant) for variant in (None, *method.variants)]
    assert all(network.spec["name"] == method.network for network in networks)
    assert {network.task for network in networks} <= set(method.tasks)
    assert method.notes.keys() <= method.variants.keys()
    assert all(recipe.loss in losses.PIXEL_LOSSES for recipe in method.recipes.values())


@pytest.mark.parametrize("name", CASES)
class TestEveryModel:
    @pytest.mark.parametrize("size", [(1, 1), (5, 3), (9, 22), (33, 17)])
    def test_any_size(self, name, size):
        model = build(name)
        with torch.no_grad():
            restored = forward_any_size(model, image(model, *size))
        assert restored.shape == (1, model.channels, model.scale * size[0], model.scale * size[1])
        assert restored.isfinite().all()

    def test_bfloat16_stays_finite_and_near(self, name):
        model = build(name)
        degraded = image(model, 16, 24)
        with torch.no_grad():
            exact = forward_any_size(model, degraded)
            rough = forward_any_size(model, degraded, precision="bf16")
        assert not torch.equal(rough, exact)
        assert rough.isfinite().all()
        assert (rough - exact).abs().mean() < 0.01

    def test_says_what_it_does(self, name):
        model = build(name)
        assert isinstance(model, RestorationModel)
        assert model.task in ("super-resolution", "deblurring", "denoising", "jpeg")
        assert model.scale == 1 or model.task == "super-resolution"
        assert not model.training
        assert model.restorer() is model
        own = {id(parameter) for parameter in model.parameters()}
        assert {id(parameter) for parameter in model.slow_parameters()} < own

    def test_forward_takes_what_it_announces(self, name):
        """Sides of `multiple_of`, noise and a description by keyword; the photo's own description changes nothing."""
        model = build(name)
        side = 2 * model.multiple_of
        degraded = image(model, side, side)
        given = {"noise": torch.ones(1, model.noise_size)} if model.noise_size else {}
        with torch.no_grad():
            restored = model(degraded, **given)
            if model.needs_description:
                again = model(degraded, **given, description=model.describe(degraded))
                assert torch.equal(again, restored)
                assert not torch.equal(model(degraded, **given, description=model.describe(0 * degraded)), restored)
        assert restored.shape == (1, model.channels, model.scale * side, model.scale * side)

    def test_official_files_rebuild_it(self, name, tmp_path):
        model = build(name)
        state = dict(model.state_dict())
        if hasattr(model, "diffusion"):  # an official file holds the schedule and a second name for every weight
            state |= {f"diffusion.model.{k.removeprefix('denoise.')}": v for k, v in state.items() if "denoise" in k}
            state |= {"diffusion.betas": model.diffusion.betas, "diffusion.alphas_cumprod": torch.zeros(9)}
        torch.save({"params": {"module." + key: value for key, value in state.items()}}, tmp_path / "official.pth")
        hints = {key: value for key, value in CASES[name][1].items() if key in HINTS}
        again = rvlib.load(tmp_path / "official.pth", scale=model.scale, **hints)
        degraded = image(model, 16, 24)
        with torch.no_grad():
            torch.testing.assert_close(
                forward_any_size(again, degraded), forward_any_size(model, degraded), atol=1e-6, rtol=0
            )

    def test_own_files_rebuild_it(self, name, tmp_path):
        model = build(name)
        rvlib.save(model, tmp_path / "own.safetensors")
        again = rvlib.load(tmp_path / "own.safetensors")
        degraded = image(model, 16, 24)
        with torch.no_grad():
            assert torch.equal(forward_any_size(again, degraded), forward_any_size(model, degraded))

    def test_a_gradient_reaches_every_parameter(self, name):
        model = build(name).train()
        model(image(model, 32, 32)).square().mean().backward()
        gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
        idle = [key for key, gradient in gradients.items() if gradient is None or not gradient.any()]
        assert not idle

    def test_no_two_families_claim_a_file(self, name):
        state = build(name).state_dict()
        families = {method.recognise for method in METHODS.values()}
        (found,) = [each for each in (recognise(state) for recognise in families) if each is not None]
        assert found.name == CASES[name][0]


def test_diffir_stage_1_rebuilds_too(tmp_path):
    model = rvlib.create("diffir", stage=1, **SMALL_DIFFIR)
    torch.save({"params_ema": model.state_dict()}, tmp_path / "s1.pth")
    again = rvlib.load(tmp_path / "s1.pth")
    degraded, reference = torch.rand(1, 3, 8, 16), torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(degraded, reference), model(degraded, reference), atol=1e-6, rtol=0)


def test_only_stage_1_needs_a_reference_and_gives_a_prior():
    model = rvlib.create("diffir", stage=1, **SMALL_DIFFIR)
    assert model.needs_reference
    degraded, reference = torch.rand(2, 3, 8, 16), torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        assert model.prior(degraded, reference).shape == (2, 256)
        assert model(degraded, reference=reference).shape == reference.shape
    assert not any(build(name).needs_reference for name in CASES)


def test_of_two_adversaries_the_generator_restores():
    generator = build("srgan")
    both = Adversaries(generator, Discriminator(features=2))
    assert both.restorer() is generator
    assert (both.task, both.scale, both.channels) == (generator.task, generator.scale, generator.channels)


def test_diffir_is_deterministic_in_its_seed():
    model = build("diffir-x4")
    degraded = image(model, 8, 8)
    with torch.no_grad():
        assert torch.equal(forward_any_size(model, degraded, seed=3), forward_any_size(model, degraded, seed=3))
        assert not torch.equal(forward_any_size(model, degraded, seed=3), forward_any_size(model, degraded, seed=4))


@pytest.mark.parametrize("name", ["swinir-light", "swinir-classical", "nafnet"])
def test_spandrel_computes_the_same(name):
    """An independent reader of official checkpoints rebuilds the network and gives the same image."""
    from spandrel import ModelLoader

    from rvlib.models.windows import shift_mask

    model = build(name)
    state = dict(model.state_dict())
    for key in list(state):  # spandrel wants the buffers that an official file holds
        if key.endswith("attn.relative_position_bias_table"):
            attention = model.layers[0].residual_group.blocks[0].attn
            state[key.replace("_bias_table", "_index")] = attention.relative_position_index
            block = key.removesuffix(".attn.relative_position_bias_table")
            if int(block.rsplit(".", 1)[1]) % 2:
                state[f"{block}.attn_mask"] = shift_mask(64, 64, 4, 2)
    theirs = ModelLoader().load_from_state_dict(state)
    degraded = image(model, 24, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs.model.eval()(degraded), model(degraded), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("swinir", {"scale": 5}, "scale 5 is not supported"),
        ("swinir", {"embed": 50}, "multiple of each of the heads"),
        ("swinir", {"upsampler": "magic"}, "unknown upsampler"),
        ("swinir", {"upsampler": "none", "scale": 1}, "upsampler none is for denoising or jpeg"),
        ("swinir", {"task": "denoising"}, "upsampler pixelshuffledirect is for super-resolution, not for 'denoising'"),
        ("nafnet", {"encoder": (1, 1), "decoder": (1,)}, "the same number of levels"),
        ("diffir", {"stage": 3}, "stage 3"),
        ("diffir", {"task": "dehazing"}, "unknown task"),
        ("diffir", {"timesteps": 0}, "at least one timestep"),
        ("srgan", {"style": "esrgan"}, "unknown style"),
        ("srgan", {"scale": 3}, "scale 3 is not supported"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, message):
    with pytest.raises(rvlib.UserError, match=message):
        rvlib.create(name, **arguments)


def test_hostile_shapes_cost_no_memory(tmp_path):
    """A file of a few kilobytes that claims a huge network is refused, not built."""
    state = rvlib.create("fsrcnn").state_dict()
    state["first_part.0.weight"] = torch.zeros(1).expand(10**6, 1, 5, 5)
    torch.save(state, tmp_path / "huge.pth")
    assert (tmp_path / "huge.pth").stat().st_size < 10**6
    with pytest.raises(rvlib.UserError, match="sizes are far too large"):
        rvlib.load(tmp_path / "huge.pth")


def test_attention_is_counted():
    """Windows four times as large make the two products of attention four times as dear."""
    counts = []
    for window in (4, 8):
        model = rvlib.create("swinir", embed=12, depths=(2,), heads=(2,), window=window)
        counts.append(multiply_adds(model, torch.zeros(1, 3, 16, 16)))
    products = 2 * 2 * 12 * 16**2  # layers, products, channels, tokens: times the tokens of a window
    assert counts[1] - counts[0] == products * (64 - 16)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_swinir_computes_the_same_however_many_windows_at_once(at_once, monkeypatch):
    model, x = rvlib.create("swinir", embed=12, depths=(2,), heads=(2,)), torch.rand(2, 3, 24, 40)
    with torch.no_grad():
        expected = model(x)
        monkeypatch.setattr("rvlib.models.swinir.AT_ONCE", at_once)
        torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)


def test_swinir_starts_as_bilinear_interpolation():
    model, image = start_as_interpolation_(rvlib.create("swinir", **SMALL_SWIN)), torch.rand(1, 3, 16, 24)
    expected = torch.nn.functional.interpolate(image, scale_factor=4, mode="bilinear", align_corners=False)
    inside = (..., slice(4, -4), slice(4, -4))  # at the border, one pads with zeros and the other repeats
    assert torch.allclose(model(image)[inside], expected[inside], atol=1e-5)
    with pytest.raises(UserError, match="pixelshuffledirect"):
        start_as_interpolation_(rvlib.create("swinir", **SMALL_SWIN, upsampler="pixelshuffle"))


def as_official(model):
    """A SwinIR state with the buffers that follow from the sizes, as official files hold them."""
    from rvlib.models.windows import shift_mask

    state = dict(model.state_dict())
    for name, layer in model.named_modules():
        if hasattr(layer, "relative_position_index"):
            state[f"{name}.relative_position_index"] = layer.relative_position_index
        if getattr(layer, "shift", 0):
            mask = shift_mask(8 * model.window, 8 * model.window, model.window, layer.shift)
            state[f"{name}.attn.attn_mask"] = mask.clamp(min=-100)
    return state


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({"task": "denoising", "scale": 1, "upsampler": "none", "window": 8}, 24),
        ({"positions": 16, "upsampler": "pixelshuffle"}, 16),
        ({"window": 8, "shifted": False}, 8),
    ],
    ids=["no upsampler", "positions", "windows as large as the training patches"],
)
def test_spandrels_swinir_computes_the_same_for_rare_variants(changes, side, tmp_path):
    """An independent implementation, built as the official one is, has the same keys and gives the same image."""
    from spandrel.architectures.SwinIR.__arch.SwinIR import SwinIR

    torch.manual_seed(0)
    arguments = SMALL_SWIN | {"scale": 2} | changes
    ours = rvlib.create("swinir", **arguments)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    theirs = SwinIR(
        img_size=side,
        upscale=arguments["scale"],
        embed_dim=arguments["embed"],
        depths=arguments["depths"],
        num_heads=arguments["heads"],
        window_size=arguments["window"],
        mlp_ratio=2,
        upsampler={"none": "", None: "pixelshuffledirect"}.get(changes.get("upsampler"), changes.get("upsampler")),
        ape="positions" in changes,
        img_range=1.0,
    ).eval()
    state = {key: value for key, value in as_official(ours).items() if not key.endswith("attn_mask")}
    missing = theirs.load_state_dict(state, strict=False)
    assert all(key.endswith("attn_mask") for key in missing.missing_keys)
    assert not missing.unexpected_keys
    x = torch.rand(1, 3, side, side)
    with torch.no_grad():
        expected = theirs(x)
        torch.testing.assert_close(ours(x), expected, atol=2e-5, rtol=1e-4)
    torch.save({"params": theirs.state_dict()}, tmp_path / "official.pth")
    loaded = rvlib.load(tmp_path / "official.pth")
    assert {key: loaded.spec["arguments"][key] for key in changes} == changes
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), expected, atol=2e-5, rtol=1e-4)
        assert loaded(torch.rand(1, 3, 21, 13)).shape[-2:] == (21 * loaded.scale, 13 * loaded.scale)


def test_jpeg_is_told_by_its_windows(tmp_path):
    for window, task, img_range in ((7, "jpeg", 255.0), (8, "denoising", 1.0)):
        made = rvlib.create("swinir", **SMALL_SWIN | {"scale": 1, "upsampler": "none", "task": task, "window": window})
        torch.save(as_official(made), tmp_path / "w.pth")
        loaded = rvlib.load(tmp_path / "w.pth")
        assert (loaded.task, loaded.img_range) == (task, img_range)
        assert rvlib.load(tmp_path / "w.pth", img_range=2.0).img_range == 2.0


KEYS_ELSEWHERE = {
    "kair": {"body.": "recon_trunk.", "conv_hr.": "HRconv."},
    "openmmlab": {
        "body.": "trunk_net.",
        "upconv1.": "upsample1.upsample_conv.",
        "upconv2.": "upsample2.upsample_conv.",
    },
}


@pytest.mark.parametrize("home", KEYS_ELSEWHERE)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_msrresnet_is_read_under_the_names_of_other_homes(home, scale, tmp_path):
    made = rvlib.create("srgan", style="msrresnet", scale=scale, features=8, blocks=2)
    state = {}
    for key, value in made.state_dict().items():
        theirs = next((name for name in KEYS_ELSEWHERE[home] if key.startswith(name)), "")
        state[KEYS_ELSEWHERE[home].get(theirs, "") + key.removeprefix(theirs)] = value
    if home == "openmmlab":
        state = {f"generator.{key}": value for key, value in state.items()}
        state |= {"discriminator.linear1.weight": torch.zeros(2, 2), "step_counter": torch.tensor(0)}
    torch.save({"state_dict": state, "meta": {"epoch": 1}}, tmp_path / "w.pth")
    loaded = rvlib.load(tmp_path / "w.pth")
    x = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        assert torch.equal(loaded(x), made(x))


def test_the_compact_generator_of_2018_has_no_norm_after_its_blocks(tmp_path):
    made = rvlib.create("srgan", style="compact", features=8, closing_norm=False)
    torch.save(made.state_dict(), tmp_path / "w.pth")
    loaded = rvlib.load(tmp_path / "w.pth")
    assert [type(layer).__name__ for layer in loaded.block7] == ["Conv2d", "PReLU"]
    x = torch.rand(1, 3, 9, 7)
    with torch.no_grad():
        assert torch.equal(loaded(x), made(x))
