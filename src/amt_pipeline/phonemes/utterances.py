"""Utterances as a corpus lists them, before any of their files has been read."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.core.wording import some_of
from amt_pipeline.phonemes.classes import PhoneClasses
from amt_pipeline.phonemes.config import Layout

logger = logging.getLogger(__name__)

N_NAMES_SHOWN = 5
SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
"""What any file system takes as a name, and nothing that leads out of a folder."""

_LIBRISPEECH_ID = re.compile(r"(?P<speaker>[A-Za-z0-9]+)-(?P<chapter>[A-Za-z0-9]+)-[A-Za-z0-9]+")


@dataclass(frozen=True, eq=False)
class Utterance:
    """One utterance and where its parts are.

    Attributes:
        recording_id: Its name.
        split: train, validation or test; empty until it is drawn.
        feature_path: Its frames as a tensor, or None.
        audio_path: Its sound, or None.
        alignment_path: Which phone is when, or None (then it has no labels, or `classes`).
        classes: uint8 `[n_frames]`, where labels are listed per frame; or None.
        optional_labels: File and line of `classes` if the utterance is of use without them: such
            that are not as many as its frames are then left out with a warning.
    """

    recording_id: str
    split: str
    feature_path: Path | None = None
    audio_path: Path | None = None
    alignment_path: Path | None = None
    classes: npt.NDArray[np.uint8] | None = field(default=None, repr=False)
    optional_labels: str = ""

    @property
    def source_path(self) -> Path:
        """The file that its frames are made from."""
        path = self.feature_path or self.audio_path
        if path is None:
            raise ValueError(f"{self.recording_id} has neither features nor audio")
        return path

    @property
    def speaker(self) -> str:
        """Who speaks, by the id `<speaker>-<chapter>-<number>`; empty where it is another."""
        return speaker_and_chapter(self.recording_id)[0]

    @property
    def chapter(self) -> str:
        """What is read, by the id; empty where it does not say."""
        return speaker_and_chapter(self.recording_id)[1]


@dataclass(frozen=True)
class CorpusReading:
    """A corpus folder whose lists were read.

    Attributes:
        layout: The layout that was found.
        utterances: Those whose files are all there, in the order of the corpus.
        failures: Those left out, with the reason.
        warnings: Oddities, one sentence each.
        classes: Names of the classes.
        drawn: Splits that were drawn here, not given by the corpus.
        lists: Ids of the corpus's own lists (train, test) in their order, those left out among
            them; empty where it has none.
    """

    layout: Layout
    utterances: tuple[Utterance, ...]
    failures: tuple[tuple[str, CorpusError], ...]
    warnings: tuple[str, ...]
    classes: PhoneClasses
    drawn: tuple[str, ...]
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def order(self, split: str) -> tuple[str, ...]:
        """Return the ids of a split in the order of the corpus: of its list, if it has one.

        A list (train) may hold utterances of another split (validation), which keep their places.
        """
        if split in self.lists:
            return self.lists[split]
        return tuple(one.recording_id for one in self.utterances if one.split == split)


def list_positions(reading: CorpusReading) -> dict[str, int]:
    """Return the place of every utterance in its list, or in its split where there are no lists."""
    splits = tuple(dict.fromkeys(one.split for one in reading.utterances))
    return {
        name: place
        for part in reading.lists or splits
        for place, name in enumerate(reading.order(part))
    }


def speaker_and_chapter(recording_id: str) -> tuple[str, str]:
    """Return speaker and chapter of an id in LibriSpeech's form; both empty for another form."""
    match = _LIBRISPEECH_ID.fullmatch(recording_id)
    return (match["speaker"], match["chapter"]) if match else ("", "")


def refuse_missing(where: Path, missing: Sequence[tuple[str, CorpusError]], n_all: int) -> None:
    """Refuse a corpus of which parts are missing: the first are named, all of many in the log.

    Raises:
        CorpusError: `missing` is not empty.
    """
    if not missing:
        return
    lost = [f"{name}: {error.problem} ({error.where})" for name, error in missing]
    names = some_of(lost, separator="; ", log=logger)
    raise CorpusError(
        where,
        f"{len({name for name, _ in missing})} of {n_all} utterances lack a part: {names}",
        "Restore them, or go on without them: librispeech.missing=quarantine",
    )


def folder_exists(path: Path) -> bool:
    """Tell whether a folder is there; one that cannot be looked at (no permission) is not."""
    try:
        return path.is_dir()
    except OSError:
        return False


def name_some(names: Iterable[str]) -> str:
    """Return the first few names, in order, with dots where there are more."""
    listed = sorted(names)
    return ", ".join(listed[:N_NAMES_SHOWN]) + (", ..." if len(listed) > N_NAMES_SHOWN else "")
