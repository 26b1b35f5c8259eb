"""All frames of some recordings in the memory of a device, windows gathered there.

Where a split fits beside the network (MAESTRO's training split is 62 GB in half precision), a batch
costs the transfer of its indices instead of its frames. The batches are those of `WindowReader`, to
the bit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from amt_pipeline.core.progress import Progress
from amt_pipeline.store.windows import WindowReader, Windows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BLOCK_FRAMES = 8192
"""Frames per transfer: 12 MB of the reference's features."""


def frames_bytes(reader: WindowReader) -> int:
    """Return the bytes that all frames of a reader take, with the frame of zeros beside them."""
    spec = reader.store.spec
    return (
        int(reader.n_frames.sum() + 1) * spec.bins * spec.channels * np.dtype(spec.dtype).itemsize
    )


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a CUDA device, or the memory of the machine for the CPU."""
    import os

    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class DeviceFrames:
    """Gathers windows of recordings whose frames lie on a device; see `FrameSource`.

    Args:
        reader: Whose recordings; read once, from the first to the last.
        device: Where the frames go.

    Raises:
        StoreError: A recording is damaged, or was ingested again meanwhile.
        torch.OutOfMemoryError: They do not fit.
    """

    def __init__(self, reader: WindowReader, device: torch.device) -> None:
        import torch

        spec = reader.store.spec
        self.recording_ids, self.n_frames, self.peak = (
            reader.recording_ids, reader.n_frames, reader.peak,
        )  # fmt: skip
        self.device = device
        self._shape = (spec.bins, spec.channels)
        # Row 0 holds zeros and stands for every frame outside its recording.
        self._first_row = 1 + np.cumsum(self.n_frames) - self.n_frames
        rows = int(self.n_frames.sum()) + 1
        dtype = torch.from_numpy(np.zeros(0, spec.dtype)).dtype
        self._rows = torch.empty((rows, spec.bins * spec.channels), dtype=dtype, device=device)
        self._rows[0] = 0
        self._fill(reader)

    def gather(self, windows: Windows, length: int, context: int) -> Tensor:
        """Return [n, length + 2 context, bins, channels] on the device, as `WindowReader` does."""
        import torch

        at = (windows.start - context)[:, None] + np.arange(length + 2 * context)
        inside = (at >= 0) & (at < self.n_frames[windows.recording][:, None])
        rows = np.where(inside, self._first_row[windows.recording][:, None] + at, 0)
        index = torch.from_numpy(rows.reshape(-1)).to(self.device, non_blocking=True)
        return self._rows.index_select(0, index).reshape(*rows.shape, *self._shape)

    def _fill(self, reader: WindowReader) -> None:
        row = 1
        with Progress(f"Frames to {self.device}", int(self.n_frames.sum()), "frame") as progress:
            for recording, count in enumerate(self.n_frames.tolist()):
                for first in range(0, count, BLOCK_FRAMES):
                    size = min(BLOCK_FRAMES, count - first)
                    block = self._staged(reader, recording, first, size)
                    self._rows[row : row + size].copy_(block.reshape(size, -1))
                    row += size
                    progress.advance(size)

    @staticmethod
    def _staged(reader: WindowReader, recording: int, first: int, size: int) -> Any:
        import torch

        stretch = Windows(np.array([recording]), np.array([first]))
        return torch.from_numpy(reader.gather(stretch, size, 0))
