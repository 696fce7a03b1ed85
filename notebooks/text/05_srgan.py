# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 05 · SRGAN: why the best PSNR looks blurred, and what a second network does about it
#
# **Can a network draw texture that was never in its input?** Yes, if it is not punished for guessing. SRGAN adds a
# network that tells photos from restorations, and a loss that looks at features instead of pixels. What that buys in
# perceived quality it pays for in PSNR, and how much of each you get can be chosen after training.
#
# **You will see**
# - a two-line experiment in which the best possible answer to squared error is a picture that never occurs,
# - both networks, the game between them, and every term of the loss with a picture of what it looks at,
# - the perception-distortion plane, and how interpolated weights walk through it.
#
# Paper: Ledig et al. 2017, *Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network*.
# Needs: `03_metrics` (PSNR and LPIPS), `04_fsrcnn` (the task). Time: under a minute with the demo parameters on two CPU
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

from rvlib import complexity, evaluate, losses, measures, metrics, objectives
from rvlib.study import figures, tables
from rvlib.backbones import vgg16_features
from rvlib.degrade import Bicubic, GaussianBlur, Noise
from rvlib.models import srgan
from rvlib.pairs import photo_pairs
from rvlib.restore import to_tensor

figures.theme()

# %% [markdown]
# The demo trains a small generator for seconds. The profiles of the pipeline replace this cell's values.

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
# Suppose the input cannot tell whether an edge lies one pixel further left or right: both references are equally likely.
# The picture that minimises the expected squared error is their mean, and the mean has a step that neither has:
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
# The blurred edge wins by a factor of two, though it is the one picture that is certainly wrong. To get a *sharp* guess
# the loss has to prefer a likely picture over a safe one.
#
# ## The generator
#
# SRResNet works on the small image, as FSRCNN does, but with 16 residual blocks of 64 channels. Batch normalisation
# keeps so deep a network trainable, a long shortcut carries the first features past all blocks, and two pixel shuffles
# enlarge by two each: a convolution makes four times the channels, which are then laid out as 2 × 2 pixels. The released
# `srresnet-x4` and `srgan-x4` are the generator without BatchNorm, as BasicSR trains it (`srgan.MSRResNet`).

# %%
generator = rvlib.create("srgan", scale=scale)
x, shapes = torch.zeros(1, 3, 24, 24), {}
for name, part in generator.named_children():
    part.register_forward_hook(lambda _, __, out, n=name: shapes.update({n: f"{out.shape[1]} × {out.shape[2]}²"}))
with torch.no_grad():
    restored = generator(x)
kinds = ["k9 PReLU", "16 blocks", "k3 BN", "2 shuffles", "k9"]
parts = {"x": "3 × 24²"} | {
    f"{n}\n{kind}": shapes[n] for (n, _), kind in zip(generator.named_children(), kinds, strict=True)
}
names = list(parts)
figure = figures.flow(parts, shortcuts=[(names[1], names[3])])

# %%
figures.show_source(srgan.SRResNet)

# %% [markdown]
# ## The discriminator
#
# Eight convolutions halve the image four times while the channels grow from 64 to 512; LeakyReLU keeps a gradient where
# ReLU would have none. The paper ends in two dense layers, which tie it to patches of 96 × 96; the mean over the image in
# their place takes any size, so that one set of weights can also judge a whole photo.

# %%
figures.show_source(srgan.Discriminator)

# %%
sizes = {
    name: complexity.parameters(net)
    for name, net in (("generator", generator), ("discriminator", srgan.Discriminator()))
}
assert srgan.Discriminator()(torch.rand(2, 3, 96, 96)).shape == (2,)
print({name: f"{count:,} parameters" for name, count in sizes.items()})

# %% [markdown]
# ## The game
#
# $$\min_G \max_D \; \mathbb{E}_{y}[\log D(y)] + \mathbb{E}_{x}[\log(1 - D(G(x)))]$$
#
# The discriminator D wants 1 for photos and 0 for restorations. The generator wants its restorations taken for photos.
# One detail decides whether it learns at all: early on, D sees through everything, D(G(x)) is near 0, and there
# $\log(1 - D)$ is flat. SRGAN therefore minimises $-\log D(G(x))$, which has the same optimum and a steep slope where it
# is needed.

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
# Both networks live in one module here, so that the study's only training loop trains them: the discriminator sees the
# restoration *detached*, and the generator is judged by *frozen* weights. Neither gets the other's gradient.

# %%
figures.show_source(srgan.Adversaries)

# %% [markdown]
# ## The loss, term by term
#
# $$\ell = \ell_\mathrm{MSE} + 6\cdot10^{-3}\,\ell_\mathrm{VGG} + 10^{-3}\,\ell_\mathrm{adv} + 2\cdot10^{-8}\,\ell_\mathrm{TV}$$

# %%
figures.show_source(objectives.PerceptualAdversarial)

# %% [markdown]
# ### Content: what VGG16 sees
#
# $\ell_\mathrm{VGG}$ is the squared error between *feature maps* of a network that was trained to name objects. Shallow
# maps keep edges where they are; deep ones only say what kind of thing is where. The study follows the report and
# leftthomas' code: VGG16 up to its fifth pooling.

# %%
photo = photos.sample("chelsea")[30:254, 100:324]
features, shown = vgg16_features(), {"photo": photo}
value = to_tensor(photo)
for index, layer in enumerate(features):
    value = layer(value)
    if isinstance(layer, torch.nn.MaxPool2d):
        strongest = value[0, :, 1:-1, 1:-1].var(dim=(1, 2)).argmax()  # borders see the padding
        shown[f"layer {index + 1}: {value.shape[1]} × {value.shape[2]}²"] = value[0, strongest].detach().numpy()
figure = figures.images(shown, width=1.7, columns=6)

# %% [markdown]
# What such a distance forgives, and what it does not, shows when the same photo is disturbed in three ways that cost
# the *same* squared error:

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
compared.style.format(precision=3)

# %% [markdown]
# At equal PSNR the change of brightness, which nobody minds, costs next to no content; noise costs much, and blur, which
# squared error likes so well, costs most. Total variation measures something else: noise raises it, blur lowers it.
#
# ### Total variation
#
# $\ell_\mathrm{TV}$ sums the length of the gradient over the image. It is the only term that sees no reference, and at
# $2\cdot10^{-8}$ its part in the loss is negligible, as the log of the training below shows. The report's formula leaves
# open what happens at the border and how channels are joined; the library says how it decided.

# %%
figures.show_source(losses.total_variation)

# %% [markdown]
# ## Training: first pixels, then the game
#
# A discriminator that faces a fresh generator wins at once, and its gradient says nothing. So SRResNet is trained with
# squared error first (the report: 10 epochs), and the game starts from its weights.

# %% tags=["training"]
train_photos = photos.load_sets(study.data(profile), train_sets, split="train")
validation = study.validation(profile, validation_set)
run = study.run_folder(profile, "srgan")
common = {"validation": validation, "seed": seed, "processes": processes, "replace_run": True}
srresnet, pixel_history = recipes.train("srresnet", train_photos, run=run / "srresnet", **pixel_training, **common)
gan, game_history = recipes.train(
    "srgan", train_photos, run=run / "srgan", start=srresnet, **adversarial_training, **common
)

# %%
output = study.output(profile, "methods/srgan")
column = f"psnr_y_crop{scale}"
game = game_history.assign(generator=game_history["adversarial"] / 1e-3)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2))
sns.lineplot(pixel_history, x="step", y="loss", ax=axes[0], marker="o").set_yscale("log")
for name in ("discriminator", "generator"):
    sns.lineplot(game, x="step", y=name, ax=axes[1], marker="o", label=name)
axes[1].axhline(2 * np.log(2), color="0.5", linestyle="--")
for name, history, start in (("phase 1", pixel_history, 0), ("phase 2", game, pixel_history["step"].iloc[-1])):
    axes[2].plot(start + history["step"], history[column], marker="o", label=name)
axes[2].legend()
axes[0].set(title="phase 1: squared error")
axes[1].set(title="phase 2: the game", ylabel="loss")
axes[2].set(title="validation", xlabel="step", ylabel="PSNR in dB (Y, crop 4)")
figures.save(figure, output / "training")

# %% [markdown]
# The dashed line is $2\log 2$: a discriminator that cannot tell anything. Where its loss falls below, it is winning, and
# the generator's loss rises. Unlike squared error, neither curve has to fall for the pictures to improve, which is why
# games are watched by validation, not by loss.

# %%
terms = game_history[["pixel", "content", "adversarial", "total_variation"]].mean()
print("mean parts of the generator's loss:", {name: f"{value:.1e}" for name, value in terms.items()})

# %% [markdown]
# ## Results
#
# Where released weights are there, they are measured beside this run's. PSNR is higher for what was trained on pixels;
# LPIPS, which is *lower* for what looks more alike, tells the other half.

# %%
degradation, data = Bicubic(scale), study.data(profile)
models = {("srresnet", "this run"): srresnet, ("srgan", "this run"): gan}
for name, trained in (("srresnet", srresnet), ("srgan", gan)):
    model, best = study.best(profile, f"{name}-x{scale}", trained)
    models[name, best] = model
restorers = evaluate.baseline("super-resolution", scale)
restorers |= {key: evaluate.with_model(model) for key, model in models.items()}
chosen = measures.for_task("super-resolution", scale, perceptual=True)
rows = evaluate.sets(restorers, data, test_sets, degradation, chosen)
means = tables.means(rows)
tables.write(rows, output / "rows")
tables.write(means, output / "means", tables.rank(means))
means.drop(columns="seconds").style.format(precision=3).hide(axis="index")

# %% [markdown]
# ### The same crop

# %%
reference = photos.sample("chelsea")
degraded, reference = photo_pairs({"chelsea": reference}, degradation)["chelsea"]
shown = {"bicubic": evaluate.bicubic(scale)(degraded)}
shown |= {name: rvlib.restore(models[name, best], degraded) for name in ("srresnet", "srgan")}
notes = {
    n: f"{metrics.psnr(i, reference, crop=scale):.2f} dB, LPIPS {metrics.lpips(i, reference):.3f}"
    for n, i in shown.items()
}
figure = figures.zoom_strip({**shown, "reference": reference}, box=(80, 140, 110, 130), context=reference, notes=notes)
figures.save(figure, output / "strip")

# %% [markdown]
# ### What the game invents, honestly
#
# Texture that was not in the input is a guess. Here is where the two networks disagree most, and whether the
# difference brought the picture nearer to the reference or further away from it.

# %%
errors = {n: np.abs(figures.signed_difference(shown[n], reference)) for n in ("srresnet", "srgan")}
worse = errors["srgan"] - errors["srresnet"]
blocks = worse[: worse.shape[0] // 32 * 32, : worse.shape[1] // 32 * 32]
blocks = blocks.reshape(-1, 32, blocks.shape[1] // 32, 32).mean(axis=(1, 3))
top, left = (32 * int(i) for i in np.unravel_index(blocks.argmax(), blocks.shape))
top, left = (max(at - 16, 0) for at in (top, left))
crop = (min(top, worse.shape[0] - 64), min(left, worse.shape[1] - 64), 64, 64)
figure = figures.zoom_strip({**shown, "reference": reference}, box=crop, context=reference)
figures.save(figure, output / "failure")
print(
    f"the game made {100 * (worse > 0).mean():.0f} % of this photo's pixels worse, {100 * (worse < 0).mean():.0f} % better"
)

# %% [markdown]
# ## The perception-distortion plane
#
# No restoration can be best in both measures (Blau and Michaeli 2018). But one can choose: the weights of both networks
# stem from the same training, so that their mixture
#
# $$\theta_\alpha = (1 - \alpha)\,\theta_\mathrm{SRResNet} + \alpha\,\theta_\mathrm{SRGAN}$$
#
# is a network too (Wang et al. 2018, ESRGAN). **Question:** is mixing weights better than simply mixing the two
# *pictures*, which needs no theory? The experiment can come out either way.


# %%
def mixture(alpha: float) -> torch.nn.Module:
    """The network between the two."""
    mixed, ends = copy.deepcopy(models["srgan", best]), [models[n, best].state_dict() for n in ("srresnet", "srgan")]
    mixed.load_state_dict({key: torch.lerp(a.float(), ends[1][key].float(), alpha).to(a) for key, a in ends[0].items()})
    return mixed


names = ("astronaut", "chelsea", "coffee", "flower")
tested = photo_pairs({name: photos.sample(name) for name in names}, degradation)
ends = {n: [rvlib.restore(models[m, best], d) for m in ("srresnet", "srgan")] for n, (d, _) in tested.items()}
print(f"between the weights called {best!r}, on {len(tested)} sample photos")

# %%
points = []
for alpha in (0.0, 0.25, 0.5, 0.75, 1.0):
    network = mixture(alpha)
    for n, (low, truth) in tested.items():
        blend = ((1 - alpha) * ends[n][0] + alpha * ends[n][1]).round().astype(np.uint8)
        for kind, image in (("weights", rvlib.restore(network, low)), ("pictures", blend)):
            point = {"mixed": kind, "share": alpha, "photo": n, "psnr": metrics.psnr(image, truth, crop=scale)}
            points.append(point | {"lpips": metrics.lpips(image, truth)})
points = pd.DataFrame(points)

# %%
plane = points.groupby(["mixed", "share"])[["psnr", "lpips"]].mean().reset_index()
figure, axis = plt.subplots(figsize=(5.5, 3.6))
sns.lineplot(plane, x="psnr", y="lpips", hue="mixed", style="mixed", markers=True, sort=False, ax=axis)
for _, point in plane[plane["mixed"] == "weights"].iterrows():
    axis.annotate(
        f"α = {point['share']}",
        (point["psnr"], point["lpips"]),
        textcoords="offset points",
        xytext=(4, 6),
        fontsize="x-small",
    )
axis.set(xlabel="PSNR in dB (Y, crop 4): right is nearer", ylabel="LPIPS: down looks more alike")
figures.save(figure, output / "plane")
tables.write(plane, output / "plane")

# %%
half = points[points["share"] == 0.5].pivot(index="photo", columns="mixed", values=["psnr", "lpips"])
spread = {m: half[m]["weights"] - half[m]["pictures"] for m in ("psnr", "lpips")}
for m, difference in spread.items():
    print(
        f"α = 0.5, weights less pictures: {m} {difference.mean():+.4f} ± {difference.std():.4f} over {len(half)} photos"
    )
names = means[means["label"].isin([best])].set_index(["set", "method"])
cost = {s: names.loc[s, "srgan"][column] - names.loc[s, "srresnet"][column] for s in test_sets}
perceived = names["lpips_alex_rgb_crop0"]
gain = {s: perceived[s, "srgan"] / perceived[s, "srresnet"] - 1 for s in test_sets}
tables.write_json({"psnr_db": cost, "lpips_relative": gain}, output / "summary.json")

# %% [markdown]
# ## Takeaways

# %%
for name in test_sets:
    print(f"{name}: the game changed PSNR by {cost[name]:+.2f} dB and LPIPS by {100 * gain[name]:+.1f} % ({best})")
print(f"the discriminator has {sizes['discriminator'] / sizes['generator']:.1f} times the generator's parameters")

# %% [markdown]
# - Squared error asks for the mean of all likely photos; the game asks for one of them.
# - Every term sees something else: pixels, features, a verdict, smoothness. The last one hardly counts.
# - What a GAN draws is plausible, not true. Do not read number plates off it.
#
# ## Try it
#
# 1. Leave the content term out of `objectives.PerceptualAdversarial`. What does the discriminator alone make of a photo?
# 2. Start the game from a fresh generator (`start=rvlib.create("srgan", **small)`) and watch the discriminator's loss.
# 3. Find the mixture with the best LPIPS whose PSNR is at most 0.1 dB below SRResNet's, and check it:

# %%
your_alpha = 0.0  # change me
plane_of_weights = plane[plane["mixed"] == "weights"].set_index("share")
lost = plane_of_weights.loc[0.0, "psnr"] - plane_of_weights.loc[your_alpha, "psnr"]
assert lost <= 0.1, "too far below SRResNet's PSNR"

# %% [markdown]
# Next: `06_swinir`, which changes the network instead of the loss.
