"""From network outputs to notes: average overlapping windows, then pick jointly.

The onset network says when something starts, the pitch network which keys; neither is enough alone.
The picking rule is that of the published transition-aware transcription (Wang et al., "Transition-
aware: A More Robust Approach for Piano Transcription", DAFx 2020): one candidate per key and run of
frames in which the onset network is confident, placed half-way between the two networks' peaks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.transcription.notes import LOWEST_PITCH, N_KEYS, Notes


class PickingConfig(BaseModel):
    """How probabilities become notes.

    Attributes:
        onset_threshold: A frame belongs to a run where the onset probability is above this.
        pitch_threshold: A key sounds in a run where its highest probability is above this.
        adjacent_s: A key that repeats within this time of its last accepted note (inclusive) is
            the same stroke, seen twice.
        drop_last_run: Leave out the last run of a piece, as the published picker does (it emits a
            run when it meets the next one). Only for comparing with its figures.
        note_duration_s: Length given to every note; the networks say nothing about offsets.
        time_offset_frames: Added to every note time. Labels floor an onset to its frame, so times
            are early by half a frame on average; 0.5 removes that, 0 is the published rule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    onset_threshold: float = Field(0.5, ge=0, le=1)
    pitch_threshold: float = Field(0.6, ge=0, le=1)
    adjacent_s: float = Field(0.05, ge=0, allow_inf_nan=False)
    drop_last_run: bool = False
    note_duration_s: float = Field(0.1, gt=0, allow_inf_nan=False)
    time_offset_frames: float = Field(0.0, allow_inf_nan=False)


class VoteAccumulator:
    """Averages the outputs of overlapping windows, window batches in any number.

    Sums are float32 and grow in the order of the windows, so that windows given in ascending order
    yield the same bits whatever the batch size.

    Args:
        n_frames: Frames of the piece.
        n_keys: Keys per frame; None for one value per frame (the onset network).
    """

    def __init__(self, n_frames: int, n_keys: int | None = None) -> None:
        self.n_frames = n_frames
        self._trailing = () if n_keys is None else (n_keys,)
        self._sums: NDArray[np.float32] = np.zeros((n_frames, *self._trailing), np.float32)
        self._votes: NDArray[np.int32] = np.zeros(n_frames, np.int32)

    def add(self, starts: ArrayLike, values: ArrayLike) -> None:
        """Add the outputs of a batch of windows.

        Args:
            starts: Frame of the first labelled frame of each window, int `[n_windows]`. Windows may
                reach over either end of the piece; what lies outside is left out.
            values: Probabilities, `[n_windows, label_frames]` or `[n_windows, label_frames, keys]`.

        Raises:
            ValueError: The shapes do not belong together.
        """
        first = np.asarray(starts, dtype=np.int64)
        outputs = np.asarray(values, dtype=np.float32)
        if first.ndim != 1 or outputs.shape[:1] + outputs.shape[2:] != first.shape + self._trailing:
            raise ValueError(
                f"starts {first.shape} and values {outputs.shape} do not fit windows of "
                f"[label_frames{''.join(f', {n}' for n in self._trailing)}]"
            )
        unique = first.size < 2 or bool((np.diff(first) > 0).all())
        # Last label first: a frame then meets its windows in ascending order, in every batch.
        for position in reversed(range(outputs.shape[1])):
            self._add_frames(first + position, outputs[:, position], unique)

    def _add_frames(
        self, frames: NDArray[np.int64], values: NDArray[np.float32], ascending: bool
    ) -> None:
        if not ascending:
            inside = (frames >= 0) & (frames < self.n_frames)
            np.add.at(self._sums, frames[inside], values[inside])
            np.add.at(self._votes, frames[inside], 1)
            return
        low, high = np.searchsorted(frames, [0, self.n_frames])
        if low == high:
            return
        frames, values = frames[low:high], values[low:high]
        # Without gaps (every frame has its window) a slice spares the gather and the scatter.
        gapless = frames[-1] - frames[0] + 1 == frames.size
        where: Any = slice(frames[0], frames[-1] + 1) if gapless else frames
        self._sums[where] += values
        self._votes[where] += 1

    def mean(self) -> NDArray[np.float32]:
        """Return the average per frame, `[n_frames]` or `[n_frames, n_keys]`; 0 without a vote.

        It takes the place of the sums (those of an hour fill 0.1 GB): nothing can be added after.
        """
        votes = np.maximum(self._votes, 1).astype(np.float32)
        self._sums /= votes.reshape(-1, *(1 for _ in self._trailing))
        return self._sums


def pick_notes(
    onset_probability: ArrayLike,
    pitch_probability: ArrayLike,
    seconds_per_frame: float,
    config: PickingConfig | None = None,
) -> Notes:
    """Pick the notes of a piece from both networks.

    1. A run is a stretch of consecutive frames with onset probability above the threshold.
    2. In each run, the onset peak is the first frame of highest onset probability.
    3. In each run and for each key, the key's peak is the first frame of its highest probability;
       the key is kept if that is above the pitch threshold.
    4. The note's time is the mean of the two frames.
    5. In order of time, a note within `adjacent_s` of the last accepted one of its key is dropped.

    NaN is no evidence: it starts no run and is no peak.

    Args:
        onset_probability: `[frames]`.
        pitch_probability: `[frames, 88]`, key 0 is A0 (MIDI 21).
        seconds_per_frame: Hop in seconds.
        config: Thresholds; None for the published ones.

    Returns:
        The notes, sorted by onset, then pitch; offsets and velocities are placeholders.

    Raises:
        ValueError: The two arrays do not cover the same frames, or not 88 keys.
    """
    config = config or PickingConfig()
    onset, pitch = np.asarray(onset_probability), np.asarray(pitch_probability)
    if onset.ndim != 1 or pitch.shape != (onset.size, N_KEYS):
        raise ValueError(f"onset {onset.shape} and pitch {pitch.shape} are not [n] and [n, 88]")
    frames = np.flatnonzero(onset > config.onset_threshold)
    if frames.size == 0:
        return _as_notes(np.empty(0), np.empty(0, np.int64), config)
    begins = np.flatnonzero(np.diff(frames, prepend=frames[0] - 2) > 1)
    onset_peak, _ = _peaks(onset[frames, None], frames, begins)
    pitch_peak, highest = _peaks(pitch[frames], frames, begins)
    kept = highest > config.pitch_threshold
    if config.drop_last_run:
        kept[-1] = False
    run, key = np.nonzero(kept)
    middle = (onset_peak[run, 0] + pitch_peak[run, key]) / 2
    time_s = (middle + config.time_offset_frames) * seconds_per_frame
    order = np.lexsort((key, time_s))
    time_s, key = time_s[order], key[order]
    accepted = _first_strokes(time_s, key, config.adjacent_s)
    return _as_notes(np.maximum(time_s[accepted], 0.0), key[accepted], config)


def _peaks(
    values: NDArray[Any], frames: NDArray[np.intp], begins: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return frame and height of each column's first maximum in each run, both `[runs, columns]`.

    Args:
        values: `[frames in runs, columns]`.
        frames: Frame number of each row, `[frames in runs]`.
        begins: Row where each run begins, `[runs]`.
    """
    # fmax passes over NaN where maximum would return it.
    highest = np.fmax.reduceat(values, begins, axis=0)
    lengths = np.diff(begins, append=len(frames))
    is_peak = values == np.repeat(highest, lengths, axis=0)
    numbered = np.where(is_peak, frames[:, None], frames[-1] + 1)
    return np.minimum.reduceat(numbered, begins, axis=0), highest


def _first_strokes(
    time_s: NDArray[np.float64], key: NDArray[np.intp], adjacent_s: float
) -> NDArray[np.bool_]:
    """Mark the notes that do not repeat the last accepted one of their key; times ascend."""
    last_s = [-np.inf] * N_KEYS
    accepted = np.zeros(time_s.size, np.bool_)
    # What is dropped depends on what was accepted before: a loop over notes, not over frames.
    for index, (moment_s, one_key) in enumerate(zip(time_s.tolist(), key.tolist(), strict=True)):
        if moment_s - last_s[one_key] > adjacent_s:
            last_s[one_key] = moment_s
            accepted[index] = True
    return accepted


def _as_notes(onset_s: NDArray[np.float64], key: NDArray[np.intp], config: PickingConfig) -> Notes:
    pitch = (key + LOWEST_PITCH).astype(np.int16)
    return Notes.from_arrays(onset_s, onset_s + config.note_duration_s, pitch)
