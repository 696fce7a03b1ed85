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
# **What does diffusion contribute to restoration?** Diffusion models draw whole images in hundreds of steps. DiffIR asks
# them for 256 numbers that describe what *kind* of photo it is, in four steps, and leaves the pixels to a network that
# those numbers steer.
#
# **You will see**
# - diffusion in one page, forwards and backwards, on points in a plane,
# - stage 1, which is allowed to look at the answer, and stage 2, which learns to guess what stage 1 saw,
# - the four reverse steps as a path, what the number of steps is worth, and how much the output varies with the noise.
#
# Paper: Xia et al. 2023, *DiffIR: Efficient Diffusion Model for Image Restoration*. Needs: `07_nafnet` (gates, U-Net).
# Time: under a minute with the demo parameters on two CPU cores.

# %% tags=["training"]
import rvlib
from rvlib import photos, recipes, study

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from torch.nn import functional as F

from rvlib import complexity, evaluate, measures, metrics, objectives
from rvlib.study import figures, tables
from rvlib.degrade import Bicubic
from rvlib.models import diffir, dirformer
from rvlib.pairs import photo_pairs, set_pairs
from rvlib.restore import to_tensor

figures.theme()

# %% [markdown]
# The demo trains tiny networks for seconds. The profiles of the pipeline replace this cell's values.

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
train_sets = ["samples"]
validation_set = "samples"  # its first 16 validation photos are restored while training goes on
super_resolution_sets = ["samples"]
deblurring_sets = ["samples"]
tiny = {"dim": 8, "blocks": [1, 1, 1, 1], "refinement": 1, "encoder": 1}  # the paper: 64, [13, 1, 1, 1], 13, 9
short = {"batch_size": 4, "patch_size": 64, "validate_every": 20}
super_resolution = {"steps": 60, "arguments": tiny, **short}  # of each stage
deblurring = {"steps": 20, "arguments": {"task": "deblurring", **tiny}, **short, "batch_size": 2}
ablation = {"steps": 20, "arguments": tiny, **short}
ablation_timesteps = [1, 4]
ablation_seeds = [0]
seed = 0
processes = 1  # that share the training: one for each GPU of this machine

# %% [markdown]
# ## Diffusion in one page
#
# Take a clean vector $z_0$ and add a little noise T times, until nothing of it is left (the report's equations 12 and 13):
#
# $$q(z_t \mid z_{t-1}) = \mathcal N\!\big(\sqrt{1 - \beta_t}\, z_{t-1},\; \beta_t I\big), \qquad
#   q(z_t \mid z_0) = \mathcal N\!\big(\sqrt{\bar\alpha_t}\, z_0,\; (1 - \bar\alpha_t) I\big)$$
#
# with $\alpha_t = 1 - \beta_t$ and $\bar\alpha_t = \prod_i \alpha_i$: any $z_t$ can be drawn in one go. Backwards, each step
# is a Gaussian too, if one knows $z_0$ (equation 14), and learning to predict $z_0$, or the noise, which amounts to the
# same, is all the training there is (15):
#
# $$\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1 - \bar\alpha_t}\, z_0
#         + \frac{\sqrt{\alpha_t}\,(1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\, z_t$$
#
# DiffIR has T = 4 and βs from 0.1 to 0.99, and takes the mean $\mu_t$ alone: **no noise is added on the way back**. So from
# a given $z_T$ the path is deterministic.

# %%
figures.show_source(diffir.DDPM)

# %% [markdown]
# On points in the plane it can be watched. A spiral is diffused in DiffIR's four steps; then the reverse steps run with a
# "denoiser" that knows the spiral by heart: it guesses the mean of those spiral points that could have led to $z_t$. In the
# last row it is given a *condition* as well, a rough idea of where the point was, as a degraded photo gives one.

# %%
schedule = diffir.DDPM(diffir.linear_betas(4, 0.1, 0.99))
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
        title = f"z{index}" if name == "forward" else f"ẑ{4 - index}"
        axis.set(title=title, xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[])
    line[0].set_ylabel(name)
figures.save(figure, study.output(profile, "methods/diffir") / "toy")
print("kept of z₀ after each step, √ᾱ:", [f"{value:.2f}" for value in schedule.alphas_cumprod.sqrt()])
assert schedule.posterior_mean_coef2[0] == 0, "the last step returns the guess of z₀ itself"

# %% [markdown]
# Without a condition and without noise on the way back, all points end in one heap: the mean of everything plausible. For
# drawing *varied* images that would be a defect. With a condition each point finds its place on the spiral, and an estimate
# that is accurate, not varied, is what restoring one photo asks for.
#
# ## What is diffused: the image prior representation
#
# A photo needs millions of numbers, so diffusion on photos is slow. But most of a photo is given in restoration. What is
# missing, DiffIR compresses into a vector of 256 numbers, the IPR. The compact extractor (CPEN) is a small convolutional
# network with a mean over the image at its end:

# %%
figures.show_source(diffir.CPEN)

# %% [markdown]
# Two stages, two tasks (the report's figure 10):
#
# - **Stage 1** sees the degraded photo *and the reference*: $z = \mathrm{CPEN}_1(x, y)$. It cannot copy the answer through
#   256 numbers, so it learns which 256 numbers help most (19).
# - **Stage 2** sees the degraded photo alone, and runs a diffusion whose target is $z$.

# %%
parts = {"x, y": "photos", "CPEN 1": "z: 256 numbers", "DIRformer": "steered by z", "ŷ": "stage 1"}
figure = figures.flow(parts, shortcuts=[("x, y", "DIRformer")])
parts = {"x": "photo", "CPEN 2": "condition c", "noise": "z_T: 256 numbers", "denoiser": "T times: ẑ"}
parts |= {"DIRformer ": "steered by ẑ", "ŷ ": "stage 2"}
figure = figures.flow(parts, shortcuts=[("CPEN 2", "denoiser"), ("x", "DIRformer ")])

# %% [markdown]
# ## What the IPR steers: DIRformer
#
# A U-Net of transformer blocks in which every block is told the IPR twice. *Dynamic modulation* (17) scales and shifts the
# normalised features, channel by channel:
#
# $$F' = W_1 z \odot \mathrm{Norm}(F) + W_2 z$$

# %%
figures.show_source(dirformer.Modulation)

# %% [markdown]
# ### Attention between channels
#
# Attention over pixels costs the square of their number. *Transposed* attention compares channels instead: a matrix of
# d × d per head, whatever the photo's size.
#
# $$\mathrm{Attention}(Q, K, V) = V\,\mathrm{softmax}\big(\tau\, \hat K^\top \hat Q\big)$$

# %%
figures.show_source(dirformer.Attention)

# %%
attention = dirformer.Attention(16, 2, bias=False)
prior = torch.randn(1, 256)
costs = {
    side: complexity.multiply_adds(attention, torch.randn(1, 16, side, side), prior) / side**2 for side in (16, 32, 64)
}
print({f"{side} × {side}": f"{cost:.0f} multiply-adds per pixel" for side, cost in costs.items()})
assert abs(costs[64] / costs[16] - 1) < 0.15, "linear in the pixels"

# %% [markdown]
# ### A gate in the feed-forward part
#
# Two depthwise convolutions, one behind a GELU, multiplied (18): the gated unit of `07_nafnet`, with its activation kept.
#
# $$\hat F = \mathrm{GELU}(W_1^d W_1^c F') \odot W_2^d W_2^c F' + F$$

# %%
figures.show_source(dirformer.FeedForward)

# %% [markdown]
# ## Stage 1
#
# $$\mathcal L_\mathrm{rec} = \lVert \hat y - y \rVert_1$$

# %%
figures.show_source(objectives.WithReference)

# %% [markdown]
# ## Stage 2
#
# CPEN 2 extracts the condition c from the degraded photo (22). The denoiser predicts $\hat z_0$ from $(z_t, t, c)$; the paper
# writes it as predicting noise (21), the official code predicts $\hat z_0$, and this study follows the code. Since T is 4,
# *all* reverse steps are run in training and the error of the last one, and of the restored photo, is sent back through
# all of them (23):
#
# $$\mathcal L = \mathcal L_\mathrm{rec} + \frac{1}{256}\sum_i |\hat z_i - z_i|$$

# %%
figures.show_source(objectives.JointDiffusion)

# %% [markdown]
# The usual way is the other one: draw one $t$, diffuse $z$ to it, ask for one step, never run the whole chain in training,
# and never let the restoring network adapt to what the chain really produces.

# %%
figures.show_source(objectives.SeparateDiffusion)

# %% tags=["training"]
train_photos = photos.load_sets(study.data(profile), train_sets, split="train")
validation = study.validation(profile, validation_set)
run = study.run_folder(profile, "diffir")
common = {"validation": validation, "processes": processes, "replace_run": True}
stages, histories = {}, {}
for task, settings in (("x4", super_resolution), ("deblur", deblurring)):
    stage_1, histories[task, 1] = recipes.train(
        "diffir-s1", train_photos, run=run / f"{task}-s1", seed=seed, **settings, **common
    )
    stage_2, histories[task, 2] = recipes.train(
        "diffir-s2", train_photos, run=run / f"{task}-s2", start=stage_1, seed=seed, **settings, **common
    )
    stages[task] = (stage_1, stage_2)

# %%
output, data = study.output(profile, "methods/diffir"), study.data(profile)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.1))
for stage in (1, 2):
    history = histories["x4", stage].rename(columns={"psnr_y_crop4": "PSNR in dB"})
    column = "loss" if stage == 1 else "pixel"
    sns.lineplot(history, x="step", y=column, marker="o", label=f"stage {stage}", ax=axes[0])
    sns.lineplot(history, x="step", y="PSNR in dB", marker="o", label=f"stage {stage}", ax=axes[2])
sns.lineplot(histories["x4", 2], x="step", y="distance", marker="o", color=figures.COLORS["diffir"], ax=axes[1])
axes[0].set(ylabel="mean |ŷ - y|")
axes[1].set(ylabel="mean |ẑ - z|", title="stage 2: distance of the guessed IPR")
figures.save(figure, output / "training")

# %% [markdown]
# Stage 1's curve is an upper bound that cheats: its IPR has seen the reference. Stage 2 begins with stage 1's restoring
# network and a denoiser that knows nothing, and the distance of its IPR falls.
#
# ## What does the IPR know?
#
# If it describes a *kind* of photo, similar patches must have similar vectors. Six patches of sample photos, and beside each
# the two patches of other places whose stage-1 IPR is nearest (cosine):

# %%
stage_1, stage_2 = stages["x4"]
patches, origin = [], []
for name in ("astronaut", "chelsea", "coffee", "flower", "rocket"):
    photo = photos.sample(name)
    for top in range(0, min(photo.shape[0], 400) - 95, 96):
        for left in range(0, min(photo.shape[1], 500) - 95, 96):
            patches.append(photo[top : top + 96, left : left + 96])
            origin.append(name)
with torch.inference_mode():
    high = torch.cat([to_tensor(patch) for patch in patches])
    low = torch.cat([to_tensor(Bicubic(4)(patch)) for patch in patches])
    priors = stage_1.prior(low, high)
centred = F.normalize(priors - priors.mean(dim=0), dim=1)
similar = centred @ centred.T - 2 * torch.eye(len(patches))

# %%
chosen = np.linspace(3, len(patches) - 4, 6).astype(int)
figure, axes = plt.subplots(3, 6, figsize=(5.8, 3.5))
for column, index in enumerate(chosen):
    nearest = similar[index].topk(2)
    for axis, which, title in zip(
        axes[:, column],
        [index, *nearest.indices.tolist()],
        ["patch", *(f"{v:.2f}" for v in nearest.values)],
        strict=True,
    ):
        axis.imshow(patches[which])
        axis.set(title=title, xticks=[], yticks=[])
figures.save(figure, output / "neighbours")
same = [origin[int(row.argmax())] == name for row, name in zip(similar, origin, strict=True)]
chance = np.mean([np.mean([a == b for j, b in enumerate(origin) if j != i]) for i, a in enumerate(origin)])
print(
    f"the nearest patch is of the same photo in {100 * np.mean(same):.0f} % of cases; by chance in {100 * chance:.0f} %"
)

# %% [markdown]
# ## The four reverse steps
#
# The path from noise to the guessed IPR, for one photo and several noises, projected onto the two directions in which
# the paths differ most. The cross is stage 1's IPR, which is where they ought to end.

# %%
model, label = study.best(profile, "diffir-x4", stage_2)
degraded, reference = photo_pairs({"chelsea": photos.sample("chelsea")}, Bicubic(4))["chelsea"]
x = to_tensor(degraded[: degraded.shape[0] // 8 * 8, : degraded.shape[1] // 8 * 8])
starts = torch.randn(12, 256, generator=torch.Generator().manual_seed(seed))
with torch.inference_mode():
    condition = stage_2.condition.mlp(stage_2.describe(x)).expand(12, -1)
    path = torch.stack([starts, *stage_2.diffusion.reverse(starts, condition, stage_2.denoise)])
    high = to_tensor(reference[: 4 * x.shape[-2], : 4 * x.shape[-1]])
    target = stage_1.prior(x, high)
flat = path.flatten(0, 1) - path.mean(dim=(0, 1))
axes_2d = torch.linalg.svd(flat, full_matrices=False).Vh[:2].T
projected, aim = (path - path.mean(dim=(0, 1))) @ axes_2d, ((target - path.mean(dim=(0, 1))) @ axes_2d)[0]

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4))
axes[0].plot(projected[..., 0], projected[..., 1], marker="o", markersize=3, color="0.5", linewidth=0.8)
axes[0].scatter(projected[-1, :, 0], projected[-1, :, 1], color=figures.COLORS["diffir"], zorder=3, label="ẑ₀")
axes[0].scatter(*aim, marker="x", s=90, color="black", zorder=3, label="z of stage 1")
axes[0].set(xlabel="first direction", ylabel="second direction")
axes[0].legend()
distance = (path - target).abs().mean(dim=2)
axes[1].plot(range(len(distance)), distance, color="0.5", marker="o", markersize=3)
axes[1].set(xlabel="reverse steps done", ylabel="mean |ẑ - z|", xticks=range(len(distance)))
figures.save(figure, output / "path")
spread = path[-1].std(dim=0).mean() / path[0].std(dim=0).mean()
print(f"spread over noises: {100 * spread:.3f} % of the noise's own is left after {len(distance) - 1} steps")
assert spread < 1

# %% [markdown]
# ### How much does the noise show in the photo?
#
# Diffusion models are known for drawing something else each time. Here the same photo is restored from five noises. Where
# the paths meet, as above, so do the photos.

# %%
restored = np.stack([rvlib.restore(model, degraded, seed=number) for number in range(5)]).astype(float)
deviation = restored.std(axis=0).mean(axis=2)
figure = figures.images({"restored": restored[0].astype(np.uint8), "deviation over five noises": deviation}, width=3)
print(
    f"standard deviation over noises: mean {deviation.mean():.4f}, at most {deviation.max():.2f} grey levels ({label})"
)

# %% [markdown]
# ## Experiment: how many steps, and joint or not?
#
# **Question:** the report says that four steps suffice and that joint training beats the traditional one. All variants below
# start from the *same* stage 1 and train equally long; what varies is T, and in the last row the training: one random t,
# with the restoring network left as stage 1 had it.

# %% tags=["training"]
experiment = {}
for number in ablation_seeds:
    facts = {**ablation, "seed": number, "validate_every": ablation["steps"]}
    shared, _ = recipes.train("diffir-s1", train_photos, run=run / f"shared-s1-seed-{number}", **facts, **common)
    for timesteps in ablation_timesteps:
        for method, kind in (("diffir-s2", "joint"), ("diffir-s2-separate", "separate")):
            if kind == "separate" and timesteps != 4:
                continue
            facts["arguments"] = {**ablation["arguments"], "timesteps": timesteps}
            name = run / f"T{timesteps}-{kind}-seed-{number}"
            trained = recipes.train(method, train_photos, run=name, start=shared, **facts, **common)
            experiment[kind, timesteps, number] = trained

# %%
found = pd.DataFrame(
    [
        {
            "training": kind,
            "T": T,
            "seed": number,
            "PSNR in dB": log["psnr_y_crop4"].iloc[-1],
            "IPR": log["distance"].iloc[-1],
        }
        for (kind, T, number), (_, log) in experiment.items()
    ]
)
summary = found.groupby(["training", "T"])[["PSNR in dB", "IPR"]].agg(["mean", "std"])
summary.columns = [" ".join(name) for name in summary.columns]
tables.write(summary.reset_index(), output / "ablation")
figure, axis = plt.subplots(figsize=(5.5, 2.9))
sns.stripplot(found.astype({"T": str}), x="T", y="PSNR in dB", hue="training", ax=axis, s=7)
axis.set(xlabel="T: number of diffusion steps; one dot per seed")
figures.save(figure, output / "ablation")
summary.style.format(precision=3, na_rep="–")

# %%
by_seed = found.set_index(["training", "T", "seed"])["PSNR in dB"].unstack("seed")
several = by_seed.loc["joint"]
verdict = by_seed.loc[("joint", 4)] - by_seed.loc[("separate", 4)]
print(
    f"joint less separate at T = 4: {verdict.mean():+.3f} dB, from {verdict.min():+.3f} to {verdict.max():+.3f} over seeds"
)
print(f"over T, joint training varies by {several.mean(axis=1).max() - several.mean(axis=1).min():.3f} dB")

# %% [markdown]
# The finding is reported as it came out, for a short training of small networks. The steps can only matter as far as the
# IPR matters at all, and that is what the next section measures.
#
# ## What the paper does not show: steering with somebody else's IPR
#
# If the IPR holds what a photo needs, that of *another* photo must do harm. Stage 1 restores each photo with its own IPR, with
# that of each other photo, and with zeros.

# %%
names = ("astronaut", "chelsea", "coffee", "flower")
tested = photo_pairs({name: photos.sample(name)[:256, :256] for name in names}, Bicubic(4))
tensors = {n: (to_tensor(low), to_tensor(high)) for n, (low, high) in tested.items()}
swapped = []
with torch.inference_mode():
    vectors = {n: stage_1.prior(*pair) for n, pair in tensors.items()} | {"zeros": torch.zeros(1, 256)}
    for name, (low, high) in tensors.items():
        for source, vector in vectors.items():
            score = metrics.psnr(stage_1.G(low, vector).clamp(0, 1), high, crop=4).item()
            swapped.append({"photo": name, "IPR of": source, "PSNR": score})
swapped = pd.DataFrame(swapped).pivot(index="photo", columns="IPR of", values="PSNR")
own = pd.Series({name: swapped.loc[name, name] for name in names})
loss = swapped.sub(own, axis=0)[[*names, "zeros"]]
figure, axis = plt.subplots(figsize=(5.6, 2.9))
sns.heatmap(loss, annot=True, fmt=".2f", cmap="vlag", center=0, ax=axis, cbar_kws={"label": "dB against its own IPR"})
figures.save(figure, output / "swapped")

# %% [markdown]
# ## Results
#
# Both stages of both tasks. Stage 1 is no method, since it needs the reference; it is what stage 2 can hope for.

# %%
tasks = {
    "x4": ("super-resolution", 4, Bicubic(4), super_resolution_sets),
    "deblur": ("deblurring", 1, recipes.SHAKE, deblurring_sets),
}
parts = []
for name, (task, scale, degradation, test_sets) in tasks.items():
    trained = stages[name][1]
    shown_model, shown_label = study.best(profile, f"diffir-{name}", trained)
    restorers = evaluate.baseline(task, scale)
    restorers["diffir", "this run"] = evaluate.with_model(trained)
    restorers["diffir", shown_label] = evaluate.with_model(shown_model)
    rows = evaluate.sets(restorers, data, test_sets, degradation, measures.for_task(task, scale))
    parts.append(rows.assign(set=rows["set"] + f", {name}"))

# %%
bounds = []
for name, (task, scale, degradation, test_sets) in tasks.items():
    psnr = measures.for_task(task, scale)[0]
    for tested in test_sets:
        for photo, (low, high) in set_pairs(data, tested, degradation).items():
            seen = rvlib.restore(stages[name][0], low, reference=high)
            row = {"set": f"{tested}, {name}", "photo": photo, "method": "diffir, stage 1", "label": "this run"}
            bounds.append(row | {psnr.key: psnr.compute(seen, high)})
rows = pd.concat([*parts, pd.DataFrame(bounds)], ignore_index=True)
means = tables.means(rows)
tables.write(rows, output / "rows")
tables.write(means, output / "means")
means.drop(columns="seconds").style.format(precision=3, na_rep="–").hide(axis="index")

# %%
shown = {"bicubic": evaluate.bicubic(4)(degraded), "DiffIR": rvlib.restore(model, degraded)}
notes = {name: f"{metrics.psnr(picture, reference, crop=4):.2f} dB" for name, picture in shown.items()}
strip = {**shown, "reference": reference}
figure = figures.zoom_strip(strip, box=(80, 140, 110, 130), context=reference, notes=notes)
figures.save(figure, output / "strip")

# %% [markdown]
# ## Where it fails
#
# One IPR describes the *whole* photo: its mean over the image cannot say that the left half is sharp and the right half is
# not. Here the deblurring network gets a photo of which only the right half was shaken, whole and in halves.

# %%
deblur, _ = study.best(profile, "diffir-deblur", stages["deblur"][1])
truth = photos.sample("astronaut")[32:224, 128:320]
half = truth.copy()
half[:, 96:] = recipes.SHAKE(truth, np.random.default_rng(3))[:, 96:]
whole = rvlib.restore(deblur, half)
halves = np.concatenate([rvlib.restore(deblur, half[:, :96]), rvlib.restore(deblur, half[:, 96:])], axis=1)
cases = {"half shaken": half, "restored whole": whole, "restored in halves": halves}
figure = figures.difference_map({name: figures.signed_difference(picture, truth) for name, picture in cases.items()})
figures.save(figure, output / "failure")
scores = {
    name: round(metrics.psnr(picture[:, :80], truth[:, :80], channel="rgb"), 2) for name, picture in cases.items()
}
print("PSNR of the half that was sharp:", {name: min(score, 99.0) for name, score in scores.items()})

# %% [markdown]
# A sharp half is changed because the network was told of shake: what was right got worse. Cutting a photo into tiles does not
# help as such; `rvlib.restore` even computes the IPR over the whole photo on purpose, since otherwise seams would show.
#
# ## Takeaways

# %%
column = "psnr_y_crop4"
table = means[means["set"].str.endswith("x4")].set_index(["set", "method", "label"])[column]
firsts = table.xs("diffir, stage 1", level="method").droplevel("label")
seconds = table.xs(("diffir", "this run"), level=("method", "label"))
gap = (firsts - seconds).round(2).to_dict()
facts = {"stage_1_less_stage_2_db": gap, "joint_less_separate_db": float(verdict.mean()), "noise_left": float(spread)}
tables.write_json(facts, output / "summary.json")
print(f"what stage 1 may see and stage 2 must guess is worth {gap} dB here;")
print(f"somebody else's IPR costs {-loss[list(names)].replace(0, np.nan).mean().mean():.2f} dB on average")

# %% [markdown]
# - Diffuse what is small: 256 numbers in four steps cost next to nothing beside one pass of the restoring network.
# - Without noise on the way back the result is an estimate, not a sample: nearly the same photo every time.
# - Joint training lets the restoring network get used to the guesses it will really be given.
# - The report's figure that traditional diffusion needs "over 200" steps is about diffusion on images, not on IPRs.
#
# ## Try it
#
# 1. Let the reverse steps add the posterior's noise again. What happens to the deviation over noises?
# 2. Train stage 2 with `distance` alone, then with `pixel` alone. Which of the two does the photo need?
# 3. $\bar\alpha_T$ says how much of z is left at the end of the forward process. Work it out for β = 0.1, 0.294, 0.591, 0.99:

# %%
your_answer = 0.9 * 0.706 * 0.409 * 0.01
assert abs(your_answer - schedule.alphas_cumprod[-1].item()) < 1e-4

# %% [markdown]
# Next: `09_compare_super_resolution`, all methods on the same photos.
