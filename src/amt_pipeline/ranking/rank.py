"""From checkpoints to the chosen one: rank over validation, choose by rule, score once on train."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.errors import CheckpointError, CorpusError, MissingPredecessorError
from amt_pipeline.core.values import finite_or_none
from amt_pipeline.ranking.choice import build_ranking, choose, metric_name
from amt_pipeline.ranking.evaluate import evaluate_checkpoints
from amt_pipeline.training.checkpoints import copy_checkpoint, list_checkpoints, read_state
from amt_pipeline.training.evaluation import UnitTallies
from amt_pipeline.training.objective import Objective
from amt_pipeline.training.run import differences
from amt_pipeline.training.task import Task

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

BEST_FILE = "best.json"


class RankingConfig(BaseModel):
    """How checkpoints are ranked and one is chosen.

    Attributes:
        rule: `best` takes the highest mean score over units; `latest_tied` and `earliest_tied` take
            the latest or earliest of those that the paired bootstrap cannot tell from it.
        level: Confidence of all intervals.
        resamples: Bootstrap draws.
        seed: Of the draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["best", "latest_tied", "earliest_tied"] = "best"
    level: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100)
    seed: int = 0


@dataclass(frozen=True)
class RankingOutcome:
    """A ranking and what was chosen.

    Attributes:
        table: One row per checkpoint, best first; see `ranking.choice.build_ranking`.
        per_unit: One row per checkpoint and unit: step, unit, scores (precision, recall, f1, or
            accuracy, loss).
        best: JSON-able record of the chosen checkpoint: step, scores on validation and train, what
            was tuned (a threshold), reason, warnings.
    """

    table: pd.DataFrame
    per_unit: pd.DataFrame
    best: dict[str, Any]


@dataclass(frozen=True)
class _Scores:
    """What is kept of every checkpoint's evaluation; all histograms would fill the memory.

    Attributes:
        units: Scores of every unit.
        means: Their means over units; scores pooled over all units.
    """

    units: dict[str, dict[str, float]]
    means: dict[str, float]

    @classmethod
    def of(cls, tallies: UnitTallies, objective: Objective) -> _Scores:
        units = {unit: tally.scores() for unit, tally in tallies.items()}
        means = {
            name: float(np.mean([scores[name] for scores in units.values()]))
            if units
            else float("nan")
            for name in objective.new_tally().scores()
        }
        return cls(units, {**means, **objective.pooled(list(tallies.values()))})


def rank_checkpoints(
    task: Task,
    checkpoints_folder: Path,
    best_folder: Path,
    cache_folder: Path,
    config: RankingConfig,
    evaluation: dict[str, Any],
    *,
    trained_on: str | None = None,
) -> RankingOutcome:
    """Rank all checkpoints of a run and copy the chosen one, with what was tuned, to `best_folder`.

    Args:
        task: Whose checkpoints.
        checkpoints_folder: Where they lie.
        best_folder: Where the copy goes.
        cache_folder: Where finished evaluations are kept.
        config: The rule.
        evaluation: The task's evaluation settings.
        trained_on: Fingerprint of the data the run was trained on, when the caller knows it.

    Raises:
        MissingPredecessorError: There is no checkpoint.
        CheckpointError: One is damaged (it is named), or the run is of another corpus or was
            trained with other settings than `task` has.
        CorpusError: The validation split is empty.
    """
    checkpoints = [p for p in list_checkpoints(checkpoints_folder) if read_state(p).regular]
    if not checkpoints:
        raise MissingPredecessorError(
            checkpoints_folder,
            "holds no checkpoint",
            f"Run `kedro run --pipelines train_{task.name}`",
        )
    if trained_on is not None and trained_on != task.fingerprint():
        raise CheckpointError(
            checkpoints_folder,
            "was trained on other data or features than are ingested now",
            f"Run `kedro run --pipelines train_{task.name}`, or ingest the former corpus again",
        )
    _check_settings(task, checkpoints)
    objective = task.objective
    metric = objective.metric
    results = [
        _Scores.of(units, objective)
        for units in evaluate_checkpoints(task, checkpoints, "validation", cache_folder, evaluation)
    ]
    if not results[0].units:
        raise CorpusError(
            task.label,
            f"the validation split has no {task.unit}, so nothing can be ranked",
            "Ingest a corpus with a validation split",
        )
    steps = [read_state(path).step for path in checkpoints]
    table = build_ranking(
        steps,
        [[scores[metric] for scores in result.units.values()] for result in results],
        _columns(results, metric),
        metric=metric,
        rule=config.rule,
        level=config.level,
        n_resamples=config.resamples,
        seed=config.seed,
    )
    choice = choose(table, config.rule, metric)
    position = steps.index(choice.step)
    chosen, training = (
        next(evaluate_checkpoints(task, [checkpoints[position]], split, cache_folder, evaluation))
        for split in ("validation", "train")
    )
    tuned = objective.tune(list(chosen.values()))
    validation, on_train = (_Scores.of(units, objective).means for units in (chosen, training))
    warnings = [*choice.warnings, *table.attrs.get("warnings", [])]
    best: dict[str, Any] = {
        "task": task.name,
        "step": choice.step,
        "checkpoint": checkpoints[position].name,
        "metric": metric,
        "rule": choice.rule,
        "reason": choice.reason,
        "warnings": warnings,
        **{name: value for name, value in tuned.items() if name == "threshold"},
        "validation": finite_or_none(validation | _scores_among(tuned)),
        "train": finite_or_none(on_train),
        "n_checkpoints": len(checkpoints),
    }
    for warning in warnings:
        logger.warning("%s: %s", task.label, warning)
    copy_checkpoint(checkpoints[position], best_folder, {BEST_FILE: best})
    logger.info(
        "%s: chose step %d of %d checkpoints, validation %s %.4f, train %s %.4f (%s)",
        task.label, choice.step, len(checkpoints), metric_name(metric), validation[metric],
        metric_name(metric), on_train[metric], choice.reason,
    )  # fmt: skip
    return RankingOutcome(table, _per_unit(steps, results), best)


def _check_settings(task: Task, checkpoints: list[Path]) -> None:
    """Refuse checkpoints that another network, or one on other windows, has left."""
    for path in checkpoints:
        config = read_state(path).config
        trained = {name: config[name] for name in config.keys() - {"training", "data"}}
        if changes := differences(trained, task.describe()):
            raise CheckpointError(
                path,
                f"was trained with other settings ({'; '.join(changes)})",
                "Rank with the parameters of the training, or run "
                f"`kedro run --pipelines train_{task.name}` with these",
            )


def _columns(results: list[_Scores], metric: str) -> dict[str, list[float]]:
    return {
        name: [result.means[name] for result in results]
        for name in results[0].means
        if name != metric
    }


def _scores_among(tuned: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in tuned.items() if name != "threshold"}


def _per_unit(steps: list[int], results: list[_Scores]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {"step": step, "unit": unit, **scores}
        for step, result in zip(steps, results, strict=True)
        for unit, scores in result.units.items()
    ]
    return pd.DataFrame(rows)
