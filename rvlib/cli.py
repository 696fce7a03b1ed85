"""The command line: restore photos, fetch data, train, evaluate, list models, run notebooks."""

import logging
import os
import sys
import warnings
from collections import Counter
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


@app.command()
def restore(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos, to restore.")],
    model: Annotated[str, typer.Option(help="A released name or a file of weights.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File for one photo, folder for several.")],
    recursive: Annotated[bool, typer.Option(help="Folders with the folders in them.")] = False,
    suffix: Annotated[str, typer.Option(help="Added to the names of restored photos, such as _x4.")] = "",
    overwrite: Annotated[bool, typer.Option(help="Restore again what is there already.")] = False,
    compare: Annotated[bool, typer.Option(help="Also write NAME.compare.png: before and after, side by side.")] = False,
    tile: Annotated[int | None, typer.Option(help="Side of tiles in pixels; without it, what memory allows.")] = None,
    self_ensemble: Annotated[bool, typer.Option(help="Average over eight turned versions: better, slower.")] = False,
    scale: Annotated[int | None, typer.Option(help="Only where the weights cannot tell (FSRCNN, SRCNN).")] = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16: faster, a grey level off here and there.")] = "fp32",
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile", help="Compile first: for many photos on a GPU.")] = False,
):
    """Restore photos with any model; what is restored already is skipped, so that a stopped command can go on."""
    from tqdm import tqdm

    from rvlib.batch import Batch

    batch = Batch(photos, output, recursive=recursive, suffix=suffix, compare=compare)
    network = rvlib.load(model, scale=scale, device=device)
    if compiled:
        import torch

        network = torch.compile(network)
    options = {"tile": tile, "self_ensemble": self_ensemble, "precision": precision}
    done, skipped, faults, notes = 0, 0, [], Counter(batch.notes)
    try:
        for photo, target in tqdm(batch.jobs, unit="photo", disable=len(batch.jobs) == 1):
            if os.path.exists(target) and not overwrite:
                skipped += 1
                continue
            try:
                notes.update(batch.restore(network, photo, target, compare=compare, **options))
                done += 1
            except UserError as error:
                faults.append(str(error))
            except Exception as error:
                if compiled and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                    raise UserError(f"--compile failed ({_in_short(error)}): leave it out") from None
                raise
    except KeyboardInterrupt:
        left = len(batch.jobs) - done - skipped - len(faults)
        typer.echo(f"stopped: {done} restored, {left} left; the same command goes on from there", err=True)
        raise
    for note, count in notes.items():
        typer.echo(f"note: {note}{f' ({count} photos)' if count > 1 else ''}", err=True)
    if skipped:
        typer.echo(f"{skipped} of {len(batch.jobs)} were there already: --overwrite restores them again", err=True)
    if faults and len(batch.jobs) > 1:
        batch.faults += faults
        faults = [f"{len(faults)} of {len(batch.jobs)} photos failed"]
    elif batch.faults and not faults:
        faults = [f"{len(batch.faults)} folders may not be read"]
    for fault in batch.faults:
        typer.echo(f"error: {fault}", err=True)
    if faults:
        raise UserError(faults[0])
    typer.echo(f"{done} restored: {output}")


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

    wanted = [official.find(name) for name in names or [] if name.startswith(official.PREFIX)]
    for each in wanted:
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
    from rvlib import profiles, recipes, shelf
    from rvlib.pairs import own_files, own_validation, read_each

    if method not in recipes.RECIPES:
        raise UserError(f"there is no recipe for {method!r}: choose one of {', '.join(recipes.RECIPES)}")
    stated = profiles.settings(profile, method, section)
    given = {"steps": steps, "batch_size": batch_size, "patch_size": patch_size, "learning_rate": learning_rate}
    given |= {"validate_every": validate_every, "scale": scale}
    stated |= {name: value for name, value in given.items() if value is not None}
    stated |= {"seed": seed} | profiles.assignments(choices or [], "--set")
    network = profiles.assignments(argument or [], "--argument")
    stated["arguments"] = network if start else {**(stated.get("arguments") or {}), **network}
    if photos is None and degraded is not None:
        raise UserError("--degraded needs the photos that it belongs to: name their folder (--photos)")
    sides = own_files(photos, degraded) if photos else profiles.training_photos(profile, method)
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
    hint = "" if after > before else "; train longer (--steps)"
    return f"{after:.2f} dB on {len(pairs)} {kind} photos{seen}, {after - before:+.2f} dB against {name}{hint}"


@app.command()
def rehearse(
    profile: Annotated[str, typer.Argument(help="Such as paper.")],
    only: Annotated[str, typer.Option(help="Only trainings with this in their name, such as nafnet.")] = "",
):
    """Take three steps of everything that a profile trains, in its official sizes, on the device that is there."""
    from rvlib import rehearsal
    from rvlib.study import tables

    typer.echo(tables.markdown(rehearsal.rehearse(profile, only=only)))


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="A released name or a file of weights.")],
    reference: Annotated[Path, typer.Option(help="A folder of reference photos.")],
    degraded: Annotated[Path | None, typer.Option(help="Their degraded versions, by name; else made anew.")] = None,
    scale: Annotated[int | None, typer.Option(help="Only where the weights cannot tell.")] = None,
    perceptual: Annotated[bool, typer.Option(help="Perceptual measures too, such as LPIPS.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the rows to this CSV.")] = None,
):
    """Measure a model on a folder of photos, next to the result without one.

    Super-resolution against bicubic: PSNR and SSIM on luminance, `scale` pixels cropped. Deblurring against the blurred
    photo: on RGB, nothing cropped, 3-D SSIM.
    """
    from rvlib import evaluate as evaluation
    from rvlib import measures
    from rvlib.checkpoint import RENAMED
    from rvlib.files import make_ready, write_atomically
    from rvlib.pairs import measured_pairs
    from rvlib.recipes import degradation
    from rvlib.study import tables

    if output is not None:
        if output.suffix not in ("", ".csv"):
            raise UserError(f"{output}: rows are written as CSV, choose a name that ends in .csv")
        output = output.with_suffix(".csv")
        make_ready(output)
    network = rvlib.load(model, scale=scale)
    made = degradation(network.task, network.scale)
    pairs, faults, notes = measured_pairs(reference, degraded, made, scale=network.scale)
    restorers = evaluation.baseline(network.task, network.scale)
    label = "released weights" if model in (*rvlib.released(), *RENAMED) else "this run"
    restorers[network.method or network.spec["name"], label] = evaluation.with_model(network)
    chosen = measures.for_task(network.task, network.scale, perceptual=perceptual)
    rows = evaluation.evaluate(restorers, pairs, set_name=reference.name, measures=chosen, faults=faults)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if len(rows):
        typer.echo(tables.markdown(tables.means(rows)))
    if len(rows) and output is not None:
        write_atomically(output, lambda file: rows.to_csv(file, index=False, errors="surrogateescape"))
    if len(faults) > 1 or (faults and len(rows)):
        for fault in faults:
            typer.echo(f"error: {fault}", err=True)
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
def cells(params: Annotated[Path, typer.Option(help="Parameters of a profile.")] = Path("params.yaml")):
    """Cut the training cells and the code that they use out of everything else, for the pipeline."""
    from rvlib.study import cells

    cells.write(params)


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="Such as 04_fsrcnn.")],
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
        sys.exit(f"error: {error}")
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


def _in_short(error: Exception) -> str:
    """The beginning of an error that says much, as a part of one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2])[:200]


def _one_line(message: Warning | str, *_, **__) -> str:
    return f"warning: {message}\n"


if __name__ == "__main__":
    main()
