"""All parameters of the project as one checked model: an unknown or ill-typed one stops the run.

Each family brings its own models; this is where they meet. What a preset and the overrides resolve
to is checked too, so that a misspelt `onset.training.epoch` is named before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from amt_pipeline.core.config_errors import name_faults
from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.phonemes import parameters as phonemes
from amt_pipeline.phonemes.config import LibrispeechConfig
from amt_pipeline.phonemes.predict import PredictionConfig
from amt_pipeline.phonemes.scoring import ScoringConfig as PhonemeScoringConfig
from amt_pipeline.phonemes.task_config import PhonemeTaskConfig
from amt_pipeline.ranking.rank import RankingConfig
from amt_pipeline.search.study import StudyConfig
from amt_pipeline.transcription.ingest import IngestConfig
from amt_pipeline.transcription.parameters import (
    MaestroConfig,
    PresetName,
    ScoringConfig,
    choose_preset,
    resolve_features,
    resolve_task,
    resolve_transcription,
)
from amt_pipeline.transcription.record_export import ExportConfig
from amt_pipeline.transcription.task_config import FrameTaskConfig
from amt_pipeline.transcription.transcribe import TranscriptionConfig

WHERE_TO_LOOK = "See conf/base/parameters_*.yml for what there is"


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
        parallel: Where recordings are worked on: this machine or a Dask cluster.
        features: Overrides of the preset's features.
        onset: Overrides of the preset's onset network.
        pitch: Overrides of the preset's pitch network.
        transcribe: Overrides of the preset's transcription.
        scoring: How notes are scored.
        export: How windows become TFRecords.
        curve: A validation curve from elsewhere.
        librispeech: The corpus of speech.
        phoneme_presets: Complete settings of the phoneme network, by size and level.
        phoneme_features: Overrides of its features.
        phoneme: Overrides of the preset that `phoneme.preset` names.
        phoneme_predict: How the network is asked.
        phoneme_scoring: How what it said is scored.
        studies: Variants to be trained and compared, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    preset: PresetName = "auto"
    presets: dict[str, dict[str, Any]]
    maestro: MaestroConfig = MaestroConfig()
    ingest: IngestConfig = IngestConfig()
    parallel: ParallelConfig = ParallelConfig()
    features: dict[str, Any] = {}
    onset: dict[str, Any] = {}
    pitch: dict[str, Any] = {}
    transcribe: dict[str, Any] = {}
    scoring: ScoringConfig = ScoringConfig()
    export: ExportConfig = ExportConfig()
    curve: CurveConfig = CurveConfig()
    librispeech: LibrispeechConfig = LibrispeechConfig()
    phoneme_presets: dict[str, dict[str, dict[str, Any]]] = {}
    phoneme_features: dict[str, Any] = {}
    phoneme: dict[str, Any] = {}
    phoneme_predict: PredictionConfig = PredictionConfig()
    phoneme_scoring: PhonemeScoringConfig = PhonemeScoringConfig()
    studies: dict[str, StudyConfig] = {}


def check_parameters(values: Mapping[str, Any]) -> None:
    """Check merged parameters, all but the studies.

    Raises:
        ConfigError: Names every parameter that is unknown, ill-typed or contradicts another.
    """
    try:
        # A study at fault stops those runs only that need it: `pipelines.studies.check`.
        own = {name: value for name, value in values.items() if name != "studies"}
        parameters = Parameters.model_validate(own)
    except ValidationError as error:
        raise _named(error, "") from error
    name = choose_preset(parameters.preset, announce=False)
    if name not in parameters.presets:
        raise ConfigError(f"parameter preset={name}", "is not among presets", WHERE_TO_LOOK)
    preset = parameters.presets[name]
    try:
        resolve_features(preset, parameters.features)
    except ValidationError as error:
        raise _named(error, "features") from error
    tasks = [
        _check_task(block, preset, parameters.features, getattr(parameters, block))
        for block in ("onset", "pitch")
    ]
    try:
        transcription = resolve_transcription(preset, parameters.transcribe)
    except ValidationError as error:
        raise _named(error, "transcribe") from error
    _check_votes(transcription, tasks)
    if parameters.phoneme_presets:
        _check_phoneme(parameters, name)


def _check_phoneme(parameters: Parameters, size: str) -> PhonemeTaskConfig:
    if size not in parameters.phoneme_presets:
        raise ConfigError(f"parameter preset={size}", "is not among phoneme_presets", WHERE_TO_LOOK)
    if parameters.phoneme.get("name") != "phoneme":
        raise ConfigError("parameter phoneme.name", "must stay 'phoneme'", "Do not override it")
    if "features" in parameters.phoneme:
        problem = "is not a parameter of the network, and would not be heeded"
        raise ConfigError("parameter phoneme.features", problem, "Use phoneme_features.*")
    try:
        features = phonemes.resolve_features(parameters.phoneme_features)
    except ValidationError as error:
        raise _named(error, "phoneme_features") from error
    try:
        return phonemes.resolve_task(
            parameters.phoneme_presets[size], features.model_dump(), parameters.phoneme
        ).task
    except ValidationError as error:
        raise _named(error, "phoneme") from error


def _check_task(
    block: str, preset: Mapping[str, Any], features: Mapping[str, Any], settings: Mapping[str, Any]
) -> FrameTaskConfig:
    if settings.get("name") != block:
        raise ConfigError(f"parameter {block}.name", f"must stay {block!r}", "Do not override it")
    if "features" in settings:
        raise ConfigError(
            f"parameter {block}.features",
            "is not a parameter of one network",
            "Both share features.*",
        )
    try:
        return resolve_task(preset, features, settings).task
    except ValidationError as error:
        raise _named(error, block) from error
    except ConfigError as error:
        where = error.where if error.where.startswith("features") else f"{block}.{error.where}"
        raise ConfigError(f"parameter {where}", error.problem, error.remedy) from error


def _check_votes(transcription: TranscriptionConfig, tasks: Sequence[FrameTaskConfig]) -> None:
    stride = transcription.vote_stride_frames
    for task in tasks:
        length = task.model.label_frames
        if stride is not None and stride > length:
            raise ConfigError(
                "parameter transcribe.vote_stride_frames",
                f"{stride} is more than {task.name}.model.label_frames={length}, which would leave "
                "frames without a vote",
                f"Use {length} or less",
            )


def _named(error: ValidationError, block: str) -> ConfigError:
    """Return one error that names every fault by the path a user types."""
    models = (
        *(Parameters, FrameTaskConfig, PhonemeTaskConfig, RankingConfig, TranscriptionConfig),
    )
    return name_faults(error, block, models, WHERE_TO_LOOK)
