"""Exporting records and training from them, as a user does it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core.errors import ConfigError, MissingPredecessorError
from amt_pipeline.training.checkpoints import list_checkpoints, verify_checkpoint

Run = Callable[..., Any]
SHORT = {"epochs": 1, "save_every_steps": 20, "log_every_steps": 5}
FIXED = {"labels": {"phase": "fixed"}}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def root(copy_of_run: Callable[..., Path]) -> Path:
    """The ingested corpus of the finished run."""
    return copy_of_run("02_intermediate", "03_primary", "04_feature")


def test_training_from_an_export_equals_training_from_frames(
    root: Path, run_pipeline: Run, open_session: Callable[..., Any]
) -> None:
    onset = {**FIXED, "training": SHORT}
    with open_session(root, {"onset": onset, "export": {"shards": 4}}) as session:
        session.run(pipeline_names=["export_tfrecords"], namespaces=["onset"])
    manifest = read(root / "05_model_input" / "onset" / "manifest.json")
    assert [len(manifest["splits"][name]["files"]) for name in ("train", "validation")] == [4, 4]
    table = read(root / "03_primary" / "maestro" / "summary.json")
    assert len(manifest["splits"]["test"]["files"]) == 2 < table["recordings"]
    assert not (root / "05_model_input" / "pitch").exists()
    results = []
    for source in ("frames", "tfrecords"):
        run_pipeline("train_onset", root, onset={**onset, "training": {**SHORT, "source": source}})
        folder = root / "06_models" / "onset"
        weights = verify_checkpoint(list_checkpoints(folder)[-1])["model.safetensors"]
        results.append((read(folder / "training.json"), weights))
        folder.rename(root / f"onset-{source}")
    (frames, frames_weights), (records, records_weights) = results
    assert records["config"]["training"]["source"] == "tfrecords"
    assert records["history"] == frames["history"]
    assert len(frames["history"]) > 2
    assert records_weights == frames_weights


def test_export_of_both_tasks_is_named_as_what_is_missing(root: Path, run_pipeline: Run) -> None:
    pitch = {**FIXED, "training": {**SHORT, "source": "tfrecords"}}
    with pytest.raises(MissingPredecessorError, match="run --pipelines export_tfrecords"):
        run_pipeline("train_pitch", root, pitch=pitch)
    with pytest.raises(ConfigError, match=r"pitch\.training\.source: .*labels\.phase=fixed"):
        run_pipeline("train_pitch", root, pitch={"training": pitch["training"]})
    with pytest.raises(ConfigError, match=r"parameter export\.shards"):
        run_pipeline("export_tfrecords", root, export={"shards": 0})
    run_pipeline("export_tfrecords", root, onset=FIXED, pitch=FIXED)
    for task in ("onset", "pitch"):
        assert (root / "05_model_input" / task / "manifest.json").is_file()
    assert list((root / "05_model_input").rglob(".tmp-*")) == []
