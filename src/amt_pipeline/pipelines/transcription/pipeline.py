"""The pipelines `transcribe`, `test_notes`, `report_transcription` and `transcription`."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from amt_pipeline.pipelines.maestro import pipeline as maestro
from amt_pipeline.pipelines.ranking import pipeline as ranking
from amt_pipeline.pipelines.tasks import TRANSCRIPTION_TASKS
from amt_pipeline.pipelines.training import pipeline as training
from amt_pipeline.pipelines.transcription.nodes import (
    draw_piano_roll,
    draw_scores,
    score_transcripts,
    transcribe_recordings,
    tune_joint_thresholds,
)
from amt_pipeline.pipelines.transcription.report import (
    append_history,
    gather_images,
    write_record,
)

SETTINGS = {
    "preset": "params:preset",
    "presets": "params:presets",
    "transcribe": "params:transcribe",
    "parallel": "params:parallel",
}


def create_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines of this family by name, the umbrella `transcription` among them."""
    own = {
        "transcribe": _transcribe(),
        "test_notes": _test_notes(),
        "report_transcription": _report(),
    }
    before = {
        **maestro.create_pipelines(),
        **training.create_pipelines(),
        **ranking.create_pipelines(),
    }
    way = ["ingest_maestro"]
    way += [f"{verb}_{task}" for task in TRANSCRIPTION_TASKS for verb in ("train", "rank")]
    whole = sum((before[name] for name in way), Pipeline([])) + sum(own.values(), Pipeline([]))
    return {**own, "transcription": whole}


def _transcribe() -> Pipeline:
    tune = Node(
        tune_joint_thresholds,
        inputs={
            "onset_best": "onset_best",
            "pitch_best": "pitch_best",
            "models_folder": "models_folder",
            "manifest": "manifest",
            "notes_folder": "notes_folder",
            "frames_folder": "frames_folder",
            **SETTINGS,
        },
        outputs="joint_thresholds",
        name="tune_joint_thresholds",
        tags=["gpu"],
    )
    transcribe = Node(
        transcribe_recordings,
        inputs={
            "joint": "joint_thresholds",
            "models_folder": "models_folder",
            "manifest": "manifest",
            "frames_folder": "frames_folder",
            "transcripts_folder": "transcripts_folder",
            **SETTINGS,
        },
        outputs="transcripts",
        name="transcribe_recordings",
        tags=["gpu"],
    )
    return Pipeline([tune, transcribe])


def _test_notes() -> Pipeline:
    score = Node(
        score_transcripts,
        inputs=["transcripts", "manifest", "notes_folder", "params:scoring", "params:parallel"],
        outputs=["note_scores", "note_summary"],
        name="score_transcripts",
        tags=["cpu"],
    )
    scores = Node(
        draw_scores,
        inputs=["note_scores", "note_summary"],
        outputs=["note_scores_figure", "note_scores_image"],
        name="draw_scores",
        tags=["report"],
    )
    roll = Node(
        draw_piano_roll,
        inputs=["note_scores", "transcripts", "notes_folder", "params:scoring"],
        outputs=["piano_roll_image", "piano_roll_figure", "posterior_image"],
        name="draw_piano_roll",
        tags=["report"],
    )
    return Pipeline([score, scores, roll])


def _report() -> Pipeline:
    images = Node(
        gather_images,
        inputs=[
            "onset_ranking_image",
            "pitch_ranking_image",
            "note_scores_image",
            "piano_roll_image",
            "posterior_image",
        ],
        outputs="report_images",
        name="gather_images",
        tags=["report"],
    )
    record = Node(
        write_record,
        inputs={
            "onset_best": "onset_best",
            "pitch_best": "pitch_best",
            "onset_training": "onset_training",
            "pitch_training": "pitch_training",
            "corpus_summary": "corpus_summary",
            "joint": "joint_thresholds",
            "note_summary": "note_summary",
            "images": "report_images",
            "preset": "params:preset",
            "models_folder": "models_folder",
        },
        outputs=["record", "record_markdown", "record_html"],
        name="write_record",
        tags=["report"],
    )
    history = Node(
        append_history,
        inputs=["record", "record_markdown", "record_html", "reporting_folder"],
        outputs=["history_markdown", "history_html", "history_figure"],
        name="append_history",
        tags=["report"],
    )
    return Pipeline([images, record, history])
