"""Parameters of the transcription family: presets, overrides, and what they resolve to.

`presets` holds complete settings by name; the blocks `features`, `onset`, `pitch` and `transcribe`
hold only what is overridden. Resolving merges the two and checks the result; nothing runs on
parameters that were not checked.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.values import merge
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.ranking.rank import RankingConfig
from amt_pipeline.transcription.task_config import FrameTaskConfig
from amt_pipeline.transcription.transcribe import TranscriptionConfig

logger = logging.getLogger(__name__)

PresetName = Literal["auto", "cpu", "reference"]
Settings = Mapping[str, Any]


class DemoConfig(BaseModel):
    """The stand-in corpus that is made when no corpus is configured.

    Attributes:
        minutes: Length of all pieces together.
        pieces: Number of pieces.
        seed: Same seed, same bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    minutes: float = Field(25.0, gt=0)
    pieces: int = Field(36, ge=6)
    seed: int = 0


class MaestroConfig(BaseModel):
    """Where the corpus is.

    Attributes:
        root: Folder of MAESTRO (v1, v2, v3) or of one's own recordings in its layout; null makes
            the demo corpus.
        metadata: Its index file; null takes the newest.
        demo: The demo corpus.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: str | None = None
    metadata: str | None = None
    demo: DemoConfig = DemoConfig()


class ScoringConfig(BaseModel):
    """How notes are scored.

    Attributes:
        onset_tolerance_s: Largest distance of a hit (mir_eval's 50 ms).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    onset_tolerance_s: float = Field(0.05, gt=0)


class ResolvedTask(BaseModel):
    """A task's settings, complete.

    Attributes:
        task: What the engine trains.
        ranking: How its checkpoints are ranked.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: FrameTaskConfig
    ranking: RankingConfig


def choose_preset(name: PresetName, *, announce: bool = True) -> str:
    """Return the preset's name; `auto` is `reference` where a CUDA device is, else `cpu`."""
    chosen: str = name
    if name == "auto":
        import torch

        chosen = "reference" if torch.cuda.is_available() else "cpu"
    if announce:
        _announce(chosen, "chosen for this machine" if name == "auto" else "as asked")
    return chosen


@functools.lru_cache
def _announce(preset: str, how: str) -> None:
    # Cached: once per process is enough.
    logger.info("Preset %s (%s); choose with --params preset=cpu or preset=reference", preset, how)


def resolve_features(preset: Settings, features: Settings) -> FeatureSpec:
    """Return the feature specification of a preset with overrides."""
    return FeatureSpec.model_validate(merge(preset.get("features", {}), features))


def resolve_task(preset: Settings, features: Settings, settings: Settings) -> ResolvedTask:
    """Return the complete settings of the task that `settings` (with its `name`) overrides."""
    name = str(settings.get("name"))
    values = merge(preset.get(name, {}), settings)
    ranking = values.pop("ranking", {})
    values["features"] = merge(preset.get("features", {}), features)
    return ResolvedTask.model_validate({"task": values, "ranking": ranking})


def resolve_transcription(preset: Settings, transcribe: Settings) -> TranscriptionConfig:
    """Return the settings of transcription, complete."""
    return TranscriptionConfig.model_validate(merge(preset.get("transcribe", {}), transcribe))
