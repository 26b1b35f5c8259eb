"""Scores of a transcribed split against the notes of its MIDI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import MissingPredecessorError
from amt_pipeline.core.parallel import LOCAL, ParallelConfig
from amt_pipeline.transcription.piece_scoring import TABLE_SUFFIX, score_pieces
from amt_pipeline.transcription.scoring import summarise

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.transcription.parameters import ScoringConfig


def score_split(
    transcripts: Path,
    notes_folder: Path,
    recordings: Sequence[str],
    config: ScoringConfig,
    parallel: ParallelConfig = LOCAL,
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return scores per piece and their summary; see `scoring.summarise`.

    Args:
        transcripts: Folder of `<id>.res`.
        notes_folder: Folder of note tables, made from the corpus's MIDI.
        recordings: Which pieces.
        config: Tolerance.
        parallel: Where pieces are worked on; see `score_pieces`.

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
    pieces = [
        (name, notes_folder / f"{name}{TABLE_SUFFIX}", transcripts / f"{name}.res")
        for name in recordings
    ]
    return summarise(
        score_pieces(
            pieces,
            onset_tolerance_s=config.onset_tolerance_s,
            parallel=parallel,
            shared=(transcripts, notes_folder),
        )
    )
