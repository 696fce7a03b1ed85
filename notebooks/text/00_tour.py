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
# interpolation has, and remove some of the blur from a shaken one. They cannot bring back detail that the camera did
# not record. The detail they draw is a guess, and the study measures how good a guess it is.
#
# **You will see**
# - three lines that restore a photo,
# - a slider between before and after, for each set of released weights,
# - in which order to read the notebooks, for three kinds of readers.
#
# Needs: nothing; the first run fetches the network behind LPIPS (10 MB). Time: seconds.

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
# The table lists the weights that this project trained, with the task of each. (`rvlib.load` also reads the methods'
# official checkpoints: give it the file.)

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
# The photo is downscaled by 4 first, so there is a reference to compare with. Then come the three lines: import, load,
# restore. The table has two measures and is sorted by PSNR, the lowest first.
#
# - PSNR, the peak signal-to-noise ratio in decibels (dB), says how near the values are to the reference: higher is
#   nearer.
# - LPIPS, a learned distance, says how different another network finds the two pictures: lower is more alike.
#
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
by_quality = pd.DataFrame(scores).T.sort_values("PSNR in dB").rename_axis("enlarged by")
by_quality.reset_index().style.format({"PSNR in dB": "{:.2f}", "LPIPS": "{:.3f}"}).hide(axis="index")

# %% [markdown]
# ### Before and after
#
# Left of the slider is bicubic interpolation, right of it the network with the best PSNR. Move it across an edge.

# %%
best = by_quality.drop("bicubic interpolation").index[-1]
HTML(compare.slider_html(restored["bicubic interpolation"], restored[best], f"bicubic and {best}"))

# %% [markdown]
# ### All of them, closely
#
# The same crop of each picture, in the order of the table. The PSNR and LPIPS below it are those of the whole photo.

# %%
height, width = reference.shape[:2]
box = (height // 3, width // 2, height // 4, width // 4)
notes = {name: f"{each['PSNR in dB']:.2f} dB, LPIPS {each['LPIPS']:.3f}" for name, each in scores.items()}
in_order = {name: restored[name] for name in by_quality.index}
figure = figures.zoom_strip({**in_order, "reference": reference}, box=box, notes=notes)

# %% [markdown]
# The two measures need not agree. Networks that are trained to lower the error per pixel usually win in PSNR and look
# smooth. SRGAN also learned to deceive a second network that judges pictures: it invents sharp texture, usually has a
# lower PSNR than they have, and may leave a fine regular pattern. `03_metrics` and `05_srgan` explain why.
#
# ## A blurred photo
#
# A camera that shakes while its shutter is open smears the photo. Here the library computes such a shake from the
# reference (`02_degradations` shows how). Look at the numbers as well as the pictures: the gain of a deblurring network
# depends on its training and on the shake, and the result can be worse than the input. (PSNR is over all three colours
# here, over luminance above: each task has its own convention.)

# %%
blurred = recipes.SHAKE(reference, np.random.default_rng(1))
deblurred = {n: rvlib.restore(m, blurred) for n, m in weights.items() if m.task == "deblurring"}
pictures = {"blurred": blurred, **deblurred, "reference": reference}
values = {n: metrics.psnr(p, reference, channel="rgb") for n, p in pictures.items() if n != "reference"}
figure = figures.zoom_strip(pictures, box=box, notes={name: f"{value:.2f} dB" for name, value in values.items()})

# %% [markdown]
# Left of the slider is the blurred photo, right of it the deblurring network with the best PSNR.

# %%
name = max(deblurred, key=values.get, default="reference")  # the reference, if no weights for deblurring are released
HTML(compare.slider_html(blurred, pictures[name], f"blurred and {name}"))

# %% [markdown]
# ## Your own photo
#
# Choose a photo and a model; the middle of the photo is restored. This needs a running kernel; the sliders above do
# not. Where a line that begins with `VBox` is all that stands below, no kernel runs.

# %%
widget.panel()

# %% [markdown]
# To see the whole tour with your photo, set `photo` in the parameters to its path and run the notebook again. The
# command line restores whole photos of any size, keeps transparency, colour profile, EXIF and 16 bits, and takes
# folders:
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
# Three more notebooks go beyond the comparison: `13_edge` (files that run without Python), `14_video` (does a method
# flicker from frame to frame?) and `15_self_supervised` (can a photo teach a network without a clean reference?).
#
# The methods, each with its notebook:

# %%
titles = {name: METHODS.get(name.partition("_")[2]) for name in notebooks.names()}
rows = [
    {"notebook": name, "method": method.title, "tasks": ", ".join(method.tasks).replace("jpeg", "JPEG artefacts")}
    for name, method in titles.items()
    if method is not None
]
pd.DataFrame(rows).style.hide(axis="index")

# %% [markdown]
# ## Words and symbols
#
# | written | meaning | explained in |
# |---|---|---|
# | $y$, $x = D(y)$, $\hat y$ | the reference photo, the degraded one, the restored one; $D$ is the degradation (in `03_metrics`, $x$ and $y$ are any two pictures) | `02_degradations` |
# | x4, $s$ | the scale: the reference has four times as many pixels on each side | `02_degradations` |
# | patch, step, batch | a square cut from a photo; one change of all weights; the patches that a step looks at | `01_data`, `04_fsrcnn` |
# | $\theta$, $F_\theta$, $\ell$ | the weights of a network, the network with these weights, the loss | `04_fsrcnn`, `15_self_supervised` |
# | dB, PSNR, MSE | decibels; 10 times the logarithm of the largest value squared over the mean squared error | `03_metrics` |
# | SSIM, LPIPS, NIQE | likeness of structure; distance of a network's features; naturalness without a reference | `03_metrics` |
# | ±, ≈, ▼ | half of a 95 % interval over photos; not told apart from the best; a worse mean than the input's | `02_degradations` (±), `04_fsrcnn` (≈), `09_compare_super_resolution` (▼) |
# | $H, W, C$ | height, width and channels of a map of features; $H$ is a spectrum in `10` | `06_swinir` |
# | $d, s, m$ of FSRCNN | channels outside, channels inside, number of layers between: not the scale | `04_fsrcnn` |
# | $G$, $D$ of SRGAN | generator (restores) and discriminator (tells restored from real): not the degradation | `05_srgan` |
# | $Q, K, V$, $B$ | queries, keys, values of attention, and its bias by position | `06_swinir` |
# | $\odot$, $\Vert$, $\ast$ | product element by element, concatenation, convolution | `07_nafnet` |
# | $\sigma$ | a standard deviation; in gates an activation function | `03_metrics`, `07_nafnet` |
# | $z$, $\hat z$, $z_T$ | the vector that guides DiffIR (image prior representation, IPR), its estimate, and noise in its place | `08_diffir` |
# | $\beta_t$, $\alpha_t = 1 - \beta_t$, $\bar\alpha_t$ | noise added in step $t$ of a diffusion, what is kept in it, and in all steps up to it | `08_diffir` |
# | $\ell$, $F$, $D$ elsewhere | the logit of a discriminator; the flicker of a clip; NIQE's distance | `05_srgan`, `14_video`, `03_metrics` |
# | $s$, $z$ of a number in 8 bits | its step and its zero point | `13_edge` |
# | $\rho$, $\mathcal J$ | correlation of the errors of neighbouring frames; groups of hidden pixels | `14_video`, `15_self_supervised` |
# | multiply-adds, MACs | one multiplication and one addition, counted as one | `11_cost` |
#
# ## Takeaways

# %%
by_psnr, by_lpips = by_quality["PSNR in dB"].idxmax(), by_quality["LPIPS"].idxmin()
print(f"on this photo {by_psnr} has the best PSNR, {by_lpips} the best LPIPS")
for name in deblurred:
    print(f"{name} changes the PSNR of the blurred photo by {values[name] - values['blurred']:+.2f} dB")

# %% [markdown]
# - Three lines restore a photo; the weights' cards in `weights/README.md` say what was measured.
# - These numbers are of one photo. Means over many, with intervals, are in `09` and `10`.
#
# **What can go wrong in practice.** The networks that enlarge were trained on photos that bicubic interpolation had
# shrunk, those that deblur on computed shake. If a camera, a phone's zoom or JPEG shrank your photo, or something in it
# moved, expect less. Faces, text and number plates that a network draws are plausible, not true.
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
# They take the edges of the blocks for edges of the scene and sharpen them: no network
# here was trained on small photos that JPEG had compressed.
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
# [doi:10.1109/TPAMI.2020.2982166](https://doi.org/10.1109/TPAMI.2020.2982166); Zhang et al. 2022, *Deep Image
# Deblurring: A Survey*, [doi:10.1007/s11263-022-01633-5](https://doi.org/10.1007/s11263-022-01633-5).
#
# Next: `01_data`.
