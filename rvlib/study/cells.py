"""What a training stage depends on: its cells and the code that they use, cut out of everything else.

DVC compares files. A training depends on a file made here, which changes with what the training computes and not with a
notebook's prose, a figure, a colour or a docstring: DVC and `rvlib.runs` agree on what is the same run.
"""

import ast
import json
from pathlib import Path

import rvlib
from rvlib import fingerprint
from rvlib.checkpoint import WEIGHTS, read_metadata
from rvlib.files import sha256, write_text
from rvlib.losses import PIXEL_LOSSES
from rvlib.pairs import Patches
from rvlib.recipes import METHOD_OF, RECIPES, degradation
from rvlib.settings import stated
from rvlib.study import notebooks
from rvlib.train import Training

ELSEWHERE = {f"rvlib.{module}" for module in ("recipes", "train", "models", "checkpoint", "photos", "study")}
"""Modules in which cells find what counts here by itself: recipes, networks, weights, and photos (data/<profile>)."""


def write(parameters: Path) -> None:
    """Write for each method `<method>.json`, what its training computes, and `<method>.py`, its notebook's text."""
    content = notebooks.read_parameters(parameters)
    methods = notebooks.section(content, "methods", parameters)
    folder = rvlib.ROOT / "runs" / content["profile"] / "cells"
    # stages that look into these folders do so for a profile without a training too
    for place in (folder, rvlib.ROOT / "reports" / content["profile"] / "methods"):
        place.mkdir(parents=True, exist_ok=True)
    for name, section in methods.items():
        twin = notebooks.NOTEBOOKS / "text" / f"{notebooks.find(name)}.py"
        text = json.dumps(computed(name, section or {}), indent=1, sort_keys=True)
        write_text(folder / f"{name}.json", text)
        write_text(folder / f"{name}.py", twin.read_text())


def computed(name: str, section: dict) -> dict:
    """What the training cells of a notebook compute with a section of parameters: themselves, and all that they use."""
    wanted = {"training", "parameters"}
    cells = [cell for cell in notebooks.read_twin(name).cells if wanted & set(cell.metadata.get("tags", []))]
    tree = ast.parse("\n".join(cell.source for cell in cells))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    words |= named(section, "start")  # weights that a training goes on from
    weights = {each: WEIGHTS / f"{each}.safetensors" for each in sorted(words & set(rvlib.released()))}
    words |= {read_metadata(file)["training"]["method"] for file in weights.values()}  # of which one continues
    return {
        "cells": fingerprint.digest(tree),
        "code": fingerprint.used(tree, without=ELSEWHERE),
        "recipes": {each: recipe(each, section) for each in sorted(words & RECIPES.keys())},
        "weights": {each: sha256(file) for each, file in weights.items()},
    }


def recipe(method: str, section: dict) -> dict:
    """A recipe's settings and the digests of all code that a run of it uses, with what a section names or its own."""
    chosen, family = RECIPES[method], METHOD_OF[method]
    tasks = [each for each in family.tasks if each in {family.tasks[0], *named(section, "task")}]
    degradations = [degradation(task, 4, training=True) for task in tasks]  # another scale is in the section
    losses = {chosen.loss, *named(section, "loss")} & PIXEL_LOSSES.keys()
    roots = [Training, Patches, family.builder, chosen.prepare, *map(type, degradations)]
    return {
        "settings": stated(chosen.settings),
        "loss": chosen.loss,
        "patch_size": chosen.patch_size,
        "arguments": chosen.arguments,
        "degradations": list(map(repr, degradations)),
        "code": fingerprint.code(*roots, *(PIXEL_LOSSES[each] for each in losses)),
    }


def named(section: dict, key: str) -> set[str]:
    """The words that a section of parameters has by a key, at any depth."""
    found = {section[key]} if isinstance(section.get(key), str) else set()
    return found.union(*(named(value, key) for value in section.values() if isinstance(value, dict)))
