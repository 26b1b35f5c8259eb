"""What a layer holds for a batch of overlapping windows: once where they agree on a frame.

See `transcription.shared_maps` for where they do and where they do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Rows = npt.NDArray[np.int64]
Operation = Callable[..., Tensor]

IMAGE_AXES = 4
"""Axes of maps [n, maps, time, bins], which are laid out channels last."""
SHORTEST_STRETCH = 4
"""Rows per stretch, on average, below which rows are gathered first: each stretch is a call."""


@dataclass
class WindowMaps:
    """What a layer holds for a batch of windows.

    Attributes:
        starts: [windows] frame of each window's position 0, ascending.
        length: Positions per window.
        rows: Frames of `common`, ascending.
        common: [rows, ...], of all positions that are not special.
        special: [windows, ...] by position.
    """

    starts: Rows
    length: int
    rows: Rows
    common: Tensor
    special: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of_windows(cls, values: Tensor) -> WindowMaps:
        """Take [windows, positions, ...] of which nothing is shared."""
        count, length = values.shape[:2]
        rows = np.arange(count * length)
        return cls(rows[::length], length, rows, values.flatten(0, 1))

    def at(self, position: int) -> Tensor:
        """Return the maps of one position of every window."""
        values, at = self.rows_at(position)
        if (np.diff(at) == 1).all():  # a view will do
            return values[at[0] : at[-1] + 1]
        return _gather(values, at)

    def rows_at(self, position: int) -> tuple[Tensor, Rows]:
        """Return a tensor, and the rows in it that are the maps of one position."""
        if position in self.special:
            return self.special[position], np.arange(len(self.starts))
        return self.common, np.searchsorted(self.rows, self.starts + position)

    def stacked(self) -> Tensor:
        """Return the maps of all positions, [windows, positions, ...]."""
        return torch.stack([self.at(position) for position in range(self.length)], dim=1)


def rows_of(starts: Rows, positions: Iterable[int]) -> Rows:
    """Return the frames at some positions of windows, ascending, each once."""
    return np.unique(starts[:, None] + np.array(list(positions), np.int64))


def combine(operation: Operation, parts: Sequence[tuple[Tensor, Rows]]) -> Tensor:
    """Return what an operation makes of rows of several tensors, from the first to the last.

    Rows that follow each other are taken as they lie, in stretches: copying them together first
    would take as long as the arithmetic.

    Args:
        operation: `torch.add` or `torch.maximum`.
        parts: Tensors [n, ...], each with the rows that are meant, as many for each. A single one
            is what comes back.
    """
    if len(parts) == 1:
        return _gather(*parts[0])
    count, like = len(parts[0][1]), parts[0][0]
    apart = np.any([np.diff(at) != 1 for _, at in parts], axis=0)
    bounds = [0, *(np.flatnonzero(apart) + 1).tolist(), count]
    if like.is_cuda or len(bounds) > count // SHORTEST_STRETCH + 2:
        parts = [(_gather(values, at), np.arange(count)) for values, at in parts]
        bounds = [0, count]
    layout = torch.channels_last if like.ndim == IMAGE_AXES else torch.contiguous_format
    total = torch.empty((count, *like.shape[1:]), dtype=like.dtype, device=like.device,
                        memory_format=layout)  # fmt: skip
    for first, end in pairwise(bounds):
        goal = total[first:end]
        rows = [values[at[first] : at[first] + end - first] for values, at in parts]
        operation(rows[0], rows[1], out=goal)
        for further in rows[2:]:
            operation(goal, further, out=goal)
    return total


def _gather(values: Tensor, at: Rows) -> Tensor:
    which = torch.from_numpy(at).to(values.device)
    if values.ndim != IMAGE_AXES:
        return values.index_select(0, which)
    # Whole rows as they lie in memory: gathering maps laid out channels last map by map takes
    # several times as long.
    laid_out = values.permute(0, 2, 3, 1)
    return laid_out.flatten(1).index_select(0, which).view(-1, *laid_out.shape[1:]).movedim(3, 1)
