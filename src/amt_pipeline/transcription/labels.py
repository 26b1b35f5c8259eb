"""What the networks have to say about each frame.

An onset belongs to frame floor(seconds x sample_rate / hop). Around it labels are graded: 3 at the
frame where a key is struck, 2 one frame away, 1 two frames away, 0 elsewhere; for all 88 keys apart
(pitch) and for any key together (onset). Which grades count as positive is the `widening`: 1 makes
the onset frame and its neighbours positive (3 frames, 34.8 ms on the reference grid), 2 makes five.
Source: xk-wang/transition-aware on GitHub, code/wav2tfrd.py; see docs/transcription.md, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.features.grid import FrameGrid
from amt_pipeline.store.windows import Windows
from amt_pipeline.transcription.notes import LOWEST_PITCH, N_KEYS, Notes

TOP_GRADE = 3
"""Grade of the frame in which a key is struck."""

_REACH = TOP_GRADE - 1
# Room for grades of onsets that lie up to the reach outside a window, cut off at the end.
_MARGIN = 2 * _REACH

# Distances from an onset and their grades, ascending: a nearer onset overwrites a farther one.
_GRADED = tuple(
    (TOP_GRADE - abs(distance), distance)
    for distance in sorted(range(-_REACH, _REACH + 1), key=abs, reverse=True)
)


class LabelConfig(BaseModel):
    """How notes become targets, and which windows are trained on.

    Attributes:
        widening: Frames on either side of an onset that count as positive (0 to 2).
        sampling: Which windows make a training epoch: `onset_windows` are centred on every frame
            with an onset; `onset_plus` adds a random share of all other frames; `runs` cuts each
            recording into runs of labelled frames that meet end to end and cover all of it, in
            every epoch with another phase, so that neighbouring frames share convolutions.
        negative_fraction: Share of frames without onset that `onset_plus` adds.
        phase: Whether the phase of `runs` is `moving` with the epoch or `fixed` to that of the
            first, so that windows written to records are those of every epoch.
        end: Labels go to the `last_onset` (the reference) or to the end of the `recording`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    widening: int = Field(1, ge=0, le=2)
    sampling: Literal["onset_windows", "onset_plus", "runs"] = "onset_plus"
    negative_fraction: float = Field(0.1, ge=0, le=1)
    phase: Literal["moving", "fixed"] = "moving"
    end: Literal["last_onset", "recording"] = "last_onset"

    def positive(self, grades: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
        """Return which grades count as positive under the widening."""
        return grades >= TOP_GRADE - self.widening


class FrameLabels:
    """Graded labels of several recordings, made on the fly from their notes.

    Only the notes are kept (17 bytes each), so the labels of 40 million frames cost no more memory
    than those of a single piece.

    Args:
        notes: Notes of each recording, in the order that `Windows.recording` counts them.
        n_frames: [n_recordings] frames of each recording.
        grid: The time grid of the frames.
        config: Where labels end.
    """

    def __init__(
        self,
        notes: Sequence[Notes],
        n_frames: npt.NDArray[np.int64],
        grid: FrameGrid,
        config: LabelConfig,
    ) -> None:
        self.config = config
        self.onset_frames: list[npt.NDArray[np.int64]] = []
        keys, positions, ends = [], [np.zeros(0, np.int64)], []
        # Recordings lie end to end on one axis, so that one search finds the notes of a batch.
        self._span = int(max(n_frames, default=0))
        for recording, (table, count) in enumerate(zip(notes, n_frames, strict=True)):
            frames = grid.frames_of(table.onset_s)
            inside = frames < count
            order = np.argsort(frames[inside], kind="stable")
            self.onset_frames.append(frames[inside][order])
            positions.append(self.onset_frames[-1] + recording * self._span)
            keys.append((table.pitch[inside][order] - LOWEST_PITCH).astype(np.uint8))
            last = int(frames[inside].max()) + 1 if inside.any() else 0
            ends.append(last if config.end == "last_onset" else int(count))
        self.n_frames = np.array(ends, np.int64)
        self._positions = np.concatenate(positions)
        self._keys = np.concatenate([np.zeros(0, np.uint8), *keys])

    def pitch_grades(self, windows: Windows, length: int) -> npt.NDArray[np.uint8]:
        """Return grades [n_windows, length, 88]; 0 outside recordings."""
        grades = np.zeros((len(windows), length + 2 * _MARGIN, N_KEYS), np.uint8)
        row, frame, notes = self._events(windows, length)
        at = (row * grades.shape[1] + frame) * N_KEYS + self._keys[notes]
        flat = grades.reshape(-1)
        for grade, distance in _GRADED:
            flat[at + distance * N_KEYS] = grade
        return grades[:, _MARGIN:-_MARGIN]

    def onset_grades(self, windows: Windows, length: int) -> npt.NDArray[np.uint8]:
        """Return grades of "any key" [n_windows, length]; 0 outside recordings."""
        grades = np.zeros((len(windows), length + 2 * _MARGIN), np.uint8)
        row, frame, _ = self._events(windows, length)
        at, flat = row * grades.shape[1] + frame, grades.reshape(-1)
        for grade, distance in _GRADED:
            flat[at + distance] = grade
        return grades[:, _MARGIN:-_MARGIN]

    def _events(
        self, windows: Windows, length: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the onsets that touch each window: row, frame in the padded window, note."""
        origin = windows.recording * self._span
        bounds = np.stack([windows.start - _REACH, windows.start + length + _REACH])
        # Clipped, so that a window over an end does not reach into the next recording.
        low, high = np.searchsorted(self._positions, origin + np.clip(bounds, 0, self._span))
        counts = high - low
        row = np.repeat(np.arange(len(windows)), counts)
        note = np.arange(len(row)) + (low - np.cumsum(counts) + counts)[row]
        frame = self._positions[note] - (origin + windows.start)[row] + _MARGIN
        return row, frame, note

    def positive(self, grades: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Return which grades count as positive under the widening."""
        return self.config.positive(grades)

    def training_windows(self, length: int, *, seed: int, epoch: int) -> Windows:
        """Return the windows of a training epoch, in recording order (the caller shuffles).

        The sample of frames without onset is drawn once for the whole run, as the reference does
        when it writes its records; the phase of `runs` changes with the epoch, unless it is fixed.
        The number of windows does not depend on the epoch.
        """
        parts = []
        for recording, count in enumerate(self.n_frames):
            if self.config.sampling == "runs":
                starts = self._run_starts(int(count), length, seed, epoch, recording)
            else:
                starts = self._centres(int(count), seed, recording) - length // 2
            parts.append(Windows(np.full(len(starts), recording, np.int64), starts))
        return Windows.concatenate(parts)

    def onset_centred_windows(self, length: int) -> Windows:
        """Return one window per frame with an onset, centred on it (the reference's pitch sets)."""
        parts = []
        for recording, frames in enumerate(self.onset_frames):
            starts = np.unique(frames) - length // 2
            parts.append(Windows(np.full(len(starts), recording, np.int64), starts))
        return Windows.concatenate(parts)

    def tiled_windows(self, length: int, stride: int) -> Windows:
        """Return windows every `stride` frames over all labelled frames (evaluation)."""
        parts = []
        for recording, count in enumerate(self.n_frames):
            starts = np.arange(0, max(int(count), 0), stride, dtype=np.int64)
            parts.append(Windows(np.full(len(starts), recording, np.int64), starts))
        return Windows.concatenate(parts)

    def _run_starts(
        self, count: int, length: int, seed: int, epoch: int, recording: int
    ) -> npt.NDArray[np.int64]:
        n_runs = -(-count // length)
        # By so much the runs are longer than the recording: the room they can be moved in without
        # leaving a frame out. Clipping moves what would lie outside onto frames that are there.
        room = n_runs * length - count
        drawn_at = epoch if self.config.phase == "moving" else 0
        phase = int(derive_rng(seed, "phase", drawn_at, recording).integers(room + 1))
        starts = np.arange(n_runs, dtype=np.int64) * length - phase
        return np.clip(starts, 0, max(count - length, 0))

    def _centres(self, count: int, seed: int, recording: int) -> npt.NDArray[np.int64]:
        positive = np.unique(self.onset_frames[recording])
        if self.config.sampling == "onset_windows":
            return positive
        others = np.setdiff1d(np.arange(count), positive, assume_unique=True)
        chosen = derive_rng(seed, "negatives", recording).random(len(others))
        return np.sort(np.concatenate([positive, others[chosen < self.config.negative_fraction]]))
