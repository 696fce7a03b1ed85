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
# **Which method should you take?** It depends on the question: the order by PSNR and the order by LPIPS need not be the
# same, both depend on the photo, and all of it depends on how long each network was trained. This notebook restores the
# same degraded photos with every trained network and compares the rows with what the audited report (a course report,
# see `12_report`) claims and what is published.
#
# **You will see**
# - one table in the audited report's layout, in which every row says what it is, ordered by quality,
# - differences between neighbours in that order, with intervals: which can be told apart?
# - the same crops of the same photos for all networks,
# - at which frequencies and edges they are wrong, and what they make of text,
# - real photos that nobody degraded, and a measure that needs no reference,
# - what is lost when the input was made in another way.
#
# Read before: `04` to `08`; the demo needs nothing of theirs. Time: about two minutes with its sample photos.

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Markdown
from PIL import Image, ImageDraw, ImageFont
from scipy.stats import t as student

import rvlib
from rvlib import evaluate, measures, metrics, naturalness, photos, recipes, study
from rvlib.models import method_of
from rvlib.study import curves, failures, figures, provenance, published, robustness, statistics, tables
from rvlib.degrade import Bicubic, imresize
from rvlib.pairs import photo_pairs, set_pairs

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
# Each method comes with the weights that this profile trained, and with the released ones where these are others. In
# the demo there is no training: the released networks are compared, and everything after this cell is the same in every
# profile.

# %%
data = study.data(profile)
own = {name: rvlib.load(study.run_folder(profile, run) / "last.safetensors") for name, run in runs.items()}
models = {(name, study.own(profile)): model for name, model in own.items() if model.task == "super-resolution"}
known = {name: rvlib.load(name) for name in study.released_beside(profile)}
models |= {(n, "released weights"): m for n, m in known.items() if m.task == "super-resolution" and m.scale == scale}
papers, left_out = published.models(official)
if not models:
    train_photos = photos.load_set(data, "samples", split="train")
    demo = {"steps": demo_steps, "learning_rate": 4e-3, "replace_run": True}
    model, _ = recipes.train("fsrcnn", train_photos, run=study.run_folder(profile, "compare_demo/fsrcnn"), **demo)
    models["fsrcnn-x4", "this run"] = model
seen = provenance.budgets(models | papers, profile, trained=runs)
tables.write(seen, study.output(profile, "compare_super_resolution") / "budget")
seen.style.format(precision=2, thousands=",", na_rep="–").hide(axis="index")

# %% [markdown]
# The last column is the budget: steps × batch size × patch². Where weights continue others (SRGAN from SRResNet, stage
# 2 of DiffIR from its stage 1, some from an earlier release of themselves: the cards say which), the pixels of all parts
# are added. A part whose settings were not kept is left out: DiffIR's first steps on a GPU. The budgets are **not
# equal**, so the order below is one of methods *and* budgets. Each network was trained once: what another seed would
# change is not known.
#
# One method needs no training at all: *iterative back-projection* (Irani and Peleg 1991). It enlarges the photo,
# downscales the result, and adds the enlarged error, until the result would give the input:
# $\hat y \leftarrow \hat y + U(x - D(\hat y))$.


# %%
def back_projection(degraded: np.ndarray) -> np.ndarray:
    """Twenty rounds of back-projection from bicubic enlargement; uint8 H x W x 3 -> scale times as large."""
    wanted = degraded.astype(np.float64)
    restored = imresize(wanted, scale)
    for _ in range(20):
        restored = restored + imresize(wanted - imresize(restored, 1 / scale), scale)
    return restored.round().clip(0, 255).astype(np.uint8)


# %% [markdown]
# ## What an hour buys
#
# PSNR of the validation photos over the hours that the cores, or the GPU, spent on a training. The hours that other
# stages or networks took before count too, so a curve may begin to the right of 0. Hours on another kind of device
# cannot be added: the legend names them, such as *(after 0.05 GPU-hours)*. A curve ends flat where its learning rate
# ends near zero: that says nothing about the network. A training that is lengthened takes up a higher rate: its curve
# can dip, and then gain more. Curves share a panel if their photos and the kind of device of their last training are
# the same. SRGAN's game does not aim at PSNR: its curve may fall.

# %%
learned, absent = curves.collect(profile, runs, task="super-resolution")
if len(learned):
    tables.write_rows(learned, study.output(profile, "compare_super_resolution") / "curves")
    figures.save(curves.figure(learned), study.output(profile, "compare_super_resolution") / "curves")
print(absent)

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
# | NIQE | the authors' model, on luminance rounded to 8 bits, nothing cropped, no reference; lower is more natural |
#
# `02_degradations` and `03_metrics` measure what each of these lines changes. They are the same for all rows that were
# measured here, and unknown for the audited report's claims, so those are listed apart. One photo of Set14 is stored
# with a single channel: papers differ in how they read it, which moves the mean of Set14 by about 0.09 dB (`02`).

# %%
degradation = Bicubic(scale)
chosen = measures.for_task("super-resolution", scale, perceptual=True)
psnr_column, _, lpips_column, niqe_column = (measure.key for measure in chosen)
restorers = evaluate.baseline("super-resolution", scale) | {("back-projection", "classical method"): back_projection}
restorers |= {(name, label): evaluate.with_model(model) for (name, label), model in models.items()}
restorers |= {key: published.restorer(model) for key, model in papers.items()}
rows = evaluate.sets(restorers, data, test_sets, degradation, chosen)
rows = provenance.stamp(rows, profile, trained=runs, degradation=degradation)
means = tables.means(rows)
quality = means.groupby("method")[psnr_column].mean()
means = means.assign(order=means["method"].map(quality)).sort_values(["set", "order"], kind="stable")
means = means.drop(columns="order")

# %% [markdown]
# ## The table
#
# The audited report's table 3, with more columns and rows that say where they come from, from the lowest PSNR to the
# highest. Among the rows measured here, the input and back-projection too, the best value is bold, and the second is
# underlined where it is told apart from the best. Claims and published values are shown for sets that they name, and
# not ranked: their protocols differ. ≈: cannot be told apart from the best of its set (95 % interval of the paired
# difference); ▼: a worse mean than the input's. **The published rows of SRGAN and DiffIR are those of GAN models**,
# which aim at LPIPS; DiffIR here was trained by pixels alone (`08_diffir`).

# %%
columns = [measure.key for measure in chosen]
claims = tables.claims(test_sets).reindex(columns=["set", "method", "label", "protocol", *columns])
together = pd.concat([means, claims.drop(columns="protocol")], ignore_index=True)
compared, places = tables.compare(together, columns)
named = {f"{name} {each.key}": f"{name} {each.title}" for name in set(together["set"]) for each in chosen}
shown = compared.assign(method=compared["method"].replace(tables.NAMES)).rename(columns=named)
Markdown(tables.markdown(shown, places.rename(columns=named)))

# %%
output = study.output(profile, "compare_super_resolution")
tables.write_rows(rows, output / "rows")
tables.write(together.drop(columns="seconds"), output / "table")
tables.write(compared, output / "compared", places)
best = {column: tables.winners(means, column) for column in columns}
tables.write_json(best, output / "summary.json")
for measure in chosen:
    named_best = {name: tables.NAMES.get(method, method) for name, method in best[measure.key].items()}
    print(f"best by {measure.title} {measure.arrow}:", named_best)
for claim in claims[["method", "label", "protocol"]].drop_duplicates().itertuples():
    print(f"{claim.label}, {tables.NAMES.get(claim.method, claim.method)}: protocol {claim.protocol}")
assert "bicubic" not in best[psnr_column].values(), "bicubic must not be the best of a set"

# %% [markdown]
# ## Do we measure as the papers do?
#
# Their own weights, measured here, next to the numbers that they publish. A PSNR within 0.02 dB checks two things for
# the rows of this task: the degraded photos, and how PSNR is taken. It does not check the other measures: each of
# them has a row of its own where a paper publishes it, and NIQE has none. The profile `official` does this; what it
# could not fetch is named and left out.

# %%
confirmed = published.compare(means)
tables.write(confirmed, output / "official")
for name, problem in left_out.items():
    print(f"left out: {name}: {problem}")
if not len(confirmed):
    print("no official weights were measured in this profile: nothing here is checked against the papers' own networks")
Markdown(tables.markdown(confirmed)) if len(confirmed) else None

# %% [markdown]
# ## Which neighbours can be told apart?
#
# Photos differ far more from each other than methods do. So take the difference on each photo, and ask how far its mean
# would move with other photos of the same kind: the interval of 95 % (Student's t). If it holds zero, the two cannot be
# told apart on this set. There are many intervals: trust what several sets agree on.

# %%
label = next(iter(models))[1]
titles = tables.NAMES | {"bicubic": "bicubic", "back-projection": "back-projection"}
contestants = {name: model for (name, kind), model in models.items() if kind == label}
label_of = {"bicubic": "bicubic input", "back-projection": "classical method"}
known = [method for method in quality.sort_values().index if method in set(rows.loc[rows["label"] == label, "method"])]
order = [*sorted(label_of, key=quality.get), *known]
gaps = []
for below, above in pairwise(order):
    pair = {"first": (above, label_of.get(above, label)), "second": (below, label_of.get(below, label))}
    for measure in (each for each in chosen if each.title in ("PSNR", "LPIPS", "NIQE")):
        if rows[measure.key].notna().all():
            for name, gap in statistics.differences(rows, measure.key, **pair).items():
                what = {"comparison": f"{titles[above]} less {titles[below]}", "set": name}
                what["measure"] = f"{measure.title} {measure.arrow}"
                gaps.append({**what, "difference": gap.text(measure.digits, measure.unit), **gap._asdict()})
gaps = pd.DataFrame(gaps, columns=["comparison", "set", "measure", "difference", *statistics.Interval._fields])
tables.write(gaps, output / "differences")
print(f"{len(gaps)} intervals of 95 %: about {0.05 * len(gaps):.0f} would miss the true value by chance alone")
Markdown(tables.markdown(gaps[["measure", "comparison", "set", "difference"]].sort_values("measure", kind="stable")))

# %%
mine = rows[rows["label"].isin([label, *label_of.values()])]
per_photo = mine.pivot_table(index=["set", "photo"], columns="method", values=psnr_column)[order]
gains = per_photo.sub(per_photo["bicubic"], axis=0).drop(columns="bicubic")
sets, shift = list(dict.fromkeys(rows["set"])), 0.8 / len(order)
white = {"facecolor": "white", "edgecolor": "none", "pad": 0}  # no line of the grid runs through a number
plain = {"fontsize": "x-small", "bbox": white}
figure, axis = plt.subplots(figsize=(8.5, 1.2 + 1.5 * len(sets)))
for index, method in enumerate(gains):
    for place, name in enumerate(sets):
        values = gains.loc[name, method]
        single = (values.mean(), values.mean(), values.mean(), 1)  # one photo has no interval
        mean, low, high, _ = statistics.mean_interval(values) if len(values) > 1 else single
        y = place + (index - len(order) / 2 + 1) * shift
        told = titles[method] if place == 0 else None
        axis.errorbar(
            mean, y, xerr=[[mean - low], [high - mean]], fmt="o", capsize=3, label=told, color=figures.COLORS[method]
        )
        axis.annotate(f"{mean:+.2f}", (high, y), (6, 0), textcoords="offset points", va="center", **plain)
axis.axvline(0, color="0.4", linestyle="--")
axis.margins(x=0.12)  # for the numbers behind the intervals
axis.set_yticks(range(len(sets)), labels=[f"{name}, {len(gains.loc[name])} photos" for name in sets])
axis.set(xlabel="mean gain over bicubic in dB (luminance), with 95 % intervals over photos")
axis.invert_yaxis()
axis.grid(visible=False, axis="y")
axis.legend(title="", loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
figures.save(figure, output / "psnr")

# %% [markdown]
# ## The same crops, every network
#
# Sample photos are degraded here, whatever the profile's test sets are: benchmark photos are measured, but not shown.
# The numbers under the crops are of the whole photo.

# %%
crops = {"chelsea": (80, 140, 110, 130), "astronaut": (40, 190, 100, 118)}
by_method = {method_of(name): model for name, model in contestants.items()}
kept, nearest = {}, {}
for name, box in crops.items():
    degraded, reference = photo_pairs({name: photos.sample(name)}, degradation)[name]
    shown = {"bicubic": evaluate.bicubic(scale)(degraded)}
    shown |= {titles[m]: rvlib.restore(by_method[m], degraded) for m in order if m in by_method}
    notes = {
        n: f"{metrics.psnr(i, reference, crop=scale):.2f} dB\nLPIPS {metrics.lpips(i, reference):.3f}"
        for n, i in shown.items()
    }
    kept[name] = shown, reference
    figure = figures.zoom_strip({**shown, "reference": reference}, box=box, context=reference, notes=notes)
    figure.get_layout_engine().set(h_pad=0.15)
    figures.save(figure, output / f"strip-{name}")
    nearest[name] = max(map(titles.get, by_method), key=lambda n: metrics.psnr(shown[n], reference, crop=scale))
    for kind, picture in (("before", shown["bicubic"]), ("after", shown[nearest[name]])):
        photos.write(output / f"{kind}-{name}.png", picture)
tables.write_json(nearest, output / "after.json")

# %% [markdown]
# Where each network is wrong, on that of the two photos to which it adds less. Red is too bright, blue too dark.

# %%
wrong = {}
for method in [method for method in order if method in by_method]:
    added = {
        name: metrics.psnr(shown[titles[method]], reference, crop=scale)
        - metrics.psnr(shown["bicubic"], reference, crop=scale)
        for name, (shown, reference) in kept.items()
    }
    least = min(added, key=added.get)
    shown, reference = kept[least]
    place = f"{titles[method]}, {least}, {added[least]:+.2f} dB"
    wrong[place] = figures.signed_difference(shown[titles[method]], reference)
figure = figures.difference_map(wrong, columns=3)
figures.save(figure, output / "failure")

# %% [markdown]
# ## Photo by photo
#
# A mean hides who gains. Each dot is a photo; the further right, the more a method added to bicubic interpolation.

# %%
long = gains.stack().rename("gain").reset_index()
long["title"] = long["method"].map(titles)
figure, axis = plt.subplots(figsize=(8.5, 1.4 + 0.9 * long["set"].nunique()))
colours = {titles[method]: figures.COLORS[method] for method in order}
picture = {"x": "gain", "y": "set", "hue": "title", "order": sets, "palette": colours, "alpha": 0.8, "dodge": True}
sns.stripplot(long, **picture, ax=axis)
axis.axvline(0, color="0.4", linestyle="--")
axis.set(xlabel="gain over bicubic in dB (luminance); one dot per photo", ylabel="")
axis.legend(title="", loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
figures.save(figure, output / "gains")

# %% [markdown]
# ### Where each wins, and where it fails

# %%
winners = gains[known].idxmax(axis=1).value_counts().rename("photos won by PSNR")
worst = gains[known].stack().rename("gain").reset_index().sort_values("gain").groupby("method").first()
best_of = long[long["method"].isin(known)].sort_values("gain").groupby("method").last()
table = worst.join(winners, how="left").join(best_of.add_suffix(" of the best"))
table = table.fillna({"photos won by PSNR": 0}).reindex(known).rename(index=titles)
for name, end in (("worst photo", ""), ("best photo", " of the best")):
    gained = table[f"gain{end}"].map("{:+.2f} dB".format)
    table[name] = table[f"set{end}"] + ", " + table[f"photo{end}"] + ", " + gained
table[["photos won by PSNR", "worst photo", "best photo"]].style.format("{:.0f}", subset=["photos won by PSNR"])

# %% [markdown]
# ### At which frequencies, and next to which edges?
#
# The means over the two photos above. Along rows and columns the input holds waves of up to one eighth of a cycle per
# pixel of the reference (dotted line), along diagonals up to 0.18: all beyond that is a guess. On the left, the spectrum
# is cut into rings of equal width, and the power of the error in a ring is divided by that of the reference: 1 (dashed
# line) is as wrong as leaving the ring empty. On the right, the pixels are sorted into ten classes by how steep the
# reference is there.

# %%
restored = {title: {name: shown[title] for name, (shown, _) in kept.items()} for title in kept["chelsea"][0]}
wrong = failures.measure(restored, {name: reference for name, (_, reference) in kept.items()})
tables.write_rows(wrong, output / "failures")
figure = failures.figure(wrong, {name: colours[name] for name in restored}, known=0.5 / scale)
figures.save(figure, output / "failures")
for name, part in wrong[wrong["by"] == "frequency"].groupby("method", sort=False):
    known_rings, guessed = part["at"] < 0.5 / scale, part["at"] > 2**0.5 * 0.5 / scale
    below, beyond = (100 * part[held]["error"].mean() for held in (known_rings, guessed))
    steep = wrong[(wrong["method"] == name) & (wrong["by"] == "gradient")].groupby("place")["error"].mean()
    print(
        f"{name}: error over signal {below:.0f} %, mean over the rings that the input has, and {beyond:.0f} % over those "
        f"of which it has nothing; "
        f"{steep.iloc[-1]:.0f} grey levels at the steepest tenth, {steep.iloc[0]:.1f} at the flattest"
    )

# %% [markdown]
# ### Text
#
# Letters have edges that a network knows, and a meaning that it does not. Three sizes of type are drawn, downscaled by
# 4, and restored. *Invented* is paper that came out darker by more than 40 grey levels, *lost* is ink that came out
# lighter by as much. Look for digits and letters that turned into others.

# %%
page = Image.new("RGB", (512, 192), (246, 243, 235))
written = ((40, "R8B O0Q 3E5S"), (28, "rn m cl d vv w 6890"), (20, "The quick brown fox 1974, 38.50"))
for row, (size, words) in enumerate(written):
    ImageDraw.Draw(page).text((12, 12 + 62 * row), words, fill=(30, 30, 34), font=ImageFont.load_default(size))
page = np.array(page)
small = degradation(page)
shown = {"bicubic": evaluate.bicubic(scale)(small)}
shown |= {titles[m]: rvlib.restore(by_method[m], small) for m in order if m in by_method}
whole = figures.luminance(page)
paper, ink = whole > whole.max() - 10, whole < whole.min() + 20
strokes = {}
for name, picture in shown.items():
    change = figures.signed_difference(picture, page)
    strokes[name] = {"invented, %": 100 * (change[paper] < -40).mean(), "lost, %": 100 * (change[ink] > 40).mean()}
    strokes[name]["PSNR in dB"] = metrics.psnr(picture, page, crop=scale)
figure = figures.images({n: picture[:, :310] for n, picture in [*shown.items(), ("reference", page)]}, width=2.6)
figures.save(figure, output / "text")
strokes = pd.DataFrame(strokes).T
strokes.style.format(precision=2)

# %% [markdown]
# ## Three measures: do they agree?
#
# If PSNR and LPIPS put the methods in the same order, the dots of each set would lie on one falling curve. Both
# compare with *the* reference. LPIPS does so by features of a network, so it forgives a texture that is not quite in
# its place. That is not yet "looks natural": the theorem of Blau and Michaeli (2018) is about the distance between
# *distributions* of images, which no measure of a pair can be (`05_srgan`). NIQE, in the lower row, asks how far the
# statistics of the result are from those of good photos, and is not shown the reference: that is nearer to the
# theorem's second axis. The dashed line is the NIQE of the set's references themselves. Where NIQE was not measured,
# its row is left out.

# %%
try:
    naturalness.model()
    has_niqe = True
except rvlib.UserError as reason:  # the column is empty then
    has_niqe = False
    print(reason)
natural = {}
for name in sets if has_niqe else []:
    known_photos = [y for _, y in set_pairs(data, name, degradation).values() if min(y.shape[:2]) >= 192]
    natural[name] = float(np.mean([metrics.niqe(photo) for photo in known_photos])) if known_photos else np.nan

# %%
shown = means[means["label"].isin([label, *label_of.values()])].assign(network=lambda t: t["method"].map(titles))
assert set(order) <= set(shown["method"]), "a method is not in the plane"
halves = {lpips_column: "LPIPS (AlexNet)", niqe_column: "NIQE, no reference"}
halves = {column: text for column, text in halves.items() if shown[column].notna().any()}
size = (1.5 + max(2.5 * len(sets), 4.5), 0.5 + 2.8 * max(len(halves), 1))
figure, axes = plt.subplots(max(len(halves), 1), len(sets), figsize=size, sharey="row", squeeze=False)
names = list(dict.fromkeys(shown["network"]))
sizes = dict(zip(names, np.linspace(180, 40, len(names)), strict=True))  # so that one shows under another
for line, (column, text) in zip(axes, halves.items(), strict=False):
    for axis, name in zip(line, sets, strict=True):
        facts = {"x": psnr_column, "y": column, "hue": "network", "style": "set", "palette": colours}
        facts |= {"size": "network", "sizes": sizes}
        sns.scatterplot(shown[shown["set"] == name], **facts, legend=axis is axes[0, -1], ax=axis)
        axis.margins(0.1)
        axis.xaxis.set_major_locator(plt.MaxNLocator(3))
        axis.set(title=name, xlabel="PSNR in dB", ylabel=f"{text}\n(down is better)")
        if column == niqe_column and name in natural:
            axis.axhline(natural[name], color="0.4", linestyle="--")
if halves:
    figures.plain_legend(axes[0, -1], sets=False)
figures.save(figure, output / "plane")

# %%
agreement = {}
for name, part in shown[shown["method"].isin(known)].groupby("set"):
    agreement[name] = part[psnr_column].corr(-part[lpips_column], method="spearman")
    with_niqe = part[psnr_column].corr(-part[niqe_column], method="spearman")
    print(f"{name}: agreement of the order by PSNR with that by LPIPS {agreement[name]:+.2f},", end=" ")
    below = part[part[niqe_column] < natural.get(name, np.nan)]["network"].tolist()
    print(f"by NIQE {with_niqe:+.2f}; more natural than the references by NIQE: {', '.join(below) or 'none'}")
    by_pixels = part[part["method"] != "srgan"]
    alike = by_pixels[psnr_column].corr(-by_pixels[lpips_column], method="spearman")
    print(f"    without SRGAN, whose training did not aim at PSNR: by LPIPS {alike:+.2f}")
print(f"(Spearman's rank correlation over {len(known)} networks; 1: the same order, -1: the reverse)")

# %% [markdown]
# ## Real photos, as they are
#
# So far every input was a sharp photo, downscaled by 4. These eight photos were not downscaled: cuts of 72 × 96 pixels
# of photos as they are, four of them JPEG, one taken with a moving camera. (Flower by vultilion, China by
# danielbuechele, both CC BY 2.0; the others are in the public domain, CC0, or have no known restrictions. The laptop's
# profile trains on some of them.) There is no reference, so no PSNR and no LPIPS. NIQE is left, and to look: is there
# texture on the water, next to the strokes of the pen, between the stars, that bicubic interpolation does not have?

# %%
cuts = {"rocket": (150, 300), "flower": (150, 250), "china": (200, 400), "hubble_deep_field": (320, 420)}
cuts |= {"coins": (20, 50), "camera": (80, 190), "text": (44, 20), "clock_motion": (90, 130)}
everything = {}
for split in ("test", "validation", "train"):
    everything |= photos.load_sets(data, ["samples"], split=split)
real = {name: everything[f"samples/{name}"][top : top + 72, left : left + 96] for name, (top, left) in cuts.items()}
enlarged = {"bicubic": {name: evaluate.bicubic(scale)(photo) for name, photo in real.items()}}
for method in (m for m in order if m in by_method):
    enlarged[titles[method]] = {name: rvlib.restore(by_method[method], photo) for name, photo in real.items()}
scores = pd.DataFrame(
    {m: {n: metrics.niqe(i) if has_niqe else np.nan for n, i in made.items()} for m, made in enlarged.items()}
)
tables.write_rows(scores.rename_axis("photo").reset_index(), output / "real")
scores.rename(index=lambda name: name.replace("_", " ")).style.format(precision=2, na_rep="–")

# %%
columns = dict.fromkeys(
    ["bicubic", titles[quality[known].idxmax()], titles.get("srgan") if "srgan" in known else "bicubic"]
)
looked_at = ("china", "hubble_deep_field", "coins", "text")
figure = figures.images(
    {f"{name.replace('_', ' ')}, {method}": enlarged[method][name] for name in looked_at for method in columns},
    columns=len(columns),
    width=2.6,
)
figures.save(figure, output / "real")
if has_niqe:
    for method in [name for name in scores if name != "bicubic"]:
        told = statistics.paired_difference(scores[method], scores["bicubic"]).text(2)
        lowest = (scores.idxmin(axis=1) == method).sum()
        print(f"{method}: NIQE less that of bicubic {told}; lowest on {lowest} of {len(scores)}")

# %% [markdown]
# The noise, grain and blocks of a real photo are enlarged like everything else: none of these networks learned to
# remove them. NIQE is lower for what is sharp, and cannot say whether a stroke of the pen was there. `02_degradations`
# shows how networks for real photos are trained.

# %% [markdown]
# ## Inputs that were made in another way
#
# All networks learned from MATLAB's bicubic filter. The maps show the mean over three photos of 128 × 128 pixels when
# the small photo comes from other filters (Pillow's bicubic; area: the mean of 4 × 4 pixels; OpenCV's bicubic, which
# does not antialias), from a blurred photo (Gaussian, standard deviation 1 and 2 pixels), or has noise (standard
# deviation 1, 3, 10 grey levels) or JPEG (quality 95, 75, 30) on it.

# %%
few = {name: photos.sample(name)[64:192, 128:256] for name in ("astronaut", "chelsea", "coffee")}
tested = evaluate.baseline("super-resolution", scale)
tested |= {(m, label): evaluate.with_model(by_method[m]) for m in order if m in by_method}
rough = robustness.measure(tested, few, "super-resolution", chosen[0])
tables.write(rough, output / "robustness")
figure = robustness.figure(rough, chosen[0], "bicubic", titles)
figures.save(figure, output / "robustness")
untouched = next(iter(evaluate.baseline("super-resolution", scale)))
worse = {key: robustness.harmed(rough, psnr_column, key, untouched) for key in tested if key != untouched}
print(f"worse than bicubic, on {rough['photo'].nunique()} photos:")
for (method, _), found in worse.items():
    print(f"  {titles[method]}: {robustness.in_words(*found)}")
print(f"({statistics.by_chance(len(worse) * rough['condition'].nunique())})")

# %% [markdown]
# ## Takeaways

# %%
for name in sets:
    decided = gaps[(gaps["set"] == name) & gaps["measure"].str.startswith("PSNR")]
    unclear = decided[(decided["low"] <= 0) & (decided["high"] >= 0)]["comparison"]
    print(
        f"{name}: order by PSNR",
        " < ".join(titles[m] for m in order) + ";",
        f"not told apart: {list(unclear) or 'none'}",
    )
ends = {c: {name: titles.get(m, m) for name, m in best[c].items()} for c in (psnr_column, lpips_column)}
differs = [name for name in sets if ends[psnr_column].get(name) != ends[lpips_column].get(name)]
print(f"on {len(differs)} of {len(sets)} sets PSNR and LPIPS choose different winners")
if has_niqe:
    natural_first = {name: titles.get(m, m) for name, m in best[niqe_column].items()}
    print("most natural by NIQE:", natural_first, "; lowest on the real photos:", scores.mean().idxmin())
lost = strokes.drop(index="bicubic")
print(f"of the ink of printed text, the networks lose {lost['lost, %'].min():.0f} to {lost['lost, %'].max():.0f} %")
harmed = pd.Series([condition for decided, _ in worse.values() for condition in decided], dtype=str).value_counts()
told = ", ".join(f"{condition} ({number} of {len(worse)})" for condition, number in harmed.items())
print("conditions in which networks are worse than bicubic, told apart:", told or "none")

# %% [markdown]
# - Compare rows only where the protocol is the same; a claim without a protocol is shown, not ranked.
# - Compare on the same photos, with an interval. A mean over five photos decides little.
# - An order of methods is an order of budgets, too, unless these are equal.
# - A method that wins by PSNR can lose by LPIPS, and the reverse. A measure without a reference answers another
#   question.
#
# **What can go wrong in practice**
# - A real photo was not downscaled by MATLAB. Noise and JPEG are enlarged along with it: see the right half of the
#   maps.
# - A network trained against a discriminator invents texture. Do not read text or faces out of it.
# - A result that looks right can still be wrong in its details: compare with something you know, such as a sign or a
#   face.
#
# ## Try it
#
# **1.** Measure on RGB (`measures.for_task("deblurring")`). Which method loses most, and why?
#
# <details><summary>Solution</summary>
#
# FSRCNN and all classical methods restore the luminance and enlarge the chroma by interpolation, or treat all channels
# alike. On RGB the chroma counts, and errors of the chroma are larger for FSRCNN than for networks that restore all
# three channels. All values are lower than on luminance: BT.601 scales it to 16 to 235, which alone gives about 1.3 dB.
# </details>
#
# **2.** Give a folder of your own photos to `test_sets` (a name with a slash is a path). How many photos do you need to
# tell the first two methods apart?
#
# <details><summary>Solution</summary>
#
# Take the standard deviation s of the difference per photo, and its mean d. The interval reaches $t\,s/\sqrt n$ to each
# side, with Student's t for n - 1 degrees of freedom. An n with $t\,s/\sqrt n < |d|$ decides in about half of all
# samples only. To succeed four times in five, ask for $(t + 0.84)\,s/\sqrt n < |d|$ (0.84 is the 80 % quantile of the
# normal distribution). For many photos t is 2, and n is $(2.8\,s/d)^2$. Urban100 needs few, Set5 may have too few.
# </details>

# %%
assert set(rows["set"]) == set(test_sets)
first, second = order[-1], order[-2]
ahead = per_photo[first] - per_photo[second]
numbers = np.arange(2, 100_000)
reaches = (student.ppf(0.975, numbers - 1) + 0.84) * ahead.std() / np.sqrt(numbers)
needed = numbers[reaches < abs(ahead.mean())]
enough = f"about {needed[0]:,}" if len(needed) else "100,000 or more"
print(f"to tell {titles[first]} from {titles[second]} on photos like these, four times in five, takes {enough} photos")

# %% [markdown]
# ## Further reading
#
# - Irani and Peleg 1991, *Improving Resolution by Image Registration*,
#   [doi:10.1016/1049-9652(91)90045-L](https://doi.org/10.1016/1049-9652(91)90045-L)
# - Zhang et al. 2018, LPIPS, [doi:10.48550/arXiv.1801.03924](https://doi.org/10.48550/arXiv.1801.03924)
# - Blau and Michaeli 2018, *The Perception-Distortion Tradeoff*,
#   [doi:10.48550/arXiv.1711.06077](https://doi.org/10.48550/arXiv.1711.06077)
# - Mittal, Soundararajan and Bovik 2013, NIQE, [doi:10.1109/LSP.2012.2227726](https://doi.org/10.1109/LSP.2012.2227726)
# - Zhang et al. 2021, BSRGAN, [doi:10.48550/arXiv.2103.14006](https://doi.org/10.48550/arXiv.2103.14006): networks for
#   inputs that nobody made by a known filter
#
# Next: `10_compare_deblurring`, the other task.
