"""Several processes of one machine that train together: the processes share each batch, they do not multiply it."""

import os
from collections.abc import Callable
from functools import partial, update_wrapper

import torch
from accelerate import Accelerator
from accelerate.utils import patch_environment
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import LaunchConfig, elastic_launch

from rvlib.errors import UserError


def in_processes(number: int, function: Callable, *arguments, **named) -> None:
    """Call a function that trains in `number` processes of this machine, a GPU each where there are any.

    What `accelerate launch` does for a command, for a notebook: fresh interpreters, so that the function and what it is
    called with must be picklable. Raises UserError where one of them fails; what it said is on its standard error.
    """
    threads = max(1, (os.cpu_count() or 1) // number)
    facts = {"OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": str(not torch.cuda.is_available()).lower()}
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
        with patch_environment(**facts):
            elastic_launch(config, update_wrapper(partial(function, **named), function))(*arguments)
    except ChildFailedError as error:
        said = error.get_first_failure()[1].message
        said = said["message"] if isinstance(said, dict) else said
        raise UserError(f"training in {number} processes failed: {said}") from None


def share(batch_size: int, accelerator: Accelerator) -> slice:
    """The part of each batch that this process computes; raises UserError where it cannot be shared equally."""
    processes = accelerator.num_processes
    if batch_size % processes:
        raise UserError(f"batch_size {batch_size} cannot be shared equally by {processes} processes")
    size = batch_size // processes
    return slice(accelerator.process_index * size, (accelerator.process_index + 1) * size)
