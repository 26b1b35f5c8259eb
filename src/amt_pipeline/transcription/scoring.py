"""How good is a transcription? Precision, recall and F1 of its notes, per piece, then the mean.

The headline is the onset-only score: a note is right if its key is and its onset lies within 50 ms.
Offsets are scored only when the estimate carries real ones; the published picker gives every note
0.1 s, and scoring those would measure nothing but that. Rules and their source: `matching`.

Precision is n_matched / n_estimate, recall is n_matched / n_reference, F1 their harmonic mean.
Where reference or estimate is empty, or both are, all three are 0, as in mir_eval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from amt_pipeline.core.errors import UserError
from amt_pipeline.ranking.bootstrap import bootstrap_mean_interval
from amt_pipeline.transcription.matching import (
    ONSET_TOLERANCE_S,
    Pairs,
    match_notes,
    sounding_end_s,
)
from amt_pipeline.transcription.notes import Notes

if TYPE_CHECKING:
    import pandas as pd

_MEASURES = ("precision", "recall", "f1")


@dataclass(frozen=True)
class NoteScore:
    """Score of one piece.

    Attributes:
        precision: Share of the estimated notes that are right.
        recall: Share of the reference notes that were found.
        f1: Harmonic mean of the two.
        n_reference: Notes of the reference.
        n_estimate: Notes of the estimate.
        n_matched: Notes that answer each other.
        median_deviation_ms: Median of estimated minus reference onset over the matched notes, in
            milliseconds; above 0 the estimate is late. NaN without a match.
        precision_with_offsets: As above with offsets; None when they were not scored.
        recall_with_offsets: As above with offsets.
        f1_with_offsets: As above with offsets.
        overlap_with_offsets: Mean of intersection over union of the sounding times of the notes
            matched with offsets (mir_eval's average overlap ratio).
    """

    precision: float
    recall: float
    f1: float
    n_reference: int
    n_estimate: int
    n_matched: int
    median_deviation_ms: float
    precision_with_offsets: float | None = None
    recall_with_offsets: float | None = None
    f1_with_offsets: float | None = None
    overlap_with_offsets: float | None = None


@dataclass(frozen=True, eq=False)
class NoteClasses:
    """Which notes were right; indices into reference or estimate.

    Attributes:
        hit_reference: Reference notes that were found, ascending.
        missed_reference: Reference notes that were not.
        false_alarms: Estimated notes that answer no reference note.
        pairs: `[n_matched, 2]`, reference and estimated note of each match.
    """

    hit_reference: NDArray[np.int64]
    missed_reference: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    pairs: Pairs


def score_notes(
    reference: Notes,
    estimate: Notes,
    *,
    onset_tolerance_s: float = ONSET_TOLERANCE_S,
    with_offsets: bool = False,
) -> NoteScore:
    """Score the transcription of one piece.

    Args:
        reference: The truth, with the times of the corpus (never rebuilt from frames).
        estimate: What was transcribed.
        onset_tolerance_s: Largest distance of two onsets, inclusive.
        with_offsets: Also score offsets; only for estimates that have real ones.

    Returns:
        The score; equal to mir_eval's `precision_recall_f1_overlap`. Notes of no length count like
        others (mir_eval refuses them): they get a millisecond.
    """
    pairs = match_notes(reference, estimate, onset_tolerance_s=onset_tolerance_s)
    deviation_s = estimate.onset_s[pairs[:, 1]] - reference.onset_s[pairs[:, 0]]
    precision, recall, f1 = _precision_recall_f1(len(reference), len(estimate), len(pairs))
    score = NoteScore(
        precision=precision,
        recall=recall,
        f1=f1,
        n_reference=len(reference),
        n_estimate=len(estimate),
        n_matched=len(pairs),
        median_deviation_ms=float(np.median(deviation_s)) * 1e3 if len(pairs) else math.nan,
    )
    if not with_offsets:
        return score
    pairs = match_notes(reference, estimate, onset_tolerance_s=onset_tolerance_s, with_offsets=True)
    precision, recall, f1 = _precision_recall_f1(len(reference), len(estimate), len(pairs))
    return replace(
        score,
        precision_with_offsets=precision,
        recall_with_offsets=recall,
        f1_with_offsets=f1,
        overlap_with_offsets=mean_overlap(reference, estimate, pairs),
    )


def classify_notes(
    reference: Notes, estimate: Notes, *, onset_tolerance_s: float = ONSET_TOLERANCE_S
) -> NoteClasses:
    """Tell which notes were hit, missed, or made up, by the onset-only rule."""
    pairs = match_notes(reference, estimate, onset_tolerance_s=onset_tolerance_s)
    hits = pairs[:, 0]
    return NoteClasses(
        hit_reference=hits,
        missed_reference=np.setdiff1d(np.arange(len(reference)), hits),
        false_alarms=np.setdiff1d(np.arange(len(estimate)), pairs[:, 1]),
        pairs=pairs,
    )


def summarise(
    scores: Sequence[tuple[str, NoteScore]], *, level: float = 0.95, seed: int = 0
) -> tuple[pd.DataFrame, dict[str, float]]:
    """Tabulate the scores of pieces and average them.

    Args:
        scores: Recording id and score of each piece.
        level: Confidence of the bootstrap intervals over pieces.
        seed: Of the bootstrap.

    Returns:
        The table, one row per piece: recording_id and the fields of `NoteScore`; and the summary:
        `onset/precision`, `onset/recall`, `onset/f1` (plain means over pieces), each with `_low`
        and `_high` (NaN for one piece), `onset/median_deviation_ms`, `onset/n_pieces`. Where
        offsets were scored, `onset_offset/...` likewise.

    Raises:
        UserError: There is no piece.
    """
    import pandas as pd

    if not scores:
        raise UserError("scores", "there is no piece to score", "Check the split and its files")
    table = pd.DataFrame([{"recording_id": name, **asdict(score)} for name, score in scores])
    with_offsets = bool(table["f1_with_offsets"].notna().all())
    if not with_offsets:
        table = table.drop(columns=[name for name in table if str(name).endswith("_with_offsets")])
    kinds = {"onset": "", "onset_offset": "_with_offsets"} if with_offsets else {"onset": ""}
    summary: dict[str, float] = {}
    for kind, suffix in kinds.items():
        for measure in _MEASURES:
            values = table[measure + suffix].to_numpy(np.float64)
            key = f"{kind}/{measure}"
            summary[key] = float(values.mean())
            interval = bootstrap_mean_interval(values, level=level, seed=seed)
            summary[f"{key}_low"], summary[f"{key}_high"] = interval
    summary["onset/median_deviation_ms"] = float(table["median_deviation_ms"].mean())
    summary["onset/n_pieces"] = float(len(table))
    return table, summary


def _precision_recall_f1(
    n_reference: int, n_estimate: int, n_matched: int
) -> tuple[float, float, float]:
    if n_matched == 0:
        return 0.0, 0.0, 0.0
    precision, recall = n_matched / n_estimate, n_matched / n_reference
    return precision, recall, 2 * precision * recall / (precision + recall)


def mean_overlap(reference: Notes, estimate: Notes, pairs: Pairs) -> float:
    """Return mir_eval's average overlap ratio of matched notes; 0 without a match.

    For each pair it is the time in which both sound over the time from the first onset to the last
    offset; below 0 for notes that do not overlap at all.
    """
    if len(pairs) == 0:
        return 0.0
    first, second = pairs[:, 0], pairs[:, 1]
    ends = sounding_end_s(reference)[first], sounding_end_s(estimate)[second]
    onsets = reference.onset_s[first], estimate.onset_s[second]
    shared = np.minimum(*ends) - np.maximum(*onsets)
    return float(np.mean(shared / (np.maximum(*ends) - np.minimum(*onsets))))
