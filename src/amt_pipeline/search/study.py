"""What a study compares: variants of one task, each trained with several seeds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from amt_pipeline.core.config_errors import did_you_mean
from amt_pipeline.core.errors import ConfigError

SEED = "training.seed"
"""What a study's seeds are laid over."""

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Names that a study may have: they are parts of pipeline names, datasets and folders."""

SHOWN = "Write, for instance, grid: {training.learning_rate: [0.001, 0.0001]}"


class VariantConfig(BaseModel):
    """One variant of a list.

    Attributes:
        name: For people; unique in the study.
        set: What it changes, by dotted name or in blocks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    set: dict[str, Any] = {}


class StudyConfig(BaseModel):
    """A study: a base task, what is changed, and how often each variant is trained.

    Attributes:
        task: The task that is varied (`onset`).
        title: Heading of the report; null is the study's name.
        question: What the study is to answer, one line for people.
        base: Overrides that all variants share, by dotted name or in blocks.
        variants: The variants one by one; or ...
        grid: ... all combinations of values by dotted name.
        seeds: Every variant is trained once with each.
        reference: The variant that the others are tested against; null is the first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    title: str | None = None
    question: str = ""
    base: dict[str, Any] = {}
    variants: list[VariantConfig] | None = None
    grid: dict[str, Any] | None = None
    seeds: list[int] = [1, 2, 3]
    reference: str | None = None

    def expand(self, name: str = "study") -> list[Variant]:
        """Return every variant with every seed: the seeds of the first variant come first.

        Args:
            name: Of the study, for errors.

        Raises:
            ConfigError: Names what makes no study: no variants, a list and a grid, an empty grid, a
                name that occurs twice, a setting that is made twice, no seeds, a reference that is
                no variant.
        """
        where = f"parameter studies.{name}"
        if not NAME.fullmatch(name):
            remedy = "Use small letters, digits and underscores, a letter first"
            raise ConfigError(where, "is no name for a study", remedy)
        self._check_seeds(where)
        base = settings_by_name(self.base, f"{where}.base")
        chosen = list(self._settings(where))
        _refuse_twice([variant for variant, _ in chosen], f"{where}: the variant", "Rename one")
        names = [variant for variant, _ in chosen]
        if self.reference is not None and self.reference not in names:
            known = f"Use one of {', '.join(names)}"
            problem = f"is no variant{did_you_mean(self.reference, names)}"
            raise ConfigError(f"{where}.reference={self.reference}", problem, known)
        for variant, settings in [("base", base), *chosen]:
            if SEED in settings:
                problem = f"sets {SEED}, which the study's seeds are for"
                raise ConfigError(f"{where}, {variant}", problem, f"Use studies.{name}.seeds")
        return [
            Variant(variant, settings, in_blocks(_over(base, settings) | {SEED: seed}), seed)
            for variant, settings in chosen
            for seed in self.seeds
        ]

    def reference_of(self, variants: list[Variant]) -> str:
        """Return the name of the variant that the others are tested against."""
        return self.reference or variants[0].name

    def _check_seeds(self, where: str) -> None:
        if not self.seeds:
            raise ConfigError(f"{where}.seeds", "is empty", "Give one at least, such as [1]")
        _refuse_twice(self.seeds, f"{where}.seeds: the seed", "Give each once")

    def _settings(self, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield name and settings, by dotted name, of every variant."""
        if self.variants is not None and self.grid is not None:
            raise ConfigError(where, "has both variants and a grid", "Leave one of them out")
        if self.variants is None and self.grid is None:
            raise ConfigError(where, "has neither variants nor a grid", SHOWN)
        if self.variants is not None:
            if not self.variants:
                raise ConfigError(f"{where}.variants", "is empty", "Name one at least")
            for position, variant in enumerate(self.variants):
                place = f"{where}.variants[{position}]"
                if not variant.name.strip():
                    raise ConfigError(f"{place}.name", "is empty", "Give the variant a name")
                yield variant.name, settings_by_name(variant.set, f"{place}.set")
            return
        grid = settings_by_name(self.grid or {}, f"{where}.grid")
        if not grid:
            raise ConfigError(f"{where}.grid", "is empty", SHOWN)
        for setting, values in grid.items():
            if not isinstance(values, list) or not values:
                problem = f"is no list of values (got {values!r})" if values != [] else "is empty"
                raise ConfigError(f"{where}.grid.{setting}", problem, SHOWN)
        labels = _short_names(list(grid))
        for values in itertools.product(*grid.values()):
            settings = dict(zip(grid, values, strict=True))
            parts = [f"{labels[key]}={show_value(value)}" for key, value in settings.items()]
            place = f"{where}.grid, {', '.join(parts)}"
            yield ", ".join(parts), settings_by_name(settings, place)


@dataclass(frozen=True)
class Variant:
    """One training of a study.

    Attributes:
        name: Of the variant; the same for all its seeds.
        settings: What makes it differ from the base, by dotted name.
        overrides: Everything that is laid over the task's settings, in blocks: the base's, its own,
            the seed.
        seed: Of this training.
    """

    name: str
    settings: dict[str, Any]
    overrides: dict[str, Any]
    seed: int


def settings_by_name(nested: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return settings by their whole dotted name, however they are nested.

    Args:
        nested: `{"training.epochs": 4}`, `{"training": {"epochs": 4}}` or a mixture.
        where: For errors.

    Raises:
        ConfigError: A name is set twice, or both as a value and as a block.
    """
    found: dict[str, Any] = {}
    for name, value in _leaves(nested, ""):
        for other in found:
            if name == other or name.startswith(f"{other}.") or other.startswith(f"{name}."):
                also = "" if name == other else f" (also as {other})"
                raise ConfigError(f"{where}.{name}", f"is set twice{also}", "Set it once")
        found[name] = value
    return found


def in_blocks(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by dotted name as nested blocks."""
    blocks: dict[str, Any] = {}
    for name, value in settings.items():
        *path, last = name.split(".")
        block = blocks
        for step in path:
            block = block.setdefault(step, {})
        block[last] = value
    return blocks


def show_value(value: Any) -> str:
    """Return a setting's value as short text: 0.25, 1 for 1.0, none for null, on or off."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, Mapping):
        return " ".join(f"{key}={show_value(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show_value(item) for item in value) + "]"
    return str(value)


def _leaves(nested: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a variant's settings over the base's; a value replaces a block and vice versa."""
    kept = {
        name: value
        for name, value in base.items()
        if not any(name.startswith(f"{other}.") or other.startswith(f"{name}.") for other in own)
    }
    return {**kept, **own}


def _short_names(names: list[str]) -> dict[str, str]:
    """Return as much of each dotted name, from its end, as tells it from the others."""
    short = {}
    for name in names:
        steps = name.split(".")
        tails = [".".join(steps[-n:]) for n in range(1, len(steps) + 1)]
        others = [other for other in names if other != name]
        unique = [t for t in tails if not any(f".{o}".endswith(f".{t}") for o in others)]
        short[name] = unique[0] if unique else name
    return short


def _refuse_twice(names: list[Any], what: str, remedy: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{what} {name!r}", "occurs twice", remedy)
