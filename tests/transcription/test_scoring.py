from __future__ import annotations

import math
import warnings
from dataclasses import asdict

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_pipeline.core.errors import UserError
from amt_pipeline.transcription.matching import match_notes
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.scoring import NoteScore, classify_notes, score_notes, summarise


def notes(*rows):
    """Notes from (onset, pitch) or (onset, offset, pitch)."""
    full = [row if len(row) == 3 else (row[0], row[0] + 0.3, row[1]) for row in rows]
    onset, offset, pitch = np.array(full, float).reshape(-1, 3).T
    return Notes.from_arrays(onset, offset, pitch.astype(int))


def for_mir_eval(notes_):
    """Intervals and Hz, with a millisecond for notes of no length."""
    ends = np.where(notes_.offset_s > notes_.onset_s, notes_.offset_s, notes_.onset_s + 1e-3)
    hz = 440.0 * 2.0 ** ((notes_.pitch.astype(float) - 69) / 12)
    return np.column_stack((notes_.onset_s, ends)).reshape(-1, 2), hz


def mir_eval_score(reference, estimate, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mir_eval.transcription.precision_recall_f1_overlap(
            *for_mir_eval(reference), *for_mir_eval(estimate), **options
        )


# A coarse time grid makes distances of exactly 50 ms, duplicates, and chains of rivals.
GRID_S = st.integers(0, 60).map(lambda n: n * 0.0125)
TIME_S = GRID_S | st.floats(0, 0.75).map(lambda x: round(x, 5))
LENGTH_S = st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0])
NOTE = st.tuples(TIME_S, LENGTH_S, st.sampled_from([0, 59, 60, 61, 127]))
NOTE_LIST = st.lists(NOTE, max_size=25).map(
    lambda rows: notes(*((on, on + length, pitch) for on, length, pitch in rows))
)


@settings(max_examples=300, deadline=None)
@given(NOTE_LIST, NOTE_LIST, st.sampled_from([0.05, 0.025, 0.1]))
def test_equals_mir_eval(reference, estimate, tolerance_s):
    score = score_notes(reference, estimate, onset_tolerance_s=tolerance_s, with_offsets=True)
    onset_only = mir_eval_score(
        reference, estimate, onset_tolerance=tolerance_s, offset_ratio=None
    )[:3]
    assert (score.precision, score.recall, score.f1) == pytest.approx(onset_only, abs=1e-12)
    full = mir_eval_score(reference, estimate, onset_tolerance=tolerance_s)
    ours = (
        score.precision_with_offsets,
        score.recall_with_offsets,
        score.f1_with_offsets,
        score.overlap_with_offsets,
    )
    assert ours == pytest.approx(full, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(NOTE_LIST, NOTE_LIST)
def test_the_very_pairs_are_mir_evals(reference, estimate):
    theirs = mir_eval.transcription.match_notes(
        *for_mir_eval(reference), *for_mir_eval(estimate), offset_ratio=None
    )
    assert match_notes(reference, estimate).tolist() == [[int(r), int(e)] for r, e in theirs]


@pytest.mark.parametrize(
    "distance_s, hit", [(0.05, True), (0.05004, True), (0.05006, False), (-0.05, True)]
)
def test_exactly_the_tolerance_counts(distance_s, hit):
    score = score_notes(notes((1.0, 60)), notes((1.0 + distance_s, 60)))
    assert score.f1 == float(hit)


def test_a_neighbouring_key_is_wrong_and_a_note_counts_once():
    assert score_notes(notes((1.0, 60)), notes((1.0, 61))).n_matched == 0
    twice = score_notes(notes((1.0, 60)), notes((1.0, 60), (1.01, 60)))
    assert (twice.precision, twice.recall, twice.f1) == (0.5, 1.0, pytest.approx(2 / 3))


@pytest.mark.parametrize(
    "reference, estimate",
    [(notes(), notes((1.0, 60))), (notes((1.0, 60)), notes()), (notes(), notes())],
)
def test_an_empty_side_scores_zero_as_in_mir_eval(reference, estimate):
    score = score_notes(reference, estimate, with_offsets=True)
    assert (score.precision, score.recall, score.f1, score.f1_with_offsets) == (0, 0, 0, 0)
    assert math.isnan(score.median_deviation_ms)
    assert (score.n_reference, score.n_estimate) == (len(reference), len(estimate))
    assert mir_eval_score(reference, estimate)[:3] == (0, 0, 0)


def test_notes_of_no_length_count():
    instant = notes((1.0, 1.0, 60))
    score = score_notes(instant, instant, with_offsets=True)
    assert (score.f1, score.f1_with_offsets, score.overlap_with_offsets) == (1, 1, 1)
    assert score_notes(instant, notes((1.0, 2.0, 60)), with_offsets=True).f1_with_offsets == 0


def test_offsets_are_left_alone_unless_asked_for():
    score = score_notes(notes((1.0, 1.1, 60)), notes((1.0, 3.0, 60)))
    assert score.f1 == 1
    assert score.f1_with_offsets is None


def test_deviation_is_above_zero_for_a_late_estimate():
    reference = notes((1.0, 60), (2.0, 62), (3.0, 64))
    score = score_notes(reference, notes((1.01, 60), (2.02, 62), (2.99, 64)))
    assert score.median_deviation_ms == pytest.approx(10)


def test_twenty_thousand_notes_need_no_dense_matrix():
    rng = np.random.default_rng(3)
    onset_s, pitch = rng.uniform(0, 1900, 20_000), rng.integers(21, 109, 20_000)
    reference = Notes.from_arrays(onset_s, onset_s + 0.2, pitch)
    late_s = onset_s + rng.normal(0, 0.01, 20_000).clip(-0.04, 0.04) + 0.05
    estimate = Notes.from_arrays(late_s, late_s + 0.1, pitch)
    score = score_notes(reference, estimate)
    # Shifted by the tolerance, half of the notes are in reach.
    assert score.n_matched == pytest.approx(10_000, rel=0.05)


def test_classes_tell_hits_misses_and_false_alarms_apart():
    reference = notes((1.0, 60), (2.0, 62), (3.0, 64))
    estimate = notes((0.5, 50), (2.01, 62), (3.2, 64))
    classes = classify_notes(reference, estimate)
    assert classes.hit_reference.tolist() == [1]
    assert classes.missed_reference.tolist() == [0, 2]
    assert classes.false_alarms.tolist() == [0, 2]
    assert classes.pairs.tolist() == [[1, 1]]


def piece(f1, **others):
    values = {"precision": f1, "recall": f1, "f1": f1, "n_reference": 10, "n_estimate": 10}
    return NoteScore(**values, n_matched=int(10 * f1), median_deviation_ms=-5.0, **others)


def test_summary_is_the_plain_mean_with_an_interval():
    scores = [("a", piece(0.8)), ("b", piece(0.9)), ("c", piece(1.0))]
    table, summary = summarise(scores)
    assert table["recording_id"].tolist() == ["a", "b", "c"]
    assert table["f1"].tolist() == [0.8, 0.9, 1.0]
    assert not [name for name in table if name.endswith("_with_offsets")]
    assert summary["onset/f1"] == pytest.approx(0.9)
    assert 0.8 <= summary["onset/f1_low"] < 0.9 < summary["onset/f1_high"] <= 1.0
    assert summary["onset/median_deviation_ms"] == -5.0
    assert summary["onset/n_pieces"] == 3
    assert summarise(scores)[1] == summary


def test_summary_with_offsets_has_both_kinds():
    offsets = {
        "precision_with_offsets": 0.5,
        "recall_with_offsets": 0.5,
        "f1_with_offsets": 0.5,
        "overlap_with_offsets": 0.9,
    }
    table, summary = summarise([("a", piece(0.8, **offsets)), ("b", piece(0.9, **offsets))])
    assert summary["onset_offset/f1"] == 0.5
    assert table.columns.tolist() == ["recording_id", *asdict(piece(0.1))]


def test_one_piece_has_no_interval_and_none_is_an_error():
    _, summary = summarise([("a", piece(0.8))])
    assert math.isnan(summary["onset/f1_low"])
    with pytest.raises(UserError, match="no piece"):
        summarise([])


def test_a_piece_without_a_match_does_not_spoil_the_mean_deviation():
    silent = score_notes(notes((1.0, 60)), notes())
    _, summary = summarise([("a", silent), ("b", piece(0.9))])
    assert summary["onset/median_deviation_ms"] == -5.0
    assert summary["onset/f1"] == pytest.approx(0.45)
