"""Mel magnitudes of a stream, with librosa's transform and bands."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from amt_pipeline.features.spec import FeatureSpec

_STEP_FRAMES = 512


class MelBands:
    """The transform of fixed blocks; made once per specification by `mel_bands`.

    Args:
        spec: A specification of kind `log_mel`.

    Attributes:
        block_samples: Samples in a block.
        lead_samples: Samples before the centre of the first frame.
        step_frames: Frames that a block gives.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        import librosa

        self._n_fft, self._hop = spec.n_fft, spec.hop_samples
        self.step_frames = _STEP_FRAMES
        self.block_samples = (_STEP_FRAMES - 1) * self._hop + max(self._n_fft, self._hop)
        self.lead_samples = self._n_fft // 2
        self._bands: npt.NDArray[np.float32] = librosa.filters.mel(
            sr=spec.sample_rate,
            n_fft=spec.n_fft,
            n_mels=spec.bins,
            fmin=spec.fmin_hz,
            fmax=spec.fmax_hz,
            htk=True,
        )

    def __call__(self, block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the magnitudes of a block.

        Args:
            block: `[channels, block_samples]`.

        Returns:
            `[channels, bins, step_frames]`.
        """
        import librosa

        spectrum = librosa.stft(block, n_fft=self._n_fft, hop_length=self._hop, center=False)
        # Magnitudes, not powers: these would underflow in half precision.
        magnitudes: npt.NDArray[np.float32] = np.matmul(
            self._bands, np.abs(spectrum[:, :, : self.step_frames])
        )
        return magnitudes


@lru_cache(maxsize=2)
def mel_bands(spec: FeatureSpec) -> MelBands:
    """Return the transform of a specification; kept, since its bands take a while to make."""
    return MelBands(spec)
