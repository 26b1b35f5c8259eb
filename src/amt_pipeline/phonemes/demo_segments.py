"""From espeak-ng's phoneme events to phone segments at the corpus's sample rate.

An event marks the onset of a phoneme's sound. What stops are silent for before that (the closure)
and the short gap that espeak-ng leaves before some fricatives lie in the time of the phoneme before
it; they are given to the phone they belong to, as people who label speech do.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.phonemes import demo_voice
from amt_pipeline.phonemes.classes import SILENCE
from amt_pipeline.phonemes.demo_voice import Spoken
from amt_pipeline.phonemes.espeak_phones import arpabet

SAMPLE_RATE = 16000
"""Of the corpus, in Hz, as LibriSpeech has it."""
TICK = 8
"""Boundaries lie at multiples of so many samples: 0.5 ms, which four decimals write exactly."""

_QUIET = 130
"""int16 steps; closures lie below, 46 dB under a voice's peak."""
_SHORTEST_CLOSURE_S = 0.004
_SNAP_S = 0.002
_TAIL_SHARE = 0.35
"""Of a vowel: the L or R after it, where espeak-ng speaks both as one sound."""


@dataclass(frozen=True)
class Segment:
    """A phone and where it lies: samples `first` to `end`, `end` not included."""

    phone: str
    first: int
    end: int

    @property
    def n_samples(self) -> int:
        """Length in samples."""
        return self.end - self.first


@dataclass(frozen=True)
class AlignedSpeech:
    """Speech with its phones.

    Attributes:
        samples: float32 `[n]` at `SAMPLE_RATE`.
        segments: Cover all samples, in order; none is empty.
        word_starts: Boundaries between segments at which a word begins, but for the first word.
    """

    samples: NDArray[np.float32]
    segments: tuple[Segment, ...]
    word_starts: tuple[int, ...] = ()


def align(spoken: Spoken, voice: str) -> AlignedSpeech:
    """Bring what espeak-ng said to 16 kHz and its phonemes to ARPAbet.

    Args:
        spoken: One text.
        voice: The voice that spoke it.

    Raises:
        CorpusError: A phoneme has no counterpart.
    """
    import soxr

    starts = _sound_starts(spoken)
    bounds = [*starts, len(spoken.samples)]
    pieces = [(SILENCE, 0.0, float(starts[0]))]
    for (name, _), (first, end) in zip(spoken.phonemes, itertools.pairwise(bounds), strict=True):
        position = float(first)
        for phone, share in arpabet(name, voice):
            pieces.append((phone, position, position + share * (end - first)))
            position = pieces[-1][2]
    rate = SAMPLE_RATE / demo_voice.SAMPLE_RATE
    segments = _on_ticks((phone, first * rate, end * rate) for phone, first, end in pieces)
    samples = soxr.resample(
        spoken.samples.astype(np.float32) / 32768, demo_voice.SAMPLE_RATE, SAMPLE_RATE
    )
    n_samples = segments[-1].end
    placed = np.zeros(n_samples, np.float32)
    placed[: min(n_samples, len(samples))] = samples[:n_samples]
    return AlignedSpeech(placed, segments, _word_starts(spoken, segments, rate))


def _sound_starts(spoken: Spoken) -> list[int]:
    """Return the first sample of every phoneme, closures included, none but pauses empty."""
    is_loud = np.abs(spoken.samples.astype(np.int32)) > _QUIET
    starts = [spoken.phonemes[0][1]]
    for (name, first), (_, event) in itertools.pairwise(spoken.phonemes):
        loud = np.flatnonzero(is_loud[first:event])
        # A gap after silence is silence; one as long as a whole phone would leave nothing of it.
        gap = event - first - 1 - int(loud[-1]) if len(loud) else 0
        closed = gap >= _SHORTEST_CLOSURE_S * demo_voice.SAMPLE_RATE and not name.startswith("_")
        starts.append(max(event - gap if closed else event, starts[-1]))
    ends = [*starts[1:], len(spoken.samples)]
    for index in range(1, len(starts)):
        if starts[index] == ends[index] and not spoken.phonemes[index][0].startswith("_"):
            starts[index] -= round(_TAIL_SHARE * (starts[index] - starts[index - 1]))
    return starts


def _on_ticks(pieces: Iterable[tuple[str, float, float]]) -> tuple[Segment, ...]:
    """Round boundaries to ticks; drop what is empty then, and join what is one phone."""
    segments: list[Segment] = []
    for phone, first, end in pieces:
        segment = Segment(phone, TICK * round(first / TICK), TICK * round(end / TICK))
        if segment.n_samples <= 0:
            continue
        # The r of a coloured vowel and the r after it ("near it"), and pauses beside pauses.
        if segments and segments[-1].phone == phone and phone in (SILENCE, "R"):
            segment = Segment(phone, segments.pop().first, segment.end)
        segments.append(segment)
    return tuple(segments)


def _word_starts(spoken: Spoken, segments: tuple[Segment, ...], rate: float) -> tuple[int, ...]:
    """Return the boundaries at which words begin; those between sounds that merge are left out."""
    bounds = np.array([segment.first for segment in segments])
    found = set()
    for word in spoken.words:
        nearest = int(bounds[np.abs(bounds - word * rate).argmin()])
        if abs(nearest - word * rate) <= _SNAP_S * SAMPLE_RATE:
            found.add(nearest)
    return tuple(sorted(found))[1:]
