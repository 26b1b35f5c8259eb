from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from amt_pipeline.core.errors import ConfigError, UserError
from amt_pipeline.ranking.bootstrap import bootstrap_mean_interval
from amt_pipeline.ranking.choice import build_ranking, choose, rank_curve


def table(f1, tied=()):
    steps = np.arange(1, len(f1) + 1) * 100
    return pd.DataFrame({"step": steps, "f1": f1, "tied": np.isin(steps, tied)})


def test_curve_is_ranked_best_first():
    curve = pd.DataFrame({"step": [3, 1, 2, 4, 5], "value": [0.8, 0.9, 0.9, np.nan, 0.95]})
    curve["wall_time"] = 1.0
    ranked = rank_curve(curve)
    assert ranked.columns.tolist() == ["rank", "step", "value", "wall_time"]
    assert ranked["rank"].tolist() == [1, 2, 3, 4, 5]
    assert ranked["step"].tolist() == [5, 1, 2, 3, 4]
    assert rank_curve(curve, higher_is_better=False)["step"].tolist() == [3, 1, 2, 5, 4]
    assert curve["step"].tolist() == [3, 1, 2, 4, 5]


def test_rules():
    # The leader is step 300; 200 to 500 are tied.
    ranked = table([0.5, 0.88, 0.9, 0.87, 0.89, 0.6], tied=[200, 300, 400, 500])
    best = choose(ranked)
    assert (best.step, best.rule, best.warnings) == (300, "best", ())
    assert "0.9000" in best.reason
    assert "3 other" in best.reason
    latest = choose(ranked.sample(frac=1, random_state=1), "latest_tied")
    assert latest.step == 500
    assert "step 300" in latest.reason
    assert choose(ranked, "earliest_tied").step == 200


def test_the_leader_counts_as_tied_with_itself():
    assert choose(table([0.5, 0.9, 0.8]), "latest_tied").step == 200


def test_equal_scores_give_the_earlier_step():
    assert choose(table([0.5, 0.9, 0.9, 0.8])).step == 200


def test_leader_at_the_edge_is_warned_of():
    assert any("first checkpoint" in text for text in choose(table([0.9, 0.8, 0.7])).warnings)
    assert any("last checkpoint" in text for text in choose(table([0.7, 0.8, 0.9])).warnings)
    assert choose(table([0.7, 0.9, 0.8])).warnings == ()
    (only,) = choose(table([0.9])).warnings
    assert "only one" in only


def rising(texts):
    return any("still rises" in text for text in texts)


def test_a_curve_that_still_rises_is_warned_of():
    line = np.linspace(0.5, 0.8, 15)
    line[3] = 0.9
    assert rising(choose(table(line)).warnings)
    flat = np.r_[np.linspace(0.5, 0.8, 10), [0.8, 0.801, 0.799, 0.8, 0.8]]
    assert not rising(choose(table(flat)).warnings)
    crawling = np.r_[np.linspace(0.5, 0.8, 10), 0.8 + np.arange(5) * 1e-6]
    assert not rising(choose(table(crawling)).warnings)
    assert not rising(choose(table(line[:8])).warnings)


def test_checkpoints_without_a_score_are_left_out():
    choice = choose(table([0.5, np.nan, 0.9, 0.8]))
    assert choice.step == 300
    assert any("1 checkpoint(s) without" in text for text in choice.warnings)
    with pytest.raises(UserError, match="no checkpoint has a score"):
        choose(table([np.nan, np.nan]))


def test_unknown_rule_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"'newest' is unknown.*latest_tied"):
        choose(table([0.5]), "newest")


@pytest.fixture
def scores():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 0.03, 30)
    means = [0.7, 0.9, 0.9, 0.85]
    return np.stack([m + hard + rng.normal(0, 0.002, 30) for m in means])


def test_ranking_has_every_column(scores):
    steps = [4000, 2000, 3000, 1000]
    columns = {"precision": [0.1, 0.2, 0.3, 0.4], "auc": [0.5, 0.6, 0.7, 0.8], "loss": [4, 3, 2, 1]}
    ranking = build_ranking(steps, scores, columns, rule="latest_tied")
    assert ranking.columns.tolist() == [
        "rank",
        "step",
        "precision",
        "recall",
        "f1",
        "auc",
        "loss",
        "f1_low",
        "f1_high",
        "difference_from_leader",
        "difference_low",
        "difference_high",
        "tied",
        "chosen",
    ]
    assert ranking["rank"].tolist() == [1, 2, 3, 4]
    assert ranking["f1"].is_monotonic_decreasing
    assert set(ranking["step"][:2]) == {2000, 3000}
    by_step = ranking.set_index("step")
    assert by_step.loc[4000, ["precision", "auc", "loss"]].tolist() == [0.1, 0.5, 4]
    assert ranking["recall"].isna().all()
    assert by_step["f1"][1000] == pytest.approx(scores[3].mean())
    assert by_step.index[by_step["tied"]].tolist() == ranking["step"][:2].tolist()
    assert by_step.index[by_step["chosen"]].tolist() == [3000]
    assert ranking["difference_from_leader"][0] == 0
    assert (ranking["difference_high"][2:] < 0).all()
    interval = bootstrap_mean_interval(scores[3])
    assert by_step.loc[1000, ["f1_low", "f1_high"]].tolist() == pytest.approx(interval)
    assert ranking.attrs["warnings"] == []


def test_ranking_does_not_depend_on_the_order_given(scores):
    forward = build_ranking([1, 2, 3, 4], scores, {"auc": [1, 2, 3, 4]})
    backward = build_ranking([4, 3, 2, 1], scores[::-1], {"auc": [4, 3, 2, 1]})
    pd.testing.assert_frame_equal(forward, backward)


def test_ranking_survives_a_diverged_checkpoint(scores):
    scores[0] = np.nan
    ranking = build_ranking([1, 2, 3, 4], scores)
    assert ranking["step"].tolist()[-1] == 1
    assert not ranking["tied"].tolist()[-1]
    assert np.isnan(ranking["f1"].tolist()[-1])


def test_ranking_on_one_piece_says_so():
    ranking = build_ranking([1, 2], [[0.8], [0.9]])
    assert "one unit" in ranking.attrs["warnings"][0]
    assert ranking["step"].tolist() == [2, 1]


def test_wrong_tables_are_refused(scores):
    with pytest.raises(ValueError, match="differ"):
        build_ranking([1, 2], scores)
    with pytest.raises(ValueError, match="differ"):
        build_ranking([1, 2, 3, 4], scores, {"auc": [1.0]})
    with pytest.raises(ValueError, match="f1 is the mean"):
        build_ranking([1, 2, 3, 4], scores, {"f1": [1, 2, 3, 4]})
    with pytest.raises(UserError, match="occurs twice"):
        build_ranking([1, 2, 2, 4], scores)
    with pytest.raises(UserError, match="no checkpoint has a score"):
        build_ranking([1], [[np.nan]])
