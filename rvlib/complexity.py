"""What a forward costs: parameters, and multiply-adds counted while the model runs."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(model: nn.Module) -> int:
    """Number of trainable numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def multiply_adds(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of one forward: convolutions, transposed convolutions and matrix products.

    Counted by torch's FlopCounterMode, which counts a multiply-add as two operations.
    """
    with FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2
