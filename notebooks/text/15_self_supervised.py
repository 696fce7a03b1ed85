# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 15 · Self-supervised: learning from the degraded photo itself
#
# **What can a network learn if there is no clean photo to learn from?** Every other notebook trains on pairs: somebody
# had the sharp photo and made the poor one from it. Whoever holds an old scan or a noisy picture has no such pair. Two
# ideas make pairs out of the poor photo alone: *shrink it once more*, or *hide some of its pixels*. This notebook
# measures what they are worth, against networks that saw clean photos.
#
# **You will see**
# - zero-shot super-resolution: a small network that is trained on one photo, for that photo,
# - the released FSRCNN, adapted to a photo (`rvlib adapt`): to MATLAB's small photos and to those of a lens that it has
#   not seen, once with the lens told and once not,
# - whether turned patches, good practice elsewhere, do harm if a lens has a direction,
# - whether the gain that `rvlib adapt` prints tells anything about the enlarged photo,
# - why noise that cannot be guessed can be removed without a clean photo: an equation, computed, and a network that
#   uses it.
#
# Papers: Shocher, Cohen and Irani 2018, *"Zero-Shot" Super-Resolution using Deep Internal Learning* (ZSSR), and Batson
# and Royer 2019, *Noise2Self: Blind Denoising by Self-Supervision*. Needs: `02_degradations`, `04_fsrcnn`, `07_nafnet`.
# Time: a minute with the demo parameters on two CPU cores.

# %% tags=["training"]
import pandas as pd
import torch

import rvlib
from rvlib import losses, photos, recipes, study
from rvlib.degrade import Bicubic, BlurredSampling, Noise, imresize
from rvlib.objectives import BlindSpot, Pixelwise
from rvlib.pairs import Patches, photo_pairs
from rvlib.settings import Settings
from rvlib.train import fit

# %%
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import Markdown
from scipy.ndimage import median_filter

from rvlib import complexity, metrics, objectives
from rvlib.restore import forward_any_size, to_array, to_tensor
from rvlib.study import figures, statistics, tables

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
train_sets = ["samples"]  # photos that the denoising networks learn from
test_sets = ["samples"]
photo_limit = 2  # how many photos of the test sets are measured: each has networks of its own
turned_limit = 2  # of these photos, how many are learned from with patches turned and not
seeds = [0]  # of the patches and of fresh weights of what knows one photo
zero_shot_steps = 40  # of a network that knows one photo
adapt_steps = 20  # of the released network, on one photo
denoise_steps = 60
denoise_seeds = [0]
noise = 25  # standard deviation in grey levels

# %% [markdown]
# ## Shrink it once more: zero-shot super-resolution
#
# A photo repeats itself: a roof's edge, a letter, a blade of grass occurs in several sizes (Glasner et al. 2009 measure
# how often). So a small photo $x$ holds examples of what small things look like when they are larger. ZSSR makes a pair
# from it without looking anywhere else: $x$ is the *father*, and the father, shrunk by the same operator, is its *son*.
# The network learns to turn sons into fathers, and is then applied to the father:
#
# $$\hat\theta = \arg\min_\theta \sum_i \ell\big(F_\theta(D(x_i)),\, x_i\big), \qquad \hat y = F_{\hat\theta}(x)
#   \tag{zero-shot}$$
#
# with the operator $D$ that made the photo small, the network $F$ with weights $\theta$, the loss per pixel $\ell$
# (here that of the network's own recipe), and fathers $x_i$: the photo and versions of it that are 0.85, 0.72 and 0.61
# times as large. The network can be tiny, since it has to know one photo. Two operators are compared:
#
# - *MATLAB*: bicubic, with antialiasing, which all released networks that enlarge were trained for.
# - *lens*: an elongated Gaussian (standard deviations of 3.5 and 1.5 pixels of the large photo), turned by 30°, then
#   every fourth pixel (`degrade.BlurredSampling`). The study knows this lens; the released network has never seen it.
#
# The lens brings a trap. Every training of the study flips and turns its patches into one of the eight symmetries of
# the square, which makes eight photos of one. It turns sons and fathers together, and so the operator between them.
# MATLAB's bicubic has no direction that this would change. The lens has one: of the eight, only two have it as it is
# (the patch itself, and turned by 180°), and the other six teach other lenses. So the pairs of the lens are left as
# they are (`augment=False`); what turning would have cost is measured below.

# %% tags=["training"]
data = study.data(profile)
run = study.run_folder(profile, "self_supervised")
kernels = {"MATLAB": Bicubic(4), "lens": BlurredSampling(4)}
is_turned = {"MATLAB": True, "lens": False}  # whether patches are, and with them what made the photo small
references = dict(list(photos.load_sets(data, test_sets, split="test").items())[:photo_limit])
pairs = {kernel: photo_pairs(references, shrink) for kernel, shrink in kernels.items()}

# %%
figure, axes = plt.subplots(1, 2, figsize=(7, 2.7))
dot = np.zeros((48, 48, 3), np.uint8)
dot[24:28, 24:28] = 255
spreads = {name: shrink(dot, None)[..., 0].astype(float) for name, shrink in kernels.items()}
brightest = max(spread.max() for spread in spreads.values())
for axis, (name, spread) in zip(axes, spreads.items(), strict=True):
    drawn = axis.imshow(spread, cmap="Blues", vmin=0, vmax=brightest)
    axis.set(title=f"{name}: a dot of 4 × 4 pixels", xticks=[], yticks=[])
    axis.grid(visible=False)
figure.colorbar(drawn, ax=axes.tolist(), label="grey levels")
plt.show()
kept = {name: spread.max() / spread.sum() for name, spread in spreads.items()}
assert kept["MATLAB"] > 0.5 > kept["lens"], "the share of the light that stays in one pixel"

# %% [markdown]
# A white dot, shrunk: MATLAB keeps most of its light in one pixel, the lens spreads it, most along one direction.
#
# ### The same training as everywhere
#
# No second loop is needed: `recipes.train` takes photos and their degraded versions. The zero-shot network is a small
# generator of `05_srgan` (BasicSR's form, which adds its result to an interpolated photo, as ZSSR's network does). The
# adapted one is FSRCNN with the released weights, which `rvlib.adapt` trains further at a tenth of its learning rate.
# Neither sees the large photo.
#
# This is ZSSR's idea, not its program ([code](https://github.com/assafshocher/ZSSR)). That has eight layers of 64
# channels, takes up to 3,000 steps, grows the photo in smaller steps where asked to, takes the median of the results
# of turned photos, and corrects it so that it shrinks to the input. (Where a kernel is given, it turns nothing
# either.) So *zero-shot* below is what a little of ZSSR brings, not what ZSSR can do.


# %% tags=["training"]
tiny = {"style": "msrresnet", "features": 32, "blocks": 2}
common = {"patch_size": 32, "replace_run": True}
alone = {"steps": zero_shot_steps, "batch_size": 4, "learning_rate": 1e-3, "bf16": False, "arguments": tiny}


def learn(kernel: str, photo: str, seed: int, *, augment: bool) -> dict[str, tuple]:
    """What a small photo teaches, by method: network, core-seconds, and what the own pair gained where that is told."""
    small, shrink = pairs[kernel][photo][0], kernels[kernel]
    fathers = {f"{size} of it": imresize(small, size) for size in (1, 0.85, 0.72, 0.61)}
    sons = {name: son for name, (son, _) in photo_pairs(fathers, shrink).items()}
    place = f"{kernel}-{photo.replace('/', '-')}-{seed}" + "-turned" * augment
    facts = common | {"seed": seed, "augment": augment}
    network, log = recipes.train("srresnet", fathers, degraded=sons, run=run / "zero-shot" / place, **facts, **alone)
    facts |= {"run": run / "adapted" / place, "steps": adapt_steps, "degradation": shrink}
    fine = rvlib.adapt("fsrcnn-x4", {photo: small}, **facts)
    logged = pd.read_csv(facts["run"] / "log.csv")
    return {
        "zero-shot": (network, log["seconds"].iloc[-1], None),
        "adapted": (fine.model, logged["seconds"].iloc[-1], fine.after - fine.before),
    }


learned = {
    (kernel, photo, seed): learn(kernel, photo, seed, augment=is_turned[kernel])
    for kernel in kernels
    for photo in references
    for seed in seeds
}

# %% [markdown]
# And two controls, with one training each. *Turned or not* repeats the trainings of some photos with the opposite
# choice: MATLAB's patches as they are, those of the lens turned. *Lens unknown* is the usual case: the photo came
# through the lens, and nobody knows this lens. The photo's own pairs are then made with MATLAB's bicubic, as the
# command `rvlib adapt` makes them.

# %% tags=["training"]
otherwise = {
    (kernel, photo): learn(kernel, photo, seeds[0], augment=not is_turned[kernel])
    for photo in list(references)[:turned_limit]
    for kernel in kernels
}
unknown = {}
for photo, (small, _) in pairs["lens"].items():
    facts = common | {"steps": adapt_steps, "seed": seeds[0], "run": run / f"unknown-lens/{photo.replace('/', '-')}"}
    unknown[photo] = rvlib.adapt("fsrcnn-x4", {photo: small}, **facts)

# %% [markdown]
# ### The measurement
#
# PSNR on luminance, four pixels cropped, against the large photo, which no method saw. A row is a photo, a method and a
# seed.

# %%
released = rvlib.load("fsrcnn-x4")
rows = []
for (kernel, photo, seed), taught in learned.items():
    small, reference = pairs[kernel][photo]
    for method, (network, seconds, own) in {
        "bicubic": (None, 0.0, None),
        "released": (released, 0.0, None),
        **taught,
    }.items():
        restored = imresize(small, 4) if network is None else rvlib.restore(network, small)
        row = {"input": kernel, "photo": photo, "seed": seed, "method": method, "core-seconds": seconds}
        rows.append(row | {"PSNR": metrics.psnr(restored, reference, crop=4), "own gain": own})

# %%
for photo, fine in unknown.items():
    small, reference = pairs["lens"][photo]
    row = {"input": "lens", "photo": photo, "seed": seeds[0], "method": "adapted, lens unknown"}
    row["PSNR"] = metrics.psnr(rvlib.restore(fine.model, small), reference, crop=4)
    rows.append(row | {"core-seconds": np.nan, "own gain": fine.after - fine.before})
own_rows = pd.DataFrame(rows)
output = study.output(profile, "methods/self_supervised")
tables.write_rows(own_rows, output / "zero-shot-rows")
assert np.isfinite(own_rows["PSNR"]).all()

# %% [markdown]
# A training of seconds, as in the demo, is not a result. The demo therefore shows the rows of the release profile from
# here on, if that has run.

# %%
stored = study.experiment(profile, "methods/self_supervised/zero-shot-rows")
rows = own_rows if stored is None else stored


def gain(rows: pd.DataFrame, value: str, first: str, second: str) -> tuple[statistics.Interval, str]:
    """First less second: the 95 % interval over photos of the means over seeds, and the range of the seeds' means.

    What did not learn from the photos has no seed.
    """
    table = rows.pivot_table(index=["photo", "seed"], columns="method", values=value)
    difference = (table[first] - table[second]).rename("difference").dropna().reset_index()
    interval = statistics.mean_interval(difference.groupby("photo")["difference"].mean())
    each = difference.groupby("seed")["difference"].mean()
    spread = f"{each.min():+.2f} to {each.max():+.2f} over {len(each)} seeds" if len(each) > 1 else "one seed"
    return interval, spread if {first, second} - {"bicubic", "released"} else "–"


# %%
against = [
    ("released", "bicubic"),
    ("zero-shot", "bicubic"),
    ("zero-shot", "released"),
    ("adapted", "released"),
    ("adapted", "zero-shot"),
]
found = {(kernel, *pair): gain(part, "PSNR", *pair) for kernel, part in rows.groupby("input") for pair in against}
lens, pair = rows[rows["input"] == "lens"], ("adapted, lens unknown", "released")
found["lens", *pair] = gain(lens, "PSNR", *pair)
gains = pd.DataFrame(
    [
        {
            "input": kernel,
            "difference": f"{first} less {second}",
            "PSNR": interval.text(2, "dB"),
            "means of the seeds": means,
        }
        for (kernel, first, second), (interval, means) in found.items()
    ]
)
tables.write(gains, output / "zero-shot")
print(f"{rows['photo'].nunique()} photos of {', '.join(rows['photo'].str.split('/').str[0].unique())}")
print("the interval is over photos, seeds averaged; the released network was trained once")
Markdown(tables.markdown(gains))

# %%
relative = rows.pivot_table(index=["input", "photo", "seed"], columns="method", values="PSNR")
relative = relative.sub(relative["bicubic"], axis=0)[["released", "zero-shot", "adapted"]]
relative = relative.groupby(["input", "photo"]).mean().melt(ignore_index=False, value_name="gain").reset_index()
figure, axis = plt.subplots(figsize=(7.5, 3.2))
order = {"order": list(kernels), "hue_order": ["released", "zero-shot", "adapted"], "dodge": True}
sns.stripplot(relative, x="input", y="gain", hue="method", palette="colorblind", alpha=0.7, ax=axis, **order)
axis.axhline(0, color="0.4", linestyle="--")
axis.set(xlabel="how the photo was shrunk", ylabel="gain over bicubic in dB\n(a dot per photo)")
axis.legend(title="", loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "zero-shot")

# %%
photo = next(iter(references))
small, reference = pairs["lens"][photo]
shown = {
    "bicubic": imresize(small, 4),
    "released FSRCNN": rvlib.restore(released, small),
    "adapted to the photo": rvlib.restore(learned["lens", photo, seeds[0]]["adapted"][0], small),
    "reference": reference,
}
height, width = (side // 4 for side in reference.shape[:2])
notes = {name: f"{metrics.psnr(image, reference, crop=4):.2f} dB" for name, image in list(shown.items())[:3]}
figure = figures.zoom_strip(shown, box=(height, width, height, width), notes=notes)
if profile != "demo" and set(test_sets) == {"samples"}:  # seconds of training are no picture; other sets are not shown
    figures.save(figure, output / "strip")
else:
    plt.close(figure)

# %% [markdown]
# (A strip is drawn by the laptop's profile: the demo's network has had too few steps for a picture.)
#
# ### Whoever turns a patch turns its lens
#
# The control *turned or not*: the same photos, networks and steps, once with patches as they are, once with patches in
# the eight symmetries. Turning does two things. It makes more examples, which a network that has one photo needs. And
# for the lens, it makes most of them examples of another lens, and the network learns one answer for all. MATLAB's rows
# show the first alone, those of the lens the sum of both.

# %%
turning = []
for (kernel, photo), other in otherwise.items():
    small, reference = pairs[kernel][photo]
    own = learned[kernel, photo, seeds[0]]
    for turned, taught in ((is_turned[kernel], own), (not is_turned[kernel], other)):
        row = {"input": kernel, "photo": photo, "patches": "turned" if turned else "as they are"}
        for method, (network, *_) in taught.items():
            score = metrics.psnr(rvlib.restore(network, small), reference, crop=4)
            turning.append(row | {"method": method, "PSNR": score})
turning = pd.DataFrame(turning)
tables.write_rows(turning, output / "turning-rows")
stored = study.experiment(profile, "methods/self_supervised/turning-rows")
turning = turning if stored is None else stored
table = turning.pivot(index=["input", "method", "photo"], columns="patches", values="PSNR")
straight = {
    key: statistics.paired_difference(part["as they are"], part["turned"])
    for key, part in table.groupby(["input", "method"], sort=False)
}
means = table.groupby(["input", "method"], sort=False).mean().round(2)
means["as they are less turned"] = [straight[key].text(2, "dB") for key in means.index]
tables.write(means.reset_index(), output / "turning")
print("mean PSNR in dB; one seed")
Markdown(tables.markdown(means.reset_index()))

# %% [markdown]
# ### Does the printed gain tell anything?
#
# `rvlib adapt` prints PSNR before and after on the photo's own pair: its shrunk version and itself, which it learned
# from. The user wants a better large photo, and has none to measure with. Each dot is an adapted network (a photo and a
# seed), with its gain on its own pair and its gain on the large photo. The command makes its pairs with MATLAB's
# bicubic, so it prints the gains of *MATLAB* and of *lens, not told*. Those of *lens, told* come from
# `rvlib.adapt(..., degradation=...)` in Python.

# %%
cases = {
    "MATLAB": ("MATLAB", "adapted"),
    "lens, told": ("lens", "adapted"),
    "lens, not told": ("lens", "adapted, lens unknown"),
}
by_way = rows.set_index(["input", "method", "photo", "seed"]).sort_index()
both = {
    case: pd.DataFrame(
        {"own": by_way.loc[key, "own gain"], "true": by_way.loc[key, "PSNR"] - by_way.loc[(key[0], "released"), "PSNR"]}
    ).dropna()
    for case, key in cases.items()
}
dots = pd.concat(both, names=["case"]).reset_index()
figure, axes = plt.subplots(1, len(cases), figsize=(11.5, 3.2))
for axis, (case, part) in zip(axes, dots.groupby("case", sort=False), strict=True):
    sns.scatterplot(part, x="own", y="true", ax=axis)
    axis.axhline(0, color="0.4", linestyle="--")
    axis.axvline(0, color="0.4", linestyle="--")
    axis.set(title=case, xlabel="gain on the photo's own pair in dB", ylabel="gain on the large photo in dB")
figures.save(figure, output / "own-gain")
promised, broken = [], 0
for case, part in both.items():
    part = part.groupby("photo").mean()  # over seeds: two trainings on a photo are not two photos
    told, kept = (part["own"] > 0).sum(), ((part["own"] > 0) & (part["true"] > 0)).sum()
    promised.append(f"{case}: {told} of {len(part)} photos gained on their own pair, {kept} of those when large, too")
    broken += told - kept
answer = "not by itself" if broken else "yes, in these cases"
print(f"does a gain on the own pair tell a gain on the large photo? {answer}:", *promised, sep="\n")

# %% [markdown]
# ### Pictures of one kind
#
# If the printed gain says nothing, a photo that was kept back can tell. Pages and textures are not usual photos. Here
# the network adapts to the *left half* of such a picture at its full size, for five times as many steps, and is
# measured on the right half, which it did not learn from. Make the same test before you trust `rvlib adapt` with a
# folder of your own. This is its most favourable form: a folder's pictures are less alike than two halves of one.

# %% tags=["training"]
kinds = {
    name: photo
    for name, photo in photos.load_set(data, "samples", split="train").items()
    if name in ("page", "text", "brick", "grass")
}
halves = {name: (photo[:, : photo.shape[1] // 2], photo[:, photo.shape[1] // 2 :]) for name, photo in kinds.items()}
of_kind = {}
for name, (left, _) in halves.items():
    for seed in seeds:
        place = run / f"kinds/{name}-{seed}"
        of_kind[name, seed] = rvlib.adapt(
            "fsrcnn-x4", {name: left}, run=place, steps=5 * adapt_steps, seed=seed, replace_run=True
        )

# %%
kind_rows = []
for (name, seed), fine in of_kind.items():
    low, high = photo_pairs({name: halves[name][1]}, Bicubic(4))[name]
    results = {"bicubic": imresize(low, 4), "released": rvlib.restore(released, low)}
    for method, restored in (results | {"adapted": rvlib.restore(fine.model, low)}).items():
        kind_rows.append(
            {"photo": name, "seed": seed, "method": method, "PSNR": metrics.psnr(restored, high, crop=4)}
            | {"own gain": fine.after - fine.before}
        )
kind_rows = pd.DataFrame(kind_rows)
tables.write_rows(kind_rows, output / "kinds-rows")
stored = study.experiment(profile, "methods/self_supervised/kinds-rows")
kind_rows = kind_rows if stored is None else stored
kind_table = kind_rows.pivot_table(index="photo", columns="method", values="PSNR")
kind_table["adapted less released"] = kind_table["adapted"] - kind_table["released"]
of_seeds = kind_rows.pivot_table(index=["photo", "seed"], columns="method", values="PSNR")
of_seeds = (of_seeds["adapted"] - of_seeds["released"]).groupby("photo")
kind_table["lowest seed"], kind_table["highest seed"] = of_seeds.min(), of_seeds.max()
kind_table["gain on the left half"] = kind_rows.groupby("photo")["own gain"].mean()
kinds_gain = statistics.mean_interval(kind_table["adapted less released"])
columns = ["bicubic", "released", "adapted", "adapted less released", "lowest seed", "highest seed"]
kind_table = kind_table[[*columns, "gain on the left half"]].reset_index()
tables.write(kind_table, output / "kinds")
print("PSNR on the right half in dB; the last column is of the left half, which was learned from")
print("seeds averaged:", kind_rows["seed"].nunique())
print("adapted less released:", kinds_gain.text(2, "dB"))
clear = (kind_table["adapted less released"] > 0.5).sum()
print(f"gained over half a decibel: {clear} of {len(kind_table)} pictures")
kind_table.style.format(precision=2).hide(axis="index")

# %% [markdown]
# ## Hide some pixels: denoising without clean photos
#
# Let $x = y + n$ be the noisy photo, $y$ the clean one, and $n$ noise of mean zero that is independent from pixel to
# pixel. Divide the photo into groups $J$ of pixels that cover it and do not overlap; $\mathcal J$ is the set of these
# groups. A function $f$ is called *$\mathcal J$-invariant* if, for each $J$, its output at the pixels $J$ does not
# depend on its input at the pixels $J$. Then its error against the *noisy* photo tells its error against the clean one
# (Batson and Royer 2019; $\mathbb E$ is the mean over all noise):
#
# $$\mathbb E\,\lVert f(x) - x \rVert^2 = \mathbb E\,\lVert f(x) - y \rVert^2 + \mathbb E\,\lVert x - y \rVert^2
#   \tag{Noise2Self}$$
#
# The reason is one line: the difference of both sides is $-2\,\mathbb E\,\langle f(x) - y,\; n \rangle$, and each $n_j$
# is independent of $f(x)_j$ and zero in the mean, so their product is zero in the mean. The last term is the strength
# of the noise, which no $f$ can change. So of all $\mathcal J$-invariant functions, the one with the smallest left
# side, which needs no clean photo, has the smallest error against the clean one.
#
# ### By hand: how wide should a median filter be?
#
# (The paper's own example.) A median over the pixels within a radius sees the pixel itself, and radius 0 (changing
# nothing) has no error at all against the noisy photo. Leave the centre out, and the filter is $\mathcal J$-invariant,
# each pixel being a $J$: then the noisy photo alone shows the best radius.

# %%
clean = photos.sample("chelsea")[60:252, 60:252].mean(axis=2)
noisy = clean + np.random.default_rng(0).normal(0, noise, clean.shape)
curve = []
for radius in range(5):
    disk = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius
    ring = disk & (np.indices(disk.shape) != radius).any(axis=0)
    for name, footprint in {"with the centre": disk, "without the centre": ring}.items():
        if footprint.any():
            filtered = median_filter(noisy, footprint=footprint)
            for target, image in {"noisy photo": noisy, "clean photo": clean}.items():
                error = ((filtered - image) ** 2).mean()
                curve.append({"radius": radius, "filter": name, "against": target, "mean squared error": error})
curve = pd.DataFrame(curve)
ring = curve[curve["filter"] == "without the centre"].pivot(
    index="radius", columns="against", values="mean squared error"
)
apart = ring["noisy photo"] - ring["clean photo"]
assert np.allclose(apart, noise**2, rtol=0.1), "the two curves are one, moved by the variance of the noise"
assert ring["noisy photo"].idxmin() == ring["clean photo"].idxmin(), "the noisy photo chooses the best radius"

# %%
grid = sns.relplot(
    curve,
    x="radius",
    y="mean squared error",
    hue="against",
    col="filter",
    kind="line",
    marker="o",
    height=2.9,
    aspect=1.3,
)
grid.set_titles("median {col_name}").set_ylabels("mean squared error\nin grey levels²").set_xlabels("radius in pixels")
figures.save(grid.figure, output / "median")
print(f"best radius without the centre: {ring['noisy photo'].idxmin()} pixels against either photo")
print(f"these two curves are {apart.min():.0f} to {apart.max():.0f} apart; the variance of the noise is {noise**2}")

# %% [markdown]
# ### The same for a network
#
# A network sees every pixel. To make it $\mathcal J$-invariant, the pixels of $J$ are replaced by means of their
# neighbours before it sees the photo, and its result is looked at in $J$ alone. $J$ is one pixel of each 4 × 4, so that
# no hidden pixel is the neighbour of another; sixteen passes make a whole photo. (The weights of the neighbours are
# those of the [authors' code](https://github.com/czbiohub-sf/noise2self).)

# %%
figures.show_source(objectives.hide)

# %%
figures.show_source(BlindSpot.__call__)

# %% [markdown]
# Three trainings of the same small NAFNet, with the same steps, patches and learning rate:
#
# - *clean*: pairs of noisy and clean photos, as in every other notebook,
# - *blind*: the same noisy photos alone,
# - *own photo*: blind, too, on the noisy *test photos*. It never looks at a clean photo, so this is not cheating:
#   whoever has noisy photos can train on them.
#
# The two blind ones learn from less in each step: their loss is over one pixel in sixteen, and its target is noisy.

# %% tags=["training"]
clean_photos = photos.load_sets(data, train_sets, split="train")
middle = {
    name: photo[(photo.shape[0] - 192) // 2 :, (photo.shape[1] - 192) // 2 :][:192, :192]
    for name, photo in references.items()
}
to_learn, to_test = (photo_pairs(each, Noise(noise)) for each in (clean_photos, middle))
noisy_photos, noisy_tests = ({name: low for name, (low, _) in each.items()} for each in (to_learn, to_test))
trainings = {
    "clean": (Pixelwise, clean_photos, noisy_photos),
    "blind": (BlindSpot, noisy_photos, noisy_photos),
    "own photo": (BlindSpot, noisy_tests, noisy_tests),
}
settings = {"steps": denoise_steps, "batch_size": 4, "learning_rate": 2e-3, "warmup_steps": 20, "clip_norm": 0.5}
denoisers = {}
for seed in denoise_seeds:
    for name, (objective, targets, inputs) in trainings.items():
        torch.manual_seed(seed)
        network = rvlib.create("nafnet", width=8, encoder=(1, 1), middle=1, decoder=(1, 1))
        patches = Patches(targets, inputs, patch_size=48, seed=seed)
        place = run / f"denoising/{name.replace(' ', '-')}-{seed}"
        log = fit(network, objective(losses.mse), patches, Settings(seed=seed, **settings), run=place, replace=True)
        denoisers[name, seed] = network, log["seconds"].iloc[-1]

# %% [markdown]
# A network that was trained blind must be *used* blind: it never learned what to do with a pixel that it sees.


# %%
@torch.inference_mode()
def blind(network, noisy: np.ndarray) -> np.ndarray:
    """Denoise uint8 H x W x 3 so that no pixel is guessed from itself: one pass for each place of the cells."""
    image = to_tensor(noisy)
    restored = torch.empty_like(image)
    for place in range(objectives.CELL**2):
        hidden, spots = objectives.hide(image, place)
        restored[spots] = (hidden if network is None else forward_any_size(network, hidden))[spots]
    return to_array(restored)


# %%
denoised = {photo: {"noisy": low, "mean of neighbours": blind(None, low)} for photo, low in noisy_tests.items()}
denoise_rows = []
for (name, seed), (network, seconds) in denoisers.items():
    for photo, low in noisy_tests.items():
        restored = denoised[photo] | {name: rvlib.restore(network, low) if name == "clean" else blind(network, low)}
        for method in (name, "noisy", "mean of neighbours"):
            row = {"photo": photo, "seed": seed, "method": method, "core-seconds": seconds if method == name else 0.0}
            denoise_rows.append(row | {"PSNR": metrics.psnr(restored[method], middle[photo], channel="rgb")})
        denoised[photo][name] = restored[name]
denoise_rows = pd.DataFrame(denoise_rows).drop_duplicates(["photo", "seed", "method"])
tables.write_rows(denoise_rows, output / "denoising-rows")
stored = study.experiment(profile, "methods/self_supervised/denoising-rows")
denoise_rows = denoise_rows if stored is None else stored

# %% [markdown]
# ### The equation, computed
#
# The test photos' pixels, all together, for the blind network of this run: used blind, and used as any other network.
# The columns are means per pixel, in grey levels². Used blind, the left side of the equation equals its right side up
# to a few per cent (8 bits cut off noise beyond black and white). Used plainly, the left side is too small: the network
# sees the pixel that it is asked for and hands on its noise.

# %%
network = denoisers["blind", denoise_seeds[0]][0]
equation = {}
for name, use in {"used blind": blind, "used plainly": rvlib.restore}.items():
    sides = {"‖f(x) − x‖²": [], "‖f(x) − y‖²": [], "‖x − y‖²": []}
    for photo, low in noisy_tests.items():
        f, x, y = (image.astype(float) for image in (use(network, low), low, middle[photo]))
        for key, error in zip(sides, (f - x, f - y, x - y), strict=True):
            sides[key].append((error**2).mean())
    equation[name] = {key: np.mean(values) for key, values in sides.items()}
equation = pd.DataFrame(equation).T
left, right = equation["‖f(x) − x‖²"], equation["‖f(x) − y‖²"] + equation["‖x − y‖²"]
equation["left side / right side"] = left / right
assert abs(equation.loc["used blind", "left side / right side"] - 1) < 0.08
assert equation["left side / right side"].idxmin() == "used plainly"
equation.style.format(precision=1).format("{:.3f}", subset=["left side / right side"])

# %% [markdown]
# ### What a clean photo is worth
#
# *Clean less blind* is the price of having no clean photos, all of it: the clean network also sees the pixel that it is
# asked for, which a blind one must not, and its loss is over every pixel. A network with hidden pixels and clean
# targets would tell these apart; it is not measured here. If each network was trained once, a small difference may come
# from the seed, whatever the interval over photos says. (The demo's own networks have learned too little for a picture;
# the laptop profile shows one.)

# %%
against = [
    ("blind", "noisy"),
    ("blind", "mean of neighbours"),
    ("own photo", "blind"),
    ("clean", "blind"),
    ("clean", "own photo"),
]
compared = {pair: gain(denoise_rows, "PSNR", *pair) for pair in against}
denoising = pd.DataFrame(
    [
        {"difference": f"{first} less {second}", "PSNR": interval.text(2, "dB"), "means of the seeds": means}
        for (first, second), (interval, means) in compared.items()
    ]
)
tables.write(denoising, output / "denoising")
means = denoise_rows.groupby("method")["PSNR"].mean().sort_values()
told = ", ".join(f"{method} {value:.2f} dB" for method, value in means.items())
print(f"mean PSNR (RGB) of {denoise_rows['photo'].nunique()} photos: {told}")
print(f"trainings of each network: {denoise_rows['seed'].nunique()}")
print("the interval is over photos, trainings averaged; it leaves out the change from one training to another")
Markdown(tables.markdown(denoising))

# %%
if profile != "demo" and set(test_sets) == {"samples"}:  # seconds of training are no picture; other sets are not shown
    photo = next(iter(denoised))
    names = ("noisy", "mean of neighbours", "blind", "clean")
    shown = {name: denoised[photo][name] for name in names} | {"reference": middle[photo]}
    notes = {name: f"{metrics.psnr(shown[name], middle[photo], channel='rgb'):.2f} dB" for name in names}
    figures.save(figures.zoom_strip(shown, box=(40, 40, 112, 112), notes=notes), output / "denoised")

# %% [markdown]
# ## Cost
#
# Core-seconds of training, by the clock of the process: the mean of the trainings, the shortest and the longest. *Zero-shot*
# and *adapted* are paid for each photo, *own photo* for each set of noisy photos, and the other networks once.

# %%
paid = pd.concat([rows, denoise_rows]).query("`core-seconds` > 0").groupby("method", sort=False)["core-seconds"]
cost = paid.agg(["mean", "min", "max"]).add_suffix(" core-seconds").reset_index()
paid_for = {"zero-shot": "one photo", "adapted": "one photo", "own photo": "the test photos"}
cost["for"] = [paid_for.get(method, "all photos") for method in cost["method"]]
trained = {name: network for (name, _), (network, _) in denoisers.items()}
trained |= {"zero-shot": next(iter(learned.values()))["zero-shot"][0], "adapted": released}
cost["parameters"] = [complexity.parameters(trained[method]) for method in cost["method"]]
tables.write(cost, output / "cost")
cost.style.format(precision=1, thousands=",").hide(axis="index")

# %% [markdown]
# ## Takeaways

# %%
order = rows.groupby(["input", "method"])["PSNR"].mean().drop("adapted, lens unknown", level="method")
lines = [
    f"**{kernel}, from best to worst mean PSNR:** "
    + ", ".join(f"{method} {value:.2f} dB" for method, value in part.droplevel(0).sort_values(ascending=False).items())
    + "."
    for kernel, part in order.groupby("input")
]
for (kernel, first, second), (interval, _) in found.items():
    if second == "released":
        lines.append(f"{kernel}: {first} less {second}: {interval.text(2, 'dB')}.")
for kernel in kernels:
    told = [f"{method} {each.text(2, 'dB')}" for (way, method), each in straight.items() if way == kernel]
    lines.append(f"{kernel}, patches as they are less turned: {', '.join(told)}; one seed.")
lines.append(f"Adapted networks: {'; '.join(promised)}.")
best = kind_table.loc[kind_table["adapted less released"].idxmax()]
lines.append(
    f"Adapted to half of a picture, measured on its other half: from {kind_table['adapted less released'].min():+.2f} to "
    f"{best['adapted less released']:+.2f} dB ({best['photo']}) against the released network, on average "
    f"{kinds_gain.text(2, 'dB')}."
)
for first, second in (("blind", "noisy"), ("clean", "blind")):
    interval, means = compared[first, second]
    lines.append(f"Denoising: {first} less {second}: {interval.text(2, 'dB')}; {means}.")
summary = {f"{kernel}: {a} less {b}": interval.mean for (kernel, a, b), (interval, _) in found.items()}
summary |= {f"{a} less {b}": interval.mean for (a, b), (interval, _) in compared.items()}
tables.write_json({"gain_db": summary}, output / "summary.json")
Markdown("\n".join(f"- {line}" for line in lines))

# %% [markdown]
# - The photo's own pairs must be made as the photo was. Compare *adapted* with *adapted, lens unknown*: the same
#   photos, the same network and steps, and only in the first was the lens told (so its patches were left as they are).
# - Flips and turns are free examples only where the degradation looks the same from all sides. Where it has a direction
#   (a lens, the shake of one shot), most of them show another one. `augment=False` of `rvlib.adapt` and `recipes.train`
#   leaves patches as they are, and so does `rvlib train --set augment=false` for pairs of one's own.
# - The study told the lens here; the photo did not. For a real photo, ZSSR asks for an estimate of the lens; KernelGAN
#   makes one from the photo, with a network. The command `rvlib adapt` shrinks as MATLAB does. In Python,
#   `rvlib.adapt(..., degradation=...)` takes another operator.
# - An error against noisy photos can be trusted, and minimised, if no pixel is guessed from itself and the noise has
#   mean zero and is independent from pixel to pixel.
#
# **What it is worth in practice**
# - *Usual photos that were shrunk as MATLAB does*: take the released network as it is.
# - *Pictures of one kind*, such as textures or handwriting: it can pay, but need not (see the table above). Take
#   `rvlib adapt folder/ --model fsrcnn-x4 -o mine.safetensors`, keep a few pictures back, and `rvlib evaluate` on those
#   before and after. The gain on the pictures that were learned from is not the answer.
# - *Noisy photos without clean ones* (some microscopes, telescopes): blind spots need nothing but the photos. The noise
#   must be independent from pixel to pixel. The noise of a JPEG, or of a camera that has interpolated its colours, is
#   not: the network takes it for a part of the photo.
#
# ## Try it
#
# **1.** Which median radius does the noisy photo choose for noise of 10 and of 50 grey levels? Guess first; the cell
# below computes it.
#
# **2.** Blind spots guess a pixel from its neighbours. What happens to a photo of stars, each of which is one pixel?
#
# **3.** Why must the loss be the *squared* error in the equation? What does `BlindSpot(losses.l1)` learn?
#
# <details><summary>Solutions</summary>
#
# **1.** More noise asks for more pixels: the radius grows. The cell checks that it does not shrink, for this photo.
#
# **2.** They vanish: a star that no neighbour announces is noise by this definition. What is independent from pixel to
# pixel is removed, whatever it is.
#
# **3.** The mixed term is zero because it is linear in $n$: that takes the square. The absolute error is minimised by
# the median of what a pixel may be, given the others. For symmetric noise that is nearly the same; for noise with
# outliers (dead pixels) it is better.
#
# </details>

# %% tags=["nbval-check-output"]
radii = []
for level in (10, 50):
    test = clean + np.random.default_rng(1).normal(0, level, clean.shape)
    errors = {}
    for radius in range(1, 9):
        disk = np.hypot(*np.mgrid[-radius : radius + 1, -radius : radius + 1]) <= radius
        disk[radius, radius] = False
        errors[radius] = ((median_filter(test, footprint=disk) - test) ** 2).mean()
    radii.append(min(errors, key=errors.get))
print("chosen radii:", dict(zip((10, 50), radii, strict=True)))
assert radii[0] <= radii[1] < 8, "the best radius is one that was tried"

# %% [markdown]
# **Further reading**
#
# - Shocher et al. 2018, *ZSSR*, [doi:10.1109/CVPR.2018.00329](https://doi.org/10.1109/CVPR.2018.00329)
# - Glasner, Bagon and Irani 2009, *Super-Resolution from a Single Image*,
#   [doi:10.1109/ICCV.2009.5459271](https://doi.org/10.1109/ICCV.2009.5459271)
# - Bell-Kligler et al. 2019, *KernelGAN*, [doi:10.48550/arXiv.1909.06581](https://doi.org/10.48550/arXiv.1909.06581)
# - Batson and Royer 2019, *Noise2Self*, [doi:10.48550/arXiv.1901.11365](https://doi.org/10.48550/arXiv.1901.11365)
# - Krull et al. 2019, *Noise2Void*, [doi:10.1109/CVPR.2019.00223](https://doi.org/10.1109/CVPR.2019.00223)
# - Lehtinen et al. 2018, *Noise2Noise*, [doi:10.48550/arXiv.1803.04189](https://doi.org/10.48550/arXiv.1803.04189)
