"""Where training frames are during a run: in files, or held in the memory of a device.

On CUDA they live in the device's memory where they fit, so that a batch is gathered there. On a CPU
small frames are held in memory too (benchmarks/context_windows.py), large ones are read from files.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.progress import sibling_workers
from amt_pipeline.store.device_frames import DeviceFrames, frames_bytes, free_bytes
from amt_pipeline.store.windows import FrameSource, WindowReader
from amt_pipeline.training.distributed import processes_here
from amt_pipeline.training.task import Task

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

RESIDENT_FRACTION = 0.6
"""Share of a device's free memory that frames may take; the rest is the network's."""

SMALL_FRAME_BYTES = 1024
"""Frames up to this size are held in memory on a CPU. A window of them is a few kilobytes, and to
find it in a file and ask the system for it takes longer than to copy it; windows of larger frames
are copied from the system's page cache about as fast as from memory of our own."""

CPU_FRACTION = 1 / 6
"""Share of the machine's free memory that frames may take on a CPU, when nobody asked for it."""

Resident = Literal["auto", "always", "never"]


@runtime_checkable
class HoldsFrames(Protocol):
    """A task whose training frames may be moved; tasks without this are fed from where they are."""

    def training_source(self) -> FrameSource | None:
        """Return where training frames come from; None if there are none to be moved."""

    def use_training_source(self, source: FrameSource) -> None:
        """Take training frames from `source` from now on."""


@contextmanager
def frames_on_device(task: Task, device: torch.device, resident: Resident) -> Iterator[bool]:
    """Hold a task's training frames on a device inside the block, where they fit.

    Args:
        task: Whose frames; one that is no `HoldsFrames` keeps them where they are.
        device: Where they go.
        resident: `auto` is if they fit and, on a CPU, if a frame is small; `always` insists,
            `never` is never.

    Yields:
        Whether they are there.

    Raises:
        ConfigError: `always`, and they do not fit or there are none to be moved.
    """
    source = task.training_source() if isinstance(task, HoldsFrames) else None
    held = None
    if resident == "always" or (resident == "auto" and _pays(source, device)):
        held = _hold(source, device, insist=resident == "always")
    if held is None or not isinstance(task, HoldsFrames) or source is None:
        yield False
        return
    task.use_training_source(held)
    try:
        yield True
    finally:
        task.use_training_source(source)


def _pays(source: FrameSource | None, device: torch.device) -> bool:
    """Return whether held frames make batches faster than files do."""
    if device.type == "cuda":
        return True
    return isinstance(source, WindowReader) and source.store.spec.frame_bytes <= SMALL_FRAME_BYTES


def _share(device: torch.device, *, insist: bool) -> float:
    """Return the share of a device's free memory that frames may take in this process.

    The machine's memory is shared with the other trainings of a study and with the processes that
    train together; each of them holds frames of its own. A GPU belongs to one of them.
    """
    if device.type == "cuda":
        return RESIDENT_FRACTION
    share = RESIDENT_FRACTION if insist else CPU_FRACTION
    return share / (sibling_workers() * processes_here())


def _hold(source: FrameSource | None, device: torch.device, *, insist: bool) -> FrameSource | None:
    import torch

    problem = "this run's training windows do not come from stored frames"
    if isinstance(source, WindowReader):
        needed, free = frames_bytes(source), free_bytes(device)
        sizes = f"{needed / 1e9:.1f} GB on {device} with {free / 1e9:.1f} GB free"
        share = _share(device, insist=insist)
        problem = f"the training frames take {sizes}, of which they may have {share:.0%}"
        if needed <= share * free:
            try:
                frames = DeviceFrames(source, device)
            except torch.OutOfMemoryError:
                problem = f"the training frames did not fit: {sizes}"
            else:
                logger.info("Training frames are held in memory: %s", sizes)
                return frames
    if insist:
        remedy = "Use training.resident=auto: it falls back to reading them from files"
        raise ConfigError("training.resident=always", problem, remedy)
    logger.info("Training frames are read from files: %s", problem)
    return None
