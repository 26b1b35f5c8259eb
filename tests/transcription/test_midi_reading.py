from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import mido
import numpy as np
import pytest

from amt_pipeline.core.errors import MidiError
from amt_pipeline.transcription import midi_parsing
from amt_pipeline.transcription.midi_reading import MidiReading, read_midi_notes

# 480 ticks per beat at the default tempo of 120 BPM: 960 ticks are a second.
SECOND = 960
Event = tuple[int, str, int, int]
Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Write tracks of (tick, "on" | "off" | "pedal" | "tempo" | "end", number, value)."""

    def write_file(
        *tracks: Sequence[Event], channel: int = 0, ticks_per_beat: int = 480, kind: int = 1
    ) -> Path:
        midi = mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat)
        for events in tracks:
            track, now = mido.MidiTrack(), 0
            for tick, what, number, value in events:
                track.append(_message(what, number, value, channel, tick - now))
                now = tick
            midi.tracks.append(track)
        path = tmp_path / "piece.mid"
        midi.save(path)
        return path

    return write_file


def _message(what: str, number: int, value: int, channel: int, time: int) -> mido.Message:
    if what == "tempo":
        return mido.MetaMessage("set_tempo", tempo=number, time=time)
    if what == "end":
        return mido.MetaMessage("end_of_track", time=time)
    if what == "pedal":
        return mido.Message("control_change", control=64, value=value, channel=channel, time=time)
    return mido.Message(f"note_{what}", note=number, velocity=value, channel=channel, time=time)


def rows(reading: MidiReading) -> list[tuple[float, float, int, int]]:
    notes = reading.notes
    columns = (notes.onset_s.round(6), notes.offset_s.round(6), notes.pitch, notes.velocity)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_plain_notes(write: Writer) -> None:
    path = write([(0, "on", 60, 80), (480, "off", 60, 0), (960, "on", 61, 90), (1440, "on", 61, 0)])
    reading = read_midi_notes(path)
    assert rows(reading) == [(0.0, 0.5, 60, 80), (1.0, 1.5, 61, 90)]
    assert reading.warnings == ()


def test_pedal_holds_a_note_until_it_comes_up(write: Writer) -> None:
    path = write(
        [
            (0, "on", 60, 80),
            (100, "pedal", 0, 64),
            (480, "off", 60, 0),
            (700, "pedal", 0, 90),
            (960, "pedal", 0, 63),
            (1000, "on", 62, 80),
            (1480, "off", 62, 0),
        ]
    )
    assert [row[1] for row in rows(read_midi_notes(path))] == [1.0, round(1480 / SECOND, 6)]
    assert rows(read_midi_notes(path, pedal="ignore"))[0][1] == 0.5
    assert rows(read_midi_notes(path, pedal_threshold=91))[0][1] == 0.5


def test_pedal_pressed_at_the_tick_of_the_release_still_catches_the_note(write: Writer) -> None:
    path = write(
        [(0, "on", 60, 80), (480, "off", 60, 0), (480, "pedal", 0, 127), (960, "pedal", 0, 0)]
    )
    assert rows(read_midi_notes(path))[0][1] == 1.0


def test_pedal_lifted_and_pressed_at_one_tick_damps_what_it_held(write: Writer) -> None:
    path = write(
        [
            (0, "pedal", 0, 127),
            (0, "on", 60, 80),
            (240, "off", 60, 0),
            (480, "pedal", 0, 0),
            (480, "pedal", 0, 127),
            (1920, "pedal", 0, 0),
        ]
    )
    assert rows(read_midi_notes(path))[0][1] == 0.5


def test_pedal_never_released_ends_with_the_file(write: Writer) -> None:
    path = write(
        [(0, "pedal", 0, 127), (0, "on", 60, 80), (96, "off", 60, 0), (SECOND, "end", 0, 0)]
    )
    assert rows(read_midi_notes(path)) == [(0.0, 1.0, 60, 80)]


def test_next_strike_of_the_key_cuts_a_held_note(write: Writer) -> None:
    path = write(
        [
            (0, "pedal", 0, 127),
            (0, "on", 60, 80),
            (96, "off", 60, 0),
            (480, "on", 60, 70),
            (576, "off", 60, 0),
            (960, "pedal", 0, 0),
        ]
    )
    assert rows(read_midi_notes(path)) == [(0.0, 0.5, 60, 80), (0.5, 1.0, 60, 70)]


def test_overlapping_strikes_keep_both_onsets(write: Writer) -> None:
    path = write([(0, "on", 60, 70), (240, "on", 60, 90), (480, "off", 60, 0), (720, "off", 60, 0)])
    for pedal in ("sustain", "ignore"):
        assert rows(read_midi_notes(path, pedal=pedal)) == [(0, 0.25, 60, 70), (0.25, 0.5, 60, 90)]


def test_release_written_after_the_next_strike_of_its_tick_belongs_to_the_note_before(
    write: Writer,
) -> None:
    path = write([(0, "on", 60, 70), (480, "on", 60, 90), (480, "off", 60, 0), (960, "off", 60, 0)])
    assert rows(read_midi_notes(path)) == [(0, 0.5, 60, 70), (0.5, 1.0, 60, 90)]


def test_notes_without_length_get_a_minimum(write: Writer) -> None:
    path = write([(0, "on", 60, 70), (0, "off", 60, 0), (960, "on", 64, 80), (1920, "off", 64, 0)])
    reading = read_midi_notes(path)
    assert rows(reading) == [(0, 0.001, 60, 70), (1.0, 2.0, 64, 80)]
    assert reading.warnings == ("1 note without a length, made 0.001 s long",)
    assert rows(read_midi_notes(path, minimum_duration_s=0.05))[0][1] == 0.05


def test_unclosed_note_ends_with_the_file(write: Writer) -> None:
    path = write([(0, "on", 60, 70), (480, "on", 64, 80), (960, "off", 64, 0)])
    reading = read_midi_notes(path)
    assert rows(reading) == [(0, 1.0, 60, 70), (0.5, 1.0, 64, 80)]
    assert reading.warnings == ("1 note never let go, ended with the file",)


def test_stray_note_off_is_ignored(write: Writer) -> None:
    path = write([(0, "off", 50, 64), (480, "on", 64, 80), (960, "off", 64, 0)])
    assert rows(read_midi_notes(path)) == [(0.5, 1.0, 64, 80)]


def test_no_notes(write: Writer) -> None:
    reading = read_midi_notes(write([(0, "pedal", 0, 127), (960, "pedal", 0, 0)]))
    assert len(reading.notes) == 0
    assert reading.warnings == ()


def test_notes_outside_the_piano_are_left_out_with_a_count(write: Writer) -> None:
    events: list[Event] = []
    for number, pitch in enumerate((12, 20, 21, 108, 109, 127)):
        events += [(number * 960, "on", pitch, 80), (number * 960 + 480, "off", pitch, 0)]
    reading = read_midi_notes(write(events))
    assert reading.notes.pitch.tolist() == [21, 108]
    assert reading.warnings == ("4 notes outside the piano (21-108) left out",)


def test_drum_channel_is_left_out(write: Writer) -> None:
    reading = read_midi_notes(write([(0, "on", 40, 80), (480, "off", 40, 0)], channel=9))
    assert len(reading.notes) == 0
    assert reading.warnings == ("1 note on the drum channel (10) left out",)


def test_tracks_are_merged_and_their_releases_kept_apart(write: Writer) -> None:
    left = [(0, "on", 60, 50), (960, "off", 60, 0)]
    right = [(240, "on", 72, 60), (480, "off", 60, 0), (720, "off", 72, 0)]
    assert rows(read_midi_notes(write(left, right))) == [(0, 1.0, 60, 50), (0.25, 0.75, 72, 60)]


def test_strikes_of_one_key_at_one_instant_are_one_note(write: Writer) -> None:
    left = [(480, "on", 60, 50), (960, "off", 60, 0)]
    right = [(480, "on", 60, 60), (720, "off", 60, 0)]
    reading = read_midi_notes(write(left, right))
    assert rows(reading) == [(0.5, 1.0, 60, 60)]
    assert reading.warnings == ("1 note struck twice at one instant, taken once",)


def test_pedal_belongs_to_its_channel_whatever_its_track(tmp_path: Path) -> None:
    midi = mido.MidiFile()
    for channel in (0, 1):
        track = mido.MidiTrack()
        track.append(mido.Message("note_on", note=60 + channel, velocity=80, channel=channel))
        off = mido.Message("note_off", note=60 + channel, channel=channel, time=480)
        track.append(off)
        midi.tracks.append(track)
    pedal = mido.MidiTrack()
    for value, time in ((127, 0), (0, 960)):
        change = mido.Message("control_change", control=64, value=value, channel=1, time=time)
        pedal.append(change)
    midi.tracks.append(pedal)
    midi.save(tmp_path / "hands.mid")
    reading = read_midi_notes(tmp_path / "hands.mid")
    assert [row[1] for row in rows(reading)] == [0.5, 1.0]


def test_tempo_map_of_any_track_is_honoured(write: Writer) -> None:
    tempo = [(480, "tempo", 1_000_000, 0), (960, "tempo", 250_000, 0)]
    keys = [(240, "on", 60, 80), (720, "off", 60, 0), (1440, "on", 61, 80), (1920, "off", 61, 0)]
    # 0-480 at 0.5 s per beat, 480-960 at 1 s, from 960 at 0.25 s.
    expected = [(0.25, 1.0, 60, 80), (1.75, 2.0, 61, 80)]
    assert rows(read_midi_notes(write(keys, tempo))) == expected


@pytest.mark.parametrize(
    ("frames", "rate"), [(25, 25.0), (29, 30000 / 1001)], ids=["25 fps", "29.97 fps"]
)
def test_smpte_division(write: Writer, frames: int, rate: float) -> None:
    path = write([(0, "on", 60, 80), (1000, "off", 60, 0)])
    data = bytearray(path.read_bytes())
    data[12:14] = bytes([256 - frames, 40])
    path.write_bytes(data)
    assert rows(read_midi_notes(path))[0][1] == round(1000 / (rate * 40), 6)


def test_a_note_after_three_hours(write: Writer) -> None:
    at = 3 * 3600 * SECOND
    reading = read_midi_notes(write([(at, "on", 60, 80), (at + 480, "off", 60, 0)]))
    assert rows(reading) == [(10800.0, 10800.5, 60, 80)]


def test_pedal_agrees_with_a_walk_through_the_events(write: Writer) -> None:
    rng = random.Random(3)
    events: list[Event] = []
    held: set[int] = set()
    for tick in sorted(rng.sample(range(20_000), 1500)):
        pitch = rng.randrange(40, 60)
        if rng.random() < 0.3:
            events.append((tick, "pedal", 0, rng.choice([0, 30, 63, 64, 100])))
        elif pitch in held:
            held.discard(pitch)
            events.append((tick, "off", pitch, 0))
        else:
            held.add(pitch)
            events.append((tick, "on", pitch, rng.randrange(1, 128)))
    end = 20_100
    reading = read_midi_notes(write([*events, (end, "end", 0, 0)]))
    expected = sorted(_walk(events, end))
    got = zip(reading.notes.onset_s, reading.notes.pitch, reading.notes.offset_s, strict=True)
    np.testing.assert_allclose(np.array(list(got)), np.array(expected), atol=1e-9)


def _walk(events: list[Event], end: int) -> list[tuple[float, int, float]]:
    """Follow each key through time, one event after another: the slow, obvious way."""
    sounding: dict[int, tuple[int, bool]] = {}
    down, done = False, []

    def stop(pitch: int, tick: int) -> None:
        start, _ = sounding.pop(pitch)
        done.append((start / SECOND, pitch, tick / SECOND))

    for tick, what, pitch, value in events:
        if what == "on":
            if pitch in sounding:
                stop(pitch, tick)
            sounding[pitch] = (tick, True)
        elif what == "off" and pitch in sounding:
            sounding[pitch] = (sounding[pitch][0], False)
            if not down:
                stop(pitch, tick)
        elif what == "pedal":
            down = value >= 64
            for key in [key for key, (_, pressed) in sounding.items() if not pressed and not down]:
                stop(key, tick)
    for key in list(sounding):
        stop(key, end)
    return done


def _midi_bytes(body: bytes, *, division: int = 480, kind: int = 1, tracks: int = 1) -> bytes:
    header = b"MThd" + struct.pack(">LhHh", 6, kind, tracks, division)
    return header + b"MTrk" + struct.pack(">L", len(body)) + body


NOTE = b"\x00\x90\x3c\x40\x60\x80\x3c\x00"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"This is no MIDI file.\n", "no MThd header"),
        (_midi_bytes(NOTE)[:-3], "cut off"),
        (_midi_bytes(NOTE)[:10], "cut off"),
        (_midi_bytes(NOTE, division=0), "0 ticks per beat"),
        (_midi_bytes(NOTE, division=-6400), "0 ticks per beat"),
        (_midi_bytes(NOTE, kind=2), "format 2"),
        (_midi_bytes(b"", tracks=0), "has no tracks"),
        (_midi_bytes(b"\x00\xf4\x00"), "undefined status byte"),
        (_midi_bytes(b"\x00\x90\xff\x40"), "data byte"),
        (_midi_bytes(b"\x90\x80\x80\x80\x00\x90\x3c\x40"), "delta time"),
        (_midi_bytes(b"\x00\xff\x51\x03\x00\x00\x00"), "tempo of 0"),
        (_midi_bytes(b"\xff" * 200_000), "more than 1000 bytes"),
        (_midi_bytes(b"\x00\xff\x01" + b"\xff" * 900 + b"\x00"), "Message length..."),
        (b"MThd\xff\xff\xff\xff" + b"\x00" * 20, "cut off|damaged|format|has no tracks"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, data: bytes, problem: str) -> None:
    path = tmp_path / "broken.mid"
    path.write_bytes(data)
    with pytest.raises(MidiError, match=problem) as caught:
        read_midi_notes(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(path))


def test_track_length_beyond_the_file_allocates_nothing(tmp_path: Path) -> None:
    path = tmp_path / "long.mid"
    data = bytearray(_midi_bytes(NOTE))
    data[18:22] = b"\xff\xff\xff\xf0"
    path.write_bytes(data)
    with pytest.raises(MidiError, match="cut off"):
        read_midi_notes(path)


def test_too_large_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(midi_parsing, "MAX_FILE_BYTES", 20)
    path = tmp_path / "large.mid"
    path.write_bytes(_midi_bytes(NOTE))
    with pytest.raises(MidiError, match="larger than"):
        read_midi_notes(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(MidiError, match="no such file"):
        read_midi_notes(tmp_path / "absent.mid")
    with pytest.raises(MidiError, match="cannot be read"):
        read_midi_notes(tmp_path)


def test_random_damage_ends_in_notes_or_in_a_named_error(write: Writer) -> None:
    rng = random.Random(11)
    events: list[Event] = []
    for number in range(40):
        events += [
            (number * 100, "on", 40 + number, 80),
            (number * 100 + 90, "off", 40 + number, 0),
        ]
    path = write([(0, "tempo", 400_000, 0), *events, (4000, "pedal", 0, 127)])
    intact = path.read_bytes()
    outcomes = set()
    for _ in range(300):
        data = bytearray(intact)
        for _ in range(rng.choice([1, 2, 8])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            outcomes.add(np.isfinite(read_midi_notes(path).notes.offset_s).all())
        except MidiError:
            outcomes.add("refused")
    assert outcomes == {True, "refused"}
