"""Windows of frames: gathers on the FrameStore, never copies on disk."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import StoreError
from amt_pipeline.store.entries import PackedEntry, StoreEntry
from amt_pipeline.store.frames import FrameStore

if TYPE_CHECKING:
    from torch import Tensor

MOST_OPEN = 4096
"""Recordings that a reader keeps open at most, wherever the system sets no limit of its own."""

_NO_WAIT: int | None = getattr(os, "RWF_NOWAIT", None)


@dataclass(frozen=True)
class Windows:
    """Which stretches of which recordings: the order of a training epoch, or of an evaluation.

    Attributes:
        recording: [n] position of the recording in the split.
        start: [n] first labelled frame; may be negative or reach past the end (zeros there).
    """

    recording: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.recording)

    def __getitem__(self, rows: slice | npt.NDArray[np.int64]) -> Windows:
        return Windows(self.recording[rows], self.start[rows])

    @staticmethod
    def concatenate(parts: Sequence[Windows]) -> Windows:
        """Join windows in order."""
        if not parts:
            return Windows(np.zeros(0, np.int64), np.zeros(0, np.int64))
        return Windows(
            np.concatenate([part.recording for part in parts]),
            np.concatenate([part.start for part in parts]),
        )


class FrameSource(Protocol):
    """Where a task takes its frames from: files (`WindowReader`) or a device (`DeviceFrames`).

    Attributes:
        recording_ids: The recordings, in the order that `Windows.recording` counts them.
        n_frames: [n_recordings] frames of each.
        peak: [n_recordings, channels] largest magnitudes.
    """

    recording_ids: list[str]
    n_frames: npt.NDArray[np.int64]
    peak: npt.NDArray[np.float32]

    def gather(self, windows: Windows, length: int, context: int) -> npt.NDArray[Any] | Tensor:
        """Return [n, length + 2 context, bins, channels]; zeros outside recordings."""


class WindowReader:
    """Gathers windows of some recordings of a store.

    Windows are read into the batch from the open file, not through a memory map: that is as fast
    as a map whose pages are known already, needs no address space for the 60 GB of a large corpus,
    and a file that is cut short meanwhile is an error with a name and not a bus error.

    Args:
        store: Where the frames are.
        recording_ids: The recordings, in the order that `Windows.recording` counts them.
        max_open: Recordings kept open; None is a quarter of the files that a process may open
            (256 of the usual 1024), since others have files open too.

    Raises:
        StoreError: A recording is absent, stale or damaged.
    """

    def __init__(
        self, store: FrameStore, recording_ids: Sequence[str], max_open: int | None = None
    ) -> None:
        self.store = store
        self.recording_ids = list(recording_ids)
        entries = [store.entry(name) for name in self.recording_ids]
        self.n_frames = np.array([entry.n_frames for entry in entries], np.int64)
        channels = store.spec.channels
        self.peak = np.array([entry.peak for entry in entries], np.float32).reshape(-1, channels)
        self._files = _OpenFiles(store, entries, max_open or open_limit())
        # A file that one thread closes must not be read by another one, whose number it then had.
        self._lock = threading.Lock()

    def gather(self, windows: Windows, length: int, context: int) -> npt.NDArray[Any]:
        """Return the frames of a batch of windows.

        Args:
            windows: [n] windows.
            length: Labelled frames per window.
            context: Frames added on either side.

        Returns:
            [n, length + 2 context, bins, channels] of the store's dtype; zeros outside recordings.

        Raises:
            StoreError: A recording is damaged, or was ingested again meanwhile.
        """
        spec, size = self.store.spec, length + 2 * context
        batch = np.empty((len(windows), size, spec.bins, spec.channels), spec.dtype)
        first = windows.start - context
        n_frames = self.n_frames[windows.recording]
        low = np.minimum(np.maximum(first, 0), n_frames)
        high = np.maximum(np.minimum(first + size, n_frames), low)
        batch[high - low < size] = 0
        rows = np.flatnonzero(high > low)
        into = np.arange(len(windows)) * size + low - first
        table = np.stack([windows.recording, low, high, into], axis=1)[rows]
        with self._lock:
            self._read(table, batch)
        return batch

    def _read(self, table: npt.NDArray[np.int64], batch: npt.NDArray[Any]) -> None:
        """Read stretches `(recording, low, high, row of frames in the batch)` into a batch."""
        frame_bytes = batch.itemsize * self.store.spec.bins * self.store.spec.channels
        data: memoryview = batch.reshape(-1).view(np.uint8).data
        # A block opens at most so many files, so none is closed before it was read.
        block = self._files.max_open
        for begin in range(0, len(table), block):
            awaited = []
            for recording, low, high, into in table[begin : begin + block].tolist():
                file, offset = self._files.get(recording)
                offset, size = offset + low * frame_bytes, (high - low) * frame_bytes
                view = data[into * frame_bytes : into * frame_bytes + size]
                if not _read_from_memory(file, view, offset):
                    awaited.append((recording, file, view, offset))
            for recording, file, view, offset in awaited:
                if os.preadv(file, [view], offset) != len(view):
                    self._files.refuse(recording)


class _OpenFiles:
    """File descriptors of the files that hold recordings.

    The one that was not used for longest is closed first. A file has one descriptor, however many
    recordings it holds.
    """

    def __init__(self, store: FrameStore, entries: list[StoreEntry], max_open: int) -> None:
        self._store, self._entries, self.max_open = store, entries, max_open
        self._open: OrderedDict[Path, int] = OrderedDict()
        self._paths = [store.data_path(entry) for entry in entries]
        # By these a file of the same size is known to be the one that the entry speaks of.
        self._marks = {path: _mark(path.stat()) for path in set(self._paths)}
        self._first_bytes: dict[Path, int] = {}
        spec = store.spec
        frame_bytes = np.dtype(spec.dtype).itemsize * spec.bins * spec.channels
        self._skipped = [
            entry.first_frame * frame_bytes if isinstance(entry, PackedEntry) else 0
            for entry in entries
        ]
        weakref.finalize(self, _close_all, self._open)

    def get(self, recording: int) -> tuple[int, int]:
        """Return the descriptor of a recording's file and where its frames begin, in bytes."""
        path = self._paths[recording]
        file = self._open.get(path)
        if file is None:
            while len(self._open) >= self.max_open:
                os.close(self._open.popitem(last=False)[1])
            file = self._open[path] = self._open_file(recording)
        elif len(self._marks) > self.max_open:  # else none is ever closed
            self._open.move_to_end(path)
        return file, self._first_bytes[path] + self._skipped[recording]

    def _open_file(self, recording: int) -> int:
        entry, path = self._entries[recording], self._paths[recording]
        if path not in self._first_bytes:
            frames: Any = self._store.map_file(entry)  # reads and checks the header
            self._first_bytes[path] = int(frames.offset)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._store.map_file(entry)  # fails alike, and names the file and the remedy
            raise
        if _mark(os.fstat(file)) != self._marks[path]:
            os.close(file)
            self.refuse(recording)
        return file

    def refuse(self, recording: int) -> None:
        """Raise the error of a file that is not the one its entry speaks of."""
        self._store.map_file(self._entries[recording])  # knows more about it, if it fails
        remedy = "Run again when the ingestion is done"
        raise StoreError(self._paths[recording], "changed while it was used", remedy)


def open_limit() -> int:
    """Return how many files one reader keeps open: a quarter of what the process may open."""
    import resource

    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_OPEN if allowed == resource.RLIM_INFINITY else min(MOST_OPEN, max(16, allowed // 4))


def _read_from_memory(file: int, view: memoryview, offset: int) -> bool:
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


def _close_all(files: OrderedDict[Path, int]) -> None:
    while files:
        os.close(files.popitem()[1])


def copy_frames(frames: npt.NDArray[Any], first: int, window: npt.NDArray[Any]) -> None:
    """Copy the frames from `first` on into a window; rows outside the recording stay as they are.

    Args:
        frames: [n, bins, channels] of a recording (a memory map will do).
        first: Frame of the window's first row; may be negative or past the end.
        window: [size, bins, channels] to be filled.
    """
    low, high = max(first, 0), min(first + len(window), len(frames))
    if low < high:
        window[low - first : high - first] = frames[low:high]
