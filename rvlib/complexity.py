"""What a forward costs: parameters, multiply-adds and memory, counted while the model runs."""

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
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


@torch.no_grad()
def peak_memory(model: nn.Module, *inputs: Tensor) -> int:
    """Most bytes that one forward holds at a time beside weights and inputs: what decides which photo still fits.

    Counted from every allocation that torch makes, so that it does not depend on what else the process holds.
    """
    if inputs[0].is_cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        model(*inputs)
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model(*inputs)
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))
