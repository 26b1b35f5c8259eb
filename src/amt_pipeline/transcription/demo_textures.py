"""What the demo corpus plays: six piano textures, written as scores over a given harmony."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amt_pipeline.transcription.demo_harmony import (
    HIGHEST,
    LOWEST,
    Chord,
    Note,
    Rng,
    melody,
    nearest,
    step,
)


@dataclass(frozen=True)
class Texture:
    """A way to set a harmony on the piano.

    Attributes:
        name: Short name, used in file names.
        title: For people.
        bpm: Lowest and highest tempo in beats per minute.
        meters: Beats per bar to choose from.
        pedalled: Share of pieces that use the sustain pedal.
        write: Sets the chords; returns the notes in any order.
    """

    name: str
    title: str
    bpm: tuple[float, float]
    meters: tuple[int, ...]
    pedalled: float
    write: Callable[[Rng, Sequence[Chord]], list[Note]]


def _scales(rng: Rng, chords: Sequence[Chord]) -> list[Note]:
    """Runs over the whole keyboard: scales, arpeggios, some chromatic; one hand or both."""
    notes: list[Note] = []
    pitch, direction = int(rng.integers(48, 72)), int(rng.choice((-1, 1)))
    low, high = int(rng.integers(LOWEST, 30)), int(rng.integers(100, HIGHEST + 1))
    both, legato = rng.random() < 0.6, float(rng.choice((0.5, 0.95)))
    for chord in chords[:-1]:
        kind = rng.choice(("scale", "scale", "arpeggio", "arpeggio", "chromatic"))
        allowed = {"scale": chord.scale, "arpeggio": chord.tones}.get(kind, tuple(range(12)))
        ticks = round(chord.beats * 4)
        pitch = nearest(pitch, allowed, low, high)
        if kind == "chromatic":  # these run to the very end of the keyboard
            pitch = HIGHEST + 1 - ticks if direction > 0 else LOWEST - 1 + ticks
        for tick in range(ticks):
            beat = chord.beat + tick / 4
            notes.append(Note(beat, 0.25 * legato, pitch, "melody"))
            if both and pitch - 12 >= LOWEST:
                notes.append(Note(beat, 0.25 * legato, pitch - 12, "inner"))
            if kind != "chromatic" and not low <= step(pitch, direction, allowed) <= high:
                direction = -direction
            pitch = step(pitch, direction, allowed)
        if not both:
            bass = nearest(40 if pitch > 60 else 76, chord.tones[:1], 33, 84)
            notes.append(Note(chord.beat, chord.beats * 0.9, bass, "bass"))
    return notes + _final_chord(chords[-1], 60)


def _chorale(rng: Rng, chords: Sequence[Chord]) -> list[Note]:
    """Four voices, a chord per beat, passing notes; the bass often in octaves."""
    notes: list[Note] = []
    ranges = ((62, 83), (55, 74), (48, 66))
    shift = int(rng.choice((-5, 0, 7)))
    voices, bass, doubled = [72, 65, 57], 46, rng.random() < 0.5
    for chord in chords[:-1]:
        for beat_in in range(round(chord.beats)):
            beat = chord.beat + beat_in
            voices[0] += int(rng.choice((-3, -2, 2, 3)))
            for index, (low, high) in enumerate(ranges):
                ceiling = high + shift if index == 0 else voices[index - 1] - 2
                floor = min(low + shift, ceiling - 12)
                voices[index] = nearest(voices[index], chord.tones, floor, ceiling)
                notes.append(Note(beat, 0.95, voices[index], "inner" if index else "melody"))
            bass = nearest(bass + int(rng.integers(-4, 5)), chord.tones[: 1 + beat_in % 2], 36, 52)
            passing = rng.random() < 0.3
            notes.append(Note(beat, 0.45 if passing else 0.95, bass, "bass"))
            if passing:
                other = step(bass, int(rng.choice((-1, 1))), chord.scale)
                notes.append(Note(beat + 0.5, 0.45, other, "bass"))
            if doubled and bass - 12 >= LOWEST:
                notes.append(Note(beat, 0.95, bass - 12, "bass"))
    return notes + _final_chord(chords[-1], 64 + shift)


def _alberti(rng: Rng, chords: Sequence[Chord]) -> list[Note]:
    """A singing right hand over low-high-middle-high broken chords."""
    shift = int(rng.choice((-12, 0, 0, 12)))
    rhythms = ((1.0, 1.0), (1.5, 0.5), (0.5, 0.5, 1.0), (0.5, 0.5, 0.5, 0.5), (0.75, 0.25))
    voice = melody(rng, chords, rhythms, 65 + shift // 2, 86 + shift)
    notes = [Note(beat, length * 0.92, pitch, "melody") for beat, length, pitch in voice]
    for chord in chords[:-1]:
        low = nearest(48 + shift, chord.tones[:1], 36 + shift, 60 + shift)
        middle = step(low, 1, chord.tones)
        pattern = (low, step(middle, 1, chord.tones), middle, step(middle, 1, chord.tones))
        notes += [
            Note(chord.beat + tick / 2, 0.48, pattern[tick % 4], "inner")
            for tick in range(round(chord.beats * 2))
        ]
    return notes + _final_chord(chords[-1], 50 + shift)


def _counterpoint(rng: Rng, chords: Sequence[Chord]) -> list[Note]:
    """Two or three voices that take turns in moving fast."""
    notes: list[Note] = []
    quick = ((0.25, 0.25, 0.25, 0.25), (0.5, 0.25, 0.25), (0.25, 0.25, 0.5))
    calm = ((1.0,), (0.5, 0.5), (1.0, 0.5, 0.5))
    ranges = ((67, 88), (53, 71), (36, 55)) if rng.random() < 0.6 else ((64, 91), (33, 60))
    for index, (low, high) in enumerate(ranges):
        name = ("melody", "inner", "bass")[index]
        # Two streams per voice; each chord takes the quick one in the voice whose turn it is.
        streams = [list(melody(rng, chords, rhythms, low, high)) for rhythms in (quick, calm)]
        for turn, chord in enumerate(chords):
            stream = streams[0 if (turn // 2) % len(ranges) == index else 1]
            notes += [
                Note(beat, length * 0.9, pitch, name)
                for beat, length, pitch in stream
                if chord.beat - 1e-9 <= beat < chord.beat + chord.beats - 1e-9
            ]
    return notes


def _stride(rng: Rng, chords: Sequence[Chord]) -> list[Note]:
    """Bass octaves and chords leap in the left hand under a syncopated right."""
    notes: list[Note] = []
    rhythms = (
        (0.25, 0.5, 0.25, 0.5, 0.5),
        (0.5, 0.25, 0.5, 0.25, 0.5),
        (0.25, 0.25, 0.25, 0.25, 0.5, 0.5),
        (0.75, 0.25, 0.5, 0.5),
    )
    for beat, length, pitch in melody(rng, chords, rhythms, 67, 92):
        notes.append(Note(beat, length * 0.85, pitch, "melody"))
        if length >= 0.5 and rng.random() < 0.5:
            notes.append(Note(beat, length * 0.85, pitch - 12, "inner"))
    for chord in chords[:-1]:
        root = nearest(int(rng.integers(34, 44)), chord.tones[:1], 33, 48)
        for tick in range(round(chord.beats)):
            beat = chord.beat + tick
            if tick % 2 == 0:
                bass = root if tick % 4 == 0 else nearest(root - 5, chord.tones[2:3], 33, 48)
                notes += [Note(beat, 0.55, bass, "bass"), Note(beat, 0.55, bass - 12, "bass")]
            else:
                pitch = nearest(52, chord.tones, 48, 60)
                for _ in range(3):
                    notes.append(Note(beat, 0.4, pitch, "inner"))
                    pitch = step(pitch, 1, chord.tones)
    return notes + _final_chord(chords[-1], 52)


def _cantabile(rng: Rng, chords: Sequence[Chord]) -> list[Note]:
    """A long melody, at times in octaves, over wide broken chords."""
    rhythms = ((2.0,), (1.5, 0.5), (1.0, 1.0), (1.0, 0.5, 0.5))
    octaves, per_beat = rng.random() < 0.5, int(rng.choice((4, 6)))
    shift = int(rng.choice((-7, 0, 5)))
    notes: list[Note] = []
    for beat, length, pitch in melody(rng, chords, rhythms, 67 + shift, 91 + shift):
        notes.append(Note(beat, length * 0.97, pitch, "melody"))
        if octaves and length >= 1:
            notes.append(Note(beat, length * 0.97, pitch + (12 if shift < 0 else -12), "inner"))
    for chord in chords[:-1]:
        pitch = nearest(36 + shift, chord.tones[:1], 26 + shift, 45 + shift)
        rise = [pitch, nearest(pitch + 7, chord.tones, pitch + 4, pitch + 12)]
        while len(rise) < 5:
            rise.append(step(rise[-1] + 1, 1, chord.tones))
        pattern = rise + rise[-2:0:-1]
        for tick in range(round(chord.beats * per_beat)):
            voice = "bass" if tick == 0 else "inner"
            beat = chord.beat + tick / per_beat
            notes.append(Note(beat, 0.95 / per_beat, pattern[tick % len(pattern)], voice))
    return notes + _final_chord(chords[-1], 52 + shift)


def _final_chord(chord: Chord, centre: int) -> list[Note]:
    pitch = nearest(centre, chord.tones[:1], centre - 12, centre + 12)
    low = nearest(pitch - 18, chord.tones[:1], max(LOWEST, pitch - 24), pitch - 12)
    notes = [Note(chord.beat, chord.beats, low, "bass")]
    for _ in range(3):
        notes.append(Note(chord.beat, chord.beats, pitch, "inner"))
        pitch = step(pitch, 1, chord.tones)
    return notes


TEXTURES = (
    Texture("scales", "Scales and Arpeggios", (66, 92), (4, 3), 0.4, _scales),
    Texture("chorale", "Chorale", (76, 112), (4, 3), 0.6, _chorale),
    Texture("alberti", "Sonatina", (108, 152), (4,), 0.5, _alberti),
    Texture("counterpoint", "Invention", (66, 96), (4, 3), 0.2, _counterpoint),
    Texture("stride", "Rag", (76, 104), (4,), 0.4, _stride),
    Texture("cantabile", "Nocturne", (60, 84), (4, 3), 1.0, _cantabile),
)
