"""SRCNN and FSRCNN: super-resolution by a handful of convolutions on the luminance channel.

SRCNN (Dong et al. 2014, "Learning a Deep Convolutional Network for Image Super-Resolution") enlarges first and
repairs afterwards, so that every convolution pays for the large image. FSRCNN (Dong et al. 2016, "Accelerating the
Super-Resolution Convolutional Neural Network", Fig. 2) works on the small image and enlarges in its last layer.

Symbols: d channels of the features, s channels after shrinking, m mapping layers, `scale` the factor n of the paper.
"""

from math import prod, sqrt

from torch import Tensor, nn

from rvlib import fast
from rvlib.degrade import imresize
from rvlib.errors import UserError
from rvlib.models.base import RestorationModel
from rvlib.models.keys import Recognised
from rvlib.models.method import Method
from rvlib.objectives import Pixelwise
from rvlib.settings import Recipe, Settings, alone


class SRCNN(RestorationModel):
    """Three convolutions 9-5-5 behind a bicubic enlargement (SRCNN, section 3).

        Y  = bicubic(x)              enlarged luminance
        F₁ = max(0, W₁ * Y + b₁)     9 x 9, 64 channels: patch extraction
        F₂ = max(0, W₂ * F₁ + b₂)    5 x 5, 32 channels: non-linear mapping
        F  = W₃ * F₂ + b₃            5 x 5: reconstruction

    (b c h w) -> (b c scale·h scale·w), luminance in [0, 1]. `scale=1` takes an image that is already enlarged.
    """

    task = "super-resolution"

    def __init__(self, *, scale: int = 4, channels: int = 1):
        super().__init__()
        _check(scale=scale, channels=channels)
        self.scale = scale
        self.channels = channels
        self.conv1 = nn.Conv2d(channels, 64, 9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, channels, 5, padding=2)

    def forward(self, degraded: Tensor) -> Tensor:
        """Enlarge, then repair: (b c h w) -> (b c scale·h scale·w)."""
        enlarged = degraded if self.scale == 1 else imresize(degraded, self.scale)
        features = self.conv1(enlarged).relu()  # (b 64 scale·h scale·w)
        return self.conv3(self.conv2(features).relu())

    @property
    def reach(self) -> int:
        """How many degraded pixels around it an output pixel depends on: bicubic reaches 2, the layers 4 + 2 + 2."""
        return 2 + -(-8 // self.scale)

    def slow_parameters(self) -> list[nn.Parameter]:
        """Parameters that learn at a tenth of the rate: the last layer (SRCNN, section 4.1)."""
        return list(self.conv3.parameters())


class Deconvolution(nn.ConvTranspose2d):
    """The transposed convolution Wᵀ of stride `scale`, 9 x 9: each pixel of the small image paints 9 x 9 large ones."""

    def __init__(self, channels: int, out: int, scale: int):
        super().__init__(channels, out, 9, stride=scale, padding=4, output_padding=scale - 1)

    def forward(self, x: Tensor) -> Tensor:
        """(b channels h w) -> (b out scale·h scale·w)."""
        return fast.deconvolution(x, self.weight, self.bias, scale=self.stride[0])


class FSRCNN(RestorationModel):
    """Five parts on the small image, FSRCNN(d, s, m) (FSRCNN, section 3.2).

        feature extraction  PReLU(W₁ * x)    5 x 5, 1 -> d
        shrinking           PReLU(W₂ * ·)    1 x 1, d -> s
        mapping             PReLU(Wᵢ * ·)    3 x 3, s -> s, m times
        expanding           PReLU(W  * ·)    1 x 1, s -> d
        deconvolution       Wᵀ ·             9 x 9, d -> 1, stride = scale

    (b c h w) -> (b c scale·h scale·w), luminance in [0, 1], not clipped. Two ablations of the paper's section 3.2:
    `expand=False` leaves the expanding layer out, so that the deconvolution reads the s mapped channels, and
    `shared_kernel=True` gives all channels the same deconvolution kernel, Wᵀ(Σ_c F_c).
    """

    task = "super-resolution"

    def __init__(
        self,
        *,
        scale: int = 4,
        d: int = 56,
        s: int = 12,
        m: int = 4,
        channels: int = 1,
        expand: bool = True,
        shared_kernel: bool = False,
    ):
        super().__init__()
        _check(scale=scale, channels=channels, d=d, s=s, m=m)
        self.scale = scale
        self.channels = channels
        self.shared_kernel = shared_kernel
        self.first_part = nn.Sequential(nn.Conv2d(channels, d, 5, padding=2), nn.PReLU(d))
        layers = [nn.Conv2d(d, s, 1), nn.PReLU(s)]
        for _ in range(m):
            layers += [nn.Conv2d(s, s, 3, padding=1), nn.PReLU(s)]
        if expand:
            layers += [nn.Conv2d(s, d, 1), nn.PReLU(d)]
        self.mid_part = nn.Sequential(*layers)
        read = 1 if shared_kernel else d if expand else s
        self.last_part = Deconvolution(read, channels, scale)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # He et al. 2015 for PReLU networks: std = √(2 / (out · k²))
                nn.init.normal_(layer.weight, std=sqrt(2 / (layer.out_channels * prod(layer.kernel_size))))
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.last_part.weight, std=0.001)
        nn.init.zeros_(self.last_part.bias)

    def forward(self, degraded: Tensor) -> Tensor:
        """Extract, shrink, map, expand, enlarge: (b c h w) -> (b c scale·h scale·w)."""
        features = self.mid_part(self.first_part(degraded))  # (b d h w)
        return self.last_part(features.sum(dim=1, keepdim=True) if self.shared_kernel else features)

    @property
    def reach(self) -> int:
        """How many degraded pixels around it an output pixel depends on: 2 + m, and the deconvolution's 4 at most."""
        return 6 + sum(each.kernel_size == (3, 3) for each in self.mid_part if isinstance(each, nn.Conv2d))

    def slow_parameters(self) -> list[nn.Parameter]:
        """Parameters that learn at a tenth of the rate: the deconvolution (FSRCNN, section 4.1)."""
        return list(self.last_part.parameters())


def _check(*, scale: int, channels: int, **sizes: int) -> None:
    if scale not in (1, 2, 3, 4, 8):
        raise UserError(
            f"scale {scale} is not supported: choose 2, 3, 4 or 8 (1 for an image that is enlarged already)"
        )
    for name, size in {"channels": channels, **sizes}.items():
        if not isinstance(size, int) or size < 1:
            raise UserError(f"{name} must be a positive whole number, not {size!r}")


def recognise(state: dict[str, Tensor], *, scale: int = 4) -> Recognised | None:
    """An FSRCNN or SRCNN state_dict, or None if it is neither; the weights cannot tell the `scale`."""
    if set(state) == {f"conv{i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")}:
        return Recognised("srcnn", {"scale": scale, "channels": state["conv1.weight"].shape[1]}, state)
    if "first_part.0.weight" not in state or "mid_part.0.weight" not in state or "last_part.weight" not in state:
        return None
    d, channels = state["first_part.0.weight"].shape[:2]
    s = state["mid_part.0.weight"].shape[0]
    mapping = [k for k, v in state.items() if k.startswith("mid_part.") and v.ndim == 4 and v.shape[-1] == 3]
    arguments = {"scale": scale, "d": d, "s": s, "m": len(mapping), "channels": channels}
    single = [k for k, v in state.items() if k.startswith("mid_part.") and v.ndim == 4 and v.shape[-1] == 1]
    if len(single) == 1:  # it shrinks; a second one expands
        arguments["expand"] = False
    if state["last_part.weight"].shape[0] == 1 != (d if len(single) > 1 else s):
        arguments["shared_kernel"] = True
    return Recognised("fsrcnn", arguments, state)


SRCNN_METHOD = Method(
    key="srcnn",
    title="SRCNN",
    paper="Dong et al. 2014, Learning a Deep Convolutional Network for Image Super-Resolution",
    colour=5,
    tasks=("super-resolution",),
    builder=SRCNN,
    recognise=recognise,
    recipes={
        "srcnn": Recipe(
            loss="mse",
            prepare=alone(Pixelwise),
            settings=Settings(steps=2000, learning_rate=1e-3),
            patch_size=48,
        )
    },
)
FSRCNN_METHOD = Method(
    key="fsrcnn",
    title="FSRCNN",
    paper="Dong et al. 2016, Accelerating the Super-Resolution Convolutional Neural Network",
    colour=0,
    tasks=("super-resolution",),
    builder=FSRCNN,
    recognise=recognise,
    recipes={
        # without clipping and warm-up, Adam at this rate now and then throws the tiny deconvolution off for good
        "fsrcnn": Recipe(
            loss="mse",
            prepare=alone(Pixelwise),
            settings=Settings(steps=2000, learning_rate=2e-3, warmup_steps=500, clip_norm=0.5, channels_last=True),
            patch_size=48,
            sections=("fsrcnn",),
        )
    },
)
