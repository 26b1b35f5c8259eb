"""What a network is trained towards and scored by: yes or no per output, or one class of many.

The engine knows a task's objective by this protocol only: the loss of a batch, running scores of
the training, and what is kept of a network's answers on one unit of evaluation (a tally), from
which the scores of the unit and of all units together follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from amt_pipeline.training.class_metrics import ClassCounts, ClassTally, update_class_tallies
from amt_pipeline.training.metrics import (
    BinaryCounts,
    LogitHistogram,
    best_threshold,
    update_histograms,
)

if TYPE_CHECKING:
    from torch import Tensor

    from amt_pipeline.training.task import Batch


class RunningScores(Protocol):
    """Scores of the batches since they were last asked for.

    Attributes:
        sums: Numbers that processes add up, on the device; None before the first batch.
    """

    sums: Tensor | None

    def update(self, logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch."""

    def scores(self) -> dict[str, float]:
        """Return the scores by name."""


class Tally(Protocol):
    """A dataclass of arrays: what is kept of a network's answers on one unit."""

    def scores(self) -> dict[str, float]:
        """Return the scores of the unit by name, the objective's metric among them."""


class Objective(Protocol):
    """What a network is trained towards; see the module."""

    @property
    def metric(self) -> str:
        """Name of the score that checkpoints are ranked by; higher is better."""

    @property
    def class_axes(self) -> int:
        """Number of axes that logits have after those of the targets."""

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Return the mean loss of what counts in a batch; `count` replaces the number of it."""

    def count(self, batch: Batch) -> Tensor:
        """Return how much counts in a batch."""

    def running(self) -> RunningScores:
        """Return empty running scores."""

    def new_tally(self) -> Tally:
        """Return an empty tally."""

    def update(self, tallies: Sequence[Any], logits: Tensor, batch: Batch) -> None:
        """Count the answers `[networks, ...]` of several networks, each in its tally."""

    def pooled(self, tallies: Sequence[Any]) -> dict[str, float]:
        """Return scores over all units together; their names are not those of a unit's."""

    def tune(self, tallies: Sequence[Any]) -> dict[str, float]:
        """Return what is chosen on the validation split for use: a threshold, or nothing."""


@dataclass(frozen=True)
class BinaryObjective:
    """Yes or no for each output: sigmoid cross-entropy, F1.

    Attributes:
        pos_weight: Factor on positive targets; None is 1.
    """

    pos_weight: float | None = None
    metric = "f1"
    class_axes = 0

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Return the mean sigmoid cross-entropy of the valid outputs."""
        from amt_pipeline.training.losses import weighted_cross_entropy

        return weighted_cross_entropy(logits, batch.targets, self.pos_weight, batch.valid, count)

    def count(self, batch: Batch) -> Tensor:
        """Return the number of valid outputs."""
        from amt_pipeline.training.losses import count_outputs

        return count_outputs(batch.targets, batch.valid)

    def running(self) -> BinaryCounts:
        """Return empty counts at probability 0.5."""
        return BinaryCounts()

    def new_tally(self) -> LogitHistogram:
        """Return an empty histogram of logits."""
        return LogitHistogram()

    def update(self, tallies: Sequence[LogitHistogram], logits: Tensor, batch: Batch) -> None:
        """Count logits `[networks, *targets' shape]`, each network's in its histogram."""
        update_histograms(tallies, logits, batch.targets, batch.valid)

    def pooled(self, tallies: Sequence[LogitHistogram]) -> dict[str, float]:
        """Return the area under the ROC curve, and precision, recall, F1 over all outputs."""
        total = LogitHistogram.total(list(tallies))
        scores = {f"pooled_{name}": value for name, value in total.scores().items()}
        return {"auc": total.auc(), **scores}

    def tune(self, tallies: Sequence[LogitHistogram]) -> dict[str, float]:
        """Return the threshold with the best mean F1 over units, and that F1."""
        threshold, f1 = best_threshold(list(tallies))
        return {"threshold": threshold, "tuned_f1": f1}


@dataclass(frozen=True)
class ClassObjective:
    """One class of many for each target: softmax cross-entropy, accuracy.

    Attributes:
        label_smoothing: Share of the target that goes to all classes alike, in training.
    """

    label_smoothing: float = 0.0
    metric = "accuracy"
    class_axes = 1

    def loss(self, logits: Tensor, batch: Batch, count: Tensor | None = None) -> Tensor:
        """Return the mean cross-entropy of the valid targets; logits `[*shape, classes]`."""
        from amt_pipeline.training.losses import class_cross_entropy

        return class_cross_entropy(logits, batch.targets, self.label_smoothing, batch.valid, count)

    def count(self, batch: Batch) -> Tensor:
        """Return the number of valid targets."""
        from amt_pipeline.training.losses import count_outputs

        return count_outputs(batch.targets, batch.valid)

    def running(self) -> ClassCounts:
        """Return empty counts of right answers."""
        return ClassCounts()

    def new_tally(self) -> ClassTally:
        """Return an empty tally of right answers."""
        return ClassTally()

    def update(self, tallies: Sequence[ClassTally], logits: Tensor, batch: Batch) -> None:
        """Count logits `[networks, *targets' shape, classes]`, each network's in its tally."""
        update_class_tallies(tallies, logits, batch.targets, batch.valid)

    def pooled(self, tallies: Sequence[ClassTally]) -> dict[str, float]:
        """Return accuracy and cross-entropy over all targets."""
        scores = ClassTally.total(tallies).scores()
        return {f"pooled_{name}": value for name, value in scores.items()}

    def tune(self, tallies: Sequence[ClassTally]) -> dict[str, float]:
        """Return nothing: the largest logit decides."""
        return {}
