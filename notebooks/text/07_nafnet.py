# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 07 · NAFNet: what is left when everything that can go is gone
#
# **Does a restoration network need activation functions?** No: a product of two feature maps is non-linearity enough. This
# notebook starts from a block of plain convolutions, adds what pays, takes away what does not, and ends at a network with
# neither ReLU, GELU, softmax nor sigmoid in it.
#
# **You will see**
# - GELU taken apart until it is a gate, and the gate until it is a product,
# - channel attention losing half of its parts and none of its effect, or so the paper says: the experiment asks,
# - why a network that was trained on patches sees something else in a whole photo, and what helps.
#
# Paper: Chen et al. 2022, *Simple Baselines for Image Restoration*. Needs: `02_degradations` (camera shake). Time: under a
# minute with the demo parameters on two CPU cores.

# %% tags=["training"]
import rvlib
from rvlib import photos, recipes, study

# %%
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from torch.nn import functional as F

from rvlib import complexity, evaluate, losses, measures, metrics
from rvlib.study import figures, tables
from rvlib.models import nafnet
from rvlib.pairs import photo_pairs

figures.theme()

# %% [markdown]
# The demo trains tiny networks for seconds. The profiles of the pipeline replace this cell's values.

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
# While the shutter is open, the camera shakes, and the sensor adds up the light of many slightly moved pictures. The blur
# is a convolution (in light, not in grey levels), and it loses what is finer than its path.

# %%
sharp = photos.sample("coffee")
blurred, sharp = photo_pairs({"coffee": sharp}, recipes.SHAKE)["coffee"]
kernels = {f"shake {i + 1}": recipes.SHAKE.kernel(np.random.default_rng(i)) for i in range(2)}
figure = figures.images({"blurred": blurred[60:300, 180:480], "sharp": sharp[60:300, 180:480], **kernels}, width=2.8)
print(f"the blurred photo: {metrics.psnr(blurred, sharp, channel='rgb'):.2f} dB (RGB, nothing cropped)")

# %% [markdown]
# ## Two kinds of complexity
#
# Before NAFNet, deblurring networks grew in two directions. *Between* blocks: several U-Nets one after the other
# (multi-stage), or features of all resolutions mixed with each other (multi-scale). *Inside* blocks: window attention,
# transposed attention, gates, several branches. The paper's bet is that the first kind is not needed at all: one U-Net,
# in which each level halves the image and doubles the channels, and skips are added.

# %%
model = rvlib.create("nafnet", width=8, encoder=(1, 1, 1), middle=1, decoder=(1, 1, 1))
c = "w·{}, 1/{}".format
parts = {"x": "3, 1/1", "intro": c(1, 1), "enc 1": c(1, 1), "enc 2": c(2, 2), "enc 3": c(4, 4), "middle": c(8, 8)}
parts |= {"dec 3": c(4, 4), "dec 2": c(2, 2), "dec 1": c(1, 1), "ending": "3, 1/1"}
shortcuts = [("x", "ending"), ("enc 1", "dec 1"), ("enc 2", "dec 2"), ("enc 3", "dec 3")]
figure = figures.flow(parts, shortcuts=shortcuts)

# %% [markdown]
# Under each box stand its channels, in units of the width w, and the size of the image. The longest arc says what kind of
# network this is: it predicts what is *missing* from the blurred photo, and adds it.

# %%
figures.show_source(nafnet.UNet.forward)

# %% [markdown]
# ## Step 0: a plain block
#
# Two halves with a shortcut each. The first mixes neighbours (a depthwise 3 × 3 convolution between two 1 × 1), the second
# mixes channels. Everything else in this notebook happens inside these two halves.

# %%
figures.show_source(nafnet.Block)

# %%
figures.show_source(nafnet.PlainBlock)

# %% [markdown]
# ## Step 1: normalise
#
# Transformers normalise each token over its channels. For an image that means: each *pixel* for itself,
#
# $$\mathrm{LN}(x) = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot w + b,$$
#
# so that the statistics of a small batch of small patches play no part, as they would in batch normalisation. The paper
# reports that this alone lets the learning rate grow tenfold, and 28.51 dB become 31.90 dB on GoPro.

# %%
figures.show_source(nafnet.LayerNorm2d)

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
# The baseline takes GELU for ReLU. Written out, GELU multiplies its input by a smooth switch between 0 and 1:
#
# $$\mathrm{GELU}(x) = x\,\Phi(x) \approx \tfrac{1}{2} x \left(1 + \tanh\!\left(\sqrt{2/\pi}\,(x + 0.044715\,x^3)\right)\right)$$
#
# A *gated linear unit* does the same with two maps instead of one, $\mathrm{Gate}(X) = f(X) \odot \sigma(g(X))$: GELU is the
# gate in which $f$ and $g$ are the identity and $\sigma$ is $\Phi$.

# %%
v = torch.linspace(-4, 4, 401)
switch = torch.distributions.Normal(0, 1).cdf(v)
approximation = 0.5 * v * (1 + torch.tanh((2 / np.pi) ** 0.5 * (v + 0.044715 * v**3)))
assert torch.allclose(v * switch, F.gelu(v), atol=1e-6)
figure, axes = plt.subplots(1, 2, figsize=(9, 2.8))
for name, line in (("ReLU", v.relu()), ("GELU = v · Φ(v)", F.gelu(v)), ("Φ(v), the switch", switch)):
    axes[0].plot(v, line, label=name)
axes[0].set(xlabel="v", ylabel="value", ylim=(-0.5, 3))
axes[0].legend()
axes[1].plot(v, approximation - F.gelu(v))
axes[1].set(xlabel="v", title=f"tanh form less GELU: at most {(approximation - F.gelu(v)).abs().max():.5f}")
plt.show()

# %% [markdown]
# ## Step 3: the switch is not needed either
#
# Even without σ, $f(X) \odot g(X)$ is not linear: it has products of features. *SimpleGate* keeps only that. It takes the
# two halves of the channels for f and g:
#
# $$\mathrm{SimpleGate}(u \Vert v) = u \odot v$$

# %%
figures.show_source(nafnet.simple_gate)

# %% [markdown]
# Can a sum of products bend like an activation does? Two linear maps and a product give any parabola, and three such terms
# already follow GELU closely over the range that normalised features live in:

# %%
inside = v[(v > -2.5) & (v < 2.5)]
angles = torch.linspace(-1.2, 1.2, 3)
terms = torch.stack([nafnet.simple_gate(torch.stack([inside - a, inside + a])[None, :, None])[0, 0, 0] for a in angles])
basis = torch.cat([terms, inside[None], torch.ones(1, len(inside))])
weights = torch.linalg.lstsq(basis.T, F.gelu(inside)[:, None], driver="gelsd").solution
figure, axis = plt.subplots(figsize=(4.6, 2.7))
axis.plot(inside, F.gelu(inside), label="GELU")
axis.plot(inside, (basis.T @ weights)[:, 0], "--", label="linear maps and products")
axis.set(xlabel="v", ylabel="value")
axis.legend()
plt.show()

# %% [markdown]
# ## Step 4: half of channel attention is enough
#
# Channel attention weighs each channel by what the whole image holds, squeezed into one number per channel:
#
# $$\mathrm{CA}(X) = X \odot \sigma\big(W_2 \max(0, W_1\,\mathrm{pool}(X))\big) = X \odot \Psi(X)$$
#
# Again a gate: a product of the features with a function of the features. What remains when the same knife is applied is
# the mean, one linear map and the product:
#
# $$\mathrm{SCA}(X) = X \odot W\,\mathrm{pool}(X)$$

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
# ## The block
#
# All of it together, beside its equations:

# %%
figures.show_source(nafnet.NAFBlock)

# %% [markdown]
# ### A new block is the identity
#
# β and γ start at zero, so a fresh network of any depth passes its input through, and every block begins to contribute as
# far as that lowers the loss. That is what makes 36 blocks in a row trainable.

# %%
block, features = nafnet.NAFBlock(8), torch.randn(1, 8, 12, 12)
assert torch.equal(block(features), features)
for parameter in (block.beta, block.gamma):
    parameter.data.fill_(0.1)
print(
    f"with β = γ = 0.1 it changes its input by {(block(features) - features).std():.3f} (input: {features.std():.2f})"
)

# %% [markdown]
# ## Objective and training
#
# The loss is minus the PSNR, averaged over the patches of a batch:
#
# $$\ell = \frac{1}{B} \sum_b \frac{10}{\ln 10} \ln\left(\mathrm{MSE}_b + 10^{-8}\right)$$

# %%
figures.show_source(losses.negative_psnr)

# %% [markdown]
# Why not squared error itself? The gradient of the logarithm is that of the error *divided by the error*: a patch of sky
# with hardly any blur pulls as hard as a patch of leaves. The picture shows the pull of five patches of one batch.

# %%
errors = torch.tensor([1e-4, 3e-4, 1e-3, 3e-3, 1e-2], requires_grad=True)
(pull_of_error,) = torch.autograd.grad(errors.mean(), errors, retain_graph=True)
(pull_of_psnr,) = torch.autograd.grad((10 / np.log(10) * torch.log(errors + 1e-8)).mean(), errors)
change = {"squared error": pull_of_error * errors, "minus PSNR": pull_of_psnr * errors}
shares = pd.DataFrame({name: (pull / pull.sum()).detach().numpy() for name, pull in change.items()})
axis = shares.assign(patch=[f"MSE {e:.0e}" for e in errors.tolist()]).plot.bar(x="patch", figsize=(6, 2.6), rot=0)
axis.set(xlabel="", ylabel="share of the pull\nof a 1 % improvement")
plt.show()

# %% [markdown]
# ### A loss that stops to count
#
# The study trains on shakes from 0 to 40 pixels, so a few patches of every batch are sharp already. NAFNet's loss rewards
# them for each decibel up to 80, and one patch that goes from 50 to 80 dB outweighs three that gain 10 dB from a blur.
# `losses.bounded_psnr` replaces $10^{-8}$ by $10^{-4.5}$: a patch that has reached about 45 dB pulls no more. The paper
# profile keeps the official loss, since every pair of GoPro is blurred.

# %%
figures.show_source(losses.bounded_psnr)

# %%
error = torch.logspace(-7, -1, 200)
curves = {"official": error + 1e-8, "bounded": error + 10**-4.5}
figure, axis = plt.subplots(figsize=(6, 2.6))
for name, floor in curves.items():
    axis.plot(10 * torch.log10(1 / error), 10 * torch.log10(1 / floor), label=name)
axis.set(xlabel="PSNR of a patch in dB", ylabel="what it counts for, in dB")
axis.legend()
plt.show()
assert abs(10 * np.log10(1 / (1e-7 + 10**-4.5)) - 45) < 0.1

# %% tags=["training"]
train_photos = photos.load_sets(study.data(profile), train_sets, split="train")
validation = study.validation(profile, validation_set)
blurred_photos = photos.load_sets(study.data(profile), train_sets, split="train", role="degraded")  # GoPro has them
common = {"validation": validation, "degraded": blurred_photos or None, "processes": processes, "replace_run": True}
run = study.run_folder(profile, "nafnet")
trained, history = recipes.train("nafnet", train_photos, run=run / "nafnet", seed=seed, **training, **common)

# %%
output, data = study.output(profile, "methods/nafnet"), study.data(profile)
checked = photo_pairs(validation, recipes.SHAKE)
baseline = np.mean([metrics.psnr(*pair, channel="rgb") for pair in checked.values()])
figure = figures.curves(history, columns=["loss", "psnr_rgb_crop0"], baseline={"psnr_rgb_crop0": baseline})
figure.axes[1].get_legend().get_texts()[0].set_text("blurred input")
figures.save(figure, output / "training")

# %% [markdown]
# ## Experiment: what does each step bring?
#
# **Question:** the paper's ablation on GoPro says that every step gains or costs nothing: plain 28.51 dB, with LayerNorm
# 31.90, GELU 32.11, channel attention 32.35 (that is the Baseline), SimpleGate 32.76, simplified attention 32.85 (NAFNet).
# Does the same order appear after a short training of small networks from the same seeds?

# %% tags=["training"]
steps_of_the_paper = {"PlainNet": ("plainnet", {}), "Baseline": ("baseline", {})}
steps_of_the_paper |= {"+ SimpleGate": ("nafnet", {"simplified": False}), "+ SCA = NAFNet": ("nafnet", {})}
experiment = {}
for label, (method, more) in steps_of_the_paper.items():
    for number in ablation_seeds:
        settings = {**ablation, "arguments": {**ablation["arguments"], **more}, "seed": number}
        settings["validate_every"] = settings["steps"]
        name = run / f"{label.split(' ')[-1].lower()}-seed-{number}"
        experiment[label, number] = recipes.train(method, train_photos, run=name, **settings, **common)

# %%
found = pd.DataFrame(
    [
        {
            "network": label,
            "seed": number,
            "parameters": complexity.parameters(net),
            "PSNR": log["psnr_rgb_crop0"].iloc[-1],
        }
        for (label, number), (net, log) in experiment.items()
    ]
)
found["gain in dB"] = found["PSNR"] - baseline
found.head(2)

# %%
published = {"PlainNet": 28.51, "Baseline": 32.35, "+ SimpleGate": 32.76, "+ SCA = NAFNet": 32.85}
summary = found.groupby("network", sort=False).agg(
    parameters=("parameters", "first"), gain=("gain in dB", "mean"), spread=("gain in dB", "std")
)
summary["published, GoPro"] = summary.index.map(published)
tables.write(summary.reset_index(), output / "ablation")
figure, axis = plt.subplots(figsize=(6, 2.5))
sns.stripplot(found, x="gain in dB", y="network", hue="network", legend=False, s=8, ax=axis)
axis.set(xlabel="gain over the blurred validation photo in dB, one dot per seed", ylabel="")
figures.save(figure, output / "ablation")
summary.style.format({"gain": "{:.2f}", "spread": "{:.2f}", "parameters": "{:,}"}, na_rep="–")

# %% [markdown]
# Differences that are smaller than the spread over seeds mean nothing, and a training of seconds or minutes is not one of
# 200,000 steps: what can be contradicted here is that the order shows *early*.
#
# ## Results
#
# RGB, nothing cropped, 3-D SSIM: NAFNet's protocol. Photos that come sharp are blurred here; where a profile has GoPro's
# real pairs, they are taken as they are.

# %%
model, label = study.best(profile, "nafnet-deblur", trained)
restorers = evaluate.baseline("deblurring")
restorers["nafnet", "this run"] = evaluate.with_model(trained)
restorers["nafnet", label] = evaluate.with_model(model)
rows = evaluate.sets(restorers, data, test_sets, recipes.SHAKE, measures.for_task("deblurring"))
means = tables.means(rows)
column = "psnr_rgb_crop0"
tables.write(rows, output / "rows")
tables.write(means, output / "means", tables.rank(means))
means.drop(columns="seconds").style.format(precision=3).hide(axis="index")

# %%
restored = rvlib.restore(model, blurred)
shown = {"blurred": blurred, "NAFNet": restored}
notes = {name: f"{metrics.psnr(picture, sharp, channel='rgb'):.2f} dB" for name, picture in shown.items()}
figure = figures.zoom_strip({**shown, "sharp": sharp}, box=(120, 250, 110, 150), context=blurred, notes=notes)
figures.save(figure, output / "strip")

# %% [markdown]
# ### What the gate does to a photo
#
# The two halves u and v of one gate in the trained network, and their product: where either is near zero, nothing passes.

# %%
seen = {}
gate = model.encoders[0][0].conv2
handle = gate.register_forward_hook(lambda _, __, out: seen.update(out=out.detach()[0]))
rvlib.restore(model, blurred[60:300, 180:480])
handle.remove()
u, v = seen["out"].chunk(2)
channel = int((u * v).flatten(1).std(dim=1).argmax())
halves = {"u": u[channel], "v": v[channel], "u ⊙ v": (u * v)[channel]}
figure = figures.images({name: value.cpu().numpy() for name, value in halves.items()}, width=3.2)

# %% [markdown]
# ## Patches in training, whole photos in use
#
# Simplified channel attention takes the mean over *whatever it is given*: a patch in training, a whole photo afterwards.
# A photo's mean is the mean of many patches, and varies less than each of them. The test-time local converter (TLC, Chu et
# al. 2022) gives each pixel the mean of a window of 1.5 training patches around it, at no training cost.

# %%
figures.show_source(nafnet.Pool)

# %%
local = rvlib.create(**{"name": "nafnet", **model.spec["arguments"], "local": True, "train_size": [96, 96]})
local.load_state_dict(model.state_dict())
local.eval()
values = torch.rand(1, 1, 96, 128).cumsum(dim=-1)
pool = nafnet.Pool()
pool.window = (32, 32)
figure, axes = plt.subplots(1, 3, figsize=(10, 2.6))
for axis, (name, picture) in zip(
    axes, {"a feature map": values, "its mean": nafnet.Pool()(values), "local mean": pool(values)}.items(), strict=True
):
    axis.imshow(picture.expand(1, 1, 96, 128)[0, 0], vmin=0, vmax=values.max().item())
    axis.set_title(name)
    axis.set_axis_off()

# %%
compared = []
for side in (96, 192, 384):
    for name in ("astronaut", "chelsea", "coffee"):
        truth = photos.sample(name)[:side, :side]
        low = recipes.SHAKE(truth, np.random.default_rng(seed))
        scores = [metrics.psnr(rvlib.restore(net, low, tile=1024), truth, channel="rgb") for net in (model, local)]
        compared.append({"side in pixels": side, "photo": name, "local less global in dB": scores[1] - scores[0]})
compared = pd.DataFrame(compared)
tables.write(compared, output / "local")
figure, axis = plt.subplots(figsize=(5.5, 2.8))
sns.lineplot(compared, x="side in pixels", y="local less global in dB", marker="o", ax=axis)
axis.axhline(0, color="0.4", linestyle="--")
figures.save(figure, output / "local")

# %% [markdown]
# At the size of a patch both are the same by construction. How much the converter helps beyond depends on how much the
# network relies on its attention, which is little in small networks after short training; the paper of TLC reports 0.3 to
# 0.8 dB for full-size ones on GoPro.
#
# ## What the paper does not show: the dark
#
# A network without activation functions is a sum of products. How does it take a photo at half the brightness? LayerNorm
# makes features forget their scale, so the same features should be found, but what is added at the end has to shrink with
# the photo. The gain tells whether it does.

# %%
points = []
for level in (0.25, 0.5, 0.75, 1.0):
    for name in ("astronaut", "chelsea", "coffee", "flower"):
        truth = (photos.sample(name)[:256, :256] * level).round().astype(np.uint8)
        low = recipes.SHAKE(truth, np.random.default_rng(seed))
        gain = metrics.psnr(rvlib.restore(model, low), truth, channel="rgb") - metrics.psnr(low, truth, channel="rgb")
        points.append({"brightness": level, "photo": name, "gain in dB": gain})
points = pd.DataFrame(points)
figure, axis = plt.subplots(figsize=(5.5, 2.8))
sns.lineplot(points, x="brightness", y="gain in dB", hue="photo", marker="o", ax=axis)
axis.axhline(0, color="0.4", linestyle="--")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "dark")

# %% [markdown]
# ## Where it fails
#
# The sample photo on which it gains least, and where on it the restored luminance is wrong.

# %%
tested = photo_pairs({n: photos.sample(n) for n in ("astronaut", "chelsea", "coffee", "flower")}, recipes.SHAKE)
score = partial(metrics.psnr, channel="rgb")
gains = {n: score(rvlib.restore(model, low), truth) - score(low, truth) for n, (low, truth) in tested.items()}
worst = min(gains, key=gains.get)
low, truth = tested[worst]
differences = {"blurred": figures.signed_difference(low, truth)}
differences[f"NAFNet, {gains[worst]:+.2f} dB"] = figures.signed_difference(rvlib.restore(model, low), truth)
figure = figures.difference_map(differences)
figures.save(figure, output / "failure")

# %% [markdown]
# What stays is where the shake was longest across fine structure: the path has zeros in its spectrum, frequencies that no
# weight multiplies back into being. A longer path than any in training is worse still, as `10_compare_deblurring` measures.
#
# ## Takeaways

# %%
per_set = means.set_index(["set", "label"])[column].unstack("label")
gain = (per_set[label] - per_set["blurry input"]).round(2).to_dict()
facts = {"gain_db": gain, "ablation_db": summary["gain"].round(3).to_dict()}
tables.write_json(facts, output / "summary.json")
print(f"NAFNet ({label}, {complexity.parameters(model):,} parameters) gains {gain} dB over the blurred input;")
print(f"the ablation's range over networks is {summary['gain'].max() - summary['gain'].min():.2f} dB")
assert not any(isinstance(m, (torch.nn.ReLU, torch.nn.GELU, torch.nn.Sigmoid)) for m in model.modules())

# %% [markdown]
# - One U-Net is enough between blocks; inside them convolutions, a norm, a product and a mean are.
# - GELU, gated units and channel attention are the same thing: features times a function of the features.
# - Minus PSNR as a loss makes easy patches count as much as hard ones.
# - Whoever pools over the whole image should check what that means for images larger than in training.
#
# ## Try it
#
# 1. Put `mean_squared_error` into the recipe in the place of `negative_psnr`. Which patches get better, which worse?
# 2. Start β and γ at 1 instead of 0. What does the first step of training look like?
# 3. How many multiply-adds does SimpleGate save in the 1 × 1 convolution after it, compared with GELU on all 2c channels?

# %%
channels = 32
your_share = 0.5  # of the multiply-adds that remain
assert your_share * (2 * channels * channels) == channels * channels

# %% [markdown]
# Next: `08_diffir`, which tells a network what kind of photo it has before it, by diffusion.
