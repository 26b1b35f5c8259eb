"""Note lists on disk: result files (`.res`), note tables as text, and MIDI files.

A result file has one note per line: onset, offset, MIDI number, with tabs between and six decimals
for the times. The same reader takes the label files of other tools: tabs or spaces, a fourth column
with the velocity, a header line that starts with "onset" (as in MAPS), blank lines, comments.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amt_pipeline.core.errors import MidiError
from amt_pipeline.core.files import atomic_path, write_text
from amt_pipeline.transcription.midi_parsing import MAX_DELTA_TICKS, MAX_FILE_BYTES, read_bounded
from amt_pipeline.transcription.midi_reading import Pedal, read_midi_notes
from amt_pipeline.transcription.notes import DEFAULT_VELOCITY, HIGHEST_MIDI_VALUE, Notes

if TYPE_CHECKING:
    import mido

logger = logging.getLogger(__name__)

MIDI_SUFFIXES = (".mid", ".midi")
MAX_TIME_S = 1e6
"""Eleven days. Far beyond, notes of some milliseconds have no length in double precision."""
_MEND = "Correct that line, or leave the file out"


def read_notes(path: str | PathLike[str], *, pedal: Pedal = "sustain") -> Notes:
    """Read notes from a MIDI file (by its suffix) or else from a text file.

    Args:
        path: `.mid` or `.midi`, or a text file for `read_note_text`.
        pedal: For MIDI files, see `read_midi_notes`; oddities found there are logged.

    Raises:
        MidiError: The file is missing or cannot be read.
    """
    if Path(path).suffix.lower() not in MIDI_SUFFIXES:
        return read_note_text(path)
    reading = read_midi_notes(path, pedal=pedal)
    for warning in reading.warnings:
        logger.warning("%s: %s", path, warning)
    return reading.notes


def read_note_text(path: str | PathLike[str]) -> Notes:
    """Read a text file with onset, offset (seconds), MIDI number and, maybe, velocity per line.

    Every MIDI number 0-127 is taken, also outside the piano: a wrong note counts as wrong when it
    is scored. An empty file is an empty list: a silent recording has one.

    Raises:
        MidiError: The file is missing or not text, or a line is not a note; names the line.
    """
    path = Path(path)
    try:
        text = read_bounded(path, MAX_FILE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MidiError(path, "is not a text file in UTF-8", "Save it as UTF-8") from error
    rows: list[tuple[float, float, int, int]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split("#", 1)[0].split()
        is_header = not rows and bool(fields) and fields[0].lower().startswith("onset")
        if fields and not is_header:
            rows.append(_parse_line(path, number, fields))
    if not rows:
        return Notes.empty()
    onset_s, offset_s, pitch, velocity = zip(*rows, strict=True)
    return Notes.from_arrays(onset_s, offset_s, pitch, velocity)


def _parse_line(path: Path, number: int, fields: list[str]) -> tuple[float, float, int, int]:
    where = f"{path}, line {number}"
    if len(fields) not in (3, 4):
        raise MidiError(
            where,
            f"has {len(fields)} columns",
            "Expected onset, offset, MIDI number and, maybe, velocity, with tabs or spaces between",
        )
    values = []
    for field in fields:
        try:
            values.append(float(field))
        except ValueError as error:
            raise MidiError(where, f"{field!r} is not a number", _MEND) from error
    onset_s, offset_s, pitch = values[:3]
    velocity = values[3] if len(values) > 3 else float(DEFAULT_VELOCITY)
    if not (np.isfinite(onset_s) and np.isfinite(offset_s)):
        raise MidiError(where, "has a time that is not finite", _MEND)
    if offset_s > MAX_TIME_S:
        problem = f"the offset {offset_s:g} s is later than any recording's end"
        raise MidiError(where, problem, _MEND)
    if onset_s < 0:
        raise MidiError(where, f"the onset {onset_s:g} s is negative", _MEND)
    if offset_s < onset_s:
        problem = f"the offset {offset_s:g} s lies before the onset {onset_s:g} s"
        raise MidiError(where, problem, _MEND)
    if not _is_midi_value(pitch):
        raise MidiError(
            where,
            f"{fields[2]} is not a MIDI number (a whole number 0-{HIGHEST_MIDI_VALUE})",
            "Pitches are MIDI numbers here (A4 = 69), not Hz; convert by 69 + 12 log2(Hz / 440)",
        )
    if not _is_midi_value(velocity):
        raise MidiError(where, f"{fields[3]} is not a velocity 0-{HIGHEST_MIDI_VALUE}", _MEND)
    return onset_s, offset_s, int(pitch), int(velocity)


def _is_midi_value(value: float) -> bool:
    return value.is_integer() and 0 <= value <= HIGHEST_MIDI_VALUE


def write_res(path: str | PathLike[str], notes: Notes) -> None:
    """Write a result file, atomically: onset TAB offset TAB MIDI number, one note per line.

    Raises:
        StorageError: The disk refused.
    """
    columns = zip(notes.onset_s, notes.offset_s, notes.pitch, strict=True)
    write_text(path, "".join(f"{on:.6f}\t{off:.6f}\t{key:d}\n" for on, off, key in columns))


def write_midi(
    path: str | PathLike[str],
    notes: Notes,
    *,
    tempo_bpm: float = 120.0,
    ticks_per_beat: int = 4800,
) -> None:
    """Write notes as a piano MIDI file of format 0, atomically; equal notes give equal bytes.

    A tick at the default settings is about 0.1 ms, so onsets come back within 0.06 ms. A key can
    sound only once at a time: a note ends where its key is struck again, and strikes of one key at
    one tick become one note. Every note lasts at least a tick and has at least velocity 1, since a
    note-on of velocity 0 is a note-off.

    Args:
        path: Where to write.
        notes: What to write.
        tempo_bpm: Beats per minute of the file; times in seconds do not depend on it.
        ticks_per_beat: Resolution, at most 32767.

    Raises:
        MidiError: Notes lie so far apart that the format cannot hold the gap (hours).
        StorageError: The disk refused.
    """
    import mido

    tempo_us = mido.bpm2tempo(tempo_bpm)
    ticks_per_s = ticks_per_beat * 1e6 / tempo_us
    track = mido.MidiTrack()
    track.append(mido.MetaMessage("set_tempo", tempo=tempo_us))
    track.append(mido.Message("program_change", program=0))
    now = 0
    for tick, message in _key_events(notes, ticks_per_s):
        if tick - now > MAX_DELTA_TICKS:
            raise MidiError(
                path,
                f"a gap of {(tick - now) / ticks_per_s:.0f} s cannot be written",
                "Use fewer ticks per beat",
            )
        track.append(message.copy(time=tick - now))
        now = tick
    midi = mido.MidiFile(type=0, ticks_per_beat=ticks_per_beat, tracks=[track])
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        midi.save(file=stream)


def _key_events(notes: Notes, ticks_per_s: float) -> list[tuple[int, mido.Message]]:
    """Return note-ons and note-offs with their ticks, offs before ons of the same tick."""
    import mido

    onset = np.round(notes.onset_s * ticks_per_s).astype(np.int64)
    offset = np.maximum(np.round(notes.offset_s * ticks_per_s).astype(np.int64), onset + 1)
    strikes: dict[tuple[int, int], tuple[int, int]] = {}
    columns = (onset, notes.pitch, offset, notes.velocity)
    for start, key, end, velocity in zip(*(c.tolist() for c in columns), strict=True):
        known_end, known_velocity = strikes.get((key, start), (0, 1))
        strikes[key, start] = max(end, known_end), max(velocity, known_velocity)
    rows: list[tuple[int, int, int, int]] = []
    ordered = sorted(strikes)
    for (key, start), (next_key, next_start) in pairwise([*ordered, (-1, 0)]):
        end, velocity = strikes[key, start]
        rows.append((start, 1, key, velocity))
        rows.append((min(end, next_start) if next_key == key else end, 0, key, 0))
    kinds = ("note_off", "note_on")
    return [
        (tick, mido.Message(kinds[is_on], note=key, velocity=velocity))
        for tick, is_on, key, velocity in sorted(rows)
    ]
