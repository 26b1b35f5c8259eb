"""Frame metrics that stream: counts at one threshold, or a histogram that answers for all.

The histogram bins logits, not probabilities, so that resolution is where networks put their
outputs; logit 0, the published threshold of 0.5, is exactly an edge.
"""

from __future__ import annotations

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
    """True positives, false positives and false negatives at probability 0.5."""

    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0

    def update(self, logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch; logits and targets have one shape, `valid` says which of them count."""
        said, truth = logits > 0, targets > 0.5
        if valid is not None:
            said, truth = said & valid.bool(), truth & valid.bool()
        hits = int((said & truth).sum())
        self.true_positives += hits
        self.false_positives += int(said.sum()) - hits
        self.false_negatives += int(truth.sum()) - hits

    def scores(self) -> dict[str, float]:
        """Return precision, recall and F1."""
        return dict(scores_of(self.true_positives, self.false_positives, self.false_negatives))


@dataclass
class LogitHistogram:
    """How logits of positive and of negative targets are distributed.

    Attributes:
        positive: [N_BINS] counts of positive targets by logit.
        negative: [N_BINS] counts of negative targets by logit.
    """

    positive: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_BINS, np.int64))
    negative: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_BINS, np.int64))

    def update(self, logits: npt.NDArray[np.float32], targets: npt.NDArray[np.bool_]) -> None:
        """Count logits with their targets, of one shape; NaN counts as the lowest logit."""
        position = np.floor((logits.ravel() + _HALF_RANGE) * _BINS_PER_LOGIT)
        # The checkpoint of a diverged run shall rank last, not end the ranking.
        position = np.nan_to_num(position, nan=0.0, posinf=N_BINS, neginf=0.0)
        bins = np.clip(position, 0, N_BINS - 1).astype(np.int64)
        truth = targets.ravel()
        self.positive += np.bincount(bins[truth], minlength=N_BINS)
        self.negative += np.bincount(bins[~truth], minlength=N_BINS)

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
