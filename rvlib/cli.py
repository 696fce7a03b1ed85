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
    sets: Annotated[list[str] | None, typer.Argument(help="Sets by name; without one, those of --params.")] = None,
    params: Annotated[Path, typer.Option(help="Parameters of a profile.")] = Path("params.yaml"),
    target: Annotated[Path | None, typer.Option(help="Folder to fetch into.")] = None,
):
    """Fetch data sets, checked against the manifest; what is there already is kept."""
    from rvlib.study.fetch import fetch
    from rvlib.study.notebooks import read_parameters, section

    content = {} if sets and target else read_parameters(params)
    names = sets or section(content, "fetch", params).get("sets", [])
    fetch(names, target or rvlib.ROOT / "downloads" / content["profile"])


@app.command()
def train(
    method: Annotated[str, typer.Argument(help=", ".join(name for each in METHODS.values() for name in each.recipes))],
    photos: Annotated[Path, typer.Option(help="A folder of photos to train on.")],
    run: Annotated[Path, typer.Option(help="The folder of this run; started again, it goes on where it was.")],
    degraded: Annotated[Path | None, typer.Option(help="Their degraded versions, by name; else made anew.")] = None,
    validation: Annotated[Path | None, typer.Option(help="A folder of photos to choose the best weights on.")] = None,
    start: Annotated[str | None, typer.Option(help="Weights to go on from (srgan: srresnet, diffir-s2: s1).")] = None,
    scale: Annotated[int | None, typer.Option(help="Of super-resolution, 4 without it.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    batch_size: int | None = None,
    patch_size: Annotated[int | None, typer.Option(help="Side of the reference patch.")] = None,
    learning_rate: float | None = None,
    validate_every: int | None = None,
    seed: int = 0,
    replace: Annotated[bool, typer.Option(help="Set another run in that folder aside, instead of refusing.")] = False,
):
    """Train a method on your own photos."""
    from rvlib import recipes
    from rvlib.pairs import own_photos, own_validation

    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "validate_every": validate_every,
        "seed": seed,
    }
    begun_from = rvlib.load(start) if start else None
    references, inputs = own_photos(photos, degraded, method=method, scale=scale, start=begun_from)
    try:
        recipes.train(
            method,
            references,
            run=run,
            degraded=inputs,
            start=begun_from,
            validation=own_validation(validation, degraded, scale=scale) if validation else None,
            scale=scale,
            patch_size=patch_size,
            replace_run=replace,
            **{name: value for name, value in settings.items() if value is not None},
        )
    except KeyboardInterrupt as stopped:
        typer.echo(str(stopped) or "stopped before the first step", err=True)
        raise
    typer.echo(f"weights: {run / 'last.safetensors'}")


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
def models():
    """List the weights that ship with the project, the official ones that `load` reads, and what `create` builds."""
    import pandas as pd

    from rvlib import complexity
    from rvlib.checkpoint import OFFICIAL_TABLE
    from rvlib.study.tables import markdown

    loaded = {name: rvlib.load(name) for name in rvlib.released()}
    rows = [
        {"released": n, "task": m.task, "scale": m.scale, "parameters": complexity.parameters(m)}
        for n, m in loaded.items()
    ]
    licence = "Apache-2.0; weights/README.md names the photos they were trained on, and whose licences those have\n"
    typer.echo(f"{markdown(pd.DataFrame(rows))}\n{licence}" if rows else "no weights are released yet\n")
    typer.echo(f"{markdown(pd.read_csv(OFFICIAL_TABLE))}\n\nmodels of `rvlib.create` and their variants:")
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
