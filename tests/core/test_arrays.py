"""Arrays on disk: what is right is read to the bit, what is not is refused with the file's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from amt_pipeline.core.arrays import ArrayError, Wanted, map_array, read_arrays

WANTED = {"a": Wanted("f", 2), "b": Wanted("U", 0)}
VALUES = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b": np.array("key")}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_back_as_they_were(save: object, order: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    save(path, **{**VALUES, "a": np.array(VALUES["a"], order=order), "more": np.ones(3)})
    found = read_arrays(path, WANTED, max_bytes=10_000)
    assert set(found) == {"a", "b"}
    np.testing.assert_array_equal(found["a"], VALUES["a"])
    assert str(found["b"]) == "key"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"a": VALUES["a"]}, "b.npy"),
        ({**VALUES, "a": VALUES["a"].astype(int)}, r"a\.npy holds numbers of type int64"),
        ({**VALUES, "a": np.ones(3)}, r"in the shape \(3,\)"),
        ({**VALUES, "a": np.array([[object()]])}, "holds numbers of type object"),
        ({**VALUES, "a": np.ones((100, 100))}, r"more than 0\.01 MB"),
    ],
)
def test_other_arrays_are_refused(
    values: dict[str, np.ndarray], problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **values)
    with pytest.raises(ArrayError, match=problem) as refused:
        read_arrays(path, WANTED, max_bytes=10_000, remedy="Make it again")
    assert (refused.value.where, refused.value.remedy) == (str(path), "Make it again")


def test_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArrayError, match=r"none\.npz: no such file"):
        read_arrays(tmp_path / "none.npz", WANTED, max_bytes=1)
    with pytest.raises(ArrayError, match="cannot be read"):
        read_arrays(tmp_path, WANTED, max_bytes=1)


def test_array_is_mapped_and_another_type_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, VALUES["a"])
    mapped = map_array(path, "float32")
    np.testing.assert_array_equal(mapped, VALUES["a"])
    assert isinstance(mapped, np.memmap)
    assert not mapped.flags.writeable
    with pytest.raises(ArrayError, match="holds numbers of type float32, expected float16"):
        map_array(path, "float16")
    np.save(path, np.asfortranarray(VALUES["a"]))
    with pytest.raises(ArrayError, match="in C order"):
        map_array(path, "float32")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArrayError, match=r"a\.npy: cannot be read"):
        map_array(path, "float32")
    with pytest.raises(ArrayError, match="cannot be read") as missing:
        map_array(tmp_path / "none.npy", "float32")
    assert isinstance(missing.value.__cause__, OSError)
