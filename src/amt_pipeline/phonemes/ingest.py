"""A pack of utterances to stored frames and labels; durable, and skipped when current."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from amt_pipeline.core.errors import CorpusError, StorageError, UserError
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.classes import PhoneClasses
from amt_pipeline.phonemes.label_store import (
    LabelEntry,
    LabelIndex,
    LabelPart,
    read_classes_of,
    read_label_index,
    remove_label_index,
    write_label_index,
    write_label_pack,
)
from amt_pipeline.phonemes.source_facts import (
    SourceFacts,
    facts_of,
    label_key,
    source_hashes,
    stamp_of,
)
from amt_pipeline.phonemes.utterance_reading import read_utterance
from amt_pipeline.phonemes.utterances import Utterance
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.packs import PackPart


@dataclass(frozen=True)
class PackJob:
    """What a worker needs to ingest some utterances; picklable.

    Attributes:
        name: Name of the pack.
        utterances: What it holds.
        store_folder: The FrameStore.
        labels_folder: Where labels go.
        spec: What frames hold.
        classes: What the labels number.
    """

    name: str
    utterances: tuple[Utterance, ...]
    store_folder: Path
    labels_folder: Path
    spec: MfccSpec
    classes: PhoneClasses


@dataclass(frozen=True)
class IngestedUtterance:
    """An utterance that is in the store.

    Attributes:
        recording_id: Its name.
        pack: The pack that holds it.
        duration_s: Length of the audio; for tensors, of what their frames span.
        n_frames: Frames stored.
        content_sha256: Content hash of the file that its frames were made from.
        label_sha256: Hash of its classes; empty without labels.
        warnings: What is odd about it.
    """

    recording_id: str
    pack: str
    duration_s: float
    n_frames: int
    content_sha256: str
    label_sha256: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class IngestedPack:
    """What became of a pack.

    Attributes:
        utterances: Those that are stored.
        failures: Those that could not be used, with the reason.
        reused: Nothing had changed since it was stored.
    """

    utterances: tuple[IngestedUtterance, ...]
    failures: tuple[tuple[str, UserError], ...]
    reused: bool


@dataclass(frozen=True, eq=False)
class _Made:
    frames: npt.NDArray[np.float32]
    content_sha256: str
    labels: LabelPart


def ingest_pack(job: PackJob) -> IngestedPack:
    """Read, check, transform and store the utterances of a pack, or find that it is current.

    An utterance that cannot be used is left out and tried again by the next ingestion. A file whose
    size and times are those of the last ingestion is taken as unchanged; one that was touched is
    hashed. The pack is made again when any of its utterances has changed.

    Raises:
        StorageError: The disk refused.
    """
    store = FrameStore.create(job.store_folder, job.spec)
    index = _stored(store, job)
    current = _refreshed(job, index) if index else None
    known = {part.recording_id for part in current.parts} if current else set()
    made, failures = _make_all(job, [u for u in job.utterances if u.recording_id not in known])
    if current is not None and not made:
        if current != index:
            write_label_index(job.labels_folder, job.name, current)
        return IngestedPack(_ingested(job.name, current.parts), tuple(failures), True)
    others, more = _make_all(job, [u for u in job.utterances if u.recording_id in known])
    made |= others
    parts = [made[u.recording_id] for u in job.utterances if u.recording_id in made]
    stored = _write(store, job, parts) if parts else ()
    return IngestedPack(stored, (*failures, *more), False)


def _write(store: FrameStore, job: PackJob, parts: list[_Made]) -> tuple[IngestedUtterance, ...]:
    # The index of the labels goes first and comes last: without it the pack does not count.
    remove_label_index(job.labels_folder, job.name)
    packed = (
        PackPart(one.labels.recording_id, one.frames[:, :, None], one.content_sha256)
        for one in parts
    )
    store.write_pack(job.name, packed)
    written = write_label_pack(job.labels_folder, job.name, [one.labels for one in parts])
    return _ingested(job.name, written.parts)


def _stored(store: FrameStore, job: PackJob) -> LabelIndex | None:
    """Return the index of the pack where frames and labels of such utterances are stored."""
    try:
        index = read_label_index(job.labels_folder, job.name)
        read_classes_of(job.labels_folder, job.name, index)
        entries = store.pack_entries(job.name)
        noted = [(part.recording_id, facts_of(part).content_sha256) for part in index.parts]
    except (UserError, ValidationError):
        return None
    stored = [(entry.recording_id, entry.content_sha256) for entry in entries]
    wanted = {one.recording_id for one in job.utterances}
    return index if stored == noted and wanted.issuperset(name for name, _ in noted) else None


def _refreshed(job: PackJob, index: LabelIndex) -> LabelIndex | None:
    """Return the index with the present times of the files; None where a content has changed."""
    by_name = {one.recording_id: one for one in job.utterances}
    parts = []
    for part in index.parts:
        one, facts = by_name[part.recording_id], facts_of(part)
        try:
            stamp = stamp_of(one)
            is_touched = facts.stamp != stamp
            if is_touched and facts.source_sha256 != source_hashes(one):
                return None
        except UserError:
            return None
        if facts.label_key != label_key(one, job.classes):
            return None
        current = facts.model_copy(update={"stamp": stamp})
        parts.append(part.model_copy(update={"extra": current.model_dump()}))
    return index.model_copy(update={"parts": tuple(parts)})


def _make_all(
    job: PackJob, utterances: Sequence[Utterance]
) -> tuple[dict[str, _Made], list[tuple[str, UserError]]]:
    made, failures = {}, []
    for one in utterances:
        try:
            made[one.recording_id] = _make(one, job.spec, job.classes)
        except StorageError:
            raise
        except UserError as error:
            failures.append((one.recording_id, error))
    return made, failures


def _make(one: Utterance, spec: MfccSpec, classes: PhoneClasses) -> _Made:
    """Read one utterance.

    Raises:
        UserError: Its features, audio, labels or alignment cannot be used, do not belong together,
            or changed while they were read.
    """
    stamp, hashes = stamp_of(one), source_hashes(one)
    read = read_utterance(one, spec, classes)
    if stamp_of(one) != stamp:
        raise CorpusError(one.source_path, "changed while it was read", "Run again")
    facts = SourceFacts(
        content_sha256=hashes[0],
        source_sha256=hashes,
        stamp=stamp,
        label_key=label_key(one, classes),
        n_frames=len(read.frames),
        duration_s=read.duration_s,
        warnings=list(read.warnings),
    )
    labels = LabelPart(one.recording_id, read.classes, facts.model_dump())
    return _Made(read.frames, hashes[0], labels)


def _ingested(pack: str, parts: Sequence[LabelEntry]) -> tuple[IngestedUtterance, ...]:
    return tuple(
        IngestedUtterance(
            recording_id=part.recording_id,
            pack=pack,
            duration_s=facts.duration_s,
            n_frames=facts.n_frames,
            content_sha256=facts.content_sha256,
            label_sha256=part.sha256,
            warnings=tuple(facts.warnings),
        )
        for part, facts in ((part, facts_of(part)) for part in parts)
    )
