"""From stored magnitudes to what a network sees: normalisation, then linear or log scale."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-8
"""Added to each maximum (the reference's constant): silence divides to zero, not to NaN."""


class InputScaling(BaseModel):
    """How magnitudes are scaled on their way into a network.

    Attributes:
        normalisation: Divide, per channel, by the maximum of the `window` (the reference) or of the
            whole `recording` (loudness differences inside a piece survive, and neighbouring windows
            can share their convolutions).
        scale: `linear`, `log` (log1p of gain times the value, rescaled to end at 1), or `auto`:
            log for mel features, linear for the CQT, as published.
        log_gain: Steepness of the log scale; magnitudes below 1 / log_gain of the peak are nearly
            linear.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    normalisation: Literal["window", "recording"] = "window"
    scale: Literal["auto", "linear", "log"] = "auto"
    log_gain: float = Field(1000.0, gt=0)

    def is_log(self, feature_kind: str) -> bool:
        """Return whether features of this kind are seen on a log scale."""
        return self.scale == "log" or (self.scale == "auto" and feature_kind == "log_mel")

    def apply(self, windows: Tensor, recording_peak: Tensor, feature_kind: str) -> Tensor:
        """Scale a batch of windows.

        Args:
            windows: [batch, frames, bins, channels] magnitudes, zero where padded.
            recording_peak: [batch, channels], the largest magnitude of each window's recording.
            feature_kind: The `FeatureSpec.kind` of the frames.

        Returns:
            [batch, channels, frames, bins] float32 in 0..1 (above 1 only where a recording's peak
            is exceeded, which cannot happen inside that recording).
        """
        import torch

        values = windows.permute(0, 3, 1, 2).float()
        if self.normalisation == "window":
            peak = values.amax(dim=(2, 3), keepdim=True)
        else:
            peak = recording_peak.float()[:, :, None, None]
        values = values / (peak + EPSILON)
        if self.is_log(feature_kind):
            values = torch.log1p(values * self.log_gain) / math.log1p(self.log_gain)
        return values.contiguous()
