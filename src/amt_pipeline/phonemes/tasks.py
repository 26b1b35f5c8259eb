"""Ties frames, classes and networks together for the engine: the task `phoneme`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import StoreError
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.augment import vary
from amt_pipeline.phonemes.grouping import pooled_by_length
from amt_pipeline.phonemes.label_store import AGAIN, FrameClasses, read_labels
from amt_pipeline.phonemes.models import ModelConfig
from amt_pipeline.phonemes.networks import build_network
from amt_pipeline.phonemes.task_config import PhonemeTaskConfig
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.windows import FrameSource, WindowReader, Windows
from amt_pipeline.training.device import resolve_device
from amt_pipeline.training.objective import ClassObjective
from amt_pipeline.training.task import ALL_ROWS, Batch

if TYPE_CHECKING:
    from torch import Tensor, nn

BATCH_FRAMES = {"cpu": 1024, "cuda": 16384}
"""Most frames per evaluation batch of a window network."""

UNIT = "utterance"


def training_fingerprint(data_fingerprint: str, features: MfccSpec) -> str:
    """Return the hash of a corpus and its features that a training run is known by."""
    return value_sha256([data_fingerprint, features.sha256])


class PhonemeTask:
    """The class of every frame of an utterance; see `training.task.Task`.

    Args:
        config: The resolved configuration.
        store_folder: The FrameStore.
        labels_folder: Classes of frames.
        splits: Ids of labelled utterances by split.
        n_classes: Classes of the corpus.
        data_fingerprint: Hash of the corpus (ids, splits, contents).

    Raises:
        StoreError: The store lacks an utterance, or was made under another feature specification.
    """

    unit, label = UNIT, "Phoneme network"

    def __init__(
        self,
        config: PhonemeTaskConfig,
        *,
        store_folder: Path,
        labels_folder: Path,
        splits: Mapping[str, Sequence[str]],
        n_classes: int,
        data_fingerprint: str,
    ) -> None:
        self.config, self.training = config, config.training
        self.name: str = config.name
        self.store = FrameStore.open(store_folder, config.features)
        self.labels_folder, self._splits = Path(labels_folder), splits
        self.n_classes, self._data_fingerprint = n_classes, data_fingerprint
        self._open: dict[str, tuple[FrameSource, FrameClasses]] = {}

    @property
    def objective(self) -> ClassObjective:
        """Return what the network is trained towards: one class per frame."""
        return ClassObjective(self.config.loss.label_smoothing)

    def recipe(self) -> dict[str, Any]:
        """Return how another process makes this task; see `training.task.Task`."""
        return {
            "task": f"{type(self).__module__}:{type(self).__qualname__}",
            "arguments": {
                "config": self.config.model_dump(mode="json"),
                "store_folder": str(self.store.folder.absolute()),
                "labels_folder": str(self.labels_folder.absolute()),
                "splits": {name: list(ids) for name, ids in self._splits.items()},
                "n_classes": self.n_classes,
                "data_fingerprint": self._data_fingerprint,
            },
        }

    @classmethod
    def from_recipe(cls, arguments: Mapping[str, Any]) -> PhonemeTask:
        """Return the task that a recipe's arguments describe."""
        return cls(
            PhonemeTaskConfig.model_validate(arguments["config"]),
            store_folder=Path(arguments["store_folder"]),
            labels_folder=Path(arguments["labels_folder"]),
            splits=arguments["splits"],
            n_classes=arguments["n_classes"],
            data_fingerprint=arguments["data_fingerprint"],
        )

    def describe(self) -> dict[str, Any]:
        """Return the resolved configuration without the engine's part."""
        settings = self.config.model_dump(mode="json", exclude={"training", "evaluation"})
        return {**settings, "classes": self.n_classes}

    def fingerprint(self) -> str:
        """Return a hash of corpus and features."""
        return training_fingerprint(self._data_fingerprint, self.config.features)

    def build_network(self) -> nn.Module:
        """Return the network with freshly drawn weights."""
        return build_network(self.config.features.bins, self.n_classes, self.config.model)

    def training_windows(self, epoch: int) -> Windows:
        """Return all frames, or all utterances, of an epoch in random order.

        Utterances of like length are in one batch, see `grouping.pooled_by_length`.
        """
        source, _ = self.open_split("train")
        rng = derive_rng(self.training.seed, "shuffle", epoch)
        if self.config.model.whole_utterances:
            size = self.training.batch_size
            # Epochs are joined end to end: a batch may have begun in the one before.
            begun = -epoch * len(source.n_frames) % size
            order = pooled_by_length(source.n_frames, size, rng, begun)
            return Windows(order, np.zeros(len(order), np.int64))
        windows = frames_of(source.n_frames)
        return windows[rng.permutation(len(windows))]

    def training_batch(self, windows: Windows, step: int, rows: slice = ALL_ROWS) -> Batch:
        """Return windows, or whole utterances, with their classes."""
        if not self.config.augment.active:
            return self.batch("train", windows[rows])
        # Draws are those of the whole batch, however many processes share it.
        batch = self.batch("train", windows)
        rng = derive_rng(self.training.seed, "augment", step)
        lengths = batch.inputs[1] if self.config.model.whole_utterances else None
        varied = vary(batch.inputs[0], lengths, self.config.augment, rng)
        return Batch(
            tuple(tensor[rows] for tensor in (varied, *batch.inputs[1:])),
            batch.targets[rows],
            None if batch.valid is None else batch.valid[rows],
        )

    def evaluation_batches(self, split: str) -> Iterator[tuple[str, Batch]]:
        """Yield `(utterance, batch)` over the frames of a split."""
        source, _ = self.open_split(split)
        for position, name in enumerate(self.evaluation_units(split)):
            for windows in self.windows_of(position, int(source.n_frames[position])):
                yield name, self.batch(split, windows)

    def evaluation_units(self, split: str) -> list[str]:
        """Return the utterances of a split."""
        return list(self._splits.get(split, ()))

    def forward(self, network: nn.Module, batch: Batch) -> Tensor:
        """Return the network's logits `[batch, classes]` or `[batch, time, classes]`."""
        logits: Tensor = network(*batch.inputs)
        return logits

    def training_source(self) -> FrameSource | None:
        """Return where training frames come from; see `training.holding.HoldsFrames`."""
        return self.open_split("train")[0]

    def use_training_source(self, source: FrameSource) -> None:
        """Take training frames from `source` from now on."""
        self._open["train"] = source, self.open_split("train")[1]

    def open_split(self, split: str) -> tuple[FrameSource, FrameClasses]:
        """Return frames and classes of a split; opened once.

        Raises:
            StoreError: Labels are missing or damaged, or not as many as frames.
        """
        if split not in self._open:
            ids = list(self._splits.get(split, ()))
            source, classes = WindowReader(self.store, ids), read_labels(self.labels_folder, ids)
            others = np.flatnonzero(source.n_frames != classes.n_frames)
            if len(others):
                at = others[0]
                problem = (
                    f"{len(others)} utterances have other numbers of labels than of frames "
                    f"({ids[at]}: {classes.n_frames[at]} and {source.n_frames[at]})"
                )
                raise StoreError(self.labels_folder, problem, AGAIN)
            self._open[split] = source, classes
        return self._open[split]

    def windows_of(self, position: int, n_frames: int) -> Iterator[Windows]:
        """Yield the windows of one utterance, so many at once as an evaluation batch takes."""
        if self.config.model.whole_utterances:
            if n_frames:
                yield Windows(np.array([position]), np.zeros(1, np.int64))
            return
        size = self.config.evaluation.batch_frames
        if size is None:
            size = BATCH_FRAMES[resolve_device(self.training.device).type]
        for first in range(0, n_frames, size):
            starts = np.arange(first, min(first + size, n_frames))
            yield Windows(np.full(len(starts), position), starts)

    def batch(self, split: str, windows: Windows) -> Batch:
        """Return examples as the corpus has them."""
        import torch

        source, classes = self.open_split(split)
        inputs = self.inputs(source, windows)
        at = classes.first[windows.recording] + windows.start
        if not self.config.model.whole_utterances:
            return Batch(inputs, torch.from_numpy(classes.classes[at].astype(np.int64)))
        n_frames = source.n_frames[windows.recording]
        time = np.arange(int(n_frames.max(initial=0)))
        valid = time < n_frames[:, None]
        targets = classes.classes[np.where(valid, at[:, None] + time, 0)].astype(np.int64)
        return Batch(inputs, torch.from_numpy(targets), torch.from_numpy(valid))

    def inputs(self, source: FrameSource, windows: Windows) -> tuple[Tensor, ...]:
        """Return what the network takes; see `network_inputs`."""
        return network_inputs(source, windows, self.config.model)


def network_inputs(source: FrameSource, windows: Windows, model: ModelConfig) -> tuple[Tensor, ...]:
    """Return what a network takes: frames, and their numbers for whole utterances.

    Args:
        source: Where frames come from.
        windows: [n] frames, or utterances.
        model: Which network.

    Returns:
        float32 `[n, window_frames, bins]`; or `[n, time, bins]` (zeros where padded) and int64
        `[n]`.
    """
    import torch

    if not model.whole_utterances:
        frames = source.gather(windows, 1, model.window_frames // 2, edges="repeat")
        return (torch.as_tensor(frames)[..., 0],)
    n_frames = source.n_frames[windows.recording]
    frames = source.gather(windows, int(n_frames.max(initial=0)), 0)
    return torch.as_tensor(frames)[..., 0], torch.from_numpy(n_frames)


def frames_of(n_frames: npt.NDArray[np.int64]) -> Windows:
    """Return every frame of some recordings as a window, by recording and time."""
    first = np.cumsum(n_frames) - n_frames
    recording = np.repeat(np.arange(len(n_frames)), n_frames)
    return Windows(recording, np.arange(len(recording)) - first[recording])
