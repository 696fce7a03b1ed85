"""RestoraVision's thin library: networks, losses, measures, degradations, photos, restoring, checkpoints, training.

`rvlib.models` holds the networks with the records of their methods, `rvlib.study` what only the study itself needs:
fetching, leaks, notebooks, tables, figures, the report. CONTRIBUTING.md shows how data flows through the modules.

`rvlib.restore` and `rvlib.adapt` are functions; what else their modules hold is had by `from rvlib.restore import ...`.
"""

import importlib
from pathlib import Path
from pkgutil import iter_modules

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
    if name not in _submodules():
        raise AttributeError(f"module 'rvlib' has no attribute {name!r}")
    return importlib.import_module(f"rvlib.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_submodules()})


def _submodules() -> set[str]:
    return {each.name for each in iter_modules(__path__) if not each.name.startswith("_")}
