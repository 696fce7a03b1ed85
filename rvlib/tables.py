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
    measured = [column for column in rows.columns if column not in (*keys, "photo", "protocol", "source")]
    table = rows.groupby(keys, sort=False)[measured].mean().reset_index()
    table["photos"] = rows.groupby(keys, sort=False)["photo"].nunique().to_numpy()
    order = table["label"].map({label: index for index, label in enumerate(LABELS)})
    return table.assign(order=order).sort_values(["set", "order", "method"], kind="stable").drop(columns="order")


def wide(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per method and label, one column per set, of one measured column."""
    cells = table.pivot_table(index=["method", "label"], columns="set", values=column, sort=False)
    cells.columns.name = None
    return cells.reset_index()


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
    """Write `path`.csv and `path`.md."""
    write_atomically(path.with_suffix(".csv"), lambda file: table.to_csv(file, index=False))
    text = markdown(table, best=best) + "\n"
    write_atomically(path.with_suffix(".md"), lambda file: Path(file).write_text(text))


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
