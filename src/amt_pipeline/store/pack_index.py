"""The index of a pack: which recordings share a file, and in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.errors import StoreError
from amt_pipeline.features.spec import AnySpec
from amt_pipeline.store.entries import INGEST_AGAIN, PackedEntry, Peak, read_index
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


class IndexedPart(BaseModel):
    """What the index of a pack knows of one recording; see `StoreEntry`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording_id: str
    n_frames: int = Field(ge=0)
    peak: Peak
    content_sha256: str
    extra: dict[str, Any] = {}


class PackIndex(BaseModel):
    """The `.json` file of a pack; parts are in the order of their frames, without gaps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = PACK_FORMAT
    spec_sha256: str
    file_bytes: int = Field(ge=0, le=1 << 62)
    parts: tuple[IndexedPart, ...]


def append_part(writer: FrameWriter, part: PackPart) -> IndexedPart:
    """Write the frames of a recording behind those before it; return what the index says of it.

    Raises:
        StoreError: The frames do not fit the specification or are not finite.
        OSError: The disk refused.
    """
    first = writer.n_frames
    peak = writer.append(part.frames, part.recording_id)
    return IndexedPart(
        recording_id=part.recording_id,
        n_frames=writer.n_frames - first,
        peak=tuple(map(float, peak)),
        content_sha256=part.content_sha256,
        extra=dict(part.extra),
    )


def read_pack_index(data_path: Path, index_path: Path, spec: AnySpec) -> PackIndex:
    """Read the index of a pack and check what can be checked without its frames.

    Raises:
        StoreError: It is damaged, or of another specification.
        UserError: It is missing or no JSON.
    """
    index: PackIndex = read_index(index_path, PackIndex)
    if index.spec_sha256 != spec.sha256:
        raise StoreError(data_path, "was made under another feature specification", INGEST_AGAIN)
    header = index.file_bytes - sum(part.n_frames for part in index.parts) * spec.frame_bytes
    if (
        not 0 < header <= MAX_HEADER_BYTES
        or len({part.recording_id for part in index.parts}) < len(index.parts)
        or any(len(part.peak) != spec.channels for part in index.parts)
    ):
        raise StoreError(index_path, "is not the index of its pack", INGEST_AGAIN)
    return index


def entries_of(name: str, index: PackIndex) -> list[PackedEntry]:
    """Return the entries of the pack `name`, in the order of their frames."""
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
