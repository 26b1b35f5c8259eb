"""What the benchmark of the feed compares gives the same windows."""

from __future__ import annotations

from pathlib import Path

import feed
import numpy as np
import pytest
import torch
from corpus import preset_config, write_corpus
from published_records import read_records, write_records

pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("feed")
    write_corpus(folder, preset_config("reference", "pitch").features, 3, 60)
    return folder


def in_order(spectra: np.ndarray, labels: np.ndarray) -> list[bytes]:
    pairs = zip(spectra.astype(np.float32), labels.astype(np.uint8), strict=True)
    return sorted(spectrum.tobytes() + label.tobytes() for spectrum, label in pairs)


def test_frames_records_and_items_are_the_same_windows(folder: Path) -> None:
    task = feed.pitch_task(folder)
    windows = task.training_windows(0)
    batch = task.training_batch(windows, 0)
    expected = in_order(batch.inputs[0].numpy(), batch.targets.numpy())
    assert len(expected) == len(windows) > 20

    assert write_records(folder / "records", task, 4) > len(windows) * 17 * 356 * 2 * 4
    found = list(read_records(folder / "records", task, 16))
    spectra = np.concatenate([spectra.numpy() for spectra, _ in found]).transpose(0, 2, 1, 3)
    grades = np.concatenate([labels.numpy() for _, labels in found])
    assert in_order(spectra, task.config.labels.positive(grades)) == expected

    items = feed.WindowItems(task, len(windows))
    pairs = [items[row] for row in range(len(items))]
    frames, targets = (np.stack([pair[i] for pair in pairs]) for i in (0, 1))
    assert in_order(frames, targets) == expected


def test_the_measured_work_counts_windows(folder: Path) -> None:
    assert feed.frames_work(folder, 2)() == 2 * feed.BATCH
    assert feed.loader_work(folder, 2, 0)() == 2 * feed.BATCH
    torch.set_num_threads(1)
    assert 0 < feed.training_work(folder, 1, 1, wait=True)() < 1
