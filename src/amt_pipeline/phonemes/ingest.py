"""A pack of utterances to stored frames and labels; durable, and skipped when current."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.audio.io import audio_info, read_audio
from amt_pipeline.core.errors import AudioError, CorpusError, StorageError, UserError
from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.features.mfcc import mfcc_frames
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.alignments import read_alignment
from amt_pipeline.phonemes.classes import PhoneClasses
from amt_pipeline.phonemes.label_store import (
    LabelEntry,
    LabelIndex,
    LabelPart,
    read_label_index,
    remove_label_index,
    write_label_index,
    write_label_pack,
)
from amt_pipeline.phonemes.labels import frame_classes, require_as_many
from amt_pipeline.phonemes.tensor_reading import read_tensor
from amt_pipeline.phonemes.utterances import Utterance
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.packs import PackPart

MAX_UTTERANCE_S = 900.0
"""Longest recording that counts as an utterance; LibriSpeech's longest has 35 s."""


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


@dataclass(frozen=True)
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
        entries = store.pack_entries(job.name)
    except UserError:
        return None
    stored = [(entry.recording_id, entry.content_sha256) for entry in entries]
    noted = [(part.recording_id, part.extra.get("content_sha256")) for part in index.parts]
    wanted = {one.recording_id for one in job.utterances}
    fits = stored == noted and wanted.issuperset(name for name, _ in noted)
    return index if fits else None


def _refreshed(job: PackJob, index: LabelIndex) -> LabelIndex | None:
    """Return the index with the present times of the files; None where a content has changed."""
    by_name = {one.recording_id: one for one in job.utterances}
    parts = []
    for stored in index.parts:
        part, one = stored, by_name[stored.recording_id]
        try:
            stamp, key = _stamp(one), _label_key(one, job.classes)
            if part.extra.get("label_key") != key:
                return None
            if part.extra.get("stamp") != stamp:
                if _source_hashes(one) != part.extra.get("source_sha256"):
                    return None
                part = part.model_copy(update={"extra": {**part.extra, "stamp": stamp}})
        except UserError:
            return None
        parts.append(part)
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
    stamp = _stamp(one)
    hashes = _source_hashes(one)
    warnings: tuple[str, ...] = ()
    if one.feature_path is not None:
        frames = read_tensor(one.feature_path, spec.bins)
        duration_s = ((len(frames) - 1) * spec.hop_samples + spec.frame_samples) / spec.sample_rate
        labels = one.classes
        if labels is not None:
            require_as_many(str(one.feature_path), len(labels), len(frames))
    else:
        frames, duration_s, warnings = _from_audio(one.source_path, spec)
        labels = None
        if one.alignment_path is not None:
            alignment = read_alignment(one.alignment_path, classes, duration_s)
            warnings += alignment.warnings
            silence = classes.silence or 0
            labels = frame_classes(alignment, len(frames), spec.grid, silence)
    if _stamp(one) != stamp:
        raise CorpusError(one.source_path, "changed while it was read", "Run again")
    extra: dict[str, Any] = {
        "content_sha256": hashes[0],
        "source_sha256": hashes,
        "stamp": stamp,
        "label_key": _label_key(one, classes),
        "n_frames": len(frames),
        "duration_s": duration_s,
        "warnings": list(warnings),
    }
    return _Made(frames, hashes[0], LabelPart(one.recording_id, labels, extra))


def _from_audio(
    path: Path, spec: MfccSpec
) -> tuple[npt.NDArray[np.float32], float, tuple[str, ...]]:
    """Return frames `[n, bins]`, seconds and warnings of an audio file, mixed to one channel."""
    if (seconds := audio_info(path).duration_s) > MAX_UTTERANCE_S:
        problem = f"lasts {seconds:.0f} s: an utterance has at most {MAX_UTTERANCE_S:.0f} s"
        raise AudioError(path, problem, "Cut it into utterances")
    # Both channels, so that opposite ones are noticed; the mean of a copied mono is the same again.
    audio = read_audio(path, sample_rate=spec.sample_rate, channels=2)
    samples = audio.samples.mean(axis=1)
    if spec.grid.frame_count(len(samples)) == 0:
        problem = f"has {len(samples)} samples, less than one frame of {spec.frame_samples}"
        raise AudioError(path, problem, "Leave it out")
    warnings = audio.warnings
    if audio.source_rate != spec.sample_rate:
        warnings += (f"resampled from {audio.source_rate} to {spec.sample_rate} Hz",)
    return mfcc_frames(samples, spec), len(samples) / spec.sample_rate, warnings


def _ingested(pack: str, parts: Sequence[LabelEntry]) -> tuple[IngestedUtterance, ...]:
    return tuple(
        IngestedUtterance(
            recording_id=part.recording_id,
            pack=pack,
            duration_s=float(part.extra["duration_s"]),
            n_frames=int(part.extra["n_frames"]),
            content_sha256=str(part.extra["content_sha256"]),
            label_sha256=part.sha256,
            warnings=tuple(part.extra["warnings"]),
        )
        for part in parts
    )


def _files(one: Utterance) -> list[Path]:
    return [one.source_path, *([one.alignment_path] if one.alignment_path else [])]


def _stamp(one: Utterance) -> list[list[int]]:
    """Return size and times of the files of an utterance; the time of change cannot be set."""
    stamps = []
    for path in _files(one):
        try:
            status = path.stat()
        except OSError as error:
            raise CorpusError(path, f"cannot be read ({error.strerror or error})") from error
        stamps.append([status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return stamps


def _source_hashes(one: Utterance) -> list[str]:
    """Return the content hashes of the files of an utterance, that of the frames' source first."""
    hashes = []
    for path in _files(one):
        try:
            hashes.append(file_sha256(path))
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
            raise CorpusError(path, problem, "Check its permissions") from error
    return hashes


def _label_key(one: Utterance, classes: PhoneClasses) -> list[str]:
    """Return what decides the labels, beside the files: the listed classes, and their names."""
    listed = "" if one.classes is None else hashlib.sha256(one.classes.data).hexdigest()
    return [listed, *(classes.names if one.alignment_path else ())]
