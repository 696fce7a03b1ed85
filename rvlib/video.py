"""Clips: decoded, restored and encoded frame by frame; sound, timing, rotation and colours stay those of the clip.

The optional extra `video` brings PyAV, which brings FFmpeg's libraries.
"""

import hashlib
import heapq
import importlib.util
import io
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
from torch import nn
from tqdm import tqdm

from rvlib import metadata
from rvlib.degrade import resized_side
from rvlib.errors import UserError
from rvlib.files import alone, make_ready, reason_of, sha256, write_atomically, write_text
from rvlib.memory import within_memory
from rvlib.restore import Size, restore, scale_of

READ = set(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .m2ts .wmv .flv .3gp .ogv".split())
"""What a clip's file ends in."""

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
"""What a result may end in, and FFmpeg's name for it."""

CODECS = {"h264": ("libx264", 51), "hevc": ("libx265", 51), "vp9": ("libvpx-vp9", 63), "ffv1": ("ffv1", None)}
"""How a result may be compressed: FFmpeg's encoder, and its CRF at the worst quality; ffv1 loses nothing."""

QUALITY = 65
"""Without another: CRF 18 of H.264, at which the eye hardly sees the compression."""

SEGMENT = 48
"""Frames that are encoded together; a kill loses at most these."""

MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""The numbers of the matrices between RGB and YCbCr: in a file, and in FFmpeg's converter."""

RGB, BT709, UNSPECIFIED, SMPTE170M, LIMITED, FULL = 0, 1, 2, 6, 1, 2  # four matrices, two ranges
EXACT = 0x4 | 0x2000 | 0x4000 | 0x40000  # FFmpeg's converter: bicubic chroma, all of it used, no rounding for speed
PIXELS = re.compile(r"yuv4(20|22|44)p(1[02]le)?")  # formats that are written
OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "comment"}  # not of the clip
SLACK = Fraction(1, 2)  # seconds that an intact clip may be shorter than it says


def is_clip(path: str | Path) -> bool:
    """Whether a file is taken for a clip, by its name."""
    return Path(path).suffix.lower() in READ and not os.path.isdir(path)


def maker(path: Path) -> str | None:
    """What made a restored clip, as `restore_clip` was told; None where the file does not say.

    Of a damaged clip it also says where that ends: such a result is not taken for a whole one.
    """
    with suppress(UserError), Clip(path) as clip:
        found = metadata.SIGNATURE.match(clip.said.get("comment", ""))
        return found and found[1]
    return None


class Clip:
    """A file with moving pictures, of which `frames` and `sound` give what lies between `start` and `end` in seconds.

    It is open until its `with` block ends. Raises UserError for what is none, and where the extra `video` is not
    installed.
    """

    def __init__(self, path: Path, start: float = 0.0, end: float | None = None):
        if importlib.util.find_spec("av") is None:
            raise UserError("clips need PyAV: in a checkout, pip install -c constraints.txt -e '.[video]'")
        import av

        if not 0 <= start < (float("inf") if end is None else end):
            raise UserError(f"a part of a clip starts at 0 s or later and before its end, not at {start:g} s")
        self.path = path
        has_end = end not in (None, float("inf"))
        self.start, self.end = Fraction(str(start)), Fraction(str(end)) if has_end else None  # 0.2 is 1/5
        self.damage, self.reached, self.problem = "", Fraction(0), av.error.FFmpegError
        self.opened = ExitStack()
        try:
            file = self.opened.enter_context(open(path, "rb"))  # a name may look like an address
            self.container = self.opened.enter_context(av.open(file))
        except self.problem as error:
            self.opened.close()
            raise UserError(
                f"{path} is no clip, or is damaged at its beginning ({error.strerror}): give another file"
            ) from None
        except OSError as error:
            raise UserError(f"{path} could not be read {reason_of(error, 'give the file of a clip')}") from None
        cover = av.stream.Disposition.attached_pic
        self.stream = next((each for each in self.container.streams.video if not each.disposition & cover), None)
        if self.stream is None or self.stream.codec_context is None:
            self.opened.close()
            raise UserError(f"{path} holds no moving pictures that can be read: give another file")
        self.tracks = [each for each in self.container.streams.audio if each.codec_context is not None]
        self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.said = {name.lower(): text for name, text in self.container.metadata.items()}
        self.shift = Fraction(max(self.container.start_time or 0, 0), av.time_base) + self.start  # of time stamps

    def __enter__(self) -> "Clip":
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.close()

    @property
    def seconds(self) -> Fraction | None:
        """How long the wanted part is by what the file says; None where it does not."""
        length, said = self.stream.duration, self.stream.metadata.get("DURATION")
        if length is not None:
            ends = ((self.stream.start_time or 0) + length) * self.stream.time_base
        else:
            try:  # of Matroska: 00:00:01.480000000
                hours, minutes, seconds = map(Fraction, (said or "").split(":"))
            except (ValueError, ZeroDivisionError):  # it says nothing, or nothing that can be read
                return None
            ends = 3600 * hours + 60 * minutes + seconds
        return ends - self.shift if self.end is None else min(ends - self.shift, self.end - self.start)

    def frames(self) -> Iterator:
        """PyAV's frames, with rising time stamps that count from `start`, up to the first damage.

        `damage` says in words why they end too early, `reached` where, in seconds.
        """
        base, size, last = self.stream.time_base, None, None
        shift, step = round(self.shift / base), max(1, round(1 / (self.rate * base)))
        for frame in self._decoded():
            size = size or (frame.width, frame.height)
            if frame.is_corrupt or size != (frame.width, frame.height):
                self.damage = "a frame is damaged" if frame.is_corrupt else "the size of its frames changes"
                return
            pts = (0 if last is None else last + step) if frame.pts is None else frame.pts - shift
            if pts < 0 and self.start:
                continue
            if self.end is not None and pts * base >= self.end - self.start:
                return
            frame.pts = last = pts if last is None else max(pts, last + 1)
            self.reached = (last + (frame.duration or step)) * base
            yield frame
        if not self.damage and self.seconds is not None and self.reached < self.seconds - SLACK:
            self.damage = "its file ends"

    def _decoded(self) -> Iterator:
        """All frames; where reading or decoding fails, those before, and `damage` says why."""
        try:
            for packet in self.container.demux(self.stream):
                if packet.is_corrupt:  # a part of it is missing
                    self.damage = "its file ends"
                    yield from self.stream.decode(None)  # what waits in the decoder
                    return
                yield from packet.decode()
        except self.problem as error:
            self.damage = error.strerror

    def sound(self, until: Fraction | None) -> Iterator:
        """The packets of all sound, as they are, with time stamps that count from `start`, up to `until` in seconds."""
        with suppress(self.problem):  # where sound is damaged, it ends
            for packet in self.container.demux(self.tracks):
                if packet.dts is not None and packet.pts is not None:
                    shift = round(self.shift / packet.time_base)
                    packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                    time = packet.pts * packet.time_base
                    if (time >= 0 or not self.start) and (until is None or time < until):
                        yield packet


class Result:
    """How a restored clip is written: with colours, timing and turning of the clip, of which a frame is given."""

    def __init__(self, clip: Clip, frame, factor: float, codec: str, quality: int | None):
        from av.codec.codec import Codec, find_best_pix_fmt_of_list
        from av.video.format import VideoFormat

        self.clip, self.codec, (self.encoder, worst) = clip, codec, CODECS[codec]
        self.options = {} if worst is None else {"crf": f"{round((100 - (quality or QUALITY)) / 100 * worst)}"}
        self.options |= {"x265-params": "log-level=none"} if codec == "hevc" else {}
        known = [each.name for each in Codec(self.encoder, "w").video_formats if PIXELS.fullmatch(each.name)]
        given = frame.format.name.replace("yuvj", "yuv").replace("gray", "yuv420p")
        self.pixels = find_best_pix_fmt_of_list(known, given)[0].name
        pair = VideoFormat(self.pixels, 2, 2)  # sides are even where two pixels share one chroma
        across, down = 2 // pair.chroma_width(2), 2 // pair.chroma_height(2)
        self.width = resized_side(frame.width, factor) // across * across
        self.height = resized_side(frame.height, factor) // down * down
        self.rgb = "rgb48le" if max(each.bits for each in frame.format.components) > 8 else "rgb24"
        matrix, is_full = frame.colorspace, frame.color_range == FULL or frame.format.name.startswith("yuvj")
        if matrix in (RGB, UNSPECIFIED):  # players guess by the size, which changes: what is guessed here is written
            matrix = BT709 if frame.height >= 720 else SMPTE170M
        if matrix not in MATRICES:
            raise UserError(f"{clip.path} has colours that are not converted here (matrix {matrix}): convert it first")
        self.said = {"colorspace": matrix, "color_range": FULL if is_full else LIMITED}
        self.said |= {"color_primaries": frame.color_primaries, "color_trc": frame.color_trc}
        self.said["sample_aspect_ratio"] = clip.stream.sample_aspect_ratio or Fraction(0)  # which means unknown
        turned = frame.side_data.get("DISPLAYMATRIX")  # by which a player turns the picture
        self.turned = None if turned is None else np.frombuffer(bytes(turned), np.int32).tolist()

    def read(self, frame) -> np.ndarray:
        """A frame of the clip as uint8 or uint16 H x W x 3."""
        matrix, kept = MATRICES[self.said["colorspace"]], self.said["color_range"]
        theirs = {"src_colorspace": matrix, "src_color_range": kept, "dst_color_range": FULL}
        return frame.reformat(format=self.rgb, interpolation=EXACT, **theirs).to_ndarray()

    def encode(self, pictures: Iterable[tuple[int, np.ndarray]], path: str) -> None:
        """Write pictures (uint8 or uint16 H x W x 3) with their time stamps as a segment, which stands for itself."""
        import av

        matrix, kept = MATRICES[self.said["colorspace"]], self.said["color_range"]
        with _written(path) as file, av.open(file, "w", format="nut") as segment:  # which holds any time stamp
            timing = {"rate": self.clip.rate, "time_base": self.clip.stream.time_base}
            stream = segment.add_stream(self.encoder, options=self.options, **timing)
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, self.pixels
            stream.codec_context.max_b_frames = 0  # packets in the order of time stamps can be joined
            for name, value in self.said.items():
                setattr(stream.codec_context, name, value)
            for pts, picture in pictures:
                cut = np.ascontiguousarray(picture[: self.height, : self.width])
                frame = av.VideoFrame.from_ndarray(cut, self.rgb)
                theirs = {"dst_colorspace": matrix, "dst_color_range": kept, "interpolation": EXACT}
                frame = frame.reformat(format=self.pixels, **theirs)
                frame.pts, frame.time_base = pts, timing["time_base"]
                segment.mux(stream.encode(frame))
            segment.mux(stream.encode(None))

    def join(self, segments: list[Path], made_by: str, kind: str, path: str) -> None:
        """Write segments and the sound of the clip as one file; nothing is encoded again."""
        import av

        clip = self.clip
        until = None if clip.end is None else clip.end - clip.start
        if clip.damage:
            until = clip.reached
        exact = {"movie_timescale": str(clip.stream.time_base.denominator)} if kind in ("mp4", "mov") else {}
        with (
            _written(path) as file,
            av.open(file, "w", format=kind, options=exact) as joined,
            Clip(clip.path, clip.start, clip.end) as again,
        ):
            kept = {name: text for name, text in clip.said.items() if name not in OF_THE_FILE}
            comment = metadata.signature(made_by, clip.said.get("comment", ""))
            joined.metadata.update({**kept, "comment": comment})
            with segments[0].open("rb") as first, av.open(first) as segment:
                stream = joined.add_stream_from_template(segment.streams.video[0], opaque=True)
            stream.time_base = clip.stream.time_base
            for name, value in self.said.items():
                setattr(stream.codec_context, name, value)
            if self.codec == "hevc" and kind != "matroska":
                stream.codec_context.codec_tag = "hvc1"  # without it Apple's players refuse
            if self.turned:
                stream.set_display_matrix(self.turned)
            streams = {}
            for each in again.tracks:
                streams[each.index] = joined.add_stream_from_template(each, opaque=True)
                streams[each.index].metadata.update(each.metadata)
            sound = again.sound(until) if streams else ()
            moving = ((stream, each) for each in _packets(segments, clip.reached))
            sounding = ((streams[each.stream_index], each) for each in sound)
            for place, packet in heapq.merge(moving, sounding, key=lambda each: each[1].dts * each[1].time_base):
                packet.stream = place
                joined.mux(packet)


class Output(io.BufferedWriter):
    """A file for PyAV to write; `problem` keeps the disk's first error, which PyAV may hide behind one of its own.

    After it nothing is tried again: PyAV prints each further error.
    """

    problem: OSError | None = None

    def write(self, content: bytes) -> int:
        """Write bytes, or nothing after an error, and return their number; raises the first OSError."""
        return len(content) if self.problem else self._tried(super().write, content)

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in bytes, not after an error, and return it; raises the first OSError."""
        return place if self.problem else self._tried(super().seek, place, whence)

    def _tried(self, work: Callable[..., int], *given) -> int:
        try:
            return work(*given)
        except OSError as error:
            self.problem = error
            raise


@contextmanager
def _written(path: str) -> Iterator[Output]:
    """A file for PyAV to write; raises the disk's own OSError, whatever PyAV makes of it."""
    import av

    file = Output(io.FileIO(path, "w"))
    try:
        with file:
            yield file
    except (OSError, av.error.FFmpegError):
        if file.problem:
            raise file.problem from None
        raise


def _packets(segments: list[Path], end: Fraction) -> Iterator:
    """The packets of all segments, each as long as until the next one begins, the last one up to `end` in seconds."""
    import av

    before = None
    for segment in segments:
        try:
            with segment.open("rb") as file, av.open(file) as container:
                for packet in container.demux(video=0):
                    if packet.dts is not None and before is not None:
                        before.duration = packet.pts - before.pts
                        yield before
                    before = before if packet.dts is None else packet
        except av.error.FFmpegError:
            raise UserError(f"{segment} is damaged: remove {segment.parent} and start again") from None
    before.duration = round(end / before.time_base) - before.pts
    yield before


def restore_clip(
    model: nn.Module | Sequence[nn.Module],
    path: Path,
    target: Path,
    *,
    size: Size | None = None,
    start: float = 0.0,
    end: float | None = None,
    codec: str | None = None,
    quality: int | None = None,
    made_by: str = "",
    digest: str = "",
    progress: bool = False,
    **options,
) -> list[str]:
    """Restore a clip into a file, and return what there is to say of it.

    `size`, `made_by` and `options` are those of a photo (`batch.restore_photo`); `start` and `end` are seconds of the
    clip, `codec` is one of `CODECS`, `quality` 1 to 100; `digest` is the clip's SHA-256, where it is known. Frames go
    one by one from decoder to network to encoder. Every 48 of them become a file in a folder beside the target; joined
    they are the target. If `made_by` names the models, the same call goes on from them after a kill. A damaged clip is
    restored up to the damage, which a UserError then names, and names again, without restoring, when the same call is
    repeated. UserError also for what is no clip, and for what the target's container cannot hold.
    """
    kind, models = CONTAINERS.get(target.suffix.lower()), list(model) if isinstance(model, Sequence) else [model]
    if kind is None:
        raise UserError(f"{target}: a clip is written as {', '.join(CONTAINERS)}: choose one of them")
    codec = codec or ("vp9" if kind == "webm" else "h264")
    if codec not in CODECS:
        raise UserError(f"unknown codec {codec!r}: choose one of {', '.join(CODECS)}")
    if quality is not None and CODECS[codec][1] is None:
        raise UserError(f"{codec} loses nothing: leave the quality out")
    with Clip(path, start, end) as clip, ExitStack() as held:
        if os.path.realpath(path) == os.path.realpath(target):
            raise UserError(f"{path} would be overwritten by its restored version: choose another output")
        _check_container(kind, [codec, *(each.codec_context.name for each in clip.tracks)], target)
        make_ready(target)
        made_of = made_by and repr((digest or sha256(path), start, end, SEGMENT, made_by, size, codec, quality))
        # of a result that ends where its clip is damaged
        mark = f", {hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
        earlier = maker(target) or ""
        if made_by and earlier.endswith(mark):
            damage = earlier[len(f"{made_by}, ") : -len(mark)]
            raise UserError(f"{path} is {damage}: {target} holds what comes before, restored")
        frames = clip.frames()
        first = next(frames, None)
        if first is None:
            reason = f" ({clip.damage})" if clip.damage else f" from {start:g} s on" if start else ""
            raise UserError(f"{path} holds no frame that can be read{reason}")
        sides = first.height, first.width
        if first.rotation % 180:  # as it is seen
            sides = first.width, first.height
        factor = (size or Size()).of(*sides, scale_of(models))
        result = Result(clip, first, factor, codec, quality)
        folder = target.with_name(f".{target.name}.segments")
        held.enter_context(alone(folder, f"{target} is being restored: wait for that, or choose another name"))
        segments = _finished(folder, made_of)
        done = len(segments) * SEGMENT
        left = islice(chain([first], frames), done, None)
        notes = []
        if first.interlaced_frame:
            notes.append("it is interlaced, and no network here learned that: deinterlace it first")
        others = {each.type for each in clip.container.streams} - {"video", "audio"}
        notes += [f"its {kind} streams are left out" for kind in sorted(others)]

        def pictures(frames: Iterator) -> Iterator[tuple[int, np.ndarray]]:
            for frame in frames:
                odd = notes if frame is first else None
                with within_memory(path):
                    restored = restore(models, result.read(frame), factor=factor, notes=odd, **options)
                yield frame.pts, restored
                bar.update()

        total = clip.seconds and round(clip.seconds * clip.rate)
        with tqdm(total=total, initial=done, unit="frame", disable=not progress) as bar:
            for following in left:
                file, some = folder / f"{len(segments):06}.nut", chain([following], islice(left, SEGMENT - 1))
                write_atomically(file, partial(result.encode, pictures(some)))
                segments.append(file)
        damage, said = "", made_by
        if clip.damage:
            damage = f"damaged after {float(clip.reached + clip.start):.2f} s ({clip.damage})"
            said = ", ".join(text for text in (made_by, f"{damage}{mark}") if text)
        write_atomically(target, partial(result.join, segments, said, kind))
        shutil.rmtree(folder)
        if damage:
            raise UserError(f"{path} is {damage}: {target} holds what comes before, restored")
        return [f"{path}: {each}" for each in notes]


def _check_container(kind: str, codecs: list[str], target: Path) -> None:
    """Raise UserError where a container does not hold codecs."""
    import av

    with av.open(os.devnull, "w", format=kind) as file:
        for name in codecs:
            if name not in file.supported_codecs:
                raise UserError(f"{target}: its container does not hold {name}: choose a name that ends in .mkv")


def _finished(folder: Path, made_of: str) -> list[Path]:
    """The segments that an earlier call with the same wishes finished, in order; those of other wishes are removed."""
    record = folder / "made_of.txt"
    if not (made_of and record.exists() and record.read_bytes() == made_of.encode()):
        shutil.rmtree(folder, ignore_errors=True)
        write_text(record, made_of)
    return sorted(folder.glob("[0-9]*.nut"))
