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
# **What exactly is "low resolution"?** The result of one particular operator, and a network learns to undo that
# operator. This notebook builds the one that the literature means, MATLAB's bicubic interpolation with antialiasing.
# It then measures what networks lose when another program made their input.
#
# **You will see**
# - bicubic interpolation as two small matrix products, with its kernel on screen,
# - what antialiasing does: a photo and its spectrum, with and without,
# - how many decibels a network loses on inputs of Pillow, OpenCV or a plain mean,
# - motion blur as a camera makes it, and why the GoPro set comes in two versions,
# - a degradation in random order, as networks for real photos are trained on.
#
# Needs: `01_data`. Time: half a minute.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display
from PIL import Image

import rvlib
from rvlib import degrade, evaluate, measures, metrics, photos, recipes, study
from rvlib.study import figures, tables
from rvlib.study.statistics import paired_difference
from rvlib.pairs import set_pairs
from rvlib.degrade import Bicubic, Chain, GaussianBlur, Jpeg, MotionBlur, Noise, imresize, mod_crop

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
test_sets = ["samples"]
scale = 4
seed = 0

# %% [markdown]
# ## The model of a degradation
#
# $$x = D(y) + n$$
#
# $y$ is the reference, $x$ the degraded photo, $D$ an operator with numbers of its own (a scale, the path of a shake)
# and $n$ noise. In the library a degradation is a small object that is called with a photo and a random generator: the
# same seed gives the same pair, on every machine.

# %%
reference = photos.sample("coffee")
degradation = Bicubic(scale)
degraded = degradation(reference, np.random.default_rng(seed))
figure = figures.images({"reference y": reference, f"degraded x = D(y), scale {scale}": degraded})
assert np.array_equal(degraded, degradation(reference, np.random.default_rng(seed)))

# %% [markdown]
# ## The cubic kernel
#
# Interpolation needs a kernel that says how much each input pixel counts at a distance $t$. Keys (1981) looks for one
# made of cubic pieces that is smooth and is 1 at its own pixel and 0 at all others. One number $a$ is still free, and
# $a = -\tfrac12$ is the choice with the highest accuracy: it alone reproduces every quadratic function.
#
# $$k(t) = \begin{cases} \tfrac32|t|^3 - \tfrac52|t|^2 + 1 & |t| \le 1 \\
# -\tfrac12|t|^3 + \tfrac52|t|^2 - 4|t| + 2 & 1 < |t| \le 2 \\ 0 & \text{otherwise}\end{cases}$$
#
# When the image shrinks to $f = 1/s$ of its sides, MATLAB stretches the kernel to $f\,k(f\,t)$: each output pixel
# averages $4s$ inputs. (OpenCV and PyTorch use $a = -\tfrac34$, which sharpens more.)


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
axis.set(xlabel="distance in input pixels", ylabel="weight", title="the kernel is stretched when the photo shrinks")
plt.show()

# %% [markdown]
# The library's `imresize` makes a matrix of such weights for rows and one for columns and multiplies: first height,
# then width, with the photo mirrored at its border. `_contributions` has the weights, `_resize` the products.
# (`_bands` puts the weights into a matrix, of 32 outputs at a time: in a larger one nearly all would be zeros.) The
# picture is the matrix that makes 10 pixels of 40: a row is an output, and at the border the mirrored weights fall on
# the inputs inside.

# %%
display(figures.show_source(degrade._contributions), figures.show_source(degrade._resize))
(matrix, _), *others = degrade._bands(40, 1 / scale)
figure, axis = plt.subplots(figsize=(7, 2.2))
limit = matrix.abs().max().item()
drawn = axis.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
axis.set(xlabel="input pixel", ylabel="output pixel", yticks=[0, 3, 6, 9])
axis.grid(visible=False)
figure.colorbar(drawn, ax=axis, label="weight")
plt.show()
small = np.random.default_rng(seed).random((40, 40))
assert not others and np.allclose(matrix @ small @ matrix.T, imresize(small, 1 / scale))

# %% [markdown]
# Three properties that follow from the mathematics, checked: a constant image stays constant (the weights sum to 1),
# the operator is linear, and enlarging keeps a linear ramp a ramp away from the border.

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
# Without the stretched kernel, interpolation looks at a few input pixels around each sample and ignores the rest.
# Detail that is finer than the new pixels does not disappear then: it comes back as coarse, false detail (*aliasing*).
# Left: the small photos, averaged first or plainly sampled. Right: their spectra, on one scale. Aliasing fills the high
# frequencies (the rim) with what does not belong there.

# %%
pattern = photos.sample("astronaut")[:256, 128:384]
averaged, sampled = imresize(pattern, 1 / scale), np.ascontiguousarray(pattern[1::scale, 1::scale])


def spectrum(image: np.ndarray) -> np.ndarray:
    """log₁₀ of the amplitude of each frequency, the mean in the centre."""
    grey = figures.luminance(image)
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))  # no edges from the border
    return np.log10(np.abs(np.fft.fftshift(np.fft.fft2((grey - grey.mean()) * window))) + 1)


shown = {"antialiased": averaged, "every fourth pixel": sampled}
spectra = {name: spectrum(each) for name, each in shown.items()}
figure, axes = plt.subplots(1, 4, figsize=(12, 3))
for axis, (name, image) in zip(axes[:2], shown.items(), strict=True):
    axis.imshow(image)
    axis.set(title=name, xticks=[], yticks=[])
scaling = {"vmin": 0, "vmax": max(each.max() for each in spectra.values()), "extent": (-0.5, 0.5, 0.5, -0.5)}
for axis, (name, values) in zip(axes[2:], spectra.items(), strict=True):
    drawn = axis.imshow(values, cmap="magma", **scaling)
    axis.set(title=f"spectrum, {name}", xlabel="cycles per pixel", xticks=[-0.5, 0, 0.5], yticks=[-0.5, 0, 0.5])
    axis.set_ylabel("cycles per pixel" if axis is axes[2] else "")
    axis.grid(visible=False)
figure.colorbar(drawn, ax=axes[2:].tolist(), label="log₁₀ amplitude")
plt.show()

# %%
rim = np.hypot(*np.meshgrid(*2 * [np.fft.fftshift(np.fft.fftfreq(256 // scale))])) > 0.4
energies = {name: float((10 ** values[rim]).mean()) for name, values in spectra.items()}
ratio = energies["every fourth pixel"] / energies["antialiased"]
print(f"mean amplitude at the highest frequencies: {ratio:.1f} times as large without antialiasing")
assert ratio > 1

# %% [markdown]
# ## Does it matter who shrank the photo?
#
# The same sample photos, shrunk in four ways: MATLAB's bicubic (the one that networks are trained on), Pillow's
# bicubic, the plain mean of 4 × 4 pixels (OpenCV's `INTER_AREA`), and bicubic without antialiasing (OpenCV's
# `INTER_CUBIC`, PyTorch's default). Each is enlarged by interpolation and by two networks with the weights that ship
# with the study, whatever the profile trains.


# %%
def by_torch(image: np.ndarray, mode: str) -> np.ndarray:
    """Shrink with PyTorch, without antialiasing: "bicubic" as OpenCV does it, or "area"."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(tensor, scale_factor=1 / scale, mode=mode)
    return small[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def by_pillow(image: np.ndarray) -> np.ndarray:
    """Shrink with Pillow's bicubic, which antialiases."""
    size = (image.shape[1] // scale, image.shape[0] // scale)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


ways = {
    "MATLAB bicubic": Bicubic(scale),
    "Pillow bicubic": by_pillow,
    "mean of 4 × 4 (area)": lambda image: by_torch(image, "area"),
    "bicubic without antialiasing": lambda image: by_torch(image, "bicubic"),
}
names = ("astronaut", "chelsea", "coffee", "flower")
sharp = {name: mod_crop(photos.sample(name), scale) for name in names}

# %%
available = [name for name in ("fsrcnn-x4", "swinir-small-x4") if name in rvlib.released()]
restorers = {"bicubic enlargement": evaluate.bicubic(scale)}
restorers |= {name: evaluate.with_model(rvlib.load(name)) for name in available}
found = pd.DataFrame(
    [
        {
            "input made by": way,
            "photo": name,
            **{r: metrics.psnr(f(small), photo, crop=scale) for r, f in restorers.items()},
        }
        for way, shrink in ways.items()
        for name, photo in sharp.items()
        for small in [shrink(photo)]
    ]
)
output = study.output(profile, "degradations")
inputs = found.groupby("input made by", sort=False)[list(restorers)].mean()
tables.write(inputs.reset_index(), output / "inputs")
inputs.style.format(precision=2).set_caption("PSNR in dB on luminance, mean of 4 sample photos")

# %%
by_way = found.set_index(["input made by", "photo"])
for way in list(ways)[1:]:
    for name in restorers:
        lost = paired_difference(by_way.loc[way, name], by_way.loc["MATLAB bicubic", name].loc[list(names)])
        told = lost.text(2, "dB") if max(abs(lost.low), abs(lost.high)) >= 0.01 else "less than 0.01 dB"
        print(f"{way:28} {name:20} {told}")
aliased = inputs.loc["bicubic without antialiasing"] - inputs.loc["MATLAB bicubic"]
assert aliased.max() < 0, "aliasing costs every method"
assert (aliased[available] < aliased["bicubic enlargement"]).all(), "and networks most"

# %% [markdown]
# Pillow's bicubic is practically MATLAB's. The plain mean looks the same to interpolation, but not to the shipped
# networks: they have learned to invert one operator, and apply its inverse to another. Without antialiasing everyone
# loses, and these networks most: they sharpen the false detail.
#
# ## The baseline of this study
#
# Bicubic enlargement of every degraded test photo is what any method has to beat. If a benchmark brings its own
# degraded photos, they are used; otherwise they are made here.

# %%
data = study.data(profile)
crop = scale  # the border that papers leave out
chosen = measures.for_task("super-resolution", scale)
rows = evaluate.sets(evaluate.baseline("super-resolution", scale), data, test_sets, degradation, chosen)
means = tables.means(rows).drop(columns="seconds")
tables.write(means, output / "bicubic")
tables.write_json(dict(zip(means["set"], means[f"psnr_y_crop{crop}"].round(4), strict=True)), output / "summary.json")
Markdown(tables.markdown(*tables.readable(means)))

# %% [markdown]
# ± is half of the 95 % interval of the mean over photos (Student's t): how far the mean would move with other photos of
# the kind. Few photos make it wide. On Set5 this protocol gives 28.43 dB and on Set14 26.09 dB (run the release profile
# to see it). Literature often prints 26.00 for Set14: one of its photos is stored with a single channel, and the
# published scripts score it directly, as luminance over 0 to 255, while the conversion from RGB maps it to 16 to 235,
# which raises that photo's PSNR by 1.32 dB.
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
# For deblurring, $D$ is the shutter. While it is open the hand moves, and the sensor adds up the *light* of many sharp
# moments. The GoPro set (Nah et al. 2017) imitates that: videos at 240 frames per second, of which 7 to 13 frames in a
# row are averaged, and the middle one is the sharp reference. It shows real scenes and real motion, but its blur is
# *made*. The library does the same with one photo and a random path $p_1 \dots p_N$ of the hand:
#
# $$x = \left(\frac1N \sum_{k=1}^{N} y(\cdot - p_k)^{\gamma}\right)^{1/\gamma}$$

# %%
blur = MotionBlur(length=24)
paths = [blur.kernel(np.random.default_rng(each)) for each in range(5)]
figure = figures.images({f"path {index + 1}": path for index, path in enumerate(paths)}, columns=5, width=1.8)
assert all(abs(path.sum() - 1) < 1e-9 for path in paths)

# %% [markdown]
# **Why γ?** Grey levels are not light: cameras store roughly its power $1/2.2$. Averaging light therefore means undoing
# that curve first ($\gamma = 2.2$). The GoPro archive has *both* versions: `blur_gamma` averages light, `blur` averages
# the grey levels themselves ($\gamma = 1$, "a linear camera response"). The benchmark that NAFNet, DiffIR and most
# papers publish on is `blur`. The two differ where it is bright: a highlight smears into a *bright* streak only if
# light is averaged; averaged grey levels leave a dim one. Look at the reflections on the helmet:

# %%
photo = photos.sample("astronaut")
versions = {"light, γ = 2.2 (blur_gamma)": 1.0, "grey levels, γ = 1 (blur)": 0.0}
blurred = {
    name: MotionBlur(length=24, linear=share)(photo, np.random.default_rng(seed)) for name, share in versions.items()
}
figure = figures.zoom_strip({"sharp": photo, **blurred}, box=(330, 330, 120, 160), context=photo)
light, grey = blurred.values()
print(f"mean grey level: light averaged {light.mean():.2f}, grey levels averaged {grey.mean():.2f}")
print(f"PSNR between the two blurred photos: {metrics.psnr(light, grey, channel='rgb'):.1f} dB")
share = f"{100 * recipes.TRAINING_SHAKE.linear:.0f} %"
print(f"the study's training averages light in {share} of its patches, grey levels in the rest")
assert light.mean() > grey.mean()

# %% [markdown]
# A pair of the GoPro set, if this profile's data has one (the demo has not):

# %%
if (data / "GoPro-sample").is_dir():
    low, high = next(iter(set_pairs(data, "GoPro-sample", recipes.SHAKE).values()))
    figure = figures.images({"blurred": low, "sharp": high}, width=5)
    plt.show()
    print(f"the blurred photo is {metrics.psnr(low, high, channel='rgb'):.2f} dB from the sharp one (RGB)")

# %% [markdown]
# ## A catalogue
#
# Every degradation is called in the same way and can be chained. The same seed gives the same photo.

# %%
part = photo[40:200, 150:310]
catalogue = {
    "motion blur, 15 px": MotionBlur(15),
    "Gaussian blur, σ = 1.6 px": GaussianBlur(1.6),
    "noise, σ = 15 levels": Noise(15),
    "JPEG, quality 15": Jpeg(15),
    "blur 15 px, noise 8": Chain(MotionBlur(15), Noise(8)),
}
degradations = {name: each(part, np.random.default_rng(seed)) for name, each in catalogue.items()}
figure = figures.images({"reference": part, **degradations}, columns=3, width=2.2)

# %% [markdown]
# ## Real photos: everything, in random order
#
# A photo from the web was blurred by a lens, shrunk by someone, got noise from a sensor and was saved as JPEG,
# perhaps twice. Nobody knows in which order. BSRGAN (Zhang et al. 2021) therefore trains on random chains: kinds,
# strengths *and order* are drawn for each patch. Real-ESRGAN (Wang et al. 2021) keeps one order (blur, resize, noise,
# JPEG), draws kinds and strengths, and goes through it twice. A network that has seen all of this is *blind*: it need
# not be told what happened. The price is PSNR on each single kind, for it must hedge. The released networks for
# super-resolution are *not* blind: they undo the one operator that they were trained on. Those for deblurring are
# blind to the path of the shake, but know hardly any other kind of damage.


# %%
def random_shrink(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A quarter of the size, by a random kind of interpolation."""
    kinds = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX]
    size = (image.shape[1] // scale, image.shape[0] // scale)
    return np.asarray(Image.fromarray(image).resize(size, kinds[rng.integers(3)]))


def real_world(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """One random chain: the degraded photo at a quarter of its size, and what was done, in its order."""
    std, level, quality = rng.uniform(0.3, 2), rng.uniform(1, 15), int(rng.integers(30, 95))
    steps = {
        f"blur {std:.1f}": GaussianBlur(std),
        "shrink": random_shrink,
        f"noise {level:.0f}": Noise(level),
        f"JPEG {quality}": Jpeg(quality),
    }
    order = rng.permutation(list(steps))
    for name in order:
        image = steps[name](image, rng)
    return image, ",\n".join(order)


drawn = [real_world(photo[:256, 128:384], np.random.default_rng(each)) for each in range(4)]
figure = figures.images({"only bicubic": averaged, **{order: small for small, order in drawn}}, width=2.2, columns=5)

# %% [markdown]
# What the two networks with shipped weights make of such inputs: their gain over interpolation on four random chains
# for each of the sample photos, next to their gain on the operator that they were trained on.

# %%
real = []
for each in range(4):
    for number, (name, reference_photo) in enumerate(sharp.items()):  # no two photos get the same chain
        small, _ = real_world(reference_photo, np.random.default_rng([each, number]))
        real.append(
            {"photo": name, **{r: metrics.psnr(f(small), reference_photo, crop=scale) for r, f in restorers.items()}}
        )
real = pd.DataFrame(real).groupby("photo")[list(restorers)].mean()
tables.write(real.reset_index(), output / "real-world")
for name in available:
    blind = paired_difference(real[name], real["bicubic enlargement"])
    trained_on = paired_difference(
        by_way.loc["MATLAB bicubic", name], by_way.loc["MATLAB bicubic", "bicubic enlargement"]
    )
    print(f"{name}, gain over interpolation: on its own operator {trained_on.text(2, 'dB')},")
    print(f"{' ' * len(name)}  on random chains {blind.text(2, 'dB')}")

# %% [markdown]
# ## Takeaways

# %%
worst_way = (inputs - inputs.loc["MATLAB bicubic"]).min(axis=1).idxmin()
for name in restorers:
    difference = inputs.loc[worst_way, name] - inputs.loc["MATLAB bicubic", name]
    print(f"an input of the kind '{worst_way}' changes {name} by {difference:+.2f} dB (mean of {len(names)} photos)")
baseline = {row["set"]: round(row[f"psnr_y_crop{crop}"], 2) for _, row in means.iterrows()}
print(f"bicubic enlargement, to be beaten: PSNR in dB {baseline}")

# %% [markdown]
# - A super-resolution result means nothing without the operator that made its input.
# - The literature's operator is bicubic with antialiasing, $a = -\tfrac12$, mirrored borders, rounded to 8 bits.
# - GoPro's `blur` averages grey levels, `blur_gamma` averages light. Benchmarks use `blur`.
#
# **What can go wrong in practice.** The most common reason for a disappointing result on your own photo is that another
# operator downscaled it: a phone's zoom, a web site, JPEG. `F.interpolate` and `cv2.resize` have no antialiasing by
# default. And to keep every fourth pixel, from the first on, also *shifts* the photo by one and a half pixels, which
# costs PSNR without any loss of sharpness.
#
# ## Try it
#
# **1.** Does shrinking undo enlarging? Shrink a photo, enlarge the result and shrink it again. Is the second small
# photo equal to the first?
#
# <details><summary>Solution</summary>
#
# No: the cell below shows it. Shrinking averages 16 pixels in each direction with the stretched kernel; the
# enlarged photo is smooth, but not constant over that range, so the average is not the pixel that it came from.
# Iterative *back-projection* repairs exactly this: it adds the enlarged difference of the two small photos, again and
# again.
#
# </details>
#
# **2.** Enlarge with nearest neighbours (`np.kron(small, np.ones((4, 4, 1)))`). How many decibels is bicubic worth?
#
# <details><summary>Solution</summary>
#
# ```python
# small = Bicubic(4)(sharp["coffee"])
# nearest = np.kron(small, np.ones((4, 4, 1), np.uint8))
# metrics.psnr(imresize(small, 4), sharp["coffee"], crop=4) - metrics.psnr(nearest, sharp["coffee"], crop=4)
# ```
#
# </details>

# %%
once = imresize(sharp["coffee"] / 255, 1 / scale)
twice = imresize(imresize(once, scale), 1 / scale)
assert 0.001 < np.abs(twice - once).mean() < 0.1, "close, but not the same"

# %% [markdown]
# **Further reading**
#
# - Keys 1981, *Cubic Convolution Interpolation*,
#   [doi:10.1109/TASSP.1981.1163711](https://doi.org/10.1109/TASSP.1981.1163711)
# - Nah et al. 2017, *Deep Multi-scale CNN for Dynamic Scene Deblurring* (GoPro),
#   [doi:10.1109/CVPR.2017.35](https://doi.org/10.1109/CVPR.2017.35)
# - Zhang et al. 2021, *BSRGAN*, [doi:10.1109/ICCV48922.2021.00475](https://doi.org/10.1109/ICCV48922.2021.00475)
# - Wang et al. 2021, *Real-ESRGAN*, [doi:10.1109/ICCVW54120.2021.00217](https://doi.org/10.1109/ICCVW54120.2021.00217)
#
# Next: `03_metrics`, how near a restored photo is to its reference.
