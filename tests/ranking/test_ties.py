from __future__ import annotations

import math

import numpy as np
import pytest

from amt_pipeline.ranking.bootstrap import bootstrap_mean_interval
from amt_pipeline.ranking.ties import compare_with_leader


def tied(scores, **settings):
    return np.flatnonzero(compare_with_leader(scores, **settings).tied).tolist()


def pieces(n):
    return 0.9 + np.random.default_rng(0).normal(0, 0.03, n)


def checkpoints(n_units=40, gaps=(0.02, 0.0, 0.0005, 0.01)):
    rng = np.random.default_rng(8)
    hard = rng.normal(0, 0.03, n_units)
    return np.stack([0.9 - gap + hard + rng.normal(0, 0.002, n_units) for gap in gaps])


def test_ties_are_the_leader_and_its_equals():
    scores = checkpoints()
    result = compare_with_leader(scores)
    assert result.leader == int(scores.mean(axis=1).argmax())
    assert result.tied.tolist() == [False, True, True, False]
    assert result.warning is None
    assert result.difference == pytest.approx(scores.mean(axis=1) - scores.mean(axis=1).max())
    others = np.arange(4) != result.leader
    assert (result.low[others] < result.difference[others]).all()
    assert (result.difference[others] < result.high[others]).all()
    assert result.low[result.leader] == result.high[result.leader] == 0


def test_simultaneous_intervals_are_wider_than_single_ones():
    scores = checkpoints(gaps=(0.0, *[0.003] * 20))
    result = compare_with_leader(scores)
    low, high = bootstrap_mean_interval(scores[-1] - scores[result.leader])
    assert result.low[-1] < low < high < result.high[-1]


def test_the_best_is_in_the_tie_set_as_often_as_promised():
    rng = np.random.default_rng(11)
    kept = 0
    for _ in range(150):
        # Ten equals: any of them may lead, and candidate 0 must not be lost by chance.
        scores = rng.normal(0, 1, (10, 12))
        kept += 0 in tied(scores, n_resamples=400)
    assert kept >= 0.92 * 150


def test_missing_units_and_candidates_without_scores():
    scores = checkpoints()
    gaps = scores.copy()
    gaps[:, 5] = math.nan
    assert tied(gaps) == tied(np.delete(scores, 5, axis=1))
    gaps[3] = math.nan
    gaps[2, :10] = math.nan
    result = compare_with_leader(gaps)
    assert result.tied.tolist() == [False, True, True, False]
    assert math.isnan(result.difference[3])
    lonely = np.vstack([scores, np.r_[0.1, np.full(39, math.nan)]])
    assert tied(lonely) == [1, 2]
    with pytest.raises(ValueError, match="no candidate"):
        compare_with_leader([[math.nan], [math.nan]])


def test_one_unit_ties_only_what_reads_the_same():
    result = compare_with_leader([[0.9], [0.90003], [0.8], [math.nan]])
    assert result.leader == 1
    assert result.tied.tolist() == [True, True, False, False]
    assert "one unit" in result.warning
    assert np.isnan(result.low).all()


def test_few_units_are_said_to_be_few():
    result = compare_with_leader([[0.9, 0.8, 0.7], [0.8, 0.82, 0.69]])
    assert result.tied.tolist() == [True, True]
    assert "only 3 units" in result.warning


def test_constant_differences_need_no_interval():
    base = pieces(10)
    result = compare_with_leader(np.stack([base, base - 0.1, base]))
    assert result.tied.tolist() == [True, False, True]
    assert result.low[1] == pytest.approx(-0.1)
    assert result.high[1] == pytest.approx(-0.1)


def test_single_candidate_leads():
    assert tied([pieces(9)]) == [0]
