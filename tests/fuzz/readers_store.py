"""Readers of what lies in a data root between corpus and model: frames, tables, records."""

from __future__ import annotations

import io
import json
import pickle
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from mutations import BINARY, TEXT, ZIP
from reader_kit import SPEC, Payload, Reader, check_notes, put, require, some_notes

N_FRAMES = 5
PARTS = {"a": N_FRAMES, "empty": 0, "b": 2}


def npz(compressed: bool = False, **arrays: Any) -> bytes:
    """Return arrays as the bytes of an archive."""
    target = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(target, **arrays)
    return target.getvalue()


@cache
def _stored() -> tuple[bytes, bytes, bytes]:
    """A store with one recording: frames, entry, specification."""
    from amt_pipeline.store.frames import FrameStore

    store = FrameStore.create(Path("store").absolute(), SPEC)
    frames = np.random.default_rng(0).random((N_FRAMES, 8, 1), np.float32)
    store.write("a", frames, "0" * 64, {"duration_s": 0.04})
    names = ("recordings/a.npy", "recordings/a.json", "spec.json")
    return tuple(Path("store", name).read_bytes() for name in names)  # type: ignore[return-value]


def read_frames(data: bytes, part: int) -> None:
    from amt_pipeline.store.frames import FrameStore, StoreEntry

    frames, entry, spec = (data if n == part else good for n, good in enumerate(_stored()))
    if part == 0:
        entry = json.dumps({**json.loads(entry), "file_bytes": len(data)}).encode()
    put("given-store/spec.json", spec)
    put("given-store/recordings/a.npy", frames)
    put("given-store/recordings/a.json", entry)
    store = FrameStore.open("given-store")
    if part == 2:
        FrameStore.open("given-store", SPEC)
    found = store.entry("a")
    require(isinstance(found, StoreEntry) and found.recording_id == "a", "the entry")
    require(found.n_frames >= 0 and len(found.peak) == store.spec.channels, "frames and peaks")
    require(np.isfinite(found.peak).all() and min(found.peak) >= 0, "finite peaks")
    frames_found = store.frames("a")
    require(frames_found.dtype == store.spec.dtype, f"type {frames_found.dtype}")
    require(frames_found.shape[1:] == (store.spec.bins, store.spec.channels), "shape")
    require(frames_found.flags.c_contiguous, "order in memory")
    np.array(frames_found)


@cache
def _packed() -> tuple[bytes, bytes, bytes]:
    """A store with one pack of three recordings: frames, index, specification."""
    from amt_pipeline.features.mfcc_spec import MfccSpec
    from amt_pipeline.store.frames import FrameStore, PackPart

    store = FrameStore.create(Path("packed").absolute(), MfccSpec(coefficients=2))
    frames = np.random.default_rng(0).normal(size=(N_FRAMES, 6, 1))
    parts = [PackPart(name, frames[:n], "0" * 64, {}) for name, n in PARTS.items()]
    store.write_pack("p", parts)
    names = ("packs/p.npy", "packs/p.json", "spec.json")
    return tuple(Path("packed", name).read_bytes() for name in names)  # type: ignore[return-value]


def read_pack(data: bytes, part: int) -> None:
    from amt_pipeline.core.errors import UserError
    from amt_pipeline.store.frames import FrameStore
    from amt_pipeline.store.windows import WindowReader, Windows

    frames, index, spec = (data if n == part else good for n, good in enumerate(_packed()))
    if part == 0:
        index = json.dumps({**json.loads(index), "file_bytes": len(data)}).encode()
    put("given-packed/spec.json", spec)
    put("given-packed/packs/p.npy", frames)
    put("given-packed/packs/p.json", index)
    store = FrameStore.open("given-packed")
    entries = store.pack_entries("p")
    for entry in entries:
        require(np.isfinite(entry.peak).all() and min(entry.peak) >= 0, "finite peaks")
        found = store.frames(entry.recording_id)
        require(found.dtype == np.float32, f"type {found.dtype}")
        require(found.shape == (entry.n_frames, store.spec.bins, 1), f"shape {found.shape}")
        np.array(found)
    reader = WindowReader(store, [entry.recording_id for entry in entries])
    count = np.arange(len(entries))
    windows = Windows(count, np.full(len(entries), -1))
    reader.gather(windows, 4, 1)
    try:
        store.entry("nobody")
    except UserError:
        return
    require("nobody" in [entry.recording_id for entry in entries], "nobody is in the store")


def _parquet(table: Any) -> bytes:
    target = io.BytesIO()
    table.to_parquet(target, index=False)
    return target.getvalue()


def note_table_seeds() -> list[bytes]:
    import pyarrow as pa
    from pyarrow import parquet

    frame = some_notes().to_frame()
    target = io.BytesIO()
    table = pa.Table.from_pandas(frame)
    hidden = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Payload()),
    }
    field = table.schema.field(0).with_metadata(hidden)
    parquet.write_table(table.set_column(0, field, table.column(0)), target, compression="none")
    return [_parquet(frame), target.getvalue()]


def read_note_table(data: bytes) -> None:
    from amt_pipeline.transcription import note_table

    check_notes(note_table.read_note_table(put("given.parquet", data)))


def _manifest(folder: str = "recordings") -> Any:
    import pandas as pd

    names = ["a", "b", "c"]
    for name in names:
        put(f"{folder}/{name}.wav", b"")
    return pd.DataFrame({
        "recording_id": ["01", "NA", "c"], "split": ["train", "validation", "test"],
        "audio_path": [str(Path(folder, f"{name}.wav").absolute()) for name in names],
        "duration_s": [1.0, 2.5, 3.0], "audio_sha256": ["0" * 64, "1" * 64, "2" * 64],
        "composer": ["Bach", "Chopin", ""], "title": ["A", "B", ""],
        "year": pd.array([2004, None, 2006], dtype="Int64"),
    })  # fmt: skip


def read_manifest(suffix: str, data: bytes) -> None:
    """Read a manifest as a pipeline does, then check it as a run does."""
    import pandas as pd

    from amt_pipeline.datasets import RecordingsDataset
    from amt_pipeline.store.manifest import Manifest

    dataset = RecordingsDataset(filepath=put(f"given.{suffix}", data))
    dataset.preview()
    table = dataset.load()
    require(isinstance(table, pd.DataFrame), "a table")
    manifest = Manifest.from_frame(table, where="given")
    require(sum(len(manifest.split(s)) for s in ("train", "validation", "test")) == len(manifest),
            "every row in a split")  # fmt: skip
    require(len(manifest.fingerprint()) == 64, "a fingerprint")


def read_json(data: bytes) -> None:
    from amt_pipeline.core import files

    value = files.read_json(put("given.json", data))
    json.dumps(value)


LAYOUT = ("spec", 6, "label", 4)


@cache
def _records() -> bytes:
    from amt_pipeline.store.records import RecordFrame, RecordLayout, write_records

    rng = np.random.default_rng(0)
    batch = rng.random((3, 6), np.float32), rng.integers(0, 4, (3, 4))
    path = Path("seed.tfrecord").absolute()
    write_records(path, RecordFrame(RecordLayout(*LAYOUT, largest=3)), [batch])
    return path.read_bytes()


def unframed(data: bytes) -> list[bytes]:
    """Return the payloads of a record file."""
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        found.append(data[at + 12 : at + 12 + length])
        at += length + 16
    return found


def framed(payload: bytes) -> bytes:
    """Return a payload as a record whose checksums are right."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    target = io.BytesIO()
    RecordWriter(target).write(payload)
    return target.getvalue()


def read_records(data: bytes) -> None:
    from amt_pipeline.store.record_index import INDEX_FILE, open_records
    from amt_pipeline.store.record_walk import first_keys
    from amt_pipeline.store.records import RecordLayout

    path = put("records/given.tfrecord", data)
    Path("records", INDEX_FILE).unlink(missing_ok=True)
    require(all(isinstance(key, str) for key in first_keys(path)), "keys")
    _read_all(open_records(path.parent, [path.name], RecordLayout(*LAYOUT, largest=3)))


def _read_all(files: Any) -> None:
    floats, integers = files.read(np.arange(len(files)))
    require(floats.shape == (len(files), 6) and np.isfinite(floats).all(), "floats")
    require(integers.shape == (len(files), 4), "integers")
    require(((integers >= 0) & (integers <= 3)).all(), "integers within 0 and 3")


def index_seeds() -> list[bytes]:
    from amt_pipeline.store.record_index import INDEX_FILE, open_records
    from amt_pipeline.store.records import RecordLayout

    put("indexed/given.tfrecord", _records())
    Path("indexed", INDEX_FILE).unlink(missing_ok=True)
    open_records(Path("indexed").absolute(), ["given.tfrecord"], RecordLayout(*LAYOUT, largest=3))
    return [Path("indexed", INDEX_FILE).read_bytes()]


def read_index(data: bytes) -> None:
    """Whatever the index says, the records that are read are the right ones, or refused."""
    from amt_pipeline.store.record_index import INDEX_FILE, open_records
    from amt_pipeline.store.records import RecordLayout

    put(f"indexed/{INDEX_FILE}", data)
    files = open_records(
        Path("indexed").absolute(), ["given.tfrecord"], RecordLayout(*LAYOUT, largest=3)
    )
    _read_all(files)


def export_seeds() -> list[bytes]:
    from amt_pipeline.transcription.record_format import ExportManifest, RecordFile, SplitManifest

    file = RecordFile(name="0000.tfrecord", records=3, bytes=100, sha256="0" * 64)
    split = SplitManifest(
        records=3, bytes=100, recordings=["a"], windows_sha256="1" * 64, files=[file]
    )
    manifest = ExportManifest(
        task="onset", settings={"labels.end": "all"}, features=SPEC, shapes={"spec": [8, 4, 1]},
        record_bytes=33, splits={"train": split},
    )  # fmt: skip
    return [manifest.model_dump_json(indent=2).encode()]


def read_export(data: bytes) -> None:
    from amt_pipeline.transcription.record_format import ExportManifest

    manifest = ExportManifest.read(put("export/manifest.json", data).parent)
    for split in manifest.splits.values():
        for file in split.files:
            require(Path(file.name).name == file.name, "a file of the folder")


def window_seeds() -> list[bytes]:
    return [npz(recording=np.array([0, 0, 1]), start=np.array([-2, 5, 100]))]


def read_windows(data: bytes) -> None:
    from amt_pipeline.core.hashing import file_sha256
    from amt_pipeline.store.windows import Windows
    from amt_pipeline.transcription.record_source import read_held_windows

    path = put("given-windows.npz", data)
    windows = read_held_windows(path, file_sha256(path), 3)
    require(isinstance(windows, Windows) and len(windows) == 3, "three windows")
    require(windows.start.dtype == windows.recording.dtype == np.int64, "whole numbers")
    require(windows.start.shape == windows.recording.shape == (3,), "shape")


def _part(number: int) -> Callable[[bytes], None]:
    return lambda data: read_frames(data, number)


def _pack_part(number: int) -> Callable[[bytes], None]:
    return lambda data: read_pack(data, number)


READERS = {
    "frames": Reader(lambda: [_stored()[0]], _part(0), (*BINARY, *TEXT[:3])),
    "frame entry": Reader(lambda: [_stored()[1]], _part(1), TEXT),
    "feature spec": Reader(lambda: [_stored()[2]], _part(2), TEXT),
    "pack": Reader(lambda: [_packed()[0]], _pack_part(0), (*BINARY, *TEXT[:3])),
    "pack index": Reader(lambda: [_packed()[1]], _pack_part(1), TEXT),
    "mfcc spec": Reader(lambda: [_packed()[2]], _pack_part(2), TEXT),
    "note table": Reader(note_table_seeds, read_note_table, (*BINARY, *TEXT[:4])),
    "manifest parquet": Reader(
        lambda: [_parquet(_manifest())],
        lambda data: read_manifest("parquet", data),
        (*BINARY, *TEXT[:4]),
    ),
    "manifest csv": Reader(
        lambda: [_manifest().to_csv(index=False).encode()],
        lambda data: read_manifest("csv", data),
        TEXT,
    ),
    "json": Reader(
        lambda: [b'{"a": [1, 2.5, null, true, "b"],\n "c": {"d": {}}}'], read_json, TEXT
    ),
    "records": Reader(lambda: [_records()], read_records, BINARY),
    "record content": Reader(
        lambda: unframed(_records()), lambda data: read_records(framed(data)), BINARY
    ),
    "record index": Reader(index_seeds, read_index, ZIP),
    "export manifest": Reader(export_seeds, read_export, TEXT),
    "export windows": Reader(window_seeds, read_windows, ZIP),
}
