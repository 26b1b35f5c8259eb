"""What was said of an utterance beside what is true, and what is counted of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import StoreError
from amt_pipeline.phonemes.confusion import Matrix, count_confusions
from amt_pipeline.phonemes.probabilities import AGAIN

LEAST_PROBABILITY = 2.0**-25
"""Counted for a true class whose probability half precision takes for zero."""

TALLY_COLUMNS = ("recording_id", "speaker", "n_frames", "right", "among_top", "loss")
"""What is counted of an utterance: `loss` is a sum of nats, `among_top` as `right`, frames."""


@dataclass(frozen=True)
class Answers:
    """What was said of an utterance, and what is true.

    Attributes:
        recording_id: Its name.
        speaker: Who speaks; empty where unknown.
        probabilities: `[frames, classes]`.
        classes: `[frames]`, the true ones.
    """

    recording_id: str
    speaker: str
    probabilities: npt.NDArray[np.floating[Any]]
    classes: npt.NDArray[np.integer[Any]]


def tally(one: Answers, n_classes: int, top: int) -> tuple[Matrix, tuple[Any, ...]]:
    """Count the answers of an utterance.

    Args:
        one: The answers.
        n_classes: Classes that there are.
        top: The true class counts as found when it is among so many.

    Returns:
        Frames by true class and class said, and a row of `TALLY_COLUMNS`.

    Raises:
        StoreError: They are not of these frames and classes.
    """
    if one.probabilities.shape != (len(one.classes), n_classes):
        problem = f"{one.probabilities.shape} probabilities of {len(one.classes)} frames"
        raise StoreError(one.recording_id, f"{problem}, {n_classes} classes", AGAIN)
    chances, truth = one.probabilities.astype(np.float32), one.classes.astype(np.int64)
    own = chances[np.arange(len(truth)), truth][:, None]
    # Of equal ones the first is on top, as argmax has it.
    before = (chances > own) | ((chances == own) & (np.arange(n_classes) < truth[:, None]))
    rank = before.sum(axis=1)
    loss = -np.log(np.maximum(own[:, 0].astype(np.float64), LEAST_PROBABILITY)).sum()
    counts = count_confusions(truth, chances.argmax(axis=1), n_classes)
    found = int((rank == 0).sum()), int((rank < top).sum())
    return counts, (one.recording_id, one.speaker, len(truth), *found, float(loss))
