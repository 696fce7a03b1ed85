"""`rvlib train` and `rvlib adapt`: a network of your own photos."""

from pathlib import Path
from typing import Annotated

import typer

import rvlib
from rvlib.commands import Scale, Share, say
from rvlib.errors import UserError
from rvlib.models import METHODS


def train(
    method: Annotated[str, typer.Argument(help=", ".join(name for each in METHODS.values() for name in each.recipes))],
    run: Annotated[Path, typer.Option(help="The folder of this run; started again, it resumes where it stopped.")],
    photos: Annotated[
        Path | None, typer.Option(help="A folder of photos to train on; without it, the profile's sets.")
    ] = None,
    degraded: Annotated[
        Path | None,
        typer.Option(help="Their degraded versions, by name; without them, the command degrades the photos itself."),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            help="Photos, or pairs in reference/ and degraded/; the weights that do best on them are best.safetensors."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Weights to continue from: a name, a file or a run's folder; '' for fresh ones."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="The profile whose settings count: laptop (if none is named), release, paper."),
    ] = None,
    section: Annotated[
        str | None, typer.Option(help="Another section of it than the method's own, such as diffir.deblurring.")
    ] = None,
    scale: Annotated[int | None, typer.Option(help="Of super-resolution, 4 without it.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps, the section's without it; more than before lengthens a run.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs of patches in a step.")] = None,
    patch_size: Annotated[int | None, typer.Option(help="Side of the reference patch.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The largest of the schedule.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Steps between two rows of the log.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of fresh weights, photos' order, patches and noise.")] = None,
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

    is_first = Share().index == 0
    if method not in recipes.RECIPES:
        raise UserError(f"there is no recipe for {method!r}: choose one of {', '.join(recipes.RECIPES)}")
    stated = profiles.settings(profile, method, section)
    given = {"steps": steps, "batch_size": batch_size, "patch_size": patch_size, "learning_rate": learning_rate}
    given |= {"validate_every": validate_every, "scale": scale, "seed": seed}
    stated |= {name: value for name, value in given.items() if value is not None}
    chosen = profiles.assignments(choices or [], "--set")
    for name in chosen.keys() - profiles.CHOICES - {"processes"}:
        raise UserError(f"unknown setting {name!r}: choose among {', '.join(sorted(profiles.CHOICES))}")
    stated |= chosen
    if steps is not None and "warmup_steps" in stated and "warmup_steps" not in chosen:  # the section's own is longer
        stated["warmup_steps"] = min(stated["warmup_steps"], steps // 10)
    network = profiles.assignments(argument or [], "--argument")
    stated["start"] = (stated.get("start") if start is None else start) or None
    stated["arguments"] = network if stated["start"] else {**(stated.get("arguments") or {}), **network}
    if photos is None and degraded is not None:
        raise UserError("--degraded needs the photos that it belongs to: name their folder (--photos)")
    sides = own_files(photos, degraded) if photos else profiles.training_photos(profile, method, section)
    checked = own_validation(validation, degraded) if validation else None
    try:
        references, low = (shelf.shared(read_each(side), run, name) for name, side in sides.items())
        if is_first:
            _say_small(references, stated.get("patch_size") or recipes.RECIPES[method].patch_size)
        model, _ = recipes.train(
            method,
            references,
            degraded=low or None,
            run=run,
            validation=checked,
            replace_run=replace,
            **stated,
        )
    except KeyboardInterrupt as stopped:
        typer.echo(str(stopped) or "stopped: run the same command again; it resumes if something was saved", err=True)
        if (run / "last.safetensors").exists():
            typer.echo(f"weights so far: {run / 'last.safetensors'}", err=True)
        raise
    finally:
        shelf.clear(run)
    if is_first:
        typer.echo(f"weights: {run / 'last.safetensors'}")
        typer.echo(_gain(model, checked or _few(references, low, model.scale), "validation" if checked else "training"))


def _say_small(references, size: object) -> None:
    """Name the photos that no patch can be cut from, where others are left; what is no size is refused later."""
    small = [name for name, photo in references.items() if isinstance(size, int) and min(photo.shape[:2]) < size]
    if 0 < len(small) < len(references):
        told = ", ".join(small if len(small) <= 3 else [*small[:3], "..."])
        left = f"{len(small)} of {len(references)} photos left out"
        say(f"note: {left}, smaller than a patch of {size} pixels: {told}", err=True)


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
    if model.needs_reference:
        return "not measured: stage 1 of DiffIR sees the reference; stage 2 restores photos"
    baseline = evaluation.baseline(model.task, model.scale)
    restorers = {**baseline, ("model", "this run"): evaluation.with_model(model)}
    chosen = measures.for_task(model.task, model.scale)[:1]
    before, after = (
        evaluation.evaluate(restorers, pairs, set_name=kind, measures=chosen)
        .groupby("method", sort=False)[chosen[0].key]
        .mean()
    )
    ((kind_of_input, label),) = baseline
    name = kind_of_input if model.task == "super-resolution" else f"the {label}"
    seen = "" if kind == "validation" else " (parts of photos that it saw: --validation names others)"
    hint = "" if after > before else "; train longer (--steps), or from released weights (--start)"
    number = f"{len(pairs)} {kind} photo{'' if len(pairs) == 1 else 's'}"
    return f"{after:.2f} dB on {number}{seen}, {after - before:+.2f} dB against {name}{hint}"


def adapt(
    photos: Annotated[Path, typer.Argument(help="A photo, or a folder of photos of the same kind.")],
    model: Annotated[str, typer.Option(help="Weights to begin with, of a network that enlarges: fsrcnn-x4, ...")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The file of weights to write, .safetensors.")],
    steps: Annotated[int, typer.Option(help="Optimizer steps; more than before lengthens the run.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the patches.")] = 0,
    scale: Scale = None,
    replace: Annotated[bool, typer.Option(help="Set a run on other photos aside, instead of refusing.")] = False,
):
    """Let a network that enlarges learn from your own photos: from each and its shrunk version.

    The run lies beside the result, in NAME.run: the same command resumes where it was stopped. What is printed is
    measured on the pairs that were learned from. It can help with photos of one kind; with
    ordinary photos it gains next to nothing, and may lose. `rvlib evaluate` measures both networks.
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
        typer.echo(str(stopped) or "stopped: run the same command again; it resumes if something was saved", err=True)
        raise
    write_atomically(output, lambda file: shutil.copyfile(run / "last.safetensors", file))
    gain = adapted.after - adapted.before
    told = f"bicubic {adapted.bicubic:.2f} dB, {model} {adapted.before:.2f} dB, adapted {adapted.after:.2f} dB"
    typer.echo(f"the photos' own pairs: {told} ({gain:+.2f})")
    if gain <= 0:
        typer.echo(f"nothing was gained, even on what it learned from: keep {model}, or try more --steps", err=True)
    typer.echo(f"weights: {output}; rvlib restore PHOTO --model {output} -o large.png")
