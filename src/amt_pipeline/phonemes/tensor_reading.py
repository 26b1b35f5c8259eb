"""Feature tensors as the course publishes them: one `.pt` file of shape (T, 39) per utterance.

A `.pt` file is a pickle, which may run code when it is opened. It is therefore read with
`weights_only`, which knows a few harmless types only, within bounds that hold before anything is
allocated, and with the checksums of the archive, which torch does not look at: published copies
have files with a few bytes overwritten.
"""

from __future__ import annotations

import io
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import TensorError, UserError
from amt_pipeline.phonemes.text_files import read_bytes

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 16 << 20
"""Largest file: 18 minutes of float32. The longest utterance of LibriSpeech has 35 s."""
MAX_PICKLE_BYTES = 1 << 16
"""Largest description of a tensor within an archive; it takes some 160 bytes."""
LARGEST_VALUE = 1e4
"""Beyond is damage. Values are normalised: of T frames, none can be above the root of T."""

_MAGIC = b"PK\x03\x04"
_FETCH_AGAIN = "Fetch the file again"


def read_tensor(path: Path, width: int) -> npt.NDArray[np.float32]:
    """Return the frames of a feature file.

    Args:
        path: A `.pt` file as `torch.save` writes it, in today's form or that before torch 1.6.
        width: Values per frame.

    Returns:
        float32 `[n_frames, width]`; float16, bfloat16 and float64 are converted.

    Raises:
        TensorError: The file is missing or damaged, holds something else than one plain tensor of
            that width with at least a frame, or values that are not finite or far too large.
    """
    try:
        data = read_bytes(path, MAX_BYTES)
    except UserError as error:
        raise TensorError(path, error.problem, error.remedy) from error
    return parse_tensor(data, width, where=path)


def parse_tensor(data: bytes, width: int, *, where: Path) -> npt.NDArray[np.float32]:
    """Return the frames that the bytes of a feature file hold; see `read_tensor`."""
    if not data:
        raise TensorError(where, "empty file (0 bytes)", _FETCH_AGAIN)
    if data.startswith(_MAGIC):
        _check_archive(data, where)
    tensor = _plain_tensor(_load(data, where), len(data), where)
    shape = tuple(tensor.shape)
    if len(shape) != 2 or shape[1] != width:
        swapped = len(shape) == 2 and shape[0] == width
        remedy = "It is transposed: save its .T" if swapped else "Make it with the other recipe"
        raise TensorError(where, f"has the shape {shape}, expected (frames, {width})", remedy)
    if shape[0] == 0:
        raise TensorError(where, f"has no frames: its shape is {shape}", "Leave it out")
    values: npt.NDArray[np.float64] = tensor.double().numpy()
    _check_values(values, where)
    return np.ascontiguousarray(values, np.float32)


def _check_archive(data: bytes, where: Path) -> None:
    """Refuse an archive that is cut, packed, larger within than without, or fails its checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if packed or sum(member.file_size for member in members) > len(data):
                raise TensorError(where, "is packed as torch never packs a file", _FETCH_AGAIN)
            pickles = [m.file_size for m in members if m.filename.endswith(".pkl")]
            if max(pickles, default=0) > MAX_PICKLE_BYTES:
                raise TensorError(where, "holds more than a tensor", _FETCH_AGAIN)
            damaged = archive.testzip()
    except TensorError:
        raise
    except Exception as error:  # zipfile lets many types escape
        raise TensorError(where, "is damaged or cut short", _FETCH_AGAIN) from error
    if damaged is not None:
        problem = f"is damaged: the checksum of {damaged!r} within is wrong"
        raise TensorError(where, problem, _FETCH_AGAIN)


def _load(data: bytes, where: Path) -> Any:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
        problem = (
            f"asks for {wanted[1]}, which no tensor needs: it might run code, and was not loaded"
            if wanted
            else "is not a tensor file"
        )
        raise TensorError(where, problem, _FETCH_AGAIN) from error
    except Exception as error:  # damaged pickles raise whatever their bytes lead to
        raise TensorError(where, "is not a tensor file", _FETCH_AGAIN) from error


def _plain_tensor(value: Any, n_bytes: int, where: Path) -> Tensor:
    """Return a dense tensor of floating-point numbers that are all in the file."""
    import torch

    kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if type(value) is not torch.Tensor:
        problem = f"holds a {type(value).__name__}, expected one tensor"
        raise TensorError(where, problem, "Save the tensor alone")
    if value.layout is not torch.strided or value.device.type != "cpu" or value.dtype not in kinds:
        kind = str(value.dtype).removeprefix("torch.")
        problem = f"holds a tensor of {kind} ({str(value.layout).removeprefix('torch.')})"
        raise TensorError(where, problem, "Save a dense tensor of float32")
    if value.numel() * value.element_size() > n_bytes:
        raise TensorError(where, "promises more values than it holds", _FETCH_AGAIN)
    return value.detach()


def _check_values(values: npt.NDArray[np.float64], where: Path) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        frames = np.flatnonzero(~finite.all(axis=1))
        count = int(finite.size - finite.sum())
        problem = f"{count} values are not finite, the first in frame {frames[0]}"
        raise TensorError(where, problem, _FETCH_AGAIN)
    frame, column = np.unravel_index(int(np.abs(values).argmax()), values.shape)
    if abs(value := float(values[frame, column])) > LARGEST_VALUE:
        problem = (
            f"the value {value:g} (frame {frame}, column {column}) is no normalised feature: "
            f"at most {LARGEST_VALUE:g}"
        )
        raise TensorError(where, problem, _FETCH_AGAIN)
