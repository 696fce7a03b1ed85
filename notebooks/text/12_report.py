# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12 · The report: one page from everything that was measured
#
# **Where do the numbers of the README come from?** From here. This notebook trains and restores nothing: it reads the
# rows and figures that the other notebooks wrote, and renders them as one HTML file that opens by double-click.
#
# **The audited report.** The study began with "RestoraVision: A Comprehensive System for Image Enhancement and
# Restoration", a course report of December 2024 on the five methods. Its text names neither its authors nor the course.
# It is called *the audited report* everywhere in this study; *the page* is what this notebook makes.
#
# **You will see**
# - the tables of the audited report in its own layout: claimed, published and measured here, side by side,
# - the audit: a verdict and a reason for every number that it claims, and the errata of its text,
# - the page itself, and how the results get into the README.
#
# Needs: the notebooks before it have run with the same profile. In the demo, what is missing is left out and named.
# Time: less than a minute.

# %%
import json
from pathlib import Path

import pandas as pd
from IPython.display import Markdown, display

import rvlib
from rvlib import checkpoint, compare, measures, study
from rvlib.models import METHODS
from rvlib.study import audit, curves, figures, notebooks, provenance, readme, report, statistics, tables

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # whose results are rendered
runs = {}  # name of the weights: training run of this profile; the demo has none
trains = True  # whether the profile trains: the official one measures the papers' own weights alone

# %% [markdown]
# ## What there is
#
# Each notebook writes into a folder of its name: rows and tables as CSV and Markdown, figures as PNG, and as SVG if
# they show no photo.

# %%
folder = rvlib.ROOT / "reports" / profile
output = study.output(profile, "report")
written = sorted(path for path in folder.glob("**/*.*") if path.parent != output and "notebooks" not in path.parts)
kinds = pd.Series([f"{path.parent.relative_to(folder)}" for path in written]).value_counts(sort=False)
kinds.to_frame("files") if len(kinds) else print("nothing yet: run the other notebooks first")

# %% [markdown]
# ## The sections of the page
#
# A section is a title, a sentence that says what to look for, tables and figures. Where a notebook has not run yet, its
# section names the command that makes what is missing. Benchmark photos are never shown: every picture is of a sample
# photo, whose licence allows it.


# %%
def notebook_of(name: str) -> str:
    """The notebook that writes a file of the reports: cost/cost.csv is `cost`'s, methods/fsrcnn/rows.csv `fsrcnn`'s."""
    parts = Path(name).parts
    return notebooks.find(parts[1] if parts[0] == "methods" else parts[0])


def command(name: str) -> str:
    """The command that makes a file of the reports."""
    if profile == "demo":
        return f"rvlib notebook {notebook_of(name)}"
    return "make report" if profile == "laptop" else f"make report PROFILE={profile}"


# %%
sections, missing, told, shown = [], [], set(), set()
commit = provenance.commit()


def there(name: str) -> bool:
    """Whether another notebook wrote this file; what is missing is remembered."""
    if not (folder / name).exists():
        missing.append(name)
    return (folder / name).exists()


def section(title: str, text: str, pngs: dict[str, str], more: tuple[str, ...] = ()) -> None:
    """Add a section made of tables and sliders as HTML, and of the figures (file: caption) that exist."""
    shown.update(pngs)
    drawn = [report.figure_html(folder / name, caption) for name, caption in pngs.items() if there(name)]
    absent = [name for name in missing if name not in told]  # since the section before
    told.update(absent)
    note = [report.absent_html(absent, command(absent[0]))] if absent else []
    sections.append({"title": title, "text": text, "parts": [*more, *drawn, *note]})


# %% [markdown]
# ## The audited report's tables
#
# **Question:** what does it claim, what do papers publish, and what comes out here? The tables have its layout: table 1
# by test set, tables 3 and 4 by method. They are made from the measured rows as they are now, never from a table that
# was made earlier, so no stale number remains: a cell without a row says *not measured*.
#
# A profile measures its own test sets. On other sets the page shows the released weights from the committed rows of the
# release profile, and the papers' own weights if the profile `official` has run here; both are labelled.

# %%
comparisons = tables.COMPARISONS
rows = {name: report.rows_beside(profile, name) for name in comparisons}
means = {name: tables.means(each) for name, each in rows.items()}
claims = tables.claims(audit.SETS)
measured_by = {"table 1": comparisons[0], "table 3": comparisons[0], "table 4": comparisons[1]}
layouts = {}
for name, comparison in measured_by.items():
    own_sets = tables.measured_rows(folder / comparison)["set"]
    sets = list(
        dict.fromkeys([*own_sets, *tables.AUDITED[name].sets, *rows[comparison]["set"]])
    )  # this profile's first
    layouts[name] = tables.audited(name, means[comparison], tables.put_right(claims), sets=sets)
print(tables.PLUS_MINUS)
Markdown(tables.markdown(*layouts["table 3"]))

# %% [markdown]
# Table 4 is printed with its axes exchanged. Put right, its claims are the published values, digit by digit:

# %%
Markdown(tables.markdown(*layouts["table 4"]))

# %% [markdown]
# ### Table 2: how SRGAN was trained
#
# The only table of settings. The last column is read from the weights, which carry the settings of their training.


# %%
def training(name: str) -> dict:
    """What the weights of a training run, or released ones, say about how they came to be; empty if there are none."""
    run = study.run_folder(profile, f"srgan/{name}") / "last.safetensors"
    own = run.exists() and profile != "demo"  # what the demo trains in seconds is no result
    file = run if own else checkpoint.WEIGHTS / f"{name}-x4.safetensors"
    record = provenance.run_record(run.parent) if own else provenance.record(f"{name}-x4")
    if not (record and file.exists()):
        return {}
    facts = checkpoint.read_metadata(file)["training"]
    data = facts.get("data", {})
    known = {"patch_size": provenance.training_patch(file)}
    known["parts"] = " and ".join(f"{number:,}" for number in provenance.steps_by(name, record))
    known["loss"] = facts.get("objective", {}).get("loss", "a loss that was not kept")
    return facts.get("settings", {}) | (data if isinstance(data, dict) else {"photos": data.split()[0]}) | known


# %%
game, warmup = training("srgan"), training("srresnet")
side = game.get("patch_size")
trained_here = "released weights" if profile == "demo" else study.own(profile)
pixels = ""
if warmup:
    pixels = f"{warmup['parts']} steps with {warmup['loss'].upper()}, last in batches of {warmup['batch_size']}"
    pixels += f" of {warmup['patch_size']} × {warmup['patch_size']} at a learning rate of {warmup['learning_rate']:g}"
    pixels += f" on {warmup['photos']} photos"
rate = game.get("learning_rate")
if rate and not game["milestones"]:
    rate = f"{rate:g}, falling to {game['final_learning_rate']:g} by a cosine"
lines = [
    ("learning rate, adversarial training", "0.0001", "0.0001, then 0.00001", rate),
    ("length, adversarial training", "400 epochs", "200,000 steps", f"{game['parts']} steps" if game else None),
    ("pre-training with a pixel loss", "10 epochs with MSE", "1,000,000 steps with MSE", pixels or None),
    ("batch size, adversarial training", "16", "16", game.get("batch_size")),
    ("number of workers", "4", "–", "none on a CPU; on a GPU, up to 8 processes cut the next batches"),
    ("scale", "4", "4", game.get("scale", 4) if game else None),
    ("high-resolution patch", "96 × 96", "96 × 96", f"{side} × {side}" if side else None),
    ("low-resolution patch", "24 × 24", "24 × 24", f"{side // 4} × {side // 4}" if side else None),
    ("photos", "DIV2K, Flickr2K", "350,000 of ImageNet", f"{game['photos']} photos" if game else None),
]
table_2 = pd.DataFrame(lines, columns=["parameter", "report's claim", "SRGAN paper", trained_here])
table_2 = table_2.astype(object).fillna(tables.NOT_MEASURED).astype(str)
layouts["table 2"] = (table_2, None)
display(Markdown(tables.markdown(table_2)))
for name, (cells, places) in layouts.items():
    tables.write(cells, output / name.replace(" ", "-"), places)

# %% [markdown]
# ### What can be told apart?
#
# Photos differ far more from each other than methods do. Each row is therefore compared with the next better one on the
# same photos: the mean of the differences and its 95 % interval. If zero is inside, this set cannot decide.

# %%
apart = pd.concat([tables.differences(each) for each in rows.values()], ignore_index=True)
tables.write(apart, output / "differences")
undecided = apart[apart["verdict"] != "told apart"]
by_set = ", ".join(f"{name} {number}" for name, number in undecided["set"].value_counts().items())
print(f"({statistics.by_chance(len(apart))})")
print(f"{len(undecided)} of {len(apart)} cannot be told apart ({by_set}); the first twelve of them:")
Markdown(tables.markdown(undecided.head(12)))

# %% [markdown]
# ## The audit: a verdict per number
#
# The same value is not the same experiment. A number is *reproduced* only if the network, the objective and all
# measures of its row agree with what was measured here: within 0.1 dB, 0.005 of SSIM, 0.01 of LPIPS, well below the
# smallest difference that is called a contradiction. All other verdicts rest on the literature, with a reason for each
# number. Set12 has grey photos alone. Measured through RGB, as here, their PSNR is 20 log₁₀(255/219) = 1.32 dB higher
# than on their own grey values. The audited report does not say which of the two it means: a claim between them cannot
# be checked.

# %%
meanings = pd.Series(audit.VERDICTS, name="means").rename_axis("verdict").reset_index()
display(Markdown(tables.markdown(meanings)))
found = audit.verdicts(list(rows.values()), claims)
tables.write(found, output / "audit")
counts = found["verdict"].value_counts().reindex(audit.VERDICTS, fill_value=0)
display(Markdown(tables.markdown(found)))
counts.to_frame("numbers")

# %% [markdown]
# ### Errata
#
# What else is wrong in the text of the audited report, found while its equations were turned into code. The notebooks
# use the corrected forms.

# %%
errata = audit.errata()
tables.write(errata, output / "errata")
Markdown(tables.markdown(errata))

# %% [markdown]
# ## The summary: the best of each set
#
# It is built from the same rows, so it cannot disagree with the tables. What this profile trained
# comes first; what others measured is named.


# %%
def against(gain: statistics.Interval) -> str:
    """How a method stands against the input, as far as the photos can tell."""
    return "better than" if gain.low > 0 else "worse than" if gain.high < 0 else "not distinguishable from"


def best_of_sets(task: str, rows: pd.DataFrame, column: str) -> list[tuple[str, list[str]]]:
    """Per label, in a line for each set: the best method by one measure, its gain over the input, what LPIPS says."""
    main, found = measures.find(column), tables.gains(rows, column).query("label != 'classical method'")
    found = found.sort_values("label", key=lambda labels: labels != "this run", kind="stable")
    lpips = tables.gains(rows, "lpips_alex_rgb_crop0").set_index(["set", "label"])
    parts = []
    for label, part in found.groupby("label", sort=False):
        lines = []
        for each in part.itertuples():
            name = tables.NAMES.get(each.method, each.method)
            text = f"{each.set}: {name}, {main.text(each.value)} dB, {each.gain.text(main.digits, 'dB')} over the input"
            if (each.set, label) in lpips.index:
                looks = lpips.loc[(each.set, label)]
                name = tables.NAMES.get(looks["method"], looks["method"])
                text += f"; by LPIPS {name}, {against(looks['gain'])} the input"
            lines.append(text)
        parts.append((f"{task}, {label}: the best of each set by PSNR", lines))
    return parts


# %%
tasks = {comparisons[0]: ("Super-resolution by 4", "psnr_y_crop4"), comparisons[1]: ("Deblurring", "psnr_rgb_crop0")}
summary = [part for name, (task, column) in tasks.items() for part in best_of_sets(task, rows[name], column)]
shares = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
summary.append((f"The {len(found)} numbers in the audited report's tables of results", [shares]))
for title, part in summary:
    print(title, *part, sep="\n  ")

# %% [markdown]
# ### The first screen: three numbers and five pictures
#
# The numbers are gains of what this profile trained, else of the released weights: those of the best method on the set
# with the most photos. The pictures are the crops in which most pixels came nearer to the reference, at most two of a
# photo: left the input, right the restored one.

# %%
numbers = []
for name, (task, column) in tasks.items():
    best = tables.gains(rows[name], column)
    labels = [label for label in ("this run", "released weights", *best["label"]) if label in set(best["label"])]
    best = best[best["label"] == (labels or [""])[0]].sort_values("photos", ascending=False, kind="stable")
    for each in best.head(1).itertuples():
        interval = each.gain.text(2, "dB").partition(" dB ")[2]
        text = f"{task}: {tables.NAMES.get(each.method, each.method)}, {each.label}, against the input on {each.set}"
        numbers.append((f"{each.gain.mean:+.2f} dB", f"{text} {interval}"))
text = "numbers of the audited report are reproduced (a course report of December 2024, whose claims this study checks)"
numbers.append((f"{counts['reproduced']} of {len(found)}", text))


# %%
def restored_by(comparison: str) -> dict[str, str]:
    """The network behind each restored photo that a comparison has kept."""
    file = folder / comparison / "after.json"
    return json.loads(file.read_text()) if file.exists() else {}


kept = {name: readme.comparison_photos(folder, name) for name in comparisons}
candidates = {(name, photo): each for name, photos in kept.items() for photo, each in photos.items()}
pictures = []
for (name, photo), box in report.best_crops(candidates, side=128, count=5):
    before, after, reference = (each[box] for each in candidates[name, photo])
    values = [f"{rvlib.metrics.psnr(each, reference, channel='rgb'):.1f}" for each in (before, after)]
    network = restored_by(name).get(photo)
    what = f"{'bicubic' if name == comparisons[0] else 'blurred'} and restored{f' by {network}' if network else ''}"
    place = ", ".join(f"{axis} {side.start}" for axis, side in zip(("row", "column"), box, strict=True))
    text = f"{photo}, {what}: {values[0]} → {values[1]} dB (RGB, crop at {place})"
    pictures.append((report.side_by_side([before, after]), f"a crop of {photo}: {what}", text))

# %% [markdown]
# ## What the page shows
#
# ### Comparisons
#
# These come first, since they are what a reader looks for. The sliders need no network and no kernel. The strips take
# the place of the audited report's figures 11 to 13, with the measures that its figures lack.

# %%
protocols = {name: f"{report.protocol(name)}. {tables.PLUS_MINUS}" for name in measured_by}
captions = {
    "table 1": f"Table 1: FSRCNN by test set. Seconds per photo belong to their machine. {audit.GREY_PHOTOS} MATLAB "
    "bicubic input, scale 4; ",
    "table 2": "Table 2: how SRGAN was trained.",
    "table 3": f"Table 3: super-resolution. {audit.GREY_PHOTOS} MATLAB bicubic input, scale 4; ",
    "table 4": "Table 4: deblurring, with the axes put right: as printed, rows and columns are exchanged. TLC: "
    "test-time local converter. ",
}
captions = {name: caption + protocols.get(name, "") for name, caption in captions.items()}


def origin(comparison: str) -> str:
    """The way from a comparison's table to its rows, notebook, commit and weights."""
    file, notebook = f"{comparison}/rows.csv", notebooks.find(comparison)
    return report.origin_html(file, notebook=notebook, profile=profile, rows=rows[comparison])


origins = {name: origin(comparison) for name, comparison in measured_by.items()}
origins["table 2"] = report.origin_html("report/table-2.csv", notebook=notebooks.find("srgan"), profile=profile)
html = {
    name: report.table_html(*layouts[name], caption=caption, origin=origins[name]) for name, caption in captions.items()
}

# %%
licences = {"chelsea": "Chelsea the cat, CC0", "astronaut": "Eileen Collins, NASA, public domain", "coffee": "cup, CC0"}


def sliders(comparison: str, what: str) -> list[str]:
    """A before/after slider for each photo of which a comparison has kept both."""
    networks = {name: f" ({network})" for name, network in restored_by(comparison).items()}
    return [
        compare.slider_html(before, after, f"{what}{networks.get(name, '')}: {licences.get(name, name)}")
        for name, (before, after, _) in kept[comparison].items()
    ]


def differences(comparison: str) -> str:
    """What the photos of a comparison can tell apart, as HTML, folded."""
    caption = (
        f"Neighbours in the ranking, {tasks[comparison][0].lower()}. Mean difference on the same photos with its 95 % "
    )
    caption += "interval; won: on how many photos."
    table = tables.differences(rows[comparison])
    return report.table_html(table, caption=caption, origin=origin(comparison), folded=True)


# %%
numbered = "Tables and figures are numbered as in the audited report. "
numbered += 'Rows labelled "report\'s claim" hold its numbers.'
section(
    "Super-resolution compared",
    f"Which network, on the same photos with the same protocol? {numbered}",
    {
        f"compare_super_resolution/strip-{name}.png": f"Figure {number}: the same crop of {licences[name]}, for every "
        "method, with PSNR and LPIPS of the whole photo."
        for number, name in ((11, "chelsea"), (12, "astronaut"))
    }
    | {
        "compare_super_resolution/text.png": "Type in three sizes: which letters and digits turned into others?",
        "compare_super_resolution/real.png": "Cuts of photos as they are: these were not downscaled.",
        "compare_super_resolution/failure.png": "Where each network is wrong, on that of two photos to which it adds "
        "less.",
        "compare_super_resolution/failures.png": "The error at each frequency, and next to flat and steep places "
        "(dashed: an error as large as the signal; dotted: the highest frequency that the small photo can hold).",
    },
    (*sliders(comparisons[0], "bicubic and best PSNR"), html["table 3"], differences(comparisons[0])),
)

# %%
section(
    "Deblurring compared",
    f"How much of a shake can be undone, and when does it make a photo worse? {numbered}",
    {
        "compare_deblurring/strip-coffee.png": "Figure 13: the same crop for every method (coffee cup, CC0).",
        "compare_deblurring/strip-astronaut.png": f"Figure 13, continued ({licences['astronaut']}).",
        "compare_deblurring/sweep.png": "PSNR and gain against the length of the shake (grey: the lengths in test sets "
        "that are blurred here; small dots: photos).",
        "compare_deblurring/robustness.png": "Other blur, noise and JPEG than in training.",
        "compare_deblurring/failure.png": "Where deblurring fails: the longest shake of the sweep.",
        "compare_deblurring/failures.png": "The error after deblurring, at each frequency and next to flat and steep "
        "places (dashed: an error as large as the signal).",
        "compare_deblurring/sharp.png": "What becomes of a photo that was sharp.",
        "compare_deblurring/real.png": "A photo that a moving camera took.",
    },
    (*sliders(comparisons[1], "blurred and best PSNR"), html["table 4"], differences(comparisons[1])),
)

# %% [markdown]
# ### What an hour buys: learning curves over hours of training
#
# The methods had unequal budgets. The curves put validation PSNR over the hours of training, as the records of the runs
# hold them; whoever ranks the methods should look here first.

# %%
learned, absent = curves.collect(profile, runs if trains else {})
if len(learned):
    tables.write_rows(learned, output / "curves")
    figures.save(curves.figure(learned), output / "curves")
text = "Hours count from the first training on this kind of device; those on another kind stand in the legend. Panels "
text += "differ in validation photos or in the device of the last training: heights and hours cannot be compared. "
text += f"{absent[0].upper()}{absent[1:]}."
caption = "What an hour buys: validation PSNR over the hours of training; dashed: the input."
section("Learning curves", text, {"report/curves.png": caption} if len(learned) else {})
print(absent)

# %% [markdown]
# ### Where the gain sits
#
# A mean hides who gains: each dot is a photo.

# %%
section(
    "Where the gain sits",
    "The gain by test set and by photo (a dot each), and the measures against each other.",
    {
        "compare_super_resolution/psnr.png": "Mean gain over bicubic per test set, with 95 % intervals.",
        "compare_super_resolution/gains.png": "Gain over bicubic, photo by photo.",
        "compare_super_resolution/plane.png": "PSNR against LPIPS and, where it was measured, NIQE (dashed: NIQE of "
        "the references).",
        "compare_super_resolution/robustness.png": "Inputs that were made in another way than in training.",
    },
)

# %% [markdown]
# ### Is the protocol the papers'?
#
# If a profile measured the papers' own weights, their rows say whether the numbers above can be believed.

# %%
confirmed = []
for place, name in dict.fromkeys((place, name) for place in (profile, "official") for name in tasks):
    file = folder.parent / place / name / "official.csv"
    table = pd.read_csv(file) if file.exists() else pd.DataFrame()
    if len(table):
        source = report.origin_html(f"../{place}/{name}/official.csv", notebook=notebooks.find(name), profile=place)
        caption = (
            f"Official weights, measured here, against published numbers: {tasks[name][0].lower()}, profile {place}."
        )
        confirmed.append(report.table_html(table, caption=caption, origin=source))
if confirmed:
    text = "The papers' own weights: within 0.02 dB of the published number, the protocol is the papers'."
    section("Is the protocol the papers'?", text, {}, tuple(confirmed))

# %% [markdown]
# ### The methods: learning curves, and the photo on which each fails

# %%
common = {"training": "Learning curves: losses and validation PSNR.", "strip": "Input, restored, reference."}
method_captions = {
    "fsrcnn": {
        "ablation": "What its parts are worth, a dot for each seed.",
        "failure": "Where it fails: signed difference on the photo with the least gain.",
    },
    "srgan": {
        "plane": "Mixtures of SRResNet and SRGAN: PSNR against LPIPS.",
        "failure": "Where the game made it worse.",
    },
    "swinir": {"reach": "What an output pixel depends on.", "failure": "A shift of the input changes the output."},
    "nafnet": {"experiment": "What each step brings.", "failure": "Where it gains least."},
    "diffir": {
        "path": "The reverse steps of the image prior representation (IPR).",
        "swapped": "The PSNR of each photo with other vectors in place of its own.",
        "experiment": "What the IPR and its steps bring.",
        "failure": "Half of the photo was shaken.",
    },
}


# %%
def method_figures(key: str) -> dict[str, str]:
    """The figures of a method's notebook with their captions; if none are written here, all that it made."""
    made = sorted((folder / "methods" / key).glob("*.png"))
    texts = (
        {**common, **method_captions[key]} if key in method_captions else {path.stem: f"{path.stem}." for path in made}
    )
    here = {path.stem for path in made}
    return {
        f"methods/{key}/{file}.png": f"{METHODS[key].title}. {text}" for file, text in texts.items() if file in here
    }


# %%
for name in notebooks.names():
    key = name.partition("_")[2]  # a method's notebook is named after it
    if trains and key in METHODS:
        title, file, table = METHODS[key].title, f"methods/{key}/rows.csv", ()
        if there(file):
            own_rows = pd.read_csv(folder / file)
            source = report.origin_html(file, notebook=name, profile=profile, rows=own_rows)
            for task, part in own_rows.groupby(own_rows["set"].str.partition(", ")[2], sort=False):  # DiffIR has two
                caption = f"{title}{f', {task}' if task else ''}: means over the photos."
                table += (report.table_html(*tables.readable(tables.means(part)), caption=caption, origin=source),)
        text = "Measured on photos that were not trained on. The cards of the weights say how they were trained, and "
        text += "whether in one go."
        section(title, text, method_figures(key), table)

# %% [markdown]
# ### What all of it rests on


# %%
def listed(names: dict[str, str]) -> tuple[str, ...]:
    """CSVs of other notebooks that exist and have rows (file: caption), as HTML with the way to file and weights."""
    parts = []
    for name, caption in names.items():
        table = tables.titled(pd.read_csv(folder / name)) if there(name) else ()
        if len(table):
            hashes = (folder / name).with_name("weights.json")
            weights = json.loads(hashes.read_text()) if hashes.exists() else {}
            source = report.origin_html(name, notebook=notebook_of(name), profile=profile, weights=weights)
            parts.append(report.table_html(table, caption=caption, origin=source))
    return tuple(parts)


section(
    "Quality against cost",
    "Per pixel of the restored photo, for networks in official sizes (SRGAN with BatchNorm), not for the released ones. "
    "Runtimes belong to the machine of this run.",
    {
        "cost/quality.png": "Quality against seconds per photo, for the networks of this profile.",
        "cost/cost.png": "Size, work and time.",
        "cost/growth.png": "Growth with the photo.",
        "cost/shares.png": "Which operations the work and the time go to.",
        "cost/tiles.png": "Memory beyond the photo and its result, for a photo and for half of it.",
        "cost/efficiency.png": "Gain over bicubic on Urban100 against multiply-adds for 1280 × 720: networks measured "
        "here (filled) and published ones (hollow). Their trainings differ.",
    },
    listed({"cost/cost.csv": "What a pixel costs."}),
)

# %%
enlarged, sharpened, looks = (
    measures.find(column).protocol for column in ("psnr_y_crop4", "psnr_rgb_crop0", "lpips_alex_rgb_crop0")
)
section(
    "Outside of Python",
    "The networks as ONNX files, and what smaller numbers save and cost. Without the extra edge, torch alone is "
    "measured. Runtimes belong to the machine of this run.",
    {"edge/speed.png": "Time of a frame against torch in fp32 (circles: super-resolution; squares: deblurring)."}
    | {f"edge/{name}": "Which layer 8 bits harm." for name in ("layers.png",) if (folder / "edge" / name).exists()},
    listed(
        {
            "edge/exported.csv": "How far the files' results are from torch's (1 is white).",
            "edge/speed.csv": "What a frame costs, in seconds. Networks have frames of their own sizes: compare the "
            "rows of one network.",
            "edge/quality.csv": f"What each engine restores, photo by photo. Super-resolution: {enlarged}; deblurring: "
            f"{sharpened}; {looks}.",
            "edge/estimate.csv": "What a small board, an accelerator and a phone could reach at best, in frames per "
            "second (x4: 270p to 1080p; deblurring: 360p): an estimate (Raspberry Pi: fp32; Coral: int8; iPhone: as its "
            "maker counts; 4, 1 and 2 bytes a number).",
        }
    ),
)

# %%
section(
    "Video",
    "Each frame by itself: what changes from frame to frame that should not? Clips are made of sample photos by a "
    "known motion.",
    {
        "video/plane.png": "Flicker against PSNR. Dots are clips, diamonds are means.",
        "video/shift.png": "What a shift of the input changes, by fractions of a pixel.",
    },
    listed(
        {"video/against_bicubic.csv": "Flicker (grey levels) and PSNR against bicubic interpolation, clip by clip."}
    ),
)

# %%
section(
    "Degradation and measures",
    "The baseline, one restored photo under several protocols, and four distortions of equal PSNR.",
    {"degradations/strip.png": "What bicubic interpolation loses."},
    listed(
        {
            "degradations/bicubic.csv": "Bicubic interpolation, the baseline.",
            "metrics/protocols.csv": "One restored photo under several protocols.",
            "metrics/distortions.csv": "Four distortions of equal PSNR: SSIM and LPIPS rank them.",
        }
    ),
)
place, differences_are = "methods/self_supervised", "mean differences with 95 % intervals over photos."
tables_of_it = {
    f"{place}/zero-shot.csv": "Networks that know one photo (patches turned for MATLAB, as they are for the lens): "
    f"{differences_are}",
    f"{place}/turning.csv": f"Patches as they are less patches turned: {differences_are}",
    f"{place}/kinds.csv": "PSNR on the right half of pictures whose left half was learned from.",
    f"{place}/denoising.csv": f"Denoising without clean photos: {differences_are}",
}
if trains:  # the official profile has no such networks
    caption = "Gain over bicubic, photo by photo, for photos downscaled by MATLAB's bicubic and by a lens."
    figure_of_it = {f"{place}/zero-shot.png": caption}
    section("Without clean photos", "What does a photo teach about itself?", figure_of_it, listed(tables_of_it))
data = listed({"data/sets.csv": "The photos of this profile."})
roles = "The photos by role. Test sets that no table measures serve the check for leaks. "
section("Data", roles + "No test photo is among the training photos.", {}, data)

# %% [markdown]
# ### The audit, the errata, the bibliography and the limits

# %%
section(
    "The audited report's tables 1 and 2",
    "FSRCNN by test set, and how SRGAN was trained: what it states, compared with what was done here.",
    {},
    (html["table 1"], html["table 2"]),
)


# %%
def own_table(name: str) -> str:
    """The way to a table that this notebook writes."""
    return report.origin_html(f"report/{name}.csv", notebook=notebooks.find("report"), profile=profile)


caption = f"The audit: {len(found)} numbers, a verdict and a reason each. Table 4 is listed as it is printed."
claimed = found.assign(source=found["source"].str.removeprefix("audited report, "))
section(
    "The audit",
    "The audited report is 'RestoraVision: A Comprehensive System for Image Enhancement and Restoration', a course "
    "report of December 2024. A verdict is about a number, not about whoever printed it.",
    {},
    (
        report.table_html(claimed, caption=caption, origin=own_table("audit")),
        report.table_html(errata, caption="Errata of the audited report's text.", origin=own_table("errata")),
    ),
)
section("Bibliography", "Sources are cited by these keys.", {}, (report.bibliography_html(),))
section(
    "Limits",
    "The tables and cards name the photos and hours behind each network. Most degradations are known and synthetic; a "
    "mean over few photos decides little; one seed unless a number of seeds is stated. LPIPS is a network's opinion, "
    "not an eye's.",
    {},
)

# %% [markdown]
# ### What else was drawn
#
# Figures that no section names are shown at the end, so a new figure of a notebook is never forgotten.

# %%
shown.update(f"{name}/curves.png" for name in comparisons)  # they are among the learning curves
more = {
    f"{path.relative_to(folder)}": f"{path.parent.name.replace('_', ' ')}: {path.stem}."
    for name in [*comparisons, "cost", "edge", "video", "degradations", "metrics", "data", "methods/*"]
    for path in sorted(folder.glob(f"{name}/*.png"))
    if not path.name.startswith(("before-", "after-")) and str(path.relative_to(folder)) not in shown
}
if more:
    section("More figures", "What else the notebooks drew.", more)
print("not made yet:", ", ".join(missing) or "nothing")

# %% [markdown]
# ## The page, and the table in the README
#
# The README shows the results of the release profile, which makes the weights that ship: only that profile writes them.

# %%
target = folder / "index.html"
first = {"numbers": numbers, "pictures": report.pairs_html(pictures)}
report.render(sections, target, profile=profile, commit=commit, summary=summary, **first)
if profile == "release":
    readme.write_results(rvlib.ROOT / "README.md", folder)
    readme.write_pictures(folder)
    readme.write_badges(folder)
size = target.stat().st_size
print(f"{target.name}: {len(sections)} sections")
assert 1_000 < size < 6_000_000, f"{size:,} bytes"

# %% [markdown]
# ## What can go wrong in practice
#
# A page is as old as its rows, not as old as its date: where the rows of a table name several commits, they were not
# all measured by the same code. A number that is copied from the page by hand stays when the page changes.
#
# ## Takeaways
#
# - A number that was measured on photos can be followed to a CSV, and from there to a notebook, its parameters, a commit
#   and its weights. Of the other tables the page names the CSV and the notebook.
# - A cell that was not measured says so, and so does a cell that is worse than the input.
# - The same value is not the same experiment. A claim without a protocol can be neither confirmed nor refuted; a claim
#   that contradicts itself can.
#
# ## Try it
#
# **1.** Add a section of your own to the page.
#
# <details><summary>Solution</summary>
#
# Draw a figure in one of the notebooks and keep it with `figures.save(figure, output / "mine")`. Then name its file
# here, before the page is rendered:
#
# ```python
# section("Mine", "What should a reader look for?", {"compare_deblurring/mine.png": "What it shows."})
# ```
#
# </details>
#
# **2.** Change a PSNR in `rows.csv` of `09_compare_super_resolution` and run this notebook again. What changes on the
# page, and what does not?
#
# <details><summary>Solution</summary>
#
# All that is made from the rows changes: the mean in the table and its marks, the differences, the summary, and the
# verdict if the number is audited. The figures do not: `09_compare_super_resolution` drew them. The next cell checks
# that no verdict is left without a reason.
#
# </details>

# %%
assert found["reason"].str.len().min() > 10

# %% [markdown]
# **Further reading.** Pineau et al. 2021, *Improving Reproducibility in Machine Learning Research*,
# [doi:10.48550/arXiv.2003.12206](https://doi.org/10.48550/arXiv.2003.12206).
