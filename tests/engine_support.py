"""A small task of random frames that the engine can train in milliseconds, for tests of the engine.

Tests reach it through the fixtures of `engine_fixtures`; child processes import it by its folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.windows import FrameSource, WindowReader, Windows
from amt_pipeline.training.config import TrainingConfig
from amt_pipeline.training.objective import BinaryObjective, ClassObjective
from amt_pipeline.training.task import ALL_ROWS, Batch

SPEC = FeatureSpec(
    kind="log_mel",
    sample_rate=8000,
    hop_samples=64,
    channels=1,
    bins=8,
    fmax_hz=4000,
    dtype="float32",
)
SPLITS = {"train": {"a": 37, "b": 22}, "validation": {"v1": 20, "v2": 13, "v3": 9}, "test": {}}
LENGTH, CONTEXT = 4, 1
TRAINING = {
    "epochs": 4,
    "batch_size": 4,
    "learning_rate": 0.01,
    "schedule": {"kind": "step", "decay_steps": 3},
    "pos_weight": 2.0,
    "gradient_clip": 1.0,
    "save_every_steps": 4,
    "log_every_steps": 2,
    "device": "cpu",
    "threads": 1,
}


def fill_store(folder: Path, corpus: str = "first") -> FrameStore:
    """Write random frames of every recording."""
    store = FrameStore.create(folder, SPEC)
    for names in SPLITS.values():
        for name, n_frames in names.items():
            frames = derive_rng(7, corpus, name).random((n_frames, SPEC.bins, 1), np.float32)
            store.write(name, frames, value_sha256([corpus, name]))
    return store


class LoudBin(nn.Module):
    """Whether bin 0 is louder than bin 1; it draws random numbers and has running statistics."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        seen = (2 * CONTEXT + 1) * SPEC.bins
        self.layers = nn.Sequential(
            nn.Linear(seen, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, 1),
        )

    def forward(self, frames: Tensor) -> Tensor:
        size = 2 * CONTEXT + 1
        seen = frames[..., 0].unfold(1, size, 1)
        n, length = seen.shape[:2]
        logits: Tensor = self.layers(seen.reshape(n * length, -1))
        return logits.reshape(n, length)


class SyntheticTask:
    """A task on the store of `fill_store`."""

    name, label, unit = "loud", "Loud bin", "piece"

    def __init__(
        self, store_folder: Path, *, hidden: int = 8, masked: bool = True, **training: Any
    ) -> None:
        self.training = TrainingConfig(**{**TRAINING, **training})
        self.store_folder, self.hidden, self.masked = store_folder, hidden, masked
        self.before_step: Callable[[int], object] = lambda step: None
        self.poisoned_from_step = 10**9
        store = FrameStore.open(store_folder, SPEC)
        self.readers = {split: WindowReader(store, list(ids)) for split, ids in SPLITS.items()}
        ids = [name for names in SPLITS.values() for name in names]
        self._fingerprint = value_sha256([store.entry(name).content_sha256 for name in ids])
        self.evaluations = 0

    @property
    def objective(self) -> BinaryObjective:
        return BinaryObjective(self.training.pos_weight)

    def recipe(self) -> dict[str, Any]:
        settings = {"hidden": self.hidden, "masked": self.masked, **self.training.model_dump()}
        return {
            "task": f"{type(self).__module__}:{type(self).__qualname__}",
            "arguments": {"store_folder": str(self.store_folder), "settings": settings},
        }

    @classmethod
    def from_recipe(cls, arguments: dict[str, Any]) -> SyntheticTask:
        return cls(Path(arguments["store_folder"]), **arguments["settings"])

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "model": {"hidden": self.hidden}, "features": SPEC.model_dump()}

    def fingerprint(self) -> str:
        return self._fingerprint

    def build_network(self) -> nn.Module:
        return LoudBin(self.hidden)

    def training_windows(self, epoch: int) -> Windows:
        windows = self.tiles("train")
        order = derive_rng(self.training.seed, "shuffle", epoch).permutation(len(windows))
        return windows[order]

    def training_batch(self, windows: Windows, step: int, rows: slice = ALL_ROWS) -> Batch:
        self.before_step(step)
        batch = self.batch("train", windows[rows])
        shape = (len(windows), *batch.inputs[0].shape[1:])
        noise = derive_rng(self.training.seed, "noise", step).normal(0, 0.01, shape)[rows]
        frames = batch.inputs[0] + torch.from_numpy(noise.astype(np.float32))
        if step >= self.poisoned_from_step:
            frames = frames * float("nan")
        return Batch((frames,), batch.targets, batch.valid)

    def evaluation_batches(self, split: str) -> Iterator[tuple[str, Batch]]:
        self.evaluations += 1
        windows, reader = self.tiles(split), self.readers[split]
        for position, name in enumerate(reader.recording_ids):
            own = windows[windows.recording == position]
            for first in range(0, len(own), 2):
                yield name, self.batch(split, own[first : first + 2])

    def evaluation_units(self, split: str) -> list[str]:
        return list(SPLITS[split])

    def forward(self, network: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = network(batch.inputs[0])
        return logits

    def tiles(self, split: str) -> Windows:
        """Return the windows of a split one after the other; the last may reach past the end."""
        return Windows.concatenate(
            [
                Windows(
                    np.full(len(starts), recording, np.int64), np.asarray(starts, dtype=np.int64)
                )
                for recording, count in enumerate(self.readers[split].n_frames)
                for starts in [range(0, int(count), LENGTH)]
            ]
        )

    def batch(self, split: str, windows: Windows) -> Batch:
        """Return unvaried examples."""
        reader = self.readers[split]
        frames = reader.gather(windows, LENGTH, CONTEXT)
        middle = frames[:, CONTEXT : CONTEXT + LENGTH, :, 0]
        at = windows.start[:, None] + np.arange(LENGTH)
        valid = at < reader.n_frames[windows.recording][:, None]
        return Batch(
            (torch.from_numpy(frames),),
            torch.from_numpy((middle[..., 0] > middle[..., 1]).astype(np.float32)),
            torch.from_numpy(valid) if self.masked else None,
        )


class LoudestBin(LoudBin):
    """Which of the first three bins is the loudest."""

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden)
        self.layers[-1] = nn.Linear(hidden, 3)

    def forward(self, frames: Tensor) -> Tensor:
        seen = frames[..., 0].unfold(1, 2 * CONTEXT + 1, 1)
        n, length = seen.shape[:2]
        logits: Tensor = self.layers(seen.reshape(n * length, -1))
        return logits.reshape(n, length, 3)


class SyntheticClassTask(SyntheticTask):
    """The same frames with one class of three for every frame."""

    name, label = "loudest", "Loudest bin"

    @property
    def objective(self) -> ClassObjective:  # type: ignore[override]
        return ClassObjective()

    def build_network(self) -> nn.Module:
        return LoudestBin(self.hidden)

    def batch(self, split: str, windows: Windows) -> Batch:
        made = super().batch(split, windows)
        middle = made.inputs[0][:, CONTEXT : CONTEXT + LENGTH, :3, 0]
        return Batch(made.inputs, middle.argmax(-1), made.valid)


class MovableTask(SyntheticTask):
    """A task whose training frames may be moved."""

    def training_source(self) -> FrameSource | None:
        return self.readers["train"]

    def use_training_source(self, source: FrameSource) -> None:
        self.readers["train"] = source

    def windows_at(self, step: int) -> Windows:
        return self.training_windows(0)[step * 3 : step * 3 + 3]

    def make(self, step: int) -> Batch:
        frames = torch.as_tensor(
            self.readers["train"].gather(self.windows_at(step), LENGTH, CONTEXT)
        )
        return Batch((frames, torch.tensor([step])), frames.amax((1, 2)), None)


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches are equal to the bit."""
    pairs = zip((*one.inputs, one.targets), (*other.inputs, other.targets), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and (one.valid is other.valid is None)


def weights(folder: Path) -> dict[str, Any]:
    """Return the weights in a checkpoint or folder of a chosen one, as arrays."""
    from safetensors.numpy import load_file

    return dict(load_file(Path(folder) / "model.safetensors"))
