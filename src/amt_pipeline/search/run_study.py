"""All trainings of a study, in processes of this machine, on a cluster, or one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.parallel import LOCAL, Failure, ParallelConfig, map_items, worker_count
from amt_pipeline.search.run_variant import run_variant
from amt_pipeline.search.variant import VariantJob, VariantResult, read_result
from amt_pipeline.training.device import resolve_device
from amt_pipeline.training.result import TrainingInterrupted

logger = logging.getLogger(__name__)


def run_study(
    jobs: Sequence[VariantJob],
    *,
    label: str,
    parallel: ParallelConfig = LOCAL,
    shared: Sequence[Path] = (),
    heard: Callable[[VariantResult], Any] = lambda result: None,
) -> list[VariantResult]:
    """Train and rank every job that is not finished yet; of jobs with one key, the first only.

    Variants may resolve to the same settings (of a setting that the network has nothing for, say).
    Their trainings would be the same to the number, so the others take the result of the first.

    In several workers each training has one thread (`training.threads` wins). Trainings on a GPU
    run one after the other in this process, whatever the number of workers: each takes the whole
    device; a Dask cluster is left to its owner, who decides how many workers share one.

    Args:
        jobs: One per variant and seed, each with a folder of its own.
        label: What the progress line says.
        parallel: Where they are worked on.
        shared: Folders that workers of a cluster have to see.
        heard: Told of every result as it comes, the finished ones of an earlier run first.

    Returns:
        Their results, in the order of the jobs. A training that failed is a result with its reason.

    Raises:
        TrainingInterrupted: Stopped by a signal; what was done is kept.
        StorageError: The disk refused.
    """
    results: dict[Path, VariantResult] = {}

    def take(job: VariantJob, result: VariantResult) -> None:
        results[job.folder] = result
        heard(result)

    by_key = dict[str, list[VariantJob]]()
    for job in jobs:
        by_key.setdefault(job.key, []).append(job)
    _warn_of_equal(by_key.values(), label)
    for same in by_key.values():
        known = next((found for job in same if (found := read_result(job)) is not None), None)
        if known is not None:
            for job in same:
                take(job, _as(known, job))
    waiting = [same[0] for same in by_key.values() if same[0].folder not in results]
    if any(resolve_device(job.device).type == "cuda" for job in waiting):
        parallel = parallel.inline()
    _announce(label, jobs, len(results), len(waiting), parallel)
    outcomes = map_items(
        run_variant, waiting, label=label, unit="training", parallel=parallel, shared=shared,
        name=lambda job: f"{job.name}, seed {job.seed}",
    )  # fmt: skip
    for job, outcome in outcomes:
        result = _failed(job, outcome.error) if isinstance(outcome, Failure) else outcome
        if result.status == "diverged":
            logger.warning("%s: diverged, %s", job.label, result.reason)
        for same_job in by_key[job.key]:
            take(same_job, _as(result, same_job))
    return [results[job.folder] for job in jobs]


def _announce(
    label: str, jobs: Sequence[VariantJob], n_known: int, n_waiting: int, parallel: ParallelConfig
) -> None:
    """Say how much there is to train, and where, before minutes may pass without a result."""
    variants, seeds = len({job.name for job in jobs}), len({job.seed for job in jobs})
    count = min(worker_count(parallel.workers), n_waiting)
    if parallel.scheduler is not None:
        where = " on the cluster"
    else:
        where = f" in {count} worker processes" if count > 1 else ""
    logger.info(
        "%s: variants x seeds: %d x %d; finished before: %d of %d; to be trained now: %d%s",
        label, variants, seeds, n_known, len(jobs), n_waiting, where if n_waiting else "",
    )  # fmt: skip


def _warn_of_equal(groups: Iterable[Sequence[VariantJob]], label: str) -> None:
    """Name variants that come to the same settings: once, whatever the number of seeds."""
    for names in dict.fromkeys(tuple(job.name for job in same) for same in groups):
        if len(names) > 1:
            logger.warning(
                "%s: variants %s come to the same settings: they are trained once",
                label, ", ".join(names),
            )  # fmt: skip


def _as(result: VariantResult, job: VariantJob) -> VariantResult:
    """Return a result as that of a job with the same key."""
    return replace(result, name=job.name, settings=job.settings)


def _failed(job: VariantJob, error: UserError) -> VariantResult:
    """Return the row of a training that could not be done, unless all are to stop."""
    if isinstance(error, TrainingInterrupted):
        raise error
    logger.warning("%s: %s", job.label, error)
    return VariantResult(job.name, job.seed, job.settings, "failed", reason=str(error))
