"""Runs of labelled frames against one window per labelled frame: the same network, the same labels.

Neighbouring windows overlap in all frames but one, so a network that is asked window by window
computes its convolutions once per window; on a run of labelled frames it computes them once. How
much that saves is the receptive field in frames for the network of the preset `cpu` (37, nothing
recurrent), and about the published number of labels per window (7 and 9) times the overlap for the
reference's networks, whose windows are short. A BiLSTM sees the frames of its window: on a run it
has a longer context, so its outputs differ from those of short windows; the convolutions' do not.

    .venv/bin/python benchmarks/label_runs.py [--quick]
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from corpus import preset_config
from measure import THREAD_SETTINGS, Claim, Figure, Work, arguments, compare, show

from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.training.distributed import ALONE
from amt_pipeline.training.stream import WindowStream
from amt_pipeline.training.trainer import Trainer
from amt_pipeline.transcription.corpus_ingest import ingest_corpus
from amt_pipeline.transcription.demo import make_demo_corpus
from amt_pipeline.transcription.ingest import IngestConfig
from amt_pipeline.transcription.networks import build_network
from amt_pipeline.transcription.task_config import FrameTaskConfig
from amt_pipeline.transcription.tasks import FrameTask

if TYPE_CHECKING:
    from torch import nn

RUN = 201
"""Labelled frames per run, as the preset `cpu` has it."""

PUBLISHED = {"onset": 7, "pitch_conv": 9, "harmonic": 1}
"""Labelled frames of a window that stands for one labelled frame: as the reference has them. The
harmonic network has no recurrence, so one label per window gives what any window gives."""

NETWORKS = (("cpu", "pitch"), ("cpu", "onset"), ("reference", "onset"), ("reference", "pitch"))
TARGET = {"harmonic": 50.0}
LENGTHS = (1, 9, 101, 401)
FRAMES_PER_STEP = 404


def network_work(
    preset: str, name: str, length: int, n_windows: int, *, labels_per_window: int, train: bool
) -> Work:
    """Evaluate, or train on, windows of `length` labelled frames; counts labelled frames.

    Args:
        preset: Whose network.
        name: `onset` or `pitch`.
        length: Labelled frames that the network gives per window.
        n_windows: Windows per batch.
        labels_per_window: Frames that a window stands for.
        train: Forward and backward, or forward alone.
    """
    import torch

    torch.set_num_threads(1)
    config = preset_config(preset, name)
    network = build_network(config.features, config.model).train(train)
    shape = (n_windows, 2, length + 2 * network.context_frames, config.features.bins)
    frames = torch.rand(shape, generator=torch.Generator().manual_seed(0))

    def work() -> float:
        with torch.set_grad_enabled(train):
            logits = network(frames)
        if train:
            network.zero_grad(set_to_none=True)
            logits.square().mean().backward()
        return n_windows * labels_per_window

    return work


def multiply_adds(preset: str, name: str, length: int) -> float:
    """Return the floating-point operations of one window, forward."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config = preset_config(preset, name)
    network = build_network(config.features, config.model).eval()
    shape = (1, 2, length + 2 * network.context_frames, config.features.bins)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(shape))
    return float(counter.get_total_flops())


def speed(preset: str, name: str, *, train: bool, quick: bool) -> Claim:
    """Compare a run of labelled frames with as many windows, in one batch each."""
    kind = preset_config(preset, name).model.kind
    window = PUBLISHED[kind]
    run = 51 if quick or kind == "pitch_conv" else RUN
    ratio = run * multiply_adds(preset, name, window) / multiply_adds(preset, name, run)
    return compare(
        f"Label runs, {kind} network of the preset {preset}, {'training' if train else 'forward'}",
        (
            f"1 run of {run} labels",
            partial(network_work, preset, name, run, 1, labels_per_window=run, train=train),
        ),
        (
            f"{run} windows of {window}",
            partial(network_work, preset, name, window, run, labels_per_window=1, train=train),
        ),
        unit="labelled frames",
        target=TARGET.get(kind),
        repeats=3 if kind in TARGET and not quick else 2,
        note=f"convolutions and matrix products alone: {ratio:.1f} times fewer operations on runs",
    )


def in_small_batches(*, quick: bool) -> Claim:
    """Compare with windows 8 at a time, which caches like better than one large batch."""
    run = 51 if quick else RUN
    work = partial(network_work, "cpu", "pitch", train=True)
    return compare(
        "Label runs, harmonic network, training, against 8 windows at a time",
        (f"1 run of {run} labels", partial(work, run, 1, labels_per_window=run)),
        ("8 windows of 1", partial(work, 1, 8, labels_per_window=1)),
        unit="labelled frames",
        repeats=2,
        note="another batch: its normalisation sees 8 labelled frames",
    )


def make_corpus(folder: Path, minutes: float) -> dict[str, list[str]]:
    """Make and ingest a demo corpus of six pieces; return recording ids by split."""
    root = make_demo_corpus(folder / "corpus", seed=3, minutes=minutes, n_pieces=6, workers=1)
    ingestion = ingest_corpus(
        root,
        None,
        store_folder=folder / "frames",
        notes_folder=folder / "notes",
        spec=preset_config("cpu", "pitch").features,
        config=IngestConfig(),
        parallel=ParallelConfig(workers=1),
    )
    rows = ingestion.manifest
    return {split: list(own["recording_id"]) for split, own in rows.groupby("split")}


def task_of(config: FrameTaskConfig, folder: Path, splits: dict[str, list[str]]) -> FrameTask:
    """Return the task on a corpus of `make_corpus`."""
    return FrameTask(
        config,
        store_folder=folder / "frames",
        notes_folder=folder / "notes",
        splits=splits,
        data_fingerprint="demo",
    )


def f1_after(
    folder: Path, splits: dict[str, list[str]], length: int, seconds: float
) -> tuple[float, int]:
    """Train on runs of `length` labels for so many CPU seconds; return validation F1 and steps."""
    import torch

    torch.set_num_threads(1)
    size = 64 if length == 1 else max(1, FRAMES_PER_STEP // length)
    training = {"batch_size": size, "warmup_steps": 10, "threads": 1}
    training["schedule"] = {"kind": "none"}
    model = {"label_frames": length}
    config = preset_config("cpu", "pitch", training=training, model=model)
    task, cpu = task_of(config, folder, splits), torch.device("cpu")
    stream = WindowStream(task)
    schedule = task.training.schedule_of(stream.epoch_size)
    trainer = Trainer(task, schedule, cpu, "float32", ALONE)
    # The first step compiles and allocates; every length is given it.
    began_s, step = time.process_time(), 0
    while time.process_time() - began_s < seconds:
        trainer.step(step, task.training_batch(stream.batch(step), step))
        step += 1
    config = preset_config("cpu", "pitch", model={"label_frames": 401})
    return best_f1(task_of(config, folder, splits), trainer.network), step


def best_f1(task: FrameTask, network: nn.Module) -> float:
    """Return the frame-wise F1 of the validation split at its best threshold."""
    import torch

    network.eval()
    logits, targets = [], []
    with torch.inference_mode():
        for _, batch in task.evaluation_batches("validation"):
            found = task.forward(network, batch)
            keep = batch.valid.expand_as(found)  # type: ignore[union-attr]
            logits.append(found[keep].numpy())
            targets.append(batch.targets[keep].numpy())
    order = np.argsort(-np.concatenate(logits))
    hits = np.cumsum(np.concatenate(targets)[order])
    return float(np.max(2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])))


def learning(folder: Path, seconds: float, minutes: float) -> list[Figure]:
    """Return the F1 that each label length reaches in equal CPU time, one process each."""
    splits = make_corpus(folder, minutes)
    figures = []
    for length in LENGTHS:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            f1, steps = pool.submit(f1_after, folder, splits, length, seconds).result()
        frames = length * (64 if length == 1 else max(1, FRAMES_PER_STEP // length))
        figures.append(
            Figure(
                f"F1 after equal CPU time, runs of {length} labelled frames",
                f1,
                "F1",
                note=f"harmonic network, {seconds:g} CPU s = {steps} steps of {frames} labelled "
                f"frames, {minutes:g} minutes of the demo corpus; validation, best threshold",
            )
        )
    return figures


def main(quick: bool = False) -> list[Claim | Figure]:
    """Measure the four networks, then learn with each label length."""
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))
    claims = [speed(preset, name, train=True, quick=quick) for preset, name in NETWORKS]
    claims.append(speed("cpu", "pitch", train=False, quick=quick))
    claims.append(in_small_batches(quick=quick))
    with tempfile.TemporaryDirectory() as name:
        seconds, minutes = (1.0, 0.6) if quick else (12.0, 3.0)
        return [*claims, *learning(Path(name), seconds, minutes)]


if __name__ == "__main__":
    show(main(arguments(__doc__ or "").quick))
