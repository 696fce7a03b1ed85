"""What the README shows of a profile: tables, badges and pictures, made from its rows and never typed."""

import os
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from rvlib import photos
from rvlib.degrade import mod_crop
from rvlib.errors import UserError
from rvlib.files import write_atomically, write_text
from rvlib.measures import find
from rvlib.recipes import RECIPES
from rvlib.study import audit, curves, notebooks, provenance, report, tables

RESULTS = ("<!-- results -->", "<!-- /results -->")
"""Between these two lines the README shows what was measured."""
SUPER_RESOLUTION, DEBLURRING = tables.COMPARISONS


class Comparison(NamedTuple):
    """What the README shows of a comparison."""

    title: str
    sets: list[str]  # the first one orders the rows
    measures: list[str]
    footnote: str


TABLES = {
    SUPER_RESOLUTION: Comparison(
        "Super-resolution by 4",
        ["Set14", "Set5", "Urban100"],
        ["psnr_y_crop4", "lpips_alex_rgb_crop0"],
        audit.GREY_PHOTOS,
    ),
    DEBLURRING: Comparison(
        "Deblurring",
        ["Set14", "GoPro-sample", "GoPro"],
        ["psnr_rgb_crop0", "lpips_alex_rgb_crop0"],
        "Set14 is blurred here by synthetic shake; GoPro-sample are three pairs of GoPro from another project's demo "
        "(whether of its test set is not known). TLC: with the test-time local converter, which the published numbers "
        "of NAFNet have and those measured here have not.",
    ),
}
"""The README's tables."""


def write_results(readme: Path, folder: Path) -> None:
    """Put what a profile measured, from the rows in its reports `folder`, between the markers of a README."""
    text = readme.read_text()
    if any(text.count(marker) != 1 for marker in RESULTS):
        raise UserError(f"{readme} has no place for the results: it needs one line {RESULTS[0]} and one {RESULTS[1]}")
    lines = [_results(readme, folder, comparison) for comparison in TABLES]
    inside = "\n".join([f"{tables.PLUS_MINUS}\n", *lines, _audited(readme, folder), *_learned(folder)])
    before, after = text.split(RESULTS[0])[0], text.split(RESULTS[1])[1]
    write_text(readme, f"{before}{RESULTS[0]}\n\n{inside}\n{RESULTS[1]}{after}")


def results(rows: pd.DataFrame, comparison: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The README's table of a comparison, best first, and its places: what was measured beside what is published."""
    sets, columns = TABLES[comparison].sets, TABLES[comparison].measures
    known = tables.claims(sets)
    known = known[known["label"].str.startswith("published") & known[columns[0]].notna()]
    long = pd.concat([tables.means(rows[rows["set"].isin(sets)]), known], ignore_index=True)
    long["set"] = pd.Categorical(long["set"], sets)
    long = long.sort_values("set", kind="stable").astype({"set": str})
    layout, places = tables.compare(long, columns)
    numbers = [column for column in layout if find(column)]
    layout = layout[layout[numbers].notna().any(axis=1)].sort_values(numbers[0], ascending=False, kind="stable")
    places = places.loc[layout.index].reset_index(drop=True)
    layout = layout.reset_index(drop=True)
    weights = rows.reindex(columns=["method", "label", "weights", "recipe"]).drop_duplicates(["method", "label"])
    facts = layout[["method", "label"]].merge(weights, "left", ["method", "label"])
    trained = [_training(name) if isinstance(name, str) else "–" for name in facts["weights"]]
    layout.insert(2, "trained for", trained)
    links = {label: f"[{label}]({tables.references()['link'][key]})" for label, key in tables.sources().items()}
    layout["label"] = layout["label"].replace(links)
    adversarial = [name for name, recipe in RECIPES.items() if recipe.is_adversarial]
    layout["label"] += facts["recipe"].isin(adversarial).map({True: " (GAN)", False: ""})
    layout["method"] = layout["method"].replace(tables.NAMES)
    titles = {column: tables.heading(column) for column in numbers}
    halves = {column + tables.HALF: title + tables.HALF for column, title in titles.items()}
    return layout.rename(columns=titles | halves), places.rename(columns=titles)


def _training(name: str) -> str:
    """Hours and photos of the training of released weights: "2.1 core-hours on 738 photos"."""
    record = provenance.record(name)
    return f"{provenance.budget(record)} on {provenance.learned_from(record)}" if record else "–"


def _results(readme: Path, folder: Path, comparison: str) -> str:
    shown = TABLES[comparison]
    rows = tables.measured_rows(folder / comparison)
    rows = rows[rows["set"].isin(shown.sets)]
    table = tables.markdown(*results(rows, comparison))
    protocols = "; ".join(find(column).protocol for column in shown.measures)
    caption = f"**{shown.title}.** {protocols}. {shown.footnote}"
    below = f"{_origin(readme, folder, comparison, rows)}{_hours(rows)}{_level(rows, shown.measures[0])}"
    return f"{caption}\n\n{table}\n\n{below}\n"


def _hours(rows: pd.DataFrame) -> str:
    """What the hours in the column *trained for* are, by the records of the weights."""
    names = report.weights_of(rows)["weights"].drop_duplicates()
    clock = ", ".join(name for name in names if provenance.by_the_clock(provenance.record(name)))
    exceptions = f"; of {clock}, trained in part or whole before that was counted, the clock's times the threads"
    counted = f"core-hours are the time that the CPU's cores worked{exceptions if clock else ''}"
    return f"Trained for: {counted}; GPU-hours are the clock's.\n"


def _origin(readme: Path, folder: Path, comparison: str, rows: pd.DataFrame) -> str:
    """The way from a table's numbers to their rows, notebook, commit and weights."""
    place = Path(os.path.relpath(folder / comparison / "rows.csv", readme.parent)).as_posix()
    notebook, weights = notebooks.find(comparison), report.weights_of(rows).drop_duplicates("weights")
    hashes = ", ".join(f"{each.weights} `{each.sha256[:12]}`" for each in weights.itertuples())
    return (
        f"Source: [rows.csv]({place}), a row per photo with the hash of its weights; notebook "
        f"[{notebook}](notebooks/{notebook}.ipynb); profile {folder.name}, {report.commits(rows)}; photos: "
        f"{report.photo_counts(rows)}; one seed; weights ([cards](weights/README.md)) by SHA-256: {hashes or 'none'}.\n"
    )


def _level(rows: pd.DataFrame, column: str) -> str:
    """One line on neighbours in the ranking that the photos cannot tell apart."""
    found = tables.differences(rows)
    found = found[(found["verdict"] != "told apart") & (found["measure"] == find(column).title)]
    pairs = [f"{each.better} and {each.than} on {each.set}, {each.difference} {find(column).unit}"
             for each in found.itertuples()]  # fmt: skip
    told = f"Neighbours that cannot be told apart by {find(column).title}: {'; '.join(pairs)}.\n"
    return told if pairs else ""


def _verdicts(folder: Path) -> pd.DataFrame:
    rows = [tables.measured_rows(folder / comparison) for comparison in TABLES]
    return audit.verdicts(rows, tables.claims(audit.SETS))


def _audited(readme: Path, folder: Path) -> str:
    """The outcome of the audit in a sentence."""
    found = _verdicts(folder)
    counts = found["verdict"].value_counts()
    shares = ", ".join(f"{counts.get(verdict, 0)} *{verdict}*" for verdict in audit.VERDICTS)
    place = Path(os.path.relpath(folder / "report" / "audit.md", readme.parent)).as_posix()
    meanings = "; ".join(f"*{verdict}*: {meaning}" for verdict, meaning in audit.VERDICTS.items())
    outcome = f"Of its {len(found)} numbers, {shares} ([a reason for each]({place}))"
    return f"**The audited report.** {outcome}. {meanings}.\n"


def _learned(folder: Path) -> list[str]:
    """Which released weights have a curve in the figure of a profile's learning curves, and why others have none."""
    if not (folder / "report" / "curves.csv").exists():
        return []
    found, absent = curves.collect("demo", {})  # which has no runs of its own: all are the released weights
    return [f"**Learning curves** (below): {', '.join(found['weights'].unique())}; {absent}.\n"]


def comparison_photos(folder: Path, comparison: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The sample photos that a comparison has kept: (input, restored with the best PSNR, reference) by name."""
    found = {}
    for file in sorted((folder / comparison).glob("before-*.png")):
        name = file.stem.removeprefix("before-")
        before, after = photos.read(file), photos.read(file.with_name(f"after-{name}.png"))
        found[name] = before, after, mod_crop(photos.sample(name), 4)[: before.shape[0], : before.shape[1]]
    return found


def write_pictures(folder: Path) -> None:
    """Write the README's picture of each task into `folder`/report: a crop before, after and its reference."""
    for comparison in TABLES:
        pairs = comparison_photos(folder, comparison)
        for name, box in report.best_crops(pairs, side=128, count=1):
            picture = report.side_by_side([each[box] for each in pairs[name]], enlarge=2)
            target = folder / "report" / f"{comparison.removeprefix('compare_')}.webp"
            write_atomically(target, lambda path, image=picture: Image.fromarray(image).save(path, "WEBP", quality=90))


def write_badges(folder: Path) -> None:
    """Write a badge for each task, and one for the audit, into `folder`/report: what the best method gains."""
    for comparison, shown in TABLES.items():
        rows = tables.measured_rows(folder / comparison)
        best = tables.gains(rows[rows["set"] == shown.sets[0]], shown.measures[0])
        for each in best[best["label"].isin(tables.MEASURED)].itertuples():
            value = f"{tables.NAMES.get(each.method, each.method)} {each.gain.mean:+.2f} dB on {each.set}"
            badge(shown.title, value, folder / "report" / f"badge-{comparison.removeprefix('compare_')}.svg")
    found = _verdicts(folder)
    count = (found["verdict"] == "reproduced").sum()
    badge("audited report", f"{count} of {len(found)} reproduced", folder / "report" / "badge-audit.svg")


def badge(name: str, value: str, target: Path) -> None:
    """Write a badge as SVG: a name and a value."""
    left, right = (round(6.3 * len(text)) + 14 for text in (name, value))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{escape(name)}: {escape(value)}"><rect width="{left}" height="20" fill="#444"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="#0a5ea8"/>'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">'
        f'<text x="{left / 2}" y="14" textLength="{left - 12}">{escape(name)}</text>'
        f'<text x="{left + right / 2}" y="14" textLength="{right - 12}">{escape(value)}</text></g></svg>\n'
    )
    write_text(target, svg)
