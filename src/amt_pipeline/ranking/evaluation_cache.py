"""Evaluations on disk: one file per checkpoint and split, whole or as far as it got.

A file counts only under the key it was written with: other weights, data, settings or another
`ranking.evaluate.VERSION` make another key, and what was kept is made again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from amt_pipeline.core.arrays import ArrayError, Wanted, read_arrays
from amt_pipeline.core.errors import storage_error
from amt_pipeline.core.files import atomic_path, remove_leftovers
from amt_pipeline.training.metrics import N_BINS, LogitHistogram

logger = logging.getLogger(__name__)

UnitHistograms = dict[str, LogitHistogram]
"""Histogram of logits by unit (piece, utterance, track)."""

MAX_BYTES = 2**31
"""Of one evaluation, unpacked; it takes 32 KB per unit."""

_WANTED = {
    "key": Wanted("U", 0),
    "complete": Wanted("b", 0),
    "units": Wanted("U", 1),
    "positive": Wanted("iu", 2),
    "negative": Wanted("iu", 2),
}


@dataclass
class Evaluation:
    """What is known of one checkpoint on one split.

    Attributes:
        units: Histograms of the units that are done.
        complete: Whether these are all.
    """

    units: UnitHistograms = field(default_factory=dict)
    complete: bool = False


class EvaluationCache:
    """The kept evaluations of one split under one key.

    Args:
        folder: Where the files lie.
        split: Named in the file names.
        key: Hash of everything that an evaluation depends on beside the weights.
    """

    def __init__(self, folder: Path, split: str, key: str) -> None:
        self.folder, self.split, self.key = Path(folder), split, key

    def tidy(self) -> None:
        """Remove what killed runs left half written.

        Raises:
            StorageError: The folder is read-only.
        """
        try:
            remove_leftovers(self.folder)
        except OSError as error:
            raise storage_error(self.folder, error) from error

    def path(self, checkpoint: Path) -> Path:
        """Return the file of a checkpoint."""
        return self.folder / f"{self.split}-{checkpoint.name}.npz"

    def read(self, checkpoint: Path, weights_sha256: str) -> Evaluation:
        """Return what is kept of a checkpoint; nothing where weights or key changed.

        A damaged file counts as none; a warning says so.
        """
        path = self.path(checkpoint)
        if not path.is_file():
            return Evaluation()
        try:
            stored = read_arrays(path, _WANTED, max_bytes=MAX_BYTES)
        except ArrayError as error:
            logger.warning("%s: evaluated again, the kept evaluation is damaged (%s)", path, error)
            return Evaluation()
        if str(stored["key"]) != f"{self.key}-{weights_sha256}":
            return Evaluation()
        units, counts = stored["units"].tolist(), (stored["positive"], stored["negative"])
        shape = (len(units), N_BINS)
        if any(c.shape != shape or c.min(initial=0) < 0 for c in counts):
            logger.warning("%s: evaluated again, the kept histograms are damaged", path)
            return Evaluation()
        rows = zip(units, *(count.astype(np.int64) for count in counts), strict=True)
        return Evaluation({u: LogitHistogram(p, n) for u, p, n in rows}, bool(stored["complete"]))

    def write(self, checkpoint: Path, weights_sha256: str, evaluation: Evaluation) -> None:
        """Keep an evaluation, atomically.

        Raises:
            StorageError: The disk refused.
        """
        histograms = evaluation.units.values()
        path = self.path(checkpoint)
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(
                stream,
                key=np.array(f"{self.key}-{weights_sha256}"),
                complete=np.array(evaluation.complete),
                units=np.array(list(evaluation.units), np.str_),
                positive=np.array([h.positive for h in histograms], np.int64).reshape(-1, N_BINS),
                negative=np.array([h.negative for h in histograms], np.int64).reshape(-1, N_BINS),
            )
