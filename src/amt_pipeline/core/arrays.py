"""Arrays on disk, read without trust: a damaged or crafted file costs an error, not the memory.

numpy allocates what an array's header promises and an archive can promise anything, so promises
are compared with what is there, and with a bound, before anything is allocated. No object is
unpickled.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import UserError

MAX_HEADER_CHARS = 1000
"""Headers of plain arrays have some 120; Python's parser takes its time over long ones."""


class ArrayError(UserError):
    """A file of arrays that is missing, damaged, or holds others than were asked for."""


@dataclass(frozen=True)
class Wanted:
    """What an array of an archive has to be.

    Attributes:
        kinds: Allowed kinds of numbers, as `numpy.dtype.kind`.
        ndim: Number of axes.
    """

    kinds: str
    ndim: int


def map_array(path: str | PathLike[str], dtype: str) -> npt.NDArray[Any]:
    """Return an `.npy` file as a read-only memory map, in C order.

    Args:
        path: The file.
        dtype: Type that its numbers must have.

    Raises:
        ArrayError: The file is not an array of this type, or shorter than it says; the operating
            system's refusal, if there was one, is its cause.
    """
    try:
        # Not np.load, which opens an archive or a pickle as such, whatever the suffix.
        found: npt.NDArray[Any] = np.lib.format.open_memmap(
            path, mode="r", max_header_size=MAX_HEADER_CHARS
        )
    except OSError as error:
        raise ArrayError(path, f"cannot be read ({error})") from error
    except Exception as error:  # numpy parses headers as Python, which lets many types escape
        raise ArrayError(path, f"cannot be read ({_first_line(error)})") from error
    if found.dtype != np.dtype(dtype) or not found.flags.c_contiguous:
        raise ArrayError(path, f"holds numbers of type {found.dtype}, expected {dtype} in C order")
    return found


def read_arrays(
    path: str | PathLike[str], wanted: Mapping[str, Wanted], *, max_bytes: int, remedy: str = ""
) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an `.npz` archive.

    Args:
        path: The file.
        wanted: What each array has to be; others in the archive are not looked at.
        max_bytes: How much they may take unpacked, together.
        remedy: Named in the error.

    Raises:
        ArrayError: The file is missing or damaged, an array is missing or another than wanted, or
            they would take more than `max_bytes`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [archive.getinfo(f"{name}.npy") for name in wanted]
            if sum(member.file_size for member in members) > max_bytes:
                raise ArrayError(path, f"holds more than {max_bytes / 1e6:g} MB", remedy)
            found = {
                name: _read_member(archive, member, wanted[name])
                for name, member in zip(wanted, members, strict=True)
            }
    except UserError:
        raise
    except FileNotFoundError as error:
        raise ArrayError(path, "no such file", remedy) from error
    except OSError as error:
        raise ArrayError(path, f"cannot be read ({error.strerror or error})", remedy) from error
    except Exception as error:  # zipfile, zlib and numpy's header parser let many types escape
        problem = f"cannot be read ({_first_line(error)})"
        raise ArrayError(path, problem, remedy) from error
    return found


def _read_member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, wanted: Wanted
) -> npt.NDArray[Any]:
    """Return one array; what its header says must be exactly what the archive says it has."""
    name = member.filename
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"{name} has version {version}")
        shape, fortran, dtype = read_header(stream, max_header_size=MAX_HEADER_CHARS)
        if dtype.kind not in wanted.kinds or len(shape) != wanted.ndim or min(shape, default=1) < 0:
            raise ValueError(f"{name} holds numbers of type {dtype} in the shape {shape}")
        count = math.prod(shape)
        if stream.tell() + count * dtype.itemsize != member.file_size:
            raise ValueError(f"{name} has another size than its shape {shape}")
        data = stream.read()  # to its end, where the checksum is checked
    values = np.frombuffer(data, dtype, count)
    return values.reshape(shape, order="F" if fortran else "C")


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__
