"""Run one function over many items in worker processes, each item durable on its own.

Two engines, one rule. loky (default): processes of this machine, started by spawn, never by fork
(forked torch and BLAS pools deadlock). Dask: the workers of a cluster, or processes of this machine
under a scheduler of their own. Either way a worker runs one item at a time with one BLAS/OpenMP
thread. Items come back in the order they finish, so progress is shown and memory stays independent
of the number of items. An item that fails with a `UserError` is data, not the end of the run: it
comes back as a `Failure`; any other exception is a defect and is raised.
"""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amt_pipeline.core.errors import StorageError, UserError
from amt_pipeline.core.progress import WORKERS_VARIABLE, Progress, kept_alive

Item = TypeVar("Item")
Result = TypeVar("Result")


class ParallelConfig(BaseModel):
    """Where independent items (recordings, pieces) are worked on.

    Attributes:
        backend: `loky` is processes of this machine; `dask` is a Dask cluster.
        scheduler: Address of the cluster's scheduler (`tcp://host:8786`, `host`) or its scheduler
            file (`file:///shared/scheduler.json`); null starts a cluster on this machine.
        workers: Processes on this machine; null is one per processor. A cluster with a scheduler
            of its own has as many as were started there.
        wait_s: Seconds to wait for the scheduler, and for a worker when there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    backend: Literal["loky", "dask"] = "loky"
    scheduler: str | None = Field(None, min_length=1)
    workers: int | None = Field(None, ge=1)
    wait_s: float = Field(60.0, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scheduler is not None and self.backend != "dask":
            raise ValueError("scheduler is of use with backend=dask only")
        if self.scheduler is not None and self.workers is not None:
            raise ValueError("workers cannot be set here: the scheduler's cluster has its own")
        return self

    @property
    def is_inline(self) -> bool:
        """Whether items are worked on in this very process."""
        return self.backend == "loky" and self.workers == 1

    def inline(self) -> Self:
        """Return the same with one local worker, where processes would cost more than they gain.

        A Dask cluster stays as it is: what its workers share and how many there are is its matter.
        """
        return self if self.backend == "dask" else self.model_copy(update={"workers": 1})


MOST_NAMES = 4
"""Of items that a progress line says are worked on."""

LOCAL = ParallelConfig()
"""One process per processor of this machine."""


@dataclass(frozen=True)
class Failure:
    """An item whose input was at fault."""

    error: UserError


def cpu_count() -> int:
    """Return the number of processors this process may use (affinity and cgroup aware)."""
    from joblib import cpu_count as usable

    return int(usable())


def worker_count(requested: int | None) -> int:
    """Return the number of workers: as requested, or one per usable processor."""
    return max(1, requested if requested else cpu_count())


def map_items(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    label: str,
    unit: str = "item",
    parallel: ParallelConfig = LOCAL,
    shared: Sequence[Path] = (),
    sources: Sequence[Path] = (),
    name: Callable[[Item], str] | None = None,
) -> Generator[tuple[Item, Result | Failure], None, None]:
    """Yield `(item, result or Failure)` for every item, in the order they finish.

    Args:
        function: Importable at module level (workers find it by name); called with one item. On a
            cluster an item may be done twice, so what it writes is complete or absent.
        items: Picklable inputs.
        label: What the progress line says.
        unit: What one item is called there.
        parallel: Where items are worked on. One loky worker runs inline, without a process.
        shared: Folders of the data root that the function reads or writes; every worker of a
            cluster has to see these very folders, not others of the same name.
        sources: Folders that it only reads (a corpus); every worker has to see them too.
        name: What an item is called. For items that take minutes: the progress line then comes also
            while none ends, and says which are worked on. Inline items show their own progress.

    Raises:
        StorageError: The disk refused; no further item could succeed.
        UserError: The system killed a worker process, or the cluster cannot be used.
    """
    jobs = list(enumerate(items))
    left = dict(jobs)
    with Progress(label, len(items), unit) as progress, ExitStack() as stack:
        # A single item is worked on inline, whatever the number of workers.
        if name is not None and (parallel.backend == "dask" or _count(parallel, jobs) > 1):
            stack.enter_context(kept_alive(progress, partial(_at_work, left, parallel, name)))
        folders = tuple(shared), tuple(sources)
        outcomes = _outcomes(partial(_run_one, function), jobs, parallel, label, folders)
        try:
            for position, outcome in outcomes:
                if isinstance(outcome, Failure) and isinstance(outcome.error, StorageError):
                    raise outcome.error
                left.pop(position)
                progress.advance()
                yield items[position], outcome
        finally:
            with warnings.catch_warnings():
                # Whoever takes no more outcomes knows that the other items are given up.
                warnings.simplefilter("ignore")
                outcomes.close()


def _count(parallel: ParallelConfig, jobs: Sequence[Any]) -> int:
    return min(worker_count(parallel.workers), len(jobs))


def _at_work(left: dict[int, Item], parallel: ParallelConfig, name: Callable[[Item], str]) -> str:
    """Return the names of the items that workers have now: they take them in order."""
    if parallel.scheduler is not None:  # how many workers it has, and for whom, is its matter
        return "on the cluster"
    names = [name(item) for item in list(left.values())[: worker_count(parallel.workers)]]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"at work: {'; '.join(names[:MOST_NAMES])}{more}"


ORPHAN_CHECK_S = 0.2
"""How often a worker process looks whether its parent is alive."""

Call = Callable[[int, Item], tuple[int, Result | Failure]]
Outcomes = Generator[tuple[int, Result | Failure], None, None]


def _outcomes(
    call: Call[Item, Result],
    jobs: list[tuple[int, Item]],
    parallel: ParallelConfig,
    label: str,
    folders: tuple[Sequence[Path], Sequence[Path]],
) -> Outcomes[Result]:
    if not jobs:
        return
    count = _count(parallel, jobs)
    if parallel.backend == "dask":
        from amt_pipeline.core.dask_backend import run_on_cluster

        yield from run_on_cluster(
            call,
            jobs,
            scheduler=parallel.scheduler,
            workers=count,
            wait_s=parallel.wait_s,
            label=label,
            shared=folders[0],
            sources=folders[1],
        )
    elif count == 1:
        for job in jobs:
            yield call(*job)
    else:
        yield from _on_loky(call, jobs, count)


def _on_loky(
    call: Call[Item, Result], jobs: list[tuple[int, Item]], workers: int
) -> Outcomes[Result]:
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with parallel_config(backend="loky", inner_max_num_threads=1):
        pool: Any = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
        try:
            start = delayed(partial(_run_while_wanted, os.getpid(), workers, call))
            yield from pool(start(*job) for job in jobs)
        except TerminatedWorkerError as error:
            raise UserError(
                f"{workers} worker processes",
                "one of them was killed, most likely because memory ran out",
                "Run again with fewer workers; what was done is kept",
            ) from error


def _run_while_wanted(
    parent: int, workers: int, call: Call[Item, Result], position: int, item: Item
) -> tuple[int, Result | Failure]:
    """Do an item in a worker process that ends at once when its parent is killed.

    It would else finish what it was given, beside the workers of the next run.
    """
    if "watch" not in {thread.name for thread in threading.enumerate()}:
        watch = threading.Thread(target=_end_with, args=(parent,), name="watch", daemon=True)
        watch.start()
    # The process may have been one of another number of workers before.
    os.environ[WORKERS_VARIABLE] = str(workers)
    return call(position, item)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(ORPHAN_CHECK_S)
    os._exit(1)


def _run_one(
    function: Callable[[Item], Result], position: int, item: Item
) -> tuple[int, Result | Failure]:
    try:
        return position, function(item)
    except UserError as error:
        return position, Failure(error)
