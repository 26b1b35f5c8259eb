"""The node of `report_phonemes`: the record of the run."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import MissingPredecessorError
from amt_pipeline.pipelines.tasks import training_key

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.reporting.run_page import Provenance
    from amt_pipeline.transcription.parameters import PresetName

logger = logging.getLogger(__name__)


def write_phoneme_record(
    training: dict[str, Any],
    best: dict[str, Any],
    summary: dict[str, Any],
    predictions: dict[str, Any],
    test: dict[str, Any],
    class_scores: pd.DataFrame,
    images: dict[str, Path],
    preset: PresetName,
    settings: dict[str, Any],
    reporting_folder: Path,
) -> tuple[dict[str, Any], str, str]:
    """Return the record of the run as data, Markdown and HTML; send it to MLflow.

    Raises:
        MissingPredecessorError: Its parts are of different corpora, trainings or networks.
    """
    from amt_pipeline.phonemes.parameters import DEFAULT_LEVEL
    from amt_pipeline.phonemes.record import compose_record
    from amt_pipeline.pipelines.phonemes.task import choose_size
    from amt_pipeline.tracking import current_reporter

    require_parts_of_one_run(training, best, summary, predictions, test)
    with current_reporter(None, "phoneme") as reporter:
        scores = {"test/accuracy": test["accuracy"], "test/cross_entropy": test["cross_entropy"]}
        reporter.scalars({k: v for k, v in scores.items() if v is not None}, best["step"])
    record, markdown, html = compose_record(
        preset=f"{settings.get('preset', DEFAULT_LEVEL)} ({choose_size(preset)})",
        corpus=summary,
        training=training,
        best=best,
        test=test,
        per_class=class_scores,
        provenance=_provenance(summary["fingerprint"]),
        images=images,
        folder=reporting_folder,
        notes=tuple(filter(None, [predictions["warning"]])),
    )
    logger.info("Record: %s", reporting_folder / "record.html")
    return record, markdown, html


def _provenance(data_fingerprint: str) -> Provenance:
    from amt_pipeline import __version__
    from amt_pipeline.provenance import git_tags
    from amt_pipeline.reporting.run_page import Provenance

    git = git_tags(Path.cwd())
    return Provenance(
        time_utc=datetime.now(UTC).isoformat(),
        code_version=__version__,
        git_sha=git.get("mlflow.source.git.commit", ""),
        git_dirty={"true": True, "false": False}.get(git.get("git.dirty", "")),
        data_fingerprint=data_fingerprint,
    )


def require_parts_of_one_run(
    training: dict[str, Any],
    best: dict[str, Any],
    summary: dict[str, Any],
    predictions: dict[str, Any],
    test: dict[str, Any],
) -> None:
    """Check that what the record puts together belongs together.

    Raises:
        MissingPredecessorError: Names the pipelines to run.
    """
    from amt_pipeline.features.mfcc_spec import MfccSpec
    from amt_pipeline.phonemes.tasks import training_fingerprint

    features = MfccSpec.model_validate(training["config"]["features"])
    if training["fingerprint"] != training_fingerprint(summary["fingerprint"], features):
        raise MissingPredecessorError(
            "phoneme network",
            "was trained on another corpus than is ingested now",
            "Run `kedro run --pipelines train_phoneme`, or ingest the former corpus again",
        )
    if best.get("training") != training_key(training):
        raise MissingPredecessorError(
            "phoneme network",
            "the chosen checkpoint is of another training than the latest",
            "Run `kedro run --pipelines rank_phoneme`",
        )
    if predictions.get("chosen") != best["training"] or predictions.get("step") != best["step"]:
        raise MissingPredecessorError(
            "predictions",
            "are of another network than the one chosen now",
            "Run `kedro run --pipelines predict_phoneme,test_phoneme`",
        )
    if test["model"] != predictions["model"] or test["data"] != summary["fingerprint"]:
        raise MissingPredecessorError(
            "scores of the test list",
            "are of other predictions or of another corpus than there are now",
            "Run `kedro run --pipelines test_phoneme`",
        )


def gather_phoneme_images(ranking: Path, confusion: Path, classes: Path) -> dict[str, Path]:
    """Return the images of the record by caption, in order."""
    return {
        "Validation over training steps": ranking,
        "Confusions of the test list": confusion,
        "Recall of every class": classes,
    }
