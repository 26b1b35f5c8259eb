"""Which utterances are predicted together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt


def groups_of(n_frames: npt.NDArray[np.int64], limit: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield positions of utterances in order, so many as have `limit` frames together, or one."""
    begin, held = 0, 0
    for position, count in enumerate(n_frames.tolist()):
        if held + count > limit and position > begin:
            yield np.arange(begin, position)
            begin, held = position, 0
        held += count
    if begin < len(n_frames):
        yield np.arange(begin, len(n_frames))


def batches_of_like_length(
    n_frames: npt.NDArray[np.int64], limit: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield positions by length, so many as padded to one length have `limit` frames, or one.

    Utterances without frames are in none.
    """
    order = np.argsort(n_frames, kind="stable")
    order = order[n_frames[order] > 0]
    begin = 0
    for place, position in enumerate(order):
        if (place + 1 - begin) * n_frames[position] > limit and place > begin:
            yield order[begin:place]
            begin = place
    if begin < len(order):
        yield order[begin:]
