# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 06 · SwinIR: attention that a photo can afford
#
# **What does attention add to convolutions, and what does it cost?** A convolution mixes neighbours with weights that
# are the same everywhere. Attention computes its weights from the picture itself. Over a whole photo its cost would
# grow with the square of the number of pixels. SwinIR therefore attends inside windows of 8 × 8 pixels, and shifts the
# windows in every second layer, so information crosses their borders. The cost then grows with the number of pixels.
#
# **You will see**
# - attention on a picture of 4 × 4 pixels with windows of 2 × 2, number by number,
# - windows, their shift and the mask that the shift needs, drawn on a photo,
# - diagrams of the layer, the block and the network, each next to its equation,
# - where the released network attends, and which input pixels an output pixel depends on.
#
# Papers: Liang et al. 2021, *SwinIR: Image Restoration Using Swin Transformer*; Liu et al. 2021, *Swin Transformer*.
# Needs: `04_fsrcnn`. Time: under a minute with the demo parameters on two CPU cores.
#
# **Where it comes from.** SRCNN and EDSR made super-resolution a matter of convolutions. The Vision Transformer
# brought attention to pictures. Restoration transformers such as IPT cut a photo into patches of 48 × 48 pixels and
# restored each on its own: pixels at the border of a patch do not see their neighbours in the next one, and the borders
# can become visible. Patches that overlap soften this and cost more. Swin's windows shift instead, and SwinIR puts
# convolutions around them.

# %% tags=["training"]
import torch

import rvlib
from rvlib import photos, recipes, study
from rvlib.models import swinir

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from einops import rearrange
from IPython.display import Markdown

from rvlib import complexity, evaluate, measures, metrics
from rvlib.study import curves, diagrams, figures, provenance, tables
from rvlib.study.statistics import differences, over_seeds, paired_difference
from rvlib.degrade import Bicubic
from rvlib.pairs import photo_pairs
from rvlib.restore import to_array, to_tensor

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
train_sets = ["samples"]
validation_set = "samples"  # its first 16 validation photos are restored while training goes on
test_sets = ["samples"]
scale = 4
small = {"embed": 24, "depths": [2, 2], "heads": [2, 2], "drop_path": 0.0}  # official, light: 60, 4 times 6, 4 times 6
training = {"steps": 250, "batch_size": 8, "patch_size": 64, "validate_every": 50, "arguments": small}
window_experiment = {"steps": 60, "batch_size": 8, "patch_size": 64, "arguments": small}  # each of its trainings
experiment_seeds = [0, 1]
from_interpolation = True  # the start of training; the official code begins at random
seed = 0
processes = 1  # that share the training: one for each GPU of this machine

# %% [markdown]
# ## Attention by hand: 4 × 4 pixels, windows of 2 × 2
#
# A picture with an edge: dark on the left (0), bright on the right (1). Each pixel is a *token*, a vector of two
# numbers that says "how dark, how bright", here 0 or 3. The picture is cut into four windows of four tokens.

# %% tags=["nbval-check-output"]
tiny = torch.tensor([[0.0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]])
features = 3 * torch.stack([1 - tiny, tiny], dim=-1)  # (4, 4, 2)


def cut(picture: torch.Tensor) -> torch.Tensor:
    """4 x 4 -> 4 windows of 4 tokens, row by row."""
    return picture.view(2, 2, 2, 2, -1).transpose(1, 2).reshape(4, 4, -1)


tokens = cut(features)
print("picture\n", tiny.int().numpy(), "\nwindows of four tokens (brightness)\n", cut(tiny)[..., 0].int().numpy())

# %% [markdown]
# Take the second window, at the top right: dark, bright, bright, bright. Each token is compared with each token of its
# window by a dot product, the *score*, divided by the root of the number of channels: $3 \cdot 3 / \sqrt 2 = 6.36$ for
# two equal tokens, 0 for others. A softmax turns a row of scores into weights that sum to 1. The new token is the
# mean of the old ones with these weights: bright pixels average bright pixels, and the dark one keeps to itself. A
# blur would have mixed them all.

# %%
window = tokens[1]
scores = window @ window.T / window.shape[-1] ** 0.5
weights = scores.softmax(dim=-1)
print("scores\n", scores.numpy().round(2), "\nweights\n", weights.numpy().round(2))
print("brightness before", (window[:, 1] / 3).tolist(), "after", (weights @ window[:, 1] / 3).numpy().round(2))
assert torch.allclose(weights.sum(dim=-1), torch.ones(4))

# %% [markdown]
# With fixed windows, no information ever crosses their borders. So every second layer *rolls* the picture first, here
# by one pixel, and cuts it at the same places. What leaves at the top comes back at the bottom. The numbers of the
# pixels show what has come together:

# %% tags=["nbval-check-output"]
numbers = torch.arange(16.0).view(4, 4)
print("rolled by one\n", numbers.roll((-1, -1), dims=(0, 1)).int().numpy())
print("its windows\n", cut(numbers.roll((-1, -1), dims=(0, 1)))[..., 0].int().numpy())

# %% [markdown]
# The first window now holds the centre of the picture (5, 6, 9, 10), which the cuts had separated. The last one holds
# the four corners (15, 12, 3, 0), which are not neighbours at all. They must not see each other, so the layer adds a
# *mask* to the scores: 0 where two tokens belong together, -∞ where they do not. The softmax turns a score of -∞ into a
# weight of 0.
#
# ## Attention, the equation
#
# Let $X \in \mathbb{R}^{M^2 \times C}$ be the tokens of one window of $M \times M$ pixels, with $C$ channels each. A
# token does not enter the comparison as it is. Three learned matrices, the same for every window, make three vectors of
# it: a *query* (what it looks for), a *key* (what it is found by) and a *value* (what it hands over):
#
# $$Q = X P_Q, \quad K = X P_K, \quad V = X P_V, \qquad Q, K, V \in \mathbb{R}^{M^2 \times d} \tag{1}$$
#
# $$\mathrm{Attention}(Q, K, V) = \mathrm{SoftMax}\!\left(\frac{Q K^\top}{\sqrt d} + B\right) V \tag{2}$$
#
# (The numbers of equations are those of the audited report, a course report, see `12_report`. It prints (2) without the
# last $V$, and then the result would be the weights alone.) The division by $\sqrt d$ keeps the scores at the same size
# whatever $d$ is: a dot product of two vectors of $d$ independent numbers with mean 0 and variance 1 has the variance
# $d$. $B$ is a learned number per *relative* position of two tokens; without it, attention would not know where a token
# is. *Multi-head* attention does all this $h$ times with its own matrices of $d = C / h$ channels, joins the results,
# and mixes them by one more linear layer. Biases are left out here. The library's few lines are this equation:

# %%
figures.show_source(swinir.attention)

# %%
with torch.no_grad():
    as_heads = tokens[None, :, None]  # (photo, windows, heads, tokens, channels): one photo, one head
    library = swinir.attention(as_heads, as_heads, as_heads, None, bias=torch.zeros(1, 4, 4))
assert torch.allclose(library[0, 1, 0], weights @ window), "the library computes what we computed by hand"

# %% [markdown]
# ## What attention over a whole photo would cost
#
# Every token compares itself with every other: $n^2$ products for n tokens. With windows of M × M it is $n M^2$. The
# multiply-adds of the two matrix products alone, for 60 channels:

# %%
sides = np.array([32, 64, 128, 256, 512])
count = sides**2
figure, axis = plt.subplots(figsize=(5.5, 3))
axis.loglog(sides, 2 * 60 * count**2, marker="o", label="all pixels with all")
axis.loglog(sides, 2 * 60 * count * 8**2, marker="s", label="windows of 8 × 8")
axis.set(xlabel="side of the photo in pixels", ylabel="multiply-adds of one layer")
axis.set_xticks(sides, sides, minor=False)
axis.minorticks_off()
axis.legend()
plt.show()

# %% [markdown]
# A whole network keeps the promise. Counted while the demo's small one runs: four times the pixels, four times the
# work.

# %%
model = rvlib.create("swinir", scale=scale, **small)
counted = {side: complexity.multiply_adds(model, torch.zeros(1, 3, side, side)) for side in (32, 64)}
print({f"{side} × {side}": f"{count / 1e6:.0f} million multiply-adds" for side, count in counted.items()})
assert abs(counted[64] / counted[32] - 4) < 0.01

# %% [markdown]
# ## Windows on a photo
#
# Cutting and rolling only change the order of tokens. The library computes that order once per photo (the number of
# each window's tokens, and their places for the way back), and every layer uses it.

# %%
photo = photos.sample("chelsea")[40:104, 100:196]
image = to_tensor(photo)
flat = image.flatten(2).transpose(1, 2)
tokens = swinir.window_order(image, 8, 0)
assert torch.equal(flat[:, tokens.order].flatten(1, 2)[:, tokens.place], flat), "there and back"
print(f"{tuple(flat.shape)} -> {tuple(flat[:, tokens.order].shape)}: (photo, windows, tokens, channels)")

# %% [markdown]
# The photo, cut; the photo rolled by half a window and cut at the same places; and the masks of two of its windows.

# %%
rolled = torch.from_numpy(photo.copy()).roll((-4, -4), dims=(0, 1)).numpy()
mask = swinir.window_order(image, 8, 4).mask[:, 0]
figure, axes = plt.subplots(1, 4, figsize=(11.5, 2.9), width_ratios=[1.5, 1.5, 1, 1])
for axis, picture, title in zip(axes, (photo, rolled), ("windows", "rolled by 4, cut again"), strict=False):
    axis.imshow(picture)
    axis.set(xticks=np.arange(0, 97, 8) - 0.5, yticks=np.arange(0, 65, 8) - 0.5, title=title)
    axis.grid(color="yellow", linewidth=0.7)
    axis.tick_params(labelbottom=False, labelleft=False)
for axis, index, title in ((axes[2], 11, "mask at the right border"), (axes[3], -1, "mask at the corner")):
    axis.imshow(mask[index] == 0, cmap="gray", vmin=0, vmax=1)
    axis.set(title=title, xlabel="token that is seen", ylabel="token that looks")
    axis.grid(visible=False)
plt.show()
assert (mask[0] == 0).all(), "inside the photo a window sees all of itself"

# %% [markdown]
# White: allowed. All other scores get -∞, hence weight 0. (`docs/performance.md` says what the official -100 costs.)
# Inside the photo the whole mask is white. At the right border a window consists of two regions that are not
# neighbours, at the corner of four.
#
# ### Position
#
# For a window of 8 × 8 there are 15 × 15 relative positions, so $B$ is a table of 225 numbers per head. Each of the
# 64 × 64 pairs of tokens looks its number up. The same step always meets the same entry, wherever it starts:

# %%
index = model.layers[0].residual_group.blocks[0].attn.relative_position_index.view(64, 64)
figure, axes = plt.subplots(1, 3, figsize=(11, 3.9))
for axis, token in zip(axes, (0, 27, 63), strict=True):
    shown = axis.imshow(index[token].view(8, 8), vmin=0, vmax=224)
    for place, entry in enumerate(index[token].tolist()):
        axis.text(place % 8, place // 8, entry, ha="center", va="center", fontsize=7, color="w" if entry < 135 else "k")
    axis.set(title=f"seen from token {token}", xlabel="column of the window")
    axis.grid(visible=False)
axes[0].set_ylabel("row of the window")
figure.colorbar(shown, ax=axes.tolist(), label="entry of the table")
plt.show()
entries = {(token, token + 1): int(index[token, token + 1]) for token in (0, 9, 18)}
print("one step to the right, from token to token: entry", entries)
assert len(set(entries.values())) == 1

# %% [markdown]
# ## Layer, block, network
#
# **The Swin Transformer layer (STL)** has two parts, each behind a LayerNorm and inside a shortcut: multi-head
# self-attention (MSA), which mixes tokens, and a multi-layer perceptron (MLP, two linear layers with GELU between
# them), which mixes the channels of each token.
#
# $$X = \mathrm{MSA}(\mathrm{LN}(X)) + X \tag{3}$$
#
# $$X = \mathrm{MLP}(\mathrm{LN}(X)) + X \tag{4}$$

# %%
figure = diagrams.draw(
    [["X", "LayerNorm|1", "MSA", "+|1", "LayerNorm|2", "MLP", "+|2", "X "]],
    skips=[("X", "+|1"), ("+|1", "+|2")],
    shaded=["MSA"],
    notes={"X": "windows × 64 × C", "MSA": "in each window", "MLP": "on each token", "X ": "windows × 64 × C"},
)

# %%
figures.show_source(swinir.SwinLayer.forward)

# %% [markdown]
# **The residual Swin Transformer block (RSTB)** is $L$ such layers, windows shifted in every second one, and a
# convolution, inside one more shortcut. The convolution works the same at every place, which windows do not; and the
# shortcut hands features of every level on to the end.
#
# $$F_{i,j} = H_{\mathrm{STL}_{i,j}}(F_{i,j-1}), \qquad j = 1, 2, \dots, L \tag{5}$$
#
# $$F_{i,\mathrm{out}} = H_{\mathrm{CONV}_i}(F_{i,L}) + F_{i,0} \tag{6}$$
#
# $F_{i,0}$ is what block i gets. Each $H$ is a part of the network, named by its index.

# %%
figure = diagrams.draw(
    [["$F_{i,0}$", "STL|1", "STL, shifted|1", "STL|2", "STL, shifted|2", "conv 3 × 3", "+", "$F_{i,out}$"]],
    skips=[("$F_{i,0}$", "+")],
    shaded=["STL|1", "STL, shifted|1", "STL|2", "STL, shifted|2"],
    notes={"STL|1": "L layers, two by two"},
)

# %% [markdown]
# **The network.** One convolution makes shallow features, $K$ blocks and a convolution make deep ones, and the
# reconstruction reads their sum. So low frequencies pass straight through, and the blocks can work on what is missing:
#
# $$F_0 = H_{SF}(I_{LQ}) \tag{7}$$
#
# $$F_{DF} = H_{DF}(F_0) \tag{8}$$
#
# $$I_{RHQ} = H_{REC}(F_0 + F_{DF}) \tag{9}$$
#
# $I_{LQ}$ is the degraded photo and $I_{RHQ}$ the restored one. *SF*, *DF* and *REC* stand for shallow features, deep
# features and reconstruction.

# %%
is_released = f"swinir-small-x{scale}" in study.released_beside(profile)
drawn = rvlib.load(f"swinir-small-x{scale}").spec["arguments"] if is_released else training["arguments"]
blocks = [f"RSTB {i + 1}\n{depth} layers" for i, depth in enumerate(drawn["depths"])]
parts = ["photo", "conv 3 × 3|sf", *blocks, "conv 3 × 3|df", "+"]
figure = diagrams.draw(
    [[*parts, "conv,\nshuffle", "restored"]],
    skips=[("conv 3 × 3|sf", "+")],
    shaded=blocks,
    notes={
        "photo": "3 × h × w",
        "conv 3 × 3|sf": f"$F_0$: {drawn['embed']} × h × w",
        "conv 3 × 3|df": "$F_{DF}$",
        "restored": f"3 × {scale}h × {scale}w",
    },
    titles=["the released network" if is_released else "the network that this profile trains"],
)

# %% [markdown]
# The official light network has four blocks of six layers and 60 channels. The classical one has six blocks of six
# layers, 180 channels and a larger reconstruction. The network drawn here reconstructs as the light one does: a single
# convolution makes $3 \cdot 4^2$ channels, and one pixel shuffle lays them out as 4 × 4 pixels.
#
# ## Training
#
# SwinIR minimises the mean absolute error between the restored photo $I_{RHQ}$ and the reference $I_{HQ}$ (the norm
# stands for the *mean* over pixels and colours):
#
# $$\mathcal{L} = \lVert I_{RHQ} - I_{HQ} \rVert_1 \tag{10}$$
#
# Its gradient has the same size for a small error as for a large one, so a few hard pixels do not dominate a step, as
# they do with squared error.
#
# No enlarged photo is added at SwinIR's end, so a training from random weights spends its first steps on learning to
# interpolate. Of half a million steps these are few; of a short training they are not. With `from_interpolation` a
# training starts from interpolation instead (`swinir.start_as_interpolation_`): the first channels of $F_0$ are the
# photo, and the last convolution interpolates it bilinearly; everything else adds nothing yet. A profile may instead
# name weights to go on from (`start`, as the release profile does): then the curve shows the last part alone.
#
# Training patches are cut at random places. Each is turned by no, one, two or three quarters, and mirrored or not, all
# with equal chances, which makes eight patches of one and costs nothing. The methods of `04` to `08` are trained with
# these augmentations; `15_self_supervised` shows where turning does harm.

# %% tags=["training"]
train_photos = photos.load_sets(study.data(profile), train_sets, split="train")
validation = study.validation(profile, validation_set)
run = study.run_folder(profile, "swinir")
common = {"validation": validation, "processes": processes, "replace_run": True}
settings = {"seed": seed, **training}
torch.manual_seed(settings["seed"])
if from_interpolation and "start" not in training:  # a profile may name weights to go on from
    settings["start"] = swinir.start_as_interpolation_(rvlib.create("swinir", **training["arguments"]))
trained, history = recipes.train("swinir", train_photos, run=run / "swinir", **settings, **common)

# %%
output, column = study.output(profile, "methods/swinir"), f"psnr_y_crop{scale}"
degradation, data = Bicubic(scale), study.data(profile)
model, label = study.best(profile, f"swinir-small-x{scale}", trained)
curve, whose = study.learning_curve(profile, f"swinir-small-x{scale}", history)
checked = photo_pairs(validation, degradation)
baseline = curves.input_psnr(checked, "super-resolution", scale)
if profile != "demo" or whose == "released weights":  # what the demo trains in seconds is no result
    known = provenance.record(f"swinir-small-x{scale}")
    line = baseline if whose == "this run" else known["validation"]["input"]
    shown = {"columns": ["loss", column], "baseline": {column: line}, "loss_name": "mean absolute error"}
    figure = figures.curves(curve, **shown)
    steps = study.length(f"swinir-small-x{scale}", whose, curve, training)
    figure.suptitle(study.curve_title(profile, whose, steps), fontsize="small")
    figures.save(figure, output / "training")
    print(f"dashed: bicubic interpolation of the validation photos, {line:.2f} dB")
if profile == "demo":
    assert history["loss"].iloc[-1] < history["loss"].iloc[0], "the training of this notebook learns"
built = model.spec["arguments"]
print(
    f"shown from here on: {label}, {complexity.parameters(model):,} parameters, {built['embed']} channels, "
    f"{' + '.join(map(str, built['depths']))} layers in {len(built['depths'])} blocks, {built['heads'][0]} heads"
)
if model is not trained:
    print(f"trained for {provenance.story(f'swinir-small-x{scale}')}")

# %% [markdown]
# ### What it learned about position
#
# The learned table $B$ of the first layer, one picture per head. The centre is the token's own place; a red entry
# raises the weight of the token at that place, a blue one lowers it.

# %%
table = model.layers[0].residual_group.blocks[0].attn.relative_position_bias_table.detach()
side = int(len(table) ** 0.5)
limit = table.abs().max()
figure, axes = plt.subplots(1, table.shape[1], figsize=(2.5 * table.shape[1] + 0.8, 2.6), squeeze=False)
for head, axis in enumerate(axes[0]):
    # turned, since the table counts from the token that is seen to the one that looks
    places = table[:, head].view(side, side).flip(0, 1)
    drawn = axis.imshow(places, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=[-7.5, 7.5, 7.5, -7.5])
    axis.set(title=f"head {head + 1}", xlabel="pixels to the right")
    axis.grid(visible=False)
axes[0, 0].set_ylabel("pixels down")
figure.colorbar(drawn, ax=axes[0].tolist(), label="added to the score")
plt.show()
half = side // 2
near = torch.from_numpy(np.maximum(*np.abs(np.mgrid[-half : half + 1, -half : half + 1])) <= 2)
nearer = [(part[near].mean() - part[~near].mean()).item() for part in table.T.reshape(-1, side, side)]
print("mean entry within 2 pixels less that further away, by head:", [f"{value:+.2f}" for value in nearer])

# %% [markdown]
# ### Where it attends
#
# The weights $\mathrm{SoftMax}(QK^\top / \sqrt d + B)$ of one token, in one layer, while the network restores a photo:
# in the window with the strongest contrast, and in one with less. The cross marks the token that looks; the pictures
# show how much it takes from each of the 64 tokens of its window.


# %%
def attention_weights(network, image: torch.Tensor, block: int, layer: int) -> torch.Tensor:
    """Softmax weights of one layer while a photo passes: (windows, heads, 64, 64)."""
    caught = []
    layer_attention = network.layers[block].residual_group.blocks[layer].attn
    hook = layer_attention.register_forward_pre_hook(lambda _, inputs: caught.append(inputs))
    with torch.no_grad():
        network(image)
        hook.remove()
        tokens, mask = caught[0]
        three = "b w n (three k d) -> three b w k n d"
        q, k, _ = rearrange(layer_attention.qkv(tokens), three, three=3, k=layer_attention.heads)
        bias = layer_attention.relative_position_bias_table.T[:, layer_attention.relative_position_index]
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias + (0 if mask is None else mask)
    return scores.softmax(dim=-1)[0]


# %%
low_photo, truth = photo_pairs({"coffee": photos.sample("coffee")}, degradation)["coffee"]
low_photo = np.ascontiguousarray(low_photo[:96, :144])
last = len(model.layers) - 1
weights = attention_weights(model, to_tensor(low_photo), last, 0)
heads = weights.shape[1]
figure, axes = plt.subplots(2, heads + 1, figsize=(2.1 * heads + 2.6, 4.4), squeeze=False)
grid = low_photo.astype(float).mean(axis=2).reshape(12, 8, 18, 8).transpose(0, 2, 1, 3).reshape(-1, 64)
steepest = grid.std(axis=1).argsort()  # windows by their contrast
for row, place in enumerate((steepest[-1], steepest[-len(steepest) // 8])):  # the first, and at seven eighths
    (down, across), token = divmod(int(place), 18), 27
    crop = low_photo[8 * down : 8 * down + 8, 8 * across : 8 * across + 8]
    shown = [crop, *weights[place, :, token].view(heads, 8, 8)]
    for panel, (axis, picture) in enumerate(zip(axes[row], shown, strict=True)):
        drawn = axis.imshow(picture, **({} if panel == 0 else {"cmap": "magma", "vmin": 0, "vmax": 0.1}))
        axis.plot(token % 8, token // 8, "x", color="cyan", markersize=9, markeredgewidth=2)
        axis.set(xticks=[], yticks=[], title="window" if panel == 0 else f"head {panel}")
label_of_weights = "weight (the mean of a window is 1/64 = 0.016)"
figure.colorbar(drawn, ax=axes.ravel().tolist(), label=label_of_weights, shrink=0.8, extend="max")
figure.suptitle(f"attention in block {last + 1}, layer 1 ({label})", fontsize="small")
figures.save(figure, output / "attention")

# %% [markdown]
# How selective is it? The *perplexity* of a row of weights, $\exp(-\sum_i w_i \ln w_i)$, says over how many tokens it
# is spread: 64 if all count the same, 1 if only one counts.

# %%
spread = torch.exp(-torch.special.xlogy(weights, weights).sum(dim=-1)).mean(dim=(0, 2))
print("tokens that a query listens to, by head:", [f"{value:.0f} of 64" for value in spread.tolist()])
assert ((spread >= 1) & (spread <= 64)).all()

# %% [markdown]
# ## Results
#
# PSNR and SSIM on luminance with the border cropped, LPIPS on RGB, NIQE on luminance without a reference (`03_metrics`
# explains them). Higher PSNR and SSIM are better, lower LPIPS and NIQE. Each network was trained once, so ± says
# nothing about other trainings; ± and ≈ are those of `04_fsrcnn`. The audited report also says that SwinIR, with fewer
# parameters, is better than convolutional networks: the released SRResNet (`05_srgan`), a chain of convolutions, stands
# next to it. `09_compare_super_resolution` says how long each was trained.

# %%
chosen = measures.for_task("super-resolution", scale, perceptual=True)
restorers = evaluate.baseline("super-resolution", scale)
restorers["swinir", label] = evaluate.with_model(model)
measured = label if profile == "demo" else study.own(profile)  # the demo trains for seconds: that is checked, not shown
restorers["swinir", measured] = evaluate.with_model(model if measured == label else trained)
other, other_label = rvlib.create("srgan", scale=scale), "untrained"
if f"srresnet-x{scale}" in rvlib.released():  # another notebook trains it
    other, other_label = rvlib.load(f"srresnet-x{scale}"), "released weights"
    restorers[f"srresnet-x{scale}", other_label] = evaluate.with_model(other)
own = {f"swinir-small-x{scale}": "swinir/swinir"}
rows = evaluate.sets(restorers, data, test_sets, degradation, chosen)
rows = provenance.stamp(rows, profile, trained=own, degradation=degradation)
means = tables.means(rows)
tables.write_rows(rows, output / "rows")
tables.write(means, output / "means", tables.rank(means))
Markdown(tables.markdown(*tables.readable(means)))

# %%
gain = differences(rows, column, ("swinir", measured), ("bicubic", "bicubic input"))
for name, difference in gain.items():
    print(f"{name}: SwinIR ({measured}) less bicubic {difference.text(2, 'dB')}")
beside = {}
if other_label != "untrained":
    beside = differences(rows, column, ("swinir", measured), ("srresnet", other_label))
for name, difference in beside.items():
    print(f"{name}: SwinIR ({measured}) less SRResNet ({other_label}) {difference.text(2, 'dB')}")

# %%
degraded, reference = photo_pairs({"coffee": photos.sample("coffee")}, degradation)["coffee"]
shown = {"bicubic": evaluate.bicubic(scale)(degraded), f"SwinIR, {label}": rvlib.restore(model, degraded)}
notes = {name: f"{metrics.psnr(picture, reference, crop=scale):.2f} dB" for name, picture in shown.items()}
figure = figures.zoom_strip({**shown, "reference": reference}, box=(120, 250, 110, 150), context=reference, notes=notes)
figures.save(figure, output / "strip")

# %% [markdown]
# ## Which input pixels does an output pixel depend on?
#
# The audited report says that the shifted windows let SwinIR "model long-range dependencies". The gradient of one
# output pixel with respect to the input is a way to look: where it is large, a change of the input changes the output.
# The cyan square holds 99 % of it. The other network is SRResNet again.

# %%
low = to_tensor(degraded[:72, 40:112])
distance = np.maximum(*np.abs(np.mgrid[:72, :72] - 36)).ravel()
reach, strong = {}, {}
figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.8))
for axis, (name, network) in zip(axes, (("SwinIR", model), ("SRResNet", other)), strict=True):
    x = low.clone().requires_grad_()
    network.eval()(x)[0, :, 36 * scale, 36 * scale].sum().backward()
    felt = x.grad.abs().sum(dim=1)[0]
    order = distance.argsort(kind="stable")
    within = felt.flatten().numpy()[order].cumsum() / felt.sum().item()
    reach[name] = int(distance[order][np.searchsorted(within, 0.99)])
    strong[name] = 100 * (felt > felt.max() / 1000).float().mean().item()
    drawn = axis.imshow((felt / felt.max() + 1e-9).log10(), cmap="magma", vmin=-6, vmax=0)
    corner = 36 - reach[name] - 0.5
    axis.add_patch(plt.Rectangle((corner, corner), 2 * reach[name] + 1, 2 * reach[name] + 1, fill=False, color="cyan"))
    axis.set(title=f"{name}, {other_label if name == 'SRResNet' else label}", xlabel="input pixels")
    axis.grid(visible=False)
axes[0].set_ylabel("input pixels")
figure.colorbar(drawn, ax=axes.tolist(), label="log₁₀ of the relative gradient")
figures.save(figure, output / "reach")
for name in reach:
    which = other_label if name == "SRResNet" else label
    windows_wide = (2 * reach[name] + 1) / 8
    print(
        f"{name} ({which}): 99 % of the gradient lies within {reach[name]} pixels, "
        f"a square whose side is {windows_wide:.1f} windows;"
    )
    print(f"    {strong[name]:.1f} % of the input counts at least a thousandth of the strongest pixel")

# %% [markdown]
# How far a network *can* look follows from its layers. How far it *does* look, the squares show: compare them with the
# 72 × 72 pixels of the input; the lines above give its side in windows. This is one pixel of one photo, and the two
# networks differ in size and training, so it says little on attention as such. On larger networks, Chen et al. 2023
# (HAT) find by attribution maps that SwinIR uses no wider a region than the convolutional RCAN, and is still better:
# what attention adds is weights that depend on the content.
#
# ## What the paper does not show: windows have a grid
#
# Move a photo by one pixel, and the output of a convolutional network moves with it, exactly, except near the border.
# SwinIR's windows stay at their places and cut the photo elsewhere. How much does the restored photo change, in the
# middle?

# %%
whole = degraded[:88, :120]
changes = []
for name, network in (("SwinIR", model), ("SRResNet", other)):
    before = rvlib.restore(network, whole).astype(float)
    for shift in (1, 2, 4, 6, 8):
        after = rvlib.restore(network, np.ascontiguousarray(whole[shift:, shift:])).astype(float)
        cut_out = slice(40 * scale, 56 * scale)
        moved = slice((40 - shift) * scale, (56 - shift) * scale)
        change = np.abs(before[cut_out, cut_out] - after[moved, moved])
        for kind, value in (("mean of the crop", change.mean()), ("largest of the crop", change.max())):
            changes.append({"network": name, "shift in pixels": shift, "in the middle": kind, "grey levels": value})
changes = pd.DataFrame(changes)

# %%
figure, axis = plt.subplots(figsize=(6.5, 3))
colours = {"SwinIR": figures.COLORS["swinir"], "SRResNet": figures.COLORS["srresnet"]}
sns.lineplot(
    changes,
    x="shift in pixels",
    y="grey levels",
    hue="network",
    style="in the middle",
    palette=colours,
    marker="o",
    ax=axis,
)
axis.set(ylabel="change in grey levels", xlabel="shift of the input in pixels")
handles, texts = axis.get_legend_handles_labels()
kept = [at for at, text in enumerate(texts) if text not in ("network", "in the middle")]
right = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
axis.legend([handles[at] for at in kept], [texts[at] for at in kept], **right)
figures.save(figure, output / "failure")
inside = changes[changes["shift in pixels"] < 8].groupby(["network", "in the middle"])["grey levels"].max()
for name in ("SwinIR", "SRResNet"):
    print(
        f"{name}: up to {inside[name, 'mean of the crop']:.1f} grey levels on average, "
        f"{inside[name, 'largest of the crop']:.0f} in one place"
    )

# %% [markdown]
# SRResNet's two lines lie at zero. A shift by a whole window of 8 pixels puts the grid back in its place, and SwinIR's
# change becomes almost zero again. Such a failure is worth knowing when frames of a video are restored one by one:
# static texture can flicker while the camera moves.
#
# ## Experiment: does a larger window pay?
#
# **Question:** with windows of 8 × 8, the two matrix products of attention cost four times as much as with 4 × 4; the
# last column of the table says what that means for the whole network. Does an equally long training get further with
# it? These runs start from fresh weights, as the official code does, and they are shorter than the training above.
# The lines below the table say how far they are from bicubic interpolation on the same photos: a network below it is
# still learning to interpolate, and then the comparison is one of learning speed, not of quality in the end. What the
# demo trains in seconds tells nothing: its table is that of the release profile, where that has run.

# %% tags=["training"]
experiment = {}
for window in (4, 8):
    for number in experiment_seeds:
        tried = {**window_experiment, "validate_every": window_experiment["steps"], "seed": number}
        tried["arguments"] = {**window_experiment["arguments"], "window": window}
        name = f"window-{window}-seed-{number}"
        experiment[window, number] = recipes.train("swinir", train_photos, run=run / name, **tried, **common)

# %%
facts = {"steps": window_experiment["steps"], "validation photos": len(checked), "bicubic": baseline}
found = pd.DataFrame(
    [
        {"window": window, "seed": number, column: log[column].iloc[-1]}
        | {"multiply-adds": complexity.multiply_adds(network, low)}
        | facts
        for (window, number), (network, log) in experiment.items()
    ]
)
tables.write(found, output / "window-rows")
found = found if (stored := study.experiment(profile, "methods/swinir/window-rows")) is None else stored
tells = profile != "demo" or stored is not None  # what the demo trains in seconds is no result
summary = found.groupby("window").agg({"seed": "count", column: ["mean", "min", "max"], "multiply-adds": "first"})
summary.columns = ["seeds", "mean PSNR in dB", "lowest", "highest", "multiply-adds for 72 × 72 pixels"]
three_digits = {name: summary[name].map("{:.3f}".format) for name in ("mean PSNR in dB", "lowest", "highest")}
tables.write(summary.assign(**three_digits).reset_index(), output / "window")
summary.index = [f"{window} × {window}" for window in summary.index]
shown = summary.rename_axis("window") if tells else summary.rename_axis("window").iloc[:, -1:]
shown.style.format(precision=3).format("{:,.0f}", subset="multiply-adds for 72 × 72 pixels")

# %%
by_window = found.pivot(index="window", columns="seed", values=column)
run_steps, run_photos, bicubic_there = found[["steps", "validation photos", "bicubic"]].iloc[0]
ahead = summary["mean PSNR in dB"].min() - bicubic_there
window_db, _, verdict = over_seeds(by_window, 8, 4)
if ahead < 0.5:
    verdict += "; no measurement yet, for that takes half a decibel over bicubic"
if tells:
    of_the_above = 100 * ahead / (curve[column].max() - line)
    told = f"validation photos: {run_photos:.0f}; after {run_steps:,.0f} steps the weaker one leads bicubic by"
    print(f"{told} {ahead:+.3f} dB, {of_the_above:.0f} % of the lead of the network above")
    verdict = f"window 8 less window 4, after {run_steps:,.0f} steps: {verdict}"
    print(verdict)

# %% [markdown]
# ## Self-ensemble: eight looks at the same photo
#
# A network is not quite symmetric: restoring the mirrored photo and mirroring the result back gives a slightly
# different picture. The mean of all eight versions (four turns, each mirrored or not) removes what is arbitrary about
# each of them. The trick is of Timofte et al. 2016, and EDSR made it common; "SwinIR+" in the paper is SwinIR with it.
# It costs eight restorations and no training.

# %%
names = ("astronaut", "chelsea", "coffee", "flower")
tested = photo_pairs({name: photos.sample(name) for name in names}, degradation)
once, eight = (
    {
        name: metrics.psnr(rvlib.restore(model, small_one, self_ensemble=flag), truth, crop=scale)
        for name, (small_one, truth) in tested.items()
    }
    for flag in (False, True)
)
ensemble = paired_difference(list(eight.values()), list(once.values()))
print(f"the ensemble less one look: {ensemble.text(2, 'dB')}")
pd.DataFrame({"one look: PSNR in dB": once, "eight looks: PSNR in dB": eight}).style.format(precision=2)

# %% [markdown]
# ## Takeaways

# %%
facts = {"gain_db": {name: each.mean for name, each in gain.items()}, "window_db": window_db}
tables.write_json({**facts, "ensemble_db": ensemble.mean, "reach_pixels": reach}, output / "summary.json")
for name, difference in gain.items():
    print(f"{name}: SwinIR ({measured}, one seed) less bicubic {difference.text(2, 'dB')}")
for name, difference in beside.items():
    print(f"{name}: SwinIR less SRResNet ({other_label}) {difference.text(2, 'dB')}")
for name, network in (("SwinIR", model), ("SRResNet", other)):
    work = complexity.multiply_adds(network, low) / 1e9
    print(f"{name}: {complexity.parameters(network):,} parameters, {work:.1f} G multiply-adds for 72 × 72 pixels")
print(f"99 % of an output pixel's gradient lies within {reach['SwinIR']} input pixels (SRResNet: {reach['SRResNet']})")
if tells:
    print(verdict)
    print(f"the weaker of these two leads bicubic by {ahead:+.2f} dB, {of_the_above:.0f} % of the lead of SwinIR above")
print(f"the self-ensemble adds {ensemble.text(2, 'dB')} for eight times the work")

# %% [markdown]
# - Attention computes the weights of a mean from the content. Windows make that affordable, shifts let it travel, and
#   the mask keeps tokens apart that rolling has brought together though they are not neighbours.
# - Without the table $B$, attention would see its 64 tokens as a set without order.
# - How far a network *can* look and how far it *does* look are two questions; the second one has to be measured.
#
# **What can go wrong in practice.** A photo whose sides are not multiples of 8 is padded by reflection and cropped.
# Restored frame by frame, a video can flicker with the grid (`14_video`). Checkpoints hold masks and indices for the
# size of the training patch; a loader has to leave them out and compute its own (`rvlib.load` does). And published
# numbers come in four kinds (DIV2K or DF2K, with or without self-ensemble): compare like with like.
#
# ## Try it
#
# **1.** Set the position tables $B$ of the released network to zero. How many decibels is position worth on `coffee`?
#
# <details><summary>Solution</summary>
#
# ```python
# import copy
#
# blind = copy.deepcopy(model)
# for name, weight in blind.named_parameters():
#     if name.endswith("relative_position_bias_table"):
#         weight.data.zero_()
# metrics.psnr(rvlib.restore(blind, degraded), reference, crop=4)
# ```
#
# Subtract the result from SwinIR's value under the strip above. The network was trained with the tables, so this
# measures how much it relies on them, not how good a network without them could become.
#
# </details>
#
# **2.** Average two of the eight looks, the photo and its mirror image. Must the mean picture have a smaller squared
# error than the two have on average?
#
# <details><summary>Solution</summary>
#
# Its *squared error* is never larger than the mean of the two squared errors (the square is convex), so its PSNR is at
# least that of the mean error, up to the rounding to grey levels. It can still be worse than the better one of the two.
# It need not reach the mean of the two PSNRs, either: errors of 2 and 1 grey levels at the same places give a squared
# error of 2.25, and the mean of the two PSNRs belongs to 2. The next cell checks it.
#
# </details>

# %%
small_one, truth = tested["coffee"]
mirrored = rvlib.restore(model, np.ascontiguousarray(small_one[:, ::-1]))[:, ::-1]
looks = [rvlib.restore(model, small_one), np.ascontiguousarray(mirrored)]
both = to_array(to_tensor(looks[0]) / 2 + to_tensor(looks[1]) / 2)
alone = [metrics.psnr(picture, truth, crop=scale) for picture in looks]
of_the_mean_error = -10 * np.log10(np.mean([10 ** (-value / 10) for value in alone]))
assert metrics.psnr(both, truth, crop=scale) > of_the_mean_error - 0.01, "an average of two guesses"

# %% [markdown]
# **Further reading**
#
# - Liang et al. 2021, *SwinIR*, [doi:10.1109/ICCVW54120.2021.00210](https://doi.org/10.1109/ICCVW54120.2021.00210)
# - Liu et al. 2021, *Swin Transformer*,
#   [doi:10.1109/ICCV48922.2021.00986](https://doi.org/10.1109/ICCV48922.2021.00986)
# - Vaswani et al. 2017, *Attention Is All You Need*,
#   [doi:10.48550/arXiv.1706.03762](https://doi.org/10.48550/arXiv.1706.03762)
# - Chen et al. 2023, *Activating More Pixels in Image Super-Resolution Transformer* (HAT),
#   [doi:10.1109/CVPR52729.2023.02142](https://doi.org/10.1109/CVPR52729.2023.02142)
# - Timofte et al. 2016, *Seven Ways to Improve Example-Based Single Image Super Resolution*,
#   [doi:10.1109/CVPR.2016.206](https://doi.org/10.1109/CVPR.2016.206)
# - Lim et al. 2017, *EDSR*, [doi:10.1109/CVPRW.2017.151](https://doi.org/10.1109/CVPRW.2017.151)
#
# Next: `07_nafnet`, which leaves super-resolution for deblurring, and attention for something simpler.
