"""From measured rows to the tables of the report, as CSV for machines and as Markdown and LaTeX for people.

A mean comes with its 95 % interval over the photos. Rows of one set are ranked among each other, the input too; a cell
says where it is worse than the input, and where it cannot be told apart from the best of its set.
"""

import json
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from rvlib import measures
from rvlib.files import write_atomically, write_text
from rvlib.models import METHODS
from rvlib.study.statistics import Interval, mean_interval, paired

LABELS = (
    "bicubic input",
    "blurry input",
    "noisy input",
    "compressed input",
    "classical method",
    "this run",
    "released weights",
    "report's claim, table 1",
    "report's claim, table 3",
    "report's claim, table 4",
    "report's claim, table 4, axes put right",
)
"""What the rows of the notebooks' tables can be, in the order in which they are shown.

Official weights ("official weights: swinir-light-x4") and published values ("published: SwinIR, table 3") follow.
"""

CLAIMS = Path(__file__).parent / "claims.csv"
REFERENCES = Path(__file__).parent / "references.csv"

COMPARISONS = ("compare_super_resolution", "compare_deblurring")
"""The notebooks that compare the methods of a task: folders of a profile's reports with the measured rows."""


class Audited(NamedTuple):
    """What a table of the audited report shows."""

    methods: list[str]
    sets: list[str]
    measures: list[str]


AUDITED = {
    "table 1": Audited(["fsrcnn"], ["Set5", "Set12", "Set14"], ["psnr_y_crop4", "ssim_y_crop4", "seconds"]),
    "table 3": Audited(
        ["srgan", "diffir", "swinir", "fsrcnn"],
        ["Set14", "Urban100"],
        ["psnr_y_crop4", "lpips_alex_rgb_crop0"],
    ),
    "table 4": Audited(["diffir", "nafnet"], ["GoPro"], ["psnr_rgb_crop0", "ssim_rgb3d_crop0"]),
}
"""The audited report's tables of results, in its order."""

NAMES = {key: method.title for key, method in METHODS.items()}
"""How the tables for reading write the methods."""

MEASURED = ("released weights", "this run")
NOT_MEASURED = "not measured"
HALF, TIED = " ±", " ≈"
"""Columns beside a measure's: half of the interval of its mean, and whether it is as good as the set's best."""
BEST, SECOND, WORSE, LEVEL, WORSE_AND_LEVEL = 1, 2, 3, 4, 5
"""Places of `rank`: the best and the second of a set, a mean worse than the input's, one level with the best, both."""
PLUS_MINUS = (
    "± is half of the 95 % interval of the mean over the photos (Student's t), for one training run (one seed). Bold: "
    "best of its set; underlined: second, if told apart from the best; ≈: cannot be told apart from the best (95 % "
    "interval of the paired difference); ▼: a worse mean than the input's. Only rows measured here are ranked."
)
"""What the marks of all tables mean; said once wherever there are tables."""


def references() -> pd.DataFrame:
    """The bibliography by key: number in the audited report, short name, authors, title, venue, year, link."""
    return pd.read_csv(REFERENCES, dtype=str, keep_default_na=False).set_index("key")


def claims(sets: list[str]) -> pd.DataFrame:
    """Numbers that the audited report claims and that papers or official repositories publish, for these sets.

    `source` is a key of `references`, `place` where in it the number stands, `mark` what sets it apart (GAN, TLC); the
    label of a published value says all three: "published: SwinIR, table 3 (light)".
    """
    table, names = pd.read_csv(CLAIMS), references()["short"]
    marks = table["mark"].fillna("").map(lambda mark: f" ({mark})" if mark else "")
    sourced = "published: " + table["source"].map(names) + ", " + table["place"] + marks
    table["label"] = table["label"].mask(table["label"] == "published value", sourced)
    return table[table["set"].isin(sets)]


@cache
def sources() -> dict[str, str]:
    """The key in the bibliography of what cites it: the label of a published value, or a key itself."""
    known = pd.read_csv(CLAIMS)["set"].unique()
    table = claims(list(known)).query("label.str.startswith('published')")
    return {key: key for key in references().index} | dict(zip(table["label"], table["source"], strict=True))


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean of every measure over the photos of a set, with its interval: one row per set, method and label.

    Beside a measure's column: half of the mean's 95 % interval (`HALF`), and whether the photos cannot tell it apart
    from the best of its set (`TIED`). Inputs come first.
    """
    keys = ["set", "method", "label"]
    columns = [column for column in rows if measures.find(column)]
    groups = rows.groupby(keys, sort=False)
    table = groups[columns].mean().reset_index()
    for column in (column for column in columns if measures.find(column).function):
        table[column + HALF] = [_half(part[column].dropna()) for _, part in groups]
        best = _best_of_sets(table, column)
        table[column + TIED] = [_is_level(rows, row, best.get(row["set"]), column) for _, row in table.iterrows()]
    table["photos"] = groups["photo"].nunique().to_numpy()
    order = table["label"].map({label: index for index, label in enumerate(LABELS)}).fillna(len(LABELS))
    return table.assign(order=order).sort_values(["set", "order", "method"], kind="stable").drop(columns="order")


def _half(values: pd.Series) -> float:
    if len(values) < 2 or not np.isfinite(values).all():  # the PSNR of a photo that equals its reference is infinite
        return float("nan")
    interval = mean_interval(values)
    return (interval.high - interval.low) / 2


def _is_measured(table: pd.DataFrame) -> pd.Series:
    """Rows that were measured here, by one protocol: all but claims and published values."""
    return ~table["label"].str.contains("claim|published")


def _best_of_sets(table: pd.DataFrame, column: str) -> dict[str, pd.Series]:
    """The best measured row of each set by one measure."""
    groups = table[_is_measured(table)].groupby("set")[column]
    orders = {name: measures.find(column).ordered(values) for name, values in groups}
    return {name: table.loc[values.index[0]] for name, values in orders.items() if len(values)}


def _is_level(rows: pd.DataFrame, row: pd.Series, best: pd.Series | None, column: str) -> bool:
    """Whether a row cannot be told apart from its set's best, which itself is not asked."""
    if best is None or row.name == best.name or pd.isna(row[column]):
        return False
    part = rows[rows["set"] == row["set"]]
    difference = paired(part, column, (row["method"], row["label"]), (best["method"], best["label"]))
    return difference is not None and not difference.decided


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """What can be told apart: per set and measure each measured row against the next better one, the input among them.

    Columns: set, measure, better, than, difference with its 95 % interval, photos, won (on how many), verdict.
    """
    found = []
    for name, part in rows[_is_measured(rows)].groupby("set", sort=False):
        for column in (column for column in rows if measures.find(column) and measures.find(column).function):
            values = part.groupby(["method", "label"], sort=False)[column].mean()
            for better, than in pairwise(measures.find(column).ordered(values).index):
                interval = paired(part, column, better, than)
                if interval is not None:
                    found.append(_difference(part, name, better, than, column, interval))
    columns = ["set", "measure", "better", "than", "difference", "photos", "won", "verdict"]
    return pd.DataFrame(found, columns=columns)


def _difference(part: pd.DataFrame, name: str, better: tuple, than: tuple, column: str, interval: Interval) -> dict:
    measure = measures.find(column)
    wide = part.pivot_table(index="photo", columns=["method", "label"], values=column)
    mean, low, high = interval.rounded(measure.digits)
    return {
        "set": name,
        "measure": measure.title,
        "better": _named(*better),
        "than": _named(*than),
        "difference": f"{mean} ({low} to {high})",
        "photos": len(wide),
        "won": int((wide[better] > wide[than] if measure.better == "high" else wide[better] < wide[than]).sum()),
        "verdict": "told apart" if interval.decided else "cannot be told apart",
    }


def _named(method: str, label: str) -> str:
    return label if label.endswith("input") else f"{NAMES.get(method, method)}, {label}"


def rank(table: pd.DataFrame) -> pd.DataFrame:
    """The places of measured numbers among those of their set: `BEST`, `SECOND`, `WORSE`, `LEVEL`, both, or 0.

    Rows measured here are ranked, the input among them, where a set has several: claims and published values have other
    protocols. A column per measure of `table`, whose record says which way is better; the index is that of `table`.
    """
    columns = [column for column in table if measures.find(column)]
    places = pd.DataFrame(0, index=table.index, columns=columns)
    for _, part in table[_is_measured(table)].groupby("set"):
        for column in columns:
            if measures.find(column).function:  # the seconds of one machine have no places
                places.loc[part.index, column] = _places(part, column)
    return places


def _places(part: pd.DataFrame, column: str) -> pd.Series:
    """The places of one set's measured rows by one measure (`rank`); where it has one number only, there are none."""
    measure, places = measures.find(column), pd.Series(0, part.index)
    ordered = measure.ordered(part[column])
    if len(ordered) < 2:
        return places
    if column + TIED in part:
        places[part[column + TIED].fillna(False).astype(bool)] = LEVEL
    is_worse = _is_worse(part, column, measure)
    places[is_worse] = places[is_worse].replace({0: WORSE, LEVEL: WORSE_AND_LEVEL})
    best, second = ordered.index[:2]
    places[best] = BEST
    if places[second] == 0:
        places[second] = SECOND
    return places


def _is_worse(part: pd.DataFrame, column: str, measure: measures.Measure) -> pd.Series:
    """Which rows have a worse mean than their set's input; by seconds, which compare nothing, none has."""
    is_input = part["label"].str.endswith("input")
    given = part.loc[is_input, column].dropna()
    if given.empty or measure.function is None:
        return pd.Series(False, part.index)
    sign = 1 if measure.better == "high" else -1
    return ~is_input & (sign * part[column] < sign * given.iloc[0])


def winners(table: pd.DataFrame, column: str) -> dict[str, str]:
    """The best method of each set by one measure, without the sets in which it has no value."""
    groups = {name: measures.find(column).ordered(part[column]) for name, part in table.groupby("set")}
    return {name: table.loc[values.index[0], "method"] for name, values in groups.items() if len(values)}


def gains(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """What the best method of each set and label brings against the input by one measure, with its paired interval.

    Columns: set, label, method, value, gain (`Interval`, more is better whichever way the measure points), photos.
    """
    measure, found = measures.find(column), []
    ours = rows[_is_measured(rows)]
    for (name, label), part in ours[~ours["label"].str.endswith("input")].groupby(["set", "label"], sort=False):
        same = ours[ours["set"] == name]
        given = same[same["label"].str.endswith("input")]
        values = measure.ordered(part.groupby("method")[column].mean())
        if values.empty or given.empty:
            continue
        keys = (values.index[0], label), tuple(given[["method", "label"]].iloc[0])
        gain = paired(same, column, *(keys if measure.better == "high" else keys[::-1]))
        if gain is not None:
            entry = {"set": name, "label": label, "method": values.index[0], "value": values.iloc[0], "gain": gain}
            found.append({**entry, "photos": part["photo"].nunique()})
    return pd.DataFrame(found, columns=["set", "label", "method", "value", "gain", "photos"])


def titled(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the methods' titles in place of their keys, also in "diffir, stage 1"."""
    return table.replace({"method": {rf"^{key}\b": title for key, title in NAMES.items()}}, regex=True)


def readable(means: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`means` for the eyes of a notebook's reader, and the places of its numbers: `markdown` takes both.

    Methods and measures have their titles; what has no value in any row, and the seconds of one machine, are left out.
    """
    table = means.drop(columns="seconds", errors="ignore").dropna(axis=1, how="all")
    keys = {column: column.removesuffix(HALF).removesuffix(TIED) for column in table}
    titles = {column: heading(key) + column[len(key) :] for column, key in keys.items() if key in table}
    table = table[list(titles)]
    places = rank(means)
    return titled(table).rename(columns=titles), places[[column for column in places if column in table]].rename(
        columns=heading
    )


def compare(table: pd.DataFrame, columns: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The report's layout, a row per method and label with the columns of each set, and the places of its numbers.

    Both have the same rows; `rank` says what the places are. Half of an interval stands behind its mean's column.
    """
    keys = ["method", "label"]
    rows = table.drop_duplicates([*keys, "set"]).reset_index(drop=True)
    shown = [each for column in columns for each in (column, column + HALF) if each in rows]
    layout = _beside(rows[["set", *keys, *shown]]).dropna(axis=1, how="all")
    places = _beside(rows[["set", *keys]].join(rank(rows)[columns]))
    places = places[[column for column in layout if column in places]].fillna(0).astype(int)
    return layout.reset_index(), places.reset_index(drop=True)


def _beside(rows: pd.DataFrame) -> pd.DataFrame:
    """The sets of long rows side by side: a row per method and label, columns "set measure"."""
    keys = ["method", "label"]
    columns = [column for column in rows if column not in ("set", *keys)]
    wide = rows.pivot(index=keys, columns="set", values=columns).reorder_levels([1, 0], axis=1)
    wide = wide[list(product(dict.fromkeys(rows["set"]), columns))]
    wide = wide.reindex(pd.MultiIndex.from_frame(rows[keys].drop_duplicates()))
    return wide.set_axis([" ".join(names) for names in wide], axis=1)


def measured_rows(folder: Path) -> pd.DataFrame:
    """The rows of a comparison's folder as they stand now, none where it has none."""
    if (folder / "rows.csv").exists():
        return pd.read_csv(folder / "rows.csv")
    return pd.DataFrame({"set": [], "photo": [], "method": [], "label": []}, dtype=str)


def put_right(claims: pd.DataFrame) -> pd.DataFrame:
    """The report's table 4 as it must be read: its columns are NAFNet and DiffIR, its rows PSNR and SSIM."""
    methods, columns = AUDITED["table 4"].methods, AUDITED["table 4"].measures
    wrong = claims["label"] == "report's claim, table 4"
    printed = claims[wrong].set_index("method").loc[methods, columns].to_numpy()
    right = pd.DataFrame(
        {"set": "GoPro", "method": ["nafnet", "diffir"], "label": "report's claim, table 4, axes put right"}
    )
    return pd.concat([claims[~wrong], right.assign(**dict(zip(columns, printed, strict=True)))], ignore_index=True)


def audited(
    name: str, means: pd.DataFrame, claims: pd.DataFrame, *, sets: list[str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table of the audited report in its layout, as text, and the places of its numbers (`rank`).

    For each method it has the claimed, the published and the measured values. By default the audited
    report's `sets` are shown first, then all others that were measured. What was not measured says so.
    """
    methods, own_sets, columns = AUDITED[name]
    if name == "table 1":
        means = means[means["method"].isin([*methods, "bicubic"])]
    sets = list(dict.fromkeys([*own_sets, *means["set"]])) if sets is None else sets
    rows = _audited_rows(name, means, claims)
    layout, places = compare(rows[rows["set"].isin(sets)], columns)
    numbers = [f"{each} {column}" for each in sets for column in columns]
    halves = [number + HALF for number in numbers if number + HALF in layout]
    layout = layout.reindex(columns=["method", "label", *numbers, *halves])
    places = places.reindex(columns=numbers, fill_value=0)
    text = format_cells(layout)
    ours = _is_measured(layout)
    text.loc[ours, numbers] = text.loc[ours, numbers].where(layout.loc[ours, numbers].notna(), NOT_MEASURED)
    if name == "table 1":  # the report's rows are the sets
        places = _below(places.set_index(pd.MultiIndex.from_frame(text[["method", "label"]])), sets, columns)
        text = _below(text.set_index(["method", "label"]), sets, columns)
        filled = (text != "–").any(axis=1)
        places = places[filled].reset_index(drop=True)
        text = text[filled].reset_index()
    text = text.assign(method=text["method"].replace(NAMES))
    return text.rename(columns=heading), places.rename(columns=heading)


def heading(column: str) -> str:
    """The name of a column with the title of its measure in place of the key."""
    measure = measures.find(column)
    return column.removesuffix(measure.key) + measure.title if measure else column


def _audited_rows(name: str, means: pd.DataFrame, claims: pd.DataFrame) -> pd.DataFrame:
    """The long rows of an audited table: its own methods in its order, then the others of `METHODS`.

    One for all that ought to be measured. Of methods that the report does not have, only those are shown that were
    measured or whose authors publish numbers in these columns.
    """
    methods, own_sets, columns = AUDITED[name]
    others = [] if name == "table 1" else [key for key in METHODS if key not in methods]  # table 1 is about one method
    labels = [label for label in MEASURED if label in set(means["label"])] or ["this run"]
    expected = pd.DataFrame(product(own_sets, methods, labels), columns=["set", "method", "label"])
    known = claims[claims["label"].str.startswith("published") & claims["method"].isin([*methods, *others])]
    halves = [column + HALF for column in columns if column + HALF in means]
    ties = [column + TIED for column in columns if column + TIED in means]
    parts = [claims[claims["label"].str.startswith(f"report's claim, {name}")], known, means, expected]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.reindex(columns=["set", "method", "label", *columns, *halves, *ties])
    rows = rows[rows[columns].notna().any(axis=1) | rows["label"].isin(labels)]
    order = {method: index for index, method in enumerate(["bicubic", "blurry", *methods, *others])}
    return rows.sort_values("method", key=lambda names: names.map(order).fillna(len(order)), kind="stable")


def _below(wide: pd.DataFrame, sets: list[str], columns: list[str]) -> pd.DataFrame:
    """The sets of a layout below each other instead of side by side."""
    parts = {name: wide[[f"{name} {column}" for column in columns]].set_axis(columns, axis=1) for name in sets}
    return pd.concat(parts, names=["set"])


def format_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Every cell as one line of text: numbers with the digits of their measure, a dash for what is missing.

    Half of an interval goes behind its mean: "28.22 ± 0.91". Its own column, and that of the ties, are not shown.
    """
    cells = {name: [_cell(value, measures.find(name)) for value in column] for name, column in table.items()}
    for name in [name for name in cells if str(name).endswith((HALF, TIED))]:
        column, is_half = name.removesuffix(HALF).removesuffix(TIED), name.endswith(HALF)
        del cells[name]
        if is_half and column in cells:
            measure = measures.find(column)
            halves = ["" if pd.isna(half) else f" ± {measure.text(half)}" for half in table[name]]
            cells[column] = [text + half for text, half in zip(cells[column], halves, strict=True)]
    return pd.DataFrame(cells, index=table.index, dtype=object)


def _cell(value, measure: measures.Measure | None) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if not pd.api.types.is_number(value) or pd.api.types.is_bool(value):
        return one_line(value)
    if measure is not None:
        return measure.text(value)
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 0.005 else f"{value:.2g}"


def one_line(text) -> str:
    """Text without breaks, which would end a row of a table."""
    return " ".join(str(text).split())


def is_number(column: pd.Series) -> bool:
    """Whether a column is numbers alone, which are aligned on the right."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def emphasise(cells: pd.DataFrame, places: pd.DataFrame | None, marks: dict[int, str]) -> pd.DataFrame:
    """Put the cells with a place of `rank` into the templates of a writer, such as {BEST: "**{}**"}."""
    if places is None:
        return cells
    places = places.reindex(index=cells.index, columns=cells.columns, fill_value=0)
    for place, mark in marks.items():
        cells = cells.mask(places == place, cells.map(mark.format))
    return cells


def markdown(table: pd.DataFrame, places: pd.DataFrame | None = None) -> str:
    """A Markdown table; `PLUS_MINUS` says what its marks mean (`places` of `rank`)."""
    cells = format_cells(table).map(lambda text: text.replace("|", "\\|"))
    alignment = ["right" if is_number(table[column]) else "left" for column in cells]
    marks = {BEST: "**{}**", SECOND: "<ins>{}</ins>", WORSE: "{} ▼", LEVEL: "{} ≈"}  # GitHub shows no <u>
    marks[WORSE_AND_LEVEL] = "{} ▼ ≈"
    cells = emphasise(cells, places, marks)
    cells.columns = [one_line(column).replace("|", "\\|") for column in cells]
    return cells.to_markdown(index=False, disable_numparse=True, colalign=alignment)


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "–": "--",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "▼": r"$\downarrow$",
}
"""Characters that LaTeX would read as commands."""


def latex(table: pd.DataFrame, places: pd.DataFrame | None = None) -> str:
    """A tabular for LaTeX with the package booktabs, marked as the Markdown tables are."""
    escapes = str.maketrans(LATEX)
    cells = format_cells(table).map(lambda text: text.translate(escapes))
    alignment = "".join("r" if is_number(table[column]) else "l" for column in cells)
    marks = {BEST: r"\textbf{{{}}}", SECOND: r"\underline{{{}}}", WORSE: r"{} $\downarrow$", LEVEL: r"{} $\approx$"}
    marks[WORSE_AND_LEVEL] = r"{} $\downarrow$ $\approx$"
    cells = emphasise(cells, places, marks)
    cells.columns = [one_line(column).translate(escapes) for column in cells]
    return cells.to_latex(index=False, escape=False, column_format=alignment)


def write(table: pd.DataFrame, path: Path, places: pd.DataFrame | None = None) -> None:
    """Write `path`.csv with the numbers as they are, `path`.md and `path`.tex for reading."""
    write_rows(table, path)
    write_text(path.with_suffix(".md"), markdown(table, places) + "\n")
    write_text(path.with_suffix(".tex"), latex(table, places))


def write_rows(rows: pd.DataFrame, path: Path) -> None:
    """Write `path`.csv alone: for rows, a photo each, which nobody reads from top to bottom."""
    write_atomically(path.with_suffix(".csv"), lambda file: rows.to_csv(file, index=False))


def write_json(values: dict, path: Path) -> None:
    """Write means as JSON, which `dvc metrics show` reads."""
    write_text(path, json.dumps(values, indent=1, sort_keys=True) + "\n")
