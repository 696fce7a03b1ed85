"""From measured rows to the tables of the report, as CSV for machines and Markdown for people."""

import json
import re
from itertools import product
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

AUDITED = {
    "table 1": (["fsrcnn"], ["Set5", "Set12", "Set14"], ["psnr_y_crop4", "ssim_y_crop4", "seconds"]),
    "table 3": (["srgan", "diffir", "swinir", "fsrcnn"], ["Set14", "Urban100"], ["psnr_y_crop4", "lpips_alex"]),
    "table 4": (["diffir", "nafnet"], ["GoPro"], ["psnr_rgb_crop0", "ssim_rgb3d_crop0"]),
}
"""The audited report's tables of results: methods, sets and measures, in its order."""

NAMES = {name.lower(): name for name in ("FSRCNN", "SRGAN", "SRResNet", "SwinIR", "NAFNet", "DiffIR")}
"""How the tables for reading write the methods."""

MEASURED = ("released weights", "this run")
TOLERANCE = {"psnr": 0.3, "ssim": 0.01, "lpips": 0.01}
"""How near a measured value must come to a claim for the verdict "reproduced"."""


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

    Among the rows that were measured here (labels "this run" and "released weights"), where there are several, the best
    value of a column is bold and the second underlined; others have other protocols and are shown, not ranked. LPIPS
    and seconds are better when low.
    """
    keys = ["method", "label"]
    rows = table.drop_duplicates([*keys, "set"])
    cells = rows.pivot(index=keys, columns="set", values=columns).reorder_levels([1, 0], axis=1)
    order = [(name, column) for name in dict.fromkeys(table["set"]) for column in columns]
    cells = cells.reindex(
        columns=pd.MultiIndex.from_tuples(order), index=pd.MultiIndex.from_frame(rows[keys].drop_duplicates())
    )
    cells = cells.dropna(axis=1, how="all")
    ranked = cells.index.get_level_values("label").isin(MEASURED)
    shown = pd.DataFrame({name: cells[name].map(lambda value, c=name[1]: _number(value, c)) for name in cells})
    for name in cells:
        values = cells.loc[ranked, name].dropna().sort_values(ascending=name[1].startswith(("lpips", "seconds")))
        for index, mark in zip(values.index if len(values) > 1 else (), ("**{}**", "<u>{}</u>"), strict=False):
            shown.loc[index, name] = mark.format(shown.loc[index, name])
    shown.columns = [" ".join(name) for name in shown.columns]
    return shown.reset_index()


def measured(folder: Path) -> pd.DataFrame:
    """Means of the rows of a comparison's folder as they stand now, without a row where it has not run."""
    file = folder / "rows.csv"
    rows = pd.read_csv(file) if file.exists() else pd.DataFrame()
    return means(rows) if len(rows) else pd.DataFrame({"set": [], "method": [], "label": []}, dtype=str)


def put_right(claims: pd.DataFrame) -> pd.DataFrame:
    """The report's table 4 as it must be read: its columns are NAFNet and DiffIR, its rows PSNR and SSIM."""
    columns = AUDITED["table 4"][2]
    wrong = claims["label"] == "report's claim, table 4"
    printed = claims[wrong].set_index("method").loc[AUDITED["table 4"][0], columns].to_numpy()
    right = pd.DataFrame({"set": "GoPro", "method": ["nafnet", "diffir"], "label": "report's claim, table 4"})
    return pd.concat([claims[~wrong], right.assign(**dict(zip(columns, printed, strict=True)))], ignore_index=True)


def audited(name: str, means: pd.DataFrame, claims: pd.DataFrame, *, sets: list[str] | None = None) -> pd.DataFrame:
    """A table of the audited report in its layout: for each method what is claimed, published and measured here.

    `sets` are shown after the report's own, by default all that were measured. What was not measured says so.
    """
    methods, own, columns = AUDITED[name]
    here = means if name != "table 1" else means[means["method"].isin([*methods, "bicubic"])]
    sets = list(dict.fromkeys([*own, *(here["set"] if sets is None else sets)]))
    labels = [label for label in MEASURED if label in set(here["label"])] or ["this run"]
    empty = pd.DataFrame(product(own, methods, labels), columns=["set", "method", "label"])
    published = claims[(claims["label"] == "published value") & claims["method"].isin(methods)]
    published = published.assign(label="published: " + published["source"].astype(str))
    parts = [claims[claims["label"] == f"report's claim, {name}"], published, here, empty]
    together = pd.concat(parts, ignore_index=True).reindex(columns=["set", "method", "label", *columns])
    told = together[columns].notna().any(axis=1) | together["label"].isin(labels)
    places = {method: index for index, method in enumerate(["bicubic", "blurry", *methods])}
    together["place"] = together["method"].map(places).fillna(len(places))
    shown = compare(together[together["set"].isin(sets) & told].sort_values("place", kind="stable"), columns)
    cells = [f"{each} {column}" for each in sets for column in columns]
    shown = shown.reindex(columns=["method", "label", *cells], fill_value="–")
    ours = ~shown["label"].str.contains("claim|published")
    shown.loc[ours, cells] = shown.loc[ours, cells].replace("–", "not measured")
    if name == "table 1":  # the report's rows are the sets
        wide = shown.set_index(["method", "label"])
        parts = {each: wide[[f"{each} {column}" for column in columns]].set_axis(columns, axis=1) for each in sets}
        shown = pd.concat(parts, names=["set"]).reset_index()
        shown = shown[(shown[columns] != "–").any(axis=1)]
    shown = shown.assign(method=shown["method"].replace(NAMES))
    return shown.rename(columns=lambda column: re.sub(r"(psnr|ssim|lpips)\S*", lambda m: m[1].upper(), column))


def verdicts(means: pd.DataFrame, claims: pd.DataFrame) -> pd.DataFrame:
    """The audit: every number that the report claims, what was measured here, a verdict and its reason."""
    keys = ["set", "method", "measure"]
    ours = _long(means[means["label"].isin(MEASURED)]).sort_values("label", ascending=False).drop_duplicates(keys)
    audit = _long(claims[claims["label"].str.startswith("report")]).sort_values("row", kind="stable")
    audit = audit.merge(ours[[*keys, "value"]].rename(columns={"value": "here"}), "left", keys)
    kind, reason = audit["measure"].str.split("_").str[0], audit["reason"]
    # a row's verdict is about its PSNR; what stands beside it may be in no source
    unknown = (kind == "seconds") | (kind != "psnr") & (audit["verdict"] == "published elsewhere")
    published = set(map(tuple, _long(claims[claims["label"] == "published value"])[[*keys, "value"]].to_numpy()))
    known = pd.Series([tuple(number) in published for number in audit[[*keys, "value"]].to_numpy()], dtype=bool)
    near = (audit["here"] - audit["value"]).abs() <= kind.map(TOLERANCE)
    verdict = audit["verdict"].mask(unknown, "cannot be checked here").mask(known, "published elsewhere")
    reason = reason.mask(kind == "seconds", "neither the machine nor the size of the photos is named")
    reason = reason.mask(near, "no further from this project's own value than " + kind.map(TOLERANCE).astype(str))
    for name in ("value", "here"):  # by size, as table 4 has measures in the wrong columns
        digits = ["psnr" if x > 2 or k == "seconds" else "ssim" for x, k in zip(audit[name], kind, strict=True)]
        audit[name] = [_number(*each) for each in zip(audit[name], digits, strict=True)]
    measure = kind.where(kind == "seconds", kind.str.upper())
    audit = audit.assign(verdict=verdict.mask(near, "reproduced"), reason=reason, measure=measure)
    audit = audit.assign(method=audit["method"].replace(NAMES), here=audit["here"].replace("–", "not measured"))
    audit = audit.rename(columns={"value": "claimed", "here": "measured here"})
    return audit[["source", "set", "method", "measure", "claimed", "measured here", "verdict", "reason"]]


def _long(table: pd.DataFrame) -> pd.DataFrame:
    """A row per number of the measures that the report uses, with the row it comes from."""
    measures = list(dict.fromkeys(c for _, _, columns in AUDITED.values() for c in columns if c in table))
    keys = [*(column for column in table if column not in measures), "row"]
    return table.assign(row=range(len(table))).melt(keys, measures, "measure").dropna(subset="value")


def markdown(table: pd.DataFrame, *, best: str | None = None) -> str:
    """A Markdown table; `best` names a column whose largest measured value per set is set in bold."""
    shown = table.copy()
    numbers = shown.select_dtypes("number").columns
    text = {column: shown[column].map(lambda value, c=column: _number(value, c)) for column in numbers}
    if best is not None:
        groups = shown.groupby("set")[best] if "set" in shown else [(None, shown[best])]
        for _, values in groups:
            text[best].loc[values.idxmax()] = f"**{text[best].loc[values.idxmax()]}**"
    cells = shown.assign(**text).map(_cell)
    cells.columns = [_cell(column) for column in cells]
    return cells.to_markdown(index=False, disable_numparse=True, colalign=_alignment(shown, numbers))


def write(table: pd.DataFrame, path: Path, *, best: str | None = None) -> None:
    """Write `path`.csv, `path`.md, and `path`.tex, a tabular for LaTeX with the package booktabs."""
    write_atomically(path.with_suffix(".csv"), lambda file: table.to_csv(file, index=False))
    text = markdown(table, best=best) + "\n"
    write_atomically(path.with_suffix(".md"), lambda file: Path(file).write_text(text))
    tex = table.to_latex(index=False, escape=True, float_format="%.4g", na_rep="--")
    tex = re.sub(r"<u>(.*?)</u>", r"\\underline{\1}", re.sub(r"\*\*(.*?)\*\*", r"\\textbf{\1}", tex))
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


def _cell(value) -> str:
    """One line, whatever breaks and bars are in it."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _alignment(table: pd.DataFrame, numbers) -> list[str]:
    return ["right" if column in numbers else "left" for column in table.columns]
