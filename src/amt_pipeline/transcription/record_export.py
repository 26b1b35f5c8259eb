"""Writes the windows of a task as TFRecord files: shards, and one file per piece of the test split.

Each file is durable on its own: it is written whole or not at all, its `.json` comes last, and a
file whose `.json` has the key of what should be in it is not written again. Order and bytes are a
pure function of corpus and settings, so an export that was killed and started again leaves the same
files as one that was not. The layout is described in `record_format`.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.errors import CorpusError, StorageError, UserError, storage_error
from amt_pipeline.core.files import atomic_path, remove_leftovers, write_json
from amt_pipeline.core.hashing import file_sha256, value_sha256
from amt_pipeline.core.parallel import LOCAL, Failure, ParallelConfig, map_items
from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.store.records import SUFFIXES, RecordFrame
from amt_pipeline.store.windows import Windows
from amt_pipeline.transcription.record_file import (
    RecordJob,
    finished,
    open_job_task,
    task_text,
    write_file,
)
from amt_pipeline.transcription.record_format import (
    FORMAT,
    MANIFEST_FILE,
    WINDOWS_FILE,
    ExportManifest,
    ExportSplit,
    RecordFile,
    SplitManifest,
    record_layout,
    record_settings,
    record_shapes,
)
from amt_pipeline.transcription.tasks import FrameTask

logger = logging.getLogger(__name__)


class ExportConfig(BaseModel):
    """How windows are exported.

    Attributes:
        shards: Files per split, for training and validation.
        splits: Which splits; training reads only `train`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shards: int = Field(64, ge=1, le=10000)
    splits: tuple[ExportSplit, ...] = Field(("train", "validation", "test"), min_length=1)


def export_records(
    task: FrameTask, folder: Path, export: ExportConfig, parallel: ParallelConfig = LOCAL
) -> ExportManifest:
    """Write the windows of a task as records; files that are there already stay.

    Args:
        task: Whose windows.
        folder: Where the records go.
        export: Shards and splits.
        parallel: Where files are written.

    Returns:
        What was exported, also in `manifest.json`.

    Raises:
        ConfigError: TensorFlow is not installed.
        CorpusError: The training split holds no window.
        StoreError: The store lacks a recording, or one is damaged.
        StorageError: There is not enough room, or the disk refused.
    """
    text = task_text(task)
    try:
        task = open_job_task(text)
        frame = RecordFrame(record_layout(task.config, task.context_frames))
        jobs = {
            split: own
            for split in export.splits
            if (own := _jobs(task, text, split, folder, export.shards))
        }
        _make_room(folder, jobs, frame.record_bytes)
        every = [job for own in jobs.values() for job in own]
        files = _write_all(every, parallel, (folder, task.store.folder, task.notes_folder))
    finally:
        open_job_task.cache_clear()
    manifest = ExportManifest(
        task=task.name,
        settings=record_settings(task.config, task.context_frames, task.fingerprint()),
        features=task.config.features,
        shapes=record_shapes(task.config, task.context_frames),
        record_bytes=frame.record_bytes,
        splits={
            split: _split_manifest(
                own, task.evaluation_units(split), [files[job.path] for job in own]
            )
            for split, own in jobs.items()
        },
    )
    write_json(folder / MANIFEST_FILE, manifest.model_dump(mode="json"))
    return manifest


def _jobs(
    task: FrameTask, text: str, split: ExportSplit, folder: Path, shards: int
) -> list[RecordJob]:
    """Return the files of a split with the windows that each holds."""
    ids = task.evaluation_units(split)
    if split == "test":
        # Everything of each piece, in the order of time, whatever validation looks at.
        length = task.config.model.label_frames
        stride = task.config.evaluation.stride_frames or length
        windows = task.open_split(split)[1].tiled_windows(length, stride)
        bounds = np.searchsorted(windows.recording, np.arange(len(ids) + 1))
        named = {name: windows[bounds[at] : bounds[at + 1]] for at, name in enumerate(ids)}
    else:
        if split == "train":
            windows = task.training_windows(0)
        else:
            windows = task.evaluation_windows(split)
            rng = derive_rng(task.training.seed, "shuffle", split)
            windows = windows[rng.permutation(len(windows))]
        parts = np.array_split(np.arange(len(windows)), min(shards, len(windows)) or 1)
        named = {f"{number:04d}": windows[rows] for number, rows in enumerate(parts)}
    if split == "train" and not len(windows):
        raise CorpusError(task.name, "has no training windows", "Check the training split's notes")
    shapes = record_shapes(task.config, task.context_frames)
    known = [FORMAT, task.name, task.fingerprint(), shapes, split, ids]
    return [
        RecordJob(text, split, folder / split / f"{name}{SUFFIXES[0]}", own, _key(known, own))
        for name, own in named.items()
        if len(own)
    ]


def _key(known: list[Any], windows: Windows) -> str:
    arrays = (windows.recording, windows.start)
    digests = [hashlib.sha256(array.astype("<i8").tobytes()).hexdigest() for array in arrays]
    return value_sha256([*known, *digests])


def _make_room(folder: Path, jobs: dict[ExportSplit, list[RecordJob]], record_bytes: int) -> None:
    """Remove what a former export left, and check that the disk has room for what is missing.

    Raises:
        StorageError: It has not.
    """
    try:
        (folder / MANIFEST_FILE).unlink(missing_ok=True)
        for split, own in jobs.items():
            (folder / split).mkdir(parents=True, exist_ok=True)
            remove_leftovers(folder / split)
            wanted = {name for job in own for name in (job.path.name, job.mark.name)}
            for path in (folder / split).iterdir():
                if path.suffix in (SUFFIXES[0], ".json") and path.name not in wanted:
                    path.unlink()
        missing = [job for own in jobs.values() for job in own if finished(job) is None]
        there = sum(job.path.stat().st_size for job in missing if job.path.is_file())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise storage_error(folder, error) from error
    needed = sum(len(job.windows) for job in missing) * record_bytes
    logger.info(
        "%s: %d of %d record files to write, %s (%d bytes per window, 32-bit floats)",
        folder.name, len(missing), sum(map(len, jobs.values())), _size(needed), record_bytes,
    )  # fmt: skip
    # What is replaced is freed file by file; a worker holds one more meanwhile.
    if needed > free + there:
        raise StorageError(
            folder,
            f"the export needs {_size(needed)}, and {_size(free)} are free",
            "Free space, move the data root with --params data_root=..., or train from "
            "training.source=frames, which needs none of it",
        )


def _write_all(
    jobs: list[RecordJob], parallel: ParallelConfig, folders: Sequence[Path]
) -> dict[Path, RecordFile]:
    """Write what is missing and return what each file holds."""
    files: dict[Path, RecordFile] = {}
    failures: list[UserError] = []
    outcomes = map_items(
        write_file, jobs, label="Records", unit="file", parallel=parallel, shared=folders
    )
    for job, outcome in outcomes:
        if isinstance(outcome, Failure):
            failures.append(outcome.error)
        else:
            files[job.path] = outcome
    if failures:
        raise min(failures, key=str)
    return files


def _split_manifest(
    jobs: Sequence[RecordJob], recording_ids: list[str], files: list[RecordFile]
) -> SplitManifest:
    windows = Windows.concatenate([job.windows for job in jobs])
    path = jobs[0].path.with_name(WINDOWS_FILE)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, recording=windows.recording, start=windows.start)
    return SplitManifest(
        records=len(windows),
        bytes=sum(file.bytes for file in files),
        recordings=recording_ids,
        windows_sha256=file_sha256(path),
        files=files,
    )


def _size(n_bytes: int) -> str:
    unit, name = (1e9, "GB") if n_bytes >= 1e9 else (1e6, "MB")
    return f"{n_bytes / unit:.3g} {name}"
