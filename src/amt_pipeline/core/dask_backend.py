"""Items on a Dask cluster: no more in flight than workers can take; run again if a worker dies.

What is sent is the name of a function and an item; what comes back is small (counts, scores).
Files never travel: all machines see them on a shared file system (`dask_surroundings` makes sure).
"""

from __future__ import annotations

import functools
import pickle
import queue
import re
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from amt_pipeline.core.dask_client import connected
from amt_pipeline.core.dask_surroundings import (
    Surroundings,
    check_surroundings,
    library_versions,
    mark_folders,
)
from amt_pipeline.core.errors import ClusterError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

IN_FLIGHT_PER_THREAD = 3
"""Items at the scheduler per worker thread: enough that no worker waits for the next one, few
enough that a corpus of any size costs it nothing."""
LOOK_AFTER_S = 2.0
"""How often the number of workers is looked at."""
FIRST_LOOKS_AFTER_S = 0.2
"""Likewise while there is none."""


def run_on_cluster(
    call: Callable[[int, Item], Outcome],
    jobs: Sequence[tuple[int, Item]],
    *,
    scheduler: str | None,
    workers: int,
    wait_s: float,
    label: str,
    shared: Sequence[Path] = (),
    sources: Sequence[Path] = (),
) -> Generator[Outcome, None, None]:
    """Yield what `call` returns for each of `jobs`, in the order they finish.

    Args:
        call: Importable at module level, as is all that it refers to.
        jobs: Arguments of each call; picklable.
        scheduler: Address or scheduler file of a cluster; None starts one here.
        workers: Processes of the cluster that is started here.
        wait_s: Seconds to wait for the scheduler, and for a worker when there is none.
        label: Names the tasks on the scheduler's dashboard.
        shared: Folders of ours that every worker has to see.
        sources: Folders that are only read, likewise.

    Raises:
        ClusterError: The scheduler cannot be reached or was lost; there is no worker; one cannot
            see a folder, lacks the package or has other libraries; an item cost several workers.
        ConfigError: The package `distributed` is not installed, or the address is none.
    """
    with ExitStack() as stack:
        client, address = stack.enter_context(connected(scheduler, workers, wait_s))
        tokens = stack.enter_context(mark_folders(shared, sources))
        task = functools.partial(_run_on_worker, Surroundings(library_versions(), tokens), call)
        prefix = re.sub(r"\W+", "_", label.lower())

        def begin(job: tuple[int, Item]) -> Any:
            # A key of its own for each call: equal items are different work.
            key = f"{prefix}-{uuid.uuid4().hex}"
            return client.submit(pickle.loads, sealed(task, *job), key=key, pure=False)

        yield from _stream(client, begin, jobs, address=address, wait_s=wait_s)


def _stream(
    client: Any,
    begin: Callable[[tuple[int, Item]], Any],
    jobs: Sequence[tuple[int, Item]],
    *,
    address: str,
    wait_s: float,
) -> Generator[Any, None, None]:
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
    waiting, left = iter(jobs), len(jobs)
    in_flight: dict[str, Any] = {}
    crew = _Crew(client, address, wait_s)
    try:
        while left:
            room = max(crew.size() * IN_FLIGHT_PER_THREAD - len(in_flight), 0)
            for job in islice(waiting, room):
                future = begin(job)
                in_flight[future.key] = future
                future.add_done_callback(finished.put)
            try:
                future = finished.get(timeout=LOOK_AFTER_S if in_flight else FIRST_LOOKS_AFTER_S)
            except queue.Empty:
                continue
            outcome = _outcome_of(future, address)
            in_flight.pop(future.key)
            left -= 1
            yield outcome
    finally:
        if in_flight:
            client.cancel(list(in_flight.values()), force=True)


class _Crew:
    """How many items the cluster can work on, looked at now and then.

    Workers may come and go while the work lasts (a cluster grows, a batch job ends).
    """

    def __init__(self, client: Any, address: str, wait_s: float) -> None:
        self._client, self._address, self._wait_s = client, address, wait_s
        self._size, self._looked_s = 0, -LOOK_AFTER_S
        self._seen_s = time.monotonic()

    def size(self) -> int:
        """Return the number of threads of all workers.

        Raises:
            ClusterError: The scheduler is gone, or there was no worker for too long.
        """
        now_s = time.monotonic()
        if now_s - self._looked_s < (LOOK_AFTER_S if self._size else FIRST_LOOKS_AFTER_S):
            return self._size
        try:
            self._size = sum(self._client.nthreads().values())
        except (OSError, RuntimeError, ValueError) as error:
            raise _lost(self._address) from error
        self._looked_s = now_s
        if self._size:
            self._seen_s = now_s
        elif now_s - self._seen_s > self._wait_s:
            raise ClusterError(
                f"Dask cluster {self._address}",
                f"has had no worker for {self._wait_s:g} s",
                f"Start some: `dask worker {self._address} --nthreads 1 --nworkers 8`; what was "
                "done is kept",
            )
        return self._size


def _outcome_of(future: Any, address: str) -> Any:
    """Return a finished future's result; name what went wrong around it."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise ClusterError(
            f"Dask cluster {address}",
            f"lost several workers over one item ({error.last_worker.address} was the last), most "
            "likely because memory ran out",
            "Give workers more memory, or start fewer per machine; what was done is kept",
        ) from error
    except (CancelledError, OSError) as error:
        if isinstance(error, OSError) and not future.cancelled():
            raise  # the function's own
        raise _lost(address) from error
    except ImportError as error:
        raise ClusterError(
            f"a worker of the Dask cluster {address}",
            f"cannot import what is to be done ({error})",
            "Start workers from the environment that this runs in",
        ) from error


def _lost(address: str) -> ClusterError:
    return ClusterError(
        f"Dask cluster {address}",
        "the connection to its scheduler was lost",
        "See the scheduler's log, and run again; what was done is kept",
    )


class _Call:
    """A call that is made where it is unpickled."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._call


def sealed(function: Callable[..., Any], *args: Any) -> bytes:
    """Return a call as bytes: `pickle.loads` makes it and returns its result.

    Dask unpickles what it is sent before anything of ours runs: a scheduler or worker that lacks
    the package would lose its connection over it. Bytes pass, and fail by name inside the task.
    """
    import cloudpickle  # type: ignore[import-untyped]

    data: bytes = cloudpickle.dumps(_Call(function, args))
    return data


def _run_on_worker(
    expected: Surroundings,
    call: Callable[[int, Item], Outcome],
    position: int,
    item: Item,
) -> Outcome:
    check_surroundings(expected)
    return call(position, item)
