"""SRGAN: super-resolution that a discriminator can't tell from photos.

Ledig et al. 2017, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", Fig. 4. The
generator (SRResNet) is a chain of residual blocks with BatchNorm, a shortcut around them, and two pixel shuffles. The
discriminator halves the image and doubles the channels until a verdict is left. Popular
implementations differ in details that their checkpoints depend on: their generators stand here, with one
discriminator.

Symbols: k9n64 a 9 x 9 convolution with 64 channels.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from rvlib import fast
from rvlib.backbones import vgg16_features
from rvlib.errors import UserError
from rvlib.models.base import RestorationModel
from rvlib.models.keys import Recognised, children
from rvlib.models.method import Method
from rvlib.objectives import PerceptualAdversarial, Pixelwise
from rvlib.settings import Loss, Objective, Recipe, Settings, alone, take_over


class Generator(RestorationModel):
    """What the three generators share."""

    task = "super-resolution"

    @property
    def reach(self) -> int:
        """Degraded pixels around it on which an output pixel depends at most: half of each kernel, 1 for bilinear."""
        return 1 + sum(layer.kernel_size[0] // 2 for layer in self.modules() if isinstance(layer, nn.Conv2d))


class ToColors(nn.Conv2d):
    """The last convolution, k9n3: features become colors."""

    def __init__(self, features: int):
        super().__init__(features, 3, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        """(b features h w) -> (b 3 h w)."""
        return fast.convolution_to_few(x, self.weight, self.bias)


class ResidualBlock(nn.Module):
    """x + BN(W₂ PReLU(BN(W₁ x))), k3n64 (SRGAN, Fig. 4)."""

    def __init__(self, features: int):
        super().__init__()
        self.rcb = nn.Sequential(
            nn.Conv2d(features, features, 3, padding=1, bias=False),  # BatchNorm brings the bias
            nn.BatchNorm2d(features),
            nn.PReLU(),
            nn.Conv2d(features, features, 3, padding=1, bias=False),
            nn.BatchNorm2d(features),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        return x + self.rcb(x)


class Upsample(nn.Module):
    """PReLU(shuffle₂(W x)), k3n256."""

    def __init__(self, features: int):
        super().__init__()
        self.upsample_block = nn.Sequential(
            nn.Conv2d(features, 4 * features, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c 2h 2w)."""
        return self.upsample_block(x)


class SRResNet(Generator):
    """The generator of SRGAN (Fig. 4): k9n64, 16 residual blocks, k3n64 with a shortcut, two shuffles, k9n3.

    (b 3 h w) in [0, 1] -> (b 3 scale·h scale·w). Only eval mode clips to [0, 1]: in training, gradients reach values
    outside too. Keys are those of Lornatang's SRGAN-PyTorch.
    """

    def __init__(self, *, scale: int = 4, features: int = 64, blocks: int = 16):
        super().__init__()
        if scale not in (2, 4, 8):
            raise UserError(f"scale {scale} is not supported: SRGAN's shuffles make 2, 4 or 8")
        self.scale = scale
        self.conv1 = nn.Sequential(nn.Conv2d(3, features, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(*(ResidualBlock(features) for _ in range(blocks)))
        self.conv2 = nn.Sequential(nn.Conv2d(features, features, 3, padding=1, bias=False), nn.BatchNorm2d(features))
        self.upsampling = nn.Sequential(*(Upsample(features) for _ in range(scale.bit_length() - 1)))
        self.conv3 = ToColors(features)

    def forward(self, degraded: Tensor) -> Tensor:
        """(b 3 h w) -> (b 3 scale·h scale·w)."""
        features = self.conv1(degraded)  # (b features h w)
        restored = self.conv3(self.upsampling(features + self.conv2(self.trunk(features))))
        return restored if self.training else restored.clamp(0, 1)


class CompactBlock(nn.Module):
    """x + BN(W₂ PReLU(BN(W₁ x))), with the compact generator's names and biases."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(features)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(features)

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class CompactUpsample(nn.Module):
    """PReLU(shuffle₂(W x)) with the compact generator's names."""

    def __init__(self, features: int):
        super().__init__()
        self.conv = nn.Conv2d(features, 4 * features, 3, padding=1)
        self.pixel_shuffle = nn.PixelShuffle(2)
        self.prelu = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c 2h 2w)."""
        return self.prelu(self.pixel_shuffle(self.conv(x)))


class CompactGenerator(Generator):
    """leftthomas' generator: five residual blocks, biases everywhere, (tanh + 1) / 2 at the end.

    (b 3 h w) in [0, 1] -> (b 3 scale·h scale·w) in [0, 1]. The code of January 2018, whose weights are published, has
    a PReLU after the blocks, where the code of today has BatchNorm: `closing_norm=False`.
    """

    def __init__(self, *, scale: int = 4, features: int = 64, closing_norm: bool = True):
        super().__init__()
        if scale not in (2, 4, 8):
            raise UserError(f"scale {scale} is not supported: SRGAN's shuffles make 2, 4 or 8")
        self.scale = scale
        self.block1 = nn.Sequential(nn.Conv2d(3, features, 9, padding=4), nn.PReLU())
        for index in range(2, 7):
            setattr(self, f"block{index}", CompactBlock(features))
        closing = nn.BatchNorm2d(features) if closing_norm else nn.PReLU()
        self.block7 = nn.Sequential(nn.Conv2d(features, features, 3, padding=1), closing)
        enlarge = [CompactUpsample(features) for _ in range(scale.bit_length() - 1)]
        self.block8 = nn.Sequential(*enlarge, ToColors(features))

    def forward(self, degraded: Tensor) -> Tensor:
        """(b 3 h w) -> (b 3 scale·h scale·w)."""
        features = self.block1(degraded)  # (b features h w)
        x = features
        for index in range(2, 7):
            x = getattr(self, f"block{index}")(x)
        return (self.block8(features + self.block7(x)).tanh() + 1) / 2


class PlainResidual(nn.Module):
    """x + W₂ max(0, W₁ x), without BatchNorm."""

    def __init__(self, features: int):
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        return x + self.conv2(self.conv1(x).relu())


class MSRResNet(Generator):
    """BasicSR's generator without BatchNorm: ReLU residual blocks, and the bilinear enlargement is added.

    (b 3 h w) in [0, 1] -> (b 3 scale·h scale·w). Convolutions begin as PyTorch's do. BasicSR's begin with a tenth of
    Kaiming's standard deviation: at first the result is nearly the bilinear enlargement, and a short training changes
    little of that.
    """

    def __init__(self, *, scale: int = 4, features: int = 64, blocks: int = 16):
        super().__init__()
        if scale not in (2, 3, 4):
            raise UserError(f"scale {scale} is not supported: MSRResNet makes 2, 3 or 4")
        self.scale = scale
        self.conv_first = nn.Conv2d(3, features, 3, padding=1)
        self.body = nn.Sequential(*(PlainResidual(features) for _ in range(blocks)))
        factor = 2 if scale == 4 else scale
        self.upconv1 = nn.Conv2d(features, factor**2 * features, 3, padding=1)
        if scale == 4:
            self.upconv2 = nn.Conv2d(features, 4 * features, 3, padding=1)
        self.conv_hr = nn.Conv2d(features, features, 3, padding=1)
        self.conv_last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, degraded: Tensor) -> Tensor:
        """(b 3 h w) -> (b 3 scale·h scale·w)."""
        x = self.body(F.leaky_relu(self.conv_first(degraded), 0.1))
        x = F.leaky_relu(F.pixel_shuffle(self.upconv1(x), 2 if self.scale == 4 else self.scale), 0.1)
        if self.scale == 4:
            x = F.leaky_relu(F.pixel_shuffle(self.upconv2(x), 2), 0.1)
        enlarged = F.interpolate(degraded, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.1)) + enlarged


def srgan(
    *, style: str = "paper", scale: int = 4, features: int = 64, blocks: int = 16, closing_norm: bool = True
) -> nn.Module:
    """Build a generator: "paper" (SRResNet, with BatchNorm), "compact" (leftthomas) or "msrresnet" (BasicSR, without).

    The compact generator always has five residual blocks, whatever `blocks` says, and alone knows `closing_norm`.
    """
    styles = {"paper": SRResNet, "compact": CompactGenerator, "msrresnet": MSRResNet}
    if style not in styles:
        raise UserError(f"unknown style {style!r}: choose one of {', '.join(styles)}")
    sizes = {"scale": scale, "features": features}
    sizes |= {"closing_norm": closing_norm} if style == "compact" else {"blocks": blocks}
    return styles[style](**sizes).to(memory_format=torch.channels_last)  # convolutions are faster in this layout


def discriminator_convolutions(features: int) -> list[nn.Module]:
    """Eight 3 x 3 convolutions, every second with stride 2 and every other doubling the channels (SRGAN, Fig. 4)."""
    layers = [nn.Conv2d(3, features, 3, padding=1), nn.LeakyReLU(0.2)]
    widths = [features * factor for factor in (1, 1, 2, 2, 4, 4, 8, 8)]
    for index in range(1, 8):
        stride = 2 if index % 2 else 1
        layers += [nn.Conv2d(widths[index - 1], widths[index], 3, stride=stride, padding=1)]
        layers += [nn.BatchNorm2d(widths[index]), nn.LeakyReLU(0.2)]
    return layers


class Discriminator(nn.Module):
    """The discriminator that the study trains against: eight convolutions, a mean over the image, a verdict.

    The mean over the image takes images of any size; the paper has a dense layer instead. This is leftthomas' choice,
    and so are the keys.
    """

    def __init__(self, *, features: int = 64):
        super().__init__()
        wide = 8 * features
        self.net = nn.Sequential(
            *discriminator_convolutions(features),
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(wide, 2 * wide, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * wide, 1, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """(b 3 h w) in [0, 1] -> logits (b); σ(logit) is the probability that the image is a photo."""
        return self.net(image).flatten()


class Adversaries(RestorationModel):
    """Generator and discriminator as one module, so that one loop and one optimizer train both."""

    def __init__(self, generator: RestorationModel, discriminator: nn.Module):
        super().__init__()
        self.task = generator.task
        self.scale = generator.scale
        self.generator = generator
        self.discriminator = discriminator

    def restorer(self) -> RestorationModel:
        """The generator: the discriminator restores nothing."""
        return self.generator

    def forward(self, degraded: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Restored photos, and three times logits (b), of references and twice of restored photos.

        From the first two the discriminator learns: they have no gradient for the generator. The last one judges the
        generator: it has no gradient for the discriminator's weights.
        """
        restored = self.generator(degraded)
        real = self.discriminator(reference)
        fake = self.discriminator(restored.detach())
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        judged = functional_call(self.discriminator, frozen, (restored,))
        return restored, real, fake, judged


NAMES = {  # of MSRResNet's layers elsewhere (KAIR, OpenMMLab), and in BasicSR
    "recon_trunk": "body",
    "trunk_net": "body",
    "HRconv": "conv_hr",
    "upsample1.upsample_conv": "upconv1",
    "upsample2.upsample_conv": "upconv2",
}


def _as_basicsr(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The keys of KAIR and OpenMMLab as BasicSR calls them, others as they are.

    OpenMMLab's files hold the whole training: the generator, whose keys say so, beside its discriminator and counters.
    """
    generator = {key: value for key, value in state.items() if key.startswith("generator.")}
    renamed = {}
    for key, value in (generator or state).items():
        layer = key.removeprefix("generator.")
        theirs = next((name for name in NAMES if layer.startswith(f"{name}.")), None)
        renamed[layer if theirs is None else NAMES[theirs] + layer.removeprefix(theirs)] = value
    return renamed


def recognise(state: dict[str, Tensor]) -> Recognised | None:
    """The state_dict of a generator of this family, or None; keys and shapes tell everything."""

    def width(key: str) -> int:
        if state[key].ndim != 4 or not len(state[key]):
            raise UserError(f"this SRGAN checkpoint is damaged: {key} is not a convolution")
        return len(state[key])

    state = _as_basicsr(state)
    for key in [key for key in state if key.endswith(".running_mean")]:  # files from before torch 0.4.1 don't count
        state = {key.replace("running_mean", "num_batches_tracked"): torch.tensor(0), **state}
    if "conv1.0.weight" in state and "conv3.weight" in state:
        sizes = {"features": width("conv1.0.weight"), "blocks": children(state, "trunk.")}
        return Recognised("srgan", {"style": "paper", "scale": 2 ** children(state, "upsampling."), **sizes}, state)
    if "block1.0.weight" in state and "block7.0.weight" in state:
        shuffles = children(state, "block8.") - 1  # the last one makes colors
        arguments = {"style": "compact", "scale": 2**shuffles, "features": width("block1.0.weight")}
        if "block7.1.bias" not in state:
            arguments["closing_norm"] = False
        return Recognised("srgan", arguments, state)
    if "conv_first.weight" in state and "upconv1.weight" in state and "body.0.conv1.weight" in state:
        features = width("conv_first.weight")
        scale = 4 if "upconv2.weight" in state else round((width("upconv1.weight") / features) ** 0.5)
        sizes = {"features": features, "blocks": children(state, "body.")}
        return Recognised("srgan", {"style": "msrresnet", "scale": scale, **sizes}, state)
    return None


def against_discriminator(
    model: RestorationModel, start: RestorationModel | None, loss: Loss
) -> tuple[Adversaries, Objective]:
    """The generator continues from its training with a pixel loss; the discriminator begins.

    A missing VGG16 is fetched here, so that a missing internet connection is noticed before anything is trained.
    """
    if start is None:
        raise UserError("srgan continues from weights of srresnet: train that first and give it as start (--start)")
    take_over(model, start)
    adversaries = Adversaries(model, Discriminator())  # before VGG16, of which the first in a process draws numbers too
    features = deepcopy(vgg16_features())  # which the training may move to a GPU; others use the original
    return adversaries, PerceptualAdversarial(loss, features)


_VARIANTS = {style: {"style": style} for style in ("paper", "compact", "msrresnet")}
_NOTES = {"msrresnet": "this is the generator without BatchNorm, as BasicSR trains it (MSRResNet)"}
SRRESNET_METHOD = Method(
    key="srresnet",
    title="SRResNet",
    paper="Ledig et al. 2017, Photo-Realistic Single Image Super-Resolution Using a GAN",
    colour=9,
    tasks=("super-resolution",),
    network="srgan",
    builder=srgan,
    variants=_VARIANTS,
    notes=_NOTES,
    recognise=recognise,
    recipes={
        "srresnet": Recipe(
            loss="mse",
            prepare=alone(Pixelwise),
            settings=Settings(steps=2000, learning_rate=5e-4, warmup_steps=200, bf16=True, channels_last=True),
            patch_size=96,
            sections=("srgan.pixel_training",),
        )
    },
)
SRGAN_METHOD = Method(
    key="srgan",
    title="SRGAN",
    paper="Ledig et al. 2017, Photo-Realistic Single Image Super-Resolution Using a GAN",
    colour=3,
    tasks=("super-resolution",),
    builder=srgan,
    variants=_VARIANTS,
    notes=_NOTES,
    recognise=recognise,
    recipes={
        "srgan": Recipe(
            loss="mse",
            prepare=against_discriminator,
            settings=Settings(steps=500, learning_rate=1e-4, ema=0.99, bf16=True, channels_last=True),
            patch_size=96,
            sections=("srgan.adversarial_training",),
            starts_from="srresnet",
            is_adversarial=True,
        )
    },
)
