"""What one training step does, in one process or in several that share the batch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.seeding import derive_seed
from amt_pipeline.training.batch_norm import share_batch_norm
from amt_pipeline.training.device import autocast
from amt_pipeline.training.distributed import Group
from amt_pipeline.training.losses import L2Penalty, count_outputs, weighted_cross_entropy
from amt_pipeline.training.metrics import BinaryCounts
from amt_pipeline.training.task import Batch, Task

if TYPE_CHECKING:
    from torch import Tensor


class TrainingDiverged(UserError):
    """The loss is no longer a number; no later step can mend that."""


class Trainer:
    """A network, its optimiser, and the loss and scores since they were last asked for.

    Args:
        task: What is trained.
        device: Where; the network is moved there.
        precision: Arithmetic of the forward pass, `float32` or `bfloat16`.
        group: The processes that share each batch.
    """

    def __init__(self, task: Task, device: torch.device, precision: str, group: Group) -> None:
        config = task.training
        torch.manual_seed(derive_seed(config.seed, task.name, "weights"))
        network = task.build_network().to(device)
        self.task, self.device, self.precision, self.group = task, device, precision, group
        self.network = network if group.size == 1 else share_batch_norm(network)
        self.optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
        self.n_parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
        self._penalty = L2Penalty(network, config.conv_l2, config.dense_l2)
        self._reset()

    def _reset(self) -> None:
        self._counts, self._loss_sum, self._n_losses = BinaryCounts(), 0.0, 0
        self._unread: list[Tensor] = []

    def step(self, step: int, batch: Batch) -> None:
        """Take a step of Adam on this process's rows of the batch of `step`.

        Nothing here waits for a GPU to be done: `read` does.
        """
        config, group = self.task.training, self.group
        for settings in self.optimiser.param_groups:
            settings["lr"] = config.learning_rate_at(step)
        if group.size > 1:
            # Each process draws its own dropout; drawn anew, it does not depend on restarts.
            torch.manual_seed(derive_seed(config.seed, self.task.name, "draws", step, group.rank))
        self.network.train()
        with autocast(self.precision, self.device):
            logits = self.task.forward(self.network, batch)
        count = None
        if group.size > 1:
            count = group.sum(count_outputs(batch.targets, batch.valid))
        loss = weighted_cross_entropy(logits, batch.targets, config.pos_weight, batch.valid, count)
        # Gradients are summed over the processes, so only one of them adds the penalty.
        objective = loss + self._penalty() if group.is_main else loss
        self.optimiser.zero_grad(set_to_none=True)
        objective.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        group.sum_all([*gradients, loss])
        if config.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
        self.optimiser.step()
        self._counts.update(logits.detach(), batch.targets, batch.valid)
        self._unread.append(loss)

    def read(self, step: int) -> None:
        """Read the losses of the steps since the last call; `step` have been done.

        Raises:
            TrainingDiverged: One of them is not a finite number.
        """
        losses = [float(loss) for loss in self._unread]
        for position, loss in enumerate(losses, start=step - len(losses) + 1):
            self._loss_sum += loss
            if not math.isfinite(self._loss_sum):
                raise TrainingDiverged(
                    self.task.label,
                    f"the loss is {loss} at step {position}",
                    "Lower training.learning_rate, or set training.gradient_clip, "
                    f"and begin anew with {self.task.name}.training.restart=true",
                )
        self._n_losses += len(losses)
        self._unread = []

    def scalars(self, step: int) -> dict[str, float]:
        """Return mean loss and scores since the last call, and the learning rate; begin anew.

        All processes call this, after `read`.
        """
        if self._counts.sums is not None:
            self.group.sum(self._counts.sums)
        values = {
            "loss": self._loss_sum / max(self._n_losses, 1),
            **self._counts.scores(),
            "learning_rate": self.task.training.learning_rate_at(step - 1),
        }
        self._reset()
        return values

    def note(self) -> str:
        """Return loss and scores (on this process's rows) for the progress line."""
        if not self._n_losses:
            return ""
        scores = self._counts.scores()
        return (
            f"loss {self._loss_sum / self._n_losses:.4f}, P {scores['precision']:.3f}, "
            f"R {scores['recall']:.3f}, F1 {scores['f1']:.3f}"
        )
