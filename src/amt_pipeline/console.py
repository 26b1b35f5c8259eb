"""How a command ends: a mistake of the user as one line, a defect of ours with its traceback.

Used by both commands of the project, `kedro run` and `amt`, so that they speak alike. Nothing heavy
is imported here.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click

from amt_pipeline.core.errors import Interrupted, UserError, storage_error

EXIT_MISTAKE = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
_STOPPED = {EXIT_INTERRUPTED: "Interrupted", EXIT_TERMINATED: "Terminated"}

STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)

Explain = Callable[[BaseException], str | None]


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM, as clusters do before they take a machine back."""


def explain(error: BaseException) -> str | None:
    """Return the line that tells the user what to do; None when the error is not theirs."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in STORAGE_ERRORS and error.filename:
        return str(storage_error(error.filename, error))
    return None


@contextmanager
def one_line_errors(
    explain: Explain = explain, on_interrupt: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Run a command; end the process with one line and a code where the user can act.

    Args:
        explain: Turns an exception into its line, or None for those that keep their traceback.
        on_interrupt: Called when the user or the system stops the process.

    Raises:
        click.exceptions.Exit: 1 after a mistake; 130 after Ctrl-C and 143 after SIGTERM, also
            where the work was saved first.
    """
    with _sigterm_raises(), _quiet_about(explain):
        try:
            yield
        except KeyboardInterrupt as stop:
            on_interrupt()
            code = EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED
            click.echo(f"{_STOPPED[code]}. The same command goes on where it stopped.", err=True)
            raise click.exceptions.Exit(code) from None
        except Exception as error:
            line = explain(error)
            if line is None:
                raise
            code = 128 + error.signal_number if isinstance(error, Interrupted) else EXIT_MISTAKE
            click.echo(f"{_STOPPED.get(code, 'Error')}: {' '.join(line.split())}", err=True)
            raise click.exceptions.Exit(code) from None


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    # Only the main thread may set handlers; elsewhere the program that embeds us decides.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        if os.getpid() != owner:  # a forked worker inherits the handler, not the clean-up
            os._exit(EXIT_TERMINATED)
        raise Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _ExplainedElsewhere(logging.Filter):
    """Drops what Kedro logs about an exception that will be shown as one line anyway."""

    def __init__(self, explain: Explain) -> None:
        super().__init__()
        self._explain = explain

    def filter(self, record: logging.LogRecord) -> bool:
        error = sys.exc_info()[1]  # Kedro logs from inside its `except` blocks
        if error is None or not record.name.startswith("kedro."):
            return True
        return self._explain(error) is None


@contextmanager
def _quiet_about(explain: Explain) -> Iterator[None]:
    silence = _ExplainedElsewhere(explain)
    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(silence)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(silence)
