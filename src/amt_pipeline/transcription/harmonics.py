"""A key's harmonics gathered as channels, and the 1 x 1 convolution over them, in one step.

The gathered channels are many times as large as what they are made from and what comes of them, so
on a CPU the step is bound by moving them: out, in again, and both twice more for the gradient. Here
they are made for a few frames at a time and multiplied while they are in the cache. The gradient is
a step of the same kind: what a semitone adds to the loss it adds through the keys whose harmonic it
is, so those are gathered, and no sums are scattered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

CACHED_NUMBERS = 1 << 18
"""Gathered numbers that one thread makes at a time, 1 MB in 32 bits: of 2^16 to 2^20 the fastest.
Several threads take twice as many each, since they wait for each other at every step."""


def harmonic_convolution(
    semitones: Tensor, weight: Tensor, bias: Tensor, shifts: Sequence[int], n_keys: int
) -> Tensor:
    """Return [batch, maps out, time, keys].

    Args:
        semitones: [batch, maps, time, semitones]; semitone 0 is the lowest key's fundamental.
        weight: [maps out, shifts x maps, 1, 1], as of a convolution over the gathered channels.
        bias: [maps out].
        shifts: Semitones from a key to its harmonics; beyond either end there are zeros.
        n_keys: Keys, one per semitone.
    """
    if semitones.is_cuda:  # large copies cost little there, many small steps much
        return functional.conv2d(gather_channels(semitones, shifts, n_keys), weight, bias)
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        semitones, weight, bias = semitones.to(dtype), weight.to(dtype), bias.to(dtype)
    rows: Tensor = _HarmonicConvolution.apply(  # type: ignore[no-untyped-call]
        _rows(semitones), weight, bias, tuple(shifts), n_keys
    )
    images = rows.view(len(semitones), -1, *rows.shape[1:]).permute(0, 3, 1, 2)
    channels_last = semitones.is_contiguous(memory_format=torch.channels_last)
    return images if channels_last else images.contiguous()


def add_per_key(images: Tensor, offsets: Tensor) -> Tensor:
    """Return images [batch, maps, time, keys] plus offsets [1, maps, 1, keys].

    Laid out channels last, maps and keys are seen as one axis: the sum over time that the gradient
    of the offsets is runs along whole vectors then, many times as fast.
    """
    if not images.is_contiguous(memory_format=torch.channels_last):
        return images + offsets
    batch, maps, time, keys = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(batch * time, keys * maps)
    added = rows + offsets.permute(0, 2, 3, 1).reshape(1, -1)
    return added.view(batch, time, keys, maps).permute(0, 3, 1, 2)


def gather_channels(semitones: Tensor, shifts: Sequence[int], n_keys: int) -> Tensor:
    """Return the channels of all harmonics, [batch, shifts x maps, time, keys]."""
    below = max(-min(shifts), 0)
    above = max(n_keys + max(shifts) - semitones.shape[3], 0)
    padded = functional.pad(semitones, (below, above))
    return torch.cat([padded[..., below + s : below + s + n_keys] for s in shifts], dim=1)


class _HarmonicConvolution(torch.autograd.Function):
    """From rows [n, semitones, maps] to rows [n, keys, maps out]; see `harmonic_convolution`."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, shifts: Any, n_keys: int
    ) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.shifts = shifts
        matrix = weight.flatten(1).t().contiguous()
        result = rows.new_empty(len(rows), n_keys, len(weight))
        for some, gathered in _gathered(rows, n_keys, shifts):
            torch.addmm(bias, gathered, matrix, out=result[some].view(-1, len(weight)))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        rows, weight = ctx.saved_tensors
        along, n_shifts, maps = gradients[0].contiguous(), len(ctx.shifts), rows.shape[2]
        # [maps out, shifts x maps] to [shifts x maps out, maps].
        turned = weight.view(len(weight), n_shifts, maps).transpose(0, 1).flatten(0, 1)
        for_rows = torch.empty_like(rows)
        exact = torch.promote_types(turned.dtype, torch.float32)  # it is a sum of many
        for_turned = torch.zeros_like(turned, dtype=exact)
        back = [-shift for shift in ctx.shifts]
        for some, gathered in _gathered(along, rows.shape[1], back):
            torch.mm(gathered, turned, out=for_rows[some].view(-1, maps))
            for_turned += torch.mm(gathered.t(), rows[some].view(-1, maps))
        for_weight = for_turned.view(n_shifts, len(weight), maps).transpose(0, 1)
        for_weight = for_weight.reshape(weight.shape).to(weight.dtype)
        return for_rows, for_weight, along.sum((0, 1)), None, None


def _rows(images: Tensor) -> Tensor:
    """[batch, maps, time, width] to [batch x time, width, maps], contiguous."""
    return images.permute(0, 2, 3, 1).flatten(0, 1).contiguous()


def _gathered(rows: Tensor, n_out: int, shifts: Sequence[int]) -> Iterator[tuple[slice, Tensor]]:
    """Yield some rows at a time, [rows x out, shifts x maps]: the maps at each place plus a shift.

    Args:
        rows: [n, places, maps].
        n_out: Places to gather for.
        shifts: To what is gathered; zeros where there is no such place.
    """
    n_rows, places, maps = rows.shape
    source = torch.arange(n_out)[:, None] + torch.tensor(shifts)
    source = torch.where((source >= 0) & (source < places), source, places).flatten()
    threads = torch.get_num_threads()
    numbers = CACHED_NUMBERS * (1 if threads == 1 else 2 * threads)
    step = max(1, min(n_rows, numbers // (len(source) * maps)))
    at = (torch.arange(step)[:, None] * (places + 1) + source).flatten()
    padded = functional.pad(rows, (0, 0, 0, 1)).flatten(0, 1)  # a place of zeros in each row
    for first in range(0, n_rows, step):
        some = slice(first, min(first + step, n_rows))
        own = padded[some.start * (places + 1) : some.stop * (places + 1)]
        picked = own.index_select(0, at[: (some.stop - some.start) * len(source)])
        yield some, picked.view(-1, len(shifts) * maps)
