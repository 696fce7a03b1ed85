"""`rvlib restore`: photos or a clip in, photos or a clip out."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

import rvlib
from rvlib.commands import Device, Scale, Share, load_chain, named, say
from rvlib.errors import UserError, in_short
from rvlib.files import sha256
from rvlib.models.base import device_of

OF = ", of "  # between what made a result and what it was made of
STATUS = (
    "Photos as they come (noise, JPEG, unknown blur) need weights trained on such: official/swinir-real-m-x4. "
    "Exit status: 0 if all is done, or was there already; 1 if a photo failed (the others are done) or nothing could "
    "be done; 2 if an option is unknown, missing or of a wrong kind; 130 after Ctrl-C."
)


def restore(
    photos: Annotated[
        list[Path],
        typer.Argument(help="Photos, or folders of photos, to restore; or one clip.", parser=named, metavar="PHOTOS"),
    ],
    model: Annotated[str, typer.Option(help="A name of `rvlib models`, a file of weights or a run's folder.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="File for one photo, folder for several.", parser=named, metavar="PATH"),
    ],
    then: Annotated[list[str] | None, typer.Option(help="A further model, for what the one before made.")] = None,
    twice: Annotated[bool, typer.Option(help="Restore the result once more by the same: x4 becomes x16.")] = False,
    realism: Annotated[
        float | None,
        typer.Option(
            help="From 0 (true to the pixels) to 1 (most detail, true or not), for srgan-x4 and official networks that "
            "were trained both ways. It mixes weights; mixing the results instead looks more alike at equal PSNR "
            "(notebook 05_srgan)."
        ),
    ] = None,
    factor: Annotated[
        float | None, typer.Option(help="How many times larger, up to the model's scale, such as 2.")
    ] = None,
    width: Annotated[int | None, typer.Option(help="Of the result, in pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="Of the result, in pixels.")] = None,
    longest: Annotated[int | None, typer.Option(help="The longer side of the result, in pixels.")] = None,
    recursive: Annotated[bool, typer.Option(help="Look into the folders inside folders, too.")] = False,
    suffix: Annotated[str, typer.Option(help="Added to the names of restored photos, such as _x4.")] = "",
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            help="In a folder: png, jpg, tif, webp, bmp; without it, each photo's own (PNG where that is not written).",
        ),
    ] = "",
    quality: Annotated[
        int | None, typer.Option(help="Of JPEG (95 without it), WebP (lossless without it), a clip (65).")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Restore again what is there already.")] = False,
    start: Annotated[float | None, typer.Option(help="Of a clip: leave out what comes before, in seconds.")] = None,
    end: Annotated[float | None, typer.Option(help="Of a clip: leave out what comes after, in seconds.")] = None,
    codec: Annotated[str | None, typer.Option(help="Of a clip: h264, hevc, vp9, or ffv1, which loses nothing.")] = None,
    compare: Annotated[bool, typer.Option(help="Also write NAME.compare.png: before and after, side by side.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, sizes and time; write no photo.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Photos at a time: for many small ones.")] = 1,
    tile: Annotated[int | None, typer.Option(help="Side of tiles in pixels; without it, what memory allows.")] = None,
    self_ensemble: Annotated[bool, typer.Option(help="Average over eight turned versions: better, slower.")] = False,
    scale: Scale = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16: faster on GPUs, a grey level or two off.")] = "fp32",
    device: Device = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile first: for many photos on a GPU.")] = False,
):
    """Restore photos or a clip with any model.

    What is restored already is skipped, so a stopped command can be repeated and resumes.
    Each result says in its file which model made it, how, and of which photo (PNG text, EXIF Software). What another
    model, or another photo, left there is replaced.
    A clip (the extra `video`) keeps its sound, timing, rotation and colours, and resumes after a stop, too.
    `accelerate launch -m rvlib restore ...` shares the photos among GPUs or machines.
    """
    from rvlib import metadata, video
    from rvlib.batch import Batch, compared, restore_photo
    from rvlib.restore import Size, check_options

    for name, number, most in (("--jobs", jobs, 1_000), ("--quality", quality, 100)):
        if number is not None and not 1 <= number <= most:
            raise UserError(f"{name} lies between 1 and {most}, and {number} does not")
    size = Size(factor=factor, width=width, height=height, longest=longest)
    check_options(tile=tile, precision=precision)
    share, is_clip = Share(), any(map(video.is_clip, photos))
    if is_clip:
        given = {"--recursive": recursive, "--suffix": bool(suffix), "--format": bool(kind), "--compare": compare}
        _refuse(given | {"--dry-run": dry_run, "--jobs": jobs > 1}, "does not work with a clip: leave it out")
        if len(photos) > 1:
            raise UserError("a clip is restored alone: give one file")
        if share.number > 1:
            raise UserError("a clip is restored by one process: start the command without a launcher")
    else:
        given = {"--start": start is not None, "--end": end is not None, "--codec": codec is not None}
        _refuse(given, "is for clips: leave it out")
        batch = Batch(photos, output, recursive=recursive, suffix=suffix, compare=compare, kind=kind)
        listed = share.gather(batch.jobs)[0]  # one list for all of them, made before any of them writes
    chain, made_by = load_chain([model, *(then or [])], realism=realism, scale=scale, device=device, compiled=compiled)
    if twice:
        chain, made_by = chain * 2, f"{made_by}, twice"
    asked = {"factor": factor, "width": width, "height": height, "longest": longest}
    asked |= {"start": start, "end": end, "quality": quality, "tile": tile, "codec": codec}
    for name, value in asked.items():
        if value is not None:
            told = value if isinstance(value, str) else f"{value:.12g}"  # six digits would let two wishes read alike
            made_by += f", {name} {told}"
    if self_ensemble:
        made_by += ", self-ensemble"
    if precision != "fp32":
        made_by += f", {precision}"
    how = {"tile": tile, "self_ensemble": self_ensemble, "precision": precision}
    written = {"size": size, "quality": quality}
    if is_clip:
        written |= {"made_by": made_by, "start": start or 0.0, "end": end, "codec": codec}
        with _compiling(compiled):
            _restore_clip(chain, photos[0], output, overwrite, **how, **written)
        return
    mine = listed[share.index :: share.number]
    if dry_run:
        for note in batch.notes:
            say(f"note: {note}", err=True)
        with _compiling(compiled):
            _foretell(mine, chain, made_by, size, overwrite, compare, **how)
        _report([], len(listed), notes=[], faults=batch.faults)
        return
    how |= written | {"compare": compare, "progress": jobs == 1 and share.index == 0}

    def work(job: tuple[Path, Path]) -> tuple[str, list[str]]:
        photo, target = job
        maker, signature = metadata.maker(target), _signature(made_by, _digest(photo))
        if _is_done(target, maker, signature, overwrite, beside=compared(target) if compare else None):
            return "skipped" if maker else "unknown", []
        with _compiling(compiled):
            try:
                notes = restore_photo(chain, photo, target, made_by=signature, **how)
            except UserError as error:
                return "failed", [str(error)]
        if maker not in (None, signature):
            earlier = maker.partition(OF)[0]
            of_another = "what had been made there of another photo, or of an earlier state of this one, is replaced"
            notes.append(of_another if earlier == made_by else f"what {earlier} had made there is replaced")
        return "done", notes

    if jobs > 1:
        _measure(chain)
    everywhere = share.gather(_outcomes(work, mine, jobs, is_shown=len(listed) > 1 and share.index == 0))
    if share.index == 0:
        done = _report(everywhere, len(listed), notes=batch.notes, faults=batch.faults)
        say(f"{done} restored by {made_by} on {device_of(chain[0])}: {output}")


def _refuse(options: dict[str, bool], why: str) -> None:
    """Raise UserError for the first option that is given."""
    for name, is_given in options.items():
        if is_given:
            raise UserError(f"{name} {why}")


def _measure(chain: list) -> None:
    """Let each network find out, alone, how much memory it takes: beside others it would count theirs."""
    import numpy as np

    from rvlib.models.base import unwrapped

    for network in map(unwrapped, chain):
        with suppress(UserError):  # which each photo says in its turn
            rvlib.restore(network, np.zeros((129, 129, 3), np.uint8))  # the least for which memory is asked


def _outcomes(work: Callable, jobs: list, at_a_time: int, *, is_shown: bool) -> tuple[Counter, dict[str, list[str]]]:
    """Do the jobs: how many of them were done, skipped and failed, and what is to be said of each kind."""
    from concurrent.futures import ThreadPoolExecutor

    import torch
    from tqdm import tqdm

    from rvlib import tiles

    counts, said, pool = Counter(), defaultdict(list), ThreadPoolExecutor(at_a_time)
    if at_a_time > 1:  # they share the cores
        torch.set_num_threads(max(1, torch.get_num_threads() // at_a_time))
    with tiles.sharing_memory(at_a_time):
        try:
            outcomes = pool.map(work, jobs) if at_a_time > 1 else map(work, jobs)
            for outcome, texts in tqdm(outcomes, total=len(jobs), unit="photo", disable=not is_shown):
                counts[outcome] += 1
                said[outcome] += texts
        except KeyboardInterrupt:
            left = len(jobs) - counts.total()
            told = f"stopped: {counts['done']} restored, {left} left; the same command resumes there"
            typer.echo(told, err=True)
            raise
        finally:
            pool.shutdown(cancel_futures=True)
    return counts, said


def _report(everywhere: list[tuple[Counter, dict]], number: int, *, notes: list[str], faults: list[str]) -> int:
    """Say what came of the photos in all processes, and return how many were restored; UserError if any failed.

    `notes` and `faults` are those of the folders, which were looked into before.
    """
    counts = sum((each for each, _ in everywhere), Counter())
    told, failed = ([text for _, said in everywhere for text in said[kind]] for kind in ("done", "failed"))
    for note, count in Counter(notes + told).items():
        say(f"note: {note}{f' ({count} photos)' if count > 1 else ''}", err=True)
    if counts["skipped"]:
        told = f"{counts['skipped']} of {number} skipped, restored already"
        typer.echo(f"{told}: --overwrite restores {'it' if counts['skipped'] == 1 else 'them'} again", err=True)
    if counts["unknown"]:
        told = "were there already and do not say what made them: --overwrite replaces them"
        typer.echo(f"{counts['unknown']} of {number} {told}", err=True)
    for fault in faults + failed if number > 1 else faults:  # that of a single photo ends the command
        say(f"error: {fault}", err=True)
    if failed:
        told = f"{len(failed)} of {number} photos failed, {counts['done']} were restored"
        raise UserError(told if number > 1 else failed[0])
    if faults:
        raise UserError(f"{len(faults)} folder{'' if len(faults) == 1 else 's'} could not be read: see above")
    return counts["done"]


@contextmanager
def _compiling(compiled: bool) -> Iterator[None]:
    """Say in one line that a model could not be compiled."""
    try:
        yield
    except Exception as error:
        if compiled and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise UserError(f"--compile failed ({in_short(error)}): leave it out") from None
        raise


def _restore_clip(chain: list, clip: Path, output: Path, overwrite: bool, *, made_by: str, **how) -> None:
    """Restore a clip into a file, or into a folder under its own name."""
    from rvlib import video

    target = output
    if os.path.isdir(output) or not output.suffix:
        target = output / (clip.name if clip.suffix.lower() in video.CONTAINERS else f"{clip.stem}.mkv")
    is_itself = os.path.realpath(clip) == os.path.realpath(target)  # which is refused below
    digest = _digest(clip)
    made_by = _signature(made_by, digest)
    if not is_itself and _is_done(target, video.maker(target), made_by, overwrite):
        typer.echo(f"{target} is there already: --overwrite restores it again", err=True)
        return
    try:
        notes = video.restore_clip(chain, clip, target, made_by=made_by, digest=digest, progress=True, **how)
    except KeyboardInterrupt:
        typer.echo("stopped: the same command resumes after the last whole segment", err=True)
        raise
    for note in notes:
        say(f"note: {note}", err=True)
    say(f"restored by {made_by.partition(OF)[0]} on {device_of(chain[0])}: {target}")


def _signature(made_by: str, digest: str) -> str:
    """What a result says of itself: what made it, and the first digits of the SHA-256 of what it was made of."""
    return f"{made_by}{OF}{digest[:8]}" if digest else made_by


def _digest(photo: Path) -> str:
    """The SHA-256 of a photo or a clip; empty where it cannot be read, which is said where that is tried."""
    with suppress(OSError):
        if os.path.isfile(photo):
            return sha256(photo)
    return ""


def _is_done(target: Path, maker: str | None, signature: str, overwrite: bool, *, beside: Path | None = None) -> bool:
    """Whether a result is there already: of an unknown origin, which is not replaced unasked, or of the same one.

    `beside` is a file that was asked for with it.
    """
    if overwrite or not os.path.isfile(target):
        return False
    return maker is None or (maker == signature and (beside is None or os.path.isfile(beside)))


def _foretell(jobs: list, chain: list, made_by: str, size, overwrite: bool, compare: bool, **options) -> None:
    """Say of each photo what `restore` would make of it, and how long all of them would take."""
    from time import perf_counter

    import numpy as np

    from rvlib import metadata, originals
    from rvlib.batch import compared, factor_of
    from rvlib.degrade import resized_side
    from rvlib.restore import scale_of

    side = 96
    for _ in range(2):  # the first forward is slower
        started = perf_counter()
        rvlib.restore(chain, np.zeros((side, side, 3), np.uint8), **options)
        seconds = perf_counter() - started
    pixels, faults = 0, []
    for photo, target in jobs:
        try:
            original = originals.read(photo)
            height, width = original.image.shape[:2]
            factor = factor_of(original, photo, size, scale_of(chain))
            original.plan(target, factor)
        except UserError as error:
            faults.append(str(error))
            continue
        large = f"{resized_side(width, factor)} x {resized_side(height, factor)}"
        told = f"{photo} ({width} x {height}) -> {target} ({large})"
        beside = compared(target) if compare else None
        if _is_done(target, metadata.maker(target), _signature(made_by, _digest(photo)), overwrite, beside=beside):
            told = f"{photo}: {target} is there already"
        else:
            pixels += height * width
        say(told)
    for fault in faults:
        say(f"error: {fault}", err=True)
    told = f"{pixels / 1e6:.1f} megapixels to restore, about {seconds * pixels / side**2 / 60:.1f} min"
    typer.echo(f"nothing is done yet: {len(jobs)} photo{'' if len(jobs) == 1 else 's'}, {told}")
    if faults:
        raise UserError(f"{len(faults)} of {len(jobs)} photos would fail")
