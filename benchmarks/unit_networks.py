"""What the networks cost: training, evaluation, checkpoints; see `units.py`."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from corpus import open_task, preset_config
from measure import Figure, Work, measure

from amt_pipeline import __version__
from amt_pipeline.ranking.rank import BEST_FILE
from amt_pipeline.training.checkpoints import CheckpointState, copy_checkpoint, save_checkpoint
from amt_pipeline.training.evaluation import evaluate_units
from amt_pipeline.transcription.tasks import FrameTask

BATCH = {"reference": 32, "cpu": 8}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    minutes: float
    frames: int
    steps: int
    pieces: int
    items: int
    repeats: int
    presets: tuple[str, ...]


def figure(
    name: str,
    unit: str,
    factory: Any,
    sizes: Sizes,
    scale: float,
    *,
    per_unit: bool,
    note: str = "",
) -> Figure:
    """Measure CPU seconds per `scale` units of work, or units per CPU second."""
    samples = [measure(factory) for _ in range(sizes.repeats)]
    values = [
        scale * sample.cpu_s / sample.units if per_unit else sample.rate("cpu")
        for sample in samples
    ]
    return Figure(name, statistics.median(values), unit, min(values), max(values), note)


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def unit_task(folder: Path, preset: str, name: str) -> FrameTask:
    """Return a preset's task on noise, in batches that a CPU takes in seconds."""
    training = {"batch_size": BATCH[preset], "threads": 1, "device": "cpu"}
    config = preset_config(preset, name, training=training)
    return open_task(config, folder / preset, sorted_ids(folder / preset))


def sorted_ids(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "notes").glob("*.parquet"))


def trained(task: FrameTask, steps: int) -> Any:
    """Return a trainer that took some steps."""
    import torch

    from amt_pipeline.training.distributed import ALONE
    from amt_pipeline.training.trainer import Trainer

    torch.set_num_threads(1)
    schedule = task.training.schedule_of(1)
    trainer = Trainer(task, schedule, torch.device("cpu"), "float32", ALONE)
    take_steps(task, trainer, 0, steps)
    return trainer


def take_steps(task: FrameTask, trainer: Any, first: int, steps: int) -> None:
    windows, size = task.training_windows(0), task.training.batch_size
    for step in range(first, first + steps):
        at = np.arange(step * size, (step + 1) * size) % len(windows)
        trainer.step(step, task.training_batch(windows[at], step))


def training_work(folder: Path, preset: str, name: str, steps: int) -> Work:
    """Training steps; units are windows."""
    task = unit_task(folder, preset, name)
    trainer, steps_done = trained(task, 0), count(0, steps)

    def work() -> float:
        take_steps(task, trainer, next(steps_done), steps)
        return steps * task.training.batch_size

    return work


def evaluation_work(folder: Path, preset: str, name: str) -> Work:
    """Frame-wise evaluation of one checkpoint, as in a ranking; units are labelled frames."""
    import torch

    task = unit_task(folder, preset, name)
    torch.set_num_threads(1)
    network, device = task.build_network(), torch.device("cpu")
    frames = len(task.evaluation_windows("train")) * task.config.model.label_frames

    def work() -> float:
        for _ in evaluate_units(task, [network], "train", device, "float32"):
            pass
        return frames

    return work


def network_figures(folder: Path, sizes: Sizes) -> list[Figure]:
    """Per network: training, evaluation, and the bytes of a checkpoint."""
    figures = []
    for preset, name in ((p, n) for p in sizes.presets for n in ("onset", "pitch")):
        task = unit_task(folder, preset, name)
        label, length = f"{preset} {name}", task.config.model.label_frames
        path, n_weights = save(task, folder / "models" / preset / name)
        figures += [
            figure(
                f"training, {label}", "windows per CPU s",
                partial(training_work, folder, preset, name, sizes.steps), sizes, 1,
                per_unit=False, note=f"{length} labelled frames, batches of {BATCH[preset]}",
            ),
            figure(
                f"evaluation, {label}", "labelled frames per CPU s",
                partial(evaluation_work, folder, preset, name), sizes, 1, per_unit=False,
                note=f"evaluation.frames={task.config.evaluation.frames}",
            ),
            Figure(
                f"checkpoint, {label}", size_of(path) / 1e6, "MB", note=f"{n_weights:,} weights"
            ),
        ]  # fmt: skip
    return figures


def save(task: FrameTask, folder: Path) -> tuple[Path, int]:
    """Save a checkpoint with all that a run keeps, also as the chosen one; count its weights."""
    trainer = trained(task, 1)
    config = {**task.describe(), "training": task.training.model_dump()}
    state = CheckpointState(1, True, config, task.fingerprint(), {}, __version__)
    path = save_checkpoint(
        folder, state=state, network=trainer.network, optimiser=trainer.optimiser, history=[]
    )
    copy_checkpoint(path, folder / "best", {BEST_FILE: {"threshold": 0.5}})
    return path, trainer.n_parameters
