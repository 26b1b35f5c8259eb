"""Windows of frames: views and gathers on the FrameStore, never copies on disk."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.store.frames import FrameStore

MAX_MAPPED = 256
"""Recordings that a reader keeps mapped: each takes a file descriptor, of often 1024 in all."""


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


class WindowReader:
    """Gathers windows of some recordings of a store.

    Args:
        store: Where the frames are.
        recording_ids: The recordings, in the order that `Windows.recording` counts them.

    Raises:
        StoreError: A recording is absent, stale or damaged.
    """

    def __init__(self, store: FrameStore, recording_ids: Sequence[str]) -> None:
        self.store = store
        self.recording_ids = list(recording_ids)
        entries = [store.entry(name) for name in self.recording_ids]

        @functools.lru_cache(maxsize=MAX_MAPPED)
        def frames(recording: int) -> npt.NDArray[Any]:
            return store.map_frames(entries[recording])

        self.frames = frames
        self.n_frames = np.array([entry.n_frames for entry in entries], np.int64)
        channels = store.spec.channels
        self.peak = np.array([entry.peak for entry in entries], np.float32).reshape(-1, channels)

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
        spec = self.store.spec
        size = length + 2 * context
        batch = np.zeros((len(windows), size, spec.bins, spec.channels), spec.dtype)
        for row, (recording, start) in enumerate(
            zip(windows.recording, windows.start, strict=True)
        ):
            copy_frames(self.frames(int(recording)), int(start) - context, batch[row])
        return batch


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
