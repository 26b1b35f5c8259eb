"""Trains and ranks one variant with one seed; a killed one goes on, a finished one is kept.

<folder>/step-0000100/ ...  checkpoints      <folder>/best/         the chosen one
<folder>/events/            for TensorBoard  <folder>/evaluations/  of the ranking
<folder>/training.json      the training     <folder>/result.json   written last
<folder>/key.json           of which         <folder>/previous/     of former settings
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from amt_pipeline import __version__
from amt_pipeline.core.errors import UserError
from amt_pipeline.core.files import locked, read_json, write_json
from amt_pipeline.core.values import finite_or_none
from amt_pipeline.ranking.rank import RankingOutcome, rank_checkpoints
from amt_pipeline.search.variant import (
    RESULT_FILE,
    VariantJob,
    VariantResult,
    read_result,
    training_key,
)
from amt_pipeline.training.channel import open_task
from amt_pipeline.training.checkpoints import list_checkpoints
from amt_pipeline.training.event_files import EventReporter
from amt_pipeline.training.result import TrainingResult
from amt_pipeline.training.run import (
    EVALUATIONS_FOLDER,
    EVENTS_FOLDER,
    MOVING_FILE,
    finish_setting_aside,
    set_aside,
)
from amt_pipeline.training.run import RESULT_FILE as TRAINING_FILE
from amt_pipeline.training.task import Task

logger = logging.getLogger(__name__)

CLOCK_FILE = "seconds.json"
CLOCK_EVERY_S = 10.0
"""How often the seconds spent are written down: a killed start loses so much of the count."""

KEY_FILE = "key.json"
"""Which training lies in the folder: its `training_key`, written before its first step."""

LOCK_FILE = "lock"


def run_variant(job: VariantJob) -> VariantResult:
    """Train a variant and rank its checkpoints, or return what an earlier run made of it.

    Returns:
        The result, also in `result.json`. A training that diverged is a result: with the same seed
        it would diverge again.

    Raises:
        TrainingInterrupted: Stopped by a signal, after saving.
        StorageError: The disk refused.
        UserError: Data or settings are at fault.
    """
    from amt_pipeline.training.trainer import TrainingDiverged

    # A cluster may give one job to two workers.
    with locked(job.folder / LOCK_FILE):
        if (known := read_result(job)) is not None:
            return known
        task = open_task(job.recipe)
        task.label = job.label
        try:
            training, seconds = _train(task, job)
        except TrainingDiverged as error:
            result = _result(job, task, status="diverged", reason=error.problem)
        else:
            result = _ranked(job, task, training, seconds)
        write_json(job.folder / RESULT_FILE, result.as_json())
        return result


def _train(task: Task, job: VariantJob) -> tuple[TrainingResult, float]:
    """Return the training's result and the seconds it took."""
    from amt_pipeline.training.launch import start_training
    from amt_pipeline.training.loop import train
    from amt_pipeline.training.members import plan_processes

    # In a worker of a cluster that srun started, one process may train as always.
    start = start_training if plan_processes(task.training).total > 1 else train
    key = training_key(task)
    _make_way(job.folder, key)
    clock = _Clock(job.folder / CLOCK_FILE, key)
    with EventReporter(job.folder / EVENTS_FOLDER) as events:
        try:
            return start(task, job.folder, _Reporter(events, clock)), clock.stop()
        finally:
            clock.write()


def _make_way(folder: Path, key: str) -> None:
    """Set a training with another key aside, so that what comes of this one is as if it were alone.

    A shorter one, or one that kept fewer checkpoints, would else be gone on with, and its
    checkpoints be ranked among those of this one.
    """
    if (folder / MOVING_FILE).is_file():
        finish_setting_aside(folder)
    if _key_of(folder) == key:
        return
    if (folder / TRAINING_FILE).is_file() or list_checkpoints(folder):
        logger.info("A training with other settings is now in %s", set_aside(folder))
    write_json(folder / KEY_FILE, {"key": key})


def _key_of(folder: Path) -> Any:
    try:
        return read_json(folder / KEY_FILE)["key"]
    except (UserError, KeyError, TypeError):  # none, or damaged
        return None


def _ranked(job: VariantJob, task: Task, training: TrainingResult, seconds: float) -> VariantResult:
    # Its warnings are in the result; dozens of trainings would fill the screen with them.
    with _without_warnings(logging.getLogger(rank_checkpoints.__module__)):
        outcome = rank_checkpoints(
            task,
            job.folder,
            job.folder / "best",
            job.folder / EVALUATIONS_FOLDER,
            job.ranking,
            job.evaluation,
            trained_on=training.fingerprint,
        )
    best = outcome.best
    return _result(
        job,
        task,
        status="finished",
        parameters=training.parameters,
        steps=training.steps,
        windows=training.windows,
        batch_size=task.training.batch_size,
        seconds=round(seconds, 3),
        chosen_step=best["step"],
        validation=best["validation"],
        train=best["train"],
        per_unit=_per_unit(outcome),
        history=[finite_or_none(row) for row in training.history],
        curve=_curve(outcome),
        warnings=best["warnings"],
        config=training.config,
        data=training.fingerprint,
        device=f"{training.device}, {training.precision}",
    )


def _result(job: VariantJob, task: Task, **fields: Any) -> VariantResult:
    return VariantResult(
        name=job.name,
        seed=job.seed,
        settings=job.settings,
        task=task.name,
        unit=task.unit,
        metric=task.objective.metric,
        version=__version__,
        key=job.key,
        **fields,
    )


def _per_unit(outcome: RankingOutcome) -> dict[str, float | None]:
    table, metric = outcome.per_unit, outcome.best["metric"]
    chosen = table[table["step"] == outcome.best["step"]]
    scores = dict(zip(chosen["unit"].astype(str), chosen[metric].astype(float), strict=True))
    plain: dict[str, float | None] = finite_or_none(scores)
    return plain


def _curve(outcome: RankingOutcome) -> list[dict[str, float | None]]:
    metric = outcome.best["metric"]
    rows = outcome.table.sort_values("step")[["step", metric]].to_dict("records")
    return [finite_or_none({"step": int(row["step"]), metric: row[metric]}) for row in rows]


@contextmanager
def _without_warnings(log: logging.Logger) -> Iterator[None]:
    def keep(record: logging.LogRecord) -> bool:
        return record.levelno != logging.WARNING

    log.addFilter(keep)
    try:
        yield
    finally:
        log.removeFilter(keep)


class _Reporter:
    """Passes scalars on, and lets the clock look at the time."""

    def __init__(self, events: EventReporter, clock: _Clock) -> None:
        self._events, self._clock = events, clock

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._events.scalars(values, step)
        self._clock.tick()

    def file(self, path: str | PathLike[str], folder: str = "") -> None:
        """Ignore the file."""


class _Clock:
    """Seconds spent on a training over all its starts, kept in a file."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._started_s = self._written_s = time.monotonic()
        self._before_s = 0.0
        try:
            kept = read_json(path)
            self._before_s = float(kept["seconds"]) if kept["key"] == key else 0.0
        except (UserError, KeyError, TypeError, ValueError):
            pass  # the first start

    def tick(self) -> None:
        if time.monotonic() - self._written_s >= CLOCK_EVERY_S:
            self.write()

    def stop(self) -> float:
        return self._before_s + time.monotonic() - self._started_s

    def write(self) -> None:
        self._written_s = time.monotonic()
        write_json(self._path, {"key": self._key, "seconds": round(self.stop(), 3)})
