from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from amt_pipeline.training.metrics import (
    N_BINS,
    BinaryCounts,
    LogitHistogram,
    best_threshold,
    threshold_bin,
    update_histograms,
)
from amt_pipeline.training.task import scores_of

RNG = np.random.default_rng(3)
TRUTH = RNG.random((40, 60)) < 0.2
# Multiples of 1/64 lie on the histogram's edges, so that its answers are exact.
LOGITS = (np.round((RNG.normal(-1, 2, TRUTH.shape) + 2 * TRUTH) * 64) / 64).astype(np.float32)
ODD = LOGITS + np.float32(1 / 128)


def expected(said: np.ndarray, truth: np.ndarray = TRUTH) -> dict[str, float]:
    flat = truth.ravel(), said.ravel()
    options = {"zero_division": 0}
    return {
        "precision": precision_score(*flat, **options),
        "recall": recall_score(*flat, **options),
        "f1": f1_score(*flat, **options),
    }


def histogram(logits: np.ndarray = LOGITS, truth: np.ndarray = TRUTH) -> LogitHistogram:
    found = LogitHistogram()
    for row in range(len(logits)):
        update_histograms(
            [found], torch.from_numpy(logits[row : row + 1]), torch.from_numpy(truth[row])
        )
    return found


def test_counts_agree_with_sklearn() -> None:
    counts = BinaryCounts()
    for row in range(0, 40, 7):
        part = slice(row, row + 7)
        counts.update(torch.from_numpy(ODD[part]), torch.from_numpy(TRUTH[part]).float())
    assert counts.scores() == pytest.approx(expected(ODD > 0))


def test_counts_leave_out_what_is_not_valid() -> None:
    counts, valid = BinaryCounts(), RNG.random((40, 1)) < 0.5
    counts.update(torch.from_numpy(ODD), torch.from_numpy(TRUTH).float(), torch.from_numpy(valid))
    rows = valid[:, 0]
    assert counts.scores() == pytest.approx(expected(ODD[rows] > 0, TRUTH[rows]))


@pytest.mark.parametrize("probability", [0.5, 0.05, 0.3, 0.9])
def test_histogram_agrees_with_sklearn_at_any_threshold(probability: float) -> None:
    edge = round(math.log(probability / (1 - probability)) * 64) / 64
    assert histogram().scores(probability) == pytest.approx(expected(edge <= LOGITS))


def test_area_under_the_curve_agrees_with_sklearn() -> None:
    assert histogram().auc() == pytest.approx(roc_auc_score(TRUTH.ravel(), LOGITS.ravel()))
    assert histogram(np.zeros_like(LOGITS)).auc() == pytest.approx(0.5)
    assert histogram(np.where(TRUTH, 1, -1).astype(np.float32)).auc() == 1


@pytest.mark.parametrize("truth", [np.zeros_like(TRUTH), np.ones_like(TRUTH)])
def test_one_class_has_no_curve(truth: np.ndarray) -> None:
    assert math.isnan(histogram(truth=truth).auc())


def test_nothing_scores_zero() -> None:
    assert LogitHistogram().scores() == BinaryCounts().scores()
    assert dict(scores_of(0, 0, 0)) == {"precision": 0, "recall": 0, "f1": 0}
    assert dict(scores_of(3, 1, 2)) == pytest.approx(
        {"precision": 3 / 4, "recall": 3 / 5, "f1": 2 / 3}
    )


def test_extremes_and_nan_are_counted_once() -> None:
    logits = np.array([-np.inf, -1e9, np.nan, 1e9, np.inf], np.float32)
    found = histogram(logits[None], np.array([[False, True, True, True, False]]))
    assert found.positive.sum() + found.negative.sum() == 5
    assert found.positive[0] == 2
    assert found.positive[-1] == 1
    assert found.scores() == pytest.approx({"precision": 1 / 2, "recall": 1 / 3, "f1": 0.4})


@pytest.mark.parametrize("as_targets", [torch.bool, torch.float32])
def test_networks_are_counted_apart_and_only_where_valid(as_targets: torch.dtype) -> None:
    logits = np.stack([LOGITS, ODD - 1, np.full_like(LOGITS, np.nan)])
    valid = RNG.random((40, 1)) < 0.5
    parts = [LogitHistogram() for _ in logits]
    for _ in range(2):
        update_histograms(
            parts,
            torch.from_numpy(logits),
            torch.from_numpy(TRUTH).to(as_targets),
            torch.from_numpy(valid),
        )
    rows = valid[:, 0]
    for part, own in zip(parts, logits, strict=True):
        alone = histogram(own[rows], TRUTH[rows])
        np.testing.assert_array_equal(part.positive, 2 * alone.positive)
        np.testing.assert_array_equal(part.negative, 2 * alone.negative)


def test_bins_are_those_of_the_definition() -> None:
    wide = RNG.normal(0, 9, LOGITS.shape).astype(np.float32)
    place = np.clip(np.floor((wide + np.float32(16)) * 64), 0, N_BINS - 1).astype(int)
    found = histogram(wide)
    np.testing.assert_array_equal(found.positive, np.bincount(place[TRUTH], minlength=N_BINS))
    np.testing.assert_array_equal(found.negative, np.bincount(place[~TRUTH], minlength=N_BINS))


def test_half_is_an_edge() -> None:
    assert threshold_bin(0.5) == N_BINS // 2
    assert threshold_bin(1e-12) == 0
    assert threshold_bin(1 - 1e-12) == N_BINS
    just = histogram(np.array([[0.0, -1e-6]], np.float32), np.array([[True, True]]))
    assert just.scores()["recall"] == 0.5


def test_total_pools_units() -> None:
    pooled = LogitHistogram.total(
        [histogram(LOGITS[:9], TRUTH[:9]), histogram(LOGITS[9:], TRUTH[9:])]
    )
    np.testing.assert_array_equal(pooled.positive, histogram().positive)
    np.testing.assert_array_equal(pooled.negative, histogram().negative)
    assert LogitHistogram.total([]).positive.sum() == 0


def test_best_threshold_has_the_largest_mean_over_units() -> None:
    parts = [slice(0, 3), slice(3, 40)]
    units = [histogram(LOGITS[part] - 1, TRUTH[part]) for part in parts]
    threshold, value = best_threshold(units)
    means = {
        round(t, 2): np.mean([unit.scores(round(t, 2))["f1"] for unit in units])
        for t in np.arange(0.05, 0.951, 0.01)
    }
    assert value == pytest.approx(max(means.values()))
    assert means[threshold] == value
    assert threshold == min(t for t, mean in means.items() if mean == value)
    assert best_threshold(units, np.array([0.9, 0.5]))[0] in (0.9, 0.5)
