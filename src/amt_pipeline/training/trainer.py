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
from amt_pipeline.training.evaluation import validation_scores
from amt_pipeline.training.losses import L2Penalty
from amt_pipeline.training.schedule import Schedule
from amt_pipeline.training.task import Batch, Task

if TYPE_CHECKING:
    from torch import Tensor


SHORT = {"precision": "P", "recall": "R", "f1": "F1"}
"""Names of scores on the progress line."""


class TrainingDiverged(UserError):
    """The loss is no longer a number; no later step can mend that."""


class Trainer:
    """A network, its optimiser, and the loss and scores since they were last asked for.

    Args:
        task: What is trained.
        schedule: The learning rates.
        device: Where; the network is moved there.
        precision: Arithmetic of the forward pass, `float32` or `bfloat16`.
        group: The processes that share each batch.
    """

    def __init__(
        self, task: Task, schedule: Schedule, device: torch.device, precision: str, group: Group
    ) -> None:
        config = task.training
        torch.manual_seed(derive_seed(config.seed, task.name, "weights"))
        network = task.build_network().to(device)
        self.task, self.schedule, self.objective = task, schedule, task.objective
        self.device, self.precision, self.group = device, precision, group
        self.network = network if group.size == 1 else share_batch_norm(network)
        make = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimiser]
        self.optimiser = make(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.n_parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
        self._penalty = L2Penalty(network, config.conv_l2, config.dense_l2)
        self._reset()

    def _reset(self) -> None:
        self._counts, self._loss_sum, self._n_losses = self.objective.running(), 0.0, 0
        self._unread: list[Tensor] = []

    def step(self, step: int, batch: Batch) -> None:
        """Take a step of Adam on this process's rows of the batch of `step`.

        Nothing here waits for a GPU to be done: `read` does.
        """
        config, group = self.task.training, self.group
        for settings in self.optimiser.param_groups:
            settings["lr"] = self.schedule.rate(step)
        if group.size > 1:
            # Each process draws its own dropout; drawn anew, it does not depend on restarts.
            torch.manual_seed(derive_seed(config.seed, self.task.name, "draws", step, group.rank))
        self.network.train()
        with autocast(self.precision, self.device):
            logits = self.task.forward(self.network, batch)
        count = None
        if group.size > 1:
            count = group.sum(self.objective.count(batch))
        loss = self.objective.loss(logits, batch, count)
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
            "learning_rate": self.schedule.rate(step - 1),
        }
        self._reset()
        return values

    def validate(self) -> dict[str, float]:
        """Return `validation/<score>` over the validation split, and tell the schedule of it.

        All processes call this; the main one evaluates.
        """
        scores = self.group.from_main(
            lambda: validation_scores(self.task, self.network, self.device, self.precision)
        )
        if scores:
            self.schedule.validated(scores[self.objective.metric])
        finite = {name: value for name, value in scores.items() if math.isfinite(value)}
        return {f"validation/{name}": value for name, value in finite.items()}

    def note(self) -> str:
        """Return loss and scores (on this process's rows) for the progress line."""
        if not self._n_losses:
            return ""
        scores = [f"{SHORT.get(k, k)} {v:.3f}" for k, v in self._counts.scores().items()]
        return ", ".join([f"loss {self._loss_sum / self._n_losses:.4f}", *scores])
