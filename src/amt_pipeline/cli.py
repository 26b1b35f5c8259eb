"""The project's part of the `kedro` command: Kedro's own `run`, ending in one line when it must.

Kedro imports this module by its name and takes the group `cli` from it. The options are Kedro's;
only the way a refused run ends is ours. `main` is the other command of the project, `amt`.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import click
import yaml
from kedro.config import MissingConfigException
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.project import configure_logging
from kedro.framework.session.abstract_session import KedroSessionError
from kedro.io import DatasetError
from kedro.validation import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from amt_pipeline import console
from amt_pipeline.remedies import complete_log_lines, given_data_root, with_data_root
from amt_pipeline.tracking import end_run

# Nothing is sent anywhere, in a checkout or not; to be set before kedro-telemetry looks.
for _variable in ("DO_NOT_TRACK", "KEDRO_DISABLE_TELEMETRY"):
    os.environ.setdefault(_variable, "1")

# Parts of Kedro that raise plain exceptions when they are asked for what is not there: an unknown
# pipeline, node, tag, environment or dataset, a YAML file with a wrong indent.
KEDRO_FRONT_DOORS = (
    "kedro.config.",
    "kedro.framework.session.",
    "kedro.framework.context.",
    "kedro.io.",
    "kedro.pipeline.pipeline",
    "kedro.runner.",
)
KEDRO_REFUSALS = (
    ValueError,
    KeyError,
    DatasetError,
    KedroSessionError,
    MissingConfigException,
    yaml.YAMLError,
)


def explain_run(error: BaseException) -> str | None:
    """Return the line for an error of `kedro run`; None for a defect, which keeps its traceback.

    Kedro wraps what a dataset raises; the cause is what the user wants to read.
    """
    while isinstance(error, DatasetError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, (ParameterValidationError, ValidationError)):
        return _without_details(str(error))
    if isinstance(error, OmegaConfBaseException):
        return f"conf: {error}"
    room = _raised_in(error)
    if isinstance(error, AttributeError) and room == "kedro.utils":  # an unknown runner
        return str(error)
    if isinstance(error, KEDRO_REFUSALS) and room.startswith(KEDRO_FRONT_DOORS):
        return _reworded(str(error.args[0] if error.args else error))
    return console.explain(error)


class ProjectRun(click.Command):
    """Kedro's `run` command whose refusals are one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the pipeline."""
        _use_project_logging(getattr(ctx.obj, "project_path", None))
        data_root = given_data_root(ctx.params)

        def explain(error: BaseException) -> str | None:
            line = explain_run(error)
            return None if line is None else with_data_root(line, data_root)

        with (
            complete_log_lines(data_root),
            console.one_line_errors(explain, on_interrupt=lambda: end_run("KILLED")),
        ):
            return super().invoke(ctx)


run = ProjectRun(
    name="run", params=kedro_run.params, callback=kedro_run.callback, help=kedro_run.help
)


@click.group(name="amt_pipeline")
def cli() -> None:
    """Commands of this project."""


cli.add_command(run)


def main() -> None:
    """Run the `amt` command."""
    from amt_pipeline.commands import main as amt

    amt()


def _use_project_logging(project_path: Path | None) -> None:
    # Kedro finds conf/logging.yml only from the project's root, and else installs rich handlers.
    if project_path is None or Path.cwd() == project_path or "KEDRO_LOGGING_CONFIG" in os.environ:
        return
    file = project_path / "conf" / "logging.yml"
    if file.is_file():
        configure_logging(yaml.safe_load(file.read_text(encoding="utf-8")))
        sys.excepthook = sys.__excepthook__


def _raised_in(error: BaseException) -> str:
    trace = error.__traceback__
    name = ""
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        trace = trace.tb_next
    return name


def _reworded(text: str) -> str:
    # Kedro explains an unknown pipeline to the programmer of the registry, not to its user.
    found = re.match(r"Failed to find the pipeline named '(.*?)'\.", text)
    if not found:
        return text
    _, _, similar = text.partition("Did you mean one of these instead?")
    hint = f"Did you mean {' or '.join(similar.split())}? " if similar else ""
    return f"no pipeline is called {found[1]!r}. {hint}All are shown by `kedro registry list`"


def _without_details(text: str) -> str:
    # Pydantic adds a link and the kind of each error, which are for programmers.
    lines = [line for line in text.splitlines() if "errors.pydantic.dev" not in line]
    return re.sub(
        r"\[type=\w+, input_value=(.*?), input_type=\w+\]", r"(it is \1)", " ".join(lines)
    )
