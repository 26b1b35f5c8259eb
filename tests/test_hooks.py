"""Hooks around a run, without MLflow: parameters, predecessors, summary; and the registry."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import Result
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from pydantic import BaseModel

from amt_pipeline import hooks
from amt_pipeline.core.errors import ConfigError, MissingPredecessorError
from amt_pipeline.datasets import JsonDataset, PathDataset
from amt_pipeline.pipeline_registry import collect_pipelines

TEST_ENV = ("--env", "test")


class Rates(BaseModel):
    """Typed parameters with a nested model."""

    first: float
    steps: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Plan:
    """Typed parameters as a dataclass."""

    rates: Rates
    name: str | None = None


def test_flatten_names_every_leaf_of_models_and_dataclasses() -> None:
    plan = {"plan": Plan(Rates(first=0.5)), "on": True}
    assert hooks.flatten("train", plan) == {
        "train.plan.rates.first": "0.5",
        "train.plan.rates.steps": "[1, 2]",
        "train.plan.name": "None",
        "train.on": "True",
    }
    assert hooks.flatten("", {"a": {}}) == {}


def pipeline_of(*inputs: str) -> Pipeline:
    return Pipeline([Node(lambda *values: 0, list(inputs), "result", name="count")])


def test_only_the_parameters_that_a_pipeline_takes_are_recorded() -> None:
    catalog = DataCatalog(
        {
            "params:onset": MemoryDataset(Rates(first=1.0)),
            "params:pitch": MemoryDataset({"rate": 2.0}),
            "parameters": MemoryDataset({"preset": "auto"}),
        }
    )
    used = hooks.used_parameters(pipeline_of("params:onset"), catalog)
    assert used == {"onset.first": "1.0", "onset.steps": "[1, 2]"}
    assert hooks.used_parameters(pipeline_of("parameters"), catalog) == {"preset": "auto"}


REGISTERED = {
    "__default__": pipeline_of("x"),
    "umbrella": Pipeline(
        [
            Node(lambda: 0, None, "numbers", name="make"),
            Node(lambda x: x, "numbers", "more", name="other"),
        ]
    ),
    "make_numbers": Pipeline([Node(lambda: 0, None, "numbers", name="make")]),
}


def test_missing_input_names_its_path_the_smallest_producer_and_the_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "_registered_pipelines", lambda: REGISTERED)
    catalog = DataCatalog(
        {
            "numbers": JsonDataset(filepath=tmp_path / "numbers.json"),
            "other": JsonDataset(filepath=tmp_path / "other.json"),
        }
    )
    with pytest.raises(MissingPredecessorError) as caught:
        hooks.PredecessorHook().before_pipeline_run({}, pipeline_of("numbers", "other"), catalog)
    assert caught.value.where == str(tmp_path / "numbers.json")
    assert caught.value.problem == "no such file or folder (input 'numbers' and 1 more)"
    assert caught.value.remedy == "Run `kedro run --pipelines make_numbers` first"


def test_inputs_that_are_there_or_made_on_demand_pass(tmp_path: Path) -> None:
    catalog = DataCatalog(
        {
            "folder": PathDataset(filepath=tmp_path),
            "workshop": PathDataset(filepath=tmp_path / "later", made_on_demand=True),
            "params:n": MemoryDataset(None),
        }
    )
    pipeline = pipeline_of("folder", "workshop", "params:n")
    hook = hooks.PredecessorHook()
    hook.before_pipeline_run({}, pipeline, catalog)
    assert not (tmp_path / "later").exists()
    catalog["workshop"] = PathDataset(filepath=tmp_path / "later")
    with pytest.raises(MissingPredecessorError, match="later"):
        hook.before_pipeline_run({}, pipeline, catalog)


def test_only_missing_outputs_leaves_the_question_to_the_runner(tmp_path: Path) -> None:
    catalog = DataCatalog({"numbers": JsonDataset(filepath=tmp_path / "numbers.json")})
    hook, pipeline = hooks.PredecessorHook(), pipeline_of("numbers")
    hook.before_pipeline_run({"only_missing_outputs": True}, pipeline, catalog)
    with pytest.raises(MissingPredecessorError, match=r"numbers\.json"):
        hook.before_pipeline_run({"only_missing_outputs": False}, pipeline, catalog)


def context_of(parameters: dict[str, object]) -> SimpleNamespace:
    return SimpleNamespace(config_loader={"parameters": parameters})


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Parameters that reach the project's own check."""
    seen: list[dict[str, object]] = []
    module = ModuleType("some_project.parameters")
    module.check_parameters = seen.append  # type: ignore[attr-defined]
    module.__spec__ = SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "some_project", ModuleType("some_project"))
    monkeypatch.setitem(sys.modules, "some_project.parameters", module)
    monkeypatch.setattr("kedro.framework.project.PACKAGE_NAME", "some_project")
    return seen


def test_project_checks_its_parameters_without_those_of_the_shell(
    checked: list[dict[str, object]],
) -> None:
    context = context_of({"onset": {"rate": 1}, "data_root": "x", "mlflow": {"enabled": False}})
    hooks.ParametersCheckHook().after_context_created(context)
    assert checked == [{"onset": {"rate": 1}}]


def test_own_parameters_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kedro.framework.project.PACKAGE_NAME", "amt_pipeline")
    with pytest.raises(ConfigError, match="no_such_block"):
        hooks.ParametersCheckHook().after_context_created(context_of({"no_such_block": 1}))


def test_summary_says_what_ran_and_what_had_its_output(
    kedro_run: Callable[..., Result], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "amt_pipeline.hooks")
    assert kedro_run(*TEST_ENV).exit_code == 0
    messages = [record.message for record in caplog.records if record.name == "amt_pipeline.hooks"]
    assert messages[0].startswith("Finished node make_numbers in ")
    assert messages[1].endswith("(2 of 2)")
    assert messages[2].startswith("Finished __default__ in ")

    caplog.clear()
    assert kedro_run(*TEST_ENV, "--only-missing-outputs").exit_code == 0
    assert caplog.records[-1].message.endswith("2 of 2 nodes had their outputs")


FAMILY = """
from kedro.pipeline import Node, Pipeline

def create_pipelines():
    return {{name: Pipeline([Node(lambda: 0, None, name, name=name)]) for name in {names}}}
"""


def package_of(folder: Path, name: str, families: dict[str, list[str]]) -> ModuleType:
    for family, names in families.items():
        (folder / name / family).mkdir(parents=True)
        (folder / name / family / "__init__.py").touch()
        (folder / name / family / "pipeline.py").write_text(FAMILY.format(names=names))
    (folder / name / "__init__.py").touch()
    return __import__(name)


def test_registry_merges_the_names_of_all_families(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = package_of(tmp_path, "families_ok", {"b": ["train_b"], "a": ["ingest_a", "test_a"]})
    assert list(collect_pipelines(package)) == ["ingest_a", "test_a", "train_b"]


def test_registry_names_both_families_of_a_duplicate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = package_of(tmp_path, "families_twice", {"a": ["train"], "b": ["train"]})
    with pytest.raises(ValueError, match="'train' is created by both 'a' and 'b'"):
        collect_pipelines(package)


def test_registry_hides_no_broken_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = package_of(tmp_path, "families_broken", {"a": ["train"]})
    (tmp_path / "families_broken" / "a" / "pipeline.py").write_text("import no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        collect_pipelines(package)


def test_registry_needs_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    from amt_pipeline import pipeline_registry

    def collected(package: ModuleType) -> dict[str, Pipeline]:
        return dict(REGISTERED)

    monkeypatch.setattr(pipeline_registry, "collect_pipelines", collected)
    with pytest.raises(ValueError, match="'transcription'"):
        pipeline_registry.register_pipelines()
    monkeypatch.setattr(pipeline_registry, "DEFAULT_PIPELINE", "umbrella")
    assert pipeline_registry.register_pipelines()["__default__"] is REGISTERED["umbrella"]
