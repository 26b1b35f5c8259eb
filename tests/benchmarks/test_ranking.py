"""The benchmark of ranking compares what gives equal answers, and does what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ranking


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ranking.make_run(tmp_path, "small", 300)
    return tmp_path


def test_one_pass_and_eight_give_the_same(folder: Path) -> None:
    together = ranking.rank(folder, "small", ranking.N_CHECKPOINTS, cold=False)
    apart = ranking.rank(folder, "small", 1, cold=True)
    assert len(together) == len(apart) == ranking.N_CHECKPOINTS
    for units, others in zip(together, apart, strict=True):
        assert list(units) == list(others)
        assert len(units) == ranking.CASES["small"].recordings
        for name, histogram in units.items():
            np.testing.assert_array_equal(histogram.positive, others[name].positive)
            np.testing.assert_array_equal(histogram.negative, others[name].negative)
    first, last = (next(iter(units.values())) for units in (together[0], together[-1]))
    assert (first.negative != last.negative).any()


def test_work_evaluates_anew_each_time_and_counts_frames(folder: Path) -> None:
    work = ranking.ranking_work(folder, "small", 4, cold=False)
    # Windows of 201 frames, one after the other, over 300 frames of each recording.
    frames = 4 * 2 * 201
    assert [work(), work()] == [frames * ranking.N_CHECKPOINTS] * 2
    assert not list(folder.glob("tmp*"))


def test_bytes_that_were_read_are_counted(folder: Path) -> None:
    ranking.forget(folder / "frames")
    assert ranking.bytes_read(lambda: 0.0) == 0
    assert next((folder / "frames").rglob("*.npy")).stat().st_size > 0
