"""Mel cepstra of speech as Kaldi computes them, with differences, scaled per utterance.

All of it between the waveform and the power spectrum, and between the logarithm and the result, is
linear. So pre-emphasis is done once on the waveform and not in every frame, bands are summed from
squared real and imaginary parts by one product, and one matrix makes the cepstra, their liftering
and, along the coefficient axis, their differences.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import AudioError
from amt_pipeline.features.mfcc_spec import MfccSpec

__all__ = ["MfccSpec", "mfcc_frames"]

BLOCK_FRAMES = 256
"""Frames that are transformed together: what they need stays in a core's cache."""

FLOOR = np.float32(np.finfo(np.float32).eps)
"""Least energy of a band before the logarithm."""

LEAST_DEVIATION = 1e-4
"""Below this a column (in units of log energy) is taken as constant: rounding leaves about 1e-5
where the sound is the same in all frames, speech has 1 and more."""

DELTA_REACH = 2
"""Frames or coefficients on either side that a difference is fitted to: five taps."""

_SQUARES = 2 * sum(k * k for k in range(1, DELTA_REACH + 1))


def mfcc_frames(samples: npt.NDArray[np.float32], spec: MfccSpec) -> npt.NDArray[np.float32]:
    """Return the cepstra of an utterance, with first and second differences.

    Frames reach over samples `t * hop ... t * hop + frame_samples`. Each loses its mean, is
    pre-emphasised and multiplied by Povey's window (a Hann window to the power of 0.85); then
    power spectrum, mel bands, logarithm, orthonormal cosine transform, liftering, differences. At
    last each column is brought to mean 0 and (n - 1) standard deviation 1 over the utterance;
    columns that are constant, all of them where there is one frame only, become 0.

    Args:
        samples: `[n]` waveform in -1..1 in the spec's sample rate.
        spec: What to compute.

    Returns:
        `[frames, bins]` with frames = 1 + (n - frame_samples) // hop_samples; 0 for less than one.

    Raises:
        AudioError: The waveform has more than one axis.
    """
    if samples.ndim != 1:
        raise AudioError("waveform", f"has shape {samples.shape}, expected [n]")
    n_frames = spec.grid.frame_count(len(samples))
    cepstra = np.empty((n_frames, spec.bins), np.float32)
    if not n_frames:
        return cepstra
    own = cepstra if spec.delta_axis == "coefficient" else cepstra[:, : spec.coefficients]
    _transform(spec)(np.ascontiguousarray(samples, np.float32), own)
    if spec.delta_axis == "time":
        _add_differences(cepstra, spec.coefficients)
    _normalise(cepstra)
    return cepstra


class _Cepstra:
    """The transform of a waveform under one specification; kept by `_transform`."""

    def __init__(self, spec: MfccSpec) -> None:
        self._spec = spec
        hann = np.hanning(spec.frame_samples)
        self._window = (hann**0.85).astype(np.float32)
        # Pre-emphasis leaves so much of a frame's mean.
        share_left = (1 - spec.preemphasis) / spec.frame_samples
        self._mean = np.full(spec.frame_samples, share_left, np.float32)
        # Each row twice, for the real and the imaginary part of a bin; empty bands up to a multiple
        # of eight, since the product of 24 columns takes two thirds of the time of 23.
        empty = ((0, 0), (0, -spec.mel_bands % 8))
        bands = np.pad(np.repeat(_mel_bands(spec), 2, axis=0), empty)
        self._bands = np.ascontiguousarray(bands, np.float32)
        matrix = _cosines(spec)
        if spec.delta_axis == "coefficient":
            difference = _difference_matrix(spec.coefficients)
            once = matrix @ difference
            matrix = np.concatenate([matrix, once, once @ difference], axis=1)
        self._matrix = np.ascontiguousarray(np.pad(matrix, (empty[1], (0, 0))), np.float32)

    def __call__(self, samples: npt.NDArray[np.float32], into: npt.NDArray[np.float32]) -> None:
        """Fill `[frames, values]` from `[n]` samples."""
        from scipy.fft import rfft

        spec = self._spec
        # The first sample of a frame has no predecessor within it; the window is zero there.
        emphasised = np.empty_like(samples)
        np.multiply(samples[:-1], -np.float32(spec.preemphasis), out=emphasised[1:])
        emphasised[1:] += samples[1:]
        emphasised[0] = 0
        raw, sloped = _frames(samples, spec), _frames(emphasised, spec)
        block = np.zeros((min(len(into), BLOCK_FRAMES), spec.n_fft), np.float32)
        for first in range(0, len(into), BLOCK_FRAMES):
            rows = slice(first, first + BLOCK_FRAMES)
            size = len(into[rows])
            windowed = block[:size, : spec.frame_samples]
            # np.dot: twice as fast as a mean, and as matmul of overlapping rows.
            np.subtract(sloped[rows], np.dot(raw[rows], self._mean)[:, None], out=windowed)
            windowed *= self._window
            parts = rfft(block[:size], axis=1).view(np.float32)
            energy = np.square(parts, out=parts) @ self._bands
            np.maximum(energy, FLOOR, out=energy)
            np.matmul(np.log(energy, out=energy), self._matrix, out=into[rows])


@lru_cache(maxsize=4)
def _transform(spec: MfccSpec) -> _Cepstra:
    return _Cepstra(spec)


def _frames(samples: npt.NDArray[np.float32], spec: MfccSpec) -> npt.NDArray[np.float32]:
    """Return a view `[frames, frame_samples]`."""
    view: npt.NDArray[np.float32] = np.lib.stride_tricks.sliding_window_view(
        samples, spec.frame_samples
    )
    return view[:: spec.hop_samples]


def _mel_bands(spec: MfccSpec) -> npt.NDArray[np.float64]:
    """Return `[n_fft / 2 + 1, mel_bands]` triangles on Kaldi's mel scale.

    Their edges lie at equal distances in mel = 1127 ln(1 + Hz / 700), their peak is 1, and they are
    straight in mel, not in Hz. Kaldi leaves the bin at half the sample rate out.
    """

    def mel(hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return 1127 * np.log1p(np.asarray(hz, float) / 700)

    edges = np.linspace(mel(spec.fmin_hz), mel(spec.fmax_hz), spec.mel_bands + 2)
    bins = mel(np.arange(spec.n_fft // 2 + 1) * spec.sample_rate / spec.n_fft)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    bands: npt.NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    bands[-1] = 0
    return bands


def _cosines(spec: MfccSpec) -> npt.NDArray[np.float64]:
    """Return `[mel_bands, coefficients]`: the orthonormal cosine transform, liftered."""
    n = spec.mel_bands
    order = np.arange(spec.coefficients)
    matrix: npt.NDArray[np.float64] = np.sqrt(2 / n) * np.cos(
        np.pi / n * (np.arange(n)[:, None] + 0.5) * order
    )
    matrix[:, 0] = np.sqrt(1 / n)
    if spec.lifter:
        matrix *= 1 + spec.lifter / 2 * np.sin(np.pi * order / spec.lifter)
    return matrix


def _difference_matrix(n: int) -> npt.NDArray[np.float64]:
    """Return `[n, n]`, by which rows of n values become their regression slopes.

    The slope at i is the sum over k of k (x[i + k] - x[i - k]) / (2 sum k^2); values past the ends
    are those at the ends.
    """
    matrix = np.zeros((n, n))
    for at in range(n):
        for k in range(1, DELTA_REACH + 1):
            matrix[min(at + k, n - 1), at] += k / _SQUARES
            matrix[max(at - k, 0), at] -= k / _SQUARES
    return matrix


def _add_differences(cepstra: npt.NDArray[np.float32], n: int) -> None:
    """Fill the columns from n on: slopes over time of those before, by the same rule."""
    for first in (0, n):
        padded = np.pad(cepstra[:, first : first + n], ((DELTA_REACH,) * 2, (0, 0)), mode="edge")
        slope = np.zeros((len(cepstra), n), np.float32)
        for k in range(1, DELTA_REACH + 1):
            later = padded[DELTA_REACH + k :][: len(cepstra)]
            slope += k * (later - padded[DELTA_REACH - k :][: len(cepstra)])
        np.divide(slope, _SQUARES, out=cepstra[:, first + n : first + 2 * n])


def _normalise(frames: npt.NDArray[np.float32]) -> None:
    """Bring each column to mean 0 and standard deviation 1, constant ones to 0, in place."""
    frames -= frames.mean(axis=0, dtype=np.float64).astype(np.float32)
    if len(frames) == 1:
        frames[:] = 0
        return
    deviation = np.sqrt(np.einsum("ij,ij->j", frames, frames, dtype=np.float64) / (len(frames) - 1))
    steady = deviation < LEAST_DEVIATION
    frames *= np.where(steady, 0, 1 / np.where(steady, 1, deviation)).astype(np.float32)
