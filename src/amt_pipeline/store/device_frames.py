"""All frames of some recordings in the memory of a device, windows gathered there.

Where a split fits beside the network (MAESTRO's training split is 62 GB in half precision), a batch
costs the transfer of its indices instead of its frames. In the machine's own memory it pays where
frames are small: LibriSpeech's 2.1 million of 39 values take 0.33 GB, and a window is found there
in less time than in files. The batches are those of `WindowReader`, to the bit.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amt_pipeline.core.progress import Progress
from amt_pipeline.store.memory_frames import MemoryFrames, row_numbers
from amt_pipeline.store.windows import Edges, WindowReader, Windows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BLOCK_FRAMES = 8192
"""Frames per transfer: 12 MB of the reference's features."""


def frames_bytes(reader: WindowReader) -> int:
    """Return the bytes that all frames of a reader take, with the frame of zeros beside them."""
    return int(reader.n_frames.sum() + 1) * reader.store.spec.frame_bytes


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a CUDA device, or what the machine can give for the CPU."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration):  # no Linux: all that there is
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class DeviceFrames:
    """Gathers windows of recordings whose frames lie on a device; see `FrameSource`.

    Args:
        reader: Whose recordings; read once, from the first to the last, or on the CPU as
            `MemoryFrames` does.
        device: Where the frames go.

    Raises:
        StoreError: A recording is damaged, or was ingested again meanwhile; on the CPU `gather`
            raises it.
        torch.OutOfMemoryError: They do not fit.
    """

    def __init__(self, reader: WindowReader, device: torch.device) -> None:
        self.recording_ids, self.n_frames, self.peak = (
            reader.recording_ids, reader.n_frames, reader.peak,
        )  # fmt: skip
        self.device = device
        self._memory: MemoryFrames | None = None
        if device.type == "cpu":
            self._memory = MemoryFrames(reader)
        else:
            self._rows = self._read(reader)
        # Row 0 holds zeros and stands for every frame outside its recording.
        self._end = 1 + np.cumsum(self.n_frames)

    def gather(self, windows: Windows, length: int, context: int, edges: Edges = "zeros") -> Tensor:
        """Return [n, length + 2 context, bins, channels] on the device, as `WindowReader` does."""
        import torch

        if self._memory is not None:
            return torch.from_numpy(self._memory.gather(windows, length, context, edges))
        end = self._end[windows.recording]
        begin = end - self.n_frames[windows.recording]
        first = begin + windows.start - context
        rows = row_numbers(begin, end, first, length + 2 * context, edges)
        index = torch.from_numpy(rows.reshape(-1)).to(self.device, non_blocking=True)
        return self._rows.index_select(0, index).reshape(*rows.shape, *self._rows.shape[1:])

    def _read(self, reader: WindowReader) -> Tensor:
        """Return all frames behind a row of zeros, read in blocks."""
        import torch

        spec, total = reader.store.spec, int(self.n_frames.sum())
        dtype = torch.from_numpy(np.zeros(0, spec.dtype)).dtype
        rows = torch.empty((total + 1, spec.bins, spec.channels), dtype=dtype, device=self.device)
        rows[0] = 0
        end = np.cumsum(self.n_frames)
        begin = end - self.n_frames
        with Progress(f"Frames to {self.device}", total, "frame") as progress:
            for first in range(0, total, BLOCK_FRAMES):
                last = min(first + BLOCK_FRAMES, total)
                touched = np.flatnonzero((end > first) & (begin < last))
                low = np.maximum(first - begin[touched], 0)
                high = np.minimum(last, end[touched]) - begin[touched]
                block = torch.empty((last - first, *rows.shape[1:]), dtype=dtype)
                reader.read(touched, low, high, begin[touched] + low - first, block.numpy())
                rows[1 + first : 1 + last].copy_(block)
                progress.advance(len(block))
        return rows
