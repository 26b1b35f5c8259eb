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
from amt_pipeline.training.feed import BatchFeed, open_feed
from amt_pipeline.training.holding import frames_on_device
from amt_pipeline.training.task import Batch
from engine_support import MovableTask, same

MakeTask = Callable[..., Any]
CPU = torch.device("cpu")


@pytest.fixture
def task(store_folder: Path) -> MovableTask:
    return MovableTask(store_folder)


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
