"""Nodes of `report_transcription`: the experiment record and the history of all runs."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import MissingPredecessorError
from amt_pipeline.pipelines.tasks import training_key
from amt_pipeline.pipelines.transcription.nodes import require_model

if TYPE_CHECKING:
    from amt_pipeline.transcription.parameters import PresetName

logger = logging.getLogger(__name__)

# What a record is told apart by: the same run again is not another line of the history.
_NOT_CONTENT = {"run_id", "time_utc"}


def write_record(
    onset_best: dict[str, Any],
    pitch_best: dict[str, Any],
    onset_training: dict[str, Any],
    pitch_training: dict[str, Any],
    corpus_summary: dict[str, Any],
    joint: dict[str, Any],
    note_summary: dict[str, Any],
    images: dict[str, Path],
    preset: PresetName,
    models_folder: Path,
) -> tuple[dict[str, Any], str, str]:
    """Return the record of the run as data, Markdown and HTML.

    Raises:
        MissingPredecessorError: Its parts are of different corpora, trainings or networks.
    """
    import json

    from amt_pipeline.reporting.record import to_json
    from amt_pipeline.reporting.record_pages import to_html, to_markdown

    best = {"onset": onset_best, "pitch": pitch_best}
    training = {"onset": onset_training, "pitch": pitch_training}
    for task, chosen in best.items():
        require_ranking_of(training[task], chosen, corpus_summary)
    require_model(joint, models_folder)
    require_scores_of(joint["model"], note_summary, corpus_summary)
    record = _record(
        best,
        training,
        corpus_summary,
        joint,
        note_summary,
        preset,
    )
    text = to_json(record)
    return json.loads(text), to_markdown(record), to_html(record, list(images.values()))


def require_ranking_of(
    training: dict[str, Any], best: dict[str, Any], corpus_summary: dict[str, Any]
) -> None:
    """Check that a network was trained on this corpus, and chosen from this training.

    Raises:
        MissingPredecessorError: Names the pipeline to run.
    """
    from amt_pipeline.features.spec import FeatureSpec
    from amt_pipeline.transcription.tasks import training_fingerprint

    task = training["task"]
    features = FeatureSpec.model_validate(training["config"]["features"])
    # Of records made elsewhere nobody knows whether they are of this corpus.
    outside = training["config"]["training"]["records_folder"] is not None
    known = training_fingerprint(corpus_summary["fingerprint"], features)
    if not outside and training["fingerprint"] != known:
        raise MissingPredecessorError(
            f"{task} network",
            "was trained on another corpus than is ingested now",
            f"Run `kedro run --pipelines train_{task}`, or ingest the former corpus again",
        )
    if best.get("training") != training_key(training):
        raise MissingPredecessorError(
            f"{task} network",
            "the chosen checkpoint is of another training than the latest",
            f"Run `kedro run --pipelines rank_{task}`",
        )


def require_scores_of(
    model: str, note_summary: dict[str, Any], corpus_summary: dict[str, Any]
) -> None:
    """Check that the note scores are of these networks and this corpus.

    Raises:
        MissingPredecessorError: Names the pipelines to run.
    """
    if note_summary.get("model") != model:
        raise MissingPredecessorError(
            "note scores",
            "are of other networks than those chosen now",
            "Run `kedro run --pipelines transcribe`, then `kedro run --pipelines test_notes`",
        )
    if note_summary.get("data") != corpus_summary["fingerprint"]:
        raise MissingPredecessorError(
            "note scores",
            "are of another corpus than is ingested now",
            "Run `kedro run --pipelines transcribe`, then `kedro run --pipelines test_notes`",
        )


def gather_images(
    onset_image: Path, pitch_image: Path, scores_image: Path, roll: Path, posterior: Path
) -> dict[str, Path]:
    """Return the images that the record shows, in order."""
    return {
        "scores": scores_image,
        "roll": roll,
        "posterior": posterior,
        "onset": onset_image,
        "pitch": pitch_image,
    }


def append_history(
    record: dict[str, Any], record_markdown: str, record_html: str, reporting_folder: Path
) -> tuple[str, str, Any]:
    """Add the run to the history; return it as Markdown, HTML and figure; send all to MLflow."""
    import json

    from amt_pipeline.reporting.history import (
        append_run,
        history_html,
        history_markdown,
        read_history,
    )
    from amt_pipeline.reporting.history_figures import history_figure
    from amt_pipeline.reporting.record import from_json
    from amt_pipeline.tracking import current_reporter

    current = from_json(json.dumps(record))
    runs = read_history(reporting_folder)
    if not runs or _content(runs[-1]) != _content(current):
        append_run(reporting_folder, current)
        runs = [*runs, current]
    joint = record["joint"] or {}
    with current_reporter(None) as reporter:
        scalars = {f"joint/{name}": joint[name] for name in ("precision", "recall", "f1")}
        reporter.scalars(scalars, 0)
        for name in ("record.md", "record.html", "summary.json", "note_scores.csv"):
            reporter.file(reporting_folder / name, "report")
    logger.info("Record: %s (%d runs so far)", reporting_folder / "record.html", len(runs))
    return history_markdown(runs), history_html(runs), history_figure(runs)


def _record(
    best: dict[str, dict[str, Any]],
    training: dict[str, dict[str, Any]],
    corpus_summary: dict[str, Any],
    joint: dict[str, Any],
    note_summary: dict[str, Any],
    preset: PresetName,
) -> Any:
    from amt_pipeline import __version__
    from amt_pipeline.core.hashing import value_sha256
    from amt_pipeline.provenance import git_tags
    from amt_pipeline.reporting.record import (
        ExperimentRecord,
        JointScores,
        NetworkResult,
        Scores,
    )
    from amt_pipeline.transcription.parameters import choose_preset

    names = ("precision", "recall", "f1")
    networks = {
        task: NetworkResult(
            train=Scores(**{name: result["train"][name] for name in names}),
            validation=Scores(**{name: result["validation"][name] for name in names}),
            step=result["step"],
            threshold=result["threshold"],
            warnings=tuple(result["warnings"]),
        )
        for task, result in best.items()
    }
    # As they were used, which the parameters of this very run need not be.
    settings = {task: {**run["config"], **best[task]["settings"]} for task, run in training.items()}
    settings["joint"] = {f"{task}_threshold": joint[task] for task in ("onset", "pitch")}
    settings |= {**note_summary["settings"], "ingest": corpus_summary.get("ingest", {})}
    git = git_tags(Path.cwd())
    dirty = git.get("git.dirty")
    record = ExperimentRecord(
        run_id="",
        time_utc=datetime.now(UTC).isoformat(),
        preset=choose_preset(preset, announce=False),
        code_version=__version__,
        git_sha=git.get("mlflow.source.git.commit", ""),
        git_dirty=None if dirty in (None, "unknown") else dirty == "true",
        data_fingerprint=corpus_summary["fingerprint"],
        networks=networks,
        joint=JointScores(
            **{name: note_summary[f"onset/{name}"] for name in names},
            low=note_summary["onset/f1_low"],
            high=note_summary["onset/f1_high"],
            n_pieces=int(note_summary["onset/n_pieces"]),
        ),
        hyper_parameters=settings,
    )
    return record.model_copy(update={"run_id": value_sha256(_content(record))[:8]})


def _content(record: Any) -> dict[str, Any]:
    content: dict[str, Any] = record.model_dump(mode="json", exclude=_NOT_CONTENT)
    return content
