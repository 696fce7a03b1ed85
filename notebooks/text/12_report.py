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
# **Where do the numbers of the README come from?** From here. This notebook computes nothing: it reads the tables and
# figures that the other notebooks wrote, and renders them as one HTML file that opens by double-click.
#
# **You will see**
# - which file each table and figure comes from,
# - the audit: the report's claims beside what this run measured,
# - the page itself.
#
# Needs: the notebooks before it have run with the same profile. In the demo, what is missing is left out and named.

# %%
import pandas as pd
from IPython.display import Markdown

import rvlib
from rvlib import photos, report, study, tables

# %% tags=["parameters"]
profile = "demo"  # whose results are rendered

# %% [markdown]
# ## What there is
#
# Each notebook writes into a folder of its name: rows and tables as CSV and Markdown, figures as PNG.

# %%
folder = rvlib.ROOT / "reports" / profile
folder.mkdir(parents=True, exist_ok=True)
written = sorted(path for path in folder.glob("*/*") if path.suffix in (".csv", ".png"))
print("\n".join(str(path.relative_to(folder)) for path in written) or "nothing yet: run the other notebooks first")

# %% [markdown]
# ## The sections of the page
#
# A section is a title, a sentence that says what to look for, tables and figures. What is not there yet is named and left
# out in the demo; in the pipeline it is an error. Figures of benchmark photos are never made: every picture shows a
# sample photo, whose licence allows it.

# %%
sections, missing = [], []


def section(title: str, text: str, csvs: list[str], pngs: dict[str, str], more: tuple[str, ...] = ()) -> None:
    """Add a section made of the tables and figures (file: caption) that exist, and of more HTML."""
    there = [name for name in (*csvs, *pngs) if (folder / name).exists()]
    missing.extend(name for name in (*csvs, *pngs) if name not in there)
    parts = list(more) + [report.table_html(folder / name) for name in csvs if name in there]
    parts += [report.figure_html(folder / name, caption) for name, caption in pngs.items() if name in there]
    sections.append({"title": title, "text": text, "parts": parts})


# %% [markdown]
# ### The summary: three sentences with numbers
#
# They are built from the tables, so that they cannot say anything else than the tables do.

# %%
files = {name: folder / f"{name}/table.csv" for name in ("09_compare_super_resolution", "10_compare_deblurring")}
measured = {name: pd.read_csv(file) for name, file in files.items() if file.exists()}
rows = measured.get(
    "09_compare_super_resolution", pd.DataFrame(columns=["label", "set", "method", "psnr_y_crop4", "lpips_alex"])
)
ours = rows[rows["label"].isin(["this run", "bicubic input"])]
sentences = []
for name, part in ours.groupby("set", sort=False):
    bicubic = part.loc[part["method"] == "bicubic", "psnr_y_crop4"].item()
    best = part.loc[part["psnr_y_crop4"].idxmax()]
    alike = part.loc[part["lpips_alex"].idxmin(), "method"] if part["lpips_alex"].notna().any() else "not measured"
    sentences.append(
        f"{name}: {best['method']} is nearest to the reference with {best['psnr_y_crop4']:.2f} dB "
        f"(bicubic {bicubic:.2f} dB); most alike by LPIPS: {alike}."
    )
summary = " ".join(sentences[:3]) or "Nothing is measured yet."
print(summary)

# %% [markdown]
# ### Comparisons
#
# These come first, since they are what a reader looks for. The sliders need no network and no kernel.

# %%
protocol = "MATLAB bicubic, scale 4; PSNR and SSIM on luminance, 4 pixels cropped; LPIPS-Alex on RGB. "
ranking = (
    "Bold and underlined: best and second among rows measured here. Claims and published values have other protocols."
)
strips = {"chelsea": "Chelsea the cat, CC0", "astronaut": "Eileen Collins, NASA, public domain"}
sliders = []
for name in strips:
    pictures = [folder / f"09_compare_super_resolution/{kind}-{name}.png" for kind in ("before", "after")]
    if all(picture.exists() for picture in pictures):
        sliders.append(
            report.slider_html(
                *(photos.read(picture) for picture in pictures), f"bicubic and best PSNR: {strips[name]}"
            )
        )

# %%
section(
    "Super-resolution compared",
    protocol + ranking,
    ["09_compare_super_resolution/compared.csv"],
    {
        f"09_compare_super_resolution/strip-{name}.png": f"The same crop for every method ({text})."
        for name, text in strips.items()
    },
    tuple(sliders),
)

# %%
section(
    "Where the gain sits",
    "Each dot is a photo; and the two measures against each other.",
    [],
    {
        "09_compare_super_resolution/psnr.png": "Mean PSNR per test set.",
        "09_compare_super_resolution/gains.png": "Gain over bicubic, photo by photo.",
        "09_compare_super_resolution/plane.png": "PSNR against LPIPS.",
    },
)
section(
    "Deblurring compared",
    "RGB, nothing cropped, 3-D SSIM. " + ranking + " The report's table 4 is transposed; its values stand as printed.",
    ["10_compare_deblurring/compared.csv"],
    {
        "10_compare_deblurring/strip-coffee.png": "The same crop for every method (coffee cup, CC0).",
        "10_compare_deblurring/sweep.png": "Gain against the length of the shake.",
        "10_compare_deblurring/failure.png": "Where it fails: shake that is longer than in training.",
    },
)

# %% [markdown]
# ### The methods, each with the photo on which it fails

# %%
METHODS = {
    "04_fsrcnn": ("FSRCNN", {"failure": "Where it fails: signed difference on the photo with the least gain."}),
    "05_srgan": ("SRGAN", {"plane": "Between both networks.", "failure": "Where the game made it worse."}),
    "06_swinir": (
        "SwinIR",
        {"reach": "What an output pixel depends on.", "failure": "A shift of the input changes the output."},
    ),
    "07_nafnet": ("NAFNet", {"ablation": "What each step brings.", "failure": "Where it gains least."}),
    "08_diffir": ("DiffIR", {"path": "The reverse steps of the IPR.", "failure": "Half of the photo was shaken."}),
}
for name, (title, own) in METHODS.items():
    if not (folder / name).exists():
        missing.append(name)
        continue
    common = {"strip": "Input, restored, reference.", "training": "Training: losses and validation PSNR."}
    captions = {f"{name}/{file}.png": caption for file, caption in {**common, **own}.items()}
    section(title, "Trained in this run, measured on photos that were not trained on.", [f"{name}/means.csv"], captions)

# %% [markdown]
# ### What all of it rests on

# %%
section(
    "Cost",
    "Per pixel of the restored photo, in official sizes. Runtimes belong to the machine of this run.",
    ["11_cost/cost.csv"],
    {"11_cost/cost.png": "Size, work and time.", "11_cost/growth.png": "Growth with the photo."},
)
section(
    "Degradation and measures",
    "The baseline, the same restored photo under five protocols, and four distortions that PSNR and LPIPS rank oppositely.",
    ["02_degradations/bicubic.csv", "03_metrics/protocols.csv", "03_metrics/distortions.csv"],
    {"02_degradations/strip.png": "What bicubic interpolation loses."},
)
section("Data", "What was trained and tested on; no test photo is among the training photos.", ["01_data/sets.csv"], {})

# %% [markdown]
# ## The audit
#
# The study implements a report whose tables contradict the literature in places. Every number of its tables gets a
# verdict: *reproduced* where this run measured the same set and comes within 0.3 dB, else *published elsewhere*,
# *contradicts* or *cannot be checked here*, each with the reason.

# %%
claims = tables.claims(["Set5", "Set12", "Set14", "Urban100", "GoPro"])
claims = claims[claims["label"].str.startswith("report")].drop(columns="protocol")
here = ours.set_index(["set", "method"])["psnr_y_crop4"]
claims["measured here"] = [here.get((row.set, row.method), float("nan")) for row in claims.itertuples()]
near = (claims["measured here"] - claims["psnr_y_crop4"]).abs() < 0.3
claims["verdict"] = claims["verdict"].mask(near, "reproduced")
audit = claims.rename(columns={"psnr_y_crop4": "PSNR", "lpips_alex": "LPIPS", "measured here": "psnr measured here"})
audit = audit[["source", "set", "method", "PSNR", "LPIPS", "psnr measured here", "verdict", "reason"]]
output = study.output(profile, "12_report")
tables.write(audit, output / "audit")
section(
    "The audit of the report", "Table 4 is listed as it is printed: two numbers per row.", ["12_report/audit.csv"], {}
)
Markdown(tables.markdown(audit))

# %%
section(
    "Limits",
    "Networks trained on few photos and for hours instead of weeks; degradations that are known and synthetic; test sets of "
    "a handful to a hundred photos; one seed where no spread is stated. LPIPS is a network's opinion, not an eye's.",
    [],
    {},
)
print("left out, not made yet:", ", ".join(missing) or "nothing")
assert profile == "demo" or not missing, f"the pipeline must have made {missing}"

# %% [markdown]
# ## The page

# %%
target = folder / "index.html"
report.render(sections, target, profile=profile, commit=report.commit(), summary=summary)
size = target.stat().st_size
print(f"{target.name}: {len(sections)} sections")
assert 1_000 < size < 20_000_000

# %% [markdown]
# ## Takeaways
#
# - A number on the page can be followed to a CSV, from there to a notebook, its parameters and a commit.
# - What is not measured is not shown.
# - A claim without a protocol can be neither confirmed nor refuted; a claim that contradicts itself can.
#
# ## Try it
#
# 1. Add a section of your own: write a CSV in a notebook and name it in a call of `section`.
# 2. Change a colour in `rvlib/figures.py` and run `make report`: what runs again, and what does not?
# 3. Every verdict has a reason. Check it:

# %%
assert audit["reason"].str.len().min() > 10
