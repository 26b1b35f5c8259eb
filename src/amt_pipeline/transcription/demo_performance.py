"""How the demo corpus is played: a score becomes key and pedal movements of a person.

Tempo breathes with the phrase and slows at its end, chords are rolled by some milliseconds, the
melody is louder and a little early, and the pedal is changed just after each harmony.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.core.files import atomic_path
from amt_pipeline.transcription.demo_harmony import HIGHEST, LOWEST, Chord, Note

TICKS_PER_BEAT = 960
PEDAL_ON = 64
"""Controller 64 at or above this value lifts the dampers (MIDI 1.0)."""
_SHORTEST_KEY_S = 0.06
_SHORTEST_REPEAT_S = 0.092
_GAP_S = 0.015
_LOUDNESS = {"melody": 14, "inner": -8, "bass": 0}
_LEAD_IN_S = 0.5


@dataclass(frozen=True)
class Performance:
    """Keys and pedal in MIDI ticks, in the order of onsets.

    Attributes:
        onset, release: `[n]` ticks at which keys go down and up.
        pitch, velocity: `[n]` MIDI numbers.
        pedal: `[m, 2]` tick and value of controller 64.
        microseconds_per_beat: The tempo as MIDI writes it.
    """

    onset: NDArray[np.int64]
    release: NDArray[np.int64]
    pitch: NDArray[np.int64]
    velocity: NDArray[np.int64]
    pedal: NDArray[np.int64]
    microseconds_per_beat: int

    def seconds(self, ticks: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the times of MIDI ticks."""
        return ticks.astype(np.float64) * (self.microseconds_per_beat / (1e6 * TICKS_PER_BEAT))

    def sounding_end(self) -> NDArray[np.int64]:
        """Return `[n]` ticks at which strings are damped.

        A key released while the pedal is down sounds until the pedal comes up, and at most until
        the same key is struck again.
        """
        end = self.release.copy()
        last = int(end.max(initial=0))
        down = self.pedal[:, 1] >= PEDAL_ON
        for index, tick in enumerate(self.release):
            before = int(np.searchsorted(self.pedal[:, 0], tick, side="right"))
            if before and down[before - 1]:
                up = np.flatnonzero(~down[before:])
                end[index] = self.pedal[before + up[0], 0] if len(up) else max(last, tick)
        for key in np.unique(self.pitch):
            same = np.flatnonzero(self.pitch == key)
            end[same[:-1]] = np.minimum(end[same[:-1]], self.onset[same[1:]])
        return end

    def write_midi(self, path: Path) -> None:
        """Write a format 1 MIDI file: tempo track, and one track of piano with controller 64.

        Raises:
            StorageError: The disk refused.
        """
        import mido

        # At one tick: releases, then pedal, then onsets, so that a repeated key sounds again.
        events = [
            *(
                (tick, 0, "note_off", int(pitch), 0)
                for tick, pitch in zip(self.release, self.pitch, strict=True)
            ),
            *((tick, 1, "control_change", 64, int(value)) for tick, value in self.pedal),
            *(
                (tick, 2, "note_on", int(pitch), int(velocity))
                for tick, pitch, velocity in zip(self.onset, self.pitch, self.velocity, strict=True)
            ),
        ]
        conductor, piano = mido.MidiTrack(), mido.MidiTrack()
        conductor.append(mido.MetaMessage("set_tempo", tempo=self.microseconds_per_beat))
        piano.append(mido.Message("program_change", program=0))
        now = 0
        for tick, _, kind, first, second in sorted(events):
            names = ("control", "value") if kind == "control_change" else ("note", "velocity")
            values = dict(zip(names, (first, second), strict=True))
            piano.append(mido.Message(kind, time=int(tick) - now, **values))
            now = int(tick)
        midi = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, tracks=[conductor, piano])
        with atomic_path(path) as temporary:
            midi.save(temporary)


def perform(
    rng: np.random.Generator,
    notes: Sequence[Note],
    chords: Sequence[Chord],
    *,
    bpm: float,
    phrase_beats: float,
    pedalled: bool,
) -> Performance:
    """Play a score with expressive timing, dynamics and pedal.

    Args:
        rng: Source of all chance.
        notes: The score, in any order.
        chords: Its harmony; the pedal follows it.
        bpm: Mean tempo in beats per minute.
        phrase_beats: Length of a phrase; tempo and loudness arch over it.
        pedalled: Whether the sustain pedal is used at all.
    """
    notes = [n for n in notes if LOWEST <= n.pitch <= HIGHEST]
    total = chords[-1].beat + chords[-1].beats
    grid = np.arange(0.0, total + 1.0, 0.25)
    clock = _clock(rng, grid, total, bpm, phrase_beats)
    beats = np.array([n.beat for n in notes])
    pitch = np.array([n.pitch for n in notes])
    onset_s = np.interp(beats, grid, clock) + _touch(rng, notes, pitch)
    ends = beats + np.array([n.length for n in notes])
    release_s = np.interp(ends, grid, clock) + rng.normal(0, 0.006, len(notes))
    velocity = _velocities(rng, notes, beats, phrase_beats)
    keep, release_s = _playable(onset_s, release_s, pitch, velocity)
    tempo = round(60e6 / bpm)
    per_second = 1e6 * TICKS_PER_BEAT / tempo
    pedal = _pedal(rng, [float(np.interp(c.beat, grid, clock)) for c in chords], float(clock[-1]))
    return Performance(
        onset=np.rint(onset_s[keep] * per_second).astype(np.int64),
        release=np.rint(release_s[keep] * per_second).astype(np.int64),
        pitch=pitch[keep],
        velocity=velocity[keep],
        pedal=np.array(
            [(round(t * per_second), v) for t, v in pedal if pedalled], np.int64
        ).reshape(-1, 2),
        microseconds_per_beat=tempo,
    )


def _clock(
    rng: np.random.Generator,
    grid: NDArray[np.float64],
    total: float,
    bpm: float,
    phrase_beats: float,
) -> NDArray[np.float64]:
    """Return the time of every grid beat in seconds; the mean tempo is kept."""
    place = grid % phrase_beats / phrase_beats
    depth = rng.uniform(0.02, 0.08)
    slowness = 1 - depth * np.sin(np.pi * place) + 2 * depth * np.clip(place - 0.85, 0, 1) / 0.15
    slowness += 0.3 * np.clip(1 - (total - grid) / 4, 0, 1)
    slowness *= 1 + 0.015 * rng.standard_normal(len(grid))
    spans = np.diff(grid) * slowness[:-1]
    clock = np.concatenate([[0.0], np.cumsum(spans)]) * (60 / bpm / slowness.mean())
    return np.asarray(_LEAD_IN_S + clock, np.float64)


def _touch(
    rng: np.random.Generator, notes: Sequence[Note], pitch: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how late each hammer falls: jitter, chords rolled upwards, melody early."""
    roll_s = rng.uniform(0.0, 0.012)
    lead_s = rng.uniform(0.0, 0.012)
    early = np.array([n.voice == "melody" for n in notes])
    return (
        rng.normal(0, 0.004, len(notes)).clip(-0.012, 0.012)
        + roll_s * (pitch - LOWEST) / (HIGHEST - LOWEST)
        - lead_s * early
    )


def _velocities(
    rng: np.random.Generator,
    notes: Sequence[Note],
    beats: NDArray[np.float64],
    phrase_beats: float,
) -> NDArray[np.int64]:
    """Return MIDI velocities: a level per phrase, an arch over it, voices, accents, chance."""
    level = rng.uniform(58, 76) + rng.uniform(-12, 12, int(beats.max() // phrase_beats) + 1)
    arch = 8 * np.sin(np.pi * (beats % phrase_beats) / phrase_beats)
    voices = np.array([_LOUDNESS[n.voice] for n in notes])
    accents = 4 * (beats % 1 < 1e-6)
    loudness = level[(beats // phrase_beats).astype(int)] + arch + voices + accents
    played = np.rint(loudness + rng.normal(0, 4, len(notes)))
    return np.asarray(played.clip(24, 118), np.int64)


def _playable(
    onset_s: NDArray[np.float64],
    release_s: NDArray[np.float64],
    pitch: NDArray[np.int64],
    velocity: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose the notes that one key can play in turn, and shorten keys that would still be down.

    Returns:
        Indices of the notes that are kept, in the order of onsets, and all releases in seconds.
    """
    release_s = np.maximum(release_s, onset_s + _SHORTEST_KEY_S)
    kept: list[int] = []
    last: dict[int, int] = {}
    for index in np.lexsort((-velocity, pitch, onset_s)):
        before = last.get(int(pitch[index]))
        if before is not None:
            if onset_s[index] - onset_s[before] < _SHORTEST_REPEAT_S:
                continue
            release_s[before] = min(release_s[before], onset_s[index] - _GAP_S)
        last[int(pitch[index])] = int(index)
        kept.append(int(index))
    return np.array(kept, np.int64), release_s


def _pedal(
    rng: np.random.Generator, changes_s: Sequence[float], end_s: float
) -> list[tuple[float, int]]:
    """Change the pedal just after each harmony; the foot passes half-way values."""
    events: list[tuple[float, int]] = []
    for change_s in changes_s:
        up_s = change_s + rng.uniform(0.02, 0.05)
        down_s = up_s + rng.uniform(0.08, 0.14)
        depth = int(rng.integers(85, 128))
        if events:
            events += [(up_s - 0.015, 75), (up_s, 32), (up_s + 0.012, 0)]
        events += [(down_s, 40), (down_s + 0.012, 78), (down_s + 0.025, depth)]
    return [*events, (end_s - 0.02, 50), (end_s, 0)]
