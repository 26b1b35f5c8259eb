"""Thresholds tuned together, on validation notes only.

A network's own threshold maximises its frame-wise F1; what counts is the note F1 of both networks
together. Both networks run over each validation recording once; the picker and the scorer are fast
enough to try every pair of a grid.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.core.parallel import Failure, map_items
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.transcription.decode import pick_notes
from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.note_table import read_note_table
from amt_pipeline.transcription.scoring import score_notes
from amt_pipeline.transcription.transcribe import TranscriptionConfig, predict_both

logger = logging.getLogger(__name__)

GRID = tuple(round(0.1 + 0.05 * step, 2) for step in range(15))
"""Probabilities tried for either threshold: 0.1 to 0.8."""


@dataclass(frozen=True)
class TuningJob:
    """One validation recording; picklable."""

    recording_id: str
    models_folder: Path
    store_folder: Path
    notes_folder: Path
    config: TranscriptionConfig


def tune_thresholds(
    models: ModelFolder,
    recordings: Sequence[str],
    *,
    store_folder: Path,
    notes_folder: Path,
    config: TranscriptionConfig,
) -> dict[str, Any]:
    """Return the pair of thresholds with the highest mean note F1 over validation recordings.

    Args:
        models: The trained transcriber.
        recordings: Ids of the validation split.
        store_folder: The FrameStore.
        notes_folder: The note tables.
        config: Picking settings; thresholds given there are not tuned but taken.

    Returns:
        JSON-able: onset, pitch, validation_f1 (None if both were given), recordings, model (key of
        the weights they are for).

    Raises:
        CorpusError: There is no validation recording to tune on.
    """
    if config.onset_threshold is not None and config.pitch_threshold is not None:
        fixed = {"onset": config.onset_threshold, "pitch": config.pitch_threshold}
        logger.info("Thresholds: onset %.2f, pitch %.2f, as given", fixed["onset"], fixed["pitch"])
        return {**fixed, "validation_f1": None, "recordings": 0, "model": models.key}
    if not recordings:
        raise CorpusError("validation", "holds no recording to tune thresholds on")
    jobs = [
        TuningJob(name, models.folder, store_folder, notes_folder, config) for name in recordings
    ]
    tables = []
    outcomes = map_items(
        note_f1_grid, jobs, workers=config.workers, label="Tune thresholds", unit="recording"
    )
    for _, outcome in outcomes:
        if isinstance(outcome, Failure):
            raise outcome.error
        tables.append(outcome)
    mean = np.mean(tables, axis=0)
    onset_at = _candidates(config.onset_threshold)
    pitch_at = _candidates(config.pitch_threshold)
    best = np.unravel_index(int(np.argmax(mean)), mean.shape)
    result = {
        "onset": onset_at[int(best[0])],
        "pitch": pitch_at[int(best[1])],
        "validation_f1": float(mean[best]),
        "recordings": len(recordings),
        "model": models.key,
    }
    logger.info(
        "Thresholds: onset %.2f, pitch %.2f give note F1 %.4f on %d validation recordings",
        result["onset"], result["pitch"], result["validation_f1"], len(recordings),
    )  # fmt: skip
    return result


def note_f1_grid(job: TuningJob) -> npt.NDArray[np.float64]:
    """Return note F1 [onset thresholds, pitch thresholds] of one recording."""
    models = ModelFolder.open(job.models_folder)
    frames = FrameStore.open(job.store_folder, models.onset.features).frames(job.recording_id)
    reference = read_note_table(job.notes_folder / f"{job.recording_id}.parquet")
    onset, pitch = predict_both(models, frames, job.config, threads=1)
    seconds = models.onset.features.grid.seconds_per_frame
    scores = [
        [
            score_notes(reference, pick_notes(onset, pitch, seconds, job.config.picking(o, p))).f1
            for p in _candidates(job.config.pitch_threshold)
        ]
        for o in _candidates(job.config.onset_threshold)
    ]
    return np.array(scores)


def _candidates(fixed: float | None) -> tuple[float, ...]:
    return GRID if fixed is None else (fixed,)
