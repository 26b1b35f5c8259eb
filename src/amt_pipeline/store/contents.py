"""Whether what is stored of a recording was made from the files that the manifest names.

Frames and labels are written item by item, the manifest at the end: an ingestion that was stopped,
or that replaced a file, leaves them apart. Only recorded hashes are compared; no file is hashed, so
this costs next to nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import StoreError
from amt_pipeline.store.frames import FrameStore

if TYPE_CHECKING:
    import pandas as pd

N_SHOWN = 3


def check_frames(
    rows: pd.DataFrame, store_folder: Path, column: str, pipeline: str, noun: str = "recordings"
) -> None:
    """Check that stored frames were made from the manifest's files.

    Args:
        rows: The recordings in use, as rows of the manifest.
        store_folder: The FrameStore.
        column: The manifest's column of content hashes.
        pipeline: Who makes frames; named in the error.
        noun: What the system calls recordings.

    Raises:
        StoreError: A recording is not in the store, or its frames are of another file.
    """
    store = FrameStore.open(store_folder)
    stored = {name: store.entry(name).content_sha256 for name in rows["recording_id"]}
    compare_hashes(rows, column, stored, store_folder, pipeline, noun)


def compare_hashes(
    rows: pd.DataFrame,
    column: str,
    stored: dict[str, str],
    where: Path,
    pipeline: str,
    noun: str = "recordings",
) -> None:
    """Compare stored hashes with those of the manifest.

    Raises:
        StoreError: They differ; some of the recordings are named.
    """
    listed = zip(rows["recording_id"], rows[column], strict=True)
    other = [name for name, digest in listed if stored[name] != digest]
    if other:
        raise StoreError(
            where,
            f"{len(other)} {noun} were made from other files than the manifest lists "
            f"({', '.join(other[:N_SHOWN])})",
            again(pipeline),
        )


def again(pipeline: str) -> str:
    """Return the remedy: run the ingestion again."""
    return f"Run `kedro run --pipelines {pipeline}` again; it redoes only what changed"
