"""Trainings in several processes, started for real: what they give, and how they end."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from amt_pipeline.core.errors import ConfigError, StorageError, StoreError
from amt_pipeline.core.files import read_json
from amt_pipeline.training.checkpoints import list_checkpoints
from amt_pipeline.training.launch import (
    LAUNCH_FOLDER,
    TrainingProcessLost,
    _raise_failure,
    start_training,
)
from amt_pipeline.training.result import TrainingInterrupted
from amt_pipeline.training.run import RESULT_FILE
from amt_pipeline.training.worker import PEER_LOST, PIPE_VARIABLE, main

LAST = "step-0000016"
TESTS = Path(__file__).resolve().parents[1]


class Listener:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, dict[str, float]]] = []

    def scalars(self, values: Any, step: int) -> None:
        self.heard.append((step, dict(values)))

    def file(self, path: object, folder: str = "") -> None:
        pytest.fail("the loop reports no files")


@pytest.fixture
def shared_task(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make a task for two processes of one thread each."""
    from distributed_support import SharedTask

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return lambda **settings: SharedTask(store_folder, **{"devices": 2, **settings})


@pytest.fixture(scope="module")
def calm(store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Listener]:
    """Folder of an undisturbed run of two processes, and what it reported."""
    from distributed_support import SharedTask

    folder, listener = tmp_path_factory.mktemp("calm"), Listener()
    start_training(SharedTask(store_folder, devices=2, threads=1), folder, listener)
    return folder, listener


def test_two_processes_learn_what_one_does(
    shared_task: Callable[..., Any], calm: tuple[Path, Listener], tmp_path: Path
) -> None:
    folder, together = calm
    alone = Listener()
    result = start_training(shared_task(devices=1), tmp_path, alone)
    found = read_json(folder / RESULT_FILE)
    assert (result.processes, found["processes"]) == (1, 2)
    assert found["checkpoints"] == result.checkpoints
    assert len(found["history"]) == len(result.history) == 8
    for row, expected in zip(found["history"], result.history, strict=True):
        assert row == pytest.approx(expected, rel=1e-5)
    assert [step for step, _ in together.heard] == [step for step, _ in alone.heard]
    assert together.heard[3][1]["train/loss"] == found["history"][3]["loss"]
    assert not (folder / LAUNCH_FOLDER).exists()


def test_a_killed_process_costs_only_time(
    shared_task: Callable[..., Any],
    calm: tuple[Path, Listener],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    listener, marker = Listener(), tmp_path / "killed"
    task = shared_task(trouble="kill", where=(1, 9), marker=str(marker))
    with caplog.at_level(logging.INFO):
        start_training(task, tmp_path / "run", listener)
    assert marker.exists()
    assert "Loud bin: going on from step 8 of 16" in caplog.messages
    assert any("ended unexpectedly" in message for message in caplog.messages)
    files = "files.json"
    assert read_json(tmp_path / "run" / LAST / files) == read_json(calm[0] / LAST / files)
    assert (
        read_json(tmp_path / "run" / RESULT_FILE)["history"]
        == (read_json(calm[0] / RESULT_FILE)["history"])
    )
    assert [step for step, _ in listener.heard] == [step for step, _ in calm[1].heard]


def test_restart_is_asked_for_once_and_not_by_every_start(
    shared_task: Callable[..., Any], calm: tuple[Path, Listener], tmp_path: Path
) -> None:
    start_training(shared_task(devices=1, epochs=1, learning_rate=0.5), tmp_path / "run")
    (tmp_path / "run" / RESULT_FILE).unlink()
    task = shared_task(trouble="kill", marker=str(tmp_path / "killed"), restart=True)
    start_training(task, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "previous").iterdir()] == ["001"]
    files = "files.json"
    for found in (list_checkpoints(tmp_path / "run"), list_checkpoints(calm[0])):
        assert [path.name for path in found] == [f"step-{n:07d}" for n in (4, 8, 12, 16)]
    weights = [read_json(folder / LAST / files)["model.safetensors"]
               for folder in (tmp_path / "run", calm[0])]  # fmt: skip
    assert weights[0] == weights[1]


def test_a_mistake_in_one_process_is_raised_here(
    shared_task: Callable[..., Any], tmp_path: Path
) -> None:
    task = shared_task(trouble="mistake", where=(1, 5))
    with pytest.raises(StoreError, match=r"frames/a\.npy: was ingested again meanwhile") as raised:
        start_training(task, tmp_path)
    assert raised.value.remedy == "Run again"
    assert not (tmp_path / RESULT_FILE).exists()
    assert not (tmp_path / LAUNCH_FOLDER).exists()


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl+C as on a terminal, whatever the test runner made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def wait_for(condition: Callable[[], Any], limit_s: float = 120.0) -> Any:
    """Return what a condition gives as soon as it is true."""
    deadline_s = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    return found


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_saves_and_one_process_goes_on(
    shared_task: Callable[..., Any], tmp_path: Path
) -> None:
    def press() -> None:
        wait_for(lambda: list_checkpoints(tmp_path))
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(
        TrainingInterrupted, match=r"stopped at step \d+ of 40000, saved in"
    ) as stopped:
        start_training(shared_task(epochs=10_000, keep=1), tmp_path)
    presser.join()
    assert stopped.value.signal_number == signal.SIGINT
    saved = int(list_checkpoints(tmp_path)[-1].name.removeprefix("step-"))
    result = start_training(shared_task(devices=1, epochs=saved / 4 + 1), tmp_path)
    assert result.steps >= saved + 4
    assert result.processes == 1
    # Nothing was reported twice, and nothing is missing.
    steps = [row["step"] for row in result.history]
    assert steps == sorted(set(steps))
    assert steps[:3] == [2, 4, 6]


# Plays SLURM's srun for one other machine: starts what follows its options, and says that it did.
SRUN = """#!/bin/sh
echo "$@" > {said}
while [ "${{1#-}}" != "$1" ]; do shift; done
exec "$@"
"""


def test_two_machines_learn_what_one_does(
    shared_task: Callable[..., Any],
    calm: tuple[Path, Listener],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = tmp_path / "said"
    (tmp_path / "srun").write_text(SRUN.format(said=said))
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    # Both have this machine's name, which need not be known to anyone.
    task = shared_task(devices=1, nodes=2, endpoint=f"localhost:{29500 + os.getpid() % 1000}")
    result = start_training(task, tmp_path / "run")
    assert result.processes == 2
    assert said.read_text().startswith("--nodes=1 --ntasks=1 ")
    files = "files.json"
    assert read_json(tmp_path / "run" / LAST / files) == read_json(calm[0] / LAST / files)


ORPHAN = """
import sys
from pathlib import Path
sys.path.append(sys.argv[1])
from distributed_support import SharedTask
from amt_pipeline.training.launch import start_training
store, folder = map(Path, sys.argv[2:])
start_training(SharedTask(store, devices=2, threads=1, epochs=10_000, max_restarts=0), folder)
"""


def test_no_process_outlives_the_one_that_started_it(store_folder: Path, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, *map(str, (TESTS, store_folder, tmp_path))]
    )
    wait_for(lambda: list_checkpoints(tmp_path))
    started = psutil.Process(parent.pid).children(recursive=True)
    assert len(started) == 3
    parent.kill()
    parent.wait()
    gone, alive = psutil.wait_procs(started, timeout=120)
    assert (len(gone), alive) == (3, [])


def test_defects_keep_their_traceback(shared_task: Callable[..., Any], tmp_path: Path) -> None:
    failures = tmp_path / "failures"
    failures.mkdir()
    (failures / "0-0.txt").write_text(f"{PEER_LOST}\nRuntimeError: connection closed by peer")
    with pytest.raises(TrainingProcessLost, match=r"started 1 times.*fewer training\.devices"):
        _raise_failure(shared_task(max_restarts=0), tmp_path)
    (failures / "0-1.txt").write_text("Traceback ...\nZeroDivisionError: a defect")
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a defect"):
        _raise_failure(shared_task(), tmp_path)


@pytest.mark.parametrize("file", ["error.json", "stop"])
def test_a_worker_that_comes_too_late_does_nothing(file: str, tmp_path: Path) -> None:
    (tmp_path / file).touch()
    assert main([str(tmp_path / "spec.json")]) == 0


@pytest.mark.parametrize("asked", [b"s", b""])
def test_a_worker_that_took_the_wish_to_stop_ends_its_peers_too(
    asked: bytes, tmp_path: Path
) -> None:
    # They may wait for it already; torchrun ends them only if it fails.
    (tmp_path / "stop").touch()
    reading, writing = os.pipe()
    os.write(writing, asked)
    if not asked:
        os.close(writing)
    found = subprocess.run(
        [sys.executable, "-m", "amt_pipeline.training.worker", str(tmp_path / "spec.json")],
        check=False, stdin=reading, env={**os.environ, PIPE_VARIABLE: "1"}, timeout=120,
    )  # fmt: skip
    if asked:
        os.close(writing)
    left = os.read(reading, 1)
    os.close(reading)
    assert (found.returncode, left) == (1, b"")


def test_a_worker_without_its_specification_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "spec.json")]) == 1
    assert read_json(tmp_path / "error.json")["problem"] == "no such file"
    assert main([]) == 2
    assert "SPEC.json" in capsys.readouterr().err


def test_a_batch_for_each_process(shared_task: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.batch_size=4: is less than one .* 5 proc"):
        start_training(shared_task(devices=5), tmp_path)


def test_a_folder_that_cannot_be_is_named(shared_task: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="launch: cannot be written"):
        start_training(shared_task(), tmp_path / "file")


@pytest.mark.parametrize(
    ("variables", "outer"),
    [({"TORCHELASTIC_RUN_ID": "x"}, "torchrun"), ({"WORLD_SIZE": "2"}, "torchrun"),
     ({"SLURM_STEP_NUM_TASKS": "2"}, "srun")],
)  # fmt: skip
def test_the_command_itself_is_started_once(
    variables: dict[str, str],
    outer: str,
    make_task: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"{outer}: started this command in several processes"):
        start_training(make_task(), tmp_path)
