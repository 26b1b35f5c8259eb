"""Pictures of one transcribed piece: what was hit, missed and invented, and what the nets said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amt_pipeline.transcription.note_files import read_notes
from amt_pipeline.transcription.note_table import read_note_table
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.probabilities import PROBABILITIES_FOLDER, read_probabilities
from amt_pipeline.transcription.scoring import classify_notes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from amt_pipeline.reporting.piano_roll import MatchedNotes


@dataclass(frozen=True)
class PiecePictures:
    """Pictures of one piece.

    Attributes:
        roll: Piano roll of a typical excerpt (matplotlib).
        figure: Interactive piano roll of the whole piece (plotly).
        posterior: The networks' outputs over the same excerpt, or words that they were not kept
            (matplotlib).
    """

    roll: Figure
    figure: Any
    posterior: Figure


def median_piece(note_scores: pd.DataFrame) -> str:
    """Return the id of the piece with the median F1: neither the proudest nor the worst."""
    ordered = note_scores.sort_values(["f1", "recording_id"])["recording_id"].tolist()
    return str(ordered[len(ordered) // 2])


def match(reference: Notes, estimate: Notes, onset_tolerance_s: float) -> MatchedNotes:
    """Return both note lists with what became of each note."""
    from amt_pipeline.reporting.piano_roll import MatchedNotes

    classes = classify_notes(reference, estimate, onset_tolerance_s=onset_tolerance_s)
    hit = np.zeros(len(reference), bool)
    hit[classes.hit_reference] = True
    false = np.zeros(len(estimate), bool)
    false[classes.false_alarms] = True
    return MatchedNotes(
        reference_onset_s=reference.onset_s,
        reference_offset_s=reference.offset_s,
        reference_pitch=reference.pitch,
        reference_hit=hit,
        estimate_onset_s=estimate.onset_s,
        estimate_pitch=estimate.pitch,
        estimate_false=false,
    )


def draw_piece(
    name: str, transcripts: Path, notes_folder: Path, onset_tolerance_s: float
) -> PiecePictures:
    """Return the pictures of a transcribed piece.

    Raises:
        UserError: The transcription or its reference is missing; the networks' outputs may be.
    """
    from amt_pipeline.reporting.piano_roll import piano_roll_image, typical_excerpt_s
    from amt_pipeline.reporting.piano_roll_interactive import piano_roll_figure

    reference = read_note_table(notes_folder / f"{name}.parquet")
    matched = match(reference, read_notes(transcripts / f"{name}.res"), onset_tolerance_s)
    probabilities = transcripts / PROBABILITIES_FOLDER / f"{name}.npz"
    start_s = typical_excerpt_s(matched)
    return PiecePictures(
        roll=piano_roll_image(
            matched, title=name, start_s=start_s, onset_tolerance_s=onset_tolerance_s
        ),
        figure=piano_roll_figure(matched, title=name, onset_tolerance_s=onset_tolerance_s),
        posterior=_draw_outputs(name, probabilities, reference, start_s),
    )


def _draw_outputs(name: str, path: Path, reference: Notes, start_s: float) -> Figure:
    """Draw the networks' outputs, or say in their place that they were not kept."""
    from amt_pipeline.reporting import style
    from amt_pipeline.reporting.posterior import posterior_image

    if not path.is_file():
        figure = style.new_figure(9.0, 1.2)
        text = f"{name}\nThe networks' outputs were not kept (transcribe.save_probabilities=false)"
        figure.text(0.5, 0.5, text, ha="center", va="center", color=style.INK)
        return figure
    said = read_probabilities(path)
    return posterior_image(
        said.onset,
        said.pitch,
        said.seconds_per_frame,
        evaluated=said.evaluated,
        reference_onset_s=reference.onset_s,
        reference_pitch=reference.pitch,
        title=name,
        start_s=start_s,
    )
