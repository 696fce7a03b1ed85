# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 03 · Metrics: the same photo, five different numbers
#
# **Why is my PSNR lower than the paper's?** Most often because it's another PSNR. This notebook measures *one* restored
# photo under every convention in use and shows that the choice moves the number by more than most papers improve on each
# other. Then it asks whether any of these numbers is what the eye sees.
#
# **You will see**
# - PSNR on luminance or RGB, with and without cropped borders, on rounded or unrounded values,
# - SSIM per channel or with a window that reaches across colours,
# - LPIPS, a distance between deep features, preferring a picture that PSNR ranks last.
#
# Needs: `02_degradations`. Time: twenty seconds; the first run fetches LPIPS's network (9 MB on disk).

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from PIL import Image

import rvlib
from rvlib import evaluate, measures, metrics, photos, study
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
# $$\mathrm{PSNR}(x, y) = 10 \log_{10} \frac{255^2}{\frac1n \sum_i (x_i - y_i)^2}\ \mathrm{dB}$$
#
# Half the error in amplitude is 6 dB. Over *which* numbers $x_i$ the sum runs is the convention: all channels or the
# luminance alone, the whole photo or without its border.

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
# The same bicubic enlargement, measured in the ways that papers and repositories measure. Luminance in studio range (16
# to 235) has a smaller scale than RGB, so the same error weighs less: that alone is more than a decibel.

# %%
pillow = np.asarray(Image.fromarray(degraded).resize(reference.shape[1::-1], Image.Resampling.BICUBIC))
numbers = {
    "Y, border of 4 cropped (super-resolution papers)": metrics.psnr(restored, reference, channel="y", crop=4),
    "Y, nothing cropped": metrics.psnr(restored, reference, channel="y"),
    "RGB, border of 4 cropped": metrics.psnr(restored, reference, channel="rgb", crop=4),
    "RGB, nothing cropped (deblurring papers)": metrics.psnr(restored, reference, channel="rgb"),
    "Y, 4 cropped, enlarged by Pillow": metrics.psnr(pillow, reference, channel="y", crop=4),
}
protocols = pd.DataFrame({"protocol": numbers.keys(), "psnr": numbers.values()})
assert numbers["Y, nothing cropped"] > numbers["RGB, nothing cropped (deblurring papers)"] + 0.8
protocols.style.format(precision=2).hide(axis="index")

# %%
figure, axis = plt.subplots(figsize=(7, 2.6))
axis.barh(protocols["protocol"], protocols["psnr"], color=figures.COLORS["fsrcnn"])
axis.set(xlim=(protocols["psnr"].min() - 0.5, protocols["psnr"].max() + 0.3), xlabel="PSNR in dB, the same photo")
axis.invert_yaxis()
plt.show()

# %% [markdown]
# Rounding is part of the convention too: a network's floating-point output is a little nearer to the reference than the
# 8-bit photo that a user saves. Here everything is measured on 8 bits, as it would be saved.

# %%
exact = imresize(degraded / 255.0, scale)
as_tensor = [torch.from_numpy(image.transpose(2, 0, 1))[None] for image in (exact.clip(0, 1), reference / 255.0)]
unrounded = metrics.psnr(*as_tensor, crop=4).item()
rounded = metrics.psnr(restored, reference, crop=4)
print(f"unrounded {unrounded:.4f} dB, rounded to 8 bits {rounded:.4f} dB")
assert unrounded > rounded

# %% [markdown]
# Every measure of the study is one record with its protocol: the column's name says what is compared and how much of the
# border is cropped, the arrow which way is better. Tables, ranking and the audit of the report read these records.

# %%
records = [*measures.for_task("super-resolution", scale, perceptual=True), *measures.for_task("deblurring")]
pd.DataFrame(
    [{"column": m.key, "protocol": m.protocol, "better": m.arrow, "digits": m.digits} for m in records]
).style.hide(axis="index")

# %% [markdown]
# ## SSIM: the same structure, the same contrast, the same brightness
#
# $$\mathrm{SSIM} = \frac{(2\mu_x\mu_y + c_1)(2\sigma_{xy} + c_2)}{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}$$
#
# computed in a Gaussian window around each pixel and averaged. Deblurring repositories slide an 11 × 11 × 11 window over
# height, width *and colour*; since the three channels agree with each other, that number is far higher.

# %%
similarity = {
    name: metrics.ssim(restored, reference, channel=channel)
    for name, channel in (("luminance", "y"), ("mean of R, G, B", "rgb"), ("3-D window over RGB", "rgb3d"))
}
assert similarity["3-D window over RGB"] > similarity["mean of R, G, B"] + 0.05
pd.DataFrame({"window": similarity.keys(), "ssim": similarity.values()}).style.format(precision=4).hide(axis="index")

# %% [markdown]
# ## What the eye sees
#
# Four distortions of the same photo, tuned so that PSNR cannot tell them apart by much: a blur, noise, JPEG blocks, and a
# shift by one pixel that nobody would notice.

# %%
photo = photos.sample("astronaut")[:256, 128:384]
rng = np.random.default_rng(seed)
versions = {
    "blurred": GaussianBlur(1.3)(photo),
    "noisy": Noise(13)(photo, rng),
    "JPEG, quality 12": Jpeg(12)(photo),
    "shifted by a pixel": np.roll(photo, 1, axis=1),
}
figure = figures.images({"reference": photo, **versions}, columns=5, width=2.5)

# %% [markdown]
# LPIPS runs both pictures through AlexNet, trained to recognise objects, and compares the feature maps of five layers:
#
# $$d(x, y) = \sum_l \frac{1}{H_l W_l} \sum_{h,w} \lVert w_l \odot (\hat\phi^l_{hw}(x) - \hat\phi^l_{hw}(y)) \rVert^2$$
#
# Smaller is nearer. Its weights $w_l$ were fitted to what people answered when asked which of two pictures is nearer.

# %%
try:
    distance = {name: metrics.lpips(version, photo) for name, version in versions.items()}
except rvlib.UserError as reason:  # no network and nothing in the cache: an empty column, never a wrong one
    print(reason)
    distance = dict.fromkeys(versions, float("nan"))
table = pd.DataFrame(
    {
        "distortion": versions.keys(),
        "psnr_y_crop0": [metrics.psnr(version, photo) for version in versions.values()],
        "ssim_y_crop0": [metrics.ssim(version, photo) for version in versions.values()],
        "lpips_alex_rgb_crop0": distance.values(),
    }
)
table.style.format(precision=3, na_rep="–").hide(axis="index")

# %% [markdown]
# PSNR ranks the invisible shift last and finds the blurred picture fine; LPIPS sees it the other way round. Neither is
# wrong: PSNR asks how far the values are, LPIPS how different a recogniser finds the picture. A method that is trained for
# one usually loses in the other, which `05_srgan` is about.

# %%
ranks = table.set_index("distortion")
for column in ranks:
    ranks[column] = ranks[column].rank(ascending=measures.find(column).better == "low")
assert ranks["psnr_y_crop0"].idxmax() == "shifted by a pixel"
if table["lpips_alex_rgb_crop0"].notna().all():
    assert ranks.loc["shifted by a pixel", "lpips_alex_rgb_crop0"] == 1, "LPIPS hardly sees a shift"
ranks.astype("Int64")

# %%
output = study.output(profile, "metrics")
tables.write(protocols, output / "protocols")
tables.write(table, output / "distortions")
tables.write_json({"psnr_spread_db": max(numbers.values()) - min(numbers.values())}, output / "summary.json")

# %% [markdown]
# ## Takeaways
#
# - A PSNR without channel, border and rounding is no number: the same photo spans more than a decibel.
# - This study measures super-resolution on Y with `scale` pixels cropped, deblurring on RGB with nothing cropped and the
#   3-D SSIM, because the published numbers do; every column's name says so.
# - PSNR rewards blur over misplaced detail. LPIPS forgives a shift and punishes blur.
#
# ## Try it
#
# 1. Shift by two pixels, by four. When does LPIPS begin to see it?
# 2. Find a blur and a noise of equal LPIPS. How far apart are their PSNRs?
#
# Next: `04_fsrcnn`, the first network.
