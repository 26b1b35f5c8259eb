"""The trunk over overlapping windows: maps that windows have in common are computed once.

What a map holds at a frame does not depend on the window, except near a window's ends: a "same"
pool looks one frame ahead and finds nothing at a window's last frame, and a padded convolution
finds zeros beside the first and the last. Layer by layer such *special* positions spread: for 17
input frames, 5 of the 9 outputs of `pitch_conv` are special, for 11 frames 2 of the 7 of `onset`.

So a layer is held as one tensor of common frames, and one tensor per special position, with a row
for each window. A convolution over time is a sum over its taps, each of which sees one frame; a tap
applied to a common frame serves all windows, the special ones too. Thus a position costs only the
taps that no other position has used. That is exact: the same products, summed in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from amt_pipeline.transcription.models import RecurrentNetwork
from amt_pipeline.transcription.steady import SteadyLinear

Rows = npt.NDArray[np.int64]
TAPS = 3


@dataclass(frozen=True)
class _Layer:
    """One convolution over time and bins, and the pool after it.

    Attributes:
        taps: Three of [maps out, maps in, 1, bins of the kernel].
        bias: [maps out].
        stride, padding: Over bins.
        time_padding: Frames of zeros on either side of a window.
        pooled: Whether a pool follows.
    """

    taps: tuple[Tensor, ...]
    bias: Tensor
    stride: int
    padding: int
    time_padding: int
    pooled: bool

    @classmethod
    def of(cls, convolution: nn.Conv2d, pooled: bool) -> _Layer:
        """Take a convolution apart."""
        weight = convolution.weight.detach()
        taps = tuple(
            weight[:, :, tap : tap + 1].contiguous(memory_format=torch.channels_last)
            for tap in range(weight.shape[2])
        )
        bias = convolution.bias
        if len(taps) != TAPS or bias is None or isinstance(convolution.padding, str):
            raise ValueError(f"{convolution} is not a biased convolution over {TAPS} frames")
        time_padding, padding = convolution.padding
        return cls(taps, bias.detach(), convolution.stride[1], padding, time_padding, pooled)

    def apply(self, maps: Tensor, tap: int) -> Tensor:
        """Return one tap's part of the sum; the middle one, which no edge is without, the bias."""
        bias = self.bias if tap == 1 else None
        return functional.conv2d(
            maps, self.taps[tap], bias, stride=(1, self.stride), padding=(0, self.padding)
        )


@dataclass
class _Maps:
    """What a layer holds for a batch of windows.

    Attributes:
        starts: [windows] frame of each window's position 0, ascending.
        length: Positions per window.
        rows: Frames of `common`, ascending.
        common: [rows, maps, 1, bins].
        special: [windows, maps, 1, bins] by position.
    """

    starts: Rows
    length: int
    rows: Rows
    common: Tensor
    special: dict[int, Tensor] = field(default_factory=dict)

    def at(self, position: int) -> Tensor:
        """Return the maps of one position of every window."""
        if position in self.special:
            return self.special[position]
        return _take(self.common, self.rows, self.starts + position)


class SharedTrunk:
    """Convolutions, pools and the dense layer of a network over overlapping windows.

    Args:
        network: With folded batch norms.
        size: Input frames of a window.
    """

    def __init__(self, network: RecurrentNetwork, size: int) -> None:
        stages = network.stages()
        self._layers = [_Layer.of(block[0], pooled) for block, pooled in stages]  # type: ignore[arg-type]
        self._size = size
        maps = len(self._layers[-1].bias)
        weight = network.dense.weight.detach()
        # From maps x bins to bins x maps, the order of maps laid out channels last.
        ordered = weight.reshape(len(weight), maps, -1).transpose(1, 2).flatten(1)
        self._dense = SteadyLinear(ordered, network.dense.bias.detach())

    def hidden(self, starts: Rows, scaled_rows: Callable[[Rows], Tensor]) -> Tensor:
        """Return what the dense layer says, [windows, label frames, units].

        Args:
            starts: First input frame of each window, ascending.
            scaled_rows: Gives the scaled input [n, channels, 1, bins] of frames [n].
        """
        rows = _rows_of(starts, range(self._size))
        maps = _Maps(starts, self._size, rows, scaled_rows(rows))
        for layer in self._layers:
            maps = _pool(_convolve(maps, layer), layer.pooled)
        if len(maps.rows):
            maps.common = self._dense_of(maps.common)
        maps.special = {at: self._dense_of(own) for at, own in maps.special.items()}
        return torch.stack([maps.at(position) for position in range(maps.length)], dim=1)

    def _dense_of(self, maps: Tensor) -> Tensor:
        flat = maps.permute(0, 2, 3, 1).flatten(1)
        return functional.relu_(self._dense(flat))


def _convolve(maps: _Maps, layer: _Layer) -> _Maps:
    """Sum the taps: each is applied once to what it sees, common frames or a special position."""
    length = maps.length + 2 * layer.time_padding - (TAPS - 1)
    seen = {
        at: {
            tap: source
            for tap in range(TAPS)
            if 0 <= (source := at + tap - layer.time_padding) < maps.length
        }
        for at in range(length)
    }
    special = [
        at for at, taps in seen.items()
        if len(taps) < TAPS or any(source in maps.special for source in taps.values())
    ]  # fmt: skip
    rows = _rows_of(maps.starts, [at for at in range(length) if at not in special])
    used = {tap for at in special for tap, source in seen[at].items() if source not in maps.special}
    everywhere = {
        tap: layer.apply(maps.common, tap) for tap in (range(TAPS) if len(rows) else sorted(used))
    }
    result = _Maps(maps.starts, length, rows, maps.common[:0])
    if len(rows):
        shifted = [
            _take(everywhere[tap], maps.rows, rows + tap - layer.time_padding)
            for tap in range(TAPS)
        ]
        result.common = (shifted[0] + shifted[1]).add_(shifted[2])
    for at in special:
        parts = [
            layer.apply(maps.special[source], tap)
            if source in maps.special
            else _take(everywhere[tap], maps.rows, maps.starts + source)
            for tap, source in seen[at].items()
        ]
        total = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        result.special[at] = total if len(parts) < TAPS else total.add_(parts[2])
    return result


def _pool(maps: _Maps, pooled: bool) -> _Maps:
    """ReLU, and the "same" pool: over 2 bins, and each frame with the next one of its window."""
    if not pooled:
        maps.common = functional.relu_(maps.common)
        maps.special = {at: functional.relu_(own) for at, own in maps.special.items()}
        return maps
    # The maximum over bins first, then ReLU, then over time: the same values in fewer steps.
    halved = _Maps(maps.starts, maps.length, maps.rows, _halve(maps.common))
    halved.special = {at: _halve(own) for at, own in maps.special.items()}
    last = maps.length - 1
    special = {at for at in range(last) if {at, at + 1} & halved.special.keys()} | {last}
    rows = _rows_of(maps.starts, [at for at in range(last) if at not in special])
    result = _Maps(maps.starts, maps.length, rows, halved.common[:0])
    if len(rows):
        both = (_take(halved.common, maps.rows, rows + ahead) for ahead in (0, 1))
        result.common = torch.maximum(*both)
    for at in special:
        own = halved.at(at)
        result.special[at] = own if at == last else torch.maximum(own, halved.at(at + 1))
    return result


def _halve(maps: Tensor) -> Tensor:
    """ReLU and the maximum over pairs of bins; an odd last bin stays alone."""
    # Several times as fast on a CPU as torch's pool, which also looks for where each maximum is.
    odd = maps.shape[-1] % 2
    halved = torch.maximum(maps[..., : maps.shape[-1] - odd : 2], maps[..., 1::2])
    if odd:
        halved = torch.cat([halved, maps[..., -1:]], dim=-1)
    return functional.relu_(halved)


def _rows_of(starts: Rows, positions: Iterable[int]) -> Rows:
    """Return the frames at some positions of windows, ascending, each once."""
    return np.unique(starts[:, None] + np.array(list(positions), np.int64))


def _take(values: Tensor, rows: Rows, wanted: Rows) -> Tensor:
    """Return the rows of `values` (which belong to frames `rows`) at the frames `wanted`."""
    at = np.searchsorted(rows, wanted)
    if (np.diff(at) == 1).all():  # a view will do
        return values[at[0] : at[-1] + 1]
    return values[torch.from_numpy(at).to(values.device)]
