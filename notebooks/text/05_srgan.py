# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · SRGAN: sharp pictures instead of small errors
#
# **Why does the network with the better PSNR make the duller picture?** Because a loss by pixels asks for the safe
# answer. For squared error that is the mean of all likely photos, and a mean of sharp photos is blurred. SRGAN lets a
# second network judge whether a picture looks like a photo. The price is PSNR, and how much of it you pay can be chosen
# after training.
#
# **You will see**
# - two edges, equally likely: the answer with the least squared error is a third picture, which never occurs,
# - diagrams of both networks, the game between them, and every term of the loss with a picture of what it looks at,
# - whether mixing the weights of two networks beats mixing their pictures, answered at equal PSNR.
#
# Paper: Ledig et al. 2017, *Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network*.
# Needs: `03_metrics` (PSNR and LPIPS), `04_fsrcnn` (the task). Time: about a minute with the demo parameters on two CPU
# cores.

# %% tags=["training"]
import rvlib
from rvlib import photos, recipes, study

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import Markdown

from rvlib import complexity, evaluate, losses, measures, metrics, objectives
from rvlib.study import diagrams, figures, provenance, tables
from rvlib.study.statistics import differences, mean_interval
from rvlib.backbones import vgg16_features
from rvlib.degrade import Bicubic, GaussianBlur, Noise
from rvlib.models import srgan
from rvlib.pairs import photo_pairs, set_pairs
from rvlib.restore import to_tensor

figures.theme()

# %% [markdown]
# The demo trains a small generator for seconds, to check that everything runs. The results and pictures that it shows
# are those of the released weights. The profiles of the pipeline replace the values of the next cell.

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
train_sets = ["samples"]
validation_set = "samples"  # its first 16 validation photos are restored while training goes on
test_sets = ["samples"]
scale = 4
small = {"features": 24, "blocks": 4}  # the paper: 64 and 16
pixel_training = {"steps": 200, "batch_size": 4, "patch_size": 64, "validate_every": 50, "arguments": small}
adversarial_training = {"steps": 24, "batch_size": 4, "patch_size": 64, "validate_every": 6, "arguments": small}
seed = 0
processes = 1  # that share the training: one for each GPU of this machine

# %% [markdown]
# ## Why squared error blurs
#
# Suppose the input cannot tell whether an edge lies a few pixels further left or right: both references are equally
# likely. The picture that minimises the expected squared error is their mean, and the mean has a step that neither has:
#
# $$\arg\min_{\hat y} \; \mathbb{E}\,\lVert \hat y - y \rVert^2 = \mathbb{E}[y]$$
#
# A super-resolution network is in this position at every hair and leaf.

# %%
columns = np.arange(24)
edges = [np.where(columns < at, 60, 200).astype(float) for at in (10, 14)]
mean = np.mean(edges, axis=0)
candidates = {"one edge": edges[0], "the other": edges[1], "their mean": mean}
expected = {name: np.mean([(line - edge) ** 2 for edge in edges]) for name, line in candidates.items()}
figure, axes = plt.subplots(1, 3, figsize=(9, 1.9))
for axis, (name, line) in zip(axes, candidates.items(), strict=True):
    axis.imshow(np.tile(line, (8, 1)), cmap="gray", vmin=0, vmax=255)
    axis.set_title(f"{name}: expected MSE {expected[name]:.0f}")
    axis.set_axis_off()
assert min(expected, key=expected.get) == "their mean"

# %% [markdown]
# The blurred edge wins by a factor of two, though it is the one picture that is certainly wrong. To get a *sharp*
# guess, the loss has to prefer a likely picture over a safe one.
#
# ## The generator
#
# The generator, SRResNet, works on the small photo, as FSRCNN does, but with 16 residual blocks of 64 channels. A
# residual block learns what to *add* to its input, so doing nothing is easy, and gradients have a short way to the
# first layers. k is the size of a kernel, n its number of channels, s its stride:

# %%
figure = diagrams.draw(
    [["x", "conv\nk3 n64 s1|1", "BatchNorm|1", "PReLU", "conv\nk3 n64 s1|2", "BatchNorm|2", "+", "x + block(x)"]],
    skips=[("x", "+")],
    notes={"x": "64 × h × w", "x + block(x)": "64 × h × w"},
    titles=["residual block"],
)

# %% [markdown]
# A long shortcut carries the first features past all blocks. Two *pixel shuffles* enlarge by two each: a convolution
# makes four times the channels, which are then laid out as 2 × 2 pixels.

# %%
figure = diagrams.draw(
    [
        [
            "x",
            "conv, PReLU\nk9 n64 s1",
            "16 residual\nblocks",
            "conv, BN\nk3 n64 s1",
            "+",
            "conv, shuffle\nPReLU|1",
            "conv, shuffle\nPReLU|2",
            "conv\nk9 n3 s1",
        ]
    ],
    skips=[("conv, PReLU\nk9 n64 s1", "+")],
    shaded=["16 residual\nblocks"],
    notes={
        "x": "3 × h × w",
        "conv, shuffle\nPReLU|1": "k3 n256: 64 × 2h × 2w",
        "conv, shuffle\nPReLU|2": "64 × 4h × 4w",
        "conv\nk9 n3 s1": "3 × 4h × 4w",
    },
    titles=["generator (SRResNet)"],
)

# %%
generator = rvlib.create("srgan", scale=scale)
figures.show_source(srgan.SRResNet.forward)

# %% [markdown]
# **Which SRResNet?** Two networks carry the name, and the study is explicit about it. The *paper's* has BatchNorm and
# PReLU, as drawn above; `rvlib.create("srgan")` builds it. The *released weights* `srresnet-x4` and `srgan-x4`, and so
# every number of them in this study, are of **MSRResNet**, the modern version in the library BasicSR
# (`style="msrresnet"`): no BatchNorm, ReLU in the blocks, LeakyReLU elsewhere, 3 × 3 kernels at both ends, and the
# bilinear enlargement is added at the end. The paper's authors used BatchNorm to train so deep a network; EDSR and
# ESRGAN left it out and trained deeper ones. It is dropped in restoration because it normalises by the statistics of a
# batch, which differ between training patches and whole photos.

# %%
named = {
    "paper (BatchNorm, PReLU)": "paper",
    "MSRResNet (released weights)": "msrresnet",
    "leftthomas (compact)": "compact",
}
described = []
for name, style in named.items():
    network = rvlib.create("srgan", scale=scale, style=style)
    norms = sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())
    count = complexity.parameters(network)
    described.append({"generator": name, "parameters": count, "BatchNorm layers": norms})
assert [each["BatchNorm layers"] > 0 for each in described] == [True, False, True]
pd.DataFrame(described).style.format({"parameters": "{:,}"}).hide(axis="index")

# %% [markdown]
# ## The discriminator
#
# Eight convolutions; every second one has a stride of 2 and halves the photo, and the channels grow from 64 to 512.
# LeakyReLU keeps a gradient where ReLU would have none. The paper ends in two dense layers, which tie it to patches of
# 96 × 96. Here a mean over the image comes before them, and they become 1 × 1 convolutions, as in the code of
# leftthomas (a popular SRGAN on GitHub, the third row above). So one set of weights can also judge a whole photo.

# %%
stages = [f"k3 n{n} s1\nk3 n{n} s2" for n in (64, 128, 256, 512)]
figure = diagrams.draw(
    [["photo or\nrestoration", *stages, "mean over\nthe image", "1 × 1 convs\nn1024, n1", "verdict"]],
    notes={
        "photo or\nrestoration": "3 × 96²",
        **{
            stage: f"{n} × {side}²" for stage, n, side in zip(stages, (64, 128, 256, 512), (48, 24, 12, 6), strict=True)
        },
        "verdict": "σ(logit) = D",
    },
    titles=["discriminator: each 3 × 3 convolution is followed by BatchNorm (but the first) and LeakyReLU 0.2"],
)

# %%
sizes = {
    name: complexity.parameters(net)
    for name, net in (("generator", generator), ("discriminator", srgan.Discriminator()))
}
halved = srgan.Discriminator().net[:-4](torch.zeros(1, 3, 96, 96))
assert halved.shape == (1, 512, 6, 6), "as in the diagram"
print({name: f"{count:,} parameters" for name, count in sizes.items()})

# %% [markdown]
# ## The game
#
# $$\min_{\theta_G} \max_{\theta_D} \; \mathbb{E}_{I^{HR}}[\log D(I^{HR})] + \mathbb{E}_{I^{LR}}[\log(1 - D(G(I^{LR})))]
#   \tag{min-max}$$
#
# $I^{LR}$ is the small photo, which is called x elsewhere, $I^{HR}$ its reference y, and $G(I^{LR})$ the restored photo
# $\hat y$. The discriminator D wants to say 1 for photos and 0 for restorations. The generator G wants its restorations
# taken for photos. For a fixed generator, the best discriminator is $D = p_\mathrm{photo} / (p_\mathrm{photo} + p_G)$:
# the share of photos among all pictures that look like this one. It can only be 1/2 everywhere if the two distributions
# are the same.
#
# One detail decides whether G learns at all. D is the sigmoid of a number, its *logit*: $D = \sigma(\ell) = 1 / (1 +
# e^{-\ell})$. Early on, D sees through everything, and the logit of $D(G(x))$ is far on the negative side. There
# $\log(1 - D)$, as a function of the logit, is flat. SRGAN therefore minimises $-\log D(G(x))$, which has the same
# optimum and a steep slope where it is needed.

# %%
logit = torch.linspace(-6, 6, 121, requires_grad=True)
figure, axis = plt.subplots(figsize=(5.5, 2.8))
for name, value in (
    ("log(1 - D)", -torch.nn.functional.softplus(logit)),
    ("-log D", torch.nn.functional.softplus(-logit)),
):
    (slope,) = torch.autograd.grad(value.sum(), logit)
    axis.plot(logit.detach(), slope, label=f"slope of {name}")
axis.set(xlabel="logit of D(G(x)): left, the discriminator sees through it", ylabel="gradient for the generator")
axis.legend()
plt.show()

# %% [markdown]
# Both networks live in one module here, so the study's only training loop can train them. The discriminator sees the
# restoration *detached*, and the generator is judged by *frozen* weights. The gradient of the generator's loss passes
# through the discriminator but does not change it; that of the discriminator's loss ends at the restoration.

# %%
figures.show_source(srgan.Adversaries.forward)

# %% [markdown]
# ## The loss, term by term
#
# The perceptual loss of the audited report (a course report, see `12_report`) has a content loss, an adversarial and a
# smoothness term:
#
# $$l^{SR} = l^{SR}_X + 10^{-3}\, l^{SR}_{Gen} + 2\cdot10^{-8}\, l^{SR}_{TV} \tag{SR}$$
#
# The content loss $l_X$ is either squared error on pixels, for $r$ times the $W \times H$ pixels of the small photo,
#
# $$l^{SR}_{MSE} = \frac{1}{r^2 W H} \sum_{x=1}^{rW} \sum_{y=1}^{rH} \left(I^{HR}_{x,y} - G(I^{LR})_{x,y}\right)^2 \tag{MSE}$$
#
# or squared error on the feature maps $\phi_{i,j}$ of a network that was trained to name objects,
#
# $$l^{SR}_{VGG/i,j} = \frac{1}{W_{i,j} H_{i,j}} \sum_{x=1}^{W_{i,j}} \sum_{y=1}^{H_{i,j}}
#   \left(\phi_{i,j}(I^{HR})_{x,y} - \phi_{i,j}(G(I^{LR}))_{x,y}\right)^2 \tag{VGG}$$
#
# Here $\phi_{i,j}$ is the output of the j-th convolution before the i-th pooling, of size $W_{i,j} \times H_{i,j}$.
# The generator's part of the game over the $N$ photos of a batch, and the total variation of the restored photo $\hat
# y$ (the paper's conference version has no such term):
#
# $$l^{SR}_{Gen} = \sum_{n=1}^{N} -\log D(G(I^{LR})) \tag{Gen}$$
#
# $$l^{SR}_{TV} = \frac{1}{r^2 HW} \sum_{i,j} \sqrt{(\hat y_{i+1,j} - \hat y_{i,j})^2 +
#   (\hat y_{i,j+1} - \hat y_{i,j})^2} \tag{TV}$$
#
# **Where this study differs.** It minimises *both* content losses, as leftthomas' code does: $l_{MSE} + 6\cdot10^{-3}\,
# l_{VGG} + 10^{-3}\, l_{Gen} + 2\cdot10^{-8}\, l_{TV}$ (the paper's own scaling of $l_{VGG}$, $1/12.75^2$, is about
# 0.006 too). Sums over a batch are means; MSE and VGG are means over colours and feature maps too, while TV adds up the
# colours. The study's $\phi$ is VGG16 up to and including the fifth pooling, on photos in [0, 1]; the paper takes VGG19
# after the fourth convolution before that pooling ($\phi_{5,4}$) and the audited report VGG16 before a pooling. The
# study's adversarial term is the paper's $-\log D$; leftthomas' code has $1 - D$. The terms in code:

# %%
figures.show_source(objectives.PerceptualAdversarial.__call__)

# %% [markdown]
# ### Content: what VGG16 sees
#
# Shallow maps keep edges where they are; deep ones only say what kind of thing is where. One channel after each
# pooling, the one that varies most:

# %%
photo = photos.sample("chelsea")[30:254, 100:324]
features, shown = vgg16_features(), {"photo": photo}
value = to_tensor(photo)
for layer in features:
    value = layer(value)
    if isinstance(layer, torch.nn.MaxPool2d):
        strongest = value[0, :, 1:-1, 1:-1].var(dim=(1, 2)).argmax()  # borders see the padding
        shown[f"pooling {len(shown)}: {value.shape[1]} × {value.shape[2]}²"] = value[0, strongest].detach().numpy()
figure = figures.images(shown, width=2.6, columns=3)

# %% [markdown]
# What such a distance forgives, and what it does not, shows when the same photo is disturbed in three ways that cost
# nearly the *same* squared error:

# %%
blurred = GaussianBlur(1.6)(photo)
level = np.sqrt(((blurred.astype(float) - photo) ** 2).mean())
shifted = np.clip(photo.astype(float) + level, 0, 255).round().astype(np.uint8)
disturbed = {"brighter": shifted, "noisy": Noise(level)(photo, np.random.default_rng(seed)), "blurred": blurred}
reference = to_tensor(photo)
compared = pd.DataFrame(
    {
        "PSNR in dB": {n: metrics.psnr(image, photo, channel="rgb") for n, image in disturbed.items()},
        "content loss": {n: losses.perceptual(to_tensor(i), reference, features).item() for n, i in disturbed.items()},
        "total variation": {n: losses.total_variation(to_tensor(i)).item() for n, i in disturbed.items()},
        "LPIPS": {n: metrics.lpips(image, photo) for n, image in disturbed.items()},
    }
)
print(f"total variation of the photo itself: {losses.total_variation(reference).item():.3f}")
compared.style.format(precision=3)

# %% [markdown]
# At nearly equal PSNR, the change of brightness, which nobody minds, costs next to no content; noise costs much, and
# blur costs most. Total variation measures something else: noise raises it, blur lowers it (the brighter photo has
# nearly the original's). Like the adversarial term, it does not look at the reference. At $2\cdot10^{-8}$ its part in
# the loss is negligible, as the log of the training below shows. The audited report's formula leaves open what happens
# at the border and how channels are joined; `losses.total_variation` says how it decided.

# %%
assert compared["content loss"].idxmax() == "blurred"
assert compared["content loss"].idxmin() == "brighter"
assert compared.loc["noisy", "total variation"] > compared.loc["blurred", "total variation"]

# %% [markdown]
# ## Training: first pixels, then the game
#
# A discriminator that faces a fresh generator tells restorations from photos by colour and blur. The slope of $-\log D$
# is steep then, but the gradient is about these, not about texture. The paper starts from SRResNet "to avoid undesired
# local optima". So SRResNet is trained on pixels first, and the game starts from its weights.
#
# The SRGAN paper and the audited report (10 epochs) minimise squared error in the first phase, as the recipe does by
# default. The release profile minimises absolute error (`loss: l1`), which restores better after as many steps (Lim et
# al. 2017, EDSR). So the released SRResNet was not trained on squared error, and the loss of its phase 1 is a mean
# absolute error in [0, 1]. Absolute error asks for the median of each pixel (exercise 1). The median, too, smooths
# texture that the input does not decide: a loss by pixels cannot ask for *one* of the likely photos.

# %% tags=["training"]
train_photos = photos.load_sets(study.data(profile), train_sets, split="train")
validation = study.validation(profile, validation_set)
run = study.run_folder(profile, "srgan")
common = {"validation": validation, "processes": processes, "replace_run": True}
pixels_alone, game_alone = {"seed": seed, **pixel_training}, {"seed": seed, **adversarial_training}
srresnet, pixel_history = recipes.train("srresnet", train_photos, run=run / "srresnet", **pixels_alone, **common)
gan, game_history = recipes.train("srgan", train_photos, run=run / "srgan", start=srresnet, **game_alone, **common)

# %%
output = study.output(profile, "methods/srgan")
column = f"psnr_y_crop{scale}"
if profile == "demo":
    assert pixel_history["loss"].iloc[-1] < pixel_history["loss"].iloc[0], "phase 1 learns"
(pixels, whose), (game, whose_game) = (
    study.learning_curve(profile, f"{name}-x{scale}", log)
    for name, log in (("srresnet", pixel_history), ("srgan", game_history))
)
if whose != whose_game:  # only one of the two is released
    pixels, game, whose = pixel_history, game_history, "this run"

# %%
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.2))
sns.lineplot(pixels, x="step", y="loss", ax=axes[0], marker="o")
axes[1].plot(game["step"], game["discriminator"], marker="o", label="discriminator")
axes[1].plot(game["step"], game["adversarial"] / 1e-3, marker="o", label="generator, $l_{Gen}$")
axes[1].axhline(2 * np.log(2), color="0.5", linestyle="--", label="D cannot tell: 2 log 2")
axes[1].axhline(np.log(2), color="0.5", linestyle=":", label="then, of the generator: log 2")
axes[1].set_ylim(0, None)
axes[1].legend(fontsize="small", loc="lower right")
for name, log, start in (("phase 1", pixels, 0), ("phase 2", game, pixels["step"].iloc[-1])):
    shown = log.dropna(subset=[column])
    axes[2].plot(start + shown["step"], shown[column], marker="o", label=name)
axes[2].legend()
made = {"loss": pixel_training.get("loss")}
if whose == "released weights":
    made = provenance.record(f"srresnet-x{scale}")["identity"]["objective"]
kind = "mean absolute error" if made["loss"] == "l1" else "squared error"
axes[0].set(title="phase 1: pixels", xlabel="step of phase 1", ylabel=kind)
axes[1].set(title="phase 2: the game", xlabel="step of phase 2", ylabel="cross-entropy in nats")
axes[2].set(title="validation photos", xlabel="step, phase 1 then phase 2", ylabel="PSNR in dB (luminance)")
for axis in axes:
    axis.xaxis.set_major_locator(plt.MaxNLocator(4))
phases = (("srresnet", pixels, pixel_training), ("srgan", game, adversarial_training))
counts = [study.length(f"{name}-x{scale}", whose, log, settings) for name, log, settings in phases]
figure.suptitle(study.curve_title(profile, whose, "phase 1 {}, phase 2 {}".format(*counts)), fontsize="small")
figures.save(figure, output / "training")

# %%
planned = adversarial_training["steps"]
if whose == "released weights":
    planned = provenance.record(f"srgan-x{scale}")["identity"]["settings"]["steps"]
if planned > game["step"].iloc[-1]:
    print(f"the game was stopped after {counts[1]} of {planned:,} planned steps, before its learning rate fell to zero")

# %% [markdown]
# At the dashed line the discriminator (first curve) cannot tell anything; the generator's loss (second curve) would
# then be log 2 = 0.69. The further the first falls below its line and the second rises above 0.69, the more the
# discriminator is winning. Unlike a pixel loss, neither curve has to fall for the pictures to improve. The PSNR in the
# third panel does not tell either: where it falls, the game gives up the safe answer. So games are watched by restored
# photos and by measures such as LPIPS or NIQE.

# %%
terms = game[["pixel", "content", "adversarial", "total_variation"]].mean()
print("mean parts of the generator's loss, weights included:", {name: f"{value:.1e}" for name, value in terms.items()})
assert terms["total_variation"] < 0.01 * terms["pixel"], "total variation hardly counts"

# %% [markdown]
# ## Results
#
# PSNR and SSIM compare values. LPIPS compares features of a network, and NIQE asks without a reference how natural a
# photo is; *lower* is better for both (`03_metrics`). One seed each; `photos` counts the photos of a set, ± and ≈ are
# those of `04_fsrcnn`.
#
# The paper's values (SRGAN: 29.40 dB on Set5, 26.02 dB on Set14, trained on 350,000 photos) are in the table of
# `09_compare_super_resolution`, in profiles that measure these sets. The audited report's settings are its table 2, in
# `12_report`.

# %%
degradation, data = Bicubic(scale), study.data(profile)
models, restorers = {}, evaluate.baseline("super-resolution", scale)
for name, trained in (("srresnet", srresnet), ("srgan", gan)):
    best, label = study.best(profile, f"{name}-x{scale}", trained)
    restorers[name, label] = evaluate.with_model(best)
    measured = label if profile == "demo" else study.own(profile)  # the demo trains for seconds: checked, not shown
    models[name] = best if measured == label else trained
    restorers[name, measured] = evaluate.with_model(models[name])
chosen = measures.for_task("super-resolution", scale, perceptual=True)
rows = evaluate.sets(restorers, data, test_sets, degradation, chosen)
means = tables.means(rows)
own = {f"{name}-x{scale}": f"srgan/{name}" for name in models}
tables.write_rows(provenance.stamp(rows, profile, trained=own, degradation=degradation), output / "rows")
tables.write(means, output / "means", tables.rank(means))
Markdown(tables.markdown(*tables.readable(means)))

# %%
pair = ("srgan", measured), ("srresnet", measured)
cost, gain, natural = (differences(rows, each, *pair) for each in (column, "lpips_alex_rgb_crop0", "niqe_y_crop0"))
print(f"SRGAN less SRResNet, {measured}:")
for name in cost:
    print(f"{name}: phase 2 changed PSNR by {cost[name].text(2, 'dB')}")
    print(f"{' ' * len(name)}  and LPIPS by {gain[name].text(4)}")
    if name in natural:  # photos can be too small for NIQE, or its model cannot be had
        print(f"{' ' * len(name)}  and NIQE by {natural[name].text(2)}")

# %% [markdown]
# Phase 2 is more than the game: the loss on VGG's features and more steps belong to it, and in the release profile
# squared error in place of absolute. A training with the content loss alone would tell them apart; none was made.
#
# ### The same crop
#
# Look at the fur around the eye, in SRResNet's picture and in SRGAN's: is it smooth, or has it contrast again? Check
# against the reference whether it is the same fur.

# %%
reference = photos.sample("chelsea")
degraded, reference = photo_pairs({"chelsea": reference}, degradation)["chelsea"]
shown = {"bicubic": evaluate.bicubic(scale)(degraded)}
shown |= {name: rvlib.restore(models[name], degraded) for name in ("srresnet", "srgan")}
notes = {
    n: f"{metrics.psnr(i, reference, crop=scale):.2f} dB, LPIPS {metrics.lpips(i, reference):.3f}"
    for n, i in shown.items()
}
titles = {"srresnet": "SRResNet", "srgan": "SRGAN"}
titled, notes = ({titles.get(n, n): value for n, value in each.items()} for each in (shown, notes))
figure = figures.zoom_strip({**titled, "reference": reference}, box=(80, 140, 110, 130), context=reference, notes=notes)
figures.save(figure, output / "strip")
psnr = {name: metrics.psnr(image, reference, crop=scale) for name, image in shown.items()}
beyond = "below" if psnr["srgan"] < psnr["bicubic"] else "above"
distance = abs(psnr["srgan"] - psnr["bicubic"])
print(f"on this photo SRGAN ({measured}) is {distance:.2f} dB {beyond} bicubic interpolation in PSNR")

# %% [markdown]
# ### What the game invents
#
# Texture that was not in the input is a guess. The crop is the place where SRGAN's error exceeds SRResNet's most. The
# line below it says what part of the pixels phase 2 moved away from the reference, and what part nearer to it.
# Compare directions first: is hair still hair, or grain? Other faults to look for: lines where the reference has none,
# bright seams along strong edges, and a regular pattern with a period of four pixels, which two pixel shuffles can
# leave (Odena et al. 2016).

# %%
errors = {n: np.abs(figures.signed_difference(shown[n], reference)) for n in ("srresnet", "srgan")}
worse = errors["srgan"] - errors["srresnet"]
blocks = worse[: worse.shape[0] // 32 * 32, : worse.shape[1] // 32 * 32]
blocks = blocks.reshape(-1, 32, blocks.shape[1] // 32, 32).mean(axis=(1, 3))
top, left = (32 * int(i) for i in np.unravel_index(blocks.argmax(), blocks.shape))
top, left = (max(at - 16, 0) for at in (top, left))
crop = (min(top, worse.shape[0] - 64), min(left, worse.shape[1] - 64), 64, 64)
figure = figures.zoom_strip({**titled, "reference": reference}, box=crop, context=reference)
figures.save(figure, output / "failure")
print(
    f"phase 2 made {100 * (worse > 0).mean():.0f} % of this photo's pixels worse, {100 * (worse < 0).mean():.0f} % better"
)

# %% [markdown]
# ## Between the two: PSNR against LPIPS
#
# Blau and Michaeli (2018) prove a trade-off between *distortion*, how far a restoration is from its reference, and
# *perception*, how far the distribution of restorations is from that of photos. Below a certain distortion, coming
# nearer in one means moving away in the other, whatever the network. LPIPS is not their second axis: it compares a
# picture with *its* reference, so it is a distortion too, though one between features, for which they find the
# trade-off weaker. The plane below is therefore PSNR against LPIPS, two distortions; a measure of perception needs no
# reference (NIQE) or compares sets of pictures (FID).
#
# One can choose a point between the two networks. Their weights stem from the same training, so the mixture
#
# $$\theta_\alpha = (1 - \alpha)\,\theta_\mathrm{SRResNet} + \alpha\,\theta_\mathrm{SRGAN}$$
#
# is a network too (Wang et al. 2018, ESRGAN). **Question:** is mixing weights better than simply mixing the two
# *pictures*, which needs no theory? The comparison must be made at equal PSNR: at equal α, the two are at different
# places of the plane.


# %%
def mixture(alpha: float) -> torch.nn.Module:
    """The network between the two."""
    mixed = copy.deepcopy(models["srgan"])
    first, second = models["srresnet"].state_dict(), models["srgan"].state_dict()
    mixed.load_state_dict({key: torch.lerp(first[key].float(), second[key].float(), alpha) for key in first})
    return mixed


tested = {f"{name}/{n}": pair for name in test_sets for n, pair in set_pairs(data, name, degradation).items()}
ends = {n: [rvlib.restore(models[m], low) for m in ("srresnet", "srgan")] for n, (low, _) in tested.items()}
print(f"between the weights called {measured!r}, on {len(tested)} photos")

# %%
shares = {"weights": (0.0, 0.25, 0.5, 0.75, 1.0), "pictures": np.linspace(0, 1, 13)}  # pictures need no network
points = []
for kind, alphas in shares.items():
    for alpha in alphas:
        network = mixture(alpha) if kind == "weights" and 0 < alpha < 1 else None  # the ends are the same
        for n, (low, truth) in tested.items():
            blend = ((1 - alpha) * ends[n][0] + alpha * ends[n][1]).round().astype(np.uint8)
            image = blend if network is None else rvlib.restore(network, low)
            point = {"mixed": kind, "share": float(alpha), "photo": n, "psnr": metrics.psnr(image, truth, crop=scale)}
            points.append(point | {"lpips": metrics.lpips(image, truth)})
points = pd.DataFrame(points)

# %%
plane = points.groupby(["mixed", "share"])[["psnr", "lpips"]].mean().reset_index()
figure, axis = plt.subplots(figsize=(6, 3.8))
sns.lineplot(plane, x="psnr", y="lpips", hue="mixed", style="mixed", markers=True, sort=False, ax=axis)
for kind, side, place in (("weights", "right", (-7, 5)), ("pictures", "left", (7, -9))):
    for _, point in plane[(plane["mixed"] == kind) & plane["share"].isin([0.25, 0.5, 0.75])].iterrows():
        axis.annotate(
            f"α = {point['share']}",
            (point["psnr"], point["lpips"]),
            textcoords="offset points",
            xytext=place,
            ha=side,
            fontsize="x-small",
        )
axis.set(xlabel="PSNR in dB (luminance): right is nearer", ylabel="LPIPS: down is more alike")
axis.margins(x=0.12)
axis.set_title(f"SRResNet at the right end, SRGAN at the left; mean of {len(tested)} photos", fontsize="small")
figures.save(figure, output / "plane")
tables.write(plane, output / "plane")

# %% [markdown]
# At equal PSNR: for each photo and each mixture of weights, the LPIPS of the mixture of pictures with the same PSNR is
# read off its line (its points lie close, for a line between two lies above a convex curve), and subtracted. A positive
# difference means that mixing *pictures* looks more alike. The command `rvlib restore --realism` mixes weights,
# whatever the verdict: one network restores the photo in place of two.

# %%
at_equal_psnr = []
for _, part in points.groupby("photo"):
    lines = {kind: each.sort_values("psnr") for kind, each in part.groupby("mixed")}
    inner = lines["weights"][lines["weights"]["share"].between(0.1, 0.9)]
    beside = np.interp(inner["psnr"], lines["pictures"]["psnr"], lines["pictures"]["lpips"])
    at_equal_psnr.append((inner["lpips"] - beside).mean())
mixing = mean_interval(at_equal_psnr)
answer = "cannot be told apart" if not mixing.decided else "pictures" if mixing.mean > 0 else "weights"
verdicts = {
    "pictures": "mixing the pictures is better on these photos, for this one pair of networks",
    "weights": "mixing the weights is better on these photos, for this one pair of networks, as ESRGAN has it",
    "cannot be told apart": "the two cannot be told apart on these photos",
}
whole = np.average([each.mean for each in gain.values()], weights=[each.photos for each in gain.values()])
share = abs(mixing.mean / whole)
verdict = f"{verdicts[answer]}; the difference is {100 * share:.0f} % of what phase 2 changes in LPIPS"
print(f"LPIPS at equal PSNR, weights less pictures: {mixing.text(4)}: {verdict}")

# %%
changed = {name: {"psnr_db": cost[name].mean, "lpips": gain[name].mean} for name in cost}
tables.write_json({"game": changed, "mixing_lpips_at_equal_psnr": mixing.mean}, output / "summary.json")

# %% [markdown]
# ## Takeaways

# %%
for name in cost:
    change = f"PSNR by {cost[name].text(2, 'dB')}, LPIPS by {gain[name].text(4)}"
    print(f"{name}: phase 2 changed {change} ({measured}, one seed)")
print(f"mixing weights or pictures: {verdict}")
print(f"the discriminator has {sizes['discriminator'] / sizes['generator']:.1f} times the generator's parameters")

# %% [markdown]
# - Squared error asks for the mean of all likely photos, absolute error for the median of each pixel; the game asks for
#   one of them.
# - Every term of the loss sees something else: pixels, features, a verdict, smoothness. The last one hardly counts.
# - A network that a table calls SRResNet may have BatchNorm or not. The released weights have none (MSRResNet).
#
# **What can go wrong in practice.** What a GAN draws is plausible, not true: do not read number plates or faces off
# it. The discriminator can win too early: its gradient stays large but no longer tells what a better picture would be;
# watch the dashed line. The result depends on when the game is stopped, so a PSNR of a GAN says little without its
# steps. And BatchNorm in the generator makes stains on photos that differ from the training patches.
#
# ## Try it
#
# **1.** Show that the mean minimises the expected squared error: derive
# $\arg\min_{\hat y} \mathbb{E}\,\lVert\hat y - y\rVert^2$. What minimises $\mathbb{E}\,|\hat y - y|$?
#
# <details><summary>Solution</summary>
#
# The derivative with respect to $\hat y$ is $2(\hat y - \mathbb{E}[y])$, which is zero at the mean. The derivative of
# the absolute error is $P(y < \hat y) - P(y > \hat y)$, which is zero at the *median*. For two edges that are equally
# likely, every value between the two is a median: absolute error does not insist on the mean, but does not ask for a
# sharp edge either.
#
# </details>
#
# **2.** Find the mixture of weights with the best LPIPS whose PSNR is at most 0.1 dB below SRResNet's, and check it
# below.
#
# <details><summary>Solution</summary>
#
# `plane_of_weights[plane_of_weights["psnr"] >= plane_of_weights.loc[0.0, "psnr"] - 0.1]["lpips"].idxmin()` finds it
# among the five; for a finer answer, add values of α to the loop above.
#
# </details>

# %%
your_alpha = 0.0  # change me
plane_of_weights = plane[plane["mixed"] == "weights"].set_index("share")
lost = plane_of_weights.loc[0.0, "psnr"] - plane_of_weights.loc[your_alpha, "psnr"]
assert lost <= 0.1, "too far below SRResNet's PSNR"
best_alpha = plane_of_weights[plane_of_weights["psnr"] >= plane_of_weights.loc[0.0, "psnr"] - 0.1]["lpips"].idxmin()
print("found" if your_alpha == best_alpha else "not yet: another mixture looks more alike")

# %% [markdown]
# **Further reading**
#
# - Ledig et al. 2017, *SRGAN*, [doi:10.1109/CVPR.2017.19](https://doi.org/10.1109/CVPR.2017.19)
# - Goodfellow et al. 2014, *Generative Adversarial Nets*,
#   [doi:10.48550/arXiv.1406.2661](https://doi.org/10.48550/arXiv.1406.2661)
# - Blau and Michaeli 2018, *The Perception-Distortion Tradeoff*,
#   [doi:10.1109/CVPR.2018.00652](https://doi.org/10.1109/CVPR.2018.00652)
# - Lim et al. 2017, *EDSR*, [doi:10.1109/CVPRW.2017.151](https://doi.org/10.1109/CVPRW.2017.151)
# - Wang et al. 2018, *ESRGAN*, [doi:10.1007/978-3-030-11021-5_5](https://doi.org/10.1007/978-3-030-11021-5_5)
# - Odena et al. 2016, *Deconvolution and Checkerboard Artifacts*,
#   [doi:10.23915/distill.00003](https://doi.org/10.23915/distill.00003)
#
# %% [markdown]
# Next: `06_swinir`, which changes the network instead of the loss.
