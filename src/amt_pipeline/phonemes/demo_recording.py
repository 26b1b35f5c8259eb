"""How a reader of the demo corpus is recorded: pauses, coughs and hums, a room, hiss and a level.

Segments move with what is put between them, and go on covering the whole recording.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.phonemes.classes import NOISE, SILENCE
from amt_pipeline.phonemes.demo_noise import (
    Rng,
    Samples,
    hiss,
    in_room,
    room_response,
    spoken_noise,
)
from amt_pipeline.phonemes.demo_segments import SAMPLE_RATE, TICK, AlignedSpeech, Segment

_FADE_S = 0.004
_NOISE_CHANCE = 0.45


@dataclass(frozen=True)
class Studio:
    """Where one speaker is recorded; the same for all of their utterances.

    Attributes:
        response: Impulse response of microphone and room.
        noise_db: Hiss relative to the speech.
        colour: Of the hiss; see `demo_noise.hiss`.
    """

    response: Samples
    noise_db: float
    colour: float


def studio(seed: int, speaker: str) -> Studio:
    """Return the place of a speaker, which depends on the seed and the name only."""
    rng = derive_rng(seed, "phoneme demo", "studio", speaker)
    return Studio(room_response(rng), float(rng.uniform(-32, -24)), float(rng.uniform(0, 0.9)))


def record(speech: AlignedSpeech, place: Studio, rng: Rng, *, with_noise: bool) -> AlignedSpeech:
    """Record what was spoken.

    Args:
        speech: One utterance as espeak-ng says it.
        place: Where.
        rng: Source of the chance in this utterance.
        with_noise: Whether spoken noise is to occur for sure.

    Returns:
        Samples below full scale, and the segments of the whole recording.
    """
    loudness = float(np.sqrt(np.mean(np.square(speech.samples[np.abs(speech.samples) > 0.01]))))
    cuts = _choose_cuts(speech, rng, with_noise)
    parts: list[tuple[Samples, list[Segment]]] = [_silence(rng, 0.15, 0.5)]
    first = 0
    for cut in [*cuts, len(speech.samples)]:
        parts.append(_part(speech, first, cut))
        if cut < len(speech.samples):
            parts += [_silence(rng, 0.02, 0.2), _noise(rng, loudness), _silence(rng, 0.02, 0.2)]
        first = cut
    parts.append(_silence(rng, 0.15, 0.5))
    dry = np.concatenate([samples for samples, _ in parts])
    wet = in_room(dry, place.response)
    wet += hiss(rng, len(wet), place.colour) * np.float32(loudness * 10 ** (place.noise_db / 20))
    peak = 10 ** (rng.uniform(-10, -2) / 20)
    return AlignedSpeech(wet * np.float32(peak / np.abs(wet).max()), _joined(parts))


def _choose_cuts(speech: AlignedSpeech, rng: Rng, with_noise: bool) -> list[int]:
    """Return the word starts before which a spoken noise comes, in order."""
    wanted = int(with_noise or rng.random() < _NOISE_CHANCE) + int(rng.random() < 0.15)
    starts = speech.word_starts
    return sorted(int(cut) for cut in rng.choice(starts, min(wanted, len(starts)), replace=False))


def _part(speech: AlignedSpeech, first: int, end: int) -> tuple[Samples, list[Segment]]:
    """Cut a stretch out of the speech, faded at its ends, with segments from 0 on."""
    samples = speech.samples[first:end].copy()
    fade = min(int(_FADE_S * SAMPLE_RATE), len(samples) // 2)
    ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
    samples[:fade] *= ramp
    samples[len(samples) - fade :] *= ramp[::-1]
    inside = [part for part in speech.segments if first <= part.first < end]
    return samples, [Segment(part.phone, part.first - first, part.end - first) for part in inside]


def _silence(rng: Rng, least_s: float, most_s: float) -> tuple[Samples, list[Segment]]:
    n_samples = _ticks(rng.uniform(least_s, most_s))
    return np.zeros(n_samples, np.float32), [Segment(SILENCE, 0, n_samples)]


def _noise(rng: Rng, loudness: float) -> tuple[Samples, list[Segment]]:
    n_samples = _ticks(rng.uniform(0.15, 0.55))
    sound = spoken_noise(rng, n_samples) * np.float32(loudness * rng.uniform(0.4, 1.1))
    return sound, [Segment(NOISE, 0, n_samples)]


def _ticks(seconds: float) -> int:
    return TICK * round(seconds * SAMPLE_RATE / TICK)


def _joined(parts: list[tuple[NDArray[np.float32], list[Segment]]]) -> tuple[Segment, ...]:
    """Return the segments of parts one after the other; silences that meet become one."""
    joined: list[Segment] = []
    start = 0
    for samples, segments in parts:
        for segment in segments:
            moved = Segment(segment.phone, start + segment.first, start + segment.end)
            if joined and joined[-1].phone == moved.phone == SILENCE:
                moved = Segment(SILENCE, joined.pop().first, moved.end)
            joined.append(moved)
        start += len(samples)
    return tuple(joined)
