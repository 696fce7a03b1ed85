"""DiffIR: diffusion on a vector of 256 numbers instead of on the image.

Xia et al. 2023, "DiffIR: Efficient Diffusion Model for Image Restoration", Fig. 2. Stage 1 learns what helps: an
encoder (CPEN) sees the degraded and the reference photo and compresses what distinguishes them into the image prior
representation (IPR), which steers a Restormer-like network (DIRformer). Stage 2 learns to guess the IPR from the
degraded photo alone, by a diffusion of T steps; since the vector is small, all T steps are run and trained through.

Symbols: z the IPR (b, 256), c the condition that CPEN extracts from the degraded photo, β_t the noise added in step t,
α_t = 1 - β_t, ᾱ_t = α_1 ⋯ α_t.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from rvlib.errors import UserError

PRIOR = 256  # length of the IPR


class LayerNorm(nn.Module):
    """Normalise each pixel over its channels; without bias the mean is kept: x / √(σ² + ε) · w, ε = 10⁻⁵."""

    def __init__(self, channels: int, *, bias: bool):
        super().__init__()
        # official checkpoints call the parameters norm.body.weight and norm.body.bias
        self.body = nn.ParameterDict({"weight": nn.Parameter(torch.ones(channels))})
        if bias:
            self.body["bias"] = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, unbiased=False)
        weight = self.body["weight"][:, None, None]
        if "bias" in self.body:
            return (x - mean) / torch.sqrt(variance + 1e-5) * weight + self.body["bias"][:, None, None]
        return x / torch.sqrt(variance + 1e-5) * weight


class Modulation(nn.Sequential):
    """Steer features by the IPR (DiffIR eq. 2): x' = (W₁ z) ⊙ x + W₂ z; (b c h w), (b, 256) -> (b c h w)."""

    def __init__(self, channels: int):
        super().__init__(nn.Linear(PRIOR, 2 * channels, bias=False))

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """Scale and shift each channel."""
        scale, shift = self[0](prior)[:, :, None, None].chunk(2, dim=1)
        return x * scale + shift


class Attention(nn.Module):
    """DMTA, dynamic multi-head transposed attention (DiffIR eq. 3-4): V softmax(τ K̂ᵀ Q̂), channels attend to channels.

    Its cost is linear in the pixels. Q and K have length 1 along the pixels; τ is learned per head.
    """

    def __init__(self, channels: int, heads: int, *, bias: bool):
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.kernel = Modulation(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """(b c h w), (b, 256) -> (b c h w)."""
        height, width = x.shape[-2:]
        qkv = self.qkv_dwconv(self.qkv(self.kernel(x, prior)))
        q, k, v = rearrange(qkv, "b (three k d) h w -> three b k d (h w)", three=3, k=self.heads)
        similarity = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * self.temperature
        attended = similarity.softmax(dim=-1) @ v
        return self.project_out(rearrange(attended, "b k d (h w) -> b (k d) h w", h=height, w=width))


class FeedForward(nn.Module):
    """DGFN, dynamic gated feed-forward network (DiffIR eq. 5): W₃ (GELU(D W₁ x') ⊙ D W₂ x')."""

    def __init__(self, channels: int, factor: float, *, bias: bool):
        super().__init__()
        hidden = int(channels * factor)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=bias)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=bias)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=bias)
        self.kernel = Modulation(channels)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """(b c h w), (b, 256) -> (b c h w)."""
        gate, value = self.dwconv(self.project_in(self.kernel(x, prior))).chunk(2, dim=1)
        return self.project_out(F.gelu(gate) * value)


class Block(nn.Module):
    """x = x + DMTA(LN(x), z);  x = x + DGFN(LN(x), z)."""

    def __init__(self, channels: int, heads: int, *, factor: float, bias: bool, norm_bias: bool):
        super().__init__()
        self.norm1 = LayerNorm(channels, bias=norm_bias)
        self.attn = Attention(channels, heads, bias=bias)
        self.norm2 = LayerNorm(channels, bias=norm_bias)
        self.ffn = FeedForward(channels, factor, bias=bias)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """(b c h w), (b, 256) -> (b c h w)."""
        x = x + self.attn(self.norm1(x), prior)
        return x + self.ffn(self.norm2(x), prior)


class Level(nn.ModuleList):
    """Blocks one after the other, all steered by the same IPR."""

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """(b c h w), (b, 256) -> (b c h w)."""
        for block in self:
            x = block(x, prior)
        return x


class Resample(nn.Module):
    """A 3 x 3 convolution and a pixel shuffle: half the size and twice the channels, or the reverse."""

    def __init__(self, channels: int, *, up: bool):
        super().__init__()
        out, shuffle = (2 * channels, nn.PixelShuffle(2)) if up else (channels // 2, nn.PixelUnshuffle(2))
        self.body = nn.Sequential(nn.Conv2d(channels, out, 3, padding=1, bias=False), shuffle)

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b 2c h/2 w/2) or (b c/2 2h 2w)."""
        return self.body(x)


class Patches(nn.Module):
    """The first convolution, under its official name."""

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b channels h w) -> (b dim h w)."""
        return self.proj(x)


class DIRformer(nn.Module):
    """The network that restores (DiffIR, Fig. 2): a U-Net of four levels whose blocks the IPR steers.

    Super-resolution works at a quarter of the output's size and ends in pixel shuffles by 4; deblurring works at full
    size. The input (enlarged by nearest neighbours) is added. (b 3 h w), (b, 256) -> (b 3 scale·h scale·w)
    """

    def __init__(self, *, task: str, scale: int, dim: int, blocks, refinement: int, heads, factor: float, bias: bool):
        super().__init__()
        self.scale, self.unshuffle = scale, 4 // scale if task == "super-resolution" else 1
        norm_bias = task == "deblurring"

        def level(channels: int, count: int, heads: int) -> Level:
            make = {"factor": factor, "bias": bias, "norm_bias": norm_bias}
            return Level(Block(channels, heads, **make) for _ in range(count))

        self.patch_embed = Patches(3 * self.unshuffle**2, dim)
        self.encoder_level1 = level(dim, blocks[0], heads[0])
        self.down1_2 = Resample(dim, up=False)
        self.encoder_level2 = level(2 * dim, blocks[1], heads[1])
        self.down2_3 = Resample(2 * dim, up=False)
        self.encoder_level3 = level(4 * dim, blocks[2], heads[2])
        self.down3_4 = Resample(4 * dim, up=False)
        self.latent = level(8 * dim, blocks[3], heads[3])
        self.up4_3 = Resample(8 * dim, up=True)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = level(4 * dim, blocks[2], heads[2])
        self.up3_2 = Resample(4 * dim, up=True)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = level(2 * dim, blocks[1], heads[1])
        self.up2_1 = Resample(2 * dim, up=True)
        self.decoder_level1 = level(2 * dim, blocks[0], heads[0])
        self.refinement = level(2 * dim, refinement, heads[0])
        if task == "deblurring":
            self.output = nn.Conv2d(2 * dim, 3, 3, padding=1, bias=bias)
        else:
            upsampler = []
            for _ in range(2):
                upsampler += [nn.Conv2d(2 * dim, 8 * dim, 3, padding=1), nn.PixelShuffle(2)]
            self.tail = nn.Sequential(nn.Sequential(*upsampler), nn.Conv2d(2 * dim, 3, 3, padding=1))

    def forward(self, degraded: Tensor, prior: Tensor) -> Tensor:
        """Down, up with concatenated skips, refine."""
        level1 = self.encoder_level1(self.patch_embed(F.pixel_unshuffle(degraded, self.unshuffle)), prior)
        level2 = self.encoder_level2(self.down1_2(level1), prior)
        level3 = self.encoder_level3(self.down2_3(level2), prior)
        x = self.latent(self.down3_4(level3), prior)
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(x), level3], dim=1)), prior)
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x), level2], dim=1)), prior)
        x = self.decoder_level1(torch.cat([self.up2_1(x), level1], dim=1), prior)
        x = self.refinement(x, prior)
        if hasattr(self, "output"):
            return self.output(x) + degraded
        return self.tail(x) + F.interpolate(degraded, scale_factor=self.scale, mode="nearest")


class ResBlock(nn.Module):
    """x + W₂ LeakyReLU(W₁ x)."""

    def __init__(self, channels: int):
        super().__init__()
        convolution = [nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2)]
        self.body = nn.Sequential(convolution[0], nn.LeakyReLU(0.1), convolution[1])

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        return x + self.body(x)


class CPEN(nn.Module):
    """Compact IPR extraction network (DiffIR, Fig. 2): convolutions, mean over the image, two linear layers.

    (b channels h w) -> (b, 256)
    """

    def __init__(self, channels: int, blocks: int):
        super().__init__()
        layers = [nn.Conv2d(channels, 64, 3, padding=1), nn.LeakyReLU(0.1), *(ResBlock(64) for _ in range(blocks))]
        for before, after in ((64, 128), (128, 128), (128, PRIOR)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(0.1)]
        self.E = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.mlp = nn.Sequential(nn.Linear(PRIOR, PRIOR), nn.LeakyReLU(0.1), nn.Linear(PRIOR, PRIOR), nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Extract the IPR."""
        return self.mlp(self.E(x).flatten(1))


class Denoiser(nn.Module):
    """Predicts the clean IPR: ẑ_0 = f(c, t / 10T, z_t); (b, 256) each -> (b, 256).

    The paper predicts noise (eq. 9); the official code predicts ẑ_0, which is what is done here.
    """

    def __init__(self, layers: int, timesteps: int):
        super().__init__()
        self.period = 10 * timesteps
        hidden = [HiddenLayer() for _ in range(layers)]
        self.resmlp = nn.Sequential(nn.Linear(2 * PRIOR + 1, PRIOR), nn.LeakyReLU(0.1), *hidden)

    def forward(self, z: Tensor, t: int, condition: Tensor) -> Tensor:
        """One evaluation at step t, counted from 0."""
        time = torch.full_like(z[:, :1], t / self.period)
        return self.resmlp(torch.cat([condition, time, z], dim=1))


class HiddenLayer(nn.Module):
    """A linear layer and LeakyReLU; official checkpoints name it a residual MLP, but it has no shortcut."""

    def __init__(self):
        super().__init__()
        self.resmlp = nn.Sequential(nn.Linear(PRIOR, PRIOR), nn.LeakyReLU(0.1))

    def forward(self, x: Tensor) -> Tensor:
        """(b, 256) -> (b, 256)."""
        return self.resmlp(x)


class DDPM(nn.Module):
    """The noise schedule and its reverse step (Ho et al. 2020, eq. 4 and 7), for T of a handful.

        β_t = linspace(√β_1, √β_T, T)²        q(z_t | z_0) = N(√ᾱ_t z_0, (1 - ᾱ_t) I)
        z_{t-1} = √ᾱ_{t-1} β_t / (1 - ᾱ_t) · ẑ_0 + √α_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t) · z_t

    The reverse step is the posterior's mean alone: no noise is added, as in the official code.
    """

    def __init__(self, timesteps: int, start: float, end: float):
        super().__init__()
        betas = torch.linspace(start**0.5, end**0.5, timesteps, dtype=torch.float64, device="cpu") ** 2
        alphas = 1 - betas
        cumulated = alphas.cumprod(0)
        before = torch.cat([torch.ones(1, dtype=torch.float64, device="cpu"), cumulated[:-1]])
        schedule = {
            "betas": betas,
            "alphas_cumprod": cumulated,
            "posterior_mean_coef1": before.sqrt() * betas / (1 - cumulated),
            "posterior_mean_coef2": alphas.sqrt() * (1 - before) / (1 - cumulated),
        }
        for name, values in schedule.items():  # follow from T, start and end: not part of a checkpoint
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


class DiffIRS1(nn.Module):
    """Stage 1: restore with the IPR of degraded and reference photo; `model(degraded, reference)`.

    (b 3 h w), (b 3 scale·h scale·w) in [0, 1] -> (b 3 scale·h scale·w)
    """

    channels, needs_reference = 3, True

    def __init__(self, *, task: str, scale: int, encoder: int, **dirformer):
        super().__init__()
        self.task, self.scale, self.multiple_of = task, scale, _multiple(task, scale)
        self.unshuffle = _unshuffle(task, scale)
        self.G = DIRformer(task=task, scale=scale, **dirformer)
        self.E = CPEN(3 * self.unshuffle**2 + 48, encoder)

    def prior(self, degraded: Tensor, reference: Tensor) -> Tensor:
        """The IPR z: (b, 256)."""
        inputs = [F.pixel_unshuffle(degraded, self.unshuffle), F.pixel_unshuffle(reference, 4)]
        return self.E(torch.cat(inputs, dim=1))

    def forward(self, degraded: Tensor, reference: Tensor) -> Tensor:
        """Restore what the reference helps to describe."""
        return self.G(degraded, self.prior(degraded, reference))


class DiffIRS2(nn.Module):
    """Stage 2: restore with an IPR that diffusion guesses from the degraded photo.

    `model(degraded, noise)` with `noise` (b, 256) being z_T, drawn where it is not given. In training
    `model(degraded, noise, prior=z)` diffuses the IPR of stage 1, runs all T reverse steps inside the graph and returns
    (restored, [z_{T-1}, ..., z_0]).
    """

    channels, noise_size = 3, PRIOR

    def __init__(
        self,
        *,
        task: str,
        scale: int,
        encoder: int,
        denoiser: int,
        timesteps: int,
        linear_start: float,
        linear_end: float,
        **dirformer,
    ):
        super().__init__()
        self.task, self.scale, self.multiple_of = task, scale, _multiple(task, scale)
        self.unshuffle = _unshuffle(task, scale)
        self.G = DIRformer(task=task, scale=scale, **dirformer)
        self.condition = CPEN(3 * self.unshuffle**2, encoder)
        self.denoise = Denoiser(denoiser, timesteps)
        self.diffusion = DDPM(timesteps, linear_start, linear_end)

    def forward(
        self, degraded: Tensor, noise: Tensor | None = None, *, prior: Tensor | None = None, t: int | None = None
    ):
        """Guess the IPR, then restore; with `t`, only guess it from z_t in one step, as diffusion usually learns."""
        if noise is None:
            noise = torch.randn(len(degraded), PRIOR, device=degraded.device, dtype=degraded.dtype)
        z = noise if prior is None else self.diffusion.diffuse(prior, noise)
        condition = self.condition(F.pixel_unshuffle(degraded, self.unshuffle))
        if t is not None:
            return self.denoise(self.diffusion.diffuse(prior, noise, t), t, condition)
        steps = self.diffusion.reverse(z, condition, self.denoise)
        restored = self.G(degraded, steps[-1])
        return restored if prior is None else (restored, steps)


def _unshuffle(task: str, scale: int) -> int:
    """CPEN works at a quarter of the output's size."""
    return 4 if task == "deblurring" else 4 // scale


def _multiple(task: str, scale: int) -> int:
    """Sizes that three halvings (after unshuffling) divide."""
    return 8 if task == "deblurring" else 32 // scale


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
    bias: bool = False,
    encoder: int | None = None,
    denoiser: int = 1,
    timesteps: int = 4,
    linear_start: float = 0.1,
    linear_end: float = 0.99,
) -> DiffIRS1 | DiffIRS2:
    """Build stage 1 or 2 of DiffIR; what is not given is the official configuration of the task."""
    official = {
        "super-resolution": {"dim": 64, "blocks": (13, 1, 1, 1), "refinement": 13, "factor": 2.2, "encoder": 9},
        "deblurring": {"dim": 48, "blocks": (3, 5, 6, 6), "refinement": 4, "factor": 2.0, "encoder": 5},
    }
    if task not in official:
        raise UserError(f"unknown task {task!r}: choose super-resolution or deblurring")
    scale = scale if scale is not None else (1 if task == "deblurring" else 4)
    if stage not in (1, 2) or scale not in ((1,) if task == "deblurring" else (1, 2, 4)):
        raise UserError(
            f"DiffIR has stages 1 and 2 and scales 1, 2, 4 (deblurring: 1), not stage {stage}, scale {scale}"
        )
    if timesteps < 1 or not 0 < linear_start <= linear_end < 1:
        raise UserError("DiffIR needs at least one timestep and 0 < linear_start <= linear_end < 1")
    given = {"dim": dim, "blocks": blocks, "refinement": refinement, "factor": factor, "encoder": encoder}
    sizes = official[task] | {name: value for name, value in given.items() if value is not None}
    common = {"task": task, "scale": scale, "heads": heads, "bias": bias, **sizes}
    if stage == 1:
        return DiffIRS1(**common)
    schedule = {"timesteps": timesteps, "linear_start": linear_start, "linear_end": linear_end}
    return DiffIRS2(**common, denoiser=denoiser, **schedule)


def infer(state: dict[str, Tensor], **_) -> tuple[str, dict, dict] | None:
    """Name, arguments and state of a DiffIR state_dict (either stage), or None; all follows from keys and shapes.

    The aliases diffusion.model and diffusion.condition and the noise schedule's buffers are left out.
    """
    if "G.patch_embed.proj.weight" not in state or "G.refinement.0.attn.temperature" not in state:
        return None

    def count(prefix: str) -> int:
        return len({key.removeprefix(prefix).split(".")[0] for key in state if key.startswith(prefix)})

    dim, planes = state["G.patch_embed.proj.weight"].shape[:2]
    levels = [f"G.encoder_level{level}." for level in (1, 2, 3)] + ["G.latent."]
    sizes = {2**index * dim: state.get(f"{level}0.ffn.project_out.weight") for index, level in enumerate(levels)}
    temperatures = [state.get(f"{level}0.attn.temperature") for level in levels]
    if any(each is None for each in (*sizes.values(), *temperatures)):
        raise UserError("this DiffIR checkpoint lacks one of the four levels: it is damaged")
    stage = 2 if "condition.mlp.0.weight" in state else 1
    task = "deblurring" if "G.output.weight" in state else "super-resolution"
    prefix = "condition.E." if stage == 2 else "E.E."
    arguments = {
        "stage": stage,
        "task": task,
        "scale": 1 if task == "deblurring" else {3: 4, 12: 2, 48: 1}.get(planes, 0),
        "dim": dim,
        "blocks": tuple(count(level) for level in levels),
        "refinement": count("G.refinement."),
        "heads": tuple(each.shape[0] for each in temperatures),
        # hidden = ⌊channels · factor⌋ at every level: the largest quotient is the smallest factor that gives them all
        "factor": max(weight.shape[1] / channels for channels, weight in sizes.items()) + 1e-9,
        "bias": "G.encoder_level1.0.attn.qkv.bias" in state,
        "encoder": sum(key.startswith(prefix) and key.endswith(".body.0.weight") for key in state),
    }
    if stage == 2:
        arguments["denoiser"] = count("denoise.resmlp.") - 1
        betas = state.get("diffusion.betas")
        if betas is not None and 1 <= betas.numel() <= 10_000:
            ends = [round(betas.flatten()[index].item(), 7) for index in (0, -1)]  # float32 holds seven digits
            schedule = {"linear_start": ends[0], "linear_end": ends[1]}
            arguments |= {"timesteps": betas.numel(), **schedule}
    return "diffir", arguments, {key: value for key, value in state.items() if not key.startswith("diffusion.")}
