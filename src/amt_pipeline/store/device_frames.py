"""All frames of some recordings in the memory of a device, windows gathered there.

Where a split fits beside the network (MAESTRO's training split is 62 GB in half precision), a batch
costs the transfer of its indices instead of its frames. In the machine's own memory it pays where
frames are small: LibriSpeech's 2.1 million of 39 values take 0.33 GB, and a window is found there
in less time than in files. The batches are those of `WindowReader`, to the bit.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.progress import Progress
from amt_pipeline.store.windows import Edges, WindowReader, Windows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Integers = npt.NDArray[np.int64]

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

    def gather(self, windows: Windows, length: int, context: int, edges: Edges = "zeros") -> Tensor:
        """Return [n, length + 2 context, bins, channels] on the device, as `WindowReader` does."""
        import torch

        first, size = windows.start - context, length + 2 * context
        if self.device.type == "cpu":
            return torch.from_numpy(self._stretches(windows.recording, first, size, edges))
        rows = self._row_numbers(windows.recording, first, size, edges)
        index = torch.from_numpy(rows.reshape(-1)).to(self.device, non_blocking=True)
        return self._rows.index_select(0, index).reshape(*rows.shape, *self._shape)

    def _stretches(
        self,
        recording: npt.NDArray[np.int64],
        first: npt.NDArray[np.int64],
        size: int,
        edges: Edges,
    ) -> npt.NDArray[Any]:
        """Return the frames of windows by copying each as one stretch of memory.

        Small windows take half the time they would take frame by frame. What reaches past the ends
        of a recording, into its neighbours, is then written anew.
        """
        rows: npt.NDArray[Any] = self._rows.numpy()
        batch = np.empty((len(first), size, rows.shape[1]), rows.dtype)
        outside = np.ones(len(first), bool)
        if size <= len(rows):
            # As items of one type that overlap: numpy copies them twice as fast as rows of numbers.
            item, places = f"V{size * rows.strides[0]}", len(rows) - size + 1
            stretches: npt.NDArray[Any] = np.ndarray(
                (places,), item, rows.data, strides=rows.strides[:1]
            )
            begin = self._first_row[recording] + first
            batch = stretches[np.clip(begin, 0, places - 1)].view(rows.dtype).reshape(batch.shape)
            outside = (first < 0) | (first + size > self.n_frames[recording])
        if outside.any():
            anew = self._row_numbers(recording[outside], first[outside], size, edges)
            batch[outside] = rows[anew]
        return batch.reshape(len(first), size, *self._shape)

    def _row_numbers(
        self,
        recording: npt.NDArray[np.int64],
        first: npt.NDArray[np.int64],
        size: int,
        edges: Edges,
    ) -> Integers:
        """Return [n, size] the row of each frame of windows."""
        at, last = first[:, None] + np.arange(size), self.n_frames[recording][:, None] - 1
        if edges == "repeat":
            at = np.clip(at, 0, np.maximum(last, 0))
        rows: Integers = np.where(
            (at >= 0) & (at <= last), self._first_row[recording][:, None] + at, 0
        )
        return rows

    def _fill(self, reader: WindowReader) -> None:
        """Read all frames, in blocks; straight into their place where that is the machine's."""
        import torch

        total = int(self.n_frames.sum())
        with Progress(f"Frames to {self.device}", total, "frame") as progress:
            for first in range(0, total, BLOCK_FRAMES):
                rows = self._rows[1 + first : 1 + min(first + BLOCK_FRAMES, total)]
                block = rows if rows.device.type == "cpu" else torch.empty_like(rows, device="cpu")
                reader.read_rows(first, block.numpy().reshape(len(block), *self._shape))
                if block is not rows:
                    rows.copy_(block)
                progress.advance(len(block))
