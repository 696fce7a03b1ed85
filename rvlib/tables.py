"""From measured rows to the tables of the report, as CSV for machines and Markdown for people."""

import json
from pathlib import Path

import pandas as pd

from rvlib.files import write_atomically

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
"""What a row of a table can be, in the order in which tables show it."""

CLAIMS = Path(__file__).parent / "claims.csv"


def claims(sets: list[str]) -> pd.DataFrame:
    """Numbers that the audited report claims and that papers or official repositories publish, for these sets."""
    table = pd.read_csv(CLAIMS)
    return table[table["set"].isin(sets)]


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean of every measured column over the photos of a set: one row per set, method and label."""
    keys = ["set", "method", "label"]
    measured = [column for column in rows.columns if column not in (*keys, "photo", "weights", "protocol", "source")]
    table = rows.groupby(keys, sort=False)[measured].mean().reset_index()
    table["photos"] = rows.groupby(keys, sort=False)["photo"].nunique().to_numpy()
    order = table["label"].map({label: index for index, label in enumerate(LABELS)})
    return table.assign(order=order).sort_values(["set", "order", "method"], kind="stable").drop(columns="order")


def compare(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """The report's layout: a row per method and label, for each set the given columns, as text for reading.

    Among the rows that were measured here (labels "this run" and "released weights"), the best value of a column is
    bold and the second underlined; others have other protocols and are shown, not ranked. LPIPS is better when low.
    """
    keys = ["method", "label"]
    rows = table.drop_duplicates([*keys, "set"])
    cells = rows.pivot(index=keys, columns="set", values=columns).reorder_levels([1, 0], axis=1)
    order = [(name, column) for name in dict.fromkeys(table["set"]) for column in columns]
    cells = cells.reindex(
        columns=pd.MultiIndex.from_tuples(order), index=pd.MultiIndex.from_frame(rows[keys].drop_duplicates())
    )
    cells = cells.dropna(axis=1, how="all")
    ranked = cells.index.get_level_values("label").isin(["this run", "released weights"])
    shown = pd.DataFrame({name: cells[name].map(lambda value, c=name[1]: _number(value, c)) for name in cells})
    for name in cells:
        values = cells.loc[ranked, name].dropna().sort_values(ascending=name[1].startswith("lpips"))
        for index, mark in zip(values.index, ("**{}**", "<u>{}</u>"), strict=False):
            shown.loc[index, name] = mark.format(shown.loc[index, name])
    shown.columns = [" ".join(name) for name in shown.columns]
    return shown.reset_index()


def markdown(table: pd.DataFrame, *, best: str | None = None) -> str:
    """A Markdown table; `best` names a column whose largest measured value per set is set in bold."""
    shown = table.copy()
    numbers = shown.select_dtypes("number").columns
    text = {column: shown[column].map(lambda value, c=column: _number(value, c)) for column in numbers}
    if best is not None:
        groups = shown.groupby("set")[best] if "set" in shown else [(None, shown[best])]
        for _, values in groups:
            text[best].loc[values.idxmax()] = f"**{text[best].loc[values.idxmax()]}**"
    return shown.assign(**text).to_markdown(index=False, disable_numparse=True, colalign=_alignment(shown, numbers))


def write(table: pd.DataFrame, path: Path, *, best: str | None = None) -> None:
    """Write `path`.csv, `path`.md, and `path`.tex, a tabular for LaTeX with the package booktabs."""
    write_atomically(path.with_suffix(".csv"), lambda file: table.to_csv(file, index=False))
    text = markdown(table, best=best) + "\n"
    write_atomically(path.with_suffix(".md"), lambda file: Path(file).write_text(text))
    tex = table.to_latex(index=False, escape=True, float_format="%.4g", na_rep="--")
    write_atomically(path.with_suffix(".tex"), lambda file: Path(file).write_text(tex))


def write_json(values: dict, path: Path) -> None:
    """Write means as JSON, which `dvc metrics show` reads."""
    text = json.dumps(values, indent=1, sort_keys=True) + "\n"
    write_atomically(path, lambda file: Path(file).write_text(text))


def _number(value: float, column: str) -> str:
    if pd.isna(value):
        return "–"
    digits = 4 if column.startswith(("ssim", "lpips")) else 2
    return f"{value:,.0f}" if float(value).is_integer() and not column.startswith("psnr") else f"{value:.{digits}f}"


def _alignment(table: pd.DataFrame, numbers) -> list[str]:
    return ["right" if column in numbers else "left" for column in table.columns]
