"""Pictures of one piece: which one, what became of its notes, what is needed to draw it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from amt_pipeline.core.errors import MidiError, StoreError
from amt_pipeline.transcription.note_files import write_res
from amt_pipeline.transcription.note_table import write_note_table
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.pictures import draw_piece, match, median_piece
from amt_pipeline.transcription.probabilities import Probabilities, write_probabilities

TRUTH = Notes.from_arrays([0.5, 1.0, 1.5, 2.0], [0.9, 1.4, 1.9, 2.4], [60, 62, 64, 65])
# A hit, a hit that is late, a wrong key; one note is missed altogether.
FOUND = Notes.from_arrays([0.5, 1.04, 1.5], [0.6, 1.14, 1.6], [60, 62, 70])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Transcripts and note tables of one piece."""
    write_note_table(tmp_path / "notes" / "one.parquet", TRUTH)
    write_res(tmp_path / "out" / "one.res", FOUND)
    rng = np.random.default_rng(0)
    onset, pitch = rng.random(200).astype(np.float32), rng.random((200, 88)).astype(np.float32)
    said = Probabilities(onset, pitch, onset > 0.5, 0.016)
    write_probabilities(tmp_path / "out" / "probabilities" / "one.npz", said)
    return tmp_path / "out", tmp_path / "notes"


@pytest.mark.parametrize(
    ("scores", "piece"),
    [
        ({"a": 0.9, "b": 0.1, "c": 0.5}, "c"),
        ({"a": 0.5, "c": 0.5, "b": 0.5}, "b"),
        ({"only": 0.3}, "only"),
        ({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, "c"),
    ],
)
def test_piece_in_the_middle_is_shown(scores: dict[str, float], piece: str) -> None:
    table = pd.DataFrame({"recording_id": list(scores), "f1": list(scores.values())})
    assert median_piece(table) == piece


def test_notes_are_hit_missed_or_invented() -> None:
    matched = match(TRUTH, FOUND, 0.05)
    assert matched.reference_hit.tolist() == [True, True, False, False]
    assert matched.estimate_false.tolist() == [False, False, True]
    assert matched.estimate_pitch.tolist() == [60, 62, 70]
    strict = match(TRUTH, FOUND, 0.03)
    assert strict.reference_hit.tolist() == [True, False, False, False]


def test_piece_is_drawn_three_times(folders: tuple[Path, Path]) -> None:
    pictures = draw_piece("one", *folders, 0.05)
    assert isinstance(pictures.roll, Figure)
    assert isinstance(pictures.posterior, Figure)
    drawn = "".join(text.get_text() for ax in pictures.roll.axes for text in ax.texts)
    titles = drawn + "".join(ax.get_title(loc="left") for ax in pictures.roll.axes)
    assert "one" in titles or "one" in (pictures.roll.get_suptitle() or "")
    shown = {trace.name: len(trace.x) for trace in pictures.figure.data if trace.name}
    assert len(shown) >= 3
    again = draw_piece("one", *folders, 0.03)
    assert {t.name: list(t.x) for t in again.figure.data} != {
        t.name: list(t.x) for t in pictures.figure.data
    }


def test_what_is_missing_is_named(folders: tuple[Path, Path]) -> None:
    transcripts, notes = folders
    (transcripts / "probabilities" / "one.npz").unlink()
    pictures = draw_piece("one", transcripts, notes, 0.05)
    (words,) = (text.get_text() for text in pictures.posterior.texts)
    assert words.startswith("one\nThe networks' outputs were not kept")
    (transcripts / "one.res").unlink()
    with pytest.raises(MidiError, match=r"one\.res"):
        draw_piece("one", transcripts, notes, 0.05)
    with pytest.raises(StoreError, match="no such note table"):
        draw_piece("two", transcripts, notes, 0.05)
