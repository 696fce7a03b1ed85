"""Where a number comes from: a measured row names its protocol, photos, weights with their hash, commit and date.

And how much training is behind it, which a comparison of methods must say next to their quality.
"""

import hashlib
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd

import rvlib
from rvlib import checkpoint, complexity, measures, official, runs, study
from rvlib.checkpoint import WEIGHTS
from rvlib.files import sha256
from rvlib.models import method_of
from rvlib.models.base import RestorationModel
from rvlib.recipes import RECIPES
from rvlib.study import published
from rvlib.study.fetch import manifest
from rvlib.train import checksum

WORKED = "2026-11-26 06:33"
"""Since then (commit 4b29454) a run on a CPU counts the time that its core worked; before, it counted the clock's."""


def stamp(rows: pd.DataFrame, profile: str, *, trained: dict[str, str], degradation) -> pd.DataFrame:
    """Measured rows (`evaluate.sets`) with where they come from; their methods are keys, or names of weights before.

    The columns are weights, sha256, recipe, parameters, protocol, data, commit and date.
    trained: folder of the training run in this profile by name of the weights. The hash of weights is that of the file
    that is released: for a run of the profile the file that `release` will make of it.
    """
    names = {method_of(name): name for name in trained}
    keys = rows[["method", "label"]].drop_duplicates().itertuples(index=False, name=None)
    facts = {(key, label): _facts(names.get(key, key), label, profile, trained) for key, label in keys}
    columns = [facts[key] for key in zip(rows["method"], rows["label"], strict=True)]
    rows = rows.join(pd.DataFrame(columns, index=rows.index))
    known = [measure for measure in map(measures.find, rows) if measure is not None and measure.function]
    data = {name: photos_of(name) for name in rows["set"].unique()}
    return rows.assign(
        method=rows["method"].where(rows["label"] == "classical method", rows["method"].map(method_of)),
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
        "sha256": sha256(file) if file.parent == WEIGHTS else released_hash(file, name),
        "recipe": checkpoint.read_metadata(file)["training"]["method"],
        "parameters": complexity.parameters(rvlib.load(file)),
    }


def weights_file(profile: str, name: str, label: str, trained: dict[str, str]) -> Path | None:
    """The file behind a row of a comparison: of a run of the profile, or released; None for a row that has none here.

    name, label: of the weights and of the row; trained: folder of the training run in this profile by name.
    """
    if name in trained and label == study.own(profile):
        file = study.run_folder(profile, trained[name]) / "last.safetensors"
    elif label == "released weights":
        file = WEIGHTS / f"{name}.safetensors"
    else:
        return None
    return file if file.exists() else None


def training_patch(file: Path) -> int:
    """The side of the reference patches that weights were trained on, as the file says."""
    return _patch(checkpoint.read_metadata(file)["training"])


def _patch(training: dict) -> int:
    if "patches" in training:  # files of before version 0.2, which count degraded pixels
        return training["patches"]["patch_size"] * training["patches"]["scale"]
    return training["data"]["patch_size"]


def steps_taken(file: Path) -> int:
    """The steps of the training that wrote a file, by its log: a training can end before its settings say."""
    is_run = (file.parent / "run.json").exists()
    log = (runs.record(file.parent) if is_run else record(file.stem)).get("log")
    training = checkpoint.read_metadata(file)["training"]
    if log:
        return last_step(log)
    return training["settings"].get("steps", RECIPES[training["method"]].settings.steps)


def last_step(log: list[dict]) -> int:
    """The step at which the log of a training ends."""
    return int(log[-1]["step"])


def steps_by(method: str, record: dict) -> list[int]:
    """The steps of each training by this recipe that a record tells of, in their order."""
    own = [part for part in runs.parts(record) if part.get("log") and part["identity"]["method"] == method]
    return [last_step(part["log"]) for part in own]


def pixels_seen(file: Path | None) -> float:
    """Billions of reference pixels in the trainings behind a file: the sum of steps x batch size x patch size².

    What the last one continues from counts, too, such as stage 1 of DiffIR, if its settings are on record. NaN without
    a file.
    """
    if file is None:
        return float("nan")
    parts = [(checkpoint.read_metadata(file)["training"], steps_taken(file))]
    is_run = (file.parent / "run.json").exists()
    for part in (run_record(file.parent) if is_run else record(file.stem)).get("before", []):
        if "identity" in part and part.get("log"):
            parts.append((part["identity"], last_step(part["log"])))
    return sum(steps * _batch_size(training) * _patch(training) ** 2 for training, steps in parts) / 1e9


def _batch_size(training: dict) -> int:
    return training["settings"].get("batch_size", RECIPES[training["method"]].settings.batch_size)


def budgets(models: dict[tuple[str, str], RestorationModel], profile: str, *, trained: dict[str, str]) -> pd.DataFrame:
    """How large networks are and how much training is behind them: a row each, the least trained first.

    models: by name and label of the weights; trained: as in `weights_file`.
    """
    pixels = "reference pixels seen, billions"
    rows = [
        {"weights": name, "label": label, "parameters": complexity.parameters(model)}
        | {pixels: pixels_seen(weights_file(profile, name, label, trained))}
        for (name, label), model in models.items()
    ]
    return pd.DataFrame(rows).sort_values(pixels, kind="stable")


def write_released(source: Path, target: Path) -> None:
    """Write a run's weights as they are released: in half precision, with what their training was.

    A file that holds these weights already stays as it is: a record may have been carried over a change of code since.
    """
    model = rvlib.load(source)
    if target.exists() and checksum(rvlib.load(target)) == checksum(model):
        return
    metadata = checkpoint.read_metadata(source)
    details = {key: value for key, value in metadata.items() if key not in ("name", "arguments", "sha256")}
    checkpoint.save(model, target, half=True, **details)


def released_hash(source: Path, name: str) -> str:
    """The hash of the file that `write_released` makes of a run's weights, or leaves as it is."""
    with tempfile.TemporaryDirectory() as folder:
        target, shipped = Path(folder) / "weights.safetensors", WEIGHTS / f"{name}.safetensors"
        if shipped.exists():
            shutil.copyfile(shipped, target)
        write_released(source, target)
        return sha256(target)


def photos_of(name: str) -> str:
    """A test set with a digest of its files' hashes in the manifest, "Set5@0123456789ab", or why it has none."""
    rows = manifest().query("set == @name and split == 'test'")
    hashes = "".join(rows["sha256"].fillna(""))
    if not hashes:
        return f"{name}: {'your own photos' if rows.empty else 'as first fetched, no published hash'}"
    return f"{name}@{hashlib.sha256(hashes.encode()).hexdigest()[:12]}"


def commit() -> str:
    """The commit that the working tree is at, with a plus sign where files differ from it."""
    head, _, changes = runs.commit().partition(" ")
    return "no git repository" if head == "unknown" else head[:12] + ("+" if changes else "")


def record(name: str) -> dict:
    """The record of released weights: how they were trained, with the learning curve; empty where there is none."""
    return runs.read_record(WEIGHTS / f"{name}.json")


def run_record(folder: Path) -> dict:
    """The record of a run's folder, and in "before" that of what it continued from: a run beside it, or a release."""
    found = runs.record(folder)
    start = found["identity"].get("start")
    if start in (None, checksum(None)):  # fresh weights: nothing need be loaded to compare
        return found
    for name in rvlib.released():  # what came before may be gone since, and is in the record
        parts = runs.parts(record(name))
        made = [part.get("identity") for part in parts]
        if found["identity"] in made[1:]:
            return {**found, "before": parts[: made.index(found["identity"])]}
    beside = [each for each in folder.parent.glob("*/last.safetensors") if each.parent != folder]
    for file in (*beside, *(WEIGHTS / f"{name}.safetensors" for name in rvlib.released())):
        if checksum(rvlib.load(file)) == start:
            known = record(file.stem) if file.parent == WEIGHTS else run_record(file.parent)
            kept = {key: known[key] for key in ("identity", "history", "log", "sets") if key in known}
            return {**found, "before": [*known.get("before", []), kept]} if kept else found
    return found


class Stretch(NamedTuple):
    """A part of a training on one machine: what its hours are hours of, the cores at work, the seconds at its start."""

    unit: str
    cores: int
    begun: float


def spent(record: dict) -> dict[str, float]:
    """Hours of a run's training by what they are hours of, {"core-hours": 2.1}; what it continued from is counted too.

    NaN where some of the time was not kept. On a GPU it is the clock's time, on a CPU that which its cores worked, or,
    in runs of before (`by_the_clock`), the clock's times the threads.
    """
    logged = [row.get("seconds") for row in record.get("log", [])]
    end = next((each for each in reversed(logged) if each is not None), float("nan"))
    stretches: list[Stretch] = []
    for machine in _machines(record) or [{}]:
        is_gpu = not str(machine.get("device", "cpu")).startswith("cpu")
        kind = "GPU-hours" if is_gpu else "core-hours"
        cores = machine.get("processes", 1) * (1 if is_gpu else machine.get("threads", 1))
        begun = machine.get("seconds", float("nan")) if stretches else 0.0
        if not stretches or (stretches[-1].unit, stretches[-1].cores) != (kind, cores):
            stretches.append(Stretch(kind, cores, begun))
    found = {}
    for each, stop in zip(stretches, [*(later.begun for later in stretches[1:]), end], strict=True):
        found[each.unit] = found.get(each.unit, 0.0) + (stop - each.begun) * each.cores / 3600
    for before in record.get("before", []):
        for kind, more in spent(before).items():
            found[kind] = found.get(kind, 0.0) + more
    return found


def without_before(record: dict) -> dict:
    """A record without what its run continued from."""
    return {**record, "before": []}


def by_the_clock(record: dict) -> bool:
    """Whether core-hours of a training are, in part at least, the clock's time multiplied by the threads (`WORKED`)."""
    noted = [each for part in runs.parts(record) for each in _machines(part)]
    return any(each["device"].startswith("cpu") and each.get("date", WORKED) < WORKED for each in noted)


def _machines(record: dict) -> list[dict]:
    """Device, threads and processes, of each time that the training was begun or taken up."""
    return [each for each in record.get("history", []) if "device" in each]


def hours(record: dict) -> float:
    """The hours of a training that has one kind of them (`unit`); NaN where they were not kept, or are of two kinds."""
    found = spent(record)
    return next(iter(found.values())) if len(found) == 1 else float("nan")


def unit(record: dict) -> str:
    """What a run's hours are hours of: "core-hours", "GPU-hours", or both."""
    return " and ".join(sorted(spent(record)))


def budget(record: dict) -> str:
    """What a training took, for tables: "3.0 core-hours"; a dash where nothing is known."""
    found = spent(record)
    if any(map(pd.isna, found.values())):
        own = without_before(record)
        return "–" if pd.isna(hours(own)) else f"at least {in_words(spent(own))}"
    return in_words(found)


def learned_from(record: dict) -> str:
    """How many photos a training saw, for tables: "738 photos", or "490, then 738 photos" where sets were added."""
    earlier = [each for each in record.get("before", []) if each.get("sets", record.get("sets")) != record.get("sets")]
    numbers = []
    for part in (*earlier, record):
        data = part["identity"]["data"]
        numbers.append(str(data.split()[0] if isinstance(data, str) else data["photos"]))  # older records: a sentence
    return f"{', then '.join(numbers)} photos"


def in_words(found: dict[str, float]) -> str:
    """Hours by what they are hours of (`spent`): "0.05 GPU-hours and 2.1 core-hours"; those not kept are named."""
    return " and ".join(
        f"{kind} that were not kept" if pd.isna(each) else f"{_short(each)} {kind}"
        for kind, each in sorted(found.items())
    )


def _short(number: float) -> str:
    return f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def story(name: str) -> str:
    """How released weights were trained, in words: "110,000 steps (1.9 core-hours) on T91, BSDS500".

    Where they continue from other weights, those come first: "25,000 and 7,600 steps". Parts that saw other sets of
    photos say which.
    """
    known = record(name)
    parts = [part for part in runs.parts(known) if part.get("log")]
    steps = [f"{int(part['log'][-1]['step']):,}" for part in parts] or ["an unknown number of"]
    sets = [", ".join(part.get("sets", known.get("sets", []))) or "photos that were not kept" for part in parts or [{}]]
    if len(set(sets)) == 1:
        return f"{' and '.join(steps)} steps ({budget(known)}) on {sets[0]}"
    each = " and ".join(f"{number} steps on {names}" for number, names in zip(steps, sets, strict=True))
    return f"{each} ({budget(known)})"


def machine(record: dict) -> str:
    """The machines of a training in words, in the order of work; those of what it continued from come first."""
    own = _machines_in_words(record)
    before = [f"run before: {_machines_in_words(each)}" for each in record.get("before", [])]
    return "; ".join([*before, f"this run: {own}"]) if before else own


def _machines_in_words(record: dict) -> str:
    """The machines of one run alone: "NVIDIA H200, 8 threads; then CPU, 1 thread"."""
    found = []
    for noted in _machines(record):
        threads, processes = noted.get("threads", 1), noted.get("processes", 1)
        several = f" in each of {processes} processes" if processes > 1 else ""
        device = "CPU" if noted["device"] == "cpu" else noted["device"]
        found.append(f"{device}, {threads} thread{'' if threads == 1 else 's'}{several}")
    return "; then ".join(dict.fromkeys(found)) or "machine not kept"
