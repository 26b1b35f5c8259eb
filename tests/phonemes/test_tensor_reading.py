"""Tensors of the course: every way a file may be wrong, and the two that would run code."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amt_pipeline.core.errors import TensorError
from amt_pipeline.phonemes import tensor_reading
from amt_pipeline.phonemes.tensor_reading import read_tensor

PLAIN = torch.from_numpy(np.random.default_rng(0).standard_normal((60, 39)).astype(np.float32))


class RunsCode:
    """Makes an empty file `PWNED` where it is unpickled."""

    def __reduce__(self) -> Any:
        return open, ("PWNED", "w")


def saved(value: Any, **options: Any) -> bytes:
    target = io.BytesIO()
    torch.save(value, target, **options)
    return target.getvalue()


def flipped(data: bytes) -> bytes:
    """Overwrite one stored value; the checksum of the archive stays as it was."""
    at = data.index(PLAIN.numpy().tobytes()[:40]) + 16
    return data[:at] + struct.pack("<f", 1e38) + data[at + 4 :]


def zipped(members: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    return target.getvalue()


def repacked(data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    return zipped(members, zipfile.ZIP_DEFLATED)


def changed(at: tuple[int, int], value: float) -> torch.Tensor:
    tensor = PLAIN.clone()
    tensor[at] = value
    return tensor


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "1-1-0.pt"


@pytest.mark.parametrize("old_format", [False, True])
def test_control_case(path: Path, old_format: bool) -> None:
    path.write_bytes(saved(PLAIN, _use_new_zipfile_serialization=not old_format))
    frames = read_tensor(path, 39)
    assert frames.dtype == np.float32
    assert frames.flags.c_contiguous
    assert np.array_equal(frames, PLAIN.numpy())


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(path: Path, kind: torch.dtype) -> None:
    path.write_bytes(saved(PLAIN.to(kind)))
    frames = read_tensor(path, 39)
    assert frames.dtype == np.float32
    assert np.array_equal(frames, PLAIN.to(kind).float().numpy())


def test_views_and_constant_columns_are_read(path: Path) -> None:
    constant = PLAIN.clone()
    constant[:, 38] = 0
    for tensor in (constant, PLAIN.T.contiguous().T, PLAIN.clone().requires_grad_()):
        path.write_bytes(saved(tensor))
        assert np.array_equal(read_tensor(path, 39), tensor.detach().numpy())


WRONG: dict[str, tuple[bytes, str]] = {
    "truncated": (saved(PLAIN)[: len(saved(PLAIN)) // 2], "is damaged or cut short"),
    "zero_bytes": (b"", "empty file"),
    "text": (b"hello", "is not a tensor file"),
    "flipped_bytes": (flipped(saved(PLAIN)), "checksum of 'archive/data/0' within is wrong"),
    "huge_1e38": (saved(changed((10, 3), 1e38)), "value 1e.38 .frame 10, column 3. is no normal"),
    "beyond_float32": (saved(changed((2, 1), 1).double() * 1e300), "is no normalised feature"),
    "just_too_large": (saved(changed((0, 0), -10001)), "value -10001 .frame 0, column 0."),
    "nan": (saved(changed((5, 0), float("nan"))), "1 values are not finite, the first in frame 5"),
    "inf": (saved(changed((7, 2), float("-inf"))), "not finite, the first in frame 7"),
    "shape_T40": (saved(torch.zeros(60, 40)), r"shape \(60, 40\), expected \(frames, 39\)"),
    "shape_39T": (saved(PLAIN.T.contiguous()), r"shape \(39, 60\), .* It is transposed"),
    "one_dim": (saved(PLAIN[:, 0].clone()), r"shape \(60,\), expected \(frames, 39\)"),
    "three_dims": (saved(PLAIN[None]), r"shape \(1, 60, 39\), expected \(frames, 39\)"),
    "no_frames": (saved(PLAIN[:0].clone()), r"has no frames: its shape is \(0, 39\)"),
    "dict": (saved({"x": PLAIN}), "holds a dict, expected one tensor"),
    "list": (saved([PLAIN]), "holds a list, expected one tensor"),
    "parameter": (saved(torch.nn.Parameter(PLAIN)), "holds a Parameter"),
    "integers": (saved(torch.ones(60, 39, dtype=torch.int64)), "a tensor of int64"),
    "complex": (saved(torch.ones(60, 39, dtype=torch.complex64)), "a tensor of complex64"),
    "sparse": (saved(PLAIN.to_sparse()), "a tensor of float32 .sparse_coo."),
    "meta": (saved(torch.ones(60, 39, device="meta")), "holds a tensor of|not a tensor file"),
    "one_value_many_times": (
        saved(torch.ones(1, 1).expand(10**9, 39)),
        "promises more values than it holds",
    ),
    "packed": (repacked(saved(PLAIN)), "packed as torch never packs"),
    "long_pickle": (zipped({"data.pkl": b"N" * (1 << 17)}), "holds more than a tensor"),
    "pickle_runs_code": (pickle.dumps(RunsCode(), 2), "asks for .*open, which no tensor needs"),
    "new_pickle_runs_code": (pickle.dumps(RunsCode()), "is not a tensor file"),
    "zip_pickle_runs_code": (
        zipped(
            {"data.pkl": pickle.dumps(RunsCode(), 2), "version": b"3\n", "byteorder": b"little"}
        ),
        "asks for .*open, which no tensor needs",
    ),
    "scripted": (zipped({"data.pkl": b"N.", "constants.pkl": b"N.", "version": b"3\n"}), "not a"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_file_is_named_with_what_is_wrong(path: Path, name: str) -> None:
    data, problem = WRONG[name]
    path.write_bytes(data)
    with pytest.raises(TensorError, match=problem) as refused:
        read_tensor(path, 39)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    assert not Path("PWNED").exists()


def test_the_payload_would_run(path: Path) -> None:
    pickle.loads(WRONG["pickle_runs_code"][0])
    assert Path("PWNED").exists()


def test_large_and_unreadable_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TensorError, match="no such file"):
        read_tensor(path, 39)
    with pytest.raises(TensorError, match="cannot be read"):
        read_tensor(path.parent, 39)
    with path.open("wb") as stream:
        os.truncate(stream.fileno(), 1 << 40)  # sparse: nothing of it may be read
    with pytest.raises(TensorError, match="has more than 17 MB"):
        read_tensor(path, 39)
    path.write_bytes(saved(PLAIN))
    monkeypatch.setattr(tensor_reading, "MAX_BYTES", 1000)
    with pytest.raises(TensorError, match="has more than"):
        read_tensor(path, 39)


def test_largest_plausible_value_is_read(path: Path) -> None:
    path.write_bytes(saved(changed((0, 0), 10000)))
    assert read_tensor(path, 39)[0, 0] == 10000


def test_dictionaries_of_other_types_are_named(path: Path) -> None:
    path.write_bytes(saved(OrderedDict(a=PLAIN)))
    with pytest.raises(TensorError, match="holds a OrderedDict"):
        read_tensor(path, 39)
