"""How fast windows reach the network: from the FrameStore, from TFRecords, from a DataLoader.

The windows are those of the reference's pitch network with the sampling `onset_plus`: 17 frames of
356 bins and 2 channels, 9 x 88 labels, drawn in random order. The records hold what is published:
float spectra and integer labels, 64 shards, read by tf.data through a shuffle buffer of 2048.

    .venv/bin/python benchmarks/feed.py [--quick]
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from corpus import open_task, preset_config, write_corpus
from measure import Claim, Figure, Work, arguments, compare, measure, show
from published_records import read_records, write_records

from amt_pipeline.training.task import Batch
from amt_pipeline.transcription.tasks import FrameTask

BATCH, SHARDS, SHUFFLE_BUFFER = 256, 64, 2048


def pitch_task(folder: Path) -> FrameTask:
    """Return the task whose windows are measured, on every recording in `folder`."""
    config = preset_config(
        "reference", "pitch", labels={"sampling": "onset_plus"}, training={"batch_size": BATCH}
    )
    return open_task(config, folder, _ids(folder))


def frames_work(folder: Path, n_batches: int) -> Work:
    """Batches of the FrameStore: raw frames in half precision and targets, as torch tensors."""
    task = pitch_task(folder)
    windows = task.training_windows(0)
    steps = iter(range(10**9))

    def work() -> float:
        count = 0
        for _ in range(n_batches):
            step = next(steps)
            at = np.arange(step * BATCH, (step + 1) * BATCH) % len(windows)
            count += len(task.training_batch(windows[at], step).targets)
        return count

    return work


def records_work(folder: Path, n_batches: int) -> Work:
    """Batches of the records, by tf.data, as torch tensors."""
    import torch

    batches = iter(read_records(folder / "records", pitch_task(folder), BATCH, SHUFFLE_BUFFER))

    def work() -> float:
        count = 0
        for _ in range(n_batches):
            spectra, labels = next(batches)
            tensors = torch.from_numpy(spectra.numpy()), torch.from_numpy(labels.numpy())
            count += len(tensors[0])
        return count

    return work


def loader_work(folder: Path, n_batches: int, workers: int) -> Work:
    """The same windows item by item, from memory maps, collated by torch's DataLoader."""
    from torch.utils.data import DataLoader

    task = pitch_task(folder)
    loader: Any = DataLoader(
        WindowItems(task, n_batches * BATCH),  # type: ignore[arg-type]
        batch_size=BATCH,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return lambda: sum(len(frames) for frames, _ in loader)


class WindowItems:
    """One window per index, with its targets: the usual map-style data set."""

    def __init__(self, task: FrameTask, count: int) -> None:
        self.windows = task.training_windows(0)
        self.windows = self.windows[np.arange(count) % len(self.windows)]
        self.labels, self.context = task.open_split("train")[1], task.context_frames
        self.length = task.config.model.label_frames
        self.maps = [task.store.frames(name) for name in task.evaluation_units("train")]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        one = self.windows[row : row + 1]
        frames, start = self.maps[one.recording[0]], int(one.start[0]) - self.context
        low, high = max(start, 0), min(start + self.length + 2 * self.context, len(frames))
        cut = np.zeros((self.length + 2 * self.context, *frames.shape[1:]), frames.dtype)
        cut[low - start : high - start] = frames[low:high]
        return cut, self.labels.positive(self.labels.pitch_grades(one, self.length))[0]


def write_all_records(folder: Path) -> int:
    """Write the records of `pitch_task` beside its frames; return their bytes."""
    return write_records(folder / "records", pitch_task(folder), SHARDS)


def _ids(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "notes").glob("*.parquet"))


def training_work(folder: Path, n_steps: int, ahead: int, *, wait: bool = False) -> Work:
    """Steps of the onset network of the preset `cpu`, fed with or without a thread.

    The work returns its windows, or with `wait` the share of the time that went into the feed.
    """
    import torch

    from amt_pipeline.training.feed import BatchFeed
    from amt_pipeline.training.losses import weighted_cross_entropy

    torch.set_num_threads(1)
    task = open_task(preset_config("cpu", "onset"), folder, _ids(folder))
    network, windows = task.build_network(), task.training_windows(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    size = task.training.batch_size

    def make(step: int) -> Batch:
        at = np.arange(step * size, (step + 1) * size) % len(windows)
        return task.training_batch(windows[at], step)

    def work() -> float:
        started_s = time.perf_counter()
        with BatchFeed(make, range(n_steps), torch.device("cpu"), ahead) as feed:
            for step in range(n_steps):
                batch = feed.batch(step)
                logits = task.forward(network, batch)
                loss = weighted_cross_entropy(logits, batch.targets, None, batch.valid)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
            waited_s = feed.wait_s
        return waited_s / (time.perf_counter() - started_s) if wait else n_steps * size

    return work


def main(quick: bool = False) -> list[Claim | Figure]:
    """Measure everything on recordings of noise."""
    recordings, frames = (20, 300) if quick else (160, 500)
    n_batches, n_steps, repeats = (6, 2, 2) if quick else (60, 5, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = preset_config("reference", "pitch").features
        write_corpus(folder, spec, recordings, frames)
        # In a process of its own: TensorFlow stays out of this one.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            records_bytes = pool.submit(write_all_records, folder).result()
        n_windows = len(pitch_task(folder).training_windows(0))
        # More of them: so few take a tenth of a second, which is too short to be measured well.
        ours = "FrameStore", partial(frames_work, folder, 8 * n_batches)
        sizes = (
            f"batches of {BATCH} of {n_windows} windows (17 x 356 x 2, 9 x 88 labels) of "
            f"{recordings} recordings of {frames} frames, in the page cache"
        )
        turns: dict[str, Any] = {"unit": "windows", "repeats": repeats}
        return [
            compare(
                "Windows from frames against tf.data",
                ours,
                ("tf.data", partial(records_work, folder, n_batches)),
                target=8,
                note=f"{sizes}; {SHARDS} shards of float32, shuffle buffer {SHUFFLE_BUFFER}",
                **turns,
            ),
            *(
                compare(
                    f"Windows from frames against a DataLoader, {workers} workers",
                    ours,
                    ("DataLoader", partial(loader_work, folder, n_batches, workers)),
                    clock="wall",
                    note=f"{sizes}; ours in one process; memory is the main process's",
                    **turns,
                )
                for workers in (0, 2)
            ),
            _disk(folder, records_bytes, n_windows, recordings * frames),
            _wait(folder, n_steps),
            compare(
                "Batches made when asked for against a thread ahead, on a CPU",
                ("no thread", partial(training_work, folder, n_steps, 0)),
                ("thread", partial(training_work, folder, n_steps, 1)),
                clock="wall",
                note="preset cpu, onset network, 1 thread for torch: about 1 means a thread does "
                "not pay",
                **turns,
            ),
        ]


def _disk(folder: Path, records_bytes: int, n_windows: int, n_frames: int) -> Figure:
    frames_bytes = sum(path.stat().st_size for path in (folder / "frames").rglob("*.*"))
    return Figure(
        "Records over frames, bytes on disk",
        records_bytes / frames_bytes,
        "times",
        note=f"target 5; {records_bytes / 1e6:.0f} MB of records for {n_windows} windows, "
        f"{frames_bytes / 1e6:.0f} MB of frames ({n_frames}, {n_windows / n_frames:.1%} of them "
        "the centre of a window); the same frames also feed the other network",
    )


def _wait(folder: Path, n_steps: int) -> Figure:
    shares = [
        measure(partial(training_work, folder, n_steps, 0, wait=True)).units for _ in range(2)
    ]
    return Figure(
        "Share of a training step spent on its batch",
        float(np.median(shares)),
        "of the time",
        min(shares),
        max(shares),
        "preset cpu, onset network: 8 runs of 201 frames, transposed and equalised",
    )


if __name__ == "__main__":
    show(main(arguments(__doc__ or "").quick))
