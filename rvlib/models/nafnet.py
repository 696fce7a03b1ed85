"""PlainNet, Baseline and NAFNet: from a plain U-Net to one without activation functions.

Chen et al. 2022, "Simple Baselines for Image Restoration" (NAFNet). Figure 3 builds the block in steps: PlainNet has
convolutions, shortcuts and ReLU; Baseline adds LayerNorm, GELU and channel attention; NAFNet replaces GELU by a product
of two halves and simplifies the attention until no non-linear activation is left. All share one U-Net that halves the
image and doubles the channels per level. The test-time local converter is Chu et al. 2022, "Improving Image Restoration
by Revisiting Global Information Aggregation" (TLC).

Symbols: c channels of a level, `width` those of the first, x ⊙ y the product of feature maps.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rvlib import fast
from rvlib.errors import UserError
from rvlib.models.base import RestorationModel
from rvlib.models.keys import Recognised, children
from rvlib.models.method import Method
from rvlib.objectives import Pixelwise
from rvlib.settings import Recipe, Settings, alone


class LayerNorm2d(nn.Module):
    """Normalise each pixel over its channels: (x - μ) / √(σ² + 10⁻⁶) · w + b; (b c h w) -> (b c h w)."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """μ and σ² are mean and biased variance over the channels of a pixel."""
        return fast.channel_norm(x, self.weight, self.bias, eps=1e-6)


class Pool(nn.Module):
    """Mean over the whole image, or over a window around each pixel: (b c h w) -> (b c 1 1) or (b c h w).

    Trained on patches, channel attention sees patch statistics; at test time the whole image's mean is something else.
    TLC (section 3.2) takes the mean over a window of 1.5 times the training patch instead, clipped to the image.
    """

    def __init__(self):
        super().__init__()
        self.window: tuple[int, int] | None = None  # None: the whole image

    def forward(self, x: Tensor) -> Tensor:
        """Means over windows come from an integral image: four reads per pixel, whatever the window's size."""
        if self.window is None:
            return x.mean(dim=(2, 3), keepdim=True)
        height, width = x.shape[-2:]
        if self.window[0] >= height and self.window[1] >= width:
            return x.mean(dim=(2, 3), keepdim=True)
        down, across = min(self.window[0], height), min(self.window[1], width)
        # sums of up to millions of values: float64 keeps their differences exact enough
        integral = F.pad(x.double().cumsum(dim=-1).cumsum(dim=-2), (1, 0, 1, 0))  # (b c h+1 w+1)
        sums = integral[..., down:, across:] - integral[..., :-down, across:]
        sums = sums - integral[..., down:, :-across] + integral[..., :-down, :-across]
        means = (sums / (down * across)).to(x.dtype)  # of the windows that lie inside the image
        missing_down, missing_across = height - means.shape[-2], width - means.shape[-1]
        left, top = missing_across // 2, missing_down // 2
        return F.pad(means, (left, missing_across - left, top, missing_down - top), mode="replicate")


class Block(nn.Module):
    """What the three blocks share: y = x + β · mix_space(x);  z = y + γ · mix_channels(y).

    β and γ start at zero: a new block is the identity.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        # two methods: the first half's intermediate results are freed before the second half runs
        y = fast.add_scaled(x, self.mix_space(x), self.beta)
        return fast.add_scaled(y, self.mix_channels(y), self.gamma)

    def mix_space(self, x: Tensor) -> Tensor:
        """What neighbours tell each other: (b c h w) -> (b c h w)."""
        raise NotImplementedError

    def mix_channels(self, y: Tensor) -> Tensor:
        """What the channels of a pixel tell each other: (b c h w) -> (b c h w)."""
        raise NotImplementedError


def simple_gate(x: Tensor) -> Tensor:
    """g(u ‖ v) = u ⊙ v: the two halves of the channels multiplied (NAFNet eq. 4); (b 2c h w) -> (b c h w)."""
    u, v = x.chunk(2, dim=1)
    return u * v


def channel_attention(channels: int) -> nn.Sequential:
    """Channel attention's weights (squeeze and excitation): σ(W₂ max(0, W₁ mean(x))); (b c h w) -> (b c 1 1)."""
    inner = channels // 2
    return nn.Sequential(Pool(), nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1), nn.Sigmoid())


def simplified_attention(channels: int) -> nn.Sequential:
    """What NAFNet keeps of it: W mean(x); (b c h w) -> (b c 1 1)."""
    return nn.Sequential(Pool(), nn.Conv2d(channels, channels, 1))


class NAFBlock(Block):
    """The block without activation functions, with products in their place (NAFNet, Fig. 3d, eq. 4 and 7).

        g(u ‖ v) = u ⊙ v                                   SimpleGate
        a(x)     = x ⊙ W mean(x)                           simplified channel attention (SCA)
        y        = x + β · W₃ a(g(D W₁ LN(x)))             D depthwise 3 x 3, W₁ to 2c channels
        z        = y + γ · W₅ g(W₄ LN(y))                  W₄ to 2c channels

    `simplified=False` keeps the Baseline's channel attention, the step between the two in the paper's ablation.
    """

    def __init__(self, channels: int, *, simplified: bool = True):
        super().__init__(channels)
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.sca = simplified_attention(channels) if simplified else channel_attention(channels)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(channels, channels, 1)
        self.norm1 = LayerNorm2d(channels)
        self.norm2 = LayerNorm2d(channels)

    def mix_space(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        gated = simple_gate(self.conv2(self.conv1(self.norm1(x))))  # (b c h w), from 2c channels
        return self.conv3(gated * self.sca(gated))

    def mix_channels(self, y: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        return self.conv5(simple_gate(self.conv4(self.norm2(y))))


class BaselineBlock(Block):
    """LayerNorm, GELU and channel attention (NAFNet, Fig. 3c).

        a(x) = x ⊙ σ(W₂ max(0, W₁ mean(x)))                channel attention (squeeze and excitation)
        y    = x + β · W₃ a(GELU(D W₁ LN(x)))
        z    = y + γ · W₅ GELU(W₄ LN(y))

    `expand` widens the depthwise convolution, the second half always to 2c channels.
    """

    def __init__(self, channels: int, *, expand: int = 1):
        super().__init__(channels)
        inner = expand * channels
        self.conv1 = nn.Conv2d(channels, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.conv3 = nn.Conv2d(inner, channels, 1)
        self.se = channel_attention(inner)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(2 * channels, channels, 1)
        self.norm1 = LayerNorm2d(channels)
        self.norm2 = LayerNorm2d(channels)

    def mix_space(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        inner = F.gelu(self.conv2(self.conv1(self.norm1(x))))
        return self.conv3(inner * self.se(inner))

    def mix_channels(self, y: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        return self.conv5(F.gelu(self.conv4(self.norm2(y))))


class PlainBlock(Block):
    """Convolutions, ReLU and shortcuts alone (NAFNet, Fig. 3b): y = x + β · W₃ max(0, D W₁ x), z likewise.

    No official code exists: this is the Baseline block without normalisation and attention, with ReLU for GELU.
    `norm` and `gelu` put these two back: the two steps between it and the Baseline in the paper's ablation.
    """

    def __init__(self, channels: int, *, norm: bool = False, gelu: bool = False):
        super().__init__(channels)
        self.activation = nn.GELU() if gelu else nn.ReLU()
        self.norm1, self.norm2 = (LayerNorm2d(channels) if norm else nn.Identity() for _ in range(2))
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv5 = nn.Conv2d(2 * channels, channels, 1)

    def mix_space(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        return self.conv3(self.activation(self.conv2(self.conv1(self.norm1(x)))))

    def mix_channels(self, y: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        return self.conv5(self.activation(self.conv4(self.norm2(y))))


class UNet(RestorationModel):
    """The U-Net that the three networks share (NAFNet, Fig. 2c): restored = x + ending(decoder(encoder(intro(x)))).

    Each level halves the image by a 2 x 2 convolution of stride 2 and doubles the channels; on the way up a 1 x 1
    convolution and a pixel shuffle undo that, and the encoder's features are added. Sizes that are not a multiple of
    2^levels are padded with zeros at the right and bottom, and cropped; `restore` reflects them before, since zeros
    spoil the border. (b 3 h w) in [0, 1] -> the same. `local` takes the means of channel attention around each pixel
    (TLC) for training patches of `train_size`. The sizes are those of the official GoPro configuration of width 32.
    """

    task = "deblurring"

    def __init__(
        self,
        block: Callable[[int], nn.Module],
        *,
        width: int = 32,
        encoder: tuple[int, ...] = (1, 1, 1, 28),
        middle: int = 1,
        decoder: tuple[int, ...] = (1, 1, 1, 1),
        local: bool = False,
        train_size: tuple[int, int] = (256, 256),
    ):
        super().__init__()
        if len(encoder) != len(decoder):
            raise UserError(
                f"encoder and decoder need the same number of levels, not {len(encoder)} and {len(decoder)}"
            )
        if width < 1 or middle < 0 or min((*encoder, *decoder), default=0) < 0:
            raise UserError(f"width {width} and the numbers of blocks must be positive")
        self.multiple_of = 2 ** len(encoder)
        depths = range(len(encoder))  # how often the image has been halved
        widths = [width * 2**depth for depth in depths]  # channels
        bottom = width * 2 ** len(encoder)

        def level(channels: int, blocks: int) -> nn.Sequential:
            return nn.Sequential(*(block(channels) for _ in range(blocks)))

        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        self.encoders = nn.ModuleList(level(widths[depth], encoder[depth]) for depth in depths)
        # the decoder's first level is its deepest
        self.decoders = nn.ModuleList(level(widths[depth], decoder[-1 - depth]) for depth in reversed(depths))
        self.middle_blks = level(bottom, middle)
        self.ups = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2 * c, 4 * c, 1, bias=False), nn.PixelShuffle(2)) for c in reversed(widths)
        )
        self.downs = nn.ModuleList(nn.Conv2d(c, 2 * c, 2, stride=2) for c in widths)
        # all channels of a pixel together: faster for norms, 1 x 1 and depthwise convolutions
        self.to(memory_format=torch.channels_last)
        if local:
            self.make_local(train_size)

    def forward(self, degraded: Tensor) -> Tensor:
        """(b 3 h w) -> (b 3 h w)."""
        height, width = degraded.shape[-2:]
        padded = F.pad(degraded, (0, -width % self.multiple_of, 0, -height % self.multiple_of))
        x = self.intro(padded)  # (b width h w)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)  # (b 2c h/2 w/2)
        x = self.middle_blks(x)
        for decoder, up, skip in zip(self.decoders, self.ups, reversed(skips), strict=True):
            x = decoder(up(x) + skip)  # (b c/2 2h 2w)
        return (self.ending(x) + padded)[..., :height, :width]

    def _levels(self) -> Iterator[tuple[int, nn.Sequential]]:
        """Each level's depth, which is how often the image has been halved there, and its blocks."""
        yield from enumerate(self.encoders)
        yield len(self.encoders), self.middle_blks
        yield from zip(reversed(range(len(self.decoders))), self.decoders, strict=True)

    def make_local(self, train_size: tuple[int, int]) -> None:
        """Turn every global mean into a local one (TLC): the window is 1.5 training patches, in each level's pixels."""
        multiple = 2 ** len(self.encoders)
        for depth, blocks in self._levels():
            window = []
            for side in train_size:
                features = (side + -side % multiple) // 2**depth  # of a padded training patch at this level
                window.append(features * int(1.5 * side) // side)
            for pool in blocks.modules():
                if isinstance(pool, Pool):
                    pool.window = tuple(window)


class NAFNet(UNet):
    """The network without activation functions; `simplified=False` gates but keeps the Baseline's channel attention."""

    def __init__(self, *, simplified: bool = True, **sizes):
        super().__init__(partial(NAFBlock, simplified=simplified), **sizes)


class Baseline(UNet):
    """The network that NAFNet simplifies; the official GoPro configuration of width 64 has `expand=2`."""

    def __init__(self, *, expand: int = 1, **sizes):
        super().__init__(partial(BaselineBlock, expand=expand), **sizes)


class PlainNet(UNet):
    """The plain network that the paper's ablation starts from; `norm` and then `gelu` are its next two steps."""

    def __init__(self, *, norm: bool = False, gelu: bool = False, **sizes):
        super().__init__(partial(PlainBlock, norm=norm, gelu=gelu), **sizes)


def recognise(
    state: dict[str, Tensor], *, local: bool = False, train_size: tuple[int, int] = (256, 256)
) -> Recognised | None:
    """A state_dict of this family, or None; weights cannot tell whether they work `local`, and from which patches.

    Nor can they tell a PlainNet's activation: ReLU is assumed.
    """
    if "intro.weight" not in state or "ending.weight" not in state:
        return None
    if not local and tuple(train_size) != (256, 256):
        raise UserError("train_size says how large the windows of a local network are: give local=True too")
    arguments = {
        "width": state["intro.weight"].shape[0],
        "encoder": tuple(children(state, f"encoders.{level}.") for level in range(children(state, "downs."))),
        "middle": children(state, "middle_blks."),
        "decoder": tuple(children(state, f"decoders.{level}.") for level in range(children(state, "ups."))),
    }
    hints = {"local": True, "train_size": tuple(train_size)} if local else {}
    if any(".sca." in key for key in state):
        arguments |= {"simplified": False} if any(".sca.3." in key for key in state) else {}
        return Recognised("nafnet", arguments | hints, state)
    if any(".se." in key for key in state):
        first = next(value for key, value in state.items() if key.endswith(".conv1.weight"))
        return Recognised("baseline", arguments | {"expand": first.shape[0] // first.shape[1]} | hints, state)
    if any(".norm1." in key for key in state):
        arguments["norm"] = True
    if local:
        raise UserError("a PlainNet takes no means that could be local: leave local and train_size out")
    return Recognised("plainnet", arguments, state)


_SIDD = {"encoder": (2, 2, 4, 8), "middle": 12, "decoder": (2, 2, 2, 2)}
_RECIPE = Recipe(
    loss="bounded_psnr",
    prepare=alone(Pixelwise),
    settings=Settings(
        steps=1000,
        batch_size=8,
        learning_rate=1e-3,
        final_learning_rate=1e-7,
        optimizer="adamw",
        betas=(0.9, 0.9),
        weight_decay=1e-3,
        clip_norm=0.5,  # the official 0.01 is for batches of 32 patches of 256 pixels
        channels_last=True,
    ),
    patch_size=96,
    sections=("nafnet.ablation",),
)
PLAINNET_METHOD = Method(
    key="plainnet",
    title="PlainNet",
    paper="Chen et al. 2022, Simple Baselines for Image Restoration",
    colour=6,
    tasks=("deblurring",),
    builder=PlainNet,
    recognise=recognise,
    recipes={"plainnet": _RECIPE},
)
BASELINE_METHOD = Method(
    key="baseline",
    title="Baseline",
    paper="Chen et al. 2022, Simple Baselines for Image Restoration",
    colour=8,
    tasks=("deblurring",),
    builder=Baseline,
    variants={
        "gopro-w32": {"width": 32},
        "gopro-w64": {"width": 64, "expand": 2},
        "sidd-w32": {"width": 32, **_SIDD},
        "sidd-w64": {"width": 64, "expand": 2, **_SIDD},
    },
    recognise=recognise,
    recipes={"baseline": _RECIPE},
)
NAFNET_METHOD = Method(
    key="nafnet",
    title="NAFNet",
    paper="Chen et al. 2022, Simple Baselines for Image Restoration",
    colour=1,
    tasks=("deblurring",),
    builder=NAFNet,
    variants={
        "gopro-w32": {"width": 32},
        "gopro-w64": {"width": 64},
        "sidd-w32": {"width": 32, **_SIDD},
        "sidd-w64": {"width": 64, **_SIDD},
    },
    recognise=recognise,
    recipes={"nafnet": replace(_RECIPE, sections=("nafnet.training", "nafnet.ablation"))},
)
