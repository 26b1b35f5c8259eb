"""Commands that a message tells the user to type: with the data root that this run was given.

Whoever writes `kedro run --pipelines rank_onset` into a remedy or a log line need not know where
the data is; here, where both reach the user, the command is completed.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_COMMAND = re.compile(r"`kedro run\b([^`]*)`")


def with_data_root(text: str, data_root: str | None) -> str:
    """Return a text whose `kedro run` commands (in backticks) name the data root.

    Args:
        text: An error, or a line of the log.
        data_root: As it was given; None leaves the text as it is.
    """
    if data_root is None:
        return text
    setting = shlex.quote(f"data_root={data_root}")

    def complete(found: re.Match[str]) -> str:
        options = found[1]
        if "data_root=" in options:
            return found[0]
        if " --params " in options:  # given twice, the option would count once
            return f"`kedro run{options.replace(' --params ', f' --params {setting},', 1)}`"
        return f"`kedro run{options} --params {setting}`"

    return _COMMAND.sub(complete, text)


def given_data_root(options: Mapping[str, Any]) -> str | None:
    """Return the data root among the options of `kedro run`, or None.

    Args:
        options: By name, as click has parsed them; `params` is a mapping.
    """
    root = (options.get("params") or {}).get("data_root")
    return None if root is None else str(root)


class _Completed(logging.Filter):
    """Completes the commands in lines of ours."""

    def __init__(self, data_root: str) -> None:
        super().__init__()
        self._data_root = data_root

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.startswith("amt_pipeline") and "`kedro run" in (text := record.getMessage()):
            record.msg, record.args = with_data_root(text, self._data_root), ()
        return True


@contextmanager
def complete_log_lines(data_root: str | None) -> Iterator[None]:
    """Complete the commands in what is logged meanwhile.

    Args:
        data_root: As it was given; None changes nothing.
    """
    if data_root is None:
        yield
        return
    completed = _Completed(data_root)
    handlers = list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(completed)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(completed)
