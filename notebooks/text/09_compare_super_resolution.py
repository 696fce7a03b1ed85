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
# **Which method should you take?** It depends on the question: the ranking by PSNR and the ranking by LPIPS are not the
# same, and both depend on the photo. This notebook restores the same degraded photos with every trained network and puts
# the rows beside what the audited report claims and what is published.
#
# **You will see**
# - one table in the report's layout, in which every row says what it is and only comparable rows are ranked,
# - the same crops of the same photos for all methods,
# - where the gain sits: per photo, not only on average.
#
# Needs: the notebooks of the methods (`04` to `08`). Time: half a minute with the demo's sample photos.

# %%
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import Markdown

import rvlib
from rvlib import complexity, evaluate, measures, metrics, photos, recipes, study
from rvlib.study import figures, published, tables
from rvlib.degrade import Bicubic
from rvlib.pairs import photo_pairs

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
test_sets = ["samples"]
scale = 4
runs = {}  # name of the weights: training run of this profile; the demo has none
official = []  # names of the papers' own weights to measure too, such as official/swinir-light-x4
demo_steps = 2000  # where there are no released weights either, a short FSRCNN is trained for this long

# %% [markdown]
# ## The contestants
#
# Each method comes with the weights that this profile trained, and with the released ones where these are others. In the
# demo there is no training: what is released is compared, and everything after this cell is the same in every profile.

# %%
data = study.data(profile)
own = {name: rvlib.load(study.run_folder(profile, run) / "last.safetensors") for name, run in runs.items()}
models = {(name, "this run"): model for name, model in own.items() if model.task == "super-resolution"}
known = {name: rvlib.load(name) for name in study.released_beside(profile)}
models |= {(n, "released weights"): m for n, m in known.items() if m.task == "super-resolution" and m.scale == scale}
papers, left_out = published.models(official)
if not models:
    train_photos = photos.load_set(data, "samples", split="train")
    demo = {"steps": demo_steps, "learning_rate": 4e-3, "replace_run": True}
    model, _ = recipes.train("fsrcnn", train_photos, run=study.run_folder(profile, "compare_demo/fsrcnn"), **demo)
    models["fsrcnn-x4", "this run"] = model
pd.Series(
    {f"{n} ({label})": f"{complexity.parameters(m):,}" for (n, label), m in (models | papers).items()},
    name="parameters",
).to_frame()

# %% [markdown]
# ## The protocol
#
# | | |
# |---|---|
# | input | MATLAB bicubic, antialiased, scale 4, rounded to 8 bits; a benchmark's own files where it has them |
# | measured on | luminance (BT.601, 16 to 235, not rounded), 4 pixels cropped from every border |
# | PSNR | $10 \log_{10}(255^2 / \mathrm{MSE})$ per photo, then the mean over photos |
# | SSIM | 11 × 11 Gaussian window, σ = 1.5, valid region, mean over photos |
# | LPIPS | version 0.1, AlexNet, on RGB, nothing cropped; lower is better |
#
# Every one of these lines has moved published numbers by tenths of a decibel. They are the same for all rows that were
# measured here, and unknown for the report's claims, which is why those stand apart.

# %%
degradation = Bicubic(scale)
chosen = measures.for_task("super-resolution", scale, perceptual=True)
restorers = evaluate.baseline("super-resolution", scale)
restorers |= {(name, label): evaluate.with_model(model) for (name, label), model in models.items()}
restorers |= {key: published.restorer(model) for key, model in papers.items()}
rows = evaluate.sets(restorers, data, test_sets, degradation, chosen)
rows["weights"] = rows["method"].where(~rows["label"].str.endswith("input"), "")
rows["method"] = rows["method"].str.split("-").str[0]
means = tables.means(rows)

# %% [markdown]
# ## The table
#
# The report's table 3, with more columns and honest rows. Among what was measured here, the best value is bold and the
# second underlined. Claims and published values are shown for sets that they name, and not ranked: their protocols differ.

# %%
columns = [measure.key for measure in chosen]
claims = tables.claims(test_sets).reindex(columns=["set", "method", "label", *columns])
together = pd.concat([means, claims], ignore_index=True)
compared, places = tables.compare(together, columns)
Markdown(tables.markdown(compared, places))

# %%
output = study.output(profile, "compare_super_resolution")
tables.write(rows, output / "rows")
tables.write(together.drop(columns="seconds"), output / "table")
tables.write(compared, output / "compared", places)
best = {column: tables.winners(means, column) for column in columns}
tables.write_json(best, output / "summary.json")
for measure in chosen:
    print(f"best by {measure.title} {measure.arrow}:", best[measure.key])
psnr_column = f"psnr_y_crop{scale}"
assert "bicubic" not in best[psnr_column].values(), "no trained method may lose against bicubic"

# %% [markdown]
# ## Do we measure as the papers do?
#
# Their own weights, measured here, beside the numbers that they publish: within 0.02 dB the protocol is the same, and every
# other row can be believed. The profile `official` does this; what it could not fetch is named and left out.

# %%
confirmed = published.compare(means)
tables.write(confirmed, output / "official")
for name, problem in left_out.items():
    print(f"left out: {name}: {problem}")
Markdown(tables.markdown(confirmed)) if len(confirmed) else print("no official weights in this profile")

# %%
figure = figures.bars(
    means[~means["label"].str.startswith(("released", published.LABEL) if runs else published.LABEL)],
    column=psnr_column,
    label="PSNR in dB (Y, crop 4)",
)
figures.save(figure, output / "psnr")

# %% [markdown]
# ## The same crops, every method
#
# A decibel is hard to see in a table and easy to see at an edge. Sample photos are degraded here, whatever the profile's
# test sets are: benchmark photos are measured, but not shown.

# %%
label = "this run" if runs else next(iter(models))[1]
contestants = {name: model for (name, kind), model in models.items() if kind == label}
crops = {"chelsea": (80, 140, 110, 130), "astronaut": (40, 190, 100, 118)}
for name, box in crops.items():
    degraded, reference = photo_pairs({name: photos.sample(name)}, degradation)[name]
    shown = {"bicubic": evaluate.bicubic(scale)(degraded)}
    shown |= {contestant: rvlib.restore(model, degraded) for contestant, model in contestants.items()}
    notes = {
        n: f"{metrics.psnr(i, reference, crop=scale):.2f} dB\nLPIPS {metrics.lpips(i, reference):.3f}"
        for n, i in shown.items()
    }
    figure = figures.zoom_strip({**shown, "reference": reference}, box=box, context=reference, notes=notes)
    figures.save(figure, output / f"strip-{name}")
    nearest = max(contestants, key=lambda n: metrics.psnr(shown[n], reference, crop=scale))
    for kind, picture in (("before", shown["bicubic"]), ("after", shown[nearest])):
        photos.write(output / f"{kind}-{name}.png", picture)

# %% [markdown]
# ## Photo by photo
#
# A mean hides who gains. Each dot is a photo; the further right, the more a network added to bicubic interpolation.

# %%
mine = rows[rows["label"].isin([label, "bicubic input"])]
per_photo = mine.pivot_table(index=["set", "photo"], columns="method", values=psnr_column)
gains = per_photo.sub(per_photo["bicubic"], axis=0).drop(columns="bicubic").stack().rename("gain").reset_index()
figure, axis = plt.subplots(figsize=(6.5, 1.4 + 0.6 * gains["set"].nunique()))
sns.stripplot(gains, x="gain", y="set", hue="method", palette=figures.COLORS, alpha=0.8, dodge=True, ax=axis)
axis.axvline(0, color="0.4", linestyle="--")
axis.set(xlabel="gain over bicubic in dB", ylabel="")
axis.legend(title="", loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "gains")

# %% [markdown]
# ### Where each wins, and where it fails

# %%
winners = per_photo.drop(columns="bicubic").idxmax(axis=1).value_counts().rename("photos won by PSNR").to_frame()
extremes = gains.loc[gains.groupby("method")["gain"].idxmin()].set_index("method")[["set", "photo", "gain"]]
winners.join(extremes.rename(columns={"gain": "its smallest gain"}), how="outer").style.format(precision=2, na_rep="0")

# %% [markdown]
# ## Two measures, two rankings
#
# If both measures asked the same, the dots would lie on a line.

# %%
figure, axis = plt.subplots(figsize=(5.5, 3.6))
shown = means[means["label"].isin([label, "bicubic input"])]
lpips_column = "lpips_alex_rgb_crop0"
sns.scatterplot(shown, x=psnr_column, y=lpips_column, hue="method", style="set", palette=figures.COLORS, s=70, ax=axis)
axis.set(xlabel="PSNR in dB (Y, crop 4): right is nearer", ylabel="LPIPS: down looks more alike")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
figures.save(figure, output / "plane")
order = {column: shown.groupby("method")[column].mean() for column in (psnr_column, lpips_column)}
agreement = order[psnr_column].corr(-order[lpips_column], method="spearman")
print(f"rank correlation of the two measures over {len(shown)} rows: {agreement:.2f}")

# %% [markdown]
# ## Takeaways
#
# - Compare rows only where the protocol is the same; a claim without a protocol is shown, not ranked.
# - Look at the spread over photos before believing a mean.
# - PSNR ranks by squared error, LPIPS by features. A method that wins one can lose the other (`05_srgan` shows why).
#
# ## Try it
#
# 1. Crop nothing instead of 4 pixels (`scale=0` in `measures.for_task`). Do all methods move by the same amount?
# 2. Measure on RGB (`measures.for_task("deblurring")`). Which method loses most, and why is it the one that works on
#    luminance?
# 3. Give a folder of your own photos to `test_sets` (a name with a slash is a path), and check that it was measured:

# %%
assert set(rows["set"]) == set(test_sets)

# %% [markdown]
# Next: `10_compare_deblurring`, the other task.
