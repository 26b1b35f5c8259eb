"""What the engine needs to know of a system in order to train and evaluate its network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from amt_pipeline.store.windows import Windows
    from amt_pipeline.training.config import TrainingConfig
    from amt_pipeline.training.objective import Objective


ALL_ROWS = slice(None)


@dataclass(frozen=True)
class Batch:
    """Examples on their way to the device.

    Attributes:
        inputs: Tensors that `Task.forward` knows how to use; first axis is the batch.
        targets: What the network should say; first axis is the batch.
        valid: Which targets count (same shape as targets), or None for all.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    valid: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        return Batch(
            tuple(tensor.to(device, non_blocking=True) for tensor in self.inputs),
            self.targets.to(device, non_blocking=True),
            None if self.valid is None else self.valid.to(device, non_blocking=True),
        )


class Task(Protocol):
    """A network to be trained on a corpus; the engine never looks behind this.

    Attributes:
        name: Short name, also of folders and metrics (`onset`).
        label: Name for people.
        unit: What validation is scored by (`piece`).
        training: Hyper-parameters of the engine.
    """

    name: str
    label: str
    unit: str
    training: TrainingConfig

    @property
    def objective(self) -> Objective:
        """Return what the network is trained towards and scored by."""

    def recipe(self) -> dict[str, Any]:
        """Return how another process makes this task, JSON-able.

        `task` is the class as `package.module:Name`, `arguments` is what its class method
        `from_recipe` takes.
        """

    def describe(self) -> dict[str, Any]:
        """Return the resolved configuration, JSON-able: with the engine's it identifies a run."""

    def fingerprint(self) -> str:
        """Return a hash of the training data."""

    def build_network(self) -> nn.Module:
        """Return the network with freshly drawn weights."""

    def training_windows(self, epoch: int) -> Windows:
        """Return the windows of an epoch in the order they are trained on.

        Every epoch has the same number of windows.
        """

    def training_batch(self, windows: Windows, step: int, rows: slice = ALL_ROWS) -> Batch:
        """Return the examples of a step, or some of them.

        Args:
            windows: All windows of the step.
            step: Seeds augmentation, which is drawn for all windows.
            rows: Which of them this process trains on; only these examples are made.
        """

    def evaluation_batches(self, split: str) -> Iterator[tuple[str, Batch]]:
        """Yield `(unit id, examples)` over a split; the batches of a unit follow one another."""

    def evaluation_units(self, split: str) -> list[str]:
        """Return the units of a split in the order of `evaluation_batches`.

        A unit without a batch (nothing to score) may be among them.
        """

    def forward(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return logits of the targets' shape for a batch on the network's device.

        Those of classes have one axis more at the end.

        The network is called once, and its answer returned with its leading axes as they are: a
        ranking passes several networks as one, whose answer has one axis more in front.
        """


def scores_of(
    true_positives: float, false_positives: float, false_negatives: float
) -> Mapping[str, float]:
    """Return precision, recall and F1 of counts; 0 where undefined, as mir_eval has it."""
    found, wanted = true_positives + false_positives, true_positives + false_negatives
    precision = true_positives / found if found else 0.0
    recall = true_positives / wanted if wanted else 0.0
    total = precision + recall
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / total if total else 0.0,
    }
