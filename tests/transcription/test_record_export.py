"""An export holds the windows of a task, in the published layout, always in the same bytes."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from amt_pipeline.core.errors import CorpusError, StorageError, StoreError
from amt_pipeline.core.parallel import ParallelConfig, map_items
from amt_pipeline.store.tensorflow import import_tensorflow
from amt_pipeline.transcription.record_export import ExportConfig, export_records
from amt_pipeline.transcription.record_format import ExportManifest
from amt_pipeline.transcription.tasks import FrameTask

INLINE = ParallelConfig(workers=1)
EXPORT = ExportConfig(shards=3)
SAMPLING = {"onset": {"sampling": "onset_plus", "end": "last_onset"},
            "pitch": {"sampling": "onset_windows", "end": "last_onset"}}  # fmt: skip
Make = Callable[..., Any]


@pytest.fixture
def task_of(frame_corpus: Any, make_config: Make, make_task: Make) -> Make:
    """Opens a task on the shared corpus, with windows as the reference takes them."""

    def make(name: str = "onset", corpus: Any = frame_corpus, **changes: Any) -> FrameTask:
        settings = {"labels": SAMPLING[name], "model": {"label_frames": 7}, **changes}
        return make_task(make_config(name, **settings), corpus)

    return make


def read_plainly(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return spectra and labels of a record file, read as TensorFlow's own guide does it."""
    tf = import_tensorflow()
    found = []
    for data in tf.data.TFRecordDataset([str(path)]):
        feature = tf.train.Example.FromString(data.numpy()).features.feature
        assert set(feature) == {"spec", "label"}
        values = feature["spec"].float_list.value, feature["label"].int64_list.value
        found.append((np.array(values[0], np.float32), np.array(values[1])))
    return found


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["onset", "pitch"])
def test_records_hold_the_windows_of_the_task(name: str, task_of: Make, tmp_path: Path) -> None:
    task = task_of(name)
    manifest = export_records(task, tmp_path, EXPORT, INLINE)
    size = 7 + 2 * task.context_frames
    keys = () if name == "onset" else (88,)
    wanted = {
        "train": task.training_windows(0),
        "validation": task.evaluation_windows("validation"),
    }
    for split, windows in wanted.items():
        files = [tmp_path / split / f"000{number}.tfrecord" for number in range(3)]
        assert sorted((tmp_path / split).glob("*.tfrecord")) == files
        shards = [read_plainly(file) for file in files]
        assert max(map(len, shards)) - min(map(len, shards)) <= 1
        records = [record for shard in shards for record in shard]
        held = np.load(tmp_path / split / "windows.npz")
        pairs = list(zip(held["recording"], held["start"], strict=True))
        assert sorted(pairs) == sorted(zip(windows.recording, windows.start, strict=True))
        assert pairs != sorted(pairs)  # shuffled
        order = np.lexsort((held["start"], held["recording"]))
        by_time = windows[np.lexsort((windows.start, windows.recording))]
        frames, grades = task.examples(split, by_time)
        for row, at in enumerate(order):
            spectrum, label = records[at]
            spectrum = spectrum.reshape(88, size, 2)
            assert np.array_equal(spectrum, frames[row].transpose(1, 0, 2).astype(np.float32))
            assert np.array_equal(label.reshape(7, *keys), grades[row])
        assert manifest.splits[split].records == len(records) == len(windows)
        assert max(label.max() for _, label in records) == 3


def test_test_split_has_a_file_per_piece_in_the_order_of_time(
    task_of: Make, frame_corpus: Any, tmp_path: Path
) -> None:
    # Validation looks at onsets only; a piece is there as a whole.
    task = task_of("pitch", evaluation={"frames": "onset_windows"})
    manifest = export_records(task, tmp_path, EXPORT, INLINE)
    (piece,) = frame_corpus.splits["test"]
    assert [file.name for file in manifest.splits["test"].files] == [f"{piece}.tfrecord"]
    records = read_plainly(tmp_path / "test" / f"{piece}.tfrecord")
    held = np.load(tmp_path / "test" / "windows.npz")
    labelled = task.open_split("test")[1].n_frames[0]
    assert held["start"].tolist() == list(range(0, labelled, 7))
    around = task.context_frames
    joined = np.concatenate([s.reshape(88, -1, 2)[:, around : around + 7] for s, _ in records], 1)
    frames = frame_corpus.frames[piece].transpose(1, 0, 2)[:, :labelled]
    assert np.array_equal(joined[:, :labelled], frames.astype(np.float32))
    assert manifest.splits["validation"].records < 30 < manifest.splits["train"].records


def test_manifest_says_what_is_there_and_comes_last(
    task_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of("pitch")
    manifest = export_records(task, tmp_path, EXPORT, INLINE)
    stored = json.loads((tmp_path / "manifest.json").read_text())
    assert ExportManifest.read(tmp_path) == manifest
    assert stored["shapes"] == {"spec": [88, 7 + 2 * task.context_frames, 2], "label": [7, 88]}
    assert stored["splits"]["train"]["recordings"] == ["piece-0", "piece-1"]
    for split, own in manifest.splits.items():
        sizes = [(tmp_path / split / file.name).stat().st_size for file in own.files]
        assert sizes == [file.bytes for file in own.files]
        assert sum(sizes) == own.bytes == own.records * manifest.record_bytes
    monkeypatch.setattr("amt_pipeline.transcription.record_export._write_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_records(task, tmp_path, EXPORT, INLINE)
    assert not (tmp_path / "manifest.json").exists()


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_export_goes_on_where_it_stopped_and_ends_in_the_same_bytes(
    task_of: Make, tmp_path: Path
) -> None:
    task = task_of("onset")
    export_records(task, tmp_path, EXPORT, INLINE)
    whole = contents(tmp_path)
    train = tmp_path / "train"
    # As a kill leaves it: half a file, a file without its mark, one that is missing, no manifest.
    (train / ".tmp-0000-xyz.tfrecord").write_bytes(b"half")
    (train / "0001.json").unlink()
    (tmp_path / "test" / "piece-3.tfrecord").unlink()
    (tmp_path / "manifest.json").unlink()
    kept = {path: path.stat().st_ino for path in (train / "0000.tfrecord", train / "0002.tfrecord")}
    export_records(task, tmp_path, EXPORT, INLINE)
    assert contents(tmp_path) == whole
    assert {path: path.stat().st_ino for path in kept} == kept
    (train / "0002.tfrecord").write_bytes(b"cut")
    export_records(task, tmp_path, EXPORT, INLINE)
    assert contents(tmp_path) == whole


@pytest.mark.slow
def test_two_processes_write_the_same_bytes(task_of: Make, tmp_path: Path) -> None:
    task = task_of("onset")
    for name, workers in (("one", 1), ("two", 2)):
        export_records(task, tmp_path / name, EXPORT, ParallelConfig(workers=workers))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_other_settings_replace_what_was_there(task_of: Make, tmp_path: Path) -> None:
    first = export_records(task_of("onset"), tmp_path, EXPORT, INLINE)
    again = export_records(task_of("onset", labels={**SAMPLING["onset"], "widening": 2}),
                           tmp_path, EXPORT, INLINE)  # fmt: skip
    assert again == first  # grades are stored, so the widening stays free
    seed = task_of("onset", training={"seed": 2})
    other = export_records(seed, tmp_path, ExportConfig(shards=2), INLINE)
    assert sorted(path.name for path in (tmp_path / "train").glob("0*")) == [
        f"000{number}.{end}" for number in (0, 1) for end in ("json", "tfrecord")
    ]
    assert other.splits["train"].files[0].sha256 != first.splits["train"].files[0].sha256
    assert other.splits["test"] == first.splits["test"]
    alone = export_records(seed, tmp_path / "alone", ExportConfig(splits=("train",)), INLINE)
    assert list(alone.splits) == ["train"]
    assert [path.name for path in (tmp_path / "alone").iterdir() if path.is_dir()] == ["train"]


def test_more_shards_than_windows_make_no_empty_file(task_of: Make, tmp_path: Path) -> None:
    task = task_of("pitch", evaluation={"frames": "onset_windows"})
    manifest = export_records(task, tmp_path, ExportConfig(shards=500), INLINE)
    for split in ("train", "validation"):
        assert [file.records for file in manifest.splits[split].files] == [1] * (
            manifest.splits[split].records
        )


def test_lack_of_room_is_named_before_anything_is_written(
    task_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
    message = r"needs \d+(\.\d+)? MB, and 0\.001 MB are free"
    with pytest.raises(StorageError, match=message) as refused:
        export_records(task_of("onset"), tmp_path, EXPORT, INLINE)
    assert "training.source=frames" in refused.value.remedy
    assert list(tmp_path.rglob("*.tfrecord")) == []


def test_nothing_to_train_on_and_missing_frames_are_named(
    task_of: Make, make_frame_corpus: Make, tmp_path: Path
) -> None:
    corpus = make_frame_corpus()
    corpus.splits["validation"] = ["nobody"]
    with pytest.raises(StoreError, match=r"nobody\.npy: is not in the store"):
        export_records(task_of("onset", corpus), tmp_path, EXPORT, INLINE)
    corpus.splits["train"] = []
    with pytest.raises(CorpusError, match="has no training windows"):
        export_records(task_of("onset", corpus), tmp_path, EXPORT, INLINE)


@pytest.mark.parametrize(
    "wrong", [{"shards": 0}, {"splits": []}, {"splits": ["tset"]}, {"format": "npz"}]
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ExportConfig.model_validate(wrong)


def test_workers_have_to_see_all_that_an_export_reads_and_writes(
    task_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Path] = []

    def watched(*args: Any, shared: Sequence[Path], **settings: Any) -> Any:
        seen.extend(shared)
        return map_items(*args, shared=shared, **settings)

    monkeypatch.setattr("amt_pipeline.transcription.record_export.map_items", watched)
    task = task_of("onset")
    export_records(task, tmp_path, EXPORT, INLINE)
    assert set(seen) == {tmp_path, task.store.folder, task.notes_folder}
    assert all(folder.is_dir() for folder in seen)
