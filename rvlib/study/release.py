"""Release: the weights of a profile's training runs, each with a model card that says what it can and cannot do."""

import json
import os
import platform
import shutil
from pathlib import Path

import pandas as pd
import torch

import rvlib
from rvlib import checkpoint, complexity, runs
from rvlib.errors import UserError
from rvlib.files import sha256, write_atomically
from rvlib.measures import find
from rvlib.models import METHODS, MODELS
from rvlib.models.base import RestorationModel
from rvlib.recipes import checksum
from rvlib.study import provenance, tables
from rvlib.study.fetch import manifest
from rvlib.study.notebooks import read_parameters, releases

COMPARISONS = ("compare_super_resolution", "compare_deblurring")
USES = {
    "super-resolution": (
        "photos that bicubic interpolation made small and that are clean otherwise",
        "JPEG artefacts, noise or a camera's own blur. Texture finer than the input can carry is a guess",
    ),
    "deblurring": (
        "camera shake that moves the whole photo alike, drawn as the line Data says",
        "things that move, blur that differs with depth, photos out of focus, photos that are sharp already",
    ),
}
"""What the weights of a task are for, and what not."""
LARGEST_RELEASE = 60 * 2**20  # bytes of all weights together in the folder that git keeps


def release(parameters: Path) -> None:
    """Write the weights of a profile's released runs in half precision, with records, cards and hashes.

    The file's `weights` is the folder they go to; the `releases` of its methods map released names to runs. A record
    (`<name>.json`) holds a run's identity, history and learning curve, its sets of photos, the versions it was released
    by and what it continued from. The results in the cards, and the means and curves that `dvc metrics` and `dvc plots`
    show, are those that the profile's comparisons measured.
    """
    content = read_parameters(parameters)
    try:
        profile, folder, released = content["profile"], rvlib.ROOT / content["weights"], releases(content)
        sections = {name: content["methods"][run.partition("/")[0]] for name, run in released.items()}
        sets = {name: section["train_sets"] for name, section in sections.items()}
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{parameters} names no `weights`, or a method no `train_sets`: {error}") from None
    reports = rvlib.ROOT / "reports" / profile
    (reports / "curves").mkdir(parents=True, exist_ok=True)  # which stays empty where nothing is trained
    for name, run in released.items():
        source = rvlib.ROOT / "runs" / profile / run
        if not (source / "last.safetensors").is_file():
            raise UserError(f"{source} is missing: run the pipeline of profile {profile}, which trains it")
        model = rvlib.load(source / "last.safetensors")
        sets[name] = sections[name].get(f"{model.task}_train_sets") or sets[name]
        provenance.write_released(source / "last.safetensors", folder / f"{name}.safetensors")
        text = json.dumps(record(source, folder / f"{name}.json", sets[name]), indent=1)
        write_atomically(folder / f"{name}.json", lambda path, text=text: Path(path).write_text(text))
        write_atomically(
            reports / "curves" / f"{name}.csv", lambda path, log=source / "log.csv": shutil.copy(log, path)
        )
    for path in folder.glob("*.safetensors"):
        if path.stem not in released:
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if content["weights"] == "weights" and size > LARGEST_RELEASE:  # other profiles' folders stay on their machine
        raise UserError(f"{folder} holds {size / 2**20:.0f} MiB of weights, more than {LARGEST_RELEASE / 2**20:.0f}")
    write_cards(folder, reports, {name: run.partition("/")[0] for name, run in released.items()})
    hashes = {name: sha256(folder / f"{name}.safetensors") for name in released}
    tables.write_json({"sha256": hashes, "bytes": size}, reports / "weights.json")
    write_means(reports)


def record(source: Path, target: Path, sets: list[str]) -> dict:
    """What a run's weights are committed with; what an older record of the same run knows is kept."""
    found = runs.record(source)
    known = json.loads(target.read_text()) if target.is_file() else {}
    known = known if known.get("identity") == found["identity"] else {"versions": versions()}
    begun_from = found["identity"].get("start")
    others = (each for each in source.parent.glob("*/last.safetensors") if each.parent != source)
    before = [runs.record(each.parent) for each in others if checksum(rvlib.load(each)) == begun_from]
    kept = [{key: each[key] for key in ("history", "log")} for each in before]
    return {**known, **found, "sets": sets, **({"before": kept} if kept else {})}


def versions() -> dict[str, str]:
    """The versions that numbers depend on."""
    return {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}


def write_cards(folder: Path, reports: Path, methods: dict[str, str]) -> None:
    """Write the cards of a folder of weights (README.md) from their files, their records and a profile's reports.

    methods: name of the weights -> the method whose notebook trained them.
    """
    size = sum((folder / f"{name}.safetensors").stat().st_size for name in methods)
    head = (
        f"# Released weights\n\nMade by `make report PROFILE={reports.name}`; this file too. `rvlib.load(name)` loads "
        f"them, `rvlib restore PHOTO --model NAME -o OUT` uses them. Together {size / 2**20:.1f} MiB. A core-hour is "
        "an hour of one CPU core. ± is half of the 95 % bootstrap interval of the mean over the photos, for one "
        "training run (one seed).\n\n"
    )
    text = head + "\n".join(card(name, folder, reports, method) for name, method in methods.items())
    write_atomically(folder / "README.md", lambda path: Path(path).write_text(text))


def write_means(reports: Path) -> None:
    """Write the mean of each measure, a file per set and method: `dvc metrics show` makes one table of them.

    Each comparison has a folder; its own tables say the protocol, the files have the measures' titles. Where a profile
    shows the released weights beside its own runs, the means are those of its own.
    """
    for comparison in COMPARISONS:
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


def licences(sets: list[str]) -> str:
    """The training sets with the licences of their photos, as the manifest states them; others are the user's own."""
    rows = manifest().query("split == 'train'").drop_duplicates(["set", "licence"])
    known = rows.groupby("set")["licence"].agg(", ".join)
    return "; ".join(f"{name}: {known.get(name, 'your own photos')}" for name in sets)


def card(name: str, folder: Path, reports: Path, method: str) -> str:
    """The card of one file of weights: what it is, how it was trained, what was measured, where it fails."""
    weights, file = folder / f"{name}.safetensors", folder / f"{name}.json"
    metadata, model = checkpoint.read_metadata(weights), rvlib.load(weights)
    found = json.loads(file.read_text()) if file.is_file() else {}
    training, good, bad = metadata["training"], *USES[model.task]
    settings = ", ".join(f"{key} {value}" for key, value in training["settings"].items() if key != "validate_every")
    begun = next(iter(found.get("history", [])), {})
    used = found.get("versions", {})
    lines = [
        f"## {name}\n",
        f"- **Model**: {metadata['name']}, {json.dumps(metadata['arguments'])}; "
        f"{complexity.parameters(model):,} parameters; {model.task}, scale {model.scale}{_note(model)}",
        f"- **Use it for**: {good}",
        f"- **Not for**: {bad}",
        f"- **Data**: {_data(training['data'])}",
        f"- **Photos and their licences**: {licences(found.get('sets', [])) or 'not kept'}",
        f"- **Training**: recipe {training['method']}, {settings}; seed 0; weights of step {metadata['step']:,}",
        f"- **Cost**: {provenance.budget(found)} ({provenance.machine(found)}; torch {used.get('torch', 'not kept')}, "
        f"{used.get('machine', 'x86_64')}); commit {metadata.get('commit') or begun.get('commit', 'not kept')}, "
        f"{begun.get('date', 'date not kept')}",
        f"- **Learning curve** (validation): {_curve(found)}",
        f"- **sha256**: `{sha256(weights)}`\n",
    ]
    for comparison in COMPARISONS:
        rows = _measured(reports / comparison / "rows.csv", name)
        if rows is None:
            continue
        column = next(column for column in rows if column.startswith("psnr"))
        table = tables.means(rows)
        shown = [each for each in table if each not in ("method", "label") and not each.endswith(tables.TIED)]
        worst = rows.loc[rows["gain"].idxmin()]
        lines.append(tables.markdown(table[shown]))
        lines.append(
            f"\nMeans with 95 % intervals over the photos; the columns name their protocol. **Failure case**: "
            f"{worst['photo']} of {worst['set']}, {worst[column]:.2f} dB, {worst['gain']:+.2f} dB against the input"
            f"{_picture(folder, reports / 'methods' / method / 'failure.png')}.\n"
        )
    return "\n".join(lines)


def _data(data: dict | str) -> str:
    """What a training saw, in words; older files of weights hold a sentence."""
    if isinstance(data, str):
        return data
    return f"{data['photos']} photos, degraded by {data['degraded']}; patches of {data['patch_size']} pixels"


def _curve(found: dict) -> str:
    """A few points of a record's learning curve in words, and the file that has all of them."""
    log = pd.DataFrame(found.get("log", []))
    scores = [column for column in log if column.startswith("psnr")]
    if not scores:
        return "not kept"
    log = log.dropna(subset=scores[0])
    rows = log.iloc[sorted({len(log) // 4, len(log) // 2, len(log) - 1})]
    return ", ".join(f"{row[scores[0]]:.2f} dB after {int(row['step']):,} steps" for _, row in rows.iterrows())


def _picture(folder: Path, file: Path) -> str:
    """A link to the picture of a failure on a sample photo, whose licence allows to show it."""
    if not file.is_file():
        return ""
    return f"; on a sample photo it looks [like this]({Path(os.path.relpath(file, folder)).as_posix()})"


def _note(model: RestorationModel) -> str:
    """What the card has to say about the network, where its method's name alone would mislead."""
    method = METHODS.get(model.method) or MODELS[model.spec["name"]]
    for variant, note in method.notes.items():
        if method.variants[variant].items() <= model.spec["arguments"].items():
            return f"; {note}"
    return ""


def _measured(file: Path, name: str) -> pd.DataFrame | None:
    """The rows of one model's own label, with the gain over what was done without one."""
    if not file.is_file():
        return None
    rows = pd.read_csv(file)
    column = next(column for column in rows if column.startswith("psnr"))
    inputs = rows[rows["label"].str.endswith("input")].set_index(["set", "photo"])[column]
    mine = rows[rows["weights"] == name]
    mine = mine[mine["label"] == ("this run" if "this run" in set(mine["label"]) else "released weights")]
    gain = mine[column].to_numpy() - inputs.loc[list(zip(mine["set"], mine["photo"], strict=True))].to_numpy()
    return mine.assign(gain=gain) if len(mine) else None
