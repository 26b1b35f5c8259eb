"""Which utterances are predicted together, and which are trained on together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

POOL_BATCHES = 16
"""Batches of utterances that are sorted by length together, so that little of them is padding."""


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


def pooled_by_length(
    n_frames: npt.NDArray[np.int64], batch_size: int, rng: np.random.Generator, begun: int = 0
) -> npt.NDArray[np.int64]:
    """Return positions of utterances in random order, with lengths alike in every batch.

    Utterances are sorted by length within pools of some batches, then the batches of a pool are
    shuffled. The longest of the first pool fill the batch that is begun; those of the last pool
    are in the one that is left open, so these two go together.

    Args:
        n_frames: Frames of each utterance.
        batch_size: Utterances of a batch.
        rng: What decides the order.
        begun: Utterances that fill up the last batch of the epoch before.
    """
    order = rng.permutation(len(n_frames))
    pool, parts, first = batch_size * POOL_BATCHES, [], 0
    while first < len(order):
        end = first + pool + (begun if first == 0 else 0)
        of_pool = order[first:end]
        of_pool = of_pool[np.argsort(n_frames[of_pool], kind="stable")]
        if first == 0:
            inner = max(len(of_pool) - begun, 0)
            parts.append(of_pool[inner:])
            of_pool = of_pool[:inner]
        batches = [of_pool[at : at + batch_size] for at in range(0, len(of_pool), batch_size)]
        # A batch that is not full stays last: it would shift the others against the steps.
        n_whole = len(of_pool) // batch_size
        parts += [batches[at] for at in rng.permutation(n_whole)] + batches[n_whole:]
        first = end
    return np.concatenate(parts) if parts else order
