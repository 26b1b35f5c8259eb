"""Frames of some recordings in the machine's memory, laid out for small windows.

A window of 21 frames of 39 values is 3 kB: finding it costs as much as copying it. So each
recording lies with its repeated edges on either side, and a window is one stretch of memory,
copied as one item. A recording is read when a window of it is first asked for: the first batch
need not wait for the others.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.store.windows import Edges, WindowReader, Windows

Integers = npt.NDArray[np.int64]

MOST_PAD = 64
"""Frames laid on either side of a recording at most: utterances have some hundreds of their own."""


class MemoryFrames:
    """Gathers windows from memory, as `WindowReader` does from files.

    Context and edges of the first windows say what is laid around each recording. Windows that ask
    for more, or for other edges, are as right; those of them that reach past an end are gathered
    frame by frame.

    Args:
        reader: Whose recordings.
    """

    def __init__(self, reader: WindowReader) -> None:
        self._reader, self._n_frames = reader, reader.n_frames
        self._lock = threading.Lock()
        self._begin = np.zeros(len(self._n_frames), np.int64)  # 0 is a recording that was not read
        self._n_unread, self._next_row = len(self._n_frames), 1
        self._pad, self._edges = -1, "zeros"
        spec = reader.store.spec
        self._shape, self._dtype = (spec.bins, spec.channels), np.dtype(spec.dtype)
        self._rows = np.zeros((0, *self._shape), self._dtype)
        self._views: dict[int, npt.NDArray[Any]] = {}

    def gather(self, windows: Windows, length: int, context: int, edges: Edges) -> npt.NDArray[Any]:
        """Return `[n, length + 2 context, bins, channels]`.

        Raises:
            StoreError: A recording is damaged, or was ingested again meanwhile.
        """
        recording, size = windows.recording, length + 2 * context
        if self._n_unread:
            with self._lock:
                self._require(recording, context, edges)
        begin = self._begin[recording]
        end, first = begin + self._n_frames[recording], begin + windows.start - context
        pad = self._pad if edges == self._edges else 0
        outside = np.flatnonzero((first < begin - pad) | (first + size > end + pad))
        if len(outside) == len(first):
            return self._by_frames(row_numbers(begin, end, first, size, edges))
        at = first
        if len(outside):
            at = first.copy()
            at[outside] = 0
        flat = self._items(size)[at].view(self._dtype)
        batch: npt.NDArray[Any] = flat.reshape(len(at), size, *self._shape)
        if len(outside):
            limits = begin[outside], end[outside], first[outside]
            batch[outside] = self._by_frames(row_numbers(*limits, size, edges))
        return batch

    def _items(self, size: int) -> npt.NDArray[Any]:
        """Return `[rows - size + 1]` the windows from each row on, as items that overlap.

        numpy copies items of one type faster than rows of numbers.
        """
        if size not in self._views:
            frame_bytes = self._rows.strides[0]
            self._views[size] = np.ndarray(
                (len(self._rows) - size + 1,),
                f"V{size * frame_bytes}",
                self._rows.data,
                strides=(frame_bytes,),
            )
        return self._views[size]

    def _by_frames(self, rows: Integers) -> npt.NDArray[Any]:
        frames: npt.NDArray[Any] = self._rows[rows]
        return frames

    def _require(self, recording: Integers, context: int, edges: Edges) -> None:
        """Read the recordings that are not there, behind the others."""
        if self._pad < 0:
            self._pad, self._edges = min(context, MOST_PAD), edges
            n_rows = 1 + int(self._n_frames.sum()) + 2 * self._pad * len(self._n_frames)
            # numpy asks for large pages, of which windows at random places need far fewer.
            self._rows = np.empty((n_rows, *self._shape), self._dtype)
            self._rows[0] = 0  # stands for every frame outside its recording
        absent = np.unique(recording[self._begin[recording] == 0])
        count = self._n_frames[absent]
        end = self._next_row + np.cumsum(count + 2 * self._pad) - self._pad
        begin = end - count
        self._reader.read(absent, np.zeros_like(count), count, begin, self._rows)
        self._lay_edges(begin, end)
        self._next_row += int(np.sum(count + 2 * self._pad))
        self._begin[absent] = begin
        self._n_unread -= len(absent)  # last: at 0, threads look without the lock

    def _lay_edges(self, begin: Integers, end: Integers) -> None:
        around, repeat = np.arange(self._pad), (self._edges == "repeat") & (begin < end)
        for at, edge in ((begin[:, None] - 1 - around, begin), (end[:, None] + around, end - 1)):
            self._rows[at] = self._rows[np.where(repeat, edge, 0)][:, None]


def row_numbers(
    begin: Integers, end: Integers, first: Integers, size: int, edges: Edges
) -> Integers:
    """Return `[n, size]` the row of each frame of windows; 0 is the row of zeros.

    Args:
        begin: `[n]` first row of the window's recording.
        end: `[n]` row behind its last.
        first: `[n]` row of the window's first frame, were the recording endless.
        size: Frames of a window.
        edges: What stands for frames outside the recording.
    """
    begin, end, at = begin[:, None], end[:, None], first[:, None] + np.arange(size)
    if edges == "repeat":
        at = np.minimum(np.maximum(at, begin), end - 1)  # below `begin` where there are no frames
    rows: Integers = np.where((at >= begin) & (at < end), at, 0)
    return rows
