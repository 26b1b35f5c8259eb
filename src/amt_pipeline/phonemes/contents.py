"""Whether stored frames and labels of utterances are those of the manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import StoreError
from amt_pipeline.phonemes.label_store import label_indexes
from amt_pipeline.store import contents
from amt_pipeline.store.manifest import LABEL_HASH_COLUMN

if TYPE_CHECKING:
    import pandas as pd

PIPELINE = "ingest_librispeech"
NOUN = "utterances"


def check_frames(rows: pd.DataFrame, frames_folder: Path) -> None:
    """Check that stored frames were made from the manifest's files.

    Args:
        rows: The utterances in use, as rows of the manifest.
        frames_folder: The FrameStore.

    Raises:
        StoreError: An utterance is not in the store, or its frames are of another file.
    """
    column = "feature_sha256" if "feature_sha256" in rows else "audio_sha256"
    contents.check_frames(rows, frames_folder, column, PIPELINE, NOUN)


def check_labels(rows: pd.DataFrame, labels_folder: Path) -> None:
    """Check that stored labels are those that the manifest knows; none where it has none.

    Args:
        rows: The utterances in use, as rows of the manifest.
        labels_folder: The labels.

    Raises:
        StoreError: An utterance is not there, its labels are others, or an index is damaged.
    """
    stored = {
        part.recording_id: part.sha256
        for _, index in label_indexes(labels_folder)
        for part in index.parts
    }
    absent = [name for name in rows["recording_id"] if name not in stored]
    if absent:
        shown = ", ".join(absent[: contents.N_SHOWN])
        problem = f"has no labels of {len(absent)} utterances ({shown})"
        raise StoreError(labels_folder, problem, contents.again(PIPELINE))
    contents.compare_hashes(rows, LABEL_HASH_COLUMN, stored, labels_folder, PIPELINE, NOUN)
