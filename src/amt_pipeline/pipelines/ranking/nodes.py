"""Nodes of `rank_<task>` and `rank_curve`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.pipelines.tasks import open_task, training_key

if TYPE_CHECKING:
    import pandas as pd


def rank_network(
    training: dict[str, Any], checkpoints_folder: Path, best_folder: Path, **task_inputs: Any
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return the ranking, the scores per unit, and the record of the chosen checkpoint."""
    from amt_pipeline.ranking.rank import rank_checkpoints
    from amt_pipeline.tracking import current_reporter
    from amt_pipeline.training.run import EVALUATIONS_FOLDER, VALIDATION_EVENTS_FOLDER

    task, resolved = open_task(**task_inputs)
    outcome = rank_checkpoints(
        task,
        checkpoints_folder,
        best_folder,
        checkpoints_folder / EVALUATIONS_FOLDER,
        resolved.ranking,
        resolved.task.evaluation.model_dump(),
        trained_on=training["fingerprint"],
    )
    # Beside the training's events: TensorBoard draws both curves over one another.
    with current_reporter(checkpoints_folder / VALIDATION_EVENTS_FOLDER, task.name) as reporter:
        names = [n for n in ("precision", "recall", "f1", "auc", "accuracy") if n in outcome.table]
        for row in outcome.table.sort_values("step").to_dict("records"):
            reporter.scalars({f"validation/{name}": row[name] for name in names}, int(row["step"]))
    settings = {
        "evaluation": resolved.task.evaluation.model_dump(),
        "ranking": resolved.ranking.model_dump(),
    }
    best = {**outcome.best, "training": training_key(training), "settings": settings}
    return outcome.table, outcome.per_unit, best


def draw_ranking(ranking: pd.DataFrame, best: dict[str, Any]) -> tuple[Any, Any]:
    """Return the validation curve, interactive and as an image."""
    from amt_pipeline.reporting.curves import ranking_figure, ranking_image

    title = f"Validation of the {best['task']} network"
    metric = best.get("metric", "f1")
    return (
        ranking_figure(ranking, title=title, metric=metric),
        ranking_image(ranking, title=title, metric=metric),
    )


def rank_outside_curve(curve: dict[str, Any]) -> tuple[pd.DataFrame, Any, Any]:
    """Return ranking, figure and image of a curve from event files or a TensorBoard CSV."""
    from amt_pipeline.core.errors import ConfigError
    from amt_pipeline.ranking.choice import rank_curve
    from amt_pipeline.ranking.curves import read_curve
    from amt_pipeline.reporting.curves import as_ranking, ranking_figure, ranking_image

    if not curve.get("path"):
        raise ConfigError(
            "curve.path",
            "is not set",
            "Name event files or a CSV: --params curve.path=<file or folder>",
        )
    table = rank_curve(read_curve(curve["path"], curve.get("tag")))
    drawn, title = as_ranking(table), f"Curve {Path(curve['path']).name}"
    return (
        table,
        ranking_figure(drawn, title=title, metric="value"),
        ranking_image(drawn, title=title, metric="value"),
    )
