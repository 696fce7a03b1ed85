"""RestoraVision's thin library, in the order of the data flow.

photo -photos-> reference -degrade-> (degraded, reference) -models, train-> weights -restore-> restored
-metrics, evaluate-> rows -tables, figures-> report. A module is imported where it is used, so that a change
in one model's file touches nothing that another model made.
"""

import importlib
from pathlib import Path

from rvlib import torchvision_ops  # noqa: F401  (before anything that imports torchvision)
from rvlib.checkpoint import load, released, save
from rvlib.errors import UserError
from rvlib.models import create
from rvlib.restore import restore

ROOT = Path(__file__).resolve().parent.parent
"""The repository's root: every path of the study starts here, whatever the working directory is."""

__all__ = ["ROOT", "UserError", "create", "load", "released", "restore", "save"]


def __getattr__(name: str):
    """Import a submodule at its first use: `rvlib.metrics`, `rvlib.degrade`, `rvlib.train`, ..."""
    if name.startswith("_") or not (Path(__file__).parent / f"{name}.py").is_file():
        raise AttributeError(f"module 'rvlib' has no attribute {name!r}")
    return importlib.import_module(f"rvlib.{name}")
