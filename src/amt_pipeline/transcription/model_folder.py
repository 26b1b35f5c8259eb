"""A trained transcriber on disk: the chosen onset and pitch checkpoints and their thresholds.

<models>/onset/best/               checkpoint, with best.json
<models>/pitch/best/               checkpoint, with best.json
<models>/transcription/joint.json  thresholds tuned together on validation notes
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from amt_pipeline.core.errors import (
    CheckpointError,
    ConfigError,
    MissingPredecessorError,
    UserError,
)
from amt_pipeline.core.files import read_json
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.ranking.rank import BEST_FILE
from amt_pipeline.training.checkpoints import (
    WEIGHTS_FILE,
    load_weights,
    read_state,
    verify_checkpoint,
)
from amt_pipeline.transcription.task_config import EvaluationConfig, FrameTaskConfig

if TYPE_CHECKING:
    import torch

    from amt_pipeline.transcription.models import FrameNetwork

JOINT_FILE = Path("transcription", "joint.json")
TUNE_AGAIN = "Delete it and run `kedro run --pipelines transcribe`; it tunes the thresholds again"


@dataclass(frozen=True)
class ModelFolder:
    """The checkpoints of one transcriber, verified.

    Attributes:
        folder: The models folder.
        onset: Resolved configuration of the onset network.
        pitch: Resolved configuration of the pitch network.
        thresholds: Frame-wise tuned threshold by network.
        key: Hash of both networks' weights.
    """

    folder: Path
    onset: FrameTaskConfig
    pitch: FrameTaskConfig
    thresholds: dict[str, float]
    key: str

    @classmethod
    def open(cls, folder: str | Path, key: str | None = None) -> ModelFolder:
        """Verify and open a models folder.

        Args:
            folder: Where it lies.
            key: Of the weights that are expected there, when the caller began with them.

        Raises:
            MissingPredecessorError: A network was not trained and ranked yet.
            CheckpointError: A file is missing or damaged, or the weights are others than expected.
            ConfigError: The two networks were trained on different features.
        """
        folder = Path(folder)
        configs, thresholds, hashes = {}, {}, []
        for task in ("onset", "pitch"):
            best = folder / task / "best"
            if not best.is_dir():
                raise MissingPredecessorError(
                    best,
                    f"there is no chosen {task} checkpoint",
                    f"Run `kedro run --pipelines rank_{task}`",
                )
            hashes.append(verify_checkpoint(best)[WEIGHTS_FILE])
            configs[task] = _config_of(best)
            thresholds[task] = _threshold_of(best)
        if configs["onset"].features != configs["pitch"].features:
            raise ConfigError(
                folder,
                "onset and pitch network were trained on different features",
                "Train both with the same features.* parameters",
            )
        found = value_sha256(hashes)
        if key is not None and found != key:
            raise CheckpointError(
                folder, "changed while it was used", "Run again when training and ranking are done"
            )
        return cls(folder, configs["onset"], configs["pitch"], thresholds, found)

    def load(self, task: str, device: torch.device) -> FrameNetwork:
        """Return a network with its weights, on a device, ready to predict."""
        from amt_pipeline.transcription.networks import build_network

        config = self.onset if task == "onset" else self.pitch
        network = build_network(config.features, config.model)
        load_weights(self.folder / task / "best", network)
        network.to(device).eval()
        return network

    def joint_thresholds(self) -> dict[str, float] | None:
        """Return the thresholds tuned together, if they were tuned for these very weights."""
        joint = self._joint()
        path = self.folder / JOINT_FILE
        return (
            {task: _threshold(joint, task, path) for task in ("onset", "pitch")} if joint else None
        )

    def decoding(self) -> dict[str, Any]:
        """Return the other settings of the picker that the thresholds were tuned with, by name."""
        decoding = self._joint().get("decoding", {})
        if not isinstance(decoding, dict):
            raise CheckpointError(
                self.folder / JOINT_FILE, "does not say how notes are picked", TUNE_AGAIN
            )
        return dict(decoding)

    def _joint(self) -> dict[str, Any]:
        path = self.folder / JOINT_FILE
        joint = read_json(path) if path.is_file() else {}
        if not isinstance(joint, dict):
            raise CheckpointError(path, "holds no thresholds", TUNE_AGAIN)
        return joint if joint.get("model") == self.key else {}


def _threshold_of(checkpoint: Path) -> float:
    path = checkpoint / BEST_FILE
    remedy = "Rank the checkpoints again; the chosen one is copied with its threshold"
    try:
        return _threshold(read_json(path), "threshold", path, remedy)
    except CheckpointError:
        raise
    except UserError as error:
        raise CheckpointError(path, "does not say its threshold", remedy) from error


def _threshold(values: Any, name: str, path: Path, remedy: str = TUNE_AGAIN) -> float:
    """Return a probability by its name in what a file holds."""
    try:
        threshold = float(values[name])
        if not 0 <= threshold <= 1:
            raise ValueError(f"{threshold} is no probability")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        of = "" if name == "threshold" else f" for {name}"
        raise CheckpointError(path, f"does not say its threshold{of}", remedy) from error
    return threshold


def _config_of(checkpoint: Path) -> FrameTaskConfig:
    values: dict[str, Any] = dict(read_state(checkpoint).config)
    values.pop("data", None)
    try:
        return FrameTaskConfig.model_validate({**values, "evaluation": EvaluationConfig()})
    except ValidationError as error:
        raise CheckpointError(
            checkpoint,
            f"was made by another version of the package ({error.error_count()} settings)",
        ) from error
