"""A Dask cluster of this machine: its comings and goings are not logged, its workers end in order.

Imported only where Dask is installed and wanted.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
from distributed import LocalCluster, WorkerPlugin

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


def local_cluster(workers: int) -> Any:
    """Start a scheduler and workers of one thread each; the result is a context manager."""
    make_cluster: Any = LocalCluster  # has no types
    # No limit of memory, as with loky: where it ends is the system's matter.
    return make_cluster(
        n_workers=workers, threads_per_worker=1, processes=True, protocol="tcp://",
        host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0, silence_logs=False,
        plugins=(EndAtOnce(),),
    )  # fmt: skip


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
