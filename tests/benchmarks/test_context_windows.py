"""What the benchmark of context windows compares gives the same rows."""

from __future__ import annotations

from pathlib import Path

import context_windows
import numpy as np
import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    assert context_windows.write_corpus(folder, 3) > 3 * 300
    return folder


def test_every_row_is_the_same(folder: Path) -> None:
    ids = context_windows.ids_of(folder)
    assert len(ids) == 3
    whole = context_windows.concatenated(folder, ids)
    frames = context_windows.held(folder, ids)
    everything = context_windows.rows_of(frames.n_frames, np.arange(len(whole)))
    assert whole.shape[1] == 21 * 39
    assert np.array_equal(context_windows.held_batch(frames, everything), whole)


def test_the_measured_work_counts_windows(folder: Path) -> None:
    assert context_windows.held_first_batch(folder)() == 1
    assert context_windows.concatenated_first_batch(folder)() == 1
    assert context_windows.held_work(folder, 3)() == 3 * context_windows.BATCH
    assert context_windows.concatenated_work(folder, 3)() == 3 * context_windows.BATCH
