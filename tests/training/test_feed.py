"""Batches made ahead or not, from files or from a device: the same ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amt_pipeline.core.errors import ConfigError, StoreError
from amt_pipeline.store.device_frames import DeviceFrames
from amt_pipeline.store.windows import FrameSource, Windows
from amt_pipeline.training import feed as feed_module
from amt_pipeline.training.feed import BatchFeed, frames_on_device, open_feed
from amt_pipeline.training.task import Batch
from engine_support import CONTEXT, LENGTH, SyntheticTask

MakeTask = Callable[..., Any]
CPU = torch.device("cpu")


class MovableTask(SyntheticTask):
    """A task whose training frames may be moved."""

    def training_source(self) -> FrameSource | None:
        return self.readers["train"]

    def use_training_source(self, source: FrameSource) -> None:
        self.readers["train"] = source

    def windows_at(self, step: int) -> Windows:
        return self.training_windows(0)[step * 3 : step * 3 + 3]

    def make(self, step: int) -> Batch:
        frames = torch.as_tensor(
            self.readers["train"].gather(self.windows_at(step), LENGTH, CONTEXT)
        )
        return Batch((frames, torch.tensor([step])), frames.amax((1, 2)), None)


@pytest.fixture
def task(store_folder: Path) -> MovableTask:
    return MovableTask(store_folder)


def same(one: Batch, other: Batch) -> bool:
    pairs = zip((*one.inputs, one.targets), (*other.inputs, other.targets), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and (one.valid is other.valid is None)


@pytest.mark.parametrize("ahead", [0, 1, 2, 5])
def test_batches_are_those_of_the_steps(task: MovableTask, ahead: int) -> None:
    with BatchFeed(task.make, range(2, 5), CPU, ahead) as feed:
        found = [feed.batch(step) for step in (2, 3, 4)]
    assert all(same(batch, task.make(2 + i)) for i, batch in enumerate(found))
    assert feed.wait_s > 0


def test_a_thread_makes_so_many_ahead_and_no_more() -> None:
    made: list[int] = []
    enough = threading.Event()

    def make(step: int) -> Batch:
        made.append(step)
        if len(made) == 3:
            enough.set()
        return Batch((torch.tensor([step]),), torch.tensor([step]))

    with BatchFeed(make, range(10), CPU, ahead=2) as feed:
        assert feed.batch(0).targets.tolist() == [0]
        assert enough.wait(10)
        time.sleep(0.02)
        assert made == [0, 1, 2]
    assert made == [0, 1, 2]


def test_on_a_cpu_nothing_is_made_ahead(task: MovableTask) -> None:
    before = threading.active_count()
    with BatchFeed(task.make, range(3), CPU):
        assert threading.active_count() == before
    with BatchFeed(task.make, range(3), CPU, ahead=1):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.parametrize("ahead", [0, 2])
def test_errors_of_the_data_come_out_with_their_own_type(ahead: int) -> None:
    def make(step: int) -> Batch:
        if step == 2:
            raise StoreError("a.npy", "is damaged")
        return Batch((), torch.tensor([step]))

    before = threading.active_count()
    with BatchFeed(make, range(5), CPU, ahead) as feed:
        assert feed.batch(0).targets.tolist() == [0]
        assert feed.batch(1).targets.tolist() == [1]
        with pytest.raises(StoreError, match="is damaged"):
            feed.batch(2)
    assert threading.active_count() == before


def test_the_thread_ends_with_the_loop_whatever_ends_it(task: MovableTask) -> None:
    before = threading.active_count()
    with (
        pytest.raises(RuntimeError, match="in the loop"),
        BatchFeed(task.make, range(5), CPU, ahead=2) as feed,
    ):
        feed.batch(0)
        raise RuntimeError("in the loop")
    assert threading.active_count() == before


@pytest.mark.parametrize("ahead", [0, 2])
def test_steps_out_of_order_are_a_defect(task: MovableTask, ahead: int) -> None:
    with BatchFeed(task.make, range(3), CPU, ahead) as feed:
        feed.batch(0)
        with pytest.raises(ValueError, match="step 2 was asked for, the feed is at 1"):
            feed.batch(2)
    with (
        BatchFeed(task.make, range(0), CPU, ahead) as feed,
        pytest.raises(ValueError, match="step 0 was asked for, the feed is at None"),
    ):
        feed.batch(0)


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
    monkeypatch.setattr(feed_module, "SMALL_FRAME_BYTES", frame_bytes)
    with frames_on_device(task, CPU, "auto") as held:
        assert held
        assert isinstance(task.readers["train"], DeviceFrames)
    monkeypatch.setattr(feed_module, "SMALL_FRAME_BYTES", frame_bytes - 1)
    with frames_on_device(task, CPU, "auto") as held:
        assert not held
        assert task.readers["train"] is files


def test_of_itself_a_cpu_holds_a_sixth_of_the_free_memory(
    task: MovableTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 60 * task.readers["train"].store.spec.frame_bytes
    for free, expected in ((6 * needed, True), (6 * needed - 6, False)):
        monkeypatch.setattr(feed_module, "free_bytes", lambda device, free=free: free)
        with frames_on_device(task, CPU, "auto") as held:
            assert held is expected
        with frames_on_device(task, CPU, "always") as held:
            assert held


def test_always_is_refused_where_frames_do_not_fit(
    task: MovableTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "free_bytes", lambda device: 3000)
    with (
        pytest.raises(ConfigError, match=r"training\.resident=always: .* may have 60%.*auto"),
        frames_on_device(task, CPU, "always"),
    ):
        pytest.fail("not reached")
    monkeypatch.setattr(feed_module, "free_bytes", lambda device: 4000)
    with frames_on_device(task, CPU, "always") as held:
        assert held


def test_memory_that_another_process_took_meanwhile(
    task: MovableTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("taken")

    monkeypatch.setattr(feed_module, "DeviceFrames", full)
    with (
        pytest.raises(ConfigError, match=r"training\.resident=always: .* did not fit"),
        frames_on_device(task, CPU, "always"),
    ):
        pytest.fail("not reached")


def test_always_is_refused_for_tasks_without_stored_frames(make_task: MakeTask) -> None:
    task = make_task(resident="always")
    with (
        pytest.raises(ConfigError, match="do not come from stored frames"),
        open_feed(task, task.training_batch, range(1), CPU),
    ):
        pytest.fail("not reached")


def test_the_feed_of_a_run_follows_the_settings(store_folder: Path) -> None:
    task = MovableTask(store_folder, resident="always")
    with open_feed(task, task.make, range(2), CPU) as feed:
        assert isinstance(task.readers["train"], DeviceFrames)
        assert np.array_equal(feed.batch(0).inputs[1], [0])


def test_a_finished_run_moves_no_frames(store_folder: Path) -> None:
    task = MovableTask(store_folder, resident="always")
    files = task.readers["train"]
    with open_feed(task, task.make, range(2, 2), CPU):
        assert task.readers["train"] is files


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("resident", ["auto", "never"])
def test_cuda_batches_equal_those_of_the_cpu(task: MovableTask, resident: Any) -> None:
    cuda = torch.device("cuda")
    expected = [task.make(step) for step in range(5)]
    with frames_on_device(task, cuda, resident) as held:
        assert held is (resident == "auto")
        with BatchFeed(task.make, range(5), cuda) as feed:
            found = [feed.batch(step) for step in range(5)]
    assert all(batch.targets.is_cuda for batch in found)
    assert all(same(batch.to(CPU), expected[i]) for i, batch in enumerate(found))
