from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amt_pipeline.core.errors import StoreError
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store import open_files
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-30, 30)), max_size=6),
    st.integers(1, 9),
    st.integers(0, 5),
)
def test_repeated_edges_are_clipped_frame_numbers(
    reader: WindowReader, pairs: list[tuple[int, int]], length: int, context: int
) -> None:
    gathered = reader.gather(windows_of(pairs), length, context, edges="repeat")
    assert gathered.shape == (len(pairs), length + 2 * context, 8, 2)
    for window, (recording, start) in zip(gathered, pairs, strict=True):
        frames = reader.store.frames(reader.recording_ids[recording])
        at = np.arange(start - context, start + length + context)
        expected = frames[np.clip(at, 0, len(frames) - 1)] if len(frames) else 0
        np.testing.assert_array_equal(window, np.broadcast_to(expected, window.shape))


def test_stretches_are_read_into_their_rows(reader: WindowReader) -> None:
    rows = np.full((3, 4, 8, 2), -1, np.float16)
    table = [[3, 1, 4, 2], [2, 0, 0, 0], [0, 11, 12, 11], [1, 0, 1, 7]]
    reader.read(*np.array(table).T, rows)
    flat = rows.reshape(12, 8, 2)
    for recording, low, high, into in table:
        frames = reader.store.frames(reader.recording_ids[recording])[low:high]
        np.testing.assert_array_equal(flat[into : into + high - low], frames)
    assert (flat[[0, 1, 5, 6, 8, 9, 10]] == -1).all()


@pytest.mark.parametrize("flag", [None, 1 << 30])
def test_systems_that_cannot_say_what_is_in_memory(
    reader: WindowReader, flag: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = windows_of([(0, -2), (3, 4), (1, 0), (0, 9)])
    expected = reader.gather(windows, 5, 2)
    monkeypatch.setattr(open_files, "_NO_WAIT", flag)
    np.testing.assert_array_equal(reader.gather(windows, 5, 2), expected)
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    np.testing.assert_array_equal(reader.gather(windows, 5, 2), expected)


def test_lengths_and_peaks_of_the_recordings(reader: WindowReader) -> None:
    np.testing.assert_array_equal(reader.n_frames, list(LENGTHS.values()))
    assert reader.peak.shape == (4, 2)
    np.testing.assert_array_equal(reader.peak[0], reader.store.frames("a").max(axis=(0, 1)))
    np.testing.assert_array_equal(reader.peak[2], [0, 0])


def test_a_split_without_recordings(reader: WindowReader) -> None:
    nobody = WindowReader(reader.store, [])
    assert nobody.peak.shape == (0, 2)
    assert nobody.gather(Windows.concatenate([]), 3, 1).shape == (0, 5, 8, 2)


def test_a_missing_recording_is_named(reader: WindowReader) -> None:
    with pytest.raises(StoreError, match=r"lost\.npy: is not in the store"):
        WindowReader(reader.store, ["a", "lost"])


def test_few_recordings_are_open_at_a_time(reader: WindowReader) -> None:
    windows = windows_of([(0, 0), (1, 0), (2, 0), (3, 0), (0, 3)])
    before = count_open_files()
    own = WindowReader(reader.store, list(LENGTHS), max_open=2)
    assert count_open_files() == before
    gathered = own.gather(windows, 5, 1)
    assert count_open_files() == before + 2
    np.testing.assert_array_equal(gathered, reader.gather(windows, 5, 1))
    del own
    assert count_open_files() == before


def test_many_recordings_stay_below_the_systems_limit(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path, SPEC)
    ids = [str(number) for number in range(60)]
    for number, name in enumerate(ids):
        store.write(name, np.full((4, 8, 2), number), "abc")
    kept = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = count_open_files()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, kept[1]))
        usual = WindowReader(store, ids)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, kept)
    gathered = usual.gather(windows_of([(number, 1) for number in (*range(60), 0)]), 2, 0)
    assert count_open_files() == before + 32
    assert gathered[:, 1, 3, 1].tolist() == [*range(60), 0]


def test_threads_may_share_a_reader(reader: WindowReader) -> None:
    rng = np.random.default_rng(0)
    own = WindowReader(reader.store, ["a", "b", "c"], max_open=1)
    batches = [windows_of([(r, s) for r, s in rng.integers(0, 3, (20, 2))]) for _ in range(60)]
    found: dict[int, np.ndarray] = {}

    def work(share: int) -> None:
        for number in range(share, len(batches), 3):
            found[number] = own.gather(batches[number], 5, 2)

    threads = [threading.Thread(target=work, args=(share,)) for share in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    simple = WindowReader(reader.store, ["a", "b", "c"])
    for number, batch in enumerate(batches):
        np.testing.assert_array_equal(found[number], simple.gather(batch, 5, 2))


def test_what_is_ingested_again_meanwhile_is_named(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path, SPEC)
    store.write("a", np.ones((9, 8, 2)), "abc")
    reader = WindowReader(store, ["a"])
    store.write("a", np.ones((8, 8, 2)), "abd")
    with pytest.raises(StoreError, match=r"a\.npy: changed while it was used: \(8, 8, 2\)"):
        reader.gather(windows_of([(0, 0)]), 5, 1)


def test_what_is_cut_short_or_replaced_meanwhile_is_named(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path, SPEC)
    for name in ("a", "b"):
        store.write(name, np.ones((9, 8, 2)), "abc")
    reader = WindowReader(store, ["a", "b"], max_open=1)
    a, b = windows_of([(0, 4)]), windows_of([(1, 4)])
    reader.gather(a, 5, 1)
    os.truncate(tmp_path / "recordings" / "a.npy", 200)
    with pytest.raises(StoreError, match=r"a\.npy: (cannot be read|changed while)"):
        reader.gather(a, 5, 1)
    reader.gather(b, 5, 1)
    (tmp_path / "recordings" / "b.npy").write_bytes(b"other")
    with pytest.raises(StoreError, match=r"a\.npy: (cannot be read|changed while)"):
        reader.gather(a, 5, 1)
    with pytest.raises(StoreError, match=r"b\.npy: cannot be read"):
        reader.gather(b, 5, 1)
    (tmp_path / "recordings" / "b.npy").unlink()
    with pytest.raises(StoreError, match=r"b\.npy: cannot be read"):
        reader.gather(b, 5, 1)


def test_frames_of_another_type_or_order_are_refused(tmp_path: Path) -> None:
    store = FrameStore.create(tmp_path, SPEC)
    store.write("a", np.ones((9, 8, 2)), "abc")
    path = tmp_path / "recordings" / "a.npy"
    for wrong in (
        np.asfortranarray(np.ones((9, 8, 2), np.float16)),
        np.ones((9, 8, 2), np.int16),
    ):
        np.save(path, wrong)
        with pytest.raises(StoreError, match=r"a\.npy: holds numbers of type"):
            WindowReader(store, ["a"]).gather(windows_of([(0, 4)]), 5, 1)


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
