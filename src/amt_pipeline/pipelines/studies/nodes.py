"""Nodes of `compare_<study>`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.pipelines.studies.check import check_study
from amt_pipeline.pipelines.studies.variants import (
    comparison_of,
    open_jobs,
    presets_of,
    record_result,
    report_of,
)

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

LINKS = {
    "Learning curves, interactive": "learning_curves.html",
    "Learning rates, interactive": "learning_rates.html",
    "Scores, interactive": "scores_interactive.html",
    "Table": "table.csv",
    "Scores per unit": "per_unit.csv",
    "Points of the curves": "curves.csv",
}
"""What lies beside the page; names are those of the catalog."""


def run_study(
    study_folder: Path, study: dict[str, Any], parallel: dict[str, Any], **inputs: Any
) -> dict[str, Any]:
    """Train and rank every variant that is not finished yet; return the study and its results.

    The folder's name is that of the study.

    Raises:
        ConfigError: The study or a variant of it cannot be; nothing was trained.
    """
    from amt_pipeline.core.parallel import ParallelConfig
    from amt_pipeline.search.run_study import run_study as train_all

    name = study_folder.name
    config = check_study(name, study)
    jobs, reference = open_jobs(name, config, study_folder, inputs)
    results = train_all(
        jobs,
        label=f"Study {name}",
        parallel=ParallelConfig.model_validate(parallel),
        shared=[study_folder, *(value for value in inputs.values() if isinstance(value, Path))],
        heard=lambda result: record_result(name, result),
    )
    rows = [result.as_json() for result in results]
    ranking = jobs[0].ranking.model_dump()
    study = config.model_dump()
    facts = {"name": name, "study": study, "reference": reference, "ranking": ranking}
    return {**facts, "presets": presets_of(config, inputs), "results": rows}


def compare_variants(
    study_results: dict[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return the table of the variants, scores per unit, learning curves, and a summary.

    Raises:
        UserError: No training finished.
    """
    from amt_pipeline.ranking.choice import metric_name
    from amt_pipeline.search.learning_curves import learning_curves
    from amt_pipeline.search.variant import VariantResult

    results = [VariantResult(**row) for row in study_results["results"]]
    comparison, summary = comparison_of(study_results, results)
    best = comparison.table.iloc[0]
    logger.info(
        "Study %s: highest is %s, %s %.4f",
        study_results["name"], best["variant"], metric_name(comparison.metric),
        best[f"validation_{comparison.metric}"],
    )  # fmt: skip
    for warning in comparison.warnings:
        logger.warning("Study %s: %s", study_results["name"], warning)
    return comparison.table, comparison.per_unit, learning_curves(results), summary


def draw_study(
    study_table: pd.DataFrame, study_curves: pd.DataFrame, study_summary: dict[str, Any]
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Return learning curves, learning rates and scores, each interactive and as an image."""
    import pandas as pd

    from amt_pipeline.reporting import study_curves as curves
    from amt_pipeline.reporting import study_scores as scores

    metric, title = study_summary["metric"], study_summary["title"]
    seeds = pd.DataFrame(study_summary["seed_scores"], columns=["variant", "seed", "score"])
    of_scores = {"metric": metric, "reference": study_summary["reference"], "title": title}
    return (
        curves.learning_curve_figure(study_curves, metric=metric, title=title),
        curves.learning_curve_image(study_curves, metric=metric, title=title),
        curves.learning_rate_figure(study_curves, title=title),
        curves.learning_rate_image(study_curves, title=title),
        scores.study_scores_figure(study_table, seeds, **of_scores),
        scores.study_scores_image(study_table, seeds, **of_scores),
    )


def write_study_page(
    study_table: pd.DataFrame,
    study_summary: dict[str, Any],
    scores_image: Path,
    learning_image: Path,
    rates_image: Path,
) -> tuple[str, str]:
    """Return the report of the study as Markdown and HTML."""
    from amt_pipeline.reporting.study_pages import study_html, study_markdown

    report = report_of(study_table, study_summary)
    images = {
        "Validation score of every variant": scores_image,
        "Learning curves, mean and range over seeds": learning_image,
        "Learning rates": rates_image,
    }
    names = {caption: path.name for caption, path in images.items()}
    page = study_html(report, images, LINKS)
    logger.info("Study: %s", scores_image.with_name("study.html"))
    return study_markdown(report, names), page
