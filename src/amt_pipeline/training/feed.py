"""Batches on their way to the network: on the device before it asks, where that pays.

A batch is a pure function of its step, so it may be made ahead by a thread: same batches, same
order. With CUDA the thread makes two ahead, in page-locked memory, copied on a stream of its own.
On a CPU the network and the thread would share the cores, and making a batch takes 1 to 2 % of a
step (benchmarks/feed.py): batches are made when they are asked for. Where the frames of a batch are
meanwhile, in files or in memory, is a matter of `training.holding`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from amt_pipeline.core.closing import Closing
from amt_pipeline.training.holding import Resident, frames_on_device
from amt_pipeline.training.task import Batch, Task

if TYPE_CHECKING:
    import torch

AHEAD = 2
"""Batches made ahead with CUDA: one that waits, one in the making."""


class BatchFeed(Closing):
    """Gives the batches of ascending steps, on the device.

    Used as a context manager: the thread ends with the block, also when that ends by an error. An
    error of the thread is raised by `batch`, with its own type.

    Args:
        make: Returns the batch of a step; a pure function of it.
        steps: The steps that will be asked for, each once and in order.
        device: Where batches go.
        ahead: Batches made ahead by a thread; 0 is no thread; None is two with CUDA, else none.

    Attributes:
        wait_s: Seconds that `batch` took so far, all steps together.
    """

    def __init__(
        self,
        make: Callable[[int], Batch],
        steps: range,
        device: torch.device,
        ahead: int | None = None,
    ) -> None:
        self._make, self._device, self._expected = make, device, iter(steps)
        self.wait_s = 0.0
        self._error: BaseException | None = None
        count = (AHEAD if device.type == "cuda" else 0) if ahead is None else ahead
        self._thread: threading.Thread | None = None
        if count:
            self._carrier = _carrier(device)
            self._ready: queue.SimpleQueue[_Ready | BaseException] = queue.SimpleQueue()
            self._free, self._stopped = threading.Semaphore(count), False
            self._thread = threading.Thread(target=self._work, args=(steps,), daemon=True)
            self._thread.start()

    def batch(self, step: int) -> Batch:
        """Return the batch of `step` on the device; steps are asked for in order."""
        started_s = time.perf_counter()
        if step != (expected := next(self._expected, None)):
            raise ValueError(f"step {step} was asked for, the feed is at {expected}")
        batch = self._make(step).to(self._device) if self._thread is None else self._take()
        self.wait_s += time.perf_counter() - started_s
        return batch

    def close(self) -> None:
        """End the thread; batches made ahead are dropped."""
        if self._thread is not None:
            self._stopped = True
            self._free.release()
            self._thread.join()

    def _take(self) -> Batch:
        found = self._error or self._ready.get()
        if isinstance(found, BaseException):
            self._error = found
            raise found
        self._free.release()
        return found()

    def _work(self, steps: range) -> None:
        try:
            for step in steps:
                self._free.acquire()
                if self._stopped:
                    return
                self._ready.put(self._carrier(self._make, step))
        except BaseException as error:  # whatever it is, the loop raises it
            self._ready.put(error)


_Ready = Callable[[], Batch]
"""Called in the loop's thread, hands over a batch that is on the device."""


def _carrier(device: torch.device) -> Callable[[Callable[[int], Batch], int], _Ready]:
    """Return what makes a batch and brings it to a device, in a thread."""
    if device.type != "cuda":

        def carry(make: Callable[[int], Batch], step: int) -> _Ready:
            batch = make(step).to(device)
            return lambda: batch

        return carry
    return _cuda_carrier(device)


def _cuda_carrier(device: torch.device) -> Callable[[Callable[[int], Batch], int], _Ready]:
    """Copy from page-locked memory on a stream of its own, beside what the network computes."""
    import torch

    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))  # for frames just brought to the device

    def carry(make: Callable[[int], Batch], step: int) -> _Ready:
        with torch.cuda.stream(stream):
            pinned = _each(make(step), lambda x: x if x.is_cuda else x.pin_memory())
            batch = pinned.to(device)
            copied = stream.record_event()

        def hand_over() -> Batch:
            network = torch.cuda.current_stream(device)
            network.wait_event(copied)
            # The allocator must not give the memory to the next copy while the network reads it.
            for tensor in (*batch.inputs, batch.targets, batch.valid):
                if tensor is not None:
                    tensor.record_stream(network)
            return batch

        return hand_over

    return carry


def _each(batch: Batch, function: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    valid = None if batch.valid is None else function(batch.valid)
    return Batch(tuple(map(function, batch.inputs)), function(batch.targets), valid)


@contextmanager
def open_feed(
    task: Task, make: Callable[[int], Batch], steps: range, device: torch.device
) -> Iterator[BatchFeed]:
    """Open the feed of a training run: frames go to the device if they should, then batches.

    Args:
        task: Whose `training.resident` decides about frames.
        make: Returns the batch of a step.
        steps: The steps that will be asked for.
        device: Where the network is.

    Raises:
        ConfigError: `training.resident` is `always` and the frames cannot be held on the device.
    """
    # Of a finished run nothing is read any more.
    resident: Resident = task.training.resident if steps else "never"
    with (
        frames_on_device(task, device, resident),
        BatchFeed(make, steps, device) as feed,
    ):
        yield feed
