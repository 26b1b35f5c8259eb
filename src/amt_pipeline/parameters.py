"""All parameters of the project as one checked model: an unknown or ill-typed one stops the run.

Each family brings its own models; this is where they meet. What a preset and the overrides resolve
to is checked too, so that a misspelt `onset.training.epoch` is named before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.transcription.ingest import IngestConfig
from amt_pipeline.transcription.parameters import (
    MaestroConfig,
    PresetName,
    ScoringConfig,
    resolve_features,
    resolve_task,
    resolve_transcription,
)


class CurveConfig(BaseModel):
    """A validation curve from elsewhere.

    Attributes:
        path: Event file, folder of them, or exported CSV.
        tag: Which scalar, when there are several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str | None = None
    tag: str | None = None


class Parameters(BaseModel):
    """The top level of `parameters*.yml`; blocks of overrides stay open until they are resolved.

    Attributes:
        preset: Which complete settings overrides are laid over.
        presets: Complete settings by name.
        maestro: Where the corpus is.
        ingest: How it is read.
        features: Overrides of the preset's features.
        onset: Overrides of the preset's onset network.
        pitch: Overrides of the preset's pitch network.
        transcribe: Overrides of the preset's transcription.
        scoring: How notes are scored.
        curve: A validation curve from elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: PresetName = "auto"
    presets: dict[str, dict[str, Any]]
    maestro: MaestroConfig = MaestroConfig()
    ingest: IngestConfig = IngestConfig()
    features: dict[str, Any] = {}
    onset: dict[str, Any] = {}
    pitch: dict[str, Any] = {}
    transcribe: dict[str, Any] = {}
    scoring: ScoringConfig = ScoringConfig()
    curve: CurveConfig = CurveConfig()


def check_parameters(values: Mapping[str, Any]) -> None:
    """Check merged parameters.

    Raises:
        ConfigError: Names every parameter that is unknown, ill-typed or contradicts another.
    """
    try:
        parameters = Parameters.model_validate(dict(values))
    except ValidationError as error:
        raise _named(error, "") from error
    preset = parameters.presets.get("cpu" if parameters.preset == "auto" else parameters.preset)
    if preset is None:
        raise ConfigError(f"preset={parameters.preset}", "is not among presets", "See presets")
    for block in ("onset", "pitch"):
        settings = getattr(parameters, block)
        if settings.get("name") != block:
            raise ConfigError(f"{block}.name", f"must stay {block!r}", "Do not override it")
        try:
            resolve_task(preset, parameters.features, settings)
        except ValidationError as error:
            raise _named(error, block) from error
    try:
        resolve_features(preset, parameters.features)
    except ValidationError as error:
        raise _named(error, "features") from error
    try:
        resolve_transcription(preset, parameters.transcribe)
    except ValidationError as error:
        raise _named(error, "transcribe") from error


def _named(error: ValidationError, block: str) -> ConfigError:
    """Return one error that names every fault by the path a user types."""
    faults = []
    for fault in error.errors():
        steps = [str(step) for step in fault["loc"]]
        if steps[:1] == ["task"]:
            steps = steps[1:]
        inside = "features" if steps[:1] == ["features"] else ".".join([block, *steps])
        name = ".".join(steps) if inside == "features" else inside.strip(".")
        problem = "unknown parameter" if fault["type"] == "extra_forbidden" else fault["msg"]
        shown = "" if fault["type"] == "extra_forbidden" else f" (got {fault['input']!r})"
        faults.append(f"{name}: {problem}{shown}" if name else f"{problem}")
    first, *rest = faults
    where, _, problem = first.partition(": ")
    more = "".join(f"; {fault}" for fault in rest)
    return ConfigError(
        f"parameter {where}", problem + more, "See conf/base/parameters_*.yml for what there is"
    )
