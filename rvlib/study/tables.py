"""From measured rows to the tables of the report, as CSV for machines and as Markdown and LaTeX for people."""

import json
from itertools import product
from pathlib import Path

import pandas as pd

from rvlib import measures
from rvlib.files import write_atomically
from rvlib.models import METHODS

LABELS = (
    "bicubic input",
    "blurry input",
    "this run",
    "released weights",
    "report's claim, table 1",
    "report's claim, table 3",
    "report's claim, table 4",
    "published value",
)
"""What the rows of the notebooks' tables can be, in the order in which they are shown.

`audited` writes the source of a published value behind it ("published: SwinIR table 3").
"""

CLAIMS = Path(__file__).parent / "claims.csv"

AUDITED = {
    "table 1": (["fsrcnn"], ["Set5", "Set12", "Set14"], ["psnr_y_crop4", "ssim_y_crop4", "seconds"]),
    "table 3": (
        ["srgan", "diffir", "swinir", "fsrcnn"],
        ["Set14", "Urban100"],
        ["psnr_y_crop4", "lpips_alex_rgb_crop0"],
    ),
    "table 4": (["diffir", "nafnet"], ["GoPro"], ["psnr_rgb_crop0", "ssim_rgb3d_crop0"]),
}
"""The audited report's tables of results: methods, sets and measures, in its order."""

NAMES = {key: method.title for key, method in METHODS.items()}
"""How the tables for reading write the methods."""

MEASURED = ("released weights", "this run")
NOT_MEASURED = "not measured"


def claims(sets: list[str]) -> pd.DataFrame:
    """Numbers that the audited report claims and that papers or official repositories publish, for these sets."""
    table = pd.read_csv(CLAIMS)
    return table[table["set"].isin(sets)]


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean of every measured column over the photos of a set: one row per set, method and label."""
    keys = ["set", "method", "label"]
    columns = [column for column in rows.columns if column not in (*keys, "photo", "weights", "protocol", "source")]
    table = rows.groupby(keys, sort=False)[columns].mean().reset_index()
    table["photos"] = rows.groupby(keys, sort=False)["photo"].nunique().to_numpy()
    order = table["label"].map({label: index for index, label in enumerate(LABELS)})
    return table.assign(order=order).sort_values(["set", "order", "method"], kind="stable").drop(columns="order")


def rank(table: pd.DataFrame) -> pd.DataFrame:
    """The places of measured numbers among those of their set: 1 for the best, 2 for the second, 0 for all others.

    Only rows that were measured here (labels "this run" and "released weights") are ranked, and only where a set has
    several of them: other rows have other protocols. A column per measure of `table`, whose record says which way is
    better; the index is that of `table`.
    """
    columns = [column for column in table if measures.find(column)]
    places = pd.DataFrame(0, index=table.index, columns=columns)
    ours = table[table["label"].isin(MEASURED)]
    for column in columns:
        for _, values in ours.groupby("set")[column]:
            ordered = measures.find(column).ordered(values)
            if len(ordered) > 1:
                places.loc[ordered.index[:2], column] = (1, 2)
    return places


def winners(table: pd.DataFrame, column: str) -> dict[str, str]:
    """The best method of each set by one measure, without the sets in which it has no value."""
    groups = {name: measures.find(column).ordered(part[column]) for name, part in table.groupby("set")}
    return {name: table.loc[values.index[0], "method"] for name, values in groups.items() if len(values)}


def compare(table: pd.DataFrame, columns: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The report's layout, a row per method and label with the columns of each set, and the places of its numbers.

    Both have the same rows; `rank` says what the places are.
    """
    keys = ["method", "label"]
    rows = table.drop_duplicates([*keys, "set"]).reset_index(drop=True)
    layout = _beside(rows[["set", *keys, *columns]]).dropna(axis=1, how="all")
    places = _beside(rows[["set", *keys]].join(rank(rows)[columns]))[layout.columns].fillna(0).astype(int)
    return layout.reset_index(), places.reset_index(drop=True)


def _beside(rows: pd.DataFrame) -> pd.DataFrame:
    """The sets of long rows side by side: a row per method and label, columns "set measure"."""
    keys = ["method", "label"]
    columns = [column for column in rows if column not in ("set", *keys)]
    wide = rows.pivot(index=keys, columns="set", values=columns).reorder_levels([1, 0], axis=1)
    wide = wide[list(product(dict.fromkeys(rows["set"]), columns))]
    wide = wide.reindex(pd.MultiIndex.from_frame(rows[keys].drop_duplicates()))
    return wide.set_axis([" ".join(names) for names in wide], axis=1)


def measured(folder: Path) -> pd.DataFrame:
    """Means of the rows of a comparison's folder as they stand now, without a row where it has not run."""
    file = folder / "rows.csv"
    rows = pd.read_csv(file) if file.exists() else pd.DataFrame()
    return means(rows) if len(rows) else pd.DataFrame({"set": [], "method": [], "label": []}, dtype=str)


def put_right(claims: pd.DataFrame) -> pd.DataFrame:
    """The report's table 4 as it must be read: its columns are NAFNet and DiffIR, its rows PSNR and SSIM."""
    methods, _, columns = AUDITED["table 4"]
    wrong = claims["label"] == "report's claim, table 4"
    printed = claims[wrong].set_index("method").loc[methods, columns].to_numpy()
    right = pd.DataFrame({"set": "GoPro", "method": ["nafnet", "diffir"], "label": "report's claim, table 4"})
    return pd.concat([claims[~wrong], right.assign(**dict(zip(columns, printed, strict=True)))], ignore_index=True)


def audited(
    name: str, means: pd.DataFrame, claims: pd.DataFrame, *, sets: list[str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table of the audited report in its layout, as text, and the places of its numbers (`rank`).

    For each method it has the claimed, the published and the measured values. `sets` are shown after the report's own,
    by default all that were measured. What was not measured says so.
    """
    methods, own_sets, columns = AUDITED[name]
    if name == "table 1":
        means = means[means["method"].isin([*methods, "bicubic"])]
    sets = list(dict.fromkeys([*own_sets, *(means["set"] if sets is None else sets)]))
    rows = _audited_rows(name, means, claims)
    layout, places = compare(rows[rows["set"].isin(sets)], columns)
    numbers = [f"{each} {column}" for each in sets for column in columns]
    layout = layout.reindex(columns=["method", "label", *numbers])
    places = places.reindex(columns=numbers, fill_value=0)
    text = format_cells(layout)
    ours = ~layout["label"].str.contains("claim|published")
    text.loc[ours, numbers] = text.loc[ours, numbers].where(layout.loc[ours, numbers].notna(), NOT_MEASURED)
    if name == "table 1":  # the report's rows are the sets
        places = _below(places.set_index(pd.MultiIndex.from_frame(text[["method", "label"]])), sets, columns)
        text = _below(text.set_index(["method", "label"]), sets, columns)
        filled = (text != "–").any(axis=1)
        places = places[filled].reset_index(drop=True)
        text = text[filled].reset_index()
    text = text.assign(method=text["method"].replace(NAMES))
    return text.rename(columns=_titled), places.rename(columns=_titled)


def _titled(column: str) -> str:
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
    published = claims[(claims["label"] == "published value") & claims["method"].isin([*methods, *others])]
    published = published.assign(label="published: " + published["source"].astype(str))
    parts = [claims[claims["label"] == f"report's claim, {name}"], published, means, expected]
    rows = pd.concat(parts, ignore_index=True).reindex(columns=["set", "method", "label", *columns])
    rows = rows[rows[columns].notna().any(axis=1) | rows["label"].isin(labels)]
    order = {method: index for index, method in enumerate(["bicubic", "blurry", *methods, *others])}
    return rows.sort_values("method", key=lambda names: names.map(order).fillna(len(order)), kind="stable")


def _below(wide: pd.DataFrame, sets: list[str], columns: list[str]) -> pd.DataFrame:
    """The sets of a layout below each other instead of side by side."""
    parts = {name: wide[[f"{name} {column}" for column in columns]].set_axis(columns, axis=1) for name in sets}
    return pd.concat(parts, names=["set"])


def verdicts(means: pd.DataFrame, claims: pd.DataFrame) -> pd.DataFrame:
    """The audit: every number that the report claims, the measured value, a verdict and its reason."""
    keys = ["set", "method", "measure"]
    ours = _long(means[means["label"].isin(MEASURED)]).sort_values("label", ascending=False).drop_duplicates(keys)
    audit = _long(claims[claims["label"].str.startswith("report")]).sort_values("row", kind="stable")
    audit = audit.merge(ours[[*keys, "value"]].rename(columns={"value": "here"}), "left", keys)
    published = set(map(tuple, _long(claims[claims["label"] == "published value"])[[*keys, "value"]].to_numpy()))
    audit["published"] = [tuple(number) in published for number in audit[[*keys, "value"]].to_numpy()]
    records = [_audit(claim) for claim in audit.itertuples()]
    columns = ["source", "set", "method", "measure", "claimed", "measured here", "verdict", "reason"]
    return pd.DataFrame(records, columns=columns)


def _audit(claim) -> dict[str, str]:
    """The row of the audit for one claimed number."""
    measure = measures.find(claim.measure)
    # table 4 has its numbers in the wrong columns: above 2 they can only be a PSNR
    digits = 2 if claim.value > 2 or measure == measures.SECONDS else 4
    conclusion, reason = verdict(claim)
    return {
        "source": claim.source,
        "set": claim.set,
        "method": NAMES.get(claim.method, claim.method),
        "measure": measure.title,
        "claimed": f"{claim.value:.{digits}f}",
        "measured here": NOT_MEASURED if pd.isna(claim.here) else measure.text(claim.here),
        "verdict": conclusion,
        "reason": reason,
    }


def verdict(claim) -> tuple[str, str]:
    """The verdict on one claimed number, and its reason.

    claim: `measure` (a column's name), `value` (claimed), `here` (measured, or NaN), `published` (whether a paper has
    the same number for the same method, set and measure), and `verdict` and `reason` of its row in claims.csv.
    """
    measure = measures.find(claim.measure)
    if measure.tolerance is not None and abs(claim.here - claim.value) <= measure.tolerance:
        return "reproduced", f"no further from this project's own value than {measure.tolerance}"
    if claim.published:
        return "published elsewhere", claim.reason
    if measure == measures.SECONDS:
        return "cannot be checked here", "neither the machine nor the size of the photos is named"
    if measure.title != "PSNR" and claim.verdict == "published elsewhere":
        # a row's verdict is about its PSNR; the numbers next to it may be in no source
        return "cannot be checked here", claim.reason
    return claim.verdict, claim.reason


def _long(table: pd.DataFrame) -> pd.DataFrame:
    """A row per number of the measures that the report uses, with the row it comes from."""
    columns = list(dict.fromkeys(c for _, _, columns in AUDITED.values() for c in columns if c in table))
    keys = [*(column for column in table if column not in columns), "row"]
    return table.assign(row=range(len(table))).melt(keys, columns, "measure").dropna(subset="value")


def format_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Every cell as one line of text: numbers with the digits of their measure, a dash for what is missing."""
    return pd.DataFrame(
        {name: [_cell(value, measures.find(name)) for value in column] for name, column in table.items()},
        index=table.index,
        dtype=object,
    )


def _cell(value, measure: measures.Measure | None) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if not pd.api.types.is_number(value) or pd.api.types.is_bool(value):
        return one_line(value)
    if measure is not None:
        return measure.text(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.2f}"


def one_line(text) -> str:
    """Text without breaks, which would end a row of a table."""
    return " ".join(str(text).split())


def is_number(column: pd.Series) -> bool:
    """Whether a column is numbers alone, which are aligned on the right."""
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def emphasise(cells: pd.DataFrame, places: pd.DataFrame | None, best: str, second: str) -> pd.DataFrame:
    """Put the best and the second (`places` of `rank`) into the templates of a writer, such as "**{}**"."""
    if places is None:
        return cells
    places = places.reindex(index=cells.index, columns=cells.columns, fill_value=0)
    return cells.mask(places == 1, cells.map(best.format)).mask(places == 2, cells.map(second.format))


def markdown(table: pd.DataFrame, places: pd.DataFrame | None = None) -> str:
    """A Markdown table; the best of `places` (`rank`) is bold, the second underlined."""
    cells = format_cells(table).map(lambda text: text.replace("|", "\\|"))
    cells = emphasise(cells, places, "**{}**", "<ins>{}</ins>")  # GitHub shows no <u>
    cells.columns = [one_line(column).replace("|", "\\|") for column in table]
    alignment = ["right" if is_number(column) else "left" for _, column in table.items()]
    return cells.to_markdown(index=False, disable_numparse=True, colalign=alignment)


LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "–": "--",
}
"""Characters that LaTeX would read as commands."""


def latex(table: pd.DataFrame, places: pd.DataFrame | None = None) -> str:
    """A tabular for LaTeX with the package booktabs; the best of `places` is bold, the second underlined."""
    escapes = str.maketrans(LATEX)
    cells = format_cells(table).map(lambda text: text.translate(escapes))
    cells = emphasise(cells, places, r"\textbf{{{}}}", r"\underline{{{}}}")
    cells.columns = [one_line(column).translate(escapes) for column in table]
    alignment = "".join("r" if is_number(column) else "l" for _, column in table.items())
    return cells.to_latex(index=False, escape=False, column_format=alignment)


def write(table: pd.DataFrame, path: Path, places: pd.DataFrame | None = None) -> None:
    """Write `path`.csv with the numbers as they are, `path`.md and `path`.tex for reading."""
    write_atomically(path.with_suffix(".csv"), lambda file: table.to_csv(file, index=False))
    text = markdown(table, places) + "\n"
    write_atomically(path.with_suffix(".md"), lambda file: Path(file).write_text(text))
    tabular = latex(table, places)
    write_atomically(path.with_suffix(".tex"), lambda file: Path(file).write_text(tabular))


def write_json(values: dict, path: Path) -> None:
    """Write means as JSON, which `dvc metrics show` reads."""
    text = json.dumps(values, indent=1, sort_keys=True) + "\n"
    write_atomically(path, lambda file: Path(file).write_text(text))
