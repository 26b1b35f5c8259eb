"""What is kept beside the labels of an utterance, to know whether it is current."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.core.hashing import file_sha256, value_sha256
from amt_pipeline.phonemes.classes import PhoneClasses
from amt_pipeline.phonemes.label_store import LabelEntry
from amt_pipeline.phonemes.utterances import Utterance


class SourceFacts(BaseModel):
    """What an utterance was made from, and what came out.

    Attributes:
        content_sha256: Content hash of the file that its frames were made from.
        source_sha256: Content hashes of that file and of its alignment, if it has one.
        stamp: Size and times of these files when they were read.
        label_key: See `label_key`.
        n_frames: Frames stored.
        duration_s: Length of the audio.
        warnings: What is odd about it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    content_sha256: str
    source_sha256: list[str]
    stamp: list[list[int]]
    label_key: str
    n_frames: int
    duration_s: float
    warnings: list[str]


def facts_of(part: LabelEntry) -> SourceFacts:
    """Return what is kept beside the labels of an utterance.

    Raises:
        ValidationError: It is something else.
    """
    return SourceFacts.model_validate(part.extra)


def _files(one: Utterance) -> list[Path]:
    return [one.source_path, *([one.alignment_path] if one.alignment_path else [])]


def stamp_of(one: Utterance) -> list[list[int]]:
    """Return size and times of the files of an utterance; the time of change cannot be set.

    Raises:
        CorpusError: A file cannot be looked at.
    """
    stamps = []
    for path in _files(one):
        try:
            status = path.stat()
        except OSError as error:
            raise CorpusError(path, f"cannot be read ({error.strerror or error})") from error
        stamps.append([status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    return stamps


def source_hashes(one: Utterance) -> list[str]:
    """Return the content hashes of the files of an utterance, that of the frames' source first.

    Raises:
        CorpusError: A file cannot be read.
    """
    hashes = []
    for path in _files(one):
        try:
            hashes.append(file_sha256(path))
        except OSError as error:
            problem = f"cannot be read ({error.strerror or error})"
            raise CorpusError(path, problem, "Check its permissions") from error
    return hashes


def label_key(one: Utterance, classes: PhoneClasses) -> str:
    """Return a hash of what decides the labels, beside the files; empty where there are none.

    That is the classes where they are listed, and the names of the classes where an alignment
    names them.
    """
    if one.classes is not None:
        return hashlib.sha256(one.classes.data).hexdigest()
    return value_sha256(classes.names) if one.alignment_path else ""
