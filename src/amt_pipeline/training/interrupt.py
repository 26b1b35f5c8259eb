"""Ctrl+C in two steps: the first ends the run at the next step and saves, the second at once."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)


class InterruptGuard:
    """While active, turns the first SIGINT or SIGTERM into a flag, and keeps which it was.

    The previous handlers come back with the first signal, so that a second one acts as it would
    have without the guard: it stops the process at once. Outside the main thread, where Python
    allows no handlers, the guard does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signal_number: int = signal.SIGINT
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> InterruptGuard:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested, self.signal_number = True, number
        self._restore()
        logger.warning("Stopping after this step and saving; press Ctrl+C again to stop at once")

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
