"""Harmonics gathered in the cache: the same as channels gathered first and then convolved."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from amt_pipeline.transcription import harmonics
from amt_pipeline.transcription.harmonics import (
    add_per_key,
    gather_channels,
    harmonic_convolution,
)

SHIFTS = (-3, 0, 2, 5, 11)
KEYS = 10
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def operands(places: int, layout: Any, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Semitones, weight and bias that want gradients."""
    generator = torch.Generator().manual_seed(places)
    semitones = torch.rand(2, 3, 7, places, generator=generator, dtype=dtype) - 0.5
    weight = torch.rand(4, len(SHIFTS) * 3, 1, 1, generator=generator, dtype=dtype) - 0.5
    bias = torch.rand(4, generator=generator, dtype=dtype)
    made = [semitones.contiguous(memory_format=layout), weight, bias]
    return [tensor.requires_grad_() for tensor in made]


def plain(semitones: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return functional.conv2d(gather_channels(semitones, SHIFTS, KEYS), weight, bias)


@pytest.mark.parametrize("places", [6, 10, 12, 30])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("numbers", [1, 500, 1 << 18])
def test_values_and_gradients(
    places: int, layout: Any, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harmonics, "CACHED_NUMBERS", numbers)
    ours, theirs = operands(places, layout), operands(places, torch.contiguous_format)
    found = harmonic_convolution(*ours, SHIFTS, KEYS)
    wanted = plain(*theirs)
    torch.testing.assert_close(found, wanted)
    assert found.is_contiguous(memory_format=layout)
    wave = torch.linspace(-1, 1, wanted.numel(), dtype=wanted.dtype).view_as(wanted)
    (found * wave).sum().backward()
    (wanted * wave).sum().backward()
    for own, other in zip(ours, theirs, strict=True):
        assert own.grad is not None
        torch.testing.assert_close(own.grad, other.grad)
        assert own.grad.abs().max() > 0.01


def test_gathered_channels_are_the_harmonics() -> None:
    semitones = torch.arange(1.0, 7.0).view(1, 1, 1, 6)
    gathered = gather_channels(semitones, (-1, 0, 4), 4)
    assert gathered[0, :, 0].tolist() == [[0, 1, 2, 3], [1, 2, 3, 4], [5, 6, 0, 0]]


def test_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harmonics, "CACHED_NUMBERS", 1)  # many sums
    ours = operands(12, torch.channels_last, torch.float32)
    theirs = operands(12, torch.channels_last, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = harmonic_convolution(*ours, SHIFTS, KEYS)
    assert found.dtype == torch.bfloat16
    wanted = plain(*theirs)
    torch.testing.assert_close(found.float(), wanted, atol=0.03, rtol=0.03)
    found.float().sum().backward()
    wanted.sum().backward()
    for own, other in zip(ours, theirs, strict=True):
        assert own.grad is not None
        assert other.grad is not None
        assert own.grad.dtype == torch.float32
        torch.testing.assert_close(own.grad, other.grad, atol=0.1, rtol=0.02)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_offsets_per_key(layout: Any) -> None:
    images = operands(9, layout)[0]
    offsets = torch.linspace(-1, 1, 27, dtype=torch.float64).view(1, 3, 1, 9).requires_grad_()
    found = add_per_key(images, offsets)
    assert torch.equal(found, images + offsets)
    assert found.is_contiguous(memory_format=layout)
    (found * images.detach()).sum().backward()
    torch.testing.assert_close(offsets.grad, images.detach().sum((0, 2), keepdim=True))
    assert torch.equal(images.grad, images.detach())
