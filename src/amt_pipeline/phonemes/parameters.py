"""Parameters of the phoneme family: presets, overrides, and what they resolve to.

`phoneme_presets` holds complete settings by size and level; the blocks `phoneme_features` and
`phoneme` hold only what is overridden. Resolving merges the two and checks the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.values import merge
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.models import ModelConfig
from amt_pipeline.phonemes.parameter_count import matched_config
from amt_pipeline.phonemes.task_config import PhonemeTaskConfig
from amt_pipeline.ranking.rank import RankingConfig

Settings = Mapping[str, Any]
DEFAULT_LEVEL = "strong"
MATCHED = "matched"
"""Value of `model.hidden_units`: as wide as makes the network as large as the preset's."""

N_CLASSES = 41
"""Of the course's corpus: what a width is matched for before a corpus is there."""


class ResolvedPhonemeTask(BaseModel):
    """The task's settings, complete.

    Attributes:
        task: What the engine trains.
        ranking: How its checkpoints are ranked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: PhonemeTaskConfig
    ranking: RankingConfig


def resolve_features(features: Settings) -> MfccSpec:
    """Return the feature specification of the overrides in `phoneme_features`."""
    return MfccSpec.model_validate(features)


def resolve_task(
    presets: Mapping[str, Settings],
    features: Settings,
    settings: Settings,
    reference: Settings | None = None,
    n_classes: int = N_CLASSES,
) -> ResolvedPhonemeTask:
    """Return the complete settings of the task.

    Args:
        presets: Complete settings by level (`simple`, `strong`, ...), of one size.
        features: Overrides of the features.
        settings: Overrides of the task; `preset` names the level they are laid over.
        reference: Overrides (with their own level) of the task whose depth and width a width
            `matched` is matched to; None is the level itself.
        n_classes: Classes of the corpus; a width is matched for as many.

    Raises:
        ConfigError: There is no such preset, or no width matches.
        ValidationError: A setting is unknown or ill-typed.
    """
    level = settings.get("preset", DEFAULT_LEVEL)
    if not isinstance(level, str) or level not in presets:
        raise ConfigError(
            f"parameter phoneme.preset={level}",
            "is not among phoneme_presets",
            f"Use one of {', '.join(presets)}",
        )
    base = presets[level]
    values = merge(base, {name: value for name, value in settings.items() if name != "preset"})
    values["features"] = features
    ranking = values.pop("ranking", {})

    def checked(width: int | None = None) -> ResolvedPhonemeTask:
        own = values if width is None else merge(values, {"model": {"hidden_units": width}})
        return ResolvedPhonemeTask.model_validate({"task": own, "ranking": ranking})

    model = values.get("model")
    if not isinstance(model, Mapping) or model.get("hidden_units") != MATCHED:
        return checked()
    # With any width first: what else is wrong is named as always.
    task = checked(width=1).task
    other = reference or {}
    whole = merge(presets.get(str(other.get("preset", level)), base), other).get("model")
    return checked(_matched_width(whole, task.model, task.features.bins, n_classes))


def _matched_width(whole: Any, model: ModelConfig, bins: int, n_classes: int) -> int:
    """Return the width at which a network is as large as that of some settings.

    Both are counted with what is overridden but depth and width.

    Args:
        whole: Model settings with the depth and the width that are matched.
        model: The network.
        bins: Values of a frame.
        n_classes: Logits of a frame.

    Raises:
        ConfigError: No width matches.
    """
    where = f"parameter phoneme.model.hidden_units={MATCHED}"
    if model.kind != "mlp":
        raise ConfigError(where, f"{model.kind} has no matching width", "Give a number, or use mlp")
    given = whole if isinstance(whole, Mapping) else {}
    # A level for another kind of network may say nothing of them.
    fields = ModelConfig.model_fields
    names = ("hidden_layers", "hidden_units")
    sizes = {name: given.get(name, fields[name].default) for name in names}
    try:
        reference = ModelConfig.model_validate({**model.model_dump(), **sizes})
    except ValidationError as error:
        shown = ", ".join(f"{name}={value}" for name, value in sizes.items())
        problem = f"the network to match has no size of its own ({shown})"
        raise ConfigError(where, problem, "Give it numbers") from error
    try:
        return matched_config(bins, n_classes, reference, model.hidden_layers).hidden_units
    except ConfigError as error:
        place = f"parameter phoneme.model.hidden_layers={model.hidden_layers}"
        raise ConfigError(place, error.problem, error.remedy) from error
