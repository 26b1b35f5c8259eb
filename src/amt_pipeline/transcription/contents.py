"""Whether what is stored of a recording was made from the files that the manifest names.

Frames and note tables are written recording by recording, the manifest at the end: an ingestion
that was stopped, or that replaced a file, leaves them apart. Only recorded hashes are compared; no
file is hashed, so this costs next to nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import StoreError, UserError
from amt_pipeline.core.files import read_json
from amt_pipeline.store.frames import FrameStore

if TYPE_CHECKING:
    import pandas as pd

N_SHOWN = 3
REMEDY = "Run `kedro run --pipelines ingest_maestro` again; it redoes only what changed"


def check_frames(rows: pd.DataFrame, store_folder: Path) -> None:
    """Check that stored frames were made from the manifest's audio.

    Args:
        rows: The recordings in use, as rows of the manifest.
        store_folder: The FrameStore.

    Raises:
        StoreError: A recording is not in the store, or its frames are of other audio.
    """
    store = FrameStore.open(store_folder)
    stored = {name: store.entry(name).content_sha256 for name in rows["recording_id"]}
    _compare(rows, "audio_sha256", stored, store_folder)


def check_notes(rows: pd.DataFrame, notes_folder: Path) -> None:
    """Check that note tables were made from the manifest's MIDI.

    Args:
        rows: The recordings in use, as rows of the manifest.
        notes_folder: Note tables `<id>.parquet`, each with its facts `<id>.json`.

    Raises:
        StoreError: A note table is not complete, or of other MIDI.
    """
    stored = {name: _midi_sha256(notes_folder / f"{name}.json") for name in rows["recording_id"]}
    _compare(rows, "midi_sha256", stored, notes_folder)


def _midi_sha256(facts_path: Path) -> str:
    try:
        return str(read_json(facts_path)["midi_sha256"])
    except (UserError, KeyError, TypeError) as error:
        raise StoreError(
            facts_path, "does not say what its notes were made from", REMEDY
        ) from error


def _compare(rows: pd.DataFrame, column: str, stored: dict[str, str], where: Path) -> None:
    listed = zip(rows["recording_id"], rows[column], strict=True)
    other = [name for name, digest in listed if stored[name] != digest]
    if other:
        raise StoreError(
            where,
            f"{len(other)} recordings were made from other files than the manifest lists "
            f"({', '.join(other[:N_SHOWN])})",
            REMEDY,
        )
