"""The configuration of the task `phoneme`: blocks that have to fit each other."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.augment import AugmentConfig
from amt_pipeline.phonemes.models import ModelConfig
from amt_pipeline.training.config import TrainingConfig


class LossConfig(BaseModel):
    """What the network is trained towards.

    Attributes:
        label_smoothing: Share of each target that goes to all classes alike.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label_smoothing: float = Field(0.0, ge=0, lt=1)


class EvaluationConfig(BaseModel):
    """How a network is evaluated frame by frame.

    Attributes:
        batch_frames: Most frames of an utterance in one batch; null is `tasks.BATCH_FRAMES` of the
            device. Networks of whole utterances take an utterance at a time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_frames: int | None = Field(None, ge=1)


class PhonemeTaskConfig(BaseModel):
    """Everything that makes one network: the resolved configuration stored in its checkpoints.

    Attributes:
        name: `phoneme`.
        features: What a frame holds.
        model: The network.
        loss: What it is trained towards.
        training: Hyper-parameters of the engine.
        augment: Variations of training frames.
        evaluation: Frame-wise validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["phoneme"] = "phoneme"
    features: MfccSpec
    model: ModelConfig
    loss: LossConfig = LossConfig()
    training: TrainingConfig
    augment: AugmentConfig = AugmentConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _settings_of_other_tasks(self) -> PhonemeTaskConfig:
        for name in ("pos_weight", "records_folder"):
            if getattr(self.training, name) is not None:
                raise ValueError(f"training.{name} is of no use to the task phoneme")
        if self.training.source != "frames":
            raise ValueError("training.source=tfrecords is not there for the task phoneme")
        if self.training.conv_l2:
            raise ValueError("training.conv_l2 is of no use here; use weight_decay or dense_l2")
        return self

    @model_validator(mode="after")
    def _batches_that_have_a_variance(self) -> PhonemeTaskConfig:
        if self.model.batch_norm and self.training.batch_size == 1:
            raise ValueError("training.batch_size must be 2 at least with model.batch_norm")
        return self
