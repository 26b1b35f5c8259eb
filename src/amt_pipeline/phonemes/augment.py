"""Variations of utterances and windows while training: another voice, noise, gaps.

They act on normalised MFCC, so they cost a product and a few assignments, not new features of
altered sound. All draws come from the generator that is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor


class AugmentConfig(BaseModel):
    """How far training frames are varied; all zero is the course, which does not.

    Attributes:
        mix: Size of a random linear map of the values of a frame, one per utterance or window: each
            value gets a random share of the others, with a standard deviation of `mix` in all.
            Voices differ roughly by such maps (which is why recognisers adapt by them).
        noise: Standard deviation of noise on every value; values themselves have 1.
        gap_share: Share of the frames that gaps (runs of zeros, the mean) cover on average.
        gap_frames: Longest gap.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mix: float = Field(0.0, ge=0, le=2)
    noise: float = Field(0.0, ge=0, le=4)
    gap_share: float = Field(0.0, ge=0, lt=1)
    gap_frames: int = Field(15, ge=1)

    @property
    def active(self) -> bool:
        """Whether anything is varied at all."""
        return bool(self.mix or self.noise or self.gap_share)


def vary(
    frames: Tensor, n_frames: Tensor | None, config: AugmentConfig, rng: np.random.Generator
) -> Tensor:
    """Return varied frames; the given ones stay as they are.

    Args:
        frames: float32 [batch, time, bins], normalised (mean 0, deviation 1).
        n_frames: int64 [batch], frames that are no padding; None where there is none.
        config: How far.
        rng: Where the draws come from; the same state gives the same frames.

    Returns:
        float32 [batch, time, bins], padding zero, on the device of `frames`.
    """
    import torch

    batch, time, bins = frames.shape
    device = frames.device
    varied = frames.float()
    if config.mix:
        drawn = rng.standard_normal((batch, bins, bins), dtype=np.float32)
        drawn *= config.mix / np.sqrt(bins)
        varied = torch.baddbmm(varied, varied, torch.from_numpy(drawn).to(device))
    if config.noise:
        drawn = rng.standard_normal((batch, time, bins), dtype=np.float32)
        varied = varied + config.noise * torch.from_numpy(drawn).to(device)
    counts = np.full(batch, time) if n_frames is None else n_frames.cpu().numpy()
    kept = np.arange(time) < counts[:, None]
    if config.gap_share:
        kept &= ~_gaps(counts, time, config, rng)
    return varied.masked_fill(~torch.from_numpy(kept).to(device)[:, :, None], 0.0)


def _gaps(
    counts: np.ndarray, time: int, config: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    """Draw which frames lie in gaps, [batch, time]."""
    gaps = np.zeros((len(counts), time), bool)
    mean_frames = (1 + config.gap_frames) / 2
    for row, count in enumerate(counts):
        n_gaps = rng.poisson(count * config.gap_share / mean_frames)
        starts = rng.integers(0, max(count, 1), n_gaps)
        lengths = rng.integers(1, config.gap_frames + 1, n_gaps)
        for start, length in zip(starts, lengths, strict=True):
            gaps[row, start : start + length] = True
    return gaps
