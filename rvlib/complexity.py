"""What a forward costs: parameters, multiply-adds and memory, counted while the model runs."""

import weakref
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from rvlib import fast


def parameters(model: nn.Module) -> int:
    """How many numbers a model has to learn, also those that are not trained at the moment."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def multiply_adds(model: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of one forward: convolutions, transposed convolutions and matrix products.

    Those of the network as it is defined: the faster forms of `rvlib.fast` may take more. Nothing has to be computed,
    so model and inputs may be on the device "meta". Counted by torch's FlopCounterMode, which counts a multiply-add as
    two operations.
    """
    with fast.plain(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2


@torch.no_grad()
def peak_memory(model: Callable[..., object], *inputs: Tensor) -> int:
    """Most bytes that one call holds at a time beside weights and inputs: what decides which photo still fits.

    Counted from the tensors that its operations make, so that it does not depend on what else the process holds; what
    an operation needs while it runs comes on top.
    """
    if inputs[0].is_cuda:
        device = inputs[0].device  # which need not be the current one
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        model(*inputs)
        return torch.cuda.max_memory_allocated(device) - before
    with _Storages() as storages:
        model(*inputs)
    return storages.peak


class _Storages(TorchDispatchMode):
    """Follows the bytes of all storages that operations make, from their birth to the end of their last tensor."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.users: Counter[int] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run the operation, and count what it made that did not exist before."""
        known = {each.untyped_storage().data_ptr() for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        result = function(*args, **(kwargs or {}))
        for each in tree_leaves(result):
            if not isinstance(each, Tensor):
                continue
            storage = each.untyped_storage()
            address, size = storage.data_ptr(), storage.nbytes()
            if address not in self.users:
                if address in known:  # weights and inputs, which do not count
                    continue
                self.now += size
                self.peak = max(self.peak, self.now)
            self.users[address] += 1
            weakref.finalize(each, self._release, address, size)
        return result

    def _release(self, address: int, size: int) -> None:
        self.users[address] -= 1
        if not self.users[address]:
            del self.users[address]
            self.now -= size
