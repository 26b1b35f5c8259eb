from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from amt_pipeline.core.errors import CorpusError, ResumeError, StorageError
from amt_pipeline.core.files import read_json, write_json
from amt_pipeline.training.checkpoints import CheckpointState, list_checkpoints, save_checkpoint
from amt_pipeline.training.run import (
    RESULT_FILE,
    differences,
    find_resume_point,
    newest_whole_checkpoint,
    prune_checkpoints,
    set_aside,
)

IDENTITY: dict[str, Any] = {
    "model": {"hidden": 3, "widths": [1, 2]},
    "training": {"learning_rate": 0.01, "seed": 1},
    "data": "f00d",
}
OTHER = {**IDENTITY, "training": {"learning_rate": 0.02, "seed": 1}}


def checkpoint(folder: Path, step: int, *, regular: bool = True) -> Path:
    network = torch.nn.Linear(2, 1)
    state = CheckpointState(step, regular, IDENTITY, "f00d", {}, "0.1")
    optimiser = torch.optim.Adam(network.parameters())
    return save_checkpoint(folder, state=state, network=network, optimiser=optimiser, history=[])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was stopped between steps 20 and 30."""
    folder = tmp_path / "onset"
    checkpoint(folder, 10)
    checkpoint(folder, 20)
    return folder


@pytest.fixture
def finished(run: Path) -> Path:
    """The run at its end, ranked."""
    checkpoint(run, 30)
    write_json(run / RESULT_FILE, {"steps": 30})
    for name in ("events", "evaluations", "best"):
        (run / name).mkdir()
        (run / name / "content").write_text(name)
    return run


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def find(folder: Path, identity: dict[str, Any] = IDENTITY, steps: int = 30, **more: Any) -> Any:
    return find_resume_point(folder, identity=identity, total_steps=steps, **more)


def test_nothing_there_begins_anew(tmp_path: Path) -> None:
    assert find(tmp_path / "nowhere") is None
    assert newest_whole_checkpoint(tmp_path) is None


def test_the_newest_checkpoint_is_gone_on_from(run: Path) -> None:
    assert find(run) == run / "step-0000020"
    out_of_turn = checkpoint(run, 23, regular=False)
    assert find(run) == out_of_turn


def test_damaged_checkpoints_are_skipped_and_named(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run / "step-0000020" / "optimiser.safetensors").unlink()
    with caplog.at_level(logging.WARNING):
        assert find(run) == run / "step-0000010"
    assert "step-0000020/optimiser.safetensors: is missing" in caplog.text
    (run / "step-0000010" / "files.json").unlink()
    assert find(run) is None


def test_differing_settings_of_an_unfinished_run_are_refused_and_named(run: Path) -> None:
    with pytest.raises(ResumeError) as caught:
        find(run, OTHER)
    text = str(caught.value)
    assert "unfinished run at step 20" in text
    assert "(training.learning_rate: 0.01 -> 0.02)" in text
    assert "training.restart=true" in text
    assert names(run) == ["step-0000010", "step-0000020"]


def test_other_data_is_refused(run: Path) -> None:
    with pytest.raises(ResumeError, match="data: f00d -> beef"):
        find(run, {**IDENTITY, "data": "beef"})


def test_fewer_steps_than_done_are_refused(run: Path) -> None:
    with pytest.raises(ResumeError, match="steps: 20 -> 15"):
        find(run, steps=15)


@pytest.mark.parametrize("identity", [IDENTITY, OTHER])
def test_restart_sets_an_unfinished_run_aside(
    run: Path, identity: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert find(run, identity, restart=True) is None
    assert names(run) == ["previous"]
    assert names(run / "previous" / "001") == ["step-0000010", "step-0000020"]
    assert "previous/001" in caplog.text
    assert ("restart asked for" in caplog.text) is (identity == IDENTITY)
    # The same command would set the run that begins now aside as well.
    assert "go on without training.restart=true" in caplog.text


def test_run_stays_in_its_place_when_the_new_one_cannot_read_its_data(finished: Path) -> None:
    before = names(finished)

    def unreadable() -> None:
        raise CorpusError("records", "are of another export")

    with pytest.raises(CorpusError, match="another export"):
        find_resume_point(finished, identity=OTHER, total_steps=30, check=unreadable)
    assert names(finished) == before
    assert find_resume_point(finished, identity=OTHER, total_steps=30, check=lambda: None) is None
    assert names(finished) == ["best", "previous"]


def test_remedy_names_the_setting_as_it_is_typed(run: Path) -> None:
    with pytest.raises(ResumeError, match=r"with onset\.training\.restart=true"):
        find(run, {**OTHER, "name": "onset"})


def test_a_finished_run_is_found_as_it_is(finished: Path) -> None:
    assert find(finished) == finished / "step-0000030"
    assert find(finished, steps=60) == finished / "step-0000030"
    assert read_json(finished / RESULT_FILE) == {"steps": 30}


@pytest.mark.parametrize(
    ("steps", "outcome"), [(30, "nothing is trained"), (60, "training goes on from step 30")]
)
def test_restart_keeps_a_finished_run_and_says_so(
    finished: Path, steps: int, outcome: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = names(finished)
    with caplog.at_level(logging.WARNING):
        assert find(finished, steps=steps) == finished / "step-0000030"
        assert caplog.messages == []
        assert find(finished, IDENTITY, steps, restart=True) == finished / "step-0000030"
    (line,) = caplog.messages
    assert "finished run with these settings, which training.restart=true does not set" in line
    assert outcome in line
    assert "give another training.seed" in line
    assert names(finished) == before
    # What the line proposes does repeat the run, and nothing is lost.
    (finished / RESULT_FILE).unlink()
    assert find(finished, steps=steps, restart=True) is None
    assert names(finished / "previous" / "001") == sorted({*before} - {"best", RESULT_FILE})


def test_a_finished_run_with_other_settings_is_set_aside(
    finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert find(finished, OTHER) is None
    assert "learning_rate: 0.01 -> 0.02" in caplog.text
    assert "restart=true" not in caplog.text
    # The chosen checkpoint stays in use until a ranking replaces it.
    assert names(finished) == ["best", "previous"]
    aside = finished / "previous" / "001"
    assert names(aside) == [
        "evaluations", "events", "step-0000010", "step-0000020", "step-0000030", "training.json",
    ]  # fmt: skip
    assert newest_whole_checkpoint(aside) == aside / "step-0000030"
    checkpoint(finished, 10)
    write_json(finished / RESULT_FILE, {})
    assert find(finished, OTHER) is None
    assert names(finished / "previous") == ["001", "002"]


def test_setting_aside_names_the_place_that_refuses(run: Path) -> None:
    (run / "previous").write_text("in the way")
    with pytest.raises(StorageError, match=r"previous/001: cannot be written"):
        set_aside(run)
    assert find(run) == run / "step-0000020"


def test_differences_of_nested_settings() -> None:
    assert differences(IDENTITY, IDENTITY) == []
    new = {"model": {"hidden": 4, "widths": (1, 2), "kernel": 3}, "training": IDENTITY["training"]}
    assert differences(IDENTITY, new) == [
        "data: f00d -> unset",
        "model.hidden: 3 -> 4",
        "model.kernel: unset -> 3",
    ]


@pytest.mark.parametrize(
    ("keep", "left"),
    [("all", [10, 20, 30, 40]), (9, [10, 20, 30, 40]), (2, [30, 40]), (1, [40])],
)
def test_out_of_turn_checkpoints_do_not_count_among_those_kept(
    run: Path, keep: str | int, left: list[int]
) -> None:
    checkpoint(run, 25, regular=False)
    checkpoint(run, 30)
    checkpoint(run, 34, regular=False)
    checkpoint(run, 40)
    prune_checkpoints(run, keep, 40)
    assert list_checkpoints(run) == [run / f"step-{step:07d}" for step in left]


def test_an_out_of_turn_checkpoint_replaces_the_one_before(run: Path) -> None:
    checkpoint(run, 25, regular=False)
    checkpoint(run, 27, regular=False)
    prune_checkpoints(run, 1, 27)
    assert names(run) == ["step-0000020", "step-0000027"]


def test_damaged_checkpoints_neither_stop_nor_displace_others(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The run went on from 20, because 30 was damaged; then it was interrupted at 25.
    (checkpoint(run, 30) / "model.safetensors").unlink()
    checkpoint(run, 25, regular=False)
    (run / "step-0000010" / "state.json").write_text("")
    with caplog.at_level(logging.WARNING):
        prune_checkpoints(run, 1, 25)
    assert names(run) == ["step-0000010", "step-0000020", "step-0000025", "step-0000030"]
    assert "step-0000010/state.json: cannot be read" in caplog.text
    assert find(run) == run / "step-0000025"
