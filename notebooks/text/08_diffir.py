# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 08 · DiffIR: diffusion where it is cheap
#
# **What does diffusion contribute to restoration?** Diffusion models draw whole images in hundreds of steps. DiffIR
# asks them for 256 numbers that describe the photo, in four steps. A second network restores the pixels, and those
# numbers steer it. What those numbers are worth is measured here against a constant in their place; the takeaways print
# it.
#
# **You will see**
# - diffusion by hand on two numbers, then on points in a plane,
# - stage 1, which may look at the answer, and stage 2, which guesses the vector that stage 1 found,
# - controls: does the vector carry anything, do the steps matter, and does the spread over noises predict the error?
#
# Paper: Xia et al. 2023, *DiffIR: Efficient Diffusion Model for Image Restoration*. Needs: `07_nafnet` (gates, U-Net).
# Time: about a minute with the demo parameters on two CPU cores.

# %% tags=["training"]
import rvlib
from rvlib import photos, recipes, study

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import Markdown, display
from torch.nn import functional as F

from rvlib import complexity, evaluate, measures, metrics, objectives
from rvlib.study import curves, diagrams, figures, provenance, statistics, tables
from rvlib.degrade import Bicubic
from rvlib.models import diffir, dirformer
from rvlib.pairs import photo_pairs, set_pairs
from rvlib.restore import to_tensor

figures.theme()

# %% [markdown]
# The demo trains tiny networks for seconds, to check that everything runs. Its figures show the released weights. The
# profiles of the pipeline replace this cell's values.

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
train_sets = ["samples"]
validation_set = "samples"  # its first 16 validation photos are restored while training goes on
super_resolution_sets = ["samples"]
deblurring_sets = ["samples"]
deblurring_train_sets = []  # pairs that deblurring learns from, in place of train_sets with made shake
tiny = {"dim": 8, "blocks": [1, 1, 1, 1], "refinement": 1, "encoder": 1}  # official: 64, [13, 1, 1, 1], 13, 9
short = {"batch_size": 4, "patch_size": 64, "validate_every": 20}
super_resolution = {"steps": 60, "arguments": tiny, **short}  # of each stage
deblurring = {"steps": 20, "arguments": {"task": "deblurring", **tiny}, **short, "batch_size": 2}
first_stages = {}  # by task: settings in which its first stage differs, and weights whose G it takes over (`start`)
ablation = {"steps": 20, "arguments": tiny, **short}
ablation_timesteps = [1, 4]
ablation_seeds = [0]
seed = 0
processes = 1  # that share the training: one for each GPU of this machine

# %% [markdown]
# ## One reverse step by hand
#
# Take two numbers, $z_0 = (1, -0.5)$, and DiffIR's schedule of four steps. The forward process mixes them with noise.
# The reverse step goes one step back. It needs a guess of $z_0$; here we give it the truth.

# %%
schedule = diffir.DDPM(diffir.linear_betas(4, 0.1, 0.99))
betas = schedule.betas.double()
alphas, kept = 1 - betas, (1 - betas).cumprod(0)  # α_t and ᾱ_t
t = 2  # the third step: t = 3 in the equations, which count from 1
z0, epsilon = torch.tensor([1.0, -0.5]).double(), torch.tensor([0.3, -1.2]).double()
zt = kept[t].sqrt() * z0 + (1 - kept[t]).sqrt() * epsilon
from_z0 = (kept[t - 1].sqrt() * betas[t] * z0 + alphas[t].sqrt() * (1 - kept[t - 1]) * zt) / (1 - kept[t])
from_noise = (zt - betas[t] / (1 - kept[t]).sqrt() * epsilon) / alphas[t].sqrt()
variance = (1 - kept[t - 1]) / (1 - kept[t]) * betas[t]
two_digits = {"z_0": z0, "noise": epsilon, "z_t": zt, "mean from z_0": from_z0, "mean from noise": from_noise}
for name, value in two_digits.items():
    print(f"{name:16}", [f"{number:+.3f}" for number in value.tolist()])
print(f"variance of the step: {variance:.3f}; betas: {[round(beta, 3) for beta in betas.tolist()]}")
assert torch.allclose(from_z0, from_noise)

# %% [markdown]
# The two means are equal: to know $z_0$ and to know the noise is the same, once $z_t$ is known. Now in general.
#
# ## The equations
#
# (A number is that of the equation in the audited report, a course report; see `12_report`.)
#
# **Forward.** Each step keeps a part of $z$ and adds noise:
#
# $$q(z_t \mid z_{t-1}) = \mathcal N\big(z_t;\ \sqrt{1 - \beta_t}\, z_{t-1},\ \beta_t I\big) \tag{12}$$
#
# Sums of Gaussians are Gaussian. With $\alpha_t = 1 - \beta_t$ and $\bar\alpha_t = \prod_{i \le t} \alpha_i$, the
# factors multiply to $\sqrt{\bar\alpha_t}$, and the variances add up to $1 - \bar\alpha_t$ (check:
# $\alpha_t (1 - \bar\alpha_{t-1}) + \beta_t = 1 - \bar\alpha_t$). So any $z_t$ is drawn in one go:
#
# $$q(z_t \mid z_0) = \mathcal N\big(z_t;\ \sqrt{\bar\alpha_t}\, z_0,\ (1 - \bar\alpha_t) I\big), \qquad
#   z_t = \sqrt{\bar\alpha_t}\, z_0 + \sqrt{1 - \bar\alpha_t}\ \epsilon \tag{13}$$
#
# **Backward.** By Bayes' rule the step back is a product of two Gaussians, $q(z_t \mid z_{t-1})\, q(z_{t-1} \mid z_0)$.
# Their precisions (a precision is one over a variance) add up, $\frac{\alpha_t}{\beta_t} + \frac{1}{1 -
# \bar\alpha_{t-1}}$, and one over that sum is the variance:
#
# $$p(z_{t-1} \mid z_t, z_0) = \mathcal N\big(z_{t-1};\ \mu_t(z_t, z_0),\ \sigma_t^2 I\big), \qquad
#   \sigma_t^2 = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\, \beta_t \tag{14}$$
#
# $$\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1 - \bar\alpha_t}\, z_0
#         + \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, z_t
#       = \frac{1}{\sqrt{\alpha_t}} \Big(z_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}}\, \epsilon\Big)$$
#
# The second form follows from the first: put $z_0 = (z_t - \sqrt{1 - \bar\alpha_t}\,\epsilon) / \sqrt{\bar\alpha_t}$
# into it. The cell above checked it with numbers.
#
# **Training.** A usual diffusion model learns to tell the noise, at one random $t$:
#
# $$\mathbb E_{z_0, t, \epsilon} \Big[ \big\lVert \epsilon - \epsilon_\theta\big(\sqrt{\bar\alpha_t}\, z_0 +
#   \sqrt{1 - \bar\alpha_t}\, \epsilon,\ t\big) \big\rVert_2^2 \Big] \tag{15}$$
#
# To predict $z_0$ instead is the same task with other weights, since
# $\hat z_0 - z_0 = -\sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}\ (\hat\epsilon - \epsilon)$.
#
# **What DiffIR changes.** It has T = 4 steps and takes the mean alone: **no noise is added on the way back**. So a
# given $z_T$ leads to one result. The audited report says that β grows "linearly from 0.1 to 0.99". In the official
# code the *square root* of β grows linearly, so β is 0.1, 0.294, 0.591, 0.99; this study follows the code.

# %%
figures.show_source(diffir.DDPM.reverse)

# %% [markdown]
# ### Points in a plane
#
# On points in a plane the process can be watched. A spiral is diffused in four steps; a point keeps the colour of its
# place on the spiral. Then the reverse steps run with a "denoiser" that knows the spiral by heart: it guesses the mean
# of the spiral points that could have led to $z_t$. In the last row it also gets a *condition*, a rough idea of where
# the point was. A degraded photo gives such an idea.

# %%
angle = torch.linspace(1, 12, 400)
spiral = torch.stack([angle * angle.cos(), angle * angle.sin()], dim=1) / 6
generator = torch.Generator().manual_seed(seed)
noise, blur = torch.randn(2, 400, 2, generator=generator)
forward = {"z₀": spiral} | {f"z{t + 1}": schedule.diffuse(spiral, noise, t) for t in range(4)}


def knows_the_spiral(z: torch.Tensor, t: int, condition: torch.Tensor) -> torch.Tensor:
    """The posterior mean of z₀ over all spiral points, given z_t and a condition (points and their precision)."""
    kept = schedule.alphas_cumprod[t]
    doubt = torch.cdist(z, kept.sqrt() * spiral) ** 2 / (1 - kept)
    doubt = doubt + condition[:, 2:] * torch.cdist(condition[:, :2], spiral) ** 2
    return (-doubt / 2).softmax(dim=1) @ spiral


rough = torch.cat([spiral + 0.2 * blur, torch.full((400, 1), 25.0)], dim=1)
unconditioned = schedule.reverse(noise, torch.zeros(400, 3), knows_the_spiral)
conditioned = schedule.reverse(noise, rough, knows_the_spiral)

# %%
figure, axes = plt.subplots(3, 5, figsize=(9, 5.6))
rows = {"forward": list(forward.values()), "no condition": [noise, *unconditioned], "condition": [noise, *conditioned]}
for line, (name, states) in zip(axes, rows.items(), strict=True):
    for index, (axis, z) in enumerate(zip(line, states, strict=True)):
        axis.scatter(*z.T, s=3, c=angle, cmap="viridis")
        title = f"$z_{index}$" if name == "forward" else rf"$\hat{{z}}_{4 - index}$"
        axis.set(title=title, xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
    line[0].set_ylabel(name)
figures.save(figure, study.output(profile, "methods/diffir") / "toy")
print("kept of z₀ after each step, √ᾱ:", [f"{value:.2f}" for value in schedule.alphas_cumprod.sqrt()])
assert schedule.posterior_mean_coef2[0] == 0, "the last step returns the guess of z₀ itself"

# %% [markdown]
# Without a condition and without noise on the way back, all points end in one heap near the middle: an average of what
# is plausible, and no point of the spiral. For drawing *varied* images that would be a defect. With a condition nearly
# every point finds its place on the spiral. It starts from pure noise, so all that it finds comes from the condition.
# Restoring one photo asks for this: an accurate estimate, not a varied one.
#
# ## What is diffused: the image prior representation
#
# A photo needs millions of numbers, so diffusion on photos is slow. But in restoration most of the photo is given.
# DiffIR compresses what is missing into 256 numbers, the *image prior representation* (IPR, $z$). The *compact IPR
# extraction network* (CPEN) is a small convolutional network with a mean over the image at its end.

# %%
figures.show_source(diffir.CPEN.describe)

# %% [markdown]
# There are two stages.
#
# - **Stage 1** sees the degraded photo $x$ *and the reference* $y$. It cannot copy the answer through 256 numbers, so
#   it can only learn which 256 numbers help most:
#
# $$z = \mathrm{CPEN}_1\big(\mathrm{PixelUnshuffle}(\mathrm{Concat}(y, x))\big) \tag{16}$$
#
# - **Stage 2** sees the degraded photo alone. A diffusion guesses $z$ from it.
#
# PixelUnshuffle moves each 4 × 4 block of a channel into 16 channels, so CPEN works at a quarter of the size. For
# deblurring, $x$ and $y$ give 48 + 48 = 96 channels. For x4 only $y$ is unshuffled, to 48 channels: $x$ has that size
# already and keeps its 3. Together they are 51. The audited report says that CPEN of stage 2 has 48 input channels,
# "half of that" of stage 1: this holds for deblurring, for x4 it has 3.

# %%
lanes = [["x, y", "unshuffle,\nconcat", "CPEN 1", "z"], ["", "", "x", "DIRformer", r"$\hat{y}$"]]
figure = diagrams.draw(
    lanes, arrows=[("z", "DIRformer")], shaded=["CPEN 1", "DIRformer"], titles=["stage 1: sees the reference y", ""]
)
inputs = {
    f"{task}, CPEN {stage}": rvlib.create("diffir", stage=stage, task=task, **tiny).state_dict()
    for task in ("super-resolution", "deblurring")
    for stage in (1, 2)
}
counted = {name: next(v.shape[1] for k, v in s.items() if k.endswith("E.0.weight")) for name, s in inputs.items()}
print("input channels:", counted)
assert list(counted.values()) == [51, 3, 96, 48]

# %%
lanes = [
    ["x", "unshuffle", "CPEN 2", "c"],
    ["", "", "noise\n$z_T$", "denoiser,\nT times", r"$\hat{z}$"],
    ["", "", "", "x|again", "DIRformer", r"$\hat{y}$"],
]
figure = diagrams.draw(
    lanes,
    arrows=[("c", "denoiser,\nT times"), (r"$\hat{z}$", "DIRformer")],
    shaded=["CPEN 2", "denoiser,\nT times", "DIRformer"],
    titles=["stage 2: sees x alone", "", ""],
)

# %% [markdown]
# The noise depends on neither x nor y: it is drawn at random. CPEN 2 only makes the condition $c$ that the denoiser
# sees at every step. CPEN is a row of 3 × 3 convolutions and residual blocks, a mean over the image and two linear
# layers. The denoiser is a few linear layers with LeakyReLU, which see $c$, $t$ and $\hat z_t$. (For x4, CPEN 2 sees
# the photo as it is; `encoder` counts its residual blocks.)
#
# ## What the IPR steers: DIRformer
#
# DIRformer is a U-Net of four levels with 1, 2, 4 and 8 heads. A 3 × 3 convolution makes C channels; the levels have C,
# 2C, 4C and 8C. Between levels a 3 × 3 convolution and a PixelUnshuffle halve the sides. On the way up a PixelShuffle
# doubles them, the features of the same level are concatenated, and a 1 × 1 convolution halves the channels (not on
# level 1, which keeps 2C). `refinement` blocks follow at level 1. For x4, two convolutions, each with a PixelShuffle by
# 2, enlarge the result. Last, the photo is added, for x4 enlarged by nearest neighbours.
#
# Each block is an attention (DMTA), then a feed-forward part (DGFN), both explained below. Every block gets the IPR
# twice. *Dynamic modulation* scales and shifts the normalised features, channel by channel:
#
# $$F' = W_1^l z \odot \mathrm{Norm}(F) + W_2^l z \tag{17}$$
#
# $W_1^l$ and $W_2^l$ are linear layers, and $\odot$ multiplies element by element. $\mathrm{Norm}$ is a LayerNorm. For
# x4 the official code only divides by the standard deviation and leaves the mean in.

# %%
figures.show_source(dirformer.Modulation.forward)

# %% [markdown]
# There is no bias. Two things follow, and both matter below. With $z = 0$ every block gets zeros and adds nothing:
# $z = 0$ is not a "network without IPR", it is a network that is switched off. And with any *constant* $z \neq 0$,
# $W_1 z$ and $W_2 z$ are free learned vectors: then (17) is an ordinary normalisation with learned scale and shift. A
# network trained with a constant is the right control.
#
# ### DMTA: attention between channels
#
# Attention over $n = \hat H \hat W$ pixels costs $n^2$. *Dynamic multi-head transposed attention* compares the $\hat C$
# channels of a head instead. With $\hat Q \in \mathbb R^{n \times \hat C}$, $\hat K \in \mathbb R^{\hat C \times n}$
# and $\hat V \in \mathbb R^{n \times \hat C}$, made from $F'$ by 1 × 1 and depthwise 3 × 3 convolutions, the attention
# map has only $\hat C \times \hat C$ entries, whatever the photo's size:
#
# $$\hat F = W_c \hat V \cdot \mathrm{Softmax}\big(\hat K \hat Q / \gamma\big) + F$$
#
# $W_c$ is a 1 × 1 convolution, $+ F$ the shortcut. The code *multiplies* by a learned number per head, $\tau = 1 /
# \gamma$, and divides each channel of $\hat Q$ and $\hat K$ by its length first, so the entries of $\hat K \hat Q$ are
# cosines.

# %%
lanes = [
    ["", "", "", r"$\hat{Q}$"],
    [
        "F",
        "norm",
        "modulate\nby z",
        r"$\hat{K}$",
        r"$\tau\,\hat{K} \hat{Q}$",
        "softmax\n$\\hat{C}$ × $\\hat{C}$",
        "⊗",
        "1 × 1\n$W_c$",
        "+",
        r"$\hat{F}$",
    ],
    ["", "", "", r"$\hat{V}$"],
]
arrows = [
    ("modulate\nby z", r"$\hat{Q}$"),
    ("modulate\nby z", r"$\hat{V}$"),
    (r"$\hat{Q}$", r"$\tau\,\hat{K} \hat{Q}$"),
    (r"$\hat{V}$", "⊗"),
]
figure = diagrams.draw(
    lanes, arrows=arrows, skips=[("F", "+")], shaded=["modulate\nby z", "softmax\n$\\hat{C}$ × $\\hat{C}$"]
)

# %%
attention = dirformer.Attention(16, 2, bias=False)
vector = torch.randn(1, 256)
costs = {
    side: complexity.multiply_adds(attention, torch.randn(1, 16, side, side), vector) / side**2 for side in (16, 32, 64)
}
print({f"{side} × {side}": f"{cost:.0f} multiply-adds per pixel" for side, cost in costs.items()})
assert abs(costs[64] / costs[16] - 1) < 0.15, "linear in the pixels"

# %% [markdown]
# ### DGFN: a gate in the feed-forward part
#
# The *dynamic gated feed-forward network* has two branches, each a 1 × 1 and a depthwise 3 × 3 convolution. One passes
# a GELU, then they are multiplied. It is the gated unit of `07_nafnet`, with its activation kept ($W^c$ is a 1 × 1,
# $W^d$ a depthwise convolution; a last 1 × 1 convolution before $+ F$, in the drawing, is left out of the formula):
#
# $$\hat F = \mathrm{GELU}(W_1^d W_1^c F') \odot W_2^d W_2^c F' + F \tag{18}$$

# %%
lanes = [
    ["", "", "", "1 × 1,\n3 × 3 dw|1", "GELU"],
    ["F", "norm", "modulate\nby z", "", "", "⊙", "1 × 1", "+", r"$\hat{F}$"],
    ["", "", "", "1 × 1,\n3 × 3 dw|2"],
]
arrows = [("modulate\nby z", "1 × 1,\n3 × 3 dw|1"), ("modulate\nby z", "1 × 1,\n3 × 3 dw|2"), ("GELU", "⊙")]
arrows += [("1 × 1,\n3 × 3 dw|2", "⊙")]
figure = diagrams.draw(lanes, arrows=arrows, skips=[("F", "+")], shaded=["modulate\nby z", "⊙"])

# %% [markdown]
# ## Training
#
# **Stage 1** compares the restored photo with the reference; the norm stands for the *mean* over pixels and colours:
#
# $$\mathcal L_\mathrm{rec} = \lVert y - \hat y \rVert_1 \tag{19}$$
#
# **Stage 2** takes stage 1's IPR $z$ as its target and diffuses it to the last step,
#
# $$q(z_T \mid z) = \mathcal N\big(z_T;\ \sqrt{\bar\alpha_T}\, z,\ (1 - \bar\alpha_T) I\big) \tag{20}$$
#
# and goes all T steps back, by the mean of (14) with the predicted noise $\epsilon$. CPEN 1 stays as stage 1 left it:
#
# $$\hat z_{t-1} = \frac{1}{\sqrt{\alpha_t}} \Big(\hat z_t - \epsilon\, \frac{1 - \alpha_t}{\sqrt{1 - \bar\alpha_t}}\Big) \tag{21}$$
#
# The denoiser sees $\hat z_t$, $t$ and the condition (the audited report's $D$, here $c$):
#
# $$c = \mathrm{CPEN}_2\big(\mathrm{PixelUnshuffle}(x)\big) \tag{22}$$
#
# as it is for deblurring; for x4 it is $\mathrm{CPEN}_2(x)$.
#
# The paper writes (21) with the noise. The official code predicts $\hat z_0$ and uses the other form of (14). Both are
# the same step. T is small, so *all* steps are in the graph, and the errors of the last one and of the photo train
# everything at once (official deblurring trains CPEN 2 and the denoiser alone for its first 100,000 steps). $z$ has
# $4C' = 256$ numbers:
#
# $$\mathcal L_\mathrm{diff} = \frac{1}{4C'} \sum_{i=1}^{4C'} \big\lvert \hat z^{(i)} - z^{(i)} \big\rvert, \qquad
#   \mathcal L_\mathrm{all} = \mathcal L_\mathrm{rec} + \mathcal L_\mathrm{diff} \tag{23}$$

# %%
figures.show_source(objectives.JointDiffusion.__call__)

# %% [markdown]
# The usual way is *separate* training: draw one $t$, diffuse $z$ to it, ask for one step. The whole chain never runs in
# training, and the restoring network never sees what the chain produces.
#
# ### The third stage, which the published x4 numbers need
#
# The audited report's numbers for x4 (27.73 dB and LPIPS 0.1117 on Set14) are those of a *GAN* model. The official code
# trains it in a third stage of 400,000 steps, after a million steps of stage 1 and a million of stage 2. That stage
# adds to $\mathcal L_\mathrm{all}$ a perceptual loss on VGG19 features (before ReLU, five layers) and an adversarial
# loss against a U-Net discriminator with spectral normalisation, each with weight 1 (`05_srgan` explains both kinds).
# This study trains stages 1 and 2 alone. So its networks aim at PSNR, and their LPIPS cannot be compared with the
# published one.
#
# One more conflict of sources: the audited report and the paper give 48, 96, 192, 384 channels per level. The official
# option file for x4 starts with 64, the one for deblurring with 48.

# %% tags=["training"]
train_photos = photos.load_sets(study.data(profile), train_sets, split="train")
sharp, blurred = (
    photos.load_sets(study.data(profile), deblurring_train_sets, split="train", role=role)
    for role in ("reference", "degraded")
)
validation = study.validation(profile, validation_set)
run = study.run_folder(profile, "diffir")
common = {"validation": validation, "processes": processes, "replace_run": True}
stages, histories = {}, {}
tasks = {"x4": (super_resolution, train_photos, {}), "deblur": (deblurring, sharp or train_photos, blurred)}
for task, (settings, references, degraded) in tasks.items():
    facts = {"degraded": degraded or None, "seed": seed, **settings, **common}
    first = facts | first_stages.get(task, {})
    stage_1, histories[task, 1] = recipes.train("diffir-s1", references, run=run / f"{task}-s1", **first)
    stage_2, histories[task, 2] = recipes.train("diffir-s2", references, run=run / f"{task}-s2", start=stage_1, **facts)
    stages[task] = (stage_1, stage_2)

# %%
output, data = study.output(profile, "methods/diffir"), study.data(profile)
for (_, stage), history in histories.items():
    column = "pixel" if stage == 2 else "loss"
    assert np.isfinite(history[column]).all()
if profile != "demo":
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.1))
    for stage in (1, 2):
        history = histories["x4", stage]
        column = "loss" if stage == 1 else "pixel"
        sns.lineplot(history, x="step", y=column, marker="o", label=f"stage {stage}", ax=axes[0])
        sns.lineplot(history, x="step", y="psnr_y_crop4", marker="o", label=f"stage {stage}", ax=axes[2])
    sns.lineplot(histories["x4", 2], x="step", y="distance", marker="o", color=figures.COLORS["diffir"], ax=axes[1])
    axes[0].set(xlabel="step of the stage", ylabel="mean |ŷ - y|")
    axes[1].set(xlabel="step of stage 2", ylabel="mean |ẑ - z|")
    axes[2].set(xlabel="step of the stage", ylabel="PSNR of validation photos in dB\n(luminance)")
    figure.suptitle(f"super-resolution x4, {study.own(profile)}, one seed", fontsize="small")
    figures.save(figure, output / "training")
    for noted in provenance.run_record(run / "x4-s2").get("history", []):
        if noted["event"].startswith("lengthened"):
            print(f"stage 2, step {noted['step']:,}: {noted['event']}; its learning rate rose again there")

# %% [markdown]
# A profile that trains draws the curves of x4 here, of both stages. Where `first_stages` names a `start`, as in the
# release profile, stage 1 takes over the restoring network of those weights, and only its CPEN is fresh: such a curve
# shows no training from scratch. Stage 2 begins with the restoring network of stage 1 and trains it further, so they
# cannot be compared: stage 1 sees the reference, but its network trained for fewer steps. Stage 1 is **no upper bound**
# of stage 2. The experiment below makes the comparison at equal steps.
#
# ## Does the IPR carry anything?
#
# If the IPR holds what a photo needs, somebody else's IPR should do harm. Each photo is restored with its own IPR, with
# those of the other photos, and with a *constant*: the mean IPR of patches from three photos that are not among these.
# The network was trained with IPRs, not with this constant. The experiment further down trains networks with one, for
# x4.


# %%
def guess(model: torch.nn.Module, x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """The IPR (b, 256) that stage 2 guesses from degraded photos, started from `noise`."""
    condition = model.condition.mlp(model.describe(x))
    return model.diffusion.reverse(noise.expand(len(x), -1), condition, model.denoise)[-1]


def patches(name: str, degradation) -> torch.Tensor:
    """Degraded patches of 96 pixels of a sample photo, side by side."""
    photo, rng = photos.sample(name), np.random.default_rng(1)
    corners = [(i, j) for i in range(0, min(photo.shape[0], 384) - 95, 96) for j in range(0, 384, 96)]
    return torch.cat([to_tensor(degradation(photo[i : i + 96, j : j + 96], rng)) for i, j in corners])


models = {
    "x4": (*study.best(profile, "diffir-x4", stages["x4"][1]), Bicubic(4)),
    "deblur": (*study.best(profile, "diffir-deblur", stages["deblur"][1]), recipes.SHAKE),
}
TASKS = {"x4": "super-resolution", "deblur": "deblurring"}
names = ("astronaut", "chelsea", "coffee", "flower", "rocket", "china")
others = ("motorcycle_left", "hubble_deep_field", "china")
first_noise = torch.randn(1, 256, generator=torch.Generator().manual_seed(seed))
model, label, _ = models["x4"]

# %%
print(f"what follows is about stage 2, noise of seed {seed}:")
for task, (network, kind, _) in models.items():
    built = network.spec["arguments"]
    told = f"{TASKS[task]}, {kind}: {built['dim']} channels, blocks {tuple(built['blocks'])}"
    if network is not stages[task][1]:
        told += f", stages 1 and 2 in turn: {provenance.story('diffir-x4' if task == 'x4' else 'diffir-deblur')}"
    print(told)
print("The official x4 network has 64 channels, blocks (13, 1, 1, 1) and 1,000,000 steps in each stage.")
print("What is found here holds for these short trainings. It is not a finding on the published networks.")
tile = torch.rand(1, 3, 64, 64)
whole, alone = (complexity.multiply_adds(network, tile, first_noise) for network in (model, model.G))
seeing = complexity.multiply_adds(model.condition, tile)
shares = {"DIRformer": alone, "CPEN 2": seeing, "the four steps": whole - alone - seeing}
print("multiply-adds of x4 in %:", {name: f"{100 * work / whole:.1f}" for name, work in shares.items()})

# %%
swapped = []
for task, (network, _, degradation) in models.items():
    crops = {name: photos.sample(name)[64:192, 64:192] for name in names[:5]}
    pairs = {n: tuple(map(to_tensor, pair)) for n, pair in photo_pairs(crops, degradation).items()}
    with torch.inference_mode():
        vectors = {n: guess(network, x, first_noise) for n, (x, _) in pairs.items()}
        known = torch.cat([guess(network, patches(n, degradation), first_noise) for n in others])
        vectors |= {"constant": known.mean(dim=0, keepdim=True), "zeros": torch.zeros(1, 256)}
        for name, (x, y) in pairs.items():
            restored = network.G(x.expand(len(vectors), -1, -1, -1), torch.cat(list(vectors.values()))).clamp(0, 1)
            for source, picture in zip(vectors, restored, strict=True):
                view = {"crop": 4} if task == "x4" else {"channel": "rgb"}
                score = metrics.psnr(picture[None], y, **view).item()
                swapped.append({"task": task, "photo": name, "IPR of": source, "PSNR": score})
swapped = pd.DataFrame(swapped)
tables.write_rows(swapped, output / "swapped")

# %%
figure, axes = plt.subplots(1, 2, figsize=(11.5, 3.2))
differences = {}
for axis, task in zip(axes, models, strict=True):
    table = swapped[swapped["task"] == task].pivot(index="photo", columns="IPR of", values="PSNR")
    own = pd.Series({name: table.loc[name, name] for name in table.index})
    differences[task] = table.sub(own, axis=0)[[*table.index, "constant", "zeros"]]
    tables.write(differences[task].reset_index(), output / f"swapped-{task}")
    shown = {"annot": True, "fmt": "+.2f", "cmap": "vlag", "center": 0, "vmin": -0.5, "vmax": 0.5}
    sns.heatmap(differences[task], ax=axis, annot_kws={"fontsize": 9}, **shown)
    axis.set(
        title=f"{TASKS[task]}: change of the PSNR in dB",
        xlabel="IPR of (colours end at ±0.5 dB)",
        ylabel="photo restored",
    )
    axis.tick_params(axis="x", rotation=40)
figures.save(figure, output / "swapped")

# %%
worth = {}
for task, table in differences.items():
    strangers = table[list(table.index)].where(~np.eye(len(table), dtype=bool))
    mean = statistics.mean_interval(strangers.mean(axis=1))
    worth[task] = statistics.mean_interval(-table["constant"])
    print(
        f"{TASKS[task]}: somebody else's IPR changes the PSNR by {strangers.stack().min():+.2f} to {strangers.stack().max():+.2f} dB,\n    on average by {mean.text(3, 'dB')};"
    )
    print(
        f"    its own less a constant: {worth[task].text(2, 'dB')}; at most {-table['constant'].min():.2f} dB on one photo"
    )
    better = table.index[table["zeros"] > 0]
    if len(better):
        told = ", ".join(f"{name} ({table.loc[name, 'zeros']:+.2f} dB)" for name in better)
        print(f"    better off without the blocks: {told}")

# %% [markdown]
# The column of zeros shows the switched-off network; a plus there says that the photo fares better without the blocks.
# The column "constant" is the control, and the lines above say how much a photo's own IPR is worth against it. The next
# table looks at the vectors themselves, with controls for each claim. Everything from here to the results is about the
# network for x4.


# %%
def nearest_is_same(vectors: torch.Tensor, origin: list[str]) -> float:
    """Share of patches whose nearest other patch, by the cosine of centred vectors, is of the same photo."""
    centred = F.normalize(vectors - vectors.mean(dim=0), dim=1)
    similar = centred @ centred.T - 2 * torch.eye(len(vectors))
    return float(np.mean([origin[int(row.argmax())] == name for row, name in zip(similar, origin, strict=True)]))


with torch.inference_mode():
    parts = {name: patches(name, Bicubic(4)) for name in names}
    origin = [name for name, part in parts.items() for _ in part]
    low = torch.cat(list(parts.values()))
    torch.manual_seed(seed)
    fresh = rvlib.create(**{**model.spec["arguments"], "name": "diffir"})
    vectors = {"IPR ẑ": guess(model, low, first_noise), "condition c": model.condition(low)}
    vectors |= {"c of an untrained CPEN": fresh.condition(low), "mean colour": low.mean(dim=(2, 3))}
facts = []
for name, v in vectors.items():
    powers = torch.linalg.svdvals(v - v.mean(dim=0)) ** 2
    size = ((v - v.mean(dim=0)).norm(dim=1).mean() / v.mean(dim=0).norm()).item()
    row = {"vector": name, "varies by, % of its length": 100 * size}
    row["variance in first component, %"] = 100 * (powers[0] / powers.sum()).item()
    facts.append({**row, "nearest patch is of the same photo, %": 100 * nearest_is_same(v, origin)})
facts = pd.DataFrame(facts)
tables.write(facts, output / "vectors")
chance = np.mean([(origin.count(name) - 1) / (len(origin) - 1) for name in origin])
print(f"{len(origin)} patches of {len(names)} photos; the same photo by chance: {100 * chance:.0f} %")
facts.style.format(precision=0, subset=facts.columns[1:]).hide(axis="index")

# %% [markdown]
# "The nearest patch is of the same photo" does not prove that a vector knows the *kind* of photo. The controls are an
# untrained CPEN and the mean colour, three numbers without any training:

# %%
shares = facts.set_index("vector")
trained_share = shares.loc["IPR ẑ", "nearest patch is of the same photo, %"]
for control in ("c of an untrained CPEN", "mean colour"):
    value = shares.loc[control, "nearest patch is of the same photo, %"]
    print(f"{control} tells the photos apart for {value:.0f} % of the patches, the IPR for {trained_share:.0f} %")
one = shares.loc["IPR ẑ", "variance in first component, %"]
print(f"{one:.0f} % of the IPR's variance lies in one component" + (": in effect it is one number" if one > 90 else ""))

# %% [markdown]
# ## The four reverse steps
#
# The path from noise to the guessed IPR, for four photos and six noises each, in the two directions in which the points
# differ most.

# %%
seen = names[:4]
starts = torch.randn(6, 256, generator=torch.Generator().manual_seed(seed))
with torch.inference_mode():
    paths = []
    for name in seen:
        condition = model.condition.mlp(model.describe(parts[name][:1])).expand(len(starts), -1)
        paths.append(torch.stack([starts, *model.diffusion.reverse(starts, condition, model.denoise)]))
    path = torch.stack(paths)  # (photos, steps + 1, noises, 256)
    untrained = torch.stack(fresh.diffusion.reverse(starts, condition, fresh.denoise))[-1]
    listens = (model.denoise(starts, 0, condition).std(dim=0).mean() / starts.std(dim=0).mean()).item()
shrunk = model.diffusion.posterior_mean_coef2[1:].prod().item()
middle = path.mean(dim=(0, 1, 2))
directions = torch.linalg.svd((path - middle).flatten(0, 2), full_matrices=False).Vh[:2].T
projected = (path - middle) @ directions

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
for index, name in enumerate(seen):
    ways = projected[index]
    axes[0].plot(*ways.permute(2, 0, 1), marker="o", markersize=3, color="0.4", linewidth=0.8)
    axes[1].scatter(*ways[-1].T, color=figures.PALETTE[index], label=name, s=60, alpha=0.6)
axes[0].set(xlabel="first direction", ylabel="second direction", title="from noise (outside) to the IPR, all photos")
axes[1].set(xlabel="first direction", ylabel="second direction", title="the end points, enlarged")
axes[1].legend(title="photo", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "path")
left = (path[:, -1].std(dim=1).mean() / starts.std(dim=0).mean()).item()
control = (untrained.std(dim=0).mean() / starts.std(dim=0).mean()).item()
between = (path[:, -1].mean(dim=1).std(dim=0).mean() / starts.std(dim=0).mean()).item()
print(
    f"spread over noises, in % of the noise's own: {100 * left:.3f} at the end; untrained denoiser {100 * control:.1f};"
)
print(f"spread between these {len(seen)} photos: {100 * between:.3f}")
print(f"before the last step, the factors of the others alone leave {100 * shrunk:.2f} % of the noise;")
print(f"the denoiser's answers to pure noise spread by {100 * listens:.0f} % of it")
assert left < 1, "the reverse steps must forget noise"

# %% [markdown]
# The paths of all photos lie on each other, as far as the left panel can show. The lines above say how much of the
# noise is left at the end. A share near 0 % does not mean that the denoiser ignores $z_t$. The factors of the reverse
# steps shrink $z_T$ before the last one, whatever the denoiser is: an untrained one forgets the noise too. The spread
# *between* photos is the other half of the picture: compare it with the scale of the left panel.
#
# ### Does the spread over noises predict the error?
#
# Diffusion models are sold with a promise: draw several samples, and where they differ, the result is uncertain. So
# restore one photo from eight noises, and compare the spread with the true error, pixel by pixel. Calibrated samples
# would have a spread of about the size of the error, and the truth within two standard deviations for 95 % of the
# pixels.

# %%
degraded, reference = photo_pairs({"chelsea": photos.sample("chelsea")}, Bicubic(4))["chelsea"]
x, y = to_tensor(degraded[8:56, 24:88]), to_tensor(reference[32:224, 96:352])
noises = torch.randn(8, 256, generator=torch.Generator().manual_seed(seed))
with torch.inference_mode():
    samples = model(x.expand(8, -1, -1, -1), noises)
deviation, error = 255 * samples.std(dim=0), 255 * (samples.mean(dim=0) - y[0]).abs()
ranks = pd.Series(deviation.flatten().numpy()).corr(pd.Series(error.flatten().numpy()), method="spearman")
covered = (error <= 2 * deviation).float().mean().item()
ratio = (error.square().mean().sqrt() / deviation.square().mean().sqrt()).item()
print(
    f"root mean square in grey levels: error {error.square().mean().sqrt():.2f}, spread {deviation.square().mean().sqrt():.4f}"
)
print(
    f"the error is {ratio:,.0f} times the spread; the truth is within two standard deviations for {covered:.1%} of the pixels;"
)
print(f"rank correlation of spread and error: {ranks:.2f}")
assert np.isfinite(ratio)

# %% [markdown]
# ## Experiment: true IPR, constant, separate, joint, and how many steps?
#
# **Question:** the audited report says that four steps suffice, and that joint training beats separate training. Here
# everything starts from scratch with the same seeds, and **the restoring network G trains for the same number of steps
# in every row**:
#
# - *constant*: G with a learned constant instead of the IPR, twice the steps;
# - *true IPR*: stage 1, continued for as many steps again. It sees the reference. A row below that beats it shows that
#   a guess of the IPR can serve G better than the IPR of the reference;
# - *separate*: the continued stage 1, then CPEN 2 and the denoiser with G left as it is, one random $t$ at a time
#   (their target is the IPR of the longer stage 1; *joint* has that of the shorter one);
# - *joint*: stage 1, then all of stage 2 together, with T steps.
#
# For T = 1 the single β is that of the last step, 0.99. With the first, 0.1, training would start from
# $z_T = 0.95\, z + 0.32\, \epsilon$, which gives away far more of $z$ than the 0.05 that T = 4 leaves. In use it starts
# from pure noise.

# %% tags=["training"]
experiment = {}
for number in ablation_seeds:
    facts = {**ablation, "seed": number, "validate_every": ablation["steps"]}
    name = f"seed-{number}"
    constant, _ = recipes.train("diffir-constant", train_photos, run=run / f"constant-{name}", **facts, **common)
    experiment["constant", number] = recipes.train(
        "diffir-constant", train_photos, run=run / f"constant-continued-{name}", start=constant, **facts, **common
    )
    shared, _ = recipes.train("diffir-s1", train_photos, run=run / f"shared-s1-{name}", **facts, **common)
    longer = recipes.train(
        "diffir-s1", train_photos, run=run / f"shared-s1-continued-{name}", start=shared, **facts, **common
    )
    experiment["true IPR", number] = longer
    starts = {"joint": ("diffir-s2", shared), "separate": ("diffir-s2-separate", longer[0])}
    for kind, T in [("separate", 4), *(("joint", T) for T in ablation_timesteps)]:
        method, start = starts[kind]
        last_beta = {"linear_start": 0.99} if T == 1 else {}  # of the single step
        facts["arguments"] = {**ablation["arguments"], "timesteps": T, **last_beta}
        experiment[f"{kind}, T = {T}", number] = recipes.train(
            method, train_photos, run=run / f"T{T}-{kind}-{name}", start=start, **facts, **common
        )

# %%
checked = photo_pairs(validation, Bicubic(4))
floor = curves.input_psnr(checked, "super-resolution", 4)
rows = [
    {"training": kind, "seed": number, "photos": len(checked), "steps": 2 * ablation["steps"]}
    | {"channels": network.G.patch_embed.proj.out_channels, "gain": log["psnr_y_crop4"].iloc[-1] - floor}
    for (kind, number), (network, log) in experiment.items()
]
tables.write(pd.DataFrame(rows), output / "experiment")
assert np.isfinite([row["gain"] for row in rows]).all()
found = study.experiment(profile, "methods/diffir/experiment")
if found is None:
    print("not measured yet: make report PROFILE=release trains these networks")
else:
    figure, axis = plt.subplots(figsize=(7.5, 3.2))
    for number, part in found.groupby("seed"):
        axis.plot(part["gain"], part["training"], marker="o", linewidth=0.8, label=f"seed {number}")
    axis.invert_yaxis()
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axis.set(xlabel="gain over bicubic interpolation in dB (luminance); a line joins trainings of one seed", ylabel="")
    figures.save(figure, output / "experiment")

# %%
verdicts, said = {}, []
if found is not None:
    by_seed = found.pivot(index="training", columns="seed", values="gain")
    told = found.iloc[0]
    print(f"x4, {told['channels']} channels; G trained for {told['steps']:,} steps in every row;")
    print(f"{by_seed.shape[1]} seeds, {told['photos']} photos; means over seeds")
    pairs = [("true IPR", "constant"), ("separate, T = 4", "true IPR"), ("joint, T = 4", "true IPR")]
    for first, second in (*pairs, ("joint, T = 4", "separate, T = 4")):
        verdicts[f"{first} less {second}"], _, told = statistics.over_seeds(by_seed, first, second)
        said.append(f"trained for equally long, {first} less {second}: {told}")
    for other in by_seed.index[by_seed.index.str.startswith("joint") & (by_seed.index != "joint, T = 4")]:
        verdicts[f"joint, T = 4 less {other}"], _, told = statistics.over_seeds(by_seed, "joint, T = 4", other)
        said.append(f"joint, T = 4 less {other.removeprefix('joint, ')}: {told}")
    said.append(f"how early in a training these are compared: {study.reach(by_seed, 'diffir-x4')}")
    print("\n".join(said))

# %% [markdown]
# The interval is Student's, over seeds. Equal signs alone prove nothing: with three seeds, two equal trainings give
# three equal signs in one case of four, and several differences are listed. And the number of steps can only matter as
# far as the IPR matters.
#
# ## Results
#
# Stage 1 is not a method, since it needs the reference. The pipeline's profiles list it for comparison; mind that stage
# 2 continues its network and trains it further, so the two are not equally trained (the experiment above makes them
# equal). Its rows say *this run* everywhere: its weights are not released. ± is half of the 95 % interval of the mean
# over photos (`04_fsrcnn`); no place is marked, since stage 1 sees the reference.

# %%
tasks = {
    "x4": ("super-resolution", 4, Bicubic(4), super_resolution_sets),
    "deblur": ("deblurring", 1, recipes.SHAKE, deblurring_sets),
}
parts, stamped = [], []
for name, (task, scale, degradation, test_sets) in tasks.items():
    network, kind, _ = models[name]
    restorers = evaluate.baseline(task, scale)
    if profile != "demo":
        restorers["diffir", study.own(profile)] = evaluate.with_model(stages[name][1])
    restorers["diffir", kind] = evaluate.with_model(network)
    rows = evaluate.sets(restorers, data, test_sets, degradation, measures.for_task(task, scale))
    parts.append(rows.assign(task=name))
    own = {f"diffir-{name}": f"diffir/{name}-s2"}
    stamped.append(provenance.stamp(parts[-1], profile, trained=own, degradation=degradation))

# %%
for name, (task, scale, degradation, test_sets) in tasks.items():
    psnr, bounds = measures.for_task(task, scale)[0], []
    for tested in test_sets if profile != "demo" else []:
        for photo, (low, high) in set_pairs(data, tested, degradation).items():
            seen = rvlib.restore(stages[name][0], low, reference=high)
            row = {"set": tested, "photo": photo, "method": "diffir, stage 1", "label": "this run", "task": name}
            bounds.append(row | {psnr.key: psnr.compute(seen, high)})
    if bounds:
        parts.append(pd.DataFrame(bounds))
        stamped.append(provenance.stamp(parts[-1], profile, trained={}, degradation=degradation))
rows, stamped = (pd.concat(each, ignore_index=True) for each in (parts, stamped))
for each in (rows, stamped):
    each["set"] += ", " + each.pop("task")
means = tables.means(rows)
tables.write_rows(stamped, output / "rows")
tables.write(means, output / "means")
for task in tasks:
    part = means[means["set"].str.endswith(f", {task}")].assign(set=means["set"].str.removesuffix(f", {task}"))
    print(f"{TASKS[task]}:")
    display(Markdown(tables.markdown(tables.readable(part)[0])))

# %%
shown = {"bicubic": evaluate.bicubic(4)(degraded), "DiffIR": rvlib.restore(model, degraded)}
notes = {name: f"{metrics.psnr(picture, reference, crop=4):.2f} dB" for name, picture in shown.items()}
strip = {**shown, "reference": reference}
figure = figures.zoom_strip(strip, box=(80, 140, 110, 130), context=reference, notes=notes)
figures.save(figure, output / "strip")

# %% [markdown]
# ## Where it fails: half of the photo is sharp
#
# Two parts of the network look at the *whole* photo: the IPR, and DMTA, whose attention maps are sums over all pixels.
# Does one of them make a sharp half worse? There are two controls: the photo cut in two, where the network sees the
# sharp half alone; and the whole photo with the IPR of its sharp half, where the IPR alone is changed.

# %%
deblur = models["deblur"][0]
truth = photos.sample("astronaut")[32:224, 128:320]
half = truth.copy()
half[:, 96:] = recipes.SHAKE(truth, np.random.default_rng(3))[:, 96:]
whole = rvlib.restore(deblur, half)
halves = np.concatenate([rvlib.restore(deblur, half[:, :96]), rvlib.restore(deblur, half[:, 96:])], axis=1)
cases = {"half shaken": half, "restored whole": whole, "restored in halves": halves}
figure = figures.difference_map({name: figures.signed_difference(picture, truth) for name, picture in cases.items()})
figures.save(figure, output / "failure")
scores = {n: metrics.psnr(picture[:, :80], truth[:, :80], channel="rgb") for n, picture in cases.items()}
together, alone = scores["restored whole"], scores["restored in halves"]
print(f"the sharp half comes out at {together:.2f} dB when restored with the shaken half, at {alone:.2f} dB alone;")
with torch.inference_mode():
    lent = deblur.G(to_tensor(half), guess(deblur, to_tensor(half[:, :96]), first_noise)).clamp(0, 1)
lent = metrics.psnr(lent[..., :80], to_tensor(truth)[..., :80], channel="rgb").item()
print(f"without the shaken half its PSNR changes by {alone - together:+.2f} dB,")
print(f"with the IPR of the sharp half alone by {lent - together:+.2f} dB (one photo, one shake)")

# %% [markdown]
# Only the first difference can be blamed on the shaken half. The second says how much of it comes through the IPR; the
# rest comes through attention and the convolutions. What the sharp half loses alone has another cause.
# `10_compare_deblurring` measures sharp photos for all networks.
#
# ## Takeaways

# %%
gains = {}
for name, (task, scale, _, test_sets) in tasks.items():
    key = measures.for_task(task, scale)[0].key
    before = next(iter(evaluate.baseline(task, scale)))
    part = rows[rows["set"].isin([f"{tested}, {name}" for tested in test_sets])]
    gains |= statistics.differences(part, key, ("diffir", models[name][1]), before)
gain = {name: each.mean for name, each in gains.items()}
own_less_constant = {task: float(interval.mean) for task, interval in worth.items()}
summary = {"gain_db": gain, "own_less_constant_db": own_less_constant, "noise_left": left, "verdicts_db": verdicts}
tables.write_json(summary, output / "summary.json")
for task, interval in worth.items():
    if max(abs(interval.low), abs(interval.high)) < 0.1:
        says = "less than a tenth of a decibel: a constant would do as well"
    elif not interval.decided:
        says = "these photos do not show that it is worth more than a constant"
    else:
        better = "it" if interval.mean > 0 else "the constant"
        says = f"{better} serves this network more, which was not trained with a constant"
    print(f"{TASKS[task]}: a photo's own IPR, against a constant, is worth {interval.text(2, 'dB')}: {says}")
print(*said, sep="\n")
for name, each in gains.items():
    print(f"{name}: DiffIR (one seed) less the input {each.text(2, 'dB')}")
print(f"x4: {100 * left:.3f} % of the noise is left after {len(model.diffusion.betas)} steps;")
print(f"x4, one crop of one photo, eight noises: the error is {ratio:,.0f} times the spread")

# %% [markdown]
# - Diffuse what is small: four steps on 256 numbers cost next to nothing. The network that looks at the photo for their
#   condition does cost something, as the shares above say.
# - Without noise on the way back the result is an estimate, not a sample: nearly the same photo every time. So its
#   spread is far smaller than its error; the rank correlation above says whether it points to the error's place.
# - A vector that steers a network may carry nothing. Replace it by a constant before you explain what it does.
# - Compare stages at equal training of what they share. Here that is the restoring network.
# - The audited report's "over 200 iterations" is about diffusion on images. No experiment here, and no source known to
#   us, says that a diffusion of IPRs would need so many.
#
# **What can go wrong in practice**
# - The IPR of a tile is not the IPR of the photo. `rvlib.restore` computes it over the whole photo, otherwise seams
#   could show.
# - A fixed seed makes the result repeatable. It does not make it certain.
# - A deblurring network changes sharp photos. Decide first whether a photo needs it.
#
# ## Try it
#
# **1.** $\bar\alpha_T$ says how much of $z$ is left at the end of the forward process. Work it out for β = 0.1, 0.294, 0.591,
# 0.99.
#
# <details><summary>Solution</summary>
#
# $\bar\alpha_4 = 0.9 \cdot 0.706 \cdot 0.409 \cdot 0.01 \approx 0.0026$. So $\sqrt{\bar\alpha_4} \approx 0.051$ of $z$ is left:
# the start of the reverse process is nearly pure noise, as it is in use. The cell below checks it.
# </details>
#
# **2.** Let the reverse steps add the posterior's noise again, with $\sigma_t$ of (14). What happens to the spread over
# noises, and why does the last step add none?
#
# <details><summary>Solution</summary>
#
# In `DDPM.reverse`, add `sigma * torch.randn_like(z)` with `sigma = ((1 - before) / (1 - kept) * beta) ** 0.5`, where `before`
# is $\bar\alpha_{t-1}$. For the first step of the forward process $\bar\alpha_0 = 1$, so its σ is 0: the last reverse step
# returns the guess of $z_0$ itself. The noise of the other steps reaches the photo through that guess. Before the last step,
# $z_1$ now holds fresh noise of $\sigma_2 = 0.28$, where the factors of the steps had left 0.005 of the first noise. So the
# spread over noises grows: try it.
# </details>

# %%
your_answer = 0.9 * 0.706 * 0.409 * 0.01
assert abs(your_answer - schedule.alphas_cumprod[-1].item()) < 1e-4

# %% [markdown]
# ## Further reading
#
# - Xia et al. 2023, *DiffIR*, [doi:10.48550/arXiv.2303.09472](https://doi.org/10.48550/arXiv.2303.09472)
# - Ho, Jain, Abbeel 2020, *Denoising Diffusion Probabilistic Models*,
#   [doi:10.48550/arXiv.2006.11239](https://doi.org/10.48550/arXiv.2006.11239): where (12) to (15) come from
# - Zamir et al. 2022, *Restormer*, [doi:10.48550/arXiv.2111.09881](https://doi.org/10.48550/arXiv.2111.09881):
#   transposed attention and the gated feed-forward part, without an IPR
# - Rombach et al. 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*,
#   [doi:10.48550/arXiv.2112.10752](https://doi.org/10.48550/arXiv.2112.10752): diffusion on something smaller than the
#   image
#
# Next: `09_compare_super_resolution`, all methods on the same photos.
