"""From scores to a ranking, and from a ranking to one checkpoint, by a rule fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amt_pipeline.core.errors import ConfigError, UserError
from amt_pipeline.ranking.bootstrap import bootstrap_mean_intervals, unit_means
from amt_pipeline.ranking.ties import compare_with_leader

if TYPE_CHECKING:
    import pandas as pd

Rule = Literal["best", "latest_tied", "earliest_tied"]

_LEADING_COLUMNS = {"f1": ("precision", "recall", "f1", "auc")}
"""Columns before all others, by metric; the metric alone where none are named."""

_RISE_P = 0.05
_RISE = 1e-4


@dataclass(frozen=True)
class Choice:
    """The checkpoint to go on with.

    Attributes:
        step: Its training step.
        rule: The rule that chose it.
        reason: One line for people: why this one.
        warnings: What speaks against trusting the choice; empty when nothing does.
    """

    step: int
    rule: Rule
    reason: str
    warnings: tuple[str, ...] = ()


def rank_curve(curve: pd.DataFrame, *, higher_is_better: bool = True) -> pd.DataFrame:
    """Sort a curve, best value first: what one did by hand in a spreadsheet.

    The top of a noisy curve overstates itself; the value is where to look, not a result.

    Args:
        curve: Columns step and value (see `ranking.curves.read_curve`), others are kept.
        higher_is_better: False for a loss or an error rate.

    Returns:
        The rows with a first column rank (1 is best); of equal values the earlier step comes first,
        steps without a value (NaN) last.
    """
    ranked = curve.sort_values("step", kind="stable").sort_values(
        "value", ascending=not higher_is_better, kind="stable", na_position="last"
    )
    ranked = ranked.reset_index(drop=True)
    ranked.insert(0, "rank", np.arange(1, len(ranked) + 1))
    return ranked


def choose(table: pd.DataFrame, rule: Rule = "best", metric: str = "f1") -> Choice:
    """Choose a checkpoint.

    Rules: `best` takes the highest score (the earlier step of equals); `latest_tied` and
    `earliest_tied` take the last or the first step of those tied with it.

    Args:
        table: Columns step, the metric and tied, one row per checkpoint (see `build_ranking`).
        rule: Fixed before the scores were seen, or it is no rule.
        metric: The score that counts; higher is better.

    Returns:
        The choice, with warnings when the leader is the first or the last one saved, or the curve
        still rises in its last third: then a better one may lie outside the range.

    Raises:
        ConfigError: The rule is unknown.
        UserError: No checkpoint has a score.
    """
    if rule not in get_args(Rule):
        raise ConfigError("rule", f"{rule!r} is unknown", f"Use one of {', '.join(get_args(Rule))}")
    known = table[table[metric].notna()].sort_values("step")
    if known.empty:
        raise UserError("ranking", "no checkpoint has a score", "Validate the checkpoints first")
    steps = known["step"].to_numpy(np.int64)
    values = known[metric].to_numpy(np.float64)
    name = metric_name(metric)
    tied = steps[known["tied"].to_numpy(np.bool_)]
    leader = int(np.argmax(values))
    step = int(steps[leader])
    reason = f"highest {name}, {values[leader]:.4f}"
    # The leader is tied with itself even if a table from elsewhere does not say so.
    equals = sorted({step, *tied.tolist()})
    if rule != "best":
        step = equals[-1] if rule == "latest_tied" else equals[0]
        which = "latest" if rule == "latest_tied" else "earliest"
        reason = (
            f"{which} of {len(equals)} tied with the leader (step {steps[leader]}, {name} "
            f"{values[leader]:.4f})"
        )
    elif len(equals) > 1:
        reason += f"; {len(equals) - 1} other checkpoint(s) are tied with it"
    return Choice(step, rule, reason, _warnings(table, steps, values, leader, name))


def build_ranking(
    steps: Sequence[int],
    per_unit: ArrayLike,
    columns: Mapping[str, Sequence[float]] | None = None,
    *,
    metric: str = "f1",
    rule: Rule = "best",
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank checkpoints by their mean score over units.

    Args:
        steps: Training step of each checkpoint.
        per_unit: `[n_checkpoints, n_units]` scores; the same units in the same order for every
            checkpoint, NaN where a unit has no score.
        columns: Further metrics, one value per checkpoint, by name: precision, recall and auc have
            their places beside F1, others follow them.
        metric: Name of the score: `f1`, `accuracy`; higher is better.
        rule: How the chosen one is chosen; see `choose`.
        level: Confidence of all intervals.
        n_resamples: Bootstrap draws of the units.
        seed: Of the draws.

    Returns:
        One row per checkpoint, best first: rank, step, (precision, recall,) the metric, (auc,)
        other columns, <metric>_low, <metric>_high (interval of this mean alone),
        difference_from_leader (this - leader, on the
        same units), difference_low, difference_high (simultaneous over all checkpoints), tied,
        chosen. A metric that was not given is NaN. `attrs["warnings"]` lists what to know about the
        ties.

    Raises:
        ConfigError: The rule is unknown.
        UserError: No checkpoint has a score, or a step occurs twice.
        ValueError: Numbers of checkpoints do not agree, or `columns` has the metric.
    """
    import pandas as pd

    given = dict(columns or {})
    scores = np.asarray(per_unit, np.float64)
    if scores.ndim != 2 or any(len(c) != len(scores) for c in (steps, *given.values())):
        raise ValueError(f"steps, columns and scores {scores.shape} differ in checkpoints")
    if metric in given:
        raise ValueError(f"{metric} is the mean over units; give another one a name of its own")
    if len(set(steps)) < len(steps):
        raise UserError("ranking", "a step occurs twice", "Rank the checkpoints of one run")
    if not np.isfinite(scores).any():
        raise UserError("ranking", "no checkpoint has a score", "Validate the checkpoints first")
    order = np.argsort(np.asarray(steps))
    scores = scores[order]
    data: dict[str, ArrayLike] = {"step": np.asarray(steps)[order]}
    leading = _LEADING_COLUMNS.get(metric, (metric,))
    for name in (*leading, *(n for n in given if n not in leading)):
        values = given.get(name, np.full(len(scores), np.nan))
        data[name] = unit_means(scores) if name == metric else np.asarray(values, float)[order]
    data[f"{metric}_low"], data[f"{metric}_high"] = bootstrap_mean_intervals(
        scores, level=level, n_resamples=n_resamples, seed=seed
    )
    against = compare_with_leader(scores, level=level, n_resamples=n_resamples, seed=seed)
    data["difference_from_leader"] = against.difference
    data["difference_low"], data["difference_high"] = against.low, against.high
    data["tied"] = against.tied
    table = pd.DataFrame(data)
    table["chosen"] = table["step"] == choose(table, rule, metric).step
    table = table.sort_values(metric, ascending=False, kind="stable", na_position="last")
    table = table.reset_index(drop=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table.attrs["warnings"] = [against.warning] if against.warning else []
    return table


def _warnings(
    table: pd.DataFrame,
    steps: NDArray[np.int64],
    values: NDArray[np.float64],
    leader: int,
    name: str,
) -> tuple[str, ...]:
    """Say what speaks against the range of checkpoints; `steps` ascend."""
    found = []
    if len(steps) < len(table):
        found.append(f"{len(table) - len(steps)} checkpoint(s) without a score were left out")
    if len(steps) == 1:
        return (*found, "there is only one checkpoint: nothing was chosen")
    if leader == 0:
        found.append("the leader is the first checkpoint saved: save earlier, or lower the rate")
    if leader == len(steps) - 1:
        found.append("the leader is the last checkpoint saved: train longer")
    if _still_rising(steps, values):
        found.append(f"{name} still rises in the last third of the checkpoints: train longer")
    return tuple(found)


def metric_name(metric: str) -> str:
    """Return the name of a score for people."""
    return {"f1": "F1"}.get(metric, metric)


def _still_rising(steps: NDArray[np.int64], values: NDArray[np.float64]) -> bool:
    """Tell whether a line through the last third goes up, by more than chance and rounding.

    One-sided test of the slope; needs three points, so nine checkpoints.
    """
    last = len(steps) // 3
    if last < 3:
        return False
    from scipy.stats import linregress

    tail_steps = steps[-last:].astype(np.float64)
    fit = linregress(tail_steps, values[-last:], alternative="greater")
    rise = float(fit.slope) * float(tail_steps[-1] - tail_steps[0])
    return bool(fit.pvalue < _RISE_P and rise > _RISE)
