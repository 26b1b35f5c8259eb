"""How sure is a mean over units (pieces, utterances, tracks), and which candidates are tied?

Units are drawn with replacement; notes, frames or segments of one piece belong together and are
never drawn apart. Two candidates (checkpoints) are compared on the same units: what makes one piece
hard makes it hard for both, and cancels in the difference.

Intervals are expanded percentile intervals (Hesterberg, "What Teachers Should Know About the
Bootstrap", The American Statistician 69(4), 2015): plain percentile intervals are too narrow for
few units, by the missing factor sqrt(n / (n - 1)) and by using the normal instead of Student's
quantile; the expanded ones read the percentiles further out. From about 50 units on, the two agree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amt_pipeline.core.seeding import derive_rng

_DRAWS_AT_ONCE = 2_000_000


def bootstrap_mean_interval(
    values: ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the bootstrap interval of the mean over units.

    Args:
        values: One score per unit, `[n_units]`; NaN units are left out.
        level: Confidence, between 0 and 1.
        n_resamples: Draws of the units.
        seed: Of the draws.

    Returns:
        Low and high end; both NaN with fewer than two units, which say nothing about spread.
    """
    low, high = bootstrap_mean_intervals(
        np.asarray(values, np.float64)[None], level=level, n_resamples=n_resamples, seed=seed
    )
    return float(low[0]), float(high[0])


def bootstrap_mean_intervals(
    scores: ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `bootstrap_mean_interval` of every row of `[n_candidates, n_units]`, as two arrays.

    All rows see the same draws of units.
    """
    table = score_table(scores)
    counts = np.isfinite(table).sum(axis=1)
    low, high = np.full(len(table), np.nan), np.full(len(table), np.nan)
    enough = counts >= 2
    if enough.any():
        means = resampled_means(table[enough], n_resamples, seed)
        tail = _expanded_tail(counts[enough], level)
        columns = zip(np.flatnonzero(enough), means.T, tail, strict=True)
        for index, resampled, one_tail in columns:
            ends = np.nanquantile(resampled, [one_tail, 1 - one_tail])
            # Rounding must not put an F1 above 1.
            row = table[index]
            low[index], high[index] = np.clip(ends, np.nanmin(row), np.nanmax(row))
    return low, high


def bootstrap_ratio_interval(
    totals: ArrayLike,
    sizes: ArrayLike,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap interval of a ratio of sums, such as right frames by frames.

    Units are drawn whole, with all that was counted of them: a long utterance weighs more than a
    short one, a speaker with many utterances more than one with few.

    Args:
        totals: What was counted of each unit, `[n_units]`.
        sizes: How much there was to count, `[n_units]`; units of size 0 are left out.
        level: Confidence, between 0 and 1.
        n_resamples: Draws of the units.
        seed: Of the draws.

    Returns:
        Low and high end; both NaN with fewer than two units.
    """
    all_sizes = np.asarray(sizes, np.float64)
    present = all_sizes > 0
    counted, size = np.asarray(totals, np.float64)[present], all_sizes[present]
    if len(size) < 2:
        return float("nan"), float("nan")
    drawn = resampled_ratios(counted[None], size[None], n_resamples, seed)[:, 0]
    tail = float(_expanded_tail(np.array([len(size)]), level)[0])
    ratios = counted / size
    low, high = np.clip(np.quantile(drawn, [tail, 1 - tail]), ratios.min(), ratios.max())
    return float(low), float(high)


def resampled_means(table: NDArray[np.float64], n_resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the mean of every row under every draw, `[n_resamples, rows]`; NaN units left out."""
    present = np.isfinite(table)
    filled = np.where(present, table, 0.0)
    return resampled_ratios(filled, present.astype(np.float64), n_resamples, seed)


def resampled_ratios(
    totals: NDArray[np.float64], sizes: NDArray[np.float64], n_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return sum of totals by sum of sizes of every row under every draw, `[n_resamples, rows]`.

    Args:
        totals: What is counted of each unit, `[rows, n_units]`.
        sizes: How much there was to count, alike.
        n_resamples: Draws of the units.
        seed: Of the draws.

    Returns:
        NaN where none of the units drawn has a size.
    """
    n_units = totals.shape[1]
    rng = derive_rng(seed, "bootstrap")
    ratios = np.empty((n_resamples, len(totals)))
    # How often each unit is drawn is all that a sum needs; in blocks, for corpora of many units.
    block = max(1, _DRAWS_AT_ONCE // n_units)
    for begin in range(0, n_resamples, block):
        size = min(block, n_resamples - begin)
        drawn = rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=size).astype(float)
        weight = drawn @ sizes.T
        ratios[begin : begin + size] = np.divide(
            drawn @ totals.T, weight, out=np.full(weight.shape, np.nan), where=weight > 0
        )
    return ratios


def unit_means(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of every row of `[n_candidates, n_units]` without its NaN units.

    A row of nothing else yields NaN.
    """
    present = np.isfinite(table)
    counts = present.sum(axis=1)
    totals = np.where(present, table, 0.0).sum(axis=1)
    means = np.full(len(table), np.nan)
    np.divide(totals, counts, out=means, where=counts > 0)
    return means


def student_factor(counts: NDArray[np.int64], level: float) -> NDArray[np.float64]:
    """Return by how much few units widen a normal interval, per number of units (2 or more)."""
    from scipy.stats import norm, t

    upper = (1 + level) / 2
    student = t.ppf(upper, counts - 1) / norm.ppf(upper)
    return np.asarray(np.sqrt(counts / (counts - 1)) * student, dtype=np.float64)


def _expanded_tail(counts: NDArray[np.int64], level: float) -> NDArray[np.float64]:
    """Return the probability to leave out at either end, per number of units (2 or more)."""
    from scipy.stats import norm

    upper = norm.ppf((1 + level) / 2)
    return np.asarray(norm.cdf(-upper * student_factor(counts, level)), dtype=np.float64)


def score_table(scores: ArrayLike) -> NDArray[np.float64]:
    """Return scores as `[n_candidates, n_units]` without the units that nobody has."""
    table = np.asarray(scores, np.float64)
    if table.ndim != 2:
        raise ValueError(f"scores {table.shape} are not [n_candidates, n_units]")
    return table[:, np.isfinite(table).any(axis=0)]
