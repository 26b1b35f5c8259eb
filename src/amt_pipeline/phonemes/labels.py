"""From the times of phones to the class of every frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.features.grid import FrameGrid
from amt_pipeline.phonemes.alignments import Alignment


def frame_classes(
    alignment: Alignment, n_frames: int, grid: FrameGrid, silence: int
) -> npt.NDArray[np.uint8]:
    """Return the class of every frame: that of the phone at the time where the frame starts.

    Frame t starts at sample t x hop (10 ms); times are rounded to samples, so that decimal times
    meet frames as they are written. A time that no segment covers is silence.

    Args:
        alignment: The segments, in order.
        n_frames: Frames of the utterance: 1 + (samples - 400) // 160.
        grid: The grid of the frames.
        silence: The class of silence.

    Returns:
        uint8 `[n_frames]`.
    """
    starts = np.rint(alignment.start_s * grid.sample_rate).astype(np.int64)
    ends = np.rint(alignment.end_s * grid.sample_rate).astype(np.int64)
    at = np.arange(n_frames, dtype=np.int64) * grid.hop_samples
    segment = np.searchsorted(starts, at, side="right") - 1
    covered = (segment >= 0) & (at < ends[segment])
    return np.where(covered, alignment.classes[segment], silence).astype(np.uint8)


def require_as_many(where: str, n_labels: int, n_frames: int) -> None:
    """Refuse labels that are not as many as frames.

    Raises:
        CorpusError: Names both lengths.
    """
    if n_labels != n_frames:
        problem = f"has {n_labels} labels for {n_frames} frames"
        raise CorpusError(where, problem, "Labels and features are not of the same utterance")
