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
from IPython.display import Markdown

import rvlib
from rvlib import report, tables

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


def section(title: str, text: str, csvs: list[str], pngs: dict[str, str]) -> None:
    """Add a section made of the tables and figures (file: caption) that exist."""
    there = [name for name in (*csvs, *pngs) if (folder / name).exists()]
    missing.extend(name for name in (*csvs, *pngs) if name not in there)
    parts = [report.table_html(folder / name) for name in csvs if name in there]
    parts += [report.figure_html(folder / name, caption) for name, caption in pngs.items() if name in there]
    sections.append({"title": title, "text": text, "parts": parts})


# %% [markdown]
# The comparison comes first, since it is what a reader looks for.

# %%
section(
    "Super-resolution compared",
    "All methods on the same photos, degraded by MATLAB bicubic interpolation at scale 4. Each row says what it is: "
    "bicubic input, this run, the report's claim or a published value. Claims carry no known protocol.",
    ["09_compare_super_resolution/table.csv"],
    {
        "09_compare_super_resolution/strip.png": "The same crop for every method (sample photo: Chelsea the cat, CC0).",
        "09_compare_super_resolution/psnr.png": "Mean PSNR per test set.",
        "09_compare_super_resolution/gains.png": "Gain over bicubic, photo by photo.",
    },
)

# %% [markdown]
# Then each method by itself, with the photo on which it fails.

# %%
section(
    "FSRCNN",
    "Trained in this run on the profile's training photos, measured on photos that were not trained on.",
    ["04_fsrcnn/means.csv"],
    {
        "04_fsrcnn/strip.png": "Bicubic, FSRCNN and the reference (sample photo: coffee cup, CC0).",
        "04_fsrcnn/training.png": "Loss and validation PSNR; the dashed line is bicubic.",
        "04_fsrcnn/failure.png": "Where it fails: signed difference on the photo with the least gain.",
    },
)

# %% [markdown]
# Last, what all of it rests on.

# %%
section(
    "Degradation",
    "The baseline: bicubic enlargement of the degraded photos.",
    ["02_degradations/bicubic.csv"],
    {"02_degradations/strip.png": "What bicubic interpolation loses."},
)
section(
    "Metrics",
    "The same restored photo under five protocols, and four distortions that PSNR and LPIPS rank in opposite orders.",
    ["03_metrics/protocols.csv", "03_metrics/distortions.csv"],
    {},
)
section("Data", "What was trained and tested on; no test photo is among the training photos.", ["01_data/sets.csv"], {})
print("left out, not made yet:", ", ".join(missing) or "nothing")
assert profile == "demo" or not missing, f"the pipeline must have made {missing}"

# %% [markdown]
# ## The audit
#
# The study implements a report whose tables contradict the literature in places. Where this run has measured the same
# set, both numbers stand side by side; a claim that no protocol accompanies can be neither confirmed nor refuted.

# %%
claims = tables.claims(["Set5", "Set14", "Urban100"])
Markdown(tables.markdown(claims[["set", "method", "label", "psnr_y_crop4", "protocol"]]))

# %% [markdown]
# ## The page

# %%
target = folder / "index.html"
report.render(
    sections,
    target,
    profile=profile,
    commit=report.commit(),
    protocol="PSNR and SSIM on luminance, 4 pixels cropped; MATLAB bicubic",
)
size = target.stat().st_size
print(f"{target.name}: {len(sections)} sections")
assert 1_000 < size < 20_000_000

# %% [markdown]
# ## Takeaways
#
# - A number on the page can be followed to a CSV, from there to a notebook, its parameters and a commit.
# - What is not measured is not shown.
#
# ## Try it
#
# 1. Add a section of your own: write a CSV in a notebook and name it in a call of `section`.
# 2. Change a colour in `rvlib/figures.py` and run `make report`: what runs again, and what does not?
