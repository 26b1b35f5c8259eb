"""The files by which training processes and the one that started them speak."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core.errors import StoreError, UserError
from amt_pipeline.training.channel import (
    ERROR_FILE,
    EVENTS_FILE,
    EventReader,
    EventWriter,
    has_scalars,
    open_task,
    read_error,
    write_error,
)
from amt_pipeline.training.result import TrainingInterrupted


class Listener:
    """A reporter that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def scalars(self, values: Any, step: int) -> None:
        self.heard.append((step, dict(values)))

    def file(self, path: object, folder: str = "") -> None:
        self.heard.append((path, folder))


@pytest.fixture(autouse=True)
def _level() -> Iterator[None]:
    package = logging.getLogger("amt_pipeline")
    before = package.level
    yield
    package.setLevel(before)


def test_scalars_files_and_log_lines_arrive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener()
    with EventReader(tmp_path, listener) as reader, EventWriter(tmp_path) as writer:
        writer.scalars({"train/loss": math.inf}, 3)
        writer.file(tmp_path / "a.png", "figures")
        logging.getLogger("amt_pipeline.there").info("%d of %d", 1, 2)
        logging.getLogger("elsewhere").info("not for the user")
        caplog.clear()
        with caplog.at_level(logging.INFO):
            reader.follow()
    assert listener.heard == [(3, {"train/loss": math.inf}), (str(tmp_path / "a.png"), "figures")]
    assert caplog.record_tuples == [("amt_pipeline.there", logging.INFO, "1 of 2")]


def test_scalars_tell_that_training_has_begun(tmp_path: Path) -> None:
    with EventWriter(tmp_path) as writer:
        logging.getLogger("amt_pipeline.there").warning('{"scalars": 1}')
        assert not has_scalars(tmp_path)
        writer.scalars({"loss": 1.0}, 1)
        assert has_scalars(tmp_path)


def test_what_is_said_twice_or_half_is_heard_once(tmp_path: Path) -> None:
    listener = Listener()
    with EventReader(tmp_path, listener) as reader:
        with EventWriter(tmp_path) as first:
            first.scalars({"loss": 2.0}, 1)
            first.scalars({"loss": 1.0}, 2)
        path = tmp_path / EVENTS_FILE
        with path.open("ab") as stream:
            stream.write(b'{"scalars": {"lo')
        reader.follow()
        with EventWriter(tmp_path) as second:
            second.scalars({"loss": 1.0}, 2)
            second.scalars({"loss": 0.5}, 3)
        reader.follow()
        with path.open("ab") as stream:
            stream.write(json.dumps({"scalars": {"loss": 0.2}, "step": 4}).encode())
            stream.flush()
            reader.follow()
            assert listener.heard[-1][0] == 3
            stream.write(b"\n")
        reader.follow()
    assert [step for step, _ in listener.heard] == [1, 2, 3, 4]


def test_a_mistake_comes_back_as_what_it_was(tmp_path: Path) -> None:
    assert read_error(tmp_path) is None
    write_error(tmp_path, TrainingInterrupted("Loud bin", "stopped", "Run again"))
    write_error(tmp_path, StoreError("later.npy", "is damaged"))
    found = read_error(tmp_path)
    assert type(found) is TrainingInterrupted
    assert str(found) == "Loud bin: stopped. Run again"


def test_only_mistakes_come_back(tmp_path: Path) -> None:
    words = {"type": "builtins:dict", "where": "", "problem": "", "remedy": ""}
    (tmp_path / ERROR_FILE).write_text(json.dumps(words))
    with pytest.raises(TypeError, match="no UserError"):
        read_error(tmp_path)
    (tmp_path / ERROR_FILE).write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_error(tmp_path)


def test_a_task_is_made_again_from_its_recipe(make_task: Callable[..., Any]) -> None:
    task = make_task(hidden=5, learning_rate=0.5)
    again = open_task(json.loads(json.dumps(task.recipe())))
    assert type(again).__name__ == "SyntheticTask"
    assert (again.describe(), again.training) == (task.describe(), task.training)
    assert again.fingerprint() == task.fingerprint()
