"""Which candidates are as good as the best, as far as the units can tell?

The top of a ranking is chance: checkpoints of one plateau differ by less than their scores are
known. The tie set is what the ranking really says; a rule fixed beforehand then picks from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amt_pipeline.ranking.bootstrap import (
    resampled_means,
    score_table,
    student_factor,
    unit_means,
)

ROUNDING = 5e-5
"""Scores are reported with four decimals; means closer than this read as equal."""


@dataclass(frozen=True)
class LeaderComparison:
    """Every candidate against the best one.

    Attributes:
        leader: Index of the candidate with the highest mean; the first of several.
        difference: Mean of `candidate - leader` over the units both have, `[n_candidates]`; at most
            0 where all units are scored, NaN without a common unit.
        low: Lower end of the simultaneous interval, `[n_candidates]`.
        high: Upper end of it.
        tied: Whether the interval includes 0, `[n_candidates]`; true for the leader.
        warning: What to know before trusting the ties; None when there is nothing.
    """

    leader: int
    difference: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    tied: NDArray[np.bool_]
    warning: str | None


def compare_with_leader(
    scores: ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> LeaderComparison:
    """Compare all candidates with the best one, with intervals that hold together.

    Max-T bootstrap (Westfall and Young's single-step adjustment): the units are drawn once for all
    candidates, each draw yields the largest deviation of any difference in units of its standard
    error, and the `level` quantile of these widens every interval. With many candidates, single
    intervals would exclude some of the leader's equals by chance. The quantile is two-sided, larger
    than the one-sided one a fixed control would need, which allows for the leader having been
    picked on the same units; and it is scaled to Student's quantile for few units.

    Args:
        scores: `[n_candidates, n_units]`, higher is better. Units that no candidate has are left
            out; a difference is taken over the units that both have. A candidate without any score
            is never tied, nor is one with fewer than two units in common with the leader.
        level: Simultaneous confidence.
        n_resamples: Draws of the units.
        seed: Of the draws.

    Returns:
        Leader, differences, intervals, ties. With fewer than two units, candidates are tied whose
        means read as equal (within `ROUNDING`), the intervals are NaN, and a warning says so.

    Raises:
        ValueError: No candidate has any score.
    """
    table = score_table(scores)
    scored = np.isfinite(table)
    if not scored.any():
        raise ValueError("no candidate has a score")
    means = unit_means(table)
    leader = int(np.nanargmax(means))
    differences = table - table[leader]
    counts = np.isfinite(differences).sum(axis=1)
    difference = unit_means(differences)
    nothing = np.full(len(table), np.nan)
    if counts[leader] < 2:
        tied = np.nan_to_num(means[leader] - means, nan=np.inf) <= ROUNDING
        few = (
            "the candidates were scored on one unit only: which of them is better is not known, "
            "equal scores count as ties; validate on more units"
        )
        return LeaderComparison(leader, difference, nothing, nothing.copy(), tied, few)
    margin = _simultaneous_margin(differences, difference, counts, level, n_resamples, seed)
    low, high = difference - margin, difference + margin
    tied = (low <= 1e-12) & (high >= -1e-12)
    tied[leader] = True
    warning = None
    if counts[leader] < 5:
        warning = f"only {counts[leader]} units: the intervals are wide and rough"
    return LeaderComparison(leader, difference, low, high, tied, warning)


def _simultaneous_margin(
    differences: NDArray[np.float64],
    mean: NDArray[np.float64],
    counts: NDArray[np.int64],
    level: float,
    n_resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return half the width of every candidate's simultaneous interval; NaN below two units."""
    enough = counts >= 2
    margin = np.full(len(differences), np.nan)
    deviation = np.abs(resampled_means(differences[enough], n_resamples, seed) - mean[enough])
    error = np.sqrt(np.nanmean(deviation**2, axis=0))
    # A constant difference has no error, up to rounding; it must not lead the maximum.
    varies = error > 1e-12
    critical = 0.0
    if varies.any():
        largest = np.fmax.reduce(deviation[:, varies] / error[varies], axis=1)
        critical = float(np.nanquantile(largest, level))
    margin[enough] = critical * error * student_factor(counts[enough], level)
    return margin
