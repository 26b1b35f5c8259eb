"""MAESTRO on disk, as it is published, becomes a manifest; and the checks of one recording.

`read_corpus` looks at the index file and at which files exist, and is done in a moment. What costs
time (reading notes) is per recording, for worker processes: `check_recording`.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.store.manifest import Manifest, file_exists, quarantine_table
from amt_pipeline.transcription.metadata import (
    EXPECTED,
    find_metadata,
    list_metadata,
    read_maestro_metadata,
)
from amt_pipeline.transcription.midi_reading import Pedal, read_midi_notes
from amt_pipeline.transcription.notes import Notes

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CheckedRecording",
    "CorpusReading",
    "check_recording",
    "find_metadata",
    "read_corpus",
    "read_maestro_metadata",
    "recording_ids",
]

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff")
MAX_ID_CHARACTERS = 100
N_NAMES_SHOWN = 3

# How far audio, MIDI and index may disagree about the length of a recording.
TOLERANCE_S = 1.0
TOLERANCE_FRACTION = 0.01
# Silence or applause after the last note that is worth a word: a minute, or a fifth of the audio
# (in short recordings a few seconds are usual).
LONG_TAIL_S = 60.0
LONG_TAIL_FRACTION = 0.2
SHORTEST_LONG_TAIL_S = 5.0


@dataclass(frozen=True)
class CorpusReading:
    """A corpus folder that was read.

    Attributes:
        manifest: The checked manifest; hashes are still empty.
        quarantine: Recordings left out because a file is missing (`missing="quarantine"`).
        warnings: Oddities, one sentence each.
    """

    manifest: pd.DataFrame
    quarantine: pd.DataFrame
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class CheckedRecording:
    """The notes of a recording whose MIDI fits its audio, and what is odd about it."""

    notes: Notes
    warnings: tuple[str, ...]


def read_corpus(
    root: str | Path,
    metadata: str | None = None,
    *,
    missing: Literal["refuse", "quarantine"] = "refuse",
    allow_shared_pieces: bool = False,
) -> CorpusReading:
    """Read a MAESTRO folder (v1, v2, v3, or one's own in that form) into a manifest.

    Args:
        root: The unpacked archive.
        metadata: The index file, absolute or inside `root`; None takes the newest one there.
        missing: What listed files that are not there lead to: `refuse` names them all and stops,
            since a half-copied corpus would quietly give other scores; `quarantine` goes on without
            these recordings and lists them.
        allow_shared_pieces: Accept one piece (composer and title) in two splits.

    Raises:
        CorpusError: The folder or its index cannot be used; all faults are named at once.
    """
    root = Path(root).expanduser().absolute()
    found = list_metadata(root)
    index = root / metadata if metadata else find_metadata(root)
    table = _as_manifest(root, read_maestro_metadata(index))
    absent = _absent_files(root, index, table)
    if absent and missing == "refuse":
        names = ", ".join(file.where for files in absent.values() for file in files)
        raise CorpusError(
            index,
            f"{len(absent)} of {len(table)} recordings lack a file: {names}",
            "Restore them, or go on without them: ingest.missing=quarantine",
        )
    warnings = [_unlisted_audio(root, table)]
    if not metadata and len({path.stem for path in found}) > 1:
        names = ", ".join(path.name for path in found)
        warnings.append(f"{root} has several index files ({names}); {index.name} is used")
    present = table[~table["recording_id"].isin(list(absent))]
    manifest = Manifest.from_frame(present, where=index, allow_shared_pieces=allow_shared_pieces)
    failures = [(name, file) for name, files in absent.items() for file in files]
    return CorpusReading(
        manifest.frame, quarantine_table(failures), tuple(text for text in warnings if text)
    )


def check_recording(
    row: Mapping[str, Any], audio_duration_s: float, *, pedal: Pedal = "sustain"
) -> CheckedRecording:
    """Read the notes of one recording and check that they fit its audio.

    Args:
        row: A row of the manifest.
        audio_duration_s: How long the audio really is.
        pedal: See `read_midi_notes`.

    Returns:
        The notes, and warnings about them and about lengths that do not fit.

    Raises:
        MidiError: The MIDI file cannot be read.
        CorpusError: Notes are struck after the audio has ended.
    """
    reading = read_midi_notes(row["midi_path"], pedal=pedal)
    notes, warnings = reading.notes, list(reading.warnings)
    tolerance_s = TOLERANCE_S + TOLERANCE_FRACTION * audio_duration_s
    if abs(row["duration_s"] - audio_duration_s) > tolerance_s:
        warnings.append(
            f"the index says {row['duration_s']:.1f} s, the audio lasts {audio_duration_s:.1f} s"
        )
    if len(notes) == 0:
        return CheckedRecording(notes, (*warnings, "no notes"))
    last_onset_s = float(notes.onset_s[-1])
    if last_onset_s > audio_duration_s + tolerance_s:
        raise CorpusError(
            row["audio_path"],
            f"ends at {audio_duration_s:.1f} s, but its MIDI has a note at {last_onset_s:.1f} s",
            "The audio is cut off, or is that of another performance",
        )
    tail_s = audio_duration_s - float(notes.offset_s.max())
    is_fifth = tail_s > max(SHORTEST_LONG_TAIL_S, LONG_TAIL_FRACTION * audio_duration_s)
    if tail_s > LONG_TAIL_S or is_fifth:
        warnings.append(f"the audio goes on for {tail_s:.1f} s after the last note")
    return CheckedRecording(notes, tuple(warnings))


def recording_ids(audio_names: Sequence[str]) -> list[str]:
    """Return an id for each audio file: its stem, as ASCII that any file system takes.

    Stems that coincide (in other folders, or but for letter case) and overlong ones get eight
    digits of the hash of their path: ids depend neither on the order of rows nor on the machine.
    """
    stems = []
    for name in audio_names:
        folded = unicodedata.normalize("NFKD", PurePosixPath(name).stem)
        plain = folded.encode("ascii", "ignore").decode()
        stems.append(re.sub(r"[^A-Za-z0-9_.-]+", "_", plain).strip("._") or "recording")
    count = Counter(stem.lower() for stem in stems)
    return [
        stem
        if count[stem.lower()] == 1 and len(stem) <= MAX_ID_CHARACTERS
        else f"{stem[:MAX_ID_CHARACTERS]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        for stem, name in zip(stems, audio_names, strict=True)
    ]


def _as_manifest(root: Path, index: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "recording_id": recording_ids(index["audio_filename"].tolist()),
            "split": index["split"],
            "audio_path": [str(root / name) for name in index["audio_filename"]],
            "midi_path": [str(root / name) for name in index["midi_filename"]],
            "duration_s": index["duration"],
            "audio_sha256": "",
            "midi_sha256": "",
            "composer": index["canonical_composer"],
            "title": index["canonical_title"],
            "year": index["year"],
        }
    )


def _absent_files(root: Path, index: Path, table: pd.DataFrame) -> dict[str, list[CorpusError]]:
    """Return the missing files of each recording; refuse a corpus that has no audio at all."""
    absent: dict[str, list[CorpusError]] = {}
    n_audio = 0
    for row in table.to_dict("records"):
        n_audio += file_exists(row["audio_path"])
        files = [row[name] for name in ("audio_path", "midi_path") if not file_exists(row[name])]
        if files:
            remedy = "Restore it from the archive"
            absent[row["recording_id"]] = [CorpusError(f, "no such file", remedy) for f in files]
    if n_audio == 0:
        raise CorpusError(
            root,
            f"has none of the {len(table)} audio files that {index.name} lists",
            f"The MIDI-only download has no audio. {EXPECTED}",
        )
    return absent


def _unlisted_audio(root: Path, table: pd.DataFrame) -> str:
    listed = set(table["audio_path"])
    extra = sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES
        and str(path) not in listed
        and not path.name.startswith(".")
    )
    if not extra:
        return ""
    names = ", ".join(extra[:N_NAMES_SHOWN]) + (", ..." if len(extra) > N_NAMES_SHOWN else "")
    return f"{len(extra)} audio files in {root} are not in the index and are left out: {names}"
