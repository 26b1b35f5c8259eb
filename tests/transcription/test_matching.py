"""The matching is mir_eval's, pair by pair, on what is hard to match: rivals, ties, borders."""

from __future__ import annotations

import sys
import warnings

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_pipeline.transcription.matching import MINIMUM_DURATION_S, match_notes
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.scoring import mean_overlap, score_notes

TOLERANCE_S = 0.05
EXACT = 1e-12


def for_mir_eval(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Intervals and Hz, with a millisecond for notes of no length."""
    ends = np.maximum(notes.offset_s, notes.onset_s)
    ends = np.where(ends > notes.onset_s, ends, notes.onset_s + MINIMUM_DURATION_S)
    hz = 440.0 * 2.0 ** ((notes.pitch.astype(float) - 69) / 12)
    return np.column_stack((notes.onset_s, ends)).reshape(-1, 2), hz


def mir_eval_scores(reference: Notes, estimate: Notes, *, with_offsets: bool) -> tuple[float, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of empty sides
        found = mir_eval.transcription.precision_recall_f1_overlap(
            *for_mir_eval(reference),
            *for_mir_eval(estimate),
            offset_ratio=0.2 if with_offsets else None,
        )
    return tuple(map(float, found))


def our_scores(reference: Notes, estimate: Notes, *, with_offsets: bool) -> tuple[float, ...]:
    score = score_notes(reference, estimate, with_offsets=True)
    if with_offsets:
        return (
            score.precision_with_offsets,
            score.recall_with_offsets,
            score.f1_with_offsets,
            score.overlap_with_offsets,
        )
    pairs = match_notes(reference, estimate)
    return score.precision, score.recall, score.f1, mean_overlap(reference, estimate, pairs)


def assert_equals_mir_eval(reference: Notes, estimate: Notes) -> None:
    for with_offsets in (False, True):
        ours = our_scores(reference, estimate, with_offsets=with_offsets)
        theirs = mir_eval_scores(reference, estimate, with_offsets=with_offsets)
        assert ours == pytest.approx(theirs, abs=EXACT, rel=0), with_offsets


# Distances at which the answer turns: the tolerance itself, half of the fourth decimal (to which
# mir_eval rounds) beside it, and the same by the smallest step of the number.
BORDERS_S = [TOLERANCE_S + step for step in (-1e-4, -5e-5, -1e-9, 0.0, 1e-9, 4.9e-5, 5e-5, 1e-4)]
JITTER_S = st.sampled_from([0.0, 0.0, *BORDERS_S, *(-d for d in BORDERS_S)]) | st.floats(-0.2, 0.2)
LENGTH_S = st.sampled_from([0.0, MINIMUM_DURATION_S, 0.05, 0.25, 3.0])
KEY = st.sampled_from([0, 21, 60, 61, 127])
# Far from the start of a long recording, float64 has fewer digits for what lies behind the point.
START_S = st.sampled_from([0.25, 3599.95, 86_400.0])


@st.composite
def rival_lists(draw: st.DrawFn) -> tuple[Notes, Notes]:
    """A reference and a copy of it with notes moved, lost, doubled, and made up."""
    start_s = draw(START_S)
    slot = st.integers(0, 12).map(lambda n: start_s + n * TOLERANCE_S / 2)
    truth = draw(st.lists(st.tuples(slot, LENGTH_S, KEY), max_size=20))
    heard = draw(st.lists(st.tuples(slot, LENGTH_S, KEY), max_size=4))
    for onset_s, length_s, key in truth:
        for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2]))):
            moved_s = onset_s + draw(JITTER_S)
            heard.append((moved_s, max(0.0, length_s + draw(JITTER_S)), key))
    return as_notes(truth), as_notes(heard)


def as_notes(rows: list[tuple[float, float, int]]) -> Notes:
    onset_s, length_s, pitch = np.array(rows, float).reshape(-1, 3).T
    return Notes.from_arrays(onset_s, onset_s + length_s, pitch.astype(int))


@settings(max_examples=300, deadline=None)
@given(rival_lists())
def test_scores_of_rivals_are_mir_evals(lists: tuple[Notes, Notes]) -> None:
    assert_equals_mir_eval(*lists)


@settings(max_examples=100, deadline=None)
@given(rival_lists(), st.booleans())
def test_pairs_of_rivals_are_mir_evals(lists: tuple[Notes, Notes], with_offsets: bool) -> None:
    theirs = mir_eval.transcription.match_notes(
        *for_mir_eval(lists[0]),
        *for_mir_eval(lists[1]),
        offset_ratio=0.2 if with_offsets else None,
    )
    found = match_notes(*lists, with_offsets=with_offsets).tolist()
    assert found == [[int(r), int(e)] for r, e in theirs]


def test_a_piece_like_those_of_the_corpus() -> None:
    rng = np.random.default_rng(5)
    # Chords of several keys, and keys that come again within the tolerance.
    onset_s = np.sort(np.repeat(np.round(rng.uniform(0, 90, 300), 3), rng.integers(1, 5, 300)))
    pitch = rng.integers(48, 72, len(onset_s))
    length_s = rng.gamma(2, 0.2, len(onset_s))
    reference = Notes.from_arrays(onset_s, onset_s + length_s, pitch)
    kept = rng.random(len(onset_s)) < 0.9
    heard_s = np.abs(onset_s + rng.normal(0, 0.03, len(onset_s)))[kept]
    key = np.where(rng.random(len(onset_s)) < 0.05, pitch + 12, pitch)[kept]
    estimate = Notes.from_arrays(heard_s, heard_s + length_s[kept] * 1.1, key)
    assert_equals_mir_eval(reference, estimate)
    assert 0.5 < score_notes(reference, estimate).f1 < 0.95


def test_a_long_chain_of_rivals_is_followed_to_its_end() -> None:
    # A key struck every 50 ms, each heard half-way to the next strike; one more that only fits the
    # first. To place it, all others have to move on by one: far more calls than Python allows.
    n, step_s = 3000, np.arange(3000) * TOLERANCE_S
    reference = Notes.from_arrays(step_s, step_s + 0.3, np.full(n, 60))
    heard_s = np.append(step_s[:-1] + 0.025, 0.03)
    ends_s = np.append(step_s[:-1] + 0.325, 0.25)
    estimate = Notes.from_arrays(heard_s, ends_s, np.full(n, 60))
    limit = sys.getrecursionlimit()
    pairs = match_notes(reference, estimate, with_offsets=True)
    assert len(pairs) == n > limit
    assert len(np.unique(pairs[:, 1])) == n
    assert sys.getrecursionlimit() == limit


def test_the_order_of_notes_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    onset_s, pitch = rng.integers(0, 40, 60) * 0.02, rng.integers(60, 63, 60)
    order = rng.permutation(60)
    first = Notes.from_arrays(onset_s, onset_s + 0.2, pitch)
    shuffled = Notes.from_arrays(onset_s[order], onset_s[order] + 0.2, pitch[order])
    assert match_notes(first, shuffled).tolist() == [[i, i] for i in range(60)]
