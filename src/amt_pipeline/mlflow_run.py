"""An MLflow run that cannot do harm.

Tracking never decides whether a run succeeds: whatever MLflow does wrong becomes one warning, after
which the run goes on without it. MLflow is imported when the first run starts (about a second), and
only its client is used, with the address of this run's store: the process-wide "active run" and
tracking address of its other interface would leak from one Kedro session into the next.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from amt_pipeline.core.errors import ConfigError

logger = logging.getLogger(__name__)

Status = Literal["FINISHED", "FAILED", "KILLED"]

FLUSH_EVERY_S = 1.0
# Limits of one MLflow request: names, values and number of entries.
MAX_KEY_CHARS = 250
MAX_PARAM_CHARS = 6000
MAX_TAG_CHARS = 5000
MAX_PARAMS_PER_BATCH = 100
MAX_METRICS_PER_BATCH = 1000
# A server that does not answer may cost seconds, not MLflow's default of many minutes.
MLFLOW_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
SQLITE_PREFIX = "sqlite:///"
STORE_WAIT_S = 120.0
"""How long a run waits for another one that makes the store."""
PARENT_TAG = "mlflow.parentRunId"


class TrackingSettings(BaseModel):
    """What `conf/<env>/mlflow.yml` says.

    Attributes:
        enabled: Whether runs are recorded at all.
        tracking_uri: Store of the runs; a relative sqlite path lies under the project.
        experiment: Name of the MLflow experiment.
        artifact_location: Folder of the artefacts of a local store, relative to the project; a
            server decides for itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    tracking_uri: str = f"{SQLITE_PREFIX}mlflow.db"
    experiment: str = "amt_pipeline"
    artifact_location: str = "mlartifacts"


def resolve_settings(
    conf: Mapping[str, Any], runtime: Mapping[str, Any], project_path: Path
) -> TrackingSettings:
    """Merge the sources of the tracking settings; later ones win.

    Args:
        conf: `mlflow.yml`; overridden by the environment variable `MLFLOW_TRACKING_URI`.
        runtime: The `mlflow` group of `--params`, for instance `mlflow.enabled=false`.
        project_path: What relative paths are relative to.

    Raises:
        ConfigError: An unknown or ill-typed setting.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI")
    merged = {**conf, **({"tracking_uri": address} if address else {}), **runtime}
    try:
        settings = TrackingSettings.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        known = ", ".join(TrackingSettings.model_fields)
        raise ConfigError(f"mlflow.yml: {name}", first["msg"], f"Known are {known}") from error
    uri = settings.tracking_uri
    if uri.startswith(SQLITE_PREFIX):
        uri = SQLITE_PREFIX + str(project_path / uri.removeprefix(SQLITE_PREFIX))
    location = str(project_path / settings.artifact_location)
    return settings.model_copy(update={"tracking_uri": uri, "artifact_location": location})


class MlflowRun:
    """An open MLflow run; every call that fails warns once and closes it to further calls."""

    def __init__(self, client: Any, run_id: str, experiment_id: str) -> None:
        self.run_id = run_id
        self._client, self._experiment_id = client, experiment_id
        self._alive = True
        self._metrics: list[Any] = []
        self._flushed_s = time.monotonic()

    @classmethod
    def start(
        cls, settings: TrackingSettings, name: str, tags: Mapping[str, str]
    ) -> MlflowRun | None:
        """Start a run, or warn and return None."""
        for variable, value in MLFLOW_ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        try:
            with _alone_with(settings.tracking_uri):
                client = _open_client(settings.tracking_uri)
                experiment_id = _experiment_id(client, settings)
            short = {key: value[:MAX_TAG_CHARS] for key, value in tags.items()}
            run = client.create_run(experiment_id, tags=short, run_name=name)
        except Exception as error:
            logger.warning("This run is not tracked: MLflow cannot start (%s)", _first_line(error))
            return None
        return cls(client, run.info.run_id, experiment_id)

    def start_child(self, name: str, tags: Mapping[str, str]) -> MlflowRun | None:
        """Start a run that is shown below this one; None (and a warning) when that fails."""
        if not self._alive:
            return None
        own = {key: value[:MAX_TAG_CHARS] for key, value in tags.items()}
        try:
            run = self._client.create_run(
                self._experiment_id, tags={PARENT_TAG: self.run_id, **own}, run_name=name
            )
        except Exception as error:
            self._give_up(error)
            return None
        return MlflowRun(self._client, run.info.run_id, self._experiment_id)

    def params(self, values: Mapping[str, str]) -> None:
        """Record parameters, cut to what MLflow holds."""
        if not values:
            return
        from mlflow.entities import Param

        entries = [
            Param(key[:MAX_KEY_CHARS], text[:MAX_PARAM_CHARS]) for key, text in values.items()
        ]
        for start in range(0, len(entries), MAX_PARAMS_PER_BATCH):
            batch = entries[start : start + MAX_PARAMS_PER_BATCH]
            self._guard(partial(self._client.log_batch, self.run_id, params=batch))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics at a step; written about once a second, not at every call."""
        if not self._alive:
            return
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        self._metrics += [Metric(key, float(value), now_ms, step) for key, value in values.items()]
        if (
            time.monotonic() - self._flushed_s >= FLUSH_EVERY_S
            or len(self._metrics) >= MAX_METRICS_PER_BATCH
        ):
            self.flush()

    def flush(self) -> None:
        """Write the metrics that are still held back."""
        entries, self._metrics = self._metrics, []
        self._flushed_s = time.monotonic()
        for start in range(0, len(entries), MAX_METRICS_PER_BATCH):
            batch = entries[start : start + MAX_METRICS_PER_BATCH]
            self._guard(partial(self._client.log_batch, self.run_id, metrics=batch))

    def file(self, path: str | PathLike[str], folder: str = "") -> None:
        """Copy a finished file or folder to the run's artefacts, under `folder`."""
        source = Path(path)
        if source.is_dir():
            target = str(Path(folder) / source.name) if folder else source.name
            self._guard(partial(self._client.log_artifacts, self.run_id, str(source), target))
        else:
            self._guard(
                partial(self._client.log_artifact, self.run_id, str(source), folder or None)
            )

    def finish(self, status: Status, error: str = "") -> None:
        """Write what is held back and end the run."""
        self.flush()
        if error:
            self._guard(partial(self._client.set_tag, self.run_id, "error", error[:MAX_TAG_CHARS]))
        # Tried even after a failure: a store that was only busy then learns how the run ended.
        self._alive = True
        self._guard(partial(self._client.set_terminated, self.run_id, status))
        self._alive = False

    def _guard(self, call: Callable[[], Any]) -> None:
        if not self._alive:
            return
        try:
            call()
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._alive = False
        logger.warning(
            "Tracking stops here, the run goes on: MLflow failed (%s)", _first_line(error)
        )


def flatten(name: str, value: Any) -> dict[str, str]:
    """Flatten nested data to text by dotted name; lists become one JSON text."""
    return dict(_flattened(name, value))


def _flattened(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    elif is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flattened(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, (list, tuple)):
        yield name, json.dumps(value, default=str)
    else:
        yield name, str(value)


@contextmanager
def _alone_with(tracking_uri: str) -> Iterator[None]:
    """Let one process at a time make the tables of a local store: two at once spoil each other."""
    if not tracking_uri.startswith(SQLITE_PREFIX):
        yield
        return
    from filelock import FileLock

    store = Path(tracking_uri.removeprefix(SQLITE_PREFIX))
    store.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(store.with_name(f".{store.name}.lock"), timeout=STORE_WAIT_S):
        yield


def _open_client(tracking_uri: str) -> Any:
    if tracking_uri.startswith(SQLITE_PREFIX):
        store = Path(tracking_uri.removeprefix(SQLITE_PREFIX))
        store.parent.mkdir(parents=True, exist_ok=True)
        if not store.exists():
            logger.info("Making the MLflow store %s, which takes some seconds once", store)
    from mlflow import MlflowClient

    # mlflow installs its own console handlers and greets; alembic lists every table it makes.
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=tracking_uri)


def _experiment_id(client: Any, settings: TrackingSettings) -> str:
    found = client.get_experiment_by_name(settings.experiment)
    if found is not None:
        return str(found.experiment_id)
    local = settings.tracking_uri.startswith(SQLITE_PREFIX)
    location = Path(settings.artifact_location).as_uri() if local else None
    return str(client.create_experiment(settings.experiment, artifact_location=location))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
