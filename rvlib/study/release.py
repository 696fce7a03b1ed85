"""Release: the weights of a profile's training runs, each with a model card that says what it can and cannot do."""

import hashlib
import json
import platform
import shutil
from pathlib import Path

import pandas as pd
from safetensors import safe_open

import rvlib
from rvlib import checkpoint, complexity
from rvlib.errors import UserError
from rvlib.files import write_atomically
from rvlib.measures import find
from rvlib.models import METHODS, MODELS
from rvlib.models.base import RestorationModel
from rvlib.runs import record
from rvlib.study.fetch import manifest
from rvlib.study.notebooks import read_parameters, releases
from rvlib.study.tables import markdown, means, write_json

COMPARISONS = ("compare_super_resolution", "compare_deblurring")
LIMITS = {
    "super-resolution": "trained on bicubically downscaled photos only. Not for JPEG artefacts, noise or camera blur. "
    "Texture finer than the input can carry is a guess",
    "deblurring": "trained on camera shake that is made from sharp photos, as the line Data says. Not for things that "
    "move, for blur that differs with depth, or for photos out of focus",
}
LARGEST_RELEASE = 60 * 2**20  # bytes of all weights together


def release(parameters: Path) -> None:
    """Write the weights of a profile's released runs in half precision, with records, cards and hashes.

    The file's `weights` is the folder they go to; the `releases` of its methods map released names to runs. A record
    (`<name>.json`) holds a run's identity, history and learning curve. The results in the cards, and the means and
    curves that `dvc metrics` and `dvc plots` show, are those that the profile's comparisons measured.
    """
    content = read_parameters(parameters)
    try:
        profile, folder, runs = content["profile"], rvlib.ROOT / content["weights"], releases(content)
        sets = {name: content["methods"][run.partition("/")[0]]["train_sets"] for name, run in runs.items()}
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{parameters} names no `weights`, or a method no `train_sets`: {error}") from None
    cards, reports = [], rvlib.ROOT / "reports" / profile
    (reports / "curves").mkdir(parents=True, exist_ok=True)  # which stays empty where nothing is trained
    for name, run in runs.items():
        source = rvlib.ROOT / "runs" / profile / run
        if not (source / "last.safetensors").is_file():
            raise UserError(f"{source} is missing: run the pipeline of profile {profile}, which trains it")
        target = folder / f"{name}.safetensors"
        metadata = checkpoint.read_metadata(source / "last.safetensors")
        details = {key: value for key, value in metadata.items() if key not in ("name", "arguments")}
        checkpoint.save(rvlib.load(source / "last.safetensors"), target, half=True, **details)
        text = json.dumps(record(source), indent=1)
        write_atomically(folder / f"{name}.json", lambda path, text=text: Path(path).write_text(text))
        write_atomically(
            reports / "curves" / f"{name}.csv", lambda path, log=source / "log.csv": shutil.copy(log, path)
        )
        cards.append(card(name, target, source, reports, sets[name]))
    for path in folder.glob("*.safetensors"):
        if path.stem not in runs:
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if size > LARGEST_RELEASE:
        raise UserError(f"{folder} holds {size / 2**20:.0f} MiB of weights, more than {LARGEST_RELEASE / 2**20:.0f}")
    head = (
        f"# Released weights\n\nMade by `make report PROFILE={profile}`; this file too. `rvlib.load(name)` loads them, "
        f"`rvlib restore PHOTO --model NAME -o OUT` uses them. Together {size / 2**20:.1f} MiB.\n\n"
    )
    write_atomically(folder / "README.md", lambda path: Path(path).write_text(head + "\n".join(cards)))
    hashes = {name: sha256(folder / f"{name}.safetensors") for name in runs}
    write_json({"sha256": hashes, "bytes": size}, reports / "weights.json")
    write_means(reports)


def write_means(reports: Path) -> None:
    """Write the mean of each measure, a file per set and method: `dvc metrics show` makes one table of them.

    Each comparison has a folder; its own tables say the protocol, the files have the measures' titles.
    """
    for comparison in COMPARISONS:
        table = means(pd.read_csv(reports / comparison / "rows.csv"))
        measures = {column: find(column) for column in table if find(column) is not None and find(column).function}
        for row in table[table["label"] != "released weights"].to_dict("records"):
            values = {measure.title: round(row[column], measure.digits) for column, measure in measures.items()}
            values = {title: value for title, value in values.items() if pd.notna(value)}
            folder = reports / "means" / comparison.removeprefix("compare_") / row["set"]
            name = row["label"].partition(": ")[2] or row["method"]  # a method may have several official weights
            write_json(values, folder / f"{name}.json")


def sha256(file: Path) -> str:
    """The hash of a file, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def licences(sets: list[str]) -> str:
    """The training sets with the licences of their photos, as the manifest states them; others are the user's own."""
    rows = manifest().query("split == 'train'").drop_duplicates(["set", "licence"])
    known = rows.groupby("set")["licence"].agg(", ".join)
    return "; ".join(f"{name}: {known.get(name, 'your own photos')}" for name in sets)


def card(name: str, weights: Path, run: Path, reports: Path, sets: list[str]) -> str:
    """The card of one file of weights: what it is, how it was trained, what was measured, where it fails."""
    with safe_open(weights, framework="pt") as file:
        metadata = json.loads(file.metadata()["rvlib"])
    model, log, training = rvlib.load(weights), pd.read_csv(run / "log.csv"), metadata["training"]
    data = training["data"]
    steps, seconds = int(log["step"].iloc[-1]), log["seconds"].iloc[-1]
    settings = ", ".join(f"{key} {value}" for key, value in training["settings"].items() if key != "validate_every")
    curve = log.dropna(subset=[log.columns[-1]]).iloc[[len(log) // 4, len(log) // 2, len(log) - 1]]
    shown = ", ".join(f"{row.iloc[-1]:.2f} dB after {int(row['step']):,}" for _, row in curve.iterrows())
    lines = [
        f"## {name}\n",
        f"- **Model**: {metadata['name']}, {json.dumps(metadata['arguments'])}; "
        f"{complexity.parameters(model):,} parameters; {model.task}, scale {model.scale}{_note(model)}",
        f"- **Data**: {data['photos']} photos, degraded: {data['degraded']}; patches of {data['patch_size']} pixels",
        f"- **Licences of the photos**: {licences(sets)}",
        f"- **Training**: recipe {training['method']}, {settings}; {steps:,} steps in {seconds / 60:.0f} minutes "
        f"({platform.machine()}), commit {metadata['commit']}; the weights are those of step {metadata['step']:,}",
        f"- **Learning curve** (validation photo): {shown}",
        f"- **Limits**: {LIMITS[model.task]}",
        f"- **sha256**: `{sha256(weights)}`\n",
    ]
    for folder in COMPARISONS:
        rows = _measured(reports / folder / "rows.csv", name)
        if rows is None:
            continue
        column = next(column for column in rows if column.startswith("psnr"))
        averages = rows.groupby("set", sort=False).mean(numeric_only=True).reset_index()
        worst = rows.loc[rows["gain"].idxmin()]
        lines += [
            markdown(averages.drop(columns="gain")),
            f"\nMean per set; the columns name their protocol. **Failure case**: {worst['photo']} of {worst['set']}, "
            f" {worst[column]:.2f} dB, {worst['gain']:+.2f} dB against the input.\n",
        ]
    return "\n".join(lines)


def _note(model: RestorationModel) -> str:
    """What the card has to say about the network, where its method's name alone would mislead."""
    method = METHODS.get(model.method) or MODELS[model.spec["name"]]
    for variant, note in method.notes.items():
        if method.variants[variant].items() <= model.spec["arguments"].items():
            return f"; {note}"
    return ""


def _measured(file: Path, name: str) -> pd.DataFrame | None:
    """The rows of one model, with the gain over what was done without one."""
    if not file.is_file():
        return None
    rows = pd.read_csv(file)
    column = next(column for column in rows if column.startswith("psnr"))
    inputs = rows[rows["label"].str.endswith("input")].set_index(["set", "photo"])[column]
    mine = rows[rows["weights"] == name]
    gain = mine[column].to_numpy() - inputs.loc[list(zip(mine["set"], mine["photo"], strict=True))].to_numpy()
    return mine.assign(gain=gain) if len(mine) else None
