"""The MLflow run of this process, and the reporter that training writes to.

One run per `kedro run`, opened and ended by `hooks.RunTrackingHook`. Nodes ask for a reporter here
and hand it to the engine, which knows neither MLflow nor TensorBoard.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from amt_pipeline.core.closing import Closing
from amt_pipeline.core.errors import UserError
from amt_pipeline.mlflow_run import MlflowRun, Status, flatten
from amt_pipeline.training.event_files import EventReporter

logger = logging.getLogger(__name__)


class RunReporter(Closing):
    """Writes scalars to MLflow and TensorBoard, files to MLflow; either may be missing."""

    def __init__(
        self, run: MlflowRun | None, event_folder: Path | None, namespace: str = ""
    ) -> None:
        self._run = run
        self._namespace = f"{namespace}/" if namespace else ""
        self._events = EventReporter(event_folder) if event_folder is not None else None

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics, keyed by path such as `train/loss`, at a training step."""
        if self._run is not None:
            self._run.scalars({f"{self._namespace}{key}": values[key] for key in values}, step)
        if self._events is not None:
            self._events.scalars(values, step)

    def file(self, path: str | PathLike[str], folder: str = "") -> None:
        """Record a finished file or folder as an artefact, under `folder`."""
        if self._run is not None:
            self._run.file(path, folder)

    def close(self) -> None:
        """Write what is held back; calling it twice is harmless."""
        if self._run is not None:
            self._run.flush()
        if self._events is not None:
            self._events.close()


class _Current:
    """The run of this process and its open reporters; Kedro runs one pipeline at a time."""

    def __init__(self) -> None:
        self.run: MlflowRun | None = None
        self.reporters: list[RunReporter] = []


_current = _Current()


def begin_run(run: MlflowRun | None) -> None:
    """Make `run` the one that reporters write to; a stray earlier one ends as killed."""
    end_run("KILLED")
    _current.run = run


def end_run(status: Status, error: str = "") -> None:
    """End the current run, if there is one, and close its reporters."""
    run, reporters = _current.run, _current.reporters
    _current.run, _current.reporters = None, []
    for reporter in reporters:
        try:
            reporter.close()
        except UserError as refused:  # the work is done; its event file must not undo that
            logger.warning("An event file was not closed: %s", refused)
    if run is not None:
        run.finish(status, error)


def log_parameters(values: Mapping[str, Any]) -> None:
    """Record settings as they were resolved: what a preset and its overrides came to.

    Args:
        values: Nested settings; recorded flat as `resolved.<name>`. In one run a name always has
            the same value: MLflow takes no other.
    """
    if _current.run is not None:
        _current.run.params(flatten("resolved", values))


def record_child(
    name: str,
    *,
    tags: Mapping[str, str],
    parameters: Mapping[str, Any],
    history: Iterable[Mapping[str, float | None]] = (),
    scores: Mapping[str, float | None] | None = None,
    error: str = "",
) -> None:
    """Record work that is done as a run of its own, nested under the current one.

    Nothing is done when no run is open; what MLflow does wrong is a warning.

    Args:
        name: Of the run.
        tags: What it is known by.
        parameters: Nested settings, recorded flat.
        history: Metrics by name, with `step`; None is left out.
        scores: Final metrics.
        error: Why it failed; empty when it did not.
    """
    child = _current.run.start_child(name, tags) if _current.run is not None else None
    if child is None:
        return
    child.params(flatten("", parameters))
    for row in history:
        values = {key: value for key, value in row.items() if key != "step" and value is not None}
        child.scalars(values, int(row["step"] or 0))
    known = {key: value for key, value in (scores or {}).items() if value is not None}
    child.scalars(known, 0)
    child.finish("FAILED" if error else "FINISHED", error)


def current_reporter(event_folder: Path | None, namespace: str = "") -> RunReporter:
    """Return a reporter for the work of a node.

    Args:
        event_folder: Where TensorBoard event files go; None for none. The file is opened with the
            first scalars: until then a training may still set a former run aside.
        namespace: Task whose metrics these are. One MLflow run holds those of all tasks, so there
            it precedes their keys; event folders are apart as they are.

    Returns:
        A reporter (and context manager) connected to the MLflow run, if one is open; it is closed
        with the run at the latest.
    """
    reporter = RunReporter(_current.run, event_folder, namespace)
    _current.reporters.append(reporter)
    return reporter
