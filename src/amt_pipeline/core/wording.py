"""Long lists in short sentences."""

from __future__ import annotations

import logging
from collections.abc import Sequence

MOST = 10


def some_of(
    items: Sequence[str],
    *,
    most: int = MOST,
    separator: str = ", ",
    log: logging.Logger | None = None,
    what: str = "",
) -> str:
    """Return the first few items in one line, and how many more there are.

    A corpus may lack thousands of files, which belong in the log, not in the line of an error.

    Args:
        items: All of them, in order.
        most: How many are shown.
        separator: Stands between them.
        log: Gets every item, a line each, where not all are shown; None is no log.
        what: Put before each line of the log.
    """
    if len(items) <= most:
        return separator.join(items)
    if log is not None:
        for item in items:
            log.error("%s%s", what, item)
    tail = f" and {len(items) - most} more"
    return separator.join(items[:most]) + tail + (", which the log names" if log else "")
