"""A pipeline run whose network is trained by two processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.training.event_files import FILE_VERSION


def test_two_processes_train_within_one_tracked_run(
    open_session: Callable[..., Any],
    copy_of_run: Callable[..., Path],
    whole_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = copy_of_run("02_intermediate", "03_primary", "04_feature")
    (root / "01_raw").symlink_to(whole_run / "01_raw")
    address = f"sqlite:///{tmp_path}/mlflow.db"
    training = {"devices": 2, "epochs": 0.3, "log_every_steps": 1}
    settings = {
        "onset": {"training": training},
        "mlflow": {"enabled": True, "tracking_uri": address},
    }
    with open_session(root, settings) as session:
        session.run(pipeline_names=["train_onset"])
    folder = root / "06_models" / "onset"
    result = json.loads((folder / "training.json").read_text())
    assert result["processes"] == 2
    client = MlflowClient(tracking_uri=address)
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    losses = client.get_metric_history(run.info.run_id, "onset/train/loss")
    assert [(m.step, m.value) for m in losses] == [
        (row["step"], pytest.approx(row["loss"])) for row in result["history"]
    ]
    (events,) = (folder / "events").iterdir()
    assert FILE_VERSION.encode() in events.read_bytes()
    assert (root / "08_reporting" / "onset" / "training_figure.json").is_file()
