"""Notes to a stereo waveform: the piano that plays the demo corpus.

Note ends are when the STRING stops, so the caller folds the sustain pedal into them. Every note is
placed to the sample, gets louder and brighter with velocity, sits on the stage by its key (bass
left), and dies away after its end as its soundfont says.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from amt_pipeline.audio.soundfont import Zone, piano_zones

_RELEASE_FLOOR = 0.7  # of the time for -100 dB: a released tone is left at -70 dB
_LONGEST_RELEASE_S = 1.0
_SOFT_CUTOFF_CENTS = 2400.0  # default modulator 8.4.2 of SoundFont 2.04: velocity to cut-off
_STAGE_WIDTH = 0.35


def render_notes(
    onset_s: ArrayLike,
    offset_s: ArrayLike,
    pitch: ArrayLike,
    velocity: ArrayLike,
    *,
    program: int,
    sample_rate: int = 44100,
    tail_s: float = 1.5,
) -> NDArray[np.float32]:
    """Play notes on a piano.

    Args:
        onset_s: `[n]` times at which hammers strike, in seconds from the start, not negative.
        offset_s: `[n]` times at which the strings are damped, each after its onset.
        pitch: `[n]` MIDI numbers, 21-108.
        velocity: `[n]` MIDI velocities, 1-127; amplitude goes with the square (SoundFont 8.4.1).
        program: One of `soundfont.PIANO_PROGRAMS`.
        sample_rate: In Hz.
        tail_s: Time after the last offset, in which releases die away.

    Returns:
        float32 `[samples, 2]`; loud chords may pass full scale. The same notes give the same bytes.

    Raises:
        AudioError: The soundfont cannot be read.
        ValueError: Arrays of different lengths, or notes out of range.
    """
    onsets, offsets = np.asarray(onset_s, np.float64), np.asarray(offset_s, np.float64)
    pitches, velocities = np.asarray(pitch, np.int64), np.asarray(velocity, np.int64)
    _check(onsets, offsets, pitches, velocities)
    zones = piano_zones(program)
    end_s = float(offsets.max(initial=0.0)) + tail_s
    mix = np.zeros((2, math.ceil(end_s * sample_rate)), np.float32)
    for key in np.unique(pitches):
        chosen = np.flatnonzero(pitches == key)
        for zone in zones:
            if zone.keys[0] <= key <= zone.keys[1]:
                notes = (onsets[chosen], offsets[chosen], velocities[chosen])
                _play_key(mix, zone, int(key), *notes, sample_rate)
    return np.ascontiguousarray(mix.T)


def _check(
    onsets: NDArray[np.float64],
    offsets: NDArray[np.float64],
    pitches: NDArray[np.int64],
    velocities: NDArray[np.int64],
) -> None:
    if not onsets.shape == offsets.shape == pitches.shape == velocities.shape:
        raise ValueError("onset_s, offset_s, pitch and velocity differ in length")
    if not (np.isfinite(offsets) & (onsets >= 0) & (offsets > onsets)).all():
        raise ValueError("notes must start at 0 s or later and end after they start")
    if not ((pitches >= 21) & (pitches <= 108) & (velocities >= 1) & (velocities <= 127)).all():
        raise ValueError("pitches must be 21-108 and velocities 1-127")


def _play_key(
    mix: NDArray[np.float32],
    zone: Zone,
    pitch: int,
    onsets: NDArray[np.float64],
    offsets: NDArray[np.float64],
    velocities: NDArray[np.int64],
    sample_rate: int,
) -> None:
    """Add all notes of one key to the mix `[2, samples]`."""
    release_s = min(_RELEASE_FLOOR * zone.release_s, _LONGEST_RELEASE_S)
    tone = zone.held_tone(pitch, float((offsets - onsets).max()) + release_s, sample_rate)
    fade_s = np.arange(round(release_s * sample_rate)) / sample_rate
    # A last linear part reaches zero: a step at -70 dB could be heard in a soft passage.
    fade = (
        10.0 ** (-5.0 * fade_s / zone.release_s) * np.minimum(1, (release_s - fade_s) / 0.02)
    ).astype(np.float32)
    left, right = _stage_gains(zone, pitch)
    for onset, offset, velocity in zip(onsets, offsets, velocities, strict=True):
        start = round(onset * sample_rate)
        sounding = round(offset * sample_rate) - start
        note = tone[: min(sounding + len(fade), mix.shape[1] - start)].copy()
        ending = note[sounding:]
        ending *= fade[: len(ending)]
        note = _soften(note, zone.cutoff_hz, pitch, int(velocity), sample_rate)
        mix[0, start : start + len(note)] += np.float32(left) * note
        mix[1, start : start + len(note)] += np.float32(right) * note


def _soften(
    note: NDArray[np.float32], cutoff_hz: float, pitch: int, velocity: int, sample_rate: int
) -> NDArray[np.float32]:
    """Scale and low-pass a full-velocity note as if struck with `velocity`."""
    from scipy.signal import butter, lfilter

    loudness = np.float32((velocity / 127) ** 2)
    cutoff = cutoff_hz * 2.0 ** (-_SOFT_CUTOFF_CENTS / 1200 * (1 - velocity / 127))
    # Without this bound the softest top keys would be filtered away altogether.
    cutoff = max(cutoff, 2 * 440.0 * 2.0 ** ((pitch - 69) / 12))
    if cutoff >= 0.45 * sample_rate:
        return loudness * note
    numerator, denominator = butter(2, cutoff, fs=sample_rate)
    coefficients = (numerator.astype(np.float32), denominator.astype(np.float32))
    return np.asarray(loudness * lfilter(*coefficients, note), dtype=np.float32)


def _stage_gains(zone: Zone, pitch: int) -> tuple[float, float]:
    """Return left and right gain, of constant power: the zone's pan and the key's place."""
    place = zone.pan + _STAGE_WIDTH * (pitch - 64.5) / 43.5
    angle = (np.clip(place, -1, 1) + 1) * math.pi / 4
    return math.sqrt(2) * math.cos(angle), math.sqrt(2) * math.sin(angle)
