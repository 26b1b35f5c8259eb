from __future__ import annotations

import logging
from pathlib import Path

import mido
import numpy as np
import pytest

from amt_pipeline.core.errors import MidiError, StorageError
from amt_pipeline.transcription.midi_reading import read_midi_notes
from amt_pipeline.transcription.note_files import read_note_text, read_notes, write_midi, write_res
from amt_pipeline.transcription.notes import Notes


@pytest.fixture
def notes() -> Notes:
    """400 notes without two of one key at a time."""
    rng = np.random.default_rng(4)
    onset_s = np.sort(rng.uniform(0, 60, 400))
    pitch = 21 + np.arange(400) % 88
    return Notes.from_arrays(
        onset_s, onset_s + rng.uniform(0.01, 0.5, 400), pitch, rng.integers(1, 128, 400)
    )


def test_result_file_has_tabs_and_six_decimals(tmp_path: Path) -> None:
    write_res(tmp_path / "out" / "a.res", Notes.from_arrays([1 / 3, 2], [1, 2.5], [60, 108]))
    text = (tmp_path / "out" / "a.res").read_bytes()
    assert text == b"0.333333\t1.000000\t60\n2.000000\t2.500000\t108\n"


def test_result_file_round_trip(tmp_path: Path, notes: Notes) -> None:
    write_res(tmp_path / "a.res", notes)
    again = read_notes(tmp_path / "a.res")
    np.testing.assert_allclose(again.onset_s, notes.onset_s, atol=5.1e-7)
    np.testing.assert_allclose(again.offset_s, notes.offset_s, atol=5.1e-7)
    np.testing.assert_array_equal(again.pitch, notes.pitch)


def test_no_notes_make_an_empty_file_and_come_back(tmp_path: Path) -> None:
    write_res(tmp_path / "a.res", Notes.empty())
    assert (tmp_path / "a.res").read_bytes() == b""
    assert len(read_notes(tmp_path / "a.res")) == 0


def test_text_of_other_tools(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(
        b"\xef\xbb\xbfOnsetTime\tOffsetTime\tMidiPitch\r\n"
        b"# a comment\r\n\r\n1.5 2.0   60 100\r\n0.5\t1e0\t61.0 # the first\r\n"
    )
    notes = read_note_text(path)
    assert notes.onset_s.tolist() == [0.5, 1.5]
    assert notes.offset_s.tolist() == [1.0, 2.0]
    assert notes.pitch.tolist() == [61, 60]
    assert notes.velocity.tolist() == [64, 100]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1.0 2.0", "has 2 columns"),
        ("1.0 2.0 60 64 5", "has 5 columns"),
        ("1.0 2.0 C4", "'C4' is not a number"),
        ("nan 2.0 60", "not finite"),
        ("1.0 inf 60", "not finite"),
        ("-1.0 2.0 60", "negative"),
        ("2.0 1.0 60", "offset 1 s lies before the onset 2 s"),
        ("1.0 2.0 440.0", "440.0 is not a MIDI number.*MIDI numbers here"),
        ("1.0 2.0 61.5", "61.5 is not a MIDI number"),
        ("1.0 2.0 nan", "nan is not a MIDI number"),
        ("1.0 2.0 -3", "-3 is not a MIDI number"),
        ("1.0 2.0 60 200", "200 is not a velocity"),
    ],
)
def test_faulty_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"0.1 0.2 60\n\n{line}\n")
    with pytest.raises(MidiError, match=problem) as caught:
        read_note_text(path)
    assert str(caught.value).startswith(f"{path}, line 3: ")


def test_text_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("0 1 60\n".encode("utf-16"))
    with pytest.raises(MidiError, match="not a text file in UTF-8"):
        read_note_text(path)
    with pytest.raises(MidiError, match="no such file"):
        read_note_text(tmp_path / "absent.txt")


def test_midi_round_trip(tmp_path: Path, notes: Notes) -> None:
    write_midi(tmp_path / "a.mid", notes)
    again = read_notes(tmp_path / "a.mid")
    np.testing.assert_allclose(again.onset_s, notes.onset_s, atol=6e-5)
    np.testing.assert_allclose(again.offset_s, notes.offset_s, atol=6e-5)
    np.testing.assert_array_equal(again.pitch, notes.pitch)
    np.testing.assert_array_equal(again.velocity, notes.velocity)


def test_midi_times_do_not_depend_on_the_tempo(tmp_path: Path, notes: Notes) -> None:
    write_midi(tmp_path / "a.mid", notes, tempo_bpm=97.3, ticks_per_beat=9600)
    again = read_notes(tmp_path / "a.mid")
    np.testing.assert_allclose(again.onset_s, notes.onset_s, atol=6e-5)


def test_midi_bytes_are_the_same_for_the_same_notes(tmp_path: Path, notes: Notes) -> None:
    write_midi(tmp_path / "a.mid", notes)
    write_midi(tmp_path / "b.mid", Notes.from_frame(notes.to_frame().sample(frac=1.0)))
    assert (tmp_path / "a.mid").read_bytes() == (tmp_path / "b.mid").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mid", "b.mid"]


def test_midi_file_is_one_piano_track(tmp_path: Path) -> None:
    write_midi(tmp_path / "a.mid", Notes.from_arrays([0], [1], [60], [0]))
    midi = mido.MidiFile(tmp_path / "a.mid")
    assert (midi.type, midi.ticks_per_beat, len(midi.tracks)) == (0, 4800, 1)
    kinds = [message.type for message in midi.tracks[0]]
    assert kinds == ["set_tempo", "program_change", "note_on", "note_off", "end_of_track"]
    # Velocity 0 would have been a note-off.
    assert midi.tracks[0][2].velocity == 1


def test_one_key_sounds_once_at_a_time(tmp_path: Path) -> None:
    notes = Notes.from_arrays(
        [0.0, 0.5, 0.5, 2.0, 2.0], [1.0, 0.7, 0.9, 2.0, 2.1], [60, 60, 60, 61, 62], [9, 8, 7, 6, 5]
    )
    write_midi(tmp_path / "a.mid", notes)
    reading = read_midi_notes(tmp_path / "a.mid")
    assert reading.warnings == ()
    np.testing.assert_allclose(reading.notes.onset_s, [0, 0.5, 2.0, 2.0], atol=6e-5)
    np.testing.assert_allclose(reading.notes.offset_s, [0.5, 0.9, 2.0, 2.1], atol=1.1e-4)
    assert reading.notes.velocity.tolist() == [9, 8, 6, 5]


def test_midi_of_no_notes(tmp_path: Path) -> None:
    write_midi(tmp_path / "a.midi", Notes.empty())
    assert len(read_notes(tmp_path / "a.midi")) == 0


def test_gap_that_midi_cannot_hold(tmp_path: Path) -> None:
    notes = Notes.from_arrays([30_000.0], [30_001.0], [60])
    with pytest.raises(MidiError, match="a gap of 30000 s"):
        write_midi(tmp_path / "a.mid", notes)
    write_midi(tmp_path / "a.mid", notes, ticks_per_beat=480)
    assert read_notes(tmp_path / "a.mid").onset_s.tolist() == [30_000.0]


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"a\.mid"):
        write_midi(tmp_path / "file" / "a.mid", Notes.empty())


def test_read_notes_goes_by_suffix_and_logs_oddities(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    midi = mido.MidiFile(tracks=[mido.MidiTrack([mido.Message("note_on", note=60, velocity=64)])])
    path = tmp_path / "a.MID"
    midi.save(path)
    with caplog.at_level(logging.WARNING):
        assert len(read_notes(path, pedal="ignore")) == 1
    assert f"{path}: 1 note never let go" in caplog.text
