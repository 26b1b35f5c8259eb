"""Training steps of the engine against a bare torch loop on preloaded tensors.

The same MLP on the same windows in the same order: 512 windows of 21 frames of 39 values, batch
norm and dropout. The bare loop has all windows in one tensor, concatenated before the clock starts,
and does nothing else than take rows, go forward and back, step, and read the loss. The engine
gathers windows from the FrameStore, applies its schedule, counts right answers, reports, watches
for Ctrl+C and saves a checkpoint at its end.

    .venv/bin/python benchmarks/phoneme_training.py [--quick]
"""

from __future__ import annotations

import itertools
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measure import Claim, Work, arguments, compare, show

from amt_pipeline.features.mfcc import MfccSpec
from amt_pipeline.phonemes.label_store import LabelPart, write_label_pack
from amt_pipeline.phonemes.task_config import PhonemeTaskConfig
from amt_pipeline.phonemes.tasks import PhonemeTask
from amt_pipeline.store.frames import FrameStore, PackPart

SPEC, CLASSES, WINDOW, BATCH = MfccSpec(), 41, 21, 512
FRAMES = 600
"""Of an utterance."""
LOG_EVERY = 100
"""Steps between two reports of the engine."""
SIZES = ((4, 256), (6, 512))
"""Hidden layers and their width: one for a CPU, and the level `strong` in reference size."""

if TYPE_CHECKING:
    from torch import Tensor, nn


def main(quick: bool = False) -> list[Claim]:
    """Measure both sizes."""
    utterances, steps, turns = (20, 10, 2) if quick else (160, 150, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder, utterances)
        return [
            compare(
                f"Training steps, MLP {layers} x {width}",
                ("engine", partial(engine_work, folder, utterances, layers, width, steps)),
                ("bare torch loop", partial(bare_work, folder, utterances, layers, width, steps)),
                unit="steps", target=0.9, repeats=turns,
                note=f"batch norm, dropout, {steps} steps of {BATCH} windows of {WINDOW} frames; "
                "theirs has all windows in memory before the clock starts",
            )
            for layers, width in SIZES
        ]  # fmt: skip


def write_corpus(folder: Path, utterances: int) -> None:
    """Write utterances of noise with random classes."""
    rng = np.random.default_rng(0)
    store = FrameStore.create(folder / "frames", SPEC)
    names = [f"u-{number:04d}" for number in range(utterances)]
    frames = rng.normal(size=(utterances, FRAMES, SPEC.bins, 1)).astype(np.float32)
    classes = rng.integers(0, CLASSES, (utterances, FRAMES)).astype(np.uint8)
    store.write_pack("all", (PackPart(n, f, n) for n, f in zip(names, frames, strict=True)))
    parts = (LabelPart(n, c) for n, c in zip(names, classes, strict=True))
    write_label_pack(folder / "labels", "all", parts)


def open_task(folder: Path, utterances: int, layers: int, width: int, steps: int) -> PhonemeTask:
    """Return the task of an MLP on what `write_corpus` wrote, to be trained for so many steps."""
    windows = utterances * FRAMES
    training: dict[str, Any] = {
        "epochs": steps * BATCH / windows, "batch_size": BATCH, "dense_l2": 0.0, "threads": 1,
        "device": "cpu", "save_every_steps": 10**6, "log_every_steps": LOG_EVERY,
    }  # fmt: skip
    model = {
        "kind": "mlp", "window_frames": WINDOW, "hidden_layers": layers, "hidden_units": width,
        "batch_norm": True, "dropout": 0.25,
    }  # fmt: skip
    config = {"features": SPEC, "model": model, "training": training}
    return PhonemeTask(
        PhonemeTaskConfig.model_validate(config),
        store_folder=folder / "frames",
        labels_folder=folder / "labels",
        splits={"train": [f"u-{number:04d}" for number in range(utterances)]},
        n_classes=CLASSES,
        data_fingerprint="noise",
    )


def engine_work(folder: Path, utterances: int, layers: int, width: int, steps: int) -> Work:
    """Train as a pipeline does, each time in a new folder."""
    from amt_pipeline.training.loop import train

    task = open_task(folder, utterances, layers, width, steps)
    numbers = itertools.count()

    def work() -> float:
        with tempfile.TemporaryDirectory() as place:
            return float(train(task, Path(place) / str(next(numbers))).steps)

    return work


def bare_work(folder: Path, utterances: int, layers: int, width: int, steps: int) -> Work:
    """Train the same network on tensors, in a loop of a few lines."""
    import torch

    torch.set_num_threads(1)
    task = open_task(folder, utterances, layers, width, steps)
    whole = task.batch("train", task.training_windows(0))
    frames, classes = whole.inputs[0].clone(), whole.targets
    return lambda: float(len(bare_losses(task.build_network(), frames, classes, steps)))


def bare_losses(network: nn.Module, frames: Tensor, classes: Tensor, steps: int) -> list[float]:
    """Train a network on windows in their order; return the loss of every step."""
    import torch
    from torch.nn import functional

    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    network.train()
    losses = []
    for step in range(steps):
        rows = torch.arange(step * BATCH, (step + 1) * BATCH) % len(classes)
        loss = functional.cross_entropy(network(frames[rows]), classes[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    show(main(arguments(str(__doc__).partition("\n")[0]).quick))
