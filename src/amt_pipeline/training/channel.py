"""What training processes and the process that started them tell each other.

Files of one folder, which all machines see, so that it does not matter where a process runs:

    spec.json       what to train; written first
    events.jsonl    log lines and scalars of the main process, in order; only ever appended to
    error.json      the mistake of the user's that ended the training: nobody begins again
    stop            the starting process wants an end: nobody begins again
    failures/       tracebacks of what else went wrong, one file per process and start
    reserve         room on the disk for saying that it is full
"""

from __future__ import annotations

import importlib
import json
import logging
import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from amt_pipeline.core.closing import Closing
from amt_pipeline.core.errors import UserError, storage_error
from amt_pipeline.core.files import read_json, write_json
from amt_pipeline.core.reporter import Reporter
from amt_pipeline.training.task import Task

SPEC_FILE = "spec.json"
EVENTS_FILE = "events.jsonl"
ERROR_FILE = "error.json"
STOP_FILE = "stop"
FAILURES_FOLDER = "failures"
RESERVE_FILE = "reserve"
RESERVE_BYTES = 64 * 1024


def import_by_path(path: str) -> Any:
    """Return what a dotted path `package.module:name` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def open_task(recipe: Mapping[str, Any]) -> Task:
    """Return the task that a recipe (`Task.recipe`) describes."""
    task: Task = import_by_path(recipe["task"]).from_recipe(recipe["arguments"])
    return task


class EventWriter(Closing):
    """The main process's reporter and log handler: appends both to `events.jsonl`."""

    def __init__(self, folder: Path) -> None:
        # Unbuffered: an event is one call to the system, whole and in order whoever writes it.
        self._stream = (folder / EVENTS_FILE).open("ab", buffering=0)
        # A killed predecessor may have left half a line.
        self._stream.write(b"\n")
        self._handler = _Forward(self)
        logging.getLogger().addHandler(self._handler)
        logging.getLogger("amt_pipeline").setLevel(logging.INFO)

    def write(self, **event: Any) -> None:
        """Append an event; it has left this process when this returns.

        Raises:
            StorageError: The disk refused.
        """
        try:
            self._stream.write(json.dumps(event).encode() + b"\n")
        except OSError as error:
            raise storage_error(self._stream.name, error) from error

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Pass on metrics at a training step."""
        self.write(scalars=dict(values), step=step)

    def file(self, path: str | PathLike[str], folder: str = "") -> None:
        """Pass on a finished file."""
        self.write(file=str(path), folder=folder)

    def close(self) -> None:
        """Take the log handler away and close the file."""
        logging.getLogger().removeHandler(self._handler)
        self._stream.close()


class _Forward(logging.Handler):
    def __init__(self, writer: EventWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(log=record.name, level=record.levelno, message=record.getMessage())
        except UserError:
            self.handleError(record)


class EventReader(Closing):
    """Follows `events.jsonl`: log lines go to this process's log, scalars to a reporter.

    What is said twice, because a start died and the next one went on from a checkpoint before, is
    passed on once.
    """

    def __init__(self, folder: Path, reporter: Reporter) -> None:
        path = folder / EVENTS_FILE
        path.touch()
        self._stream = path.open("rb")
        self._reporter, self._rest, self._step = reporter, b"", -1

    def follow(self) -> None:
        """Pass on what is new."""
        *lines, self._rest = (self._rest + self._stream.read()).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # an empty line, or half of one
            self._pass_on(event)

    def _pass_on(self, event: Mapping[str, Any]) -> None:
        if "log" in event:
            logging.getLogger(event["log"]).log(event["level"], "%s", event["message"])
        elif "file" in event:
            self._reporter.file(event["file"], event["folder"])
        elif event["step"] > self._step:
            self._step = event["step"]
            self._reporter.scalars(event["scalars"], self._step)

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def has_scalars(folder: Path) -> bool:
    """Return whether the main process has passed scalars on, in this start or one before.

    There are scalars before the first checkpoint.
    """
    with (folder / EVENTS_FILE).open("rb") as stream:
        return any(line.startswith(b'{"scalars"') for line in stream)


def open_channel(folder: Path, folder_of_run: Path, task: Task) -> Path:
    """Empty the folder and write what the processes begin with; return the specification's path.

    Raises:
        StorageError: The disk refused.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / RESERVE_FILE).write_bytes(bytes(RESERVE_BYTES))
    except OSError as error:
        raise storage_error(folder, error) from error
    spec = folder / SPEC_FILE
    write_json(spec, {"folder": str(folder_of_run.absolute()), "recipe": task.recipe()})
    return spec


def write_error(folder: Path, error: UserError) -> None:
    """Leave a mistake of the user's for the process that started the training; the first stays."""
    if (folder / ERROR_FILE).exists():
        return
    kind = f"{type(error).__module__}:{type(error).__qualname__}"
    words = {"where": error.where, "problem": error.problem, "remedy": error.remedy}
    (folder / RESERVE_FILE).unlink(missing_ok=True)
    write_json(folder / ERROR_FILE, {"type": kind, **words})


def read_error(folder: Path) -> UserError | None:
    """Return the mistake that ended the training, as the error it was; None if there was none."""
    if not (folder / ERROR_FILE).exists():
        return None
    words = read_json(folder / ERROR_FILE)
    kind = import_by_path(words.pop("type"))
    error = kind(**words)
    if not isinstance(error, UserError):
        raise TypeError(f"{folder / ERROR_FILE}: {kind} is no UserError")
    return error
