"""The audit: a verdict with a reason on every number that the audited report claims, and its errata.

The same value is not the same experiment. A row is reproduced only where the network, the objective and all of its
measures agree with what was measured here; everything else is judged by the literature, number by number (audit.csv).
"""

from collections.abc import Sequence
from math import log10
from pathlib import Path

import pandas as pd

from rvlib import measures
from rvlib.study.tables import AUDITED, MEASURED, NAMES, NOT_MEASURED, means

FOLDER = Path(__file__).parent
VERDICTS = {
    "reproduced": "network, objective and all measures of the row agree with what was measured here",
    "not reproduced": "the same network and objective were measured here and give another number",
    "published elsewhere": "the same number stands in a paper or a repository: it need not have been measured",
    "contradicts": "the number disagrees with the literature, the audited report itself, or what the measure can be",
    "cannot be checked here": "no source, no protocol, or another network than the ones measured here",
}
"""The verdicts, and what each means."""
SETS = ["Set5", "Set12", "Set14", "Urban100", "GoPro"]
"""The sets that the audited report names numbers of."""
KEYS = ["label", "set", "method", "measure"]
GREY = {"Set12"}
"""Sets whose photos are all grey: they are measured through RGB, so their luminance goes from 16 to 235."""
LIFT = 20 * log10(255 / 219)
"""dB by which that lifts the PSNR of a grey photo over the one of its own values, which go from 0 to 255."""
GREY_PHOTOS = (
    "Photos stored with a single channel are measured through RGB, as SwinIR's official test does. That lifts their "
    f"PSNR by 20 log₁₀(255/219) = {LIFT:.2f} dB over their own values, which older MATLAB scripts take: Set14 by "
    f"{LIFT / 14:.2f} dB (one photo of 14), Set12 by {LIFT:.2f} dB (all photos)."
)
"""What tables with Set14 or Set12 say of their grey photos."""


def errata() -> pd.DataFrame:
    """Where the audited report's text is wrong: place, what is printed, a remark, the source it was checked against."""
    return pd.read_csv(FOLDER / "errata.csv", keep_default_na=False)


def verdicts(rows: Sequence[pd.DataFrame], claims: pd.DataFrame) -> pd.DataFrame:
    """The audit of all claimed numbers: a row each, with the value measured here, a verdict and its reason.

    rows: measured rows with the facts of their weights (`provenance.stamp`), a table for each task, super-resolution
    first: a set may be measured in both. claims: of `tables.claims`.
    """
    claimed = _long(claims[claims["label"].str.startswith("report")])
    known = pd.read_csv(FOLDER / "audit.csv", keep_default_na=False)
    here = pd.concat([_here(each) for each in rows]).drop_duplicates(["set", "method", "measure"])
    audit = claimed.merge(known, "left", KEYS).merge(here, "left", ["set", "method", "measure"])
    agrees = [measures.find(each.measure).tolerance is None or _is_near(each) for each in audit.itertuples()]
    same = (audit["recipe"] == audit["own_recipe"]) & (audit["parameters"] == audit["own_parameters"])
    agreed = pd.Series(agrees).groupby([audit["label"], audit["set"], audit["method"]]).transform("all")
    audit = audit.assign(same=same, agreed=agreed)
    return pd.DataFrame([_audit(each) for each in audit.itertuples()])


def _long(table: pd.DataFrame) -> pd.DataFrame:
    """A row per number of the measures that the audited report uses, in its order."""
    columns = list(dict.fromkeys(c for audited in AUDITED.values() for c in audited.measures if c in table))
    keys = ["label", "set", "method", *(name for name in ("recipe", "parameters") if name in table)]
    long = table.assign(row=range(len(table))).melt([*keys, "row"], columns, "measure").dropna(subset="value")
    return long.sort_values("row", kind="stable").drop(columns="row")


def _here(rows: pd.DataFrame) -> pd.DataFrame:
    """What was measured here for a set and a method: of released weights, else of this run; with their facts."""
    columns = ["set", "method", "measure", "here", "own_recipe", "own_parameters"]
    if rows.empty:
        return pd.DataFrame({name: pd.Series(dtype="float" if name == "here" else "object") for name in columns})
    facts = rows.reindex(columns=["set", "method", "label", "recipe", "parameters"]).drop_duplicates(
        ["set", "method", "label"]
    )
    table = means(rows).merge(facts, on=["set", "method", "label"])
    table = table[table["label"].isin(MEASURED)].sort_values("label", kind="stable")
    long = _long(table).drop_duplicates(["set", "method", "measure"])
    return long.rename(columns={"value": "here", "recipe": "own_recipe", "parameters": "own_parameters"})[columns]


def _is_near(claim) -> bool:
    """Whether a claimed number is as near to the one measured here as its measure asks; false where there is none."""
    return abs(claim.here - claim.value) <= measures.find(claim.measure).tolerance


def verdict(claim) -> tuple[str, str]:
    """The verdict on one claimed number, and its reason.

    claim: `set`, `measure`, `value` (claimed), `here` (measured, or NaN), `same` (the same network and objective were
    measured), `agreed` (all measures of its row are near), and `verdict` and `reason` by the literature.
    """
    measure = measures.find(claim.measure)
    if measure.tolerance is None or not claim.same or pd.isna(claim.here):
        return claim.verdict, claim.reason
    distance = f"{claim.here - claim.value:+.{measure.digits}f} {measure.unit}".strip()
    if claim.agreed:
        return "reproduced", f"the same network and objective, and all measures of the row agree; here {distance}"
    if claim.set in GREY and claim.measure.startswith("psnr_y") and claim.here - LIFT < claim.value < claim.here:
        own = f"{claim.here - LIFT - claim.value:+.{measure.digits}f} {measure.unit}"
        both = f"the same network and objective give {distance} through RGB, as measured here, and {own} on grey values"
        return "cannot be checked here", f"{claim.reason}; no protocol is stated, and {both}"
    if claim.verdict == "cannot be checked here":
        row = ", though another measure of the row is further off" if _is_near(claim) else ""
        way = " through RGB (less on grey values)" if claim.set in GREY and claim.measure.startswith("ssim") else ""
        return "not reproduced", f"the same network and objective give {distance} here{way}{row}; {claim.reason}"
    return claim.verdict, f"{claim.reason}; the same network and objective give {distance} here"


def _audit(claim) -> dict[str, str]:
    """The row of the audit for one claimed number."""
    measure = measures.find(claim.measure)
    # table 4 has its numbers in the wrong columns: above 2 they can only be a PSNR
    digits = 2 if claim.value > 2 or measure == measures.SECONDS else 4
    conclusion, reason = verdict(claim)
    experiment = "–" if pd.isna(claim.here) else "the same" if claim.same else "another"
    return {
        "source": claim.label.replace("report's claim, ", "audited report, "),
        "set": claim.set,
        "method": NAMES.get(claim.method, claim.method),
        "measure": measure.title,
        "claimed": f"{claim.value:.{digits}f}",
        "measured here": NOT_MEASURED if pd.isna(claim.here) else measure.text(claim.here),
        "network and objective": experiment,
        "verdict": conclusion,
        "reason": reason,
        "literature": claim.cites,
    }
