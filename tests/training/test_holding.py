"""Training frames in files or in the memory of a device: the same batches, and fair shares."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.progress import WORKERS_VARIABLE
from amt_pipeline.store.device_frames import DeviceFrames
from amt_pipeline.training import holding
from amt_pipeline.training.feed import BatchFeed
from amt_pipeline.training.holding import frames_on_device
from engine_support import MovableTask, same

CPU = torch.device("cpu")


@pytest.fixture
def task(store_folder: Path) -> MovableTask:
    return MovableTask(store_folder)


@pytest.mark.parametrize("ahead", [0, 2])
def test_resident_frames_give_the_same_batches(task: MovableTask, ahead: int) -> None:
    files = task.readers["train"]
    expected = [task.make(step) for step in range(5)]
    with (
        frames_on_device(task, CPU, "always") as resident,
        BatchFeed(task.make, range(5), CPU, ahead) as feed,
    ):
        assert resident
        assert isinstance(task.readers["train"], DeviceFrames)
        assert all(same(feed.batch(step), expected[step]) for step in range(5))
    assert task.readers["train"] is files


def test_frames_go_back_to_the_files_after_an_error(task: MovableTask) -> None:
    files = task.readers["train"]
    with pytest.raises(RuntimeError, match="in the loop"), frames_on_device(task, CPU, "always"):
        raise RuntimeError("in the loop")
    assert task.readers["train"] is files


def test_frames_asked_to_stay_in_the_files_do(task: MovableTask) -> None:
    files = task.readers["train"]
    with frames_on_device(task, CPU, "never") as held:
        assert not held
        assert task.readers["train"] is files


def test_on_a_cpu_small_frames_are_held_of_themselves(
    task: MovableTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = task.readers["train"]
    frame_bytes = files.store.spec.frame_bytes
    monkeypatch.setattr(holding, "SMALL_FRAME_BYTES", frame_bytes)
    with frames_on_device(task, CPU, "auto") as held:
        assert held
        assert isinstance(task.readers["train"], DeviceFrames)
    monkeypatch.setattr(holding, "SMALL_FRAME_BYTES", frame_bytes - 1)
    with frames_on_device(task, CPU, "auto") as held:
        assert not held
        assert task.readers["train"] is files


def test_of_itself_a_cpu_holds_a_sixth_of_the_free_memory(
    task: MovableTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 60 * task.readers["train"].store.spec.frame_bytes
    for free, expected in ((6 * needed, True), (6 * needed - 6, False)):
        monkeypatch.setattr(holding, "free_bytes", lambda device, free=free: free)
        with frames_on_device(task, CPU, "auto") as held:
            assert held is expected
        with frames_on_device(task, CPU, "always") as held:
            assert held


def test_processes_of_one_machine_share_its_memory(
    task: MovableTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 60 * task.readers["train"].store.spec.frame_bytes
    monkeypatch.setattr(holding, "free_bytes", lambda device: 6 * 6 * needed)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # of each of so many trainings of a study
    for trainings, expected in ((3, True), (4, False)):
        monkeypatch.setenv(WORKERS_VARIABLE, str(trainings))
        with frames_on_device(task, CPU, "auto") as held:
            assert held is expected
    monkeypatch.setenv(WORKERS_VARIABLE, "18")
    with pytest.raises(ConfigError, match="may have 2%"), frames_on_device(task, CPU, "always"):
        pytest.fail("not reached")


def test_always_is_refused_where_frames_do_not_fit(
    task: MovableTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "free_bytes", lambda device: 3000)
    with (
        pytest.raises(ConfigError, match=r"training\.resident=always: .* may have 60%.*auto"),
        frames_on_device(task, CPU, "always"),
    ):
        pytest.fail("not reached")
    monkeypatch.setattr(holding, "free_bytes", lambda device: 4000)
    with frames_on_device(task, CPU, "always") as held:
        assert held


def test_memory_that_another_process_took_meanwhile(
    task: MovableTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("taken")

    monkeypatch.setattr(holding, "DeviceFrames", full)
    with (
        pytest.raises(ConfigError, match=r"training\.resident=always: .* did not fit"),
        frames_on_device(task, CPU, "always"),
    ):
        pytest.fail("not reached")
