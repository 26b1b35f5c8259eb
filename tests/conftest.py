"""A Kedro project of a few tiny pipelines in this project's shell, made in a temporary folder.

Tests of the shell need real runs, not the real pipelines.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kedro.framework.project import LOGGING
from kedro.framework.startup import bootstrap_project

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "tiny_shell"

PYPROJECT = f"""
[tool.kedro]
package_name = "{PACKAGE}"
project_name = "{PACKAGE}"
kedro_init_version = "1.7.0"
source_dir = "src"
"""

CATALOG = """
numbers:
  type: amt_pipeline.datasets.JsonDataset
  filepath: ${runtime_params:data_root, data}/numbers.json
total:
  type: amt_pipeline.datasets.JsonDataset
  filepath: ${runtime_params:data_root, data}/total.json
corpus:
  type: amt_pipeline.datasets.PathDataset
  filepath: ${runtime_params:data_root, data}/corpus
workshop:
  type: amt_pipeline.datasets.PathDataset
  filepath: ${runtime_params:data_root, data}/workshop
  made_on_demand: true
"""

PARAMETERS = """
make:
  count: 3
  names: [a, b]
  deep: { rate: 0.5 }
"""

REGISTRY = """
import logging, os, signal, time
from pathlib import Path

from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel, ConfigDict

from amt_pipeline.core.errors import UserError
from amt_pipeline.tracking import current_reporter


class Make(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    count: int
    names: list[str]
    deep: dict[str, float]


def make_numbers(make: Make) -> list[int]:
    return list(range(make.count))


def add_numbers(numbers: list[int]) -> int:
    return sum(numbers)


def train(workshop: Path, make: Make) -> int:
    with current_reporter(workshop / "events") as reporter:
        for step in range(make.count):
            reporter.scalars({"train/loss": 1.0 / (step + 1)}, step)
        result = workshop / "result.txt"
        result.write_text("done")
        reporter.file(result, "results")
    return make.count


def double(total: int) -> int:
    return 2 * total


def not_json(numbers: list[int]) -> object:
    return object()


def describe(corpus: Path) -> int:
    return len(corpus.name)


def refuse(numbers: list[int]) -> int:
    raise UserError("corpus/index.csv", "has no\\nheader", "Download it again")


def refer(numbers: list[int]) -> int:
    logging.getLogger("amt_pipeline.tiny").warning("again with `kedro run --pipelines make`")
    raise UserError("numbers", "are few", "Run `kedro run --pipelines whole`")


def crash(numbers: list[int]) -> int:
    raise RuntimeError("a defect")


def wait(numbers: list[int]) -> int:
    signal_number = int(os.environ["TINY_SIGNAL"])
    os.kill(os.getpid(), signal_number)
    time.sleep(30)
    return 0


def one(function, inputs, outputs="total"):
    return Pipeline([Node(function, inputs, outputs, name=function.__name__)])


def register_pipelines():
    make = one(make_numbers, "params:make", "numbers")
    add = one(add_numbers, "numbers")
    return {
        "__default__": make + add,
        "whole": make + add,
        "make": make,
        "add": add,
        "read": one(describe, "corpus"),
        "train": one(train, ["workshop", "params:make"]),
        "refuse": one(refuse, "numbers"),
        "refer": one(refer, "numbers"),
        "crash": one(crash, "numbers"),
        "wait": one(wait, "numbers"),
        "lost": one(add_numbers, "unknown"),
        "misspelt": one(make_numbers, "params:maek", "numbers"),
        "in_memory": one(add_numbers, "numbers", "sum") + one(double, "sum"),
        "broken_save": one(not_json, "numbers"),
    }
"""


def make_project(folder: Path) -> Path:
    """Write the project and return its root; its settings, logging and tracking are ours."""
    package = folder / "src" / PACKAGE
    package.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / ".telemetry").write_text("consent: false\n")
    (package / "__init__.py").touch()
    (package / "settings.py").write_text("from amt_pipeline.settings import *\n")
    (package / "cli.py").write_text("from amt_pipeline.cli import cli, run\n")
    (package / "pipeline_registry.py").write_text(REGISTRY)
    for environment in ("base", "local", "test"):
        (folder / "conf" / environment).mkdir(parents=True)
    (folder / "conf" / "base" / "catalog_tiny.yml").write_text(CATALOG)
    (folder / "conf" / "base" / "parameters_tiny.yml").write_text(PARAMETERS)
    for name in ("logging.yml", "base/mlflow.yml", "test/mlflow.yml"):
        shutil.copy(REPOSITORY / "conf" / name, folder / "conf" / name)
    return folder


@pytest.fixture
def tiny_project(tmp_path: Path) -> Path:
    """Root of a tiny Kedro project."""
    return make_project(tmp_path / "project")


@pytest.fixture
def kedro_run(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`kedro run` of the tiny project in this process, as the `kedro` command does it."""
    # Kedro configures logging at its first sight of a package, which takes away caplog's handler.
    LOGGING.set_project_logging(PACKAGE)

    def run(*arguments: str) -> Result:
        from amt_pipeline import cli

        for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
            del sys.modules[name]
        monkeypatch.chdir(tiny_project)
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.setenv("PYTHONPATH", "")
        return CliRunner().invoke(cli.run, list(arguments), obj=bootstrap_project(tiny_project))

    return run


@pytest.fixture(scope="session")
def dask_cluster() -> Iterator[Any]:
    """A scheduler and two worker processes with one thread each, over TCP."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, protocol="tcp://", host="127.0.0.1",
        dashboard_address="127.0.0.1:0", memory_limit=0, silence_logs=50,
    ) as cluster:  # fmt: skip
        yield cluster
