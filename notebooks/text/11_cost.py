# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11 · Cost: what a decibel is paid with
#
# **Which network fits your machine?** Parameters say how large the file is, multiply-adds how much work a photo is,
# peak memory which photo still fits, and the runtime what all of that means on this computer. How far they agree is
# measured here.
#
# **You will see**
# - the four measures for every method in its official size, taken the same way,
# - why papers print other multiply-adds than a counter does,
# - decibels against multiply-adds: the networks of this study next to today's efficient ones,
# - how time and memory grow with the photo, and which network keeps up with a video on this machine.
#
# Needs: nothing. Time: a minute on two CPU cores.

# %%
import re
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profile_torch
from torch.utils.flop_counter import FlopCounterMode

import rvlib
from rvlib import complexity, study
from rvlib.study import figures, tables
from rvlib.models import MODELS, method_of

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where results are written and read
side = 32  # of the small photo for super-resolution; deblurring gets one twice as large
repeats = 3  # of each timing; the median counts
sides = [16, 24, 32, 48]  # for the growth with the photo

# %% [markdown]
# ## The networks, in their official sizes
#
# Weights do not matter here, so the networks have fresh ones. Super-resolution is by 4. `create` builds the official
# size if it is told no other. Two choices: SwinIR is the *light* one, and NAFNet has width 32. PlainNet and Baseline
# are the two steps before NAFNet. SRGAN is the paper's generator with batch normalisation; the released weights below
# are of BasicSR's, which has none (`05_srgan`).

# %%
torch.manual_seed(0)
networks = {name: rvlib.create(name) for name in MODELS}


def photo(model: torch.nn.Module, length: int) -> torch.Tensor:
    """A random photo for a network: twice the side where nothing is enlarged."""
    length = length if model.scale > 1 else 2 * length
    return torch.rand(1, model.channels, length, length)


# %% [markdown]
# ## Four measures
#
# - **Parameters** are counted.
# - **Multiply-adds** are counted while the network runs, per pixel of the restored photo, each layer as it is defined:
#   the library computes some of them in a faster form, which may multiply more.
# - **Peak memory** is the most that a forward holds at a time in addition to its weights, followed tensor by tensor,
#   per pixel.
# - **Runtime** is measured: the median of several runs after one that does not count. It belongs to this machine, and
#   the line above the table names its number of threads; ratios carry over better than seconds.


# %%
def seconds(model: Callable, *inputs: torch.Tensor) -> float:
    """Median time of a forward."""
    taken = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            started = time.perf_counter()
            model(*inputs)
            taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))


# %%
measured = []
for name, model in networks.items():
    x = photo(model, side)
    pixels = x.shape[-1] ** 2 * model.scale**2
    row = {"method": name, "task": model.task, "parameters": complexity.parameters(model)}
    row["multiply-adds per pixel"] = complexity.multiply_adds(model, x) / pixels
    row["peak bytes per pixel"] = complexity.peak_memory(model, x) / pixels
    row["microseconds per pixel"] = 1e6 * seconds(model, x) / pixels
    measured.append(row)
cost = pd.DataFrame(measured)
output = study.output(profile, "cost")
tables.write(cost, output / "cost")
THREADS = f"{torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
print(f"{THREADS}, torch {torch.__version__}")
NAMES = tables.NAMES
shown = cost.assign(method=cost["method"].map(NAMES))
digits = {"multiply-adds per pixel": "{:,.0f}", "peak bytes per pixel": "{:,.0f}", "microseconds per pixel": "{:.2f}"}
shown.style.format({**digits, "parameters": "{:,}"}).hide(axis="index")

# %% [markdown]
# ### Does size tell the cost?

# %%
order = cost.sort_values("microseconds per pixel")
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.2), sharey=True)
for axis, column in zip(axes, ["parameters", "multiply-adds per pixel", "microseconds per pixel"], strict=True):
    sns.stripplot(order, x=column, y="method", hue="method", palette=figures.COLORS, s=9, ax=axis, legend=False)
    axis.grid(axis="y")
    axis.set(xscale="log", ylabel="", xlabel=column + (" of the result" if "pixel" in column else ""))
axes[0].set_yticks(range(len(order)), labels=[NAMES.get(name, name) for name in order["method"]])
figures.save(figure, output / "cost")
ranks = cost[["parameters", "multiply-adds per pixel", "microseconds per pixel"]].rank()
agreement = ranks.corr()["microseconds per pixel"].drop("microseconds per pixel")
print(f"rank correlation with the runtime over {len(cost)} networks:", agreement.round(2).to_dict())

# %% [markdown]
# **Question:** do multiply-adds predict the time? If they did, the time per multiply-add would be the same for all.

# %%
rate = cost.set_index("method").eval("`multiply-adds per pixel` / `microseconds per pixel`") / 1e3
rate = rate.rename("billion multiply-adds per second").sort_values(ascending=False)
print(
    f"from {rate.min():.1f} to {rate.max():.1f} billion multiply-adds per second: a factor of {rate.max() / rate.min():.1f} between the extremes"
)
matrix = torch.rand(1536, 1536)
rate["for comparison: a product of matrices"] = 1536**3 / seconds(torch.mm, matrix, matrix) / 1e9
rate.rename(index=NAMES).round(1).to_frame()

# %% [markdown]
# They do so only roughly, as the factor says. The product of matrices need not be an upper limit: convolution routines
# may need fewer multiplications than are counted, and a busy machine slows some rows and not others. Depthwise
# convolutions, normalisation, softmax and everything that moves memory multiply little for what they read. "Where the
# time goes", below, shows it for all but the depthwise convolutions, which it counts among the convolutions.
#
# ## What papers count
#
# Tables of super-resolution give multiply-adds for a result of 1280 × 720 pixels, tables of deblurring for 256 × 256.
# Their numbers and those of a counter can differ by a factor, and both be right. FSRCNN is the clearest case. Its
# formula has 7,928 weights that work on the small photo, and a deconvolution with $9^2 \cdot 56 = 4{,}536$ weights.

# %%
small, large = 1280 * 720 // 16, 1280 * 720
before, deconvolution = 5**2 * 56 + 56 * 12 + 4 * 3**2 * 12**2 + 12 * 56, 9**2 * 56
counts = {
    "the paper's formula: all on the small photo": (before + deconvolution) * small,
    "as it runs here: a 3 × 3 convolution and a shuffle": before * small + 9 * 56 * 16 * small,
    "tables: the deconvolution per large pixel": before * small + deconvolution * large,
}
for name, count in counts.items():
    print(f"{name:50} {count / 1e9:.2f} billion")
counted = cost.set_index("method")["multiply-adds per pixel"]
assert counted["fsrcnn"] * large == counts["the paper's formula: all on the small photo"]

# %% [markdown]
# A deconvolution of stride 4 multiplies each weight once per *small* pixel. Counted per large pixel it is 16 times as
# much: so tables say 4.6 billion where the paper's formula gives 0.72, which is what is counted here. What the library
# computes is in between: the same sum as a convolution whose kernels are partly zero.
#
# The next table compares counters with print. SwinIR's number in print is lower than counted here by 11.7 billion. The
# two products of each attention are 10.6 of them, so print seems to leave these out. SwinIR's parameters in print,
# 897,000, are fewer by those of the convolution after the last block, which makes 1.9 billion multiply-adds.

# %%
printed = pd.DataFrame(
    [
        ("srcnn", "1280 × 720", large, 52.7, "LapSRN's and CARN's tables"),
        ("fsrcnn", "1280 × 720", large, 4.6, "CARN's table"),
        ("swinir", "1280 × 720", large, 49.6, "SwinIR, table 3"),
        ("nafnet", "256 × 256", 256**2, 16.0, "NAFNet, section 5.1"),
    ],
    columns=["method", "result in pixels", "pixels", "printed, billions", "where"],
)
printed.insert(3, "counted here, billions", printed["method"].map(counted) * printed["pixels"] / 1e9)
printed["method"] = printed["method"].map(NAMES)
printed.drop(columns="pixels").style.format(precision=1).hide(axis="index")

# %% [markdown]
# ## Decibels against multiply-adds
#
# The filled dots are the released networks of this study, drawn where the profile measured Urban100: gain over bicubic
# interpolation as measured in `09_compare_super_resolution` (in the demo: the committed rows of the release profile),
# and multiply-adds as counted. SwinIR and DiffIR are small here, and all were trained for hours at most. The hollow
# dots are published: today's efficient networks, trained for days on GPUs, with multiply-adds as their tables count
# them. The published networks saw far more training and data, so compare heights within one group only. SRGAN is
# trained for looks and pays in PSNR; its network is SRResNet's.

# %%
peers = pd.read_csv(Path(tables.__file__).parent / "efficient.csv")
rows = study.experiment(profile, "compare_super_resolution/rows")
wanted = "Urban100" if rows is not None and "Urban100" in set(rows["set"]) else "samples"
ours = []
for name in rvlib.released():
    model = rvlib.load(name)
    if model.scale == 1 or rows is None:
        continue
    work = complexity.multiply_adds(model, torch.rand(1, model.channels, 32, 32)) / (16 * 32**2) * large / 1e9
    part = rows[(rows["set"] == wanted) & rows["label"].isin(["released weights", "bicubic input"])]
    psnr = part[part["method"] == method_of(name)]["psnr_y_crop4"].mean()
    gain = psnr - part[part["method"] == "bicubic"]["psnr_y_crop4"].mean()
    row = {"network": NAMES[method_of(name)], "parameters": complexity.parameters(model)}
    ours.append({**row, "giga multiply-adds": work, "gain": gain, "method": method_of(name)})
ours = pd.DataFrame(ours)
BICUBIC = 23.14  # on Urban100, by the literature and here
peers["gain"] = peers["Urban100"] - BICUBIC

# %%
figure, axis = plt.subplots(figsize=(8.5, 4.2))
known = peers.dropna(subset="giga multiply-adds")
axis.scatter(known["giga multiply-adds"], known["gain"], facecolors="none", edgecolors="0.35", s=45, label="published")
crowded = {"OmniSR", "ATD-light", "HiT-SRF"}  # whose labels stand on the other side
for row in known.itertuples():
    at = {"xytext": (-6, -3), "ha": "right"} if row.network in crowded else {"xytext": (6, -3)}
    axis.annotate(f"{row.network} {row.year}", (row[4], row.gain), textcoords="offset points", fontsize=8, **at)
if len(ours) and wanted == "Urban100":
    for row in ours.itertuples():
        axis.scatter(row[3], row.gain, color=figures.COLORS[row.method], s=55)
        others = [other for other in ours.itertuples() if other.Index != row.Index]
        is_left = any(1 <= other[3] / row[3] < 2 and abs(other.gain - row.gain) < 0.25 for other in others)
        at = {"xytext": (-6, -3), "ha": "right"} if is_left else {"xytext": (6, -3)}
        axis.annotate(row.network, (row[3], row.gain), textcoords="offset points", fontsize=9, **at)
    axis.scatter([], [], color="0.35", s=55, label="released, measured here")
axis.set(xscale="log", xlabel="multiply-adds for 1280 × 720 pixels, billions")
axis.set(ylabel="gain over bicubic on Urban100 in dB", xlim=(0.5, 1500))
axis.legend(loc="upper left")
figures.save(figure, output / "efficiency")

# %%
together = pd.concat([ours.assign(source="measured here") if len(ours) else ours, peers], ignore_index=True)
together["dB per billion"] = together["gain"] / together["giga multiply-adds"]
together["gain on"] = [wanted if source == "measured here" else "Urban100" for source in together["source"]]
columns = ["network", "year", "parameters", "giga multiply-adds", "gain", "gain on", "dB per billion", "source"]
together = together.reindex(columns=columns).sort_values("giga multiply-adds").reset_index(drop=True)
years = together["year"].map("{:.0f}".format).replace("nan", "–")  # no thousands
tables.write(together.assign(year=years), output / "efficiency")
shown = {"parameters": "{:,.0f}", "year": "{:.0f}", "giga multiply-adds": "{:.1f}", "gain": "{:+.2f}"}
together.style.format(shown | {"dB per billion": "{:.3f}"}, na_rep="–").hide(axis="index")

# %% [markdown]
# A dash under multiply-adds means that none was found in print; what is measured here has no year. SAFMN and SPAN are left out: their tables were not read. The next
# lines say, for each of the two groups, whether more work brings more gain. SRGAN is left out, since it was trained for
# looks. The networks measured here are few, and differ in training as well.

# %%
together = together[together["network"] != "SRGAN"]
groups = together["source"].eq("measured here").map({True: "measured here", False: "published"})
for source, part in together.dropna(subset=["giga multiply-adds", "gain"]).groupby(groups):
    rises = part["giga multiply-adds"].corr(part["gain"], method="spearman")
    small, best = part.loc[part["giga multiply-adds"].idxmin()], part.loc[part["gain"].idxmax()]
    share, work = (100 * small[key] / best[key] for key in ("gain", "giga multiply-adds"))
    print(f"{source}, {len(part)} networks: rank correlation of multiply-adds and gain {rises:+.2f};")
    print(f"    {small['network']} has {share:.0f} % of {best['network']}'s gain for {work:.1f} % of its multiply-adds")

# %% [markdown]
# Decibels per multiply-add fall with the size almost by construction, so that ratio chooses no network; the gain that
# you need does.
#
# ## How it grows with the photo, and with the batch
#
# If time is proportional to $\text{pixels}^p$, the exponent $p$ is the slope in the logarithmic plot. Convolutions and
# windows promise 1, attention over all pixels would give 2. The same pixels come once as one photo, once as a batch of
# small ones.

# %%
growth = []
for name, model in networks.items():
    small = photo(model, sides[0])
    for length in sides:
        batch = small.repeat(round((length / sides[0]) ** 2), 1, 1, 1)
        for by, x in (("photo", photo(model, length)), ("batch", batch)):
            point = {"method": name, "grows by": by, "pixels": x.shape[0] * (model.scale * x.shape[-1]) ** 2}
            growth.append({**point, "seconds": seconds(model, x), "MiB": complexity.peak_memory(model, x) / 2**20})
growth = pd.DataFrame(growth)
exponents = {
    key: {c: np.polyfit(np.log(part["pixels"]), np.log(part[c]), 1)[0] for c in ("seconds", "MiB")}
    for key, part in growth.groupby(["method", "grows by"], sort=False)
}
tables.write(growth, output / "growth")
exponents = pd.DataFrame(exponents).T.unstack().reindex(list(networks))
exponents.columns = [f"{measure}, {by}" for measure, by in exponents.columns]
exponents.rename(index=NAMES).rename_axis("exponent of").style.format(precision=2)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.6))
named = growth.assign(network=growth["method"].map(lambda name: NAMES.get(name, name)))
colours = {NAMES.get(key, key): value for key, value in figures.COLORS.items()}
for axis, column in zip(axes, ("seconds", "MiB"), strict=True):
    lines = {"x": "pixels", "y": column, "hue": "network", "style": "grows by", "markers": True}
    sns.lineplot(named, **lines, palette=colours, ax=axis)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="pixels of the result",
        ylabel={"MiB": "peak memory in MiB"}.get(column, column),
    )
axes[0].legend().remove()
axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
figures.save(figure, output / "growth")
for column in exponents:
    values = exponents[column]
    low, high = (NAMES.get(key, key) for key in (values.idxmin(), values.idxmax()))
    print(f"exponent of {column}: {values.min():.2f} ({low}) to {values.max():.2f} ({high})")
assert exponents["MiB, photo"].max() < 1.2, "no network of the study compares all pixels with all"

# %% [markdown]
# An exponent below 1 for time means that small photos do not fill the machine: each forward has a fixed part. The
# exponents of memory are counted, so they do not scatter. SwinIR's can be below 1, since a CPU takes 32 windows at a
# time and its largest tensors stop growing. The exponents of time scatter on a busy machine: run the cell again there.
#
# ## Where the time goes
#
# Left, the kind of layer that does the counted multiply-adds; right, what the profiler says of the same forward.

# %%
KINDS = {
    "convolution": "conv",
    "matrix product": "mm",
    "normalisation": "norm|mean",
    "activation": "elu|clamp_min|softmax|sigmoid",  # ReLU runs as clamp_min
    "moving memory": "copy|cat|roll|shuffle|index|fill",
}


def kind(operation: str) -> str:
    """What an operation of torch is, in one word."""
    return next((name for name, pattern in KINDS.items() if re.search(pattern, operation)), "other")


# %%
work, clock = {}, {}
for name, model in networks.items():
    x = photo(model, side)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    times = max(1, round(0.3 / seconds(model, x)))  # one forward of a small network is too short to be shared out
    with torch.inference_mode(), profile_torch(activities=[ProfilerActivity.CPU]) as record:
        for _ in range(times):
            model(x)
    counted = pd.Series({str(key): count for key, count in counter.get_flop_counts()["Global"].items()})
    taken = pd.Series({event.key: event.self_cpu_time_total for event in record.key_averages()})
    for shares, values in ((work, counted), (clock, taken)):
        shares[name] = values.groupby(kind).sum() / values.sum()

# %%
figure, axes = plt.subplots(1, 2, figsize=(10.5, 3), sharey=True)
colors = dict(zip((*KINDS, "other"), figures.PALETTE, strict=False))
for axis, shares, title in zip(axes, (work, clock), ("multiply-adds", "time"), strict=True):
    table = pd.DataFrame(shares).T.rename(index=NAMES).reindex(columns=list(colors)).fillna(0)
    table.plot.barh(stacked=True, color=colors, legend=axis is axes[1], ax=axis)
    axis.set(xlabel=f"share of the {title}", ylabel="")
axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "shares")

# %%
parts = pd.DataFrame(clock).fillna(0)
rest = 100 * parts.drop(index=["convolution", "matrix product"], errors="ignore").sum()
print("share of the time without multiply-adds, %:", {NAMES.get(n, n): f"{share:.0f}" for n, share in rest.items()})

# %% [markdown]
# Operations without multiply-adds still take time: normalisation, activations, and moving memory between the orders
# that different layers need; *other* is sums, products, views and the calls themselves. What this library does about
# it, and how it compares with official code, is in `docs/performance.md`.
#
# ## A photo that does not fit
#
# `rvlib.restore` cuts large photos into tiles. Measured by `make bench`: resident memory beyond the photo, the restored
# photo and what the process holds without them, for half of a photo and the whole of it, in megapixels of the input.
# The dashed line is 2 GiB, for comparison.

# %%
beyond = pd.read_csv(rvlib.ROOT / "benchmarks" / "memory.csv")
figure, axis = plt.subplots(figsize=(7.5, 3))
half = beyond.groupby("model")["megapixels"].transform("min") == beyond["megapixels"]
whole = beyond.groupby("model")["megapixels"].transform("max")
named = [NAMES[method_of(m)] + (", deblurring" if m.endswith("deblur") else "") for m in beyond["model"]]
beyond["network"] = [f"{name}: {size:g} megapixels" for name, size in zip(named, whole, strict=True)]
sizes = np.where(half, "half of the photo", "the whole photo")
sns.barplot(beyond.assign(photo=sizes), x="MiB beyond", y="network", hue="photo", ax=axis)
axis.axvline(2048, color="0.4", linestyle="--", label="2 GiB")
axis.set(xlabel="memory beyond photo and result in MiB", ylabel="")
axis.legend(title="", loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "tiles")
largest = beyond.loc[beyond["MiB beyond"].idxmax()]
print(f"at most {largest['MiB beyond']:.0f} MiB ({largest['network']})")
grows = (
    beyond.sort_values("megapixels").groupby("network")["MiB beyond"].agg(lambda sizes: sizes.iloc[-1] / sizes.iloc[0])
)
print(f"twice the photo takes {grows.min():.2f} to {grows.max():.2f} times that memory (most: {grows.idxmax()})")

# %% [markdown]
# ## Quality for time
#
# The networks of this profile (in the demo: those of the release profile): seconds per photo of the machine that
# measured them, and PSNR, on the sets where every network was timed. The rows name commit and date: networks timed on
# different days compare only roughly. SRResNet and SRGAN are the same network: the distance of their dots along the
# axis of time shows how large the error of the timing is at least. Differences of that size say nothing.

# %%
if rows is not None:
    named = rows[rows["label"] != "classical method"].assign(
        network=lambda t: t["method"].map(lambda m: NAMES.get(m, m))
    )
    quality = named.groupby(["set", "network"])[["seconds", "psnr_y_crop4"]].mean().dropna().reset_index()
    timed = quality.groupby("set")["network"].transform("nunique")
    quality = quality[timed == quality["network"].nunique()]
    figure, axis = plt.subplots(figsize=(6.5, 3.8))
    places = {"x": "seconds", "y": "psnr_y_crop4", "hue": "network", "style": "set"}
    sns.scatterplot(quality, **places, palette=colours, s=70, ax=axis)
    axis.set(xscale="log", xlabel="seconds per photo", ylabel="PSNR in dB (luminance, crop 4)")
    figures.plain_legend(axis)
    figures.save(figure, output / "quality")

# %% [markdown]
# ## Takeaways

# %%
time_of = cost.set_index("method")["microseconds per pixel"]
enlarging = cost[cost["task"] == "super-resolution"].set_index("method")["microseconds per pixel"]
tables.write_json({"microseconds_per_pixel": time_of.to_dict()}, output / "summary.json")
choices = pd.DataFrame({"network": [NAMES.get(name, name) for name in time_of.index]})
rough = 1e6 / (time_of * large)  # at the rate of the small photo above
measured = {
    name: 1 / seconds(model, torch.rand(1, model.channels, 720 // model.scale, 1280 // model.scale))
    for name, model in networks.items()
    if rough[name] > 4
}
choices["frames per second, 1280 × 720"] = rough.index.map(measured | rough.drop(list(measured)).to_dict())
choices["minutes for 48 megapixels of the result"] = (time_of * 48 / 60).to_numpy()
fluent = choices[choices["frames per second, 1280 × 720"] >= 24]["network"]
print(
    f"a pixel of {NAMES[enlarging.idxmax()]} takes as long as {enlarging.max() / enlarging.min():.0f} of {NAMES[enlarging.idxmin()]}"
)
print(f"24 frames per second at 1280 × 720 on this machine, {THREADS}:", list(fluent) or "none")
told = ", ".join(NAMES.get(name, name) for name in measured) or "none"
print(f"frames measured at that size: {told}; the others, and the minutes, are at the rate of the small photo above")
print("FSRCNN and SRCNN are timed on the luminance; enlarging the colours comes on top")
choices.sort_values("minutes for 48 megapixels of the result").style.format(precision=2).hide(axis="index")

# %% [markdown]
# - Time follows multiply-adds only roughly. Measure on your machine.
# - Ask how a number was counted, for which size of the result, before you compare it.
# - Ask which gain you need, then take the smallest network that has it.
# - The runtimes are those of this machine. No GPU and no phone was measured here; ratios need not carry over to them.
#
# **What can go wrong in practice**
# - A small network can be slow: few multiply-adds per byte that it moves.
# - Peak memory grows with the pixels. Without tiles a large photo ends the process.
# - The first forward is slower than the others. Warm up before you time.
#
# ## Try it
#
# **1.** Set the number of threads (`torch.set_num_threads`) to 1 and to all. Which network gains least from the second
# core?
#
# <details><summary>Solution</summary>
#
# The one with the largest share of operations that move memory, or with the smallest layers: look at the right half of "where
# the time goes". Dense convolutions and matrix products share out best.
# </details>
#
# **2.** Predict the memory for a photo of 12 megapixels from the bytes per pixel, and check the order of magnitude.
#
# <details><summary>Solution</summary>
#
# The cell below does it for FSRCNN: bytes per pixel of the result, times 16 for scale 4, times 12 million. It comes out in
# gibibytes, so `rvlib.restore` cuts such a photo into tiles.
# </details>

# %%
per_pixel = cost.set_index("method")["peak bytes per pixel"] * 16
predicted = per_pixel["fsrcnn"] * 12e6 / 2**30
print(f"FSRCNN on 12 megapixels: {predicted:.1f} GiB in one piece; rvlib.restore cuts it into tiles")
assert 1 < predicted < 100

# %% [markdown]
# ## Further reading
#
# - Williams, Waterman and Patterson 2009, *Roofline*,
#   [doi:10.1145/1498765.1498785](https://doi.org/10.1145/1498765.1498785): when memory, and when arithmetic limits the
#   speed
# - Sun et al. 2023, SAFMN, [doi:10.48550/arXiv.2302.13800](https://doi.org/10.48550/arXiv.2302.13800), Wan et al. 2024,
#   SPAN, [doi:10.48550/arXiv.2311.12770](https://doi.org/10.48550/arXiv.2311.12770), and Lee et al. 2025, ESC,
#   [doi:10.48550/arXiv.2503.06671](https://doi.org/10.48550/arXiv.2503.06671): efficient networks of today
# - Dong, Loy and Tang 2016, FSRCNN, [doi:10.48550/arXiv.1608.00367](https://doi.org/10.48550/arXiv.1608.00367)
#
# Next: `12_report`, everything on one page.
