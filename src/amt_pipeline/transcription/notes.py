"""Notes of a piano piece: when each key was struck and let go, which key, how hard.

Times are seconds from the start of the recording. Pitches are MIDI numbers (A0 = 21, C8 = 108 on a
piano of 88 keys); they are never frequencies in Hz.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import pandas as pd

LOWEST_PITCH = 21
HIGHEST_PITCH = 108
N_KEYS = HIGHEST_PITCH - LOWEST_PITCH + 1
HIGHEST_MIDI_VALUE = 127
DEFAULT_VELOCITY = 64

NOTE_COLUMNS = ("onset_s", "offset_s", "pitch", "velocity")


@dataclass(frozen=True, eq=False)
class Notes:
    """A note list, sorted by onset, then by pitch. Make one with `from_arrays`, which checks it.

    Attributes:
        onset_s: float64 `[notes]`, when the key is struck.
        offset_s: float64 `[notes]`, when the note ends; never before its onset.
        pitch: int16 `[notes]`, MIDI number 0-127 (a piano has 21-108).
        velocity: uint8 `[notes]`, 0-127.
    """

    onset_s: NDArray[np.float64]
    offset_s: NDArray[np.float64]
    pitch: NDArray[np.int16]
    velocity: NDArray[np.uint8]

    @classmethod
    def from_arrays(
        cls,
        onset_s: ArrayLike,
        offset_s: ArrayLike,
        pitch: ArrayLike,
        velocity: ArrayLike | None = None,
    ) -> Notes:
        """Check, convert and sort the four columns of a note list.

        Args:
            onset_s: Onsets in seconds `[notes]`, from 0 on.
            offset_s: Offsets in seconds `[notes]`.
            pitch: MIDI numbers `[notes]`, whole.
            velocity: MIDI velocities `[notes]`, whole; None is `DEFAULT_VELOCITY` throughout.

        Raises:
            ValueError: The columns differ in length or hold a value that no note can have.
        """
        onset = np.asarray(onset_s, dtype=np.float64)
        offset = np.asarray(offset_s, dtype=np.float64)
        if velocity is None:
            velocity = np.full(onset.shape, DEFAULT_VELOCITY, dtype=np.uint8)
        keys, strengths = np.asarray(pitch), np.asarray(velocity)
        shapes = {onset.shape, offset.shape, keys.shape, strengths.shape}
        if len(shapes) != 1 or onset.ndim != 1:
            raise ValueError(f"note columns must be 1-d and of one length, got shapes {shapes}")
        if not (np.isfinite(onset).all() and np.isfinite(offset).all()):
            raise ValueError("note times must be finite")
        if (onset < 0).any() or (offset < onset).any():
            raise ValueError("notes must start at 0 s or later and must not end before they start")
        _check_midi_values("pitch", keys)
        _check_midi_values("velocity", strengths)
        order = np.lexsort((keys, onset))
        return cls(
            onset[order],
            offset[order],
            keys[order].astype(np.int16),
            strengths[order].astype(np.uint8),
        )

    @classmethod
    def empty(cls) -> Notes:
        """Return a list of no notes."""
        return cls.from_arrays([], [], [], [])

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Notes:
        """Make notes from a table with the columns `NOTE_COLUMNS`, in any order of rows.

        Raises:
            ValueError: A column is missing, or holds a value that no note can have.
        """
        missing = [name for name in NOTE_COLUMNS if name not in frame.columns]
        if missing:
            raise ValueError(f"a note table needs the columns {', '.join(missing)}")
        return cls.from_arrays(*(frame[name].to_numpy() for name in NOTE_COLUMNS))

    def to_frame(self) -> pd.DataFrame:
        """Return the notes as a table with the columns `NOTE_COLUMNS`, one row per note."""
        import pandas as pd

        return pd.DataFrame({name: getattr(self, name) for name in NOTE_COLUMNS})

    def within(self, start_s: float, end_s: float) -> Notes:
        """Return the notes struck in `[start_s, end_s)`; their times stay as they are."""
        first, last = np.searchsorted(self.onset_s, [start_s, end_s])
        part = slice(int(first), max(int(first), int(last)))
        return Notes(self.onset_s[part], self.offset_s[part], self.pitch[part], self.velocity[part])

    def __len__(self) -> int:
        return len(self.onset_s)


def _check_midi_values(name: str, values: NDArray[np.generic]) -> None:
    numbers = values.astype(np.float64)
    whole = np.isfinite(numbers) & (numbers == np.floor(numbers))
    good = whole & (numbers >= 0) & (numbers <= HIGHEST_MIDI_VALUE)
    if not good.all():
        first = int(np.argmin(good))
        raise ValueError(
            f"{name} must be a whole MIDI value 0-{HIGHEST_MIDI_VALUE}, got {numbers[first]:g} "
            f"(note {first})"
        )
