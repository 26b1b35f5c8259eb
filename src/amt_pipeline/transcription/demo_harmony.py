"""Notes, chords and melodies: what the textures of the demo corpus have in common.

Harmony comes in four-bar phrases of functional chords that end in half and full cadences. Pitches
are MIDI numbers, chosen by pitch class; all chance comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Rng = np.random.Generator

_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
_FOLLOWERS = {
    0: (3, 4, 5, 1, 2),
    1: (4, 4, 6),
    2: (5, 3),
    3: (4, 1, 0, 4),
    4: (0, 0, 5),
    5: (3, 1, 4),
    6: (0,),
}
"""Scale degrees (0 = tonic) that may follow each degree in common practice."""
LOWEST, HIGHEST = 21, 108


@dataclass(frozen=True)
class Note:
    """One note of a score: times in beats, `voice` is melody, inner or bass."""

    beat: float
    length: float
    pitch: int
    voice: str


@dataclass(frozen=True)
class Chord:
    """A harmony from `beat` on, with the pitch classes of the chord and of the scale over it."""

    beat: float
    beats: float
    tones: tuple[int, ...]
    scale: tuple[int, ...]


def harmony(rng: Rng, tonic: int, minor: bool, bars: int, meter: int) -> list[Chord]:
    """Write the chords of a piece: phrases of four bars, each closed by a cadence.

    Args:
        rng: Source of all chance.
        tonic: Pitch class 0-11.
        minor: Minor key; its dominants have the raised leading tone.
        bars: Length in bars, at least 2.
        meter: Beats per bar.
    """
    chords: list[Chord] = []
    degree = 0
    for bar in range(bars):
        closing = bar == bars - 1
        if closing or bar % 4 == 0 or bar % 8 == 7:
            degree = 0
        elif bar % 4 == 3 or bar % 8 == 6 or bar == bars - 2:
            degree = 4
        else:
            degree = int(rng.choice(_FOLLOWERS[degree]))
        halves = 2 if meter == 4 and not closing and rng.random() < 0.35 else 1
        for half in range(halves):
            if half:
                degree = int(rng.choice(_FOLLOWERS[degree]))
            beats = meter / halves
            chords.append(_chord(bar * meter + half * beats, beats, tonic, minor, degree))
    return chords


def _chord(beat: float, beats: float, tonic: int, minor: bool, degree: int) -> Chord:
    steps = list(_MINOR if minor else _MAJOR)
    if minor and degree in (4, 6):
        steps[6] = 11
    scale = tuple((tonic + step) % 12 for step in steps)
    thirds = (0, 2, 4, 6) if degree == 4 else (0, 2, 4)
    return Chord(beat, beats, tuple(scale[(degree + third) % 7] for third in thirds), scale)


def step(pitch: int, direction: int, allowed: Sequence[int]) -> int:
    """Return the next pitch up (1) or down (-1) of an allowed pitch class."""
    pitch += direction
    while pitch % 12 not in allowed:
        pitch += direction
    return pitch


def nearest(pitch: int, allowed: Sequence[int], low: int, high: int) -> int:
    """Return the pitch of an allowed class in `low..high` that is nearest to `pitch`."""
    fitting = (p for p in range(low, high + 1) if p % 12 in allowed)
    return min(fitting, key=lambda p: (abs(p - pitch), p))


def melody(
    rng: Rng, chords: Sequence[Chord], rhythms: Sequence[Sequence[float]], low: int, high: int
) -> Iterator[tuple[float, float, int]]:
    """Yield (beat, length, pitch): chord tones on strong beats, scale steps between them."""
    pitch, direction = (low + high) // 2, 1
    for position, chord in enumerate(chords):
        beat, end = chord.beat, chord.beat + chord.beats
        if position == len(chords) - 1:
            yield beat, chord.beats, nearest(pitch, chord.tones[:1], low, high)
            return
        while beat < end - 1e-9:
            for index, length in enumerate(rhythms[int(rng.integers(len(rhythms)))]):
                if beat >= end - 1e-9:
                    break
                if rng.random() < 0.3 or not low + 3 <= pitch <= high - 3:
                    direction = 1 if pitch < (low + high) / 2 else -1
                if index == 0:
                    aim = pitch + direction * int(rng.integers(1, 5))
                    pitch = nearest(aim, chord.tones, low, high)
                else:
                    pitch = step(pitch, direction, chord.scale)
                yield beat, min(length, end - beat), pitch
                beat += length
