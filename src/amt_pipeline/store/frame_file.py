"""Write frames that come in chunks as one plain `.npy` file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import StoreError
from amt_pipeline.features.spec import FeatureSpec


def write_frames(
    path: str | Path,
    chunks: Iterable[npt.NDArray[Any]],
    spec: FeatureSpec,
    *,
    name: str | None = None,
) -> tuple[int, tuple[float, ...]]:
    """Write chunks of frames, one after the other, as one `.npy` file; only one is held at a time.

    The file is not written atomically: the caller gives the temporary path of `atomic_path`, or a
    file of its own.

    Args:
        path: The file, created or overwritten.
        chunks: `[frames, bins, channels]` of the spec's shape, in order; none gives no frames.
        spec: What the frames hold.
        name: What errors call the frames; None is the path.

    Returns:
        The number of frames, and the largest magnitude of each channel (0 where there are none).

    Raises:
        StoreError: A chunk does not fit the specification or is not finite.
        OSError: The disk refused (`atomic_path` gives it a name).
    """
    shape = (spec.bins, spec.channels)
    n_frames, peak = 0, np.full(spec.channels, -np.inf)
    with Path(path).open("wb") as stream:
        _write_header(stream, (0, *shape), spec.dtype)
        for chunk in chunks:
            if chunk.ndim != 3 or chunk.shape[1:] != shape:
                problem = f"frames of shape {chunk.shape}, expected [n, {shape[0]}, {shape[1]}]"
                raise StoreError(name or path, problem)
            with np.errstate(over="ignore"):  # what half precision cannot hold is refused below
                frames = np.ascontiguousarray(chunk, spec.dtype)
            if not len(frames):
                continue
            peak = np.maximum(peak, _peak(frames))
            if not np.isfinite(peak).all():
                raise StoreError(name or path, "frames are not finite", "Check the audio file")
            stream.write(frames.data)
            n_frames += len(frames)
        # numpy leaves room in the header for a longer first axis, so it does not move the frames.
        stream.seek(0)
        _write_header(stream, (n_frames, *shape), spec.dtype)
    return n_frames, tuple(map(float, peak)) if n_frames else (0.0,) * spec.channels


def _write_header(stream: BinaryIO, shape: tuple[int, ...], dtype: str) -> None:
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)


def _peak(frames: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the largest value of each channel; NaN where a value is NaN."""
    flat = frames.reshape(len(frames), -1)
    largest = flat[0]
    if frames.dtype == np.float16:
        # Half floats that are neither negative nor NaN are ordered like their bits, and integers
        # are compared thirty times as fast.
        largest = flat.view(np.uint16).max(axis=0).view(np.float16)
    if frames.dtype != np.float16 or not (np.isfinite(largest) & ~np.signbit(largest)).all():
        largest = flat.max(axis=0)
    peak: npt.NDArray[np.float64] = largest.reshape(frames.shape[1:]).max(axis=0).astype(float)
    return peak
