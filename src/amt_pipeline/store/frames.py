"""The FrameStore: frames of one corpus under one feature specification, on disk.

Each recording is an `.npy` file of `[frames, bins, channels]`, read as a memory map, with an index
entry in a `.json` file beside it that is written last: a recording is in the store when its entry
is. Entries carry the content hash of what they were made from and the hash of the specification, so
a re-run redoes exactly what changed. Short recordings may share a file (`store.packs`); whoever
reads need not know which do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from amt_pipeline.core.arrays import ArrayError, map_array
from amt_pipeline.core.errors import StoreError
from amt_pipeline.core.files import atomic_path, read_json, write_json
from amt_pipeline.features.spec import AnySpec, parse_spec
from amt_pipeline.store.entries import (
    INGEST_AGAIN,
    PackedEntry,
    StoreEntry,
    read_index,
    require_size,
    unreadable,
)
from amt_pipeline.store.frame_file import write_frames
from amt_pipeline.store.pack_index import PackPart
from amt_pipeline.store.packs import Packs

__all__ = ["FORMAT", "SPEC_FILE", "FrameStore", "PackPart", "StoreEntry", "write_frames"]

SPEC_FILE = "spec.json"
FORMAT = 1


class FrameStore:
    """Frames of many recordings in one folder; see the module's words for the layout.

    Use `FrameStore.create` to write and `FrameStore.open` to read.
    """

    def __init__(self, folder: Path, spec: AnySpec) -> None:
        self.folder, self.spec = Path(folder), spec
        self._packs = Packs(self.folder / "packs", spec)

    @classmethod
    def create(cls, folder: str | Path, spec: AnySpec) -> FrameStore:
        """Open `folder` for writing frames of `spec`; entries of another spec become stale."""
        if _stored_spec(Path(folder)) != spec:
            write_json(Path(folder, SPEC_FILE), {"format": FORMAT, "spec": spec.model_dump()})
        return cls(Path(folder), spec)

    @classmethod
    def open(cls, folder: str | Path, expected: AnySpec | None = None) -> FrameStore:
        """Open an existing store for reading.

        Args:
            folder: Where it lies.
            expected: The specification the caller works with, when it has one.

        Raises:
            StoreError: No store here, or it was made under another specification; both are named.
        """
        spec = _stored_spec(Path(folder))
        if spec is None:
            raise StoreError(folder, "holds no frames", "Run the ingest pipeline first")
        if expected is not None and expected != spec:
            remedy = "Run the ingest pipeline again with these parameters, or use the store's"
            spec.grid.require(expected.grid, str(folder), remedy)
            wanted = expected.model_dump()
            differing = [
                f"{key} {value!r} there, {wanted[key]!r} wanted"
                for key, value in spec.model_dump().items()
                if key in wanted and value != wanted[key]
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

    def write_pack(self, name: str, parts: Iterable[PackPart]) -> list[StoreEntry]:
        """Store the frames of many recordings in one file, atomically; only one part is held.

        Args:
            name: Of the pack, a safe file name; a pack of that name is replaced.
            parts: The recordings, in the order of their frames. An error of the iteration leaves
                the pack absent.

        Returns:
            The entries, in order.

        Raises:
            StoreError: Frames do not fit the specification or are not finite, or an id comes twice.
            StorageError: The disk refused.
        """
        return self._packs.write(name, parts)

    def pack_entries(self, name: str) -> list[StoreEntry]:
        """Return the entries of a pack, in the order they were written.

        Raises:
            StoreError: The pack is absent, stale or damaged.
        """
        return self._packs.entries(name)

    def remove_packs(self, keep: Collection[str]) -> None:
        """Remove the packs (of a former corpus, or of another size) that are not named.

        Raises:
            StorageError: The disk refused.
        """
        self._packs.remove(keep)

    def annotate(self, entry: StoreEntry, extra: Mapping[str, Any]) -> StoreEntry:
        """Keep other facts beside the frames of an entry; return the new entry.

        Raises:
            StorageError: The disk refused.
        """
        changed = entry.model_copy(update={"extra": dict(extra)})
        if isinstance(entry, PackedEntry):
            self._packs.annotate(entry, extra)
        else:
            write_json(self._paths(entry.recording_id)[1], changed.model_dump())
        return changed

    def entry(self, recording_id: str) -> StoreEntry:
        """Return the index entry of a recording, be it in a file of its own or in a pack.

        Raises:
            StoreError: The recording is absent, stale or damaged.
        """
        if (packed := self._packs.find(recording_id)) is not None:
            return packed
        data_path, entry_path = self._paths(recording_id)
        if not entry_path.is_file() or not data_path.is_file():
            absent = StoreError(data_path, "is not in the store", INGEST_AGAIN)
            raise self._packs.blame() or absent
        entry: StoreEntry = read_index(entry_path, StoreEntry)
        if entry.recording_id != recording_id or len(entry.peak) != self.spec.channels:
            raise StoreError(entry_path, "is the entry of another recording", INGEST_AGAIN)
        if entry.spec_sha256 != self.spec.sha256:
            problem = "was made under another feature specification"
            raise StoreError(data_path, problem, INGEST_AGAIN)
        require_size(data_path, entry.file_bytes)
        return entry

    def entries(self, recording_ids: Iterable[str]) -> list[StoreEntry]:
        """Return the index entries of many recordings; quicker than `entry` for each.

        Raises:
            StoreError: A recording is absent, stale or damaged.
        """
        packed = self._packs.sound()
        return [packed.get(name) or self.entry(name) for name in recording_ids]

    def data_path(self, entry: StoreEntry) -> Path:
        """Return the file that holds the frames of an entry."""
        if isinstance(entry, PackedEntry):
            return self._packs.folder / f"{entry.pack}.npy"
        return self._paths(entry.recording_id)[0]

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
        if entry.n_frames == 0:
            return np.zeros((0, self.spec.bins, self.spec.channels), self.spec.dtype)
        first = entry.first_frame if isinstance(entry, PackedEntry) else 0
        return self.map_file(entry)[first : first + entry.n_frames]

    def map_file(self, entry: StoreEntry) -> npt.NDArray[Any]:
        """Return the whole file that holds the frames of an entry, as a read-only memory map.

        Args:
            entry: Of a recording that has frames (an empty file cannot be mapped).

        Raises:
            StoreError: The file is damaged, or holds other frames than the entry says.
        """
        data_path = self.data_path(entry)
        n_frames = entry.pack_frames if isinstance(entry, PackedEntry) else entry.n_frames
        shape = (n_frames, self.spec.bins, self.spec.channels)
        try:
            frames = map_array(data_path, self.spec.dtype)
        except ArrayError as error:
            if isinstance(error.__cause__, OSError):
                raise unreadable(data_path, error.__cause__) from error
            remedy = "Delete it and ingest again"
            raise StoreError(data_path, error.problem, remedy) from error
        if frames.shape != shape:
            problem = f"changed while it was used: {frames.shape} frames, expected {shape}"
            raise StoreError(data_path, problem, "Run again when the ingestion is done")
        return frames

    def _paths(self, recording_id: str) -> tuple[Path, Path]:
        folder = self.folder / "recordings"
        # Not with_suffix: an id may contain dots.
        return folder / f"{recording_id}.npy", folder / f"{recording_id}.json"


def _stored_spec(folder: Path) -> AnySpec | None:
    path = folder / SPEC_FILE
    if not path.is_file():
        return None
    try:
        return parse_spec(read_json(path)["spec"])
    except (ValidationError, KeyError, TypeError) as error:
        raise StoreError(
            path, "is not a feature specification", "Delete it and ingest again"
        ) from error
