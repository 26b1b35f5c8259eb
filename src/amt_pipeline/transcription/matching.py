"""Which estimated note answers which reference note, as mir_eval finds it, only faster.

mir_eval compares every reference note with every estimated one: a piece of 20 000 notes needs over
ten gigabytes and the better part of a minute. A note can only match one of its own key and nearly
its own time; with these few candidates, in mir_eval's order and given to mir_eval's own bipartite
matcher, the matching is the same one, pair by pair.

Rules (mir_eval.transcription, after MIREX "note tracking"): onsets within 50 ms; pitches within 50
cents, which between MIDI numbers means the same key; offsets, where asked for, within 20 % of the
reference note's length or 50 ms, whichever is more. Distances are rounded to four decimals before
they are compared, so that exactly 50 ms counts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.transcription.notes import Notes

ONSET_TOLERANCE_S = 0.05
OFFSET_RATIO = 0.2
OFFSET_TOLERANCE_S = 0.05
MINIMUM_DURATION_S = 1e-3
"""Given to notes of no length, which mir_eval refuses; far below every tolerance."""

_DECIMALS = 4
_ROUNDING_S = 10.0**-_DECIMALS

Pairs = NDArray[np.int64]
"""`[n_pairs, 2]`: index of the reference note, index of the estimated note."""


def match_notes(
    reference: Notes,
    estimate: Notes,
    *,
    onset_tolerance_s: float = ONSET_TOLERANCE_S,
    with_offsets: bool = False,
) -> Pairs:
    """Return a largest set of pairs in which every note occurs at most once.

    Args:
        reference: The truth.
        estimate: What was transcribed.
        onset_tolerance_s: Largest distance of the onsets, inclusive.
        with_offsets: Whether the offsets have to agree too.

    Returns:
        The pairs, sorted by reference note; the same that `mir_eval.transcription.match_notes`
        returns.
    """
    # Private, but the very function that mir_eval's own scores go through.
    from mir_eval.util import _bipartite_match

    pairs = _candidates(reference, estimate, onset_tolerance_s)
    if with_offsets:
        pairs = pairs[_offsets_agree(reference, estimate, pairs)]
    # The order of insertion decides between matchings of equal size: mir_eval's is by reference
    # note, then by estimated note.
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    graph: dict[int, list[int]] = {}
    for reference_index, estimate_index in pairs.tolist():
        graph.setdefault(estimate_index, []).append(reference_index)
    with _room_for_recursion(len(graph)):
        matching = sorted(_bipartite_match(graph).items())
    return np.array(matching, dtype=np.int64).reshape(-1, 2)


def sounding_end_s(notes: Notes) -> NDArray[np.float64]:
    """Return offsets with `MINIMUM_DURATION_S` for notes that have no length, `[notes]`."""
    return np.where(
        notes.offset_s > notes.onset_s, notes.offset_s, notes.onset_s + MINIMUM_DURATION_S
    )


@contextmanager
def _room_for_recursion(depth: int) -> Iterator[None]:
    """Let Python functions call themselves `depth` times within the block.

    The matcher follows a chain of notes that could each answer the one before or the one after by
    recursion: a key struck every 50 ms for a minute is longer than Python's limit of 1000 calls.
    The limit is there for the machine's stack, which Python functions no longer use.
    """
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _candidates(reference: Notes, estimate: Notes, onset_tolerance_s: float) -> Pairs:
    """Return all pairs of one key with onsets within the tolerance."""
    found = [np.empty((0, 2), np.int64)]
    reach_s = onset_tolerance_s + _ROUNDING_S
    for key in np.intersect1d(reference.pitch, estimate.pitch):
        # Notes are sorted by onset, so those of one key are too.
        of_reference = np.flatnonzero(reference.pitch == key)
        of_estimate = np.flatnonzero(estimate.pitch == key)
        reference_s, estimate_s = reference.onset_s[of_reference], estimate.onset_s[of_estimate]
        low = np.searchsorted(estimate_s, reference_s - reach_s, side="left")
        high = np.searchsorted(estimate_s, reference_s + reach_s, side="right")
        counts = high - low
        # Row by row the positions low, low + 1, ... high - 1, all rows in one array.
        skipped = np.cumsum(counts) - counts
        position = np.arange(counts.sum()) + np.repeat(low - skipped, counts)
        pairs = np.column_stack((np.repeat(of_reference, counts), of_estimate[position]))
        found.append(pairs.astype(np.int64))
    pairs = np.concatenate(found)
    distance_s = np.abs(reference.onset_s[pairs[:, 0]] - estimate.onset_s[pairs[:, 1]])
    close: Pairs = pairs[np.around(distance_s, _DECIMALS) <= onset_tolerance_s]
    return close


def _offsets_agree(reference: Notes, estimate: Notes, pairs: Pairs) -> NDArray[np.bool_]:
    """Tell for each pair whether the offsets are close enough."""
    reference_end_s = sounding_end_s(reference)
    duration_s = reference_end_s - reference.onset_s
    distance_s = np.abs(reference_end_s[pairs[:, 0]] - sounding_end_s(estimate)[pairs[:, 1]])
    tolerance_s = np.maximum(OFFSET_RATIO * duration_s, OFFSET_TOLERANCE_S)[pairs[:, 0]]
    agree: NDArray[np.bool_] = np.around(distance_s, _DECIMALS) <= tolerance_s
    return agree
