"""What every dataset promises, checked on all of them."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from kedro.io import AbstractDataset, DataCatalog, DatasetError

import amt_pipeline.datasets as datasets
from amt_pipeline.core.errors import UserError

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def equal(loaded: Any, saved: Any) -> bool:
    return bool(loaded == saved)


@dataclass(frozen=True)
class Case:
    """A dataset, two things to save in it, and how to compare what comes back."""

    name: str
    file: str
    first: Any
    second: Any
    same: Callable[[Any, Any], bool] = equal
    preview: type = str
    extra: dict[str, Any] = field(default_factory=dict)

    def make(self, folder: Path) -> AbstractDataset[Any, Any]:
        return getattr(datasets, self.name)(filepath=str(folder / self.file), **self.extra)


def frame(*values: int) -> pd.DataFrame:
    return pd.DataFrame({"recording_id": [f"piece-{v}" for v in values], "value": list(values)})


def same_frame(loaded: pd.DataFrame, saved: pd.DataFrame) -> bool:
    pd.testing.assert_frame_equal(loaded, saved)
    return True


CASES = [
    Case("JsonDataset", "deep/a.json", {"f1": 0.5, "ü": [1, None]}, [1]),
    Case("TextDataset", "deep/a.md", "# Täst\n", "other\n"),
    Case("TableDataset", "deep/a.parquet", frame(1, 2), frame(3), same_frame, dict),
    Case("TableDataset", "deep/a.csv", frame(1, 2), frame(3), same_frame, dict),
    Case("RecordingsDataset", "deep/a.parquet", frame(1, 2), frame(3), same_frame),
    Case(
        "FigureDataset",
        "deep/a.json",
        go.Figure(go.Scatter(y=[1, 2]), layout={"title": {"text": "one"}}),
        go.Figure(go.Scatter(y=[3])),
        preview=dict,
    ),
    Case(
        "ImageDataset", "deep/a.png", PNG, PNG + b"more", lambda path, png: path.read_bytes() == png
    ),
    Case(
        "TranscriptionsDataset",
        "deep/pieces",
        {"pieces": ["one"]},
        {"pieces": []},
        lambda path, index: json.loads((path / "index.json").read_text()) == index,
    ),
]
cases = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.file[-4:]}")


@cases
def test_round_trip_and_overwrite(case: Case, tmp_path: Path) -> None:
    dataset = case.make(tmp_path)
    assert not dataset.exists()
    dataset.save(case.first)
    assert dataset.exists()
    assert case.same(dataset.load(), case.first)
    dataset.save(case.second)
    assert case.same(dataset.load(), case.second)


@cases
def test_missing_file_is_named_with_a_remedy(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        case.make(tmp_path).load()
    assert caught.value.where == str(tmp_path / case.file)
    assert "Run the pipeline" in caught.value.remedy
    assert isinstance(caught.value, DatasetError)


@cases
def test_describe_and_repr(case: Case, tmp_path: Path) -> None:
    dataset = case.make(tmp_path)
    assert dataset._describe()["filepath"] == tmp_path / case.file
    assert case.name in repr(dataset)
    assert dataset.filepath == tmp_path / case.file


@cases
def test_pickled_copy_works(case: Case, tmp_path: Path) -> None:
    copy = pickle.loads(pickle.dumps(case.make(tmp_path)))
    copy.save(case.first)
    assert case.same(case.make(tmp_path).load(), case.first)


@cases
def test_built_by_a_catalog_and_described_back(case: Case, tmp_path: Path) -> None:
    config = {
        "type": f"amt_pipeline.datasets.{case.name}",
        "filepath": str(tmp_path / case.file),
        "metadata": {"kedro-viz": {"layer": "raw"}},
    }
    catalog = DataCatalog.from_config({"entry": config})
    catalog.save("entry", case.first)
    assert case.same(catalog.load("entry"), case.first)
    assert catalog["entry"].metadata == config["metadata"]
    described, *_ = catalog.to_config()
    assert described["entry"]["filepath"] == config["filepath"]


@cases
def test_positional_arguments_are_refused(case: Case, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        getattr(datasets, case.name)(str(tmp_path / case.file))


@cases
def test_remote_address_is_refused(case: Case) -> None:
    with pytest.raises(UserError, match="not a local path"):
        getattr(datasets, case.name)(filepath=f"s3://bucket/{case.file}")


@cases
def test_preview_has_the_annotated_type(case: Case, tmp_path: Path) -> None:
    dataset = case.make(tmp_path)
    annotated = type(dataset).preview.__annotations__["return"]
    assert annotated.endswith("Preview")
    assert isinstance(dataset.preview(), case.preview)  # nothing there yet
    assert "not made yet" in json.dumps(dataset.preview()) or case.name == "ImageDataset"
    dataset.save(case.first)
    assert isinstance(dataset.preview(), case.preview)
    assert "no preview" not in json.dumps(dataset.preview())


@cases
def test_preview_of_a_broken_file_explains_and_hides_the_folder(case: Case, tmp_path: Path) -> None:
    dataset = case.make(tmp_path)
    dataset.save(case.first)
    target = tmp_path / case.file
    if target.is_dir():
        (target / "one.res").write_text("not a note")
    else:
        target.write_bytes(b"\xff\xfe\x00broken")
    preview = dataset.preview()
    assert isinstance(preview, case.preview)
    if case.name != "ImageDataset":  # any bytes are shown as an image
        assert "no preview" in json.dumps(preview)
        assert str(tmp_path) not in json.dumps(preview)


@pytest.mark.parametrize(
    ("name", "file"),
    [("JsonDataset", "a.json"), ("TableDataset", "a.parquet"), ("TextDataset", "a.md")],
)
def test_broken_file_is_an_error_of_the_user(name: str, file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(UserError, match="cannot be read"):
        getattr(datasets, name)(filepath=tmp_path / file).load()


@cases
def test_full_disk_is_an_error_of_the_user_and_leaves_nothing(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    dataset = case.make(tmp_path)
    dataset.save(case.first)
    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(UserError, match="the disk is full"):
        dataset.save(case.second)
    assert case.same(dataset.load(), case.first)
    assert not list(tmp_path.rglob(".tmp-*"))


KILLED_SAVE = """
import os, pickle, sys
dataset, data = pickle.load(open(sys.argv[1], "rb"))
os.fsync = lambda descriptor: os._exit(9)  # the machine dies when the data is on its way
dataset.save(data)
"""


@pytest.mark.parametrize(
    "case", [CASES[0], CASES[2], CASES[5], CASES[7]], ids=lambda case: case.name
)
def test_killed_during_save_keeps_the_old_file(case: Case, tmp_path: Path) -> None:
    dataset = case.make(tmp_path)
    dataset.save(case.first)
    order = tmp_path / "order.pickle"
    order.write_bytes(pickle.dumps((dataset, case.second)))
    done = subprocess.run([sys.executable, "-c", KILLED_SAVE, str(order)], check=False)
    assert done.returncode == 9
    assert case.same(dataset.load(), case.first)


def test_every_dataset_is_under_contract() -> None:
    assert {case.name for case in CASES} | {"PathDataset"} == set(datasets.__all__)


def test_importing_the_datasets_imports_nothing_heavy() -> None:
    code = (
        "import sys, amt_pipeline.datasets; "
        "heavy = {'torch', 'tensorflow', 'mlflow', 'librosa', 'matplotlib', 'plotly', 'pandas'}; "
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
