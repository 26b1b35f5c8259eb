"""Files of frames that a reader keeps open, and reads from them."""

from __future__ import annotations

import os
import weakref
from collections import OrderedDict
from typing import Any

from amt_pipeline.core.errors import StoreError
from amt_pipeline.store.entries import PackedEntry, StoreEntry
from amt_pipeline.store.frames import FrameStore

MOST_OPEN = 4096
"""Files that a reader keeps open at most, wherever the system sets no limit of its own."""

_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)


class OpenFiles:
    """File descriptors of the files that hold recordings.

    The one that was not used for longest is closed first. A file has one descriptor, however many
    recordings it holds.

    Args:
        store: Where the files are.
        entries: The recordings.
        max_open: Files kept open.
    """

    def __init__(self, store: FrameStore, entries: list[StoreEntry], max_open: int) -> None:
        self._store, self._entries, self.max_open = store, entries, max_open
        # Files are numbered in the order of their first recording.
        first_entry: dict[tuple[bool, str], StoreEntry] = {}
        keys = [
            (True, entry.pack) if isinstance(entry, PackedEntry) else (False, entry.recording_id)
            for entry in entries
        ]
        for key, entry in zip(keys, entries, strict=True):
            first_entry.setdefault(key, entry)
        numbers = {key: number for number, key in enumerate(first_entry)}
        self._file_of = [numbers[key] for key in keys]
        self._paths = [store.data_path(entry) for entry in first_entry.values()]
        # By these a file of the same size is known to be the one that the entry speaks of.
        self._marks = [_mark(path.stat()) for path in self._paths]
        self._skipped = [
            entry.first_frame * store.spec.frame_bytes if isinstance(entry, PackedEntry) else 0
            for entry in entries
        ]
        # By the number of the file: its descriptor, and where its first frame begins.
        self._open: OrderedDict[int, int] = OrderedDict()
        self._header_bytes: dict[int, int] = {}
        weakref.finalize(self, _close_all, self._open)

    def get(self, recording: int) -> tuple[int, int]:
        """Return the descriptor of a recording's file and where its frames begin, in bytes."""
        number = self._file_of[recording]
        if number in self._open:
            self._open.move_to_end(number)
        else:
            while len(self._open) >= self.max_open:
                os.close(self._open.popitem(last=False)[1])
            self._open[number] = self._open_file(recording)
        return self._open[number], self._header_bytes[number] + self._skipped[recording]

    def _open_file(self, recording: int) -> int:
        entry, number = self._entries[recording], self._file_of[recording]
        if number not in self._header_bytes:
            frames: Any = self._store.map_file(entry)  # reads and checks the header
            self._header_bytes[number] = int(frames.offset)
        try:
            file = os.open(self._paths[number], os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._store.map_file(entry)  # fails alike, and names the file and the remedy
            raise
        if _mark(os.fstat(file)) != self._marks[number]:
            os.close(file)
            self.refuse(recording)
        return file

    def refuse(self, recording: int) -> None:
        """Raise the error of a file that is not the one its entry speaks of."""
        self._store.map_file(self._entries[recording])  # knows more about it, if it fails
        path = self._paths[self._file_of[recording]]
        remedy = "Run again when the ingestion is done"
        raise StoreError(path, "changed while it was used", remedy)


def open_limit() -> int:
    """Return how many files one reader keeps open: a quarter of what the process may open."""
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_OPEN if allowed == resource.RLIM_INFINITY else min(MOST_OPEN, max(16, allowed // 4))


def read_from_memory(file: int, view: memoryview, offset: int) -> bool:
    """Fill `view` if the system has the bytes in memory; otherwise tell it that they are wanted.

    So the disk fetches all absent windows of a batch at once: three times as many windows per
    second as one after the other. Systems without these calls wait for each in turn.
    """
    if _NO_WAIT is not None:
        try:
            if os.preadv(file, [view], offset, _NO_WAIT) == len(view):
                return True
        except OSError:  # not in memory, or a file system that cannot say so
            pass
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, offset, len(view), os.POSIX_FADV_WILLNEED)
    return False


def _mark(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def _close_all(files: OrderedDict[int, int]) -> None:
    while files:
        os.close(files.popitem()[1])
