"""How a training run ends: with a result, or stopped on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amt_pipeline.core.errors import Interrupted


class TrainingInterrupted(Interrupted):
    """The run was asked to stop, and saved itself."""

    def by(self, signal_number: int) -> TrainingInterrupted:
        """Return this error with the signal that it was."""
        self.signal_number = signal_number
        return self


@dataclass(frozen=True)
class TrainingResult:
    """What a finished run leaves behind, beside its checkpoints.

    Attributes:
        task: Name of the task.
        steps: Steps done in all.
        windows: Training windows per epoch.
        parameters: Trainable weights.
        checkpoints: Folder names, in step order.
        device: Where it ran last.
        processes: How many shared its batches last.
        precision: Arithmetic of the forward pass.
        fingerprint: Hash of the training data.
        config: Resolved task and training configuration.
        history: Scalars logged on the way, one mapping per row, with `step`.
    """

    task: str
    steps: int
    windows: int
    parameters: int
    checkpoints: list[str]
    device: str
    processes: int
    precision: str
    fingerprint: str
    config: dict[str, Any]
    history: list[dict[str, float]]
