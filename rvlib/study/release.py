"""Release: the weights of a profile's training runs with their records, and what was measured of them."""

import json
import platform
from pathlib import Path

import pandas as pd
import torch

import rvlib
from rvlib import runs
from rvlib.errors import UserError
from rvlib.files import sha256, write_text
from rvlib.measures import find
from rvlib.study import curves, provenance, tables
from rvlib.study.cards import write_cards
from rvlib.study.notebooks import read_parameters, releases

LARGEST_RELEASE = 60 * 2**20  # bytes of all weights together in the folder that git keeps


def release(parameters: Path) -> None:
    """Write the weights of a profile's released runs in half precision, with records, cards and hashes.

    The file's `weights` is the folder they go to; the `releases` of its methods map released names to runs. A record
    (`<name>.json`) holds a run's identity, history and learning curve, its sets of photos, what it was validated on,
    the versions it was released by and what it continued from. The results in the cards, and the means and curves that
    `dvc metrics` and `dvc plots` show, are those that the profile's comparisons measured.
    """
    content = read_parameters(parameters)
    try:
        profile, folder, released = content["profile"], rvlib.ROOT / content["weights"], releases(content)
        sections = {name: content["methods"][run.partition("/")[0]] for name, run in released.items()}
        sets = {name: section["train_sets"] for name, section in sections.items()}
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{parameters} names no `weights`, or a method no `train_sets`: {error}") from None
    others = sorted(path.stem for path in folder.glob("*.safetensors") if path.stem not in released)
    if others:
        raise UserError(
            f"{folder} holds weights that {parameters} does not release ({', '.join(others)}): move them away"
        )
    reports = rvlib.ROOT / "reports" / profile
    (reports / "curves").mkdir(parents=True, exist_ok=True)  # which stays empty where nothing is trained
    for name, run in released.items():
        source = rvlib.ROOT / "runs" / profile / run
        if not (source / "last.safetensors").is_file():
            raise UserError(f"{source} is missing: run the pipeline of profile {profile}, which trains it")
        model = rvlib.load(source / "last.safetensors")
        sets[name] = sections[name].get(f"{model.task}_train_sets") or sets[name]
        place = sections[name].get("validation_set", "samples")
        validation = curves.validated(profile, place, model.task, model.scale)
        kept = record(source, folder / f"{name}.json", sets[name], validation)  # while what it continued from is there
        provenance.write_released(source / "last.safetensors", folder / f"{name}.safetensors")
        write_text(folder / f"{name}.json", json.dumps(kept, indent=1))
        tables.write_rows(curves.points(kept), reports / "curves" / name)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if content["weights"] == "weights" and size > LARGEST_RELEASE:  # other profiles' folders stay on their machine
        raise UserError(
            f"{folder} holds {size / 2**20:.0f} MiB of weights, more than {LARGEST_RELEASE / 2**20:.0f} MiB: release "
            f"fewer or smaller networks"
        )
    write_cards(folder, reports, {name: run.partition("/")[0] for name, run in released.items()})
    hashes = {name: sha256(folder / f"{name}.safetensors") for name in released}
    tables.write_json({"sha256": hashes, "bytes": size}, reports / "weights.json")
    write_means(reports)


def record(source: Path, target: Path, sets: list[str], validation: dict) -> dict:
    """What a run's weights are committed with; what an older record of the same run knows is kept.

    validation: what the run was validated on (`curves.validated`).
    """
    found = provenance.run_record(source)
    known = runs.read_record(target)
    is_same = known.get("identity") == found["identity"]
    known = known if is_same else {"versions": versions(), "validation": validation}
    return {**known, **found, "sets": sets}


def versions() -> dict[str, str]:
    """The versions that numbers depend on."""
    return {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}


def write_means(reports: Path) -> None:
    """Write the mean of each measure, a file per set and method: `dvc metrics show` makes one table of them.

    Each comparison has a folder; its own tables say the protocol, the files have the measures' titles. Where a profile
    shows the released weights beside its own runs, the means are those of its own.
    """
    for comparison in tables.COMPARISONS:
        table = tables.means(pd.read_csv(reports / comparison / "rows.csv"))
        measures = {column: find(column) for column in table if find(column) is not None and find(column).function}
        if "this run" in set(table["label"]):
            table = table[table["label"] != "released weights"]
        for row in table.to_dict("records"):
            values = {measure.title: round(row[column], measure.digits) for column, measure in measures.items()}
            values = {title: value for title, value in values.items() if pd.notna(value)}
            folder = reports / "means" / comparison.removeprefix("compare_") / row["set"]
            name = row["label"].partition(": ")[2] or row["method"]  # a method may have several official weights
            tables.write_json(values, folder / f"{name}.json")
