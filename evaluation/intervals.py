"""Means and shares with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95

REPEATS = 2000  # of the bootstrap
FEW_PROMPTS = 8
"""Number of prompts below which bootstrap intervals are clearly too narrow, so no difference counts as resolved."""


def finite(values: Iterable[float | None]) -> np.ndarray:
    """Return the values without None and NaN."""
    return np.array([value for value in values if value is not None and not math.isnan(value)], float)


def share_interval(hits: float, count: int) -> tuple[float, float]:
    """Return the Wilson score interval of a share of `count` trials (Wilson 1927). A tie is half a hit."""
    share, z = hits / count, float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    middle = share + z**2 / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    scale = 1 + z**2 / count
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def half_width(values: Sequence[float] | np.ndarray) -> float:
    """Return half the width of Student's interval of a mean; NaN for fewer than two values."""
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * stats.sem(values))


def bootstrap(values: np.ndarray, repeats: int = REPEATS, seed: int = 0) -> tuple[float, float, float]:
    """Return (mean, low, high) of values [prompts, seeds], resampling prompts and seeds, each with replacement.

    Both are resampled because results of one prompt, and of one seed, are correlated. NaN cells are ignored. With one
    prompt and one seed, low and high are NaN.
    """
    measured = ~np.isnan(values)
    if not measured.any():
        return math.nan, math.nan, math.nan
    mean = float(values[measured].mean())
    prompts, seeds = values.shape
    if prompts == seeds == 1:
        return mean, math.nan, math.nan
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, prompts, (repeats, prompts))
    columns = rng.integers(0, seeds, (repeats, seeds))
    row_counts = np.stack([np.bincount(row, minlength=prompts) for row in rows])
    column_counts = np.stack([np.bincount(column, minlength=seeds) for column in columns])
    sums, counts = (
        np.einsum("rp,ps,rs->r", row_counts, cells, column_counts, optimize=True)
        for cells in (np.where(measured, values, 0.0), measured.astype(float))
    )
    means = sums[counts > 0] / counts[counts > 0]
    return mean, *middle_of(means)


def share_over_prompts(wins: np.ndarray) -> tuple[float, float, float]:
    """Return (share, low, high) of wins [prompts, seeds] in 0..1; NaN cells are ignored.

    With one value per prompt this is Wilson's interval. With several it is the bootstrap's, widened to Wilson's for the
    number of prompts: values of one prompt are not independent, and the bootstrap of equal values has no width.
    """
    counts = np.count_nonzero(~np.isnan(wins), axis=1)
    prompts = int(np.count_nonzero(counts))
    if not prompts:
        return math.nan, math.nan, math.nan
    share, *ends = bootstrap(wins)
    return _at_least_wilsons(share, prompts, ends if counts.max() > 1 else ())


def share_of_groups(groups: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Return (share, low, high) of all values in 0..1; values of one group, such as the pairs of a prompt, are not
    independent.

    With one value per group this is Wilson's interval. With several it is the bootstrap's over groups, widened to
    Wilson's for the number of groups.
    """
    count = len(groups)
    if not count:
        return math.nan, math.nan, math.nan
    sums, sizes = np.array([sum(group) for group in groups], float), np.array([len(group) for group in groups])
    share = float(sums.sum() / sizes.sum())
    ends = ()
    if sizes.max() > 1:
        drawn = np.random.default_rng(0).integers(0, count, (REPEATS, count))
        ends = middle_of(sums[drawn].sum(1) / sizes[drawn].sum(1))
    return _at_least_wilsons(share, count, ends)


def middle_of(drawn: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the ends of the middle 95 % of the bootstrap's values; NaN is ignored."""
    low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _at_least_wilsons(share: float, count: int, ends: Sequence[float]) -> tuple[float, float, float]:
    """Return the share with Wilson's interval for `count` trials, widened to the `ends` of a bootstrap, if given."""
    wilsons = share_interval(share * count, count)
    return share, min([wilsons[0], *ends]), max([wilsons[1], *ends])


def mean_text(values: Iterable[float | None], digits: int = 2) -> str:
    """Return "mean ± half width", only the value if there is one, or "none"."""
    numbers = finite(values)
    if len(numbers) < 2:
        return f"{numbers[0]:.{digits}f}" if len(numbers) else "none"
    return f"{numbers.mean():.{digits}f} ± {half_width(numbers):.{digits}f}"


def interval_text(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return "value (low to high)", only the value without an interval, or "none" for NaN."""
    if math.isnan(value):
        return "none"
    return f"{value:.2f}" if math.isnan(low) else f"{value:.2f} ({low:.2f} to {high:.2f})"


def share_text(flags: Sequence[bool]) -> str:
    """Return "share (low to high, n = count)", or "none" without a value."""
    if not len(flags):
        return "none"
    low, high = share_interval(sum(flags), len(flags))
    return f"{sum(flags) / len(flags):.1%} ({low:.1%} to {high:.1%}, n = {len(flags)})"
