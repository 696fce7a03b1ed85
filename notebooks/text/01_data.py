# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Data: what is trained on, what is tested on, and that the two do not meet
#
# **Which photos does this study use, under which licence, and is any test photo trained on?** The table below lists
# every file with its hash and licence; the last section looks for test photos among the training photos and finds none.
#
# **You will see**
# - the photos themselves, and how they split into training, validation and test,
# - how large a set is in the currency that matters for training: patches,
# - how every byte is checked, and why a leak of test photos would ruin every number that follows.
#
# Needs: nothing. Time: a few seconds with the demo's sample photos.

# %%
import numpy as np
import pandas as pd

from rvlib import photos, study
from rvlib.study import figures, tables
from rvlib.study.fetch import manifest
from rvlib.study.leaks import find_leaks

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where data is read and results are written
train_sets = ["samples"]
test_sets = ["samples"]

# %% [markdown]
# ## One manifest
#
# Data sets move, get re-encoded, vanish. So one table in the library names every file: set, split, where it comes from,
# licence, size and SHA-256. Fetching takes a byte from a mirror or from its original home, whichever answers, and keeps
# a file only if its hash is the manifest's. GitHub addresses carry the commit, so they can't change under our feet.

# %%
listed = manifest()
files = listed.groupby(["set", "split", "source"], sort=False).size().rename("files").reset_index()
licences = listed.drop_duplicates(["set", "licence"]).groupby("set")["licence"].agg(", ".join)
files["licence"] = files["set"].map(licences).where(files["set"] != "samples", "one per photo, below")
files.style.hide(axis="index")

# %% [markdown]
# The sample photos come with two Python packages that the study needs anyway, scikit-image and scikit-learn. They are
# what the demo and the laptop profile run on: no download, and a licence that lets their crops be shown here.

# %%
samples = listed[listed["set"] == "samples"][["path", "split", "licence"]].copy()
samples["path"] = samples["path"].str.rsplit("/", n=1).str[-1]
samples.style.hide(axis="index")

# %% [markdown]
# ## The photos
#
# Training and test photos should differ as your photos differ from ours: other scenes, other cameras. Here the test
# photos are a portrait, an animal, a still life and a flower; training sees a building, a motorcycle, textures,
# galaxies, cells and print.

# %%
data = study.data(profile)
train = {f"{name}/{k}": v for name in train_sets for k, v in photos.load_set(data, name, split="train").items()}
test = {f"{name}/{k}": v for name in test_sets for k, v in photos.load_set(data, name, split="test").items()}
validation_sets = [name for name in train_sets if name in set(listed[listed["split"] == "validation"]["set"])]
validation = photos.load_sets(data, validation_sets, split="validation")
shown = photos.load_set(study.data("demo"), "samples", split="test")
figure = figures.images({f"test: {name}": image for name, image in shown.items()}, columns=4)

# %%
shown = photos.load_set(study.data("demo"), "samples", split="train")
figure = figures.images(dict(list(shown.items())[:8]), columns=4, width=2.6)

# %% [markdown]
# Validation photos say how far a training has come. Nothing is trained on them, and no benchmark number comes from them.
# Where a set has many, learning curves and ablations use the first sixteen by name, and the end of a training all:

# %%
print(f"{len(validation)} validation photos; for curves and ablations: {', '.join(list(validation)[:16])}")

# %% [markdown]
# ## How much is that?
#
# A fully convolutional network doesn't see photos, it sees patches. A photo of 640 × 427 pixels holds 180,000
# overlapping 96 × 96 patches, but they overlap: what counts is how many *different* structures there are. The spread
# of local contrast is a cheap look at it: a flat sky teaches nothing.


# %%
def contrast(image: np.ndarray, size: int = 24) -> np.ndarray:
    """Standard deviation of the luminance of non-overlapping size x size patches, in grey levels."""
    grey = figures.luminance(image)
    rows, columns = (side // size * size for side in grey.shape)
    return grey[:rows, :columns].reshape(rows // size, size, -1, size).std(axis=(1, 3)).ravel()


summary = pd.DataFrame(
    [
        {
            "split": split,
            "photos": len(images),
            "megapixels": sum(image.shape[0] * image.shape[1] for image in images.values()) / 1e6,
            "median contrast": np.median(np.concatenate([contrast(image) for image in images.values()])),
        }
        for split, images in (("train", train), ("validation", validation), ("test", test))
        if images
    ]
)
summary.style.format(precision=2).hide(axis="index")

# %% [markdown]
# ## No test photo is trained on
#
# A network of thirteen thousand weights can't memorise photos; one of eleven million can. If a test photo, perhaps
# re-encoded, cropped or scaled, is in the training set, the test measures memory. Public sets are full of such traps:
# the validation folder of BSDS500 *is* the test set BSD100, and its training photo 302003 is the woman of Set5, scaled to
# 71 %. CID22 has the same clouds twice, as training photo 3316926_opo25u and as validation photo 844297. This check found
# both, and the manifest leaves these two training photos out. Validation photos are checked too, or the choice of the
# best weights would be the choice of those that memorise. Perceptual hashes of overlapping crops are compared:

# %%
leaks = find_leaks(train, test | validation)
assert len(leaks) == 0, f"test or validation photos among the training photos: {leaks}"
print(f"{len(test)} test, {len(validation)} validation and {len(train)} training photos, {len(leaks)} found in both")

# %% [markdown]
# A check that never fires proves nothing, so here is one that must: a test photo, shifted by three pixels, is planted
# among the training photos.

# %%
name, image = next(iter(test.items()))
planted = find_leaks({**train, "planted": image[3:, 3:]}, {name: image})
assert len(planted) == 1
planted

# %%
output = study.output(profile, "data")
tables.write(summary, output / "sets")
tables.write(files, output / "manifest")
counts = {"train_photos": len(train), "validation_photos": len(validation), "test_photos": len(test)}
tables.write_json({"leaks": len(leaks), **counts}, output / "summary.json")

# %% [markdown]
# ## Takeaways
#
# - Every file has a source, a licence and a hash; a wrong byte stops the study instead of changing a number.
# - Training, validation and test photos are different photos, and a perceptual hash watches that they stay so.
# - BSDS500's validation folder is never trained on, because it is BSD100.
#
# ## Try it
#
# 1. Put a folder of your own photos beside the study and train on it: `rvlib train fsrcnn --photos DIR --run runs/mine`.
# 2. Plant a *mirrored* test photo. Does the check find it? Should it?
#
# Next: `02_degradations`, how a reference photo becomes a degraded one.
