"""`TranscriptionsDataset`: a folder of transcribed pieces."""

from __future__ import annotations

import html
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from kedro_datasets._typing import HTMLPreview

from amt_pipeline.core.files import write_json
from amt_pipeline.datasets import listening
from amt_pipeline.datasets.base import DatasetUserError, FileDataset
from amt_pipeline.datasets.text import as_page

if TYPE_CHECKING:
    from amt_pipeline.transcription.notes import Notes

INDEX_NAME = "index.json"
SUFFIXES = (".res", ".mid")
TAIL_S = 1.0


class TranscriptionsDataset(FileDataset[Mapping[str, Any], Path]):
    """Note files `<id>.res` and `<id>.mid`, with `index.json` as the mark that all are there.

    The node writes the pieces one by one, each durable on its own, and returns the index; saving it
    completes the folder. Loads as the folder's path.

    Args:
        filepath: The folder.
        metadata: For Kedro-Viz; `preview_args: {recording_id: ...}` chooses the piece.
    """

    def __init__(
        self, *, filepath: str | PathLike[str], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)

    def load(self) -> Path:
        """Return the folder.

        Raises:
            DatasetUserError: It is missing or not complete.
        """
        if not self._exists():
            raise DatasetUserError(
                self._filepath,
                f"not a complete folder of transcriptions ({INDEX_NAME} is missing)",
                "Run the pipeline `transcribe`",
            )
        return self._filepath

    def preview(
        self, recording_id: str | None = None, seconds: float = listening.CLIP_S
    ) -> HTMLPreview:
        """Show and play the first seconds of one transcribed piece.

        Args:
            recording_id: Which one; None is the first by name.
            seconds: Length of the clip.
        """
        return self._safe_preview(
            lambda: HTMLPreview(self._page(recording_id, seconds)),
            lambda text: HTMLPreview(as_page(text)),
        )

    def _page(self, recording_id: str | None, seconds: float) -> str:
        from amt_pipeline.transcription.note_files import read_notes

        pieces = sorted({p.stem for p in self._filepath.iterdir() if p.suffix in SUFFIXES})
        parts = [listening.table_element([("pieces", str(len(pieces)))])]
        name = recording_id or (pieces[0] if pieces else None)
        if name is not None:
            paths = [self._filepath / f"{name}{suffix}" for suffix in SUFFIXES]
            notes = read_notes(next((path for path in paths if path.is_file()), paths[0]))
            start_s = listening.clip_start_s(notes)
            end_s = start_s + seconds
            caption = f"{name}, {len(notes)} notes, {start_s:.1f} to {end_s:.1f} s"
            parts += [f"<p>{html.escape(caption)}</p>", _player(notes, start_s, end_s)]
            parts.append(listening.roll_element(notes, start_s, end_s))
        return "\n".join(parts)

    def _read(self, path: Path) -> Path:
        return path

    def _write(self, path: Path, data: Mapping[str, Any]) -> None:
        write_json(path / INDEX_NAME, data)

    def _exists(self) -> bool:
        return (self._filepath / INDEX_NAME).is_file()


def _player(notes: Notes, start_s: float, end_s: float) -> str:
    shown = notes.within(start_s, end_s)
    if not len(shown):
        return ""
    try:
        from amt_pipeline.audio.render import render_notes

        sound = render_notes(
            shown.onset_s - start_s,
            np.minimum(shown.offset_s, end_s) - start_s,
            shown.pitch,
            shown.velocity,
            program=0,
            sample_rate=listening.CLIP_RATE_HZ,
            tail_s=TAIL_S,
        )
    except Exception as error:  # no soundfont, no synthesizer: the roll alone says enough
        return f"<p>not played: {html.escape(str(error))}</p>"
    return listening.audio_element(sound.mean(axis=1))
