"""RestoraVision's thin library: networks, losses, measures, degradations, photos, restoring, checkpoints, training.

`rvlib.models` holds the networks with the records of their methods, `rvlib.study` what only the study itself needs:
fetching, leaks, notebooks, tables, figures, the report. CONTRIBUTING.md shows how data flows through the modules.
"""

import importlib
from pathlib import Path

from rvlib import torchvision_ops  # noqa: F401  (before anything that imports torchvision)
from rvlib.adapt import adapt
from rvlib.checkpoint import load, released, save
from rvlib.edge import export
from rvlib.errors import UserError
from rvlib.models import create
from rvlib.restore import restore

__version__ = "0.2.0"

ROOT = Path(__file__).resolve().parent.parent
"""The repository's root: every path of the study starts here, whatever the working directory is."""

__all__ = ["ROOT", "UserError", "adapt", "create", "export", "load", "released", "restore", "save"]


def __getattr__(name: str):
    """Import a submodule at its first use: `rvlib.metrics`, `rvlib.degrade`, `rvlib.train`, ..."""
    if name.startswith("_") or not (Path(__file__).parent / f"{name}.py").is_file():
        raise AttributeError(f"module 'rvlib' has no attribute {name!r}")
    return importlib.import_module(f"rvlib.{name}")
