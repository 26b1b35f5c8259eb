"""Frame metrics that stream: counts at one threshold, or a histogram that answers for all.

The histogram bins logits, not probabilities, so that resolution is where networks put their
outputs; logit 0, the published threshold of 0.5, is exactly an edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from amt_pipeline.training.task import scores_of

if TYPE_CHECKING:
    from torch import Tensor

_HALF_RANGE = 16.0
_BINS_PER_LOGIT = 64
N_BINS = int(2 * _HALF_RANGE * _BINS_PER_LOGIT)


@dataclass
class BinaryCounts:
    """True positives, false positives and false negatives at probability 0.5.

    Attributes:
        sums: The three numbers, where the logits are: only `scores` waits for a GPU to give them.
    """

    sums: Tensor | None = None

    def update(self, logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch; logits and targets have one shape, `valid` says which of them count."""
        import torch

        said, truth = logits > 0, targets > 0.5
        if valid is not None:
            said, truth = said & valid.bool(), truth & valid.bool()
        hits = (said & truth).sum()
        counted = torch.stack([hits, said.sum() - hits, truth.sum() - hits])
        self.sums = counted if self.sums is None else self.sums + counted

    def scores(self) -> dict[str, float]:
        """Return precision, recall and F1."""
        return dict(scores_of(*([0, 0, 0] if self.sums is None else self.sums.tolist())))


@dataclass
class LogitHistogram:
    """How logits of positive and of negative targets are distributed.

    Attributes:
        positive: [N_BINS] counts of positive targets by logit.
        negative: [N_BINS] counts of negative targets by logit.
    """

    positive: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_BINS, np.int64))
    negative: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_BINS, np.int64))

    def scores(self, threshold: float = 0.5) -> dict[str, float]:
        """Return precision, recall and F1 where probability >= threshold is positive."""
        cut = threshold_bin(threshold)
        hits = int(self.positive[cut:].sum())
        return dict(scores_of(hits, int(self.negative[cut:].sum()), int(self.positive[:cut].sum())))

    def auc(self) -> float:
        """Return the area under the ROC curve (ties within a bin count half); NaN for one class."""
        n_positive, n_negative = int(self.positive.sum()), int(self.negative.sum())
        if not n_positive or not n_negative:
            return float("nan")
        below = np.cumsum(self.negative) - self.negative
        wins = float((self.positive * (below + self.negative / 2)).sum())
        return wins / (n_positive * n_negative)

    @staticmethod
    def total(parts: list[LogitHistogram]) -> LogitHistogram:
        """Return the sum of histograms (pooled over units)."""
        pooled = LogitHistogram()
        for part in parts:
            pooled.positive += part.positive
            pooled.negative += part.negative
        return pooled


def update_histograms(
    histograms: Sequence[LogitHistogram],
    logits: Tensor,
    targets: Tensor,
    valid: Tensor | None = None,
) -> None:
    """Count the logits of several networks on the same batch, each in its histogram.

    Args:
        histograms: One per network.
        logits: `[networks, *shape]` float32; NaN counts as the lowest logit.
        targets: `[*shape]`, positive above 0.5.
        valid: Which targets count, of a shape that broadcasts to the targets'; None for all.
    """
    import torch

    # Negative targets go to the first N_BINS bins, positive ones to the second, what does not count
    # to the third: so one pass over the logits does, without picking any out.
    third = (targets > 0.5).to(torch.int32) * N_BINS
    if valid is not None:
        third = torch.where(valid.bool(), third, 2 * N_BINS)
    third = third + 3 * N_BINS * torch.arange(
        len(histograms), dtype=torch.int32, device=logits.device
    ).view(-1, *[1] * targets.ndim)
    # The checkpoint of a diverged run shall rank last, not end the ranking: hence NaN to 0.
    position = ((logits + _HALF_RANGE) * _BINS_PER_LOGIT).clamp_(0, N_BINS - 1).nan_to_num_(0.0)
    bins = position.to(torch.int32).add_(third)
    counts = torch.bincount(bins.ravel(), minlength=3 * N_BINS * len(histograms))
    for histogram, row in zip(histograms, counts.view(-1, 3, N_BINS).cpu().numpy(), strict=True):
        histogram.negative += row[0]
        histogram.positive += row[1]


def threshold_bin(threshold: float) -> int:
    """Return the first histogram bin at or above a probability."""
    logit = float(np.log(threshold / (1 - threshold)))
    return int(np.clip(round((logit + _HALF_RANGE) * _BINS_PER_LOGIT), 0, N_BINS))


def best_threshold(
    units: list[LogitHistogram], candidates: npt.NDArray[np.float64] | None = None
) -> tuple[float, float]:
    """Return `(threshold, mean F1)` with the largest mean F1 over units.

    Args:
        units: One histogram per unit, of the validation split only.
        candidates: Probabilities to try; 0.05 to 0.95 in steps of 0.01 by default.
    """
    grid = np.round(np.arange(0.05, 0.951, 0.01), 2) if candidates is None else candidates
    means = [float(np.mean([unit.scores(float(t))["f1"] for unit in units])) for t in grid]
    best = int(np.argmax(means))
    return float(grid[best]), means[best]
