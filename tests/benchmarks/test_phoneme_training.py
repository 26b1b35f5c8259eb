"""Both sides of the benchmark train the same network on the same windows."""

from __future__ import annotations

from pathlib import Path

import phoneme_training as benchmark
import pytest


@pytest.mark.parametrize("work", [benchmark.engine_work, benchmark.bare_work])
def test_the_work_counts_steps(tmp_path: Path, work: object) -> None:
    benchmark.write_corpus(tmp_path, 2)
    assert work(tmp_path, 2, 1, 8, 3)() == 3
