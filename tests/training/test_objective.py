"""One class of many: loss, tallies and running scores against restatements and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from amt_pipeline.ranking.rank import RankingConfig, rank_checkpoints
from amt_pipeline.training.checkpoints import list_checkpoints
from amt_pipeline.training.class_metrics import ClassCounts, ClassTally
from amt_pipeline.training.loop import train
from amt_pipeline.training.losses import class_cross_entropy
from amt_pipeline.training.objective import ClassObjective
from amt_pipeline.training.task import Batch

MakeTask = Callable[..., Any]
RNG = np.random.default_rng(3)


def batch_of(n: int, time: int, *, masked: bool = True) -> tuple[torch.Tensor, Batch]:
    logits = torch.from_numpy(RNG.normal(0, 2, (2, n, time, 5)).astype(np.float32))
    targets = torch.from_numpy(RNG.integers(0, 5, (n, time)))
    valid = torch.from_numpy(RNG.random((n, time)) < 0.7) if masked else None
    return logits, Batch((logits,), targets, valid)


@pytest.mark.parametrize("masked", [True, False])
def test_tallies_are_those_of_sklearn(masked: bool) -> None:
    objective = ClassObjective()
    parts = [batch_of(3, 7, masked=masked), batch_of(2, 4, masked=masked)]
    tallies = [objective.new_tally() for _ in range(2)]
    for logits, batch in parts:
        objective.update(tallies, logits, batch)
    for network, tally in enumerate(tallies):
        chosen, wanted = [], []
        for logits, batch in parts:
            keep = torch.ones_like(batch.targets, dtype=bool) if not masked else batch.valid
            chosen.append(logits[network][keep].softmax(-1))
            wanted.append(batch.targets[keep])
        said, truth = torch.cat(chosen).numpy(), torch.cat(wanted).numpy()
        scores = tally.scores()
        assert scores["accuracy"] == accuracy_score(truth, said.argmax(-1))
        assert scores["loss"] == pytest.approx(log_loss(truth, said, labels=range(5)), rel=1e-5)
    pooled = objective.pooled(tallies)
    mean = np.mean([tally.scores()["accuracy"] for tally in tallies])
    assert pooled["pooled_accuracy"] == pytest.approx(mean)
    assert objective.tune(tallies) == {}


def test_nothing_counted_has_no_loss() -> None:
    assert ClassTally().scores()["accuracy"] == 0
    assert math.isnan(ClassTally().scores()["loss"])
    assert ClassCounts().scores() == {"accuracy": 0}


def test_running_scores_leave_out_what_does_not_count() -> None:
    logits, batch = batch_of(4, 6)
    counts = ClassCounts()
    counts.update(logits[0], batch.targets, batch.valid)
    counts.update(logits[1], batch.targets, batch.valid)
    hits = (logits.argmax(-1) == batch.targets)[:, batch.valid].float().mean()
    assert counts.scores()["accuracy"] == pytest.approx(float(hits))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_of_what_counts(smoothing: float) -> None:
    logits, batch = batch_of(3, 5)
    logs = logits[0].log_softmax(-1)
    target = torch.nn.functional.one_hot(batch.targets, 5) * (1 - smoothing) + smoothing / 5
    each = -(target * logs).sum(-1)[batch.valid]
    loss = class_cross_entropy(logits[0], batch.targets, smoothing, batch.valid)
    assert float(loss) == pytest.approx(float(each.mean()), rel=1e-6)
    halved = class_cross_entropy(
        logits[0], batch.targets, smoothing, batch.valid, torch.tensor(2 * len(each))
    )
    assert float(halved) == pytest.approx(float(each.mean()) / 2, rel=1e-6)


def test_classes_are_trained_validated_and_ranked(make_task: MakeTask, tmp_path: Path) -> None:
    settings = {"epochs": 12, "validate_every_steps": "epoch", "save_every_steps": "epoch"}
    task = make_task(classes=True, **settings)
    result = train(task, tmp_path / "run")
    assert len(result.checkpoints) == 12
    seen = [row["validation/accuracy"] for row in result.history if "validation/accuracy" in row]
    assert len(seen) == 12
    assert seen[-1] > 0.5 > seen[0] - 0.2
    outcome = rank_checkpoints(
        task, tmp_path / "run", tmp_path / "best", tmp_path / "cache",
        RankingConfig(resamples=200), {},
    )  # fmt: skip
    table = outcome.table
    assert list(table.columns[:3]) == ["rank", "step", "accuracy"]
    assert {"accuracy_low", "accuracy_high", "pooled_accuracy", "loss"} <= set(table.columns)
    assert "threshold" not in outcome.best
    # What was validated in training is what the ranking finds.
    ranked = table.sort_values("step")["accuracy"].tolist()
    assert ranked == pytest.approx(seen)
    again = rank_checkpoints(
        task, tmp_path / "run", tmp_path / "best", tmp_path / "cache",
        RankingConfig(resamples=200), {},
    )  # fmt: skip
    assert again.table.equals(table)
    assert outcome.best["validation"]["accuracy"] == pytest.approx(max(seen))


def test_a_plateau_schedule_resumes_to_the_bit(make_task: MakeTask, tmp_path: Path) -> None:
    settings = {
        "epochs": 6,
        "validate_every_steps": 2,
        "save_every_steps": 3,
        "schedule": {"kind": "plateau", "patience": 0, "threshold": 0.2},
    }
    whole = train(make_task(classes=True, **settings), tmp_path / "whole")
    task = make_task(classes=True, **settings)

    def stop(step: int) -> None:
        if step == 13:
            raise KeyboardInterrupt

    task.before_step = stop
    with pytest.raises(KeyboardInterrupt):
        train(task, tmp_path / "killed")
    assert len(list_checkpoints(tmp_path / "killed")) == 4
    resumed = train(make_task(classes=True, **settings), tmp_path / "killed")
    assert resumed.history == whole.history
    rates = [row["learning_rate"] for row in whole.history]
    assert rates[-1] < rates[0]
    name = f"{whole.checkpoints[-1]}/model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
