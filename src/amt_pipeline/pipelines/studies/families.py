"""How a variant of a study becomes a task, for every task that can be studied.

Every task that can be trained (`pipelines.tasks.TASKS`) can be studied. One that has to be opened
in another way gets a `Family` of its own in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.config_errors import did_you_mean
from amt_pipeline.core.errors import ConfigError
from amt_pipeline.pipelines.tasks import PHONEMES, TASKS, inputs_of

if TYPE_CHECKING:
    from pydantic import BaseModel

    from amt_pipeline.ranking.rank import RankingConfig
    from amt_pipeline.training.task import Task

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class OpenVariant:
    """A variant, ready to be trained.

    Attributes:
        task: With the variant's settings.
        ranking: How its checkpoints are ranked.
        evaluation: The task's evaluation settings, JSON-able.
    """

    task: Task
    ranking: RankingConfig
    evaluation: dict[str, Any]


@dataclass(frozen=True)
class Family:
    """What a study needs to know of a task.

    Attributes:
        inputs: Datasets and parameters that its node takes, by argument name.
        open: Takes the loaded inputs, the variant's overrides, and those of the reference variant
            (for a value that is derived from it, such as a width of the same parameter count).
            Raises pydantic's `ValidationError` or `ConfigError` for settings that cannot be.
    """

    inputs: Mapping[str, str]
    open: Callable[[Mapping[str, Any], Settings, Settings], OpenVariant]


def open_variant(
    inputs: Mapping[str, Any], overrides: Settings, reference: Settings
) -> OpenVariant:
    """Return a variant of a task; overrides may hold a block `features`."""
    from amt_pipeline.core.values import merge
    from amt_pipeline.pipelines.tasks import open_task

    own = dict(overrides)
    if "name" in own:
        raise ConfigError("name", "cannot be varied", "Make a study of the other task")
    features = merge(inputs["features"], own.pop("features", {}))
    given = {**inputs, "features": features, "settings": merge(inputs["settings"], own)}
    if TASKS[inputs["settings"]["name"]] is PHONEMES:
        given["reference"] = merge(inputs["settings"], reference)
    task, resolved = open_task(**given, tracked=False)
    return OpenVariant(task, resolved.ranking, resolved.task.evaluation.model_dump())


FAMILIES: dict[str, Family] = {
    task: Family(
        inputs={**inputs_of(task), "records_folder": f"{task}_records_folder"}, open=open_variant
    )
    for task in TASKS
}
"""By name of the task, as a study's `task` has it."""


def settings_model(task: str) -> type[BaseModel]:
    """Return the model of a task's complete settings, whose names a misspelt one is compared with.

    Args:
        task: One of `FAMILIES`.
    """
    if TASKS.get(task) is PHONEMES:
        from amt_pipeline.phonemes.parameters import ResolvedPhonemeTask

        return ResolvedPhonemeTask
    from amt_pipeline.transcription.parameters import ResolvedTask

    return ResolvedTask


def family_of(task: str, study: str) -> Family:
    """Return the family of a study's task.

    Raises:
        ConfigError: There is none; the known ones are named.
    """
    if task not in FAMILIES:
        known = f"Use one of {', '.join(sorted(FAMILIES))}"
        problem = f"{task!r} is no task{did_you_mean(task, FAMILIES)}"
        raise ConfigError(f"parameter studies.{study}.task", problem, known)
    return FAMILIES[task]
