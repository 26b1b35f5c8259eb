"""The table of a study against numbers made by hand, and against what chance gives."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.errors import UserError
from amt_pipeline.search.comparison import Comparison, compare
from amt_pipeline.search.learning_curves import learning_curves
from amt_pipeline.search.significance import (
    holm,
    sign_flip_p_value,
    smallest_p_value,
    units_needed,
)
from amt_pipeline.search.variant import VariantResult


def result(name: str, seed: int, scores: Sequence[float] | None, **more: Any) -> VariantResult:
    if scores is None:
        return VariantResult(name, seed, {"x": name}, "diverged", reason="the loss is nan")
    per_unit = {f"u{n}": score for n, score in enumerate(scores)}
    given = {
        "metric": "accuracy", "unit": "utterance", "parameters": 10, "steps": 100, "seconds": 2.0,
        "validation": {"accuracy": float(np.mean(scores))}, "train": {"accuracy": 0.9},
        "per_unit": per_unit,
    }  # fmt: skip
    return VariantResult(name, seed, {"x": name}, "finished", **{**given, **more})


def rows(found: Comparison) -> Mapping[str, Any]:
    return {row["variant"]: row for row in found.table.to_dict("records")}


def test_means_spread_and_differences_are_those_of_the_numbers() -> None:
    found = compare(
        [
            result("a", 1, [0.2, 0.4, 0.6]),
            result("a", 2, [0.4, 0.6, 0.8]),
            result("b", 1, [0.5, 0.9, 0.7], seconds=4.0),
            result("b", 2, [0.5, 0.9, 0.7], seconds=6.0),
        ],
        "a",
    )
    a, b = rows(found)["a"], rows(found)["b"]
    assert list(found.table["variant"]) == ["b", "a"]
    assert (b["rank"], a["rank"], b["place"], a["place"]) == (1, 2, 2, 1)
    assert a["validation_accuracy"] == pytest.approx(0.5)
    assert a["spread"] == pytest.approx(np.std([0.4, 0.6], ddof=1))
    assert (a["lowest"], a["highest"]) == pytest.approx((0.4, 0.6))
    assert (b["seconds"], b["parameters"], b["steps"], b["seeds"]) == (5.0, 10, 100, 2)
    assert b["train_accuracy"] == pytest.approx(0.9)
    assert b["difference"] == pytest.approx(0.2)  # of 0.2, 0.4, 0.0 by unit
    assert b["difference_low"] < 0.2 < b["difference_high"]
    assert b["p_value"] == pytest.approx(4 / 8)  # of 8 sign changes: 2 as large, 2 with the zero
    assert math.isnan(a["difference"]) and math.isnan(a["p_corrected"])
    assert a["settings"] == "x=a"
    units = found.per_unit.set_index(["variant", "unit"])
    assert units.loc[("a", "u1"), "score"] == pytest.approx(0.5)
    assert units.loc[("b", "u1"), "difference"] == pytest.approx(0.4)
    assert any("only 3 units" in warning for warning in found.warnings)


def test_a_lost_seed_and_a_lost_variant_are_said() -> None:
    good = [0.5, 0.6, 0.7, 0.8, 0.9, 0.4]
    found = compare(
        [
            result("a", 1, good), result("a", 2, None),
            result("b", 1, None), result("b", 2, None),
            result("c", 1, good), result("c", 2, good),
        ],
        "a",
    )  # fmt: skip
    table = rows(found)
    assert [table[n]["seeds"] for n in "abc"] == [1, 0, 2]
    assert table["a"]["note"] == "seed 2 diverged: the loss is nan"
    assert list(found.table["variant"])[-1] == "b"
    assert math.isnan(table["b"]["validation_accuracy"])
    assert math.isnan(table["b"]["difference"])
    assert table["c"]["p_corrected"] == 1.0  # no difference at all
    assert any("3 of 6 trainings did not finish" in warning for warning in found.warnings)


def test_a_lost_reference_is_said() -> None:
    found = compare([result("a", 1, None), result("b", 1, [0.5] * 6)], "a")
    assert any("the reference a has no result" in warning for warning in found.warnings)
    assert found.table["p_corrected"].isna().all()
    assert any("one seed only" in warning for warning in found.warnings)


def test_a_study_without_any_result_is_an_error() -> None:
    with pytest.raises(UserError, match=r"no training finished \(the loss is nan\)"):
        compare([result("a", 1, None)], "a")


@pytest.mark.parametrize(
    ("n_units", "n_others", "needed"), [(5, 1, 6), (6, 1, None), (7, 4, 8), (8, 4, None)]
)
def test_units_too_few_for_so_many_variants_are_said(
    n_units: int, n_others: int, needed: int | None
) -> None:
    base = np.linspace(0.4, 0.6, n_units)
    # All are better on every unit: nothing could be more significant.
    others = [result(f"b{n}", 1, base + 0.1 + base / (9 + n)) for n in range(n_others)]
    found = compare([result("a", 1, base), *others], "a")
    said = [warning for warning in found.warnings if "would be needed" in warning]
    assert [warning.split("; ")[1] for warning in said] == (
        [f"{needed} would be needed"] if needed else []
    )
    assert bool((found.table["p_corrected"] < 0.05).any()) == (not said)


def test_the_smallest_p_value_is_that_of_the_test() -> None:
    for n_units in (2, 6, 13, 14, 20):
        found = sign_flip_p_value(np.linspace(1, 2, n_units))
        least = smallest_p_value(n_units)
        assert found == pytest.approx(least) if n_units < 14 else least <= found < 3 * least
    assert units_needed(1, 0.05) == 6
    assert units_needed(500, 0.05) is None


def test_units_without_a_score_are_left_out() -> None:
    found = compare(
        [
            result("a", 1, [0.5, 0.5], per_unit={"u0": 0.5, "u1": None}),
            result("b", 1, [0.7, 0.9], per_unit={"u0": 0.7, "u1": 0.9}),
        ],
        "a",
    )
    assert rows(found)["b"]["difference"] == pytest.approx(0.2)


def test_a_difference_within_what_seeds_differ_is_doubted() -> None:
    base = np.linspace(0.4, 0.6, 12)
    wobbling = [result("b", n, base + 0.02 + shift) for n, shift in enumerate([-0.2, 0.0, 0.2])]
    steady = [result("a", n, base) for n in range(3)]
    found = compare([*steady, *wobbling], "a")
    assert rows(found)["b"]["p_corrected"] < 0.05
    assert any("b: different from a on these units" in warning for warning in found.warnings)
    calm = [result("b", n, base + 0.02) for n in range(3)]
    assert not any("different" in w for w in compare([*steady, *calm], "a").warnings)


def test_results_survive_json() -> None:
    results = [result("a", 1, [0.5, 0.7]), result("b", 1, [0.4, 0.9])]
    back = [VariantResult(**json.loads(json.dumps(r.as_json()))) for r in results]
    assert compare(back, "a").table.equals(compare(results, "a").table)


def test_permutation_test_is_exact_for_few_units() -> None:
    # Of 2^5 sign changes of distinct differences of one sign only two are as extreme.
    assert sign_flip_p_value([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(2 / 32)
    assert sign_flip_p_value([0.1, -0.1]) == 1.0
    assert math.isnan(sign_flip_p_value([0.3]))
    assert math.isnan(sign_flip_p_value([0.3, float("nan")]))
    assert sign_flip_p_value([0.0] * 30) == 1.0


def test_permutation_test_of_many_units_is_that_of_a_slow_one() -> None:
    rng = np.random.default_rng(3)
    differences = rng.normal(0.02, 0.1, 40)
    signs = rng.choice([-1.0, 1.0], (20000, 40))
    slow = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    assert sign_flip_p_value(differences, seed=1) == pytest.approx(slow, abs=0.015)
    assert sign_flip_p_value(differences, seed=1) == sign_flip_p_value(differences, seed=1)
    assert sign_flip_p_value(differences + 5) == pytest.approx(2e-4, abs=1.1e-4)


def test_false_alarms_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(0)
    alarms = [
        sign_flip_p_value(rng.normal(0, 1, 15), n_permutations=499) < 0.05 for _ in range(300)
    ]
    assert 0.02 < np.mean(alarms) < 0.09


def test_holm_multiplies_step_by_step() -> None:
    corrected = holm([0.01, 0.04, float("nan"), 0.03, 0.5])
    # Sorted: 0.01 x 4, 0.03 x 3, max(0.04 x 2, before), 0.5 x 1.
    assert corrected == pytest.approx([0.04, 0.09, float("nan"), 0.09, 0.5], nan_ok=True)
    assert holm([]).shape == (0,)
    assert list(holm([0.9, 0.8])) == [1.0, 1.0]


def test_curves_are_over_epochs_and_join_both_looks_at_validation() -> None:
    trained = result(
        "a", 1, [0.5], batch_size=10, windows=40,
        history=[
            {"step": 2, "loss": 1.0, "accuracy": 0.3, "learning_rate": 0.1},
            {"step": 4, "accuracy": 0.4, "learning_rate": 0.05, "validation/accuracy": 0.35},
            {"step": 8, "accuracy": None, "learning_rate": 0.05, "validation/accuracy": None},
        ],
        curve=[{"step": 8, "accuracy": 0.45}, {"step": 4, "accuracy": 0.35}],
    )  # fmt: skip
    curves = learning_curves([trained, result("b", 1, None)])
    assert set(curves["variant"]) == {"a"}

    def points(quantity: str) -> list[tuple[float, float]]:
        own = curves[curves["quantity"] == quantity]
        return list(zip(own["epoch"], own["value"], strict=True))

    assert points("train") == [(0.5, 0.3), (1.0, 0.4)]
    assert points("validation") == [(1.0, 0.35), (2.0, 0.45)]
    assert points("learning_rate") == [(0.5, 0.1), (1.0, 0.05), (2.0, 0.05)]
