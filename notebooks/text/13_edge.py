# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 13 · Edge: the networks outside of Python
#
# **Can these networks run on a phone?** A phone has no Python and no torch. It runs a *graph*: a file that lists the
# operations of a network with their weights. ONNX is the common format of such files. This notebook exports the
# released networks, checks that the files compute the same, and measures what smaller numbers (16 or 8 bits) save and
# what they cost in quality.
#
# **You will see**
# - what is in an exported file, and how far its results are from torch's,
# - what a frame costs in torch and in onnxruntime, in 32, 16 and 8 bits,
# - what each precision loses in PSNR and LPIPS, and which layer of FSRCNN 8 bits harm,
# - an estimate of what a small board, an accelerator and a phone could do.
#
# Needs: the extra `edge` (`pip install --constraint constraints.txt --editable '.[edge]'`); without it the rows of ONNX
# are missing. Time: a minute on two CPU cores.

# %%
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import Markdown

import rvlib
from rvlib import complexity, edge, measures, metrics, photos, recipes, study
from rvlib.models import METHODS
from rvlib.study import figures, tables
from rvlib.study.statistics import paired_difference

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where results are written
precisions = {"fsrcnn-x4": ["fp32", "fp16", "int8"], "swinir-small-x4": ["fp32"], "nafnet-deblur": ["fp32"]}
frames = {"fsrcnn-x4": [270, 480], "swinir-small-x4": [48, 64], "nafnet-deblur": [96, 128]}  # height and width
test_photos = ["chelsea", "coffee"]  # sample photos that quality is measured on
crop = 256  # the side of the part of them that is measured
repeats = 5  # of each timing
compiled = False  # whether torch.compile is timed too: it needs a C++ compiler and half a minute for each network

# %%
has_onnx = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
if not has_onnx:
    print("The extra `edge` is not installed, so only torch is measured. In the project's folder:")
    print("pip install --constraint constraints.txt --editable '.[edge]'")
output = study.output(profile, "edge")
folder = Path(tempfile.mkdtemp())
networks = {name: rvlib.load(name) for name in precisions}
tables.write_json({name: network.source["sha256"] for name, network in networks.items()}, output / "weights.json")
titles = {name: METHODS[network.method].title for name, network in networks.items()}
titles = {name: title if [*titles.values()].count(title) == 1 else name for name, title in titles.items()}

# %% [markdown]
# ## What an exported file is
#
# `rvlib.export(model, "model.onnx")` follows one forward and writes down each operation. Loops and conditions of the
# Python code are gone: what they decided is in the graph. The size of the batch, height and width stay free. Before a
# file is kept, onnxruntime runs it on three sizes, and each result is compared with torch's. A file in fp32 or fp16
# that is too far off is never written. For int8 there is no limit: its difference is told, and it can be large.
#
# `fp32` and `fp16` are floating-point numbers of 32 and 16 bits; `bf16` has 16 bits with the range of `fp32` and fewer
# digits. For `int8`, weights and activations become whole numbers $q$ of 8 bits, each tensor with its own step $s$ and
# zero point $z$:
#
# $$x \approx s\,(q - z), \qquad q = \mathrm{clip}\!\left(\mathrm{round}(x / s) + z,\; -128,\; 127\right)$$
#
# The weights are known, so their range is known (a step for each output channel). The range of an activation depends on
# the photo, so it is measured beforehand on a few *calibration* photos. Quality is measured on other photos below.
#
# By hand, on six numbers:

# %%
values = np.array([-0.62, -0.10, 0.0, 0.03, 0.41, 1.27])
step = (values.max() - values.min()) / 255
zero = round(-128 - values.min() / step)
whole = np.clip(np.round(values / step) + zero, -128, 127).astype(int)
by_hand = pd.DataFrame({"x": values, "q": whole, "s (q - z)": step * (whole - zero)})
by_hand["error"] = by_hand["s (q - z)"] - by_hand["x"]
assert by_hand["error"].abs().max() <= step / 2 + 1e-12
print(f"step {step:.5f}, zero point {zero}: no error is larger than half a step, {step / 2:.5f}")
by_hand.round(4)

# %% [markdown]
# Half a step is 0.4 % of a white pixel if the range is 0 to 2. One large value stretches the range, and then all small
# values share few steps.
#
# ## The same numbers?

# %%
files, rows = {}, []
for name, wanted in precisions.items() if has_onnx else ():
    for precision in wanted:
        path = folder / f"{name}-{precision}.onnx"
        calibration = edge.samples(networks[name], without=test_photos)  # int8 alone needs it
        difference = rvlib.export(networks[name], path, precision=precision, calibration=calibration)
        files[name, precision] = rvlib.load(path)
        rows.append(
            {
                "network": name,
                "precision": precision,
                "MB": path.stat().st_size / 1e6,
                "largest difference from torch": difference,
            }
        )
exported = pd.DataFrame(rows, columns=["network", "precision", "MB", "largest difference from torch"])
tables.write(exported, output / "exported")
if has_onnx:
    plain = exported.query("precision == 'fp32'")["largest difference from torch"]
    assert (plain < 1e-3).all(), "a file in fp32 computes what torch does"
exported.assign(network=exported["network"].map(titles)).style.format(
    {"MB": "{:.2f}", "largest difference from torch": "{:.1e}"}
).hide(axis="index")

# %% [markdown]
# Differences are of values from 0 to 1: one of 255 grey levels is 1/255 = 0.0039. In fp32 only the order of the sums
# differs. Mind the rows of fp16. The released weights are in half precision already, so rounding them again loses
# nothing. Where a row of fp16 equals that of fp32, onnxruntime computed in fp32; where it is larger, some operations or
# constants were in half precision. So these rows say little about devices that compute in half precision throughout.
#
# ## What a frame costs
#
# Every engine restores the same frame, in turns, so a slow moment of the machine hits all of them. The table gives the
# median and the range of the runs. Seconds belong to this machine at this moment; only ratios within one run of this
# notebook can be compared. The figure leaves out torch in fp32, whose share is 1 by definition; circles are
# super-resolution, squares are deblurring. (OpenCV's `dnn_superres` would be one more; its Python package brings no
# network.)


# %%
def engines(name: str) -> dict[str, Callable[..., torch.Tensor]]:
    """The ways to run a network that are here, by name."""
    network = networks[name]

    def half(*inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(*inputs)

    found = {"torch fp32": network, "torch bf16": half}
    if compiled:
        found["torch compiled"] = torch.compile(network)
    return found | {f"onnxruntime {precision}": file for (of, precision), file in files.items() if of == name}


# %%
taken = []
for name, (height, width) in frames.items():
    inputs = [torch.rand(1, networks[name].channels, height, width)]
    if networks[name].noise_size:  # DiffIR's
        inputs.append(torch.randn(1, networks[name].noise_size))
    ways = engines(name)
    for turn in range(repeats + 1):
        for engine, run in ways.items():
            started = time.perf_counter()
            with torch.inference_mode():
                run(*inputs)
            if turn:  # the first run of each only warms it up
                taken.append({"network": name, "engine": engine, "seconds": time.perf_counter() - started})
taken = pd.DataFrame(taken)
speed = taken.groupby(["network", "engine"], sort=False)["seconds"].agg(["median", "min", "max"]).reset_index()
first = speed.groupby("network", sort=False)["median"].transform("first")
speed["speed, torch fp32 = 1"] = first / speed["median"]
speed["frames per second"] = 1 / speed["median"]
tables.write(speed, output / "speed")
threads = torch.get_num_threads()
print(f"{threads} thread{'s' if threads > 1 else ''}; frames (height, width):", frames)
speed.round(3).assign(network=speed["network"].map(titles)).style.format(precision=3).hide(axis="index")

# %%
relative = taken.assign(relative=taken["seconds"] / taken["network"].map(speed.groupby("network")["median"].first()))
relative = relative[relative["engine"] != "torch fp32"].assign(network=relative["network"].map(titles))
figure, axis = plt.subplots(figsize=(8, 0.9 + 0.5 * relative["engine"].nunique()))
palette = {title: figures.COLORS[networks[name].method] for name, title in titles.items()}
style = {"estimator": "median", "errorbar": ("pi", 50), "linestyle": "none", "palette": palette}
style["markers"] = ["o" if networks[name].task == "super-resolution" else "s" for name in titles]  # colours are methods
style["hue_order"], style["dodge"] = list(palette), 0.4 if len(titles) > 1 else False
sns.pointplot(relative, x="relative", y="engine", hue="network", **style, ax=axis)  # one slow run stretches no axis
axis.axvline(1, color="0.5", linestyle="--")
axis.set(xlabel="time of a frame, as a share of torch in fp32\n(median; bars: the middle half of the runs)", ylabel="")
axis.set_xlim(0, None)
axis.legend(title="")
figures.save(figure, output / "speed")

# %% [markdown]
# ## What it loses
#
# Each engine restores the same degraded photos, and the table says how much PSNR and LPIPS change against torch in
# fp32. The protocol is that of `09_compare_super_resolution` and `10_compare_deblurring`, and is printed above the
# table.


# %%
def degraded_photo(name: str, photo: str) -> tuple[np.ndarray, np.ndarray]:
    """A sample photo's part, degraded for the task of a network, and the part itself."""
    reference = photos.sample(photo)[:crop, :crop]
    network = networks[name]
    return recipes.degradation(network.task, network.scale)(reference, np.random.default_rng(0)), reference


# %%
quality, protocols = [], {}
for name in precisions:
    ways = {"torch fp32": networks[name], "torch bf16": networks[name]}
    ways |= {f"onnxruntime {p}": file for (of, p), file in files.items() if of == name}
    chosen = measures.for_task(networks[name].task, networks[name].scale, perceptual=True)
    chosen = [measure for measure in chosen if measure.title in ("PSNR", "LPIPS")]
    protocols[networks[name].task] = "; ".join(measure.protocol for measure in chosen)
    for photo in test_photos:
        degraded, reference = degraded_photo(name, photo)
        for engine, network in ways.items():
            restored = rvlib.restore(network, degraded, precision="bf16" if engine == "torch bf16" else "fp32")
            values = {measure.title: measure.compute(restored, reference) for measure in chosen}
            quality.append({"network": name, "photo": photo, "engine": engine, **values})
quality = pd.DataFrame(quality)
tables.write(quality, output / "quality")
means = quality.groupby(["network", "engine"], sort=False)[["PSNR", "LPIPS"]].mean()
lost = means - means.groupby("network", sort=False).transform("first")
lost.columns = ["PSNR against torch (dB)", "LPIPS against torch"]
shown = (pd.concat([means, lost], axis=1).round(4) + 0.0).reset_index()  # no -0.0
print(f"means over {len(test_photos)} photos")
for task, protocol in protocols.items():
    print(f"{task}: {protocol}")
shown.assign(network=shown["network"].map(titles)).style.format(precision=4).hide(axis="index")

# %% [markdown]
# ### Which layer do 8 bits harm?
#
# FSRCNN has few layers, so each can be quantised alone, all others staying in fp32. The bars show how far the results
# move from those in fp32, as the mean PSNR on luminance over the photos: the higher, the less harm.


# %%
PARTS = {1: "extraction", 2: "shrinking", 7: "expanding"}  # of FSRCNN's eight convolutions, as `04_fsrcnn` draws them


def quantised_alone(name: str) -> pd.DataFrame:
    """PSNR between the results in fp32 and with a single convolution in int8, by the convolution and the photo."""
    import onnx

    content = onnx.load(folder / f"{name}-fp32.onnx")
    whole, rows = files[name, "fp32"], []
    layers = [node for node in content.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    calibration = list(edge.samples(networks[name], without=test_photos))
    inputs = {photo: degraded_photo(name, photo)[0] for photo in test_photos}
    exact = {photo: rvlib.restore(whole, x) for photo, x in inputs.items()}
    for number, node in enumerate(layers, 1):
        alone = edge.quantised(content, networks[name], calibration, only=[node.name])
        onnx.save(alone, folder / "alone.onnx")
        quantised = rvlib.load(folder / "alone.onnx")
        part = "deconvolution" if number == len(layers) else PARTS.get(number, "mapping")
        for photo, x in inputs.items():
            alike = metrics.psnr(rvlib.restore(quantised, x), exact[photo])
            rows.append({"layer": f"{number}: {part}", "photo": photo, "PSNR to fp32 (dB)": alike})
    return pd.DataFrame(rows)


# %%
first = next(iter(precisions))
layers = quantised_alone(first) if has_onnx else pd.DataFrame(columns=["layer", "photo", "PSNR to fp32 (dB)"])
tables.write(layers, output / "layers")
if len(layers):
    by_photo = layers.pivot(index="photo", columns="layer", values="PSNR to fp32 (dB)")
    figure, axis = plt.subplots(figsize=(7, 0.6 + 0.35 * by_photo.shape[1]))
    sns.stripplot(layers, x="PSNR to fp32 (dB)", y="layer", hue="photo", palette="colorblind", s=7, ax=axis)
    axis.set(xlabel="PSNR to fp32 in dB; one dot per photo", ylabel=f"layer of {titles[first]} in int8")
    axis.legend(title="", loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
    figures.save(figure, output / "layers")
    worst, second = by_photo.mean().nsmallest(2).index
    print(f"8 bits harm most: {worst} ({by_photo[worst].mean():.1f} dB to fp32), then {second};")
    if len(by_photo) > 1:
        print(f"the first less the second: {paired_difference(by_photo[worst], by_photo[second]).text(2, 'dB')}")

# %% [markdown]
# ## What a phone would need
#
# Nothing was measured on a phone here. An estimate needs two numbers of the network, multiply-adds and bytes, and two
# of the machine, as its maker publishes them. The slower of both bounds sets the rate at best:
#
# $$\text{frames per second} \le \min\left(\frac{\text{multiply-adds per second}}{\text{multiply-adds per frame}},\;
# \frac{\text{bytes per second}}{\text{bytes per frame}}\right)$$
#
# The bytes are those of input, output and weights, in the machine's own numbers: 4 bytes in fp32, 1 in int8, and 2 for
# the iPhone, an assumption. Features that do not fit into the caches come on top.
# Real programs reach a fraction of it: on a CPU a third to a half is usual for convolutions, on accelerators less.
# (TOPS: 10¹² operations per second, of which a multiply-add is two.)
#
# | machine | multiply-adds per second | bytes per second | from |
# |---|---|---|---|
# | Raspberry Pi 5 (four Cortex-A76, fp32) | 77 G: 4 cores x 2.4 GHz x 2 units x 4 lanes | 17 G: LPDDR4X-4267, 32 bits | data sheets |
# | Coral Edge TPU (int8) | 2 T: 4 TOPS | 0.5 G: USB 3 | data sheet |
# | iPhone 15 Pro (Neural Engine; its maker names no number format) | 17.5 T: 35 TOPS | 51 G: LPDDR5-6400, 64 bits | Apple, 2023 |

# %%
machines = {  # multiply-adds and bytes per second, bytes per number
    "Raspberry Pi 5": (77e9, 17e9, 4),
    "Coral Edge TPU": (2e12, 0.5e9, 1),
    "iPhone 15 Pro": (17.5e12, 51e9, 2),
}
estimate = []
for name, network in networks.items():
    height, width = (360, 640) if network.scale == 1 else (270, 480)  # to 1080p by 4
    probe = torch.rand(1, network.channels, 48, 64)
    work = complexity.multiply_adds(network, probe) / probe[0, 0].numel() * height * width
    moved = network.channels * height * width * (1 + network.scale**2) + complexity.parameters(network)
    bounds = {m: min(rate / work, memory / (size * moved)) for m, (rate, memory, size) in machines.items()}
    estimate.append({"network": name, "G multiply-adds per frame": work / 1e9, **bounds})
estimate = pd.DataFrame(estimate)
tables.write(estimate, output / "estimate")
print("upper bounds in frames per second, 270p to 1080p for x4, 360p for deblurring; an estimate, not a measurement")
estimate.assign(network=estimate["network"].map(titles)).style.format(precision=1).hide(axis="index")

# %% [markdown]
# ## Takeaways

# %% tags=["takeaways"]
lines = []
for name, part in speed.groupby("network", sort=False):
    best, plain = part.loc[part["median"].idxmin()], part[part["engine"] == "torch fp32"].iloc[0]
    height, width = frames[name]
    told = (
        f"{best['engine']} is fastest here, {best['frames per second']:.1f} frames per second, "
        f"{best['speed, torch fp32 = 1']:.1f} times torch in fp32"
    )
    if best["max"] >= plain["min"]:  # also where torch in fp32 is the fastest itself
        told = f"no engine is clearly faster than torch in fp32, {plain['frames per second']:.1f} frames per second"
    lines.append(f"{titles[name]}, {height} x {width}{' of luminance' * (networks[name].channels == 1)}: {told}.")
for (name, engine), row in lost.iterrows():
    if engine.split()[-1] in ("int8", "fp16", "bf16"):
        change = f"{row.iloc[0]:+.3f} dB" if abs(row.iloc[0]) >= 0.001 else "less than 0.001 dB"
        lines.append(f"{titles[name]} in {engine} changes PSNR by {change} on these photos.")
Markdown("\n".join(f"- {line}" for line in lines))

# %% [markdown]
# **What can go wrong in practice**
#
# - **Sides.** A network with strides wants sides that are multiples of a number. The file's metadata name it
#   (`multiple_of`); pad the photo by reflection before, crop after. `rvlib restore --model model.onnx` does it.
# - **Luminance.** FSRCNN's file takes one channel. `rvlib export --rgb` writes the colour conversion into the graph.
# - **Half precision.** Sums over many pixels overflow 65,504, and small denominators vanish. Compare before you ship.
#   On a CPU, onnxruntime computes what it has no half-precision kernel for in fp32: the file is smaller, but the time
#   need not be.
# - **Another processor.** The order of the engines is the processor's. Some have units that multiply matrices of
#   bfloat16 or of bytes (such as AMX in servers): there bf16 and int8 can take a fraction of the time of fp32. Without
#   them they can take longer. Measure on the machine that will run it.
# - **Calibration.** Photos that are brighter or noisier than the calibration photos leave the measured range and are
#   clipped.
# - **DiffIR.** Its file keeps the noise as an input, so its result can be repeated. The file describes what it is
#   given: a tile of a large photo gets a vector of its own, where torch describes the whole photo once.
#
# ## Try it
#
# 1. Calibrate FSRCNN on two grey photos of little contrast alone (`calibration=` of `rvlib.export`): `clock_motion` and
#    `text` of `photos.load_sets(study.data(profile), ["samples"], split="train")`, downscaled by 4 first. What happens
#    to the PSNR of a photo of nature, and why?
# 2. How many frames per second could the Coral Edge TPU get over its USB if input and output were float32? Which bound
#    counts then?
#
# <details><summary>Solutions</summary>
#
# 1. The measured ranges are narrow, so the activations of a photo with more contrast can leave them, and are clipped.
#    Compare the PSNR with the table above; the bars of the layers show where it changes.
# 2. Input and output take four times the bytes, the weights still one each:
#    $0.5 \cdot 10^9 / (4 \cdot n_{\text{values}} + n_{\text{weights}})$ frames per second. For FSRCNN that is nearly a
#    quarter of the bound of the bytes; a network whose weights are most of its bytes loses less. The table shows the
#    smaller bound alone, so compute that of the multiply-adds as well.
#
# </details>
#
# ## Further reading
#
# - Jacob et al. 2018, *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference*,
#   [doi:10.1109/CVPR.2018.00286](https://doi.org/10.1109/CVPR.2018.00286)
# - Dong, Loy and Tang 2016, *Accelerating the Super-Resolution Convolutional Neural Network*,
#   [doi:10.1007/978-3-319-46475-6_25](https://doi.org/10.1007/978-3-319-46475-6_25)
# - Ignatov et al. 2021, *Real-Time Quantized Image Super-Resolution on Mobile NPUs, Mobile AI 2021 Challenge*,
#   [arXiv:2105.07825](https://arxiv.org/abs/2105.07825)
#
# Next: `14_video`, the networks on frames of a clip.
