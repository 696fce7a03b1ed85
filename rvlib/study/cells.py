"""What a training stage depends on: its cells and the code that they use, cut out of everything else.

DVC compares files. A training depends on a file made here, which changes with what the training computes and not with a
notebook's prose, a figure, a colour or a docstring: DVC and `rvlib.runs` agree on what is the same run.
"""

import ast
import json
from pathlib import Path

import rvlib
from rvlib import fingerprint
from rvlib.files import write_text
from rvlib.losses import PIXEL_LOSSES
from rvlib.pairs import Patches
from rvlib.recipes import METHOD_OF, RECIPES, degradation
from rvlib.settings import stated
from rvlib.study import notebooks
from rvlib.train import Training


def write(parameters: Path) -> None:
    """Write for each method `<method>.json`, what its training computes, and `<method>.py`, its notebook's text."""
    content = notebooks.read_parameters(parameters)
    folder = rvlib.ROOT / "runs" / content["profile"] / "cells"
    # stages that look into these folders do so for a profile without a training too
    for place in (folder, rvlib.ROOT / "reports" / content["profile"] / "methods"):
        place.mkdir(parents=True, exist_ok=True)
    for name in content["methods"]:
        twin = notebooks.NOTEBOOKS / "text" / f"{notebooks.find(name)}.py"
        text = json.dumps(computed(name, content["methods"][name] or {}), indent=1, sort_keys=True)
        write_text(folder / f"{name}.json", text)
        write_text(folder / f"{name}.py", twin.read_text())


def computed(name: str, section: dict) -> dict:
    """What the training cells of a notebook compute with a section of parameters: themselves, and recipes they name."""
    wanted = {"training", "parameters"}
    cells = [cell for cell in notebooks.read_twin(name).cells if wanted & set(cell.metadata.get("tags", []))]
    tree = ast.parse("\n".join(cell.source for cell in cells))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    recipes = {each: recipe(each, losses(section)) for each in sorted(words & RECIPES.keys())}
    return {"cells": fingerprint.digest(tree), "recipes": recipes}


def losses(section: dict) -> set[str]:
    """The pixel losses that a section of parameters names, at any depth."""
    found = {section["loss"]} & PIXEL_LOSSES.keys() if isinstance(section.get("loss"), str) else set()
    return found.union(*(losses(value) for value in section.values() if isinstance(value, dict)))


def recipe(method: str, losses: set[str]) -> dict:
    """A recipe's settings and the digests of all code that a run of it uses, with these losses or its own."""
    chosen = RECIPES[method]
    model = rvlib.create(METHOD_OF[method].network, **chosen.arguments)
    roots = [type(module) for module in model.modules() if type(module).__module__.startswith("rvlib")]
    roots += [PIXEL_LOSSES[each] for each in {chosen.loss, *losses}]
    roots += [Training, Patches, chosen.prepare, type(degradation(model.task, model.scale, training=True))]
    settings = {"settings": stated(chosen.settings), "loss": chosen.loss, "patch_size": chosen.patch_size}
    return settings | {"arguments": chosen.arguments, "code": fingerprint.code(*roots)}
