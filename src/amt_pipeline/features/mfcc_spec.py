"""What a frame of speech holds: the specification of mel cepstra with their differences."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.features.grid import FrameGrid

_TRANSFORM_VERSION = 1
"""Raised when the code computes other values for the same settings; part of the hash."""


class MfccSpec(BaseModel):
    """Kaldi's mel cepstra of mono speech with first and second differences, per-utterance scaled.

    The defaults are those of the feature files of the phoneme course (ML2023, homework 2).
    `features.mfcc` says how the values are computed.

    Attributes:
        kind: `mfcc`.
        sample_rate: Samples per second of the waveform.
        hop_samples: Samples from frame to frame (10 ms).
        frame_samples: Samples of a frame (25 ms); frames that reach past the end are left out.
        mel_bands: Triangular bands on the mel scale.
        fmin_hz: Lower edge of the lowest band.
        fmax_hz: Upper edge of the highest band.
        coefficients: Cepstral coefficients kept, the zeroth among them.
        lifter: Coefficient i is scaled by 1 + lifter / 2 sin(pi i / lifter); 0 scales none.
        preemphasis: Share of the sample before that is subtracted from each sample.
        delta_axis: Along which axis differences are taken: `coefficient`, a quirk of the original
            files, or `time`, as usual.
        dtype: Storage type.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mfcc"] = "mfcc"
    sample_rate: int = Field(16000, ge=1000)
    hop_samples: int = Field(160, ge=1)
    frame_samples: int = Field(400, ge=16)
    mel_bands: int = Field(23, ge=2)
    fmin_hz: float = Field(20.0, ge=0)
    fmax_hz: float = Field(8000.0, gt=0)
    coefficients: int = Field(13, ge=1)
    lifter: float = Field(22.0, ge=0)
    preemphasis: float = Field(0.97, ge=0, le=1)
    delta_axis: Literal["coefficient", "time"] = "coefficient"
    dtype: Literal["float32"] = "float32"

    @model_validator(mode="after")
    def _settings_fit(self) -> MfccSpec:
        if self.fmin_hz >= self.fmax_hz:
            raise ValueError(f"fmin_hz ({self.fmin_hz:g}) must be below fmax_hz ({self.fmax_hz:g})")
        if self.fmax_hz > self.sample_rate / 2:
            raise ValueError(
                f"fmax_hz ({self.fmax_hz:g}) is above half the sample rate "
                f"({self.sample_rate / 2:g} Hz)"
            )
        if self.coefficients > self.mel_bands:
            raise ValueError(
                f"coefficients ({self.coefficients}) must be at most mel_bands ({self.mel_bands})"
            )
        return self

    @property
    def n_fft(self) -> int:
        """Samples of the Fourier transform: the next power of two from `frame_samples` on."""
        return 1 << (self.frame_samples - 1).bit_length()

    @property
    def bins(self) -> int:
        """Values of a frame: coefficients, their first and their second differences."""
        return 3 * self.coefficients

    @property
    def channels(self) -> int:
        """Speech is mono."""
        return 1

    @property
    def frame_bytes(self) -> int:
        """Bytes of a stored frame."""
        return 4 * self.bins

    @property
    def grid(self) -> FrameGrid:
        """The time grid of these frames: frame t begins at sample t x hop."""
        return FrameGrid(
            sample_rate=self.sample_rate,
            hop_samples=self.hop_samples,
            frame_samples=self.frame_samples,
            centred=False,
        )

    @property
    def sha256(self) -> str:
        """Hash of specification and transform; frames made under another are never reused."""
        return value_sha256({**self.model_dump(), "transform_version": _TRANSFORM_VERSION})
