"""The project's own pipelines, run for real on a tiny demo corpus with tiny networks."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kedro.framework.project import LOGGING
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from amt_pipeline.core.values import merge

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "amt_pipeline"

TINY: dict[str, Any] = {
    "maestro": {"demo": {"minutes": 1.0, "pieces": 10}},
    "features": {"sample_rate": 16000, "hop_samples": 256, "bins": 88, "bins_per_octave": 12},
    "parallel": {"workers": 1},
    "onset": {
        "model": {"label_frames": 51, "frequency_stride": 1, "dense_units": 32},
        "training": {"epochs": 8, "batch_size": 4, "save_every_steps": 60, "warmup_steps": 0}
        | {"learning_rate": 0.01, "threads": 1},
    },
    "pitch": {
        "model": {"label_frames": 51, "channels": [8, 8]},
        "training": {"epochs": 6, "batch_size": 4, "save_every_steps": 45, "warmup_steps": 0}
        | {"learning_rate": 0.01, "threads": 1},
    },
    "transcribe": {"device": "cpu"},
}

Run = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def _project_logging() -> None:
    # Kedro configures logging at its first sight of a package, which takes away caplog's handler.
    LOGGING.set_project_logging(PACKAGE)


@contextmanager
def open_session(
    data_root: Path, parameters: dict[str, Any] | None = None, env: str = "test"
) -> Iterator[KedroSession]:
    bootstrap_project(REPOSITORY)
    given = merge(merge(TINY, parameters or {}), {"data_root": str(data_root)})
    with KedroSession.create(project_path=REPOSITORY, env=env, runtime_params=given) as session:
        yield session


def run_pipeline(name: str, data_root: Path, **parameters: Any) -> Any:
    with open_session(data_root, parameters) as session:
        return session.run(pipeline_names=[name])


@pytest.fixture(name="open_session")
def _open_session() -> Callable[..., Any]:
    return open_session


@pytest.fixture(name="run_pipeline", scope="session")
def _run_pipeline() -> Run:
    """Runs a pipeline by name; keywords are parameters, laid over the tiny ones."""
    return run_pipeline


@pytest.fixture(scope="session")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all worker processes of this test run see."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def whole_run(shared_root: Path) -> Path:
    """The data root of one run of the whole pipeline `transcription`; to be read only."""
    root = shared_root / "whole-run"
    # Whoever comes first makes it, the other processes wait: the run is the dearest of all tests.
    with (shared_root / "whole-run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / "08_reporting" / "transcription" / "history.md").is_file():
            run_pipeline("transcription", root)
    return root


@pytest.fixture
def copy_of_run(whole_run: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copies parts of the finished run, to go on from there."""

    def copy(*layers: str) -> Path:
        target = tmp_path / "data"
        for layer in layers:
            shutil.copytree(whole_run / layer, target / layer)
        return target

    return copy
