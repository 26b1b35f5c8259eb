"""A Dask cluster of this machine: its comings and goings are not logged, its workers end in order.

Imported only where Dask is installed and wanted.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from typing import Any

import dask
from distributed import LocalCluster, WorkerPlugin

from amt_pipeline.core.progress import WORKERS_VARIABLE

WORKER_LOG_LEVEL = "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED"
"""Dask's setting of a variable that worker processes are started with, which says what to log."""


class EndAtOnce(WorkerPlugin):
    """Ends the process of a closed worker without taking down its interpreter.

    With torch loaded that takes seconds on a busy machine; after four, Dask kills it and says so.
    """

    def setup(self, worker: Any) -> None:
        """Register what the process does last: by then the worker is closed."""
        atexit.register(_end_process)


def _end_process() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def local_cluster(workers: int) -> Iterator[str]:
    """Start a scheduler and workers of one thread each, yield its address, and end them."""
    make_cluster: Any = LocalCluster  # has no types
    with ExitStack() as stack:
        with _without_interrupts():
            # No limit of memory, as with loky: where it ends is the system's matter.
            cluster = make_cluster(
                n_workers=workers, threads_per_worker=1, processes=True, protocol="tcp://",
                host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0,
                silence_logs=False, plugins=(EndAtOnce(),),
                env={WORKERS_VARIABLE: str(workers)},
            )  # fmt: skip
            stack.enter_context(cluster)
        yield cluster.scheduler_address


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl+C back until the end; threads and processes started meanwhile never see it.

    A terminal sends it to all processes at once, but it is for us to end the workers.
    """
    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "pthread_sigmask")):  # Windows has none
        yield
        return
    held: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    resource_tracker.ensure_running()  # else the first process started does that, which unblocks
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if held:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep Dask from logging, here and in workers started meanwhile.

    What goes wrong reaches us as an exception; the tracebacks that it logs beside are, after Ctrl+C
    for instance, of its own making. Where Dask's configuration says what to log, that counts.
    """
    if dask.config.get("logging", None) or dask.config.get("distributed.logging", None):
        yield
        return
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with dask.config.set({WORKER_LOG_LEVEL: "critical"}):
            yield
    finally:
        log.setLevel(before)
