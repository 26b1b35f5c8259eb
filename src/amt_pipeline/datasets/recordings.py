"""`RecordingsDataset`: the manifest of a corpus, which can be heard and seen."""

from __future__ import annotations

import html
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro_datasets._typing import HTMLPreview

from amt_pipeline.core.errors import UserError
from amt_pipeline.datasets import listening
from amt_pipeline.datasets.base import FileDataset
from amt_pipeline.datasets.table import read_table, require_table_suffix, write_table
from amt_pipeline.datasets.text import as_page

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.transcription.notes import Notes


class RecordingsDataset(FileDataset["pd.DataFrame", "pd.DataFrame"]):
    """A manifest table, one row per recording; its preview plays one of them.

    Args:
        filepath: The manifest, `.parquet` or `.csv`, with `recording_id` and, to be heard,
            `audio_path`.
        notes: `{path: <folder>}` of the note tables `<recording_id>.parquet`, for the piano roll. A
            mapping, because Kedro makes only keys of certain names absolute, and `path` is one.
        metadata: For Kedro-Viz; `preview_args: {recording_id: ...}` chooses the recording.

    Raises:
        ConfigError: Another suffix.
    """

    def __init__(
        self,
        *,
        filepath: str | PathLike[str],
        notes: Mapping[str, str] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        require_table_suffix(self._filepath)
        self._notes_folder = Path(notes["path"]) if notes else None

    def preview(
        self, recording_id: str | None = None, seconds: float = listening.CLIP_S
    ) -> HTMLPreview:
        """Show the size of the corpus, and a few seconds of one recording with its notes.

        Args:
            recording_id: Which one; None is the first whose audio is there.
            seconds: Length of the clip.
        """
        return self._safe_preview(
            lambda: HTMLPreview(self._page(recording_id, seconds)),
            lambda text: HTMLPreview(as_page(text)),
        )

    def _page(self, recording_id: str | None, seconds: float) -> str:
        table = read_table(self._filepath)
        parts = [listening.table_element(_size(table))]
        row = _choose(table, recording_id)
        if row is not None:
            name = str(row["recording_id"])
            notes = self._notes(name)
            start_s = listening.clip_start_s(notes)
            clip = listening.read_clip(row["audio_path"], start_s, seconds)
            caption = f"{name}, {start_s:.1f} to {start_s + seconds:.1f} s"
            parts += [f"<p>{html.escape(caption)}</p>", listening.audio_element(clip)]
            if notes is not None:
                parts.append(listening.roll_element(notes, start_s, start_s + seconds))
        return "\n".join(parts)

    def _notes(self, name: str) -> Notes | None:
        from amt_pipeline.transcription.note_table import read_note_table

        if self._notes_folder is None:
            return None
        try:
            return read_note_table(self._notes_folder / f"{name}.parquet")
        except UserError:  # the sound alone is still worth showing
            return None

    def _read(self, path: Path) -> pd.DataFrame:
        return read_table(path)

    def _write(self, path: Path, data: pd.DataFrame) -> None:
        write_table(path, data)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "notes": self._notes_folder}


def _size(table: pd.DataFrame) -> list[tuple[str, str]]:
    rows = [("recordings", str(len(table)))]
    if "split" in table:
        counts = table["split"].value_counts(sort=False)
        rows += [(str(split), str(count)) for split, count in counts.items()]
    if "duration_s" in table:
        rows.append(("hours", f"{table['duration_s'].sum() / 3600:.2f}"))
    return rows


def _choose(table: pd.DataFrame, recording_id: str | None) -> pd.Series[Any] | None:
    if "audio_path" not in table:
        return None
    for _, row in table.iterrows():
        if recording_id in (None, row["recording_id"]) and Path(str(row["audio_path"])).is_file():
            return row
    return None
