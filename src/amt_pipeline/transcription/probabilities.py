"""Both networks' outputs of a recording, on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.arrays import Wanted, read_arrays
from amt_pipeline.core.errors import UserError
from amt_pipeline.core.files import atomic_path
from amt_pipeline.transcription.notes import N_KEYS

PROBABILITIES_FOLDER = "probabilities"

MAX_BYTES = 2**29
"""Of one recording, unpacked: the longest that is read (3 h at 10 ms) takes 200 MB."""

_WANTED = {
    "onset": Wanted("f", 1),
    "pitch": Wanted("f", 2),
    "evaluated": Wanted("b", 1),
    "seconds_per_frame": Wanted("f", 0),
}


@dataclass(frozen=True)
class Probabilities:
    """What the networks said of a recording.

    Attributes:
        onset: [frames].
        pitch: [frames, 88]; zero in frames where the pitch network was not evaluated.
        evaluated: [frames] whether the pitch network was; all, or those of onset runs.
        seconds_per_frame: The hop.
    """

    onset: npt.NDArray[np.float32]
    pitch: npt.NDArray[np.float32]
    evaluated: npt.NDArray[np.bool_]
    seconds_per_frame: float


def write_probabilities(path: Path, said: Probabilities) -> None:
    """Keep both networks' outputs, in half precision.

    Raises:
        StorageError: The disk refused.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            onset=said.onset.astype(np.float16),
            pitch=said.pitch.astype(np.float16),
            evaluated=said.evaluated,
            seconds_per_frame=said.seconds_per_frame,
        )


def read_probabilities(path: Path) -> Probabilities:
    """Read what `write_probabilities` wrote.

    Raises:
        UserError: The file is missing or damaged.
    """
    remedy = "Delete it and run `kedro run --pipelines transcribe`"
    stored = read_arrays(path, _WANTED, max_bytes=MAX_BYTES, remedy=remedy)
    said = Probabilities(
        onset=stored["onset"].astype(np.float32),
        pitch=stored["pitch"].astype(np.float32),
        evaluated=stored["evaluated"],
        seconds_per_frame=float(stored["seconds_per_frame"]),
    )
    n_frames = len(said.onset)
    fits = said.pitch.shape == (n_frames, N_KEYS) and said.evaluated.shape == (n_frames,)
    chances = all(((v >= 0) & (v <= 1)).all() for v in (said.onset, said.pitch))
    if not (fits and chances and 0 < said.seconds_per_frame < math.inf):
        raise UserError(path, "holds other numbers than probabilities of frames", remedy)
    return said
