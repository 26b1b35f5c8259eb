"""Classes of frames on disk: one array of bytes per pack of utterances, with an index beside it.

`<pack>.npy` has the classes of the pack's utterances one after the other, `<pack>.json` says whose
they are and how many. The index is written last: labels are there when it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from amt_pipeline.core.arrays import ArrayError, map_array
from amt_pipeline.core.errors import StoreError, UserError, storage_error
from amt_pipeline.core.files import TEMPORARY_PREFIX, atomic_path, read_json, write_json
from amt_pipeline.core.wording import some_of

N_SHOWN = 5
AGAIN = "Run the ingest pipeline again; it redoes only what is missing"


@dataclass(frozen=True, eq=False)
class LabelPart:
    """Labels of one utterance.

    Attributes:
        recording_id: Its name.
        classes: uint8 `[n_frames]`; None where it has none (a test list without labels).
        extra: JSON-able facts to keep in the index.
    """

    recording_id: str
    classes: npt.NDArray[np.uint8] | None
    extra: Mapping[str, Any] = field(default_factory=dict)


class LabelEntry(BaseModel):
    """What the index knows of one utterance.

    Attributes:
        recording_id: Its name.
        n_labels: Labelled frames.
        sha256: Hash of its classes; empty where it has no labels.
        extra: Facts that were kept beside.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording_id: str
    n_labels: int = Field(ge=0, le=1 << 40)
    sha256: str
    extra: dict[str, Any] = {}

    @property
    def has_labels(self) -> bool:
        """Whether its frames are labelled."""
        return bool(self.sha256)


class LabelIndex(BaseModel):
    """The `.json` file of a pack: its utterances in the order of their labels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    sha256: str
    parts: tuple[LabelEntry, ...]


@dataclass(frozen=True, eq=False)
class FrameClasses:
    """Labels of several utterances, one after the other.

    Attributes:
        classes: uint8 `[total]`.
        first: int64 `[n]` where each utterance begins.
        n_frames: int64 `[n]` frames of each.
    """

    classes: npt.NDArray[np.uint8]
    first: npt.NDArray[np.int64]
    n_frames: npt.NDArray[np.int64]

    def of(self, number: int) -> npt.NDArray[np.uint8]:
        """Return the classes of one utterance, by its place in the order asked for."""
        first = int(self.first[number])
        return self.classes[first : first + int(self.n_frames[number])]


def write_label_pack(folder: Path, name: str, parts: Iterable[LabelPart]) -> LabelIndex:
    """Write the labels of a pack in the place of that name.

    Raises:
        StorageError: The disk refused.
    """
    parts = list(parts)
    remove_label_index(folder, name)
    labelled = [part.classes for part in parts if part.classes is not None]
    everything = np.concatenate([np.zeros(0, np.uint8), *labelled])
    with atomic_path(_paths(folder, name)[0]) as temporary, temporary.open("wb") as stream:
        np.lib.format.write_array(stream, everything, allow_pickle=False)
    index = LabelIndex(
        sha256=_digest(everything),
        parts=tuple(
            LabelEntry(
                recording_id=part.recording_id,
                n_labels=0 if part.classes is None else len(part.classes),
                sha256="" if part.classes is None else _digest(part.classes),
                extra=dict(part.extra),
            )
            for part in parts
        ),
    )
    write_label_index(folder, name, index)
    return index


def write_label_index(folder: Path, name: str, index: LabelIndex) -> None:
    """Write the index of a pack whose labels stay.

    Raises:
        StorageError: The disk refused.
    """
    write_json(_paths(folder, name)[1], index.model_dump())


def remove_label_index(folder: Path, name: str) -> None:
    """Take the index away: what the pack holds does not count from now on.

    Raises:
        StorageError: The disk refused.
    """
    path = _paths(folder, name)[1]
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error


def read_label_index(folder: Path, name: str) -> LabelIndex:
    """Return the index of a pack.

    Raises:
        StoreError: It is not there, or is damaged.
    """
    data_path, index_path = _paths(folder, name)
    if not index_path.is_file() or not data_path.is_file():
        raise StoreError(index_path, "no labels here", AGAIN)
    try:
        return LabelIndex.model_validate(read_json(index_path))
    except ValidationError as error:
        raise StoreError(index_path, "is not an index of labels", AGAIN) from error
    except UserError as error:
        raise StoreError(index_path, error.problem, AGAIN) from error


def label_indexes(folder: Path) -> Iterator[tuple[str, LabelIndex]]:
    """Yield every pack's name and index, by name.

    Raises:
        StoreError: An index is damaged, or without its labels.
    """
    for path in sorted(folder.glob("*.json")):
        if not path.name.startswith(TEMPORARY_PREFIX):
            name = path.name.removesuffix(".json")
            yield name, read_label_index(folder, name)


def remove_label_packs(folder: Path, keep: Collection[str]) -> None:
    """Remove the labels of all packs but some.

    Raises:
        StorageError: The disk refused.
    """
    for suffix in (".json", ".npy"):  # an index first: labels do not count without it
        for path in folder.glob(f"*{suffix}"):
            if path.name.removesuffix(suffix) in keep or path.name.startswith(TEMPORARY_PREFIX):
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(path, error) from error


def read_labels(folder: Path, recording_ids: Sequence[str]) -> FrameClasses:
    """Return the labels of utterances in the order asked for.

    Args:
        folder: Where the labels lie.
        recording_ids: Which utterances; each may occur once.

    Raises:
        StoreError: An utterance is not there or has no labels, or a file is damaged.
    """
    wanted, found = set(recording_ids), dict[str, npt.NDArray[np.uint8]]()
    without: list[str] = []
    for name, index in label_indexes(folder):
        if wanted.isdisjoint(part.recording_id for part in index.parts):
            continue
        classes = read_classes_of(folder, name, index)
        ends = accumulate((part.n_labels for part in index.parts), initial=0)
        for part, first in zip(index.parts, ends, strict=False):
            if part.recording_id not in wanted:
                continue
            if not part.has_labels:
                without.append(part.recording_id)
            found[part.recording_id] = classes[first : first + part.n_labels]
    absent = [name for name in recording_ids if name not in found]
    if absent:
        raise StoreError(folder, f"has no labels of {some_of(absent, most=N_SHOWN)}", AGAIN)
    if without:
        raise StoreError(folder, f"the corpus has no labels for {some_of(without, most=N_SHOWN)}")
    n_frames = np.array([len(found[name]) for name in recording_ids], np.int64)
    first_frame = np.concatenate([np.zeros(1, np.int64), np.cumsum(n_frames)])[:-1]
    classes = np.concatenate([np.zeros(0, np.uint8), *(found[name] for name in recording_ids)])
    return FrameClasses(classes, first_frame, n_frames)


def read_classes_of(folder: Path, name: str, index: LabelIndex) -> npt.NDArray[np.uint8]:
    """Return the classes of a pack, those of all its utterances one after the other.

    Raises:
        StoreError: They are not those that the index knows.
    """
    path = _paths(folder, name)[0]
    try:
        classes: npt.NDArray[np.uint8] = map_array(path, "uint8")
    except ArrayError as error:
        raise StoreError(path, error.problem, AGAIN) from error
    n_labels = sum(part.n_labels for part in index.parts)
    if classes.shape != (n_labels,) or _digest(classes) != index.sha256:
        raise StoreError(path, "is damaged: it holds other labels than its index says", AGAIN)
    return classes


def _digest(classes: npt.NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(classes).data).hexdigest()


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / f"{name}.npy", folder / f"{name}.json"
