"""What a frame holds: the feature specification, hashed into everything computed from it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.features.grid import FrameGrid


class FeatureSpec(BaseModel):
    """Which transform turns two channels of audio into frames.

    Stored values are linear magnitudes whatever the kind; scaling (linear or log) and normalisation
    belong to the network's input (`features.scaling`), so that trying another one needs no new
    ingestion.

    Attributes:
        kind: `cqt`, the constant-Q magnitudes of the reference, or `log_mel`, mel magnitudes that
            networks see on a log scale.
        sample_rate: Samples per second that audio is resampled to.
        hop_samples: Samples from frame to frame.
        channels: Channels kept (mono files are duplicated).
        fmin_hz: Lowest frequency: CQT bin 0 (27.5 Hz is A0), or lower edge of the mel bands.
        fmax_hz: Upper edge of the mel bands; the CQT ends where its bins end.
        bins: Number of CQT bins or mel bands.
        bins_per_octave: CQT resolution (48 is four per semitone).
        n_fft: Samples per analysis frame of the mel spectrum.
        dtype: Storage type; half precision keeps 11 bits of each magnitude.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cqt", "log_mel"] = "cqt"
    sample_rate: int = Field(44100, ge=8000)
    hop_samples: int = Field(512, ge=64)
    channels: Literal[1, 2] = 2
    fmin_hz: float = Field(27.5, gt=0)
    fmax_hz: float = Field(16000.0, gt=0)
    bins: int = Field(356, ge=8)
    bins_per_octave: int = Field(48, ge=12)
    n_fft: int = Field(4096, ge=256)
    dtype: Literal["float16", "float32"] = "float16"

    @model_validator(mode="before")
    @classmethod
    def _mel_has_its_own_band_count(cls, values: dict[str, object]) -> dict[str, object]:
        if isinstance(values, dict) and values.get("kind") == "log_mel":
            return {"bins": 229, "fmin_hz": 30.0} | values
        return values

    @model_validator(mode="after")
    def _below_nyquist(self) -> FeatureSpec:
        top_hz = self.top_hz
        if top_hz > self.sample_rate / 2:
            raise ValueError(
                f"the top bin lies at {top_hz:.0f} Hz, above half the sample rate "
                f"({self.sample_rate / 2:.0f} Hz); use fewer bins or a higher sample_rate"
            )
        return self

    @property
    def top_hz(self) -> float:
        """Centre of the highest bin (CQT) or upper edge of the highest band (mel), in Hz."""
        if self.kind == "cqt":
            return float(self.fmin_hz * 2 ** ((self.bins - 1) / self.bins_per_octave))
        return self.fmax_hz

    @property
    def grid(self) -> FrameGrid:
        """The time grid of these frames."""
        return FrameGrid(
            sample_rate=self.sample_rate,
            hop_samples=self.hop_samples,
            frame_samples=0 if self.kind == "cqt" else self.n_fft,
        )

    @property
    def sha256(self) -> str:
        """Hash of the specification; frames made under another one are never reused."""
        return value_sha256(self.model_dump())
