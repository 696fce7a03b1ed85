"""DiffIR: diffusion on a vector of 256 numbers instead of on the image.

Xia et al. 2023, "DiffIR: Efficient Diffusion Model for Image Restoration", Fig. 2. Stage 1 learns what helps: an
encoder (CPEN) sees the degraded and the reference photo and compresses what distinguishes them into the image prior
representation (IPR), which steers a Restormer-like network (DIRformer). Stage 2 learns to guess the IPR from the
degraded photo alone, by a diffusion of T steps; since the vector is small, all T steps are run and trained through.

Symbols: z the IPR (b, 256), c the condition that CPEN extracts from the degraded photo, β_t the noise added in step t,
α_t = 1 - β_t, ᾱ_t = α_1 ⋯ α_t.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rvlib.errors import UserError
from rvlib.models.base import RestorationModel
from rvlib.models.dirformer import PRIOR, DIRformer
from rvlib.models.keys import Recognised, children
from rvlib.models.method import Method
from rvlib.objectives import JointDiffusion, Pixelwise, SeparateDiffusion, WithReference
from rvlib.settings import Loss, Objective, Prepare, Recipe, Settings, alone, take_over

OFFICIAL_SIZES = {  # sizes by task
    "super-resolution": {"dim": 64, "blocks": (13, 1, 1, 1), "refinement": 13, "factor": 2.2, "encoder": 9},
    "deblurring": {"dim": 48, "blocks": (3, 5, 6, 6), "refinement": 4, "factor": 2.0, "encoder": 5},
}
SCALES = {"super-resolution": (1, 2, 4), "deblurring": (1,)}
BUFFERS = {  # of the noise schedule in official checkpoints: they follow from the betas
    "diffusion.betas",
    "diffusion.alphas_cumprod",
    "diffusion.alphas_cumprod_prev",
    "diffusion.sqrt_alphas_cumprod",
    "diffusion.sqrt_one_minus_alphas_cumprod",
    "diffusion.log_one_minus_alphas_cumprod",
    "diffusion.sqrt_recip_alphas_cumprod",
    "diffusion.sqrt_recipm1_alphas_cumprod",
    "diffusion.posterior_variance",
    "diffusion.posterior_log_variance_clipped",
    "diffusion.posterior_mean_coef1",
    "diffusion.posterior_mean_coef2",
}


class ResBlock(nn.Module):
    """x + W₂ LeakyReLU(W₁ x)."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        return x + self.body(x)


class CPEN(nn.Module):
    """Compact IPR extraction network (DiffIR, Fig. 2): convolutions, mean over the image, two linear layers."""

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        layers = [nn.Conv2d(channels, 64, 3, padding=1), nn.LeakyReLU(0.1), *(ResBlock(64) for _ in range(blocks))]
        for before, after in ((64, 128), (128, 128), (128, PRIOR)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(0.1)]
        self.E = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.mlp = nn.Sequential(nn.Linear(PRIOR, PRIOR), nn.LeakyReLU(0.1), nn.Linear(PRIOR, PRIOR), nn.LeakyReLU(0.1))

    def describe(self, x: Tensor) -> Tensor:
        """What the convolutions see, averaged over the image: (b channels h w) -> (b, 256)."""
        return self.E(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """(b channels h w) -> the IPR (b, 256)."""
        return self.mlp(self.describe(x))


class HiddenLayer(nn.Module):
    """A linear layer and LeakyReLU; official checkpoints name it a residual MLP, but it has no shortcut."""

    def __init__(self):
        super().__init__()
        self.resmlp = nn.Sequential(nn.Linear(PRIOR, PRIOR), nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(b, 256) -> (b, 256)."""
        return self.resmlp(x)


class Denoiser(nn.Module):
    """Predicts the clean IPR: ẑ_0 = f(c, t / 10T, z_t).

    The paper predicts noise (eq. 9); the official code predicts ẑ_0, and so does this.
    """

    def __init__(self, layers: int, timesteps: int):
        super().__init__()
        self.period = 10 * timesteps
        hidden = [HiddenLayer() for _ in range(layers)]
        self.resmlp = nn.Sequential(nn.Linear(2 * PRIOR + 1, PRIOR), nn.LeakyReLU(0.1), *hidden)

    def forward(self, z: Tensor, t: int, condition: Tensor) -> Tensor:
        """z_t and the condition, (b, 256) each, at step t, counted from 0 -> ẑ_0 (b, 256)."""
        time = torch.full_like(z[:, :1], t / self.period)  # (b, 1)
        return self.resmlp(torch.cat([condition, time, z], dim=1))


class DDPM(nn.Module):
    """The noise schedule and its reverse step (Ho et al. 2020, eq. 4 and 7), for a handful of steps.

        q(z_t | z_0) = N(√ᾱ_t z_0, (1 - ᾱ_t) I)
        z_{t-1} = √ᾱ_{t-1} β_t / (1 - ᾱ_t) · ẑ_0 + √α_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t) · z_t

    The reverse step is the posterior's mean alone: no noise is added, as in the official code.
    """

    def __init__(self, betas: Tensor):
        super().__init__()
        alphas = 1 - betas
        cumulated = alphas.cumprod(0)
        before = torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), cumulated[:-1]])
        schedule = {
            "betas": betas,
            "alphas_cumprod": cumulated,
            "posterior_mean_coef1": before.sqrt() * betas / (1 - cumulated),
            "posterior_mean_coef2": alphas.sqrt() * (1 - before) / (1 - cumulated),
        }
        for name, values in schedule.items():  # they follow from the betas, so no checkpoint needs them
            self.register_buffer(name, values.float(), persistent=False)

    def diffuse(self, z: Tensor, noise: Tensor, t: int | Tensor = -1) -> Tensor:
        """z_t = √ᾱ_t z_0 + √(1 - ᾱ_t) ε (DiffIR eq. 7), t counted from 0; without t the last one, z_T."""
        kept = self.alphas_cumprod[t]
        return kept.sqrt() * z + (1 - kept).sqrt() * noise

    def reverse(self, z: Tensor, condition: Tensor, denoiser: Denoiser) -> list[Tensor]:
        """All T reverse steps (DiffIR eq. 10): z_{T-1}, ..., z_0."""
        steps = []
        for t in reversed(range(len(self.betas))):
            clean = denoiser(z, t, condition)
            z = self.posterior_mean_coef1[t] * clean + self.posterior_mean_coef2[t] * z
            steps.append(z)
        return steps


class Stage(RestorationModel):
    """What the stages share: G restores with an IPR, and CPEN looks at a quarter of the output's size."""

    def __init__(self, *, task: str, scale: int, **dirformer):
        super().__init__()
        self.task = task
        self.scale = scale
        self.multiple_of = 8 if task == "deblurring" else 32 // scale  # halved three times after the unshuffling
        self.unshuffle = 4 if task == "deblurring" else 4 // scale
        self.G = DIRformer(task=task, scale=scale, **dirformer)


class DiffIRConstant(Stage):
    """The control of the study: the same restoring network, steered by one learned vector for all photos."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.constant = nn.Parameter(torch.full((1, PRIOR), PRIOR**-0.5))  # of length 1

    def forward(self, degraded: Tensor) -> Tensor:
        """(b 3 h w) in [0, 1] -> (b 3 scale·h scale·w)."""
        return self.G(degraded, self.constant.expand(len(degraded), -1))


class DiffIRS1(Stage):
    """Stage 1: restore with the IPR of degraded and reference photo."""

    needs_reference = True

    def __init__(self, *, task: str, scale: int, encoder: int, **dirformer):
        super().__init__(task=task, scale=scale, **dirformer)
        self.E = CPEN(3 * self.unshuffle**2 + 48, encoder)

    def prior(self, degraded: Tensor, reference: Tensor) -> Tensor:
        """The IPR z (b, 256), which stage 2 learns to guess."""
        inputs = [F.pixel_unshuffle(degraded, self.unshuffle), F.pixel_unshuffle(reference, 4)]
        return self.E(torch.cat(inputs, dim=1))

    def forward(self, degraded: Tensor, reference: Tensor) -> Tensor:
        """(b 3 h w), (b 3 scale·h scale·w) in [0, 1] -> (b 3 scale·h scale·w)."""
        return self.G(degraded, self.prior(degraded, reference))


class DiffIRS2(Stage):
    """Stage 2: restore with an IPR that diffusion guesses from the degraded photo.

    `model(degraded, noise)` starts from `noise` (b, 256) as z_T, and draws it if it is not given. In training
    `model(degraded, noise, prior=z)` diffuses the IPR of stage 1, runs all T reverse steps inside the graph and returns
    (restored, [z_{T-1}, ..., z_0]).
    """

    noise_size = PRIOR
    needs_description = True

    def __init__(self, *, task: str, scale: int, encoder: int, denoiser: int, betas: Tensor, **dirformer):
        super().__init__(task=task, scale=scale, **dirformer)
        self.condition = CPEN(3 * self.unshuffle**2, encoder)
        self.denoise = Denoiser(denoiser, len(betas))
        self.diffusion = DDPM(betas)

    def describe(self, degraded: Tensor) -> Tensor:
        """The pooled features behind the condition (b, 256).

        They are a mean over the image, so their mean over tiles describes the whole photo.
        """
        return self.condition.describe(F.pixel_unshuffle(degraded, self.unshuffle))

    def forward(
        self,
        degraded: Tensor,
        noise: Tensor | None = None,
        *,
        prior: Tensor | None = None,
        t: int | None = None,
        description: Tensor | None = None,
    ):
        """Guess the IPR, then restore: (b 3 h w) -> (b 3 scale·h scale·w), in [0, 1].

        With `t`, the IPR is only guessed, from z_t in one step, as diffusion usually learns. If `degraded` is a tile,
        `description` is that of the whole photo.
        """
        if noise is None:
            noise = torch.randn(len(degraded), PRIOR, device=degraded.device, dtype=degraded.dtype)
        z = noise if prior is None else self.diffusion.diffuse(prior, noise)
        condition = self.condition.mlp(self.describe(degraded) if description is None else description)
        if t is not None:
            return self.denoise(self.diffusion.diffuse(prior, noise, t), t, condition)
        steps = self.diffusion.reverse(z, condition, self.denoise)
        restored = self.G(degraded, steps[-1])
        return restored if prior is None else (restored, steps)


def linear_betas(timesteps: int, start: float, end: float) -> Tensor:
    """β_t = linspace(√β_1, √β_T, T)²: (T), float64; "linear" by the name of the official option."""
    if timesteps < 1 or not 0 < start <= end < 1:
        raise UserError("DiffIR needs at least one timestep and 0 < linear_start <= linear_end < 1")
    return torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64, device="cpu") ** 2


def _given_betas(betas: tuple[float, ...]) -> Tensor:
    if not (betas and all(0 < beta < 1 for beta in betas)):
        raise UserError("DiffIR needs at least one timestep, and betas between 0 and 1")
    return torch.tensor(betas, dtype=torch.float64, device="cpu")


def diffir(
    *,
    stage: int = 2,
    task: str = "super-resolution",
    scale: int | None = None,
    dim: int | None = None,
    blocks: tuple[int, int, int, int] | None = None,
    refinement: int | None = None,
    heads: tuple[int, int, int, int] = (1, 2, 4, 8),
    factor: float | None = None,
    hidden: tuple[int, int, int, int] | None = None,
    bias: bool = False,
    norm_bias: bool | None = None,
    encoder: int | None = None,
    denoiser: int = 1,
    timesteps: int = 4,
    linear_start: float = 0.1,
    linear_end: float = 0.99,
    betas: tuple[float, ...] | None = None,
) -> DiffIRConstant | DiffIRS1 | DiffIRS2:
    """Build stage 1 or 2 of DiffIR; sizes that are None are those of the task's official configuration.

    Stage 0 is this study's control, a learned constant instead of the IPR.

    `hidden` gives the DGFN's channels per level instead of ⌊channels · factor⌋, `betas` a noise schedule instead of the
    linear one, `norm_bias` the kind of LayerNorm (None: with bias for deblurring).
    """
    if task not in OFFICIAL_SIZES:
        raise UserError(f"unknown task {task!r}: choose super-resolution or deblurring")
    scale = max(SCALES[task]) if scale is None else scale
    given = {"dim": dim, "blocks": blocks, "refinement": refinement, "factor": factor, "encoder": encoder}
    sizes = OFFICIAL_SIZES[task] | {name: value for name, value in given.items() if value is not None}
    factor = sizes.pop("factor")
    if hidden is None:
        hidden = tuple(int(2**level * sizes["dim"] * factor) for level in range(4))
    schedule = linear_betas(timesteps, linear_start, linear_end) if betas is None else _given_betas(betas)
    _check(stage=stage, task=task, scale=scale, heads=heads, hidden=hidden, denoiser=denoiser, **sizes)
    sizes |= {"task": task, "scale": scale, "heads": heads, "hidden": hidden, "bias": bias}
    sizes["norm_bias"] = task == "deblurring" if norm_bias is None else norm_bias
    if stage == 0:
        del sizes["encoder"]
        model = DiffIRConstant(**sizes)
    else:
        model = DiffIRS1(**sizes) if stage == 1 else DiffIRS2(**sizes, denoiser=denoiser, betas=schedule)
    return model.to(memory_format=torch.channels_last)  # all channels of a pixel together: faster


def _check(*, stage, task, scale, dim, blocks, refinement, heads, hidden, encoder, denoiser) -> None:
    if stage not in (0, 1, 2) or scale not in SCALES[task]:
        raise UserError(
            f"DiffIR has stages 0 (without an IPR), 1 and 2 and scales 1, 2, 4 (deblurring: 1), "
            f"not stage {stage}, scale {scale}"
        )
    if not len(blocks) == len(heads) == len(hidden) == 4:
        raise UserError("DiffIR has four levels: give four numbers as blocks, heads and hidden")
    if min(dim, *blocks, refinement, *heads, *hidden) < 1 or min(encoder, denoiser) < 0:
        raise UserError("the sizes of DiffIR must be positive")
    if dim % 2 or any(2**level * dim % number for level, number in enumerate(heads)):
        raise UserError("DiffIR's dim must be even, and the channels of each level a multiple of its heads")


def recognise(state: dict[str, Tensor]) -> Recognised | None:
    """A DiffIR state_dict (either stage), or None; keys and shapes tell everything.

    The aliases diffusion.model and diffusion.condition and the noise schedule's buffers are left out.
    """
    if "G.patch_embed.proj.weight" not in state or "G.refinement.0.attn.temperature" not in state:
        return None

    def shape(key: str, axes: int) -> torch.Size:
        if key not in state or state[key].ndim != axes:
            raise UserError(f"this DiffIR checkpoint is damaged: {key} is missing or has not {axes} axes")
        return state[key].shape

    state = _without_aliases(state)
    dim, planes = shape("G.patch_embed.proj.weight", 4)[:2]
    levels = [f"G.encoder_level{level}." for level in (1, 2, 3)] + ["G.latent."]
    stage = 0 if "constant" in state else 2 if "condition.mlp.0.weight" in state else 1
    task = "deblurring" if "G.output.weight" in state else "super-resolution"
    prefix = "condition.E." if stage == 2 else "E.E."
    arguments = {
        "stage": stage,
        "task": task,
        "scale": 1 if task == "deblurring" else {3: 4, 12: 2, 48: 1}.get(planes, 0),
        "dim": dim,
        "blocks": tuple(children(state, level) for level in levels),
        "refinement": children(state, "G.refinement."),
        "heads": tuple(shape(f"{level}0.attn.temperature", 3)[0] for level in levels),
        "hidden": tuple(shape(f"{level}0.ffn.project_out.weight", 4)[1] for level in levels),
        "bias": "G.encoder_level1.0.attn.qkv.bias" in state,
        "norm_bias": "G.encoder_level1.0.norm1.body.bias" in state,
        "encoder": sum(key.startswith(prefix) and key.endswith(".body.0.weight") for key in state),
    }
    if stage == 2:
        arguments["denoiser"] = children(state, "denoise.resmlp.") - 1
        if "diffusion.betas" in state:
            arguments |= _schedule(state["diffusion.betas"])
    return Recognised("diffir", arguments, {key: value for key, value in state.items() if key not in BUFFERS})


def _without_aliases(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the second names of the denoiser's and the condition's weights; refuse them where the values differ."""
    names = {"diffusion.model.": "denoise.", "diffusion.condition.": "condition."}
    kept = dict(state)
    for alias, name in names.items():
        for key in [key for key in state if key.startswith(alias)]:
            value = kept.pop(key)
            original = kept.setdefault(name + key.removeprefix(alias), value)
            if value.shape != original.shape or not torch.equal(value, original):
                raise UserError(f"this DiffIR checkpoint contradicts itself: {key} differs from its original in {name}")
    return kept


def _schedule(betas: Tensor) -> dict:
    """Arguments that give these betas: the ends of the linear schedule, or the betas where they follow none."""
    if betas.ndim != 1 or not 1 <= len(betas) <= 10_000:
        raise UserError("this DiffIR checkpoint is damaged: diffusion.betas is not a list of 1 to 10,000 numbers")
    start, end = (round(betas[index].item(), 7) for index in (0, -1))  # float32 holds seven digits
    if 0 < start <= end < 1 and torch.allclose(linear_betas(len(betas), start, end), betas.double(), atol=1e-6):
        return {"timesteps": len(betas), "linear_start": start, "linear_end": end}
    return {"betas": tuple(betas.tolist())}


def stage_1(model: DiffIRS1, start: RestorationModel | None, loss: Loss) -> tuple[DiffIRS1, Objective]:
    """Stage 1 learns alone: from fresh weights, from those of another stage 1, or from the G of a stage 2."""
    if isinstance(start, DiffIRS2):
        take_over(model.G, start.G)
        start = None
    return alone(WithReference)(model, start, loss)


def after_stage_1(objective: Callable[[Loss, DiffIRS1, DiffIRS2], Objective]) -> Prepare:
    """Stage 2 takes over stage 1's restoring part G and learns to guess stage 1's IPR."""

    def prepare(model: DiffIRS2, start: RestorationModel | None, loss: Loss) -> tuple[DiffIRS2, Objective]:
        if start is None or not start.needs_reference:
            raise UserError(
                "stage 2 of DiffIR continues from stage 1: train diffir-s1 first and give it as start (--start)"
            )
        take_over(model.G, start.G)
        return model, objective(loss, deepcopy(start).requires_grad_(False), model)

    return prepare


def joint_diffusion(loss: Loss, stage_1: DiffIRS1, model: DiffIRS2) -> Objective:
    """All parts of stage 2 learn at once, as the paper has it."""
    return JointDiffusion(loss, stage_1)


def separate_diffusion(loss: Loss, stage_1: DiffIRS1, model: DiffIRS2) -> Objective:
    """The denoising network learns alone, one step of the chain at a time."""
    model.G.requires_grad_(False)  # several processes would wait for its gradients
    return SeparateDiffusion(stage_1, len(model.diffusion.betas))


_RECIPE = Recipe(
    loss="l1",
    prepare=after_stage_1(joint_diffusion),
    settings=Settings(
        steps=1000,
        batch_size=8,
        learning_rate=5e-4,
        betas=(0.9, 0.99),
        warmup_steps=200,
        clip_norm=1.0,
        channels_last=True,
    ),
    patch_size=64,
    sections=("diffir.super_resolution", "diffir.deblurring", "diffir.ablation"),
)
DIFFIR_METHOD = Method(
    key="diffir",
    title="DiffIR",
    paper="Xia et al. 2023, DiffIR: Efficient Diffusion Model for Image Restoration",
    colour=4,
    tasks=("super-resolution", "deblurring"),
    builder=diffir,
    recognise=recognise,
    recipes={
        "diffir-constant": replace(
            _RECIPE, arguments={"stage": 0}, prepare=alone(Pixelwise), sections=("diffir.ablation",)
        ),
        "diffir-s1": replace(_RECIPE, arguments={"stage": 1}, prepare=stage_1),
        "diffir-s2": replace(_RECIPE, starts_from="diffir-s1"),
        "diffir-s2-separate": replace(
            _RECIPE,
            prepare=after_stage_1(separate_diffusion),
            sections=("diffir.ablation",),
            starts_from="diffir-s1",
        ),
    },
)
