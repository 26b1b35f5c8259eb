"""Rows of several tensors combined as they lie, in stretches or gathered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from amt_pipeline.transcription import window_maps
from amt_pipeline.transcription.window_maps import WindowMaps, combine, rows_of


@given(
    starts=st.lists(st.integers(0, 40), min_size=1, max_size=30, unique=True).map(sorted),
    parts=st.integers(1, 3),
    maximum=st.booleans(),
    images=st.booleans(),
)
def test_stretches_give_what_single_rows_give(
    starts: list[int], parts: int, maximum: bool, images: bool
) -> None:
    generator = torch.Generator().manual_seed(len(starts))
    shape = (50, 3, 1, 4) if images else (50, 5)
    tensors = [torch.rand(shape, generator=generator) for _ in range(parts)]
    if images:
        tensors = [tensor.contiguous(memory_format=torch.channels_last) for tensor in tensors]
    at = [np.array(starts) + ahead for ahead in range(parts)]
    found = combine(torch.maximum if maximum else torch.add, list(zip(tensors, at, strict=True)))
    wanted = tensors[0][at[0]]
    for tensor, rows in zip(tensors[1:], at[1:], strict=True):
        wanted = torch.maximum(wanted, tensor[rows]) if maximum else wanted + tensor[rows]
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("shortest", [1, 1000])
def test_both_ways_have_the_same_bits(shortest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    at = np.array([0, 1, 2, 3, 10, 11, 12, 30, 31, 50])
    monkeypatch.setattr(window_maps, "SHORTEST_STRETCH", shortest)
    found = combine(torch.add, [(values, at), (values, at + 2), (values, at + 5)])
    assert torch.equal(found, values[at] + values[at + 2] + values[at + 5])


def test_positions_of_windows() -> None:
    starts = np.array([4, 5, 9])
    rows = rows_of(starts, range(3))
    assert rows.tolist() == [4, 5, 6, 7, 9, 10, 11]
    common = torch.arange(7.0)[:, None]
    maps = WindowMaps(starts, 3, rows, common, {2: torch.tensor([[-1.0], [-2.0], [-3.0]])})
    assert maps.at(1)[:, 0].tolist() == [1, 2, 5]
    assert maps.at(2)[:, 0].tolist() == [-1, -2, -3]
    assert maps.stacked().shape == (3, 3, 1)
