from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from amt_pipeline.core.errors import StorageError, StoreError
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore

SPEC = FeatureSpec(
    kind="log_mel", sample_rate=8000, hop_samples=64, bins=8, fmax_hz=4000, channels=2
)


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    return FrameStore.create(tmp_path / "store", SPEC)


def frames_of(n: int, seed: int = 0) -> npt.NDArray[np.float16]:
    return np.random.default_rng(seed).random((n, 8, 2)).astype(np.float16)


def test_round_trip(store: FrameStore) -> None:
    frames = frames_of(20)
    written = store.write("MIDI-Unprocessed.1_2004", frames, "abc", {"duration_s": 0.16})
    again = FrameStore.open(store.folder, SPEC)
    entry = again.entry("MIDI-Unprocessed.1_2004")
    assert entry == written
    assert (entry.n_frames, entry.content_sha256) == (20, "abc")
    assert entry.extra == {"duration_s": 0.16}
    assert entry.peak == tuple(frames.max(axis=(0, 1)).astype(float))
    read = again.frames("MIDI-Unprocessed.1_2004")
    np.testing.assert_array_equal(read, frames)
    assert isinstance(read, np.memmap)
    assert read.dtype == np.float16
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 0


def test_frames_are_kept_in_the_stores_type(store: FrameStore) -> None:
    entry = store.write("a", np.full((3, 8, 2), 0.1, np.float64), "abc")
    assert store.frames("a").dtype == np.float16
    assert entry.peak == (float(np.float16(0.1)),) * 2


def test_nothing_is_a_recording_too(store: FrameStore) -> None:
    entry = store.write("silence", np.zeros((0, 8, 2)), "abc")
    assert entry.peak == (0.0, 0.0)
    assert store.frames("silence").shape == (0, 8, 2)


def test_frames_of_another_spec_do_not_count(store: FrameStore) -> None:
    store.write("a", frames_of(5), "abc")
    other = FrameStore.create(store.folder, SPEC.model_copy(update={"n_fft": 2048}))
    with pytest.raises(StoreError, match=r"another feature specification.*ingest pipeline again"):
        other.frames("a")
    other.write("a", frames_of(6, 1), "abc")
    assert FrameStore.open(store.folder).entry("a").n_frames == 6
    assert FrameStore.open(store.folder).spec.n_fft == 2048


def test_creating_again_keeps_what_is_there(store: FrameStore) -> None:
    entry = store.write("a", frames_of(5), "abc")
    assert FrameStore.create(store.folder, SPEC).entry("a") == entry


@pytest.mark.parametrize("cut", [0, 1, 100])
def test_a_truncated_file_is_named_and_redone(store: FrameStore, cut: int) -> None:
    entry = store.write("a", frames_of(20), "abc")
    path = store.folder / "recordings" / "a.npy"
    path.write_bytes(path.read_bytes()[: -cut - 1])
    with pytest.raises(StoreError, match=r"a\.npy: is damaged: \d+ bytes, written were") as caught:
        store.frames("a")
    assert str(entry.file_bytes) in str(caught.value)
    store.write("a", frames_of(20), "abc")
    np.testing.assert_array_equal(store.frames("a"), frames_of(20))


def test_a_damaged_header_is_named(store: FrameStore) -> None:
    store.write("a", frames_of(20), "abc")
    path = store.folder / "recordings" / "a.npy"
    content = path.read_bytes()
    path.write_bytes(b"\0" * 64 + content[64:])
    with pytest.raises(StoreError, match=r"a\.npy: cannot be read .*ingest again"):
        store.frames("a")


@pytest.mark.parametrize("name", ["a.npy", "a.json"])
def test_a_missing_file_is_named(store: FrameStore, name: str) -> None:
    store.write("a", frames_of(5), "abc")
    (store.folder / "recordings" / name).unlink()
    with pytest.raises(StoreError, match=r"a\.npy: is not in the store.*ingest pipeline again"):
        store.frames("a")


@pytest.mark.parametrize("content", ["{}", "[]", "null"])
def test_a_damaged_entry_is_named(store: FrameStore, content: str) -> None:
    store.write("a", frames_of(5), "abc")
    (store.folder / "recordings" / "a.json").write_text(content)
    with pytest.raises(StoreError, match=r"a\.json: is not an index entry"):
        store.entry("a")


@pytest.mark.parametrize(
    ("shape", "words"), [((5, 8), "shape"), ((5, 9, 2), "shape"), ((5, 8, 1), "shape")]
)
def test_frames_of_another_shape_are_refused(
    store: FrameStore, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(StoreError, match=rf"a: frames of {words}"):
        store.write("a", np.zeros(shape), "abc")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_what_no_network_should_see_is_refused(store: FrameStore, value: float) -> None:
    frames = np.zeros((5, 8, 2), np.float32)
    frames[2, 3, 1] = value
    with pytest.raises(StoreError, match="a: frames are not finite"):
        store.write("a", frames, "abc")


def test_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere: holds no frames.*Run the ingest pipeline"):
        FrameStore.open(tmp_path / "nowhere")


def test_another_grid_is_named_with_both(store: FrameStore) -> None:
    wanted = SPEC.model_copy(update={"hop_samples": 80})
    with pytest.raises(StoreError) as caught:
        FrameStore.open(store.folder, wanted)
    assert "[8000 Hz, hop 64, frame 4096]" in str(caught.value)
    assert "[8000 Hz, hop 80, frame 4096]" in str(caught.value)


def test_other_features_on_the_same_grid_are_named(store: FrameStore) -> None:
    with pytest.raises(StoreError, match=r"fmin_hz 30\.0 there, 40\.0 wanted"):
        FrameStore.open(store.folder, SPEC.model_copy(update={"fmin_hz": 40.0}))


@pytest.mark.parametrize(
    "content", [{"spec": {"kind": "stft"}}, {"format": 1}, [], {"spec": None}, 3]
)
def test_a_damaged_specification_is_named(tmp_path: Path, content: object) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"spec\.json: is not a feature specification.*Delete it"):
        FrameStore.open(tmp_path)


@contextmanager
def only_free_descriptors(count: int) -> Iterator[None]:
    """Let the process open no more than `count` further files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 20, before[1]))
    try:
        while True:
            try:
                taken.append(os.dup(taken[0]))
            except OSError:
                break
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("free", "name"), [(0, "a.json"), (1, "a.npy")])
def test_too_many_open_files_are_not_the_files_fault(
    store: FrameStore, free: int, name: str
) -> None:
    store.write("a", frames_of(5), "abc")
    with pytest.raises(StoreError) as caught, only_free_descriptors(free):
        store.frames("a")
    assert caught.value.where.endswith(name)
    assert "too many files are open" in caught.value.problem
    assert "ulimit -n" in caught.value.remedy
    assert "Delete" not in str(caught.value)
    assert len(store.frames("a")) == 5


def test_a_full_disk_is_named_and_the_old_frames_do_not_count(
    store: FrameStore, limit_file_size: object
) -> None:
    store.write("a", frames_of(5), "abc")
    with (
        pytest.raises(StorageError, match=r"a\.npy: cannot be written \(File too large\)"),
        limit_file_size(10_000),  # type: ignore[operator]
    ):
        store.write("a", frames_of(2000), "abd")
    with pytest.raises(StoreError, match="is not in the store"):
        store.entry("a")
    assert not list(store.folder.rglob(".tmp-*"))
    store.write("a", frames_of(2000), "abd")
    assert store.entry("a").content_sha256 == "abd"
