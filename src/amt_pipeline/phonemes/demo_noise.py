"""Sounds of a recording that are no speech: coughs, hums and breaths (SPN), hiss and the room.

All is made from noise and sines by filters; the same generator state gives the same sounds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.phonemes.demo_segments import SAMPLE_RATE

Samples = NDArray[np.float32]
Rng = np.random.Generator

SPOKEN_NOISES = ("cough", "hum", "breath")

_FILTER_TAPS = 129
_TILT_DB = 5.0
_ECHO_S, _DECAY_S, _ECHO_DB = 0.2, 0.045, -14.0


def spoken_noise(rng: Rng, n_samples: int) -> Samples:
    """Return a cough, a hum or a breath of root mean square 1.

    Args:
        rng: Source of all chance.
        n_samples: Length at 16 kHz.
    """
    kind = SPOKEN_NOISES[int(rng.integers(len(SPOKEN_NOISES)))]
    sound = {"cough": _cough, "hum": _hum, "breath": _breath}[kind](rng, n_samples)
    edge = min(n_samples // 4, int(0.01 * SAMPLE_RATE))
    ramp = np.linspace(0, 1, edge, endpoint=False)
    sound[:edge] *= ramp
    sound[n_samples - edge :] *= ramp[::-1]
    return (sound / max(float(np.sqrt(np.mean(sound**2))), 1e-9)).astype(np.float32)


def hiss(rng: Rng, n_samples: int, colour: float) -> Samples:
    """Return noise of root mean square 1, from white (`colour` 0) to nearly brown (close to 1)."""
    from scipy.signal import lfilter

    white = rng.standard_normal(n_samples)
    return np.asarray(lfilter([np.sqrt(1 - colour**2)], [1, -colour], white), np.float32)


def room_response(rng: Rng) -> Samples:
    """Return the response of a microphone and a small room, of about unit gain.

    The microphone lifts and lowers bands by a few dB without delay; the room answers for a fifth of
    a second, well below the direct sound.
    """
    from scipy.signal import firwin2

    bands_hz = np.array([0, 150, 400, 1000, 2000, 3500, 5500, SAMPLE_RATE / 2])
    gains = 10 ** (rng.uniform(-_TILT_DB, _TILT_DB, len(bands_hz)) / 20)
    microphone = firwin2(_FILTER_TAPS, bands_hz, gains, fs=SAMPLE_RATE)
    times_s = np.arange(int(_ECHO_S * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(times_s)) * np.exp(-times_s / _DECAY_S)
    tail *= 10 ** (_ECHO_DB / 20) / np.sqrt(np.sum(tail**2))
    tail[: int(0.002 * SAMPLE_RATE)] = 0
    tail[0] = 1
    return np.convolve(microphone, tail).astype(np.float32)


def in_room(samples: Samples, response: Samples) -> Samples:
    """Return samples as they sound in a room, of equal length and not delayed."""
    from scipy.signal import fftconvolve

    delay = (_FILTER_TAPS - 1) // 2
    wet = fftconvolve(samples, response)[delay : delay + len(samples)]
    return np.asarray(wet, np.float32)


def _cough(rng: Rng, n_samples: int) -> NDArray[np.float64]:
    """Bursts that begin at once and fall off."""
    sound = np.zeros(n_samples)
    starts = np.sort(rng.uniform(0, 0.6, int(rng.integers(1, 3))))
    starts[0] = 0
    for start in starts:
        first = int(start * n_samples)
        length = n_samples - first
        envelope = np.exp(-np.arange(length) / (rng.uniform(0.05, 0.11) * SAMPLE_RATE))
        sound[first:] += envelope * _band(
            rng, length, rng.uniform(250, 600), rng.uniform(1800, 3500)
        )
    return sound


def _hum(rng: Rng, n_samples: int) -> NDArray[np.float64]:
    """A dull tone that slides a little, as in thought."""
    times_s = np.arange(n_samples) / SAMPLE_RATE
    slide = 1 + rng.uniform(-0.12, 0.12) * times_s / max(times_s[-1], 1e-9)
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 210) * slide) / SAMPLE_RATE
    tone = sum(np.sin(k * phase + rng.uniform(0, 2 * np.pi)) / k**1.7 for k in range(1, 16))
    return np.asarray(tone + 0.1 * _band(rng, n_samples, 150, 1200))


def _breath(rng: Rng, n_samples: int) -> NDArray[np.float64]:
    """Broad noise that swells and goes."""
    swell = np.sin(np.pi * np.linspace(0, 1, n_samples)) ** 2
    return swell * _band(rng, n_samples, rng.uniform(300, 700), rng.uniform(3500, 6000))


def _band(rng: Rng, n_samples: int, low_hz: float, high_hz: float) -> NDArray[np.float64]:
    from scipy.signal import butter, sosfilt

    sections = butter(2, (low_hz, high_hz), "bandpass", fs=SAMPLE_RATE, output="sos")
    noise = sosfilt(sections, rng.standard_normal(n_samples))
    return np.asarray(noise / max(float(np.sqrt(np.mean(noise**2))), 1e-9))
