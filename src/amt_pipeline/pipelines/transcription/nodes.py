"""Nodes of `transcribe` and `test_notes`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.transcription.parameters import PresetName

logger = logging.getLogger(__name__)


def tune_joint_thresholds(
    onset_best: dict[str, Any],
    pitch_best: dict[str, Any],
    models_folder: Path,
    manifest: pd.DataFrame,
    notes_folder: Path,
    frames_folder: Path,
    preset: PresetName,
    presets: dict[str, Any],
    transcribe: dict[str, Any],
) -> dict[str, Any]:
    """Return the pair of thresholds with the best note F1 on validation (or those given)."""
    from amt_pipeline.store.manifest import Manifest
    from amt_pipeline.transcription.joint import tune_thresholds
    from amt_pipeline.transcription.model_folder import ModelFolder
    from amt_pipeline.transcription.parameters import choose_preset, resolve_transcription

    logger.info("Networks of steps %d (onset), %d (pitch)", onset_best["step"], pitch_best["step"])
    return tune_thresholds(
        ModelFolder.open(models_folder),
        Manifest(manifest).split("validation")["recording_id"].tolist(),
        store_folder=frames_folder,
        notes_folder=notes_folder,
        config=resolve_transcription(presets[choose_preset(preset)], transcribe),
    )


def transcribe_recordings(
    joint: dict[str, Any],
    models_folder: Path,
    manifest: pd.DataFrame,
    frames_folder: Path,
    transcripts_folder: Path,
    preset: PresetName,
    presets: dict[str, Any],
    transcribe: dict[str, Any],
) -> dict[str, Any]:
    """Transcribe the test split and, if one is named, a folder of audio; return the index."""
    from amt_pipeline.store.manifest import Manifest
    from amt_pipeline.transcription.parameters import choose_preset, resolve_transcription
    from amt_pipeline.transcription.run import remove_others, transcribe_folder, transcribe_split

    config = resolve_transcription(presets[choose_preset(preset)], transcribe)
    index: dict[str, Any] = {"thresholds": {name: joint[name] for name in ("onset", "pitch")}}
    common: Any = {"models_folder": models_folder, "thresholds": joint, "config": config}
    if config.audio_folder is not None:
        outcome = transcribe_folder(
            Path(config.audio_folder), out_folder=transcripts_folder / "audio", **common
        )
        index["audio"] = outcome.index()
    recordings = Manifest(manifest).split("test")["recording_id"].tolist()
    remove_others(transcripts_folder, recordings)
    outcome = transcribe_split(
        recordings, store_folder=frames_folder, out_folder=transcripts_folder, **common
    )
    return {**index, **outcome.index()}


def score_transcripts(
    transcripts: Path, manifest: pd.DataFrame, notes_folder: Path, scoring: dict[str, Any]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the scores per piece of the test split against its MIDI, and their means."""
    from amt_pipeline.store.manifest import Manifest
    from amt_pipeline.transcription.folder_scoring import finite_or_none
    from amt_pipeline.transcription.parameters import ScoringConfig
    from amt_pipeline.transcription.split_scoring import score_split

    names = Manifest(manifest).split("test")["recording_id"].tolist()
    config = ScoringConfig.model_validate(scoring)
    table, summary = score_split(transcripts, notes_folder, names, config)
    logger.info(
        "Notes of %d test pieces: P %.4f, R %.4f, F1 %.4f (95 %% interval %.4f to %.4f)",
        len(table), summary["onset/precision"], summary["onset/recall"], summary["onset/f1"],
        summary["onset/f1_low"], summary["onset/f1_high"],
    )  # fmt: skip
    return table, finite_or_none(summary)


def draw_scores(note_scores: pd.DataFrame, note_summary: dict[str, Any]) -> tuple[Any, Any]:
    """Return the figure of scores per piece, interactive and as an image."""
    from amt_pipeline.reporting.scores import scores_figure, scores_image

    low, high = note_summary["onset/f1_low"], note_summary["onset/f1_high"]
    interval = None if low is None or high is None else (low, high)
    title = "Note scores of the test split"
    return (
        scores_figure(note_scores, interval=interval, title=title),
        scores_image(note_scores, interval=interval, title=title),
    )


def draw_piano_roll(
    note_scores: pd.DataFrame, transcripts: Path, notes_folder: Path, scoring: dict[str, Any]
) -> tuple[Any, Any, Any]:
    """Return the median piece's hits, misses and false alarms, and the networks' outputs."""
    from amt_pipeline.transcription.parameters import ScoringConfig
    from amt_pipeline.transcription.pictures import draw_piece, median_piece

    config = ScoringConfig.model_validate(scoring)
    name = median_piece(note_scores)
    pictures = draw_piece(name, transcripts, notes_folder, config.onset_tolerance_s)
    return pictures.roll, pictures.figure, pictures.posterior
