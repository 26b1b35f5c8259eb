"""Records are what TensorFlow writes and reads, in any order."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.errors import RecordError, StorageError
from amt_pipeline.store.record_index import open_records
from amt_pipeline.store.records import RecordFrame, RecordLayout, write_records
from amt_pipeline.store.tensorflow import import_tensorflow

LAYOUT = RecordLayout("spec", 50, "label", 7, largest=3)


def examples(count: int, seed: int = 0, layout: RecordLayout = LAYOUT) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    integers = rng.integers(0, 4, (count, layout.n_integers))
    return rng.random((count, layout.n_floats), np.float32), integers


def test_bytes_are_those_that_tensorflow_makes(tmp_path: Path) -> None:
    tf = import_tensorflow()
    # 127 integers, 4064 floats: their lengths have a byte that looks like the largest integer.
    for n_floats, n_integers in ((50, 7), (1, 1), (32, 127), (3000, 200), (4064, 1)):
        layout = RecordLayout("spec", n_floats, "label", n_integers)
        floats, integers = examples(3, layout=layout)
        write_records(tmp_path / "ours", RecordFrame(layout), [(floats, integers)])
        with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
            for row, labels in zip(floats, integers, strict=True):
                lists = {
                    "spec": tf.train.Feature(float_list=tf.train.FloatList(value=row)),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=labels)),
                }
                example = tf.train.Example(features=tf.train.Features(feature=lists))
                writer.write(example.SerializeToString(deterministic=True))
        assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
        assert (tmp_path / "ours").stat().st_size == 3 * RecordFrame(layout).record_bytes


def test_records_of_several_files_are_read_in_any_order(tmp_path: Path) -> None:
    floats, integers = examples(25)
    frame = RecordFrame(LAYOUT)
    for name, rows in (("b", slice(0, 10)), ("a", slice(10, 11)), ("c", slice(11, 25))):
        batches = [(floats[rows][:4], integers[rows][:4]), (floats[rows][4:], integers[rows][4:])]
        count = write_records(tmp_path / name, frame, batches)
        assert count == len(floats[rows])
    records = open_records(tmp_path, ["b", "a", "c"], LAYOUT)
    assert len(records) == 25
    order = np.random.default_rng(1).permutation(25)[:20]
    found, labels = records.read(np.concatenate([order, order[:3]]))
    assert np.array_equal(found[:20], floats[order])
    assert np.array_equal(labels[:20], integers[order])
    assert np.array_equal(found[20:], floats[order[:3]])
    nothing = records.read(np.zeros(0, np.int64))
    assert [part.shape for part in nothing] == [(0, 50), (0, 7)]


def test_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, limit_file_size: Callable[[int], Any]
) -> None:
    frame = RecordFrame(LAYOUT)
    with limit_file_size(10_000), pytest.raises(StorageError, match=r"0000\.tfrecord"):
        write_records(tmp_path / "0000.tfrecord", frame, [examples(200)])
    assert list(tmp_path.iterdir()) == []


def test_files_that_change_under_the_reader_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_records(path, RecordFrame(LAYOUT), [examples(5)])
    records = open_records(tmp_path, ["a"], LAYOUT)
    whole = path.read_bytes()
    assert len(records.read(np.array([0]))[0]) == 1
    path.write_bytes(whole[: len(whole) // 2])
    assert len(records.read(np.array([0]))[0]) == 1
    with pytest.raises(RecordError, match=r"a: changed while it was used \(\d+ bytes wanted, 0"):
        records.read(np.array([0, 4]))
    path.write_bytes(whole.replace(b"spec", b"spoc"))
    with pytest.raises(RecordError, match=r"a: changed .*other examples"):
        records.read(np.array([2]))
    path.unlink()
    with pytest.raises(RecordError, match=r"a: cannot be read"):
        open_records(tmp_path, ["a"], LAYOUT)


def test_file_of_another_export_is_not_taken_for_the_one_that_was_indexed(tmp_path: Path) -> None:
    frame = RecordFrame(LAYOUT)
    for name in "ab":
        write_records(tmp_path / name, frame, [examples(5)])
    records = open_records(tmp_path, ["a", "b"], LAYOUT)
    before = records.read(np.arange(5))
    for name in "ab":
        write_records(tmp_path / name, frame, [examples(5, seed=1)])
    # What is open stays what it was.
    assert np.array_equal(records.read(np.arange(5))[0], before[0])
    with pytest.raises(RecordError, match=r"b: changed while it was used \(it is not the file"):
        records.read(np.array([7]))


def test_more_files_than_may_be_open_are_read(tmp_path: Path) -> None:
    frame, names = RecordFrame(LAYOUT), [f"{number:03d}" for number in range(120)]
    for number, name in enumerate(names):
        write_records(tmp_path / name, frame, [examples(1, seed=number)])
    kept = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, kept[1]))
        floats, _ = open_records(tmp_path, names, LAYOUT).read(np.arange(120))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, kept)
    assert all(np.array_equal(floats[n], examples(1, seed=n)[0][0]) for n in range(120))
