"""Variations of a training window: transposition, equalisation, gain.

They act on the stored magnitudes, so they cost a multiplication and a shift, not a new transform of
augmented audio, which starved the GPUs of those who tried (magenta/magenta#1454). All draws are a
pure function of seed and step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.seeding import derive_rng

if TYPE_CHECKING:
    from torch import Tensor

_CURVE_POINTS = 8


class AugmentConfig(BaseModel):
    """How far training windows are varied; all zero is the reference, which does not.

    Attributes:
        transpose_semitones: Largest transposition up or down, with the labels (CQT only).
        equaliser_db: Standard deviation of a smooth random filter, standing for another piano.
        gain_db: Standard deviation of a random level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    transpose_semitones: int = Field(0, ge=0, le=12)
    equaliser_db: float = Field(0.0, ge=0, le=24)
    gain_db: float = Field(0.0, ge=0, le=24)

    @property
    def active(self) -> bool:
        """Whether anything is varied at all."""
        return bool(self.transpose_semitones or self.equaliser_db or self.gain_db)


@dataclass(frozen=True)
class Variation:
    """What was drawn for a batch.

    Attributes:
        semitones: [batch] transpositions.
        factor: [batch, bins] factors on the magnitudes.
    """

    semitones: npt.NDArray[np.int64]
    factor: npt.NDArray[np.float32]

    def __getitem__(self, rows: slice) -> Variation:
        return Variation(self.semitones[rows], self.factor[rows])


def draw_variation(
    config: AugmentConfig, *, batch_size: int, bins: int, seed: int, step: int
) -> Variation:
    """Draw the variation of a batch; a pure function of its arguments."""
    rng = derive_rng(seed, "augment", step)
    limit = config.transpose_semitones
    semitones = rng.integers(-limit, limit + 1, batch_size)
    points = rng.normal(0.0, config.equaliser_db, (batch_size, _CURVE_POINTS))
    level = rng.normal(0.0, config.gain_db, (batch_size, 1))
    at = np.linspace(0, bins - 1, _CURVE_POINTS)
    curve_db = np.stack([np.interp(np.arange(bins), at, row) for row in points]) + level
    return Variation(semitones, (10 ** (curve_db / 20)).astype(np.float32))


def vary_frames(windows: Tensor, variation: Variation, bins_per_semitone: int) -> Tensor:
    """Apply a variation to magnitudes [batch, frames, bins, channels]."""
    import torch

    factor = torch.from_numpy(variation.factor).to(windows.device)[:, None, :, None]
    varied = windows.float() * factor
    return _shift(varied, variation.semitones * bins_per_semitone, axis=2)


def vary_keys(targets: Tensor, variation: Variation) -> Tensor:
    """Transpose pitch targets [batch, frames, 88] with their frames; keys shifted out are lost."""
    return _shift(targets, variation.semitones, axis=2)


def _shift(values: Tensor, amounts: npt.NDArray[np.int64], axis: int) -> Tensor:
    """Shift each row of a batch along an axis, zeros coming in."""
    import torch

    shifted = torch.zeros_like(values)
    size = values.shape[axis]
    for row, amount in enumerate(amounts.tolist()):
        source = values[row].narrow(axis - 1, max(-amount, 0), size - abs(amount))
        shifted[row].narrow(axis - 1, max(amount, 0), size - abs(amount)).copy_(source)
    return shifted
