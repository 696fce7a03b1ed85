"""Profiles on the command line: the section of a parameters file that says how a method is trained.

`params.yaml` is the laptop profile, `profiles/<name>/params.yaml` are the others; the notebooks train by the same
sections.
"""

from pathlib import Path

import yaml

import rvlib
from rvlib import photos, study
from rvlib.errors import UserError
from rvlib.recipes import RECIPES
from rvlib.settings import KINDS

CHOICES = {*KINDS, "patch_size", "augment", "loss", "scale"}
"""What a profile and `--set` may say about a training."""

DEFAULT = "laptop"
"""The profile that `rvlib train` takes where none is named."""


def file(profile: str | None) -> Path:
    """The parameters file of a profile; raises UserError where there is none."""
    is_default = profile in (None, DEFAULT)
    path = rvlib.ROOT / "params.yaml" if is_default else rvlib.ROOT / "profiles" / profile / "params.yaml"
    if not path.is_file():
        known = sorted(each.parent.name for each in (rvlib.ROOT / "profiles").glob("*/params.yaml"))
        raise UserError(f"there is no profile {profile!r} ({path}): choose one of {', '.join([DEFAULT, *known])}")
    return path


def settings(profile: str | None, method: str, section: str | None = None) -> dict:
    """What a profile says about training a method, as `recipes.train` takes it; nothing for a method it has not.

    `section` is "notebook.entry", by default the first that the method's recipe names. Without a profile it is the
    laptop's, where there is a checkout that has it.
    """
    is_named = section is not None
    section = section or next(iter(RECIPES[method].sections), None)
    if section is None or (profile is None and not (rvlib.ROOT / "params.yaml").is_file()):
        return {}
    notebook, *entries = section.split(".")
    found = _section(profile, notebook)
    for name in entries:
        if not isinstance(found.get(name), dict):
            raise UserError(f"{file(profile)} has no section {section}, which would say how {method} is trained")
        found = found[name]
    stated = {name: value for name, value in found.items() if name in CHOICES | {"arguments", "start"}}
    if is_named and not stated:
        raise UserError(f"section {section} of {file(profile)} does not say how to train: name one of its entries")
    return stated


def training_photos(profile: str | None, method: str, section: str | None = None) -> dict[str, dict[str, Path]]:
    """The files that a profile trains a method on, by "set/photo": {"references": ..., "degraded": ...}.

    A notebook's `train_sets`, or those of the entry alone: `deblurring_train_sets` for "diffir.deblurring".
    """
    notebook, _, entry = (section or next(iter(RECIPES[method].sections), "")).partition(".")
    found = _section(profile, notebook) if notebook else {}
    if "train_sets" not in found:
        raise UserError(f"{file(profile)} names no train_sets for {method}: name a folder of photos (--photos)")
    try:
        data = study.data(profile or DEFAULT)
    except UserError as error:
        raise UserError(f"{error}; or name a folder of photos of your own (--photos)") from None
    names = found.get(f"{entry}_train_sets") or found["train_sets"]
    sides = {"references": "reference", "degraded": "degraded"}
    return {side: photos.files_of(data, names, split="train", role=role) for side, role in sides.items()}


def validation_set(profile: str, method: str) -> str:
    """The set whose validation photos a profile's trainings of a method are measured on."""
    return _section(profile, method).get("validation_set", "samples")


def _section(profile: str | None, notebook: str) -> dict:
    """What a profile hands to a notebook."""
    from rvlib.study import notebooks  # here, because it brings all of Jupyter

    parameters = file(profile)
    content = notebooks.read_parameters(parameters)
    if not content.get("methods"):
        raise UserError(f"{parameters} trains nothing: choose the profile laptop, release or paper")
    return notebooks.section(content, notebook, parameters)


def assignments(words: list[str], option: str) -> dict:
    """`name=value` words as a dict; values are YAML, so that numbers, lists, true and null are what they look like."""
    found = {}
    for word in words:
        name, is_given, value = word.partition("=")
        if not name or not is_given:
            example = "embed=32" if option == "--argument" else "steps=1000"
            raise UserError(f"{option} {word!r} is no name=value, such as {option} {example}")
        try:
            found[name.strip()] = _number(yaml.safe_load(value))
        except yaml.YAMLError:
            raise UserError(f"{option} {word!r}: {value!r} is no number, list or word") from None
    return found


def _number(value: object) -> object:
    """1e-4 is a word to YAML, for want of a dot."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
