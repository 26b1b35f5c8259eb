"""What a frame holds: the feature specification, hashed into everything computed from it."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.values import reset_to_defaults
from amt_pipeline.features.grid import FrameGrid
from amt_pipeline.features.mfcc_spec import MfccSpec

_HANN_BANDWIDTH = 1.50018310546875
"""Equivalent noise bandwidth of a Hann window, in bins, as librosa has it."""

UNUSED_SETTINGS = {"cqt": ("fmax_hz", "n_fft"), "log_mel": ("bins_per_octave",)}
"""Settings that a kind of features has nothing for."""

_TRANSFORM_VERSION = {"cqt": 2, "log_mel": 1}
"""Raised when the code computes other values for the same settings: part of the hash, so that
frames of an earlier version are made again."""


class FeatureSpec(BaseModel):
    """Which transform turns two channels of audio into frames.

    Stored values are linear magnitudes whatever the kind; scaling (linear or log) and normalisation
    belong to the network's input (`features.scaling`), so that trying another one needs no new
    ingestion.

    A setting that the kind has nothing for (`fmax_hz` and `n_fft` of a CQT, `bins_per_octave` of
    mel bands) goes back to its default, whatever was given: it makes no other frames, so it must
    not make another hash, which would have everything ingested and trained anew. It is not refused,
    since a preset may have it for the kind that an override replaces.

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
    def _reset_unused(self) -> FeatureSpec:
        return reset_to_defaults(self, UNUSED_SETTINGS[self.kind])

    @model_validator(mode="after")
    def _frequencies_fit(self) -> FeatureSpec:
        mel = self.kind == "log_mel"
        if mel and self.fmin_hz >= self.fmax_hz:
            raise ValueError(f"fmin_hz ({self.fmin_hz:g}) must be below fmax_hz ({self.fmax_hz:g})")
        if self.cutoff_hz > self.sample_rate / 2:
            remedy = "a lower fmax_hz" if mel else "fewer bins"
            raise ValueError(
                f"the top bin reaches up to {self.cutoff_hz:.0f} Hz, above half the sample rate "
                f"({self.sample_rate / 2:.0f} Hz); use {remedy} or a higher sample_rate"
            )
        return self

    @property
    def top_hz(self) -> float:
        """Centre of the highest bin (CQT) or upper edge of the highest band (mel), in Hz."""
        if self.kind == "cqt":
            return float(self.fmin_hz * 2 ** ((self.bins - 1) / self.bins_per_octave))
        return self.fmax_hz

    @property
    def cutoff_hz(self) -> float:
        """Highest frequency that the highest bin lets through, in Hz.

        A constant-Q filter of centre f ends at f (1 + bandwidth / (2 Q)); the rule, which librosa
        refuses by, is that of `librosa.filters.wavelet_lengths`.
        """
        if self.kind == "log_mel":
            return self.top_hz
        return self.top_hz * (1 + 0.5 * _HANN_BANDWIDTH / self.q_factor)

    @property
    def q_factor(self) -> float:
        """Periods that a constant-Q filter is long: the same for all bins.

        The rule is librosa's: the bandwidth reaches from the bin below to the bin above.
        """
        ratio = 2 ** (2 / self.bins_per_octave)
        return float((ratio + 1) / (ratio - 1))

    @property
    def frame_bytes(self) -> int:
        """Bytes of a stored frame."""
        return self.bins * self.channels * (2 if self.dtype == "float16" else 4)

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
        """Hash of specification and transform; frames made under another are never reused."""
        version = _TRANSFORM_VERSION[self.kind]
        return value_sha256({**self.model_dump(), "transform_version": version})


AnySpec = Annotated[FeatureSpec | MfccSpec, Field(discriminator="kind")]
"""The specification of stored frames, told apart by `kind`; all have `bins`, `channels`, `dtype`,
`frame_bytes`, `grid` and `sha256`."""


@lru_cache(maxsize=1)
def _any_spec() -> TypeAdapter[FeatureSpec | MfccSpec]:
    return TypeAdapter(AnySpec)


def parse_spec(values: object) -> FeatureSpec | MfccSpec:
    """Return the specification that plain values (of JSON, of parameters) describe.

    Args:
        values: A mapping with `kind` and settings of that kind.

    Raises:
        pydantic.ValidationError: No such kind, or settings that it does not have or allow.
    """
    return _any_spec().validate_python(values)
