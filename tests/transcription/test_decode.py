from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from amt_pipeline.transcription.decode import (
    PickingConfig,
    VoteAccumulator,
    pick_notes,
)

HOP_S = 512 / 44100
# Few levels make ties, also at the thresholds themselves.
LEVELS = [0.0, 0.3, 0.5, 0.6, 0.7, 0.9, float("nan")]


def plain_picker(onset, pitch, config):
    """Section 7 of the rule, step by step, without numpy tricks."""
    runs, run = [], []
    for frame, value in enumerate(onset):
        if value > config.onset_threshold:
            run.append(frame)
        elif run:
            runs.append(run)
            run = []
    if run:
        runs.append(run)
    if config.drop_last_run:
        runs = runs[:-1]
    found = []
    for run in runs:
        onset_peak = first_maximum(run, onset)
        for key in range(88):
            frame = first_maximum(run, pitch[:, key])
            if frame is not None and pitch[frame, key] > config.pitch_threshold:
                middle = (onset_peak + frame) / 2
                found.append(((middle + config.time_offset_frames) * HOP_S, key + 21))
    last, notes = {}, []
    for time_s, midi in sorted(found):
        if midi not in last or time_s - last[midi] > config.adjacent_s:
            last[midi] = time_s
            notes.append((max(time_s, 0.0), midi))
    return sorted(notes)


def first_maximum(frames, values):
    best = None
    for frame in frames:
        if not np.isnan(values[frame]) and (best is None or values[frame] > values[best]):
            best = frame
    return best


@st.composite
def probabilities(draw):
    n_frames = draw(st.integers(0, 40))
    onset = draw(arrays(np.float64, n_frames, elements=st.sampled_from(LEVELS)))
    # Three keys are enough to draw; the other 85 stay silent.
    drawn = draw(arrays(np.float64, (n_frames, 3), elements=st.sampled_from(LEVELS)))
    pitch = np.zeros((n_frames, 88))
    pitch[:, [0, 40, 87]] = drawn
    return onset, pitch


CONFIGS = st.builds(
    PickingConfig,
    adjacent_s=st.sampled_from([0.0, 2 * HOP_S, 0.05, 0.2]),
    drop_last_run=st.booleans(),
    time_offset_frames=st.sampled_from([0.0, 0.5, -3.0]),
    onset_threshold=st.sampled_from([0.3, 0.5]),
)


@settings(max_examples=300, deadline=None)
@given(probabilities(), CONFIGS)
def test_equals_the_rule_written_as_a_loop(data, config):
    onset, pitch = data
    notes = pick_notes(onset, pitch, HOP_S, config)
    assert list(zip(notes.onset_s.tolist(), notes.pitch.tolist(), strict=True)) == plain_picker(
        onset, pitch, config
    )
    assert (notes.offset_s == notes.onset_s + config.note_duration_s).all()


def one_note(n_frames=20):
    onset, pitch = np.zeros(n_frames, np.float32), np.zeros((n_frames, 88), np.float32)
    onset[4:8] = 0.6, 0.9, 0.9, 0.7
    pitch[7, 39] = 0.95
    return onset, pitch


def test_time_is_the_mean_of_both_peaks():
    notes = pick_notes(*one_note(), HOP_S)
    assert notes.onset_s.tolist() == [(5 + 7) / 2 * HOP_S]
    assert notes.pitch.tolist() == [60]
    assert notes.velocity.tolist() == [64]
    assert notes.offset_s - notes.onset_s == pytest.approx(0.1)


def test_the_published_picker_never_emits_the_last_run():
    onset, pitch = one_note()
    assert len(pick_notes(onset, pitch, HOP_S, PickingConfig(drop_last_run=True))) == 0
    onset[15], pitch[15, 50] = 0.9, 0.9
    notes = pick_notes(onset, pitch, HOP_S, PickingConfig(drop_last_run=True))
    assert notes.pitch.tolist() == [60]
    assert pick_notes(onset, pitch, HOP_S).pitch.tolist() == [60, 71]


def test_a_key_outside_every_run_is_no_note():
    onset, pitch = one_note()
    pitch[12, 3] = 1.0
    assert pick_notes(onset, pitch, HOP_S).pitch.tolist() == [60]


def test_the_repeat_window_starts_at_the_last_accepted_note():
    onset, pitch = np.zeros(9), np.zeros((9, 88))
    onset[[0, 2, 4]] = pitch[[0, 2, 4], 10] = 1.0
    # At 1 s per frame: 2 s is dropped, and 4 s is measured from 0 s, not from 2 s.
    notes = pick_notes(onset, pitch, 1.0, PickingConfig(adjacent_s=2.0))
    assert notes.onset_s.tolist() == [0.0, 4.0]


def test_nothing_in_nothing_out():
    assert len(pick_notes(np.zeros(0), np.zeros((0, 88)), HOP_S)) == 0
    assert len(pick_notes(np.zeros(5), np.ones((5, 88)), HOP_S)) == 0
    assert len(pick_notes(np.full(5, np.nan), np.ones((5, 88)), HOP_S)) == 0


@pytest.mark.parametrize("shape", [(20, 87), (19, 88), (20,)])
def test_arrays_that_do_not_belong_together_are_refused(shape):
    with pytest.raises(ValueError, match="pitch"):
        pick_notes(np.zeros(20), np.zeros(shape), HOP_S)


@pytest.mark.parametrize(
    "wrong", [{"onset_threshold": 1.5}, {"adjacent_s": -1}, {"note_duration_s": 0}, {"thrd": 0.5}]
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        PickingConfig(**wrong)


def plain_average(outputs, starts, n_frames):
    votes = [[] for _ in range(n_frames)]
    for window, start in zip(outputs, starts, strict=True):
        for position, value in enumerate(window):
            if 0 <= start + position < n_frames:
                votes[start + position].append(value)
    shape = outputs.shape[2:]
    return np.array([np.mean(v, axis=0) if v else np.zeros(shape) for v in votes])


def average(outputs, starts, n_frames):
    accumulator = VoteAccumulator(n_frames, outputs.shape[2] if outputs.ndim == 3 else None)
    accumulator.add(starts, outputs)
    return accumulator.mean()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_average_equals_the_plain_one(data):
    n_windows, labels = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 9))
    n_frames = data.draw(st.integers(1, 25))
    trailing = data.draw(st.sampled_from([(), (3,)]))
    starts = data.draw(arrays(np.int64, n_windows, elements=st.integers(-12, 30)))
    if data.draw(st.booleans()):
        starts = np.unique(starts)
    if data.draw(st.booleans()):
        starts = np.arange(n_windows) - 4
    seed = data.draw(st.integers(0, 99))
    outputs = np.random.default_rng(seed).random((len(starts), labels, *trailing), np.float32)
    found = average(outputs, starts, n_frames)
    assert found.dtype == np.float32
    assert found.shape == (n_frames, *trailing)
    np.testing.assert_allclose(found, plain_average(outputs, starts, n_frames), atol=1e-6)


def test_edge_frames_of_the_published_windows_get_four_to_seven_votes():
    accumulator = VoteAccumulator(20)
    accumulator.add(np.arange(20) - 3, np.ones((20, 7)))
    assert accumulator._votes[:5].tolist() == [4, 5, 6, 7, 7]
    assert accumulator._votes[-5:].tolist() == [7, 7, 6, 5, 4]
    assert (accumulator.mean() == 1).all()


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_batch_size_does_not_change_a_bit(batch):
    starts = np.arange(100) - 3
    outputs = np.random.default_rng(0).random((100, 7, 5), np.float32)
    whole = average(outputs, starts, 90)
    stream = VoteAccumulator(90, 5)
    for begin in range(0, 100, batch):
        stream.add(starts[begin : begin + batch], outputs[begin : begin + batch])
    assert (stream.mean() == whole).all()


def test_frames_without_a_vote_are_zero():
    assert average(np.ones((1, 2)), [1], 4).tolist() == [0, 1, 1, 0]
    assert average(np.ones((1, 2, 3)), [9], 2).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("starts, shape", [([0, 1], (1, 7)), ([0], (1, 7, 4)), ([[0]], (1, 1))])
def test_outputs_that_do_not_fit_are_refused(starts, shape):
    with pytest.raises(ValueError, match="do not fit"):
        VoteAccumulator(9).add(starts, np.zeros(shape))
