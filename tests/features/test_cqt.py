"""The constant-Q transform: against its definition, against librosa, and how streams are cut."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import librosa
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_pipeline.features.cqt import constant_q, hann_response
from amt_pipeline.features.extract import extract_blocks, extract_frames
from amt_pipeline.features.spec import FeatureSpec

REFERENCE = FeatureSpec(channels=1, dtype="float32")
SMALL = FeatureSpec(
    sample_rate=16000, hop_samples=256, bins=88, bins_per_octave=12, dtype="float32"
)
MEL = FeatureSpec(
    kind="log_mel", sample_rate=16000, hop_samples=256, n_fft=1024, bins=64, fmax_hz=8000
)


def music(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> npt.NDArray[np.float32]:
    """Struck tones with partials, as a piano's: sudden onsets, loud beside soft. Peak 0.5."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * rate)) / rate
    sound = np.zeros((len(time_s), channels))
    for onset_s in np.arange(0.2, seconds - 0.3, 0.25):
        since_s = np.maximum(time_s - onset_s, 0)
        hz = 27.5 * 2 ** (rng.integers(0, 75) / 12)
        envelope = np.where(time_s >= onset_s, np.exp(-3 * since_s), 0) * rng.uniform(0.1, 1)
        for partial in range(1, 9):
            if partial * hz < rate / 2:
                wave = envelope * np.sin(2 * np.pi * partial * hz * since_s) / partial
                sound += wave[:, None] * rng.uniform(0.3, 1, channels)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def by_definition(
    sound: npt.NDArray[np.float32], spec: FeatureSpec, bins: list[int], frames: list[int]
) -> npt.NDArray[np.float64]:
    """[frames, bins]: one scalar product per value, in double precision."""
    values = np.empty((len(frames), len(bins)))
    for column, k in enumerate(bins):
        hz = spec.fmin_hz * 2 ** (k / spec.bins_per_octave)
        ratio = 2 ** (1 / spec.bins_per_octave)
        length = spec.sample_rate / hz * (ratio + 1 / ratio) / (ratio - 1 / ratio)
        n = np.arange(-int(length / 2), int(length / 2) + 1)
        window = 0.5 + 0.5 * np.cos(2 * np.pi * n / length)
        wavelet = window / window.sum() * np.exp(-2j * np.pi * hz * n / spec.sample_rate)
        for row, frame in enumerate(frames):
            at = frame * spec.hop_samples + n
            inside = (at >= 0) & (at < len(sound))
            values[row, column] = np.abs(sound[at[inside], 0] @ wavelet[inside]) * np.sqrt(length)
    return values


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hop_samples": 441, "bins_per_octave": 36, "bins": 270},
        {"hop_samples": 735, "bins_per_octave": 12, "bins": 88, "fmin_hz": 30.0},
        {"sample_rate": 16000, "hop_samples": 160, "bins": 392},  # up to half the sample rate
    ],
)
def test_values_are_those_of_the_definition(changes: dict[str, float]) -> None:
    spec = FeatureSpec.model_validate({**REFERENCE.model_dump(), **changes})
    sound = music(8, spec.sample_rate)
    found = extract_frames(sound, spec)[..., 0]
    step = constant_q(spec).step_frames
    seam = [frame for frame in range(step - 2, step + 2) if frame < len(found)]
    frames = [0, 1, 17, *range(40, 200, 16), *seam, len(found) - 1]
    bins = [0, 1, *range(2, spec.bins, 23), spec.bins - 1]
    expected = by_definition(sound, spec, bins, frames)
    difference = np.abs(found[np.ix_(frames, bins)] - expected)
    assert difference.max() < 1e-4 * found.max()


def test_difference_to_librosa_is_librosas_own() -> None:
    # librosa rounds its filters to an odd length at the octave's sample rate, which puts them off
    # centre by half a sample there, and drops 1 % of their spectrum; hence the wide bounds.
    sound = music(10, 44100)
    theirs = np.abs(librosa.cqt(sound[:, 0], sr=44100, fmin=27.5, n_bins=356, bins_per_octave=48)).T
    ours = extract_frames(sound, REFERENCE)[..., 0]
    assert ours.shape == theirs.shape
    difference = np.abs(ours - theirs) / theirs.max()
    assert difference.max() < 1e-2
    assert np.sqrt(np.mean(difference**2)) < 1e-3
    frames, bins = list(range(20, 800, 40)), list(range(0, 356, 16))
    expected = by_definition(sound, REFERENCE, bins, frames)
    at = np.ix_(frames, bins)
    assert np.abs(ours[at] - expected).max() < 0.1 * np.abs(theirs[at] - expected).max()


def test_response_of_a_hann_window() -> None:
    window = 0.5 + 0.5 * np.cos(2 * np.pi * (np.arange(-500, 500) + 0.5) / 1000)
    for lobes in (0.0, 0.3, 1.0, -1.0, 1.5, 2.0, 7.3):
        turns = np.exp(-2j * np.pi * lobes * (np.arange(-500, 500) + 0.5) / 1000)
        expected = (window * turns).sum() / window.sum()
        assert hann_response(np.array([lobes]))[0] == pytest.approx(expected.real, abs=1e-5)


@pytest.mark.parametrize("spec", [SMALL, MEL], ids=["cqt", "mel"])
@settings(deadline=None, max_examples=15)
@given(cuts=st.lists(st.integers(0, 330_000), max_size=8), n_samples=st.integers(0, 330_000))
def test_cuts_do_not_matter(spec: FeatureSpec, cuts: list[int], n_samples: int) -> None:
    sound = NOISE[:n_samples]
    blocks = np.split(sound, sorted(min(cut, n_samples) for cut in cuts))
    nothing = np.zeros((0, spec.bins, 2), spec.dtype)
    streamed = np.concatenate([nothing, *extract_blocks(blocks, spec)])
    assert np.array_equal(streamed, extract_frames(sound, spec))
    assert len(streamed) == spec.grid.frame_count(n_samples)


NOISE = np.random.default_rng(0).normal(0, 0.1, (330_000, 2)).astype(np.float32)


def test_memory_does_not_grow_with_the_recording() -> None:
    def peak_bytes(n_blocks: int) -> int:
        def blocks() -> Iterator[npt.NDArray[np.float32]]:
            for _ in range(n_blocks):
                yield NOISE[:50_000]

        tracemalloc.start()
        try:
            n_frames = sum(len(chunk) for chunk in extract_blocks(blocks(), SMALL))
            assert n_frames == 1 + n_blocks * 50_000 // 256
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    constant_q(SMALL)
    assert peak_bytes(60) < 1.1 * peak_bytes(15)
