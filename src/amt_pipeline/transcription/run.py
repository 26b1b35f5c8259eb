"""Transcribing many recordings: the test split of a corpus, or a folder of audio."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from amt_pipeline.core.errors import CorpusError, UserError
from amt_pipeline.core.files import remove_leftovers
from amt_pipeline.core.parallel import LOCAL, Failure, ParallelConfig, map_items
from amt_pipeline.transcription.corpus import AUDIO_SUFFIXES, recording_ids
from amt_pipeline.transcription.probabilities import PROBABILITIES_FOLDER
from amt_pipeline.transcription.transcribe import (
    ITEMS_FOLDER,
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

    def counts(self) -> str:
        """Return how many were transcribed, up to date and not readable, in words."""
        done = sum(not transcript.reused for transcript in self.transcripts.values())
        text = f"{done} recordings transcribed, {len(self.transcripts) - done} up to date"
        return text + (f", {len(self.failures)} failed" if self.failures else "")

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
    parallel: ParallelConfig = LOCAL,
) -> TranscriptionOutcome:
    """Transcribe recordings whose frames are in the store.

    If `thresholds` name the `model` (its key) that they are for, no other one is used.

    Raises:
        UserError: One cannot be transcribed: what was ingested is expected to be whole.
    """
    picking = config.picking(float(thresholds["onset"]), float(thresholds["pitch"]))
    jobs = [
        TranscriptionJob(
            name,
            models_folder,
            out_folder,
            picking,
            config,
            store_folder=store_folder,
            model=thresholds.get("model"),
        )
        for name in recordings
    ]
    outcome = run_jobs(jobs, parallel)
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
    parallel: ParallelConfig = LOCAL,
) -> TranscriptionOutcome:
    """Transcribe all audio at and below a folder; see `transcribe_files`.

    Raises:
        CorpusError: There is no such folder, or no audio in it.
    """
    return transcribe_files(
        audio_files(folder.expanduser()),
        models_folder=models_folder,
        out_folder=out_folder,
        thresholds=thresholds,
        config=config,
        parallel=parallel,
    )


def transcribe_files(
    files: Sequence[Path],
    *,
    models_folder: Path,
    out_folder: Path,
    thresholds: dict[str, Any],
    config: TranscriptionConfig,
    parallel: ParallelConfig = LOCAL,
) -> TranscriptionOutcome:
    """Transcribe audio files; one that cannot be read is named and does not stop the others."""
    picking = config.picking(float(thresholds["onset"]), float(thresholds["pitch"]))
    names = recording_ids([file.as_posix() for file in files])
    jobs = [
        TranscriptionJob(
            name,
            models_folder,
            out_folder,
            picking,
            config,
            audio_path=file.absolute(),  # a worker may have another working directory
            model=thresholds.get("model"),
        )
        for name, file in zip(names, files, strict=True)
    ]
    return run_jobs(jobs, parallel)


def run_jobs(
    jobs: Sequence[TranscriptionJob], parallel: ParallelConfig = LOCAL
) -> TranscriptionOutcome:
    """Run jobs in processes, or inline where starting processes would cost more than it gains.

    The log says how many were transcribed, and how many had been already.
    """
    if jobs:
        parallel = share_of(parallel, jobs[0].config, len(jobs))
    out_folders = list(dict.fromkeys(job.out_folder for job in jobs))
    for folder in out_folders:
        remove_leftovers(folder)  # of runs that were killed: frames of long recordings
    if parallel.is_inline:
        # Alone in its process, a job may have all threads.
        jobs = [replace(job, threads=None) for job in jobs]
    found: dict[str, Transcript | UserError] = {}
    for job, result in map_items(
        transcribe_recording,
        jobs,
        label="Transcribe",
        unit="recording",
        parallel=parallel,
        shared=_folders(jobs),
        sources=list(dict.fromkeys(job.audio_path.parent for job in jobs if job.audio_path)),
    ):
        found[job.recording_id] = result.error if isinstance(result, Failure) else result
        _say_what_is_odd(job, found[job.recording_id])
    order = [job.recording_id for job in jobs]
    outcome = TranscriptionOutcome(
        {name: done for name in order if isinstance(done := found[name], Transcript)},
        {name: error for name in order if isinstance(error := found[name], UserError)},
    )
    if jobs:
        logger.info("%s: %s", ", ".join(map(str, out_folders)), outcome.counts())
    return outcome


def _say_what_is_odd(job: TranscriptionJob, result: Transcript | UserError) -> None:
    if isinstance(result, UserError):
        logger.warning("Not transcribed: %s", result)
        return
    for warning in result.warnings:
        logger.warning("%s: %s", job.audio_path or job.recording_id, warning)


def remove_others(out_folder: Path, recordings: Sequence[str]) -> list[str]:
    """Remove what earlier runs transcribed and `recordings` lacks; return their ids.

    Only results with an item file of ours go: a former test split must not be taken for this one's.
    """
    keep, removed = set(recordings), []
    for item in sorted((out_folder / ITEMS_FOLDER).glob("*.json")):
        if item.stem in keep:
            continue
        for path in (
            out_folder / f"{item.stem}.res",
            out_folder / f"{item.stem}.mid",
            out_folder / PROBABILITIES_FOLDER / f"{item.stem}.npz",
            item,  # last: by it the others are found, should we be killed here
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


def share_of(parallel: ParallelConfig, config: TranscriptionConfig, n_jobs: int) -> ParallelConfig:
    """Return where jobs run: inline where they would share this machine's GPU, or for one job.

    On a Dask cluster each worker decides for itself, by `config.device` and what it finds.
    """
    from amt_pipeline.training.device import resolve_device

    if parallel.backend == "dask":
        return parallel
    if n_jobs == 1 or resolve_device(config.device, "transcribe.device").type == "cuda":
        return parallel.inline()
    return parallel


def _folders(jobs: Sequence[TranscriptionJob]) -> list[Path]:
    """Return the folders of ours that workers on other machines have to see."""
    folders: dict[Path, None] = {}
    for job in jobs:
        places = (job.models_folder, job.out_folder, job.store_folder)
        folders |= {place: None for place in places if place is not None}
    return list(folders)
