"""What a study's table cannot tell: lost trainings, too few units or seeds, ranges not covered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amt_pipeline.search.significance import smallest_p_value, units_needed
from amt_pipeline.search.variant import VariantResult

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05

RANGE_WARNINGS = ("the leader is the first", "the leader is the last", "still rises")
"""Warnings of a ranking that concern a study: the others are about ties of one training."""


def caveats(
    table: pd.DataFrame,
    results: Sequence[VariantResult],
    reference: str,
    n_units: int,
    unit: str,
) -> tuple[str, ...]:
    """Return what to know before believing the table of a study.

    Args:
        table: One row per variant; see `search.comparison.compare`.
        results: Of every variant and seed.
        reference: The variant that the others are tested against.
        n_units: Validation units.
        unit: What they are (`piece`).
    """
    found = []
    if (n_lost := sum(r.status != "finished" for r in results)) > 0:
        found.append(f"{n_lost} of {len(results)} trainings did not finish; see the notes")
    if table.loc[table["variant"] == reference, "seeds"].item() == 0:
        found.append(f"the reference {reference} has no result, so nothing could be tested")
    found += _of_power(int(table["p_value"].notna().sum()), n_units, unit)
    if int(table["seeds"].max()) < 2:
        found.append("one seed only: what another training would have given is not known")
    doubtful = _within_seeds(table, reference)
    if doubtful:
        found.append(
            f"{'; '.join(doubtful)}: different from {reference} on these units, but by no more "
            "than trainings with other seeds differ; add seeds"
        )
    return (*found, *_of_rankings(results))


def _of_power(n_tests: int, n_units: int, unit: str) -> list[str]:
    """Return a warning where no difference, however large, could be significant."""
    if n_units >= 2 and n_tests * smallest_p_value(n_units) < SIGNIFICANT:
        return []
    tests = f"{n_tests} corrected tests" if n_tests > 1 else "a test"
    needed = units_needed(n_tests, SIGNIFICANT)
    if needed is None:
        return [f"so many variants ({n_tests}) that no difference can be significant: compare less"]
    if n_units >= needed:
        return []
    return [
        f"only {n_units} units ({unit}): {tests} can find nothing on so few, whatever the "
        f"difference; {needed} would be needed"
    ]


def _of_rankings(results: Sequence[VariantResult]) -> list[str]:
    """Return what the rankings say of the range of checkpoints, each warning once."""
    found = []
    for warning in dict.fromkeys(w for r in results for w in r.warnings):
        if any(part in warning for part in RANGE_WARNINGS):
            who = dict.fromkeys(r.name for r in results if warning in r.warnings)
            is_all = len(who) == len({r.name for r in results}) > 1
            found.append(f"{'all variants' if is_all else '; '.join(who)}: {warning}")
    return found


def _within_seeds(table: pd.DataFrame, reference: str) -> list[str]:
    """Return variants whose difference is significant over units and small beside the seeds'.

    Small: less than twice the standard error of a difference of two means over seeds.
    """
    variance = table["spread"] ** 2 / table["seeds"].clip(lower=1)
    own = variance[table["variant"] == reference].item()
    error = np.sqrt(variance + own)
    doubtful = (table["p_corrected"] < SIGNIFICANT) & (table["difference"].abs() < 2 * error)
    return [str(name) for name in table.loc[doubtful, "variant"]]
