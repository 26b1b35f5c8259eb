"""The training loop, to be read from top to bottom.

A run that is killed at any point and started again ends, on the CPU, with the same weights to the
bit as one that was not: batches, augmentation and learning rate are pure functions of the step, and
a checkpoint holds everything else that changes (weights, Adam's moments, torch's random state).
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline import __version__
from amt_pipeline.core.errors import CorpusError, UserError, storage_error
from amt_pipeline.core.files import remove_leftovers, write_json
from amt_pipeline.core.progress import Progress
from amt_pipeline.core.reporter import NullReporter, Reporter
from amt_pipeline.core.seeding import derive_seed
from amt_pipeline.store.windows import Windows
from amt_pipeline.training.checkpoints import (
    CheckpointState,
    list_checkpoints,
    load_training_state,
    read_state,
    save_checkpoint,
)
from amt_pipeline.training.device import autocast, resolve_device, resolve_precision, set_threads
from amt_pipeline.training.interrupt import InterruptGuard
from amt_pipeline.training.losses import L2Penalty, weighted_cross_entropy
from amt_pipeline.training.metrics import BinaryCounts
from amt_pipeline.training.run import RESULT_FILE, find_resume_point, prune_checkpoints
from amt_pipeline.training.task import Task

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer

logger = logging.getLogger(__name__)


class TrainingInterrupted(UserError):
    """The run was asked to stop, and saved itself."""


class TrainingDiverged(UserError):
    """The loss is no longer a number; no later step can mend that."""


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
    precision: str
    fingerprint: str
    config: dict[str, Any]
    history: list[dict[str, float]]


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


def train(task: Task, folder: Path, reporter: Reporter | None = None) -> TrainingResult:
    """Train a task's network, or go on where a former start stopped.

    Args:
        task: What to train, with its hyper-parameters.
        folder: Where checkpoints and the result go.
        reporter: Who is told of scalars; nobody by default.

    Returns:
        The result, also in `training.json`.

    Raises:
        ResumeError: An unfinished run with other settings lies in `folder`.
        CorpusError: The training split holds no window.
        TrainingInterrupted: Stopped by a signal, after saving (also when training was complete).
        TrainingDiverged: The loss became infinite or NaN.
        StorageError: The disk refused a checkpoint.
    """
    import torch

    config, reporter = task.training, reporter or NullReporter()
    device = resolve_device(config.device)
    precision = resolve_precision(config.precision, device)
    threads = set_threads(config.threads)

    stream = WindowStream(task)
    if stream.epoch_size == 0:
        raise CorpusError(task.name, "has no training windows", "Check the training split's notes")
    total_steps = config.total_steps(stream.epoch_size)
    identity = {**task.describe(), "training": config.identity(), "data": task.fingerprint()}

    torch.manual_seed(derive_seed(config.seed, task.name, "weights"))
    network = task.build_network().to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    run = _Run(task, network, optimiser, stream, device, precision, reporter)

    resume_from = find_resume_point(
        folder, identity=identity, total_steps=total_steps, restart=config.restart
    )
    first_step = 0 if resume_from is None else read_state(resume_from).step
    if resume_from is not None:
        run.history = load_training_state(resume_from, network, optimiser)
        logger.info("%s: going on from step %d of %d", task.label, first_step, total_steps)
    logger.info(
        "%s: %d weights, %d windows per epoch, %d steps on %s (%s, %d threads)",
        task.label, run.n_parameters, stream.epoch_size, total_steps, device, precision, threads,
    )  # fmt: skip

    def save(step: int, *, regular: bool) -> None:
        state = CheckpointState(
            step, regular, identity, task.fingerprint(), run.last_metrics(), __version__
        )
        save_checkpoint(
            folder, state=state, network=network, optimiser=optimiser, history=run.history
        )
        prune_checkpoints(folder, config.keep, step)

    try:
        remove_leftovers(folder)
        if first_step < total_steps:
            (folder / RESULT_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    # Scalars are reported at every save too, so that a resumed run reports the same ones.
    saves = {*range(config.save_every_steps, total_steps, config.save_every_steps), total_steps}
    progress = Progress(
        task.label, total_steps * config.batch_size, "window", first_step * config.batch_size
    )
    with progress, InterruptGuard() as interrupt:
        for step in range(first_step, total_steps):
            run.train_step(step)
            done = step + 1
            if done in saves or done % config.log_every_steps == 0:
                run.log(done)
            progress.advance(config.batch_size, run.note())
            # Looked at once: a signal after the save must not end the run without another one.
            stop = interrupt.requested and done < total_steps
            if done in saves:
                save(done, regular=True)
            elif stop:
                save(done, regular=False)
            if stop:
                raise TrainingInterrupted(
                    task.label,
                    f"stopped at step {done} of {total_steps}, saved in {folder}",
                    "Run the same command again to go on"
                    + (", without training.restart=true" if config.restart else ""),
                )

    result = TrainingResult(
        task=task.name,
        steps=total_steps,
        windows=stream.epoch_size,
        parameters=run.n_parameters,
        checkpoints=[path.name for path in list_checkpoints(folder)],
        device=str(device),
        precision=precision,
        fingerprint=task.fingerprint(),
        config={**task.describe(), "training": config.model_dump()},
        history=run.history,
    )
    write_json(folder / RESULT_FILE, asdict(result))
    if interrupt.requested:
        # Asked for in the last step: nothing is left to train, but nothing may follow either.
        raise TrainingInterrupted(
            task.label,
            f"training is complete at step {total_steps}, saved in {folder}; nothing more was done",
            "Run the same command again to go on with what follows",
        )
    return result


class _Run:
    """The moving parts of a run and what one step does with them."""

    def __init__(
        self,
        task: Task,
        network: nn.Module,
        optimiser: Optimizer,
        stream: WindowStream,
        device: torch.device,
        precision: str,
        reporter: Reporter,
    ) -> None:
        self.task, self.network, self.optimiser, self.stream = task, network, optimiser, stream
        self.device, self.precision, self.reporter = device, precision, reporter
        self.penalty = L2Penalty(network, task.training.conv_l2, task.training.dense_l2)
        self.n_parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
        self.history: list[dict[str, float]] = []
        self._reset()

    def _reset(self) -> None:
        self.counts, self.losses, self.started_s = BinaryCounts(), [0.0, 0.0], time.monotonic()

    def train_step(self, step: int) -> None:
        """One step of Adam on the batch of `step`."""
        import torch

        config = self.task.training
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate_at(step)
        batch = self.task.training_batch(self.stream.batch(step), step).to(self.device)
        self.network.train()
        with autocast(self.precision, self.device):
            logits = self.task.forward(self.network, batch)
        loss = weighted_cross_entropy(logits, batch.targets, config.pos_weight, batch.valid)
        objective = loss + self.penalty()
        self.optimiser.zero_grad(set_to_none=True)
        objective.backward()  # type: ignore[no-untyped-call]
        if config.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
        self.optimiser.step()
        self.counts.update(logits.detach(), batch.targets, batch.valid)
        self.losses = [self.losses[0] + float(loss.detach()), self.losses[1] + 1]
        if not math.isfinite(self.losses[0]):
            raise TrainingDiverged(
                self.task.label,
                f"the loss is {float(loss.detach())} at step {step + 1}",
                "Lower training.learning_rate, or set training.gradient_clip, "
                "and begin anew with training.restart=true",
            )

    def log(self, step: int) -> None:
        """Report the scalars since the last report."""
        config = self.task.training
        elapsed_s = max(time.monotonic() - self.started_s, 1e-9)
        values = {
            "loss": self.losses[0] / max(self.losses[1], 1),
            **self.counts.scores(),
            "learning_rate": config.learning_rate_at(step - 1),
        }
        self.history.append({"step": step, **values})
        rate = self.losses[1] * config.batch_size / elapsed_s
        scalars = {f"train/{key}": value for key, value in values.items()}
        self.reporter.scalars({**scalars, "train/windows_per_second": rate}, step)
        self._reset()

    def last_metrics(self) -> dict[str, float]:
        """Return the scalars reported last."""
        return dict(self.history[-1]) if self.history else {}

    def note(self) -> str:
        """Return loss and running scores for the progress line."""
        if not self.losses[1]:
            return ""
        scores = self.counts.scores()
        return (
            f"loss {self.losses[0] / self.losses[1]:.4f}, P {scores['precision']:.3f}, "
            f"R {scores['recall']:.3f}, F1 {scores['f1']:.3f}"
        )
