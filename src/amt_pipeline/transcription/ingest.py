"""One recording to stored frames and a note table; durable, and skipped when current."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.audio.io import stream_audio
from amt_pipeline.core.errors import CorpusError, UserError, storage_error
from amt_pipeline.core.files import read_json, write_json
from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.features.extract import extract_blocks
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore, StoreEntry
from amt_pipeline.transcription.corpus import check_recording
from amt_pipeline.transcription.midi_reading import Pedal
from amt_pipeline.transcription.note_table import write_note_table


class IngestConfig(BaseModel):
    """How a corpus is read.

    Attributes:
        pedal: `sustain` lets a note last while CC64 >= 64, cut by the next onset of its key;
            `ignore` ends it when the key is released.
        missing: Listed files that are not there: `refuse` the corpus or `quarantine` them.
        allow_shared_pieces: Accept performances of one piece in two splits.
        max_bad_fraction: Largest share of recordings that may end in quarantine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pedal: Pedal = "sustain"
    missing: str = Field("refuse", pattern="^(refuse|quarantine)$")
    allow_shared_pieces: bool = False
    max_bad_fraction: float = Field(0.05, ge=0, le=1)


@dataclass(frozen=True)
class IngestJob:
    """What a worker needs to ingest one recording; picklable.

    Attributes:
        row: The recording's row of the manifest.
        store_folder: The FrameStore.
        notes_folder: Where note tables go.
        spec: What frames hold.
        pedal: The pedal rule.
    """

    row: Mapping[str, Any]
    store_folder: Path
    notes_folder: Path
    spec: FeatureSpec
    pedal: Pedal


@dataclass(frozen=True)
class IngestedRecording:
    """A recording that is in the store.

    Attributes:
        recording_id: Its name.
        duration_s: Length of the audio.
        n_frames: Frames stored.
        n_notes: Notes in its table.
        audio_sha256: Content hash of the audio file.
        midi_sha256: Content hash of the MIDI file.
        warnings: What is odd about it.
        reused: Nothing had changed since it was stored.
    """

    recording_id: str
    duration_s: float
    n_frames: int
    n_notes: int
    audio_sha256: str
    midi_sha256: str
    warnings: tuple[str, ...]
    reused: bool


def ingest_recording(job: IngestJob) -> IngestedRecording:
    """Read, check, transform and store one recording, or find that it is current.

    A file whose size and times of modification and change are those of the last ingestion is taken
    as unchanged; one that was touched is hashed, and redone only if its content differs.

    Raises:
        AudioError: The audio cannot be used.
        MidiError: The MIDI cannot be used.
        CorpusError: Audio and MIDI do not belong together, or a file changed while it was read.
        StorageError: The disk refused.
    """
    store = FrameStore.create(job.store_folder, job.spec)
    entry, frames_are_new = _frames(store, job)
    notes, notes_are_new = _notes(job, float(entry.extra["duration_s"]))
    return IngestedRecording(
        recording_id=entry.recording_id,
        duration_s=float(entry.extra["duration_s"]),
        n_frames=entry.n_frames,
        n_notes=int(notes["n_notes"]),
        audio_sha256=entry.content_sha256,
        midi_sha256=str(notes["midi_sha256"]),
        warnings=(*entry.extra["warnings"], *notes["warnings"]),
        reused=not (frames_are_new or notes_are_new),
    )


def _frames(store: FrameStore, job: IngestJob) -> tuple[StoreEntry, bool]:
    name, path = str(job.row["recording_id"]), Path(job.row["audio_path"])
    stat = _stat(path)
    try:
        entry = store.entry(name)
    except UserError:
        entry = None
    if entry is not None and entry.extra.get("audio_stat") == stat:
        return entry, False
    digest = _sha256(path)
    if entry is not None and entry.content_sha256 == digest:
        # Noted, or it would be hashed each time from now on.
        return store.annotate(entry, {**entry.extra, "audio_stat": stat}), False
    audio = stream_audio(path, sample_rate=job.spec.sample_rate, channels=job.spec.channels)

    def facts() -> dict[str, Any]:
        return {
            "audio_stat": stat,
            "duration_s": audio.duration_s,
            "source_rate": audio.source_rate,
            "warnings": list(audio.warnings),
        }

    frames = _while_unchanged(path, stat, extract_blocks(audio, job.spec))
    return store.write(name, frames, digest, facts), True


def _while_unchanged(
    path: Path, stat: list[int], chunks: Iterator[npt.NDArray[Any]]
) -> Iterator[npt.NDArray[Any]]:
    """Yield the chunks, and refuse a file that is another one when it was read to its end."""
    yield from chunks
    if _stat(path) != stat:
        raise CorpusError(path, "changed while it was read", "Run again when it is complete")


def _notes(job: IngestJob, audio_duration_s: float) -> tuple[dict[str, Any], bool]:
    name, path = str(job.row["recording_id"]), Path(job.row["midi_path"])
    table_path, facts_path = job.notes_folder / f"{name}.parquet", job.notes_folder / f"{name}.json"
    stat = _stat(path)
    key = {"pedal": job.pedal, "duration_s": audio_duration_s, "listed_s": job.row["duration_s"]}
    known = _known_notes(table_path, facts_path)
    if known.get("key") == key and known.get("midi_stat") == stat:
        return known, False
    digest = _sha256(path)
    if known.get("key") == key and known.get("midi_sha256") == digest:
        known = {**known, "midi_stat": stat}
        write_json(facts_path, known)
        return known, False
    checked = check_recording(job.row, audio_duration_s, pedal=job.pedal)
    if _stat(path) != stat:
        raise CorpusError(path, "changed while it was read", "Run again when it is complete")
    try:
        facts_path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(facts_path, error) from error
    write_note_table(table_path, checked.notes)
    facts = {
        "key": key,
        "midi_stat": stat,
        "midi_sha256": digest,
        "n_notes": len(checked.notes),
        "warnings": list(checked.warnings),
    }
    write_json(facts_path, facts)
    return facts, True


def _known_notes(table_path: Path, facts_path: Path) -> dict[str, Any]:
    """Return what is known of a note table; nothing where it is missing or damaged."""
    if not (table_path.is_file() and facts_path.is_file()):
        return {}
    try:
        facts = read_json(facts_path)
    except UserError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise CorpusError(
            path, f"cannot be read ({error.strerror or error})", "Check its permissions"
        ) from error


def _stat(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError as error:
        raise CorpusError(path, f"cannot be read ({error.strerror})") from error
    # The time of the last change of any kind cannot be set: tools that copy, and clocks that were
    # put back, may leave another content with the modification time of the former one.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
