from __future__ import annotations

import math

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from amt_pipeline.core.values import finite_or_none, flatten, reset_to_defaults


def test_nested_settings_by_path() -> None:
    nested = {"a": {"b": {"c": 1}, "d": {}}, "e": [1]}
    assert flatten(nested) == {"a.b.c": 1, "a.d": {}, "e": [1]}
    assert flatten({"epochs": 4}, "onset.") == {"onset.epochs": 4}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_number_for_is_none(value: float) -> None:
    assert finite_or_none(value) is None
    assert finite_or_none({1: value, "b": {"c": value, "d": 0.5}}) == {
        "1": None,
        "b": {"c": None, "d": 0.5},
    }


@pytest.mark.parametrize("value", [0.5, 3, "nan", None, [1.0]])
def test_all_else_stays(value: object) -> None:
    assert finite_or_none(value) == value


def test_defaults_come_back_in_a_frozen_model() -> None:
    class Settings(BaseModel):
        model_config = ConfigDict(frozen=True)
        rate: float = 0.5
        size: int = 3

    settings = Settings(rate=0.1, size=9)
    assert reset_to_defaults(settings, ["rate"]) is settings
    assert settings == Settings(size=9)
    with pytest.raises(ValidationError):
        settings.rate = 1  # type: ignore[misc]
