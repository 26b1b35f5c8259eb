"""Packs: many short recordings of a FrameStore in one file.

Utterances of speech have some hundred kilobytes. As files of their own thousands of them would cost
more in opening, flushing and index entries than in reading. A pack is one `.npy` file with the
frames of its recordings one behind the other, and one `.json` file that is written last and says
which they are: all recordings of a pack are in the store when its index is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.errors import StoreError, UserError, storage_error
from amt_pipeline.core.files import TEMPORARY_PREFIX, atomic_path, write_json
from amt_pipeline.features.spec import AnySpec
from amt_pipeline.store.entries import (
    INGEST_AGAIN,
    PackedEntry,
    Peak,
    StoreEntry,
    read_index,
    require_size,
    unreadable,
)
from amt_pipeline.store.frame_file import FrameWriter

PACK_FORMAT: Literal[1] = 1
MAX_HEADER_BYTES = 4096
"""Of the `.npy` file before its frames; they have 128."""


@dataclass(frozen=True)
class PackPart:
    """One recording of a pack.

    Attributes:
        recording_id: Name within the corpus.
        frames: `[n, bins, channels]`.
        content_sha256: Hash of the source the frames were made from.
        extra: JSON-able facts to keep in the entry.
    """

    recording_id: str
    frames: npt.NDArray[Any]
    content_sha256: str
    extra: Mapping[str, Any] = field(default_factory=dict)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    recording_id: str
    n_frames: int = Field(ge=0)
    peak: Peak
    content_sha256: str
    extra: dict[str, Any] = {}


class _Index(BaseModel):
    """The `.json` file of a pack; parts are in the order of their frames, without gaps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = PACK_FORMAT
    spec_sha256: str
    file_bytes: int = Field(ge=0, le=1 << 62)
    parts: tuple[_Part, ...]


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
        written: dict[str, _Part] = {}
        with atomic_path(data_path) as temporary:
            # The index goes first on a rewrite: without it the old frames no longer count.
            index_path.unlink(missing_ok=True)
            with temporary.open("wb") as stream:
                writer = FrameWriter(stream, self._spec)
                for part in parts:
                    if part.recording_id in written:
                        raise StoreError(data_path, f"has {part.recording_id} twice")
                    written[part.recording_id] = _append(writer, part)
                writer.finish()
        index = _Index(
            spec_sha256=self._spec.sha256,
            file_bytes=data_path.stat().st_size,
            parts=tuple(written.values()),
        )
        write_json(index_path, index.model_dump())
        return [*self._entries(name, index)]

    def entries(self, name: str) -> list[StoreEntry]:
        """Return the entries of a pack; see `FrameStore.pack_entries`."""
        data_path, index_path = self._paths(name)
        if not index_path.is_file() or not data_path.is_file():
            raise StoreError(data_path, "is not in the store", INGEST_AGAIN)
        index = self._read_index(name)
        require_size(data_path, index.file_bytes)
        return [*self._entries(name, index)]

    def annotate(self, entry: PackedEntry, extra: Mapping[str, Any]) -> None:
        """Keep other facts beside the frames of a recording; see `FrameStore.annotate`."""
        index_path = self._paths(entry.pack)[1]
        index: _Index = read_index(index_path, _Index)
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
            for entry in known.entries.values():
                try:
                    require_size(self._paths(name)[0], entry.file_bytes)
                except StoreError:
                    break
                found.update(known.entries)
                break
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
            entries = self._entries(name, self._read_index(name))
        except UserError as error:
            return _Known(mark, {}, error)
        return _Known(mark, {entry.recording_id: entry for entry in entries})

    def _read_index(self, name: str) -> _Index:
        data_path, index_path = self._paths(name)
        index: _Index = read_index(index_path, _Index)
        if index.spec_sha256 != self._spec.sha256:
            problem = "was made under another feature specification"
            raise StoreError(data_path, problem, INGEST_AGAIN)
        n_frames = sum(part.n_frames for part in index.parts)
        header = index.file_bytes - n_frames * self._spec.frame_bytes
        ids = {part.recording_id for part in index.parts}
        if (
            not 0 < header <= MAX_HEADER_BYTES
            or len(ids) < len(index.parts)
            or any(len(part.peak) != self._spec.channels for part in index.parts)
        ):
            raise StoreError(index_path, "is not the index of its pack", INGEST_AGAIN)
        return index

    def _entries(self, name: str, index: _Index) -> list[PackedEntry]:
        ends = list(accumulate((part.n_frames for part in index.parts), initial=0))
        return [
            PackedEntry.model_construct(  # the parts have been checked
                **dict(part),
                spec_sha256=index.spec_sha256,
                file_bytes=index.file_bytes,
                pack=name,
                first_frame=first,
                pack_frames=ends[-1],
            )
            for part, first in zip(index.parts, ends, strict=False)
        ]

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


def _append(writer: FrameWriter, part: PackPart) -> _Part:
    first = writer.n_frames
    peak = writer.append(part.frames, part.recording_id)
    return _Part(
        recording_id=part.recording_id,
        n_frames=writer.n_frames - first,
        peak=tuple(map(float, peak)),
        content_sha256=part.content_sha256,
        extra=dict(part.extra),
    )


def _mark(path: Path) -> tuple[int, ...]:
    """Return by what a file is known to be the same, nothing if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
