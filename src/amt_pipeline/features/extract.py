"""Waveform to frames, with librosa's transforms."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import AudioError
from amt_pipeline.features.spec import FeatureSpec


def extract_frames(samples: npt.NDArray[np.float32], spec: FeatureSpec) -> npt.NDArray[Any]:
    """Return the magnitude frames of a waveform.

    Audio shorter than one second is padded with zeros for the transform (whose longest filters span
    more than that) and the frames of the padding are dropped again.

    Args:
        samples: [n_samples, channels] in the spec's sample rate and channel count.
        spec: What to compute.

    Returns:
        [frames, bins, channels] of `spec.dtype`; frames = 1 + n_samples // hop, 0 for no samples.

    Raises:
        AudioError: The waveform has another number of channels than the spec.
    """
    if samples.ndim != 2 or samples.shape[1] != spec.channels:
        raise AudioError("waveform", f"has shape {samples.shape}, expected [n, {spec.channels}]")
    n_samples = len(samples)
    n_frames = spec.grid.frame_count(n_samples)
    if n_frames == 0:
        return np.zeros((0, spec.bins, spec.channels), spec.dtype)
    frames = np.empty((n_frames, spec.bins, spec.channels), spec.dtype)
    limit = np.finfo(spec.dtype).max
    waveform = np.ascontiguousarray(samples.T, dtype=np.float32)
    if n_samples < spec.sample_rate:
        waveform = np.pad(waveform, ((0, 0), (0, spec.sample_rate - n_samples)))
    with warnings.catch_warnings():
        # A recording of a few seconds is shorter than the longest filter; the result stays defined.
        warnings.filterwarnings("ignore", message="n_fft=.*too large")
        transform = _cqt if spec.kind == "cqt" else _mel
        # Channel by channel: the transform's intermediate arrays are what fills the memory.
        for position, channel in enumerate(waveform):
            magnitudes = transform(channel, spec)[:, :n_frames]
            frames[:, :, position] = np.minimum(magnitudes, limit).T
    return frames


def _cqt(waveform: npt.NDArray[np.float32], spec: FeatureSpec) -> npt.NDArray[np.float32]:
    import librosa

    complex_bins = librosa.cqt(
        waveform,
        sr=spec.sample_rate,
        hop_length=spec.hop_samples,
        fmin=spec.fmin_hz,
        n_bins=spec.bins,
        bins_per_octave=spec.bins_per_octave,
    )
    magnitudes: npt.NDArray[np.float32] = np.abs(complex_bins)
    return magnitudes


def _mel(waveform: npt.NDArray[np.float32], spec: FeatureSpec) -> npt.NDArray[np.float32]:
    import librosa

    # Power 1 keeps magnitudes, which fit half precision; powers would underflow there.
    mel: npt.NDArray[np.float32] = librosa.feature.melspectrogram(
        y=waveform,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_samples,
        n_mels=spec.bins,
        fmin=spec.fmin_hz,
        fmax=spec.fmax_hz,
        power=1.0,
        htk=True,
    )
    return mel
