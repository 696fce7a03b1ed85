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
# **Which network fits your machine?** Parameters say how large the file is, multiply-adds how much work a photo is, peak
# memory which photo still fits, and the runtime what all of that means on this computer. They agree in order more than
# in proportion, and how far they do is measured here.
#
# **You will see**
# - the four measures for every method in its official size, taken the same way,
# - how time and memory grow with the photo and with the batch, with the fitted exponents,
# - where the time goes, what the official code takes, and quality against cost for what this profile trained.
#
# Needs: nothing; quality needs `09`. Time: a minute on two CPU cores.

# %%
import re
import time
from collections.abc import Callable
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import Markdown
from torch.profiler import ProfilerActivity
from torch.profiler import profile as profile_torch
from torch.utils.flop_counter import FlopCounterMode

import rvlib
from rvlib import complexity, study
from rvlib.study import figures, tables
from rvlib.models import MODELS, swinir

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where results are written and read
side = 32  # of the small photo for super-resolution; deblurring gets one twice as large
repeats = 3  # of each timing; the median counts
sides = [16, 32, 48, 64]  # for the growth with the photo

# %% [markdown]
# ## The networks, in their official sizes
#
# Weights do not matter here, so fresh ones do. Super-resolution is by 4; `create` builds an official size where it is told
# no other (SwinIR's light one, NAFNet's of width 32). PlainNet and Baseline are the two steps before NAFNet.

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
# - **Multiply-adds** are counted while the network runs, per pixel of the restored photo.
# - **Peak memory** is the most that a forward holds at a time beside its weights, followed tensor by tensor, per pixel.
# - **Runtime** is measured: the median of several runs after one that does not count. It belongs to this machine, and the
#   table names its number of threads; ratios carry over better than seconds.


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
print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
Markdown(tables.markdown(cost))

# %% [markdown]
# ### Does size tell the cost?

# %%
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.2), sharey=True)
for axis, column in zip(axes, ["parameters", "multiply-adds per pixel", "microseconds per pixel"], strict=True):
    sns.barplot(cost, x=column, y="method", hue="method", palette=figures.COLORS, ax=axis, legend=False)
    axis.set(xscale="log", ylabel="")
figures.save(figure, output / "cost")
ranks = cost[["parameters", "multiply-adds per pixel", "microseconds per pixel"]].rank()
agreement = ranks.corr()["microseconds per pixel"].drop("microseconds per pixel")
print("rank correlation with the runtime:", agreement.round(2).to_dict())

# %% [markdown]
# **Question:** do multiply-adds predict the time? If they did, the time per multiply-add would be the same for all.

# %%
rate = cost.set_index("method").eval("`multiply-adds per pixel` / `microseconds per pixel`") / 1e3
rate = rate.rename("billion multiply-adds per second").sort_values(ascending=False)
print(f"from {rate.min():.1f} to {rate.max():.1f}: a factor of {rate.max() / rate.min():.1f} between the extremes")
matrix = torch.rand(1536, 1536)
rate["a product of large matrices"] = 1536**3 / seconds(torch.mm, matrix, matrix) / 1e9  # what the machine can do
rate.round(1).to_frame()

# %% [markdown]
# They do so only roughly. Large dense convolutions run near the machine's rate; depthwise convolutions, normalisation,
# softmax and everything that moves memory without multiplying much do not.
#
# ## How it grows with the photo, and with the batch
#
# If time is proportional to $\text{pixels}^p$, the exponent $p$ is the slope in the logarithmic plot. A value of 1 is what
# convolutions and windows promise; attention over all pixels would give 2. The same pixels come once as one photo, once as
# a batch of small ones.

# %%
growth = []
for name, model in networks.items():
    small = photo(model, sides[0])
    for length in sides:
        batch = small.repeat(round((length / sides[0]) ** 2), 1, 1, 1)
        for by, x in (("photo", photo(model, length)), ("batch", batch)):
            point = {"method": name, "grows by": by, "pixels": x.shape[0] * x.shape[-1] ** 2}
            growth.append(
                {**point, "seconds": seconds(model, x), "megabytes": complexity.peak_memory(model, x) / 2**20}
            )
growth = pd.DataFrame(growth)
exponents = {
    key: {c: np.polyfit(np.log(part["pixels"]), np.log(part[c]), 1)[0] for c in ("seconds", "megabytes")}
    for key, part in growth.groupby(["method", "grows by"], sort=False)
}
tables.write(growth, output / "growth")
exponents = pd.DataFrame(exponents).T.unstack().reindex(list(networks))
exponents.columns = [f"{measure}, {by}" for measure, by in exponents.columns]
exponents.rename_axis("exponent of").style.format(precision=2)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
for axis, column in zip(axes, ("seconds", "megabytes"), strict=True):
    lines = {"x": "pixels", "y": column, "hue": "method", "style": "grows by", "markers": True}
    sns.lineplot(growth, **lines, palette=figures.COLORS, ax=axis)
    axis.set(xscale="log", yscale="log", xlabel="pixels of the input")
axes[0].legend().remove()
axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
figures.save(figure, output / "growth")

# %% [markdown]
# The exponents of memory are 1, or less where a part of it does not grow with the photo (SwinIR, below); those of time are
# near 1, and below where small photos do not fill the machine. Nothing in these networks looks from one photo of a batch to
# another, so that a batch costs what its pixels cost.
#
# ## Where the time goes
#
# Left, the kind of layer that does the counted multiply-adds; right, what the clock says of the same forward.

# %%
KINDS = {
    "convolution": "conv",
    "matrix product": "mm",
    "normalisation": "norm|mean",
    "activation": "elu|softmax|sigmoid",
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
    with torch.inference_mode(), profile_torch(activities=[ProfilerActivity.CPU]) as record:
        model(x)
    counted = pd.Series({str(key): count for key, count in counter.get_flop_counts()["Global"].items()})
    taken = pd.Series({event.key: event.self_cpu_time_total for event in record.key_averages()})
    for shares, values in ((work, counted), (clock, taken)):
        shares[name] = values.groupby(kind).sum() / values.sum()

# %%
figure, axes = plt.subplots(1, 2, figsize=(10.5, 3), sharey=True)
colors = dict(zip((*KINDS, "other"), figures.PALETTE, strict=False))
for axis, shares, title in zip(axes, (work, clock), ("multiply-adds", "time"), strict=True):
    table = pd.DataFrame(shares).T.reindex(columns=list(colors)).fillna(0)
    table.plot.barh(stacked=True, color=colors, legend=axis is axes[1], ax=axis)
    axis.set(xlabel=f"share of the {title}", ylabel="")
axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "shares")

# %% [markdown]
# What costs no multiply-adds costs time: normalisation, activations, and moving memory between the orders that different
# layers like.
#
# ### A number that is too small
#
# No counter shows what comes next. SwinIR's shifted windows join parts of the photo that do not belong together, and the
# official code keeps them apart by adding -100 to their scores, so that softmax gives them a weight near $e^{-100}$. The
# smallest normal number of float32 is $2^{-126} \approx e^{-87}$; below it, as far as $2^{-149} \approx e^{-103}$, numbers are
# *subnormal*, and many CPUs hand them to slow microcode. Here half of the scores get a mask, and the clock times the
# product of the weights with the values:

# %%
scores, values = 0.1 * torch.randn(96, 64, 64), torch.rand(96, 64, 30)
masked = []
for mask in (-20, -60, -80, -90, -100, -110, -np.inf):
    weights = torch.cat([scores[..., :32], scores[..., 32:] + mask], dim=-1).softmax(dim=-1)
    is_subnormal = ((weights > 0) & (weights < torch.finfo(weights.dtype).tiny)).any().item()
    taken = 1e3 * seconds(torch.bmm, weights, values)
    masked.append({"mask": f"{mask:.0f}", "milliseconds": taken, "subnormal": is_subnormal})
masked = pd.DataFrame(masked)
figure, axis = plt.subplots(figsize=(6, 2.6))
sns.barplot(masked, x="mask", y="milliseconds", hue="subnormal", palette=figures.PALETTE[:2], legend=False, ax=axis)
axis.set(xlabel="added to the scores (second colour: weights are subnormal)", yscale="log")
figures.save(figure, output / "subnormal")
slower = masked["milliseconds"].max() / masked["milliseconds"].iloc[-1]
print(f"the slowest mask costs {slower:.0f} times as much as -∞, for the same result")

# %% [markdown]
# The library masks with $-\infty$: weights of exactly 0, and every restored value as before, since $e^{-100}$ is far below
# what a sum near 1 can hold in float32. Half of the layers have such windows at two borders of the photo, and this alone was
# a quarter of the classical network's time. A profile names the slow operation, a plain product of matrices; only its
# rate, a tenth of what the same product does elsewhere, gives it away.
#
# ### A few windows at a time
#
# The scores of SwinIR's windows, 64 × 64 numbers for each head, are its largest tensors, and each window's are needed once.
# On a CPU the library therefore computes 32 windows at a time:

# %%
swin, x = networks["swinir"], torch.rand(1, 3, 2 * side, 2 * side)
at_once = [1, 4, 16, 32, 64]
passes = []
for number in at_once:
    with mock.patch.object(swinir, "AT_ONCE", number):
        point = {"seconds": seconds(swin, x), "megabytes": complexity.peak_memory(swin, x) / 2**20}
    passes.append({"windows at a time": number, **point})
passes = pd.DataFrame(passes)
figure, axes = plt.subplots(1, 2, figsize=(8.5, 2.8))
for axis, column in zip(axes, ("seconds", "megabytes"), strict=True):
    sns.lineplot(passes, x="windows at a time", y=column, marker="o", ax=axis)
    axis.set(xscale="log", ylim=(0, 1.1 * passes[column].max()))
    axis.set_xticks(at_once, labels=map(str, at_once))
    axis.minorticks_off()
figures.save(figure, output / "at_once")

# %% [markdown]
# One window at a time pays for calling each operation more often; more than needed hold memory for nothing. Memory that is
# given back and asked for again costs time, too, for the system clears each page before it hands it out. How much depends on
# what the process did before: with nothing kept, it was a third of a forward's time here. `MALLOC_TRIM_THRESHOLD_` and
# `MALLOC_MMAP_THRESHOLD_` (in bytes, in the environment) make the usual allocator of Linux keep more.
#
# ## Against the official code
#
# `make bench` times this library against its peers: the official implementation as the package spandrel carries it, or,
# where no package has one, the plain form of the same computation. Both take turns in one run, with the same weights and
# inputs, and must give the same outputs. What it found last, on two CPU cores:

# %%
ratios = pd.read_csv(rvlib.ROOT / "benchmarks" / "ratios.csv")
Markdown(tables.markdown(ratios))

# %%
shown = ratios.sort_values("times faster")
figure, axis = plt.subplots(figsize=(8, 0.36 * len(shown) + 0.8))
axis.barh(shown["what"] + ", against " + shown["peer"], shown["times faster"], color=figures.PALETTE[0])
axis.scatter(shown["target"], shown["what"] + ", against " + shown["peer"], marker="|", s=200, color="black", zorder=3)
axis.axvline(1, color="0.4", linestyle="--")
axis.set(xscale="log", xlim=(0.4, 200), xlabel="times faster than the peer (black: what was aimed at)")
ticks = [0.5, 1, 2, 5, 10, 30, 100]
axis.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
axis.minorticks_off()
figures.save(figure, output / "ratios")

# %% [markdown]
# The bound is what the multiply-adds alone would take at the rate of a product of large matrices, measured in the same run
# (a training step has three times those of its forward). Above it lie softmax, normalisation, activations and sums,
# depthwise convolutions, which multiply little for what they read, and new memory. NAFNet comes nearest: most of its time
# are 1 × 1 convolutions at four fifths of the bound's rate, which both sides call from the same library, so that hardly
# more can be gained: its training step, like SwinIR light in half precision, ends above its mark in some runs and a few
# percent below it in others. The resize reads each pixel once, but multiplies eight in vain for each that counts: it is far ahead
# of a port that goes value by value, not so far of those that take a line or all at once.
#
# What it took: memory ordered by pixels, with all channels of a pixel together, and normalisation in one pass over it
# (NAFNet, DiffIR); blocks whose first half is freed before the second runs (NAFNet); lengths of queries and keys divided out
# after their product (DiffIR); the deconvolution as a small convolution and a shuffle (FSRCNN); the last 9 × 9 convolution
# row by row of its kernel (SRGAN); no subnormal numbers and few windows at a time (SwinIR); the Gaussian window of SSIM one
# axis after the other; the matrix of the resize in bands. Those of the networks are in `rvlib.fast`, each next to the plain
# form that defines it.
#
# ## A photo that does not fit
#
# `rvlib.restore` cuts large photos into tiles. Measured by `make bench`: resident memory beyond the photo, the restored
# photo and what the process holds without them, for half of a photo and the whole of it.

# %%
beyond = pd.read_csv(rvlib.ROOT / "benchmarks" / "memory.csv")
figure, axis = plt.subplots(figsize=(7, 3))
half = beyond.groupby("model")["megapixels"].transform("min") == beyond["megapixels"]
sns.barplot(beyond.assign(photo=np.where(half, "half", "whole")), x="MiB beyond", y="model", hue="photo", ax=axis)
axis.axvline(2048, color="0.4", linestyle="--")
figures.save(figure, output / "tiles")
Markdown(tables.markdown(beyond))

# %% [markdown]
# ## Quality for cost
#
# What a profile trained, against what it costs to run. In the demo nothing is trained, so the picture waits for a pipeline
# run.

# %%
file = study.output(profile, "compare_super_resolution") / "rows.csv"
rows = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["method", "seconds", "psnr_y_crop4", "set"])
quality = rows.groupby(["set", "method"])[["seconds", "psnr_y_crop4"]].mean().reset_index()
if len(quality):
    figure, axis = plt.subplots(figsize=(6, 3.6))
    sns.scatterplot(
        quality, x="seconds", y="psnr_y_crop4", hue="method", style="set", palette=figures.COLORS, s=70, ax=axis
    )
    axis.set(xscale="log", xlabel="seconds per photo", ylabel="PSNR in dB (Y, crop 4)")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    figures.save(figure, output / "quality")

# %% [markdown]
# ## Takeaways

# %%
cheapest = cost[cost["task"] == "super-resolution"].set_index("method")["microseconds per pixel"]
print(f"a pixel of {cheapest.idxmax()} costs as much as {cheapest.max() / cheapest.min():.0f} of {cheapest.idxmin()}")
tables.write_json(
    {"microseconds_per_pixel": cost.set_index("method")["microseconds per pixel"].to_dict()}, output / "summary.json"
)

# %% [markdown]
# | you have | take |
# |---|---|
# | a video, a phone, no time | FSRCNN: the only one of the study that runs at such rates |
# | photos and a CPU | a small SwinIR or SRResNet: minutes for a large photo |
# | photos and a GPU | SwinIR or DiffIR in full size |
# | a need for texture that looks right | a network trained against a discriminator (`05_srgan`), knowing that it guesses |
#
# ## Try it
#
# 1. Set the number of threads (`torch.set_num_threads`) to 1 and to all. Which network gains least from the second core?
# 2. Put a network into `torch.channels_last` memory order and time it again.
# 3. Predict the memory for a photo of 12 megapixels from the exponents, and check the prediction's order of magnitude:

# %%
per_pixel = cost.set_index("method")["peak bytes per pixel"] * 16
predicted = per_pixel["fsrcnn"] * 12e6 / 2**30
print(f"FSRCNN on 12 megapixels: {predicted:.1f} GiB in one piece; rvlib.restore cuts it into tiles")
assert 1 < predicted < 100

# %% [markdown]
# Next: `12_report`, everything on one page.
