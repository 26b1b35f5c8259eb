"""The configuration of the tasks `onset` and `pitch`: blocks that have to fit each other."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amt_pipeline.features.scaling import InputScaling
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.training.config import TrainingConfig
from amt_pipeline.transcription.augment import AugmentConfig
from amt_pipeline.transcription.labels import LabelConfig
from amt_pipeline.transcription.models import ModelConfig
from amt_pipeline.transcription.networks import check_network
from amt_pipeline.transcription.record_format import check_source


class EvaluationConfig(BaseModel):
    """How a network is evaluated frame by frame.

    Attributes:
        frames: Score `all` frames, or only windows centred on an onset (`onset_windows`, the
            reference's pitch sets).
        stride_frames: Step between windows over all frames; null is one window after the other
            (each frame counts once), 1 is the reference's (each counts once per window it is in).
        batch_frames: Labelled frames per batch; null is `tasks.BATCH_FRAMES` of the device.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: str = Field("all", pattern="^(all|onset_windows)$")
    stride_frames: int | None = Field(None, ge=1)
    batch_frames: int | None = Field(None, ge=1)


class FrameTaskConfig(BaseModel):
    """Everything that makes one network: the resolved configuration stored in its checkpoints.

    Attributes:
        name: `onset` or `pitch`.
        features: What a frame holds.
        input: How magnitudes are scaled.
        labels: Targets and sampling.
        model: The network.
        training: Hyper-parameters of the engine.
        augment: Variations of training windows.
        evaluation: Frame-wise validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern="^(onset|pitch)$")
    features: FeatureSpec
    input: InputScaling
    labels: LabelConfig
    model: ModelConfig
    training: TrainingConfig
    augment: AugmentConfig
    evaluation: EvaluationConfig

    @model_validator(mode="after")
    def _network_fits_task(self) -> FrameTaskConfig:
        if (self.model.kind == "onset") != (self.name == "onset"):
            raise ValueError(
                f"model.kind={self.model.kind} is not a network of the task {self.name}"
            )
        check_network(self.features, self.model)
        stride, length = self.evaluation.stride_frames, self.model.label_frames
        if stride is not None and stride > length:
            raise ValueError(
                f"evaluation.stride_frames={stride} is more than model.label_frames={length}, "
                "which would leave frames unscored"
            )
        cqt = self.features.kind == "cqt" and self.features.bins_per_octave % 12 == 0
        if self.augment.transpose_semitones and not cqt:
            raise ValueError(
                "augment.transpose_semitones needs features.kind=cqt with whole bins per semitone"
            )
        return self

    @model_validator(mode="after")
    def _records_fit(self) -> FrameTaskConfig:
        check_source(self)
        return self
