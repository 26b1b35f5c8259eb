"""Frames on a device against the reader of files; the device is the CPU here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store import device_frames
from amt_pipeline.store.device_frames import DeviceFrames, frames_bytes, free_bytes
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.windows import Edges, WindowReader, Windows

SPEC = FeatureSpec(kind="log_mel", sample_rate=8000, hop_samples=64, bins=9, fmax_hz=4000)
LENGTHS = {"a": 12, "empty": 0, "b": 1, "c": 7}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> WindowReader:
    store = FrameStore.create(tmp_path_factory.mktemp("store"), SPEC)
    for seed, (name, n_frames) in enumerate(LENGTHS.items()):
        store.write(name, 1 + np.random.default_rng(seed).random((n_frames, 9, 2)), "abc")
    return WindowReader(store, list(LENGTHS))


def windows_of(pairs: list[tuple[int, int]]) -> Windows:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return Windows(table[:, 0], table[:, 1])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-30, 30)), max_size=6),
    st.integers(1, 9),
    st.integers(0, 9),
    st.sampled_from(["zeros", "repeat"]),
)
def test_windows_are_those_of_the_reader(
    reader: WindowReader, pairs: list[tuple[int, int]], length: int, context: int, edges: Edges
) -> None:
    windows = windows_of(pairs)
    gathered = DeviceFrames(reader, CPU).gather(windows, length, context, edges)
    assert gathered.dtype == torch.float16
    np.testing.assert_array_equal(gathered.numpy(), reader.gather(windows, length, context, edges))


@pytest.mark.parametrize("edges", ["zeros", "repeat"])
def test_rows_by_their_numbers_are_the_same_windows(reader: WindowReader, edges: Edges) -> None:
    # What a GPU is asked for; on a CPU only windows at the ends are gathered by it.
    held, rng = DeviceFrames(reader, CPU), np.random.default_rng(0)
    recording, first = rng.integers(0, 4, 50), rng.integers(-9, 15, 50)
    rows = held._rows[torch.from_numpy(held._row_numbers(recording, first, 6, edges))]
    gathered = held.gather(Windows(recording, first), 6, 0, edges)
    assert torch.equal(rows.reshape(gathered.shape), gathered)


def test_recordings_longer_than_a_block(
    reader: WindowReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_frames, "BLOCK_FRAMES", 5)
    everything = windows_of([(0, 0), (3, 0)])
    gathered = DeviceFrames(reader, CPU).gather(everything, 12, 0)
    np.testing.assert_array_equal(gathered.numpy(), reader.gather(everything, 12, 0))


def test_what_a_task_asks_of_a_source_is_the_readers(reader: WindowReader) -> None:
    held = DeviceFrames(reader, CPU)
    assert held.recording_ids == list(LENGTHS)
    np.testing.assert_array_equal(held.n_frames, reader.n_frames)
    np.testing.assert_array_equal(held.peak, reader.peak)


def test_no_recordings_at_all(reader: WindowReader) -> None:
    held = DeviceFrames(WindowReader(reader.store, []), CPU)
    assert held.gather(Windows.concatenate([]), 3, 1).shape == (0, 5, 9, 2)


def test_memory_is_counted_in_bytes(reader: WindowReader) -> None:
    held = DeviceFrames(reader, CPU)
    assert frames_bytes(reader) == 21 * 9 * 2 * 2 == held._rows.nbytes
    assert 1e8 < free_bytes(CPU) < 1e15
