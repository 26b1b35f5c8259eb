"""Packs: many short recordings of a FrameStore in one file.

Utterances of speech have some hundred kilobytes. As files of their own thousands of them would cost
more in opening, flushing and index entries than in reading. A pack is one `.npy` file with the
frames of its recordings one behind the other, and one `.json` file that is written last and says
which they are: all recordings of a pack are in the store when its index is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amt_pipeline.core.errors import StoreError, UserError, storage_error
from amt_pipeline.core.files import TEMPORARY_PREFIX, atomic_path, write_json
from amt_pipeline.features.spec import AnySpec
from amt_pipeline.store.entries import (
    INGEST_AGAIN,
    PackedEntry,
    StoreEntry,
    has_size,
    read_index,
    require_size,
    unreadable,
)
from amt_pipeline.store.frame_file import FrameWriter
from amt_pipeline.store.pack_index import (
    IndexedPart,
    PackIndex,
    PackPart,
    append_part,
    entries_of,
    read_pack_index,
)

__all__ = ["PackPart", "Packs"]


class Packs:
    """The packs of one store.

    An index that was read is kept as long as its file does not change.

    Args:
        folder: Where they lie; need not exist.
        spec: What the frames hold.
    """

    def __init__(self, folder: Path, spec: AnySpec) -> None:
        self.folder, self._spec = folder, spec
        self._known: dict[str, _Known] = {}
        self._pack_of: dict[str, list[str]] = {}

    def write(self, name: str, parts: Iterable[PackPart]) -> list[StoreEntry]:
        """Write a pack in the place of that name; see `FrameStore.write_pack`."""
        data_path, index_path = self._paths(name)
        written: dict[str, IndexedPart] = {}
        with atomic_path(data_path) as temporary:
            # The index goes first on a rewrite: without it the old frames no longer count.
            index_path.unlink(missing_ok=True)
            with temporary.open("wb") as stream:
                writer = FrameWriter(stream, self._spec)
                for part in parts:
                    if part.recording_id in written:
                        raise StoreError(data_path, f"has {part.recording_id} twice")
                    written[part.recording_id] = append_part(writer, part)
                writer.finish()
        index = PackIndex(
            spec_sha256=self._spec.sha256,
            file_bytes=data_path.stat().st_size,
            parts=tuple(written.values()),
        )
        write_json(index_path, index.model_dump())
        return [*entries_of(name, index)]

    def entries(self, name: str) -> list[StoreEntry]:
        """Return the entries of a pack; see `FrameStore.pack_entries`."""
        data_path, index_path = self._paths(name)
        if not index_path.is_file() or not data_path.is_file():
            raise StoreError(data_path, "is not in the store", INGEST_AGAIN)
        index = self._index(name)
        require_size(data_path, index.file_bytes)
        return [*entries_of(name, index)]

    def annotate(self, entry: PackedEntry, extra: Mapping[str, Any]) -> None:
        """Keep other facts beside the frames of a recording; see `FrameStore.annotate`."""
        index_path = self._paths(entry.pack)[1]
        index: PackIndex = read_index(index_path, PackIndex)
        parts = tuple(
            part.model_copy(update={"extra": dict(extra)})
            if part.recording_id == entry.recording_id
            else part
            for part in index.parts
        )
        write_json(index_path, index.model_copy(update={"parts": parts}).model_dump())

    def remove(self, keep: Collection[str]) -> None:
        """Remove all packs but some; see `FrameStore.remove_packs`."""
        # An index before its frames: they do not count without it.
        for suffix in (".json", ".npy"):
            for name in self._names(suffix):
                path = self.folder / f"{name}{suffix}"
                if name not in keep:
                    try:
                        path.unlink(missing_ok=True)
                    except OSError as error:
                        raise storage_error(path, error) from error

    def find(self, recording_id: str) -> PackedEntry | None:
        """Return the entry of a recording, None if no pack has it.

        Raises:
            StoreError: Its pack is damaged, or two packs have it.
        """
        names = self._pack_of.get(recording_id)
        if names is None or not all(map(self._is_current, names)):
            self._read_all()
            names = self._pack_of.get(recording_id)
        if names is None:
            return None
        if len(names) > 1:
            problem = f"holds {recording_id}, which {names[1]} holds too"
            raise StoreError(self.folder / names[0], problem, INGEST_AGAIN)
        entry = self._known[names[0]].entries[recording_id]
        require_size(self._paths(names[0])[0], entry.file_bytes)
        return entry

    def sound(self) -> dict[str, PackedEntry]:
        """Return the recordings that `find` returns, looking at each pack once."""
        self._read_all()
        found: dict[str, PackedEntry] = {}
        for name, known in self._known.items():
            entry = next(iter(known.entries.values()), None)
            if entry is not None and has_size(self._paths(name)[0], entry.file_bytes):
                found |= known.entries
        twice = [name for name, packs in self._pack_of.items() if len(packs) > 1]
        for recording_id in twice:
            found.pop(recording_id, None)
        return found

    def blame(self) -> UserError | None:
        """Return what is wrong with a pack whose index cannot be used, None if all can.

        Such a pack may have any recording that is nowhere else.
        """
        return next((known.error for known in self._known.values() if known.error), None)

    def _is_current(self, name: str) -> bool:
        known = self._known.get(name)
        return known is not None and known.mark == _mark(self._paths(name)[1])

    def _read_all(self) -> None:
        """Read the indexes that are new or have changed."""
        names = self._names(".json")
        self._known = {
            name: self._known[name] if self._is_current(name) else self._read(name)
            for name in names
        }
        self._pack_of = {}
        for name in names:
            for recording_id in self._known[name].entries:
                self._pack_of.setdefault(recording_id, []).append(name)

    def _read(self, name: str) -> _Known:
        mark = _mark(self._paths(name)[1])
        try:
            entries = entries_of(name, self._index(name))
        except UserError as error:
            return _Known(mark, {}, error)
        return _Known(mark, {entry.recording_id: entry for entry in entries})

    def _index(self, name: str) -> PackIndex:
        return read_pack_index(*self._paths(name), self._spec)

    def _names(self, suffix: str) -> list[str]:
        if not self.folder.is_dir():  # most stores have none, and then no descriptor is needed
            return []
        try:
            files = [path.name for path in self.folder.iterdir()]
        except OSError as error:
            raise unreadable(self.folder, error) from error
        return sorted(
            name.removesuffix(suffix)
            for name in files
            if name.endswith(suffix) and not name.startswith(TEMPORARY_PREFIX)
        )

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.npy", self.folder / f"{name}.json"


@dataclass(frozen=True)
class _Known:
    """An index that was read, or why it could not be; `mark` tells whether the file is the same."""

    mark: tuple[int, ...]
    entries: dict[str, PackedEntry]
    error: UserError | None = None


def _mark(path: Path) -> tuple[int, ...]:
    """Return by what a file is known to be the same, nothing if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
