"""Thresholds tuned together, on validation notes only.

A network's own threshold maximises its frame-wise F1; what counts is the note F1 of both networks
together. Both networks run over each validation recording once; the picker and the scorer are fast
enough to try every pair of a grid. What was tuned for the same weights, recordings and settings is
taken as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import CorpusError, UserError
from amt_pipeline.core.files import read_json
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.parallel import LOCAL, Failure, ParallelConfig, map_items
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.transcription.decode import pick_notes
from amt_pipeline.transcription.model_folder import JOINT_FILE, ModelFolder
from amt_pipeline.transcription.note_table import read_note_table
from amt_pipeline.transcription.recording_frames import stored_frames
from amt_pipeline.transcription.run import share_of
from amt_pipeline.transcription.scoring import score_notes
from amt_pipeline.transcription.transcribe import VERSION as TRANSCRIPTION_VERSION
from amt_pipeline.transcription.transcribe import TranscriptionConfig, arithmetic, predict_both

logger = logging.getLogger(__name__)

TASKS = ("onset", "pitch")
GRID = tuple(round(0.1 + 0.05 * step, 2) for step in range(15))
"""Probabilities tried for either threshold: 0.1 to 0.8."""
VERSION = 1
"""Part of the key of what was tuned. Raise it when scores or the choice among them change."""


@dataclass(frozen=True)
class TuningJob:
    """One validation recording; picklable. `model` is the key of the weights that are expected."""

    recording_id: str
    models_folder: Path
    store_folder: Path
    notes_folder: Path
    config: TranscriptionConfig
    model: str | None = None

    @property
    def reference_path(self) -> Path:
        """The note table that is the truth."""
        return self.notes_folder / f"{self.recording_id}.parquet"


def tune_thresholds(
    models: ModelFolder,
    recordings: Sequence[str],
    *,
    store_folder: Path,
    notes_folder: Path,
    config: TranscriptionConfig,
    parallel: ParallelConfig = LOCAL,
) -> dict[str, Any]:
    """Return the pair of thresholds with the highest mean note F1 over validation recordings.

    The result of an earlier call, if the caller kept it as the models folder's `JOINT_FILE`, is
    returned when it still holds.

    Args:
        models: The trained transcriber.
        recordings: Ids of the validation split.
        store_folder: The FrameStore.
        notes_folder: The note tables.
        config: Picking settings; thresholds given there are not tuned but taken.
        parallel: Where recordings are worked on.

    Returns:
        JSON-able: onset, pitch, validation_f1 (None if both were given), recordings, model (key of
        the weights they are for), decoding (the picker's other settings), and key (of all they
        depend on) where they were tuned.

    Raises:
        CorpusError: There is no validation recording to tune on.
    """
    if config.onset_threshold is not None and config.pitch_threshold is not None:
        fixed = {"onset": config.onset_threshold, "pitch": config.pitch_threshold}
        logger.info("Thresholds: onset %.2f, pitch %.2f, as given", fixed["onset"], fixed["pitch"])
        unknown = {"validation_f1": None, "recordings": 0}
        return {**fixed, **unknown, "model": models.key, "decoding": config.decoding()}
    if not recordings:
        raise CorpusError("validation", "holds no recording to tune thresholds on")
    jobs = [
        TuningJob(name, models.folder, store_folder, notes_folder, config, models.key)
        for name in recordings
    ]
    key = _key(models, jobs, config)
    known = _known(models.folder / JOINT_FILE, key)
    if known is not None:
        logger.info("Thresholds: onset %.2f, pitch %.2f, tuned before", *map(known.get, TASKS))
        return known
    tables = {}
    outcomes = map_items(
        note_f1_grid,
        jobs,
        label="Tune thresholds",
        unit="recording",
        parallel=share_of(parallel, config, len(jobs)),
        shared=(models.folder, store_folder, notes_folder),
    )
    for job, outcome in outcomes:
        if isinstance(outcome, Failure):
            raise outcome.error
        tables[job.recording_id] = outcome
    # In a fixed order: sums of rounded numbers, and so which of near-equals wins, depend on it.
    scores = np.array([tables[name] for name in recordings])
    row, column = choose_pair(scores, config.threshold_margin)
    onset = _candidates(config.onset_threshold)[row]
    pitch = _candidates(config.pitch_threshold)[column]
    result = {
        "onset": onset,
        "pitch": pitch,
        "validation_f1": float(scores.mean(axis=0)[row, column]),
        "recordings": len(recordings),
        "model": models.key,
        "decoding": config.decoding(),
        "key": key,
    }
    logger.info(
        "Thresholds: onset %.2f, pitch %.2f give note F1 %.4f on %d validation recordings",
        result["onset"], result["pitch"], result["validation_f1"], len(recordings),
    )  # fmt: skip
    return result


def choose_pair(scores: npt.NDArray[np.float64], margin: float) -> tuple[int, int]:
    """Return the most sensitive pair that is nearly as good as the best.

    A piano that was not trained on lowers the pitch network's outputs, and a threshold at the upper
    end of a flat optimum then misses notes in masses, while at its lower end hardly anything is
    lost. So among the pairs whose mean F1 is at most `margin` below the best, the one with the
    lowest pitch threshold is taken, and of those the best.

    Args:
        scores: [recordings, onset thresholds, pitch thresholds] note F1, thresholds ascending.
        margin: F1 given up at most; 0 takes the best pair.

    Returns:
        Positions of the onset and the pitch threshold.
    """
    mean = scores.mean(axis=0)
    # Rounded sums: equals differ in their last bits.
    allowed = mean >= mean.max() - margin - 1e-9
    column = int(np.argmax(allowed.any(axis=0)))
    rows = np.flatnonzero(mean[:, column] >= mean[:, column].max() - 1e-9)
    # Few recordings leave many equals; the middle of them is the safest.
    return int(rows[len(rows) // 2]), column


def note_f1_grid(job: TuningJob) -> npt.NDArray[np.float64]:
    """Return note F1 [onset thresholds, pitch thresholds] of one recording."""
    models = ModelFolder.open(job.models_folder, job.model)
    store = FrameStore.open(job.store_folder, models.onset.features)
    reference = read_note_table(job.reference_path)
    onset, pitch = predict_both(
        models,
        stored_frames(store, job.recording_id),
        job.config,
        # What the lowest threshold leaves out, no higher one lets in.
        gate_threshold=_candidates(job.config.onset_threshold)[0] if job.config.gate else None,
        threads=1,
    )
    seconds = models.onset.features.grid.seconds_per_frame
    scores = [
        [
            score_notes(reference, pick_notes(onset, pitch, seconds, job.config.picking(o, p))).f1
            for p in _candidates(job.config.pitch_threshold)
        ]
        for o in _candidates(job.config.onset_threshold)
    ]
    return np.array(scores)


def _key(models: ModelFolder, jobs: Sequence[TuningJob], config: TranscriptionConfig) -> str:
    """Return a hash of all that the tuned thresholds depend on."""
    contents = []
    for job in jobs:
        entry = FrameStore.open(job.store_folder).entry(job.recording_id)
        reference = read_note_table(job.reference_path)
        notes = [reference.onset_s.tolist(), reference.pitch.tolist()]
        contents.append([job.recording_id, entry.content_sha256, notes])
    without_effect = {"device", "precision", "gate", "save_probabilities", "audio_folder"}
    settings = config.model_dump(exclude=without_effect)
    versions, (_, precision) = [VERSION, TRANSCRIPTION_VERSION], arithmetic(config)
    return value_sha256([versions, models.key, contents, settings, GRID, precision])


def _known(path: Path, key: str) -> dict[str, Any] | None:
    try:
        values = read_json(path)
    except UserError:
        return None  # not there, or damaged: tuned again
    return values if isinstance(values, dict) and values.get("key") == key else None


def _candidates(fixed: float | None) -> tuple[float, ...]:
    return GRID if fixed is None else (fixed,)
