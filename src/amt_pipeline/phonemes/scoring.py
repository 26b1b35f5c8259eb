"""How well every frame was named: accuracy with its intervals, classes, confusions, a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.errors import StoreError
from amt_pipeline.core.values import finite_or_none
from amt_pipeline.phonemes.answers import TALLY_COLUMNS, Answers, tally
from amt_pipeline.phonemes.classes import PhoneClasses
from amt_pipeline.phonemes.confusion import (
    Matrix,
    class_table,
    confusion_table,
    top_confusions,
)
from amt_pipeline.phonemes.label_store import read_labels
from amt_pipeline.phonemes.probabilities import AGAIN, read_probabilities
from amt_pipeline.ranking.bootstrap import bootstrap_mean_interval, bootstrap_ratio_interval

if TYPE_CHECKING:
    import pandas as pd

FEW_SPEAKERS = 10
"""With fewer, an interval by speaker says little more than that they are few."""


class ScoringConfig(BaseModel):
    """How predictions are scored.

    Attributes:
        level: Confidence of the intervals.
        resamples: Bootstrap draws.
        seed: Of the draws.
        top: The true class counts as found when it is among so many.
        confusions: How many of the most frequent confusions are listed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: float = Field(0.95, gt=0, lt=1)
    resamples: int = Field(2000, ge=100)
    seed: int = 0
    top: int = Field(3, ge=1)
    confusions: int = Field(20, ge=0)


@dataclass(frozen=True)
class PhonemeScores:
    """Scores of a split.

    Attributes:
        per_utterance: recording_id, speaker, n_frames, accuracy, cross_entropy.
        per_class: See `confusion.class_table`.
        confusion: See `confusion.confusion_table`.
        summary: JSON-able; see `summarise_scores`.
    """

    per_utterance: pd.DataFrame
    per_class: pd.DataFrame
    confusion: pd.DataFrame
    summary: dict[str, Any]


def score_predictions(
    predictions: Path,
    labels_folder: Path,
    utterances: pd.DataFrame,
    corpus: Mapping[str, Any],
    config: ScoringConfig | None = None,
) -> PhonemeScores:
    """Score the predictions of the utterances that have labels.

    Where none has (the course keeps those of its test list), tables are empty or without scores,
    and the summary has a warning.

    Args:
        predictions: Folder that `predict.predict_utterances` filled.
        labels_folder: Classes of frames.
        utterances: Their rows of the manifest.
        corpus: Summary of the corpus: names of classes, and the class of most training frames.
        config: Intervals and lists; None is the defaults.

    Raises:
        StoreError: Probabilities or labels are missing or damaged, or not of the same frames.
    """
    labelled = utterances[utterances["has_labels"].astype(bool)]
    answers = _answers(predictions, labels_folder, labelled)
    majority = corpus.get("majority", {}).get("class")
    scores = score_answers(answers, corpus["classes"], majority, config)
    n_unlabelled = len(utterances) - len(labelled)
    scores.summary["n_unlabelled"] = n_unlabelled
    if n_unlabelled:
        text = f"{n_unlabelled} of {len(utterances)} utterances have no labels and are not scored"
        scores.summary["warnings"].insert(0, text)
    return scores


def score_answers(
    answers: Iterable[Answers],
    names: Sequence[str],
    majority: int | None,
    config: ScoringConfig | None = None,
) -> PhonemeScores:
    """Score answers one by one; only the counts are held.

    Args:
        answers: Of each utterance.
        names: Of the classes.
        majority: The class that the baseline always says; None leaves it out.
        config: Intervals and lists; None is the defaults.
    """
    import pandas as pd

    config = config or ScoringConfig()
    confusion = np.zeros((len(names), len(names)), np.int64)
    rows = []
    for one in answers:
        counts, row = tally(one, len(names), config.top)
        confusion += counts
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(TALLY_COLUMNS))
    summary = summarise_scores(table, confusion, names, majority, config)
    per_frame = table["n_frames"].astype(float).where(table["n_frames"] > 0)
    per_utterance = table[["recording_id", "speaker", "n_frames"]].assign(
        accuracy=table["right"] / per_frame, cross_entropy=table["loss"] / per_frame
    )
    return PhonemeScores(
        per_utterance, class_table(confusion, names), confusion_table(confusion, names), summary
    )


def summarise_scores(
    table: pd.DataFrame,
    confusion: Matrix,
    names: Sequence[str],
    majority: int | None,
    config: ScoringConfig,
) -> dict[str, Any]:
    """Return the scores of a split in figures; JSON-able, None where undefined.

    Args:
        table: Counts by utterance.
        confusion: Frames by true class and class said.
        names: Of the classes.
        majority: The class that the baseline always says.
        config: Intervals and lists.

    Returns:
        n_utterances, n_frames, n_speakers; accuracy over frames, its intervals by utterance (_low,
        _high) and by speaker (_speaker_low, _speaker_high), accuracy_without_silence,
        utterance_accuracy (mean over utterances, with interval), top<n>_accuracy, cross_entropy
        (nats per frame), balanced_accuracy (mean recall of the classes that occur), macro_f1,
        majority (class, name, accuracy), top_confusions, level, warnings.
    """
    sizes = table["n_frames"].to_numpy(np.float64)
    n_frames, n_speakers = int(confusion.sum()), table["speaker"][table["speaker"] != ""].nunique()
    per_class = class_table(confusion, names)
    options: Any = config.model_dump(include={"level", "seed"}) | {"n_resamples": config.resamples}
    low, high = bootstrap_ratio_interval(table["right"], sizes, **options)
    speaker_low, speaker_high = _by_speaker(table, options)
    has_frames = sizes > 0
    means = table["right"].to_numpy(np.float64)[has_frames] / sizes[has_frames]
    mean_low, mean_high = bootstrap_mean_interval(means, **options)
    right = np.diag(confusion)
    summary = {
        "n_utterances": len(table),
        "n_frames": n_frames,
        "n_speakers": int(n_speakers),
        "accuracy": _ratio(right.sum(), n_frames),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_speaker_low": speaker_low,
        "accuracy_speaker_high": speaker_high,
        "accuracy_without_silence": _without_silence(confusion, names),
        "utterance_accuracy": float(means.mean()) if len(means) else float("nan"),
        "utterance_accuracy_low": mean_low,
        "utterance_accuracy_high": mean_high,
        f"top{config.top}_accuracy": _ratio(table["among_top"].sum(), n_frames),
        "cross_entropy": _ratio(table["loss"].sum(), n_frames),
        "balanced_accuracy": float(per_class["recall"].mean()),
        "macro_f1": float(per_class["f1"].mean()),
    }
    return {
        **finite_or_none(summary),
        "majority": _majority(confusion, names, majority),
        "top_confusions": top_confusions(confusion, names, config.confusions),
        "level": config.level,
        "warnings": _warnings(n_frames, int(n_speakers)),
    }


def _answers(predictions: Path, labels_folder: Path, rows: pd.DataFrame) -> Iterator[Answers]:
    names = rows["recording_id"].tolist()
    if not names:
        return
    labels = read_labels(labels_folder, names)
    for number, (name, speaker) in enumerate(zip(names, rows["speaker"], strict=True)):
        probabilities, classes = read_probabilities(predictions, name), labels.of(number)
        if len(probabilities) != len(classes):
            problem = f"{len(probabilities)} frames were predicted, {len(classes)} have labels"
            raise StoreError(name, problem, AGAIN)
        yield Answers(name, str(speaker or ""), probabilities, classes)


def _by_speaker(table: pd.DataFrame, options: Mapping[str, Any]) -> tuple[float, float]:
    if (table["speaker"] == "").any():
        return float("nan"), float("nan")
    sums = table.groupby("speaker")[["right", "n_frames"]].sum()
    return bootstrap_ratio_interval(sums["right"], sums["n_frames"], **options)


def _without_silence(confusion: Matrix, names: Sequence[str]) -> float:
    """Return the accuracy over frames that are not silence; NaN where there is no such class."""
    silence = PhoneClasses(tuple(names)).silence
    if silence is None:
        return float("nan")
    spoken = np.arange(len(names)) != silence
    return _ratio(np.diag(confusion)[spoken].sum(), confusion[spoken].sum())


def _majority(confusion: Matrix, names: Sequence[str], number: int | None) -> dict[str, Any]:
    if number is None:
        return {}
    accuracy = _ratio(confusion[number].sum(), confusion.sum())
    return {"class": number, "name": names[number], "accuracy": finite_or_none(accuracy)}


def _warnings(n_frames: int, n_speakers: int) -> list[str]:
    if not n_frames:
        return ["No frame has a label: there is nothing to score"]
    if 0 < n_speakers < FEW_SPEAKERS:
        text = f"{n_speakers} speakers are few: of other voices the interval by speaker says little"
        return [text]
    return []


def _ratio(part: Any, whole: Any) -> float:
    return float(part) / float(whole) if whole else float("nan")
