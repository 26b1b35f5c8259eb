"""The course's answer file: `Id,Class`, one row per frame of the test list, in its order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.core.files import atomic_path
from amt_pipeline.phonemes.probabilities import read_probabilities, top_class

if TYPE_CHECKING:
    import pandas as pd

HEADER = "Id,Class\n"
N_SHOWN = 5


def list_order(manifest: pd.DataFrame, split: str = "test") -> list[str]:
    """Return the utterances of a split in the order of the corpus's list.

    Raises:
        CorpusError: The manifest does not know the order: it was made by a former version.
    """
    if "list_position" not in manifest.columns:
        problem = "does not say in which order the lists have the utterances"
        raise CorpusError("manifest", problem, "Run `kedro run --pipelines ingest_librispeech`")
    rows = manifest[manifest["split"] == split].sort_values("list_position", kind="stable")
    names: list[str] = rows["recording_id"].tolist()
    return names


def shift_warning(left_out: Mapping[str, int], n_listed: int) -> str:
    """Return what a reader has to know of utterances that the answer file lacks; empty for none.

    Args:
        left_out: Their places in the list by id (`summary["test_list"]["left_out"]`).
        n_listed: Length of the list.
    """
    if not left_out:
        return ""
    in_order = sorted(left_out.items(), key=lambda item: item[1])
    shown = ", ".join(f"{name} (line {place + 1})" for name, place in in_order[:N_SHOWN])
    more = f" and {len(in_order) - N_SHOWN} more" if len(in_order) > N_SHOWN else ""
    return (
        f"{len(in_order)} of {n_listed} utterances of the test list are in quarantine, so the "
        f"prediction file has no rows for them and every row after the first gap belongs to "
        f"another frame than its Id says: {shown}{more}. Repair them and ingest again before "
        "handing the file in"
    )


def write_prediction_file(path: Path, predictions: Path, recording_ids: Sequence[str]) -> int:
    """Write the class of every frame, atomically.

    Args:
        path: The CSV file.
        predictions: Folder that `predict_utterances` filled.
        recording_ids: The test list, in its order.

    Returns:
        The number of rows; `Id` counts them from 0.

    Raises:
        StoreError: Probabilities of an utterance are not there, or damaged.
        StorageError: The disk refused.
    """
    row = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        out.write(HEADER)
        for name in recording_ids:
            said = top_class(read_probabilities(predictions, name)).tolist()
            out.writelines(f"{number},{value}\n" for number, value in enumerate(said, row))
            row += len(said)
    return row
