"""Functions of the standard library and of the package stand in: workers find those by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from amt_pipeline.core.errors import StorageError, UserError
from amt_pipeline.core.files import read_json, write_json, write_text
from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.core.parallel import Failure, ParallelConfig, cpu_count, map_items, worker_count
from amt_pipeline.core.progress import WORKERS_VARIABLE


def run(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int
) -> Generator[Any, None, None]:
    return map_items(function, items, label="Run", parallel=ParallelConfig(workers=workers))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three JSON files, the second one damaged."""
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for number, path in enumerate(paths):
        write_json(path, number)
    paths[1].write_text("{")
    return paths


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_failures_come_with_their_item(workers: int, files: list[Path]) -> None:
    outcomes = dict(run(read_json, files, workers))
    assert outcomes.keys() == set(files)
    assert outcomes[files[0]] == 0
    assert outcomes[files[2]] == 2
    failure = outcomes[files[1]]
    assert isinstance(failure, Failure)
    assert type(failure.error) is UserError
    assert "1.json: cannot be read as JSON" in str(failure.error)


def test_workers_know_how_many_they_are() -> None:
    for workers in (3, 2):  # the processes are the same ones
        found = dict(run(os.getenv, [WORKERS_VARIABLE, "PATH", "HOME"], workers))
        assert found[WORKERS_VARIABLE] == str(workers)
    assert dict(run(os.getenv, [WORKERS_VARIABLE], 1)) == {WORKERS_VARIABLE: None}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_defect_is_raised(workers: int, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(run(file_sha256, [tmp_path / "a", tmp_path / "b"], workers))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_refuses_ends_the_run(workers: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    targets = [tmp_path / "file" / name for name in "abcdef"]
    with pytest.raises(StorageError, match="file/"):
        list(run(partial(write_text, text="x"), targets, workers))


@pytest.mark.filterwarnings("error")
def test_who_takes_no_more_outcomes_hears_no_warning(files: list[Path]) -> None:
    outcomes = run(read_json, files * 4, 2)
    assert next(outcomes)[0] in files
    outcomes.close()  # as the end of a loop does that raises the error of a failure
    assert list(outcomes) == []


def test_items_come_back_as_they_finish(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    wait = f"for i in $(seq 600); do [ -e '{flag}' ] && break; sleep 0.05; done; [ -e '{flag}' ]"
    wait += " && sleep 1"  # on a busy machine the other result may be long on its way
    touch = f"touch '{flag}'"
    outcomes = list(run(os.system, [wait, touch], 2))
    assert outcomes == [(touch, 0), (wait, 0)]


def test_workers_are_processes_with_one_thread_each() -> None:
    places = dict(run(os.readlink, ["/proc/self", "/proc/self/exe"], 2))
    assert places["/proc/self"] != str(os.getpid())
    threads = list(run(os.getenv, ["OMP_NUM_THREADS", "MKL_NUM_THREADS"], 2))
    assert sorted(threads) == [("MKL_NUM_THREADS", "1"), ("OMP_NUM_THREADS", "1")]


def test_one_worker_or_one_item_needs_no_process() -> None:
    assert list(run(os.readlink, ["/proc/self"], 4)) == [("/proc/self", str(os.getpid()))]
    assert list(run(os.readlink, [], 4)) == []


def test_a_killed_worker_is_named_with_a_remedy() -> None:
    with pytest.raises(UserError, match=r"2 worker processes: .*memory.*fewer workers"):
        list(run(signal.raise_signal, [signal.SIGKILL] * 2, 2))


def test_worker_count() -> None:
    assert worker_count(3) == 3
    assert worker_count(None) == cpu_count() >= 1
    assert cpu_count() <= len(os.sched_getaffinity(0))


def test_settings_that_contradict_each_other_are_refused() -> None:
    cluster = {"backend": "dask", "scheduler": "tcp://host:8786"}
    assert ParallelConfig.model_validate(cluster).scheduler == "tcp://host:8786"
    with pytest.raises(ValidationError, match="backend=dask only"):
        ParallelConfig(scheduler="tcp://host:8786")
    with pytest.raises(ValidationError, match="cluster has its own"):
        ParallelConfig.model_validate({**cluster, "workers": 2})


def test_only_local_work_is_taken_inline() -> None:
    assert not ParallelConfig(workers=2).is_inline
    assert ParallelConfig(workers=2).inline().is_inline
    cluster = ParallelConfig(backend="dask", workers=1)
    assert cluster.inline() == cluster
    assert not cluster.is_inline
