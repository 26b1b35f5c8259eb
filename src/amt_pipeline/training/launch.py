"""Starts a training: in this process, or in several on this and on other machines.

Several processes are started by torchrun, which starts all of them again when one dies. This
process waits for them: it passes on what the main one of them logs and reports, asks them to stop
on Ctrl+C, and raises the mistake that ended them as if it had trained itself.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from pathlib import Path

from amt_pipeline.core.errors import ConfigError, UserError
from amt_pipeline.core.files import read_json
from amt_pipeline.core.reporter import NullReporter, Reporter
from amt_pipeline.training import channel
from amt_pipeline.training.interrupt import InterruptGuard
from amt_pipeline.training.members import Members, Plan, plan_processes
from amt_pipeline.training.result import TrainingInterrupted, TrainingResult
from amt_pipeline.training.run import RESULT_FILE
from amt_pipeline.training.task import Task
from amt_pipeline.training.worker import PEER_LOST

logger = logging.getLogger(__name__)

LAUNCH_FOLDER = "launch"
"""Below the run's folder: what the processes tell each other, and torchrun's own log."""

POLL_S = 0.2


class TrainingProcessLost(UserError):
    """Processes died more often than they may be started again."""


def start_training(task: Task, folder: Path, reporter: Reporter | None = None) -> TrainingResult:
    """Train a task's network in as many processes as its configuration says; see `loop.train`.

    Raises:
        ConfigError: More devices than there are, too small a batch, or this program itself was
            started several times at once by torchrun or srun.
    """
    _refuse_outer_launcher()
    plan = plan_processes(task.training)
    if plan.total > 1:
        return train_distributed(task, folder, reporter, plan)
    from amt_pipeline.training.loop import train

    return train(task, folder, reporter)


def train_distributed(
    task: Task, folder: Path, reporter: Reporter | None, plan: Plan
) -> TrainingResult:
    """Train in several processes, and wait for them.

    Args:
        task: What to train; the processes open it by its `recipe`.
        folder: Where checkpoints and the result go; all machines must see it.
        reporter: Who is told of scalars.
        plan: Which processes.

    Raises:
        UserError: What ended the training in one of them; see `loop.train`.
        TrainingProcessLost: They died too often.
        RuntimeError: A defect of ours in one of them, with its traceback.
    """
    if plan.total > task.training.batch_size:
        raise ConfigError(
            f"training.batch_size={task.training.batch_size}",
            f"is less than one window for each of {plan.total} processes",
            "Raise it, or lower training.devices",
        )
    launch = (folder / LAUNCH_FOLDER).absolute()
    spec = channel.open_channel(launch, folder, task)
    plan.log_other_machines(spec)
    logger.info("%s: starting %s", task.label, plan.description)
    with (
        Members(plan, spec) as members,
        channel.EventReader(launch, reporter or NullReporter()) as events,
        InterruptGuard() as interrupt,
    ):
        while members.running():
            events.follow()
            if interrupt.requested:
                members.ask_to_stop()
            time.sleep(POLL_S)
        events.follow()
    if (mistake := channel.read_error(launch)) is not None:
        shutil.rmtree(launch, ignore_errors=True)
        if isinstance(mistake, TrainingInterrupted):
            # The processes are asked to stop in another way, so only this one knows the signal.
            mistake.by(interrupt.signal_number)
        raise mistake
    if interrupt.requested:
        stopped = TrainingInterrupted(task.label, "stopped", "Run the same command again to go on")
        raise stopped.by(interrupt.signal_number)
    if members.exit_code:
        _raise_failure(task, launch)
    shutil.rmtree(launch, ignore_errors=True)
    return TrainingResult(**read_json(folder / RESULT_FILE))


def _raise_failure(task: Task, launch: Path) -> None:
    failures = launch / channel.FAILURES_FOLDER
    texts = [path.read_text() for path in sorted(failures.glob("*.txt"), reverse=True)]
    for text in texts:
        if not text.startswith(PEER_LOST):
            raise RuntimeError(f"a training process failed, torchrun's log is in {launch}:\n{text}")
    raise TrainingProcessLost(
        task.label,
        f"all processes were started {task.training.max_restarts + 1} times, and each time some "
        "were killed (most likely because memory ran out) or did not meet; torchrun's log is in "
        f"{launch}",
        "Run the same command again to go on, with fewer training.devices",
    )


def _refuse_outer_launcher() -> None:
    """Refuse to run once per process of an outer launcher: each would train by itself.

    Raises:
        ConfigError: It is so.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ or _number("WORLD_SIZE") > 1:
        outer = "torchrun"
    elif _number("SLURM_STEP_NUM_TASKS") > 1:
        outer = "srun"
    else:
        return
    raise ConfigError(
        outer,
        "started this command in several processes, each of which would train by itself",
        "Start it once (in a SLURM job: without srun), with training.devices and training.nodes: "
        "it starts the processes, and says what to start on other machines",
    )


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 1
