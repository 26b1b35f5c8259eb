"""Which windows belong to which step."""

from __future__ import annotations

from amt_pipeline.store.windows import Windows
from amt_pipeline.training.task import Task


class WindowStream:
    """Batches of training windows by step: epochs joined end to end, each in its own order."""

    def __init__(self, task: Task) -> None:
        self._task, self._batch_size = task, task.training.batch_size
        self._epochs = {0: task.training_windows(0)}
        self.epoch_size = len(self._epochs[0])

    def batch(self, step: int) -> Windows:
        """Return the windows of a step; a pure function of the step."""
        row, wanted = step * self._batch_size, self._batch_size
        parts = []
        while wanted:
            epoch, first = divmod(row, self.epoch_size)
            part = self._epoch(epoch)[first : first + wanted]
            parts.append(part)
            row, wanted = row + len(part), wanted - len(part)
        return Windows.concatenate(parts)

    def _epoch(self, epoch: int) -> Windows:
        if epoch not in self._epochs:
            self._epochs = {epoch: self._task.training_windows(epoch)}
            if (found := len(self._epochs[epoch])) != self.epoch_size:
                raise ValueError(f"epoch {epoch} has {found} windows, epoch 0 {self.epoch_size}")
        return self._epochs[epoch]
