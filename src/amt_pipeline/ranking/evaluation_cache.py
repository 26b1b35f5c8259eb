"""Evaluations on disk: one file per checkpoint and split, whole or as far as it got.

A file counts only under the key it was written with: other weights, data, settings or another
`ranking.evaluate.VERSION` make another key, and what was kept is made again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.arrays import ArrayError, Wanted, read_arrays
from amt_pipeline.core.errors import storage_error
from amt_pipeline.core.files import atomic_path, remove_leftovers
from amt_pipeline.training.evaluation import UnitTallies

logger = logging.getLogger(__name__)

MAX_BYTES = 2**31
"""Of one evaluation, unpacked; histograms take 32 KB per unit."""

_WANTED = {"key": Wanted("U", 0), "complete": Wanted("b", 0), "units": Wanted("U", 1)}


@dataclass
class Evaluation:
    """What is known of one checkpoint on one split.

    Attributes:
        units: Tallies of the units that are done.
        complete: Whether these are all.
    """

    units: UnitTallies = field(default_factory=dict)
    complete: bool = False


class EvaluationCache:
    """The kept evaluations of one split under one key.

    Args:
        folder: Where the files lie.
        split: Named in the file names.
        key: Hash of everything that an evaluation depends on beside the weights.
        new_tally: Returns an empty tally (a dataclass of arrays) of the task's objective.
    """

    def __init__(self, folder: Path, split: str, key: str, new_tally: Callable[[], Any]) -> None:
        self.folder, self.split, self.key, self._new_tally = Path(folder), split, key, new_tally
        self._empty = tally_arrays(new_tally())

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
        arrays = {name: Wanted(_kinds(a), a.ndim + 1) for name, a in self._empty.items()}
        try:
            stored = read_arrays(path, {**_WANTED, **arrays}, max_bytes=MAX_BYTES)
        except ArrayError as error:
            logger.warning("%s: evaluated again, the kept evaluation is damaged (%s)", path, error)
            return Evaluation()
        if str(stored["key"]) != f"{self.key}-{weights_sha256}":
            return Evaluation()
        units = stored["units"].tolist()
        if not all(_fits(stored[n], len(units), a) for n, a in self._empty.items()):
            logger.warning("%s: evaluated again, what it holds is damaged", path)
            return Evaluation()
        kept = {name: stored[name].astype(a.dtype) for name, a in self._empty.items()}
        make = type(self._new_tally())
        tallies = {
            unit: make(**{name: rows[position].copy() for name, rows in kept.items()})
            for position, unit in enumerate(units)
        }
        return Evaluation(tallies, bool(stored["complete"]))

    def write(self, checkpoint: Path, weights_sha256: str, evaluation: Evaluation) -> None:
        """Keep an evaluation, atomically.

        Raises:
            StorageError: The disk refused.
        """
        rows = [tally_arrays(tally) for tally in evaluation.units.values()]
        arrays: dict[str, Any] = {
            name: np.array([row[name] for row in rows], empty.dtype).reshape(-1, *empty.shape)
            for name, empty in self._empty.items()
        }
        path = self.path(checkpoint)
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(
                stream,
                key=np.array(f"{self.key}-{weights_sha256}"),
                complete=np.array(evaluation.complete),
                units=np.array(list(evaluation.units), np.str_),
                **arrays,
            )


def tally_arrays(tally: Any) -> Mapping[str, npt.NDArray[Any]]:
    """Return the arrays of a tally by name."""
    return {field.name: getattr(tally, field.name) for field in fields(tally)}


def _kinds(array: npt.NDArray[Any]) -> str:
    return "f" if array.dtype.kind == "f" else "iu"


def _fits(found: npt.NDArray[Any], n_units: int, empty: npt.NDArray[Any]) -> bool:
    """Tell whether stored rows can be tallies; counts are not negative."""
    counts = empty.dtype.kind != "f"
    return found.shape == (n_units, *empty.shape) and not (counts and found.min(initial=0) < 0)
