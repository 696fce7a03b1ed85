"""What an hour buys: learning curves over the hours of training, of all methods on the same validation photos."""

from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import rvlib
from rvlib import evaluate, measures, study
from rvlib.pairs import Pair, photo_pairs
from rvlib.recipes import METHOD_OF, degradation
from rvlib.runs import parts
from rvlib.study import figures, profiles, provenance, tables

COLUMNS = ["task", "validation", "unit", "after", "weights", "label", "method", "step", "hours", "PSNR", "input"]
"""A point of a curve: hours in the unit, those before on another kind of device in words (after), PSNR in dB."""


@cache
def validated(profile: str, name: str, task: str, scale: int) -> dict:
    """What a profile's runs are validated on: {"set", "photos", "input"}, the last the mean PSNR of the input in dB."""
    pairs = photo_pairs(study.validation(profile, name), degradation(task, scale))
    return {"set": name, "photos": len(pairs), "input": input_psnr(pairs, task, scale)}


def input_psnr(pairs: dict[str, Pair], task: str, scale: int = 1) -> float:
    """Mean PSNR of the degraded photos of pairs in dB, brought to the size of their references."""
    (enlarge,) = evaluate.baseline(task, scale).values()
    psnr = measures.for_task(task, scale)[0]
    return float(np.mean([psnr.compute(enlarge(degraded), reference) for degraded, reference in pairs.values()]))


def points(record: dict) -> pd.DataFrame:
    """The validations in a record of a run: step, hours of training (`unit`), PSNR in dB; empty without any.

    Hours of the same kind that the trainings before took count too. They are NaN where they were not kept or are of
    another kind (`after` tells those). If the run continued a training of the same method, those points come first and
    its steps count.
    """
    method, trainings = record["identity"]["method"], parts(record)
    found, taken = [], 0
    for index, part in enumerate(trainings):
        if part.get("identity", {}).get("method") == method:
            curve = _own_points({**part, "before": trainings[:index]})
            if unit(part) != unit(record):
                curve = curve.assign(hours=float("nan"))
            found.append(curve.assign(step=curve["step"] + taken))
            taken += provenance.last_step(part["log"]) if part.get("log") else 0
    return pd.concat(found, ignore_index=True)


def _own_points(record: dict) -> pd.DataFrame:
    """The points of a record's own training alone."""
    log = pd.DataFrame(record.get("log", []))
    score = measures.psnr_column(log)
    if score is None or "seconds" not in log:
        return pd.DataFrame(columns=["step", "hours", "PSNR"])
    own = provenance.hours(provenance.without_before(record))  # NaN where one part of it was on a GPU and one on a CPU
    begun = provenance.spent(record).get(unit(record), float("nan")) - own
    log = log.assign(hours=begun + log["seconds"] * own / log["seconds"].max()).dropna(subset=[score, "seconds"])
    return pd.DataFrame({"step": log["step"], "hours": log["hours"], "PSNR": log[score]})


def unit(record: dict) -> str:
    """What the hours of a curve are hours of: the last run's, whatever the runs before it were trained on."""
    return provenance.unit(provenance.without_before(record))


def after(record: dict) -> str:
    """The hours before a curve that were spent on another kind of device, in words: "0.05 GPU-hours", or nothing."""
    own = provenance.spent(provenance.without_before(record))
    return provenance.in_words({kind: hours for kind, hours in provenance.spent(record).items() if kind not in own})


def collect(profile: str, runs: dict[str, str], *, task: str | None = None) -> tuple[pd.DataFrame, str]:
    """The learning curves (`COLUMNS`) of a profile's runs and of the released weights, and what was left out and why.

    runs: folder of the run in this profile by name of the weights; those that are not there are left to the released
    ones. Left out is what cannot stand beside others: a run whose validation photos were not kept, or whose last
    training's hours were not kept or are of two kinds.
    """
    made = {name: run for name, run in runs.items() if (study.run_folder(profile, run) / "last.safetensors").exists()}
    given = {(name, study.own(profile)): _own(profile, run) for name, run in made.items()}
    others = study.released_beside(profile) or [name for name in rvlib.released() if name not in made]
    given |= {(name, "released weights"): provenance.record(name) for name in others}
    found, absent = [pd.DataFrame(columns=COLUMNS)], {}
    for (name, label), record in given.items():
        curve, score = points(record), measures.psnr_column(pd.DataFrame(record.get("log", [])))
        its_task = "super-resolution" if score and measures.find(score).crop else "deblurring"
        if score and task not in (None, its_task):
            continue
        reason = _reason(record, curve)
        if reason:
            absent.setdefault(f"{label}, {reason}", []).append(name)
            continue
        validation = record["validation"]
        facts = {
            "task": its_task,
            "validation": f"{validation['set']}, {validation['photos']} photo{'s' * (validation['photos'] > 1)}",
            "unit": unit(record),
            "after": after(record),
            "weights": name,
            "label": label,
            "method": METHOD_OF[record["identity"]["method"]].key,
            "input": validation["input"],
        }
        found.append(curve.dropna(subset="hours").assign(**facts)[COLUMNS])
    left_out = "; ".join(f"{', '.join(names)} ({why})" for why, names in absent.items())
    return pd.concat(found, ignore_index=True), f"left out: {left_out}" if left_out else "all curves are shown"


def _own(profile: str, run: str) -> dict:
    """The record of a profile's own run, with what it was validated on."""
    network = rvlib.load(study.run_folder(profile, run) / "last.safetensors")
    place = profiles.validation_set(profile, run.partition("/")[0])
    record = provenance.run_record(study.run_folder(profile, run))
    return {"validation": validated(profile, place, network.task, network.scale), **record}


def _reason(record: dict, curve: pd.DataFrame) -> str:
    """Why a record has no curve that can stand beside others; empty where it has one."""
    if curve.empty:
        return "which have no learning curve"
    if "validation" not in record:
        return "whose records do not name their validation photos"
    if len(provenance.spent(provenance.without_before(record))) > 1:
        return "whose last training ran on a GPU and on a CPU: their hours cannot be added"
    return "whose hours were not kept" if curve["hours"].isna().iloc[-1] else ""


def figure(curves: pd.DataFrame) -> Figure:
    """Validation PSNR over hours, a panel for each task, set of photos and kind of device; dashed: the input."""
    panels = curves.groupby(["task", "validation", "unit"])
    columns = min(2, panels.ngroups)
    rows = -(-panels.ngroups // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1 + 5 * columns, 4.4 * rows), squeeze=False)
    for axis in axes.flat[panels.ngroups :]:
        axis.set_axis_off()
    for axis, ((task, validation, unit), part) in zip(axes.flat, panels, strict=False):
        for (weights, label), curve in part.groupby(["weights", "label"], sort=False):
            style = {"color": figures.COLORS[curve["method"].iloc[0]], "marker": "o", "markersize": 4}
            several = part.loc[part["method"] == curve["method"].iloc[0], "weights"].nunique() > 1
            name = weights if several else tables.NAMES[curve["method"].iloc[0]]
            begun = f" (after {curve['after'].iloc[0]})" if curve["after"].iloc[0] else ""
            axis.plot(curve["hours"], curve["PSNR"], label=f"{name}, {label}{begun}", **style)
        style = {"color": figures.COLORS["bicubic"], "linestyle": "--"}
        axis.axhline(part["input"].iloc[0], label="input, not restored", **style)
        axis.set(title=f"{task}: {validation}", xlabel=unit, ylabel="validation PSNR in dB", xlim=(0, None))
        axis.margins(y=0.1)
        axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.22))
    return figure
