"""What makes a study, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.search.study import StudyConfig, in_blocks, settings_by_name, show_value


def study(**settings: Any) -> StudyConfig:
    return StudyConfig.model_validate({"task": "onset", **settings})


def test_a_grid_is_all_combinations_in_order() -> None:
    config = study(
        grid={"model.dropout": [0.0, 0.25], "training.learning_rate": [1e-3]}, seeds=[4, 7]
    )
    variants = config.expand("mine")
    assert [(v.name, v.seed) for v in variants] == [
        ("dropout=0, learning_rate=0.001", 4),
        ("dropout=0, learning_rate=0.001", 7),
        ("dropout=0.25, learning_rate=0.001", 4),
        ("dropout=0.25, learning_rate=0.001", 7),
    ]
    assert variants[3].overrides == {
        "model": {"dropout": 0.25},
        "training": {"learning_rate": 1e-3, "seed": 7},
    }
    assert config.reference_of(variants) == variants[0].name


def test_names_of_a_grid_tell_settings_of_one_name_apart() -> None:
    grid = {"model.layers.dropout": [0.1], "augment.dropout": [0.2], "a.units": [3]}
    (variant,) = study(grid=grid, seeds=[1]).expand()
    assert variant.name == "layers.dropout=0.1, augment.dropout=0.2, units=3"


def test_variants_are_laid_over_the_base() -> None:
    config = study(
        base={"training": {"epochs": 3, "schedule": {"kind": "step", "decay_rate": 0.5}}},
        variants=[
            {"name": "as it is"},
            {"name": "longer", "set": {"training.epochs": 9}},
            {"name": "flat", "set": {"training": {"schedule.kind": "none"}}},
            {"name": "whole", "set": {"training.schedule": None}},
        ],
        seeds=[1],
        reference="longer",
    )
    variants = config.expand("mine")
    step = {"kind": "step", "decay_rate": 0.5}
    assert [variant.overrides["training"] for variant in variants] == [
        {"epochs": 3, "schedule": step, "seed": 1},
        {"epochs": 9, "schedule": step, "seed": 1},
        {"epochs": 3, "schedule": {"kind": "none", "decay_rate": 0.5}, "seed": 1},
        {"epochs": 3, "schedule": None, "seed": 1},
    ]
    assert variants[2].settings == {"training.schedule.kind": "none"}
    assert config.reference_of(variants) == "longer"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"studies.mine: has neither variants nor a grid"),
        ({"grid": {}}, r"studies.mine.grid: is empty"),
        ({"grid": {"model.a": []}}, r"studies.mine.grid.model.a: is empty"),
        ({"grid": {"model.a": 3}}, r"studies.mine.grid.model.a: is no list of values \(got 3\)"),
        ({"variants": []}, r"studies.mine.variants: is empty"),
        (
            {"variants": [{"name": "a"}], "grid": {"model.a": [1]}},
            r"studies.mine: has both variants and a grid",
        ),
        (
            {"variants": [{"name": "a"}, {"name": "b"}, {"name": "a"}]},
            r"studies.mine: the variant 'a': occurs twice",
        ),
        ({"grid": {"model.a": [1, 1.0]}}, r"the variant 'a=1': occurs twice"),
        ({"variants": [{"name": " "}]}, r"studies.mine.variants\[0\].name: is empty"),
        (
            {"grid": {"model.a": [1, 2]}, "reference": "a=3"},
            r"studies.mine.reference=a=3: is no variant \(did you mean a=[12]\?\). "
            "Use one of a=1, a=2",
        ),
        ({"grid": {"model.a": [1]}, "seeds": []}, r"studies.mine.seeds: is empty"),
        ({"grid": {"model.a": [1]}, "seeds": [1, 2, 1]}, r"the seed 1: occurs twice"),
        (
            {"variants": [{"name": "a", "set": {"m.a": 1, "m": {"a": 2}}}]},
            r"studies.mine.variants\[0\].set.m.a: is set twice",
        ),
        (
            {"grid": {"m": [1], "m.a": [1]}},
            r"studies.mine.grid.m.a: is set twice \(also as m\)",
        ),
        (
            {"grid": {"model.a": [1]}, "base": {"m.a": 1, "m": {"a": {"b": 2}}}},
            r"studies.mine.base.m.a.b: is set twice \(also as m.a\)",
        ),
        (
            {"grid": {"training.seed": [1]}},
            r"studies.mine, seed=1: sets training.seed, which the study's seeds are for",
        ),
    ],
)
def test_what_makes_no_study_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        study(**settings).expand("mine")
    assert raised.value.remedy


@pytest.mark.parametrize("name", ["", "Mine", "two words", "a.b", "../up", "1st", "a-b"])
def test_a_study_has_a_name_that_pipelines_may_have(name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a study"):
        study(grid={"model.a": [1]}).expand(name)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="seedz"):
        study(grid={"model.a": [1]}, seedz=[1])
    with pytest.raises(ValidationError, match="sett"):
        study(variants=[{"name": "a", "sett": {}}])


def test_blocks_and_dotted_names_are_the_same() -> None:
    nested = {"a.b": {"c": 1, "d.e": [2]}, "f": {}}
    flat = {"a.b.c": 1, "a.b.d.e": [2], "f": {}}
    assert settings_by_name(nested, "x") == flat
    assert in_blocks(flat) == {"a": {"b": {"c": 1, "d": {"e": [2]}}}, "f": {}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (2.5e-4, "0.00025"),
        (1e-7, "1e-07"),
        (None, "none"),
        (True, "on"),
        (False, "off"),
        ([4, 8.0], "[4 8]"),
        ({"kind": "cosine", "n": 1}, "kind=cosine n=1"),
        ("x", "x"),
    ],
)
def test_values_are_shown_shortly(value: object, text: str) -> None:
    assert show_value(value) == text
