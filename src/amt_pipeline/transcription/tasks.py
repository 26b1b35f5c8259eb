"""Ties frames, labels, networks and scaling together for the engine: tasks `onset` and `pitch`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.features.scaling import InputScaling
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.windows import WindowReader, Windows
from amt_pipeline.training.config import TrainingConfig
from amt_pipeline.training.task import Batch
from amt_pipeline.transcription.augment import (
    AugmentConfig,
    Variation,
    draw_variation,
    vary_frames,
    vary_keys,
)
from amt_pipeline.transcription.labels import FrameLabels, LabelConfig
from amt_pipeline.transcription.models import (
    FrameNetwork,
    ModelConfig,
    build_network,
    check_network,
)
from amt_pipeline.transcription.note_table import read_note_table

if TYPE_CHECKING:
    from torch import Tensor, nn

UNIT = "piece"
LABELS = {"onset": "Onset network", "pitch": "Pitch network"}


class EvaluationConfig(BaseModel):
    """How a network is evaluated frame by frame.

    Attributes:
        frames: Score `all` frames, or only windows centred on an onset (`onset_windows`, the
            reference's pitch sets).
        stride_frames: Step between windows over all frames; null is one window after the other
            (each frame counts once), 1 is the reference's (each counts once per window it is in).
        batch_frames: Labelled frames per batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: str = Field("all", pattern="^(all|onset_windows)$")
    stride_frames: int | None = Field(None, ge=1)
    batch_frames: int = Field(2048, ge=1)


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


def training_fingerprint(data_fingerprint: str, features: FeatureSpec) -> str:
    """Return the hash of a corpus and its features that a training run is known by."""
    return value_sha256([data_fingerprint, features.sha256])


class FrameTask:
    """The onset or the pitch network on one corpus; see `training.task.Task`.

    Args:
        config: The resolved configuration.
        store_folder: The FrameStore.
        notes_folder: Note tables, one per recording.
        splits: Recording ids by split.
        data_fingerprint: Hash of the corpus (ids, splits, contents).

    Raises:
        StoreError: The store lacks a recording, or was made under another feature specification.
    """

    unit = UNIT

    def __init__(
        self,
        config: FrameTaskConfig,
        *,
        store_folder: Path,
        notes_folder: Path,
        splits: Mapping[str, Sequence[str]],
        data_fingerprint: str,
    ) -> None:
        self.config, self.training, self.name = config, config.training, config.name
        self.label = LABELS[config.name]
        self.store = FrameStore.open(store_folder, config.features)
        self._notes_folder, self._splits = Path(notes_folder), splits
        self._data_fingerprint = data_fingerprint
        self._open: dict[str, tuple[WindowReader, FrameLabels]] = {}
        self._context = self.build_network().context_frames

    def describe(self) -> dict[str, Any]:
        """Return the resolved configuration without the engine's part."""
        return self.config.model_dump(mode="json", exclude={"training", "evaluation"})

    def fingerprint(self) -> str:
        """Return a hash of corpus and features."""
        return training_fingerprint(self._data_fingerprint, self.config.features)

    def build_network(self) -> FrameNetwork:
        """Return the network with freshly drawn weights."""
        return build_network(self.config.features, self.config.model)

    def training_windows(self, epoch: int) -> Windows:
        """Return the shuffled windows of an epoch."""
        _, labels = self.open_split("train")
        seed = self.training.seed
        windows = labels.training_windows(self.config.model.label_frames, seed=seed, epoch=epoch)
        return windows[derive_rng(seed, "shuffle", epoch).permutation(len(windows))]

    def training_batch(self, windows: Windows, step: int) -> Batch:
        """Return raw windows with their targets, varied if the configuration says so."""
        batch = self._batch("train", windows)
        if not self.config.augment.active:
            return batch
        variation = draw_variation(
            self.config.augment,
            batch_size=len(windows),
            bins=self.config.features.bins,
            seed=self.training.seed,
            step=step,
        )
        return self._varied(batch, variation)

    def evaluation_batches(self, split: str) -> Iterator[tuple[str, Batch]]:
        """Yield `(recording id, batch)` over the evaluation windows of a split."""
        reader, labels = self.open_split(split)
        length = self.config.model.label_frames
        if self.config.evaluation.frames == "all":
            stride = self.config.evaluation.stride_frames or length
            windows = labels.tiled_windows(length, stride)
        else:
            windows = labels.onset_centred_windows(length)
        size = max(1, self.config.evaluation.batch_frames // length)
        for position, recording in enumerate(reader.recording_ids):
            own = windows[windows.recording == position]
            for first in range(0, len(own), size):
                yield recording, self._batch(split, own[first : first + size])

    def forward(self, network: nn.Module, batch: Batch) -> Tensor:
        """Scale a batch's windows and return the network's logits."""
        frames, peak = batch.inputs
        scaled = self.config.input.apply(frames, peak, self.config.features.kind)
        logits: Tensor = network(scaled)
        return logits

    def open_split(self, split: str) -> tuple[WindowReader, FrameLabels]:
        """Return reader and labels of a split; opened once."""
        if split not in self._open:
            ids = list(self._splits.get(split, ()))
            reader = WindowReader(self.store, ids)
            notes = [read_note_table(self._notes_folder / f"{name}.parquet") for name in ids]
            grid = self.config.features.grid
            labels = FrameLabels(notes, reader.n_frames, grid, self.config.labels)
            self._open[split] = reader, labels
        return self._open[split]

    def _batch(self, split: str, windows: Windows) -> Batch:
        import torch

        reader, labels = self.open_split(split)
        length = self.config.model.label_frames
        frames = reader.gather(windows, length, self._context)
        targets = self._targets(labels, windows)
        at = windows.start[:, None] + np.arange(length)
        valid = (at >= 0) & (at < labels.n_frames[windows.recording][:, None])
        valid_of_targets = valid if targets.ndim == 2 else valid[..., None]
        return Batch(
            inputs=(torch.from_numpy(frames), torch.from_numpy(reader.peak[windows.recording])),
            targets=torch.from_numpy(targets),
            valid=torch.from_numpy(valid_of_targets),
        )

    def _targets(
        self, labels: FrameLabels, windows: Windows
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        length = self.config.model.label_frames
        if self.name == "onset":
            return labels.positive(labels.onset_grades(windows, length))
        return labels.positive(labels.pitch_grades(windows, length))

    def _varied(self, batch: Batch, variation: Variation) -> Batch:
        frames, peak = batch.inputs
        per_semitone = self.config.features.bins_per_octave // 12
        targets = batch.targets
        if self.name == "pitch":
            targets = vary_keys(targets, variation)
        return Batch((vary_frames(frames, variation, per_semitone), peak), targets, batch.valid)
