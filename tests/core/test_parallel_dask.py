"""Work on a real cluster: a scheduler and two worker processes over TCP.

Functions of the standard library and of the package stand in: workers find those by name.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core import dask_surroundings
from amt_pipeline.core.dask_backend import IN_FLIGHT_PER_THREAD, sealed
from amt_pipeline.core.dask_client import resolve_address
from amt_pipeline.core.dask_surroundings import Surroundings, check_surroundings, mark_folders
from amt_pipeline.core.errors import ClusterError, ConfigError, StorageError, UserError
from amt_pipeline.core.files import read_json, write_json, write_text
from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.core.parallel import Failure, ParallelConfig, map_items
from amt_pipeline.core.progress import WORKERS_VARIABLE

distributed = pytest.importorskip("distributed")


@pytest.fixture
def there(dask_cluster: Any) -> ParallelConfig:
    """The shared cluster."""
    address = dask_cluster.scheduler_address
    return ParallelConfig(backend="dask", scheduler=address, wait_s=20)


def sleepy(log: Path, number: int, kill: str = "") -> str:
    """A command that writes when it starts and when it is done."""
    return f"echo start {number} >> '{log}'; {kill} sleep 0.05; echo done {number} >> '{log}'"


def test_results_and_failures_are_those_of_loky(there: ParallelConfig, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.json" for number in range(9)]
    for number, path in enumerate(files[:8]):
        write_json(path, {"number": number})
    files[3].write_text("{")
    found = dict(map_items(read_json, files, label="Read", parallel=there, shared=[tmp_path]))
    local = dict(map_items(read_json, files, label="Read", parallel=ParallelConfig(workers=1)))
    assert found.keys() == local.keys()
    for path, outcome in found.items():
        expected = local[path]
        if isinstance(expected, Failure):
            assert isinstance(outcome, Failure)
            assert type(outcome.error) is type(expected.error)
            assert str(outcome.error) == str(expected.error)
        else:
            assert outcome == expected
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_work_is_spread_over_processes_with_one_thread_each(
    there: ParallelConfig, dask_cluster: Any
) -> None:
    places = {
        place for _, place in map_items(os.readlink, ["/proc/self"], label="x", parallel=there)
    }
    assert places.isdisjoint({str(os.getpid())})
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    threads = dict(map_items(os.getenv, names, label="x", parallel=there))
    assert threads == dict.fromkeys(names, "1")
    assert list(map_items(os.readlink, [], label="x", parallel=there)) == []


def test_the_scheduler_never_holds_more_than_workers_can_take(
    there: ParallelConfig, dask_cluster: Any
) -> None:
    held = [
        len(dask_cluster.scheduler.tasks)
        for _ in map_items(os.getenv, ["X"] * 60, label="x", parallel=there)
    ]
    assert len(held) == 60
    # A result that was just given back may not be forgotten yet.
    assert 0 < max(held) <= 2 * 2 * IN_FLIGHT_PER_THREAD


def test_items_of_a_killed_worker_are_done_elsewhere(there: ParallelConfig, tmp_path: Path) -> None:
    log, flag = tmp_path / "log", tmp_path / "flag"
    # The first to come kills the worker that it runs in, in the middle of its item.
    kill = f"mkdir '{flag}' 2>/dev/null && kill -9 $PPID && sleep 5;"
    commands = [sleepy(log, number, kill) for number in range(12)]
    outcomes = list(map_items(os.system, commands, label="x", parallel=there))
    assert sorted(outcomes) == sorted((command, 0) for command in commands)
    lines = log.read_text().splitlines()
    done = {line for line in lines if line.startswith("done")}
    assert done == {f"done {number}" for number in range(12)}
    assert sum(line.startswith("start") for line in lines) > 12


def test_an_item_that_kills_every_worker_is_given_up(there: ParallelConfig) -> None:
    with pytest.raises(ClusterError, match=r"lost several workers over one item .*memory"):
        list(map_items(signal.raise_signal, [signal.SIGKILL], label="x", parallel=there))


def test_a_defect_is_raised_and_a_disk_that_refuses_ends_the_run(
    there: ParallelConfig, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        list(map_items(file_sha256, [tmp_path / "a"], label="x", parallel=there))
    (tmp_path / "file").touch()
    targets = [tmp_path / "file" / name for name in "abcdef"]
    with pytest.raises(StorageError, match="file/"):
        write = functools.partial(write_text, text="x")
        list(map_items(write, targets, label="Write", parallel=there))


def test_a_worker_that_differs_or_sees_other_folders_is_named(dask_cluster: Any) -> None:
    host = socket.gethostname()
    with distributed.Client(dask_cluster, set_as_default=False) as client:

        def refusal(**changes: Any) -> str:
            fine = {"versions": dask_surroundings.library_versions(), "tokens": ()}
            expected = Surroundings(**{**fine, **changes})
            with pytest.raises(ClusterError) as refused:
                client.submit(check_surroundings, expected, pure=False).result()
            return str(refused.value)

        assert "has numpy 2" in (text := refusal(versions=(("numpy", "0.9"),)))
        assert f"on {host}: " in text
        assert "this process has 0.9" in text
        assert "has no-such (none)" in refusal(versions=(("no-such", "1.0"),))
        unseen = refusal(tokens=("/mnt/corpus/.tmp-shared-1",))
        assert unseen.startswith("/mnt/corpus: is not seen by Dask worker tcp://127.0.0.1:")
        assert f"on {host}. Corpus and data root have to be on a file system" in unseen


def test_workers_of_several_threads_are_refused() -> None:
    with (
        distributed.LocalCluster(
            1,
            threads_per_worker=2,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
        pytest.raises(ClusterError, match="runs 2 items at once in one process"),
    ):
        there = ParallelConfig(backend="dask", scheduler=cluster.scheduler_address)
        list(map_items(os.getenv, ["X"], label="x", parallel=there))


def test_a_scheduler_that_does_not_answer_is_named_at_once() -> None:
    nobody = ParallelConfig(backend="dask", scheduler="tcp://127.0.0.1:9", wait_s=0.5)
    with pytest.raises(
        ClusterError, match=r"scheduler=tcp://127.0.0.1:9: no Dask scheduler answers"
    ):
        list(map_items(os.getenv, ["X"], label="x", parallel=nobody))


@pytest.fixture
def own_scheduler(tmp_path: Path) -> Iterator[tuple[ParallelConfig, subprocess.Popen[bytes], Path]]:
    """A `dask scheduler` in an environment that lacks the package; known by its file."""
    bare = tmp_path / "bare" / "amt_pipeline"
    bare.mkdir(parents=True)
    (bare / "__init__.py").write_text("raise ModuleNotFoundError('No module named amt_pipeline')")
    file = tmp_path / "scheduler.json"
    command = [
        sys.executable,
        "-m",
        "distributed.cli.dask_scheduler",
        "--scheduler-file",
        str(file),
    ]
    command += ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONPATH": str(bare.parent)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                if file.exists() and file.stat().st_size:
                    break
                assert process.poll() is None
                threading.Event().wait(0.05)
            there = ParallelConfig(backend="dask", scheduler=f"file://{file}", wait_s=20)
            yield there, process, bare.parent
        finally:
            process.kill()


def test_a_cluster_without_the_package_without_workers_without_a_scheduler(
    own_scheduler: tuple[ParallelConfig, subprocess.Popen[bytes], Path], tmp_path: Path
) -> None:
    there, scheduler, bare = own_scheduler
    impatient = there.model_copy(update={"wait_s": 0.5})
    with pytest.raises(
        ClusterError, match=r"has had no worker for 0.5 s. Start some: `dask worker"
    ):
        list(map_items(os.getenv, ["X"], label="x", parallel=impatient))
    command = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-nanny"]
    command += ["--scheduler-file", str(there.scheduler).removeprefix("file://")]
    command += ["--dashboard-address", "127.0.0.1:0"]
    environment = {**os.environ, "PYTHONPATH": str(bare)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as worker:
        try:
            with pytest.raises(ClusterError, match="cannot import what is to be done"):
                list(map_items(os.getenv, ["X"], label="x", parallel=there))
        finally:
            worker.kill()
    # Without a worker the item waits, until the scheduler goes too.
    threading.Timer(1.0, scheduler.kill).start()
    patient = there.model_copy(update={"wait_s": 3.0})
    with pytest.raises(ClusterError, match=r"connection to its scheduler was lost.*what was done"):
        list(map_items(os.getenv, ["X"], label="x", parallel=patient))


def test_workers_started_here_know_how_many_they_are() -> None:
    parallel = ParallelConfig(backend="dask", workers=2, wait_s=60)
    names = [WORKERS_VARIABLE, "OMP_NUM_THREADS"]
    found = dict(map_items(os.getenv, names, label="x", parallel=parallel))
    assert found == {WORKERS_VARIABLE: "2", "OMP_NUM_THREADS": "1"}


def test_without_an_address_a_cluster_is_started_here() -> None:
    here = ParallelConfig(backend="dask", workers=1)
    ((item, place),) = map_items(os.readlink, ["/proc/self"], label="x", parallel=here)
    assert item == "/proc/self"
    assert place != str(os.getpid())


LOCAL_RUN = """
import logging, time
from amt_pipeline.core.parallel import ParallelConfig, map_items

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")  # of workers too

# As with torch in it, the interpreter of the worker takes long to be taken down.
SLOW = '''
import sys
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(30)
sys.slow = Slow()
'''

if __name__ == "__main__":
    here = ParallelConfig(backend="dask", workers=1)
    print(*map_items(exec, [SLOW], label="x", parallel=here))
"""


@pytest.mark.parametrize("wanted", [False, True])
def test_cluster_started_here_is_quiet_and_its_workers_end_by_themselves(
    wanted: bool, tmp_path: Path
) -> None:
    script = tmp_path / "local.py"
    script.write_text(LOCAL_RUN)
    environment = {name: value for name, value in os.environ.items() if "DASK" not in name}
    if wanted:
        environment["DASK_LOGGING__DISTRIBUTED"] = "info"
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith(", None)\n")
    assert "killing" not in done.stderr
    for line in ("distributed.scheduler: ", "distributed.worker: "):
        assert (line in done.stderr) is wanted
    assert ("distributed" in done.stderr) is wanted


INTERRUPTED_RUN = """
import logging, os, signal, sys
from amt_pipeline.core.parallel import ParallelConfig, map_items

logging.basicConfig(level=logging.INFO)

if __name__ == "__main__":
    here = ParallelConfig(backend="dask", workers=1)
    import distributed
    print("begin", flush=True)
    try:
        list(map_items(os.system, [f"touch {sys.argv[1]}; sleep 1"], label="x", parallel=here))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("early", [False, True])
def test_ctrl_c_ends_the_cluster_started_here_without_a_traceback(
    early: bool, tmp_path: Path
) -> None:
    script, begun = tmp_path / "local.py", tmp_path / "begun"
    script.write_text(INTERRUPTED_RUN)
    with subprocess.Popen(
        [sys.executable, script, begun],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not (early or begun.exists()):
            assert process.poll() is None
            threading.Event().wait(0.05)
        if early:  # while it starts
            assert process.stdout.readline() == "begin\n"
            threading.Event().wait(0.7)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to workers too
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "interrupted\n" if early else "begin\ninterrupted\n")
    assert "Traceback" not in err
    assert "distributed" not in err


def test_without_dask_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r'needs Dask. Run `pip install "amt_pipeline\[dask\]"`'):
        list(map_items(os.getenv, ["X"], label="x", parallel=ParallelConfig(backend="dask")))


def test_addresses_of_schedulers(tmp_path: Path) -> None:
    for given, address in {
        "tcp://host:8786": "tcp://host:8786",
        "tls://10.0.0.7:9000": "tls://10.0.0.7:9000",
        "host.example.org": "tcp://host.example.org:8786",
        "host:1234": "tcp://host:1234",
        "tcp://[::1]:8786": "tcp://[::1]:8786",
    }.items():
        assert resolve_address(given) == address
    file = tmp_path / "scheduler.json"
    write_json(file, {"address": "tcp://10.0.0.7:8786"})
    assert resolve_address(f"file://{file}") == "tcp://10.0.0.7:8786"
    write_json(file, {"other": 1})
    with pytest.raises(ConfigError, match="is not a scheduler file"):
        resolve_address(f"file://{file}")
    with pytest.raises(UserError, match=r"no\.json: no such file"):
        resolve_address(f"file://{tmp_path}/no.json")
    for wrong in ("http://host:8786", "host:port", "two words", "tcp://"):
        with pytest.raises(ConfigError, match="is no address of a scheduler"):
            resolve_address(wrong)


def test_folders_are_marked_while_the_work_lasts(tmp_path: Path) -> None:
    made_later = tmp_path / "out" / "notes"
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    with mark_folders([tmp_path, made_later, Path("/proc")], [corpus]) as tokens:
        # Where a folder is to be made, and where nothing may be written, what exists has to do.
        source, mark, unwritable = map(Path, tokens)
        assert source == corpus
        assert list(corpus.iterdir()) == []
        assert mark.parent == tmp_path
        assert mark.is_file()
        assert unwritable == Path("/proc")
    assert list(tmp_path.iterdir()) == [corpus]


def test_a_sealed_call_is_made_where_it_is_opened(tmp_path: Path) -> None:
    import pickle

    data = sealed(write_text, tmp_path / "a.txt", "made")
    assert not (tmp_path / "a.txt").exists()
    assert pickle.loads(data) is None
    assert (tmp_path / "a.txt").read_text() == "made"
