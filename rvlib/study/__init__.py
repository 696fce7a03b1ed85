"""Where a profile of the study reads and writes: `data/<profile>/` and `reports/<profile>/<notebook>/`."""

from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

import rvlib
from rvlib import checkpoint, photos, runs
from rvlib.errors import UserError


def data(profile: str) -> Path:
    """The profile's data folder; the demo's sample photos are fetched on the spot, the others are DVC's."""
    folder = rvlib.ROOT / "data" / profile
    if profile == "demo":
        from rvlib.study.fetch import fetch  # here, so that no other profile's result depends on how fetching works

        fetch(["samples"], folder, progress=False)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is missing: run `dvc repro data.dvc` in "
            f"{rvlib.ROOT if profile == 'laptop' else rvlib.ROOT / 'profiles' / profile}, which fetches the photos "
            f"alone"
        )
    return folder


def validation(profile: str, name: str) -> dict[str, np.ndarray]:
    """The validation photos of a set that learning curves and ablations are measured on: the first 16 by name."""
    return photos.load_set(data(profile), name, split="validation", limit=16)


def output(profile: str, notebook: str) -> Path:
    """The folder that a notebook writes its tables and figures to."""
    folder = rvlib.ROOT / "reports" / profile / notebook
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run_folder(profile: str, name: str) -> Path:
    """The folder that a training run of this profile lives in."""
    return rvlib.ROOT / "runs" / profile / name


def released_beside(profile: str) -> list[str]:
    """Names of the released weights that a profile shows beside its own runs: none where it is what makes them."""
    return [] if profile == "release" else rvlib.released()


def best(profile: str, name: str, trained: nn.Module) -> tuple[nn.Module, str]:
    """The network that a notebook shows and its rows' label: the released weights of this name, else `trained`."""
    if name in released_beside(profile):
        return rvlib.load(name), "released weights"
    return trained, own(profile)


def own(profile: str) -> str:
    """The label of what a profile trained itself: the release profile's runs are the weights that ship."""
    return "released weights" if profile == "release" else "this run"


def learning_curve(profile: str, name: str, history: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The learning curve that a notebook shows and whose it is: `history`, in the demo that of the released weights.

    Records from before losses were kept have other columns: then the demo shows its own.
    """
    record = runs.read_record(checkpoint.WEIGHTS / f"{name}.json") if profile == "demo" else {}
    log = pd.DataFrame(record.get("log", []))
    if len(log) and set(history.columns) <= set(log.columns):
        return log, "released weights"
    return history, "this run"


def length(name: str, whose: str, curve: pd.DataFrame, settings: dict) -> str:
    """The steps of a curve of `learning_curve`, for its title: "20,000", or "the last 20,000" where a training goes on.

    name: of the released weights; settings: of this run, whose `start` is what it goes on from.
    """
    goes_on = "start" in settings
    if whose != "this run":
        parts = runs.parts(runs.read_record(checkpoint.WEIGHTS / f"{name}.json"))
        *earlier, own = (each.get("identity", {}).get("method") for each in parts)
        goes_on = own in earlier  # what another method made before, such as SRResNet for SRGAN, is not its own
    return f"{'the last ' if goes_on else ''}{int(curve['step'].iloc[-1]):,}"


def curve_title(profile: str, whose: str, steps: str) -> str:
    """The title of a figure of the curves of `learning_curve`: whose they are, as tables label them; their `length`."""
    return f"{own(profile) if whose == 'this run' else whose}: {steps} steps, one seed"


def experiment(profile: str, name: str) -> pd.DataFrame | None:
    """The rows of an experiment that a notebook shows: `reports/<profile>/<name>.csv`, as the run has just written it.

    The demo trains for seconds, which shows nothing of a method: it takes the committed rows of the release profile,
    and None where there are none.
    """
    file = rvlib.ROOT / "reports" / ("release" if profile == "demo" else profile) / f"{name}.csv"
    return pd.read_csv(file) if file.is_file() else None


def reach(by_seed: pd.DataFrame, name: str) -> str:
    """How far an experiment's networks came, beside the released weights of this name where they are there, in words.

    by_seed: gains in dB, a row for each network and a column for each seed.
    """
    best = f"the best of these networks gains {by_seed.mean(axis=1).max():.2f} dB"
    record = runs.read_record(checkpoint.WEIGHTS / f"{name}.json")
    if not record:
        return best
    reached = pd.DataFrame(record["log"]).filter(like="psnr").max().item() - record["validation"]["input"]
    return f"{best}, {name} {reached:.2f} dB on its validation photos"
