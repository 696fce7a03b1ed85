"""The command line: restore and compare photos, fetch, train, evaluate, list and export models, run the study."""

import logging
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

import rvlib
from rvlib.errors import UserError
from rvlib.files import reason_of
from rvlib.models import METHODS, MODELS

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="RestoraVision: restore photos and study how.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rvlib {rvlib.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Say which.")] = False,
):
    """RestoraVision: restore photos and study how."""


REAL = "Photos as they come (noise, JPEG, unknown blur) need weights trained on such: official/swinir-real-m-x4."
STATUS = (
    "Exit status: 0 if all is done, or was there already; 1 if a photo failed (the others are done) or nothing could "
    "be; 2 for a wrong option; 130 after Ctrl-C."
)


@app.command(epilog=STATUS)
def restore(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos, to restore; or one clip.")],
    model: Annotated[str, typer.Option(help=f"A name of `rvlib models`, a file of weights or a run's folder. {REAL}")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File for one photo, folder for several.")],
    then: Annotated[list[str] | None, typer.Option(help="A further model, for what the one before made.")] = None,
    twice: Annotated[bool, typer.Option(help="Restore the result once more by the same: x4 becomes x16.")] = False,
    realism: Annotated[
        float | None,
        typer.Option(
            help="From 0 (true to the pixels) to 1 (most detail, true or not): srgan-x4, official/swinir-real-m-x4, ..."
        ),
    ] = None,
    factor: Annotated[float | None, typer.Option(help="How many times larger, up to the model's scale: 2.")] = None,
    width: Annotated[int | None, typer.Option(help="Of the result, in pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="Of the result, in pixels.")] = None,
    longest: Annotated[int | None, typer.Option(help="The longer side of the result, in pixels.")] = None,
    recursive: Annotated[bool, typer.Option(help="Folders with the folders in them.")] = False,
    suffix: Annotated[str, typer.Option(help="Added to the names of restored photos, such as _x4.")] = "",
    kind: Annotated[
        str, typer.Option("--format", help="In a folder: png, jpg, tif, webp, bmp; without it, each photo's own.")
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
        bool, typer.Option("--dry-run", help="Say what would be done, sizes and time; do nothing.")
    ] = False,
    jobs: Annotated[int, typer.Option(help="Photos at a time: for many small ones.")] = 1,
    tile: Annotated[int | None, typer.Option(help="Side of tiles in pixels; without it, what memory allows.")] = None,
    self_ensemble: Annotated[bool, typer.Option(help="Average over eight turned versions: better, slower.")] = False,
    scale: Annotated[int | None, typer.Option(help="Only where the weights cannot tell (FSRCNN, SRCNN).")] = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16: faster, a grey level off here and there.")] = "fp32",
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, cuda:1, mps, ...")] = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile first: for many photos on a GPU.")] = False,
):
    """Restore photos or a clip with any model; what is restored already is skipped, so a stopped command can go on.

    Each result says in its file which model made it (PNG text, EXIF Software), and one of another model is replaced.
    A clip (the extra `video`) keeps its sound, timing, rotation and colours, and goes on after a stop, too.
    `accelerate launch -m rvlib restore ...` shares the photos among GPUs or machines.
    """
    from concurrent.futures import ThreadPoolExecutor

    from tqdm import tqdm

    from rvlib import metadata, video
    from rvlib.batch import Batch
    from rvlib.restore import Size, check_options

    for name, number, most in (("--jobs", jobs, 1_000), ("--quality", quality, 100)):
        if number is not None and not 1 <= number <= most:
            raise UserError(f"{name} lies between 1 and {most}, and {number} does not")
    size = Size(factor=factor, width=width, height=height, longest=longest)
    check_options(tile=tile, precision=precision)
    process, is_clip = _Share(), any(map(video.is_clip, photos))
    others = {"--recursive": recursive, "--suffix": suffix, "--format": kind, "--compare": compare}
    others |= {"--dry-run": dry_run, "--jobs": jobs > 1, "several files": len(photos) > 1}
    others |= {"several processes": process.number > 1}
    for name, given in (others if is_clip else {"--start": start, "--end": end, "--codec": codec}).items():
        if given not in (None, False, ""):
            raise UserError(f"{name} cannot be had with a clip" if is_clip else f"{name} is for clips: leave it out")
    if not is_clip:
        batch = Batch(photos, output, recursive=recursive, suffix=suffix, compare=compare, kind=kind)
        listed = process.gather(batch.jobs)[0]  # one list for all of them, made before any of them writes
    chain, made_by = _chain([model, *(then or [])], realism, scale=scale, device=device, compiled=compiled)
    if twice:
        chain, made_by = chain * 2, f"{made_by}, twice"
    asked = {"factor": factor, "width": width, "height": height, "longest": longest, "start": start, "end": end}
    made_by += "".join(f", {name} {value:g}" for name, value in asked.items() if value is not None)
    made_by += ", self-ensemble" * self_ensemble + f", {precision}" * (precision != "fp32")
    how = {"tile": tile, "self_ensemble": self_ensemble, "precision": precision}
    how |= {"size": size, "quality": quality, "made_by": made_by}
    if is_clip:
        with _compiling(compiled):
            _restore_clip(chain, photos[0], output, overwrite, start=start or 0.0, end=end, codec=codec, **how)
        return
    mine = listed[process.index :: process.number]
    if dry_run:
        _foretell(mine, chain, made_by, size, overwrite)
        return
    how |= {"compare": compare, "progress": jobs == 1 and process.index == 0}

    def work(job: tuple[Path, Path]) -> tuple[str, list[str]]:
        photo, target = job
        maker = metadata.maker(target)
        if _is_done(target, maker, made_by, overwrite):
            return "skipped", []
        with _compiling(compiled):
            try:
                notes = batch.restore(chain, photo, target, **how)
            except UserError as error:
                return "failed", [str(error)]
        replaced = [f"what {maker} had made there is replaced"] * (maker not in (None, made_by))
        return "done", [*notes, *replaced]

    counts, faults, notes = Counter(), [], Counter(batch.notes)
    pool = ThreadPoolExecutor(jobs)
    if jobs > 1:  # they share the cores
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // jobs))
    try:
        outcomes = pool.map(work, mine) if jobs > 1 else map(work, mine)
        for outcome, said in tqdm(
            outcomes, total=len(mine), unit="photo", disable=len(listed) == 1 or process.index > 0
        ):
            counts[outcome] += 1
            if outcome == "failed":
                faults += said
            else:
                notes.update(said)
    except KeyboardInterrupt:
        left = len(mine) - counts.total()
        typer.echo(f"stopped: {counts['done']} restored, {left} left; the same command goes on from there", err=True)
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    everywhere = process.gather((counts, faults, notes))
    if process.index:
        return
    counts, faults = sum((each[0] for each in everywhere), Counter()), [text for each in everywhere for text in each[1]]
    for note, count in sum((each[2] for each in everywhere), Counter()).items():
        _say(f"note: {note}{f' ({count} photos)' if count > 1 else ''}", err=True)
    if counts["skipped"]:
        told = f"{counts['skipped']} of {len(listed)} were there already"
        typer.echo(f"{told}: --overwrite restores them again", err=True)
    if faults and len(listed) > 1:
        batch.faults += faults
        faults = [f"{len(faults)} of {len(listed)} photos failed"]
    elif batch.faults and not faults:
        faults = [f"{len(batch.faults)} folders may not be read"]
    for fault in batch.faults:
        _say(f"error: {fault}", err=True)
    if faults:
        raise UserError(faults[0])
    where = next(chain[0].parameters()).device
    _say(f"{counts['done']} restored by {made_by} on {where}: {output}")


@contextmanager
def _compiling(compiled: bool) -> Iterator[None]:
    """Say in one line that a model could not be compiled."""
    try:
        yield
    except Exception as error:
        if compiled and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise UserError(f"--compile failed ({_in_short(error)}): leave it out") from None
        raise


def _restore_clip(chain: list, clip: Path, output: Path, overwrite: bool, *, made_by: str, **how) -> None:
    """Restore a clip into a file, or into a folder under its own name."""
    from rvlib import video

    target = output
    if os.path.isdir(output) or not output.suffix:
        target = output / (clip.name if clip.suffix.lower() in video.CONTAINERS else f"{clip.stem}.mkv")
    if _is_done(target, video.maker(target), made_by, overwrite):
        typer.echo(f"{target} is there already: --overwrite restores it again", err=True)
        return
    try:
        notes = video.restore_clip(chain, clip, target, made_by=made_by, progress=True, **how)
    except KeyboardInterrupt:
        typer.echo("stopped: the same command goes on from the last whole segment", err=True)
        raise
    for note in notes:
        _say(f"note: {note}", err=True)
    _say(f"restored by {made_by} on {next(chain[0].parameters()).device}: {target}")


class _Share:
    """This process among those that accelerate or torchrun started for one command: its number, and how many."""

    def __init__(self):
        self.number = int(os.environ.get("WORLD_SIZE", 1))
        self.index = int(os.environ.get("RANK", 0)) % self.number

    def gather(self, value: object) -> list:
        """What each of them has, in their order."""
        if self.number == 1:
            return [value]
        from datetime import timedelta

        from accelerate import PartialState

        from rvlib import processes

        # small messages of the CPUs, whatever computes; one process may have far more to do than another
        return processes.gather(value, PartialState(cpu=True, timeout=timedelta(days=7)))


def _chain(
    sources: list[str], realism: float | None, *, scale: int | None, device: str, compiled: bool = False
) -> tuple:
    """The models of these names or files, one after the other, and what their results say made them."""
    from rvlib.checkpoint import signature

    if realism is None:
        chain, names = [rvlib.load(sources[0], device=device, scale=scale)], [signature(sources[0])]
    else:
        from rvlib.realism import mixed

        chain, names = [mixed(sources[0], realism, device=device)], [f"{sources[0]} at realism {realism:g}"]
    chain += [rvlib.load(each, device=device) for each in sources[1:]]
    names += [signature(each) for each in sources[1:]]
    if compiled:
        import torch

        chain = [torch.compile(each) for each in chain]
    return chain, " + ".join(names)


def _is_done(target: Path, maker: str | None, made_by: str, overwrite: bool) -> bool:
    """Whether a result is there already: by the same models, or of unknown origin, which is not replaced unasked."""
    return os.path.isfile(target) and not overwrite and maker in (None, made_by)


def _foretell(jobs: list[tuple[Path, Path]], chain: list, made_by: str, size, overwrite: bool) -> None:
    """Say of each photo what `restore` would make of it, and how long all of them would take."""
    from time import perf_counter

    import numpy as np

    from rvlib import metadata, originals
    from rvlib.degrade import resized_side
    from rvlib.restore import scale_of

    side = 96
    for _ in range(2):  # the first forward is slower
        started = perf_counter()
        rvlib.restore(chain, np.zeros((side, side, 3), np.uint8))
        seconds = perf_counter() - started
    pixels, faults = 0, []
    for photo, target in jobs:
        try:
            height, width = originals.size(photo)
            factor = size.of(height, width, scale_of(chain))
        except UserError as error:
            faults.append(str(error))
            continue
        told = (
            f"{photo} ({width} x {height}) -> {target} ({resized_side(width, factor)} x {resized_side(height, factor)})"
        )
        if _is_done(target, metadata.maker(target), made_by, overwrite):
            told = f"{photo}: {target} is there already"
        else:
            pixels += height * width
        _say(told)
    for fault in faults:
        _say(f"error: {fault}", err=True)
    minutes = seconds * pixels / side**2 / 60
    typer.echo(
        f"nothing is done yet: {len(jobs)} photos, {pixels / 1e6:.1f} megapixels to restore, about {minutes:.1f} min"
    )
    if faults:
        raise UserError(f"{len(faults)} of {len(jobs)} photos would fail")


@app.command()
def compare(
    photos: Annotated[list[Path], typer.Argument(help="Photos to try the models on.")],
    models: Annotated[str, typer.Option(help="Names or files, with commas; a chain with plus signs: a,b,c+d.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page, such as page.html.")],
    side: Annotated[int, typer.Option(help="Side of the part of each photo that is restored, in pixels.")] = 256,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, ...")] = "auto",
):
    """Restore a part of each photo, where it shows most, by several models: one page with a slider for each.

    The page needs no network and no server. Seconds and memory of each model are measured on that part.
    """
    from rvlib import compare, originals
    from rvlib.files import make_ready

    if output.suffix != ".html":
        raise UserError(f"{output}: a page is written, choose a name that ends in .html")
    make_ready(output)
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names:
        raise UserError("--models names none: give some, such as fsrcnn-x4,swinir-small-x4")
    parts = {
        str(photo): compare.part(originals.eight_bits(originals.read(photo, exactly=False)), side) for photo in photos
    }
    chains = {name: _chain(name.split("+"), None, scale=None, device=device)[0] for name in dict.fromkeys(names)}
    trials = {photo: (part, compare.trials(chains, part)) for photo, part in parts.items()}
    compare.write(output, trials)
    for photo, (_, tried) in trials.items():
        for name, trial in tried.items():
            _say(f"{photo}, {name}: {trial.facts}")
    _say(f"{output}: open it in a browser")


@app.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Data sets, or official weights (official/NAME); else those of --params.")
    ] = None,
    params: Annotated[Path, typer.Option(help="Parameters of a profile.")] = Path("params.yaml"),
    target: Annotated[Path | None, typer.Option(help="Folder to fetch data sets into.")] = None,
):
    """Fetch data sets, checked against the manifest, or official weights ahead; what is there already is kept."""
    from rvlib import official
    from rvlib.study.fetch import fetch
    from rvlib.study.notebooks import read_parameters, section

    wanted = {name: official.find(name) for name in names or [] if name.startswith(official.PREFIX)}
    for name, each in wanted.items():
        if each is None:
            raise UserError(f"no official weights are called {name!r}: `rvlib models` lists them, without a suffix")
        typer.echo(each.fetch())
    sets = [name for name in names or [] if not name.startswith(official.PREFIX)]
    if wanted and not sets:
        return
    content = {} if sets and target else read_parameters(params)
    sets = sets or section(content, "fetch", params).get("sets", [])
    fetch(sets, target or rvlib.ROOT / "downloads" / content["profile"])


@app.command()
def cache():
    """Say where downloaded weights are kept, and how much room each takes; whatever is removed is fetched again."""
    from rvlib import official

    folder = official.cache().parent
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        typer.echo(f"{path.stat().st_size / 1e6:9.1f} MB  {path.relative_to(folder)}")
    typer.echo(f"{sum(path.stat().st_size for path in files) / 1e6:9.1f} MB  {folder}")


@app.command()
def train(
    method: Annotated[str, typer.Argument(help=", ".join(name for each in METHODS.values() for name in each.recipes))],
    run: Annotated[Path, typer.Option(help="The folder of this run; started again, it goes on where it was.")],
    photos: Annotated[
        Path | None, typer.Option(help="A folder of photos to train on; without it, the profile's sets.")
    ] = None,
    degraded: Annotated[Path | None, typer.Option(help="Their degraded versions, by name; else made anew.")] = None,
    validation: Annotated[
        Path | None,
        typer.Option(help="A folder of photos, or of pairs in reference/ and degraded/, that chooses the best."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Weights to go on from, whose architecture is taken: a name, a file, the folder of a run."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="The profile whose settings count: laptop (if none is named), release, paper."),
    ] = None,
    section: Annotated[
        str | None, typer.Option(help="Another section of it than the method's own, such as diffir.deblurring.")
    ] = None,
    scale: Annotated[int | None, typer.Option(help="Of super-resolution, 4 without it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps; more than before lengthens a run.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs of patches in a step.")] = None,
    patch_size: Annotated[int | None, typer.Option(help="Side of the reference patch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The largest of the schedule.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Steps between two rows of the log.")] = None,
    seed: Annotated[int, typer.Option(help="Of fresh weights, photos' order, patches and noise.")] = 0,
    choices: Annotated[
        list[str] | None, typer.Option("--set", help="Any setting: --set ema=0.99 --set milestones=[500,800].")
    ] = None,
    argument: Annotated[
        list[str] | None, typer.Option(help="Of the network: --argument embed=32 --argument depths=[2,2].")
    ] = None,
    replace: Annotated[bool, typer.Option(help="Set another run in that folder aside, instead of refusing.")] = False,
):
    """Train a method on your own photos, and say what it gained.

    Settings come from a profile's section (params.yaml, profiles/NAME/params.yaml) and then from the options. Weights
    and log are in the run's folder after 20 seconds and at every stop.
    """
    from rvlib import recipes, shelf
    from rvlib.pairs import own_files, own_validation, read_each
    from rvlib.study import profiles

    if method not in recipes.RECIPES:
        raise UserError(f"there is no recipe for {method!r}: choose one of {', '.join(recipes.RECIPES)}")
    stated = profiles.settings(profile, method, section)
    given = {"steps": steps, "batch_size": batch_size, "patch_size": patch_size, "learning_rate": learning_rate}
    given |= {"validate_every": validate_every, "scale": scale}
    stated |= {name: value for name, value in given.items() if value is not None}
    chosen = profiles.assignments(choices or [], "--set")
    for name in chosen.keys() - profiles.CHOICES - {"processes"}:
        raise UserError(f"unknown setting {name!r}: choose among {', '.join(sorted(profiles.CHOICES))}")
    stated |= {"seed": seed} | chosen
    network = profiles.assignments(argument or [], "--argument")
    stated["arguments"] = network if start else {**(stated.get("arguments") or {}), **network}
    if photos is None and degraded is not None:
        raise UserError("--degraded needs the photos that it belongs to: name their folder (--photos)")
    sides = own_files(photos, degraded) if photos else profiles.training_photos(profile, method, section)
    checked = own_validation(validation, degraded) if validation else None
    try:
        references, low = (shelf.shared(read_each(side), run, name) for name, side in sides.items())
        model, _ = recipes.train(
            method,
            references,
            degraded=low or None,
            run=run,
            start=start,
            validation=checked,
            replace_run=replace,
            **stated,
        )
    except KeyboardInterrupt as stopped:
        typer.echo(str(stopped) or "stopped before the first step", err=True)
        if (run / "last.safetensors").exists():
            typer.echo(f"weights so far: {run / 'last.safetensors'}", err=True)
        raise
    finally:
        shelf.clear(run)
    if int(os.environ.get("RANK", 0)) == 0:
        typer.echo(f"weights: {run / 'last.safetensors'}")
        typer.echo(_gain(model, checked or _few(references, low, model.scale), "validation" if checked else "training"))


def _few(references, degraded, scale: int) -> dict:
    """A part of up to eight training photos, or pairs, for a first look."""
    side, few = 64 * scale if scale > 1 else 256, {}
    for name in list(references)[:8]:
        image = references[name][:side, :side]
        low = degraded[name][: side // scale, : side // scale] if degraded else None
        if min(image.shape[:2]) >= 4 * scale:
            few[name] = image if low is None else (low, image[: low.shape[0] * scale, : low.shape[1] * scale])
    return few


def _gain(model, photos: dict, kind: str) -> str:
    """What the model gained over its input, in words."""
    from rvlib import evaluate as evaluation
    from rvlib import measures, recipes

    if not photos:
        return "not measured: no photo is large enough"
    pairs = recipes.validation_pairs(photos, model)
    restorers = {**evaluation.baseline(model.task, model.scale), ("model", "this run"): evaluation.with_model(model)}
    if model.needs_reference:
        return "not measured: stage 1 of DiffIR sees the reference; stage 2 restores photos"
    chosen = measures.for_task(model.task, model.scale)[:1]
    before, after = (
        evaluation.evaluate(restorers, pairs, set_name=kind, measures=chosen)
        .groupby("method", sort=False)[chosen[0].key]
        .mean()
    )
    name = "bicubic" if model.task == "super-resolution" else "the blurred input"
    seen = "" if kind == "validation" else " (parts of photos that it saw: --validation names others)"
    hint = "" if after > before else "; train longer (--steps), or from released weights (--start)"
    return f"{after:.2f} dB on {len(pairs)} {kind} photos{seen}, {after - before:+.2f} dB against {name}{hint}"


@app.command()
def adapt(
    photos: Annotated[Path, typer.Argument(help="A photo, or a folder of photos of the same kind.")],
    model: Annotated[str, typer.Option(help="Weights to begin with, of a network that enlarges: fsrcnn-x4, ...")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file of weights to write, .safetensors.")],
    steps: Annotated[int, typer.Option(help="Optimizer steps; more than before lengthens the run.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the patches.")] = 0,
    scale: Annotated[int | None, typer.Option(help="Only where the weights cannot tell (FSRCNN, SRCNN).")] = None,
    replace: Annotated[bool, typer.Option(help="Set a run on other photos aside, instead of refusing.")] = False,
):
    """Let a network that enlarges learn from your own photos: from each and its shrunk version.

    The run lies beside the result, in NAME.run: the same command goes on where it was stopped. What is printed is
    measured on the pairs that were learned from. It pays for photos of a kind that the network has not seen;
    for usual photos it gains next to nothing, and may lose. `rvlib evaluate` measures both networks.
    """
    import shutil

    from rvlib.files import make_ready, write_atomically

    if output.suffix != ".safetensors":
        raise UserError(f"{output}: choose a name that ends in .safetensors")
    make_ready(output)
    run = output.with_suffix(".run")
    try:
        network = rvlib.load(model, scale=scale)
        adapted = rvlib.adapt(network, photos, run=run, steps=steps, seed=seed, replace_run=replace)
    except KeyboardInterrupt as stopped:
        typer.echo(str(stopped) or "stopped before the first step", err=True)
        raise
    write_atomically(output, lambda file: shutil.copyfile(run / "last.safetensors", file))
    gain = adapted.after - adapted.before
    told = f"bicubic {adapted.bicubic:.2f} dB, {model} {adapted.before:.2f} dB, adapted {adapted.after:.2f} dB"
    typer.echo(f"the photos' own pairs: {told} ({gain:+.2f})")
    if gain <= 0:
        typer.echo(f"nothing was gained, even on what it learned from: keep {model}, or try more --steps", err=True)
    typer.echo(f"weights: {output}; rvlib restore PHOTO --model {output} -o large.png")


@app.command()
def rehearse(
    profile: Annotated[str, typer.Argument(help="Such as paper.")],
    only: Annotated[str, typer.Option(help="Only trainings with this in their name, such as nafnet.")] = "",
):
    """Take three steps of everything that a profile trains, in its official sizes, on the device that is there."""
    from rvlib.study import rehearsal, tables

    typer.echo(tables.markdown(rehearsal.rehearse(profile, only=only)))


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="A released name or a file of weights.")],
    reference: Annotated[Path, typer.Option(help="A folder of reference photos.")],
    degraded: Annotated[Path | None, typer.Option(help="Their degraded versions, by name; else made anew.")] = None,
    scale: Annotated[int | None, typer.Option(help="Only where the weights cannot tell.")] = None,
    level: Annotated[
        int | None, typer.Option(help="Of noise (grey levels) or JPEG (quality); without it, that of the model's name.")
    ] = None,
    perceptual: Annotated[bool, typer.Option(help="Perceptual measures too, such as LPIPS.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the rows to this CSV.")] = None,
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu, cuda, ...")] = "auto",
):
    """Measure a model on a folder of photos, next to the result without one.

    Super-resolution against bicubic: PSNR and SSIM on luminance, `scale` pixels cropped. Deblurring, noise and JPEG
    against the degraded photo: on RGB, nothing cropped, 3-D SSIM. `accelerate launch -m rvlib evaluate ...` shares the
    photos among GPUs or machines.
    """
    import pandas as pd

    from rvlib import evaluate as evaluation
    from rvlib import measures, official
    from rvlib.checkpoint import RENAMED
    from rvlib.files import make_ready, write_atomically
    from rvlib.pairs import measured_pairs
    from rvlib.recipes import LEVELS, degradation
    from rvlib.study import tables

    if output is not None:
        if not output.name or output.suffix not in ("", ".csv"):
            raise UserError(f"{output}: rows are written as CSV, choose a name that ends in .csv")
        output = output.with_suffix(".csv")
        make_ready(output)
    network, process = rvlib.load(model, scale=scale, device=device), _Share()
    stated = model.rpartition("-")[2]  # official/swinir-denoise-colour-25
    if level is None and network.task in LEVELS and model.startswith("official/") and stated.isdecimal():
        level = int(stated)
    made = degradation(network.task, network.scale, level=level)
    part = slice(process.index, None, process.number)
    pairs, faults, notes = measured_pairs(reference, degraded, made, scale=network.scale, part=part)
    restorers = evaluation.baseline(network.task, network.scale)
    label = "released weights" if model in (*rvlib.released(), *RENAMED) else "this run"
    if official.find(model) is not None:
        label = "official weights"
    restorers[network.method or network.spec["name"], label] = evaluation.with_model(network)
    chosen = measures.for_task(network.task, network.scale, perceptual=perceptual)
    rows = evaluation.evaluate(restorers, pairs, set_name=reference.name, measures=chosen, faults=faults)
    everywhere = process.gather((rows, faults))
    if process.index:
        return
    rows, faults = pd.concat([each[0] for each in everywhere]), [text for each in everywhere for text in each[1]]
    if process.number > 1 and len(rows):  # as one process writes them: the input first, then by photo
        order = {method: place for place, (method, _) in enumerate(restorers)}
        rows = rows.sort_values("photo").sort_values("method", key=lambda each: each.map(order), kind="stable")
    for note in notes:
        _say(f"note: {note}", err=True)
    if len(rows):
        typer.echo(tables.markdown(tables.means(rows)))
    if len(rows) and output is not None:
        write_atomically(output, lambda file: rows.to_csv(file, index=False, errors="surrogateescape"))
    if len(faults) > 1 or (faults and len(rows)):
        for fault in faults:
            _say(f"error: {fault}", err=True)
        faults = [f"{len(faults)} photos could not be measured"]
    if faults:
        raise UserError(faults[0])


@app.command()
def models(as_json: Annotated[bool, typer.Option("--json", help="All that is known of them, as JSON.")] = False):
    """List what `--model` takes: the weights that ship with the project, official ones; and what `create` builds."""
    import json
    from dataclasses import asdict

    import pandas as pd

    from rvlib import checkpoint, complexity, official
    from rvlib.study.tables import markdown

    known = official.listed().values()
    released = [
        {
            "name": name,
            "task": model.task,
            "scale": model.scale,
            "parameters": complexity.parameters(model),
            "MB": f"{(checkpoint.WEIGHTS / f'{name}.safetensors').stat().st_size / 1e6:.1f}",
        }
        for name, model in ((name, rvlib.load(name)) for name in rvlib.released())
    ]
    if as_json:
        listed = [asdict(each) | {"cached": each.is_cached, "place": str(each.place)} for each in known]
        variants = {name: list(method.variants) for name, method in MODELS.items()}
        typer.echo(json.dumps({"released": released, "official": listed, "variants": variants}, indent=1))
        return
    rows = [
        {
            "name": each.name,
            "task": each.task,
            "scale": each.scale,
            "MB": f"{each.size / 1e6:.0f}" if each.size else "unknown",
            "licence": each.licence,
            "trained on": each.trained_on,
            "here": "in the cache" if each.is_cached else "is fetched on first use" if each.urls else "by hand",
            "note": each.note,
        }
        for each in known
    ]
    licence = "Apache-2.0; weights/README.md names the photos they were trained on, and whose licences those have\n"
    typer.echo("released weights, which are here already:\n")
    typer.echo(f"{markdown(pd.DataFrame(released))}\n\n{licence}" if released else "none yet\n")
    typer.echo(f"official weights of the papers, kept in {official.cache()}:\n\n{markdown(pd.DataFrame(rows))}\n")
    typer.echo("by hand: `rvlib fetch NAME` says where from and where to put it\n\n`rvlib.create` and its variants:")
    for name, method in MODELS.items():
        typer.echo(f"{name:10} {', '.join(method.variants)}")


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A released name, an official one or a file of weights.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The ONNX file to write.")],
    precision: Annotated[str, typer.Option(help="fp32, or fp16: half as large.")] = "fp32",
    int8: Annotated[bool, typer.Option("--int8", help="Weights and activations in 8 bits.")] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="With --int8: a folder of photos like those to be restored.")
    ] = None,
    rgb: Annotated[bool, typer.Option("--rgb", help="FSRCNN, SRCNN: take and give RGB, not luminance alone.")] = False,
    scale: Annotated[int | None, typer.Option(help="Only where the weights cannot tell (FSRCNN, SRCNN).")] = None,
):
    """Write a network as ONNX, for phones, browsers and other languages; `restore --model FILE.onnx` runs it here.

    It is compared with torch on three sizes before it is kept. Needs the extra `edge` (onnx, onnxscript, onnxruntime).
    """
    from rvlib import edge
    from rvlib.photos import folder, read

    if output.suffix != ".onnx":
        raise UserError(f"{output}: choose a name that ends in .onnx")
    if int8 and precision != "fp32":
        raise UserError("--int8 is a precision of its own: leave --precision out")
    if calibration and not int8:
        raise UserError("--calibration is for --int8: leave it out")
    network = rvlib.load(model, scale=scale)
    photos = [read(path) for path in folder(calibration)[:32]] if calibration else None
    precision = "int8" if int8 else precision
    difference = edge.export(network, output, precision=precision, rgb=rgb, calibration=photos)
    size = output.stat().st_size / 1e6
    typer.echo(f"{output}: {size:.1f} MB, opset {edge.OPSET}, at most {difference:.1e} (of 1) away from torch's result")


@app.command()
def cells(params: Annotated[Path, typer.Option(help="Parameters of a profile.")] = Path("params.yaml")):
    """Cut the training cells and the code that they use out of everything else, for the pipeline."""
    from rvlib.study import cells

    cells.write(params)


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="Such as fsrcnn.")],
    params: Annotated[
        Path | None, typer.Option(help="Parameters of a profile; without, refresh the stored one.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Run only the cells with this tag.")] = None,
):
    """Run a notebook from its text twin: with a profile's parameters, or to refresh its stored outputs."""
    from rvlib.study import notebooks

    if params is None:
        notebooks.refresh(name)
    else:
        notebooks.run(name, params, only=only)


@app.command()
def release(params: Annotated[Path, typer.Option(help="Parameters of a profile.")] = Path("params.yaml")):
    """Copy the weights that a profile trained to their folder, with model cards."""
    from rvlib.study.release import release

    release(params)


def main() -> None:
    """Run the command line; what the user can mend is said in one line, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # of file names that are no text
    warnings.formatwarning = _one_line
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it finds odd is in the errors that are shown
    try:
        sys.exit(app(standalone_mode=False))  # 130 after Ctrl-C
    except UserError as error:
        sys.exit(f"error: {_on_one_line(error)}")
    except typer.Abort:
        sys.exit("stopped")
    except BrokenPipeError:  # `rvlib models | head`
        os._exit(0)
    except MemoryError:
        sys.exit("error: there is not enough memory for this")
    except OSError as error:
        if error.errno is None:
            raise
        sys.exit(f"error: {error.filename or 'a file'} could not be used {reason_of(error)}")
    except Exception as error:
        if hasattr(error, "show"):  # a wrong option, typer's own
            error.show()
            sys.exit(2)
        raise


def _say(message: str, *, err: bool = False) -> None:
    """Print a line that may hold names of files."""
    typer.echo(_on_one_line(message), err=err)


def _on_one_line(message: object) -> str:
    """A message in which line breaks and escape codes, which names of files may hold, are seen and not obeyed."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in str(message))


def _in_short(error: Exception) -> str:
    """The beginning of an error that says much, as a part of one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2])[:200]


def _one_line(message: Warning | str, *_, **__) -> str:
    return f"warning: {_on_one_line(message)}\n"


if __name__ == "__main__":
    main()
