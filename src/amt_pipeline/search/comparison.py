"""From the results of a study to its table: what each variant scored, and whether it differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.core.errors import UserError
from amt_pipeline.ranking.bootstrap import bootstrap_mean_intervals, unit_means
from amt_pipeline.ranking.rank import RankingConfig
from amt_pipeline.search.caveats import caveats
from amt_pipeline.search.significance import holm, sign_flip_p_value
from amt_pipeline.search.study import show_value
from amt_pipeline.search.variant import VariantResult

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """What a study found.

    Attributes:
        table: One row per variant, best first, those without a result last; see `compare`.
        per_unit: One row per variant and validation unit: variant, unit, score (mean over seeds),
            difference (to the reference).
        metric: The score that counts.
        unit: What it is per.
        reference: The variant that the others are tested against.
        warnings: What to know before believing the table.
    """

    table: pd.DataFrame
    per_unit: pd.DataFrame
    metric: str
    unit: str
    reference: str
    warnings: tuple[str, ...]


def compare(
    results: Sequence[VariantResult], reference: str, ranking: RankingConfig | None = None
) -> Comparison:
    """Compare the variants of a study on the units of the validation split.

    A unit's score is its mean over the seeds of a variant, at the checkpoint that each training's
    ranking chose. Differences to the reference are paired by unit; their intervals come from
    `ranking.bootstrap`, their p-values from a paired permutation test, corrected by Holm's method
    for the number of variants (`search.significance`). Both ask whether *these* trainings differ
    on other units like these; how much a new training would differ shows in the spread over seeds.

    Args:
        results: Of every variant and seed, in the study's order.
        reference: Name of a variant.
        ranking: Level, resamples and seed of intervals and tests.

    Returns:
        The table has rank, variant, settings, seeds (finished), parameters, steps, chosen_step,
        seconds, train_<metric>, validation_<metric> (means over seeds), the latter's `_low` and
        `_high` (interval over units), spread (standard deviation over seeds), lowest, highest
        (seeds), difference, difference_low, difference_high, p_value, p_corrected (NaN for the
        reference), place (in the study's order), note (why a seed is missing).

    Raises:
        UserError: There is no result at all.
    """
    import pandas as pd

    if not any(result.status == "finished" for result in results):
        reason = results[0].reason if results else "it has no variants"
        raise UserError("study", f"no training finished ({reason})", "Change its settings")
    config = ranking or RankingConfig()
    names = list(dict.fromkeys(result.name for result in results))
    by_name = {name: [r for r in results if r.name == name] for name in names}
    metric = next(r.metric for r in results if r.status == "finished")
    unit = next(r.unit for r in results if r.status == "finished")
    units, scores = _unit_scores(list(by_name.values()))
    position = names.index(reference)
    rows = [_row(name, by_name[name], metric) for name in names]
    table = pd.DataFrame(rows)
    intervals = {"level": config.level, "n_resamples": config.resamples, "seed": config.seed}
    low, high = bootstrap_mean_intervals(scores, **intervals)  # type: ignore[arg-type]
    differences = scores - scores[position]
    ends = {f"validation_{metric}_low": low, f"validation_{metric}_high": high}
    table = table.assign(**ends, **_against(differences, position, config))
    warnings = caveats(table, results, reference, len(units), unit)
    return Comparison(
        _ranked(table, metric),
        _per_unit(names, units, scores, differences),
        metric,
        unit,
        reference,
        warnings,
    )


def _unit_scores(variants: Sequence[Sequence[VariantResult]]) -> tuple[list[str], Floats]:
    """Return the units and the scores `[variants, units]`, each the mean over finished seeds."""
    finished = [[r for r in seeds if r.status == "finished"] for seeds in variants]
    units = list(dict.fromkeys(unit for seeds in finished for r in seeds for unit in r.per_unit))
    scores = np.full((len(finished), len(units)), np.nan)
    for row, seeds in enumerate(finished):
        if seeds:
            # [units, seeds]; a unit that a seed could not score is not counted for that seed.
            table = [[_number(r.per_unit.get(unit)) for r in seeds] for unit in units]
            scores[row] = unit_means(np.asarray(table, np.float64))
    return units, scores


def _row(name: str, seeds: Sequence[VariantResult], metric: str) -> dict[str, Any]:
    done = [result for result in seeds if result.status == "finished"]
    validation = np.asarray([_number(r.validation.get(metric)) for r in done])
    missing = [f"seed {r.seed} {r.status}: {r.reason}" for r in seeds if r.status != "finished"]
    settings = ", ".join(f"{key}={show_value(value)}" for key, value in seeds[0].settings.items())
    return {
        "variant": name,
        "settings": settings,
        "seeds": len(done),
        "parameters": _mean([r.parameters for r in done]),
        "steps": _mean([r.steps for r in done]),
        "chosen_step": _mean([r.chosen_step for r in done]),
        "seconds": _mean([r.seconds for r in done]),
        f"train_{metric}": _mean([r.train.get(metric) for r in done]),
        f"validation_{metric}": _mean(list(validation)),
        "spread": float(np.std(validation, ddof=1)) if len(validation) > 1 else float("nan"),
        "lowest": float(validation.min()) if len(validation) else float("nan"),
        "highest": float(validation.max()) if len(validation) else float("nan"),
        "note": "; ".join(missing),
    }


def _against(differences: Floats, reference: int, config: RankingConfig) -> dict[str, Floats]:
    """Return difference to the reference, its interval and p-values, by column."""
    others = np.arange(len(differences)) != reference
    low, high = bootstrap_mean_intervals(
        differences, level=config.level, n_resamples=config.resamples, seed=config.seed
    )
    p_values = np.asarray([sign_flip_p_value(row, seed=config.seed) for row in differences])
    columns = {
        "difference": unit_means(differences),
        "difference_low": low,
        "difference_high": high,
        "p_value": p_values,
    }
    columns = {name: np.where(others, values, np.nan) for name, values in columns.items()}
    return {**columns, "p_corrected": holm(list(columns["p_value"]))}


def _ranked(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    table = table.assign(place=np.arange(1, len(table) + 1))
    table = table.sort_values(
        f"validation_{metric}", ascending=False, kind="stable", na_position="last"
    ).reset_index(drop=True)
    # Equal scores share a rank; those without one come after all others.
    scores = table[f"validation_{metric}"]
    ranks = scores.rank(method="min", ascending=False, na_option="bottom")
    table.insert(0, "rank", ranks.astype(int))
    score = f"validation_{metric}"
    before = [*table.columns[: list(table.columns).index(score) + 1], f"{score}_low"]
    before.append(f"{score}_high")
    after = [name for name in table.columns if name not in {*before, "place", "note"}]
    return table[[*before, *after, "place", "note"]]


def _per_unit(
    names: Sequence[str], units: Sequence[str], scores: Floats, differences: Floats
) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (name, unit, scores[row, column], differences[row, column])
        for row, name in enumerate(names)
        for column, unit in enumerate(units)
    ]
    return pd.DataFrame(rows, columns=["variant", "unit", "score", "difference"])


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
