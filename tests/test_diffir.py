"""DiffIR's noise schedule, and what its checkpoints say or contradict."""

import json

import pytest
import torch
from golden import FOLDER

import rvlib
from rvlib.models.diffir import DDPM, linear_betas, recognise

SMALL = {"dim": 8, "blocks": (1, 1, 1, 1), "refinement": 1, "encoder": 1}
SCHEDULES = json.loads((FOLDER / "ddpm_schedules.json").read_text())


def state_of(**arguments):
    torch.manual_seed(0)
    model = rvlib.create("diffir", **{**SMALL, **arguments})
    state = dict(model.state_dict())
    return state | ({} if arguments.get("stage") == 1 else {"diffusion.betas": model.diffusion.betas})


def rebuilt(state):
    name, arguments, kept = recognise(state)
    model = rvlib.create(name, **arguments)
    model.load_state_dict(kept)
    return model


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_is_the_official_one(name):
    timesteps, start, end = name.removeprefix("T").split("_")
    schedule = DDPM(linear_betas(int(timesteps), float(start), float(end)))
    for key, values in schedule.named_buffers():
        torch.testing.assert_close(values, torch.tensor(SCHEDULES[name][key]), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("betas", [[0.1, 0.5, 0.55, 0.99], [0.9, 0.5, 0.2], [0.3]])
def test_any_schedule_in_the_file_is_used(betas):
    model = rebuilt(state_of() | {"diffusion.betas": torch.tensor(betas)})
    torch.testing.assert_close(model.diffusion.betas, torch.tensor(betas))
    assert model.denoise.period == 10 * len(betas)


@pytest.mark.parametrize(
    "arguments",
    [
        {"norm_bias": True},
        {"task": "deblurring", "norm_bias": False},
        {"hidden": (5, 9, 30, 17)},
        {"stage": 1, "scale": 2, "heads": (2, 2, 1, 16), "bias": True},
        {"encoder": 0, "denoiser": 0, "timesteps": 1},
    ],
)
def test_unusual_networks_rebuild(arguments):
    state = state_of(**arguments)
    for key, value in rebuilt(state).state_dict().items():
        assert torch.equal(value, state[key])


def test_aliases_stand_in_for_their_originals():
    state = state_of()
    moved = {k.replace("denoise.", "diffusion.model.").replace("condition.", "diffusion.condition."): v
             for k, v in state.items()}  # fmt: skip
    assert recognise(moved)[2].keys() == recognise(state)[2].keys()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("diffusion.model.resmlp.0.bias", torch.ones(256), "contradicts itself"),
        ("diffusion.model.resmlp.0.bias", torch.ones(3), "contradicts itself"),
        ("diffusion.betas", torch.full((20_000,), 0.1), "diffusion.betas"),
        ("diffusion.betas", torch.zeros(0), "diffusion.betas"),
        ("diffusion.betas", torch.full((4,), float("nan")), "betas between 0 and 1"),
        ("diffusion.foo", torch.zeros(3), "diffusion.foo is not part"),
        ("G.patch_embed.proj.weight", torch.zeros(8), "patch_embed"),
        ("G.patch_embed.proj.weight", torch.zeros(0, 3, 3, 3), "positive"),
        ("G.latent.0.attn.temperature", torch.zeros(()), "temperature"),
        ("G.latent.0.attn.temperature", torch.zeros(3, 1, 1), "multiple of its heads"),
        ("G.latent.0.ffn.project_out.weight", torch.zeros(3), "project_out"),
    ],
)
def test_contradictions_are_named(key, value, message, tmp_path):
    torch.save({"params": state_of() | {key: value}}, tmp_path / "x.pth")
    with pytest.raises(rvlib.UserError, match=message):
        rvlib.load(tmp_path / "x.pth")


def test_any_constant_steers_like_any_other_one():
    """A larger constant and smaller modulations give the same network: the constant is no more than weights."""
    torch.manual_seed(0)
    model = rvlib.create("diffir", stage=0, **SMALL)
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        expected = model(x)
        model.constant *= 4
        assert not torch.allclose(model(x), expected)
        for name, parameter in model.named_parameters():
            if ".kernel." in name:
                parameter /= 4
        torch.testing.assert_close(model(x), expected)


def test_zeros_switch_every_block_off():
    """Modulation has no bias: with z = 0 the weights of the blocks do not matter."""
    torch.manual_seed(0)
    model = rvlib.create("diffir", **SMALL)
    x, zeros = torch.rand(1, 3, 8, 8), torch.zeros(1, 256)
    with torch.no_grad():
        expected = model.G(x, zeros)
        for name, parameter in model.G.named_parameters():
            if ".attn." in name or ".ffn." in name:
                parameter.normal_()
        torch.testing.assert_close(model.G(x, zeros), expected)
