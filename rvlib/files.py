"""Writing files so that a kill or a full disk leaves the old file or the new one, never half of one."""

import filecmp
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from rvlib.errors import UserError


def write_atomically(path: str | Path, write: Callable[[str], object]) -> None:
    """Call `write(temporary path)` and put the file in its place in one step; raises UserError where it can't."""
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".part")
        os.close(handle)
        write(temporary)
        os.chmod(temporary, 0o644)
        if not (path.is_file() and filecmp.cmp(temporary, path, shallow=False)):  # what stays keeps its time
            os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors have their own for a full disk
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} could not be written ({reason}): free some space or choose another folder") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
