"""Windows of frames: gathers on the FrameStore, never copies on disk."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.open_files import OpenFiles, open_limit, read_from_memory

if TYPE_CHECKING:
    from torch import Tensor

Edges = Literal["zeros", "repeat"]
"""What stands for frames outside a recording: zeros, or its first and last frame (zeros where it
has none)."""


@dataclass(frozen=True)
class Windows:
    """Which stretches of which recordings: the order of a training epoch, or of an evaluation.

    Attributes:
        recording: [n] position of the recording in the split.
        start: [n] first labelled frame; may be negative or reach past the end.
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

    def gather(
        self, windows: Windows, length: int, context: int, edges: Edges = "zeros"
    ) -> npt.NDArray[Any] | Tensor:
        """Return [n, length + 2 context, bins, channels]; outside recordings what `edges` says."""


class WindowReader:
    """Gathers windows of some recordings of a store.

    Windows are read into the batch from the open file, not through a memory map: that is as fast
    as a map whose pages are known already, needs no address space for the 60 GB of a large corpus,
    and a file that is cut short meanwhile is an error with a name and not a bus error.

    Args:
        store: Where the frames are.
        recording_ids: The recordings, in the order that `Windows.recording` counts them.
        max_open: Files kept open; None is a quarter of the files that a process may open
            (256 of the usual 1024), since others have files open too.

    Raises:
        StoreError: A recording is absent, stale or damaged.
    """

    def __init__(
        self, store: FrameStore, recording_ids: Sequence[str], max_open: int | None = None
    ) -> None:
        self.store = store
        self.recording_ids = list(recording_ids)
        entries = store.entries(self.recording_ids)
        self.n_frames = np.array([entry.n_frames for entry in entries], np.int64)
        channels = store.spec.channels
        self.peak = np.array([entry.peak for entry in entries], np.float32).reshape(-1, channels)
        self._files = OpenFiles(store, entries, max_open or open_limit())
        # A file that one thread closes must not be read by another one, whose number it then had.
        self._lock = threading.Lock()

    def gather(
        self, windows: Windows, length: int, context: int, edges: Edges = "zeros"
    ) -> npt.NDArray[Any]:
        """Return the frames of a batch of windows.

        Args:
            windows: [n] windows.
            length: Labelled frames per window.
            context: Frames added on either side.
            edges: What stands for frames outside the recording.

        Returns:
            [n, length + 2 context, bins, channels] of the store's dtype.

        Raises:
            StoreError: A recording is damaged, or was ingested again meanwhile.
        """
        spec, size = self.store.spec, length + 2 * context
        batch = np.empty((len(windows), size, spec.bins, spec.channels), spec.dtype)
        first, n_frames = windows.start - context, self.n_frames[windows.recording]
        # Where frames are repeated, one is read also of a window that lies outside altogether.
        inner = np.maximum(n_frames - (edges == "repeat"), 0)
        low = np.clip(first, 0, inner)
        high = np.clip(first + size, low + (inner < n_frames), n_frames)
        place, count = np.clip(low - first, 0, size - 1), high - low
        outside = np.flatnonzero(count < size)
        batch[outside] = 0
        into = np.arange(len(windows)) * size + place
        self.read(windows.recording, low, high, into, batch)
        if edges == "repeat" and len(outside):
            read = place[outside, None], (place + np.maximum(count, 1) - 1)[outside, None]
            batch[outside] = batch[outside[:, None], np.clip(np.arange(size), *read)]
        return batch

    def read(
        self,
        recording: npt.NDArray[np.int64],
        low: npt.NDArray[np.int64],
        high: npt.NDArray[np.int64],
        into: npt.NDArray[np.int64],
        rows: npt.NDArray[Any],
    ) -> None:
        """Read stretches of recordings into memory.

        Args:
            recording: `[n]` recordings.
            low: `[n]` first frame of each stretch.
            high: `[n]` frame behind its last; where that is `low` nothing is read.
            into: `[n]` row that its first frame goes to.
            rows: `[..., bins, channels]` of the store's dtype, in C order; rows are counted over
                all leading axes. Others stay as they are.

        Raises:
            StoreError: A recording is damaged, or was ingested again meanwhile.
        """
        table = np.stack([recording, low, high, into], axis=1)[high > low]
        with self._lock:
            self._read(table, rows)

    def _read(self, table: npt.NDArray[np.int64], batch: npt.NDArray[Any]) -> None:
        """Read stretches `(recording, low, high, row of frames in the batch)` into a batch."""
        frame_bytes = self.store.spec.frame_bytes
        data: memoryview = batch.reshape(-1).view(np.uint8).data
        # A block opens at most so many files, so none is closed before it was read.
        block = self._files.max_open
        for begin in range(0, len(table), block):
            awaited = []
            for recording, low, high, into in table[begin : begin + block].tolist():
                file, offset = self._files.get(recording)
                offset, size = offset + low * frame_bytes, (high - low) * frame_bytes
                view = data[into * frame_bytes : into * frame_bytes + size]
                if not read_from_memory(file, view, offset):
                    awaited.append((recording, file, view, offset))
            for recording, file, view, offset in awaited:
                if os.preadv(file, [view], offset) != len(view):
                    self._files.refuse(recording)


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
