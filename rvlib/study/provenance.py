"""Where a number comes from: a measured row names its protocol, photos, weights with their hash, commit and date.

And how much training is behind it, which a comparison of methods must say next to their quality.
"""

import hashlib
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

import rvlib
from rvlib import checkpoint, complexity, measures, official, runs, study
from rvlib.checkpoint import WEIGHTS
from rvlib.files import sha256
from rvlib.models.base import RestorationModel
from rvlib.recipes import RECIPES, checksum
from rvlib.study import published
from rvlib.study.fetch import manifest

FACTS = ["weights", "sha256", "recipe", "parameters", "protocol", "data", "commit", "date"]
"""The columns that a row of numbers has beside them."""


def stamp(rows: pd.DataFrame, profile: str, *, trained: dict[str, str], degradation) -> pd.DataFrame:
    """Measured rows (`evaluate.sets`) with the columns `FACTS`; their methods are keys, or names of weights before.

    trained: folder of the training run in this profile by name of the weights. The hash of weights is that of the file
    that is released: for a run of the profile the file that `release` will make of it, whose label its rows get.
    """
    names = {name.split("-")[0]: name for name in trained}
    keys = rows[["method", "label"]].drop_duplicates().itertuples(index=False, name=None)
    facts = {(key, label): _facts(names.get(key, key), label, profile, trained) for key, label in keys}
    columns = [facts[key] for key in zip(rows["method"], rows["label"], strict=True)]
    rows = rows.join(pd.DataFrame(columns, index=rows.index))
    known = [measure for measure in map(measures.find, rows) if measure is not None and measure.function]
    data = {name: photos_of(name) for name in rows["set"].unique()}
    return rows.assign(
        method=rows["method"].where(rows["label"] == "classical method", rows["method"].str.split("-").str[0]),
        label=rows["label"].mask((rows["label"] == "this run") & (rows["weights"] != ""), study.own(profile)),
        protocol="; ".join([f"degraded by {degradation}, or as the set brings it", *(each.protocol for each in known)]),
        data=rows["set"].map(data),
        commit=commit(),
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )


def _facts(name: str, label: str, profile: str, trained: dict[str, str]) -> dict:
    """Name, hash, recipe and parameters of the weights of a row; empty for an input and a classical method."""
    if label.startswith(published.LABEL):
        known = official.listed()[official.PREFIX + label.partition(": ")[2]]
        return {"weights": known.name, "sha256": known.sha256, "recipe": "", "parameters": None}
    file = weights_file(profile, name, label, trained)
    if file is None:
        return {"weights": "", "sha256": "", "recipe": "", "parameters": None}
    return {
        "weights": name,
        "sha256": sha256(file) if file.parent == WEIGHTS else released_hash(file),
        "recipe": checkpoint.read_metadata(file)["training"]["method"],
        "parameters": complexity.parameters(rvlib.load(file)),
    }


def weights_file(profile: str, name: str, label: str, trained: dict[str, str]) -> Path | None:
    """The file behind a row of a comparison: of a run of the profile, or released; None for a row that has none here.

    name, label: of the weights and of the row; trained: folder of the training run in this profile by name.
    """
    if name in trained and label in ("this run", study.own(profile)):
        file = study.run_folder(profile, trained[name]) / "last.safetensors"
    elif label == "released weights":
        file = WEIGHTS / f"{name}.safetensors"
    else:
        return None
    return file if file.exists() else None


def training_patch(file: Path) -> int:
    """The side of the reference patches that weights were trained on, as the file says."""
    training = checkpoint.read_metadata(file)["training"]
    if "patches" in training:  # files of before version 0.2, which count degraded pixels
        return training["patches"]["patch_size"] * training["patches"]["scale"]
    return training["data"]["patch_size"]


def pixels_seen(file: Path | None) -> float:
    """Billions of reference pixels in the training that wrote a file: steps x batch size x patch size².

    What a training continues from, such as stage 1 of DiffIR, comes on top. NaN without a file.
    """
    if file is None:
        return float("nan")
    training = checkpoint.read_metadata(file)["training"]
    default = RECIPES[training["method"]].settings
    steps, batch_size = (training["settings"].get(each, getattr(default, each)) for each in ("steps", "batch_size"))
    return steps * batch_size * training_patch(file) ** 2 / 1e9


def budgets(models: dict[tuple[str, str], RestorationModel], profile: str, *, trained: dict[str, str]) -> pd.DataFrame:
    """How large networks are and how much training is behind them: a row each, the least trained first.

    models: by name and label of the weights; trained: as in `weights_file`.
    """
    pixels = "reference pixels seen in its last training, billions"
    rows = [
        {"weights": name, "label": label, "parameters": complexity.parameters(model)}
        | {pixels: pixels_seen(weights_file(profile, name, label, trained))}
        for (name, label), model in models.items()
    ]
    return pd.DataFrame(rows).sort_values(pixels, kind="stable")


def write_released(source: Path, target: Path) -> None:
    """Write a run's weights as they are released: in half precision, with what their training was."""
    metadata = checkpoint.read_metadata(source)
    details = {key: value for key, value in metadata.items() if key not in ("name", "arguments", "sha256")}
    checkpoint.save(rvlib.load(source), target, half=True, **details)


def released_hash(source: Path) -> str:
    """The hash of the file that `write_released` makes of a run's weights."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "weights.safetensors"
        write_released(source, target)
        return sha256(target)


def photos_of(name: str) -> str:
    """A test set with a digest of its files' hashes in the manifest: "Set5@0123456789ab"."""
    rows = manifest().query("set == @name and split == 'test'")
    hashes = "".join(rows["sha256"].fillna(""))
    return f"{name}@{hashlib.sha256(hashes.encode()).hexdigest()[:12]}" if hashes else f"{name}: your own photos"


def commit() -> str:
    """The commit that the working tree is at, with a plus sign where files differ from it."""
    head, _, changes = runs.commit().partition(" ")
    return "no git repository" if head == "unknown" else head[:12] + ("+" if changes else "")


def record(name: str) -> dict:
    """The record of released weights: how they were trained, with the learning curve; empty where there is none."""
    file = WEIGHTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def run_record(folder: Path) -> dict:
    """The record of a run's folder, with history and log of the run beside it from which it continued."""
    found = runs.record(folder)
    others = (each for each in folder.parent.glob("*/last.safetensors") if each.parent != folder)
    begun_from = found["identity"].get("start")
    before = [runs.record(each.parent) for each in others if checksum(rvlib.load(each)) == begun_from]
    kept = [{key: each[key] for key in ("history", "log")} for each in before]
    return {**found, **({"before": kept} if kept else {})}


def hours(record: dict) -> float:
    """Core-hours of a run's training, or GPU-hours on GPUs (`machine`); what it continued from is counted too.

    NaN where some of the time was not kept.
    """
    logged = [row.get("seconds") for row in record.get("log", [])]
    seconds = next((each for each in reversed(logged) if each is not None), float("nan"))
    machine = _machine(record)
    cores = machine.get("processes", 1) * (1 if on_gpu(record) else machine.get("threads", 1))
    return seconds * cores / 3600 + sum(hours(each) for each in record.get("before", []))


def _machine(record: dict) -> dict:
    """Device, threads and processes, of the last time that the training was taken up."""
    noted = [each for each in record.get("history", []) if "device" in each]
    return noted[-1] if noted else {}


def on_gpu(record: dict) -> bool:
    """Whether a run was trained on a GPU."""
    return not str(_machine(record).get("device", "cpu")).startswith("cpu")


def unit(record: dict) -> str:
    """What a run's hours are hours of: "core-hours", or "GPU-hours"."""
    return f"{'GPU' if on_gpu(record) else 'core'}-hours"


def budget(record: dict) -> str:
    """What a training took, for tables: "3.0 core-hours"; a dash where nothing is known."""
    spent = hours(record)
    if pd.isna(spent):
        own = hours({**record, "before": []})
        return "–" if pd.isna(own) else f"at least {own:.1f} {unit(record)}"
    return f"{spent:.1f} {unit(record)}"


def story(name: str) -> str:
    """How released weights were trained, in words: "110,000 steps (1.9 core-hours) on T91, BSDS500"."""
    known = record(name)
    log = known.get("log", [])
    steps = f"{int(log[-1]['step']):,} steps" if log else "steps that were not kept"
    return f"{steps} ({budget(known)}) on {', '.join(known.get('sets', [])) or 'photos that were not kept'}"


def machine(record: dict) -> str:
    """The machine of a training in words."""
    noted = _machine(record)
    if not noted:
        return "machine not kept"
    processes = noted.get("processes", 1)
    several = f", {processes} processes" if processes > 1 else ""
    return f"{noted['device']}, {noted.get('threads', 1)} threads{several}"
