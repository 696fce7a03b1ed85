# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 09 · Super-resolution compared: the same photos, the same protocol
#
# **Which method should you take?** The one whose row is best in the measure you care about: this notebook restores the
# same degraded photos with every trained method and puts the rows beside what the audited report claims and what is
# published.
#
# **You will see**
# - one table per measure, in which every row says what it is,
# - the same crop of the same photo for all methods,
# - where the gain sits: per photo, not only on average.
#
# Needs: `04_fsrcnn` (its trained weights). Time: half a minute with the demo's sample photos.

# %%
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

import rvlib
from rvlib import complexity, evaluate, figures, metrics, photos, recipes, study, tables
from rvlib.degrade import Bicubic
from rvlib.pairs import photo_pairs, set_pairs

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
test_sets = ["samples"]
scale = 4
demo_steps = 2000  # the demo trains this short where the pipeline brings weights

# %% [markdown]
# ## The contestants
#
# Each method comes with the weights that this profile trained. The demo has no pipeline behind it, so it trains a short
# FSRCNN on the spot; everything after this cell is the same in every profile.

# %%
data = study.data(profile)
if profile == "demo":
    train_photos = photos.load_set(data, "samples", split="train")
    demo = {"steps": demo_steps, "learning_rate": 4e-3, "replace_run": True}
    recipes.train("fsrcnn", train_photos, run=study.run(profile, "09_demo"), **demo)
runs = {"fsrcnn": study.run(profile, "09_demo" if profile == "demo" else "04_fsrcnn/fsrcnn")}
models = {method: rvlib.load(run / "last.safetensors") for method, run in runs.items()}
{method: f"{complexity.parameters(model):,} parameters" for method, model in models.items()}

# %% [markdown]
# ## The protocol
#
# | | |
# |---|---|
# | input | MATLAB bicubic, antialiased, scale 4, rounded to 8 bits; a benchmark's own files where it has them |
# | measured on | luminance (BT.601, 16 to 235, not rounded), 4 pixels cropped from every border |
# | PSNR | $10 \log_{10}(255^2 / \mathrm{MSE})$ per photo, then the mean over photos |
# | SSIM | 11 × 11 Gaussian window, σ = 1.5, valid region, mean over photos |
#
# Every one of these lines has moved published numbers by tenths of a decibel. They are the same for all rows that were
# measured here, and unknown for the report's claims, which is why those stand apart.

# %%
degradation = Bicubic(scale)
measured = []
for name in test_sets:
    pairs = set_pairs(data, name, degradation)
    columns = {"set_name": name, "crop": scale}
    measured.append(
        evaluate.evaluate(evaluate.bicubic(scale), pairs, method="bicubic", label="bicubic input", **columns)
    )
    for method, model in models.items():
        restorer = evaluate.with_model(model)
        measured.append(evaluate.evaluate(restorer, pairs, method=method, label="this run", **columns))
rows = pd.concat(measured, ignore_index=True)
means = tables.means(rows)

# %% [markdown]
# ## The table
#
# Rows that were measured here first, then the report's claims and published values for sets that they name.

# %%
psnr_column, ssim_column = f"psnr_y_crop{scale}", f"ssim_y_crop{scale}"
claims = tables.claims(test_sets)
together = pd.concat([means, claims[["set", "method", "label", psnr_column, ssim_column]]], ignore_index=True)
together = together.drop(columns="seconds")
together.style.format(precision=3, na_rep="–").hide(axis="index")

# %%
output = study.output(profile, "09_compare_super_resolution")
tables.write(rows, output / "rows")
tables.write(together, output / "table")
best = means.loc[means.groupby("set")[psnr_column].idxmax()]
tables.write_json(dict(zip(best["set"], best["method"], strict=True)), output / "summary.json")
assert (best["method"] != "bicubic").all(), "no trained method may lose against bicubic"

# %%
figure = figures.bars(means, column=psnr_column, label="PSNR in dB (Y, crop 4)")
figure.savefig(output / "psnr.png")

# %% [markdown]
# ## The same crop, every method
#
# A decibel is hard to see in a table and easy to see at an edge. The sample photo is degraded here, whatever the
# profile's test sets are: benchmark photos are measured, but not shown.

# %%
reference = photos.sample("chelsea")
degraded, reference = photo_pairs({"chelsea": reference}, degradation)["chelsea"]
shown = {"bicubic": evaluate.bicubic(scale)(degraded)}
shown |= {method: rvlib.restore(model, degraded) for method, model in models.items()}
notes = {name: f"{metrics.psnr(picture, reference, crop=scale):.2f} dB" for name, picture in shown.items()}
figure = figures.zoom_strip({**shown, "reference": reference}, box=(80, 140, 110, 150), context=reference, notes=notes)
figure.savefig(output / "strip.png")

# %% [markdown]
# ## Photo by photo
#
# A mean hides who gains. Photos with strong, straight edges gain most; photos that bicubic restores well already, or
# whose texture is finer than the input's sampling, gain least.

# %%
per_photo = rows.pivot_table(index=["set", "photo"], columns="method", values=psnr_column)
gains = per_photo.sub(per_photo["bicubic"], axis=0).drop(columns="bicubic").stack().rename("gain").reset_index()
figure, axis = plt.subplots(figsize=(6.5, 1.2 + 0.5 * gains["set"].nunique()))
sns.stripplot(gains, x="gain", y="set", hue="method", palette=figures.COLORS, alpha=0.8, ax=axis)
axis.axvline(0, color="0.4", linestyle="--")
axis.set(xlabel="gain over bicubic in dB", ylabel="")
axis.legend(title="", loc="upper left", bbox_to_anchor=(1, 1))
figure.savefig(output / "gains.png")
gains.sort_values("gain").head(3).style.format(precision=2).hide(axis="index")

# %% [markdown]
# ## Takeaways
#
# - Compare rows only where the protocol is the same; a claim without a protocol is shown, not ranked.
# - Look at the spread over photos before believing a mean.
# - PSNR ranks methods by squared error. What the eye prefers is another question (`05_srgan` asks it).
#
# ## Try it
#
# 1. Crop nothing instead of 4 pixels. Do all methods move by the same amount?
# 2. Add your own photo to `set_pairs` and see in which half of the gains it falls.
#
# Next: `12_report`, everything on one page.
