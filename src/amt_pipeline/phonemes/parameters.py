"""Parameters of the phoneme family: presets, overrides, and what they resolve to.

`phoneme_presets` holds complete settings by size and level; the blocks `phoneme_features` and
`phoneme` hold only what is overridden. Resolving merges the two and checks the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

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
"""Of the course's corpus; a width is matched for as many."""


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
) -> ResolvedPhonemeTask:
    """Return the complete settings of the task.

    Args:
        presets: Complete settings by level (`simple`, `strong`, ...), of one size.
        features: Overrides of the features.
        settings: Overrides of the task; `preset` names the level they are laid over.
        reference: Overrides of the task that a width `matched` is matched to; None is the level
            itself.

    Raises:
        ConfigError: There is no such preset, or no width matches.
        ValidationError: A setting is unknown or ill-typed.
    """
    level = settings.get("preset", DEFAULT_LEVEL)
    if level not in presets:
        raise ConfigError(
            f"parameter phoneme.preset={level}",
            "is not among phoneme_presets",
            f"Use one of {', '.join(presets)}",
        )
    base = presets[level]
    values = merge(base, {name: value for name, value in settings.items() if name != "preset"})
    values["features"] = resolve_features(features)
    if values.get("model", {}).get("hidden_units") == MATCHED:
        whole = merge(base, reference or {})
        values["model"] = _matched(whole, values["model"], values["features"])
    ranking = values.pop("ranking", {})
    return ResolvedPhonemeTask.model_validate({"task": values, "ranking": ranking})


def _matched(base: Settings, model: Settings, features: MfccSpec) -> dict[str, Any]:
    """Return model settings with the width at which they are as large as the preset's network.

    Both are counted with what is overridden but depth and width.
    """
    sizes = {name: base["model"][name] for name in ("hidden_layers", "hidden_units")}
    reference = ModelConfig.model_validate({**model, **sizes})
    matched = matched_config(
        features.bins, N_CLASSES, reference, int(model.get("hidden_layers", sizes["hidden_layers"]))
    )
    return {**model, "hidden_units": matched.hidden_units}
