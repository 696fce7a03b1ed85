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
# **Does a network with 12,809 parameters beat bicubic interpolation, and what does it cost?** It does, on photos that
# it has never seen, for about 0.8 million multiply-adds per thousand output pixels. The takeaways print by how many
# decibels, with an interval.
#
# **You will see**
# - how SRCNN turned sparse coding into three convolutions, and why that is slow,
# - a transposed convolution on four pixels, by hand,
# - the five parts of FSRCNN, each with its equation, a diagram and the library's own code,
# - that the paper's complexity formula equals multiply-adds counted while the model runs, and why other tables print
#   six times as many,
# - a training run, an experiment that takes a part away, and where the remaining error is.
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
from IPython.display import Markdown

from rvlib import complexity, evaluate, measures, metrics
from rvlib.study import curves, diagrams, figures, provenance, tables
from rvlib.study.statistics import differences, over_seeds
from rvlib.degrade import Bicubic
from rvlib.models import fsrcnn
from rvlib.pairs import photo_pairs, set_pairs

figures.theme()

# %% [markdown]
# The parameters of the demo fit a laptop and less than a minute; the pipeline's profiles replace the values of the next
# cell.

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
# A photo `y` was downscaled by a known operator, `x = D(y)`: bicubic interpolation with antialiasing, factor 4.
# Fifteen of sixteen pixels are gone, and infinitely many photos give the same `x`. Interpolation does not choose among
# them: it draws smooth curves through the pixels, and downscaling its result does not even give `x` back. A network
# that has seen photos can learn which of them are *likely*.

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
# $Y$ is the photo *after* bicubic enlargement, its luminance alone: the eye resolves brightness far better than colour.
# $W_i$ and $B_i$ are the weights and biases of layer i, $*$ is the convolution. The paper of 2014 has 9-1-5. The larger
# 9-5-5, drawn here, is of its journal version, and FSRCNN compares itself with it (*SRCNN-Ex*).

# %%
figure = diagrams.draw(
    [["x", "bicubic × 4", "conv, ReLU|1", "conv, ReLU|2", "conv", "restored"]],
    notes={
        "x": "1 × h × w",
        "bicubic × 4": "Y: 1 × 4h × 4w",
        "conv, ReLU|1": "9 × 9: 64 × 4h × 4w",
        "conv, ReLU|2": "5 × 5: 32 × 4h × 4w",
        "conv": "5 × 5",
        "restored": "1 × 4h × 4w",
    },
    shaded=["conv, ReLU|1", "conv, ReLU|2", "conv"],
    titles=["SRCNN: everything happens on the large image"],
)

# %%
figures.show_source(fsrcnn.SRCNN.forward)

# %% [markdown]
# So every weight is multiplied once per *output* pixel, of which there are $S_{HR}$. With kernels of $f_i \times f_i$
# and $n_i$ channels, the multiply-adds are
#
# $$O\!\left((f_1^2 n_1 + n_1 f_2^2 n_2 + n_2 f_3^2)\, S_{HR}\right) \tag{11}$$
#
# (Equations carry the number of the audited report, see `12_report`, or a word if they have no number there. The
# report multiplies only the last term by $S_{HR}$.) For 9-5-5 and 64, 32 channels that is
# $5184 + 51200 + 800 = 57184$ per output pixel, and counting while the model runs gives the same:

# %% tags=["nbval-check-output"]
x = torch.zeros(1, 1, 32, 32)
srcnn = rvlib.create("srcnn", scale=scale)
formula = 9**2 * 64 + 64 * 5**2 * 32 + 32 * 5**2
per_output_pixel = complexity.multiply_adds(rvlib.create("srcnn", scale=1), torch.zeros(1, 1, 128, 128)) / 128**2
print(f"SRCNN: {complexity.parameters(srcnn):,} parameters, {per_output_pixel:,.0f} multiply-adds per output pixel")
assert per_output_pixel == formula == 57_184

# %% [markdown]
# ## Enlarging by hand: a transposed convolution on four pixels
#
# A convolution with stride 2 reads 3 × 3 pixels and writes one: it shrinks a picture by two. Its reverse reads *one*
# pixel and writes 3 × 3: each pixel stamps the kernel, multiplied by its value, onto a canvas of twice the size.
# Stamps that overlap are added. Here the kernel is a tent, and the stamps of the four pixels 1, 2, 3, 4 make bilinear
# interpolation:

# %%
four = np.array([[1.0, 2.0], [3.0, 4.0]])
kernel = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])
stamps = {}
for row, column in np.ndindex(2, 2):
    canvas = np.zeros((5, 5))
    canvas[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += four[row, column] * kernel
    stamps[f"stamp of pixel {four[row, column]:.0f}"] = canvas
enlarged_by_hand = sum(stamps.values())
figure, axes = plt.subplots(1, 5, figsize=(10.5, 2.4))
for axis, (title, canvas) in zip(axes, {**stamps, "their sum": enlarged_by_hand}.items(), strict=True):
    axis.imshow(canvas, cmap="Blues", vmin=0, vmax=6)
    for (row, column), value in np.ndenumerate(canvas):
        axis.text(column, row, f"{value:g}" if value else "", ha="center", va="center", fontsize=8)
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# In the middle, 1 and 2 have 1.5 between them, and 2.5 is the mean of all four. That is `conv_transpose2d`. Its name
# comes from linear algebra: written as a matrix, it is the transpose of the convolution with the same kernel and
# stride, so $\langle \mathrm{conv}(a), b \rangle = \langle a, \mathrm{conv}^\top(b) \rangle$, where
# $\langle a, b \rangle$ multiplies the pixels at the same place and sums the products. It is not the inverse, though
# the literature calls it *deconvolution*:

# %%
as_torch, weight = torch.from_numpy(four)[None, None], torch.from_numpy(kernel)[None, None]
enlarged_by_torch = torch.nn.functional.conv_transpose2d(as_torch, weight, stride=2)
assert np.allclose(enlarged_by_torch[0, 0], enlarged_by_hand)
a = torch.randn(1, 1, 5, 5, dtype=torch.float64)
forward = torch.nn.functional.conv2d(a, weight, stride=2)
assert torch.isclose((forward * as_torch).sum(), (a * enlarged_by_torch).sum()), "it is the transpose"

# %% [markdown]
# Interpolation has one kernel that somebody chose. FSRCNN's last layer has 56 kernels of 9 × 9 with stride 4, one per
# channel, and learns them: each channel paints its own stroke.
#
# ## FSRCNN: stay small, enlarge last
#
# FSRCNN makes three changes. It drops the bicubic enlargement and ends in the transposed convolution. It *shrinks* the
# features from `d` to `s` channels, does the expensive mapping there, and *expands* again. And it uses more layers with
# smaller kernels. A network is named by three numbers, FSRCNN(d, s, m). With Conv(f, n, c) for n kernels of f × f that
# read c channels:
#
# $$\begin{aligned}
#   & \mathrm{Conv}(5, d, 1) \to \mathrm{PReLU} \to \mathrm{Conv}(1, s, d) \to \mathrm{PReLU} \to
#   m \times [\mathrm{Conv}(3, s, s) \to \mathrm{PReLU}] \\
#   & \to \mathrm{Conv}(1, d, s) \to \mathrm{PReLU} \to \mathrm{DeConv}(9, 1, d)
# \end{aligned} \tag{structure}$$
#
# (The audited report's chain leaves out the expanding layer and two PReLUs, which its text describes.) Biases are left
# out of the equations:
#
# | part | layer | equation | weights | why |
# |---|---|---|---|---|
# | feature extraction | Conv(5, d, 1) | $F_1 = \mathrm{PReLU}(W_1 * x)$ | $25\,d$ | 5 × 5 pixels of the small photo hold nearly all that 9 × 9 pixels of an enlarged one do |
# | shrinking | Conv(1, s, d) | $F_2 = \mathrm{PReLU}(W_2 * F_1)$ | $s\,d$ | the mapping costs $s^2$, not $d^2$ |
# | mapping, m times | Conv(3, s, s) | $F_{i+1} = \mathrm{PReLU}(W_{i+1} * F_i)$, $i = 2, \dots, m + 1$ | $9\,m\,s^2$ | several small kernels see as far as a large one |
# | expanding | Conv(1, d, s) | $F_{m+3} = \mathrm{PReLU}(W_{m+3} * F_{m+2})$ | $d\,s$ | the deconvolution gets d strokes instead of s |
# | deconvolution | DeConv(9, 1, d) | $\hat y = W^{\top} F_{m+3}$ | $81\,d$ | learns the enlargement |

# %%
parts = ["x", "extract|f", "shrink|f", "map × m|f", "expand|f", "deconvolution|f", "restored|f"]
figure = diagrams.draw(
    [parts],
    notes={
        "x": "1 × h × w",
        "extract|f": "5 × 5: d × h × w",
        "shrink|f": "1 × 1: s × h × w",
        "map × m|f": "3 × 3: s × h × w",
        "expand|f": "1 × 1: d × h × w",
        "deconvolution|f": "9 × 9, stride 4",
        "restored|f": "1 × 4h × 4w",
    },
    shaded=parts[1:-1],
    titles=["FSRCNN: only the last layer sees the large image"],
)

# %%
figures.show_source(fsrcnn.FSRCNN.forward)

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
# Each channel $i$ learns its own slope $a_i$ for negative values (He et al. 2015):
#
# $$f(x_i) = \max(x_i, 0) + a_i \min(0, x_i) \tag{PReLU}$$
#
# The paper uses it to avoid "dead" features: ReLU ($a_i = 0$) has no gradient for a negative input, so a channel that
# is negative for every input never learns again. PReLU keeps a part of the gradient.

# %%
v = torch.linspace(-2, 2, 101)
figure, axis = plt.subplots(figsize=(4, 2.6))
for slope in (0.0, 0.25, 0.5):
    axis.plot(v, torch.nn.functional.prelu(v, torch.tensor([slope])), label=f"a = {slope}")
axis.legend()
axis.set(xlabel="input of the layer", ylabel="PReLU", title="the slope for negative values is learned")
plt.show()

# %% [markdown]
# ### The complexity formula, checked
#
# Every layer works on the $S_{LR}$ pixels of the small image. The deconvolution does too: each of its $81 d$ weights
# is used once per *input* pixel, when that pixel stamps its 9 × 9 outputs. The sum of the table's column of weights is
#
# $$O\!\left(\{25 d + s d + 9 m s^2 + d s + 81 d\}\, S_{LR}\right) =
#   O\!\left(\{9 m s^2 + 2 s d + 106 d\}\, S_{LR}\right) \tag{complexity}$$
#
# Counting while the model runs gives the same number for every choice of d, s and m. The deconvolution is counted as it
# is written down (the library has a faster way, which comes below):

# %%
rows = []
for d, s, m in ((56, 12, 4), (32, 5, 1), (48, 16, 3)):
    network = rvlib.create("fsrcnn", scale=scale, d=d, s=s, m=m)
    counted = complexity.multiply_adds(network, x) / x.numel()
    formula = 25 * d + s * d + 9 * m * s**2 + d * s + 81 * d
    assert counted == formula == 9 * m * s**2 + 2 * s * d + 106 * d, (counted, formula)
    count = complexity.parameters(network)
    rows.append({"network": f"FSRCNN({d}, {s}, {m})", "parameters": count, "formula": formula, "counted": int(counted)})
table = pd.DataFrame(rows)
assert table.loc[0, "parameters"] == 12_809
table

# %% [markdown]
# The other 345 of FSRCNN's 12,809 parameters are biases (173) and PReLU slopes (172), which the formula leaves out.
#
# ### Two ways of counting
#
# Later papers compare networks by the multiply-adds for an output of 1280 × 720, and print 4.6 G for FSRCNN where the
# formula gives 0.7 G. Neither is wrong. They count the deconvolution once per *output* pixel, as if each output read
# all of its 81 d weights; in truth an output pixel meets only every fourth of them in each direction. SRCNN has no
# such layer, so its number is the same either way.

# %%
outputs = 1280 * 720
body, deconvolution = 12_464 - 81 * 56, 81 * 56  # of FSRCNN(56, 12, 4), weights per pixel
both_counts = pd.DataFrame(
    {
        "network": ["SRCNN", "FSRCNN(56, 12, 4)"],
        "multiply-adds in G, as the formula counts": [57_184 * outputs / 1e9, 12_464 * outputs / 16 / 1e9],
        "as later tables count": [57_184 * outputs / 1e9, (body * outputs / 16 + deconvolution * outputs) / 1e9],
    }
)
assert both_counts.iloc[:, 1:].round(1).to_numpy().tolist() == [[52.7, 52.7], [0.7, 4.6]]
both_counts.style.format(precision=2).hide(axis="index")

# %% [markdown]
# So FSRCNN needs 73 times fewer multiply-adds than SRCNN by the formula, and 11 times fewer by the other count.
#
# ### Multiply-adds are not seconds
#
# A transposed convolution scatters, which processors are bad at. Of its 9 × 9 weights, an output pixel meets only
# those that lie `scale` apart. So the same result can be *gathered*: a 3 × 3 convolution of the small image makes all
# 16 pixels of a cell at once, and a shuffle lays them out. Some of its weights are zero, so it multiplies more. What
# is faster is measured here; `11_cost` compares whole networks:

# %%
from torch.utils.flop_counter import FlopCounterMode  # counts a layer as it runs, two operations for a multiply-add

gather = model.last_part
scatter = torch.nn.ConvTranspose2d(56, 1, 9, stride=scale, padding=4, output_padding=scale - 1)
scatter.load_state_dict(gather.state_dict())
features, compared = torch.rand(1, 56, 96, 96), {}
for name, layer in (("scatter", scatter), ("gather", gather)):
    with torch.inference_mode():
        layer(features)
        taken = [evaluate.timed(layer, features)[1] for _ in range(7)]
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        layer(features)
    compared[name] = {
        "multiply-adds per input pixel": counter.get_total_flops() / 2 / 96**2,
        "milliseconds on this machine": 1000 * float(np.median(taken)),
    }
assert torch.allclose(gather(features), scatter(features), atol=1e-5)
pd.DataFrame(compared).T.style.format(precision=1)

# %% [markdown]
# ## Objective and training
#
# For $n$ pairs of small and large luminance patches, $Y_s^i$ and $X^i$ in the paper's letters (x and y above), and $F$
# the network with parameters $\theta$:
#
# $$\min_\theta \frac1n \sum_{i=1}^{n} \lVert F(Y_s^i; \theta) - X^i \rVert_2^2 \tag{cost}$$
#
# PSNR is a logarithm of the same error, so this objective optimises what is measured (what it does to texture is the
# subject of `05_srgan`). The paper uses stochastic gradient descent; here Adam does the steps. The deconvolution
# learns at a tenth of the rate of the rest, as in the paper. The rate rises for the first steps and then follows a
# cosine to zero, gradients are clipped, and weights are averaged over the last steps. Patches are cut at random
# places, mirrored and turned by quarters at random. If a finished run with exactly these parameters, photos and code
# exists, `train` returns it without a step.

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
baseline = curves.input_psnr(checked, "super-resolution", scale)
output = study.output(profile, "methods/fsrcnn")
trained = model
model, which = study.best(profile, f"fsrcnn-x{scale}", trained)
curve, whose = study.learning_curve(profile, f"fsrcnn-x{scale}", history)
known = {"photos": len(checked), "input": baseline}
if whose != "this run":  # the release has other validation photos
    known = provenance.record(f"fsrcnn-x{scale}")["validation"]
figure = figures.curves(
    curve, columns=["loss", column], baseline={column: known["input"]}, loss_name="mean squared error"
)
taken = f"{int(curve['step'].iloc[-1]):,}"
figure.suptitle(study.curve_title(profile, whose, taken), fontsize="small")
figures.save(figure, output / "training")
assert history["loss"].iloc[-1] < history["loss"].iloc[0], "the training of this notebook learns"
print(f"dashed: bicubic on the validation photos of the curve ({known['photos']}), {known['input']:.2f} dB")
print(f"shown from here on: {which}")
if model is not trained:
    print(f"they are of the same FSRCNN(56, 12, 4), trained for {provenance.story(f'fsrcnn-x{scale}')}")

# %% [markdown]
# At step 0, before the first dot, FSRCNN is far below interpolation: its deconvolution begins with numbers near zero,
# so the network has to learn interpolation itself before it can do better.
#
# ### What the deconvolution learned
#
# Each of the `d` kernels is the 9 × 9 stroke of one channel. Where the channel is positive, red adds light and blue
# takes it away; where it is negative, the reverse. Each kernel is scaled by its own largest weight. Bilinear
# interpolation would be one red pyramid. Kernels with both colours side by side add *differences*, of which edges are
# made.

# %%
kernels = model.last_part.weight.detach().cpu()[:, 0]
strongest = kernels.flatten(1).norm(dim=1).argsort(descending=True)[:16]
figure, axes = plt.subplots(2, 8, figsize=(9, 2.6))
for axis, index in zip(axes.flat, strongest, strict=True):
    limit = kernels[index].abs().max()
    axis.imshow(kernels[index], cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_axis_off()
figure.suptitle(f"the sixteen strongest of {len(kernels)} deconvolution kernels ({which})", fontsize="small")
plt.show()

# %% [markdown]
# ## Experiment: what is the network's end worth?
#
# The paper (section 3.2) and the audited report make two claims about the last two layers, on Set5:
#
# - *Expanding*: without it the deconvolution reads 12 channels instead of 56, and up to 0.3 dB are lost.
# - *Own kernels*: with one deconvolution kernel for all channels, at least 0.9 dB are lost.
#
# Both are statements about networks that were trained to the end. The experiment asks how much of these losses appears
# after a short training from the same seeds. It also prints the lead over bicubic interpolation on the same photos: a
# network below it is still learning to interpolate. Networks trained for seconds tell nothing, so the demo shows the
# release profile's figure and table, if they exist.

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
facts = {"steps": experiment_steps, "validation photos": len(checked), "bicubic": baseline}
found = pd.DataFrame(
    [
        {"network": name, "seed": number, "parameters": complexity.parameters(network), column: log[column].iloc[-1]}
        | facts
        for (name, number), (network, log) in experiment.items()
    ]
)
tables.write(found, output / "ablation-rows")
found = found if (stored := study.experiment(profile, "methods/fsrcnn/ablation-rows")) is None else stored
found["network"] = found["network"].str.replace("-", " ")
whole = found[found["network"] == "whole"].set_index("seed")[column]
found["loss in dB"] = whole.reindex(found["seed"]).to_numpy() - found[column]
claims = {"without expanding": 0.3, "shared kernel": 0.9}  # dB, of trained networks
tells = profile != "demo" or stored is not None  # what the demo trains in seconds is no result

# %%
if tells:
    figure, axis = plt.subplots(figsize=(6.5, 2.2))
    dots = {"x": "loss in dB", "y": "network", "order": list(claims), "color": figures.COLORS["fsrcnn"], "s": 8}
    sns.stripplot(found[found["network"].isin(claims)], **dots, ax=axis)
    axis.axvline(0, color="0.4", linewidth=1)
    mean, interpolation = found.groupby("network")[column].mean(), found["bicubic"].iloc[0]
    for row, (name, word) in enumerate({"without expanding": "up to", "shared kernel": "at least"}.items()):
        axis.plot([claims[name]] * 2, [row - 0.3, row + 0.3], color="0.4", linestyle="--")
        axis.text(claims[name] + 0.01, row + 0.22, f"{word} {claims[name]}", va="center", fontsize="x-small")
    named = [f"{n}\n(below bicubic: no measurement)" if mean[n] < interpolation else n for n in claims]
    axis.set_yticks(range(len(claims)), named)
    axis.set(
        xlabel="loss against the whole network in dB\n(dashed: the bound that the paper gives on Set5; a dot per seed)",
        ylabel="",
    )
    axis.set_title(
        f"{found['steps'].iloc[0]:,} steps; validation photos: {found['validation photos'].iloc[0]}", fontsize="small"
    )
    figures.save(figure, output / "ablation")

# %%
summary = found.groupby("network", sort=False).agg(
    {"parameters": "first", "seed": "count", column: "mean", "loss in dB": ["mean", "min", "max"]}
)
summary.columns = ["parameters", "seeds", "mean PSNR in dB", "mean loss in dB", "smallest loss", "largest loss"]
decibels = summary.columns[2:]
three_digits = {name: summary[name].map("{:.3f}".format) for name in decibels}
tables.write(summary.assign(**three_digits).reset_index(), output / "ablation")
run_steps, run_photos, interpolated = found[["steps", "validation photos", "bicubic"]].iloc[0]
lead = summary["mean PSNR in dB"] - interpolated
told = []  # for the takeaways too
if tells:
    start = f"validation photos: {run_photos:.0f}; after {run_steps:,.0f} steps the whole network"
    told.append(f"{start} leads bicubic interpolation by {lead['whole']:+.2f} dB")
by_seed = found.pivot(index="network", columns="seed", values=column)
for name, bound in {"without expanding": "up to", "shared kernel": "at least"}.items() if tells else ():
    _, _, less = over_seeds(by_seed, name, "whole")
    if lead[name] < 0:
        less += (
            "; this network is still below bicubic interpolation: that is learning speed, no measurement of the claim"
        )
    elif lead[["whole", name]].min() < 0.5:
        less += "; no measurement yet, for that takes half a decibel over bicubic"
    told.append(
        f"{name} less whole: {less}; a loss of {bound} {claims[name]} dB (the paper, trained to the end, on Set5)"
    )
for line in told:
    print(line)
shown = summary if tells else summary[["parameters"]]
shown.style.format(precision=2).format("{:,.0f}", subset="parameters")

# %% [markdown]
# One thing holds after any training: without the expanding layer, or with one shared kernel, the network has only about
# two thirds of its parameters, as their column shows. So a part of each loss may be that of a smaller network.
#
# ## Results on photos that were not trained on
#
# PSNR and SSIM on luminance, four pixels cropped from each border, against bicubic interpolation of the same inputs.
# The 95 % intervals are Student's: the mean of n photos $\pm\ t\,\sigma / \sqrt n$, where $\sigma$ is their standard
# deviation and $t$ depends on n. Of four photos they are wide: $t$ is 3.2 there, for many photos it is 2. They say
# nothing about other seeds. In the table ± is half of the interval, the best of a set is bold and the second
# underlined, and ≈ marks a value that these photos cannot tell from the best.
#
# The line below the table compares the two *on each photo* and takes the interval of these differences. It is narrower
# as a rule, since photos differ more than methods do: do not judge by whether two ± overlap.

# %%
restorers = evaluate.baseline("super-resolution", scale)
restorers["fsrcnn", which] = evaluate.with_model(model)
measured = which if profile == "demo" else study.own(profile)  # the demo trains for seconds: that is checked, not shown
restorers["fsrcnn", measured] = evaluate.with_model(model if measured == which else trained)
rows = evaluate.sets(restorers, data, test_sets, degradation, measures.for_task("super-resolution", scale))
means = tables.means(rows)
stamped = provenance.stamp(rows, profile, trained={f"fsrcnn-x{scale}": "fsrcnn/fsrcnn"}, degradation=degradation)
tables.write_rows(stamped, output / "rows")
tables.write(means, output / "means", tables.rank(means))
Markdown(tables.markdown(*tables.readable(means)))

# %%
gain = differences(rows, column, ("fsrcnn", measured), ("bicubic", "bicubic input"))
for name, difference in gain.items():
    print(f"{name}: FSRCNN ({measured}, one seed) less bicubic {difference.text(2, 'dB')}")
gains = {name: difference.mean for name, difference in gain.items()}
tables.write_json({"gain_db": gains, "parameters": complexity.parameters(model)}, output / "summary.json")
assert min(gains.values()) > 0, "a trained FSRCNN must be ahead of bicubic"

# %% [markdown]
# ### Table 1 of the audited report, with its runtime
#
# The audited report gives a PSNR, an SSIM and a runtime for three sets (Set12 is a set of grey photos for denoising).
# The report names neither the machine nor the size of the photos, so its runtimes cannot be checked: the column only
# shows them. Does FSRCNN improve on SRCNN, as the papers say? This study does not train SRCNN and cannot confirm it:
# later papers' tables print 30.48 dB (SRCNN) and 30.71 dB (FSRCNN) on Set5. A row called `samples` is of other photos:
# do not compare it with those of the sets. Set12 has no row measured here; the release profile measures it in
# `09_compare_super_resolution`. `12_report` decides whether a claim is confirmed. In measured rows, `seconds` is the
# mean for one photo.

# %%
benchmarks = ["Set5", "Set12", "Set14", "Urban100"]
claimed = tables.claims(benchmarks).query("label.str.endswith('table 1') and method == 'fsrcnn'")
claimed["seconds"] = claimed["set"].map({"Set5": 0.2, "Set12": 0.23, "Set14": 0.21})
claimed.loc[~claimed["label"].str.startswith("report"), "seconds"] = np.nan  # the report's times are its own
table_1 = pd.concat([claimed, means[means["method"] == "fsrcnn"]]).sort_values("set", kind="stable")
shown_columns = ["set", "label", column, f"ssim_y_crop{scale}", "seconds"]
tables.write(table_1[shown_columns], output / "table-1")
named = table_1[shown_columns].rename(columns={column: "PSNR in dB", f"ssim_y_crop{scale}": "SSIM"})
named.style.format({"PSNR in dB": "{:.2f}", "SSIM": "{:.4f}", "seconds": "{:.2f}"}, na_rep="–").hide(axis="index")

# %% [markdown]
# ### Look at it
#
# A crop of a sample photo: bicubic, FSRCNN, reference. Compare the rim of the cup and the specks in the coffee. Squared
# error makes edges sharp where the input decides them. Where it does not decide, as with the specks, the mean of all
# guesses has the smallest squared error, and a mean is smooth. Faint regular dots, where you see them, can be the
# deconvolution's (exercise 2).

# %%
restored = rvlib.restore(model, small)
shown = {"bicubic": evaluate.bicubic(scale)(small), f"FSRCNN, {which}": restored, "reference": show}
notes = {k: f"{metrics.psnr(v, show, crop=scale):.2f} dB" for k, v in list(shown.items())[:2]}
figure = figures.zoom_strip(shown, box=(120, 250, 110, 150), context=show, notes=notes)
figures.save(figure, output / "strip")

# %% [markdown]
# ### Where it fails
#
# The mean hides the spread. The maps show the sample photo on which the network gains least, and where its restored
# luminance is wrong. If structure is finer than the sampling of the input, it is not blurred there but *absent*, or
# folded into coarser stripes, and no network of this kind can know better. Red is too bright, blue too dark (restored
# less reference, in grey levels).
#
# Compare the two maps. An outline that is strong for bicubic and weak for the network has been put right. What is
# strong in both is mostly texture that the input does not decide. The line below the table counts the error in steep
# places; these are outlines *and* fine texture, such as hair.

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
difference_maps = {
    "bicubic": figures.signed_difference(evaluate.bicubic(scale)(low), truth),
    f"FSRCNN on {worst}, gain {gains[worst]:.2f} dB": figures.signed_difference(rvlib.restore(model, low), truth),
}
figure = figures.difference_map(difference_maps)
figures.save(figure, output / "failure")
pd.Series(gains, name="gain over bicubic in dB").round(2).to_frame()

# %%
steepness = np.hypot(*np.gradient(figures.luminance(truth)))
squared = list(difference_maps.values())[1] ** 2
at_edges = squared[steepness > np.quantile(steepness, 0.9)].sum() / squared.sum()
print(
    f"{worst}: the tenth of the pixels with the steepest gradients has {100 * at_edges:.0f} % of the squared error, "
    f"{10 * at_edges:.1f} times its share"
)
assert at_edges > 0.1, "error gathers where the photo is steep"

# %% [markdown]
# ## Takeaways

# %%
for name, difference in gain.items():
    print(f"{name}: FSRCNN ({measured}, one seed) less bicubic {difference.text(2, 'dB')}")
for line in told:
    print(f"experiment: {line}")
print(
    f"{12_464:,} multiply-adds per input pixel: {57_184 / (12_464 / 16):.0f} times fewer than SRCNN, by the papers' formulas"
)
print(f"on {worst}, where it gains least, the steepest tenth of the pixels has {100 * at_edges:.0f} % of the error")

# %% [markdown]
# - SRCNN showed that super-resolution can be learned end to end; FSRCNN that the photo should stay small until the end.
# - Multiply-adds depend on who counts (0.7 or 4.6 billion for the same network and output), and seconds are another
#   matter again.
# - Squared error makes the *average* of all likely photos: sharp at edges, smooth in textures.
#
# **What can go wrong in practice.** Checkpoints of other projects expect luminance as *they* scale it (here 0 to 1
# stands for 0 to 255, so black is 16/255 and white 235/255), and inputs that *their* resize made: with Pillow's or
# OpenCV's, results fall (`02_degradations` measures it). The scale is not in the weights. Without warm-up and clipping
# of the gradient, Adam at this rate now and then throws the tiny deconvolution off for good (seen in our trainings, not
# shown here).
#
# ## Try it
#
# **1.** How many multiply-adds per input pixel does the paper's FSRCNN-s need, (d, s, m) = (32, 5, 1)? Work it out;
# the next cell checks it. Which of the five parts costs most?
#
# <details><summary>Solution</summary>
#
# $25 \cdot 32 + 5 \cdot 32 + 9 \cdot 25 + 32 \cdot 5 + 81 \cdot 32 = 800 + 160 + 225 + 160 + 2592 = 3937$. The
# deconvolution takes two thirds: in so small a network, painting costs more than thinking.
#
# </details>
#
# **2.** A deconvolution with 9 × 9 kernels and stride 4: how many of the 81 weights does one output pixel meet? Is it
# the same for every output pixel?
#
# <details><summary>Solution</summary>
#
# In each direction those that lie 4 apart: 9 = 4 + 4 + 1, so three weights for one of four places inside a cell and
# two for the others. That makes 9, 6, 6 or 4 of the 81: places inside a cell are treated differently, which can show
# as a regular pattern (a checkerboard).
#
# </details>

# %%
d, s, m = 32, 5, 1
your_answer = 25 * d + s * d + 9 * m * s**2 + d * s + 81 * d  # replace me by a number
assert your_answer == 3937
met = [len(range(place, 9, 4)) for place in range(4)]  # weights in one direction, by place inside a cell
assert sorted(met) == [2, 2, 2, 3]

# %% [markdown]
# **Further reading**
#
# - Dong et al. 2014, *SRCNN*, [doi:10.1007/978-3-319-10593-2_13](https://doi.org/10.1007/978-3-319-10593-2_13)
# - Dong et al. 2016, *Image Super-Resolution Using Deep Convolutional Networks* (9-5-5),
#   [doi:10.1109/TPAMI.2015.2439281](https://doi.org/10.1109/TPAMI.2015.2439281)
# - Dong et al. 2016, *FSRCNN*, [doi:10.1007/978-3-319-46475-6_25](https://doi.org/10.1007/978-3-319-46475-6_25)
# - He et al. 2015, *Delving Deep into Rectifiers* (PReLU),
#   [doi:10.1109/ICCV.2015.123](https://doi.org/10.1109/ICCV.2015.123)
# - Shi et al. 2016, *ESPCN* (the pixel shuffle), [doi:10.1109/CVPR.2016.207](https://doi.org/10.1109/CVPR.2016.207)
# - Dumoulin and Visin 2016, *A guide to convolution arithmetic*,
#   [doi:10.48550/arXiv.1603.07285](https://doi.org/10.48550/arXiv.1603.07285)
#
# %% [markdown]
# Next: `05_srgan`, which asks for sharp pictures instead of small errors.
