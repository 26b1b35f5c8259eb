"""Ties frames, labels, networks and scaling together for the engine: tasks `onset` and `pitch`."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.windows import FrameSource, WindowReader, Windows
from amt_pipeline.training.device import resolve_device
from amt_pipeline.training.objective import BinaryObjective
from amt_pipeline.training.task import ALL_ROWS, Batch
from amt_pipeline.transcription.augment import Variation, draw_variation, vary_frames, vary_keys
from amt_pipeline.transcription.labels import FrameLabels
from amt_pipeline.transcription.models import FrameNetwork
from amt_pipeline.transcription.networks import NETWORKS, build_network
from amt_pipeline.transcription.note_table import read_note_table
from amt_pipeline.transcription.record_source import RecordSource, open_export, open_outside
from amt_pipeline.transcription.task_config import FrameTaskConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH_FRAMES = {"cpu": 512, "cuda": 8192}
"""Labelled frames per evaluation batch: on a CPU no more than leaves the activations in its caches
(2048 take 1.2 to 2 times as long), on a GPU enough to keep it busy.
"""

UNIT = "piece"
LABELS = {"onset": "Onset network", "pitch": "Pitch network"}


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
        records_folder: The export of training windows, read with `training.source=tfrecords`.

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
        records_folder: Path | None = None,
    ) -> None:
        self.config, self.training, self.name = config, config.training, config.name
        self.label = LABELS[config.name]
        self.store = FrameStore.open(store_folder, config.features)
        self.notes_folder, self._splits = Path(notes_folder), splits
        self._data_fingerprint, self._records_folder = data_fingerprint, records_folder
        self._open: dict[str, tuple[FrameSource, FrameLabels]] = {}
        self._context = NETWORKS[config.model.kind].context_frames

    @property
    def objective(self) -> BinaryObjective:
        """Return what the network is trained towards: yes or no per frame (and key)."""
        return BinaryObjective(self.training.pos_weight)

    def recipe(self) -> dict[str, Any]:
        """Return how another process makes this task; see `training.task.Task`."""
        records, config = self._records_folder, self.config.model_dump(mode="json")
        if (outside := self.training.records_folder) is not None:
            config["training"]["records_folder"] = str(Path(outside).expanduser().absolute())
        return {
            "task": f"{type(self).__module__}:{type(self).__qualname__}",
            "arguments": {
                "config": config,
                "store_folder": str(self.store.folder.absolute()),
                "notes_folder": str(self.notes_folder.absolute()),
                "splits": {name: list(ids) for name, ids in self._splits.items()},
                "data_fingerprint": self._data_fingerprint,
                "records_folder": None if records is None else str(records.absolute()),
            },
        }

    @classmethod
    def from_recipe(cls, arguments: Mapping[str, Any]) -> FrameTask:
        """Return the task that a recipe's arguments describe."""
        records = arguments["records_folder"]
        return cls(
            FrameTaskConfig.model_validate(arguments["config"]),
            store_folder=Path(arguments["store_folder"]),
            notes_folder=Path(arguments["notes_folder"]),
            splits=arguments["splits"],
            data_fingerprint=arguments["data_fingerprint"],
            records_folder=None if records is None else Path(records),
        )

    def describe(self) -> dict[str, Any]:
        """Return the resolved configuration without the engine's part."""
        return self.config.model_dump(mode="json", exclude={"training", "evaluation"})

    def fingerprint(self) -> str:
        """Return a hash of corpus and features, and of records made elsewhere."""
        own = training_fingerprint(self._data_fingerprint, self.config.features)
        if self.training.records_folder is None or self._records is None:
            return own
        return value_sha256([own, self._records.digest])

    def build_network(self) -> FrameNetwork:
        """Return the network with freshly drawn weights."""
        return build_network(self.config.features, self.config.model)

    def training_windows(self, epoch: int) -> Windows:
        """Return the shuffled windows of an epoch."""
        seed, length = self.training.seed, self.config.model.label_frames
        if self.training.records_folder is not None and self._records is not None:
            windows = self._records.windows()
        else:
            _, labels = self.open_split("train")
            windows = labels.training_windows(length, seed=seed, epoch=epoch)
        return windows[derive_rng(seed, "shuffle", epoch).permutation(len(windows))]

    def training_batch(self, windows: Windows, step: int, rows: slice = ALL_ROWS) -> Batch:
        """Return raw windows with their targets, varied if the configuration says so."""
        batch = self._training_examples(windows[rows])
        if not self.config.augment.active:
            return batch
        variation = draw_variation(
            self.config.augment,
            batch_size=len(windows),
            bins=self.config.features.bins,
            seed=self.training.seed,
            step=step,
        )
        return self._varied(batch, variation[rows])

    def evaluation_batches(self, split: str) -> Iterator[tuple[str, Batch]]:
        """Yield `(recording id, batch)` over the evaluation windows of a split."""
        windows = self.evaluation_windows(split)
        frames = self.config.evaluation.batch_frames
        if frames is None:
            frames = BATCH_FRAMES[resolve_device(self.training.device).type]
        size = max(1, frames // self.config.model.label_frames)
        for position, recording in enumerate(self.evaluation_units(split)):
            low, high = np.searchsorted(windows.recording, [position, position + 1])
            for first in range(int(low), int(high), size):
                yield recording, self._batch(split, windows[first : min(first + size, int(high))])

    def evaluation_windows(self, split: str) -> Windows:
        """Return the evaluation windows of a split, by recording and time."""
        _, labels = self.open_split(split)
        length = self.config.model.label_frames
        if self.config.evaluation.frames == "onset_windows":
            return labels.onset_centred_windows(length)
        return labels.tiled_windows(length, self.config.evaluation.stride_frames or length)

    def evaluation_units(self, split: str) -> list[str]:
        """Return the recording ids of a split."""
        return list(self._splits.get(split, ()))

    def forward(self, network: nn.Module, batch: Batch) -> Tensor:
        """Scale a batch's windows and return the network's logits."""
        frames, peak = batch.inputs
        scaled = self.config.input.apply(frames, peak, self.config.features.kind)
        logits: Tensor = network(scaled)
        return logits

    def training_source(self) -> FrameSource | None:
        """Return where training frames come from; see `training.holding.HoldsFrames`."""
        return self.open_split("train")[0] if self.training.source == "frames" else None

    def use_training_source(self, source: FrameSource) -> None:
        """Take training frames from `source` from now on."""
        self._open["train"] = source, self.open_split("train")[1]

    def open_split(self, split: str) -> tuple[FrameSource, FrameLabels]:
        """Return frames and labels of a split; opened once."""
        if split not in self._open:
            ids = list(self._splits.get(split, ()))
            reader = WindowReader(self.store, ids)
            notes = [read_note_table(self.notes_folder / f"{name}.parquet") for name in ids]
            grid = self.config.features.grid
            labels = FrameLabels(notes, reader.n_frames, grid, self.config.labels)
            self._open[split] = reader, labels
        return self._open[split]

    def examples(self, split: str, windows: Windows) -> tuple[Any, npt.NDArray[np.uint8]]:
        """Return frames [n, frames, bins, channels] of windows and their grades [n, label_frames].

        Grades of the pitch task are [n, label_frames, 88].
        """
        reader, labels = self.open_split(split)
        length = self.config.model.label_frames
        grades = labels.onset_grades if self.name == "onset" else labels.pitch_grades
        return reader.gather(windows, length, self._context), grades(windows, length)

    @property
    def context_frames(self) -> int:
        """Frames that the network needs on either side of the labelled ones."""
        return self._context

    @functools.cached_property
    def _records(self) -> RecordSource | None:
        if self.training.source == "frames":
            return None
        if self.training.records_folder is not None:
            folder = Path(self.training.records_folder).expanduser().absolute()
            return open_outside(folder, self.config, context=self._context)
        if self._records_folder is None:
            raise ConfigError("training.source", "is tfrecords, but there is no folder of records")
        return open_export(
            self._records_folder,
            self.config,
            context=self._context,
            fingerprint=self.fingerprint(),
            recording_ids=self.evaluation_units("train"),
        )

    def _training_examples(self, windows: Windows) -> Batch:
        if self._records is None:
            return self._batch("train", windows)
        frames, grades = self._records.gather(windows)
        if self.training.records_folder is None:
            return self._assembled("train", windows, frames, grades)
        # Who made these records knows where recordings end and how loud they are; we do not.
        nothing = np.ones((len(windows), self.config.features.channels), np.float32)
        return self._as_batch(frames, grades, nothing, np.ones(grades.shape[:2], np.bool_))

    def _batch(self, split: str, windows: Windows) -> Batch:
        return self._assembled(split, windows, *self.examples(split, windows))

    def _assembled(
        self, split: str, windows: Windows, frames: Any, grades: npt.NDArray[np.uint8]
    ) -> Batch:
        reader, labels = self.open_split(split)
        at = windows.start[:, None] + np.arange(self.config.model.label_frames)
        valid = (at >= 0) & (at < labels.n_frames[windows.recording][:, None])
        return self._as_batch(frames, grades, reader.peak[windows.recording], valid)

    def _as_batch(
        self,
        frames: Any,
        grades: npt.NDArray[np.uint8],
        peak: npt.NDArray[np.float32],
        valid: npt.NDArray[np.bool_],
    ) -> Batch:
        import torch

        targets = self.config.labels.positive(grades)
        return Batch(
            inputs=(torch.as_tensor(frames), torch.from_numpy(peak)),
            targets=torch.from_numpy(targets),
            valid=torch.from_numpy(valid if targets.ndim == 2 else valid[..., None]),
        )

    def _varied(self, batch: Batch, variation: Variation) -> Batch:
        frames, peak = batch.inputs
        per_semitone = self.config.features.bins_per_octave // 12
        targets = batch.targets
        if self.name == "pitch":
            targets = vary_keys(targets, variation)
        return Batch((vary_frames(frames, variation, per_semitone), peak), targets, batch.valid)
