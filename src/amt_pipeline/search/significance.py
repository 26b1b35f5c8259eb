"""Is a difference on the same units more than chance? One test, corrected for several questions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amt_pipeline.core.seeding import derive_rng

PERMUTATIONS = 9999
"""Random sign changes: the smallest p-value is then 2/10,000. Up to 13 units all are tried."""


def sign_flip_p_value(
    differences: ArrayLike, *, n_permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """Return the two-sided p-value of a paired permutation test of the mean difference.

    If nothing sets two variants apart, each unit's difference may as well have the other sign
    (Fisher, "The Design of Experiments", 1935, section 21). All sign changes are tried for few
    units, `n_permutations` random ones beyond, counted so that p is never 0 (Phipson and Smyth,
    "Permutation P-values Should Never Be Zero", 2010).

    Args:
        differences: One per unit, `[n_units]`; NaN units are left out.
        n_permutations: Random sign changes.
        seed: Of the draws.

    Returns:
        The p-value; NaN with fewer than two units.
    """
    from scipy.stats import permutation_test

    values = np.asarray(differences, np.float64)
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return float("nan")
    if not np.any(values):
        return 1.0
    test = permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_permutations,
        batch=max(1, 2_000_000 // len(values)),
        random_state=derive_rng(seed, "sign flips"),
    )
    return float(test.pvalue)


def smallest_p_value(n_units: int) -> float:
    """Return the p-value of `sign_flip_p_value` that no difference on so many units gets below."""
    # Two-sided: the changes as extreme are at least all signs as they are, and all reversed.
    return max(2.0 ** (1 - n_units), 2 / (PERMUTATIONS + 1))


def units_needed(n_tests: int, level: float) -> int | None:
    """Return how many units the best of `n_tests` tests needs to be below `level` once corrected.

    None is that no number of units does: the random sign changes are too few.
    """
    if n_tests * smallest_p_value(10_000) >= level:
        return None
    return next(n for n in itertools.count(2) if n_tests * smallest_p_value(n) < level)


def holm(p_values: Sequence[float]) -> NDArray[np.float64]:
    """Return p-values corrected for their number, so that one false alarm among all is rare.

    Step-down method of Holm ("A Simple Sequentially Rejective Multiple Test Procedure", 1979). NaN
    is no question and stays NaN.
    """
    values = np.asarray(p_values, np.float64)
    corrected = np.full(len(values), np.nan)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return corrected
