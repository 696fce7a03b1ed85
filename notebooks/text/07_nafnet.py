# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · NAFNet: a restoration network without activation functions
#
# **Does a restoration network need activation functions?** No: a product of two feature maps is non-linear enough.
# Products and normalisation are the only operations of the network below that are not linear; the takeaways print its
# gain on blurred photos. This notebook starts from a block of plain convolutions, adds the parts that the paper adds,
# removes those that it removes, and ends at a network with neither ReLU, GELU, softmax nor sigmoid in it.
#
# **You will see**
# - GELU taken apart until it is a gate, and the gate until it is a product,
# - channel attention that loses half of its steps and keeps about as many weights,
# - why a network that was trained on patches sees something else in a whole photo, and what is done about it.
#
# Paper: Chen et al. 2022, *Simple Baselines for Image Restoration*. Needs: `02_degradations` (camera shake). Time:
# about a minute with the demo parameters on two CPU cores.

# %% tags=["training"]
import rvlib
from rvlib import photos, recipes, study

# %%
from functools import partial
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import Markdown
from torch.nn import functional as F

from rvlib import complexity, evaluate, losses, measures, metrics
from rvlib.study import curves, diagrams, figures, provenance, statistics, tables
from rvlib.models import nafnet
from rvlib.pairs import photo_pairs, set_pairs

figures.theme()

# %% [markdown]
# The demo trains tiny networks for seconds, to check that everything runs. Its figures show the released weights. The
# profiles of the pipeline replace this cell's values.

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
train_sets = ["samples"]
validation_set = "samples"  # its first 16 validation photos are restored while training goes on
test_sets = ["samples"]
tiny = {"width": 8, "encoder": [1, 1], "middle": 1, "decoder": [1, 1]}  # the paper: 32, [1, 1, 1, 28], 1, [1, 1, 1, 1]
training = {"steps": 80, "batch_size": 4, "patch_size": 64, "validate_every": 20, "arguments": tiny}
ablation = {"steps": 25, "batch_size": 2, "patch_size": 64, "arguments": tiny}
ablation_seeds = [0]
seed = 0
processes = 1  # that share the training: one for each GPU of this machine

# %% [markdown]
# ## The task
#
# While the shutter is open, the camera shakes, and the sensor adds up the light of many slightly moved pictures. The
# blur is a convolution of the light (not of the grey levels), and it weakens everything finer than its path. Next to
# the photo: two other shakes of the same kind, as kernels.

# %%
sharp = photos.sample("coffee")
blurred, sharp = photo_pairs({"coffee": sharp}, recipes.SHAKE)["coffee"]
kernels = {f"another shake ({i + 1})": recipes.SHAKE.kernel(np.random.default_rng(i)) for i in range(2)}
figure = figures.images({"blurred": blurred[60:300, 180:480], "sharp": sharp[60:300, 180:480], **kernels}, width=2.8)
print(f"the blurred photo: {metrics.psnr(blurred, sharp, channel='rgb'):.2f} dB (RGB, nothing cropped)")

# %% [markdown]
# ## Two kinds of complexity
#
# Before NAFNet, deblurring networks grew in two directions. *Between* blocks: several U-Nets one after the other
# (multi-stage, such as MPRNet and HINet), or features of all resolutions mixed with each other (multi-scale, such as
# MIMO-UNet). Earlier ones that the audited report (a course report, see `12_report`) names are DeblurGAN, trained
# against a discriminator, and DMPHN, which works on patches from coarse to fine. *Inside* blocks: window attention,
# transposed attention, gates, several branches. The paper's bet is that the first kind is not needed at all: one U-Net
# is enough.

# %%
stage = ["down|{0}", "middle|{0}", "up|{0}"]
multi_stage = ["x", *(name.format("a") for name in stage), "fuse", *(name.format("b") for name in stage), "ŷ"]
figure = diagrams.draw(
    [multi_stage], skips=[("down|a", "up|a"), ("down|b", "up|b")], shaded=["fuse"], titles=["multi-stage"]
)
scales = [["x", "1/1|in", "", "1/1|out", "ŷ"], ["x ↓ 2", "1/2|in", "fuse all\nscales", "1/2|out"]]
scales += [["x ↓ 4", "1/4|in", "", "1/4|out"]]
crossing = [("1/1|in", "fuse all\nscales"), ("1/4|in", "fuse all\nscales")]
crossing += [("fuse all\nscales", "1/1|out"), ("fuse all\nscales", "1/4|out")]
figure = diagrams.draw(scales, arrows=crossing, shaded=["fuse all\nscales"], titles=["multi-scale", "", ""])

# %% [markdown]
# And a single U-Net; the line below the figure says whose it is. Under each box are its channels, in units of the width
# w, the size of the image, and the number of blocks:

# %%
is_released = "nafnet-deblur" in study.released_beside(profile)
drawn = rvlib.load("nafnet-deblur").spec["arguments"] if is_released else training["arguments"]
down, up = drawn["encoder"], drawn["decoder"]
levels = {f"{2**i if i else ''}w, 1/{2**i}": i for i in range(len(down) + 1)}
notes = {f"enc {i + 1}": f"{place}\n{down[i]} blocks" for place, i in levels.items() if i < len(down)}
notes["middle"] = f"{list(levels)[-1]}\n{drawn['middle']} blocks"
notes |= {f"dec {i + 1}": f"{place}\n{up[-1 - i]} blocks" for place, i in reversed(levels.items()) if i < len(up)}
notes = {name: note.replace("\n1 blocks", "\n1 block") for name, note in notes.items()}
skips = [("x", "+"), *((f"enc {i + 1}", f"dec {i + 1}") for i in range(len(down)))]
single = ["x", "intro", *notes, "ending", "+", "ŷ"]
notes |= {"intro": "w, 1/1", "ending": "3, 1/1"}
title = "one U-Net: " + ("the released NAFNet" if is_released else "the NAFNet that this profile trains")
figure = diagrams.draw([single], skips=skips, notes=notes, shaded=["x", "+"])
print(title)

# %% [markdown]
# The paper's has 1, 1, 1 and 28 blocks on the way down, 1 in the middle and 1 per level on the way up, 36 together.
# Each level halves the image and doubles the channels, and the features of the way down are added on the way up. The
# longest arc says what kind of network this is: it predicts what is *missing* from the blurred photo, and adds it.

# %%
figures.show_source(nafnet.UNet.forward)

# %% [markdown]
# ## The four blocks
#
# Each block has two halves with a shortcut each. The first half mixes neighbours, by a depthwise 3 × 3 convolution
# between two 1 × 1. The second half mixes the channels of a pixel (Restormer's looks at neighbours there, too). The
# blocks differ in the shaded parts. The plain one also has no norm, and NAFNet's first 1 × 1 makes twice as many
# channels, since SG halves them. (dw: depthwise, CA: channel attention, SCA: simplified channel
# attention, SG: SimpleGate.)

# %%
blocks = {
    "(a) Restormer": [
        "norm",
        "1 × 1",
        "3 × 3 dw",
        "attention",
        "1 × 1",
        "+",
        "norm",
        "1 × 1",
        "3 × 3 dw",
        "GELU gate",
        "1 × 1",
        "+",
    ],
    "(b) plain": ["", "1 × 1", "3 × 3 dw", "ReLU", "1 × 1", "+", "", "1 × 1", "", "ReLU", "1 × 1", "+"],
    "(c) Baseline": ["norm", "1 × 1", "3 × 3 dw", "GELU, CA", "1 × 1", "+", "norm", "1 × 1", "", "GELU", "1 × 1", "+"],
    "(d) NAFNet": ["norm", "1 × 1", "3 × 3 dw", "SG, SCA", "1 × 1", "+", "norm", "1 × 1", "", "SG", "1 × 1", "+"],
}
lanes, skips, shaded, gaps = [], [], [], []
for title, parts in blocks.items():
    lane = ["x|" + title] + [f"{part}|{title}{index}" if part else "" for index, part in enumerate(parts)]
    lanes.append(lane)
    skips += [(lane[0], lane[6]), (lane[6], lane[12])]
    shaded += [lane[4], lane[10]]
    present = [name for name in lane if name]
    gaps += [(a, b) for a, b in pairwise(present) if lane.index(b) - lane.index(a) > 1]
figure = diagrams.draw(lanes, skips=skips, shaded=shaded, arrows=gaps, titles=list(blocks), down=True)

# %% [markdown]
# ## Step 0: the plain block
#
# No official code of the plain block exists. Here it is the Baseline's block without normalisation and attention, with
# ReLU.

# %%
figures.show_source(nafnet.PlainBlock.mix_space)

# %% [markdown]
# ## Step 1: normalise
#
# Transformers normalise each token over its channels. For an image that means: each *pixel* for itself,
#
# $$\mathrm{LN}(x) = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot w + b, \tag{LN}$$
#
# where μ and σ² are mean and variance over the channels of one pixel, w and b are learned per channel, and ε = 10⁻⁶. So
# the statistics of a small batch of small patches play no part. In batch normalisation they do, and it is unstable with
# small batches. Instance normalisation has its own trouble: it removes the mean of each feature map, and needs tuning.
# The paper reports that LayerNorm lets the learning rate grow tenfold, and that both together raise 28.51 dB to 31.90
# dB on GoPro.

# %%
torch.manual_seed(seed)
x = torch.randn(2, 6, 5, 7) * torch.linspace(1, 10, 7)
normalised = nafnet.LayerNorm2d(6)(x)
by_hand = (x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, keepdim=True, unbiased=False) + 1e-6).sqrt()
assert torch.allclose(normalised, by_hand, atol=1e-5)
print(f"spread over the channels of a pixel: {x.std(dim=1).max():.1f} at most before, 1 after")
assert torch.allclose(normalised.var(dim=1, unbiased=False), torch.ones(2, 5, 7), atol=1e-2)

# %% [markdown]
# ## Step 2: GELU is a gate
#
# The baseline takes GELU instead of ReLU. GELU multiplies its input by a smooth switch between 0 and 1. (The audited
# report prints these formulas without numbers, and refers to them by the paper's: those are shown.)
#
# $$\mathrm{GELU}(x) = x\,\Phi(x) \approx \tfrac{1}{2} x \left(1 + \tanh\!\left(\sqrt{2/\pi}\,(x + 0.044715\,x^3)\right)\right) \tag{NAFNet 2, 3}$$
#
# A *gated linear unit* does the same with two maps instead of one:
#
# $$\mathrm{Gate}(X, f, g, \sigma) = f(X) \odot \sigma(g(X)) \tag{NAFNet 1}$$
#
# $f$ and $g$ are linear layers, $\sigma$ is an activation function, and $\odot$ multiplies element by element. GELU is
# the gate in which $f$ and $g$ are the identity and $\sigma$ is $\Phi$.

# %%
v = torch.linspace(-4, 4, 401)
switch = torch.distributions.Normal(0, 1).cdf(v)
approximation = 0.5 * v * (1 + torch.tanh((2 / np.pi) ** 0.5 * (v + 0.044715 * v**3)))
assert torch.allclose(v * switch, F.gelu(v), atol=1e-6)
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8))
for name, line in (("ReLU", v.relu()), ("GELU = v · Φ(v)", F.gelu(v)), ("Φ(v), the switch", switch)):
    axes[0].plot(v, line, label=name)
axes[0].set(xlabel="input v", ylabel="output", ylim=(-0.5, 3))
axes[0].legend()
axes[1].plot(v, approximation - F.gelu(v))
axes[1].set(
    xlabel="input v",
    ylabel="difference",
    title=f"tanh form less GELU: at most {(approximation - F.gelu(v)).abs().max():.5f}",
)
plt.show()

# %% [markdown]
# ## Step 3: the switch is not needed either
#
# First by hand. One pixel has the two channels u and v. A linear layer can only add them. A gate multiplies them, and
# so it can do what no linear layer can: let v decide what happens to u.

# %%
u, gate = torch.tensor([1.0, 1.0, 1.0, -2.0]), torch.tensor([0.0, 0.5, -1.0, -1.0])
for first, second in zip(u.tolist(), gate.tolist(), strict=True):
    words = {0.0: "closed", 0.5: "half open", -1.0: "sign changed"}[second]
    print(f"u = {first:+.1f}, v = {second:+.1f}: u · v = {first * second:+.2f}  ({words})")
pixel = torch.stack([u, gate])[None, :, None]  # one photo, two channels, one row of four pixels
assert torch.equal(nafnet.simple_gate(pixel)[0, 0, 0], u * gate)
assert not torch.allclose(nafnet.simple_gate(2 * pixel), 2 * nafnet.simple_gate(pixel)), "not linear"

# %% [markdown]
# So even without σ, $f(X) \odot g(X)$ is not linear. *SimpleGate* keeps only that. It takes the two halves of the
# channels:
#
# $$\mathrm{SimpleGate}(u \Vert v) = u \odot v \tag{NAFNet 4}$$

# %%
figures.show_source(nafnet.simple_gate)

# %% [markdown]
# **Can products bend as an activation does?** One layer cannot: a product of two linear functions of $v$ is a parabola,
# and a *sum* of parabolas is a parabola, however many one adds. *Depth* helps: a product of two parabolas has degree 4,
# a product of those degree 8. So d gated layers reach polynomials of degree $2^d$. The figure shows a least-squares fit
# of each degree.

# %%
inside = v[(v > -2.5) & (v < 2.5)].double()
target = F.gelu(inside)
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3))
axes[0].plot(inside, target, color="black", label="GELU")
worst = {}
for depth in (1, 2, 3):
    fit = np.polynomial.Chebyshev.fit(inside.numpy(), target.numpy(), 2**depth)
    reached = fit(inside.numpy())
    worst[depth] = float(np.abs(reached - target.numpy()).max())
    axes[0].plot(inside, reached, "--", label=f"{depth} gated layer{'s' if depth > 1 else ''}, degree {2**depth}")
axes[1].plot(list(worst), list(worst.values()), "o", color=figures.PALETTE[0])
axes[0].set(xlabel="input v", ylabel="output")
axes[1].set(xlabel="gated layers one after the other", ylabel="largest distance from GELU", yscale="log")
axes[1].set(xticks=list(worst), xlim=(0.5, 3.5))
axes[0].legend(fontsize="small")
plt.show()
print("largest distance from GELU by depth:", {depth: f"{value:.1e}" for depth, value in worst.items()})
few, many = (np.vander(inside.numpy() + shift, 3) for shift in (0, 1.2))
assert np.linalg.matrix_rank(np.hstack([few, many])) == 3, "more products in one layer are still one parabola"

# %% [markdown]
# ## Step 4: half of the steps of channel attention
#
# Channel attention weighs each channel by what the whole image holds, squeezed into one number per channel:
#
# $$\mathrm{CA}(X) = X \odot \sigma\big(W_2 \max(0, W_1\,\mathrm{pool}(X))\big) = X \odot \Psi(X) \tag{NAFNet 5, 6}$$
#
# Again a gate: the features times a function of the features. What remains of it is the mean, one linear map and the
# product:
#
# $$\mathrm{SCA}(X) = X \odot W\,\mathrm{pool}(X) \tag{NAFNet 7}$$

# %%
lanes = [
    ["X|ca", "pool|ca", "1 × 1|1", "ReLU", "1 × 1|2", "sigmoid", "⊙|ca", "out|ca"],
    ["X|sca", "pool|sca", "1 × 1|3", "", "", "", "⊙|sca", "out|sca"],
    ["X|sg", "split\nu, v", "", "", "", "", "⊙|sg", "out|sg"],
]
figure = diagrams.draw(
    lanes,
    arrows=[("1 × 1|3", "⊙|sca"), ("split\nu, v", "⊙|sg")],
    skips=[("X|ca", "⊙|ca"), ("X|sca", "⊙|sca"), ("split\nu, v", "⊙|sg")],
    shaded=["ReLU", "sigmoid"],
    titles=["channel attention (CA)", "simplified channel attention (SCA)", "SimpleGate (SG)"],
)

# %%
gated = torch.randn(1, 8, 16, 16)
full, simple = nafnet.channel_attention(8), nafnet.NAFBlock(8).sca
with torch.no_grad():
    mean = gated.mean(dim=(2, 3))
    first, second = (layer.weight.flatten(1) for layer in (full[1], full[3]))
    by_hand = torch.sigmoid((mean @ first.T + full[1].bias).relu() @ second.T + full[3].bias)
    assert torch.allclose(by_hand, full(gated).flatten(1), atol=1e-6)
    assert torch.allclose(mean @ simple[1].weight.flatten(1).T + simple[1].bias, simple(gated).flatten(1), atol=1e-6)
pd.Series({"channel attention": complexity.parameters(full), "simplified": complexity.parameters(simple)}).to_frame(
    "weights for 8 channels"
)

# %% [markdown]
# Half of the steps are gone (one linear map instead of two, no ReLU, no sigmoid). Weights and multiply-adds are about
# the same, since the inner layer of channel attention has half of the channels.
#
# ## The block
#
# The first half of NAFNet's block, with all of it together:

# %%
figures.show_source(nafnet.NAFBlock.mix_space)

# %% [markdown]
# ### A new block is the identity
#
# The two halves are added with factors β and γ per channel that start at zero. So any number of fresh blocks passes its
# features through, and every block begins to contribute as far as that lowers the loss. The paper's network has 36
# blocks.

# %%
block, features = nafnet.NAFBlock(8), torch.randn(1, 8, 12, 12)
assert torch.equal(block(features), features)
for parameter in (block.beta, block.gamma):
    parameter.data.fill_(0.1)
print(
    f"with β = γ = 0.1 it changes its input by {(block(features) - features).std():.3f} (input: {features.std():.2f})"
)

# %% [markdown]
# ### The cost that the paper claims
#
# The audited report gives about 16 billion multiply-adds for 256 × 256 pixels, and "33.69 dB on GoPro with 8.4 % of the
# previous best's computational costs". The first can be counted. The second is not checked: the 33.69 dB belong to the
# network of width 64, and the 8.4 % need the count of another network. The audited report also gives 40.30 dB on SIDD
# (denoising). No network of this study was trained for that.

# %%
for width in (32, 64):
    with torch.device("meta"):  # shapes without numbers are counted at once
        counted = complexity.multiply_adds(rvlib.create("nafnet", width=width), torch.empty(1, 3, 256, 256))
    print(f"width {width}: {counted / 256**2:,.0f} multiply-adds per pixel, {counted / 1e9:.2f} billion for 256 × 256")
    assert width != 32 or abs(counted / 1e9 - 16) < 0.05

# %% [markdown]
# ## Objective and training
#
# The loss is minus the PSNR, averaged over the patches of a batch:
#
# $$\ell = \frac{1}{B} \sum_b \frac{10}{\ln 10} \ln\left(\mathrm{MSE}_b + 10^{-8}\right) \tag{PSNR loss}$$

# %%
figures.show_source(losses.negative_psnr)

# %% [markdown]
# Why not squared error itself? The gradient of the logarithm is the gradient of the error *divided by the error*. So a
# patch of sky with hardly any blur counts as much as a patch of leaves. The picture shows five patches whose errors
# were chosen for it.

# %%
errors = torch.tensor([1e-4, 3e-4, 1e-3, 3e-3, 1e-2], requires_grad=True)
(pull_of_error,) = torch.autograd.grad(errors.mean(), errors, retain_graph=True)
(pull_of_psnr,) = torch.autograd.grad((10 / np.log(10) * torch.log(errors + 1e-8)).mean(), errors)
change = {"squared error": pull_of_error * errors, "minus PSNR": pull_of_psnr * errors}
shares = pd.DataFrame({name: (pull / pull.sum()).detach().numpy() for name, pull in change.items()})
axis = shares.assign(patch=[f"MSE {e:.0e}" for e in errors.tolist()]).plot.bar(x="patch", figsize=(6, 2.6), rot=0)
axis.set(xlabel="patch, by its mean squared error", ylabel="share of the loss's change\nif each improves by 1 %")
plt.show()

# %% [markdown]
# ### A loss that stops counting
#
# The study trains on shakes from 0 to 40 pixels: one patch in twenty is not shaken at all, and others hardly. NAFNet's
# loss rewards them for each decibel up to nearly 80, and one patch that goes from 50 to 80 dB outweighs two that gain
# 10 dB from a blur. `losses.bounded_psnr` replaces $10^{-8}$ by $10^{-4.5}$: beyond about 45 dB a patch hardly counts
# for more. The paper profile keeps the official loss, since every pair of GoPro is blurred.

# %%
figures.show_source(losses.bounded_psnr)

# %%
error = torch.logspace(-7, -1, 200)
counted = {"official": error + 1e-8, "bounded": error + 10**-4.5}
figure, axis = plt.subplots(figsize=(6, 2.6))
for name, floor in counted.items():
    axis.plot(10 * torch.log10(1 / error), 10 * torch.log10(1 / floor), label=name)
axis.set(xlabel="PSNR of a patch in dB", ylabel="what it counts for in dB")
axis.legend()
plt.show()
assert abs(10 * np.log10(1 / (1e-7 + 10**-4.5)) - 45) < 0.1

# %% tags=["training"]
train_photos = photos.load_sets(study.data(profile), train_sets, split="train")
validation = study.validation(profile, validation_set)
blurred_photos = photos.load_sets(study.data(profile), train_sets, split="train", role="degraded")  # GoPro has them
common = {"validation": validation, "degraded": blurred_photos or None, "processes": processes, "replace_run": True}
run = study.run_folder(profile, "nafnet")
settings = {"seed": seed, **training}
trained, history = recipes.train("nafnet", train_photos, run=run / "nafnet", **settings, **common)

# %%
output, data = study.output(profile, "methods/nafnet"), study.data(profile)
checked = photo_pairs(validation, recipes.SHAKE)
floor = curves.input_psnr(checked, "deblurring")
assert np.isfinite(history["loss"]).all()
curve, whose = study.learning_curve(profile, "nafnet-deblur", history)
if profile != "demo" or whose != "this run":  # what the demo trains in seconds is no result
    line = floor if whose == "this run" else provenance.record("nafnet-deblur")["validation"]["input"]
    shown = {"columns": ["loss", "psnr_rgb_crop0"], "baseline": {"psnr_rgb_crop0": line}}
    shown["loss_name"] = f"minus PSNR, {'bounded, ' if training.get('loss') != 'negative_psnr' else ''}in dB"
    figure = figures.curves(curve, **shown, input_name="blurred input")
    steps = study.length("nafnet-deblur", whose, curve, training)
    figure.suptitle(study.curve_title(profile, whose, steps), fontsize="small")
    figures.save(figure, output / "training")

# %% [markdown]
# A point of the loss is a mean over the random patches since the last point. Many of them are hardly shaken, so they
# lie above the validation's PSNR, and which ones are drawn can move the mean more than the training does.
#
# ## Experiment: what does each step bring?
#
# **Question:** the paper's ablation on GoPro says that every step gains: plain 28.51 dB, with LayerNorm 31.90, with GELU 32.11,
# with channel attention 32.35 (that is the Baseline), with SimpleGate 32.76, with simplified attention 32.85 (NAFNet). Does
# the same order appear in the trainings of this study? The line below the figure says how long they are.
#
# The published step of LayerNorm is also a step of the learning rate: the paper trains the plain network at a tenth of
# the rate of all others. Here all six train at 10⁻³, and all blocks, the plain one too, start as the identity (β = γ =
# 0, see above). So our first step is not the paper's.

# %% tags=["training"]
steps_of_the_paper = {
    "plain": ("plainnet", {}),
    "+ LayerNorm": ("plainnet", {"norm": True}),
    "+ GELU": ("plainnet", {"norm": True, "gelu": True}),
    "+ CA = Baseline": ("baseline", {}),
    "+ SimpleGate": ("nafnet", {"simplified": False}),
    "+ SCA = NAFNet": ("nafnet", {}),
}
experiment = {}
for label, (method, more) in steps_of_the_paper.items():
    for number in ablation_seeds:
        settings = {**ablation, "arguments": {**ablation["arguments"], **more}, "seed": number}
        settings["validate_every"] = settings["steps"]
        name = run / f"{label.split(' ')[-1].lower()}-seed-{number}"
        experiment[label, number] = recipes.train(method, train_photos, run=name, **settings, **common)

# %%
side = 4 * trained.multiple_of
tried = list(checked.items())
if blurred_photos:  # a set with blur of its own, which the paper's table is measured on: some of its test pairs
    tried = list(set_pairs(data, train_sets[0], recipes.SHAKE).items())
tried = dict(tried[:: -(-len(tried) // 16)])
floor = curves.input_psnr(tried, "deblurring")
rows = [
    {"network": label, "seed": number, "photos": len(tried), "parameters": complexity.parameters(net)}
    | {"steps": ablation["steps"], "width": net.intro.out_channels}
    | {"multiply-adds per pixel": complexity.multiply_adds(net, torch.rand(1, 3, side, side)) / side**2}
    | {"gain": recipes.mean_psnr(net, tried)["psnr_rgb_crop0"] - floor}
    for (label, number), (net, _) in experiment.items()
]
tables.write(pd.DataFrame(rows), output / "experiment")
assert np.isfinite([row["gain"] for row in rows]).all()
published = dict(zip(steps_of_the_paper, (28.51, 31.90, 32.11, 32.35, 32.76, 32.85), strict=True))
found = study.experiment(profile, "methods/nafnet/experiment")
sizes = pd.DataFrame(rows) if found is None else found
sizes = sizes.groupby("network", sort=False)[["parameters", "multiply-adds per pixel"]].first()
sizes["published, GoPro, dB"] = sizes.index.map(published)
sizes.style.format({"parameters": "{:,}", "multiply-adds per pixel": "{:,.0f}", "published, GoPro, dB": "{:.2f}"})

# %% [markdown]
# The networks have the same width but not the same size: compare their parameters and multiply-adds in the table.

# %%
steps, decided = {}, []
if found is None:
    print("not measured yet (make report PROFILE=release does): the table above quotes the paper")
else:
    figure, axis = plt.subplots(figsize=(7.5, 3))
    sns.stripplot(found, x="gain", y="network", order=list(published), color=figures.COLORS["nafnet"], s=8, ax=axis)
    axis.axvline(0, color="0.4", linestyle="--")
    axis.set(xlabel="gain over the blurred photos in dB (RGB); one dot per seed", ylabel="")
    figures.save(figure, output / "experiment")
    by_seed = found.pivot(index="network", columns="seed", values="gain").reindex(list(published))
    told = found.iloc[0]
    print(f"{told['steps']:,} steps at width {told['width']}, {by_seed.shape[1]} seeds, {told['photos']} photos;")
    print("gain of each step, mean over seeds:")
    for before, after in pairwise(by_seed.index):
        steps[after], is_decided, told = statistics.over_seeds(by_seed, after, before)
        decided += [after] if is_decided else []
        print(f"{after:16} {told}; published {published[after] - published[before]:+.2f}")
    reach = study.reach(by_seed, "nafnet-deblur")
    print(reach)

# %% [markdown]
# The interval is Student's, over seeds. Equal signs alone prove nothing: even pure chance gives three seeds the same
# sign in one case of four, and five steps are listed. The paper trains for 200,000 steps. The last line says how early
# in a training the rows were compared: a short one can only contradict that the order shows *early*.
#
# ## Results
#
# RGB, nothing cropped, 3-D SSIM: NAFNet's protocol. Sharp photos are blurred here. A set such as GoPro brings its own
# pairs: averages of 7 to 13 frames of a video with 240 frames per second, so they are made, too, but from real motion.
# In the table ± is half of the 95 % interval over photos, and ≈ marks what the photos cannot tell from the best of its
# set.

# %%
model, label = study.best(profile, "nafnet-deblur", trained)
built = model.spec["arguments"]
print(f"{label}: width {built['width']}, blocks {built['encoder']}, {built['middle']}, {built['decoder']}")
if model is not trained:
    print(f"trained for {provenance.story('nafnet-deblur')}; the paper's for 200,000 steps on GoPro")
restorers = evaluate.baseline("deblurring")
if profile != "demo":
    restorers["nafnet", study.own(profile)] = evaluate.with_model(trained)
restorers["nafnet", label] = evaluate.with_model(model)
rows = evaluate.sets(restorers, data, test_sets, recipes.SHAKE, measures.for_task("deblurring"))
means = tables.means(rows)
column = "psnr_rgb_crop0"
own = {"nafnet-deblur": "nafnet/nafnet"}
tables.write_rows(provenance.stamp(rows, profile, trained=own, degradation=recipes.SHAKE), output / "rows")
tables.write(means, output / "means", tables.rank(means))
Markdown(tables.markdown(*tables.readable(means)))

# %%
restored = rvlib.restore(model, blurred)
shown = {"blurred": blurred, "NAFNet": restored}
notes = {name: f"{metrics.psnr(picture, sharp, channel='rgb'):.2f} dB" for name, picture in shown.items()}
figure = figures.zoom_strip({**shown, "sharp": sharp}, box=(120, 250, 110, 150), context=blurred, notes=notes)
figures.save(figure, output / "strip")

# %% [markdown]
# ### What the gate does to a photo
#
# The two halves u and v of one gate in the trained network, and their product. Where both are large, the product is
# larger still. The line below the pictures says how much of it lies at edges. Each picture has its own scale.

# %%
seen = {}
handle = model.encoders[0][0].conv2.register_forward_hook(lambda _, __, out: seen.update(out=out.detach()[0]))
rvlib.restore(model, blurred[60:300, 180:480])
handle.remove()
u, v = seen["out"].chunk(2)
channel = int((u * v).flatten(1).std(dim=1).argmax())
halves = {"u": u[channel], "v": v[channel], "u ⊙ v": (u * v)[channel]}
figure, axes = plt.subplots(1, 3, figsize=(12.5, 2.8), gridspec_kw={"wspace": 0.3})
for axis, (name, value) in zip(axes, halves.items(), strict=True):
    limit = value.abs().max().item()
    shown = axis.imshow(value.cpu().numpy(), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_title(f"{name}, channel {channel}")
    axis.set_axis_off()
    figure.colorbar(shown, ax=axis, shrink=0.8)
plt.show()
steep = np.hypot(*np.gradient(figures.luminance(blurred[60:300, 180:480])))
product = halves["u ⊙ v"].abs().cpu().numpy()[: steep.shape[0], : steep.shape[1]]
share = product[steep > np.quantile(steep, 0.9)].sum() / product.sum()
print(f"the steepest tenth of the pixels has {100 * share:.0f} % of the product")

# %% [markdown]
# ## Patches in training, whole photos in use
#
# Simplified channel attention takes the mean over *whatever it is given*: a patch in training, a whole photo
# afterwards. A photo's mean is the mean of many patches, so it varies less than theirs. The *test-time local converter*
# (TLC, Chu et al. 2022) gives each pixel the mean of a window around it whose side is 1.5 times that of a training
# patch, without any training.
#
# **The published GoPro numbers are those with the converter**: 33.69 dB (width 64) and 32.87 dB (width 32) come from
# the official options with `NAFNetLocal`. A comparison with them must use `local=True`.

# %%
figures.show_source(nafnet.Pool.forward)

# %%
file = provenance.weights_file(profile, "nafnet-deblur", label, own)
patch = provenance.training_patch(file)
local = rvlib.create(**{"name": "nafnet", **model.spec["arguments"], "local": True, "train_size": [patch, patch]})
local.load_state_dict(model.state_dict())
local.eval()
compared = []
sides = sorted({patch, 2 * patch, 512})
for side in sides:
    for number, name in enumerate(("astronaut", "chelsea", "coffee", "flower")):  # each has a shake of its own
        truth = photos.sample(name)[:side, :side]
        shaken = recipes.SHAKE(truth, np.random.default_rng([seed, number]))
        scores = [metrics.psnr(rvlib.restore(net, shaken, tile=1024), truth, channel="rgb") for net in (model, local)]
        compared.append({"side in pixels": side, "photo": name, "local less global in dB": scores[1] - scores[0]})
compared = pd.DataFrame(compared)
tables.write(compared, output / "local")

# %%
figure, axis = plt.subplots(figsize=(5.5, 2.8))
sns.lineplot(compared, x="side in pixels", y="local less global in dB", hue="photo", marker="o", errorbar=None, ax=axis)
axis.axhline(0, color="0.4", linestyle="--")
axis.set(ylabel="local less global mean in dB", xticks=sides)
axis.set_xlabel("largest side of the crop in pixels (512: as much of the photo as there is)")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "local")
for length, part in compared[compared["side in pixels"] > patch].groupby("side in pixels"):
    converter = statistics.mean_interval(part["local less global in dB"].round(3) + 0.0)  # no -0.000
    print(f"{length} pixels a side, or the whole photo: the converter changes the PSNR by {converter.text(3, 'dB')}")
smallest = compared.loc[compared["side in pixels"] == patch, "local less global in dB"]
assert smallest.abs().max() < 1e-6, "at the size of a training patch both are the same"

# %% [markdown]
# At the size of a training patch the two means are the same by construction. The lines above say whether these four
# photos show an effect beyond it; one network was tried. For comparison, the paper of TLC reports +0.65 dB for
# Restormer on GoPro (32.92 to 33.57).
#
# ## What the paper does not show: the dark
#
# A network without activation functions is made of products and normalisation. How does it take a photo at a quarter of
# the brightness? LayerNorm forgets the scale of the features, but what is added at the end must shrink with the photo.
# A dark photo in 8 bits also has fewer grey levels. The control separates the two: the same dark photo is made bright
# again *before* the network.

# %%
points = []
for number, name in enumerate(("astronaut", "chelsea", "coffee", "flower")):
    bright = photos.sample(name)[:192, :192]
    for level in (0.25, 0.5, 1.0):
        truth = (bright * level).round().astype(np.uint8)
        shaken = recipes.SHAKE(truth, np.random.default_rng([seed, number]))  # by the same path at every level
        gain = metrics.psnr(rvlib.restore(model, shaken), truth, channel="rgb")
        gain -= metrics.psnr(shaken, truth, channel="rgb")
        points.append({"brightness": f"{level:g}", "photo": name, "gain": gain})
        if level == 0.25:
            shaken, truth = 4 * shaken.clip(0, 63), 4 * truth.clip(0, 63)
            gain = metrics.psnr(rvlib.restore(model, shaken), truth, channel="rgb")
            gain -= metrics.psnr(shaken, truth, channel="rgb")
            points.append({"brightness": "0.25, made bright", "photo": name, "gain": gain})
points = pd.DataFrame(points)

# %%
table = points.pivot(index="photo", columns="brightness", values="gain")
figure, axis = plt.subplots(figsize=(6.5, 2.8))
order = ["0.25", "0.5", "1", "0.25, made bright"]
sns.stripplot(points, x="brightness", y="gain", hue="photo", order=order, s=8, ax=axis)
axis.axhline(0, color="0.4", linestyle="--")
axis.set(xlabel="brightness of the photo", ylabel="gain over the input in dB")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "dark")
dark = statistics.paired_difference(table["0.25"], table["1"])
levels = statistics.paired_difference(table["0.25, made bright"], table["1"])
print(f"gain at a quarter of the brightness less gain at full brightness: {dark.text(2, 'dB')};")
print(f"the part of it that remains when the dark photo is made bright before: {levels.text(2, 'dB')}")

# %% [markdown]
# Where a line says that it cannot be told from zero, four photos are too few to decide. That does not say that there is
# no effect: see in the figure how many of the four lose. What a photo loses even when it is made bright again is due to
# its grey levels. A loss that this removes is due to the network.
#
# ## Where it fails
#
# The sample photo on which the network gains least, and the places where its restored luminance is wrong.

# %%
tested = photo_pairs(
    {n: photos.sample(n)[:300, :400] for n in ("astronaut", "chelsea", "coffee", "flower")}, recipes.SHAKE
)
score = partial(metrics.psnr, channel="rgb")
restored = {n: rvlib.restore(model, low) for n, (low, _) in tested.items()}
gains = {n: score(restored[n], truth) - score(low, truth) for n, (low, truth) in tested.items()}
worst = min(gains, key=gains.get)
shaken, truth = tested[worst]
before, after = figures.signed_difference(shaken, truth), figures.signed_difference(restored[worst], truth)
figure = figures.difference_map({"blurred": before, f"NAFNet, {gains[worst]:+.2f} dB": after})
figures.save(figure, output / "failure")

# %%
border = np.ones(before.shape, bool)
border[16:-16, 16:-16] = False
left_over = {
    k: (after[at] ** 2).mean() / (before[at] ** 2).mean() for k, at in (("border", border), ("inside", ~border))
}
fate = "makes it worse" if gains[worst] < 0 else "gains least"
print(f"{worst}: the network {fate} ({gains[worst]:+.2f} dB); the others:", {n: round(g, 2) for n, g in gains.items()})
print("squared error that is left, in % of the input's:", {k: f"{100 * share:.0f}" for k, share in left_over.items()})
direction = np.corrcoef(before.ravel(), (after - before).ravel())[0, 1]
print(
    f"correlation of what the network adds with the blur's error: {direction:+.2f} (-1: all of it is directed against "
    f"the error, whatever its strength)"
)

# %% [markdown]
# Two kinds of error must be told apart. Frequencies that the path wipes out cannot come back, and leave a pale copy of
# the blurred map. A correction that is too strong or in the wrong place makes edges of the other sign: over-sharpening.
# The lines above say how much error is left at the 16 pixels of the border, where the network must guess what lies
# outside, and inside. `10_compare_deblurring` varies the length of the shake.
#
# ## Takeaways

# %%
gained = statistics.differences(rows, column, ("nafnet", label), ("blurry", "blurry input"))
facts = {"gain_db": {name: round(each.mean, 2) for name, each in gained.items()}}
facts |= {"ablation_db": {name: round(float(step), 3) for name, step in steps.items()}}
tables.write_json(facts | {"converter_db": round(converter.mean, 3)}, output / "summary.json")
for name, each in gained.items():
    weights = f"NAFNet ({label}, {complexity.parameters(model):,} parameters)"
    print(f"{name}: {weights} less the blurred input {each.text(2, 'dB')}")
print(
    f"the test-time converter changes the PSNR by {converter.text(3, 'dB')};\n"
    f"a quarter of the brightness changes the gain by {dark.text(2, 'dB')}"
)
for word, found_steps in (
    ("gain", [name for name in decided if steps[name] > 0]),
    ("cost PSNR", [name for name in decided if steps[name] < 0]),
    ("have an effect that cannot be told from zero", [name for name in steps if name not in decided]),
):
    if steps:
        print(f"steps of the block that {word} here: {', '.join(found_steps) or 'none'}")
if steps:
    print(f"how early in a training that is: {reach}")
print(f"sample photos that come out worse than they went in: {sum(g < 0 for g in gains.values())} of {len(gains)}")
assert not any(isinstance(m, (torch.nn.ReLU, torch.nn.GELU, torch.nn.Sigmoid)) for m in model.modules())

# %% [markdown]
# - The paper's claim: one U-Net is enough, and its blocks need only a norm, convolutions, a mean and products.
# - GELU, gated units and channel attention have one form: features times a function of the features.
# - One gate makes a parabola. d gates one after the other reach degree $2^d$, which comes close to an activation
#   function.
# - Minus PSNR as a loss makes easy patches count as much as hard ones.
#
# **What can go wrong in practice**
# - A photo that is sharp, or hardly shaken, can come out worse (`10_compare_deblurring`). Compare before and after.
# - Means over the image mean something else in a photo than in a training patch, and something else again in a tile.
# - A score without its converter (TLC), channel and window cannot be compared with a published one.
#
# ## Try it
#
# **1.** How many multiply-adds does SimpleGate save in the 1 × 1 convolution after it, compared with GELU on all 2c
# channels?
#
# <details><summary>Solution</summary>
#
# Half. With GELU, 2c channels go in and c come out: $2c^2$ multiply-adds per pixel. SimpleGate hands over c channels: $c^2$.
# </details>
#
# **2.** Start β and γ at 1 instead of 0 (`parameter.data.fill_(1)`), and look at the output of a fresh network of 36
# blocks.
#
# <details><summary>Solution</summary>
#
# Each half then adds its own output, so the standard deviation of the features grows with depth. `ending` makes of that
# a random picture about as strong as the photo, although the longest arc still adds the photo. With 0 the random picture
# is weaker, and does not grow with the number of blocks.
# </details>

# %%
channels = 32
your_share = 0.5  # of the multiply-adds that remain
assert your_share * (2 * channels * channels) == channels * channels

# %% [markdown]
# ## Further reading
#
# - Chen et al. 2022, *Simple Baselines for Image Restoration*,
#   [doi:10.48550/arXiv.2204.04676](https://doi.org/10.48550/arXiv.2204.04676)
# - Chu et al. 2022, *Improving Image Restoration by Revisiting Global Information Aggregation* (TLC),
#   [doi:10.48550/arXiv.2112.04491](https://doi.org/10.48550/arXiv.2112.04491)
# - Dauphin et al. 2017, *Language Modeling with Gated Convolutional Networks*,
#   [doi:10.48550/arXiv.1612.08083](https://doi.org/10.48550/arXiv.1612.08083): gated linear units
# - Zamir et al. 2021, *Multi-Stage Progressive Image Restoration* (MPRNet),
#   [doi:10.48550/arXiv.2102.02808](https://doi.org/10.48550/arXiv.2102.02808), and Cho et al. 2021 (MIMO-UNet),
#   [doi:10.48550/arXiv.2108.05054](https://doi.org/10.48550/arXiv.2108.05054): the other two architectures
# - Nah et al. 2017, *Deep Multi-scale CNN for Dynamic Scene Deblurring* (GoPro),
#   [doi:10.48550/arXiv.1612.02177](https://doi.org/10.48550/arXiv.1612.02177)
#
# Next: `08_diffir`, which steers a network by a vector that diffusion guesses.
