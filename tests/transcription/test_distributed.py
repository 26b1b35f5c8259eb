"""The networks of transcription, trained by two processes and by one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.files import read_json
from amt_pipeline.training.channel import open_task
from amt_pipeline.training.loop import train
from amt_pipeline.training.run import RESULT_FILE

sys.path.append(str(Path(__file__).resolve().parents[1]))

TRAIN = """
import json, sys
from pathlib import Path
import torch
from amt_pipeline.training.channel import open_task
from amt_pipeline.training.distributed import join_group
from amt_pipeline.training.loop import train

with join_group(torch.device("cpu")) as group:
    for name, recipe in json.loads(sys.argv[1]).items():
        train(open_task(recipe), Path(sys.argv[2], name), None, group)
"""

# With a higher learning rate Adam makes whole steps of rounding errors: then one process with the
# rows of each batch in another order strays as far from itself (3e-4 after 50 steps).
TRAINING = {"learning_rate": 2e-4, "batch_size": 9, "epochs": 2.16, "save_every_steps": 50} | {
    "log_every_steps": 1, "device": "cpu", "gradient_clip": 1.0, "conv_l2": 1e-4,
    "dense_l2": 1e-4, "pos_weight": 2.0,
}  # fmt: skip
AUGMENT = {"gain_db": 2.0, "equaliser_db": 3.0, "transpose_semitones": 1}


def test_two_processes_give_the_loss_curve_of_one(
    make_config: Callable[..., Any],
    make_task: Callable[..., Any],
    make_frame_corpus: Callable[..., Any],
    tmp_path: Path,
) -> None:
    from distributed_support import run_together

    corpus = make_frame_corpus(seconds=12.0, splits=("train", "train", "train"))
    changes = {"training": TRAINING, "augment": AUGMENT, "model": {"label_frames": 11}}
    tasks = {name: make_task(make_config(name, **changes), corpus) for name in ("onset", "pitch")}
    recipes = {name: task.recipe() for name, task in tasks.items()}
    run_together(TRAIN, [json.dumps(recipes), tmp_path / "two"])
    for name, task in tasks.items():
        alone = train(task, tmp_path / "one" / name).history
        together = read_json(tmp_path / "two" / name / RESULT_FILE)["history"]
        assert len(alone) == len(together) == 50
        losses = np.array([row["loss"] for row in alone])
        assert losses.std() > 0.01 * losses.mean()
        assert [row["loss"] for row in together] == pytest.approx(losses.tolist(), rel=1e-5)
        for score in ("precision", "recall", "f1"):
            assert [row[score] for row in together] == pytest.approx(
                [row[score] for row in alone], abs=0.01
            )


@pytest.mark.parametrize("name", ["onset", "pitch"])
def test_rows_of_a_batch_are_those_of_the_whole(
    name: str, make_config: Callable[..., Any], make_task: Callable[..., Any], frame_corpus: Any
) -> None:
    task = make_task(make_config(name, augment=AUGMENT), frame_corpus)
    windows = task.training_windows(0)[:5]
    whole = task.training_batch(windows, 3)
    for rows in (slice(0, 2), slice(2, 5)):
        part = task.training_batch(windows, 3, rows)
        for own, expected in zip(part.inputs, whole.inputs, strict=True):
            assert own.equal(expected[rows])
        assert part.targets.equal(whole.targets[rows])
        assert part.valid.equal(whole.valid[rows])


def test_a_task_is_made_again_from_its_recipe(
    make_config: Callable[..., Any], make_task: Callable[..., Any], frame_corpus: Any
) -> None:
    task = make_task(make_config("onset"), frame_corpus, "fingerprint")
    again = open_task(json.loads(json.dumps(task.recipe())))
    assert (again.describe(), again.training) == (task.describe(), task.training)
    assert again.fingerprint() == task.fingerprint()
    assert np.array_equal(again.training_windows(1).start, task.training_windows(1).start)


def test_a_process_elsewhere_finds_records_given_by_a_relative_path(
    make_config: Callable[..., Any],
    make_task: Callable[..., Any],
    frame_corpus: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = {"source": "tfrecords", "records_folder": "records"}
    config = make_config("onset", training=training, input={"normalisation": "window"})
    monkeypatch.chdir(tmp_path)
    recipe = make_task(config, frame_corpus).recipe()
    monkeypatch.chdir("/")
    assert open_task(recipe).training.records_folder == str(tmp_path / "records")
