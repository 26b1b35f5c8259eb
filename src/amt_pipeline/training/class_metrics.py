"""Metrics of one class out of many, per frame: accuracy and cross-entropy, counted as they come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ClassCounts:
    """Right answers and answers at all.

    Attributes:
        sums: The two numbers, where the logits are: only `scores` waits for a GPU to give them.
    """

    sums: Tensor | None = None

    def update(self, logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch: logits `[*shape, classes]`, targets and `valid` `[*shape]`."""
        import torch

        right = logits.argmax(-1) == targets
        counts = right if valid is None else right & valid
        total = torch.full_like(right, True) if valid is None else valid
        counted = torch.stack([counts.sum(), total.sum()])
        self.sums = counted if self.sums is None else self.sums + counted

    def scores(self) -> dict[str, float]:
        """Return the accuracy; 0 where nothing was counted."""
        right, total = [0, 0] if self.sums is None else self.sums.tolist()
        return {"accuracy": right / total if total else 0.0}


@dataclass
class ClassTally:
    """What is kept of a network's answers on one unit.

    Attributes:
        counts: [2] right answers, answers at all.
        loss: [1] sum of cross-entropies in nats.
    """

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(2, np.int64))
    loss: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))

    def scores(self) -> dict[str, float]:
        """Return accuracy and mean cross-entropy; 0 and NaN where nothing was counted."""
        right, total = self.counts.tolist()
        return {
            "accuracy": right / total if total else 0.0,
            "loss": float(self.loss[0]) / total if total else float("nan"),
        }

    @staticmethod
    def total(parts: Sequence[ClassTally]) -> ClassTally:
        """Return the sum of tallies (pooled over units)."""
        pooled = ClassTally()
        for part in parts:
            pooled.counts += part.counts
            pooled.loss += part.loss
        return pooled


def update_class_tallies(
    tallies: Sequence[ClassTally], logits: Tensor, targets: Tensor, valid: Tensor | None = None
) -> None:
    """Count the logits of several networks on the same batch, each in its tally.

    Args:
        tallies: One per network.
        logits: `[networks, *shape, classes]` float32.
        targets: `[*shape]` class numbers.
        valid: `[*shape]`, which of them count; None for all.
    """
    import torch
    from torch.nn import functional

    mask = torch.ones_like(targets, dtype=torch.bool) if valid is None else valid
    n_valid = int(mask.sum())
    for tally, own in zip(tallies, logits, strict=True):
        chosen, wanted = own[mask], targets[mask]
        # Summed in 64 bits: a unit may have a million frames.
        losses = functional.cross_entropy(chosen, wanted, reduction="none").double()
        right = (chosen.argmax(-1) == wanted).sum()
        tally.counts += np.array([int(right), n_valid], np.int64)
        tally.loss += float(losses.sum())
