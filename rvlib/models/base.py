"""What a network declares about itself: all that restoring, training and saving ask of it beside `forward`."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rvlib.errors import UserError


class RestorationModel(nn.Module):
    """A network that restores photos: (b channels h w) in [0, 1] -> (b channels scale·h scale·w).

    A subclass sets `task` and what differs from the defaults, in its class or in its constructor. Its `forward` takes
    the degraded photo, and by keyword what the attributes below announce: `noise`, `reference`, `description`.
    """

    task: str
    """What it undoes: "super-resolution", "deblurring", "denoising" or "jpeg"."""

    scale: int = 1
    """How many times larger than the degraded photo the restored one is, in height and in width."""

    channels: int = 3
    """What it sees of a photo. 3: RGB; 1: luminance alone, the chroma is enlarged by bicubic interpolation."""

    multiple_of: int = 1
    """`forward` takes heights and widths that are multiples of this; other photos are padded before."""

    reach: int | None = None
    """On how many degraded pixels around it an output pixel depends at most; None if that may be the whole photo."""

    window: int = 1
    """Side of the windows that it cuts a photo into, as SwinIR does: tiles meet only where two windows do."""

    noise_size: int = 0
    """How many normal numbers `forward` draws for a photo, unless they are given as `noise` (b, noise_size)."""

    needs_reference: bool = False
    """Whether `forward` looks at the `reference` too, as stage 1 of DiffIR does."""

    needs_description: bool = False
    """Whether a tile is to be restored with the `description` of its whole photo, which `describe` gives."""

    describe: Callable[[Tensor], Tensor]
    """Only if `needs_description`: degraded photo -> means over it (b, n); the mean over tiles is that of the photo."""

    prior: Callable[[Tensor, Tensor], Tensor]
    """Only if `needs_reference`: degraded photo, reference -> the vector (b, n) that a second stage learns to guess."""

    bytes_per_pixel: float | None = None
    """Memory of a forward per degraded pixel, which `restore` keeps here once it has measured it; None before."""

    spec: dict
    """Name and arguments that rebuild the network, as `rvlib.create` got them: {"name": ..., "arguments": {...}}."""

    method: str | None = None
    """Key of the method (`rvlib.models.METHODS`) that trained it; None where nothing tells, as in official files."""

    source: dict = {}  # noqa: RUF012
    """Where its weights come from, as `load` read them: {"file", "sha256", "licence"}; empty for fresh ones."""

    def slow_parameters(self) -> list[nn.Parameter]:
        """Parameters that learn at a tenth of the rate."""
        return []

    def restorer(self) -> "RestorationModel":
        """The network that is validated and saved: all of this one, or what it trains with the help of the rest."""
        return self


def device_of(model: nn.Module) -> torch.device:
    """The device that a model computes on; the CPU for one without parameters."""
    return next(model.parameters(), torch.empty(0, device="cpu")).device


WRAPPERS = ("_orig_mod", "module")  # what torch.compile and DistributedDataParallel call the network inside them


def unwrapped(model: nn.Module) -> RestorationModel:
    """The network itself, which alone declares what it is: also from inside a compiled or a distributed one.

    Raises UserError for a module that is no RestorationModel.
    """
    while not isinstance(model, RestorationModel):
        inside = [each for name, each in model.named_children() if name in WRAPPERS]
        if not inside:
            raise UserError(
                f"{type(model).__name__} does not declare how it restores: "
                f"let it be a subclass of rvlib.models.base.RestorationModel"
            )
        model = inside[0]
    return model
