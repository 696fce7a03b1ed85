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
# **Where do the numbers of the README come from?** From here. This notebook trains and restores nothing: it reads the rows
# and figures that the other notebooks wrote, and renders them as one HTML file that opens by double-click.
#
# **You will see**
# - the tables of the audited report in its own layout: claimed, published and measured here, side by side,
# - the audit: a verdict on every number that the report claims,
# - the page itself, and how the results get into the README.
#
# Needs: the notebooks before it have run with the same profile. In the demo, what is missing is left out and named.

# %%
import json

import pandas as pd
from IPython.display import Markdown
from safetensors import safe_open

import rvlib
from rvlib import measures, photos, study
from rvlib.models import METHODS
from rvlib.study import notebooks, report, tables

# %% tags=["parameters"]
profile = "demo"  # whose results are rendered
trains = True  # whether the profile trains: the official one measures the papers' own weights alone

# %% [markdown]
# ## What there is
#
# Each notebook writes into a folder of its name: rows and tables as CSV and Markdown, figures as PNG, and as SVG where they
# show no photo.

# %%
folder = rvlib.ROOT / "reports" / profile
output = study.output(profile, "report")
written = sorted(
    path for path in folder.glob("**/*") if path.suffix in (".csv", ".png", ".svg") and path.parent != output
)
print("\n".join(str(path.relative_to(folder)) for path in written) or "nothing yet: run the other notebooks first")

# %% [markdown]
# ## The sections of the page
#
# A section is a title, a sentence that says what to look for, tables and figures. What is not there yet is named and left
# out in the demo; in the pipeline it is an error. Figures of benchmark photos are never made: every picture shows a
# sample photo, whose licence allows it.

# %%
sections, missing = [], []
commit = report.commit()


def there(name: str) -> bool:
    """Whether another notebook wrote this file; what is missing is remembered."""
    if not (folder / name).exists():
        missing.append(name)
    return (folder / name).exists()


def section(title: str, text: str, pngs: dict[str, str], more: tuple[str, ...] = ()) -> None:
    """Add a section made of tables and sliders as HTML, and of the figures (file: caption) that exist."""
    figures = [report.figure_html(folder / name, caption) for name, caption in pngs.items() if there(name)]
    sections.append({"title": title, "text": text, "parts": [*more, *figures]})


# %% [markdown]
# ## The report's tables, audited
#
# **Question:** what does the report claim, what do papers publish, and what comes out here? The tables have the report's
# layout: table 1 by test set, tables 3 and 4 by method. They are made from the measured rows as they are now, never from
# a table that was made earlier, so that no stale number can stay: what has no row says *not measured*.

# %%
measured = {
    "table 1": tables.measured(folder / "compare_super_resolution"),
    "table 4": tables.measured(folder / "compare_deblurring"),
}
measured["table 3"] = measured["table 1"]
claims = tables.claims(["Set5", "Set12", "Set14", "Urban100", "GoPro"])
if trains and there("methods/fsrcnn/table-1.csv"):  # where the report's runtimes are noted
    table_1 = pd.read_csv(folder / "methods/fsrcnn/table-1.csv")[["set", "label", "seconds"]]
    claims = claims.merge(table_1[table_1["label"].str.startswith("report")], "left", ["set", "label"])
layouts = {name: tables.audited(name, rows, tables.put_right(claims)) for name, rows in measured.items()}
Markdown(tables.markdown(*layouts["table 3"]))

# %% [markdown]
# Table 4 is printed with its axes exchanged. Put right, its claims are the published values, digit by digit:

# %%
Markdown(tables.markdown(*layouts["table 4"]))

# %% [markdown]
# ### Table 2: how SRGAN was trained
#
# The only table of settings. What this run did is read from its weights, which carry their training.


# %%
def training(name: str) -> dict:
    """What the weights of a training run say about how they came to be; empty where there are none."""
    file = study.run_folder(profile, f"srgan/{name}") / "last.safetensors"
    if not file.exists():
        return {}
    with safe_open(file, framework="pt") as weights:
        facts = json.loads(weights.metadata()["rvlib"])["training"]
    return {**facts["settings"], **facts["data"]}


# %%
game, warmup = training("srgan"), training("srresnet")
side = game["patch_size"] if game else None
lines = [
    ("learning rate", "0.0001", "0.0001, then 0.00001", f"{game['learning_rate']:g}" if game else None),
    ("training", "400 epochs", "200,000 steps", f"{game['steps']:,} steps" if game else None),
    ("warm-up with MSE", "10 epochs", "1,000,000 steps", f"{warmup['steps']:,} steps" if warmup else None),
    ("batch size", "16", "16", game.get("batch_size")),
    ("number of workers", "4", "–", "none: patches are cut by the training process"),
    ("scale", "4", "4", game.get("scale")),
    ("high-resolution patch", "96 × 96", "96 × 96", f"{side} × {side}" if game else None),
    ("low-resolution patch", "24 × 24", "24 × 24", f"{side // 4} × {side // 4}" if game else None),
    ("photos", "DIV2K, Flickr2K", "350,000 of ImageNet", f"{game['photos']} photos" if game else None),
]
table_2 = pd.DataFrame(lines, columns=["parameter", "report's claim", "SRGAN paper", "this run"])
table_2 = table_2.astype(object).fillna(tables.NOT_MEASURED).astype(str)
layouts["table 2"] = (table_2, None)
table_2

# %%
for name, (cells, places) in layouts.items():
    tables.write(cells, output / name.replace(" ", "-"), places)

# %% [markdown]
# ## The audit: a verdict per number
#
# The study implements a report whose tables contradict the literature in places. Every number gets a verdict:
#
# - *reproduced*: what was measured here on the same set is within 0.3 dB, or within 0.01 for SSIM and LPIPS;
# - *published elsewhere*: the same number stands in a paper or a repository, so the report need not have measured it;
# - *contradicts*: the literature, the report itself, or what the measure can be;
# - *cannot be checked here*: no protocol, no source, or a set that is no benchmark of this task.

# %%
audit = tables.verdicts(pd.concat([measured["table 1"], measured["table 4"]]), claims)
tables.write(audit, output / "audit")
counts = audit["verdict"].value_counts()
Markdown(tables.markdown(audit))

# %%
counts.to_frame("numbers")

# %% [markdown]
# ## The summary: three sentences with numbers
#
# They are built from the same rows, so that they cannot say anything else than the tables do.


# %%
def winners(rows: pd.DataFrame, column: str) -> str:
    """Per set: the best measured method by PSNR, its gain over the input, and the best by each perceptual measure."""
    main = measures.find(column)
    perceptual = [measure for measure in measures.MEASURES if measure.perceptual and measure.key in rows]
    parts = []
    for name, part in rows.groupby("set", sort=False):
        own = part[part["label"].isin(tables.MEASURED)].assign(title=part["method"].replace(tables.NAMES))
        values = main.ordered(own.set_index("title")[column])
        if values.empty:
            continue
        gain = values.iloc[0] - part.loc[part["label"].str.endswith("input"), column].max()
        text = f"{values.index[0]} with {main.text(values.iloc[0])} {main.unit} on {name}"
        text += f" ({gain:+.{main.digits}f} {main.unit} against the input"
        for measure in perceptual:
            values = measure.ordered(own.set_index("title")[measure.key])
            if len(values):
                text += f"; best by {measure.title}: {values.index[0]}, {measure.text(values.iloc[0])}"
        parts.append(f"{text})")
    return ", ".join(parts) or tables.NOT_MEASURED


# %%
words = {
    "reproduced": "are reproduced here",
    "published elsewhere": "are published elsewhere",
    "contradicts": "contradict the literature or the report itself",
    "cannot be checked here": "cannot be checked",
}
shares = ", ".join(f"{counts.get(verdict, 0)} {text}" for verdict, text in words.items())
summary = [
    f"Super-resolution by 4, nearest to the reference: {winners(measured['table 1'], 'psnr_y_crop4')}.",
    f"Deblurring, nearest to the reference: {winners(measured['table 4'], 'psnr_rgb_crop0')}.",
    f"Of the {len(audit)} numbers in the audited report's tables of results, {shares}.",
]
print("\n".join(summary))

# %% [markdown]
# ## What the page shows
#
# ### Comparisons
#
# These come first, since they are what a reader looks for. The sliders need no network and no kernel. The strips stand
# for the report's figures 11 to 13, with the measures that its figures lack.

# %%
ranking = (
    "Bold and underlined: best and second among rows measured here; claims and published values have other protocols."
)
source = f"{ranking} Profile {profile}, commit {commit}."
protocols = {name: f"{report.protocol(name)}. {source}" for name in measured}
captions = {
    "table 1": "Table 1: FSRCNN by test set. Seconds per photo belong to their machine. MATLAB bicubic input, scale 4; ",
    "table 2": f"Table 2: how SRGAN was trained. Profile {profile}, commit {commit}.",
    "table 3": "Table 3: super-resolution. MATLAB bicubic input, scale 4; ",
    "table 4": "Table 4: deblurring, with the axes put right. ",
}
captions = {name: caption + protocols.get(name, "") for name, caption in captions.items()}
html = {name: report.table_html(*layouts[name], caption=caption) for name, caption in captions.items()}

# %%
strips = {"chelsea": "Chelsea the cat, CC0", "astronaut": "Eileen Collins, NASA, public domain"}
cup = {"coffee": "coffee cup, CC0"}


def sliders(place: str, texts: dict[str, str], what: str) -> list[str]:
    """A before/after slider for each photo of which a comparison has kept both."""
    sliders = []
    for name, text in texts.items():
        files = [f"{place}/{kind}-{name}.png" for kind in ("before", "after")]
        if all(there(file) for file in files):
            sliders.append(report.slider_html(*(photos.read(folder / file) for file in files), f"{what}: {text}"))
    return sliders


# %%
section(
    "Super-resolution compared",
    "Which network, on the same photos with the same protocol?",
    {
        f"compare_super_resolution/strip-{name}.png": f"Figure {number}: the same crop of {strips[name]}, for every "
        "method, with PSNR and LPIPS of the whole photo."
        for number, name in ((11, "chelsea"), (12, "astronaut"))
    },
    (html["table 3"], *sliders("compare_super_resolution", strips, "bicubic and best PSNR")),
)
section(
    "Tables 1 and 2",
    "FSRCNN by test set, and how SRGAN was trained: what the report states beside what was done here.",
    {},
    (html["table 1"], html["table 2"]),
)

# %%
section(
    "Where the gain sits",
    "Each dot is a photo; and the two measures against each other.",
    {
        "compare_super_resolution/psnr.png": "Mean PSNR per test set.",
        "compare_super_resolution/gains.png": "Gain over bicubic, photo by photo.",
        "compare_super_resolution/plane.png": "PSNR against LPIPS.",
    },
)
section(
    "Deblurring compared",
    "How much of a shake can be undone, and when does it make a photo worse?",
    {
        "compare_deblurring/strip-coffee.png": "Figure 13: the same crop for every method (coffee cup, CC0).",
        "compare_deblurring/strip-astronaut.png": f"Figure 13, continued ({strips['astronaut']}).",
        "compare_deblurring/sweep.png": "Gain against the length of the shake.",
        "compare_deblurring/failure.png": "Where it fails: shake that is longer than in training.",
    },
    (html["table 4"], *sliders("compare_deblurring", cup, "blurred and best PSNR")),
)

# %% [markdown]
# ### Is the protocol the papers'?
#
# Where a profile measured the papers' own weights, their rows say whether the numbers above can be believed.

# %%
comparisons = [folder / f"compare_{task}/official.csv" for task in ("super_resolution", "deblurring")]
confirmed = [pd.read_csv(file) for file in comparisons if file.exists() and len(pd.read_csv(file))]
if confirmed:
    caption = f"Official weights, measured here, beside published numbers. Profile {profile}, commit {commit}."
    text = "The papers' own weights: within 0.02 dB of the published number the protocol is the papers'."
    section("Is the protocol the papers'?", text, {}, (report.table_html(pd.concat(confirmed), caption=caption),))

# %% [markdown]
# ### The methods: learning curves, and the photo on which each fails

# %%
common = {"training": "Learning curves: losses and validation PSNR.", "strip": "Input, restored, reference."}
method_captions = {
    "fsrcnn": {"failure": "Where it fails: signed difference on the photo with the least gain."},
    "srgan": {"plane": "Between both networks.", "failure": "Where the game made it worse."},
    "swinir": {"reach": "What an output pixel depends on.", "failure": "A shift of the input changes the output."},
    "nafnet": {"ablation": "What each step brings.", "failure": "Where it gains least."},
    "diffir": {"path": "The reverse steps of the IPR.", "failure": "Half of the photo was shaken."},
}


def method_figures(key: str) -> dict[str, str]:
    """The figures of a method's notebook with their captions; where none are written here, all that it made."""
    if key in method_captions:
        texts = {**common, **method_captions[key]}
    else:
        texts = {path.stem: f"{path.stem}." for path in sorted((folder / "methods" / key).glob("*.png"))}
    return {f"methods/{key}/{file}.png": f"{METHODS[key].title}. {caption}" for file, caption in texts.items()}


# %%
for name in notebooks.names():
    key = name.partition("_")[2]  # a method's notebook is named after it
    if trains and key in METHODS and there(f"methods/{key}/rows.csv"):
        title = METHODS[key].title
        means = tables.means(pd.read_csv(folder / "methods" / key / "rows.csv"))
        caption = f"{title}: means over the photos. Profile {profile}, commit {commit}."
        table = report.table_html(means, tables.rank(means), caption=caption)
        text = "Trained in this run, measured on photos that were not trained on."
        section(title, text, method_figures(key), (table,))

# %% [markdown]
# ### What all of it rests on


# %%
def listed(names: dict[str, str]) -> tuple[str, ...]:
    """The CSVs of other notebooks that exist (file: caption), as HTML."""
    return tuple(report.table_html(folder / name, caption=text) for name, text in names.items() if there(name))


section(
    "Quality against cost",
    "Per pixel of the restored photo, in official sizes. Runtimes belong to the machine of this run.",
    {
        "cost/quality.png": "Quality against seconds per photo, for the networks of this profile.",
        "cost/cost.png": "Size, work and time.",
        "cost/growth.png": "Growth with the photo.",
    },
    listed({"cost/cost.csv": "What a pixel costs."}),
)

# %%
section(
    "Degradation and measures",
    "The baseline, one restored photo under five protocols, and four distortions that PSNR and LPIPS rank oppositely.",
    {"degradations/strip.png": "What bicubic interpolation loses."},
    listed(
        {
            "degradations/bicubic.csv": "Bicubic interpolation, the baseline.",
            "metrics/protocols.csv": "The same photo under five protocols.",
            "metrics/distortions.csv": "Four distortions, two rankings.",
        }
    ),
)
data = listed({"data/sets.csv": "The photos of this profile."})
section("Data", "What was trained and tested on; no test photo is among the training photos.", {}, data)

# %% [markdown]
# ### The audit and the limits

# %%
caption = f"The audit: {len(audit)} numbers, a verdict each. Profile {profile}, commit {commit}."
section(
    "The audit of the report",
    "Table 4 is listed as it is printed: measures in the wrong columns.",
    {},
    (report.table_html(audit, caption=caption),),
)
section(
    "Limits",
    "Networks trained on few photos and for hours instead of weeks; degradations that are known and synthetic; test sets of "
    "a handful to a hundred photos; one seed where no spread is stated. LPIPS is a network's opinion, not an eye's. A "
    "verdict is about a number, not about whoever printed it.",
    {},
)
print("left out, not made yet:", ", ".join(missing) or "nothing")
assert profile == "demo" or not missing, f"the pipeline must have made {missing}"

# %% [markdown]
# ## The page, and the table in the README
#
# The README shows the results of the release profile, which makes the weights that ship: only that profile writes them.

# %%
target = folder / "index.html"
report.render(sections, target, profile=profile, commit=commit, summary=summary)
if profile == "release":
    report.write_results(rvlib.ROOT / "README.md", folder)
size = target.stat().st_size
print(f"{target.name}: {len(sections)} sections")
assert 1_000 < size < 20_000_000

# %% [markdown]
# ## Takeaways
#
# - A number on the page can be followed to a CSV, from there to a notebook, its parameters and a commit.
# - What is not measured says so.
# - A claim without a protocol can be neither confirmed nor refuted; a claim that contradicts itself can.
#
# ## Try it
#
# 1. Add a section of your own: write a figure in a notebook and name it in a call of `section`.
# 2. Change a PSNR in `rows.csv` of `09_compare_super_resolution` and run this notebook again: what changes on the page?
# 3. Every verdict has a reason. Check it:

# %%
assert audit["reason"].str.len().min() > 10
