"""Whatever is wrong with a record file is named, with its record; what was checked is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.errors import RecordError
from amt_pipeline.store import record_index
from amt_pipeline.store.record_index import INDEX_FILE, open_records
from amt_pipeline.store.record_walk import first_keys
from amt_pipeline.store.records import RecordFrame, RecordLayout, write_records
from amt_pipeline.store.tensorflow import import_tensorflow

LAYOUT = RecordLayout("spec", 6, "label", 4, largest=3)
N_RECORDS = 5
RECORD_BYTES = 75  # with its framing; checked below


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of five good records."""
    rng = np.random.default_rng(0)
    floats = rng.random((N_RECORDS, 6), np.float32)
    frame = RecordFrame(LAYOUT)
    write_records(tmp_path / "a", frame, [(floats, rng.integers(0, 4, (N_RECORDS, 4)))])
    assert frame.record_bytes == RECORD_BYTES
    return tmp_path / "a"


def example(spec: Any = (1.0,) * 6, label: Any = (0,) * 4, **more: Any) -> bytes:
    """Serialize an example; a list of whole numbers is one of integers."""
    tf = import_tensorflow()
    lists = {}
    for key, values in {"spec": spec, "label": label, **more}.items():
        if values is None:
            continue
        if all(isinstance(value, int) for value in values):
            lists[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        elif all(isinstance(value, bytes) for value in values):
            lists[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        else:
            lists[key] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    data: bytes = tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString(
        deterministic=True
    )
    return data


def append(path: Path, data: bytes) -> None:
    """Add a record behind those of a file."""
    other = path.with_name("other")
    with import_tensorflow().io.TFRecordWriter(str(other)) as writer:
        writer.write(data)
    path.write_bytes(path.read_bytes() + other.read_bytes())
    other.unlink()


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut in the data": (lambda data: data[:-20], "is cut off within record 4"),
    "cut in the framing": (lambda data: data[: 4 * RECORD_BYTES + 5], "cut off within record 4"),
    "cut after a checksum": (lambda data: data + b"\0\0\0", "is cut off within record 5"),
    "rot in the data": (flip(2 * RECORD_BYTES + 40), "record 2 is damaged: its checksum is wrong"),
    "rot in a checksum": (flip(3 * RECORD_BYTES - 1), "record 2 is damaged"),
    "rot in a length": (flip(RECORD_BYTES + 8), "record 1 is damaged"),
    "huge length": (flip(6), "not a TFRecord file, or cut off within its first record"),
    "length into the next": (flip(RECORD_BYTES), r"record \d is damaged|cut off within record"),
    "empty": (lambda data: b"", "a: is empty"),
    "no record file": (lambda data: b"id,split\n1,train\n" * 9, "is not a TFRecord file"),
    "compressed": (lambda data: b"\x1f\x8b" + data, "a: is compressed"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damage_is_named_with_its_record(case: str, path: Path) -> None:
    damage, message = DAMAGED[case]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RecordError, match=message) as refused:
        open_records(path.parent, ["a"], LAYOUT)
    assert refused.value.where == str(path)
    assert refused.value.remedy


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "shape": ({"spec": (1.0,) * 5}, "record 5 holds 5 numbers under 'spec', expected 6"),
    "label length": ({"label": (1,) * 7}, "record 5 holds 7 numbers under 'label', expected 4"),
    "missing key": ({"label": None, "x": (1,)}, "record 5 has no key 'label', only spec, x"),
    "floats as bytes": ({"spec": (b"abc",)}, "holds bytes_list under 'spec', expected float_list"),
    "float labels": ({"label": (1.5,) * 4}, "holds float_list under 'label', expected int64_list"),
    "no number": ({"spec": (1.0,) * 5 + (float("nan"),)}, "record 5 holds NaN or infinity"),
    "label above": (
        {"label": (0, 0, 4, 0)},
        "record 5 holds 0 to 4 under 'label', expected 0 to 3",
    ),
    "label below": ({"label": (0, -1, 0, 0)}, "record 5 holds -1 to 0 under 'label'"),
    "too long": ({"rest": (0.5,) * 400_000}, "record 5 has 16.* bytes, far more than"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_examples_are_named_with_their_record(case: str, path: Path) -> None:
    changes, message = WRONG[case]
    append(path, example(**changes))
    with pytest.raises(RecordError, match=message):
        open_records(path.parent, ["a"], LAYOUT)


def test_other_things_than_examples_are_named(path: Path) -> None:
    append(path, b"certainly no protocol buffer")
    with pytest.raises(RecordError, match=r"record 5 is not a tf\.train\.Example"):
        open_records(path.parent, ["a"], LAYOUT)


def test_further_keys_do_no_harm(path: Path) -> None:
    append(path, example(spec=(0.5,) * 6, frame_label=(1,) * 900))
    records = open_records(path.parent, ["a"], LAYOUT)
    assert records.read(np.array([5]))[0].tolist() == [[0.5] * 6]
    assert first_keys(path) == ["label", "spec"]


def test_what_was_checked_is_not_checked_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_records(path.parent, ["a"], LAYOUT).index
    with monkeypatch.context() as patched:
        patched.setattr(record_index, "walk_file", pytest.fail)
        again = open_records(path.parent, ["a"], LAYOUT).index
    assert again.digest == first.digest
    assert again.largest == first.largest == 3
    assert np.array_equal(again.offsets, first.offsets)
    other = RecordLayout("spec", 6, "label", 5)
    with pytest.raises(RecordError, match="record 0 holds 4 numbers under 'label', expected 5"):
        open_records(path.parent, ["a"], other)


def test_files_that_changed_are_checked_again(path: Path) -> None:
    digest = open_records(path.parent, ["a"], LAYOUT).index.digest
    append(path, example())
    longer = open_records(path.parent, ["a"], LAYOUT).index
    assert (longer.counts, longer.digest != digest) == ([6], True)
    path.write_bytes(flip(40)(path.read_bytes()))
    with pytest.raises(RecordError, match="record 0 is damaged"):
        open_records(path.parent, ["a"], LAYOUT)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY nothing"])
def test_damaged_index_is_made_again(content: bytes, path: Path) -> None:
    open_records(path.parent, ["a"], LAYOUT)
    index = path.parent / INDEX_FILE
    good = index.read_bytes()
    index.write_bytes(content)
    assert len(open_records(path.parent, ["a"], LAYOUT)) == N_RECORDS
    assert index.read_bytes() == good


def test_without_an_index_records_are_still_read(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (path.parent / INDEX_FILE / "in the way").mkdir(parents=True)
    assert len(open_records(path.parent, ["a"], LAYOUT)) == N_RECORDS
    assert "The index of these records is not kept" in caplog.text


def test_several_bad_files_are_told_by_the_first(path: Path) -> None:
    for name in ("b", "c"):
        (path.parent / name).write_bytes(b"")
    with pytest.raises(RecordError, match=r"b: is empty"):
        open_records(path.parent, ["a", "b", "c"], LAYOUT)
    (path.parent / "d").mkdir()
    with pytest.raises(RecordError, match=r"d: cannot be read"):
        open_records(path.parent, ["d"], LAYOUT)
    with pytest.raises(RecordError, match=r"nobody: cannot be read"):
        open_records(path.parent, ["nobody"], LAYOUT)
