"""The `amt` application: how its commands are registered, and how they end.

Every command is a function registered with `command(...)`, which adds the project's way of ending:
a `UserError` is one line on stderr and exit code 1, Ctrl-C is 130. Heavy libraries are imported
inside the commands, so that `amt --help` answers at once.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Annotated, Any

import click
import typer

import amt_pipeline
from amt_pipeline.console import one_line_errors
from amt_pipeline.core.threads import yield_while_waiting

app = typer.Typer(
    name="amt",
    help="Piano transcription on the command line, without Kedro.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def command(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as `amt <name>`, with errors of the user shown as one line."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            try:
                with one_line_errors():
                    return function(*args, **kwargs)
            except click.exceptions.Exit as ending:
                # typer brings its own click, whose Exit is another class.
                raise typer.Exit(ending.exit_code) from None

        app.command(name)(guarded)
        return function

    return register


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings only.")] = False,
) -> None:
    yield_while_waiting()
    if version:
        typer.echo(f"amt_pipeline {amt_pipeline.__version__}")
        raise typer.Exit
    logging.basicConfig(format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("amt_pipeline").setLevel(logging.WARNING if quiet else logging.INFO)
