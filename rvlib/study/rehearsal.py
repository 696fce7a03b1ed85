"""A rehearsal: three steps of everything that a profile trains, in its official sizes, before weeks are spent on it."""

import tempfile
from pathlib import Path

import pandas as pd
import torch

from rvlib import complexity, photos, recipes
from rvlib.errors import UserError
from rvlib.study import profiles

STEPS = 3


def trainings() -> list[tuple[str, str]]:
    """(method, section) of everything that is trained, each after what it starts from."""
    found = [(name, section) for name, recipe in recipes.RECIPES.items() for section in recipe.sections]
    return sorted(found, key=lambda each: bool(recipes.RECIPES[each[0]].starts_from))


def rehearse(profile: str, *, only: str = "") -> pd.DataFrame:
    """Train each method of a profile for three steps; returns one row each, with the time of a step and of all steps.

    On a GPU with whole batches, elsewhere with one pair of patches, which says that everything fits together and
    nothing of time. The photo is one that scikit-image brings. `only` keeps the trainings whose name has it.
    """
    photo = {"coffee": photos.sample("coffee")}
    on_gpu, models, rows = torch.cuda.is_available(), {}, []
    wanted = {each for each in trainings() if only in " ".join(each)}
    if not wanted:
        known = ", ".join(dict.fromkeys(name for name, _ in trainings()))
        raise UserError(f"no training has {only!r} in its name: choose among {known}")
    wanted |= {_start(*each) for each in wanted}
    for method, section in trainings():
        if (method, section) not in wanted:
            continue
        stated = profiles.settings(profile, method, section)
        whole = stated.get("steps", recipes.RECIPES[method].settings.steps)
        size = stated.get("batch_size", recipes.RECIPES[method].settings.batch_size)
        facts = {**stated, "steps": STEPS, "validate_every": STEPS}
        if not on_gpu:
            facts |= {"batch_size": 1, "accumulate": 1}
        with tempfile.TemporaryDirectory() as folder:
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            facts = {"start": models.get(_start(method, section)), **facts}
            model, log = recipes.train(method, photo, run=Path(folder) / "run", **facts)
        models[method, section] = model
        seconds = log["seconds"].iloc[-1] / STEPS
        row = {"training": method, "section": section, "parameters": complexity.parameters(model)}
        row |= {"pairs in a step": size if on_gpu else f"1 of {size}", "seconds a step": round(seconds, 2)}
        if on_gpu:
            row["GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
            row["days for all steps"] = round(seconds * whole / 86_400, 2)
        rows.append({**row, "steps": whole})
    return pd.DataFrame(rows)


def _start(method: str, section: str) -> tuple[str, str] | None:
    """The training that another one goes on from: of the same section, if there is one."""
    begun_from = recipes.RECIPES[method].starts_from
    if not begun_from:
        return None
    sections = recipes.RECIPES[begun_from].sections
    return begun_from, section if section in sections else sections[0]
