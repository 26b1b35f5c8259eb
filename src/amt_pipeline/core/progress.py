"""One progress line per job: a bar on a terminal, a throttled log line elsewhere.

Logs of a cluster job or of CI must not fill with bar redraws, yet must show that work goes on; so
without a terminal one line comes at most every `LOG_EVERY_S` seconds, with the same content: done,
total, rate, remaining time. Worker processes do the same: they inherit the terminal, where their
bars would be drawn over each other.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from amt_pipeline.core.closing import Closing

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0

BEAT_S = 1.0
"""How often a bar is drawn anew while nothing ends."""

WORKERS_VARIABLE = "AMT_WORKERS"
"""Set in worker processes, and so in theirs: how many of them this machine has at once."""


def sibling_workers() -> int:
    """Return how many workers share this machine, this process among them; 1 is no worker."""
    text = os.environ.get(WORKERS_VARIABLE, "")
    return max(1, int(text)) if text.isdecimal() else 1


class Progress(Closing):
    """Counts units of work towards a total and shows rate and remaining time.

    Args:
        label: What is being done, shown first.
        total: Number of units.
        unit: What one unit is called, for instance `recording`.
        initial: Units already done before this start (a resumed job).
    """

    def __init__(self, label: str, total: int, unit: str = "item", initial: int = 0) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self._initial = initial
        self._started_s = self._logged_s = time.monotonic()
        self._note = ""
        self._bar: tqdm | None = None
        if sys.stderr.isatty() and WORKERS_VARIABLE not in os.environ:
            self._bar = tqdm(
                total=total, desc=label, unit=unit, initial=initial, dynamic_ncols=True
            )

    def advance(self, units: int = 1, note: str = "") -> None:
        """Count `units` as done; `note` is shown behind the rate (for instance the loss)."""
        self.done += units
        self._note = note or self._note
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(units)
        elif time.monotonic() - self._logged_s >= LOG_EVERY_S and self.done < self.total:
            self._log()

    def still(self, note: str) -> None:
        """Show that work goes on though no unit has ended; `note` says on what."""
        now_s = time.monotonic()
        if self._bar is not None:
            self._bar.set_postfix_str(note)
        elif now_s - self._logged_s >= LOG_EVERY_S and self.done < self.total:
            self._logged_s = now_s
            elapsed = _clock(now_s - self._started_s)
            logger.info("%s: %d/%d after %s, %s", self.label, self.done, self.total, elapsed, note)

    def close(self) -> None:
        """End the line; work of over two seconds leaves a last line with the whole time."""
        if self._bar is not None:
            self._bar.close()
        elif time.monotonic() - self._started_s >= 2.0:
            self._log()

    def _log(self) -> None:
        self._logged_s = time.monotonic()
        elapsed_s = max(self._logged_s - self._started_s, 1e-9)
        rate = (self.done - self._initial) / elapsed_s
        remaining_s = (self.total - self.done) / rate if rate > 0 else float("inf")
        tail = f", {self._note}" if self._note else ""
        when = (
            f"{_clock(remaining_s)} left" if self.done < self.total else f"took {_clock(elapsed_s)}"
        )
        logger.info(
            "%s: %d/%d, %.3g %s/s, %s%s",
            self.label,
            self.done,
            self.total,
            rate,
            self.unit,
            when,
            tail,
        )


@contextmanager
def kept_alive(progress: Progress, note: Callable[[], str]) -> Iterator[None]:
    """Have `progress` show while the block runs that work goes on, also before its first unit ends.

    Args:
        progress: Of work that other processes do.
        note: Says what is being worked on; called in another thread.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_S):
            progress.still(note())

    thread = threading.Thread(target=beat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown time"
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02d}"
    )
