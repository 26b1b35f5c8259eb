from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

from amt_pipeline.core.errors import CheckpointError, StorageError, UserError
from amt_pipeline.ranking import evaluate as evaluate_module
from amt_pipeline.ranking.evaluate import evaluate_checkpoints, group_size
from amt_pipeline.ranking.evaluation_cache import Evaluation, EvaluationCache
from amt_pipeline.training.checkpoints import list_checkpoints, load_weights, write_file_list
from amt_pipeline.training.evaluation import evaluate_units, mean_score
from amt_pipeline.training.loop import train
from amt_pipeline.training.metrics import LogitHistogram
from amt_pipeline.training.several import SeveralNetworks

MakeTask = Callable[..., Any]
CPU = torch.device("cpu")
TALLY = 32768
"""Bytes of a histogram of logits."""


@pytest.fixture
def run(make_task: MakeTask, tmp_path: Path) -> list[Path]:
    """The four checkpoints of a short run."""
    train(make_task(), tmp_path / "run")
    return list_checkpoints(tmp_path / "run")


def evaluate(
    task: Any, checkpoints: list[Path], *, split: str = "validation", settings: object = None
) -> list[Any]:
    cache = checkpoints[0].parent / "evaluations"
    return list(evaluate_checkpoints(task, checkpoints, split, cache, settings or {}))


def evaluate_network(task: Any, network: Any) -> dict[str, Any]:
    found = evaluate_units(task, [network], "validation", CPU, "float32")
    return {unit: histograms[0] for unit, histograms in found}


def count_networks(task: Any) -> list[int]:
    """Return a list that fills with how many networks each batch is shown to."""
    real, counts = task.forward, []

    def counted(network: SeveralNetworks, batch: Any) -> Any:
        counts.append(len(network.networks))
        return real(network, batch)

    task.forward = counted
    return counts


def assert_equal(units: Any, others: Any) -> None:
    assert list(units) == list(others)
    for name in units:
        np.testing.assert_array_equal(units[name].positive, others[name].positive)
        np.testing.assert_array_equal(units[name].negative, others[name].negative)


@pytest.mark.parametrize("masked", [True, False])
def test_every_unit_is_scored_as_sklearn_does(
    masked: bool, make_task: MakeTask, run: list[Path]
) -> None:
    task = make_task(masked=masked)
    (units,) = evaluate(task, run[-1:])
    assert list(units) == ["v1", "v2", "v3"]
    network = task.build_network()
    load_weights(run[-1], network)
    network.eval()
    windows = task.tiles("validation")
    for position, (name, n_frames) in enumerate({"v1": 20, "v2": 13, "v3": 9}.items()):
        batch = task.batch("validation", windows[windows.recording == position])
        keep = np.ones(batch.targets.shape, bool) if batch.valid is None else batch.valid.numpy()
        assert keep.sum() == (n_frames if masked else batch.targets.numel())
        with torch.inference_mode():
            logits = task.forward(network, batch).numpy()[keep]
        truth = batch.targets.numpy()[keep] > 0
        scores = units[name].scores()
        said = logits >= 0
        assert scores["precision"] == pytest.approx(precision_score(truth, said, zero_division=0))
        assert scores["recall"] == pytest.approx(recall_score(truth, said))
        assert scores["f1"] == pytest.approx(f1_score(truth, said))
        # Bins of 1/64 make a few ties of what differs by less.
        assert units[name].auc() == pytest.approx(roc_auc_score(truth, logits), abs=0.05)
    mean = np.mean([unit.scores()["f1"] for unit in units.values()])
    assert mean_score(units, "f1") == pytest.approx(mean)
    assert math.isnan(mean_score({}, "f1"))


def test_nothing_is_evaluated_twice(make_task: MakeTask, run: list[Path]) -> None:
    first = evaluate(make_task(), run)
    again = make_task()
    again.forward = lambda network, batch: pytest.fail("evaluated again")
    for units, others in zip(evaluate(again, run), first, strict=True):
        assert_equal(units, others)
    names = {path.name for path in (run[0].parent / "evaluations").iterdir()}
    assert names == {f"validation-{path.name}.npz" for path in run}


def test_a_killed_evaluation_goes_on_where_it_was(make_task: MakeTask, run: list[Path]) -> None:
    evaluate(make_task(), run[:2])
    task = make_task()
    asked = count_networks(task)
    evaluate(task, run)
    assert set(asked) == {2}


class Killed(Exception):
    """Stands for a kill: nothing of ours catches it."""


@pytest.mark.parametrize("most", [1, 2, 3, 16])
def test_one_pass_gives_what_passes_of_their_own_give(
    most: int, make_task: MakeTask, run: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = []
    for path in run:
        task = make_task()
        network = task.build_network()
        load_weights(path, network)
        alone.append(evaluate_network(task, network))
    monkeypatch.setattr(evaluate_module, "MOST_AT_ONCE", most)
    task = make_task()
    together = evaluate(task, run)
    assert task.evaluations == math.ceil(len(run) / most)
    for units, others in zip(together, alone, strict=True):
        assert_equal(units, others)
    assert any(
        (together[0][unit].positive != together[-1][unit].positive).any() for unit in together[0]
    )


def test_units_that_a_killed_run_finished_are_kept(
    make_task: MakeTask, run: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluate(make_task(), run)
    shutil.rmtree(run[0].parent / "evaluations")
    monkeypatch.setattr(evaluate_module, "KEEP_EVERY_S", 0.0)
    # The first checkpoint is further than the others when all are killed in the last piece.
    for paths, last in ((run[:1], "v2"), (run, "v3")):
        task = make_task()
        kill_in(task, last)
        with pytest.raises(Killed):
            evaluate(task, paths)
    (run[0].parent / "evaluations" / ".tmp-validation-1.npz").write_bytes(b"PK")
    task = make_task()
    asked = count_networks(task)
    for units, others in zip(evaluate(task, run), expected, strict=True):
        assert_equal(units, others)
    # What a killed process was writing is no evaluation, and goes.
    assert not list((run[0].parent / "evaluations").glob(".tmp-*"))
    # Of 20, 13 and 9 frames in windows of 4, two to a batch, only the last piece is left.
    assert asked == [4, 4]


def test_checkpoints_of_a_group_go_on_from_different_units(
    make_task: MakeTask, run: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluate(make_task(), run[:3])
    shutil.rmtree(run[0].parent / "evaluations")
    monkeypatch.setattr(evaluate_module, "KEEP_EVERY_S", 0.0)
    for path, last in ((run[0], "v3"), (run[1], "v2")):
        task = make_task()
        kill_in(task, last)
        with pytest.raises(Killed):
            evaluate(task, [path])
    task = make_task()
    asked = count_networks(task)
    for units, others in zip(evaluate(task, run[:3]), expected, strict=True):
        assert_equal(units, others)
    assert asked == [1, 1, 1, 2, 2, 3, 3]


def kill_in(task: Any, unit: str) -> None:
    """Let an evaluation end after the first batch of a unit."""
    real = task.evaluation_batches

    def until(split: str) -> Any:
        for name, batch in real(split):
            yield name, batch
            if name == unit:
                raise Killed

    task.evaluation_batches = until


def test_a_group_is_bounded_by_memory_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_module, "GROUP_BYTES", 10 * (1000 + 3 * 32768))
    monkeypatch.setattr(evaluate_module, "MOST_AT_ONCE", 16)
    assert group_size(10, 3, 1000, TALLY) == 10
    assert group_size(11, 3, 1000, TALLY) == 6
    assert group_size(10, 3, 1001, TALLY) == 5
    assert group_size(7, 10_000, 1, TALLY) == 1
    assert group_size(17, 0, 1, TALLY) == 9
    assert group_size(1, 0, 1, TALLY) == 1


def test_a_task_that_breaks_its_contract_is_found(make_task: MakeTask) -> None:
    task = make_task()
    network = task.build_network()
    task.forward = lambda network, batch: network(batch.inputs[0])[0]
    with pytest.raises(ValueError, match="with its leading axes"):
        evaluate_network(task, network)
    task = make_task()
    pairs = list(task.evaluation_batches("validation"))
    task.evaluation_batches = lambda split: iter([*pairs, pairs[0]])
    with pytest.raises(ValueError, match="batches of v1 do not follow one another"):
        evaluate_network(task, network)


def test_a_unit_without_frames_is_left_out(make_task: MakeTask, run: list[Path]) -> None:
    task = make_task()
    pairs = [pair for pair in task.evaluation_batches("validation") if pair[0] != "v2"]
    task.evaluation_batches = lambda split: iter(pairs)
    assert [list(units) for units in evaluate(task, run[:2])] == [["v1", "v3"]] * 2


def test_an_evaluation_that_vanishes_meanwhile_is_named(
    make_task: MakeTask, run: list[Path]
) -> None:
    cache = run[0].parent / "evaluations"
    results = evaluate_checkpoints(make_task(), run[:2], "validation", cache, {})
    next(results)
    (cache / f"validation-{run[1].name}.npz").unlink()
    with pytest.raises(UserError, match=r"step-0000008\.npz: was changed while it was used"):
        next(results)


@pytest.mark.parametrize("change", ["weights", "settings", "split", "data", "network", "version"])
def test_what_changed_is_evaluated_again(
    change: str, make_task: MakeTask, run: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(make_task(), run)
    task, settings, split, expected = make_task(), {}, "validation", 4
    asked = count_networks(task)
    if change == "weights":
        shutil.copy(run[0] / "model.safetensors", run[1] / "model.safetensors")
        write_file_list(run[1])
        expected = 1
    elif change == "settings":
        settings = {"stride": 2}
    elif change == "split":
        split = "train"
    elif change == "data":
        task.fingerprint = lambda: "other"
    elif change == "version":
        monkeypatch.setattr(evaluate_module, "VERSION", evaluate_module.VERSION + 1)
    else:
        task.describe = lambda: {"input": "log"}
    results = evaluate(task, run, split=split, settings=settings)
    assert task.evaluations == 1
    assert set(asked) == {expected}
    if change == "weights":
        assert_equal(results[1], results[0])
    evaluate(task, run, split=split, settings=settings)
    assert task.evaluations == 1


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "zip", "inside", "other arrays"])
def test_a_damaged_evaluation_is_made_again(
    damage: str, make_task: MakeTask, run: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = evaluate(make_task(), run[:1])
    path = run[0].parent / "evaluations" / f"validation-{run[0].name}.npz"
    content = path.read_bytes()
    middle = content.index(b"positive.npy") + 60
    path.write_bytes(
        {
            "empty": b"",
            "truncated": content[:-30],
            "text": b"not an archive",
            "zip": b"PK\x03\x04" + bytes(100),
            "inside": content[:middle] + bytes(30) + content[middle + 30 :],
            "other arrays": content,
        }[damage]
    )
    if damage == "other arrays":
        np.savez(path, other=np.zeros(3))
    task = make_task()
    with caplog.at_level(logging.WARNING):
        assert_equal(evaluate(task, run[:1])[0], first)
    assert task.evaluations == 1
    assert f"{path}: evaluated again, the kept evaluation is damaged" in caplog.text


def test_counts_of_any_size_are_kept(tmp_path: Path) -> None:
    cache, many = EvaluationCache(tmp_path, "validation", "key", LogitHistogram), LogitHistogram()
    many.negative[0] = 5 * 10**9
    cache.write(tmp_path / "step-0000004", "sha", Evaluation({"a": many}, True))
    found = cache.read(tmp_path / "step-0000004", "sha")
    assert found.complete
    assert_equal(found.units, {"a": many})


def test_a_damaged_checkpoint_is_named(make_task: MakeTask, run: list[Path]) -> None:
    evaluate(make_task(), run)
    path = run[2] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"step-0000012/model\.safetensors: is truncated"):
        evaluate(make_task(), run)


def test_another_network_is_named(make_task: MakeTask, run: list[Path]) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors: holds the weights of another"):
        evaluate(make_task(hidden=9), run)


def test_a_split_without_units(make_task: MakeTask, run: list[Path]) -> None:
    task = make_task()
    assert evaluate(task, run[:1], split="test") == [{}]
    assert evaluate(task, run[:1], split="test") == [{}]
    assert task.evaluations == 1


def test_the_evaluation_uses_no_dropout_and_running_statistics(make_task: MakeTask) -> None:
    task = make_task()
    network = task.build_network().train()
    first = evaluate_network(task, network)
    assert not network.training
    assert_equal(evaluate_network(task, network), first)
    assert int(network.layers[1].num_batches_tracked) == 0


def test_a_diverged_network_scores_zero(make_task: MakeTask) -> None:
    task = make_task()
    network = task.build_network()
    with torch.no_grad():
        network.layers[-1].bias.fill_(float("nan"))
    units = evaluate_network(task, network)
    assert mean_score(units, "f1") == 0
    assert units["v1"].auc() == 0.5


def test_a_full_disk_is_named(make_task: MakeTask, run: list[Path], limit_file_size: Any) -> None:
    with (
        pytest.raises(StorageError, match=r"validation-step-0000004\.npz: cannot be written"),
        limit_file_size(100),
    ):
        evaluate(make_task(), run)
