# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 00 · A tour: restore a photo in three lines
#
# **What can these methods do for a photo of yours?** They can enlarge a small one with sharper edges than
# interpolation has, and remove some of the blur from a shaken one. They cannot bring back what the camera did not see.
# What they draw there is a guess, and the study shows how good a guess.
#
# **You will see**
# - three lines that restore a photo,
# - a slider between before and after, for each set of released weights,
# - in which order to read the notebooks, for three kinds of readers.
#
# Needs: nothing. Time: seconds.

# %%
import numpy as np
import pandas as pd
from IPython.display import HTML

import rvlib
from rvlib import compare, complexity, metrics, photos, recipes
from rvlib.study import figures, notebooks, widget
from rvlib.degrade import Bicubic, imresize
from rvlib.models import METHODS

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # the tour is the same in every profile
photo = "coffee"  # a sample photo, or the path of your own
largest = 160  # pixels of the small photo's longer side, so that the slowest network answers in seconds

# %% [markdown]
# ## What is released
#
# Weights that this project trained, and what they are for. (`rvlib.load` also reads the methods' official checkpoints:
# give it the file.)

# %%
weights = {name: rvlib.load(name) for name in rvlib.released()}
facts = [
    {"weights": name, "task": model.task, "scale": model.scale, "parameters": complexity.parameters(model)}
    for name, model in weights.items()
]
table = pd.DataFrame(facts, columns=["weights", "task", "scale", "parameters"])
table.style.format({"parameters": "{:,}"}).hide(axis="index")

# %% [markdown]
# ## Enlarge a small photo
#
# The photo is downscaled by 4 first, so there is a reference to compare with. Then the three lines: load, restore,
# look. The table has two measures, from the lowest PSNR to the highest. PSNR says how near the values are to the
# reference (higher is nearer), LPIPS how different a network finds the two pictures (lower is more alike);
# `03_metrics` explains both.
#
# ```python
# import rvlib
# model = rvlib.load("fsrcnn-x4")
# restored = rvlib.restore(model, "photo.jpg")
# ```

# %%
reference = photos.sample(photo) if photo in photos.SAMPLES else photos.read(photo)
smaller = min(1.0, 4 * largest / max(reference.shape[:2]))
reference = reference if smaller == 1 else imresize(reference, smaller)
reference = reference[: reference.shape[0] // 4 * 4, : reference.shape[1] // 4 * 4]
small = Bicubic(4)(reference)
restored = {"bicubic interpolation": imresize(small, 4)}
restored |= {n: rvlib.restore(m, small) for n, m in weights.items() if m.task == "super-resolution" and m.scale == 4}
scores = {
    name: {"PSNR in dB": metrics.psnr(picture, reference, crop=4), "LPIPS": metrics.lpips(picture, reference)}
    for name, picture in restored.items()
}
by_quality = pd.DataFrame(scores).T.sort_values("PSNR in dB")
by_quality.style.format({"PSNR in dB": "{:.2f}", "LPIPS": "{:.3f}"})

# %% [markdown]
# ### Before and after
#
# Left of the slider is bicubic interpolation, right of it the network with the best PSNR. Move it across an edge.

# %%
best = max(scores, key=lambda name: scores[name]["PSNR in dB"])
HTML(compare.slider_html(restored["bicubic interpolation"], restored[best], f"bicubic and {best}"))

# %% [markdown]
# ### All of them, closely

# %%
height, width = reference.shape[:2]
box = (height // 3, width // 2, height // 4, width // 4)
notes = {name: f"{each['PSNR in dB']:.2f} dB, LPIPS {each['LPIPS']:.3f}" for name, each in scores.items()}
figure = figures.zoom_strip({**restored, "reference": reference}, box=box, notes=notes)

# %% [markdown]
# PSNR, the peak signal-to-noise ratio in decibels (dB), says how near the values are: higher is better. LPIPS, a
# learned distance, says how different the picture looks to another network: lower is better. They often disagree:
# networks trained on pixels win in PSNR and look smooth; SRGAN invents sharp texture, loses PSNR, and may leave a fine
# regular pattern. `03_metrics` and `05_srgan` explain why.
#
# ## A blurred photo
#
# The camera shook while the shutter was open. Look at the numbers as well as the pictures: how much a deblurring
# network gains depends on how long it was trained and on the shake, and the result can be worse than the input.

# %%
blurred = recipes.SHAKE(reference, np.random.default_rng(1))
deblurred = {n: rvlib.restore(m, blurred) for n, m in weights.items() if m.task == "deblurring"}
pictures = {"blurred": blurred, **deblurred, "reference": reference}
notes = {n: f"{metrics.psnr(p, reference, channel='rgb'):.2f} dB" for n, p in pictures.items() if n != "reference"}
figure = figures.zoom_strip(pictures, box=box, notes=notes)

# %%
after = list(deblurred.values())[-1] if deblurred else reference
name = list(deblurred)[-1] if deblurred else "the reference, as no deblurring weights are released yet"
HTML(compare.slider_html(blurred, after, f"blurred and {name}"))

# %% [markdown]
# ## Your own photo
#
# Choose one and a model; the middle of it is restored. This needs a running kernel: the sliders above do not.

# %%
widget.panel()

# %% [markdown]
# To see the whole tour with it, set `photo` in the parameters to a path and run the notebook again. The command line
# restores whole photos of any size, keeps transparency, colour profile, EXIF and 16 bits, and takes folders:
#
# ```bash
# rvlib restore photo.jpg --model fsrcnn-x4 -o large.png
# rvlib restore holiday/ --model nafnet-deblur -o sharp/ --recursive
# ```
#
# ## Where to go next
#
# | you are | read, in this order |
# |---|---|
# | **new to image restoration** (you know what a convolution is) | `01_data`, `02_degradations`, `03_metrics`, `04_fsrcnn`, `05_srgan`; then `09_compare_super_resolution` |
# | **at home with deep learning**, for the methods | `06_swinir`, `07_nafnet`, `08_diffir` (with `04_fsrcnn` for the task); then `10_compare_deblurring` and `11_cost` |
# | **here for the numbers**, to choose a method or to check a claim | `03_metrics`, `09_compare_super_resolution`, `10_compare_deblurring`, `11_cost`, `12_report` |
#
# By question: what is "x4" exactly? `02_degradations`. Which number should I believe? `03_metrics`. Which method is
# best, and where? `09` and `10`. What does a decibel cost? `11_cost`. Is a published number true? `12_report` audits
# those of a course report, which the notebooks call *the audited report*.
#
# Three more notebooks leave the comparison: `13_edge` (files that run without Python), `14_video` (what flickers from
# frame to frame) and `15_self_supervised` (what a photo teaches about itself).
#
# The methods, each with its notebook:

# %%
titles = {name: METHODS.get(name.partition("_")[2]) for name in notebooks.names()}
rows = [
    {"notebook": name, "method": method.title, "tasks": ", ".join(method.tasks)}
    for name, method in titles.items()
    if method is not None
]
pd.DataFrame(rows).style.hide(axis="index")

# %% [markdown]
# ## Words and symbols
#
# | written | meaning | explained in |
# |---|---|---|
# | $y$, $x = D(y)$, $\hat y$ | the reference photo, the degraded one, the restored one; $D$ is the degradation | `02_degradations` |
# | x4, $s$ | the scale: the reference has four times as many pixels on each side | `02_degradations` |
# | patch, step, batch | a cut of a photo; one change of all weights; the patches that a step looks at | `01_data`, `04_fsrcnn` |
# | dB, PSNR, MSE | decibels; 10 times the logarithm of the largest value squared over the mean squared error | `03_metrics` |
# | SSIM, LPIPS, NIQE | likeness of structure; distance of a network's features; naturalness without a reference | `03_metrics` |
# | ±, ≈, ▼ | half of a 95 % interval over photos; not told apart from the best; a worse mean than the input's | `09_compare_super_resolution` |
# | $H, W, C$ | height, width and channels of a map of features; $H$ is a spectrum in `10` | `06_swinir` |
# | $d, s, m$ of FSRCNN | channels outside, channels inside, number of layers between: not the scale | `04_fsrcnn` |
# | $G$, $D$ of SRGAN | generator (restores) and discriminator (tells restored from real): not the degradation | `05_srgan` |
# | $Q, K, V$, $B$ | queries, keys, values of attention, and its bias by position | `06_swinir` |
# | $\odot$, $\Vert$, $\ast$ | product element by element, concatenation, convolution | `07_nafnet` |
# | $\sigma$ | a standard deviation; in gates an activation function | `03_metrics`, `07_nafnet` |
# | $z$, $\hat z$, $z_T$ | the vector that guides DiffIR (IPR), its estimate, and noise in its place | `08_diffir` |
# | $\beta_t$, $\alpha_t = 1 - \beta_t$, $\bar\alpha_t$ | noise added in step $t$ of a diffusion, what is kept in it, and in all steps up to it | `08_diffir` |
# | multiply-adds, MACs | one multiplication and one addition, counted as one | `11_cost` |
#
# ## Takeaways

# %%
by_psnr = max(scores, key=lambda name: scores[name]["PSNR in dB"])
by_lpips = min(scores, key=lambda name: scores[name]["LPIPS"])
print(f"on this photo the best PSNR is that of {by_psnr}, the best LPIPS that of {by_lpips}")
before = metrics.psnr(blurred, reference, channel="rgb")
for name, picture in deblurred.items():
    print(f"{name} changes the blurred photo by {metrics.psnr(picture, reference, channel='rgb') - before:+.2f} dB")

# %% [markdown]
# - Three lines restore a photo; the weights' cards in `weights/README.md` say what was measured.
# - These numbers are of one photo. Means over many, with intervals, are in `09` and `10`.
#
# **What can go wrong in practice.** The networks were trained on photos that bicubic interpolation had made small. If
# a camera, a phone's zoom or JPEG made your photo small, expect less. Faces, text and number plates that a network
# draws are plausible, not true.
#
# ## Try it
#
# **1.** Save `small` as JPEG with quality 30 and restore that. What do the networks do to the blocks?
#
# <details><summary>Solution</summary>
#
# ```python
# from rvlib.degrade import Jpeg
# figures.images({n: rvlib.restore(m, Jpeg(30)(small)) for n, m in weights.items() if m.scale == 4})
# ```
#
# They take the edges of the blocks for edges of the scene and sharpen them: no network here has seen JPEG in training.
#
# </details>
#
# **2.** Is restoring deterministic? Restore the same photo twice and compare all pixels, also with DiffIR, which
# begins with noise.
#
# <details><summary>Solution</summary>
#
# It is: `restore` draws DiffIR's noise from a fixed seed. The next cell checks all released networks.
#
# </details>

# %%
for model in weights.values():
    assert np.array_equal(rvlib.restore(model, small[:32, :32]), rvlib.restore(model, small[:32, :32]))

# %% [markdown]
# **Further reading.** Wang et al. 2021, *Deep Learning for Image Super-Resolution: A Survey*,
# [doi:10.1109/TPAMI.2020.2982166](https://doi.org/10.1109/TPAMI.2020.2982166); Zhang et al. 2022, *Deep Image Deblurring: A Survey*,
# [doi:10.1007/s11263-022-01633-5](https://doi.org/10.1007/s11263-022-01633-5).
#
# Next: `01_data`.
