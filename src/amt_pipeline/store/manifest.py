"""The manifest: one row per recording, one schema for all corpora; and the quarantine beside it.

Columns that every manifest has: `recording_id`, `split` (train, validation or test), `duration_s`,
and at least one of `audio_path`, `midi_path`, `feature_path`. Paths are absolute: workers may start
in any folder. Each may have its content hash (`audio_sha256`, ...), which is empty until the bytes
have been read. Corpus columns follow, among them `composer` and `title` where pieces are known.

A manifest is checked when it is made, and everything wrong with it is told at once. Recordings that
cannot be read later on leave it for the quarantine table, which says why and what to do.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amt_pipeline.core.errors import CorpusError, UserError
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.wording import some_of

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
REQUIRED_COLUMNS = ("recording_id", "split", "duration_s")
PATH_COLUMNS = ("audio_path", "midi_path", "feature_path")
HASH_COLUMNS = ("audio_sha256", "midi_sha256", "feature_sha256")
LABEL_HASH_COLUMN = "label_sha256"
"""Part of the fingerprint, but no sign of leakage: two utterances may have the same labels."""
SPEAKER_COLUMN = "speaker"
PIECE_COLUMNS = ("composer", "title")
QUARANTINE_COLUMNS = ("recording_id", "path", "reason", "remedy")

N_REASONS_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Manifest:
    """A manifest that was checked. Make one with `from_frame`.

    Attributes:
        frame: The table, sorted by `recording_id`.
    """

    frame: pd.DataFrame

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        where: str | PathLike[str] = "manifest",
        allow_shared_pieces: bool = False,
        allow_shared_speakers: bool = True,
    ) -> Manifest:
        """Check a table (see `validate_manifest`) and sort it by recording.

        Raises:
            CorpusError: The table breaks the contract.
        """
        validate_manifest(
            frame,
            where=where,
            allow_shared_pieces=allow_shared_pieces,
            allow_shared_speakers=allow_shared_speakers,
        )
        return cls(frame.sort_values("recording_id", ignore_index=True))

    def split(self, name: str) -> pd.DataFrame:
        """Return the rows of one split, sorted by recording; they may be none.

        Raises:
            ValueError: There is no such split.
        """
        if name not in SPLITS:
            raise ValueError(f"split {name!r} is none of {', '.join(SPLITS)}")
        return self.frame[self.frame["split"] == name].reset_index(drop=True)

    def fingerprint(self) -> str:
        """Return the data fingerprint of this manifest, see `fingerprint`."""
        return fingerprint(self.frame)

    def __len__(self) -> int:
        return len(self.frame)


def validate_manifest(
    frame: pd.DataFrame,
    *,
    where: str | PathLike[str] = "manifest",
    allow_shared_pieces: bool = False,
    allow_shared_speakers: bool = True,
) -> None:
    """Check that a table is a manifest that can be trained and scored on.

    Ids are unique, splits known, durations positive, files exist, and nothing is in two splits: no
    file, no content hash, and (unless allowed) no piece, that is no pair of composer and title, and
    no speaker.

    Args:
        frame: The table.
        where: The file or corpus that errors name.
        allow_shared_pieces: Accept performances of one piece in two splits.
        allow_shared_speakers: Accept utterances of one speaker in two splits, as corpora that are
            split by utterance have them.

    Raises:
        CorpusError: Names everything that is wrong; of very much the first, and the log has all.
    """
    missing = [name for name in REQUIRED_COLUMNS if name not in frame.columns]
    path_columns = [name for name in PATH_COLUMNS if name in frame.columns]
    if not path_columns:
        missing.append(" or ".join(PATH_COLUMNS))
    if missing:
        raise CorpusError(where, f"the manifest lacks the columns {', '.join(missing)}")
    if frame.empty:
        raise CorpusError(where, "the corpus is empty", "A manifest needs at least one recording")
    problems = [*_row_problems(frame), *_missing_files(frame, path_columns)]
    for column in (*path_columns, *HASH_COLUMNS):
        if column in frame.columns:
            problems += _shared(frame, _texts(frame, column), f"the same {column}")
    remedy = "Nothing was started; correct the rows named"
    if not allow_shared_pieces and all(name in frame.columns for name in PIECE_COLUMNS):
        pieces = _shared(frame, _pieces(frame), "the piece")
        problems += pieces
        if pieces:
            remedy += ", or allow it: ingest.allow_shared_pieces=true"
    if not allow_shared_speakers and SPEAKER_COLUMN in frame.columns:
        problems += _shared(frame, _texts(frame, SPEAKER_COLUMN), "the speaker")
    if problems:
        raise CorpusError(where, some_of(problems, separator="; ", log=logger), remedy)


def fingerprint(frame: pd.DataFrame) -> str:
    """Return the data fingerprint of a run: a SHA-256 over ids, splits and content hashes.

    Neither the order of the rows nor where the files lie matters, so the same corpus on another
    machine has the same fingerprint. A row without hashes counts by its id and split alone.
    """
    hashes = (*HASH_COLUMNS, LABEL_HASH_COLUMN)
    columns = ["recording_id", "split", *(c for c in hashes if c in frame.columns)]
    rows = zip(*(_texts(frame, column) for column in columns), strict=True)
    return value_sha256([columns, sorted(map(list, rows))])


def file_exists(path: str | PathLike[str]) -> bool:
    """Tell whether a file is there; one that cannot be looked at (no permission) is not."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def quarantine_table(failures: Iterable[tuple[str, UserError]]) -> pd.DataFrame:
    """Return the table of recordings that could not be used, sorted by recording.

    Args:
        failures: Recording id and what was wrong with it.

    Returns:
        A table with the columns `QUARANTINE_COLUMNS`; empty, with these columns, if all went well.
    """
    import pandas as pd

    rows = [(name, error.where, error.problem, error.remedy) for name, error in failures]
    table = pd.DataFrame(sorted(rows), columns=list(QUARANTINE_COLUMNS))
    return table.astype(str)


def check_bad_fraction(
    n_bad: int,
    n_all: int,
    max_bad_fraction: float,
    *,
    reasons: Sequence[str] = (),
    where: str | PathLike[str] = "corpus",
    parameter: str = "ingest.max_bad_fraction",
    noun: str = "recordings",
) -> None:
    """Stop when too many recordings were quarantined, or when none is left.

    Args:
        n_bad: Recordings in quarantine.
        n_all: Recordings altogether.
        max_bad_fraction: Largest share that may be bad, 0-1.
        reasons: Why they are bad, in words; the first few are shown.
        where: The corpus that the error names.
        parameter: The setting of `max_bad_fraction` that the error names.
        noun: What the system calls them.

    Raises:
        CorpusError: More than `max_bad_fraction` of the recordings are bad, or all are.
    """
    if n_bad == 0 or (n_bad <= max_bad_fraction * n_all and n_bad < n_all):
        return
    shown = "; ".join(reasons[:N_REASONS_SHOWN])
    rest = len(reasons) - N_REASONS_SHOWN
    tail = f": {shown}" + (f"; and {rest} more" if rest > 0 else "") if shown else ""
    raise CorpusError(
        where,
        f"{n_bad} of {n_all} {noun} cannot be used, at most {max_bad_fraction:.1%} may{tail}",
        f"See the log, which names them all; repair the files, or raise {parameter}",
    )


def _texts(frame: pd.DataFrame, column: str) -> list[str]:
    values = frame[column].astype(object)
    return [str(value) for value in values.where(values.notna(), "")]


def _row_problems(frame: pd.DataFrame) -> list[str]:
    problems = []
    ids = _texts(frame, "recording_id")
    twice = sorted(name for name, count in Counter(ids).items() if count > 1)
    if twice:
        problems.append(f"recording_id more than once: {_some(twice, 'id twice: ')}")
    if "" in ids:
        problems.append("a recording_id is empty")
    unknown = [
        f"{split!r} ({name})"
        for name, split in zip(ids, frame["split"], strict=True)
        if split not in SPLITS
    ]
    if unknown:
        known = ", ".join(SPLITS)
        problems.append(f"split is none of {known}: {_some(unknown, 'unknown split: ')}")
    durations = zip(ids, frame["duration_s"], strict=True)
    wrong = [f"{value} ({name})" for name, value in durations if not _is_positive(value)]
    if wrong:
        problems.append(f"duration_s is not a number above 0: {_some(wrong, 'duration: ')}")
    return problems


def _some(items: list[str], what: str) -> str:
    return some_of(items, log=logger, what=what)


def _is_positive(value: object) -> bool:
    try:
        return isinstance(value, (int, float, np.number)) and 0 < float(value) < math.inf
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _missing_files(frame: pd.DataFrame, columns: list[str]) -> list[str]:
    rows = list(zip(*(_texts(frame, column) for column in columns), strict=True))
    absent = [path for row in rows for path in row if path and not file_exists(path)]
    problems = [f"no such file: {_some(absent, 'no such file: ')}"] if absent else []
    ids = _texts(frame, "recording_id")
    without = [name for name, row in zip(ids, rows, strict=True) if not any(row)]
    if without:
        problems.append(f"no file at all for {_some(without, 'no file at all for ')}")
    return problems


def _pieces(frame: pd.DataFrame) -> list[str]:
    pairs = zip(*(_texts(frame, column) for column in PIECE_COLUMNS), strict=True)
    return [
        f"{composer.strip()}, {title.strip()}" if title.strip() else "" for composer, title in pairs
    ]


def _shared(frame: pd.DataFrame, keys: list[str], what: str) -> list[str]:
    """Return one problem per non-empty key that occurs in two splits."""
    members: dict[str, list[tuple[str, str]]] = {}
    for key, split, name in zip(keys, frame["split"], _texts(frame, "recording_id"), strict=True):
        if key:
            members.setdefault(key, []).append((str(split), name))
    return [
        f"{what} in two splits (leakage): {key} is in "
        + _some([f"{split} ({name})" for split, name in rows], f"{key} is in ")
        for key, rows in members.items()
        if len({split for split, _ in rows}) > 1
    ]
