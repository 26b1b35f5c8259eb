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

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from amt_pipeline.transcription.models import RecurrentNetwork
from amt_pipeline.transcription.steady import SteadyLinear
from amt_pipeline.transcription.window_maps import Rows, WindowMaps, combine, rows_of

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

    def hidden(self, starts: Rows, scaled_rows: Callable[[Rows], Tensor]) -> WindowMaps:
        """Return what the dense layer says, [n, units].

        Args:
            starts: First input frame of each window, ascending.
            scaled_rows: Gives the scaled input [n, channels, 1, bins] of frames [n].
        """
        rows = rows_of(starts, range(self._size))
        maps = WindowMaps(starts, self._size, rows, scaled_rows(rows))
        for layer in self._layers:
            maps = _pool(_convolve(maps, layer), layer.pooled)
        return self._dense_of(maps)

    def _dense_of(self, maps: WindowMaps) -> WindowMaps:
        shared = [maps.common] if len(maps.common) else []
        flat = [own.permute(0, 2, 3, 1).flatten(1) for own in [*shared, *maps.special.values()]]
        hidden = [functional.relu_(own) for own in self._dense.together(flat)]
        common = hidden[0] if shared else hidden[0][:0]
        special = dict(zip(maps.special, hidden[len(shared) :], strict=True))
        return WindowMaps(maps.starts, maps.length, maps.rows, common, special)


def _convolve(maps: WindowMaps, layer: _Layer) -> WindowMaps:
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
    rows = rows_of(maps.starts, [at for at in range(length) if at not in special])
    used = {tap for at in special for tap, source in seen[at].items() if source not in maps.special}
    everywhere = {
        tap: layer.apply(maps.common, tap) for tap in (range(TAPS) if len(rows) else sorted(used))
    }
    result = WindowMaps(maps.starts, length, rows, maps.common[:0])
    if len(rows):
        ahead = range(-layer.time_padding, TAPS - layer.time_padding)
        sources = [np.searchsorted(maps.rows, rows + frames) for frames in ahead]
        result.common = combine(torch.add, [(everywhere[t], sources[t]) for t in range(TAPS)])
    for at in special:
        parts = [
            (layer.apply(maps.special[source], tap), np.arange(len(maps.starts)))
            if source in maps.special
            else (everywhere[tap], maps.rows_at(source)[1])
            for tap, source in seen[at].items()
        ]
        result.special[at] = combine(torch.add, parts)
    return result


def _pool(maps: WindowMaps, pooled: bool) -> WindowMaps:
    """ReLU, and the "same" pool: over 2 bins, and each frame with the next one of its window."""
    if not pooled:
        maps.common = functional.relu_(maps.common)
        maps.special = {at: functional.relu_(own) for at, own in maps.special.items()}
        return maps
    # The maximum over bins first, then ReLU, then over time: the same values in fewer steps.
    halved = WindowMaps(maps.starts, maps.length, maps.rows, _halve(maps.common))
    halved.special = {at: _halve(own) for at, own in maps.special.items()}
    last = maps.length - 1
    special = {at for at in range(last) if {at, at + 1} & halved.special.keys()} | {last}
    rows = rows_of(maps.starts, [at for at in range(last) if at not in special])
    result = WindowMaps(maps.starts, maps.length, rows, halved.common[:0])
    if len(rows):
        both = [np.searchsorted(maps.rows, rows + ahead) for ahead in (0, 1)]
        result.common = combine(torch.maximum, [(halved.common, at) for at in both])
    for at in special:
        if at == last:
            result.special[at] = halved.at(at)
        else:
            both_at = [halved.rows_at(at), halved.rows_at(at + 1)]
            result.special[at] = combine(torch.maximum, both_at)
    return result


def _halve(maps: Tensor) -> Tensor:
    """ReLU and the maximum over pairs of bins; an odd last bin stays alone."""
    # Several times as fast on a CPU as torch's pool, which also looks for where each maximum is.
    odd = maps.shape[-1] % 2
    halved = torch.maximum(maps[..., : maps.shape[-1] - odd : 2], maps[..., 1::2])
    if odd:
        halved = torch.cat([halved, maps[..., -1:]], dim=-1)
    return functional.relu_(halved)
