"""The command line: restore and compare photos, fetch, train, evaluate, list and export models, run the study."""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

import rvlib
from rvlib.commands import Device, Scale, Share, load_chain, on_one_line, say
from rvlib.commands.restore import STATUS, restore
from rvlib.commands.train import adapt, train
from rvlib.errors import UserError
from rvlib.files import reason_of
from rvlib.memory import lacks_memory
from rvlib.models import MODELS
from rvlib.models.base import device_of

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"rvlib {rvlib.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version.")
    ] = False,
):
    """RestoraVision: restore photos and study how."""


app.command(epilog=STATUS)(restore)


@app.command()
def compare(
    photos: Annotated[list[Path], typer.Argument(help="Photos to try the models on.")],
    models: Annotated[str, typer.Option(help="Names or files, with commas; a chain with plus signs: a,b,c+d.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page, such as page.html.")],
    side: Annotated[int, typer.Option(help="Side of the part of each photo that is restored, in pixels.")] = 256,
    device: Device = "auto",
):
    """Restore a part of each photo, where it has most detail, by several models: one page with a slider for each.

    The page needs no internet connection and no server. Seconds and memory of each model are measured on that part.
    """
    from rvlib import compare, originals
    from rvlib.files import make_ready

    if output.suffix != ".html":
        raise UserError(f"{output}: a page is written: choose a name that ends in .html")
    make_ready(output)
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names:
        raise UserError("--models names none: give some, such as fsrcnn-x4,swinir-small-x4")
    parts = {
        str(photo): compare.part(originals.eight_bits(originals.read(photo, exactly=False)), side) for photo in photos
    }
    chains = {name: load_chain(name.split("+"), device=device)[0] for name in dict.fromkeys(names)}
    trials = {photo: (part, compare.trials(chains, part)) for photo, part in parts.items()}
    compare.write(output, trials)
    for photo, (_, tried) in trials.items():
        for name, trial in tried.items():
            say(f"{photo}, {name}: {trial.facts}")
    say(f"{output}: open it in a browser")


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
    if sets and not target and not params.is_file():
        raise UserError(f"{params}, which says where data goes, does not exist: name a folder (--target)")
    content = {} if sets and target else read_parameters(params)
    sets = sets or section(content, "fetch", params).get("sets", [])
    fetch(sets, target or rvlib.ROOT / "downloads" / content["profile"])


@app.command()
def cache():
    """Say where downloaded weights are kept and how large they are.

    What is removed is fetched again when needed, except files put there by hand.
    """
    from rvlib.download import user_cache

    folder = user_cache()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        typer.echo(f"{path.stat().st_size / 1e6:9.1f} MB  {path.relative_to(folder)}")
    typer.echo(f"{sum(path.stat().st_size for path in files) / 1e6:9.1f} MB  {folder}")


app.command()(train)
app.command()(adapt)


@app.command()
def rehearse(
    profile: Annotated[str, typer.Argument(help="Such as paper.")],
    only: Annotated[str, typer.Option(help="Only trainings with this in their name, such as nafnet.")] = "",
):
    """Take three steps of everything that a profile trains, in its official sizes, on the device that is there.

    Without a GPU, with one pair of patches.
    """
    from rvlib.study import rehearsal, tables

    typer.echo(tables.markdown(rehearsal.rehearse(profile, only=only)))


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="A name of `rvlib models`, a file of weights, or a run's folder.")],
    reference: Annotated[Path, typer.Option(help="A folder of reference photos.")],
    degraded: Annotated[
        Path | None,
        typer.Option(help="Their degraded versions, by name; without them, the command degrades the photos itself."),
    ] = None,
    scale: Scale = None,
    level: Annotated[
        int | None,
        typer.Option(
            help="Of noise (grey levels) or JPEG (quality); without it, the number in an official name, else 25 "
            "(noise) or 40 (JPEG)."
        ),
    ] = None,
    perceptual: Annotated[bool, typer.Option(help="Perceptual measures too, such as LPIPS.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the rows to this CSV.")] = None,
    device: Device = "auto",
):
    """Measure a model on a folder of photos, next to the result without one.

    Super-resolution against bicubic: PSNR and SSIM on luminance, `scale` pixels cropped. Deblurring, noise and JPEG
    against the degraded photo: on RGB, nothing cropped, 3-D SSIM. `accelerate launch -m rvlib evaluate ...` shares the
    photos among GPUs or machines.
    """
    import pandas as pd

    from rvlib import evaluate as evaluation
    from rvlib import measures, official
    from rvlib.checkpoint import is_released
    from rvlib.files import make_ready, write_atomically
    from rvlib.pairs import measured_pairs
    from rvlib.recipes import LEVELS, degradation
    from rvlib.study import tables

    if output is not None:
        if not output.name or output.suffix not in ("", ".csv"):
            raise UserError(f"{output}: rows are written as CSV: choose a name that ends in .csv")
        output = output.with_suffix(".csv")
        make_ready(output)
    if level is not None and degraded is not None:
        raise UserError("--level is for photos that the command degrades itself: leave it or --degraded out")
    network, share = rvlib.load(model, scale=scale, device=device), Share()
    stated = model.rpartition("-")[2]  # official/swinir-denoise-colour-25
    if level is None and network.task in LEVELS and model.startswith("official/") and stated.isdecimal():
        level = int(stated)
    made = degradation(network.task, network.scale, level=level)
    part = slice(share.index, None, share.number)
    pairs, faults, notes = measured_pairs(reference, degraded, made, scale=network.scale, part=part)
    restorers = evaluation.baseline(network.task, network.scale)
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    label = "this run" if (folder / "run.json").is_file() else "given weights"
    if is_released(model):
        label = "released weights"
    if official.find(model) is not None:
        label = "official weights"
    restorers[network.method or network.spec["name"], label] = evaluation.with_model(network, device_of(network))
    chosen = measures.for_task(network.task, network.scale, perceptual=perceptual)
    place = reference.resolve()
    is_fetched = place.name == "reference" and place.parent.name in ("train", "validation", "test")
    tested = place.parents[1].name if is_fetched else place.name  # SET/test/reference
    rows = evaluation.evaluate(restorers, pairs, set_name=tested, measures=chosen, faults=faults)
    everywhere = share.gather((rows, faults))
    if share.index:
        return
    rows, faults = pd.concat([each[0] for each in everywhere]), [text for each in everywhere for text in each[1]]
    if share.number > 1 and len(rows):  # as one process writes them: the input first, then by photo
        order = {method: place for place, (method, _) in enumerate(restorers)}
        rows = rows.sort_values("photo").sort_values("method", key=lambda each: each.map(order), kind="stable")
    for note in notes:
        say(f"note: {note}", err=True)
    if len(rows) and output is not None:
        write_atomically(output, lambda file: rows.to_csv(file, index=False, errors="surrogateescape"))
    if len(rows):
        typer.echo(tables.markdown(tables.means(rows)))
    if len(faults) > 1 or (faults and len(rows)):
        for fault in faults:
            say(f"error: {fault}", err=True)
        faults = [f"{len(faults)} photo{'' if len(faults) == 1 else 's'} could not be measured: see above"]
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
            "MB": f"{(checkpoint.WEIGHTS / f'{name}.safetensors').stat().st_size / 1e6:.2f}",
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
    licence = "Apache-2.0; weights/README.md names the photos that they were trained on, and the licences of these\n"
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
    scale: Scale = None,
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
    if calibration and not int8 and precision != "int8":
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
        Path | None, typer.Option(help="Parameters of a profile; without it, refresh the stored notebook.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Run only the cells with this tag.")] = None,
):
    """Run a notebook from its text twin: with a profile's parameters, or to refresh its stored outputs."""
    from rvlib.study import notebooks

    if params is None:
        if only is not None:
            raise UserError("--only is for a run with the parameters of a profile: give --params, too")
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
        sys.exit(f"error: {on_one_line(error)}")
    except typer.Abort:
        sys.exit("stopped")
    except BrokenPipeError:  # `rvlib models | head`
        os._exit(0)
    except OSError as error:
        if error.errno is None:
            raise
        sys.exit(f"error: {error.filename or 'a file'} could not be used {reason_of(error)}")
    except Exception as error:
        if lacks_memory(error):
            sys.exit(
                "error: there is not enough memory: close other programs, or take smaller photos, patches or batches"
            )
        if hasattr(error, "show"):  # a wrong option, typer's own
            error.show()
            sys.exit(2)
        raise


def _one_line(message: Warning | str, *_, **__) -> str:
    return f"warning: {on_one_line(message)}\n"
