"""Pieces scored file against file, in several processes where that is sooner done."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.parallel import LOCAL, Failure, ParallelConfig, map_items
from amt_pipeline.transcription.matching import ONSET_TOLERANCE_S
from amt_pipeline.transcription.note_files import MIDI_SUFFIXES, read_notes
from amt_pipeline.transcription.note_table import read_note_table
from amt_pipeline.transcription.scoring import NoteScore, score_notes

PROCESSES_PAY_S = 5.0
"""Work, in CPU seconds, from which on processes (a second or two to start) are sooner done."""

TEXT_S_PER_BYTE, MIDI_S_PER_BYTE = 2e-7, 2.5e-6
"""CPU seconds to read and match notes, per byte of their files (measured; text and note tables)."""

TABLE_SUFFIX = ".parquet"

Piece = tuple[str, Path, Path]
"""Name, file of the truth, file of the transcription."""


def score_pieces(
    pieces: Sequence[Piece],
    *,
    onset_tolerance_s: float = ONSET_TOLERANCE_S,
    with_offsets: bool = False,
    parallel: ParallelConfig = LOCAL,
    shared: Sequence[Path] = (),
) -> list[tuple[str, NoteScore]]:
    """Score transcriptions against the truth, all of them or none; see `score_readable_pieces`.

    Raises:
        UserError: A file cannot be read (a mean over the others would pass for the score of all).
    """
    scores, failures = score_readable_pieces(
        pieces,
        onset_tolerance_s=onset_tolerance_s,
        with_offsets=with_offsets,
        parallel=parallel,
        shared=shared,
    )
    for error in failures.values():
        raise error
    return scores


def score_readable_pieces(
    pieces: Sequence[Piece],
    *,
    onset_tolerance_s: float = ONSET_TOLERANCE_S,
    with_offsets: bool = False,
    parallel: ParallelConfig = LOCAL,
    shared: Sequence[Path] = (),
) -> tuple[list[tuple[str, NoteScore]], dict[str, UserError]]:
    """Score transcriptions against the truth, where both files can be read.

    Args:
        pieces: What to score; files are note tables (`.parquet`), MIDI or text.
        onset_tolerance_s: See `score_notes`.
        with_offsets: See `score_notes`.
        parallel: Where pieces are worked on. Unless it names a number of workers, this process
            does little work (`PROCESSES_PAY_S`) itself.
        shared: Folders the files lie in, for a cluster; see `core.parallel.map_items`.

    Returns:
        Names and scores, and what is wrong with the others by name; both in the order of `pieces`
        whatever order they finished in.
    """
    if parallel.workers is None and _estimated_s(pieces) < PROCESSES_PAY_S:
        parallel = parallel.inline()
    score = partial(_score_piece, onset_tolerance_s=onset_tolerance_s, with_offsets=with_offsets)
    found: dict[Piece, NoteScore | UserError] = {}
    for piece, outcome in map_items(
        score, pieces, label="Score notes", unit="piece", parallel=parallel, shared=shared
    ):
        found[piece] = outcome.error if isinstance(outcome, Failure) else outcome
    scores, failures = [], {}
    for piece in pieces:
        result = found[piece]
        if isinstance(result, UserError):
            failures[piece[0]] = result
        else:
            scores.append((piece[0], result))
    return scores, failures


def _estimated_s(pieces: Sequence[Piece]) -> float:
    """Return about how long scoring takes; a file that is missing is found out when it is read."""
    return sum(
        path.stat().st_size
        * (MIDI_S_PER_BYTE if path.suffix.lower() in MIDI_SUFFIXES else TEXT_S_PER_BYTE)
        for _, *paths in pieces
        for path in paths
        if path.is_file()
    )


def _score_piece(piece: Piece, *, onset_tolerance_s: float, with_offsets: bool) -> NoteScore:
    _, truth, transcription = piece
    read = read_note_table if truth.suffix == TABLE_SUFFIX else read_notes
    return score_notes(
        read(truth),
        read_notes(transcription),
        onset_tolerance_s=onset_tolerance_s,
        with_offsets=with_offsets,
    )
