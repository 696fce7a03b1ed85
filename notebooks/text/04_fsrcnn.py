# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 04 · FSRCNN: super-resolution that is fast because it enlarges last
#
# **Does a network with 12,809 weights beat bicubic interpolation, and what does it cost?** Yes: trained for minutes on
# a dozen photos it is ahead by almost a decibel on photos it has never seen, for about 0.8 million multiply-adds per
# thousand output pixels. The numbers of this run stand in the last sections; the demo stops when the gain has begun.
#
# **You will see**
# - how SRCNN turned sparse coding into three convolutions, and why that is slow,
# - the five parts of FSRCNN, each with its equation beside the library's own code,
# - that the paper's complexity formulas equal multiply-adds counted while the model runs,
# - a training run, an experiment that takes a part away, and a photo on which the network fails.
#
# Papers: Dong et al. 2014, *Learning a Deep Convolutional Network for Image Super-Resolution* (SRCNN), and Dong et al.
# 2016, *Accelerating the Super-Resolution Convolutional Neural Network* (FSRCNN). Needs: `02_degradations`.
# Time: half a minute with the demo parameters on two CPU cores.

# %% tags=["training"]
import rvlib
from rvlib import photos, recipes, study

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from rvlib import complexity, evaluate, fast, measures, metrics, objectives
from rvlib.study import figures, tables
from rvlib.degrade import Bicubic
from rvlib.models import fsrcnn
from rvlib.pairs import photo_pairs, set_pairs

figures.theme()

# %% [markdown]
# The parameters of the demo fit a laptop and less than a minute; the pipeline's profiles replace this cell's values.

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
train_sets = ["samples"]
validation_set = "samples"  # its first 16 validation photos are restored while training goes on
test_sets = ["samples"]
scale = 4
steps = 2000  # optimizer steps of the main run
experiment_steps = 300  # of each run of the experiment
experiment_seeds = [0]  # one demonstrates; a spread needs more
patch_size = 48  # side of the reference patch
learning_rate = 4e-3  # twice the recipe's: the demo is over before that becomes risky
validate_every = 250
seed = 0
processes = 1  # that share the training: one for each GPU of this machine

# %% [markdown]
# ## The task
#
# A photo `y` was made smaller by a known operator, `x = D(y)`: bicubic interpolation with antialiasing, factor 4. Three
# quarters of the pixels along each axis are gone, and infinitely many photos give the same `x`. Interpolation picks the
# smoothest of them. A network that has seen photos can pick a *likely* one.

# %%
degradation = Bicubic(scale)
data = study.data(profile)
pairs = {name: set_pairs(data, name, degradation) for name in test_sets}
degraded, reference = next(iter(pairs[test_sets[0]].values()))
enlarged = evaluate.bicubic(scale)(degraded)
show = photos.sample("coffee")
small = degradation(show, np.random.default_rng(seed))
figure = figures.images(
    {f"x: {small.shape[1]} × {small.shape[0]}": small, f"y: {show.shape[1]} × {show.shape[0]}": show}
)
assert reference.shape == (degraded.shape[0] * scale, degraded.shape[1] * scale, 3)

# %% [markdown]
# ## First SRCNN: sparse coding as three convolutions
#
# Before networks, super-resolution cut a photo into patches, wrote each as a sparse sum of dictionary patches, and
# replaced the dictionary by its high-resolution twin. SRCNN observed that each of these steps is a convolution:
#
# | step of sparse coding | layer | equation |
# |---|---|---|
# | extract and project patches | 9 × 9, 1 → 64 | $F_1 = \max(0, W_1 * Y + B_1)$ |
# | map low- to high-resolution codes | 5 × 5, 64 → 32 | $F_2 = \max(0, W_2 * F_1 + B_2)$ |
# | average overlapping patches | 5 × 5, 32 → 1 | $F = W_3 * F_2 + B_3$ |
#
# `Y` is the photo *after* bicubic enlargement, its luminance alone: the eye resolves brightness far better than colour.

# %%
figures.show_source(fsrcnn.SRCNN)

# %% [markdown]
# Everything happens on the enlarged image, so every weight is multiplied once per *output* pixel. With scale 4 that
# is sixteen times as often as on the input. Counting multiply-adds while the model runs shows it:

# %%
x = torch.zeros(1, 1, 32, 32)
srcnn = rvlib.create("srcnn", scale=scale)
weights_without_bias = sum(p.numel() for p in srcnn.parameters() if p.ndim == 4)
per_output_pixel = complexity.multiply_adds(rvlib.create("srcnn", scale=1), torch.zeros(1, 1, 128, 128)) / 128**2
print(f"SRCNN: {complexity.parameters(srcnn):,} parameters, {per_output_pixel:,.0f} multiply-adds per output pixel")
assert per_output_pixel == weights_without_bias == 57_184

# %% [markdown]
# ## FSRCNN: stay small, enlarge last
#
# FSRCNN makes three changes. It drops the bicubic enlargement and ends in a *deconvolution* (transposed convolution) that
# learns the enlargement. It *shrinks* the features from `d` to `s` channels, does the expensive mapping there, and
# *expands* again. And it uses more layers with smaller kernels. A network is named by three numbers, FSRCNN(d, s, m):
#
# | part | layer | equation | weights |
# |---|---|---|---|
# | feature extraction | Conv(5, d, 1) | $F_1 = \mathrm{PReLU}(W_1 * x)$ | $25\,d$ |
# | shrinking | Conv(1, s, d) | $F_2 = \mathrm{PReLU}(W_2 * F_1)$ | $s\,d$ |
# | mapping, m times | Conv(3, s, s) | $F_{i+1} = \mathrm{PReLU}(W_i * F_i)$ | $9\,m\,s^2$ |
# | expanding | Conv(1, d, s) | $F_{m+3} = \mathrm{PReLU}(W_{m+3} * F_{m+2})$ | $d\,s$ |
# | deconvolution | DeConv(9, 1, d) | $\hat y = W^{T} F_{m+3}$ | $81\,d$ |

# %%
figures.show_source(fsrcnn.FSRCNN)

# %% [markdown]
# ### The shapes on the way
#
# The image stays small until the very last layer. The four mapping layers work on 12 channels instead of 56: a layer
# of 3 × 3 costs $9 s^2 = 1296$ weights there instead of $9 d^2 = 28224$.

# %%
model = rvlib.create("fsrcnn", scale=scale)
value, shapes = x, []
for part in (model.first_part, model.mid_part[:2], model.mid_part[2:10], model.mid_part[10:], model.last_part):
    value = part(value)
    shapes.append(tuple(value.shape[1:]))
parts = ["feature extraction", "shrinking", "mapping", "expanding", "deconvolution"]
pd.DataFrame({"part": parts, "output (c h w)": shapes})

# %% [markdown]
# ### PReLU
#
# Each channel learns its own slope for negative values, $\mathrm{PReLU}(v) = \max(v, 0) + a_c \min(v, 0)$. The paper uses
# it to avoid "dead" features: where ReLU would cut the gradient, PReLU keeps a part of it.

# %%
v = torch.linspace(-2, 2, 101)
figure, axis = plt.subplots(figsize=(4, 2.6))
for slope in (0.0, 0.25, 0.5):
    axis.plot(v, torch.nn.functional.prelu(v, torch.tensor([slope])), label=f"a = {slope}")
axis.legend()
axis.set(xlabel="v", ylabel="PReLU(v)", title="slope for negative values is learned")
plt.show()

# %% [markdown]
# ### The complexity formulas, checked
#
# The paper's equation 3 gives the multiply-adds per *input* pixel of the layers before the deconvolution, and the
# deconvolution's. Each of its `81 d` weights is used once per input pixel as well, since it *scatters* every input
# pixel to 9 × 9 outputs:
#
# $$O = (25 d + s d + 9 m s^2 + d s + 81 d)\; S_{LR}$$
#
# Counting while the model runs gives the same number for every choice of d, s and m, if the deconvolution is computed
# as it is written down (the library has a faster way, which comes next):

# %%
rows = []
for d, s, m in ((56, 12, 4), (32, 5, 1), (48, 16, 3)):
    network = rvlib.create("fsrcnn", scale=scale, d=d, s=s, m=m)
    scatter = torch.nn.ConvTranspose2d(d, 1, 9, stride=scale, padding=4, output_padding=scale - 1)
    as_written = torch.nn.Sequential(network.first_part, network.mid_part, scatter)
    counted = complexity.multiply_adds(as_written, x) / x.numel()
    formula = 25 * d + s * d + 9 * m * s**2 + d * s + 81 * d
    assert counted == formula, (counted, formula)
    count = complexity.parameters(network)
    rows.append({"network": f"FSRCNN({d}, {s}, {m})", "parameters": count, "formula": formula, "counted": int(counted)})
table = pd.DataFrame(rows)
assert table.loc[0, "parameters"] == 12_809
table

# %% [markdown]
# Per output pixel, FSRCNN(56, 12, 4) therefore needs $12464 / 16 = 779$ multiply-adds, and SRCNN 57,184: a factor of 73
# at scale 4. That is where the *F* in its name comes from.
#
# ### Multiply-adds are not seconds
#
# A deconvolution scatters, which processors are bad at. Of its 9 × 9 weights, an output pixel meets only those that lie
# `scale` apart, so the same result can be *gathered*: a 3 × 3 convolution of the small image makes all 16 pixels of a
# cell at once, and a shuffle lays them out. Some of its weights are zero, so it multiplies more, and yet:

# %%
figures.show_source(fast.deconvolution)

# %%
gather = model.last_part
scatter = torch.nn.ConvTranspose2d(56, 1, 9, stride=scale, padding=4, output_padding=scale - 1)
scatter.load_state_dict(gather.state_dict())
features, compared = torch.rand(1, 56, 96, 96), {}
for name, layer in (("scatter", scatter), ("gather", gather)):
    with torch.inference_mode():
        layer(features)
        taken = [evaluate.timed(layer, features)[1] for _ in range(7)]
    work = complexity.multiply_adds(layer, features) / 96**2
    compared[name] = {"multiply-adds per input pixel": work, "milliseconds": 1000 * float(np.median(taken))}
assert torch.allclose(gather(features), scatter(features), atol=1e-5)
pd.DataFrame(compared).T.style.format(precision=1)

# %% [markdown]
# ## Objective and training
#
# Mean squared error on luminance patches: PSNR is its logarithm, so this objective optimises what is measured (and
# what it does to texture is the subject of `05_srgan`). The deconvolution learns at a tenth of the rate of the rest,
# as in the paper; the rate rises for 500 steps and then follows a cosine to zero; gradients are clipped; weights are averaged over the last
# steps.

# %%
figures.show_source(objectives.Pixelwise)

# %% [markdown]
# Where a finished run with exactly these parameters, photos and code exists, `train` returns it without a step.

# %% tags=["training"]
train_photos = photos.load_sets(study.data(profile), train_sets, split="train")
validation = study.validation(profile, validation_set)
common = {"scale": scale, "processes": processes, "replace_run": True}
run = study.run_folder(profile, "fsrcnn")
common |= {"validation": validation, "patch_size": patch_size, "learning_rate": learning_rate}
model, history = recipes.train(
    "fsrcnn", train_photos, run=run / "fsrcnn", steps=steps, validate_every=validate_every, seed=seed, **common
)

# %%
column = f"psnr_y_crop{scale}"
checked = photo_pairs(validation, degradation)
baseline = np.mean([metrics.psnr(evaluate.bicubic(scale)(low), high, crop=scale) for low, high in checked.values()])
output = study.output(profile, "methods/fsrcnn")
figure = figures.curves(history, columns=["loss", column], baseline={column: baseline})
figures.save(figure, output / "training")
history.tail(3)

# %% [markdown]
# The dashed line is bicubic interpolation on the same validation photo. The first thousand steps only catch up with it:
# the deconvolution starts near zero, so the network has to learn interpolation itself before it can do better.
#
# ### What the deconvolution learned
#
# Each of the `d` kernels paints one 9 × 9 brush stroke into the output. Smooth blobs do the interpolation, oriented
# waves draw edges.

# %%
kernels = model.last_part.weight.detach().cpu()[:, 0]
strongest = kernels.flatten(1).norm(dim=1).argsort(descending=True)[:16]
figure, axes = plt.subplots(2, 8, figsize=(9, 2.6))
for axis, index in zip(axes.flat, strongest, strict=True):
    limit = kernels[index].abs().max()
    axis.imshow(kernels[index], cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_axis_off()
figure.suptitle("the sixteen strongest deconvolution kernels")
plt.show()

# %% [markdown]
# ## Experiment: what is the network's end worth?
#
# The paper (section 3.2) and the report make two claims about the last two layers, on Set5:
#
# - *Expanding*: without it the deconvolution reads 12 channels instead of 56, and up to 0.3 dB are lost.
# - *Own kernels*: with one deconvolution kernel for all channels, at least 0.9 dB are lost.
#
# Both are true or false of networks that have trained to the end. The experiment asks how much of it shows after the same
# short training, from the same seeds: three networks, one axis.

# %% tags=["training"]
variants = {"whole": {}, "without-expanding": {"expand": False}, "shared-kernel": {"shared_kernel": True}}
experiment = {}
for label, arguments in variants.items():
    for number in experiment_seeds:
        facts = {"steps": experiment_steps, "validate_every": experiment_steps, "seed": number}
        name = run / f"{label}-seed-{number}"
        experiment[label, number] = recipes.train(
            "fsrcnn", train_photos, run=name, arguments=arguments, **facts, **common
        )

# %%
found = pd.DataFrame(
    [
        {"network": label, "seed": number, "parameters": complexity.parameters(network), column: log[column].iloc[-1]}
        for (label, number), (network, log) in experiment.items()
    ]
)
whole = found[found["network"] == "whole"].set_index("seed")[column]
found["loss in dB"] = whole.reindex(found["seed"]).to_numpy() - found[column]
figure, axis = plt.subplots(figsize=(6.5, 2.4))
sns.stripplot(found, x="loss in dB", y="network", hue="network", legend=False, s=8, ax=axis)
for row, claim in enumerate((0.0, 0.3, 0.9)):
    axis.plot([claim, claim], [row - 0.3, row + 0.3], color="0.4", linestyle="--")
axis.set(xlabel="loss against the whole network in dB (dashed: the claim), one dot per seed", ylabel="")
figures.save(figure, output / "ablation")
summary = found.groupby("network", sort=False)[["parameters", column, "loss in dB"]].agg(["mean", "std"])
summary.columns = [" ".join(name).removesuffix(" mean") for name in summary.columns]
tables.write(summary.drop(columns="parameters std").reset_index(), output / "ablation")
summary.drop(columns="parameters std").style.format(precision=2, na_rep="–").format("{:,.0f}", subset="parameters")

# %% [markdown]
# In the demo one seed on one validation photo makes this a demonstration, not a measurement; the release profile trains
# three. What can be said in any case is the price: the expanding layer and the 56 kernels are most of the network.
#
# ## Results on photos that were not trained on
#
# PSNR and SSIM on luminance, four pixels cropped from each border, against bicubic interpolation of the same inputs.

# %%
restorers = evaluate.baseline("super-resolution", scale)
restorers["fsrcnn", "this run"] = evaluate.with_model(model)
rows = evaluate.sets(restorers, data, test_sets, degradation, measures.for_task("super-resolution", scale))
means = tables.means(rows)
means.drop(columns="seconds").style.format(precision=3).hide(axis="index")

# %%
tables.write(rows, output / "rows")
tables.write(means, output / "means", tables.rank(means))
gain = means.pivot(index="set", columns="method", values=column).eval("fsrcnn - bicubic")
tables.write_json({"gain_db": gain.to_dict(), "parameters": complexity.parameters(model)}, output / "summary.json")
print("gain over bicubic in dB:", gain.round(2).to_dict())
assert (gain > 0).all(), "a trained FSRCNN must be ahead of bicubic"

# %% [markdown]
# ### Table 1 of the report, with its runtime
#
# The report gives a PSNR, an SSIM and a runtime for three sets. Set12 is a set of grey photos for denoising, and the
# machine of the runtime is not named, so only the order of magnitude can be compared: tenths of a second for photos for
# which this network needs milliseconds on two CPU cores.

# %%
claimed = tables.claims(["Set5", "Set12", "Set14"]).query("label.str.endswith('table 1') and method == 'fsrcnn'")
claimed = claimed.assign(seconds=claimed["set"].map({"Set5": 0.2, "Set12": 0.23, "Set14": 0.21}))
table_1 = pd.concat([claimed, means[means["method"] == "fsrcnn"]])
shown_columns = ["set", "label", column, f"ssim_y_crop{scale}", "seconds"]
tables.write(table_1[shown_columns], output / "table-1")
table_1[shown_columns].style.format(precision=3, na_rep="–").hide(axis="index")

# %% [markdown]
# ### Look at it
#
# A crop of a sample photo: input, bicubic, FSRCNN, reference. The edge of the cup is sharper than bicubic's, and free of
# its stair steps. No texture was invented: squared error punishes a guess that is not exactly right.

# %%
restored = rvlib.restore(model, small)
shown = {"bicubic": evaluate.bicubic(scale)(small), "FSRCNN": restored, "reference": show}
notes = {k: f"{metrics.psnr(v, show, crop=scale):.2f} dB" for k, v in list(shown.items())[:2]}
figure = figures.zoom_strip(shown, box=(120, 250, 110, 150), context=show, notes=notes)
figures.save(figure, output / "strip")

# %% [markdown]
# ### Where it fails
#
# The mean hides the spread. This is the sample photo on which the network gains least, and where on it the restored
# luminance differs from the reference: fine, regular texture that is finer than the sampling of the input is not
# blurred in the input but *absent* or folded into coarser stripes. No network of this kind can know better.

# %%
names = ("astronaut", "chelsea", "coffee", "flower")
samples = photo_pairs({name: photos.sample(name) for name in names}, degradation)
gains = {
    name: metrics.psnr(rvlib.restore(model, low), truth, crop=scale)
    - metrics.psnr(evaluate.bicubic(scale)(low), truth, crop=scale)
    for name, (low, truth) in samples.items()
}
worst = min(gains, key=gains.get)
low, truth = samples[worst]
differences = {
    "bicubic": figures.signed_difference(evaluate.bicubic(scale)(low), truth),
    f"FSRCNN, gain {gains[worst]:.2f} dB": figures.signed_difference(rvlib.restore(model, low), truth),
}
figure = figures.difference_map(differences)
figures.save(figure, output / "failure")
pd.Series(gains, name="gain in dB").round(2).to_frame()

# %% [markdown]
# ## Takeaways
#
# - SRCNN showed that super-resolution is learnable end to end; FSRCNN that the image should stay small until the end.
# - At scale 4 the paper's formula gives 12,464 multiply-adds per input pixel, and so does counting: 73 times fewer than
#   SRCNN per output pixel.
# - Minutes of training on a few photos are enough to be ahead of bicubic by the gain printed above; what more data and
#   time buy is in the release profile's table.
# - Squared error makes the *average* of all likely photos: sharp at edges, smooth in textures.
#
# ## Try it
#
# 1. Set `d, s, m = 32, 5, 1` (the paper's FSRCNN-s) through `arguments={"d": 32, "s": 5, "m": 1}` in the training cell.
#    How much quality does a third of the cost lose?
# 2. Train on one photo only. On which test photos does the gain survive?
# 3. How many multiply-adds per input pixel does FSRCNN-s, (32, 5, 1), need? Work it out and check it:

# %%
d, s, m = 32, 5, 1
your_answer = 25 * d + s * d + 9 * m * s**2 + d * s + 81 * d  # replace me by a number
assert your_answer == 3937

# %% [markdown]
# Next: `05_srgan`, which asks for sharp pictures instead of small errors.
