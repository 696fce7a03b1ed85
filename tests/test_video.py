"""Clips: what is not restored stays as it was, a kill loses a segment at most, and the measure of flicker measures it.

Without the extra `video` only the refusal and the measure are tested.
"""

import hashlib
import importlib.util
import signal
import subprocess
import sys
import weakref
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import psutil
import pytest
from conftest import small_disk

import rvlib
from rvlib import metadata, photos, video
from rvlib.study import flicker

WITH_THE_EXTRA = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="the extra `video` is not installed")
UNEVEN = [0, 3000, 6000, 12000, 13500, 20000, 30000, 33000, 36000, 39000]  # in units of 1/90000 s
KILLED = """
import os, signal, sys
from pathlib import Path
import rvlib
from rvlib import video

left = int(sys.argv[3])
whole = video.restore

def counted(*arguments, **named):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments, **named)

video.restore, video.SEGMENT = counted, 4
video.restore_clip(rvlib.load("fsrcnn-x4"), Path(sys.argv[1]), Path(sys.argv[2]), made_by="x")
"""
MEMORY = """
import sys
from pathlib import Path
import psutil, rvlib
from rvlib import video

number, whole = 0, video.restore

def watched(*arguments, **named):
    global number
    number += 1
    if number % 100 == 0:
        print(number, psutil.Process().memory_info().rss, flush=True)
    return whole(*arguments, **named)

video.restore = watched
video.restore_clip(rvlib.load("fsrcnn-x4"), Path(sys.argv[1]), Path(sys.argv[2]), made_by="x")
"""


@pytest.fixture(scope="module")
def network():
    return rvlib.load("fsrcnn-x4")


def film(path: Path, stamps=UNEVEN, *, sound=True, size=(48, 64), pixels="yuv420p", **said) -> Path:
    """A clip whose camera moves over a photo, with time stamps in units of 1/90000 s, and a rising tone."""
    import av

    base, (height, width) = Fraction(1, 90_000), size
    with av.open(path, "w") as file:
        picture = file.add_stream("libx264", rate=30, options={"crf": "12", "g": "10"}, time_base=base)
        picture.width, picture.height, picture.pix_fmt = width, height, pixels
        said = {"colorspace": 1, "color_range": 2, "color_primaries": 1, "color_trc": 1, **said}
        for name, value in said.items():
            setattr(picture.codec_context, name, value)
        picture.set_display_rotation(90)
        tone = file.add_stream("aac", rate=44_100) if sound else None
        photo = photos.sample("coffee")
        colours = {"dst_colorspace": said["colorspace"], "dst_color_range": said["color_range"]}
        for number, stamp in enumerate(stamps):
            top, left = 30 + number % 200, 40 + 2 * (number % 200)
            part = np.ascontiguousarray(photo[top : top + height, left : left + width])
            frame = av.VideoFrame.from_ndarray(part, "rgb24").reformat(format=pixels, **colours)
            frame.pts, frame.time_base = stamp, base
            file.mux(picture.encode(frame))
        file.mux(picture.encode(None))
        for number in range(20 if sound else 0):
            wave = np.sin((np.arange(1024) + 1024 * number) ** 1.2 / 50, dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(0.3 * wave[None].repeat(2, 0), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = 44_100, 1024 * number
            file.mux(tone.encode(frame))
        if sound:
            file.mux(tone.encode(None))
    return path


def looked_at(path: Path) -> tuple[list, list[float], list[bytes]]:
    """(frames, their seconds, the packets of the sound) of a file."""
    import av

    with av.open(path) as file:
        frames = list(file.decode(video=0))
        seconds = [float(frame.pts * frame.time_base) for frame in frames]
    with av.open(path) as file:
        return frames, seconds, [bytes(each) for each in file.demux(file.streams.audio) if each.size]


@WITH_THE_EXTRA
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".mkv", "ffv1"), (".mov", "hevc")])
def test_timing_sound_rotation_and_colours_are_kept(suffix, codec, network, tmp_path):
    clip, target = film(tmp_path / "clip.mp4"), tmp_path / f"out{suffix}"
    with mock.patch.object(video, "SEGMENT", 4):
        video.restore_clip(network, clip, target, codec=codec, made_by="fsrcnn-x4")
    (before, seconds, sound), (after, restored, same) = looked_at(clip), looked_at(target)
    assert same == sound
    exact = 0.0011 if suffix == ".mkv" else 1e-9  # Matroska counts milliseconds
    assert np.diff(restored) == pytest.approx(np.diff(seconds), abs=exact)
    assert [(each.width, each.height) for each in after] == [(256, 192)] * len(before)
    for name in ("rotation", "colorspace", "color_range", "color_primaries", "color_trc"):
        assert {getattr(each, name) for each in after} == {getattr(before[0], name)}, name
    assert video.maker(target) == "fsrcnn-x4"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", target.name]


@WITH_THE_EXTRA
@pytest.mark.parametrize(("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (6, 0.299, 0.114)])
@pytest.mark.parametrize("full", [False, True])
def test_a_frame_is_restored_as_a_photo_of_its_colours(matrix, kr, kb, full, network, tmp_path):
    clip, target = tmp_path / "clip.mp4", tmp_path / "out.mkv"
    film(clip, UNEVEN[:3], colorspace=matrix, color_range=1 + full, pixels="yuv444p")
    video.restore_clip(network, clip, target, codec="ffv1")

    def colours(frame) -> np.ndarray:
        """RGB from Y, Cb, Cr by the definition of BT.601 and BT.709."""
        y, cb, cr = (np.asarray(plane, float) for plane in frame.to_ndarray())
        offset, luma, chroma = (0, 255, 255) if full else (16, 219, 224)
        y, cb, cr = (y - offset) / luma, (cb - 128) / chroma, (cr - 128) / chroma
        red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
        return 255 * np.stack([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue], axis=-1).clip(0, 1)

    for before, after in zip(looked_at(clip)[0], looked_at(target)[0], strict=True):
        expected = rvlib.restore(network, colours(before).round().astype(np.uint8))
        assert np.abs(colours(after) - expected).mean() < 1.0
        assert np.abs(colours(after) - expected).max() < 12  # a network may enlarge a difference of one level


@WITH_THE_EXTRA
def test_ten_bits_stay_ten_and_sides_are_even(network, tmp_path):
    clip = film(tmp_path / "clip.mp4", UNEVEN[:2], pixels="yuv420p10le")
    video.restore_clip(network, clip, tmp_path / "out.mp4", size=video.Size(width=95))  # of a clip that is turned
    first = looked_at(tmp_path / "out.mp4")[0][0]
    assert (first.format.name, first.height, first.width) == ("yuv420p10le", 94, 126)


@WITH_THE_EXTRA
def test_a_part_of_a_clip_begins_at_zero(network, tmp_path):
    clip = film(tmp_path / "clip.mp4")
    video.restore_clip(network, clip, tmp_path / "out.mp4", start=0.14, end=0.41)
    _, seconds, sound = looked_at(tmp_path / "out.mp4")
    expected = [stamp / 90_000 - 0.14 for stamp in UNEVEN if 0.14 <= stamp / 90_000 < 0.41]
    assert seconds == pytest.approx(expected, abs=1e-4)
    whole = looked_at(clip)[2]
    first = whole.index(sound[0])
    assert sound == whole[first : first + len(sound)]
    assert len(sound) * 1024 / 44_100 == pytest.approx(0.27, abs=0.03)


@WITH_THE_EXTRA
def test_no_file_stays_open(network, tmp_path):
    clip = film(tmp_path / "clip.mp4", UNEVEN[:3])
    (tmp_path / "text.mp4").write_text("no clip")
    video.restore_clip(network, clip, tmp_path / "out.mkv", made_by="x")
    assert video.maker(tmp_path / "out.mkv") == "x"
    with pytest.raises(rvlib.UserError):
        video.Clip(tmp_path / "text.mp4")
    assert not [each for each in psutil.Process().open_files() if Path(each.path).parent == tmp_path]


@WITH_THE_EXTRA
def test_the_end_of_a_part_is_the_number_that_was_said(tmp_path):
    """A fifth of a second, and not the float beside it, which the frame at 0.2 s would still lie before."""
    clip = film(tmp_path / "clip.mp4", range(0, 10 * 3000, 3000), sound=False)
    part = video.Clip(clip, end=0.2)
    assert len(list(part.frames())) == part.seconds * 30 == 6
    assert len(list(video.Clip(clip, end=float("inf")).frames())) == 10


@WITH_THE_EXTRA
@pytest.mark.parametrize("said", ["5000", "00:00:1x", "1:2:3:4", ""])
def test_a_length_that_cannot_be_read_is_not_said(tmp_path, monkeypatch, said):
    clip = video.Clip(film(tmp_path / "clip.mp4", range(0, 3 * 3000, 3000), sound=False))
    stream = SimpleNamespace(duration=None, metadata={"DURATION": said})
    monkeypatch.setattr(clip, "stream", stream)
    assert clip.seconds is None
    stream.metadata = {"DURATION": "00:01:02.500000000"}
    assert clip.seconds == 62.5 - clip.shift


@WITH_THE_EXTRA
def test_what_stopped_goes_on_and_loses_a_segment_at_most(network, tmp_path):
    clip, restored = film(tmp_path / "clip.mp4"), []

    def counted(*arguments, **named):
        if len(restored) == 6:
            raise KeyboardInterrupt
        restored.append(1)
        return rvlib.restore(*arguments, **named)

    with mock.patch.object(video, "SEGMENT", 4):
        video.restore_clip(network, clip, tmp_path / "whole.mp4", made_by="x")
        with mock.patch.object(video, "restore", counted), pytest.raises(KeyboardInterrupt):
            video.restore_clip(network, clip, tmp_path / "out.mp4", made_by="x")
        assert not (tmp_path / "out.mp4").exists()
        with mock.patch.object(video, "restore", wraps=rvlib.restore) as again:
            video.restore_clip(network, clip, tmp_path / "out.mp4", made_by="x")
        assert again.call_count == len(UNEVEN) - 4
        assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()
        restored.clear()
        with mock.patch.object(video, "restore", counted), pytest.raises(KeyboardInterrupt):
            video.restore_clip(network, clip, tmp_path / "out.mp4", made_by="x")
        with mock.patch.object(video, "restore", wraps=rvlib.restore) as again:
            video.restore_clip(network, clip, tmp_path / "out.mp4", made_by="another model")
        assert again.call_count == len(UNEVEN)


@WITH_THE_EXTRA
def test_a_damaged_segment_is_named_with_what_to_do(tmp_path):
    segment = tmp_path / ".clip.mp4.segments" / "000000.nut"
    segment.parent.mkdir()
    segment.write_bytes(b"no segment")
    with pytest.raises(rvlib.UserError, match=r"000000.nut is damaged: remove .*segments and start again"):
        list(video._packets([segment], Fraction(1)))


@WITH_THE_EXTRA
def test_one_process_at_a_time_restores_into_a_file(network, tmp_path):
    clip, target = film(tmp_path / "clip.mp4", UNEVEN[:3]), tmp_path / "out.mp4"

    def again(*arguments, **named):
        with pytest.raises(rvlib.UserError, match="out.mp4 is being restored: wait"):
            video.restore_clip(network, clip, target, made_by="x")
        return rvlib.restore(*arguments, **named)

    with mock.patch.object(video, "restore", side_effect=again):
        video.restore_clip(network, clip, target, made_by="x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4"]


@WITH_THE_EXTRA
@pytest.mark.slow
@pytest.mark.parametrize("after", [2, 9, *(pytest.param(n, marks=pytest.mark.drill) for n in (0, 4, 5, 8))])
def test_a_kill_loses_a_segment_at_most(after, network, tmp_path):
    clip, target = film(tmp_path / "clip.mp4"), tmp_path / "out.mp4"
    killed = subprocess.run([sys.executable, "-c", KILLED, clip, target, str(after)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not target.exists()
    whole = [path for path in (tmp_path / ".out.mp4.segments").glob("*.nut") if path.stat().st_size]
    assert len(whole) == after // 4
    with mock.patch.object(video, "SEGMENT", 4), mock.patch.object(video, "restore", wraps=rvlib.restore) as again:
        video.restore_clip(network, clip, target, made_by="x")
        assert again.call_count == len(UNEVEN) - 4 * (after // 4)
        video.restore_clip(network, clip, tmp_path / "whole.mp4", made_by="x")
    assert target.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "out.mp4", "whole.mp4"]


@WITH_THE_EXTRA
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_is_one_line(suffix, network, tmp_path, capfd):
    """Wherever the disk ends: within the header, a frame or the index of a segment, or within the joined file."""
    clip, made = film(tmp_path / "clip.mp4"), {}

    def restored(models, photo, **named):  # each frame once
        key = photo.tobytes()
        made[key] = made[key] if key in made else rvlib.restore(models, photo, **named)
        return made[key]

    with mock.patch.object(video, "restore", restored):
        video.restore_clip(network, clip, tmp_path / f"out{suffix}", quality=100)
        size = (tmp_path / f"out{suffix}").stat().st_size
        steps = range(4, 2 * size // 1024 - 16, 20)  # the segment, a little smaller, lies there beside the result
        for kilobytes in steps:
            with small_disk(tmp_path / f"{kilobytes}", f"{kilobytes}k") as folder:
                with pytest.raises(rvlib.UserError, match=r"could not be written \(.*\): free some space"):
                    video.restore_clip(network, clip, folder / f"out{suffix}", quality=100)
                assert not list(folder.rglob("*.part"))
                assert not (folder / f"out{suffix}").exists()
    assert len(steps) >= 8
    assert capfd.readouterr().err == ""


@WITH_THE_EXTRA
def test_no_more_than_a_few_frames_are_in_memory(network, tmp_path):
    clip, seen, most = film(tmp_path / "clip.mp4", range(0, 60 * 3000, 3000), size=(16, 16)), [], []

    class Counted(np.ndarray):
        pass

    def restored(models, photo, **named):
        result = rvlib.restore(models, photo, **named).view(Counted)
        seen.append(weakref.ref(result))
        most.append(sum(each() is not None for each in seen))
        return result

    with mock.patch.object(video, "restore", restored):
        video.restore_clip(network, clip, tmp_path / "out.mp4")
    assert len(most) == 60
    assert max(most) <= 2


@WITH_THE_EXTRA
@pytest.mark.drill
def test_memory_stays_flat_over_a_thousand_frames(tmp_path):
    clip = film(tmp_path / "clip.mp4", range(0, 1000 * 3000, 3000))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, clip, tmp_path / "out.mp4"], capture_output=True, text=True, check=True
    )
    rows = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    print(*(f"{number:5} frames: {size / 1e6:.0f} MB" for number, size in rows), sep="\n")
    assert [number for number, _ in rows] == list(range(100, 1001, 100))
    assert max(size for _, size in rows) - rows[1][1] < 40e6  # 800 restored frames would be 118 MB
    assert len(looked_at(tmp_path / "out.mp4")[0]) == 1000


@WITH_THE_EXTRA
@pytest.mark.parametrize(("suffix", "kind"), [(".mkv", "cut off"), (".mkv", "overwritten"), (".mp4", "overwritten")])
def test_a_damaged_clip_is_restored_up_to_the_damage(suffix, kind, network, tmp_path):
    clip = film(tmp_path / f"clip{suffix}", range(0, 40 * 3000, 3000), sound=False)
    whole, content = looked_at(clip)[0], bytearray(clip.read_bytes())
    middle = len(content) // 2
    if kind == "overwritten":
        content[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    else:  # an MP4 that is cut off lacks its index: that is no clip any more
        del content[middle:]
    clip.write_bytes(content)
    with pytest.raises(rvlib.UserError, match=r"is damaged after \d\.\d\d s .*holds what comes before") as told:
        video.restore_clip(network, clip, tmp_path / "out.mp4")
    assert "\n" not in str(told.value)
    found = looked_at(tmp_path / "out.mp4")[0]
    assert 10 <= len(found) < 40
    for before, after in zip(whole, found, strict=False):
        expected = rvlib.restore(network, before.to_ndarray(format="rgb24")).mean(axis=(0, 1))
        assert after.to_ndarray(format="rgb24").mean(axis=(0, 1)) == pytest.approx(expected, abs=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [clip.name, "out.mp4"]


@WITH_THE_EXTRA
def test_a_damaged_clip_is_named_again_and_a_whole_one_replaces_it(rv, tmp_path):
    clip, target = film(tmp_path / "clip.mkv", range(0, 40 * 3000, 3000), sound=False), tmp_path / "out.mkv"
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    wishes = ["restore", clip, "--model", "fsrcnn-x4", "-o", target]
    told = rv(*wishes)[2].splitlines()[-1]
    assert "clip.mkv is damaged after" in told
    written = target.read_bytes()
    with mock.patch.object(video, "restore", side_effect=AssertionError):
        assert rv(*wishes)[2].splitlines()[-1] == told
    assert target.read_bytes() == written
    assert "is damaged after" in rv(*wishes, "--codec", "ffv1")[2]  # it is restored once more
    assert target.read_bytes() != written
    clip.write_bytes(whole)
    assert rv(*wishes)[0] == 0
    assert len(looked_at(target)[0]) == 40
    assert video.maker(target).partition(", of ")[0] == "fsrcnn-x4"


@WITH_THE_EXTRA
def test_what_is_no_clip_is_one_line(network, tmp_path):
    import av

    film(tmp_path / "good.mp4")
    rubbish = {
        "rubbish": np.random.default_rng(0).bytes(9000),
        "text": b"no clip\n" * 500,
        "empty": b"",
        "cut": (tmp_path / "good.mp4").read_bytes()[:-900],
    }
    for name, content in rubbish.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
    with av.open(tmp_path / "sound.mp4", "w") as file, av.open(tmp_path / "good.mp4") as good:
        stream = file.add_stream_from_template(good.streams.audio[0], opaque=True)
        for packet in good.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                file.mux(packet)
    for name in (*rubbish, "sound", "missing"):
        with pytest.raises(rvlib.UserError) as told:
            video.restore_clip(network, tmp_path / f"{name}.mp4", tmp_path / "out.mp4")
        assert f"{name}.mp4" in str(told.value)
        assert "\n" not in str(told.value)
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


@WITH_THE_EXTRA
@pytest.mark.parametrize(
    ("target", "wishes", "problem"),
    [
        ("out.avi", {}, "choose one of them"),
        ("out.webm", {}, "does not hold aac"),
        ("out.mp4", {"codec": "theora"}, "choose one of h264"),
        ("out.mkv", {"codec": "ffv1", "quality": 50}, "leave the quality out"),
        ("out.mp4", {"start": 2.0, "end": 1.0}, "before its end"),
        ("out.mp4", {"start": 9.0}, "no frame that can be read from 9 s on"),
        ("clip.mp4", {}, "choose another output"),
        ("out.mp4", {"size": video.Size(width=5000)}, "at most 4 times"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_work(target, wishes, problem, network, tmp_path):
    clip = film(tmp_path / "clip.mp4", UNEVEN[:2])
    before = clip.read_bytes()
    with pytest.raises(rvlib.UserError, match=problem):
        video.restore_clip(network, clip, tmp_path / target, **wishes)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert clip.read_bytes() == before


@WITH_THE_EXTRA
def test_the_command_restores_skips_and_refuses(rv, tmp_path):
    clip, target = film(tmp_path / "clip.mp4", UNEVEN[:3]), tmp_path / "out" / "clip.mp4"
    options = ["--model", "fsrcnn-x4", "-o", target.parent]
    wishes = ["restore", clip, *options]
    assert rv(*wishes, "--then", "nafnet-deblur", "--factor", "2", "--quality", "40")[0] == 0
    assert looked_at(target)[0][0].width == 128
    made_by, _, digest = video.maker(target).partition(", of ")
    assert made_by == "fsrcnn-x4 + nafnet-deblur, factor 2, quality 40"
    assert digest == hashlib.sha256(clip.read_bytes()).hexdigest()[:8]
    written = target.stat().st_mtime_ns
    status, _, said = rv(*wishes, "--then", "nafnet-deblur", "--factor", "2", "--quality", "40")
    assert status == 0
    assert target.stat().st_mtime_ns == written
    assert "is there already" in said
    with mock.patch.object(video, "sha256", side_effect=AssertionError):  # the command knows the clip's hash already
        assert rv(*wishes)[0] == 0
    assert looked_at(target)[0][0].width == 256
    for more in ("--codec=hevc", "--tile=64", "--start=0.03333331", "--start=0.03333332"):
        assert rv(*wishes, more)[0] == 0
        name, _, value = more.strip("-").partition("=")
        assert video.maker(target) == f"fsrcnn-x4, {name} {value}, of {digest}"
    for word in ("--jobs=2", "--recursive", "--compare", "--dry-run", "--suffix=_x4", "--format=png"):
        assert f"{word.partition('=')[0]} does not work with a clip" in rv(*wishes, word)[2]
    photos.write(tmp_path / "photo.png", photos.sample("coffee")[:24, :32])
    assert "a clip is restored alone: give one file" in rv("restore", tmp_path / "photo.png", clip, *options)[2]
    for itself in (clip, tmp_path):
        assert "choose another output" in rv("restore", clip, "--model", "fsrcnn-x4", "-o", itself)[2]
    assert "--start is for clips" in rv("restore", tmp_path / "photo.png", *options, "--start", "0")[2]


@WITH_THE_EXTRA
def test_a_clip_names_its_maker_as_a_photo_does(network, tmp_path):
    """In ASCII, whatever the name; also where its damage is named again."""
    clip, target = film(tmp_path / "clip.mkv", range(0, 40 * 3000, 3000), sound=False), tmp_path / "out.mkv"
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    for restores in (None, AssertionError):
        with mock.patch.object(video, "restore", wraps=rvlib.restore, side_effect=restores):
            with pytest.raises(rvlib.UserError, match="clip.mkv is damaged after"):
                video.restore_clip(network, clip, target, made_by="größe-x4")
        assert video.maker(target).startswith("gr??e-x4, damaged after ")
    assert metadata.signature("größe-x4", "before") == f"rvlib {rvlib.__version__}: gr??e-x4; before"


def test_without_the_extra_the_command_says_how_to_get_it(rv, tmp_path):
    (tmp_path / "clip.mp4").touch()
    with mock.patch.object(importlib.util, "find_spec", return_value=None):
        words = ["restore", tmp_path / "clip.mp4", "--model", "fsrcnn-x4", "-o", tmp_path / "out.mp4"]
        assert "pip install -c constraints.txt -e '.[video]'" in rv(*words)[2]


PATH = np.array([[100, 80], [101, 82], [101, 85], [103, 86]])
FLICKERS = {
    "noise": (lambda frame, number, rng: rng.normal(0, 1, frame.shape), 2**0.5),
    "brightness": (lambda frame, number, rng: (-1.0) ** number, 2),
}
"""What is added to each frame, and the root mean square of its change from frame to frame."""


def spoiled(frames, kind, strength):
    rng, added = np.random.default_rng(0), FLICKERS[kind][0]
    changed = [frame + strength * added(frame, number, rng) for number, frame in enumerate(frames)]
    return [frame.round().clip(0, 255).astype(np.uint8) for frame in changed]


@pytest.mark.parametrize("photo", ["chelsea", "coffee"])
def test_the_motion_of_a_made_clip_is_found(photo):
    frames = flicker.pan(photos.sample(photo), PATH, 128)
    for found, true in zip(flicker.estimated(frames), flicker.known(PATH), strict=True):
        assert np.abs(found - true)[:, 16:-16, 16:-16].mean() < 0.05
    assert flicker.flicker(frames, flicker.known(PATH)) < 1e-9
    assert flicker.flicker(frames, flicker.estimated(frames)) < 0.5
    assert flicker.flicker(frames, flicker.known(PATH), margin=0) > 0, "at the edges places leave the picture"


@pytest.mark.parametrize("kind", FLICKERS)
@pytest.mark.parametrize("photo", ["chelsea", "coffee"])
def test_the_measure_ranks_a_known_flicker(photo, kind):
    frames = flicker.pan(photos.sample(photo), PATH, 128)
    motions = {"known": flicker.known(PATH), "estimated": flicker.estimated(frames)}
    for name, motion in motions.items():
        found = [flicker.flicker(spoiled(frames, kind, strength), motion) for strength in (0, 2, 8)]
        assert found == sorted(found), name
        expected = [strength * FLICKERS[kind][1] for strength in (2, 8)]
        assert found[1:] == pytest.approx(expected, rel=0.1), name  # rounding and clipping change little
    told = [flicker.flicker(spoiled(frames, kind, s), flicker.estimated(spoiled(frames, kind, s))) for s in (0, 2, 8)]
    assert told == sorted(told)  # also where the motion is estimated on what flickers
