"""One record file: what should be in it, whether it is there, and how it is written."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from amt_pipeline.core.errors import UserError, storage_error
from amt_pipeline.core.files import read_json, write_json
from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.store.records import SUFFIXES, Examples, RecordFrame, write_records
from amt_pipeline.store.windows import Windows
from amt_pipeline.transcription.record_format import (
    ExportSplit,
    RecordFile,
    record_layout,
    to_examples,
)
from amt_pipeline.transcription.tasks import FrameTask

BATCH_BYTES = 64 * 2**20
"""Windows that a worker gathers at once; by recording, then put in the order of the file."""


@dataclass(frozen=True)
class RecordJob:
    """One record file to be written; picklable.

    Attributes:
        task: What `open_job_task` takes.
        split: The split.
        path: The file.
        windows: What it holds, in order.
        key: Hash of what should be in it.
    """

    task: str
    split: ExportSplit
    path: Path
    windows: Windows
    key: str

    @property
    def mark(self) -> Path:
        """The file that says that `path` is complete."""
        # Not with_suffix: a recording's id may contain dots.
        return self.path.with_name(self.path.name.removesuffix(SUFFIXES[0]) + ".json")


def write_file(job: RecordJob) -> RecordFile:
    """Write a record file, unless it is there already; return what it holds.

    Raises:
        StoreError: The store lacks a recording, or one is damaged.
        StorageError: The disk refused.
    """
    done = finished(job)
    if done is not None:
        return done
    try:
        job.mark.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(job.mark, error) from error
    task = open_job_task(job.task)
    frame = RecordFrame(record_layout(task.config, task.context_frames))
    count = write_records(job.path, frame, _batches(task, job, frame.record_bytes))
    file = RecordFile(
        name=job.path.name,
        records=count,
        bytes=job.path.stat().st_size,
        sha256=file_sha256(job.path),
    )
    write_json(job.mark, {"key": job.key, "file": file.model_dump()})
    return file


def _batches(task: FrameTask, job: RecordJob, record_bytes: int) -> Iterator[Examples]:
    size = max(1, BATCH_BYTES // record_bytes)
    for first in range(0, len(job.windows), size):
        windows = job.windows[first : first + size]
        # Neighbours are gathered together, each recording opened once.
        order = np.lexsort((windows.start, windows.recording))
        frames, grades = task.examples(job.split, windows[order])
        back = np.argsort(order)
        yield to_examples(np.asarray(frames)[back], grades[back])


def finished(job: RecordJob) -> RecordFile | None:
    """Return what a file holds, if it is complete and holds what it should."""
    if not (job.mark.is_file() and job.path.is_file()):
        return None
    try:
        mark = read_json(job.mark)
        file = RecordFile.model_validate(mark["file"])
        current = mark["key"] == job.key
    except (UserError, ValidationError, KeyError, TypeError):
        return None
    return file if current and file.bytes == job.path.stat().st_size else None


def task_text(task: FrameTask) -> str:
    """Return a task as a text that a worker opens it by; its windows are those of the frames."""
    arguments = task.recipe()["arguments"]
    arguments["config"]["training"] |= {"source": "frames", "records_folder": None}
    return json.dumps(arguments)


@functools.lru_cache(maxsize=1)
def open_job_task(text: str) -> FrameTask:
    """Open a task once per process: the labels of a large corpus take seconds."""
    return FrameTask.from_recipe(json.loads(text))
