"""Running out of memory: how it is recognised, and what is said of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from rvlib.errors import UserError


def lacks_memory(error: Exception) -> bool:
    """Whether Python, a GPU or torch's CPU, which has no error of its own for it, ran out of memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)


@contextmanager
def within_memory(photo: Path) -> Iterator[None]:
    """Turn what memory does to the work on a photo into a UserError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if lacks_memory(error):
            raise UserError(
                f"{photo} does not fit into memory: give a smaller --tile or fewer --jobs, or make the photo smaller"
            ) from None
        raise
