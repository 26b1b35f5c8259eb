"""The training loop, to be read from top to bottom.

A run that is killed at any point and started again ends, on the CPU, with the same weights to the
bit as one that was not: batches, augmentation and learning rate are pure functions of the step, and
a checkpoint holds everything else that changes (weights, Adam's moments, torch's random state).

Several processes share each batch (`training.distributed`): all of them run this loop, and the main
one of them reads and writes the folder.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path

from amt_pipeline import __version__
from amt_pipeline.core.errors import CorpusError, storage_error
from amt_pipeline.core.files import remove_leftovers, write_json
from amt_pipeline.core.progress import Progress
from amt_pipeline.core.reporter import NullReporter, Reporter
from amt_pipeline.training.checkpoints import (
    CheckpointState,
    list_checkpoints,
    load_training_state,
    read_state,
    save_checkpoint,
)
from amt_pipeline.training.device import prepare_processor, resolve_device, resolve_precision
from amt_pipeline.training.distributed import ALONE, Group
from amt_pipeline.training.feed import open_feed
from amt_pipeline.training.interrupt import InterruptGuard
from amt_pipeline.training.result import TrainingInterrupted, TrainingResult
from amt_pipeline.training.run import RESULT_FILE, find_resume_point, prune_checkpoints
from amt_pipeline.training.schedule import replay
from amt_pipeline.training.stream import WindowStream
from amt_pipeline.training.task import Batch, Task
from amt_pipeline.training.trainer import Trainer

logger = logging.getLogger(__name__)

READ_EVERY_STEPS = {"cpu": 1, "cuda": 10}
"""Steps between looks at the loss and at Ctrl+C: a look waits for a GPU, which then runs empty."""


def train(
    task: Task,
    folder: Path,
    reporter: Reporter | None = None,
    group: Group = ALONE,
    *,
    begun: bool = False,
) -> TrainingResult:
    """Train a task's network, or go on where a former start stopped.

    Args:
        task: What to train, with its hyper-parameters.
        folder: Where checkpoints and the result go.
        reporter: Who is told of scalars, by the main process; nobody by default.
        group: The processes that share each batch; all of them call this.
        begun: Whether the same command has trained already, before a process died: then what
            `training.restart` asks for is done, and the run in `folder` is the one to go on with.

    Returns:
        The result, also in `training.json`.

    Raises:
        ResumeError: An unfinished run with other settings lies in `folder`.
        CorpusError: The training split holds no window.
        TrainingInterrupted: Stopped by a signal, after saving (also when training was complete).
        TrainingDiverged: The loss became infinite or NaN.
        StorageError: The disk refused a checkpoint.
    """
    config = task.training
    run = _Run(task, folder, reporter or NullReporter(), group)
    restart = config.restart and not begun
    first_step, total_steps, size = run.resume(restart), run.total_steps, config.batch_size
    read_every = READ_EVERY_STEPS[run.trainer.device.type]
    # Scalars are reported at every save too, so that a resumed run reports the same ones.
    saves = config.steps_at(config.save_every_steps, run.stream.epoch_size)
    validations = config.steps_at(config.validate_every_steps, run.stream.epoch_size)
    reports = saves | validations
    steps = range(first_step, total_steps)
    progress = Progress(task.label, total_steps * size, "window", first_step * size)
    with (
        progress,
        open_feed(task, run.make_batch, steps, run.trainer.device) as feed,
        InterruptGuard() as interrupt,
    ):
        for step in steps:
            run.trainer.step(step, feed.batch(step))
            done = step + 1
            due = done in reports or done % config.log_every_steps == 0
            if not due and done % read_every:
                progress.advance(size)
                continue
            run.trainer.read(done)
            if due:
                run.report(done, feed.wait_s, validate=done in validations)
            progress.advance(size, run.trainer.note())
            # Looked at once: a signal after the save must not end the run without another one.
            stop = group.any(interrupt.requested) and done < total_steps
            if done in saves:
                run.save(done, regular=True)
            elif stop:
                run.save(done, regular=False)
            if stop:
                raise TrainingInterrupted(
                    task.label,
                    f"stopped at step {done} of {total_steps}, saved in {folder}",
                    "Run the same command again to go on"
                    + (f", without {task.name}.training.restart=true" if config.restart else ""),
                ).by(interrupt.signal_number)

    result = group.from_main(run.finish)
    if group.any(interrupt.requested):
        # Asked for in the last step: nothing is left to train, but nothing may follow either.
        raise TrainingInterrupted(
            task.label,
            f"training is complete at step {total_steps}, saved in {folder}; nothing more was done",
            "Run the same command again to go on with what follows",
        ).by(interrupt.signal_number)
    return result


class _Run:
    """A run on disk and in memory: where it stands, what it saves and reports."""

    def __init__(self, task: Task, folder: Path, reporter: Reporter, group: Group) -> None:
        self.task, self.folder, self.reporter, self.group = task, folder, reporter, group
        config = task.training
        device = group.own_device(resolve_device(config.device))
        precision = resolve_precision(config.precision, device)
        self.threads = prepare_processor(config.threads)
        self.stream = WindowStream(task)
        if self.stream.epoch_size == 0:
            remedy = "Check the training split's notes"
            raise CorpusError(task.name, "has no training windows", remedy)
        self.total_steps = config.total_steps(self.stream.epoch_size)
        self.identity = {
            **task.describe(),
            "training": config.identity(),
            "data": task.fingerprint(),
        }
        schedule = config.schedule_of(self.stream.epoch_size)
        self.trainer = Trainer(task, schedule, device, precision, group)
        self.history: list[dict[str, float]] = []

    def resume(self, restart: bool) -> int:
        """Load the newest whole checkpoint, if there is one; return the step to go on from.

        Args:
            restart: Set an unfinished run aside instead.
        """
        task, trainer, first_step = self.task, self.trainer, 0
        checkpoint = self.group.from_main(lambda: self._find_checkpoint(restart))
        if checkpoint is not None:
            first_step = read_state(checkpoint).step
            self.history = load_training_state(checkpoint, trainer.network, trainer.optimiser)
            replay(trainer.schedule, self.history, f"validation/{trainer.objective.metric}")
            words = "going on from step %d of %d"
            if first_step == self.total_steps:
                words = "complete at step %d of %d, nothing is left to train"
            logger.info("%s: " + words, task.label, first_step, self.total_steps)
        logger.info(
            "%s: %d weights, %d windows per epoch, %d steps on %s (%s, %d threads%s)",
            task.label, trainer.n_parameters, self.stream.epoch_size, self.total_steps,
            trainer.device, trainer.precision, self.threads,
            f", one of {self.group.size} processes" if self.group.size > 1 else "",
        )  # fmt: skip
        self._reported = first_step, 0.0, time.monotonic()
        return first_step

    def _find_checkpoint(self, restart: bool) -> Path | None:
        found = find_resume_point(
            self.folder,
            identity=self.identity,
            total_steps=self.total_steps,
            restart=restart,
            # Data that cannot be read must not cost a finished run its place.
            check=lambda: self.make_batch(0),
        )
        try:
            remove_leftovers(self.folder)
            if found is not None:
                # We may have been killed between saving it and this.
                keep = self.task.training.keep
                prune_checkpoints(self.folder, keep, read_state(found).step)
            if found is None or read_state(found).step < self.total_steps:
                (self.folder / RESULT_FILE).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.folder, error) from error
        return found

    def make_batch(self, step: int) -> Batch:
        """Return this process's rows of the batch of `step`."""
        rows = self.group.rows(self.task.training.batch_size)
        return self.task.training_batch(self.stream.batch(step), step, rows)

    def report(self, step: int, waited_s: float, *, validate: bool) -> None:
        """Report the scalars since the last report.

        Args:
            step: Steps done.
            waited_s: Seconds spent on waiting for batches since the start.
            validate: Whether the validation split is looked at, too.
        """
        values = self.trainer.scalars(step)
        elapsed_s = max(time.monotonic() - self._reported[2], 1e-9)
        validation = self.trainer.validate() if validate else {}
        self.history.append({"step": step, **values, **validation})
        step_before, waited_before_s, _ = self._reported
        windows = (step - step_before) * self.task.training.batch_size
        speed = {
            "windows_per_second": windows / elapsed_s,
            "feed_wait_fraction": (waited_s - waited_before_s) / elapsed_s,
        }
        scalars = {f"train/{key}": value for key, value in {**values, **speed}.items()}
        self.reporter.scalars({**scalars, **validation}, step)
        self._reported = step, waited_s, time.monotonic()

    def save(self, step: int, *, regular: bool) -> None:
        """Save a checkpoint, in the main process."""
        if not self.group.is_main:
            return
        metrics = dict(self.history[-1]) if self.history else {}
        state = CheckpointState(
            step, regular, self.identity, self.task.fingerprint(), metrics, __version__
        )
        save_checkpoint(
            self.folder,
            state=state,
            network=self.trainer.network,
            optimiser=self.trainer.optimiser,
            history=self.history,
        )
        prune_checkpoints(self.folder, self.task.training.keep, step)

    def finish(self) -> TrainingResult:
        """Write and return the result."""
        task, trainer = self.task, self.trainer
        result = TrainingResult(
            task=task.name,
            steps=self.total_steps,
            windows=self.stream.epoch_size,
            parameters=trainer.n_parameters,
            checkpoints=[path.name for path in list_checkpoints(self.folder)],
            device=str(trainer.device),
            processes=self.group.size,
            precision=trainer.precision,
            fingerprint=task.fingerprint(),
            config={**task.describe(), "training": task.training.model_dump()},
            history=self.history,
        )
        write_json(self.folder / RESULT_FILE, asdict(result))
        return result
