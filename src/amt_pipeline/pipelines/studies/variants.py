"""From a study's configuration to jobs for the engine, and from their results to its report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.pipelines.studies.families import Family, OpenVariant, family_of, settings_model

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.reporting.study_pages import StudyReport
    from amt_pipeline.search.comparison import Comparison
    from amt_pipeline.search.study import StudyConfig, Variant
    from amt_pipeline.search.variant import VariantJob, VariantResult

SHOWN_HASH = 12
"""Characters of a hash that a page shows."""


def open_jobs(
    name: str, config: StudyConfig, study_folder: Path, inputs: Mapping[str, Any]
) -> tuple[list[VariantJob], str]:
    """Return one job per variant and seed, and the name of the reference variant.

    All variants are opened here, so that settings that cannot be are named before any is trained.

    Raises:
        ConfigError: A variant has such settings; the variant and the parameter are named.
        StoreError: The corpus is not ingested, or with other features.
    """
    from amt_pipeline.search.variant import VariantJob

    family = family_of(config.task, name)
    variants = config.expand(name)
    reference = config.reference_of(variants)
    base = next(variant for variant in variants if variant.name == reference)
    jobs = []
    for variant in variants:
        opened = _open(name, config.task, family, inputs, variant, base)
        job = VariantJob.of(variant, opened.task, opened.ranking, opened.evaluation, study_folder)
        jobs.append(job)
    return jobs, reference


def _open(
    study: str,
    task: str,
    family: Family,
    inputs: Mapping[str, Any],
    variant: Variant,
    reference: Variant,
) -> OpenVariant:
    from pydantic import ValidationError

    from amt_pipeline.core.config_errors import name_faults

    try:
        try:
            return family.open(inputs, variant.overrides, reference.overrides)
        except ValidationError as error:
            raise name_faults(error, task, [settings_model(task)]) from error
    except ConfigError as error:
        place = error.where.removeprefix("parameter ")
        where = f"parameter studies.{study}, variant {variant.name}: {place}"
        raise ConfigError(where, error.problem, error.remedy) from error


def presets_of(config: StudyConfig, inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the presets that a study's settings are laid over, by the parameter that names them.

    Args:
        config: The study.
        inputs: Of its node, by argument name.
    """
    from amt_pipeline.core.values import merge
    from amt_pipeline.search.study import in_blocks, settings_by_name
    from amt_pipeline.transcription.parameters import choose_preset

    base = in_blocks(settings_by_name(config.base, "base"))
    presets = {"preset": choose_preset(inputs["preset"], announce=False)}
    # What the level of a task's preset is called is said by its own settings.
    level = merge(inputs["settings"], base).get("preset")
    return presets | ({f"{config.task}.preset": str(level)} if level is not None else {})


def record_result(study: str, result: VariantResult) -> None:
    """Record a training as an MLflow run of its own below that of this command.

    One that an earlier command finished is recorded again, with the tag `reused`: so the runs below
    each command are the whole study, also when the first was stopped or not tracked.
    """
    from amt_pipeline.tracking import record_child

    final = {f"validation/{name}": value for name, value in result.validation.items()}
    final |= {f"train/{name}": value for name, value in result.train.items()}
    record_child(
        f"{study}: {result.name}, seed {result.seed}",
        tags={
            "study": study,
            "variant": result.name,
            "seed": str(result.seed),
            "reused": str(result.reused).lower(),
        },
        parameters={"variant": result.settings, "seed": result.seed, "resolved": result.config},
        history=_curves(result),
        scores={
            **{f"chosen/{name}": value for name, value in final.items()},
            "chosen/step": result.chosen_step,
            "seconds": result.seconds,
            "parameters": result.parameters,
        },
        error=result.reason,
    )


def comparison_of(
    study_results: Mapping[str, Any], results: Sequence[VariantResult]
) -> tuple[Comparison, dict[str, Any]]:
    """Return the comparison of a study's results, and what the report needs beside the tables."""
    from amt_pipeline.ranking.rank import RankingConfig
    from amt_pipeline.search.comparison import compare
    from amt_pipeline.search.study import settings_by_name

    study = study_results["study"]
    ranking = RankingConfig.model_validate(study_results["ranking"])
    found = compare(results, study_results["reference"], ranking)
    done = [result for result in results if result.status == "finished"]
    base = settings_by_name(study["base"], "base")
    summary = {
        "title": study["title"] or study_results["name"],
        "question": study["question"],
        "task": study["task"],
        "metric": found.metric,
        "unit": found.unit,
        "n_units": int(found.per_unit["unit"].nunique()),
        "reference": found.reference,
        "seeds": study["seeds"],
        "warnings": list(found.warnings),
        "best": str(found.table.iloc[0]["variant"]),
        "base": {name: json.dumps(value) for name, value in base.items()},
        "identity": {**study_results.get("presets", {}), **_made_on(done)},
        "seed_scores": [
            [result.name, result.seed, result.validation[found.metric]] for result in done
        ],
    }
    return found, summary


def _made_on(done: Sequence[VariantResult]) -> dict[str, str]:
    """Return what finished trainings ran on; several where they differ (in their features, say)."""

    def distinct(values: Iterable[str]) -> str:
        return "; ".join(dict.fromkeys(value for value in values if value))

    return {
        "training data": distinct(result.data[:SHOWN_HASH] for result in done),
        "device": distinct(result.device for result in done),
        "amt_pipeline": distinct(result.version for result in done),
    }


def report_of(table: pd.DataFrame, summary: Mapping[str, Any]) -> StudyReport:
    """Return what a page about a study shows."""
    from dataclasses import fields

    from amt_pipeline.reporting.study_pages import StudyReport

    known = {item.name for item in fields(StudyReport)}
    shown = {name: value for name, value in summary.items() if name in known}
    return StudyReport(table=table, **shown)


def _curves(result: VariantResult) -> list[dict[str, float | None]]:
    """Return what was logged under the names of a training's reports, and the ranking's curve."""
    rows: dict[Any, dict[str, float | None]] = {}
    for row in result.history:
        names = {name: name if "/" in name or name == "step" else f"train/{name}" for name in row}
        rows[row["step"]] = {names[name]: value for name, value in row.items()}
    for point in result.curve:
        score = {f"validation/{result.metric}": point[result.metric]}
        rows[point["step"]] = {"step": point["step"], **rows.get(point["step"], {}), **score}
    return list(rows.values())
