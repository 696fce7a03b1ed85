"""The command line: restore photos, fetch data, train, evaluate, list models, run notebooks."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

import rvlib
from rvlib.errors import UserError
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

    batch = Batch(photos, output, recursive=recursive, suffix=suffix)
    network = rvlib.load(model, scale=scale, device=device)
    if compiled:
        import torch

        network = torch.compile(network)
    options = {"tile": tile, "self_ensemble": self_ensemble, "precision": precision}
    done, skipped, faults = 0, 0, []
    try:
        for photo, target in tqdm(batch.jobs, unit="photo", disable=len(batch.jobs) == 1):
            if target.exists() and not overwrite:
                skipped += 1
                continue
            try:
                batch.restore(network, photo, target, compare=compare, **options)
                done += 1
            except UserError as error:
                faults.append(str(error))
    except KeyboardInterrupt:
        left = len(batch.jobs) - done - skipped - len(faults)
        typer.echo(f"stopped: {done} restored, {left} left; the same command goes on from there", err=True)
        raise
    for fault in faults if len(batch.jobs) > 1 else []:
        typer.echo(f"error: {fault}", err=True)
    if skipped:
        typer.echo(f"{skipped} of {len(batch.jobs)} were there already: --overwrite restores them again", err=True)
    if faults:
        raise UserError(faults[0] if len(batch.jobs) == 1 else f"{len(faults)} of {len(batch.jobs)} photos failed")
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
    from rvlib.photos import folder, pair_folder, read

    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "validate_every": validate_every,
        "seed": seed,
    }
    pairs = pair_folder(degraded, photos) if degraded else [(None, path) for path in folder(photos)]
    try:
        recipes.train(
            method,
            {path.stem: read(path) for _, path in pairs},
            run=run,
            degraded={path.stem: read(path) for path, _ in pairs} if degraded else None,
            start=rvlib.load(start) if start else None,
            validation={path.name: read(path) for path in folder(validation)} if validation else None,
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
    from rvlib.pairs import photo_pairs
    from rvlib.photos import folder, pair_folder, read
    from rvlib.recipes import degradation
    from rvlib.study import tables

    network = rvlib.load(model, scale=scale)
    if degraded is not None:
        pairs = {high.name: (read(low), read(high)) for low, high in pair_folder(degraded, reference)}
    else:
        photos = {path.name: read(path) for path in folder(reference)}
        pairs = photo_pairs(photos, degradation(network.task, network.scale))
    restorers = evaluation.baseline(network.task, network.scale)
    label = "released weights" if model in (*rvlib.released(), *RENAMED) else "this run"
    restorers[network.method or network.spec["name"], label] = evaluation.with_model(network)
    chosen = measures.for_task(network.task, network.scale, perceptual=perceptual)
    rows = evaluation.evaluate(restorers, pairs, set_name=reference.name, measures=chosen)
    typer.echo(tables.markdown(tables.means(rows)))
    if output is not None:
        tables.write(rows, output)


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


def _one_line(message: Warning | str, *_, **__) -> str:
    return f"warning: {message}\n"


def main() -> None:
    """Run the command line; what the user can mend is said in one line, without a traceback."""
    warnings.formatwarning = _one_line
    try:
        sys.exit(app(standalone_mode=False))  # 130 after Ctrl-C
    except UserError as error:
        sys.exit(f"error: {error}")
    except typer.Abort:
        sys.exit("stopped")
    except BrokenPipeError:  # `rvlib models | head`
        os._exit(0)
    except Exception as error:
        if hasattr(error, "show"):  # a wrong option, typer's own
            error.show()
            sys.exit(2)
        raise


if __name__ == "__main__":
    main()
