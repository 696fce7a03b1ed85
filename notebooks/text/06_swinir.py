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
# **What does attention add to convolutions, and what does it cost?** A convolution mixes neighbours with weights that are
# the same everywhere; attention computes the weights from the picture itself. Over a whole photo that would cost the
# square of its pixels. SwinIR attends inside windows of 8 × 8 and shifts them in every second layer, so that
# information crosses the borders: cost grows with the pixels, and reach with the depth.
#
# **You will see**
# - windows, their shift and the mask that the shift needs, drawn on a photo,
# - what the network learns about position, as a picture,
# - which input pixels one output pixel depends on, against a convolutional network.
#
# Papers: Liang et al. 2021, *SwinIR: Image Restoration Using Swin Transformer*; Liu et al. 2021, *Swin Transformer*.
# Needs: `04_fsrcnn`. Time: under a minute with the demo parameters on two CPU cores.

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

from rvlib import complexity, evaluate, measures, metrics, objectives
from rvlib.study import figures, tables
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
experiment_steps = 60  # of each run of the experiment
experiment_seeds = [0, 1]
from_interpolation = True  # the start of training; the official code begins at random
seed = 0
processes = 1  # that share the training: one for each GPU of this machine

# %% [markdown]
# ## What attention over a whole photo would cost
#
# Every token compares itself with every other: $n^2$ products for n tokens. With windows of M × M it is $n M^2$. The
# multiply-adds of the two matrix products alone, for 60 channels:

# %%
sides = np.array([32, 64, 128, 256, 512])
tokens = sides**2
figure, axis = plt.subplots(figsize=(5.5, 3))
axis.loglog(sides, 2 * 60 * tokens**2, marker="o", label="all pixels with all")
axis.loglog(sides, 2 * 60 * tokens * 8**2, marker="s", label="windows of 8 × 8")
axis.set(xlabel="side of the photo in pixels", ylabel="multiply-adds of one layer")
axis.set_xticks(sides, sides, minor=False)
axis.minorticks_off()
axis.legend()
plt.show()

# %% [markdown]
# Counting while the library's model runs shows that the whole network keeps the promise: four times the pixels, four
# times the work.

# %%
model = rvlib.create("swinir", scale=scale, **small)
counted = {side: complexity.multiply_adds(model, torch.zeros(1, 3, side, side)) for side in (32, 64)}
print({f"{side} × {side}": f"{count / 1e6:.0f} million multiply-adds" for side, count in counted.items()})
assert abs(counted[64] / counted[32] - 4) < 0.01

# %% [markdown]
# ## Windows
#
# The photo is cut into windows, each becomes a sequence of 64 tokens, and every window is attended to by itself. All that
# takes is an order: which of the photo's tokens, numbered row by row, stand in which window. Put in their places again,
# they are the photo:

# %%
figures.show_source(swinir.window_order)

# %%
photo = photos.sample("chelsea")[40:104, 100:196]
image = to_tensor(photo)
tokens = image.flatten(2).transpose(1, 2)
windows = swinir.window_order(image, 8, 0)
assert torch.equal(tokens[:, windows.order].flatten(1, 2)[:, windows.place], tokens)
print(f"{tuple(tokens.shape)} -> {tuple(tokens[:, windows.order].shape)}: (photo, windows, tokens, channels)")

# %% [markdown]
# ### The shift, and why it needs a mask
#
# With fixed windows no information would ever cross their borders. Every second layer therefore rolls the image by half a
# window first. Rolling brings the top next to the bottom: windows at the seam hold pixels that are no neighbours, and
# these must not see each other. The colours mark the regions that may.

# %%
rolled = torch.from_numpy(photo.copy()).roll((-4, -4), dims=(0, 1)).numpy()
mask = swinir.window_order(image, 8, 4).mask[:, 0]
figure, axes = plt.subplots(1, 4, figsize=(12, 2.9), width_ratios=[1.5, 1.5, 1, 1])
for axis, picture, title in zip(axes, (photo, rolled), ("windows", "rolled by 4, cut again"), strict=False):
    axis.imshow(picture)
    axis.set(xticks=np.arange(0, 97, 8) - 0.5, yticks=np.arange(0, 65, 8) - 0.5, title=title)
    axis.grid(color="yellow", linewidth=0.7)
    axis.tick_params(labelbottom=False, labelleft=False)
for axis, index, title in ((axes[2], 0, "mask of the first window"), (axes[3], -1, "mask of the last window")):
    axis.imshow(mask[index] == 0, cmap="gray", vmin=0, vmax=1)
    axis.set(title=title, xlabel="token that is seen", ylabel="token that looks")
    axis.grid(visible=False)
plt.show()

# %% [markdown]
# White means "may see"; the rest gets -∞ on its score, and so a weight of 0 (`11_cost` tells what the official -100
# costs). Inside the photo a window sees all of itself; the last one, at the corner, consists of four
# regions that come from four corners of the photo.
#
# ## Attention inside a window
#
# With $X \in \mathbb{R}^{M^2 \times C}$ the tokens of a window (the report's equations 1 and 2):
#
# $$Q = X P_Q, \quad K = X P_K, \quad V = X P_V, \qquad
#   \mathrm{Attention}(Q, K, V) = \mathrm{SoftMax}\!\left(\frac{Q K^\top}{\sqrt d} + B\right) V$$

# %%
figures.show_source(swinir.attention)

# %%
figures.show_source(swinir.WindowAttention)

# %% [markdown]
# On a CPU, `forward` calls `attention` for a few windows at a time, so their intermediate results stay in the cache. Written
# out for all windows of a photo, it gives the same numbers:

# %%
attention = model.layers[0].residual_group.blocks[0].attn
x = torch.randn(1, 5, 64, small["embed"])
with torch.no_grad():
    q, k, v = attention.qkv(x[0]).view(5, 64, 3, attention.heads, -1).permute(2, 0, 3, 1, 4)
    bias = attention.relative_position_bias_table[attention.relative_position_index].permute(2, 0, 1)
    weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias).softmax(dim=-1)
    written_out = attention.proj((weights @ v).transpose(1, 2).reshape(5, 64, -1))
    difference = (written_out - attention(x, None)[0]).abs().max().item()
assert difference < 1e-5
assert torch.allclose(weights.sum(dim=-1), torch.ones(5, attention.heads, 64))

# %% [markdown]
# ### Position
#
# Attention by itself does not know where a token stands. B gives each head one learned number per *relative* position:
# 15 × 15 of them for a window of 8 × 8, looked up for each of the 64 × 64 pairs.

# %%
index = attention.relative_position_index.view(64, 64)
figure, axes = plt.subplots(1, 3, figsize=(9, 2.9))
for axis, token in zip(axes, (0, 27, 63), strict=True):
    shown = axis.imshow(index[token].view(8, 8), vmin=0, vmax=224)
    axis.set_title(f"seen from token {token}")
    axis.grid(visible=False)
figure.colorbar(shown, ax=axes.tolist(), label="entry of the table")
plt.show()

# %% [markdown]
# ## Layers, blocks, network
#
# A Swin Transformer layer (STL) puts attention and a small network in front of shortcuts, each behind a LayerNorm (report,
# equations 3 and 4); a residual block (RSTB) is a few layers and a convolution behind one more shortcut (5 and 6):
#
# $$X = \mathrm{MSA}(\mathrm{LN}(X)) + X, \qquad X = \mathrm{MLP}(\mathrm{LN}(X)) + X$$
# $$F_{i,j} = \mathrm{STL}_{i,j}(F_{i,j-1}), \qquad F_{i,\mathrm{out}} = \mathrm{Conv}_i(F_{i,L}) + F_{i,0}$$

# %%
figures.show_source(swinir.SwinLayer)

# %%
figures.show_source(swinir.RSTB)

# %% [markdown]
# The whole: shallow features $F_0 = H_{SF}(x)$, deep features $F_{DF} = H_{DF}(F_0)$, and a reconstruction
# $\hat y = H_{REC}(F_0 + F_{DF})$ (7 to 9). The lightweight variant reconstructs with one convolution and one pixel
# shuffle. The convolution at the end of each block is the part that works the same at every place; the paper adds it
# because windows do not.

# %%
count = len(model.layers)
parts = {"x": "3 × h × w", "conv": "$F_0$: " + f"{small['embed']} channels"}
parts |= {f"RSTB {i + 1}": f"{small['depths'][i]} STL + conv" for i in range(count)}
parts |= {"norm, conv": "$F_{DF}$", "shuffle": f"3 × {scale}h × {scale}w"}
figure = figures.flow(parts, shortcuts=[("conv", "norm, conv")])

# %% [markdown]
# ## Training
#
# SwinIR minimises $\mathcal{L} = \lVert \hat y - y \rVert_1$ (equation 10). Absolute error punishes large errors less than
# squared error does, so that a few hard pixels do not rule the gradient.

# %%
figures.show_source(objectives.Pixelwise)

# %% [markdown]
# SwinIR has no path around the network, so that the official code spends its first steps on learning to interpolate.
# Half a million steps don't notice; a short training does. Here the first channels of $F_0$ start as the image, and the
# last convolution starts as bilinear interpolation, to which the rest adds nothing yet:

# %%
figures.show_source(swinir.start_as_interpolation_)

# %% tags=["training"]
train_photos = photos.load_sets(study.data(profile), train_sets, split="train")
validation = study.validation(profile, validation_set)
run = study.run_folder(profile, "swinir")
common = {"validation": validation, "processes": processes, "replace_run": True}
torch.manual_seed(seed)
start = swinir.start_as_interpolation_(rvlib.create("swinir", **training["arguments"])) if from_interpolation else None
trained, history = recipes.train(
    "swinir", train_photos, run=run / "swinir", start=start, seed=seed, **training, **common
)

# %%
output, column = study.output(profile, "methods/swinir"), f"psnr_y_crop{scale}"
degradation, data = Bicubic(scale), study.data(profile)
checked = photo_pairs(validation, degradation)
baseline = np.mean([metrics.psnr(evaluate.bicubic(scale)(low), high, crop=scale) for low, high in checked.values()])
figure = figures.curves(history, columns=["loss", column], baseline={column: baseline})
figures.save(figure, output / "training")

# %% [markdown]
# ### What it learned about position
#
# The learned table of one layer, one picture per head: the centre is a token's own place. After a short training it is
# still mostly the noise that it began with; after a long one, heads have divided the labour by distance and direction.

# %%
model, label = study.best(profile, f"swinir-small-x{scale}", trained)
table = model.layers[0].residual_group.blocks[0].attn.relative_position_bias_table.detach()
side = int(len(table) ** 0.5)
limit = table.abs().max()
figure, axes = plt.subplots(1, table.shape[1], figsize=(2.6 * table.shape[1], 2.6), squeeze=False)
for head, axis in enumerate(axes[0]):
    axis.imshow(table[:, head].view(side, side), cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_title(f"head {head + 1}")
    axis.set_axis_off()
figure.suptitle(f"relative position bias, first layer ({label}): red attracts, blue repels")
plt.show()

# %% [markdown]
# ## Results

# %%
chosen = measures.for_task("super-resolution", scale, perceptual=True)
restorers = evaluate.baseline("super-resolution", scale)
restorers["swinir", "this run"] = evaluate.with_model(trained)
restorers["swinir", label] = evaluate.with_model(model)
rows = evaluate.sets(restorers, data, test_sets, degradation, chosen)
means = tables.means(rows)
tables.write(rows, output / "rows")
tables.write(means, output / "means", tables.rank(means))
means.drop(columns="seconds").style.format(precision=3).hide(axis="index")

# %%
reference = photos.sample("coffee")
degraded, reference = photo_pairs({"coffee": reference}, degradation)["coffee"]
shown = {"bicubic": evaluate.bicubic(scale)(degraded), "SwinIR": rvlib.restore(model, degraded)}
notes = {name: f"{metrics.psnr(picture, reference, crop=scale):.2f} dB" for name, picture in shown.items()}
figure = figures.zoom_strip({**shown, "reference": reference}, box=(120, 250, 110, 150), context=reference, notes=notes)
figures.save(figure, output / "strip")

# %% [markdown]
# ## Which input pixels does an output pixel depend on?
#
# The gradient of one output pixel with respect to the input answers it. SRResNet's grows by one pixel per convolution and
# is the same everywhere; SwinIR's ends at windows and reaches further in fewer layers. Both at fresh weights, so that
# only the architecture speaks, on a logarithmic scale.

# %%
sources = {"SwinIR": rvlib.create("swinir", scale=scale, **small)}
sources["SRResNet, 4 blocks"] = rvlib.create("srgan", scale=scale, blocks=4, features=24)
figure, axes = plt.subplots(1, 2, figsize=(8, 3.6))
low = to_tensor(degraded[20:84, 40:104])
for axis, (name, network) in zip(axes, sources.items(), strict=True):
    x = low.clone().requires_grad_()
    network(x)[0, :, 30 * scale, 30 * scale].sum().backward()
    reached = x.grad.abs().sum(dim=1)[0]
    shown_map = axis.imshow((reached / reached.max() + 1e-9).log10(), cmap="magma", vmin=-6, vmax=0)
    axis.set_title(f"{name}\n{100 * (reached > 0).float().mean():.0f} % of the input", fontsize="small")
    axis.set(xlabel="input pixels", xticks=range(0, 65, 8), yticks=range(0, 65, 8))
figure.colorbar(shown_map, ax=axes.tolist(), label="log₁₀ of the relative gradient")
figures.save(figure, output / "reach")

# %% [markdown]
# ## What the paper does not show: windows have a grid
#
# Move a photo by one pixel and a convolutional network's output moves with it, exactly. SwinIR's windows stay where they
# are and cut the photo elsewhere. How much does the restored photo change, away from the borders?

# %%
whole = degraded[:88, :120]
changes = []
srresnet = rvlib.create("srgan", scale=scale, blocks=4, features=24)
for name, network in (("SwinIR", model), ("SRResNet", srresnet)):
    before = rvlib.restore(network, whole).astype(float)
    for shift in range(1, 9):
        after = rvlib.restore(network, np.ascontiguousarray(whole[shift:, shift:])).astype(float)
        cut = slice(40 * scale, 56 * scale)
        moved = slice((40 - shift) * scale, (56 - shift) * scale)
        change = np.abs(before[cut, cut] - after[moved, moved]).max()
        changes.append({"network": name, "shift in pixels": shift, "largest change in grey levels": change})
changes = pd.DataFrame(changes)
figure, axis = plt.subplots(figsize=(5.5, 2.8))
sns.lineplot(changes, x="shift in pixels", y="largest change in grey levels", hue="network", marker="o", ax=axis)
figures.save(figure, output / "failure")

# %% [markdown]
# A shift by a whole window puts the grid back in its place, and the change with it (what remains comes from the borders,
# which reach far through many layers). That is a failure worth knowing where frames of a video are restored one by one:
# static texture can flicker as the camera moves.
#
# ## Experiment: does a larger window pay?
#
# **Question:** the window of 8 × 8 makes attention four times as expensive as one of 4 × 4. Does the same short training
# get further with it? Two seeds give an idea of the spread.

# %% tags=["training"]
experiment = {}
for window in (4, 8):
    for number in experiment_seeds:
        settings = {**training, "steps": experiment_steps, "validate_every": experiment_steps, "seed": number}
        settings["arguments"] = {**training["arguments"], "window": window}
        name = f"window-{window}-seed-{number}"
        experiment[window, number] = recipes.train("swinir", train_photos, run=run / name, **settings, **common)

# %%
found = pd.DataFrame(
    [
        {
            "window": window,
            "seed": number,
            column: log[column].iloc[-1],
            "multiply-adds": complexity.multiply_adds(network, low),
        }
        for (window, number), (network, log) in experiment.items()
    ]
)
summary = found.groupby("window").agg({column: ["mean", "std"], "multiply-adds": "first"})
summary.columns = ["mean PSNR in dB", "spread", "multiply-adds"]
tables.write(summary.reset_index(), output / "window")
summary.style.format({"mean PSNR in dB": "{:.2f}", "spread": "{:.2f}", "multiply-adds": "{:,.0f}"})

# %%
difference = found.pivot(index="seed", columns="window", values=column).eval("`8` - `4`")
print(
    f"window 8 less window 4: {difference.mean():+.2f} dB, from {difference.min():+.2f} to {difference.max():+.2f} over seeds"
)

# %% [markdown]
# ## Self-ensemble: eight looks at the same photo
#
# A network is not quite symmetric: restoring the mirrored photo and mirroring back gives a slightly different picture.
# Averaging the eight versions of the square removes what is arbitrary (EDSR's trick; SwinIR+ in the paper). It costs
# eight forwards and no training.

# %%
names = ("astronaut", "chelsea", "coffee", "flower")
tested = photo_pairs({name: photos.sample(name) for name in names}, degradation)
gains = {}
for name, (low_photo, truth) in tested.items():
    once, eight = (rvlib.restore(model, low_photo, self_ensemble=flag) for flag in (False, True))
    gains[name] = metrics.psnr(eight, truth, crop=scale) - metrics.psnr(once, truth, crop=scale)
pd.Series(gains, name="gain of the ensemble in dB").round(3).to_frame()

# %% [markdown]
# ## Takeaways

# %%
gain = (
    means[means["label"] == label].set_index("set")[column]
    - means[means["method"] == "bicubic"].set_index("set")[column]
)
facts = {"gain_db": gain.to_dict(), "ensemble_db": float(np.mean(list(gains.values()))), "window_db": difference.mean()}
tables.write_json(facts, output / "summary.json")
print(f"SwinIR ({label}, {complexity.parameters(model):,} parameters) is {gain.round(2).to_dict()} dB above bicubic;")
print(f"the self-ensemble adds {facts['ensemble_db']:.2f} dB for eight times the work")

# %% [markdown]
# - Attention makes the weights of the mixture depend on the content; windows make it affordable; shifts let it travel.
# - The mask is what makes rolling legal, the bias table is all the network knows about position.
# - It trains slowly: where a convolutional network begins with "look at your neighbours", attention has to learn it.
#
# ## Try it
#
# 1. Set the table of position biases to zero in a trained model. How many decibels is position worth?
# 2. Draw the gradient map for the trained model. Does it use what it can reach?
# 3. Set `from_interpolation` to False. After how many steps does the curve reach where the other one begins?
# 4. Which of the eight symmetries helps most? Average two of them, and check that two are better than one:

# %%
low_photo, truth = tested["coffee"]
pair = [
    rvlib.restore(model, low_photo),
    np.ascontiguousarray(rvlib.restore(model, np.ascontiguousarray(low_photo[:, ::-1]))[:, ::-1]),
]
both = to_array(to_tensor(pair[0]) / 2 + to_tensor(pair[1]) / 2)
alone = [metrics.psnr(picture, truth, crop=scale) for picture in pair]
assert metrics.psnr(both, truth, crop=scale) > np.mean(alone), "an average of two guesses beats the mean guess"

# %% [markdown]
# Next: `07_nafnet`, which leaves super-resolution for deblurring, and attention for something simpler.
