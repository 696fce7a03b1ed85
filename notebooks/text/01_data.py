# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 01 · Data: photos for training, photos for testing, and a check that they do not overlap
#
# **Which photos does this study use, under which licence, and is any test photo trained on?** One table lists every
# file with its source, its licence as far as it is known, and, for nearly all, a hash. The last section looks for test
# photos among the training photos.
#
# **You will see**
# - what each data set of the field is, and the photos that may be shown,
# - the eight patches that augmentation makes of one, and how much of the error lies in patches that are nearly flat,
# - how bytes are checked, and how a test photo among the training photos is found.
#
# Needs: nothing. Time: a few seconds with the demo's sample photos.

# %%
import numpy as np
import pandas as pd

from rvlib import photos, study
from rvlib.degrade import Bicubic, imresize, mod_crop
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
# Data sets move, get re-encoded, vanish. So one table in the library names every file: set, split, where it comes
# from, licence, size and SHA-256. A file is fetched from a mirror, if one is set, or from its original home. If the
# manifest has a hash for it, a file with any other hash is refused. GitHub addresses carry the commit, so their content
# cannot change unnoticed.
#
# A source is a *wheel* (an installed Python package), *github* (a file in a repository) or a *url* (an archive, which
# counts as one file and holds many photos). Set5, Set14, Urban100 and BSD100 bring their small photos for × 4, too, so
# that Set5 has ten files. `LPIPS-example` is three small pictures from the repository of that measure.

# %%
listed = manifest()
files = listed.groupby(["set", "split", "source"], sort=False).size().rename("files").reset_index()
licences = listed.drop_duplicates(["set", "licence"]).groupby("set")["licence"].agg(", ".join)
files["licence"] = files["set"].map(licences).where(files["set"] != "samples", "for each photo, below")
files.style.hide(axis="index")

# %%
pinned = listed.groupby("set")["sha256"].apply(lambda hashes: hashes.notna().mean())
loose = pinned[pinned < 1].index.tolist()
print(
    f"{listed['sha256'].notna().sum():,} of {len(listed):,} files are pinned by SHA-256; without one: {', '.join(loose)}"
)
assert pinned["samples"] == 1

# %% [markdown]
# The sets without hashes are large archives from their authors' servers: only the profile `paper` fetches them, and
# `official`, which measures the papers' own weights, fetches GoPro. `GoPro-sample` has three pairs from the demo
# folder of another project (dongheehand/DeblurGAN-tf). Their bytes are pinned, but that project does not say which
# sequence they are from, nor whether they are of GoPro's `blur` or `blur_gamma` (`02_degradations` explains both);
# the licence is inferred from GoPro's.
#
# ## The data sets, one by one
#
# | set | photos | what it is | used for |
# |---|---|---|---|
# | samples | 17 | photos that come with scikit-image and scikit-learn | demo and laptop profile |
# | T91 | 91 | small crops of textures, plants, faces (Yang et al. 2010) | training |
# | BSDS500 | 399 | natural photos of 481 × 321, made for segmentation (Arbeláez et al. 2011): the 400 outside its validation folder, which is BSD100, without one that is in Set5 | training |
# | CID22, CLIC 2025 | 249, 41 | photos for research on compression, stored without loss | training, validation |
# | Set5, Set14 | 5, 14 | the classics, small and old (Bevilacqua et al. 2012; Zeyde et al. 2010); two photos of Set14 are grey | test, × 4; Set14 also deblurring |
# | BSD100 | 100 | animals, people, landscapes (Martin et al. 2001) | test, × 4, in the profile `official`; elsewhere the check for leaks below |
# | Urban100 | 100 | façades with repeated windows: × 4 destroys much of their structure, and the repetition still tells of it (Huang et al. 2015) | test, × 4 |
# | Set12 | 12 | grey photos, made for denoising (Zhang et al. 2017) | test, × 4, for the audit of a course report (`12_report`) |
# | Kodak | 24 | scanned film of 768 × 512 | the check for leaks below |
# | DIV2K | 1,000 | photos of 2K: 800 for training, 100 for validation, 100 for a competition (Agustsson and Timofte 2017) | paper profile |
# | Flickr2K | 2,650 | more of the same kind, collected from Flickr (Lim et al. 2017) | paper profile |
# | GoPro | 3,214 pairs | videos at 240 frames per second, averaged: 2,103 pairs for training, 1,111 for testing (Nah et al. 2017) | deblurring, in the profiles `paper` and `official` (which measures its test pairs) |
#
# (The audited report counts "800 high-resolution images" and then "800 training, 100 validation and 100 test images"
# for DIV2K; the second is right, 1,000 together.) Papers train on DIV2K, or on both 2K sets (then called DF2K). This
# study's released weights are trained on the smaller sets that can be fetched file by file, which the cards in
# `weights/README.md` name.

# %% [markdown]
# The sample photos come with two Python packages that the study needs anyway, scikit-image and scikit-learn. The demo
# and the laptop profile run on them without a download. Two of them have no stated licence: they are trained on, but
# not shown.

# %%
samples = listed[listed["set"] == "samples"][["path", "split", "licence"]].copy()
samples["path"] = samples["path"].str.rsplit("/", n=1).str[-1]
samples.style.hide(axis="index")

# %% [markdown]
# ## The photos
#
# Training and test photos should differ as your photos differ from ours: other scenes, other cameras. Of the sample
# photos, the test has a portrait, an animal, a still life and a flower (first figure). The second figure shows the
# first eight training photos by name: textures, a man with a camera, a building, a clock that a moving camera blurred,
# coins and galaxies. The other four are a motorcycle, cells, a page and a text.

# %%
data = study.data(profile)
train = photos.load_sets(data, train_sets, split="train")
test = photos.load_sets(data, test_sets, split="test")
validation_sets = [name for name in train_sets if name in set(listed[listed["split"] == "validation"]["set"])]
validation = photos.load_sets(data, validation_sets, split="validation")
shown = photos.load_set(study.data("demo"), "samples", split="test")
figure = figures.images({f"test: {name}": image for name, image in shown.items()}, columns=4, width=2.2)

# %%
shown = photos.load_set(study.data("demo"), "samples", split="train")
figure = figures.images({n.replace("_", " "): shown[n] for n in list(shown)[:8]}, columns=4, width=2)

# %% [markdown]
# The next cell draws one photo of each other set that this profile has fetched. These photos are never stored in the
# repository, for not every licence allows that. The demo has none.

# %%
others = {}
for folder in sorted(each.name for each in data.iterdir() if each.is_dir() and each.name != "samples"):
    splits = listed[listed["set"] == folder]["split"].unique()
    found = photos.load_set(data, folder, split=splits[0], limit=1) if len(splits) else {}
    if found:
        name, image = next(iter(found.items()))
        others[f"{folder}: {name}"] = image
if others:
    figure = figures.images(others, columns=4, width=2)
print(f"{len(others)} other sets in this profile")

# %% [markdown]
# Validation photos say how far a training has come. Nothing is trained on them, and no benchmark number comes from
# them. If a set has many, learning curves and ablations use the first sixteen by name, and the end of a training all:

# %%
print(f"validation photos: {len(validation)}; for curves and ablations: {', '.join(list(validation)[:16])}")

# %% [markdown]
# ## Augmentation: eight patches of one
#
# A photo that is mirrored, or turned by quarters, is still a photo. Training does that at random with each patch that
# it cuts at a random place: eight versions of every patch at no cost. (It would be wrong to turn by 10°, which needs
# interpolation and would blur the reference, or to change the colours of only one half of a pair.)

# %%
photo = mod_crop(photos.sample("chelsea")[60:188, 120:248], 4)
turned = {f"turned {90 * k}°": np.rot90(photo, k) for k in range(4)}
turned |= {f"mirrored, {90 * k}°": np.rot90(photo[:, ::-1], k) for k in range(4)}
figure = figures.images(turned, columns=4, width=2)

# %% [markdown]
# Pairs are turned *together*. That is right because the degradation does not prefer a direction: shrinking the turned
# photo gives the turned small photo.

# %%
for k in (1, 2, 3):
    one = Bicubic(4)(np.ascontiguousarray(np.rot90(photo, k))).astype(int)
    other = np.rot90(Bicubic(4)(photo), k).astype(int)
    assert np.abs(one - other).max() <= 1, "shrinking and turning commute, up to rounding"

# %% [markdown]
# ## How much is there to learn from?
#
# A network is not trained on whole photos but on patches. A photo of 640 × 427 pixels holds 180,000 patches of
# 96 × 96, but they overlap: the number of *different* structures counts, and a patch of flat sky has none. So here is
# the contrast of patches of 24 × 24 pixels, which is the standard deviation of their luminance, and the share of
# patches that are nearly flat: below 3 grey levels.


# %%
def in_patches(plane: np.ndarray, size: int = 24) -> np.ndarray:
    """A plane as non-overlapping patches: rows of patches, size, columns of patches, size."""
    rows, columns = (side // size * size for side in plane.shape)
    return plane[:rows, :columns].reshape(rows // size, size, -1, size)


def contrast(image: np.ndarray) -> np.ndarray:
    """Standard deviation of the luminance of each patch, in grey levels."""
    return in_patches(figures.luminance(image)).std(axis=(1, 3)).ravel()


summary = pd.DataFrame(
    [
        {
            "split": split,
            "photos": len(images),
            "megapixels": sum(image.shape[0] * image.shape[1] for image in images.values()) / 1e6,
            "median contrast in grey levels": np.median(np.concatenate([contrast(image) for image in images.values()])),
            "nearly flat patches in %": 100
            * np.mean(np.concatenate([contrast(image) for image in images.values()]) < 3),
        }
        for split, images in (("train", train), ("validation", validation), ("test", test))
        if images
    ]
)
summary.style.format(precision=2).hide(axis="index")

# %% [markdown]
# Do the flat patches matter? Bicubic interpolation, which learns nothing, answers for the sample photos that are
# trained on: here is the share of its squared error that lies in them.

# %%
contrasts, errors = [], []
for image in photos.load_set(study.data("demo"), "samples", split="train").values():
    sharp = mod_crop(image, 4)
    error = figures.luminance(imresize(Bicubic(4)(sharp), 4)) - figures.luminance(sharp)
    contrasts.append(contrast(sharp))
    errors.append(in_patches(error**2).mean(axis=(1, 3)).ravel())
is_flat, errors = np.concatenate(contrasts) < 3, np.concatenate(errors)
share_flat, share_error = 100 * is_flat.mean(), 100 * errors[is_flat].sum() / errors.sum()
print(f"{share_flat:.0f} % of the patches are nearly flat; {share_error:.1f} % of the squared error lies in them")
assert share_error < share_flat / 10

# %% [markdown]
# There is next to nothing to learn in a flat patch: interpolation already restores it. A set with many of them is
# smaller than its megapixels say.
#
# ## No test photo is trained on
#
# A small network can hardly memorise photos; one with millions of weights can. If a test photo, perhaps
# re-encoded, cropped or scaled, is in the training set, the test measures memory. Public sets are full of such traps:
# the validation folder of BSDS500 *is* the test set BSD100, and its training photo 302003 is the woman of Set5, scaled
# to 71 %. CID22 has the same clouds twice, as training photo 3316926_opo25u and as validation photo 844297. This check
# found both, and the manifest leaves these two training photos out. Validation photos are checked too, or the choice of
# the best weights would be the choice of those that memorise.
#
# The check compares perceptual hashes of overlapping crops: short codes that stay nearly the same if a picture is
# re-encoded or scaled. One set is an exception: GoPro's two halves are the authors' own and show stretches of the same
# videos (GOPR0384_11 is in both). All published numbers are measured on them, so matches between the two halves are
# counted here and not refused.

# %%
leaks = find_leaks(train, test | validation)
of_gopro = leaks["test"].str.startswith("GoPro/") & leaks["train"].str.startswith("GoPro/")
assert of_gopro.all(), f"test or validation photos among the training photos: {leaks[~of_gopro]}"
compared = f"{len(test)} test and {len(validation)} validation photos against {len(train)} training photos"
print(f"{compared}: {len(leaks)} matches")

# %% [markdown]
# A check that never fires proves nothing, so here is a case in which it must: a test photo, shifted by three pixels, is
# planted among the training photos. (*bits* counts how many of the 256 bits of two hashes differ; *correlation* is that
# of two small thumbnails, 1 for equal ones.)

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

# %%
flat = summary.set_index("split")["nearly flat patches in %"]
print(f"{flat['train']:.0f} % of the training patches are nearly flat")
print(f"the {share_flat:.0f} % of nearly flat patches hold {share_error:.1f} % of the squared error of interpolation")
print(f"{len(test)} test photos, {len(leaks)} of them found among {len(train)} training photos")

# %% [markdown]
# - Every file has a source, and nearly every file a stated licence and a hash. A wrong byte in a file with a hash stops
#   the study instead of changing a number.
# - Training, validation and test photos are different photos, and a perceptual hash watches that they stay so.
# - BSDS500's validation folder is never trained on, because it is BSD100.
#
# **What can go wrong in practice.** Test photos sneak into training under another name, scaled or cropped. JPEG
# artefacts in training photos are learned as if they were detail. A benchmark's small photos come with it (made by
# MATLAB): small photos from another program can change the result (`02_degradations`). And a set of five photos rarely
# decides anything: look at intervals, not at means alone.
#
# ## Try it
#
# **1.** Train on a folder of your own photos: which command? How would you make sure that none of them is a test photo?
#
# <details><summary>Solution</summary>
#
# `rvlib train fsrcnn --photos DIR --run runs/mine`. For the check:
#
# ```python
# mine = {file.name: photos.read(file) for file in photos.folder("DIR")}
# find_leaks(mine, test)
# ```
#
# `test` has the test photos of this profile; the release profile has those of more sets.
#
# </details>
#
# **2.** Plant a *mirrored* test photo. Does the check find it? Should it?
#
# <details><summary>Solution</summary>
#
# The next cell tells. Since training mirrors its patches, a mirrored test photo is a leak. The hash of a picture as it
# stands cannot find it; a second hash, of the mirrored picture, would.
#
# </details>

# %%
name, image = next(iter(test.items()))
found = find_leaks({**train, "planted": np.ascontiguousarray(image[:, ::-1])}, {name: image})
print("a mirrored test photo is", "found" if len(found) else "not found")
assert len(found) <= 1

# %% [markdown]
# **Further reading**
#
# - Agustsson and Timofte 2017, *NTIRE 2017 Challenge* (DIV2K),
#   [doi:10.1109/CVPRW.2017.150](https://doi.org/10.1109/CVPRW.2017.150)
# - Huang et al. 2015, *Single Image Super-Resolution from Transformed Self-Exemplars* (Urban100),
#   [doi:10.1109/CVPR.2015.7299156](https://doi.org/10.1109/CVPR.2015.7299156)
# - Nah et al. 2017, *Deep Multi-Scale Convolutional Neural Network for Dynamic Scene Deblurring* (GoPro),
#   [doi:10.1109/CVPR.2017.35](https://doi.org/10.1109/CVPR.2017.35)
# - Arbeláez et al. 2011, *Contour Detection and Hierarchical Image Segmentation* (BSDS500),
#   [doi:10.1109/TPAMI.2010.161](https://doi.org/10.1109/TPAMI.2010.161)
#
# Next: `02_degradations`, how a reference photo becomes a degraded one.
