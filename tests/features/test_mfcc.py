"""Cepstra against a restatement of the recipe: plain loops over frames, double precision."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from amt_pipeline.core.errors import AudioError
from amt_pipeline.features.mfcc import BLOCK_FRAMES, MfccSpec, mfcc_frames

SPEC = MfccSpec()
Array = npt.NDArray[np.float64]


def slopes(values: Array) -> Array:
    """Regression slopes of a row of values over five taps, with the end values repeated."""
    n = len(values)
    at = lambda i: values[min(max(i, 0), n - 1)]  # noqa: E731
    return np.array([(at(i + 1) - at(i - 1) + 2 * (at(i + 2) - at(i - 2))) / 10 for i in range(n)])


def log_bands(frame: Array, spec: MfccSpec) -> Array:
    """The logarithms of the mel energies of one frame of samples."""
    n, n_fft = len(frame), 2 ** math.ceil(math.log2(len(frame)))
    frame = frame - frame.mean()
    before = np.concatenate([frame[:1], frame[:-1]])
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / (n - 1))
    frame = (frame - spec.preemphasis * before) * hann**0.85
    turns = np.outer(np.arange(n_fft // 2), np.arange(n)) / n_fft
    power = np.abs(np.exp(-2j * np.pi * turns) @ frame) ** 2
    mel = lambda hz: 1127 * math.log(1 + hz / 700)  # noqa: E731
    step = (mel(spec.fmax_hz) - mel(spec.fmin_hz)) / (spec.mel_bands + 1)
    energies = []
    for band in range(spec.mel_bands):
        left = mel(spec.fmin_hz) + band * step
        energy = 0.0
        for position, value in enumerate(power):
            distance = (mel(position * spec.sample_rate / n_fft) - left) / step
            energy += value * max(0.0, min(distance, 2 - distance))
        energies.append(math.log(max(energy, np.finfo(np.float32).eps)))
    return np.array(energies)


def cepstrum(bands: Array, spec: MfccSpec) -> Array:
    n = len(bands)
    values = []
    for i in range(spec.coefficients):
        scale = math.sqrt((1 if i == 0 else 2) / n)
        lift = 1 + spec.lifter / 2 * math.sin(math.pi * i / spec.lifter) if spec.lifter else 1
        terms = (b * math.cos(math.pi * i * (j + 0.5) / n) for j, b in enumerate(bands))
        values.append(lift * scale * sum(terms))
    return np.array(values)


def restated(samples: npt.NDArray[np.float32], spec: MfccSpec) -> Array:
    """The recipe, step by step."""
    rows, first = [], 0
    while first + spec.frame_samples <= len(samples):
        frame = samples[first : first + spec.frame_samples].astype(float)
        rows.append(cepstrum(log_bands(frame, spec), spec))
        first += spec.hop_samples
    own = np.array(rows).reshape(-1, spec.coefficients)
    parts = [own]
    for _ in range(2):
        last = parts[-1]
        rounds = last if spec.delta_axis == "coefficient" else last.T
        changed = np.array([slopes(row) for row in rounds])
        parts.append(changed if spec.delta_axis == "coefficient" else changed.T)
    frames = np.concatenate(parts, axis=1)
    return (frames - frames.mean(axis=0)) / frames.std(axis=0, ddof=1)


def noise(n_samples: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Noise whose colour and level change, with an offset."""
    rng = np.random.default_rng(seed)
    white = rng.normal(size=n_samples)
    colour = np.convolve(white, rng.normal(size=9), "same")
    level = 0.02 + 0.1 * np.abs(np.sin(np.arange(n_samples) / rng.uniform(900, 3000)))
    return (level * colour * rng.random() + 0.05).astype(np.float32)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"delta_axis": "time"},
        {"lifter": 0, "preemphasis": 0, "mel_bands": 40, "coefficients": 20, "fmin_hz": 0},
        {"sample_rate": 8000, "hop_samples": 80, "frame_samples": 200, "fmax_hz": 3700},
        {"frame_samples": 512, "coefficients": 2, "delta_axis": "time"},
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_recipe(settings: dict[str, object], seed: int) -> None:
    spec = MfccSpec(**settings)
    samples = noise(5000 + 777 * seed, seed)
    found, expected = mfcc_frames(samples, spec), restated(samples, spec)
    assert found.dtype == np.float32
    assert found.shape == expected.shape == (spec.grid.frame_count(len(samples)), spec.bins)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_more_frames_than_a_block() -> None:
    samples = noise((2 * BLOCK_FRAMES + 3) * 160 + 240)
    found = mfcc_frames(samples, SPEC)
    assert len(found) == 2 * BLOCK_FRAMES + 3
    # The last frames alone have other means, but the same distances from each other.
    alone = restated(samples[-20 * 160 - 240 :], SPEC)
    tail = found[-20:] - found[-20:].mean(axis=0)
    np.testing.assert_allclose(tail / tail.std(axis=0, ddof=1), alone, atol=1e-3)


@pytest.mark.parametrize("delta_axis", ["coefficient", "time"])
@pytest.mark.parametrize("value", [0, 0.25])
def test_silence_and_a_constant_give_zeros(delta_axis: str, value: float) -> None:
    samples = np.full(160 * BLOCK_FRAMES + 5000, value, np.float32)
    found = mfcc_frames(samples, MfccSpec(delta_axis=delta_axis))
    assert found.shape == (1 + (len(samples) - 400) // 160, 39)
    assert not found.any()


def test_silence_around_a_sound() -> None:
    samples = np.concatenate([np.zeros(4000), noise(3000), np.zeros(4000)]).astype(np.float32)
    found = mfcc_frames(samples, SPEC)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, restated(samples, SPEC), atol=2e-4)


@pytest.mark.parametrize("n_samples", [0, 1, 399])
def test_less_than_a_frame_gives_none(n_samples: int) -> None:
    assert mfcc_frames(noise(400)[:n_samples], SPEC).shape == (0, 39)


@pytest.mark.parametrize("n_samples", [400, 559])
def test_one_frame_has_no_deviation(n_samples: int) -> None:
    assert mfcc_frames(noise(n_samples), SPEC).tolist() == [[0.0] * 39]


def test_two_frames_are_opposite() -> None:
    found = mfcc_frames(noise(560), SPEC)
    np.testing.assert_allclose(np.abs(found), np.sqrt(0.5), rtol=1e-4)
    np.testing.assert_allclose(found[0], -found[1], rtol=1e-4)


def test_samples_in_any_memory() -> None:
    samples = noise(3000)
    stereo = np.stack([samples, samples[::-1]], axis=1)
    stereo.flags.writeable = False
    np.testing.assert_array_equal(mfcc_frames(stereo[:, 0], SPEC), mfcc_frames(samples, SPEC))
    wide = stereo[:, 0].astype(np.float64)
    np.testing.assert_array_equal(mfcc_frames(wide, SPEC), mfcc_frames(samples, SPEC))


def test_two_channels_are_refused() -> None:
    with pytest.raises(AudioError, match=r"has shape \(500, 2\), expected \[n\]"):
        mfcc_frames(np.zeros((500, 2), np.float32), SPEC)


def test_the_specification() -> None:
    assert (SPEC.bins, SPEC.channels, SPEC.n_fft, SPEC.dtype) == (39, 1, 512, "float32")
    assert SPEC.grid.describe() == "16000 Hz, hop 160, frame 400"
    assert not SPEC.grid.centred
    others = [MfccSpec(delta_axis="time"), MfccSpec(coefficients=12), MfccSpec(lifter=0)]
    assert len({spec.sha256 for spec in (SPEC, *others)}) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fmax_hz": 9000}, "above half the sample rate"),
        ({"fmin_hz": 8000}, "must be below"),
        ({"coefficients": 24}, "at most mel_bands"),
        ({"dither": 1}, "Extra inputs"),
        ({"dtype": "float16"}, "float32"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MfccSpec(**settings)
