from __future__ import annotations

import math

import numpy as np
import pytest

from amt_pipeline.ranking import bootstrap
from amt_pipeline.ranking.bootstrap import (
    bootstrap_mean_interval,
    bootstrap_mean_intervals,
    bootstrap_ratio_interval,
)


def pieces(n, seed=0, spread=0.03):
    return 0.9 + np.random.default_rng(seed).normal(0, spread, n)


def test_interval_of_many_units_is_the_normal_one():
    values = pieces(200)
    low, high = bootstrap_mean_interval(values)
    error = values.std(ddof=1) / math.sqrt(200)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_interval_covers_as_often_as_it_says_also_for_few_units():
    rng = np.random.default_rng(1)
    samples = rng.normal(0, 1, (400, 8))
    low, high = bootstrap_mean_intervals(samples, n_resamples=500)
    covered = np.mean((low <= 0) & (high >= 0))
    # Plain percentiles would cover 0.88; 400 samples have a standard error of 0.011.
    assert 0.92 <= covered <= 0.98


def test_interval_follows_seed_level_and_missing_units():
    values = pieces(30)
    assert bootstrap_mean_interval(values, seed=1) == bootstrap_mean_interval(values, seed=1)
    assert bootstrap_mean_interval(values, seed=1) != bootstrap_mean_interval(values, seed=2)
    low, high = bootstrap_mean_interval(values, level=0.5)
    wide_low, wide_high = bootstrap_mean_interval(values, level=0.99)
    assert wide_low < low < values.mean() < high < wide_high
    padded = [math.nan, *values, math.nan]
    assert bootstrap_mean_interval(padded) == bootstrap_mean_interval(values)


def test_interval_stays_inside_the_values():
    low, high = bootstrap_mean_interval([0.9, 1.0])
    assert (low, high) == (0.9, 1.0)
    assert bootstrap_mean_interval([0.7] * 6) == pytest.approx((0.7, 0.7))


@pytest.mark.parametrize("values", [[], [0.5], [0.5, math.nan]])
def test_one_unit_has_no_interval(values):
    assert np.isnan(bootstrap_mean_interval(values)).all()


def test_draws_in_blocks_are_the_same(monkeypatch):
    values = pieces(40)
    whole = bootstrap_mean_interval(values)
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 40 * 7)
    assert bootstrap_mean_interval(values) == pytest.approx(whole, abs=1e-12)


def test_rows_share_their_draws_but_not_their_gaps():
    table = np.stack([pieces(20, 1), pieces(20, 2), np.full(20, math.nan)])
    table[1, 3:] = math.nan
    low, high = bootstrap_mean_intervals(table)
    assert (low[0], high[0]) == pytest.approx(bootstrap_mean_interval(table[0]), abs=1e-12)
    assert table[1, :3].min() <= low[1] < high[1] <= table[1, :3].max()
    assert np.isnan([low[2], high[2]]).all()
    with pytest.raises(ValueError, match="n_candidates"):
        bootstrap_mean_intervals(table[0])


def test_a_ratio_of_sums_weighs_units_by_their_size():
    totals, sizes = np.array([90.0, 5.0, 30.0, 0.0]), np.array([100.0, 10.0, 40.0, 0.0])
    low, high = bootstrap_ratio_interval(totals, sizes, n_resamples=4000)
    # Restated: units drawn one by one; those without a size are no units.
    rng = np.random.default_rng(1)
    drawn = rng.integers(0, 3, (4000, 3))
    ratios = totals[drawn].sum(1) / sizes[drawn].sum(1)
    assert low <= np.quantile(ratios, 0.025) and high >= np.quantile(ratios, 0.975)
    assert 0.5 <= low < 125 / 150 < high <= 0.9
    assert bootstrap_ratio_interval(totals, sizes, n_resamples=4000) == (low, high)


def test_a_ratio_of_equal_sizes_is_the_mean():
    rates = np.random.default_rng(0).random(30)
    mean = bootstrap_mean_interval(rates, seed=5)
    assert bootstrap_ratio_interval(8 * rates, np.full(30, 8.0), seed=5) == pytest.approx(mean)


@pytest.mark.parametrize("sizes", [[], [3.0], [3.0, 0.0]])
def test_a_ratio_of_fewer_than_two_units_has_no_interval(sizes):
    assert all(np.isnan(bootstrap_ratio_interval(np.zeros(len(sizes)), sizes)))
