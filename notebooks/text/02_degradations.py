# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Degradations: the question that a network learns to answer
#
# **What exactly is "low resolution"?** Whatever operator made the small photo. This notebook builds the one that the
# literature means, MATLAB's bicubic interpolation with antialiasing, and shows that a different one changes the result
# of a comparison by more than most papers improve on each other.
#
# **You will see**
# - bicubic interpolation as two small matrix products, with its kernel on screen,
# - what antialiasing does: the same photo with and without,
# - the baseline of the whole study: PSNR of bicubic enlargement on the test photos.
#
# Needs: `01_data`. Time: ten seconds.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from rvlib import evaluate, measures, metrics, photos, study
from rvlib.study import figures, tables
from rvlib.degrade import Bicubic, Chain, GaussianBlur, Jpeg, MotionBlur, Noise, imresize

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
test_sets = ["samples"]
scale = 4
seed = 0

# %% [markdown]
# ## The model of a degradation
#
# $$x = D(y; \theta) + n$$
#
# `y` is the reference, `x` the degraded photo, $D$ an operator with parameters $\theta$ (a scale, a blur trajectory) and
# `n` noise. In the library a degradation is a small object that is called with a photo and a random generator: the same
# seed gives the same pair, on every machine.

# %%
reference = photos.sample("coffee")
degradation = Bicubic(scale)
degraded = degradation(reference, np.random.default_rng(seed))
figure = figures.images({"reference y": reference, f"degraded x = D(y), scale {scale}": degraded})
assert np.array_equal(degraded, degradation(reference, np.random.default_rng(seed)))

# %% [markdown]
# ## The cubic kernel
#
# Keys' kernel with $a = -\tfrac12$ is the smoothest of its kind that reproduces quadratic functions:
#
# $$k(t) = \begin{cases} \tfrac32|t|^3 - \tfrac52|t|^2 + 1 & |t| \le 1 \\
# -\tfrac12|t|^3 + \tfrac52|t|^2 - 4|t| + 2 & 1 < |t| \le 2 \\ 0 & \text{otherwise}\end{cases}$$
#
# When the image shrinks by a factor $s < 1$, MATLAB stretches it to $s\,k(s\,t)$: each output pixel averages $4/s$ inputs.


# %%
def kernel(t: np.ndarray) -> np.ndarray:
    """Keys' cubic kernel with a = -1/2, written out once more for the plot."""
    t = np.abs(t)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t <= 1, near, np.where(t <= 2, far, 0))


t = np.linspace(-8, 8, 641)
figure, axis = plt.subplots(figsize=(6, 2.6))
axis.plot(t, kernel(t), label="enlarging: k(t)")
axis.plot(t, kernel(t / scale) / scale, label=f"shrinking by {scale}: k(t/{scale})/{scale}")
axis.legend()
axis.set(xlabel="distance in input pixels", title="the kernel is stretched when the photo shrinks")
plt.show()

# %% [markdown]
# The library's `imresize` builds one matrix of such weights for rows and one for columns and multiplies: first height,
# then width, with the photo mirrored at its border.

# %%
figures.show_source(imresize)

# %% [markdown]
# Three properties that follow from the mathematics, checked: a constant image stays constant (the weights sum to 1), the
# operator is linear, and enlarging keeps a linear ramp a ramp away from the border.

# %%
rng = np.random.default_rng(seed)
a, b = rng.random((32, 40)), rng.random((32, 40))
assert np.allclose(imresize(np.full((32, 40), 0.3), 1 / scale), 0.3)
assert np.allclose(imresize(2 * a + b, 1 / scale), 2 * imresize(a, 1 / scale) + imresize(b, 1 / scale))
ramp = imresize(np.tile(np.arange(40.0), (8, 1)), scale)
assert np.allclose(np.diff(ramp[16, 20:-20]), 1 / scale)

# %% [markdown]
# ## What antialiasing does
#
# Without the stretched kernel, interpolation looks at four input pixels around each sample and ignores the rest: fine
# structure folds into coarse stripes. A plain sub-sampling shows it at its worst. A network trained on one kind of
# input meets the other as a stranger.

# %%
pattern = photos.sample("astronaut")[:256, 128:384]
variants = {
    "antialiased (MATLAB)": imresize(pattern, 1 / scale),
    "every fourth pixel": np.ascontiguousarray(pattern[::scale, ::scale]),
    "Pillow bicubic": np.asarray(Image.fromarray(pattern).resize((64, 64), Image.Resampling.BICUBIC)),
}
figure = figures.images({"reference": pattern, **variants}, width=3)

# %% [markdown]
# Pillow antialiases too, and looks the same. It isn't: both round differently and treat borders differently. The table
# enlarges each version by the same bicubic interpolation and measures PSNR.

# %%
crop = scale
scores = {name: metrics.psnr(imresize(small, scale), pattern, crop=crop) for name, small in variants.items()}
comparison = pd.DataFrame({"input made by": scores.keys(), f"psnr_y_crop{crop}": scores.values()})
assert scores["antialiased (MATLAB)"] > scores["every fourth pixel"] + 0.5
comparison.style.format(precision=2).hide(axis="index")

# %% [markdown]
# ## The baseline of this study
#
# Bicubic enlargement of every degraded test photo: what any method has to beat. Where a benchmark brings its own
# degraded photos, they are used; otherwise they are made here.

# %%
data = study.data(profile)
chosen = measures.for_task("super-resolution", crop)
rows = evaluate.sets(evaluate.baseline("super-resolution", scale), data, test_sets, degradation, chosen)
means = tables.means(rows).drop(columns="seconds")
output = study.output(profile, "degradations")
tables.write(means, output / "bicubic")
tables.write_json(dict(zip(means["set"], means[f"psnr_y_crop{crop}"].round(4), strict=True)), output / "summary.json")
means.style.format(precision=3).hide(axis="index")

# %% [markdown]
# On Set5 this protocol gives 28.43 dB and on Set14 26.09 dB (run the release profile to see it). Literature often prints
# 26.00 for Set14: one of its photos is greyscale, and the published scripts score it directly, as luminance over 0 to
# 255, while the conversion from RGB maps it to 16 to 235, which raises that photo's PSNR by 1.32 dB.
#
# ## What is lost
#
# The difference between the photo and its bicubic enlargement is what a network has to put back: edges and texture.

# %%
enlarged = imresize(degraded, scale)
figure = figures.zoom_strip(
    {"bicubic": enlarged, "reference": reference},
    box=(120, 250, 110, 150),
    context=reference,
    notes={"bicubic": f"{metrics.psnr(enlarged, reference, crop=crop):.2f} dB"},
)
figures.save(figure, output / "strip")
figure = figures.difference_map({"bicubic - reference": figures.signed_difference(enlarged, reference)})

# %% [markdown]
# ## Motion blur, made as a camera makes it
#
# For deblurring, $D$ is the shutter: while it is open the hand moves, and the sensor adds up the *light* of many sharp
# frames. Grey levels are not light but its root, so the GoPro set undid the gamma curve before averaging, and so does
# the library: $x = \left(\frac1N \sum_k y(\cdot - p_k)^{2.2}\right)^{1/2.2}$ along a random path $p_1 \dots p_N$.

# %%
blur = MotionBlur(length=24)
paths = [blur.kernel(np.random.default_rng(each)) for each in range(5)]
figure = figures.images({f"path {index + 1}": path for index, path in enumerate(paths)}, columns=5, width=1.8)
assert all(abs(path.sum() - 1) < 1e-9 for path in paths)

# %% [markdown]
# Blurring the grey levels instead makes highlights vanish that a camera would smear into bright streaks. Look at the
# reflections on the helmet: they stay brighter where light was averaged.

# %%
sharp = photos.sample("astronaut")
camera = blur(sharp, np.random.default_rng(seed))
grey = MotionBlur(length=24, linear=0.0)(sharp, np.random.default_rng(seed))
shown = {"sharp": sharp, "light averaged": camera, "grey levels averaged": grey}
figure = figures.zoom_strip(shown, box=(330, 330, 120, 160), context=sharp)
print(f"mean grey level: light averaged {camera.mean():.2f}, grey levels averaged {grey.mean():.2f}")
assert camera.mean() > grey.mean()

# %% [markdown]
# ## A catalogue
#
# Every degradation is called in the same way and can be chained. The same seed gives the same photo.

# %%
crop = sharp[40:200, 150:310]
catalogue = {
    "motion blur": MotionBlur(15),
    "Gaussian blur": GaussianBlur(1.6),
    "noise": Noise(15),
    "JPEG": Jpeg(15),
    "blur, then noise": Chain(MotionBlur(15), Noise(8)),
}
degradations = {name: each(crop, np.random.default_rng(seed)) for name, each in catalogue.items()}
figure = figures.images({"reference": crop, **degradations}, columns=6, width=2)

# %% [markdown]
# ## Takeaways
#
# - A super-resolution result means nothing without the operator that made its input.
# - The literature's operator is bicubic with antialiasing, $a = -\tfrac12$, mirrored borders, rounded to 8 bits.
# - PSNR is measured on luminance with `scale` pixels cropped from every border; the column's name says so.
#
# ## Try it
#
# 1. Shrink by 1/3 instead of 1/4 and enlarge by 3. Which photos lose least?
# 2. Enlarge with nearest neighbours (`np.kron`). How many decibels is bicubic worth?
#
# Next: `03_metrics`, how near a restored photo is to its reference.
