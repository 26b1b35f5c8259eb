"""Note tables on disk: the notes of one recording as a parquet file."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from amt_pipeline.core.errors import StoreError
from amt_pipeline.core.files import atomic_path
from amt_pipeline.store.tables import read_parquet
from amt_pipeline.transcription.notes import Notes


def write_note_table(path: str | PathLike[str], notes: Notes) -> None:
    """Write notes as parquet with columns onset_s, offset_s, pitch, velocity; atomic."""
    with atomic_path(path) as temporary:
        notes.to_frame().to_parquet(temporary, index=False)


def read_note_table(path: str | PathLike[str]) -> Notes:
    """Read a note table.

    Raises:
        StoreError: The file is missing or damaged.
    """
    remedy = "Run the ingest pipeline again; it redoes only what is missing"
    if not Path(path).is_file():
        raise StoreError(path, "no such note table", remedy)
    remedy = f"Delete it. {remedy}"
    try:
        return Notes.from_frame(read_parquet(path, remedy))
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreError(path, f"cannot be read ({error})", remedy) from error
