"""SwinIR: restoration with attention inside small windows that shift from layer to layer.

Liang et al. 2021, "SwinIR: Image Restoration Using Swin Transformer", Fig. 2: a convolution, six residual Swin
Transformer blocks (RSTB) of six layers each, a convolution with a shortcut around them, and an upsampler. Windows make
attention's cost linear in the image; shifting them by half a window lets information cross their borders.

Symbols: n tokens of a window, d channels of a head, `embed` all channels.
"""

from functools import partial
from math import inf, nextafter, sqrt

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from rvlib import fast
from rvlib.errors import UserError
from rvlib.models.base import RestorationModel
from rvlib.models.keys import Recognised, children
from rvlib.models.method import Method
from rvlib.models.windows import Windows, attention, relative_positions, window_order
from rvlib.objectives import Pixelwise
from rvlib.settings import Recipe, Settings, alone

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K's training photos, subtracted from RGB
FEATURES = 64  # of the upsamplers, in every official configuration
AT_ONCE = 32  # windows that a CPU computes at a time
JPEG_WINDOW = 7  # of the official networks that remove JPEG's artefacts
SCALES = {  # by upsampler
    "pixelshuffle": (2, 3, 4, 8),
    "pixelshuffledirect": (2, 3, 4, 8),
    "nearest+conv": (2, 4),
    "none": (1,),
}


class WindowAttention(nn.Module):
    """Multi-head attention inside windows; B is a learned bias per relative position and head."""

    def __init__(self, embed: int, *, side: int, heads: int, qkv_bias: bool):
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        self.register_buffer("relative_position_index", relative_positions(side), persistent=False)
        self.qkv = nn.Linear(embed, 3 * embed, bias=qkv_bias)
        self.proj = nn.Linear(embed, embed)
        draw_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(b windows n embed), (windows 1 n n) -> (b windows n embed)."""
        q, k, v = rearrange(self.qkv(x), "b w n (three k d) -> three b w k n d", three=3, k=self.heads)
        bias = self.relative_position_bias_table.T[:, self.relative_position_index]  # (heads n n)
        # on a CPU, a few windows at a time; the windows are the fourth axis from the end
        attended = fast.few_at_a_time(partial(attention, bias=bias), q, k, v, mask, few=AT_ONCE, dim=-4)
        return self.proj(rearrange(attended, "b w k n d -> b w n (k d)"))


class MLP(nn.Module):
    """Two linear layers with GELU between them, on each token alone."""

    def __init__(self, embed: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(embed, hidden)
        self.fc2 = nn.Linear(hidden, embed)

    def forward(self, x: Tensor) -> Tensor:
        """W₂ GELU(W₁ x)."""
        return self.fc2(F.gelu(self.fc1(x)))


@torch.no_grad()
def draw_normal_(weights: Tensor, *, std: float) -> Tensor:
    """Fill weights with normal numbers: √2 std erf⁻¹(u), u uniform in (-1, 1).

    The official code cuts the distribution off at -2 and 2, which for its `std` of 0.02 only catches u = -1.
    """
    return weights.uniform_(-1, 1).erfinv_().mul_(std * sqrt(2)).clamp_(-2, 2)


def _drop_path(rate: float) -> nn.Module:
    """Leave a branch out for some of the batch's images in training (stochastic depth)."""
    if rate == 0:
        return nn.Identity()
    from timm.layers import DropPath  # here, since timm takes as long to import as all of rvlib

    return DropPath(rate)


class SwinLayer(nn.Module):
    """Swin Transformer layer (SwinIR, section 3.2): X = MSA(LN(X)) + X;  X = MLP(LN(X)) + X.

    In every second layer the windows are shifted by half of their side.
    """

    def __init__(self, embed: int, *, side: int, shift: int, heads: int, hidden: int, qkv_bias: bool, drop_path: float):
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(embed)
        self.attn = WindowAttention(embed, side=side, heads=heads, qkv_bias=qkv_bias)
        self.drop_path = _drop_path(drop_path)
        self.norm2 = nn.LayerNorm(embed)
        self.mlp = MLP(embed, hidden)

    def forward(self, tokens: Tensor, windows: Windows) -> Tensor:
        """(b h·w embed) -> (b h·w embed)."""
        x = tokens[:, windows.order]  # (b windows n embed)
        x = x + self.drop_path(self.attn(self.norm1(x), windows.mask))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.flatten(1, 2)[:, windows.place]  # (b h·w embed), in the image's order again


class RSTB(nn.Module):
    """Residual Swin Transformer block (SwinIR eq. 8-9): x + conv(layers(x))."""

    def __init__(self, layers: list[SwinLayer], conv: nn.Module):
        super().__init__()
        # official checkpoints call the layers residual_group.blocks
        self.residual_group = nn.ModuleDict({"blocks": nn.ModuleList(layers)})
        self.conv = conv

    def forward(self, x: Tensor, windows: dict[int, Windows]) -> Tensor:
        """(b h w embed) -> (b h w embed); `windows` are those of each shift."""
        tokens = x.flatten(1, 2)  # (b h·w embed)
        for layer in self.residual_group["blocks"]:
            tokens = layer(tokens, windows[layer.shift])
        features = rearrange(tokens.view_as(x), "b h w c -> b c h w")
        return x + rearrange(self.conv(features), "b c h w -> b h w c")


def body_convolution(embed: int, kind: str) -> nn.Module:
    """The convolution at the end of an RSTB: one 3 x 3 ("1conv"), or a bottleneck of three ("3conv")."""
    if kind == "1conv":
        return nn.Conv2d(embed, embed, 3, padding=1)
    narrow = embed // 4
    return nn.Sequential(
        nn.Conv2d(embed, narrow, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, narrow, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(narrow, embed, 3, padding=1),
    )


def pixel_shuffles(scale: int) -> nn.Sequential:
    """Convolution and pixel shuffle by 2 as often as the scale needs, or once by 3."""
    factors = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}[scale]
    layers = []
    for factor in factors:
        layers += [nn.Conv2d(FEATURES, factor**2 * FEATURES, 3, padding=1), nn.PixelShuffle(factor)]
    return nn.Sequential(*layers)


class SwinIR(RestorationModel):
    """SwinIR (Fig. 2): restored = up(F₀ + conv(RSTBs(F₀))), F₀ = conv(x - mean).

    `upsampler`: "pixelshuffle" (classical), "pixelshuffledirect" (lightweight: one convolution and one shuffle) or
    "nearest+conv" (real-world, which avoids checkerboards of pixel shuffles trained with a discriminator). The tasks
    "denoising" and "jpeg" have "none": restored = x + conv(F₀ + ...), and for JPEG a window of 7, which does not fall
    on the blocks of 8 that the file was compressed in. The default is the official lightweight configuration.

    Two variants of the Swin Transformer that no official file has: `positions`, the side of the training patches, adds
    a learned vector for each of their pixels, which is resized to other images; and `shifted=False` never shifts the
    windows, as the official code does where they are as large as the training patches.

    (b c h w) in [0, 1] -> (b c scale·h scale·w); images are reflected at the right and bottom to a multiple of the
    window, and cropped.
    """

    def __init__(
        self,
        *,
        task: str = "super-resolution",
        scale: int = 4,
        embed: int = 60,
        depths: tuple[int, ...] = (6, 6, 6, 6),
        heads: tuple[int, ...] = (6, 6, 6, 6),
        window: int = 8,
        mlp_ratio: float = 2.0,
        upsampler: str = "pixelshuffledirect",
        body: str = "1conv",
        channels: int = 3,
        img_range: float = 1.0,
        qkv_bias: bool = True,
        patch_norm: bool = True,
        drop_path: float = 0.1,
        positions: int = 0,
        shifted: bool = True,
    ):
        super().__init__()
        _check(task=task, scale=scale, embed=embed, depths=depths, heads=heads, upsampler=upsampler, body=body)
        self.task = task
        self.scale = scale
        self.channels = channels
        self.window = window
        self.img_range = img_range
        self.upsampler = upsampler
        mean = torch.tensor(MEAN if channels == 3 else (0.0,) * channels)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(channels, embed, 3, padding=1)
        # in official checkpoints the norm of the tokens is called patch_embed.norm
        self.patch_embed = nn.ModuleDict({"norm": nn.LayerNorm(embed)} if patch_norm else {})
        if positions:
            self.absolute_pos_embed = nn.Parameter(draw_normal_(torch.empty(1, positions**2, embed), std=0.02))
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()  # deeper layers drop more often
        make_layer = partial(SwinLayer, embed, side=window, hidden=int(embed * mlp_ratio), qkv_bias=qkv_bias)
        half = window // 2 if shifted else 0
        self.layers = nn.ModuleList()
        for block, (depth, number) in enumerate(zip(depths, heads, strict=True)):
            first = sum(depths[:block])
            layers = [
                make_layer(heads=number, shift=half if index % 2 else 0, drop_path=rates[first + index])
                for index in range(depth)
            ]
            self.layers.append(RSTB(layers, body_convolution(embed, body)))
        self.norm = nn.LayerNorm(embed)
        self.conv_after_body = body_convolution(embed, body)
        self._add_upsampler(embed)
        _initialise(self)

    def _add_upsampler(self, embed: int) -> None:
        if self.upsampler == "none":
            self.conv_last = nn.Conv2d(embed, self.channels, 3, padding=1)
            return
        if self.upsampler == "pixelshuffledirect":
            outputs = self.scale**2 * self.channels
            self.upsample = nn.Sequential(nn.Conv2d(embed, outputs, 3, padding=1), nn.PixelShuffle(self.scale))
            return
        self.conv_before_upsample = nn.Sequential(nn.Conv2d(embed, FEATURES, 3, padding=1), nn.LeakyReLU())
        if self.upsampler == "pixelshuffle":
            self.upsample = pixel_shuffles(self.scale)
        else:
            self.conv_up1 = nn.Conv2d(FEATURES, FEATURES, 3, padding=1)
            if self.scale == 4:
                self.conv_up2 = nn.Conv2d(FEATURES, FEATURES, 3, padding=1)
            self.conv_hr = nn.Conv2d(FEATURES, FEATURES, 3, padding=1)
        self.conv_last = nn.Conv2d(FEATURES, self.channels, 3, padding=1)

    def forward(self, degraded: Tensor) -> Tensor:
        """Shallow features, deep features, upsampling (eq. 1, 2 and 4): (b c h w) -> (b c scale·h scale·w)."""
        height, width = degraded.shape[-2:]
        x = (pad_to_windows(degraded, self.window) - self.mean) * self.img_range
        shallow = self.conv_first(x)  # (b embed h w), padded
        restored = self._enlarge(shallow + self.conv_after_body(self._deep_features(shallow)))
        if self.upsampler == "none":
            restored = x + restored
        restored = restored / self.img_range + self.mean
        return restored[..., : height * self.scale, : width * self.scale]

    def _deep_features(self, shallow: Tensor) -> Tensor:
        windows = {shift: window_order(shallow, self.window, shift) for shift in (0, self.window // 2)}
        tokens = rearrange(shallow, "b c h w -> b h w c")
        if "norm" in self.patch_embed:
            tokens = self.patch_embed["norm"](tokens)
        if hasattr(self, "absolute_pos_embed"):
            tokens = tokens + self._positions(*tokens.shape[1:3])
        for block in self.layers:
            tokens = block(tokens, windows)
        return rearrange(self.norm(tokens), "b h w c -> b c h w")

    def _positions(self, height: int, width: int) -> Tensor:
        """The learned positions (1 side² embed), resized where the image is no training patch: (1 h w embed)."""
        side = round(self.absolute_pos_embed.shape[1] ** 0.5)
        grid = rearrange(self.absolute_pos_embed, "b (h w) c -> b c h w", h=side)
        if (height, width) != (side, side):
            grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
        return rearrange(grid, "b c h w -> b h w c")

    def _enlarge(self, features: Tensor) -> Tensor:
        if self.upsampler == "none":
            return self.conv_last(features)
        if self.upsampler == "pixelshuffledirect":
            return self.upsample(features)
        x = self.conv_before_upsample(features)
        if self.upsampler == "pixelshuffle":
            return self.conv_last(self.upsample(x))
        x = F.leaky_relu(self.conv_up1(F.interpolate(x, scale_factor=2)), 0.2)
        if self.scale == 4:
            x = F.leaky_relu(self.conv_up2(F.interpolate(x, scale_factor=2)), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


def pad_to_windows(image: Tensor, side: int) -> Tensor:
    """Reflect at the right and bottom to a multiple of the window; where the image is too small, repeat its edge."""
    height, width = image.shape[-2:]
    down, across = -height % side, -width % side
    mode = "reflect" if down < height and across < width else "replicate"  # a reflection needs pad < size
    return F.pad(image, (0, across, 0, down), mode=mode)


def _check(*, task: str, scale: int, embed: int, depths: tuple, heads: tuple, upsampler: str, body: str) -> None:
    if upsampler not in SCALES:
        raise UserError(f"unknown upsampler {upsampler!r}: choose one of {', '.join(SCALES)}")
    tasks = ("denoising", "jpeg") if upsampler == "none" else ("super-resolution",)
    if task not in tasks:
        raise UserError(f"upsampler {upsampler} is for {' or '.join(tasks)}, not for {task!r}")
    if scale not in SCALES[upsampler]:
        raise UserError(f"scale {scale} is not supported by {upsampler}: choose one of {SCALES[upsampler]}")
    if len(depths) != len(heads) or any(embed % number for number in heads):
        raise UserError(f"embed {embed} must be a multiple of each of the heads {heads}, one number per block")
    if body not in ("1conv", "3conv"):
        raise UserError(f"unknown body {body!r}: choose 1conv or 3conv")


def _initialise(model: SwinIR) -> None:
    """Linear layers as in the official code: weights from a normal distribution, biases zero."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            draw_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@torch.no_grad()
def start_as_interpolation_(model: SwinIR) -> SwinIR:
    """Change fresh weights of the lightweight kind so that they interpolate bilinearly; returns the same model.

    A short training gains from it. SwinIR has no path from the input around the network. Here the first channels of F₀
    are the image, which the last convolution reads with bilinear weights, a kernel for each place inside a pixel; the
    contribution of the rest starts at zero. The official code begins at random.
    """
    if model.upsampler != "pixelshuffledirect":
        raise UserError(f"only upsampler pixelshuffledirect can start from interpolation, not {model.upsampler}")
    colors = model.channels
    last = model.upsample[0]
    model.conv_first.weight[:colors] = 0
    model.conv_first.bias[:colors] = 0
    for color in range(colors):
        model.conv_first.weight[color, color, 1, 1] = 1
    offset = (torch.arange(model.scale) + 0.5) / model.scale - 0.5  # of each place from the pixel's middle
    line = torch.stack([(-offset).clamp(min=0), 1 - offset.abs(), offset.clamp(min=0)], dim=-1)
    kernels = torch.einsum("py,qx->pqyx", line, line).flatten(0, 1)
    for conv in (model.conv_after_body, last):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    for color, rows in enumerate(last.weight.chunk(colors)):
        rows[:, color] = kernels
    return model


def recognise(state: dict[str, Tensor], *, img_range: float | None = None) -> Recognised | None:
    """A SwinIR state_dict, or None; the weights cannot tell `img_range`, which is 255 for JPEG, 1 for all others.

    Networks without an upsampler remove noise, or with windows of 7 what JPEG left. relative_position_index and
    attn_mask follow from the sizes and are left out; where only the mask is missing, windows are not shifted.
    """
    if "conv_first.weight" not in state or "layers.0.residual_group.blocks.0.attn.qkv.weight" not in state:
        return None
    derived = [key for key in state if key.endswith((".relative_position_index", ".attn_mask"))]
    state = {key: value for key, value in state.items() if key not in derived}
    embed, channels = state["conv_first.weight"].shape[:2]
    blocks = children(state, "layers.")
    table = "layers.{}.residual_group.blocks.0.attn.relative_position_bias_table"
    tables = [state.get(table.format(block)) for block in range(blocks)]
    hidden = state.get("layers.0.residual_group.blocks.0.mlp.fc1.weight")
    if any(each is None for each in tables) or hidden is None:
        raise UserError("this SwinIR checkpoint has blocks without position tables or MLP: it is damaged")
    ratio = hidden.shape[0] / embed
    if int(embed * ratio) < hidden.shape[0]:  # the quotient was rounded down: 60 · (123 / 60) < 123
        ratio = nextafter(ratio, inf)
    upsampler, scale = _infer_upsampler(state, channels)
    window = (round(tables[0].shape[0] ** 0.5) + 1) // 2
    task = "super-resolution" if upsampler != "none" else "jpeg" if window == JPEG_WINDOW else "denoising"
    arguments = {
        "task": task,
        "scale": scale,
        "embed": embed,
        "depths": tuple(children(state, f"layers.{block}.residual_group.blocks.") for block in range(blocks)),
        "heads": tuple(each.shape[1] for each in tables),
        "window": window,
        "mlp_ratio": ratio,
        "upsampler": upsampler,
        "body": "3conv" if "conv_after_body.0.weight" in state else "1conv",
        "channels": channels,
        "img_range": img_range if img_range is not None else 255.0 if task == "jpeg" else 1.0,
        "qkv_bias": "layers.0.residual_group.blocks.0.attn.qkv.bias" in state,
        "patch_norm": "patch_embed.norm.weight" in state,
    }
    if "absolute_pos_embed" in state:
        arguments["positions"] = round(state["absolute_pos_embed"].shape[1] ** 0.5)
    if derived and max(arguments["depths"]) > 1 and not any(key.endswith(".attn_mask") for key in derived):
        arguments["shifted"] = False
    return Recognised("swinir", arguments, state)


def _infer_upsampler(state: dict[str, Tensor], channels: int) -> tuple[str, int]:
    if "conv_up1.weight" in state:
        return "nearest+conv", 4 if "conv_up2.weight" in state else 2
    first = state.get("upsample.0.weight")
    if first is None:
        return "none", 1
    if "conv_last.weight" in state:
        return "pixelshuffle", 3 if first.shape[0] == 9 * first.shape[1] else 2 ** children(state, "upsample.")
    return "pixelshuffledirect", round((first.shape[0] / channels) ** 0.5)


_MEDIUM = {"embed": 180, "depths": (6,) * 6, "heads": (6,) * 6}
_LARGE = {"embed": 240, "depths": (6,) * 9, "heads": (8,) * 9}
_DENOISE = {"task": "denoising", "scale": 1, "upsampler": "none"}
_JPEG = {**_DENOISE, "task": "jpeg", "window": JPEG_WINDOW, "img_range": 255.0}
SWINIR_METHOD = Method(
    key="swinir",
    title="SwinIR",
    paper="Liang et al. 2021, SwinIR: Image Restoration Using Swin Transformer",
    colour=2,
    tasks=("super-resolution", "denoising", "jpeg"),
    builder=SwinIR,
    variants={
        "classical": {**_MEDIUM, "upsampler": "pixelshuffle"},
        "light": {},
        "real-m": {**_MEDIUM, "upsampler": "nearest+conv"},
        "real-l": {**_LARGE, "upsampler": "nearest+conv", "body": "3conv"},
        "denoise": {**_MEDIUM, **_DENOISE},
        "denoise-grey": {**_MEDIUM, **_DENOISE, "channels": 1},
        "jpeg": {**_MEDIUM, **_JPEG},
        "jpeg-grey": {**_MEDIUM, **_JPEG, "channels": 1},
    },
    recognise=recognise,
    recipes={
        "swinir": Recipe(
            loss="l1",
            prepare=alone(Pixelwise),
            settings=Settings(steps=1000, learning_rate=1e-3, warmup_steps=200, clip_norm=1.0),
            patch_size=64,
            sections=("swinir.training", "swinir.window_experiment"),
        )
    },
)
