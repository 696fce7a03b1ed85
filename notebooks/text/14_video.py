# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 14 · Video: the same scene, again and again
#
# **Does a method that is good on photos flicker on video?** A network restores each frame by itself. It never learned
# that the next frame shows the same scene, moved by a fraction of a pixel. Where it guesses, it may guess differently,
# and the eye, which hardly sees a wrong texture that stays, sees one that changes.
#
# **You will see**
# - clips whose motion is known exactly, made from photos,
# - a measure of flicker, first tested on flicker that was put in on purpose,
# - how much each released network that enlarges flickers, with an interval, and what part of its error is new in each
#   frame,
# - what a shift of the input does to the output,
# - what the mean over aligned neighbours brings, and what it cannot bring,
# - blur averaged from frames, as the GoPro set was made, and what a network for shake makes of it.
#
# Needs: `02_degradations`, `09_compare_super_resolution`. Time: a minute on two CPU cores. The last section needs the
# extra `video` (`pip install --constraint constraints.txt --editable '.[video]'`) and is left out without it.

# %%
import importlib.util
import tempfile
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Markdown
from scipy.stats import spearmanr

import rvlib
from rvlib import metrics, photos, study
from rvlib.degrade import imresize
from rvlib.models import method_of
from rvlib.study import figures, statistics, tables
from rvlib.study.flicker import estimated, flicker, known, moved_back, pan

figures.theme()

# %% tags=["parameters"]
profile = "demo"  # where results are written
test_photos = ["astronaut", "chelsea", "coffee", "flower", "rocket"]  # sample photos: a clip is made from each
side = 192  # of a clip's frames, in pixels
frames = 5  # of each clip
noise = 8.0  # standard deviation, in grey levels, where neighbours are averaged
lengths = [2, 6, 12, 18]  # of the blur, in pixels; even, so that a frame lies in the middle of the path
deblurring = "nafnet-deblur"  # the released network for shake

# %%
output = study.output(profile, "video")
released = {name: rvlib.load(name) for name in rvlib.released()}
networks = {method_of(name): network for name, network in released.items() if network.scale == 4}
methods = {"bicubic": partial(imresize, factor=4)} | {key: partial(rvlib.restore, net) for key, net in networks.items()}
titles = tables.NAMES | {"bicubic": "bicubic", "reference": "reference"}
colours = {titles[key]: figures.COLORS[key] for key in methods}
tables.write_json({name: network.source["sha256"] for name, network in released.items()}, output / "weights.json")
print("compared:", ", ".join(titles[key] for key in methods))

# %% [markdown]
# ## Clips whose motion is known
#
# A camera moves over a large photo by whole pixels. No pixel of the reference is interpolated, so its frames are the
# same scene *exactly*. Each frame is then made four times smaller. There the motion is one to three **quarters** of a
# pixel in each direction, so that no frame samples the scene where the one before did. The networks for deblurring are
# not compared: these clips are not shaken. No real clip is used, since the motion in it is not known.


# %%
def camera(photo: np.ndarray, seed: int = 0) -> np.ndarray:
    """Positions (frames 2) of a camera that starts near a photo's middle: steps of 1 to 3 pixels either way."""
    steps = np.random.default_rng(seed).choice([-3, -2, -1, 1, 2, 3], size=(frames, 2))
    middle = (np.array(photo.shape[:2]) - side) // 2
    return np.clip(middle + np.cumsum(steps, axis=0), 0, np.array(photo.shape[:2]) - side)


paths = {name: camera(photos.sample(name), seed) for seed, name in enumerate(test_photos)}
clips = {name: pan(photos.sample(name), path, side) for name, path in paths.items()}
small = {name: [imresize(frame, 1 / 4) for frame in clip] for name, clip in clips.items()}
first = test_photos[0]
figure = figures.images({"first frame": clips[first][0], "what a network sees of it": small[first][0]})

# %% [markdown]
# ## A measure, and a test of it
#
# Let $x_1, \dots, x_T$ be the frames of a clip, in grey levels from 0 to 255. If the *motion* $v_t(p)$ says how far
# what is at pixel $p$ of frame $t$ has moved in the next frame, then a clip without flicker has
# $x_{t+1}(p + v_t(p)) = x_t(p)$. The *warping error* is what is missing, as a root mean square over pixels, colours and
# pairs of frames:
#
# $$F = \sqrt{\frac{1}{T-1} \sum_{t=1}^{T-1} \operatorname*{mean}_p \big(x_{t+1}(p + v_t(p)) - x_t(p)\big)^2}$$
#
# (Lai et al. 2018 take the mean square without the root, over the places that stay visible. Here all do; 16 pixels at
# the border are left out.) The motion is known here. For a clip of one's own it must be *estimated*; the textbook
# estimator here is iterative Lucas-Kanade of scikit-image (it asks which shift of a small window explains the change of
# its grey levels), on the reference or, as for a real clip, on the input enlarged by bicubic interpolation.
#
# Is $F$ right? Noise of standard deviation $\sigma$ in each frame must give
# $\sqrt{\sigma^2 + \sigma^2} = \sqrt 2\,\sigma$:

# %%
levels, tested = [0, 1, 2, 4, 8], []
for name in test_photos[:2]:
    clip, motions = clips[name], {"known": known(paths[name]), "estimated": estimated(clips[name])}
    for level in levels:
        rng = np.random.default_rng(0)
        noisy = [(each + rng.normal(0, level, each.shape)).round().clip(0, 255).astype(np.uint8) for each in clip]
        tested += [
            {"photo": name, "motion": kind, "noise": level, "F": flicker(noisy, motion)}
            for kind, motion in motions.items()
        ]
tested = pd.DataFrame(tested)
tables.write(tested, output / "tested")
shown = tested.pivot_table(index="noise", columns="motion", values="F")
shown["√2 σ"] = np.sqrt(2) * shown.index
assert tested.query("noise == 0 and motion == 'known'")["F"].max() < 1e-6, "a clip without flicker has none"
for _, part in tested.groupby(["photo", "motion"]):
    assert part["F"].is_monotonic_increasing, "more flicker must be measured as more"
assert np.allclose(shown.loc[2:, "known"], shown.loc[2:, "√2 σ"], rtol=0.1)
shown.style.format(precision=2)

# %% [markdown]
# Both motions rank the known flicker rightly on each photo, and both give its size. The estimate was made on the clean
# frames; on the noisy ones it would be worse. `tests/test_video.py` repeats this for a brightness that jumps. What
# remains at $\sigma = 0$ is the error of the estimate. Rounding to whole grey levels adds a little where $\sigma$ is
# small, and the ends of the scale (0 and 255) cut off some of the noise where it is large.
#
# ## Who flickers?
#
# Each method enlarges each frame by itself. Next to $F$ is the frames' PSNR (on luminance, the same 16 pixels
# cropped), so that both can be compared.


# %%
def measured(name: str, method: str) -> dict:
    """What a method does to a clip: quality, and flicker along three motions."""
    restored = restored_clips[name, method]
    errors = [np.square(a.astype(float) - b)[16:-16, 16:-16].mean() for a, b in zip(restored, clips[name], strict=True)]
    return {
        "photo": name,
        "method": method,
        "PSNR": np.mean([metrics.psnr(*pair, crop=16) for pair in zip(restored, clips[name], strict=True)]),
        **{kind: flicker(restored, motion) for kind, motion in motions_of[name].items()},
        "MSE": np.mean(errors),
    }


restored_clips = {
    (name, m): [restore(f) for f in clip] for name, clip in small.items() for m, restore in methods.items()
}
motions_of = {
    name: {
        "known motion": known(paths[name]),
        "estimated on the reference": estimated(clip),
        "estimated on the input": estimated(restored_clips[name, "bicubic"]),
    }
    for name, clip in clips.items()
}
rows = pd.DataFrame([measured(*key) for key in restored_clips])

# %% [markdown]
# The last column asks what *kind* of error flickers. Let $e_t$ be the error of frame $t$ against its reference, moved
# back along the motion, $\mathrm{MSE}$ the mean of $e_t^2$, about the same in all frames, and $\rho =
# \operatorname{mean}(e_t\,e_{t+1}) / \mathrm{MSE}$ the correlation of the errors of neighbours. Then
# $\operatorname{mean}\big((e_{t+1} - e_t)^2\big) = 2\,\mathrm{MSE}\,(1 - \rho)$. Since the reference itself does not
# change along the known motion, the left side is $F^2$:
#
# $$\rho = 1 - \frac{F^2}{2\,\mathrm{MSE}}$$
#
# $\rho = 1$ is an error that moves with the scene, such as a texture that is missing in every frame. $\rho = 0$ is an
# error that is new each time. In between, if the error is a part that stays plus a part that is independent in each
# frame, $\rho$ is the share of the first in the squared error, and $1 - \rho$ that of the second.

# %%
rows["ρ"] = 1 - rows["known motion"] ** 2 / (2 * rows["MSE"])
tables.write(rows, output / "rows")
motions = ["known motion", "estimated on the reference", "estimated on the input"]
summary = rows.groupby("method", sort=False)[["PSNR", *motions, "ρ"]].mean()
summary = summary.rename(index=titles).sort_values("known motion")
tables.write(summary.reset_index(), output / "flicker")
by_clip = [part for _, part in rows.groupby("photo")]  # over all clips together, the photos alone would agree
agreement = {kind: [spearmanr(part["known motion"], part[kind]).statistic for part in by_clip] for kind in motions[1:]}
for kind, values in agreement.items():
    told = f"rank correlation {min(values):.2f} on the clip that agrees least"
    print(f"order of the methods by F with the known motion and {kind}: {told}")
assert min(agreement["estimated on the reference"]) > 0.9
print(f"\nmeans over {len(test_photos)} clips; F in grey levels")
summary.style.format(precision=2)

# %% [markdown]
# The printed correlations say how nearly the estimates give the order of the known motion. The second estimate is
# computed from bicubic's own frames, so it can excuse some of bicubic's flicker: what flickers like a motion is taken
# for one.
#
# Photos differ a lot, so methods are compared clip by clip. So few clips make an interval wide, and each network was
# trained once: read it as "on clips such as these, with these weights".

# %%
wide = rows.pivot(index="photo", columns="method", values="known motion")
quality = rows.pivot(index="photo", columns="method", values="PSNR")
answers = []
for key in networks:
    more = statistics.paired_difference(wide[key], wide["bicubic"])
    gain = statistics.paired_difference(quality[key], quality["bicubic"])
    answers.append(
        {
            "method": titles[key],
            "F less bicubic": more.text(2, "levels"),
            "PSNR less bicubic": gain.text(2, "dB"),
            "times bicubic's F": (wide[key] / wide["bicubic"]).mean(),
            "flickers": ("more" if more.mean > 0 else "less") if more.decided else "cannot be told apart",
        }
    )
answers = pd.DataFrame(answers)
tables.write(answers, output / "against_bicubic")
Markdown(tables.markdown(answers))

# %%
figure, axis = plt.subplots(figsize=(7, 3.6))
plane = rows.assign(method=rows["method"].map(titles))
centre = plane.groupby("method", sort=False)[["PSNR", "known motion"]].mean().reset_index()
sizes = dict(zip(centre["method"], np.linspace(180, 40, len(centre)), strict=True))  # so that one shows under another
options = {"x": "PSNR", "y": "known motion", "hue": "method", "palette": colours, "ax": axis}
sns.scatterplot(plane, alpha=0.35, s=25, legend=False, **options)
sns.scatterplot(centre, size="method", sizes=sizes, marker="D", **options)
axis.set(xlabel="PSNR of the frames in dB (higher is better)", ylabel="flicker F in grey levels", ylim=(0, None))
axis.legend(title="", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "plane")

# %% [markdown]
# Small dots are clips. Diamonds are means; their size only lets one show under another. Where does it flicker? The maps
# show the second frame, moved back, less the first, in luminance: red got brighter, blue darker, and the reference
# would be white everywhere.

# %%
seen = "chelsea" if "chelsea" in clips else first
best = max(networks, key=lambda key: quality[key].mean())
motion, inside = motions_of[seen]["known motion"][0], slice(16, -16)
maps = {}
for key in dict.fromkeys(["bicubic", best, wide.mean().idxmax()]):
    one, two = restored_clips[seen, key][:2]
    back = moved_back(two, motion).round().clip(0, 255).astype(np.uint8)
    maps[titles[key]] = figures.signed_difference(back, one)[inside, inside]
figure = figures.difference_map(maps, limit=20)
figure.set_size_inches(8, 2.5)
figures.save(figure, output / "where")

# %% [markdown]
# Flat places flicker least, edges and texture most, often in stripes of a few pixels: what lay on a sample of the small
# frame lies between two of them a moment later. Speckle instead of stripes is detail that was guessed differently.
#
# ## A shift of the input, and of the output
#
# A network of convolutions is *equivariant*: shift its input by a whole pixel, and its output shifts by `scale` pixels,
# unchanged, except near the border, where it sees padding (48 pixels are left out here). Only whole pixels of the small
# frame are whole for the network. For the fractions between them it sees other samples of the scene. Networks with
# windows, such as SwinIR, or with a description of the whole photo, such as DiffIR, are not even equivariant for whole
# pixels.

# %%
shifts, moved = [0, 1, 2, 3, 4, 5, 6, 7, 8], []
for name in test_photos[:2]:
    photo, start = photos.sample(name), paths[name][0]
    places = [np.minimum(np.add(start, (0, shift)), np.array(photo.shape[:2]) - side) for shift in shifts]
    for key, restore in methods.items():
        results = [restore(imresize(frame, 1 / 4)) for frame in pan(photo, places, side)]
        for shift, place, result in zip(shifts[1:], places[1:], results[1:], strict=True):
            changed = flicker([results[0], result], known(np.array([places[0], place])), margin=48)
            moved.append({"photo": name, "method": titles[key], "shift": shift / 4, "F": changed})
moved = pd.DataFrame(moved)
tables.write(moved, output / "shift")
figure, axis = plt.subplots(figsize=(7.5, 3.4))
sns.lineplot(moved, x="shift", y="F", hue="method", palette=colours, marker="o", errorbar=None, ax=axis)
axis.set(xlabel="shift of the input, in its pixels", ylabel="change of the output in grey levels", ylim=(0, None))
axis.set_xticks(np.arange(0, 2.1, 0.25))
axis.legend(title="", fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
figures.save(figure, output / "shift")
whole = moved[moved["shift"] == 1].groupby("method")["F"].mean()
fraction = moved[moved["shift"] == 0.5].groupby("method")["F"].mean()
assert (whole < fraction).all()
convolutions = [titles[key] for key in ("bicubic", "fsrcnn", "srresnet", "srgan") if titles[key] in whole]
assert (whole[convolutions] < 0.1).all(), "convolutions are equivariant"

# %%
print("means over", moved["photo"].nunique(), "photos")
for method in whole.index:
    print(f"{method:9} a whole pixel changes {whole[method]:5.2f} levels, half a pixel {fraction[method]:5.2f}")

# %% [markdown]
# So the flicker of the convolutional networks has its cause in the small frames: shown the same samples, they say the
# same. SwinIR and DiffIR add some of their own (the lines above say how much): SwinIR's windows, and the sums over the
# frame in DiffIR, do not move with the scene. The samples differ, since a fraction of a pixel decides what falls between
# two of them. Part is *aliasing* (detail too fine for the samples comes out as something else), part is that no short
# filter puts back exactly what lies between samples. Bicubic interpolation therefore changes, too. What a network adds
# to that is the price of its sharpness: it makes more of each difference.
#
# ## What the mean over neighbours brings
#
# If errors of neighbours are correlated by $\rho$, the mean over $n$ aligned frames has
# $\mathrm{MSE}_n = \mathrm{MSE}\,\frac{1 + (n - 1)\rho}{n}$: what moves with the scene stays, what is new in each frame
# shrinks. The table shows PSNR against the middle frame (RGB, 24 pixels cropped) for bicubic and for the network with
# the best PSNR above, for clean small frames and for noisy ones. *1* is the middle frame by itself. *1 of the 5* has
# the mean error of five frames, each moved back by itself: the middle one can be better or worse than its neighbours,
# so the gain is counted from here. *Not aligned* means that the motion was forgotten.


# %%
def aligned(name: str, restored: list[np.ndarray], count: int, *, back: bool = True) -> list[np.ndarray]:
    """The `count` frames around the middle one, each moved back to it, or (not `back`) as they are."""
    middle, path = frames // 2, paths[name]
    near = range(middle - count // 2, middle + count // 2 + 1)
    return [moved_back(restored[t], (path[middle] - path[t])[:, None, None] * back) for t in near]


def score(name: str, frame: np.ndarray) -> float:
    """PSNR of a frame, rounded to 8 bits, against the clip's middle one."""
    frame = frame.round().clip(0, 255).astype(np.uint8)
    return metrics.psnr(frame, clips[name][frames // 2], channel="rgb", crop=24)


averages, kinds = [], {"1": (1, True), "3": (3, True), "5": (5, True), "5, not aligned": (5, False)}
for name in test_photos:
    rng = np.random.default_rng(0)
    noisy = [(f + rng.normal(0, noise, f.shape)).round().clip(0, 255).astype(np.uint8) for f in small[name]]
    for key in ("bicubic", best):
        for kind, restored in (("clean", restored_clips[name, key]), ("noisy", [methods[key](f) for f in noisy])):
            facts = {"photo": name, "method": titles[key], "input": kind}
            singles = np.array([score(name, frame) for frame in aligned(name, restored, min(5, frames))])
            alone = -10 * np.log10((10 ** (-singles / 10)).mean())  # of the mean error
            averages.append({**facts, "mean over": "1 of the 5", "PSNR": alone})
            for label, (count, back) in kinds.items():
                mean = np.mean(aligned(name, restored, min(count, frames), back=back), axis=0)
                averages.append({**facts, "mean over": label, "PSNR": score(name, mean)})
averages = pd.DataFrame(averages)
tables.write(averages, output / "averages")
means = averages.pivot_table(index=["method", "input"], columns="mean over", values="PSNR", sort=False)
means.style.format(precision=2)

# %%
table = averages.pivot(index="photo", columns=["method", "input", "mean over"], values="PSNR")
ratio = (1 + 4 * rows.pivot(index="photo", columns="method", values="ρ")) / 5
gains = {}
for method, kind in means.index:
    gains[method, kind] = statistics.paired_difference(table[method, kind, "5"], table[method, kind, "1 of the 5"])
    print(f"{method:9} {kind}: five aligned frames against one of them: {gains[method, kind].text(2, 'dB')}")
    forgotten = statistics.paired_difference(table[method, kind, "5, not aligned"], table[method, kind, "1 of the 5"])
    print(f"{method:9} {kind}: five frames, not aligned, against one: {forgotten.text(2, 'dB')}")
for key in ("bicubic", best):
    print(f"expected from ρ for clean frames, {titles[key]}: {-10 * np.log10(ratio[key]).mean():+.2f} dB")

# %% [markdown]
# The expectation takes the $\rho$ of neighbours for all pairs of the five frames, so it is rough: how alike two
# errors are depends on the fraction of a small pixel between the frames, which differs from pair to pair. On clean
# frames, the mean can only remove what is new in each frame; on noisy ones, noise is new in each. Detail that is
# missing in every frame stays missing. Multi-frame super-resolution and recurrent networks for video do more: they
# combine the frames' different *samples* before anything is guessed. Their hard part is the motion: where it is
# wrong, the mean costs decibels, as the last column shows.
#
# ## Blur from frames
#
# GoPro's blurred photos are means of neighbouring frames of a fast camera, with the middle frame as the reference. The
# same can be done with a clip of one's own. Here the camera moves along a row of pixels for `length` pixels, and grey
# levels are averaged, as in GoPro's folder `blur`. `gap` is the motion between two frames in pixels: a camera that is
# too slow for the motion leaves a row of ghosts, which no shutter leaves.

# %%
blurs, strips = [], {}
for name in test_photos:
    photo, start = photos.sample(name), paths[name][0]
    for length in lengths:
        for gap in (gap for gap in (1, 3) if length % (2 * gap) == 0):
            places = [np.add(start, (0, step - length // 2)) for step in range(0, length + 1, gap)]
            exposed = pan(photo, places, side)
            assert all(frame.shape[:2] == (side, side) for frame in exposed), "the camera left the photo"
            sharp = exposed[len(exposed) // 2]
            blurred = np.mean(exposed, axis=0).round().astype(np.uint8)
            result = rvlib.restore(released[deblurring], blurred)
            scores = [metrics.psnr(image, sharp, channel="rgb", crop=16) for image in (blurred, result)]
            blurs.append({"photo": name, "length": length, "gap": gap, "blurred": scores[0], "restored": scores[1]})
            strips[name, length, gap] = (blurred, result, sharp)
blurs = pd.DataFrame(blurs).assign(gain=lambda t: t["restored"] - t["blurred"])
tables.write(blurs, output / "blur")
undone = {key: statistics.mean_interval(part["gain"]) for key, part in blurs.groupby(["gap", "length"])}
for (gap, length), gain in undone.items():
    part = blurs[(blurs["gap"] == gap) & (blurs["length"] == length)]
    print(f"gap {gap}, length {length:2}: blurred {part['blurred'].mean():5.2f} dB, gain {gain.text(2, 'dB')}")

# %%
long = max(lengths)
blurred, result, sharp = strips[seen, long, 1]
shown = {
    f"blurred, {long} px,\na frame each pixel": blurred,
    f"blurred, {long} px,\na frame every 3 pixels": strips[seen, long, 3][0],
    "the first, restored": result,
    "sharp": sharp,
}
notes = {
    name: f"{metrics.psnr(image, sharp, channel='rgb', crop=16):.2f} dB"
    for name, image in shown.items()
    if image is not sharp
}
figure = figures.zoom_strip(shown, box=(40, 40, 100, 100), notes=notes)
figures.save(figure, output / "blur")

# %% [markdown]
# The short blur shows whether the network leaves alone what is hardly blurred. The long ones show a blur that is rare
# in its training: that adds up mostly *light*, along paths that bend (`02_degradations`), and this is the mean of
# grey levels along a line. Try it 1 measures what light alone changes.
#
# ## A clip of one's own
#
# `rvlib restore clip.mp4 --model swinir-small-x4 -o large.mp4` restores a clip frame by frame. Frames are never all
# in memory; sound, timing, rotation and colours are kept; a stopped command can be started again and continues. Below
# a made clip goes through it. Its codec loses nothing, but clips hold luminance and two colour differences instead of
# RGB, and each way there and back rounds. So the flicker along the estimated motion is close to that of the frames
# above, and not the same:

# %%
if importlib.util.find_spec("av"):
    import av
    from rvlib import video

    folder = Path(tempfile.mkdtemp())
    with av.open(folder / "clip.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=25, width=side // 4, height=side // 4, pix_fmt="yuv444p")
        for frame in small[first]:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        file.mux(stream.encode(None))
    video.restore_clip(networks[best], folder / "clip.mkv", folder / "large.mkv", codec="ffv1")
    with av.open(folder / "large.mkv") as file:
        large = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    direct = flicker(restored_clips[first, best], motions_of[first]["estimated on the input"])
    through = flicker(large, motions_of[first]["estimated on the input"])
    print(f"{titles[best]} on {first}: F = {through:.2f} levels through the files, {direct:.2f} directly")
    assert len(large) == frames and abs(through / direct - 1) < 0.2
else:
    print("the extra `video` is not installed: pip install --constraint constraints.txt --editable '.[video]'")

# %% [markdown]
# ## Takeaways

# %% tags=["takeaways"]
order, ranked = summary["known motion"], summary["PSNR"].drop("bicubic").sort_values(ascending=False)
most = next(key for key in networks if titles[key] == order.drop("bicubic").index[-1])
new = {key: 1 - rows.pivot(index="photo", columns="method", values="ρ")[key] for key in ("bicubic", best)}
lines = [
    f"**Does a method that is good on photos flicker?** {titles[best]} has the best PSNR of the networks here, "
    f"{quality[best].mean():.2f} dB. Its flicker less bicubic's: "
    f"{statistics.paired_difference(wide[best], wide['bicubic']).text(2, 'levels')}.",
    f"The network that flickers most, {titles[most]}, less bicubic: "
    f"{statistics.paired_difference(wide[most], wide['bicubic']).text(2, 'levels')}.",
    f"Networks from best to worst PSNR: {', '.join(ranked.index)}. From least to most flicker: "
    f"{', '.join(order.drop('bicubic').index)}.",
    f"What neighbouring frames do not share of the squared error, 1 - ρ: bicubic {new['bicubic'].mean():.1%}, "
    f"{titles[best]} {new[best].mean():.1%}; the difference in percentage points: "
    f"{statistics.paired_difference(100 * new[best], 100 * new['bicubic']).text(1)}.",
]
lines += [
    f"Five aligned frames against one of them, {m}, {kind} input: {gain.text(2, 'dB')}."
    for (m, kind), gain in gains.items()
]
lines += [
    f"Blur of {n} pixels, a frame for each: {deblurring} changes PSNR by {undone[1, n].text(2, 'dB')}." for n in lengths
]
Markdown("\n".join(f"- {line}" for line in lines))

# %% [markdown]
# - A measure of flicker must be told the motion, and must be tested before it is believed: a smooth clip scores well,
#   whatever it shows. Read $F$ together with the PSNR, never alone.
# - A shift by a fraction of a pixel changes the output more than a shift by a whole one: the cause is mostly in the
#   small frames, and for SwinIR and DiffIR partly in the network. How much comes of it is the network's doing.
#
# **What can go wrong in practice**
#
# - **Compression.** A codec changes each frame in its own way, with a new beginning at each key frame. That flicker is
#   in the input, and a network that sharpens can enlarge it. None of the networks here was trained on it, and it is not
#   measured here.
# - **Hidden places.** Where something moves in front of something else, no motion is right. Lai et al. leave such
#   places out; the clips here have none.
# - **Interlaced clips.** Each frame holds two moments. Deinterlace first; `rvlib restore` says so.
# - **Estimated on what is judged.** If each method's own output gives the motion, a method may be excused by a wrong
#   motion. Take the same motion for all.
#
# ## Try it
#
# 1. Average the frames of the blur in light instead of grey levels: each frame to the power of 2.2, the mean, and that
#    to the power of 1/2.2 (with values from 0 to 1). What changes for the network, and why? (`02_degradations` shows
#    both.)
# 2. Let the camera move by whole pixels of the small frame only: in `camera`, choose the steps from -4 and 4. What does
#    the mean over clean frames bring then?
# 3. A clip of a black screen has $F = 0$. Name a measure to add to $F$ that such a clip fails.
#
# <details><summary>Solutions</summary>
#
# 1. The network learned mostly from shake that adds light. In light, bright points draw their path; their mean in grey
#    levels is darker. Compare the gains, not the PSNR: the blurred input itself has fewer decibels, and the network
#    gains more, since the input is nearer to its training.
# 2. Nothing, for a method that is equivariant: all frames hold the same samples, so all errors are the same,
#    $\rho = 1$. With noise, the mean still helps. SwinIR is not equivariant, so a little is left for the mean to
#    remove.
# 3. The PSNR against the reference, or LPIPS. A measure of flicker is only worth something together with one of these.
#
# </details>
#
# ## Further reading
#
# - Lai et al. 2018, *Learning Blind Video Temporal Consistency*,
#   [doi:10.48550/arXiv.1808.00449](https://doi.org/10.48550/arXiv.1808.00449)
# - Le Besnerais and Champagnat 2005, *Dense optical flow by iterative local window registration*,
#   [doi:10.1109/ICIP.2005.1529706](https://doi.org/10.1109/ICIP.2005.1529706)
# - Zhang 2019, *Making Convolutional Networks Shift-Invariant Again*,
#   [doi:10.48550/arXiv.1904.11486](https://doi.org/10.48550/arXiv.1904.11486)
# - Park, Park and Kang 2003, *Super-Resolution Image Reconstruction: A Technical Overview*,
#   [doi:10.1109/MSP.2003.1203207](https://doi.org/10.1109/MSP.2003.1203207)
# - Chan et al. 2021, *BasicVSR++*, [doi:10.48550/arXiv.2104.13371](https://doi.org/10.48550/arXiv.2104.13371)
# - Nah et al. 2017, *Deep Multi-scale Convolutional Neural Network for Dynamic Scene Deblurring*,
#   [doi:10.48550/arXiv.1612.02177](https://doi.org/10.48550/arXiv.1612.02177)
