"""Scalars over steps as TensorBoard event files.

An event file is a sequence of TFRecord-framed `Event` messages. TensorBoard's own `EventFileWriter`
would do, but it imports tensorflow wherever that is installed (seconds of start-up in every
worker) and writes from a thread, so that a full disk shows up late and elsewhere. Its
`RecordWriter` (framing and checksums) on an ordinary file has neither trouble. Curves are read back
by `ranking.curves`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from amt_pipeline.core.closing import Closing
from amt_pipeline.core.errors import UserError, storage_error

# First record of every event file: the version of the format, as TensorBoard expects it.
FILE_VERSION = "brain.Event:2"


class ScalarWriter(Closing):
    """Appends scalars to a new event file in a folder.

    Every process start opens its own file; TensorBoard joins the files of one folder by name, which
    is why the name begins with the time. Each `scalars` call reaches the operating system before it
    returns: a killed run keeps all but the record it was writing, and TensorBoard shows it live.

    Args:
        folder: Folder of the run; made when missing.
        resumed_at_step: Step that a resumed run goes on from. What an earlier process recorded
            after this step is void, and TensorBoard is told to drop it.

    Raises:
        StorageError: The disk refused (full, read-only, no permission).
    """

    def __init__(self, folder: str | PathLike[str], *, resumed_at_step: int | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        seconds, nanoseconds = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{seconds:010d}.{nanoseconds:09d}.{os.getpid()}"
        self.path = Path(folder) / name
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("xb")
        except OSError as error:
            raise storage_error(self.path, error) from error
        self._records = RecordWriter(self._stream)
        self._write(file_version=FILE_VERSION)
        if resumed_at_step is not None:
            # TensorBoard drops what lies at or after the step of a START; the step itself is kept.
            start = SessionLog(status=SessionLog.START)
            self._write(step=resumed_at_step + 1, session_log=start)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics at a training step.

        Args:
            values: Metric by tag, such as `train/loss`. NaN and infinities are kept as they are: a
                diverged loss has to be seen. The format stores single precision.
            step: Training step, counted over all starts of the run.

        Raises:
            StorageError: The disk refused, or the writer is closed.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        items = [Summary.Value(tag=tag, simple_value=float(values[tag])) for tag in values]
        if items:
            self._write(step=step, summary=Summary(value=items))

    def flush(self) -> None:
        """Force what was recorded to the disk, against a crash of the machine."""
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except (OSError, ValueError) as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Flush and close the file; closing twice does no harm."""
        if not self._stream.closed:
            self.flush()
            self._stream.close()

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(wall_time=time.time(), **fields)
        try:
            self._records.write(event.SerializeToString())
            self._stream.flush()
        except (OSError, ValueError) as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError | ValueError) -> UserError:
        if isinstance(error, OSError):
            return storage_error(self.path, error)
        return storage_error(self.path, OSError(0, "the file is already closed"))


class EventReporter(Closing):
    """A reporter that writes scalars to event files; the file is opened with the first of them.

    Until then a training may still set a former run's events aside.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._closed = folder, False
        self._writer: ScalarWriter | None = None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics at a training step; after `close` nothing is recorded."""
        if self._closed:
            return
        if self._writer is None:
            # What an earlier start recorded from here on is void: this run took another course.
            resumed = self._folder.is_dir() and any(self._folder.iterdir())
            self._writer = ScalarWriter(self._folder, resumed_at_step=step - 1 if resumed else None)
        self._writer.scalars(values, step)

    def file(self, path: str | PathLike[str], folder: str = "") -> None:
        """Ignore the file: event files hold scalars."""

    def close(self) -> None:
        """Write what is held back; calling it twice is harmless."""
        writer, self._writer, self._closed = self._writer, None, True
        if writer is not None:
            writer.close()
