"""Scores of a transcribed split against the notes of its MIDI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import MissingPredecessorError
from amt_pipeline.transcription.note_files import read_notes
from amt_pipeline.transcription.note_table import read_note_table
from amt_pipeline.transcription.parameters import ScoringConfig
from amt_pipeline.transcription.scoring import score_notes, summarise

if TYPE_CHECKING:
    import pandas as pd


def score_split(
    transcripts: Path, notes_folder: Path, recordings: Sequence[str], config: ScoringConfig
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return scores per piece and their summary; see `scoring.summarise`.

    Args:
        transcripts: Folder of `<id>.res`.
        notes_folder: Folder of note tables, made from the corpus's MIDI.
        recordings: Which pieces.
        config: Tolerance.

    Raises:
        MissingPredecessorError: A piece was not transcribed.
        UserError: There is no piece.
    """
    missing = [name for name in recordings if not (transcripts / f"{name}.res").is_file()]
    if missing:
        raise MissingPredecessorError(
            transcripts,
            f"lacks the transcription of {len(missing)} test pieces ({', '.join(missing[:3])})",
            "Run `kedro run --pipelines transcribe`",
        )
    scores = [
        (
            name,
            score_notes(
                read_note_table(notes_folder / f"{name}.parquet"),
                read_notes(transcripts / f"{name}.res"),
                onset_tolerance_s=config.onset_tolerance_s,
            ),
        )
        for name in recordings
    ]
    return summarise(scores)
