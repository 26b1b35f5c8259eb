from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amt_pipeline.core.errors import StoreError
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store import windows as windows_module
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.windows import WindowReader, Windows, copy_frames

SPEC = FeatureSpec(kind="log_mel", sample_rate=8000, hop_samples=64, bins=8, fmax_hz=4000)
LENGTHS = {"a": 12, "b": 1, "empty": 0, "c": 7}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> WindowReader:
    store = FrameStore.create(tmp_path_factory.mktemp("store"), SPEC)
    for seed, (name, n_frames) in enumerate(LENGTHS.items()):
        frames = 1 + np.random.default_rng(seed).random((n_frames, 8, 2))
        store.write(name, frames, "abc")
    return WindowReader(store, list(LENGTHS))


def windows_of(pairs: list[tuple[int, int]]) -> Windows:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return Windows(table[:, 0], table[:, 1])


def count_open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-30, 30)), max_size=6),
    st.integers(1, 9),
    st.integers(0, 5),
)
def test_gather_is_frame_by_frame_with_zeros_outside(
    reader: WindowReader, pairs: list[tuple[int, int]], length: int, context: int
) -> None:
    gathered = reader.gather(windows_of(pairs), length, context)
    expected = np.zeros((len(pairs), length + 2 * context, 8, 2), np.float16)
    for row, (recording, start) in enumerate(pairs):
        frames = reader.store.frames(reader.recording_ids[recording])
        for position in range(length + 2 * context):
            frame = start - context + position
            if 0 <= frame < len(frames):
                expected[row, position] = frames[frame]
    assert gathered.dtype == np.float16
    np.testing.assert_array_equal(gathered, expected)


def test_lengths_and_peaks_of_the_recordings(reader: WindowReader) -> None:
    np.testing.assert_array_equal(reader.n_frames, list(LENGTHS.values()))
    assert reader.peak.shape == (4, 2)
    np.testing.assert_array_equal(reader.peak[0], reader.frames(0).max(axis=(0, 1)))
    np.testing.assert_array_equal(reader.peak[2], [0, 0])


def test_a_split_without_recordings(reader: WindowReader) -> None:
    nobody = WindowReader(reader.store, [])
    assert nobody.peak.shape == (0, 2)
    assert nobody.gather(Windows.concatenate([]), 3, 1).shape == (0, 5, 8, 2)


def test_a_missing_recording_is_named(reader: WindowReader) -> None:
    with pytest.raises(StoreError, match=r"lost\.npy: is not in the store"):
        WindowReader(reader.store, ["a", "lost"])


def test_few_recordings_are_open_at_a_time(
    reader: WindowReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows_module, "MAX_MAPPED", 2)
    windows = windows_of([(0, 0), (1, 0), (2, 0), (3, 0), (0, 3)])
    before = count_open_files()
    own = WindowReader(reader.store, list(LENGTHS))
    assert count_open_files() == before
    gathered = own.gather(windows, 5, 1)
    assert before < count_open_files() <= before + 2
    np.testing.assert_array_equal(gathered, reader.gather(windows, 5, 1))
    del own
    assert count_open_files() == before


def test_what_is_ingested_again_meanwhile_is_named(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path, SPEC)
    store.write("a", np.ones((9, 8, 2)), "abc")
    reader = WindowReader(store, ["a"])
    store.write("a", np.ones((8, 8, 2)), "abd")
    with pytest.raises(StoreError, match=r"a\.npy: changed while it was used: \(8, 8, 2\)"):
        reader.gather(windows_of([(0, 0)]), 5, 1)


def test_windows_are_cut_and_joined() -> None:
    windows = windows_of([(0, 1), (1, 2), (2, 3)])
    assert len(windows) == 3
    assert windows[1:].start.tolist() == [2, 3]
    assert windows[np.array([2, 0])].recording.tolist() == [2, 0]
    joined = Windows.concatenate([windows, windows[:1]])
    assert joined.recording.tolist() == [0, 1, 2, 0]
    assert len(Windows.concatenate([])) == 0


def test_rows_of_a_window_outside_the_recording_stay_as_they_are() -> None:
    frames = np.arange(1, 5).reshape(4, 1, 1)
    for first, expected in ((-1, [9, 1, 2]), (3, [4, 9, 9]), (4, [9] * 3), (-3, [9] * 3)):
        window = np.full((3, 1, 1), 9)
        copy_frames(frames, first, window)
        assert window.ravel().tolist() == expected
