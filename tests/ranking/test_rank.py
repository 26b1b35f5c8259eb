from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from amt_pipeline.core.errors import CheckpointError, MissingPredecessorError, UserError
from amt_pipeline.ranking import evaluate
from amt_pipeline.ranking.evaluate import evaluate_checkpoints
from amt_pipeline.ranking.rank import BEST_FILE, RankingConfig, RankingOutcome, rank_checkpoints
from amt_pipeline.training.checkpoints import (
    copy_checkpoint,
    list_checkpoints,
    load_weights,
    read_state,
    verify_checkpoint,
)
from amt_pipeline.training.loop import TrainingInterrupted, train
from amt_pipeline.training.metrics import LogitHistogram

MakeTask = Callable[..., Any]


@pytest.fixture
def run(make_task: MakeTask, tmp_path: Path) -> Path:
    """Folder of a run with six checkpoints."""
    folder = tmp_path / "loud"
    train(make_task(epochs=6), folder)
    return folder


def rank(task: Any, run: Path, rule: str = "best", **more: Any) -> RankingOutcome:
    config = RankingConfig(rule=rule, resamples=200)
    return rank_checkpoints(task, run, run.parent / "best", run / "evaluations", config, {}, **more)


def evaluations(task: Any, run: Path, split: str = "validation") -> dict[int, Any]:
    checkpoints = list_checkpoints(run)
    results = evaluate_checkpoints(task, checkpoints, split, run / "own", {})
    return {read_state(p).step: units for p, units in zip(checkpoints, results, strict=True)}


def test_the_table_has_every_checkpoint_with_its_means(make_task: MakeTask, run: Path) -> None:
    table = rank(make_task(), run).table.set_index("step")
    expected = evaluations(make_task(), run)
    assert sorted(table.index) == [4, 8, 12, 16, 20, 24]
    for step, units in expected.items():
        scores = [unit.scores() for unit in units.values()]
        for name in ("precision", "recall", "f1"):
            mean = np.mean([score[name] for score in scores])
            assert table.loc[step, name] == pytest.approx(mean)
        pooled = LogitHistogram.total(list(units.values()))
        assert table.loc[step, "auc"] == pytest.approx(pooled.auc())
        assert table.loc[step, "pooled_f1"] == pytest.approx(pooled.scores()["f1"])
    assert table["f1"].is_monotonic_decreasing
    assert table["chosen"].sum() == 1


def test_scores_per_unit(make_task: MakeTask, run: Path) -> None:
    table = rank(make_task(), run).per_unit
    assert list(table.columns) == ["step", "unit", "precision", "recall", "f1"]
    assert len(table) == 6 * 3
    units = evaluations(make_task(), run)[12]
    row = table[(table["step"] == 12) & (table["unit"] == "v2")].iloc[0]
    assert row["f1"] == units["v2"].scores()["f1"]


def test_the_chosen_checkpoint_is_copied_and_loads(make_task: MakeTask, run: Path) -> None:
    task, best_folder = make_task(), run.parent / "best"
    outcome = rank(task, run)
    best = outcome.best
    step = int(outcome.table.loc[outcome.table["chosen"], "step"].item())
    assert best["step"] == step
    source = run / best["checkpoint"]
    assert (
        verify_checkpoint(best_folder)["model.safetensors"]
        == (verify_checkpoint(source)["model.safetensors"])
    )
    load_weights(best_folder, task.build_network())
    assert json.loads((best_folder / BEST_FILE).read_text()) == best
    assert read_state(best_folder).step == step


def test_the_record_of_the_chosen_one(make_task: MakeTask, run: Path) -> None:
    best = rank(make_task(), run).best
    validation = evaluations(make_task(), run)[best["step"]]
    train_units = evaluations(make_task(), run, "train")[best["step"]]
    for record, units in ((best["validation"], validation), (best["train"], train_units)):
        scores = [unit.scores() for unit in units.values()]
        assert record["f1"] == pytest.approx(np.mean([score["f1"] for score in scores]))
        assert record["recall"] == pytest.approx(np.mean([score["recall"] for score in scores]))
    assert best["n_checkpoints"] == 6
    assert (best["task"], best["rule"]) == ("loud", "best")
    tuned = [unit.scores(best["threshold"])["f1"] for unit in validation.values()]
    assert best["validation"]["tuned_f1"] == pytest.approx(np.mean(tuned))
    assert best["validation"]["tuned_f1"] >= best["validation"]["f1"]
    assert any("only 3 units" in warning for warning in best["warnings"])


@pytest.mark.parametrize("rule", ["latest_tied", "earliest_tied"])
def test_rules_choose_among_the_tied(rule: str, make_task: MakeTask, run: Path) -> None:
    outcome = rank(make_task(), run, rule)
    tied = outcome.table.loc[outcome.table["tied"], "step"]
    assert outcome.best["step"] == (tied.max() if rule == "latest_tied" else tied.min())
    assert outcome.best["rule"] == rule


def test_only_the_chosen_one_is_scored_on_train_and_nothing_twice(
    make_task: MakeTask, run: Path
) -> None:
    task = make_task()
    first = rank(task, run)
    assert task.evaluations == 1 + 1
    kept = [path.name for path in (run / "evaluations").glob("train-*")]
    assert kept == [f"train-{first.best['checkpoint']}.npz"]
    again = rank(task, run)
    assert task.evaluations == 2
    assert again.best == first.best
    assert again.table.equals(first.table)


def test_memory_does_not_grow_with_the_number_of_checkpoints(
    make_task: MakeTask, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "MOST_AT_ONCE", 2)
    task, alive = make_task(), []
    real = task.evaluation_batches

    def counted(split: str) -> Any:
        alive.append(sum(type(thing) is LogitHistogram for thing in gc.get_objects()))
        yield from real(split)
        alive.append(sum(type(thing) is LogitHistogram for thing in gc.get_objects()))

    task.evaluation_batches = counted
    rank(task, run)
    # Six checkpoints of three units each in groups of two, then the chosen one on train.
    assert len(alive) == 2 * (3 + 1)
    # The units of one group, and of the checkpoint that was read last.
    assert max(alive) - alive[0] <= 3 * 3


def test_warnings_are_logged(
    make_task: MakeTask, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        best = rank(make_task(), run).best
    for warning in best["warnings"]:
        assert f"Loud bin: {warning}" in caplog.text
    assert f"Loud bin: chose step {best['step']} of 6 checkpoints, validation F1" in caplog.text


def test_checkpoints_saved_out_of_turn_are_not_ranked(make_task: MakeTask, tmp_path: Path) -> None:
    from amt_pipeline.training import loop

    class Stop(loop.InterruptGuard):
        """Asks for a stop at once."""

        def __enter__(self) -> Stop:
            self.requested = True
            return self

    original = loop.InterruptGuard
    loop.InterruptGuard = Stop  # type: ignore[misc]
    try:
        with pytest.raises(TrainingInterrupted):
            train(make_task(), tmp_path / "run")
    finally:
        loop.InterruptGuard = original  # type: ignore[misc]
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == ["step-0000001"]
    with pytest.raises(MissingPredecessorError, match="holds no checkpoint"):
        rank(make_task(), tmp_path / "run")


def test_no_run_names_the_pipeline_to_run(make_task: MakeTask, tmp_path: Path) -> None:
    with pytest.raises(MissingPredecessorError, match="kedro run --pipelines train_loud"):
        rank(make_task(), tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "history.json"])
def test_a_damaged_checkpoint_is_named_and_the_former_best_stays(
    name: str, make_task: MakeTask, run: Path
) -> None:
    rank(make_task(), run)
    path = run / "step-0000016" / name
    path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(CheckpointError, match=f"step-0000016/{name}: "):
        rank(make_task(), run)
    verify_checkpoint(run.parent / "best")


def test_a_run_on_other_data_is_refused(make_task: MakeTask, run: Path) -> None:
    task = make_task()
    rank(task, run, trained_on=task.fingerprint())
    with pytest.raises(CheckpointError, match=r"other data or features.*train_loud"):
        rank(task, run, trained_on="f00d")


def test_a_run_with_other_settings_is_refused(make_task: MakeTask, run: Path) -> None:
    task = make_task()
    described = task.describe()
    task.describe = lambda: {**described, "model": {"hidden": 8, "label_frames": 9}}
    words = r"step-0000004: was trained with other settings \(model\.label_frames: unset -> 9\)"
    with pytest.raises(CheckpointError, match=rf"{words}.*parameters of the training.*train_loud"):
        rank(task, run, trained_on=task.fingerprint())
    assert not (run.parent / "best").exists()
    # How it was trained does not matter to a ranking.
    rank(make_task(learning_rate=0.5), run)


def test_an_empty_validation_split_is_named(make_task: MakeTask, run: Path) -> None:
    task = make_task()
    task.evaluation_batches = lambda split: iter(())
    with pytest.raises(UserError, match="Loud bin: the validation split has no piece"):
        rank(task, run)


def test_what_has_no_score_is_null(make_task: MakeTask, run: Path) -> None:
    task = make_task()
    real = task.evaluation_batches

    def silent(split: str) -> Any:
        for unit, batch in real(split) if split == "validation" else ():
            yield unit, replace(batch, targets=batch.targets * 0)

    task.evaluation_batches = silent
    rank(task, run)
    best = json.loads((run.parent / "best" / BEST_FILE).read_text())
    assert best["validation"]["auc"] is None
    assert best["validation"]["f1"] == 0
    assert best["train"]["f1"] is None


def test_settings_are_checked() -> None:
    for wrong in ({"rule": "newest"}, {"level": 1}, {"resamples": 3}, {"seeds": 1}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            RankingConfig(**wrong)


def test_the_copy_is_replaced_as_a_whole(make_task: MakeTask, run: Path) -> None:
    best_folder = run.parent / "best"
    copy_checkpoint(run / "step-0000004", best_folder, {"old.json": {}})
    rank(make_task(), run)
    assert not (best_folder / "old.json").exists()
