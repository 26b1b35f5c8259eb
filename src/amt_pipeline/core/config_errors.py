"""Faults that pydantic finds, named by the path that a user types."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, ValidationError

from amt_pipeline.core.errors import ConfigError


def name_faults(
    error: ValidationError, block: str, known: Iterable[type[BaseModel]], remedy: str = ""
) -> ConfigError:
    """Return one error that names every fault.

    Args:
        error: What pydantic found.
        block: Path of what was checked; empty for all parameters.
        known: Models whose fields an unknown name is compared with, those within them too.
        remedy: What the user can do.
    """
    faults = []
    for fault in error.errors():
        unknown = fault["type"] == "extra_forbidden"
        steps = _steps(fault["loc"], unknown)
        steps = steps[1:] if steps[:1] == ["task"] else steps
        name = ".".join(steps if steps[:1] == ["features"] else [block, *steps]).strip(".")
        problem, shown = fault["msg"].removeprefix("Value error, "), ""
        if unknown:
            problem = "unknown parameter" + _similar(steps[-1], known)
        elif not isinstance(fault["input"], Mapping):
            shown = f" (got {fault['input']!r})"
        faults.append((name, problem + shown))
    (where, first), *rest = faults
    more = "".join(f"; {name}: {problem}" for name, problem in rest)
    return ConfigError(f"parameter {where}", first + more, remedy)


def did_you_mean(unknown: str, names: Iterable[str]) -> str:
    """Return the name that an unknown one is nearest to, as a question; empty if none is near."""
    nearest = difflib.get_close_matches(unknown, sorted(names), n=1)
    return f" (did you mean {nearest[0]}?)" if nearest else ""


def _steps(loc: Iterable[int | str], unknown: bool) -> list[str]:
    """Return the names on the way to a fault, positions in lists behind theirs: `variants[1]`."""
    steps: list[str] = []
    for step in loc:
        if isinstance(step, int) and steps:
            steps[-1] += f"[{step}]"
        # Where a value may have several types, pydantic adds the name of the type to the path.
        elif unknown or str(step).isidentifier():
            steps.append(str(step))
    return steps


def _similar(unknown: str, known: Iterable[type[BaseModel]]) -> str:
    """Return the known field that an unknown one is nearest to, as a question.

    One of the very name, in another block, is asked for by its whole path.
    """
    paths: dict[str, str] = {}
    models = [(model, "") for model in known]
    for model, prefix in models:
        for name, field in model.model_fields.items():
            path = f"{prefix}{name}"
            paths.setdefault(name, path)
            kind = field.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                # Not typed by a user: see `name_faults`.
                models.append((kind, "" if path == "task" else f"{path}."))
    return (
        f" (did you mean {paths[unknown]}?)" if unknown in paths else did_you_mean(unknown, paths)
    )
