"""The card of released weights: what they are, how they were trained, what was measured, what they are good for."""

import json
import os
from pathlib import Path

import pandas as pd

import rvlib
from rvlib import checkpoint, complexity, runs
from rvlib.files import sha256, write_text
from rvlib.measures import find, psnr_column
from rvlib.models import METHODS, MODELS
from rvlib.models.base import RestorationModel
from rvlib.study import provenance, robustness, tables
from rvlib.study.fetch import manifest
from rvlib.study.statistics import Interval, differences

LPIPS = "lpips_alex_rgb_crop0"
USES = {
    "super-resolution": (
        "photos that bicubic interpolation shrank and that are clean otherwise",
        "JPEG artefacts, noise or a camera's own blur. Texture finer than the input can carry is a guess",
    ),
    "deblurring": (
        "camera shake with a little rotation and zoom, as the line *Data* describes",
        "things that move, blur that differs with depth, photos out of focus",
    ),
}
"""What the weights of a task are for, and what not."""
OWN_BLUR = ("blur like that of the pairs it was trained on (*Photos*)", "other blur, photos out of focus")
"""The same for weights for deblurring that learned from pairs which were not blurred here."""
EACH = "where the luminance of each network is wrong on the one of two sample photos to which it adds less"
WRONG = "where its luminance is wrong on the sample photo on which it gains least"
PICTURES = {
    "fsrcnn-x4": WRONG,
    "nafnet-deblur": WRONG,
    "srgan-x4": "the place of a sample photo where its error exceeds that of srresnet-x4 most",
    "diffir-deblur": "where its luminance is wrong on a sample photo of which one half was shaken",
    "srresnet-x4": EACH,
    "swinir-small-x4": EACH,
    "diffir-x4": EACH,
}
"""What `failure.png` of a method's notebook, or of the comparison, shows, by the weights of which it is a picture."""
PLAIN = ("begun", "resumed", "carried over", "code of", "taken from")
"""How the events in a history begin that every training may have."""
FOR_LOOKS = "For looks, not where values count"
BEFORE_RECORDS = "trained before records were kept"


def write_cards(folder: Path, reports: Path, methods: dict[str, str]) -> None:
    """Write the cards of a folder of weights (README.md) from their files, their records and a profile's reports.

    methods: name of the weights -> the method whose notebook trained them.
    """
    size = sum((folder / f"{name}.safetensors").stat().st_size for name in methods)
    loads = "`rvlib.load(name)` loads them, `rvlib restore PHOTO --model NAME -o OUT` uses them"
    if folder != checkpoint.WEIGHTS:
        file = f"{Path(os.path.relpath(folder, rvlib.ROOT)).as_posix()}/NAME.safetensors"
        loads = f'`rvlib.load("{file}")` loads them, `rvlib restore PHOTO --model {file} -o OUT` uses them; '
        loads += "a name alone loads the released weights"
    head = (
        f"# Released weights\n\nWritten by `make report PROFILE={reports.name}`; this file too. Where weights were not "
        "trained in one go, or by an earlier state of the profile, their card says so. "
        f"{loads}. Together {size / 2**20:.1f} MiB. A core-hour is an hour "
        "that a CPU core worked; *by the clock*: the clock's time multiplied by the threads. ± is half of the 95 % "
        "interval of the mean over the photos (Student's t), for one training run (one seed). Seconds are wall time "
        "for a photo on the machine that measured, as busy as it was; notebook 11_cost compares speeds. Inputs by "
        "name: *OpenCV*: downscaled with OpenCV's bicubic, without antialiasing; *noise 10* has a standard "
        "deviation of 10 grey levels; *JPEG 30* is of quality 30; *blur 1.0* is Gaussian, with a standard deviation "
        "of 1 pixel; *grey levels* is shake averaged in grey levels, not in light.\n\n"
    )
    text = head + "\n".join(card(name, folder, reports, method) for name, method in methods.items())
    write_text(folder / "README.md", text)


def licences(sets: list[str]) -> str:
    """The training sets with the licences of their photos, as the manifest states them; others are the user's own."""
    rows = manifest().query("split == 'train'").drop_duplicates(["set", "licence"])
    known = rows.groupby("set")["licence"].agg(", ".join)
    return "; ".join(f"{name}: {known.get(name, 'your own photos')}" for name in sets)


def card(name: str, folder: Path, reports: Path, method: str) -> str:
    """The card of one file of weights: what it is, how it was trained, what was measured, where it fails."""
    weights = folder / f"{name}.safetensors"
    metadata, model = checkpoint.read_metadata(weights), rvlib.load(weights)
    found = runs.read_record(folder / f"{name}.json")
    training = metadata["training"]
    given = isinstance(training["data"], dict) and training["data"].get("degraded") == "photos of their own"
    good, bad = OWN_BLUR if given and model.task == "deblurring" else USES[model.task]
    stated = {"seed": 0} | training["settings"]  # older records leave out what was a default
    settings = ", ".join(f"{key} {value}" for key, value in stated.items() if key != "validate_every")
    used = found.get("versions", {})
    clock = ", in part or whole by the clock" if provenance.by_the_clock(found) else ""
    measured = [
        (each, rows)
        for each in tables.COMPARISONS
        if (rows := _measured(reports / each / "rows.csv", name)) is not None
    ]
    lines = [
        f"## {name}\n",
        f"- **Model**: {metadata['name']}, {json.dumps(metadata['arguments'])}; "
        f"{complexity.parameters(model):,} parameters; {model.task}, scale {model.scale}{_note(model)}",
        f"- **Use it for**: {good}",
        f"- **Not for**: {bad}",
        *(f"- **Would we use it?** {_verdict(reports / each, name)}" for each, _ in measured),
        *([f"- **By eye**: {found['seen']}"] if "seen" in found else []),
        f"- **Data**: {_data(training)}",
        f"- **Photos and their licences**: {licences(found.get('sets', [])) or 'not kept'}",
        f"- **Training**: recipe {training['method']}, {settings}; weights of step {metadata['step']:,}",
        *_continued(found),
        f"- **Cost**: {provenance.budget(found)}{clock} ({provenance.machine(found)}); {_when(found)}; released with "
        f"torch {used.get('torch', 'of a version that was not kept')}",
        *_otherwise(found),
        f"- **Learning curve** ({_validation(found)}): {_curve(found)}"
        f"{_points(folder, reports / 'curves' / f'{name}.csv')}",
        f"- **SHA-256**: `{sha256(weights)}`\n",
    ]
    for _, rows in measured:
        column = psnr_column(rows)
        table = tables.means(rows)
        shown = [each for each in table if each not in ("method", "label") and not each.endswith(tables.TIED)]
        worst, made = rows.loc[rows["gain"].idxmin()], rows["protocol"].iloc[0].partition(";")[0]
        lines.append(tables.markdown(table[shown]))
        lines.append(
            f"\nMeans with 95 % intervals over the photos; the columns name channels and crop. Inputs: {made}. "
            f"**Failure case**: {worst['photo']} of {worst['set']}, {worst[column]:.2f} dB, {worst['gain']:+.2f} dB "
            f"against the input{_picture(name, folder, reports, method)}.\n"
        )
    return "\n".join(lines)


def _verdict(folder: Path, name: str) -> str:
    """Whether weights are worth using, from the rows of the comparison in a folder: by PSNR, LPIPS and other inputs."""
    rows, mine = pd.read_csv(folder / "rows.csv"), _measured(folder / "rows.csv", name)
    column = psnr_column(rows)
    method, label = key = tuple(mine[["method", "label"]].iloc[0])
    given = tuple(rows.loc[rows["label"].str.endswith("input"), ["method", "label"]].iloc[0])
    psnr, lpips = differences(rows, column, key, given), differences(rows, LPIPS, given, key)  # above 0 is better
    if not psnr:
        return "It was measured on too few photos to say."
    beside = rows[rows["label"] == label].groupby("weights")[[column, LPIPS, "seconds"]].mean()
    best = [find(each).ordered(beside[each]).index[0] for each in (column, LPIPS) if beside[each].notna().any()]
    yes = _yes(name, best, fastest=beside["seconds"].idxmin())
    by_both = " and LPIPS" if len(set(best)) < len(best) else f", {best[1]} by LPIPS" if best[1:] else ""
    return (
        f"{_advice(psnr, lpips, yes)}. Against the input: PSNR {_psnr_words(psnr)}{_lpips_words(lpips)}; "
        f"{(mine['gain'] < 0).sum()} of {len(mine)} photos came out worse by PSNR. "
        f"Of the weights for its task {best[0]} is best by PSNR{by_both}.{_elsewhere(folder, method, label, column)}"
    )


def _yes(name: str, best: list[str], *, fastest: str) -> str:
    """What weights that gain are good for beside those of their task: `best` by PSNR and, where measured, by LPIPS."""
    if name == best[0]:
        return "Yes, for what it is for"
    if name in best:
        return FOR_LOOKS
    if name == fastest:
        return "Yes, where time counts"
    rivals = list(dict.fromkeys(best))
    by = f" by PSNR and {rivals[1]} by LPIPS" if len(rivals) > 1 else ""
    return f"It restores, but {rivals[0]} is better{by}"


def _advice(psnr: dict[str, Interval], lpips: dict[str, Interval], yes: str) -> str:
    """Whether to use weights, by what they gain against the input on each set; `yes` where nothing speaks against."""
    if _gained(psnr):
        if not lpips:
            return f"{yes}, by PSNR alone: LPIPS was not measured"
        somewhere = "not always" if any(gain.low > 0 for gain in lpips.values()) else "on no set"
        return yes if _gained(lpips) else f"With a look at each photo: closer by PSNR, by LPIPS {somewhere}"
    if _gained(lpips):
        return FOR_LOOKS
    is_decided = any(gain.decided for gain in (*psnr.values(), *lpips.values()))
    return "No" if is_decided else "These photos cannot tell"


def _gained(by_set: dict[str, Interval]) -> bool:
    """Whether something was gained on one set at least, and lost on none."""
    return any(gain.low > 0 for gain in by_set.values()) and all(gain.high > 0 for gain in by_set.values())


def _psnr_words(by_set: dict[str, Interval]) -> str:
    """What was gained on each set: "+2.00 dB on Set5, +0.10 dB on Set14 (cannot be told from zero)"."""
    doubt = {True: "", False: " (cannot be told from zero)"}
    return ", ".join(f"{gain.mean:+.2f} dB on {name}{doubt[gain.decided]}" for name, gain in by_set.items())


def _lpips_words(by_set: dict[str, Interval]) -> str:
    """On which sets it was better or worse, as a sentence goes on: "; LPIPS better on Set5, Set14; LPIPS worse on"."""
    sets = {
        "better": [name for name, gain in by_set.items() if gain.low > 0],
        "worse": [name for name, gain in by_set.items() if gain.high < 0],
        "cannot be told apart": [name for name, gain in by_set.items() if not gain.decided],
    }
    return "".join(f"; LPIPS {word} on {', '.join(names)}" for word, names in sets.items() if names)


def _elsewhere(folder: Path, method: str, label: str, column: str) -> str:
    """What the network does to inputs that it was not trained for, as far as a comparison has measured it."""
    says = ""
    if (folder / "sweep.csv").is_file():
        sharp = pd.read_csv(folder / "sweep.csv").query("length == 0 and method == @method")["PSNR"]
        says += f" A photo that was sharp comes out at {sharp.min():.1f} to {sharp.max():.1f} dB." if len(sharp) else ""
    if (folder / "robustness.csv").is_file():
        rows = pd.read_csv(folder / "robustness.csv")
        rows_of = rows.set_index(["method", "label"]).index.unique()
        untouched = next(key for key in rows_of if key[1].endswith("input"))
        if (method, label) in rows_of:
            listed = robustness.in_words(*robustness.harmed(rows, column, (method, label), untouched))
            says += f" Inputs that it makes worse, on {rows['photo'].nunique()} sample photos: {listed}."
    return says


def _validation(found: dict) -> str:
    """What a record's learning curve was measured on, in words."""
    known = found.get("validation")
    if not known:
        return "one photo, not those of the other cards"
    return f"{known['set']}, {known['photos']} photos, input {known['input']:.2f} dB"


def _when(found: dict) -> str:
    """When and at which commit a training was begun and, if that was at another one, taken up for the last time."""
    machines = [each for each in found.get("history", []) if "device" in each and "commit" in each]
    if not machines:
        return "commit and date not kept"
    told = [f"commit {each['commit']}, {each['date']}" for each in (machines[0], machines[-1])]
    return told[0] + (f"; taken up last at {told[1]}" if machines[-1]["commit"] != machines[0]["commit"] else "")


def _otherwise(found: dict) -> list[str]:
    """The lines on what happened to a training that does not happen to every one, from its history."""
    entries = [("", each) for each in found.get("history", [])]
    for part in found.get("before", []):
        entries += [("in a part before: ", each) for each in part.get("history", [])]
    told = {False: [], True: []}
    for part, each in entries:
        if not each["event"].startswith(PLAIN):
            at = "" if each["event"].startswith(BEFORE_RECORDS) else f"step {each['step']:,}, "
            where = f"{at}commit {each['commit'][:12]}, {each['date']}"
            told[each["event"].startswith(BEFORE_RECORDS)].append(f"{part}{each['event']} ({where})")
    names = {True: "By an earlier state of the profile", False: "Not in one go"}
    return [f"- **{names[is_old]}**: {'; '.join(events)}" for is_old, events in told.items() if events]


def _continued(found: dict) -> list[str]:
    """The line on the trainings before the last one, in their order: recipe, steps, photos and size of patches."""
    told = []
    for part in found.get("before", []):
        if "identity" in part and part.get("log"):
            seen = _data(part["identity"])
            photos, patches = seen.split(",")[0], seen.rpartition("; ")[2]
            steps = f"{int(part['log'][-1]['step']):,}"
            told.append(f"recipe {part['identity']['method']}, {steps} steps on {photos}, {patches}")
        elif part.get("log"):
            told.append(f"a part of {int(part['log'][-1]['step']):,} steps, its settings not kept")
    return [f"- **Continues**: {'; then '.join(told)}"] if told else []


def _data(training: dict) -> str:
    """What a training saw, in words; older files of weights hold a sentence."""
    data = training["data"]
    if isinstance(data, str):
        sizes = training.get("patches")
        return data + (f"; patches of {sizes['patch_size'] * sizes['scale']} pixels" if sizes else "")
    return f"{data['photos']} photos, degraded by {data['degraded']}; patches of {data['patch_size']} pixels"


def _curve(found: dict) -> str:
    """A few points of a record's learning curve in words."""
    log = pd.DataFrame(found.get("log", []))
    score = psnr_column(log)
    if score is None:
        return "not kept"
    log = log.dropna(subset=score)
    rows = log.iloc[sorted({len(log) // 4, len(log) // 2, len(log) - 1})]
    return ", ".join(f"{row[score]:.2f} dB after {int(row['step']):,} steps" for _, row in rows.iterrows())


def _points(folder: Path, file: Path) -> str:
    """A link to the file that has all points of a learning curve."""
    return f" ([all points]({Path(os.path.relpath(file, folder)).as_posix()}))" if file.is_file() else ""


def _picture(name: str, folder: Path, reports: Path, method: str) -> str:
    """A link to the picture of a failure on a sample photo, whose licence allows to show it; none of other weights."""
    place = "compare_super_resolution" if PICTURES.get(name) == EACH else f"methods/{method}"
    file = reports / place / "failure.png"
    if name not in PICTURES or not file.is_file():
        return ""
    return f". A picture: [{PICTURES[name]}]({Path(os.path.relpath(file, folder)).as_posix()})"


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
    column = psnr_column(rows)
    inputs = rows[rows["label"].str.endswith("input")].set_index(["set", "photo"])[column]
    mine = rows[rows["weights"] == name]
    mine = mine[mine["label"] == ("this run" if "this run" in set(mine["label"]) else "released weights")]
    gain = mine[column].to_numpy() - inputs.loc[list(zip(mine["set"], mine["photo"], strict=True))].to_numpy()
    return mine.assign(gain=gain) if len(mine) else None
