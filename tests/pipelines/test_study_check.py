"""A study at fault stops those runs only that need it, and the file that it is in is named."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.parameters import check_parameters
from amt_pipeline.pipelines.studies.check import EVERY, StudiesCheckHook, check_study, study_faults

GOOD = {"task": "onset", "grid": {"training.pos_weight": [1, 2]}}
BAD = {"task": "onset", "gird": {"training.pos_weight": [1, 2]}}
SAID = r"studies.bad.gird: unknown parameter \(did you mean grid\?\)"

Check = Callable[..., None]


def files(folder: Path, **contents: str) -> Path:
    for name, text in contents.items():
        path = folder / "conf" / f"{name.replace('__', '/')}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Runs the hook for a run that takes some studies."""

    def call(studies: Any, *needed: str, **run_params: Any) -> None:
        values = {"params:studies": studies}
        if isinstance(studies, dict):
            values |= {f"params:studies.{name}": study for name, study in studies.items()}
        catalog = DataCatalog({name: MemoryDataset(value) for name, value in values.items()})
        inputs = [f"params:studies.{name}" for name in needed]
        pipeline = Pipeline([Node(print, [*inputs, "manifest"], None, name="n")])
        StudiesCheckHook().before_pipeline_run(
            {"project_path": str(tmp_path), "env": None, **run_params}, pipeline, catalog
        )

    return call


def test_a_run_that_does_not_need_the_study_goes_on_with_one_warning(
    check: Check, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files(tmp_path, local__parameters_mine="studies:\n  bad: {task: onset, gird: {}}\n")
    with caplog.at_level(logging.WARNING):
        check({"good": GOOD, "bad": BAD}, "good")
    (line,) = caplog.messages
    assert "study bad: conf/local/parameters_mine.yml, parameter studies.bad.gird: unknown" in line
    assert line.endswith("See conf/base/parameters_studies.yml for what there is")


def test_a_run_of_the_study_is_refused(check: Check, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=rf"^parameter {SAID}"):
        check({"bad": BAD, "good": GOOD, "worse": None}, "bad")
    assert not caplog.messages
    with pytest.raises(ConfigError, match=SAID):
        check_study("bad", BAD)


def test_the_file_with_the_key_is_named_else_every_file_of_the_study(
    check: Check, tmp_path: Path
) -> None:
    files(
        tmp_path,
        base__parameters_studies="studies: {bad: {task: onset, grid: {}}, good: {task: onset}}\n",
        local__parameters_a="studies: {bad: {gird: {}}}\n",
        other__parameters_b="studies: {bad: {gird: {}, seeds: []}}\n",
    )
    with pytest.raises(ConfigError, match=rf"^conf/local/parameters_a.yml, parameter {SAID}"):
        check({"bad": BAD}, "bad")
    with pytest.raises(ConfigError, match=r"^conf/other/parameters_b.yml, parameter"):
        check({"bad": BAD}, "bad", env="other")
    both = r"^conf/base/parameters_studies.yml, conf/local/parameters_a.yml, parameter studies.bad:"
    with pytest.raises(ConfigError, match=both):
        check({"bad": {**GOOD, "variants": [{"name": "a"}]}}, "bad")
    given = {"studies": {"bad": {"seeds": []}}}
    with pytest.raises(ConfigError, match=r"^--params, parameter studies.bad.seeds: is empty"):
        check({"bad": {**GOOD, "seeds": []}}, "bad", runtime_params=given)


def test_studies_that_are_no_group_stop_studies_only(
    check: Check, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files(tmp_path, local__parameters="studies: [1]\n", base__parameters="studies: {a: {}}\n")
    check([1])
    assert "all studies: conf/local/parameters.yml, parameter studies: is no group" in caplog.text
    with pytest.raises(ConfigError, match=r"is no group of studies by name \(got \[1\]\)"):
        check([1], "good")


@pytest.mark.parametrize(
    ("name", "study", "message"),
    [
        ("Bad Name", GOOD, "is no name for a study"),
        ("a", 7, r"parameter studies.a: is no study, .*\(got 7\)"),
        ("a", None, r"is no study, .*\(got None\)"),
        ("a", {"task": "onset"}, "has neither variants nor a grid"),
        ("a", {"task": "onset", "grid": {1: [2]}}, r"studies.a.grid"),
    ],
)
def test_whatever_stands_there_is_a_fault_and_no_traceback(
    name: str, study: Any, message: str
) -> None:
    faults = study_faults({"good": GOOD, name: study})
    assert set(faults) == {name}
    with pytest.raises(ConfigError, match=message):
        raise faults[name]


def test_what_is_right_is_no_fault() -> None:
    assert study_faults({"good": GOOD}) == study_faults({}) == {}
    assert set(study_faults(None)) == {EVERY}


def test_pipelines_of_the_project_run_beside_a_study_at_fault(
    tmp_path: Path, run_pipeline: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Exception, match=r"curve.path: is not set"):
        run_pipeline("rank_curve", tmp_path / "data", studies={"bad": BAD, "none": None})
    lines = [line for line in caplog.messages if line.startswith("Left out")]
    assert len(lines) == 2
    assert "study bad: --params, parameter studies.bad.gird" in lines[0]


def test_the_other_parameters_are_checked_without_the_studies() -> None:
    with pytest.raises(ConfigError, match=r"^parameter presets: Field required"):
        check_parameters({"studies": {"bad": 7}})
