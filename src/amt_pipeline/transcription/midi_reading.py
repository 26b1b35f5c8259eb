"""Standard MIDI files: what the keys and the sustain pedal did, as notes in seconds.

The rules, for one piano that all tracks and channels of a file play together:

- Key events are paired within their track and channel. A note-off ends every note of its key that
  was struck at an earlier tick; if there is none, it ends those of its own tick. A note-off without
  a note is ignored. A note that is never let go ends with the file.
- The sustain pedal (controller 64) belongs to its channel, whichever track it is written in. It is
  down from `pedal_threshold` on (the MIDI 1.0 specification: 0-63 off, 64-127 on). A key that is
  let go while it is down sounds until the pedal comes up, at most until the end of the file.
- A key that is struck again ends the note before, whatever the pedal does. Strikes of one key at
  one tick are one note, as loud as the loudest and as long as the longest.
- Channel 10 holds drums and is left out, and so is what lies outside the 88 keys.
- The tempo map is honoured; tempo events of all tracks count. Divisions in SMPTE frames are read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.core.errors import MidiError
from amt_pipeline.transcription.midi_parsing import INTACT_COPY, MAX_DELTA_TICKS, parse_midi
from amt_pipeline.transcription.notes import HIGHEST_PITCH, LOWEST_PITCH, Notes

if TYPE_CHECKING:
    import mido

Pedal = Literal["sustain", "ignore"]
Ticks = NDArray[np.int64]

SUSTAIN_CONTROLLER = 64
PEDAL_THRESHOLD = 64
DRUM_CHANNEL = 9
DEFAULT_TEMPO_US = 500_000


@dataclass(frozen=True)
class MidiReading:
    """The notes of a MIDI file, and what was odd in it.

    Attributes:
        notes: Notes on the 88 keys.
        warnings: One sentence per oddity, with its count; without the path.
    """

    notes: Notes
    warnings: tuple[str, ...]


@dataclass
class _Events:
    """Events of all tracks, in absolute ticks."""

    onset: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    pitch: list[int] = field(default_factory=list)
    velocity: list[int] = field(default_factory=list)
    channel: list[int] = field(default_factory=list)
    pedal: list[tuple[int, int, int]] = field(default_factory=list)
    tempo: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0
    unclosed: int = 0
    drums: int = 0


def read_midi_notes(
    path: str | PathLike[str],
    *,
    pedal: Pedal = "sustain",
    pedal_threshold: int = PEDAL_THRESHOLD,
    minimum_duration_s: float = 0.001,
) -> MidiReading:
    """Read the piano notes of a MIDI file by the rules of this module.

    Args:
        path: A standard MIDI file of format 0 or 1.
        pedal: `sustain` prolongs notes while the pedal is down; `ignore` ends them with the key.
        pedal_threshold: Lowest value of controller 64 that counts as down.
        minimum_duration_s: Notes without a length are made this long; scoring needs a length.

    Returns:
        Notes sorted by onset, and warnings.

    Raises:
        MidiError: The file is missing, damaged, too large, or not a MIDI file of format 0 or 1.
    """
    midi = parse_midi(Path(path))
    events = _collect(midi, Path(path))
    names = ("onset", "offset", "pitch", "velocity", "channel")
    onset, offset, pitch, velocity, channel = (
        np.array(getattr(events, name), np.int64) for name in names
    )
    if pedal == "sustain":
        offset = _hold_with_pedal(offset, channel, events, pedal_threshold)
    on_piano = (pitch >= LOWEST_PITCH) & (pitch <= HIGHEST_PITCH)
    rows = (column[on_piano] for column in (onset, offset, pitch, velocity))
    onset, offset, pitch, velocity, doubled = _one_note_per_key(*rows)
    onset_s, offset_s = _seconds(onset, midi, events), _seconds(offset, midi, events)
    no_length = offset_s <= onset_s
    offset_s = np.where(no_length, onset_s + minimum_duration_s, offset_s)
    oddities = (
        (events.drums, "on the drum channel (10) left out"),
        (int((~on_piano).sum()), f"outside the piano ({LOWEST_PITCH}-{HIGHEST_PITCH}) left out"),
        (events.unclosed, "never let go, ended with the file"),
        (doubled, "struck twice at one instant, taken once"),
        (int(no_length.sum()), f"without a length, made {minimum_duration_s:g} s long"),
    )
    warnings = tuple(
        f"{count} {'note' if count == 1 else 'notes'} {what}" for count, what in oddities if count
    )
    return MidiReading(Notes.from_arrays(onset_s, offset_s, pitch, velocity), warnings)


def _collect(midi: mido.MidiFile, path: Path) -> _Events:
    events = _Events()
    for track in midi.tracks:
        open_notes: dict[tuple[int, int], list[int]] = {}
        tick = 0
        for message in track:
            if message.time > MAX_DELTA_TICKS:
                problem = f"is damaged (a delta time of over {MAX_DELTA_TICKS} ticks)"
                raise MidiError(path, problem, INTACT_COPY)
            tick += message.time
            kind = message.type
            if kind == "note_on" and message.velocity > 0:
                _press(events, open_notes, tick, message)
            elif kind in ("note_on", "note_off"):
                _release(events, open_notes, tick, (message.channel, message.note))
            elif kind == "control_change" and message.control == SUSTAIN_CONTROLLER:
                events.pedal.append((tick, message.channel, message.value))
            elif kind == "set_tempo":
                if message.tempo == 0:
                    problem = "is damaged (a tempo of 0 microseconds per beat)"
                    raise MidiError(path, problem, INTACT_COPY)
                events.tempo.append((tick, message.tempo))
        events.end = max(events.end, tick)
        events.unclosed += sum(map(len, open_notes.values()))
    events.offset = [events.end if tick < 0 else tick for tick in events.offset]
    return events


def _press(
    events: _Events, open_notes: dict[tuple[int, int], list[int]], tick: int, message: mido.Message
) -> None:
    if message.channel == DRUM_CHANNEL:
        events.drums += 1
        return
    open_notes.setdefault((message.channel, message.note), []).append(len(events.onset))
    events.onset.append(tick)
    events.offset.append(-1)
    events.pitch.append(message.note)
    events.velocity.append(message.velocity)
    events.channel.append(message.channel)


def _release(
    events: _Events,
    open_notes: dict[tuple[int, int], list[int]],
    tick: int,
    key: tuple[int, int],
) -> None:
    held = open_notes.get(key)
    if not held:
        return
    earlier = [note for note in held if events.onset[note] < tick]
    for note in earlier or held:
        events.offset[note] = tick
    open_notes[key] = [note for note in held if events.offset[note] < 0]


def _hold_with_pedal(
    offset: Ticks, channel: NDArray[np.int64], events: _Events, threshold: int
) -> Ticks:
    """Move each offset that falls while the pedal is down to where it comes up."""
    held = offset.copy()
    pedal = np.array(sorted(events.pedal, key=lambda event: event[0]), np.int64).reshape(-1, 3)
    for number in np.unique(pedal[:, 1]):
        tick, _, value = pedal[pedal[:, 1] == number].T
        mine = np.flatnonzero(channel == number)
        # The last event up to and including the tick of the offset tells where the pedal is.
        last = np.searchsorted(tick, offset[mine], side="right") - 1
        down = (last >= 0) & (value[last] >= threshold)
        ups = np.append(tick[value < threshold], events.end)
        release = ups[np.searchsorted(ups[:-1], offset[mine], side="right")]
        held[mine] = np.where(down, release, offset[mine])
    return held


def _one_note_per_key(
    onset: Ticks, offset: Ticks, pitch: NDArray[np.int64], velocity: NDArray[np.int64]
) -> tuple[Ticks, Ticks, NDArray[np.int64], NDArray[np.int64], int]:
    """Merge strikes of one key at one tick, and end each note where its key is struck again."""
    order = np.lexsort((onset, pitch))
    onset, offset, pitch, velocity = (c[order] for c in (onset, offset, pitch, velocity))
    first = np.ones(len(onset), bool)
    first[1:] = (np.diff(onset) > 0) | (np.diff(pitch) > 0)
    starts = np.flatnonzero(first)
    if len(starts):
        offset = np.maximum.reduceat(offset, starts)
        velocity = np.maximum.reduceat(velocity, starts)
        onset, pitch = onset[starts], pitch[starts]
    struck_again = np.flatnonzero(np.diff(pitch) == 0)
    offset[struck_again] = np.minimum(offset[struck_again], onset[struck_again + 1])
    return onset, offset, pitch, velocity, len(first) - len(starts)


def _seconds(ticks: Ticks, midi: mido.MidiFile, events: _Events) -> NDArray[np.float64]:
    """Return the times of ticks under the file's tempo map."""
    division = midi.ticks_per_beat
    if division < 0:
        # SMPTE: the high byte is minus the frames per second (29 stands for 30000/1001).
        frames_per_s = -(division >> 8)
        rate = 30000 / 1001 if frames_per_s == 29 else float(frames_per_s)
        return np.asarray(ticks / (rate * (division & 0xFF)), np.float64)
    changes = [(0, DEFAULT_TEMPO_US), *sorted(events.tempo, key=lambda change: change[0])]
    change_tick, tempo_us = np.array(changes, np.int64).T
    tick_s = tempo_us / 1e6 / division
    change_s = np.concatenate([[0.0], np.cumsum(np.diff(change_tick) * tick_s[:-1])])
    segment = np.searchsorted(change_tick, ticks, side="right") - 1
    since_change_s = (ticks - change_tick[segment]) * tick_s[segment]
    return np.asarray(change_s[segment] + since_change_s, np.float64)
