"""Objectives: the sums that their docstrings state, and whose weights each part trains."""

import pytest
import torch
from golden import entry, tensors, weights
from torch import nn

import rvlib
from rvlib import losses
from rvlib.models.srgan import Adversaries, Discriminator
from rvlib.objectives import JointDiffusion, PerceptualAdversarial, SeparateDiffusion, WithReference
from rvlib.settings import Batch


@pytest.fixture
def batch():
    torch.manual_seed(3)
    return Batch(torch.rand(2, 3, 8, 8), torch.rand(2, 3, 32, 32), 0)


@pytest.fixture
def game():
    torch.manual_seed(1)
    return Adversaries(rvlib.create("srgan", features=8, blocks=1), Discriminator(features=4)).train()


@pytest.fixture
def features():
    torch.manual_seed(2)
    return nn.Conv2d(3, 4, 3).requires_grad_(False)


def test_srgans_parts_have_the_published_weights(game, batch, features):
    seen = []
    game.register_forward_hook(lambda module, given, made: seen.append(made))
    parts = PerceptualAdversarial(losses.mse, features)(game, batch)
    ((restored, real, fake, judged),) = seen
    softplus = nn.functional.softplus  # -log σ(logit) is softplus(-logit)
    expected = {
        "pixel": (restored - batch.reference).square().mean(),
        "content": 0.006 * (features(restored) - features(batch.reference)).square().mean(),
        "adversarial": 0.001 * softplus(-judged).mean(),
        "total_variation": 2e-8 * losses.total_variation(restored),
        "discriminator": softplus(-real).mean() + softplus(fake).mean(),
    }
    for name, value in expected.items():
        assert parts[name].item() == pytest.approx(value.item(), rel=1e-5), name
    assert parts["loss"].item() == pytest.approx(sum(expected.values()).item(), rel=1e-6)


def test_each_side_of_the_game_learns_from_its_own_parts(game, batch, features):
    parts = PerceptualAdversarial(losses.mse, features)(game, batch)
    sides = {"generator": list(game.generator.parameters()), "discriminator": list(game.discriminator.parameters())}

    def learns(side, part):
        found = torch.autograd.grad(parts[part], sides[side], allow_unused=True, retain_graph=True)
        return any(each is not None and bool(each.any()) for each in found)

    for part in ("pixel", "content", "adversarial", "total_variation"):
        assert learns("generator", part), part
        assert not learns("discriminator", part), part
    assert learns("discriminator", "discriminator")
    assert not learns("generator", "discriminator")


def test_less_fooled_means_more_adversarial_loss(game, batch, features):
    """It costs the generator less to be taken for a photo than to be seen through."""
    found = []
    for logit in (-2.0, 2.0):
        game.register_forward_hook(lambda *_, logit=logit: (torch.rand(2, 3, 32, 32), *torch.full((3, 2), logit)))
        found.append(PerceptualAdversarial(losses.mse, features)(game, batch)["adversarial"].item())
    assert found[0] > found[1] > 0


@pytest.mark.parametrize("name", ["diffir_sr_x4", "diffir_deblur"])
def test_joint_diffusion_is_the_official_sum(name, monkeypatch):
    golden, stored = entry(name), tensors(name)
    task = "deblurring" if "deblur" in name else "super-resolution"
    model = rvlib.create("diffir", task=task, dim=8, blocks=(1, 1, 1, 1), refinement=1, encoder=2).double()
    model.load_state_dict(weights(golden["keys_s2"], golden["salt_s2"]))
    first = rvlib.create("diffir", task=task, stage=1, dim=8, blocks=(1, 1, 1, 1), refinement=1, encoder=2).double()
    first.load_state_dict(weights(golden["keys_s1"], golden["salt_s1"]))
    monkeypatch.setattr(torch, "randn", lambda *_, **__: stored["in.q_noise"].double())
    batch = Batch(stored["in.lq"].double(), stored["in.gt"].double(), 0)
    parts = JointDiffusion(losses.l1, first)(model, batch)
    official = golden["losses"]
    assert parts["pixel"].item() == pytest.approx(official["pix"], rel=1e-5)
    assert parts["distance"].item() == pytest.approx(official["kd_abs"], rel=1e-5)
    assert parts["loss"].item() == pytest.approx(official["pix"] + official["kd_abs"], rel=1e-5)
    parts["loss"].backward()
    assert all(parameter.grad is None for parameter in first.parameters()), "stage 1 is not trained any more"


def test_stage_1_is_compared_with_its_reference(batch):
    torch.manual_seed(0)
    model = rvlib.create("diffir", stage=1, dim=8, blocks=(1, 1, 1, 1), refinement=1, encoder=1)
    (loss,) = WithReference(losses.l1)(model, batch).values()
    expected = (model(batch.degraded, batch.reference) - batch.reference).abs().mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_separate_diffusion_asks_for_the_prior_of_stage_1(batch):
    first = nn.Module()
    first.prior = lambda degraded, reference: torch.stack([degraded.mean((1, 2, 3)), reference.mean((1, 2, 3))])
    asked = []

    def guess(degraded, *, prior, t):
        asked.append(t)
        return prior + 0.25

    found = [SeparateDiffusion(first, timesteps=3)(guess, batch)["loss"].item() for _ in range(40)]
    assert found == pytest.approx([0.25] * 40)
    assert set(asked) == {0, 1, 2}
