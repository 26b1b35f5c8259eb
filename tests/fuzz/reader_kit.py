"""What the readers under test have in common: how they are described and what they promise."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mutations import Edit
from sandbox import CANARY

from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.transcription.notes import Notes

SPEC = FeatureSpec(kind="log_mel", sample_rate=8000, hop_samples=64, channels=1, bins=8,
                   fmax_hz=4000, dtype="float32")  # fmt: skip


@dataclass(frozen=True)
class Reader:
    """A reader of foreign bytes.

    Attributes:
        seeds: Makes valid contents (in the current folder, a scratch folder).
        read: Puts contents where the reader looks, calls it, and checks what it returns.
        edits: The damage that fits the format.
    """

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], object]
    edits: Sequence[Edit]


class Payload:
    """An object whose unpickling leaves a mark."""

    def __reduce__(self) -> Any:
        return os.open, (CANARY, os.O_CREAT | os.O_WRONLY)


def require(holds: Any, what: str) -> None:
    """Fail when a promise is broken."""
    if not holds:
        raise AssertionError(f"contract broken: {what}")


def put(name: str, data: bytes) -> Path:
    """Write a file below the scratch folder and return its path."""
    path = Path(name).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def some_notes() -> Notes:
    """Six notes, two at once."""
    onset_s = [0.1, 0.1, 0.5, 0.75, 1.0, 1.5]
    return Notes.from_arrays(onset_s, np.add(onset_s, 0.4), [60, 64, 60, 21, 108, 72],
                             [1, 64, 127, 30, 90, 10])  # fmt: skip


def check_notes(notes: Notes) -> None:
    """Check the contract of `Notes`."""
    require(isinstance(notes, Notes), "notes")
    dtypes = [notes.onset_s.dtype, notes.offset_s.dtype, notes.pitch.dtype, notes.velocity.dtype]
    require(dtypes == ["f8", "f8", "i2", "u1"], f"types {dtypes}")
    require(np.isfinite(notes.onset_s).all() and np.isfinite(notes.offset_s).all(), "finite times")
    require(
        (notes.onset_s >= 0).all() and (notes.offset_s >= notes.onset_s).all(), "times in order"
    )
    require((np.diff(notes.onset_s) >= 0).all(), "sorted by onset")
    require(((notes.pitch >= 0) & (notes.pitch <= 127)).all(), "pitches 0-127")
    require((notes.velocity <= 127).all(), "velocities 0-127")
