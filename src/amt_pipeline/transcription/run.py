"""Transcribing many recordings: the test split of a corpus, or a folder of audio."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amt_pipeline.core.errors import CorpusError, UserError
from amt_pipeline.core.parallel import Failure, map_items
from amt_pipeline.transcription.corpus import AUDIO_SUFFIXES, recording_ids
from amt_pipeline.transcription.transcribe import (
    ITEMS_FOLDER,
    PROBABILITIES_FOLDER,
    Transcript,
    TranscriptionConfig,
    TranscriptionJob,
    transcribe_recording,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TranscriptionOutcome:
    """What became of a set of recordings.

    Attributes:
        transcripts: Those that were transcribed, by recording id.
        failures: Those that could not be read: id and error.
    """

    transcripts: dict[str, Transcript]
    failures: dict[str, UserError]

    def index(self) -> dict[str, Any]:
        """Return a JSON-able list of what was done."""
        return {
            "recordings": [
                {"recording_id": t.recording_id, "n_notes": t.n_notes, "duration_s": t.duration_s}
                for t in self.transcripts.values()
            ],
            "failed": {name: str(error) for name, error in self.failures.items()},
        }


def transcribe_split(
    recordings: Sequence[str],
    *,
    models_folder: Path,
    store_folder: Path,
    out_folder: Path,
    thresholds: dict[str, Any],
    config: TranscriptionConfig,
) -> TranscriptionOutcome:
    """Transcribe recordings whose frames are in the store.

    Raises:
        UserError: One cannot be transcribed: what was ingested is expected to be whole.
    """
    picking = config.picking(float(thresholds["onset"]), float(thresholds["pitch"]))
    jobs = [
        TranscriptionJob(
            name, models_folder, out_folder, picking, config, store_folder=store_folder
        )
        for name in recordings
    ]
    outcome = run_jobs(jobs)
    for error in outcome.failures.values():
        raise error
    return outcome


def transcribe_folder(
    folder: Path,
    *,
    models_folder: Path,
    out_folder: Path,
    thresholds: dict[str, Any],
    config: TranscriptionConfig,
) -> TranscriptionOutcome:
    """Transcribe all audio at and below a folder; see `transcribe_files`.

    Raises:
        CorpusError: There is no such folder, or no audio in it.
    """
    outcome = transcribe_files(
        audio_files(folder.expanduser()),
        models_folder=models_folder,
        out_folder=out_folder,
        thresholds=thresholds,
        config=config,
    )
    logger.info("Transcribed %d audio files into %s", len(outcome.transcripts), out_folder)
    return outcome


def transcribe_files(
    files: Sequence[Path],
    *,
    models_folder: Path,
    out_folder: Path,
    thresholds: dict[str, Any],
    config: TranscriptionConfig,
) -> TranscriptionOutcome:
    """Transcribe audio files; one that cannot be read is named and does not stop the others."""
    picking = config.picking(float(thresholds["onset"]), float(thresholds["pitch"]))
    names = recording_ids([file.as_posix() for file in files])
    jobs = [
        TranscriptionJob(name, models_folder, out_folder, picking, config, audio_path=file)
        for name, file in zip(names, files, strict=True)
    ]
    return run_jobs(jobs)


def run_jobs(jobs: Sequence[TranscriptionJob]) -> TranscriptionOutcome:
    """Run jobs in processes, or inline where starting processes would cost more than it gains."""
    transcripts: dict[str, Transcript] = {}
    failures: dict[str, UserError] = {}
    count = process_count(jobs[0].config, len(jobs)) if jobs else 1
    if count == 1:
        # Alone in its process, a job may have all threads.
        jobs = [replace(job, threads=None) for job in jobs]
    outcomes = map_items(
        transcribe_recording, jobs, workers=count, label="Transcribe", unit="recording"
    )
    for job, outcome in outcomes:
        if isinstance(outcome, Failure):
            failures[job.recording_id] = outcome.error
            logger.warning("Not transcribed: %s", outcome.error)
            continue
        transcripts[job.recording_id] = outcome
        for warning in outcome.warnings:
            logger.warning("%s: %s", job.audio_path or job.recording_id, warning)
    order = [job.recording_id for job in jobs]
    return TranscriptionOutcome(
        {name: transcripts[name] for name in order if name in transcripts},
        {name: failures[name] for name in order if name in failures},
    )


def remove_others(out_folder: Path, recordings: Sequence[str]) -> list[str]:
    """Remove what earlier runs transcribed and `recordings` lacks; return their ids.

    Only results with an item file of ours go: a former test split must not be taken for this one's.
    """
    keep, removed = set(recordings), []
    for item in sorted((out_folder / ITEMS_FOLDER).glob("*.json")):
        if item.stem in keep:
            continue
        item.unlink()
        for path in (
            out_folder / f"{item.stem}.res",
            out_folder / f"{item.stem}.mid",
            out_folder / PROBABILITIES_FOLDER / f"{item.stem}.npz",
        ):
            path.unlink(missing_ok=True)
        removed.append(item.stem)
    return removed


def audio_files(folder: Path) -> list[Path]:
    """Return the audio files below a folder, sorted; hidden ones are left out.

    Raises:
        CorpusError: There is no such folder, or no audio in it.
    """
    if not folder.is_dir():
        raise CorpusError(folder, "no such folder")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")
    )
    if not files:
        raise CorpusError(folder, "holds no audio", f"Known are {', '.join(AUDIO_SUFFIXES)}")
    return files


def process_count(config: TranscriptionConfig, n_jobs: int) -> int | None:
    """Return how many processes to start: one where jobs would share a GPU, or for a single job.

    Otherwise it is what the configuration says; None is one per processor.
    """
    from amt_pipeline.training.device import resolve_device

    if n_jobs == 1 or resolve_device(config.device, "transcribe.device").type == "cuda":
        return 1
    return config.workers
