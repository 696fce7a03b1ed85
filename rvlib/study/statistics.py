"""How sure a mean over photos is: 95 % intervals by Student's t.

Student 1908, *The Probable Error of a Mean* (Biometrika 6). The interval says how far the mean would move with other
photos of the same kind. It knows nothing of other seeds: train several times to see those. Percentiles of a bootstrap
would be too narrow here: the sets have few photos, and of three photos they are the smallest and the largest value
(Hesterberg 2015, *What Teachers Should Know About the Bootstrap*, section 3.1).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

from rvlib.errors import UserError


class Interval(NamedTuple):
    """A mean, the ends of its 95 % interval, and the number of photos behind it."""

    mean: float
    low: float
    high: float
    photos: int

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out zero: for a difference, whether the two can be told apart."""
        return self.low > 0 or self.high < 0

    def rounded(self, digits: int) -> tuple[str, str, str]:
        """Mean and ends with a sign; with more digits where an end would round to zero and lose its sign."""
        while any(abs(end) > 1e-4 and not round(end, digits) for end in (self.low, self.high)):
            digits += 1
        return tuple(f"{round(value, digits) + 0.0:+.{digits}f}" for value in self[:3])  # no -0.00

    def text(self, digits: int = 2, unit: str = "") -> str:
        """As sentences write a difference: "+0.21 dB (95 %: +0.10 to +0.33, 14 photos)", with a word if zero is in."""
        mean, low, high = self.rounded(digits)
        doubt = "" if self.decided else "; cannot be told from zero"
        return f"{mean}{' ' * bool(unit)}{unit} (95 %: {low} to {high}, {self.photos} photos{doubt})"


def mean_interval(values: Sequence[float]) -> Interval:
    r"""Mean of one value per photo and its 95 % interval, $\bar v \pm t_{0.975,\,n-1}\, s / \sqrt n$.

    Raises UserError for fewer than two values and for values that are not finite.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise UserError("an interval needs at least two finite numbers in a row: one for each photo")
    mean, photos = float(values.mean()), len(values)
    half = float(student.ppf(0.975, photos - 1) * values.std(ddof=1) / np.sqrt(photos))
    return Interval(mean, mean - half, mean + half, photos)


def paired_difference(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Mean of a - b over the same photos and its 95 % interval.

    Photos differ far more from each other than methods do: the difference on each photo is what can be told apart.
    Raises UserError where the two do not have one finite number for each of the same photos.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise UserError(f"a paired difference needs the same photos on both sides, not {len(a)} and {len(b)}")
    return mean_interval(a - b)


def paired(rows: pd.DataFrame, column: str, first: tuple[str, str], second: tuple[str, str]) -> Interval | None:
    """The paired difference first - second of a column over `evaluate`'s rows of one set.

    first, second: method and label. None where fewer than two photos have both, or a number is not finite.
    """
    parts = [rows[(rows["method"] == method) & (rows["label"] == label)] for method, label in (first, second)]
    values = [part.drop_duplicates("photo").set_index("photo")[column].dropna() for part in parts]
    both = pd.concat(values, axis=1, join="inner")
    has_interval = len(both) > 1 and np.isfinite(both).all(axis=None)
    return paired_difference(both.iloc[:, 0], both.iloc[:, 1]) if has_interval else None


def differences(
    rows: pd.DataFrame, column: str, first: tuple[str, str], second: tuple[str, str]
) -> dict[str, Interval]:
    """`paired` of each set of `evaluate`'s rows by its name, without those that have no interval."""
    found = {name: paired(part, column, first, second) for name, part in rows.groupby("set", sort=False)}
    return {name: each for name, each in found.items() if each is not None}


def by_chance(intervals: int) -> str:
    """The warning below many intervals, in words: one 95 % interval of twenty leaves out zero with no difference."""
    expected = 0.05 * intervals
    return f"{intervals} intervals: by chance, about {expected:.0f} of them leave out zero where nothing differs"


def over_seeds(by_seed: pd.DataFrame, first: str, second: str) -> tuple[float, bool, str]:
    """The row `first` less the row `second`: its mean over seeds in dB, whether it is decided, and both in words.

    by_seed: a column for each seed. A difference is decided if there are three seeds or more and the 95 % interval of
    its mean leaves out zero. Equal signs do not decide: by chance, three seeds agree in one case of four.
    """
    gap = by_seed.loc[first] - by_seed.loc[second]
    told = f"{gap.mean():+.3f} dB, seeds from {gap.min():+.3f} to {gap.max():+.3f}"
    if len(gap) < 3:
        return gap.mean(), False, f"{told}; too few seeds to tell"
    interval = mean_interval(gap)
    doubt = "" if interval.decided else "; cannot be told from zero"
    return gap.mean(), interval.decided, f"{told} (95 %: {interval.low:+.3f} to {interval.high:+.3f}{doubt})"
