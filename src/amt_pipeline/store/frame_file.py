"""Write frames that come in chunks as one plain `.npy` file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import StoreError
from amt_pipeline.features.spec import AnySpec


class FrameWriter:
    """Writes frames to a stream as an `.npy` array whose length is known at the end only.

    Args:
        stream: Open for writing, at its beginning; seekable.
        spec: What the frames hold.
    """

    def __init__(self, stream: BinaryIO, spec: AnySpec) -> None:
        self._stream, self._spec = stream, spec
        self._shape = (spec.bins, spec.channels)
        self.n_frames = 0
        self._write_header()

    def append(self, chunk: npt.NDArray[Any], name: str | Path) -> npt.NDArray[np.float64]:
        """Write the frames that follow.

        Args:
            chunk: `[frames, bins, channels]` of the spec's shape.
            name: What errors call the frames.

        Returns:
            `[channels]` largest absolute values; 0 where there are no frames.

        Raises:
            StoreError: The chunk does not fit the specification or is not finite.
            OSError: The disk refused.
        """
        if chunk.ndim != 3 or chunk.shape[1:] != self._shape:
            bins, channels = self._shape
            problem = f"frames of shape {chunk.shape}, expected [n, {bins}, {channels}]"
            raise StoreError(name, problem)
        with np.errstate(over="ignore"):  # what half precision cannot hold is refused below
            frames = np.ascontiguousarray(chunk, self._spec.dtype)
        if not len(frames):
            return np.zeros(self._shape[1])
        peak = _peak(frames)
        if not np.isfinite(peak).all():
            raise StoreError(name, "frames are not finite", "Check the audio file")
        self._stream.write(frames.data)
        self.n_frames += len(frames)
        return peak

    def finish(self) -> None:
        """Write the length into the header."""
        # numpy leaves room in the header for a longer first axis, so it does not move the frames.
        self._stream.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        shape = (self.n_frames, *self._shape)
        descr = np.dtype(self._spec.dtype).str
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)


def write_frames(
    path: str | Path,
    chunks: Iterable[npt.NDArray[Any]],
    spec: AnySpec,
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
        The number of frames, and the largest absolute value of each channel (0 where there are
        none).

    Raises:
        StoreError: A chunk does not fit the specification or is not finite.
        OSError: The disk refused (`atomic_path` gives it a name).
    """
    peak = np.zeros(spec.channels)
    with Path(path).open("wb") as stream:
        writer = FrameWriter(stream, spec)
        for chunk in chunks:
            peak = np.maximum(peak, writer.append(chunk, name or path))
        writer.finish()
    return writer.n_frames, tuple(map(float, peak))


def _peak(frames: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the largest absolute value of each channel; not finite where a value is not."""
    flat = frames.reshape(len(frames), -1)
    if frames.dtype == np.float16:
        # Half floats that are neither negative nor NaN are ordered like their bits, and integers
        # are compared thirty times as fast.
        bits = flat.view(np.uint16)
        largest = bits.max(axis=0)
        if (largest >> 15).any():  # negative ones: without the sign the order holds again
            largest = (bits & 0x7FFF).max(axis=0)
        largest = largest.view(np.float16)
    else:
        largest = np.maximum(np.abs(flat.max(axis=0)), np.abs(flat.min(axis=0)))
    peak: npt.NDArray[np.float64] = largest.reshape(frames.shape[1:]).max(axis=0).astype(float)
    return peak
