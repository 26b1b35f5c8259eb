"""Scores of frames against scikit-learn and restatements."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from amt_pipeline.core.errors import StoreError
from amt_pipeline.phonemes.answers import Answers
from amt_pipeline.phonemes.confusion import (
    class_table,
    confusion_table,
    count_confusions,
    matrix_of,
    top_confusions,
)
from amt_pipeline.phonemes.predict import PredictionConfig, predict_utterances
from amt_pipeline.phonemes.scoring import ScoringConfig, score_answers, score_predictions
from amt_pipeline.ranking.bootstrap import bootstrap_ratio_interval

NAMES = ("SIL", "AA", "B", "S", "ZH", "T")
N_FRAMES = (40, 7, 25, 0, 60, 13)


def draw(seed: int = 0) -> list[Answers]:
    """Utterances of two speakers each; class 4 does not occur, class 5 is never said."""
    rng = np.random.default_rng(seed)
    answers = []
    for number, n_frames in enumerate(N_FRAMES):
        truth = rng.choice([0, 1, 2, 3, 5], n_frames).astype(np.uint8)
        logits = rng.normal(0, 1, (n_frames, len(NAMES)))
        logits[np.arange(n_frames), truth] += 1.5
        logits[:, 5] = -9
        chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        answers.append(Answers(f"u{number}", f"s{number // 2}", chances, truth))
    return answers


def joined(answers: list[Answers]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.concatenate([one.classes for one in answers]),
        np.concatenate([one.probabilities for one in answers]),
    )


def test_scores_are_those_of_scikit_learn():
    answers = draw()
    truth, chances = joined(answers)
    said = chances.argmax(1)
    labels = np.arange(len(NAMES))
    scores = score_answers(answers, NAMES, majority=0)
    matrix, names = matrix_of(scores.confusion)
    assert names == list(NAMES)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(truth, said, labels=labels))
    precision, recall, f1, count = metrics.precision_recall_fscore_support(
        truth, said, labels=labels, zero_division=np.nan
    )
    table = scores.per_class
    np.testing.assert_allclose(table["recall"], recall)
    np.testing.assert_allclose(table["precision"], precision)
    np.testing.assert_allclose(table["f1"], f1)
    np.testing.assert_array_equal(table["frames"], count)
    assert np.isnan(table["recall"][4]) and np.isnan(table["precision"][5])
    summary = scores.summary
    expected = {
        "accuracy": metrics.accuracy_score(truth, said),
        "balanced_accuracy": metrics.recall_score(
            truth, said, average="macro", labels=np.unique(truth)
        ),
        "macro_f1": metrics.f1_score(truth, said, average="macro"),
        "top3_accuracy": metrics.top_k_accuracy_score(truth, chances, k=3, labels=labels),
        "cross_entropy": metrics.log_loss(truth, chances, labels=labels),
        "accuracy_without_silence": metrics.accuracy_score(truth[truth > 0], said[truth > 0]),
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert summary["majority"]["accuracy"] == pytest.approx((truth == 0).mean())
    assert (summary["n_frames"], summary["n_utterances"], summary["n_speakers"]) == (145, 6, 3)
    json.dumps(summary, allow_nan=False)


def test_utterances_are_scored_one_by_one():
    answers = draw()
    table = score_answers(answers, NAMES, majority=0).per_utterance.set_index("recording_id")
    for one in answers:
        row = table.loc[one.recording_id]
        assert row["n_frames"] == len(one.classes) and row["speaker"] == one.speaker
        if len(one.classes):
            right = one.probabilities.argmax(1) == one.classes
            assert row["accuracy"] == pytest.approx(right.mean())
    assert np.isnan(table.loc["u3", "accuracy"])
    mean = score_answers(answers, NAMES, majority=0).summary["utterance_accuracy"]
    assert mean == pytest.approx(table["accuracy"].mean())


def test_of_equal_probabilities_the_first_is_said():
    chances = np.array([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [0.2, 0.2, 0.6]])
    one = Answers("u", "", chances, np.array([0, 1, 1]))
    scores = score_answers([one], ("a", "b", "c"), None, ScoringConfig(top=2))
    assert scores.summary["accuracy"] == pytest.approx(1 / 3)
    assert scores.summary["top2_accuracy"] == pytest.approx(2 / 3)
    assert scores.summary["majority"] == {}


def test_a_certain_mistake_costs_a_finite_loss():
    one = Answers("u", "", np.array([[0.0, 1.0]], np.float16), np.array([0]))
    assert score_answers([one], ("a", "b"), None).summary["cross_entropy"] == pytest.approx(
        25 * np.log(2)
    )


def test_intervals_draw_utterances_or_speakers_whole():
    answers = draw()
    config = ScoringConfig(resamples=500, level=0.9, seed=3)
    summary = score_answers(answers, NAMES, 0, config).summary
    right = np.array([(a.probabilities.argmax(1) == a.classes).sum() for a in answers])
    sizes = np.array(N_FRAMES)
    options = {"level": 0.9, "n_resamples": 500, "seed": 3}
    by_utterance = bootstrap_ratio_interval(right, sizes, **options)
    pairs = right.reshape(3, 2).sum(1), sizes.reshape(3, 2).sum(1)
    by_speaker = bootstrap_ratio_interval(*pairs, **options)
    assert (summary["accuracy_low"], summary["accuracy_high"]) == by_utterance
    assert (summary["accuracy_speaker_low"], summary["accuracy_speaker_high"]) == by_speaker
    assert by_utterance[0] < summary["accuracy"] < by_utterance[1]
    assert any("3 speakers are few" in text for text in summary["warnings"])
    unknown = [Answers(a.recording_id, "", a.probabilities, a.classes) for a in answers]
    assert score_answers(unknown, NAMES, 0).summary["accuracy_speaker_low"] is None


def test_confusions_are_listed_by_frames():
    matrix = np.array([[5, 3, 0], [4, 4, 0], [1, 0, 0]])
    assert top_confusions(matrix, ("a", "b", "c"), 2) == [
        {"truth": "b", "said": "a", "frames": 4, "share": 0.5},
        {"truth": "a", "said": "b", "frames": 3, "share": 0.375},
    ]
    assert len(top_confusions(matrix, ("a", "b", "c"), 9)) == 3
    table = class_table(matrix, ("a", "b", "c"))
    np.testing.assert_array_equal(matrix_of(confusion_table(matrix, ("a", "b", "c")))[0], matrix)
    assert table["mistaken_for"].tolist() == ["b", "a", "a"]
    assert table["mistaken_share"].tolist() == [0.375, 0.5, 1.0]
    assert count_confusions(np.array([2, 2, 0]), np.array([1, 1, 0]), 3).tolist() == [
        [1, 0, 0], [0, 0, 0], [0, 2, 0],
    ]  # fmt: skip


@pytest.mark.parametrize("labelled", [True, False])
def test_predictions_of_a_corpus_are_scored(
    make_libriphone, ingest, make_model, tmp_path, labelled
):
    done = ingest(make_libriphone(test_labels=labelled))
    rows = done.manifest[done.manifest["split"] == "test"]
    predict_utterances(
        rows["recording_id"].tolist(),
        best_folder=make_model(),
        store_folder=tmp_path / "data/frames",
        out_folder=tmp_path / "out",
        config=PredictionConfig(device="cpu", threads=1),
    )
    labels = tmp_path / "data/labels"
    scores = score_predictions(tmp_path / "out", labels, rows, done.summary)
    json.dumps(scores.summary, allow_nan=False)
    assert len(scores.per_class) == 41 and len(scores.confusion) == 41
    if labelled:
        assert scores.summary["n_frames"] == 24 and 0 <= scores.summary["accuracy"] <= 1
        assert scores.per_class["frames"].tolist()[:2] == [12, 12]
        assert scores.summary["n_unlabelled"] == 0
        with pytest.raises(StoreError, match="no probabilities"):
            score_predictions(tmp_path / "nowhere", labels, rows, done.summary)
    else:
        assert scores.summary["accuracy"] is None and scores.per_utterance.empty
        assert "2 of 2 utterances have no labels" in scores.summary["warnings"][0]


def test_probabilities_of_other_frames_are_refused():
    one = Answers("u7", "", np.ones((3, 2)) / 2, np.array([0, 1]))
    with pytest.raises(StoreError, match="u7"):
        score_answers([one], ("a", "b"), None)


def test_no_answers_give_empty_tables():
    scores = score_answers([], NAMES, 0)
    assert isinstance(scores.per_utterance, pd.DataFrame) and scores.per_utterance.empty
    assert scores.summary["accuracy"] is None and scores.summary["warnings"]
