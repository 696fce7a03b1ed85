"""Losses: what the study's methods minimise, each with its equation.

Images are float tensors (b c h w) in [0, 1], x restored and y reference. Every loss is a scalar.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def l1(restored: Tensor, reference: Tensor) -> Tensor:
    """Mean |x - y| (SwinIR, section 3.1; DiffIR eq. 6)."""
    return F.l1_loss(restored, reference)


def mse(restored: Tensor, reference: Tensor) -> Tensor:
    """Mean (x - y)² (SRCNN eq. 4, SRGAN eq. 4)."""
    return F.mse_loss(restored, reference)


def charbonnier(restored: Tensor, reference: Tensor) -> Tensor:
    """Mean √((x - y)² + ε²) with ε = 10⁻³: |x - y| with a smooth bottom (Charbonnier et al. 1994; LapSRN eq. 1)."""
    return torch.sqrt((restored - reference) ** 2 + 1e-6).mean()


def l1_and_frequency(restored: Tensor, reference: Tensor) -> Tensor:
    """Mean |x - y| + 0.1 · mean of |Re F(x - y)| and |Im F(x - y)|, F the Fourier transform (MIMO-UNet eq. 5 and code).

    F is the whole discrete transform, where each frequency and its mirror image count.
    """
    error = (restored - reference).float()
    return error.abs().mean() + 0.1 * torch.view_as_real(torch.fft.fft2(error)).abs().mean()


def negative_psnr(restored: Tensor, reference: Tensor) -> Tensor:
    """Mean over the batch of 10 log₁₀(MSE + 10⁻⁸): minus the PSNR in dB (NAFNet's official loss)."""
    error = ((restored - reference) ** 2).mean(dim=(1, 2, 3))
    return 10 / math.log(10) * torch.log(error + 1e-8).mean()


def bounded_psnr(restored: Tensor, reference: Tensor) -> Tensor:
    """Mean over the batch of 10 log₁₀(MSE + 10⁻⁴·⁵): minus the PSNR, which stops to count near 45 dB.

    With NAFNet's 10⁻⁸, a patch that was sharp already may gain 30 dB more, and outweighs all that are blurred.
    """
    error = ((restored - reference) ** 2).mean(dim=(1, 2, 3))
    return 10 / math.log(10) * torch.log(error + 10**-4.5).mean()


def perceptual(restored: Tensor, reference: Tensor, features: nn.Module) -> Tensor:
    """Mean (φ(x) - φ(y))² for the feature maps φ of a frozen network (SRGAN eq. 5).

    φ here is VGG16 up to its fifth pooling, on images in [0, 1] without normalisation, as leftthomas' code and the
    report have it; `rvlib.backbones.vgg16_features` loads it.
    """
    return F.mse_loss(features(restored), features(reference))


def total_variation(image: Tensor) -> Tensor:
    """Isotropic total variation, the audited report's: (1 / HW) Σ √((x_{i+1,j} - x_{i,j})² + (x_{i,j+1} - x_{i,j})²).

    What the formula leaves open is decided so: differences that would leave the image are zero, channels are summed,
    and the batch is averaged.
    """
    down = F.pad(image[..., 1:, :] - image[..., :-1, :], (0, 0, 0, 1))
    across = F.pad(image[..., :, 1:] - image[..., :, :-1], (0, 1, 0, 0))
    squared = down**2 + across**2
    # √ has no gradient at 0, where the image is flat: the inner where keeps 0 out of it, the outer gives 0 back
    length = torch.where(squared > 0, torch.where(squared > 0, squared, 1.0).sqrt(), 0.0)
    return length.sum(dim=(1, 2, 3)).mean() / (image.shape[-2] * image.shape[-1])


def generator_adversarial(fake: Tensor) -> Tensor:
    """Mean -log D(G(x)) from logits (SRGAN eq. 6); D = σ(logit)."""
    return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))


def discriminator_adversarial(fake: Tensor, real: Tensor) -> Tensor:
    """Mean -log D(y) + mean -log(1 - D(G(x))) from logits (SRGAN eq. 2)."""
    to_real = F.binary_cross_entropy_with_logits(real, torch.ones_like(real))
    return to_real + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


def prior_distance(guessed: Tensor, prior: Tensor) -> Tensor:
    """Mean |ẑ - z| between the IPR of stage 2 and the detached IPR of stage 1, (b, 256) (DiffIR eq. 11)."""
    return F.l1_loss(guessed, prior.detach())


def prior_divergence(guessed: Tensor, prior: Tensor, *, temperature: float = 0.15) -> Tensor:
    """Σ p log(p / q) per photo, p = softmax(z / τ), q = softmax(ẑ / τ): logged in DiffIR's code, not minimised."""
    p, q = (prior.detach() / temperature).log_softmax(dim=1), (guessed / temperature).log_softmax(dim=1)
    return F.kl_div(q, p, log_target=True, reduction="batchmean")


PIXEL_LOSSES = {
    "mse": mse,
    "l1": l1,
    "charbonnier": charbonnier,
    "l1_and_frequency": l1_and_frequency,
    "negative_psnr": negative_psnr,
    "bounded_psnr": bounded_psnr,
}
"""The losses that compare a restored image with its reference pixel by pixel, as `loss:` of a training names them."""
