"""DIRformer: the part of DiffIR that restores, a Restormer-like U-Net that a short vector steers at every block.

Xia et al. 2023, "DiffIR: Efficient Diffusion Model for Image Restoration", Fig. 2 and eq. 2 to 5. The image prior
representation z (b, 256) scales and shifts the normalised features before each attention and each feed-forward part.

Symbols: x features (b c h w), W 1 x 1 convolutions, D depthwise 3 x 3 convolutions, ⊙ product of feature maps.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from rvlib import fast

PRIOR = 256  # length of the IPR


class LayerNorm(nn.Module):
    """Normalise each pixel over its channels: (x - μ) / √(σ² + ε) · w + b, ε = 10⁻⁵.

    Without bias the mean stays too: x / √(σ² + ε) · w.
    """

    def __init__(self, channels: int, *, bias: bool):
        super().__init__()
        # official checkpoints call the parameters norm.body.weight and norm.body.bias
        self.body = nn.ParameterDict({"weight": nn.Parameter(torch.ones(channels))})
        if bias:
            self.body["bias"] = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> (b c h w)."""
        if "bias" in self.body:
            return fast.channel_norm(x, self.body["weight"], self.body["bias"], eps=1e-5)
        return fast.channel_scale(x, self.body["weight"], eps=1e-5)


class Modulation(nn.Sequential):
    """Steer features by the IPR (DiffIR eq. 2): x' = (W₁ z) ⊙ x + W₂ z."""

    def __init__(self, channels: int):
        super().__init__(nn.Linear(PRIOR, 2 * channels, bias=False))

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """(b c h w), (b, 256) -> (b c h w)."""
        scale, shift = self[0](prior)[:, :, None, None].chunk(2, dim=1)  # (b c 1 1) each
        return x * scale + shift


class Attention(nn.Module):
    """DMTA, dynamic multi-head transposed attention (DiffIR eq. 3-4): V softmax(τ K̂ᵀ Q̂), channels attend to channels.

    Its cost is linear in the pixels. Q̂ and K̂ are Q and K divided by their lengths along the pixels; each head learns
    a τ.
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
        similarity = fast.cosines(q, k)  # K̂ᵀ Q̂: (b k d d)
        attended = (self.temperature * similarity).softmax(dim=-1) @ v
        return self.project_out(rearrange(attended, "b k d (h w) -> b (k d) h w", h=height, w=width))


class FeedForward(nn.Module):
    """DGFN, dynamic gated feed-forward network (DiffIR eq. 5): W₃ (GELU(D W₁ x') ⊙ D W₂ x')."""

    def __init__(self, channels: int, hidden: int, *, bias: bool):
        super().__init__()
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

    def __init__(self, channels: int, heads: int, *, hidden: int, bias: bool, norm_bias: bool):
        super().__init__()
        self.norm1 = LayerNorm(channels, bias=norm_bias)
        self.attn = Attention(channels, heads, bias=bias)
        self.norm2 = LayerNorm(channels, bias=norm_bias)
        self.ffn = FeedForward(channels, hidden, bias=bias)

    def forward(self, x: Tensor, prior: Tensor) -> Tensor:
        """(b c h w), (b, 256) -> (b c h w)."""
        x = x + self.attn(self.norm1(x), prior)
        return x + self.ffn(self.norm2(x), prior)


class Level(nn.ModuleList):
    """`count` blocks one after the other, all steered by the same IPR."""

    def __init__(self, channels: int, count: int, *, heads: int, hidden: int, bias: bool, norm_bias: bool):
        kinds = {"bias": bias, "norm_bias": norm_bias}
        super().__init__(Block(channels, heads, hidden=hidden, **kinds) for _ in range(count))

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


class PatchEmbed(nn.Module):
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
    size. The input (enlarged by nearest neighbours) is added.
    """

    def __init__(
        self,
        *,
        task: str,
        scale: int,
        dim: int,
        blocks: tuple[int, int, int, int],
        refinement: int,
        heads: tuple[int, int, int, int],
        hidden: tuple[int, int, int, int],
        bias: bool,
        norm_bias: bool,
    ):
        super().__init__()
        self.scale = scale
        self.unshuffle = 4 // scale if task == "super-resolution" else 1

        kinds = {"bias": bias, "norm_bias": norm_bias}
        self.patch_embed = PatchEmbed(3 * self.unshuffle**2, dim)
        self.encoder_level1 = Level(dim, blocks[0], heads=heads[0], hidden=hidden[0], **kinds)
        self.down1_2 = Resample(dim, up=False)
        self.encoder_level2 = Level(2 * dim, blocks[1], heads=heads[1], hidden=hidden[1], **kinds)
        self.down2_3 = Resample(2 * dim, up=False)
        self.encoder_level3 = Level(4 * dim, blocks[2], heads=heads[2], hidden=hidden[2], **kinds)
        self.down3_4 = Resample(4 * dim, up=False)
        self.latent = Level(8 * dim, blocks[3], heads=heads[3], hidden=hidden[3], **kinds)
        self.up4_3 = Resample(8 * dim, up=True)
        self.reduce_chan_level3 = nn.Conv2d(8 * dim, 4 * dim, 1, bias=bias)
        self.decoder_level3 = Level(4 * dim, blocks[2], heads=heads[2], hidden=hidden[2], **kinds)
        self.up3_2 = Resample(4 * dim, up=True)
        self.reduce_chan_level2 = nn.Conv2d(4 * dim, 2 * dim, 1, bias=bias)
        self.decoder_level2 = Level(2 * dim, blocks[1], heads=heads[1], hidden=hidden[1], **kinds)
        self.up2_1 = Resample(2 * dim, up=True)
        # the last levels keep the concatenated channels, and so the second level's hidden channels
        self.decoder_level1 = Level(2 * dim, blocks[0], heads=heads[0], hidden=hidden[1], **kinds)
        self.refinement = Level(2 * dim, refinement, heads=heads[0], hidden=hidden[1], **kinds)
        if task == "deblurring":
            self.output = nn.Conv2d(2 * dim, 3, 3, padding=1, bias=bias)
        else:
            upsampler = []
            for _ in range(2):
                upsampler += [nn.Conv2d(2 * dim, 8 * dim, 3, padding=1), nn.PixelShuffle(2)]
            self.tail = nn.Sequential(nn.Sequential(*upsampler), nn.Conv2d(2 * dim, 3, 3, padding=1))

    def forward(self, degraded: Tensor, prior: Tensor) -> Tensor:
        """(b 3 h w), (b, 256) -> (b 3 scale·h scale·w)."""
        embedded = self.patch_embed(F.pixel_unshuffle(degraded, self.unshuffle))  # (b dim H W)
        level1 = self.encoder_level1(embedded, prior)
        level2 = self.encoder_level2(self.down1_2(level1), prior)  # (b 2·dim H/2 W/2)
        level3 = self.encoder_level3(self.down2_3(level2), prior)  # (b 4·dim H/4 W/4)
        x = self.latent(self.down3_4(level3), prior)  # (b 8·dim H/8 W/8)
        x = self.decoder_level3(self.reduce_chan_level3(torch.cat([self.up4_3(x), level3], dim=1)), prior)
        x = self.decoder_level2(self.reduce_chan_level2(torch.cat([self.up3_2(x), level2], dim=1)), prior)
        x = self.decoder_level1(torch.cat([self.up2_1(x), level1], dim=1), prior)
        x = self.refinement(x, prior)
        if hasattr(self, "output"):
            return self.output(x) + degraded
        return self.tail(x) + F.interpolate(degraded, scale_factor=self.scale, mode="nearest")
