from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from amt_pipeline.core.errors import StoreError
from amt_pipeline.features.grid import FrameGrid

GRID = FrameGrid()


def test_reference_grid() -> None:
    assert pytest.approx(0.0116099773) == GRID.seconds_per_frame
    assert GRID.describe() == "44100 Hz, hop 512, frame per bin"
    assert FrameGrid(frame_samples=2048).describe() == "44100 Hz, hop 512, frame 2048"


@pytest.mark.parametrize(
    ("n_samples", "frames"), [(-5, 0), (0, 0), (1, 1), (511, 1), (512, 2), (44100, 87)]
)
def test_frame_count_of_centred_frames(n_samples: int, frames: int) -> None:
    assert GRID.frame_count(n_samples) == frames


@pytest.mark.parametrize(
    ("n_samples", "frames"), [(0, 0), (5, 0), (1023, 0), (1024, 1), (1535, 1), (1536, 2)]
)
def test_frame_count_of_whole_frames(n_samples: int, frames: int) -> None:
    grid = FrameGrid(frame_samples=1024, centred=False)
    assert grid.frame_count(n_samples) == frames
    starts = [t for t in range(0, n_samples, 512) if t + 1024 <= n_samples]
    assert frames == len(starts)


@given(st.floats(0, 36000), st.sampled_from([8000, 16000, 44100]), st.integers(64, 4096))
def test_frame_of_an_event_is_the_floor(seconds: float, rate: int, hop: int) -> None:
    grid = FrameGrid(sample_rate=rate, hop_samples=hop)
    assert grid.frames_of(seconds) == math.floor(seconds * rate / hop)


@given(st.integers(0, 3_000_000), st.sampled_from([160, 512, 441]))
def test_the_middle_of_a_frame_lies_in_it(frame: int, hop: int) -> None:
    grid = FrameGrid(hop_samples=hop)
    assert grid.frames_of((frame + 0.5) * grid.seconds_per_frame) == frame


def test_arrays_in_arrays_out() -> None:
    frames = GRID.frames_of([0.0, 0.0117, 1.0])
    np.testing.assert_array_equal(frames, [0, 1, 86])
    assert frames.dtype == np.int64


def test_two_grids_do_not_mix() -> None:
    other = FrameGrid(sample_rate=16000, hop_samples=160)
    GRID.require(FrameGrid(), "store", "")
    with pytest.raises(StoreError) as caught:
        GRID.require(other, "store", "Ingest again")
    assert str(caught.value) == (
        "store: was made on the grid [44100 Hz, hop 512, frame per bin], "
        "wanted is [16000 Hz, hop 160, frame per bin]. Ingest again"
    )


def test_a_grid_is_frozen_and_checked() -> None:
    with pytest.raises(ValidationError):
        GRID.hop_samples = 256  # type: ignore[misc]
    for wrong in ({"hop_samples": 0}, {"sample_rate": -1}, {"hops": 3}):
        with pytest.raises(ValidationError):
            FrameGrid(**wrong)
