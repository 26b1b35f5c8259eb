"""Many recordings in one file: the same frames, entries, windows and errors as in files of own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from amt_pipeline.core.errors import AudioError, StorageError, StoreError, UserError
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore, PackPart
from amt_pipeline.store.windows import WindowReader, Windows

SPEC = MfccSpec(coefficients=3)
LENGTHS = {"84-121123-0000": 12, "empty": 0, "b.c": 1, "d": 7}


@pytest.fixture
def store(tmp_path: Path) -> FrameStore:
    return FrameStore.create(tmp_path / "store", SPEC)


def frames_of(n_frames: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n_frames, 9, 1)).astype(np.float32)


def parts_of(lengths: dict[str, int], seed: int = 0) -> list[PackPart]:
    return [
        PackPart(name, frames_of(n, seed + i), f"sha-{name}", {"speaker": i})
        for i, (name, n) in enumerate(lengths.items())
    ]


def count_open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def test_packed_recordings_are_read_like_others(store: FrameStore) -> None:
    parts = parts_of(LENGTHS)
    written = store.write_pack("train-0000", parts)
    alone = store.write("alone", frames_of(5, 9), "sha-alone")
    again = FrameStore.open(store.folder, SPEC)
    assert again.pack_entries("train-0000") == written
    for part, entry in zip(parts, written, strict=True):
        assert again.entry(part.recording_id) == entry
        assert entry.recording_id == part.recording_id
        assert (entry.n_frames, entry.content_sha256) == (len(part.frames), part.content_sha256)
        assert entry.peak == (float(np.abs(part.frames).max(initial=0)),)
        assert (entry.extra, entry.spec_sha256) == (part.extra, SPEC.sha256)
        found = again.frames(part.recording_id)
        np.testing.assert_array_equal(found, part.frames)
        if len(found):
            assert isinstance(found, np.memmap)
            with pytest.raises(ValueError, match="read-only"):
                found[0] = 0
    assert again.entry("alone") == alone
    assert len(list((store.folder / "packs").iterdir())) == 2


def test_windows_of_packed_and_single_recordings(store: FrameStore) -> None:
    store.write_pack("one", parts_of(LENGTHS))
    store.write_pack("two", parts_of({"e": 4, "f": 9}, seed=20))
    store.write("alone", frames_of(5, 9), "sha")
    ids = ["f", "d", "alone", "empty", "84-121123-0000", "e", "b.c"]
    rng = np.random.default_rng(0)
    windows = Windows(rng.integers(0, 7, 80), rng.integers(-6, 14, 80))
    before = count_open_files()
    reader = WindowReader(store, ids)
    gathered = reader.gather(windows, 3, 2)
    assert count_open_files() == before + 3
    few = WindowReader(store, ids, max_open=1)
    np.testing.assert_array_equal(few.gather(windows, 3, 2), gathered)
    assert count_open_files() == before + 4
    for row, window in enumerate(gathered):
        frames = store.frames(ids[windows.recording[row]])
        padded = np.pad(frames, ((30, 30), (0, 0), (0, 0)))
        start = windows.start[row] - 2 + 30
        np.testing.assert_array_equal(window, padded[start : start + 7])


def test_a_pack_is_replaced_as_a_whole(store: FrameStore) -> None:
    store.write_pack("p", parts_of({"a": 3, "b": 4}))
    assert store.entry("a").n_frames == 3
    store.write_pack("p", parts_of({"b": 6, "c": 5}, seed=3))
    assert [entry.recording_id for entry in store.pack_entries("p")] == ["b", "c"]
    assert store.entry("b").n_frames == 6
    np.testing.assert_array_equal(store.frames("c"), frames_of(5, 4))
    with pytest.raises(StoreError, match=r"a\.npy: is not in the store.*ingest pipeline again"):
        store.entry("a")


def test_a_pack_of_another_process_is_found(store: FrameStore) -> None:
    with pytest.raises(StoreError, match="not in the store"):
        store.entry("a")
    FrameStore.open(store.folder).write_pack("p", parts_of({"a": 3}))
    assert store.entry("a").n_frames == 3


def test_nothing_makes_a_pack_too(store: FrameStore) -> None:
    assert store.write_pack("p", []) == store.pack_entries("p") == []
    store.write_pack("q", parts_of({"a": 0}))
    assert store.frames("a").shape == (0, 9, 1)


def test_packs_that_are_not_named_are_removed(store: FrameStore) -> None:
    store.remove_packs([])
    for name in ("p", "q", "r.s"):
        store.write_pack(name, parts_of({name: 2}))
    (store.folder / "packs" / "half.npy").write_bytes(b"killed before its index was written")
    store.remove_packs({"p", "unknown"})
    assert sorted(path.name for path in (store.folder / "packs").iterdir()) == ["p.json", "p.npy"]
    assert store.entry("p").n_frames == 2
    with pytest.raises(StoreError, match="not in the store"):
        store.entry("r.s")


def test_facts_beside_a_packed_recording(store: FrameStore) -> None:
    _, second = store.write_pack("p", parts_of({"a": 3, "b": 4}))
    changed = store.annotate(second, {"warnings": ["quiet"]})
    assert store.entry("b") == changed == FrameStore.open(store.folder).entry("b")
    assert changed.extra == {"warnings": ["quiet"]}
    assert store.entry("a").extra == {"speaker": 0}


def test_a_recording_twice_is_a_mistake(store: FrameStore) -> None:
    with pytest.raises(StoreError, match=r"p\.npy: has a twice"):
        store.write_pack("p", [*parts_of({"a": 3, "b": 4}), *parts_of({"a": 3})])
    store.write_pack("p", parts_of({"a": 3}))
    store.write_pack("q", parts_of({"a": 3, "b": 1}))
    assert store.entry("b").n_frames == 1
    with pytest.raises(StoreError, match=r"p: holds a, which q holds too.*ingest pipeline again"):
        store.entry("a")
    store.remove_packs(["q"])
    assert store.entry("a").n_frames == 3


def test_entries_of_many_recordings_are_those_of_each(store: FrameStore) -> None:
    store.write_pack("p", parts_of({"a": 3, "b": 4}))
    store.write_pack("q", parts_of({"c": 5}))
    store.write("b", frames_of(9), "alone")
    store.write("d", frames_of(2), "alone")
    ids = ["c", "a", "d", "b", "a"]
    assert store.entries(ids) == [store.entry(name) for name in ids]
    assert store.entry("b").n_frames == 4  # the pack goes first
    with pytest.raises(StoreError, match=r"lost\.npy: is not in the store"):
        store.entries(["a", "lost"])
    (store.folder / "packs" / "q.npy").write_bytes(b"short")
    assert store.entries(["a", "b"]) == [store.entry("a"), store.entry("b")]
    with pytest.raises(StoreError, match=r"q\.npy: is damaged: 5 bytes"):
        store.entries(["a", "c"])


def test_packs_of_another_spec_do_not_count(store: FrameStore) -> None:
    store.write_pack("p", parts_of({"a": 3}))
    other = FrameStore.create(store.folder, SPEC.model_copy(update={"delta_axis": "time"}))
    words = r"p\.npy: was made under another feature specification.*ingest pipeline again"
    with pytest.raises(StoreError, match=words):
        other.pack_entries("p")
    with pytest.raises(StoreError, match=words):
        other.entry("a")
    other.write_pack("q", parts_of({"a": 4}))
    assert other.entry("a").n_frames == 4


def test_a_store_of_one_kind_is_not_opened_as_the_other(store: FrameStore) -> None:
    assert isinstance(FrameStore.open(store.folder).spec, MfccSpec)
    with pytest.raises(StoreError, match=r"\[16000 Hz, hop 160, frame 400\], wanted is \[44100 Hz"):
        FrameStore.open(store.folder, FeatureSpec())
    with pytest.raises(StoreError, match="delta_axis 'coefficient' there, 'time' wanted"):
        FrameStore.open(store.folder, SPEC.model_copy(update={"delta_axis": "time"}))


def test_absent_packs_are_named(store: FrameStore) -> None:
    with pytest.raises(StoreError, match=r"p\.npy: is not in the store.*ingest pipeline again"):
        store.pack_entries("p")
    for name in ("p.npy", "p.json"):
        store.write_pack("p", parts_of({"a": 3}))
        (store.folder / "packs" / name).unlink()
        with pytest.raises(StoreError, match=r"p\.npy: is not in the store"):
            store.pack_entries("p")
        with pytest.raises(StoreError, match=r"[pa]\.npy: is not in the store"):
            FrameStore.open(store.folder).entry("a")


@pytest.mark.parametrize("cut", [1, 100, 400])
def test_a_truncated_pack_is_named_and_redone(store: FrameStore, cut: int) -> None:
    store.write_pack("p", parts_of({"a": 3, "b": 5}))
    path = store.folder / "packs" / "p.npy"
    path.write_bytes(path.read_bytes()[:-cut])
    for read in (lambda: store.pack_entries("p"), lambda: store.frames("a")):
        with pytest.raises(StoreError, match=r"p\.npy: is damaged: \d+ bytes, written were \d+"):
            read()
    store.write_pack("p", parts_of({"a": 3, "b": 5}))
    assert len(store.frames("b")) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda index: {},
        lambda index: [],
        lambda index: {**index, "format": 2},
        lambda index: {**index, "parts": index["parts"][:1]},
        lambda index: {**index, "parts": [index["parts"][0]] * 2},
        lambda index: {**index, "parts": [{**p, "peak": [1, 2]} for p in index["parts"]]},
        lambda index: {**index, "parts": [{**p, "n_frames": 10**30} for p in index["parts"]]},
        lambda index: {**index, "file_bytes": 10**30},
    ],
)
def test_a_damaged_index_is_named(store: FrameStore, damage: object) -> None:
    # The part that is dropped must be longer than a header may be.
    store.write_pack("p", parts_of({"a": 3, "b": 500}))
    path = store.folder / "packs" / "p.json"
    index = json.loads(path.read_text())
    path.write_text(json.dumps(damage(index)))  # type: ignore[operator]
    for read in (lambda: store.pack_entries("p"), lambda: store.entry("a")):
        with pytest.raises(StoreError, match=r"p\.json: is not (an index entry|the index of its)"):
            read()
    store.write_pack("q", parts_of({"c": 2}))
    assert store.entry("c").n_frames == 2


def test_an_index_that_is_not_json_is_named(store: FrameStore) -> None:
    store.write_pack("p", parts_of({"a": 3}))
    (store.folder / "packs" / "p.json").write_bytes(b"\0\xff")
    with pytest.raises(UserError, match=r"p\.json: cannot be read as JSON"):
        store.entry("a")


def test_a_damaged_header_is_named(store: FrameStore) -> None:
    store.write_pack("p", parts_of({"a": 3}))
    path = store.folder / "packs" / "p.npy"
    content = path.read_bytes()
    path.write_bytes(b"\0" * 64 + content[64:])
    with pytest.raises(StoreError, match=r"p\.npy: cannot be read .*ingest again"):
        store.frames("a")


def test_a_pack_that_is_written_again_meanwhile_is_named(store: FrameStore) -> None:
    first = Windows(np.array([0]), np.array([0]))
    store.write_pack("p", parts_of({"a": 9, "b": 5}))
    reader = WindowReader(store, ["b"])
    store.write_pack("p", parts_of({"a": 8, "b": 5}))
    with pytest.raises(StoreError, match=r"p\.npy: changed while it was used: \(13, 9, 1\)"):
        reader.gather(first, 5, 1)
    reader = WindowReader(store, ["b"])
    store.write_pack("p", parts_of({"a": 5, "b": 8}))
    with pytest.raises(StoreError, match=r"p\.npy: changed while it was used"):
        reader.gather(first, 5, 1)


def test_an_error_of_the_source_leaves_the_pack_absent(store: FrameStore) -> None:
    store.write_pack("p", parts_of({"a": 3}))

    def parts() -> Iterator[PackPart]:
        yield from parts_of({"a": 3, "b": 4})
        raise AudioError("c.flac", "cut short")

    with pytest.raises(AudioError, match="cut short"):
        store.write_pack("p", parts())
    with pytest.raises(StoreError, match="not in the store"):
        store.pack_entries("p")
    with pytest.raises(StoreError, match="not in the store"):
        store.entry("a")
    assert not list(store.folder.rglob(".tmp-*"))


@pytest.mark.parametrize(
    "frames", [np.zeros((3, 9)), np.zeros((3, 8, 1)), np.full((3, 9, 1), np.nan)]
)
def test_frames_that_do_not_fit_name_their_recording(
    store: FrameStore, frames: npt.NDArray[np.float64]
) -> None:
    with pytest.raises(StoreError, match=r"^b: frames (of shape|are not finite)"):
        store.write_pack("p", [*parts_of({"a": 3}), PackPart("b", frames, "sha")])


def test_a_full_disk_is_named_and_the_old_pack_does_not_count(
    store: FrameStore, limit_file_size: object
) -> None:
    store.write_pack("p", parts_of({"a": 3}))
    with (
        pytest.raises(StorageError, match=r"p\.npy: cannot be written \(File too large\)"),
        limit_file_size(10_000),  # type: ignore[operator]
    ):
        store.write_pack("p", parts_of({"a": 3000}))
    with pytest.raises(StoreError, match="not in the store"):
        store.entry("a")
    assert not list(store.folder.rglob(".tmp-*"))
