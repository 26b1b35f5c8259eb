"""Run one function over many items in worker processes, each item durable on its own.

Workers are processes (loky, started by spawn, never by fork: forked torch and BLAS pools deadlock),
with one BLAS/OpenMP thread each. Items come back in the order they finish, so progress is shown and
memory stays independent of the number of items. An item that fails with a `UserError` is data, not
the end of the run: it comes back as a `Failure`; any other exception is a defect and is raised.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from amt_pipeline.core.errors import StorageError, UserError
from amt_pipeline.core.progress import Progress

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    workers: int | None = None,
    label: str,
    unit: str = "item",
) -> Iterator[tuple[Item, Result | Failure]]:
    """Yield `(item, result or Failure)` for every item, in the order they finish.

    Args:
        function: Importable at module level (workers find it by name); called with one item.
        items: Picklable inputs.
        workers: Processes; None is one per processor; 1 runs inline, without a process.
        label: What the progress line says.
        unit: What one item is called there.

    Raises:
        StorageError: The disk refused; no further item could succeed.
        UserError: The system killed a worker process.
    """
    count = min(worker_count(workers), len(items))
    jobs = [(position, item) for position, item in enumerate(items)]
    with Progress(label, len(items), unit) as progress:
        outcomes = _outcomes(function, jobs, count)
        for position, outcome in outcomes:
            if isinstance(outcome, Failure) and isinstance(outcome.error, StorageError):
                with warnings.catch_warnings():
                    # That the other items are given up is what the error says.
                    warnings.simplefilter("ignore")
                    outcomes.close()
                raise outcome.error
            progress.advance()
            yield items[position], outcome


def _outcomes(
    function: Callable[[Item], Result], jobs: list[tuple[int, Item]], workers: int
) -> Generator[tuple[int, Result | Failure], None, None]:
    if workers <= 1:
        for job in jobs:
            yield _run_one(function, *job)
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with parallel_config(backend="loky", inner_max_num_threads=1):
        pool: Any = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
        try:
            yield from pool(delayed(_run_one)(function, position, item) for position, item in jobs)
        except TerminatedWorkerError as error:
            raise UserError(
                f"{workers} worker processes",
                "one of them was killed, most likely because memory ran out",
                "Run again with fewer workers; what was done is kept",
            ) from error


def _run_one(
    function: Callable[[Item], Result], position: int, item: Item
) -> tuple[int, Result | Failure]:
    try:
        return position, function(item)
    except UserError as error:
        return position, Failure(error)
