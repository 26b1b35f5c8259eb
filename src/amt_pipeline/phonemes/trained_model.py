"""The chosen checkpoint of the task `phoneme`, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from amt_pipeline.core.errors import CheckpointError, MissingPredecessorError
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.models import ModelConfig
from amt_pipeline.training.checkpoints import (
    WEIGHTS_FILE,
    load_weights,
    read_state,
    verify_checkpoint,
)

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class TrainedModel:
    """A verified checkpoint.

    Attributes:
        folder: The checkpoint.
        features: What a frame holds.
        model: The network.
        n_classes: Logits of a frame.
        weights_sha256: Hash of the file of weights.
    """

    folder: Path
    features: MfccSpec
    model: ModelConfig
    n_classes: int
    weights_sha256: str

    @property
    def key(self) -> str:
        """Hash of weights, network and features."""
        settings = [self.model.model_dump(), self.n_classes, self.features.sha256]
        return value_sha256([self.weights_sha256, *settings])

    @classmethod
    def open(cls, folder: str | Path) -> TrainedModel:
        """Verify and open a checkpoint.

        Raises:
            MissingPredecessorError: There is none.
            CheckpointError: A file is missing or damaged, or it is of another task or version.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise MissingPredecessorError(
                folder, "there is no chosen checkpoint", "Run `kedro run --pipelines rank_phoneme`"
            )
        weights_sha256 = verify_checkpoint(folder)[WEIGHTS_FILE]
        config = read_state(folder).config
        try:
            return cls(
                folder,
                MfccSpec.model_validate(config["features"]),
                ModelConfig.model_validate(config["model"]),
                int(config["classes"]),
                weights_sha256,
            )
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise CheckpointError(
                folder,
                "is no checkpoint of a phoneme network of this version",
                "Train and rank again",
            ) from error

    def load(self, device: torch.device) -> nn.Module:
        """Return the network with its weights, on a device, in evaluation.

        Raises:
            CheckpointError: The weights were replaced meanwhile, or are those of another network.
        """
        from amt_pipeline.phonemes.networks import build_network

        network = build_network(self.features.bins, self.n_classes, self.model)
        load_weights(self.folder, network, self.weights_sha256)
        return network.to(device).eval()
