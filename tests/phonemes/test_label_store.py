from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from amt_pipeline.core.errors import StorageError, StoreError
from amt_pipeline.phonemes.label_store import (
    LabelPart,
    read_classes_of,
    read_label_index,
    read_labels,
    remove_label_packs,
    write_label_pack,
)


def part(name: str, *classes: int) -> LabelPart:
    return LabelPart(name, np.array(classes, np.uint8), {"note": name})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_label_pack(tmp_path, "one", [part("a", 1, 2, 3), LabelPart("u", None), part("b", 4)])
    write_label_pack(tmp_path, "two", [part("c", 5, 6), part("d")])
    return tmp_path


def test_labels_come_in_the_order_asked_for(folder: Path) -> None:
    labels = read_labels(folder, ["c", "b", "d", "a"])
    assert labels.classes.tolist() == [5, 6, 4, 1, 2, 3]
    assert labels.classes.dtype == np.uint8
    assert labels.first.tolist() == [0, 2, 3, 3]
    assert labels.n_frames.tolist() == [2, 1, 0, 3]
    assert labels.first.dtype == labels.n_frames.dtype == np.int64
    assert labels.of(3).tolist() == [1, 2, 3]
    assert len(read_labels(folder, []).first) == 0


def test_index_knows_who_has_labels(folder: Path) -> None:
    index = read_label_index(folder, "one")
    assert [(p.recording_id, p.n_labels, p.has_labels) for p in index.parts] == [
        ("a", 3, True),
        ("u", 0, False),
        ("b", 1, True),
    ]
    assert index.parts[0].extra == {"note": "a"}
    assert index.parts[0].sha256 != index.parts[2].sha256
    with pytest.raises(StoreError, match="the corpus has no labels for u"):
        read_labels(folder, ["a", "u"])
    with pytest.raises(StoreError, match="has no labels of x, y"):
        read_labels(folder, ["x", "a", "y"])


def test_a_pack_is_replaced_and_former_ones_removed(folder: Path) -> None:
    write_label_pack(folder, "one", [part("a", 9)])
    assert read_labels(folder, ["a"]).classes.tolist() == [9]
    remove_label_packs(folder, {"two"})
    assert sorted(path.name for path in folder.iterdir()) == ["two.json", "two.npy"]
    remove_label_packs(folder / "absent", set())


def test_damage_is_named(folder: Path) -> None:
    data = (folder / "one.npy").read_bytes()
    (folder / "one.npy").write_bytes(data[:-1] + b"\x07")
    with pytest.raises(StoreError, match=r"one\.npy: is damaged: it holds other labels"):
        read_labels(folder, ["a"])
    assert read_labels(folder, ["c"]).classes.tolist() == [5, 6]
    (folder / "one.npy").write_bytes(data[:-1])
    with pytest.raises(StoreError, match=r"one\.npy: cannot be read"):
        read_classes_of(folder, "one", read_label_index(folder, "one"))
    (folder / "two.json").write_text("{}")
    with pytest.raises(StoreError, match=r"two\.json: is not an index of labels"):
        read_labels(folder, ["c"])
    (folder / "two.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read as JSON"):
        read_label_index(folder, "two")
    with pytest.raises(StoreError, match="no labels here"):
        read_label_index(folder, "three")


def test_index_that_promises_other_labels(folder: Path) -> None:
    index = json.loads((folder / "one.json").read_text())
    index["parts"][0]["n_labels"] = 1 << 30
    (folder / "one.json").write_text(json.dumps(index))
    with pytest.raises(StoreError, match="other labels than its index says"):
        read_labels(folder, ["a"])


def test_a_refusing_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        write_label_pack(tmp_path / "file", "one", [part("a", 1)])
