"""The FrameStore: frames of one corpus under one feature specification, on disk.

Each recording is an `.npy` file of `[frames, bins, channels]`, read as a memory map, with an index
entry in a `.json` file beside it that is written last: a recording is in the store when its entry
is. Entries carry the content hash of what they were made from and the hash of the specification, so
a re-run redoes exactly what changed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from amt_pipeline.core.arrays import ArrayError, map_array
from amt_pipeline.core.errors import StoreError, UserError
from amt_pipeline.core.files import atomic_path, read_json, write_json
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frame_file import write_frames

__all__ = ["FORMAT", "SPEC_FILE", "FrameStore", "StoreEntry", "write_frames"]

SPEC_FILE = "spec.json"
FORMAT = 1


class StoreEntry(BaseModel):
    """What the index knows of one recording.

    Attributes:
        recording_id: Name within the corpus.
        n_frames: Number of frames.
        peak: Largest magnitude per channel, for per-recording normalisation.
        content_sha256: Hash of the source the frames were made from.
        spec_sha256: Hash of the feature specification.
        file_bytes: Size of the `.npy` file; another size on disk means damage.
        extra: Whatever the corpus wants to keep beside (duration, warnings).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording_id: str
    n_frames: int = Field(ge=0)
    peak: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]
    content_sha256: str
    spec_sha256: str
    file_bytes: int
    extra: dict[str, Any] = {}


class FrameStore:
    """Frames of many recordings in one folder; see the module's words for the layout.

    Use `FrameStore.create` to write and `FrameStore.open` to read.
    """

    def __init__(self, folder: Path, spec: FeatureSpec) -> None:
        self.folder, self.spec = Path(folder), spec

    @classmethod
    def create(cls, folder: str | Path, spec: FeatureSpec) -> FrameStore:
        """Open `folder` for writing frames of `spec`; entries of another spec become stale."""
        store = cls(Path(folder), spec)
        if store._stored_spec() != spec:
            write_json(store.folder / SPEC_FILE, {"format": FORMAT, "spec": spec.model_dump()})
        return store

    @classmethod
    def open(cls, folder: str | Path, expected: FeatureSpec | None = None) -> FrameStore:
        """Open an existing store for reading.

        Args:
            folder: Where it lies.
            expected: The specification the caller works with, when it has one.

        Raises:
            StoreError: No store here, or it was made under another specification; both are named.
        """
        spec = cls(Path(folder), FeatureSpec())._stored_spec()
        if spec is None:
            raise StoreError(folder, "holds no frames", "Run the ingest pipeline first")
        if expected is not None and expected != spec:
            remedy = "Run the ingest pipeline again with these parameters, or use the store's"
            spec.grid.require(expected.grid, str(folder), remedy)
            differing = [
                f"{key} {value!r} there, {getattr(expected, key)!r} wanted"
                for key, value in spec.model_dump().items()
                if value != getattr(expected, key)
            ]
            raise StoreError(
                folder, f"was made with other features ({'; '.join(differing)})", remedy
            )
        return cls(Path(folder), spec)

    def write(
        self,
        recording_id: str,
        frames: npt.NDArray[Any] | Iterable[npt.NDArray[Any]],
        content_sha256: str,
        extra: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    ) -> StoreEntry:
        """Store the frames of one recording, atomically.

        Args:
            recording_id: Name within the corpus; a safe file name.
            frames: [frames, bins, channels] of the spec's shape, or chunks of them in order. An
                error of the iteration leaves the recording absent.
            content_sha256: Hash of the source.
            extra: JSON-able facts to keep in the entry; a function is called when all frames are
                written.

        Raises:
            StoreError: The frames do not fit the specification or are not finite.
            StorageError: The disk refused.
        """
        chunks = [frames] if isinstance(frames, np.ndarray) else frames
        data_path, entry_path = self._paths(recording_id)
        with atomic_path(data_path) as temporary:
            # The entry goes first on a rewrite: without it the old frames no longer count.
            entry_path.unlink(missing_ok=True)
            n_frames, peak = write_frames(temporary, chunks, self.spec, name=recording_id)
        entry = StoreEntry(
            recording_id=recording_id,
            n_frames=n_frames,
            peak=peak,
            content_sha256=content_sha256,
            spec_sha256=self.spec.sha256,
            file_bytes=data_path.stat().st_size,
            extra=dict((extra() if callable(extra) else extra) or {}),
        )
        write_json(entry_path, entry.model_dump())
        return entry

    def annotate(self, entry: StoreEntry, extra: Mapping[str, Any]) -> StoreEntry:
        """Keep other facts beside the frames of an entry; return the new entry.

        Raises:
            StorageError: The disk refused.
        """
        changed = entry.model_copy(update={"extra": dict(extra)})
        write_json(self._paths(entry.recording_id)[1], changed.model_dump())
        return changed

    def entry(self, recording_id: str) -> StoreEntry:
        """Return the index entry of a recording.

        Raises:
            StoreError: The recording is absent, stale or damaged.
        """
        data_path, entry_path = self._paths(recording_id)
        remedy = "Run the ingest pipeline again; it redoes only what is missing"
        if not entry_path.is_file() or not data_path.is_file():
            raise StoreError(data_path, "is not in the store", remedy)
        try:
            entry = StoreEntry.model_validate(read_json(entry_path))
        except ValidationError as error:
            raise StoreError(entry_path, "is not an index entry", remedy) from error
        except UserError as error:
            if _too_many_open(error.__cause__):
                raise _unreadable(entry_path, error.__cause__) from error
            raise
        if entry.recording_id != recording_id or len(entry.peak) != self.spec.channels:
            raise StoreError(entry_path, "is the entry of another recording", remedy)
        if entry.spec_sha256 != self.spec.sha256:
            raise StoreError(data_path, "was made under another feature specification", remedy)
        if entry.file_bytes != (size := data_path.stat().st_size):
            raise StoreError(
                data_path, f"is damaged: {size} bytes, written were {entry.file_bytes}", remedy
            )
        return entry

    def data_path(self, recording_id: str) -> Path:
        """Return where the frames of a recording are, or would be."""
        return self._paths(recording_id)[0]

    def frames(self, recording_id: str) -> npt.NDArray[Any]:
        """Return the frames of a recording as a read-only memory map [frames, bins, channels].

        Raises:
            StoreError: The recording is absent, stale or damaged.
        """
        return self.map_frames(self.entry(recording_id))

    def map_frames(self, entry: StoreEntry) -> npt.NDArray[Any]:
        """Return the frames of an entry that was read before, as `frames` does.

        Raises:
            StoreError: The file is damaged, or holds other frames than the entry says.
        """
        data_path, _ = self._paths(entry.recording_id)
        shape = (entry.n_frames, self.spec.bins, self.spec.channels)
        if entry.n_frames == 0:
            return np.zeros(shape, self.spec.dtype)
        try:
            frames = map_array(data_path, self.spec.dtype)
        except ArrayError as error:
            if isinstance(error.__cause__, OSError):
                raise _unreadable(data_path, error.__cause__) from error
            remedy = "Delete it and ingest again"
            raise StoreError(data_path, error.problem, remedy) from error
        if frames.shape != shape:
            problem = f"changed while it was used: {frames.shape} frames, expected {shape}"
            raise StoreError(data_path, problem, "Run again when the ingestion is done")
        return frames

    def _stored_spec(self) -> FeatureSpec | None:
        path = self.folder / SPEC_FILE
        if not path.is_file():
            return None
        try:
            return FeatureSpec.model_validate(read_json(path)["spec"])
        except (ValidationError, KeyError, TypeError) as error:
            raise StoreError(
                path, "is not a feature specification", "Delete it and ingest again"
            ) from error

    def _paths(self, recording_id: str) -> tuple[Path, Path]:
        folder = self.folder / "recordings"
        # Not with_suffix: an id may contain dots.
        return folder / f"{recording_id}.npy", folder / f"{recording_id}.json"


def _too_many_open(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def _unreadable(path: Path, error: BaseException | None) -> StoreError:
    if _too_many_open(error):
        remedy = "The file is not at fault: raise the limit (`ulimit -n 4096`) and run again"
        return StoreError(path, "cannot be opened: too many files are open", remedy)
    return StoreError(path, f"cannot be read ({error})", "Delete it and ingest again")
