from __future__ import annotations

import numpy as np
import pytest

from amt_pipeline.transcription.notes import (
    DEFAULT_VELOCITY,
    HIGHEST_PITCH,
    LOWEST_PITCH,
    N_KEYS,
    NOTE_COLUMNS,
    Notes,
)


def test_constants_describe_a_piano() -> None:
    assert HIGHEST_PITCH - LOWEST_PITCH == 87
    assert N_KEYS == 88


def test_from_arrays_sorts_by_onset_then_pitch_and_keeps_rows_together() -> None:
    notes = Notes.from_arrays([1.0, 0.5, 0.5], [1.1, 0.7, 0.6], [60, 72, 48], [10, 20, 30])
    assert notes.onset_s.tolist() == [0.5, 0.5, 1.0]
    assert notes.offset_s.tolist() == [0.6, 0.7, 1.1]
    assert notes.pitch.tolist() == [48, 72, 60]
    assert notes.velocity.tolist() == [30, 20, 10]
    assert len(notes) == 3


def test_types_of_the_columns() -> None:
    notes = Notes.from_arrays(np.float32([0, 1]), [1, 2], np.float64([60, 61]), np.int64([1, 127]))
    assert [getattr(notes, name).dtype.name for name in NOTE_COLUMNS] == [
        "float64",
        "float64",
        "int16",
        "uint8",
    ]


def test_velocity_has_a_default() -> None:
    assert Notes.from_arrays([0, 1], [1, 2], [60, 61]).velocity.tolist() == [DEFAULT_VELOCITY] * 2


def test_empty() -> None:
    notes = Notes.empty()
    assert len(notes) == 0
    assert notes.pitch.dtype == np.int16
    assert len(notes.within(0, 10)) == 0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([0.0, 1.0], [1.0], [60], [64]), "one length"),
        (([[0.0]], [[1.0]], [[60]], [[64]]), "1-d"),
        (([np.nan], [1.0], [60], [64]), "finite"),
        (([0.0], [np.inf], [60], [64]), "finite"),
        (([1.0], [0.9], [60], [64]), "end before"),
        (([-0.1], [0.9], [60], [64]), "start at 0"),
        (([0.0], [1.0], [60.5], [64]), "pitch must be a whole MIDI value 0-127, got 60.5"),
        (([0.0], [1.0], [440], [64]), "got 440"),
        (([0.0], [1.0], [-1], [64]), "got -1"),
        (([0.0], [1.0], [np.nan], [64]), "got nan"),
        (([0.0], [1.0], [60], [128]), "velocity"),
    ],
)
def test_from_arrays_refuses_what_no_note_can_have(columns: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Notes.from_arrays(*columns)


def test_a_note_of_no_length_is_a_note() -> None:
    assert len(Notes.from_arrays([1.0], [1.0], [60], [64])) == 1


def test_frame_round_trip_ignores_the_order_of_rows_and_further_columns() -> None:
    notes = Notes.from_arrays([0.0, 0.5, 2.0], [0.4, 1.0, 2.5], [21, 60, 108], [1, 64, 127])
    frame = notes.to_frame()
    assert tuple(frame.columns) == NOTE_COLUMNS
    again = Notes.from_frame(frame.iloc[::-1].assign(extra="x"))
    for name in NOTE_COLUMNS:
        np.testing.assert_array_equal(getattr(again, name), getattr(notes, name))


def test_from_frame_names_missing_columns() -> None:
    frame = Notes.empty().to_frame().drop(columns=["pitch"])
    with pytest.raises(ValueError, match="needs the columns pitch"):
        Notes.from_frame(frame)


def test_within_takes_onsets_from_start_up_to_but_without_end() -> None:
    notes = Notes.from_arrays([0.0, 1.0, 2.0, 3.0], [9.0] * 4, [60, 61, 62, 63])
    assert notes.within(1.0, 3.0).pitch.tolist() == [61, 62]
    assert notes.within(1.0, 3.0).onset_s.tolist() == [1.0, 2.0]
    assert len(notes.within(3.0, 1.0)) == 0
