"""Which class is said for which: the confusion matrix and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Matrix = npt.NDArray[np.int64]


def count_confusions(
    truth: npt.NDArray[np.integer[Any]], said: npt.NDArray[np.integer[Any]], n_classes: int
) -> Matrix:
    """Return the frames `[n_classes, n_classes]` of each true class (row) by what was said."""
    pairs = truth.astype(np.int64) * n_classes + said
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def class_table(matrix: Matrix, names: Sequence[str]) -> pd.DataFrame:
    """Return the scores of every class.

    Args:
        matrix: Frames by true class and class said.
        names: Of the classes.

    Returns:
        Columns class, name, frames, said (frames where it was said), recall, precision, f1,
        mistaken_for (what its frames are taken for most often, else), mistaken_share. Recall of a
        class without frames and precision of one that is never said are NaN, F1 where both are.
    """
    import pandas as pd

    right, frames, said = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    wrong = matrix - np.diag(right)
    other = wrong.argmax(axis=1)
    most = wrong[np.arange(len(names)), other]
    return pd.DataFrame(
        {
            "class": np.arange(len(names)),
            "name": list(names),
            "frames": frames,
            "said": said,
            "recall": _share(right, frames),
            "precision": _share(right, said),
            "f1": _share(2 * right, frames + said),
            "mistaken_for": [
                names[number] if count else "" for number, count in zip(other, most, strict=True)
            ],
            "mistaken_share": _share(most, frames),
        }
    )


def top_confusions(matrix: Matrix, names: Sequence[str], most: int) -> list[dict[str, Any]]:
    """Return the confusions with the most frames, at most `most`; JSON-able.

    Returns:
        truth and said (names), frames, share (of the frames of the true class).
    """
    wrong = matrix - np.diag(np.diag(matrix))
    frames = matrix.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), len(names)) for place in order]
    return [
        {
            "truth": names[truth],
            "said": names[said],
            "frames": int(wrong[truth, said]),
            "share": float(wrong[truth, said] / frames[truth]),
        }
        for truth, said in pairs
        if wrong[truth, said]
    ]


def confusion_table(matrix: Matrix, names: Sequence[str]) -> pd.DataFrame:
    """Return the matrix as a table: column `truth` with the names, then one per class said."""
    import pandas as pd

    table = pd.DataFrame(matrix, columns=list(names))
    table.insert(0, "truth", list(names), allow_duplicates=True)
    return table


def matrix_of(table: pd.DataFrame) -> tuple[Matrix, list[str]]:
    """Return the matrix and the names of a `confusion_table`."""
    return table.iloc[:, 1:].to_numpy(dtype=np.int64), [str(name) for name in table.iloc[:, 0]]


def _share(part: Matrix, whole: Matrix) -> npt.NDArray[np.float64]:
    shares = np.full(len(whole), np.nan)
    np.divide(part, whole, out=shares, where=whole > 0)
    return shares
