"""Nested plain values: settings by dotted path, numbers that JSON can hold, defaults."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted path: `{"onset": {"epochs": 4}}` -> `onset.epochs`.

    Args:
        nested: Settings in blocks; an empty block stays as a value.
        prefix: Put before every path.
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `override` laid over it, block by block."""
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def finite_or_none(value: Any) -> Any:
    """Return a value with numbers that JSON does not have (NaN, infinity) as None.

    Args:
        value: A number, or a mapping whose values are treated alike (its keys become text);
            anything else is returned as it is.
    """
    if isinstance(value, Mapping):
        return {str(key): finite_or_none(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def reset_to_defaults(model: Model, names: Iterable[str]) -> Model:
    """Give settings of a model their defaults; for its own validators (it may be frozen).

    Args:
        model: The model, checked.
        names: Settings that have a default.

    Returns:
        The same model.
    """
    for name in names:
        object.__setattr__(model, name, type(model).model_fields[name].default)
    return model
