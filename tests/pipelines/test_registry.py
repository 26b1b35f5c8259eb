"""How the pipelines are built: names, nodes, datasets, size."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.io import AbstractDataset
from kedro.pipeline import Pipeline

from amt_pipeline import pipelines as package
from amt_pipeline.datasets import PathDataset
from amt_pipeline.pipeline_registry import register_pipelines

CONF = Path(__file__).resolve().parents[2] / "conf"
LONGEST_NODE_LINES = 30
# Handed from node to node in memory; the files themselves are in the catalog.
IN_MEMORY = {"report_images", "phoneme_report_images"}
HEAVY = {"torch", "tensorflow", "mlflow", "librosa", "matplotlib", "plotly", "pandas", "numpy"}

REGISTERED = register_pipelines()


def node_functions() -> list[Any]:
    found = {node.func for pipeline in REGISTERED.values() for node in pipeline.nodes}
    return [pytest.param(f, id=f.__name__) for f in sorted(found, key=lambda f: f.__name__)]


def families() -> list[str]:
    names = [f"{package.__name__}.{m.name}" for m in pkgutil.iter_modules(package.__path__)]
    return names + [
        f"{name}.{m.name}"
        for name in names
        for m in pkgutil.iter_modules(getattr(importlib.import_module(name), "__path__", []))
    ]


def test_pipelines_have_their_public_names() -> None:
    names = ("onset", "pitch", "phoneme")
    tasks = [f"{verb}_{task}" for verb in ("train", "rank") for task in names]
    rest = ["ingest_maestro", "rank_curve", "transcribe", "test_notes", "report_transcription"]
    rest += ["export_tfrecords", "ingest_librispeech", "predict_phoneme", "test_phoneme"]
    rest += ["report_phonemes", "phonemes"]
    rest += [name for name in REGISTERED if name.startswith("compare_")]  # see test_studies.py
    assert sorted(REGISTERED) == sorted(["__default__", "transcription", *tasks, *rest])
    assert REGISTERED["__default__"] is REGISTERED["transcription"]


def test_umbrellas_are_the_sums_of_their_parts() -> None:
    alone = ("transcription", "phonemes", "__default__", "export_tfrecords", "rank_curve")
    speech = re.compile("phoneme|librispeech")
    for umbrella, of_speech in (("transcription", False), ("phonemes", True)):
        parts = {
            node.name
            for name, pipeline in REGISTERED.items()
            if name not in alone and not name.startswith("compare_")
            and bool(speech.search(name)) is of_speech
            for node in pipeline.nodes
        }  # fmt: skip
        assert {node.name for node in REGISTERED[umbrella].nodes} == parts


@pytest.mark.parametrize("name", REGISTERED)
def test_every_node_has_a_name_and_says_where_it_runs(name: str) -> None:
    nodes = REGISTERED[name].nodes
    assert len({node.name for node in nodes}) == len(nodes) > 0
    for node in nodes:
        assert node._name, node
        assert node.name.rpartition(".")[2] == node.func.__name__
        assert len(node.tags & {"cpu", "gpu", "report"}) == 1


@pytest.mark.parametrize("function", node_functions())
def test_nodes_are_thin_and_documented(function: Callable[..., Any]) -> None:
    lines, _ = inspect.getsourcelines(function)
    (definition,) = ast.parse(textwrap.dedent("".join(lines))).body
    assert isinstance(definition, ast.FunctionDef)
    length = (definition.end_lineno or 0) - definition.lineno + 1
    signature = definition.body[0].lineno - definition.lineno
    assert length - signature <= LONGEST_NODE_LINES
    assert inspect.getdoc(function)


@pytest.mark.parametrize("module", families())
def test_nothing_heavy_is_imported_at_the_top(module: str) -> None:
    source = Path(inspect.getfile(importlib.import_module(module))).read_text(encoding="utf-8")
    imported = set()
    for node in ast.parse(source).body:  # the top level only; `if TYPE_CHECKING` does not run
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert not imported & HEAVY


@pytest.mark.parametrize("env", ["base", "local", "test"])
def test_every_dataset_of_every_pipeline_resolves(
    env: str, open_session: Callable[..., Any], tmp_path: Path
) -> None:
    # Kedro takes the metadata, which is for Kedro-Viz, out of what it loads.
    written = {}
    for path in (CONF / "base").glob("catalog_*.yml"):
        written |= yaml.safe_load(path.read_text(encoding="utf-8"))
    with open_session(tmp_path / "data", env=env) as session:
        catalog = session.load_context().catalog
        for name in set().union(*(p.datasets() for p in REGISTERED.values())) - IN_MEMORY:
            dataset = catalog.get(name)
            if name.startswith("params:"):
                assert dataset.load() is not None
                continue
            assert isinstance(dataset, AbstractDataset), name
            place = Path(dataset._filepath).relative_to(tmp_path / "data")
            pattern = re.sub(r"^\w+(?=\.study_)", "{study}", name)
            pattern = re.sub("^(onset|pitch|phoneme)(?=[._])", "{task}", pattern)
            entry = written.get(name) or written[pattern]
            if not isinstance(dataset, PathDataset):  # folders have no layer
                assert entry["metadata"]["kedro-viz"]["layer"] == place.parts[0][3:], name
    assert not (tmp_path / "data").exists()  # looking at it makes nothing


def test_every_entry_of_the_catalog_is_used(
    open_session: Callable[..., Any], tmp_path: Path
) -> None:
    used = set().union(*(pipeline.datasets() for pipeline in REGISTERED.values()))
    with open_session(tmp_path / "data") as session:
        catalog = session.load_context().catalog
        named = {name for name in catalog.keys() if "param" not in name}  # noqa: SIM118
        assert named <= used
        patterns = [p for p in catalog.config_resolver.list_patterns() if "{" in p]
    assert patterns
    for pattern in patterns:
        before, after = re.split(r"\{\w+\}", pattern)
        matching = [n for n in used if n.startswith(before) and n.endswith(after)]
        assert len(matching) >= 2, pattern  # both tasks, all studies


def test_results_that_two_pipelines_share_have_one_producer() -> None:
    producers: dict[str, set[str]] = {}
    for pipeline in REGISTERED.values():
        for node in pipeline.nodes:
            for name in node.outputs:
                producers.setdefault(name, set()).add(node.name)
    assert {name: found for name, found in producers.items() if len(found) > 1} == {}


def test_namespaces_slice_the_umbrella_by_task() -> None:
    whole: Pipeline = REGISTERED["transcription"]
    onset = {node.name for node in whole.only_nodes_with_namespaces(["onset"]).nodes}
    assert onset == {
        "onset.train_network",
        "onset.draw_training",
        "onset.rank_network",
        "onset.draw_ranking",
    }
