"""The frames of one recording: from the store, or from audio by way of a file of their own.

Frames of an hour take half a gigabyte, so those of an audio file are written beside the results,
read back as a memory map, and removed when the recording is done with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.audio.io import stream_audio
from amt_pipeline.core.errors import storage_error
from amt_pipeline.core.files import scratch_folder
from amt_pipeline.features.extract import extract_blocks
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore, write_frames


@dataclass(frozen=True)
class RecordingFrames:
    """Frames of one recording, and what is known of it.

    Attributes:
        frames: [n, bins, channels], a read-only memory map.
        peak: [channels] largest magnitudes.
        duration_s: Length of the recording.
        warnings: What is odd about the audio.
    """

    frames: npt.NDArray[Any]
    peak: npt.NDArray[np.float32]
    duration_s: float
    warnings: tuple[str, ...] = ()


def stored_frames(store: FrameStore, recording_id: str) -> RecordingFrames:
    """Return the frames of a recording that was ingested.

    Raises:
        StoreError: The store lacks it, or its file is damaged.
    """
    entry = store.entry(recording_id)
    return RecordingFrames(
        store.map_frames(entry),
        np.array(entry.peak, np.float32),
        entry.n_frames * store.spec.grid.seconds_per_frame,
    )


@contextmanager
def audio_frames(path: Path, spec: FeatureSpec, beside: Path) -> Iterator[RecordingFrames]:
    """Compute the frames of an audio file block by block; they last as long as the block.

    Args:
        path: The audio file.
        spec: What to compute.
        beside: Folder for the temporary file (1.4 kB per frame, 0.44 GB per hour by default).

    Raises:
        AudioError: The audio cannot be used.
        StorageError: The disk refused.
    """
    with _scratch_folder(beside) as scratch:
        stream = stream_audio(path, sample_rate=spec.sample_rate, channels=spec.channels)
        target = scratch / "frames.npy"
        try:
            n_frames, peak = write_frames(
                target, extract_blocks(stream, spec), spec, name=str(path)
            )
            # numpy maps no empty file.
            frames = np.load(target, mmap_mode="r" if n_frames else None, allow_pickle=False)
        except OSError as error:  # what is wrong with the audio is an AudioError by now
            raise storage_error(beside, error) from error
        largest = np.array(peak, np.float32)
        yield RecordingFrames(frames, largest, stream.duration_s, stream.warnings)


@contextmanager
def _scratch_folder(beside: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder(beside))
        except OSError as error:
            raise storage_error(beside, error) from error
        yield folder
