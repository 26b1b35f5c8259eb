"""Whether frames and note tables were made from the files that the manifest names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import StoreError, UserError
from amt_pipeline.core.files import read_json
from amt_pipeline.store import contents

if TYPE_CHECKING:
    import pandas as pd

PIPELINE = "ingest_maestro"


def check_frames(rows: pd.DataFrame, store_folder: Path) -> None:
    """Check that stored frames were made from the manifest's audio; see `store.contents`.

    Args:
        rows: The recordings in use, as rows of the manifest.
        store_folder: The FrameStore.

    Raises:
        StoreError: A recording is not in the store, or its frames are of other audio.
    """
    contents.check_frames(rows, store_folder, "audio_sha256", PIPELINE)


def check_notes(rows: pd.DataFrame, notes_folder: Path) -> None:
    """Check that note tables were made from the manifest's MIDI.

    Args:
        rows: The recordings in use, as rows of the manifest.
        notes_folder: Note tables `<id>.parquet`, each with its facts `<id>.json`.

    Raises:
        StoreError: A note table is not complete, or of other MIDI.
    """
    stored = {name: _midi_sha256(notes_folder / f"{name}.json") for name in rows["recording_id"]}
    contents.compare_hashes(rows, "midi_sha256", stored, notes_folder, PIPELINE)


def _midi_sha256(facts_path: Path) -> str:
    try:
        return str(read_json(facts_path)["midi_sha256"])
    except (UserError, KeyError, TypeError) as error:
        raise StoreError(
            facts_path, "does not say what its notes were made from", contents.again(PIPELINE)
        ) from error
