"""Probabilities of the classes for every frame of many utterances; only what is not there yet.

Utterances are taken together: a batch of a window network holds frames of several, a batch of an
utterance network several of like length. At most `GROUP_FRAMES` and one utterance are held.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.errors import CheckpointError
from amt_pipeline.core.files import remove_leftovers
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.progress import Progress
from amt_pipeline.phonemes.grouping import batches_of_like_length, groups_of
from amt_pipeline.phonemes.probabilities import (
    is_current,
    remove_others,
    to_half,
    write_probabilities,
)
from amt_pipeline.phonemes.tasks import BATCH_FRAMES, frames_of, network_inputs
from amt_pipeline.phonemes.trained_model import TrainedModel
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.windows import WindowReader, Windows
from amt_pipeline.training.device import autocast, resolve_device, resolve_precision, set_threads

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

VERSION = 1
"""Part of every item's key. Raise it when the same model and frames give other files."""

GROUP_FRAMES = 65_536
"""Frames whose probabilities are held before they are written (10 MB of 41 classes)."""

UTTERANCE_BATCH_FRAMES = {"cpu": 16_384, "cuda": 262_144}
"""Most frames, with padding, in a batch of an utterance network that has several utterances."""


class PredictionConfig(BaseModel):
    """How a network is asked.

    Attributes:
        device: `auto` is CUDA where present.
        precision: Of the network's arithmetic; `auto` is bfloat16 on CUDA, else float32.
        batch_frames: Most frames of a batch; null is what suits the device and the network.
        threads: CPU threads; null is OMP_NUM_THREADS, or one per processor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    batch_frames: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)


@dataclass(frozen=True)
class PredictionOutcome:
    """What became of the utterances.

    Attributes:
        model: Key of the model, see `TrainedModel.key`.
        precision: `float32` or `bfloat16`.
        n_classes: Columns of the probabilities.
        n_frames: Frames by utterance, in the order asked for.
        n_current: Utterances whose probabilities were there and current.
        n_predicted: Utterances that were predicted now.
        removed: Utterances, not asked for, whose probabilities were removed.
    """

    model: str
    precision: str
    n_classes: int
    n_frames: dict[str, int]
    n_current: int
    n_predicted: int
    removed: tuple[str, ...]

    def index(self) -> dict[str, Any]:
        """Return what lies in the folder now, JSON-able: the same however it came there."""
        return {
            "model": self.model,
            "precision": self.precision,
            "classes": self.n_classes,
            "recordings": [
                {"recording_id": name, "n_frames": count} for name, count in self.n_frames.items()
            ],
        }


def predict_utterances(
    recording_ids: Sequence[str],
    *,
    best_folder: Path,
    store_folder: Path,
    out_folder: Path,
    config: PredictionConfig | None = None,
) -> PredictionOutcome:
    """Predict every frame of utterances, see `phonemes.probabilities` for what is written.

    What is there and depends on the same model, frames and arithmetic stays. What is there of
    utterances that are not asked for goes: a former test list must not be taken for this one.

    Args:
        recording_ids: Utterances, each once; they need no labels.
        best_folder: The chosen checkpoint.
        store_folder: The FrameStore.
        out_folder: Where probabilities go.
        config: Device and batches; None is the defaults.

    Raises:
        MissingPredecessorError: There is no chosen checkpoint.
        CheckpointError: It is damaged, or gives numbers that are none.
        StoreError: The store lacks an utterance, or has other features than the network.
        ConfigError: A CUDA device was asked for and there is none.
        StorageError: The disk refused; what was done is kept.
    """
    config = config or PredictionConfig()
    names = list(dict.fromkeys(recording_ids))
    model = TrainedModel.open(best_folder)
    store = FrameStore.open(store_folder, model.features)
    device = resolve_device(config.device, "predict.device")
    precision = resolve_precision(config.precision, device)
    entries = {name: store.entry(name) for name in names}
    keys = {
        name: value_sha256([VERSION, model.key, entry.content_sha256, entry.n_frames, precision])
        for name, entry in entries.items()
    }
    remove_leftovers(out_folder, deep=True)
    removed = remove_others(out_folder, keys.keys())
    pending = [name for name in names if not is_current(out_folder, name, keys[name])]
    if pending:
        asked = _Asked(model, WindowReader(store, pending), device, precision, config)
        total = sum(entries[name].n_frames for name in pending)
        with Progress("Predict", total, "frame") as progress:
            for name, probabilities in asked.predictions():
                write_probabilities(out_folder, name, to_half(probabilities), keys[name])
                progress.advance(len(probabilities))
    outcome = PredictionOutcome(
        model.key,
        precision,
        model.n_classes,
        {name: entry.n_frames for name, entry in entries.items()},
        len(names) - len(pending),
        len(pending),
        tuple(removed),
    )
    logger.info(
        "Phonemes: %d utterances were up to date, %d predicted, %d of others removed",
        outcome.n_current, outcome.n_predicted, len(removed),
    )  # fmt: skip
    return outcome


class _Asked:
    """A network and the utterances it is asked about."""

    def __init__(
        self,
        model: TrainedModel,
        source: WindowReader,
        device: torch.device,
        precision: str,
        config: PredictionConfig,
    ) -> None:
        self.model, self.source, self.device, self.precision = model, source, device, precision
        limits = UTTERANCE_BATCH_FRAMES if model.model.whole_utterances else BATCH_FRAMES
        self.batch_frames = config.batch_frames or limits[device.type]
        set_threads(config.threads)
        self.network: nn.Module = model.load(device)

    def predictions(self) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
        """Yield `(utterance, probabilities [frames, classes])` in order."""
        n_frames = self.source.n_frames
        for group in groups_of(n_frames, max(GROUP_FRAMES, self.batch_frames)):
            counts = n_frames[group]
            first = np.cumsum(counts) - counts
            said = np.zeros((int(counts.sum()), self.model.n_classes), np.float32)
            if self.model.model.whole_utterances:
                self._ask_utterances(group, first, said)
            else:
                self._ask_windows(group, said)
            if not np.isfinite(said).all():
                raise CheckpointError(
                    self.model.folder, "gives numbers that are none (NaN)", "Train and rank again"
                )
            for position, begin, count in zip(group, first, counts, strict=True):
                yield self.source.recording_ids[position], said[begin : begin + count]

    def _ask_windows(self, group: npt.NDArray[np.int64], said: npt.NDArray[np.float32]) -> None:
        inner = frames_of(self.source.n_frames[group])
        windows = Windows(group[inner.recording], inner.start)
        for begin in range(0, len(windows), self.batch_frames):
            rows = slice(begin, begin + self.batch_frames)
            said[rows] = self._ask(windows[rows])

    def _ask_utterances(
        self,
        group: npt.NDArray[np.int64],
        first: npt.NDArray[np.int64],
        said: npt.NDArray[np.float32],
    ) -> None:
        counts = self.source.n_frames[group]
        for members in batches_of_like_length(counts, self.batch_frames):
            answer = self._ask(Windows(group[members], np.zeros(len(members), np.int64)))
            for member, rows in zip(members, answer, strict=True):
                begin, count = first[member], counts[member]
                said[begin : begin + count] = rows[:count]

    def _ask(self, windows: Windows) -> npt.NDArray[np.float32]:
        """Return probabilities `[n, classes]`, or `[n, time, classes]` of whole utterances."""
        import torch

        inputs = network_inputs(self.source, windows, self.model.model)
        with torch.inference_mode(), autocast(self.precision, self.device):
            logits = self.network(*(tensor.to(self.device) for tensor in inputs)).float()
        answer: npt.NDArray[np.float32] = logits.softmax(-1).cpu().numpy()
        return answer
