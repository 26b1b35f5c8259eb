"""The one place that knows how seconds become frames.

A `FrameGrid` travels with everything made on it: stored frames, labels, checkpoints, predictions.
Two grids never meet silently; `FrameGrid.require` names both when they differ.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.errors import StoreError


class FrameGrid(BaseModel):
    """How a waveform is cut into frames.

    Attributes:
        sample_rate: Samples per second.
        hop_samples: Samples from one frame to the next.
        frame_samples: Samples one frame looks at; 0 where it differs by bin (constant-Q).
        centred: Frame `t` is centred on sample `t * hop_samples` (else it starts there).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_rate: int = Field(44100, gt=0)
    hop_samples: int = Field(512, gt=0)
    frame_samples: int = Field(0, ge=0)
    centred: bool = True

    @property
    def seconds_per_frame(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_samples / self.sample_rate

    def frame_count(self, n_samples: int) -> int:
        """Return the number of frames that `n_samples` of audio give."""
        if n_samples <= 0:
            return 0
        if self.centred:
            return 1 + n_samples // self.hop_samples
        return max(0, 1 + (n_samples - self.frame_samples) // self.hop_samples)

    def frames_of(self, seconds: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return floor(seconds x sample_rate / hop), the frame an event belongs to."""
        return np.floor(np.asarray(seconds, float) * self.sample_rate / self.hop_samples).astype(
            np.int64
        )

    def describe(self) -> str:
        """Return the grid in words, for messages."""
        frame = self.frame_samples or "per bin"
        return f"{self.sample_rate} Hz, hop {self.hop_samples}, frame {frame}"

    def require(self, other: FrameGrid, where: str, remedy: str) -> None:
        """Refuse to mix two grids.

        Raises:
            StoreError: `other` is not this grid; both are named.
        """
        if self != other:
            raise StoreError(
                where,
                f"was made on the grid [{self.describe()}], wanted is [{other.describe()}]",
                remedy,
            )
