from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.errors import CorpusError, StorageError
from amt_pipeline.core.files import read_json
from amt_pipeline.store.windows import Windows
from amt_pipeline.training.checkpoints import list_checkpoints, read_state, verify_checkpoint
from amt_pipeline.training.loop import train
from amt_pipeline.training.run import RESULT_FILE
from amt_pipeline.training.stream import WindowStream
from amt_pipeline.training.trainer import TrainingDiverged

MakeTask = Callable[..., Any]


class Listener:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, dict[str, float]]] = []

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.heard.append((step, dict(values)))

    def file(self, path: object, folder: str = "") -> None:
        pytest.fail("the loop reports no files")


def steps(folder: Path) -> list[int]:
    return [read_state(path).step for path in list_checkpoints(folder)]


def test_it_learns(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(epochs=60, save_every_steps=1000, log_every_steps=40, pos_weight=None)
    history = train(task, tmp_path).history
    assert history[-1]["f1"] > 0.97
    assert history[-1]["loss"] < history[0]["loss"] / 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [4, 8, 12, 16]),
        ({"epochs": 2.5}, [4, 8, 12]),
        ({"keep": 2}, [12, 16]),
        ({"keep": 1}, [16]),
        ({"epochs": 0.7}, [3]),
        ({"save_every_steps": 100}, [16]),
        ({"batch_size": 100, "epochs": 30}, [4, 8]),
    ],
    ids=str,
)
def test_checkpoints_at_the_right_steps(
    settings: dict[str, Any], expected: list[int], make_task: MakeTask, tmp_path: Path
) -> None:
    result = train(make_task(**settings), tmp_path)
    assert steps(tmp_path) == expected
    assert result.steps == expected[-1]
    assert result.checkpoints == [path.name for path in list_checkpoints(tmp_path)]
    assert all(read_state(path).regular for path in list_checkpoints(tmp_path))


def test_result_and_checkpoint_say_what_they_are(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task()
    result = train(task, tmp_path)
    stored = read_json(tmp_path / RESULT_FILE)
    assert stored["config"] == {**task.describe(), "training": task.training.model_dump()}
    assert (stored["task"], stored["windows"], stored["device"]) == ("loud", 16, "cpu")
    assert stored["fingerprint"] == task.fingerprint()
    assert stored["precision"] == "float32"
    assert stored["parameters"] == 24 * 8 + 8 + 2 * 8 + 8 + 1
    assert stored["history"] == result.history
    state = read_state(tmp_path / "step-0000016")
    assert state.config["data"] == state.fingerprint == task.fingerprint()
    assert state.config["training"]["learning_rate"] == 0.01
    assert state.metrics == result.history[-1]


def test_scalars_come_at_log_steps_and_saves(make_task: MakeTask, tmp_path: Path) -> None:
    listener = Listener()
    result = train(make_task(log_every_steps=3), tmp_path, listener)
    expected = [3, 4, 6, 8, 9, 12, 15, 16]
    assert [step for step, _ in listener.heard] == expected
    assert [row["step"] for row in result.history] == expected
    values = listener.heard[0][1]
    assert values.keys() == {
        f"train/{name}"
        for name in (
            *("loss", "precision", "recall", "f1", "learning_rate"),
            *("windows_per_second", "feed_wait_fraction"),
        )
    }
    assert values["train/learning_rate"] == 0.01
    assert listener.heard[1][1]["train/learning_rate"] == pytest.approx(0.0098)


def test_running_scores_leave_out_frames_beyond_the_recordings(
    make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task(epochs=1, learning_rate=1e-12, batch_size=16, log_every_steps=1)
    task.build_network = lambda: _says_yes(task)
    row = train(task, tmp_path).history[0]
    windows = task.tiles("train")
    batch = task.batch("train", windows)
    targets = batch.targets.numpy()[batch.valid.numpy()]
    assert len(targets) == 37 + 22
    assert row["recall"] == 1
    assert row["precision"] == pytest.approx(targets.mean())


def _says_yes(task: Any) -> Any:
    import torch

    network = type(task).build_network(task)
    with torch.no_grad():
        network.layers[-1].weight.zero_()
        network.layers[-1].bias.fill_(5.0)
    return network


def test_batches_are_epochs_end_to_end(make_task: MakeTask) -> None:
    task = make_task(batch_size=7)
    stream = WindowStream(task)
    epochs = Windows.concatenate([task.training_windows(epoch) for epoch in range(5)])
    for step in (0, 1, 2, 3, 9, 2):
        batch, expected = stream.batch(step), epochs[step * 7 : step * 7 + 7]
        np.testing.assert_array_equal(batch.recording, expected.recording)
        np.testing.assert_array_equal(batch.start, expected.start)
    big = WindowStream(make_task(batch_size=50)).batch(0)
    np.testing.assert_array_equal(big.start, epochs[:50].start)


def test_an_epoch_of_another_size_is_a_defect(make_task: MakeTask) -> None:
    task = make_task()
    task.training_windows = lambda epoch: task.tiles("train")[: 16 - epoch]
    with pytest.raises(ValueError, match="epoch 1 has 15 windows, epoch 0 16"):
        WindowStream(task).batch(4)


def test_no_windows_are_refused(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task()
    task.training_windows = lambda epoch: Windows.concatenate([])
    with pytest.raises(CorpusError, match="loud: has no training windows"):
        train(task, tmp_path)


def test_a_diverged_run_is_stopped_with_a_remedy(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task()
    task.poisoned_from_step = 5
    with pytest.raises(
        TrainingDiverged, match=r"Loud bin: the loss is nan at step 6.*learning_rate"
    ):
        train(task, tmp_path)
    assert steps(tmp_path) == [4]
    assert not (tmp_path / RESULT_FILE).exists()


def test_a_full_disk_keeps_earlier_checkpoints(
    make_task: MakeTask, tmp_path: Path, limit_file_size: Any
) -> None:
    task = make_task(hidden=2000)

    def fill_disk(step: int) -> None:
        if step == 5:
            limit.__enter__()

    limit = limit_file_size(50_000)
    task.before_step = fill_disk
    try:
        with pytest.raises(StorageError, match=r"step-0000008: cannot be written .*Check"):
            train(task, tmp_path)
    finally:
        limit.__exit__(None, None, None)
    assert steps(tmp_path) == [4]
    assert not list(tmp_path.glob(".tmp-*"))
    assert train(make_task(hidden=2000), tmp_path).steps == 16


def test_leftovers_of_a_killed_run_are_removed(make_task: MakeTask, tmp_path: Path) -> None:
    (tmp_path / ".tmp-step-0000004-abc").mkdir()
    (tmp_path / ".tmp-step-0000004-abc" / "model.safetensors").write_text("half")
    (tmp_path / ".tmp-training-abc.json").write_text("half")
    train(make_task(epochs=1), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000004", RESULT_FILE]


def test_a_folder_that_cannot_be_is_named(make_task: MakeTask, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RESULT_FILE).mkdir()
    with pytest.raises(StorageError, match="run: cannot be written"):
        train(make_task(), tmp_path / "run")


def test_bfloat16_on_the_cpu(make_task: MakeTask, tmp_path: Path) -> None:
    result = train(make_task(precision="bfloat16"), tmp_path)
    assert result.precision == "bfloat16"
    verify_checkpoint(tmp_path / "step-0000016")


def test_without_mask_weight_and_clipping(make_task: MakeTask, tmp_path: Path) -> None:
    task = make_task(masked=False, pos_weight=None, gradient_clip=None, dense_l2=0.0)
    assert train(task, tmp_path).steps == 16
    assert json.loads((tmp_path / RESULT_FILE).read_text())["steps"] == 16


def test_the_log_says_where_and_how_much(
    make_task: MakeTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(make_task(), tmp_path)
    assert (
        "Loud bin: 225 weights, 16 windows per epoch, 16 steps on cpu (float32, 1 threads)"
        in caplog.messages
    )
