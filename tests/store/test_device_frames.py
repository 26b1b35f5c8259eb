"""Frames on a device against the reader of files; the device is the CPU here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from amt_pipeline.core.errors import StoreError
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


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 3), st.integers(-30, 30)), max_size=6),
            st.integers(1, 9),
            st.integers(0, 9),
            st.sampled_from(["zeros", "repeat"]),
        ),
        max_size=4,
    )
)
def test_windows_of_all_kinds_may_follow_each_other(
    reader: WindowReader, asked: list[tuple[list[tuple[int, int]], int, int, Edges]]
) -> None:
    held = DeviceFrames(reader, CPU)
    for pairs, *how in asked:
        gathered = held.gather(windows_of(pairs), *how)
        np.testing.assert_array_equal(gathered.numpy(), reader.gather(windows_of(pairs), *how))


class ElsewhereFrames(DeviceFrames):
    """The way of a GPU, on the CPU."""

    def __init__(self, reader: WindowReader) -> None:
        super().__init__(reader, CPU)
        self._memory, self._rows = None, self._read(reader)


@pytest.mark.parametrize("block_frames", [5, 8192])
@pytest.mark.parametrize("edges", ["zeros", "repeat"])
def test_the_way_of_a_gpu(
    reader: WindowReader, edges: Edges, block_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_frames, "BLOCK_FRAMES", block_frames)
    rng = np.random.default_rng(0)
    windows = Windows(rng.integers(0, 4, 80), rng.integers(-9, 15, 80))
    gathered = ElsewhereFrames(reader).gather(windows, 4, 1, edges)
    np.testing.assert_array_equal(gathered.numpy(), reader.gather(windows, 4, 1, edges))


def test_on_a_cpu_recordings_are_read_when_they_are_asked_for(
    reader: WindowReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[list[int]] = []
    reads = reader.read

    def spy(recording: np.ndarray, *others: np.ndarray) -> None:
        read.append(recording.tolist())
        reads(recording, *others)

    monkeypatch.setattr(reader, "read", spy)
    held = DeviceFrames(reader, CPU)
    for pairs in ([(3, 0), (3, 1)], [(3, 2), (0, 0)], [(0, 1), (1, 0), (2, 0)], [(2, 0)]):
        held.gather(windows_of(pairs), 3, 1)
    assert [names for names in read if names] == [[3], [0], [1, 2]]


def test_threads_may_share_held_frames(reader: WindowReader) -> None:
    rng = np.random.default_rng(0)
    batches = [windows_of([(r, s) for r, s in rng.integers(0, 4, (9, 2))]) for _ in range(40)]
    for _ in range(10):
        held = DeviceFrames(reader, CPU)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda batch, held=held: held.gather(batch, 3, 2), batches))
        for batch, gathered in zip(batches, found, strict=True):
            np.testing.assert_array_equal(gathered.numpy(), reader.gather(batch, 3, 2))


def test_what_is_ingested_again_meanwhile_is_named(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path, SPEC)
    for name in ("a", "b"):
        store.write(name, np.ones((9, 9, 2)), "abc")
    held = DeviceFrames(WindowReader(store, ["a", "b"]), CPU)
    expected = held.gather(windows_of([(0, 0)]), 5, 1)
    for name in ("a", "b"):
        store.write(name, np.ones((8, 9, 2)), "abd")
    with pytest.raises(StoreError, match=r"b\.npy: changed while it was used"):
        held.gather(windows_of([(0, 0), (1, 0)]), 5, 1)
    assert torch.equal(held.gather(windows_of([(0, 0)]), 5, 1), expected)


def test_what_a_task_asks_of_a_source_is_the_readers(reader: WindowReader) -> None:
    held = DeviceFrames(reader, CPU)
    assert held.recording_ids == list(LENGTHS)
    np.testing.assert_array_equal(held.n_frames, reader.n_frames)
    np.testing.assert_array_equal(held.peak, reader.peak)


def test_no_recordings_at_all(reader: WindowReader) -> None:
    held = DeviceFrames(WindowReader(reader.store, []), CPU)
    assert held.gather(Windows.concatenate([]), 3, 1).shape == (0, 5, 9, 2)


def test_memory_is_counted_in_bytes(reader: WindowReader) -> None:
    assert frames_bytes(reader) == 21 * 9 * 2 * 2 == ElsewhereFrames(reader)._rows.nbytes
    assert 1e8 < free_bytes(CPU) < 1e15
