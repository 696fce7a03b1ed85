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
# **What can these methods do for a photo of yours?** Make a small one large with sharper edges than interpolation has, and
# take some of the shake out of a blurred one. They cannot bring back what the camera did not see; where they draw
# something, it is a guess, and the study shows how good a guess.
#
# **You will see**
# - three lines that restore a photo,
# - a slider between before and after, for each set of released weights,
# - which notebook answers which question.
#
# Needs: nothing. Time: seconds.

# %%
import numpy as np
import pandas as pd
from IPython.display import HTML

import rvlib
from rvlib import complexity, metrics, photos, recipes
from rvlib.study import widget
from rvlib.study import figures, notebooks, report
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
# ## A small photo made large
#
# The photo is made small first, so that there is a reference to compare with. Then the three lines: load, restore, look.
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
pd.DataFrame(scores).T.style.format(precision=3)

# %% [markdown]
# ### Before and after
#
# Left of the slider is bicubic interpolation, right of it the network with the best PSNR. Move it across an edge.

# %%
best = max(scores, key=lambda name: scores[name]["PSNR in dB"])
HTML(report.slider_html(restored["bicubic interpolation"], restored[best], f"bicubic and {best}"))

# %% [markdown]
# ### All of them, closely

# %%
height, width = reference.shape[:2]
box = (height // 3, width // 2, height // 4, width // 4)
figure = figures.zoom_strip({**restored, "reference": reference}, box=box)

# %% [markdown]
# ## A blurred photo
#
# The camera shook while the shutter was open. The deblurring networks have seen such shake in training.

# %%
blurred = recipes.SHAKE(reference, np.random.default_rng(1))
deblurred = {n: rvlib.restore(m, blurred) for n, m in weights.items() if m.task == "deblurring"}
pictures = {"blurred": blurred, **deblurred, "reference": reference}
notes = {n: f"{metrics.psnr(p, reference, channel='rgb'):.2f} dB" for n, p in pictures.items() if n != "reference"}
figure = figures.zoom_strip(pictures, box=box, notes=notes)

# %%
after = list(deblurred.values())[-1] if deblurred else reference
name = list(deblurred)[-1] if deblurred else "the reference, as no deblurring weights are released yet"
HTML(report.slider_html(blurred, after, f"blurred and {name}"))

# %% [markdown]
# ## Your own photo
#
# Choose one and a model; the middle of it is restored. This needs a running kernel: the sliders above do not.

# %%
widget.panel()

# %% [markdown]
# To have the whole tour on it, set `photo` in the parameters to a path and run the notebook again. Whole photos of any size are
# the command line's, which keeps transparency, colour profile, EXIF and 16 bits, and takes folders:
#
# ```bash
# rvlib restore photo.jpg --model fsrcnn-x4 -o large.png
# rvlib restore holiday/ --model nafnet-deblur -o sharp/ --recursive
# ```
#
# ## Where to go next
#
# | question | notebook |
# |---|---|
# | What are the photos, and is nothing tested that was trained on? | `01_data` |
# | What exactly is "x4" or "blurred"? | `02_degradations` |
# | Which number should I believe? | `03_metrics` |
# | How does it work? | the notebook of each method, below |
# | Which is best, and where? | `09_compare_super_resolution`, `10_compare_deblurring` |
# | What does it cost? | `11_cost` |
# | Is what others report true? | `12_report` |
#
# The methods, each with its notebook:

# %%
titles = {name: METHODS.get(name.partition("_")[2]) for name in notebooks.names()}
rows = [
    {"notebook": name, "method": method.title, "undoes": " and ".join(method.tasks)}
    for name, method in titles.items()
    if method is not None
]
pd.DataFrame(rows).style.hide(axis="index")

# %% [markdown]
# ## Takeaways
#
# - Three lines restore a photo; the weights' cards in `weights/README.md` say what was measured.
# - A photo that was made small by other means than bicubic interpolation (a camera, a phone's zoom, JPEG) is another
#   task: expect less.
#
# ## Try it
#
# 1. Save `small` as JPEG with quality 30 and restore that. What do the networks do to the blocks?
# 2. Restore the restored photo once more, to 16 times the size.
# 3. Check that restoring is deterministic:

# %%
for model in list(weights.values())[:1]:
    assert np.array_equal(rvlib.restore(model, small[:32, :32]), rvlib.restore(model, small[:32, :32]))
