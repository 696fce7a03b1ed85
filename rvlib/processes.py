"""Several processes that train together: they share each batch, they do not multiply it.

What one process computes, several compute too, up to the order of sums: the gradients are averaged, BatchNorm takes its
statistics over the whole batch, and all of them stop, save and fail in the same step. What a network draws while it
trains (dropped paths, the noise of diffusion) each process draws for its share, equal in distribution alone.
"""

import os
import sys
from collections.abc import Callable
from functools import partial, update_wrapper

import accelerate
import torch
from accelerate.utils import DistributedType, patch_environment
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import LaunchConfig, elastic_launch

from rvlib.errors import UserError

DEVICES = {"ACCELERATE_USE_CPU", "ACCELERATE_TORCH_DEVICE", "ACCELERATE_CPU_AFFINITY", "ACCELERATE_DEBUG_MODE"}
"""What a run takes over from the user's configuration of accelerate: where to compute, and nothing of how."""

CHOICES = (
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_DYNAMO_BACKEND",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
)
"""What a user may have configured and will not get; the rest are the details of these."""

OFF = ("no", "false", "0", "1", "")


# on a machine without a GPU, accelerate lets each of torchrun's processes train alone unless it is told
if "TORCHELASTIC_RUN_ID" in os.environ and not torch.accelerator.is_available():
    os.environ.setdefault("ACCELERATE_USE_CPU", "true")


class Accelerator(accelerate.Accelerator):
    """accelerate's, but deaf to a configuration that would change what a run computes: `Settings` alone says that."""

    def __init__(self):
        prefixes = ("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_")
        unheard = {name: each for name, each in os.environ.items() if name.startswith(prefixes) and name not in DEVICES}
        for name in unheard:
            del os.environ[name]
        try:
            super().__init__()
        except ValueError as error:  # an accelerator with other choices was made in this process before
            raise UserError(f"accelerate is in use already ({error}): train in a process of its own") from None
        finally:
            os.environ.update(unheard)
        kinds = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU, DistributedType.MULTI_XPU)
        if self.distributed_type not in kinds or self.mixed_precision != "no":
            raise UserError(
                f"accelerate is in use already, as {self.distributed_type} with mixed precision "
                f"{self.mixed_precision}: train in a process of its own"
            )
        asked = [f"{name}={unheard.get(name)}" for name in CHOICES if unheard.get(name, "no").lower() not in OFF]
        if asked and self.is_main_process:
            print(f"not used, for a run's settings alone say how it trains: {', '.join(asked)}", file=sys.stderr)


def in_processes(number: int, function: Callable, *arguments, **named) -> None:
    """Call a function that trains in `number` processes of this machine, a GPU each where there are any.

    What `accelerate launch` does for a command, for a notebook: fresh interpreters, so that the function and what it is
    called with must be picklable. Raises UserError where there are fewer GPUs, and where a process fails, which says on
    its standard error why; and KeyboardInterrupt on Ctrl-C and SIGTERM.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus and number > gpus:
        raise UserError(f"{number} processes need a GPU each, and this machine has {gpus}: set processes to {gpus}")
    # those that this process may use, where the system says which
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // number)
    environment = {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": str(not gpus).lower()}
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",  # a free port
        run_id=function.__name__,
        max_restarts=0,
        start_method="spawn",
    )
    try:
        with patch_environment(**environment):
            elastic_launch(config, update_wrapper(partial(function, **named), function))(*arguments)
    except SignalException:  # Ctrl-C and SIGTERM, which this process hears
        raise KeyboardInterrupt("stopped; started again, the run resumes from what it saved") from None
    except ChildFailedError as error:
        said = error.get_first_failure()[1].message
        said = said["message"] if isinstance(said, dict) else said
        raise UserError(f"training in {number} processes failed: {said}") from None


def share(batch_size: int, accelerator: Accelerator) -> slice:
    """The part of each batch that this process computes; raises UserError where it cannot be shared equally."""
    processes = accelerator.num_processes
    if batch_size % processes:
        raise UserError(
            f"batch_size {batch_size} cannot be shared equally by {processes} processes: choose a multiple of "
            f"{processes}"
        )
    size = batch_size // processes
    return slice(accelerator.process_index * size, (accelerator.process_index + 1) * size)


def check_together(accelerator: Accelerator) -> None:
    """Raise UserError where torchrun started several processes, and each of them would train alone."""
    started = int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1
    if started > 1 and accelerator.num_processes == 1:
        raise UserError(
            f"{started} processes were started, and each would train alone: set ACCELERATE_USE_CPU=true where there "
            f"is no GPU"
        )


def mean_of_all(values: dict[str, float], accelerator: Accelerator) -> dict[str, float]:
    """The means of numbers over all processes, in one message."""
    if accelerator.num_processes == 1:
        return values
    numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=accelerator.device)
    torch.distributed.all_reduce(numbers)
    return dict(zip(values, (numbers / accelerator.num_processes).tolist(), strict=True))


def gather(value: object, accelerator: Accelerator | accelerate.PartialState) -> list:
    """What each process has, in their order."""
    if accelerator.num_processes == 1:
        return [value]
    values = [None] * accelerator.num_processes
    torch.distributed.all_gather_object(values, value)
    return values


def synchronise(model: nn.Module) -> None:
    """Let each BatchNorm2d in a model take its statistics over the batch of all processes; keys and weights stay."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = SharedBatchNorm(child.num_features, eps=child.eps, momentum=child.momentum)
                for kept in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                    setattr(shared, kept, getattr(child, kept))
                setattr(parent, name, shared.train(child.training))


class SharedBatchNorm(nn.BatchNorm2d):
    """y = γ (x - μ) / √(σ² + ε) + β, where μ and σ² are those of the whole batch, whatever processes its parts lie in.

    torch's own SyncBatchNorm computes the same, on CUDA alone. The processes' shares must have the same size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(b c h w) -> the same; in eval mode, and in one process, as BatchNorm2d."""
        if not (self.training and torch.distributed.is_initialized()):
            return super().forward(x)
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        processes, axes = torch.distributed.get_world_size(), (0, 2, 3)
        mean = _SumOverProcesses.apply(wide.mean(axes, keepdim=True)) / processes
        centred = wide - mean
        variance = _SumOverProcesses.apply(centred.square().mean(axes, keepdim=True)) / processes
        with torch.no_grad():
            count = processes * wide.numel() // wide.shape[1]
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean.flatten(), self.momentum)
            self.running_var.lerp_(variance.flatten() * (count / (count - 1)), self.momentum)
        normal = centred * (variance + self.eps).rsqrt()
        return (normal * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; each process's loss has a gradient for each process's summand."""

    @staticmethod
    def forward(context, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total
