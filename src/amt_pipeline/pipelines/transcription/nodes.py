"""Nodes of `transcribe` and `test_notes`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.pipelines.tasks import warn_of_former_training

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.transcription.parameters import PresetName, ScoringConfig
    from amt_pipeline.transcription.transcribe import TranscriptionConfig

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
    parallel: dict[str, Any],
) -> dict[str, Any]:
    """Return the pair of thresholds with the best note F1 on validation (or those given).

    Networks that were chosen before the latest training are named in the log.

    Raises:
        StoreError: Frames or notes were made from other files than the manifest's.
    """
    from amt_pipeline.core.parallel import ParallelConfig
    from amt_pipeline.transcription.joint import tune_thresholds
    from amt_pipeline.transcription.model_folder import ModelFolder

    for best in (onset_best, pitch_best):
        warn_of_former_training(best, models_folder / best["task"])
    logger.info("Networks of steps %d (onset), %d (pitch)", onset_best["step"], pitch_best["step"])
    return tune_thresholds(
        ModelFolder.open(models_folder),
        _split(manifest, "validation", frames_folder, notes_folder),
        store_folder=frames_folder,
        notes_folder=notes_folder,
        config=_config(preset, presets, transcribe),
        parallel=ParallelConfig.model_validate(parallel),
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
    parallel: dict[str, Any],
) -> dict[str, Any]:
    """Transcribe the test split and, if one is named, a folder of audio; return the index.

    Raises:
        MissingPredecessorError: The thresholds are of other networks than those chosen now.
        StoreError: Frames were made from other audio than the manifest's.
    """
    from amt_pipeline.core.parallel import ParallelConfig
    from amt_pipeline.datasets.transcriptions import INDEX_NAME
    from amt_pipeline.transcription.run import remove_others, transcribe_folder, transcribe_split

    require_model(joint, models_folder)
    recordings = _split(manifest, "test", frames_folder)
    config = _config(preset, presets, transcribe)
    index = _settings_used(joint, config)
    # From here on until all is done, notes of two models may lie side by side.
    (transcripts_folder / INDEX_NAME).unlink(missing_ok=True)
    common: Any = {"models_folder": models_folder, "thresholds": joint, "config": config}
    common["parallel"] = ParallelConfig.model_validate(parallel)
    if config.audio_folder is not None:
        outcome = transcribe_folder(
            Path(config.audio_folder), out_folder=transcripts_folder / "audio", **common
        )
        index["audio"] = outcome.index()
    remove_others(transcripts_folder, recordings)
    outcome = transcribe_split(
        recordings, store_folder=frames_folder, out_folder=transcripts_folder, **common
    )
    return {**index, **outcome.index()}


def score_transcripts(
    transcripts: Path,
    manifest: pd.DataFrame,
    notes_folder: Path,
    scoring: dict[str, Any],
    parallel: dict[str, Any],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the scores per piece of the test split against its MIDI, and their means.

    The summary says too what was scored: the model's key, the corpus and the settings.

    Raises:
        StoreError: Notes were made from other MIDI than the manifest's.
    """
    from amt_pipeline.core.parallel import ParallelConfig
    from amt_pipeline.core.values import finite_or_none
    from amt_pipeline.transcription.parameters import ScoringConfig
    from amt_pipeline.transcription.split_scoring import score_split

    names = _split(manifest, "test", notes_folder=notes_folder)
    config = ScoringConfig.model_validate(scoring)
    where = ParallelConfig.model_validate(parallel)
    table, summary = score_split(transcripts, notes_folder, names, config, where)
    logger.info(
        "Notes of %d test pieces: P %.4f, R %.4f, F1 %.4f (95 %% interval %.4f to %.4f)",
        len(table), summary["onset/precision"], summary["onset/recall"], summary["onset/f1"],
        summary["onset/f1_low"], summary["onset/f1_high"],
    )  # fmt: skip
    about = _what_was_scored(transcripts, manifest, config)
    return table, {**finite_or_none(summary), **about}


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


def require_model(joint: dict[str, Any], models_folder: Path) -> None:
    """Check that tuned thresholds are of the networks chosen now.

    Raises:
        MissingPredecessorError: They are of others.
    """
    from amt_pipeline.core.errors import MissingPredecessorError
    from amt_pipeline.transcription.model_folder import JOINT_FILE, ModelFolder

    if joint["model"] != ModelFolder.open(models_folder).key:
        raise MissingPredecessorError(
            models_folder / JOINT_FILE,
            "holds the thresholds of other networks than those chosen now",
            "Run `kedro run --pipelines transcribe`",
        )


def _config(
    preset: PresetName, presets: dict[str, Any], transcribe: dict[str, Any]
) -> TranscriptionConfig:
    from amt_pipeline.tracking import log_parameters
    from amt_pipeline.transcription.parameters import choose_preset, resolve_transcription

    chosen = choose_preset(preset)
    config = resolve_transcription(presets[chosen], transcribe)
    log_parameters({"preset": chosen, "transcribe": config})
    return config


def _split(
    manifest: pd.DataFrame,
    name: str,
    frames_folder: Path | None = None,
    notes_folder: Path | None = None,
) -> list[str]:
    """Return the recordings of a split, whose frames and notes are those of the manifest."""
    from amt_pipeline.store.manifest import Manifest
    from amt_pipeline.transcription.contents import check_frames, check_notes

    rows = Manifest(manifest).split(name)
    if frames_folder is not None:
        check_frames(rows, frames_folder)
    if notes_folder is not None:
        check_notes(rows, notes_folder)
    recordings: list[str] = rows["recording_id"].tolist()
    return recordings


def _settings_used(joint: dict[str, Any], config: TranscriptionConfig) -> dict[str, Any]:
    picking = config.picking(float(joint["onset"]), float(joint["pitch"]))
    return {
        "model": joint["model"],
        "thresholds": {"onset": picking.onset_threshold, "pitch": picking.pitch_threshold},
        "decoding": config.decoding(),
    }


def _what_was_scored(
    transcripts: Path, manifest: pd.DataFrame, config: ScoringConfig
) -> dict[str, Any]:
    from amt_pipeline.core.files import read_json
    from amt_pipeline.datasets.transcriptions import INDEX_NAME
    from amt_pipeline.store.manifest import Manifest

    index = read_json(transcripts / INDEX_NAME)
    return {
        "model": index.get("model"),
        "data": Manifest(manifest).fingerprint(),
        "settings": {"transcribe": index.get("decoding", {}), "scoring": config.model_dump()},
    }
