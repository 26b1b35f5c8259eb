"""A run that was stopped, killed or broken and started again ends as one that was not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.errors import ResumeError
from amt_pipeline.core.files import read_json
from amt_pipeline.core.reporter import NullReporter
from amt_pipeline.training.checkpoints import list_checkpoints, read_state
from amt_pipeline.training.loop import train
from amt_pipeline.training.run import RESULT_FILE

MakeTask = Callable[..., Any]
LAST = "step-0000016"

# Takes one run undisturbed. Another is killed at a file operation, started again and killed a
# little later, until it comes through; prints how often that was and how it ended.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.append(sys.argv[1])
from engine_support import SyntheticTask
from amt_pipeline.training.loop import train

store, calm, killed = map(Path, sys.argv[2:])
train(SyntheticTask(store), calm)
for start in range(300):
    child = os.fork()
    if child == 0:
        left = 3 + 7 * start
        def kill_late(event, arguments):
            global left
            if event.startswith(("open", "os.", "shutil.", "tempfile.")) and event != "os.kill":
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(kill_late)
        train(SyntheticTask(store), killed)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        print(start, os.WEXITSTATUS(status))
        break
"""


class Broken(Exception):
    pass


class Breaker(NullReporter):
    """Breaks a run right after a step was reported."""

    def __init__(self, step: int) -> None:
        self.step = step

    def scalars(self, values: object, step: int) -> None:
        if step == self.step:
            raise Broken


@pytest.fixture
def undisturbed(make_task: MakeTask, tmp_path: Path) -> Path:
    """Folder of a run that was not stopped."""
    folder = tmp_path / "undisturbed"
    train(make_task(), folder)
    return folder


def assert_same(folder: Path, other: Path) -> None:
    """The last checkpoints agree to the bit: weights, optimiser, random states and history."""
    found, expected = (read_json(run / LAST / "files.json") for run in (folder, other))
    assert found == expected


@pytest.mark.parametrize("broken_at", [2, 6, 8, 14, 16])
def test_broken_and_started_again_ends_the_same(
    broken_at: int, make_task: MakeTask, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    with pytest.raises(Broken):
        train(make_task(), folder, Breaker(broken_at))
    assert not (folder / RESULT_FILE).exists()
    assert len(list_checkpoints(folder)) == (broken_at - 1) // 4
    result = train(make_task(), folder)
    assert_same(folder, undisturbed)
    assert result.history == read_json(undisturbed / RESULT_FILE)["history"]
    assert read_json(folder / RESULT_FILE) == read_json(undisturbed / RESULT_FILE)


def test_killed_at_any_file_operation_ends_the_same(store_folder: Path, tmp_path: Path) -> None:
    support = Path(__file__).resolve().parents[1]
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, (support, store_folder, calm, killed))],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout, done.stderr
    starts, status = map(int, done.stdout.split())
    assert status == 0
    assert starts >= 5
    assert_same(killed, calm)
    assert read_json(killed / RESULT_FILE) == read_json(calm / RESULT_FILE)


def test_a_finished_run_is_not_trained_again(
    make_task: MakeTask, undisturbed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    before = (undisturbed / LAST / "files.json").stat().st_mtime_ns
    task = make_task()
    task.before_step = lambda step: pytest.fail("a step was taken")
    assert train(task, undisturbed).steps == 16
    assert (undisturbed / LAST / "files.json").stat().st_mtime_ns == before
    assert "Loud bin: complete at step 16 of 16, nothing is left to train" in caplog.messages
    assert "going on" not in caplog.text


def test_more_epochs_extend_the_run(make_task: MakeTask, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "extended"
    train(make_task(epochs=2), folder)
    taken: list[int] = []
    task = make_task(epochs=4)
    task.before_step = taken.append
    train(task, folder)
    assert taken == list(range(8, 16))
    assert_same(folder, undisturbed)


def test_changed_learning_rate_is_refused_while_unfinished(
    make_task: MakeTask, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Broken):
        train(make_task(), folder, Breaker(6))
    with pytest.raises(ResumeError, match=r"training\.learning_rate: 0\.01 -> 0\.02"):
        train(make_task(learning_rate=0.02), folder)
    with pytest.raises(ResumeError, match=r"model\.hidden: 8 -> 9"):
        train(make_task(hidden=9), folder)
    assert train(make_task(learning_rate=0.02, restart=True), folder).steps == 16
    assert [p.name for p in list_checkpoints(folder / "previous" / "001")] == ["step-0000004"]


def test_changed_learning_rate_begins_anew_beside_a_finished_run(
    make_task: MakeTask, undisturbed: Path
) -> None:
    before = read_json(undisturbed / LAST / "files.json")
    train(make_task(learning_rate=0.02), undisturbed)
    assert read_json(undisturbed / "previous" / "001" / LAST / "files.json") == before
    assert read_state(undisturbed / LAST).config["training"]["learning_rate"] == 0.02


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "files.json"])
def test_a_damaged_checkpoint_costs_only_itself(
    name: str, make_task: MakeTask, undisturbed: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(Broken):
        train(make_task(), folder, Breaker(10))
    path = folder / "step-0000008" / name
    path.write_bytes(path.read_bytes()[:20])
    taken: list[int] = []
    task = make_task()
    task.before_step = taken.append
    train(task, folder)
    assert taken[0] == 4
    assert_same(folder, undisturbed)


def test_seeds_make_the_run(make_task: MakeTask, undisturbed: Path, tmp_path: Path) -> None:
    from engine_support import weights

    train(make_task(), tmp_path / "same")
    assert_same(tmp_path / "same", undisturbed)
    train(make_task(seed=2), tmp_path / "other")
    same, other = weights(undisturbed / LAST), weights(tmp_path / "other" / LAST)
    assert not np.array_equal(same["layers.0.weight"], other["layers.0.weight"])
