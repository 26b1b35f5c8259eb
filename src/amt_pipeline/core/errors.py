"""Errors a user can act on.

Every error that a wrong path, parameter or file can cause is a `UserError`: it names the place,
says what is wrong there and what to do about it, in one line. The shell prints that line without a
traceback; anything else that escapes is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import errno
import signal
from os import PathLike
from pathlib import Path


class UserError(Exception):
    """A mistake in the input, named with its place and its remedy.

    Args:
        where: File, folder, parameter or recording at fault; shown first.
        problem: What is wrong there, without a final full stop.
        remedy: What the user can do about it.
    """

    def __init__(self, where: str | PathLike[str], problem: str, remedy: str = "") -> None:
        self.where = str(where)
        self.problem = problem
        self.remedy = remedy
        super().__init__(self.where, problem, remedy)

    def __str__(self) -> str:
        text = f"{self.where}: {self.problem}"
        return f"{text}. {self.remedy}" if self.remedy else text


class Interrupted(UserError):
    """Work was stopped by a signal, and saved itself: no mistake, but nothing may follow.

    Attributes:
        signal_number: Which signal it was; decides the exit code, as for any other stop.
    """

    signal_number: int = signal.SIGINT


class ConfigError(UserError):
    """A parameter that is unknown, ill-typed or contradicts another."""


class CorpusError(UserError):
    """Corpus metadata or layout that cannot be used."""


class AudioError(UserError):
    """An audio file that cannot be read, or holds what no network should see."""


class MidiError(UserError):
    """A MIDI or note file that cannot be read."""


class TensorError(UserError):
    """A file of feature frames that cannot be read, or holds what no network should see."""


class StoreError(UserError):
    """A FrameStore that is missing, incomplete, or made on another grid."""


class RecordError(UserError):
    """TFRecord files that are damaged, or hold other examples than are asked for."""


class CheckpointError(UserError):
    """A checkpoint with a missing or damaged file."""


class ResumeError(UserError):
    """A training run that cannot go on from what is on disk."""


class MissingPredecessorError(UserError):
    """A pipeline was asked for before the one that makes its input."""


class ClusterError(UserError):
    """A Dask cluster that cannot be reached, has no workers, or whose workers differ."""


class StorageError(UserError):
    """The disk refused: full, read-only, or without permission."""


def storage_error(path: str | PathLike[str], error: OSError) -> StorageError:
    """Turn an `OSError` met while writing into a named error with a remedy.

    Args:
        path: What was being written.
        error: The operating system's refusal.

    Returns:
        The error to raise; the caller raises it `from error`.
    """
    remedies = {
        errno.ENOSPC: (
            "the disk is full",
            "Free space, or move the data root with --params data_root=...",
        ),
        errno.EDQUOT: (
            "the disk quota is used up",
            "Free space, or move the data root with --params data_root=...",
        ),
        errno.EACCES: (
            "no permission to write here",
            "Choose a writable place with --params data_root=...",
        ),
        errno.EPERM: (
            "no permission to write here",
            "Choose a writable place with --params data_root=...",
        ),
        errno.EROFS: (
            "the file system is read-only",
            "Choose a writable place with --params data_root=...",
        ),
    }
    fallback = (f"cannot be written ({error.strerror or error})", "Check the path and the disk")
    if error.errno is None:
        # numpy reports a short write this way: "10000 requested and 496 written".
        full = "Free space if the disk is full, or move the data root with --params data_root=..."
        fallback = (fallback[0], full)
    problem, remedy = remedies.get(error.errno or 0, fallback)
    return StorageError(Path(path), problem, remedy)
