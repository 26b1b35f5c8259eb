"""Ctrl+C during training: the run saves itself, and goes on later as if nothing had been."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.files import read_json
from amt_pipeline.training.checkpoints import list_checkpoints, read_state
from amt_pipeline.training.loop import TrainingInterrupted, train
from amt_pipeline.training.run import RESULT_FILE

MakeTask = Callable[..., Any]
LAST = "step-0000016"


@pytest.fixture
def undisturbed(make_task: MakeTask, tmp_path: Path) -> dict[str, Any]:
    """Weights of a run that was not stopped."""
    from engine_support import weights

    train(make_task(), tmp_path / "undisturbed")
    return dict(weights(tmp_path / "undisturbed" / LAST))


def assert_same(folder: Path, expected: dict[str, Any]) -> None:
    """The final weights agree to the bit."""
    from engine_support import weights

    found = weights(folder / LAST)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Ctrl+C as on a terminal, whatever the test runner made of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_at(task: Any, wanted: int, times: int = 1, number: int = signal.SIGINT) -> Any:
    """Press Ctrl+C while the batch of a step is made."""

    def press(step: int) -> None:
        if step == wanted:
            for _ in range(times):
                os.kill(os.getpid(), number)

    task.before_step = press
    return task


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_saves_out_of_turn_and_leaves_no_trace_later(
    make_task: MakeTask, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = r"Loud bin: stopped at step 5 of 16, saved in .*run\. Run the same command again"
    with pytest.raises(TrainingInterrupted, match=words):
        train(press_at(make_task(), 4), folder)
    names = [path.name for path in list_checkpoints(folder)]
    assert names == ["step-0000004", "step-0000005"]
    assert not read_state(folder / "step-0000005").regular
    with pytest.raises(TrainingInterrupted, match="stopped at step 7"):
        train(press_at(make_task(), 6), folder)
    names = [path.name for path in list_checkpoints(folder)]
    assert names == ["step-0000004", "step-0000007"]
    result = train(make_task(), folder)
    assert result.checkpoints == [f"step-{step:07d}" for step in (4, 8, 12, 16)]
    assert all(read_state(path).regular for path in list_checkpoints(folder))
    assert_same(folder, undisturbed)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [4, 15])
def test_which_signal_it_was_is_kept(
    make_task: MakeTask, tmp_path: Path, number: int, step: int
) -> None:
    with pytest.raises(TrainingInterrupted) as stopped:
        train(press_at(make_task(), step, number=number), tmp_path)
    # It crosses the border between processes where variants are trained in several.
    for error in (stopped.value, pickle.loads(pickle.dumps(stopped.value))):
        assert error.signal_number == number
        assert str(error) == str(stopped.value)


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_at_a_save_and_in_the_last_step(
    make_task: MakeTask, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with pytest.raises(TrainingInterrupted, match="stopped at step 8"):
        train(press_at(make_task(), 7), folder)
    assert read_state(folder / "step-0000008").regular
    # Nothing is left to train, but what would follow (the ranking) must not begin.
    words = r"training is complete at step 16, saved in .*Run the same command again"
    with pytest.raises(TrainingInterrupted, match=words):
        train(press_at(make_task(), 15), folder)
    assert read_json(folder / RESULT_FILE)["steps"] == 16
    assert train(make_task(), folder).steps == 16
    assert_same(folder, undisturbed)


@pytest.mark.usefixtures("interrupts")
def test_the_remedy_after_a_restart_does_not_begin_anew(
    make_task: MakeTask, tmp_path: Path
) -> None:
    words = r"stopped at step 5 of 16.* again to go on, without loud\.training\.restart=true"
    with pytest.raises(TrainingInterrupted, match=words):
        train(press_at(make_task(restart=True), 4), tmp_path)
    first_steps: list[int] = []
    task = make_task()
    task.before_step = first_steps.append
    train(task, tmp_path)
    assert first_steps[0] == 5


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_during_a_save_is_heeded_after_the_next_step(
    make_task: MakeTask,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from amt_pipeline.training import loop

    def save_and_press(*arguments: Any, **named: Any) -> None:
        real(*arguments, **named)
        monkeypatch.setattr(loop, "prune_checkpoints", real)
        os.kill(os.getpid(), signal.SIGINT)

    real = loop.prune_checkpoints
    monkeypatch.setattr(loop, "prune_checkpoints", save_and_press)
    with pytest.raises(TrainingInterrupted, match="stopped at step 5"):
        train(make_task(), tmp_path / "run")
    assert read_state(tmp_path / "run" / "step-0000005").step == 5
    train(make_task(), tmp_path / "run")
    assert_same(tmp_path / "run", undisturbed)


@pytest.mark.usefixtures("interrupts")
def test_ctrl_c_twice_stops_at_once(make_task: MakeTask, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(press_at(make_task(), 5, times=2), tmp_path)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-0000004"]
    assert train(make_task(), tmp_path).steps == 16
