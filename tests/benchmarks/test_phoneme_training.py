"""Both sides of the benchmark train the same network on the same windows, in the same order."""

from __future__ import annotations

from pathlib import Path

import phoneme_training as benchmark
import pytest
import torch

from amt_pipeline.core.seeding import derive_seed
from amt_pipeline.training.loop import train


@pytest.mark.parametrize("work", [benchmark.engine_work, benchmark.bare_work])
def test_the_work_counts_steps(tmp_path: Path, work: object) -> None:
    benchmark.write_corpus(tmp_path, 2)
    assert work(tmp_path, 2, 1, 8, 3)() == 3


def test_both_sides_have_the_same_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "LOG_EVERY", 1)
    heard = []
    whole = benchmark.bare_losses

    def listen(*given: object) -> list[float]:
        heard.extend(whole(*given))
        return heard

    monkeypatch.setattr(benchmark, "bare_losses", listen)
    benchmark.write_corpus(tmp_path, 3)
    sizes = (tmp_path, 3, 2, 8, 3)
    task = benchmark.open_task(*sizes)
    ours = [row["loss"] for row in train(task, tmp_path / "run").history]
    work = benchmark.bare_work(*sizes)
    # As the engine draws first weights and dropout.
    torch.manual_seed(derive_seed(task.training.seed, task.name, "weights"))
    work()
    assert len(set(ours)) == 3
    assert heard == pytest.approx(ours, rel=1e-6)
