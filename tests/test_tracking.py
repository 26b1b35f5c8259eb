"""Tracking against a real MLflow store, and what happens when there is none."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from filelock import FileLock

from amt_pipeline import mlflow_run, provenance, tracking
from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.reporter import Reporter
from amt_pipeline.mlflow_run import MlflowRun, TrackingSettings, resolve_settings
from amt_pipeline.ranking.curves import read_curve


def recorded(folder: Path) -> list[tuple[int, float]]:
    """Steps and values of all scalars in a folder, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [
        (point.step, point.value)
        for tag in events.Tags()["scalars"]
        for point in events.Scalars(tag)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TrackingSettings:
    """A store that all tests of this file share: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    conf = {"experiment": "tests"}
    return resolve_settings(conf, {}, folder)


@pytest.fixture
def run(store: TrackingSettings) -> Iterator[MlflowRun]:
    started = MlflowRun.start(store, "a run", {"pipeline": "train"})
    assert started is not None
    tracking.begin_run(started)
    yield started
    tracking.end_run("KILLED")


@pytest.fixture
def client(store: TrackingSettings) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=store.tracking_uri)


def test_settings_lie_under_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    settings = resolve_settings({"enabled": True}, {}, tmp_path)
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.artifact_location == str(tmp_path / "mlartifacts")


def test_environment_overrides_the_file_and_the_command_line_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = {"tracking_uri": "sqlite:///conf.db"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    assert resolve_settings(conf, {}, tmp_path).tracking_uri == "http://server"
    runtime = {"tracking_uri": "sqlite:////else/where.db", "enabled": False}
    settings = resolve_settings(conf, runtime, tmp_path)
    assert settings.tracking_uri == "sqlite:////else/where.db"
    assert not settings.enabled


def test_unknown_setting_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mlflow.yml: trackinguri.*Known are enabled"):
        resolve_settings({"trackinguri": "x"}, {}, tmp_path)


def test_reporter_reaches_mlflow_and_tensorboard(
    run: MlflowRun, client: Any, tmp_path: Path
) -> None:
    finished = tmp_path / "curve.png"
    finished.write_bytes(b"png")
    folder = tmp_path / "best"
    folder.mkdir()
    (folder / "weights").write_bytes(b"w")
    with tracking.current_reporter(tmp_path / "events") as reporter:
        assert isinstance(reporter, Reporter)
        for step in (1, 2):
            reporter.scalars({"train/loss": 1.0 / step}, step)
        reporter.file(finished, "figures")
        reporter.file(folder)
        reporter.file(folder, "models")

    history = client.get_metric_history(run.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]
    assert recorded(tmp_path / "events") == [(1, 1.0), (2, 0.5)]
    assert [f.path for f in client.list_artifacts(run.run_id, "figures")] == ["figures/curve.png"]
    assert [f.path for f in client.list_artifacts(run.run_id, "best")] == ["best/weights"]
    assert client.list_artifacts(run.run_id, "models/best")


def test_resolved_settings_are_parameters_of_the_run(run: MlflowRun, client: Any) -> None:
    for _ in range(2):  # several nodes of a run resolve the same settings
        tracking.log_parameters({"preset": "cpu", "onset": {"model": {"channels": [4, 6]}}})
    params = client.get_run(run.run_id).data.params
    assert params == {"resolved.preset": "cpu", "resolved.onset.model.channels": "[4, 6]"}
    tracking.end_run("FINISHED")
    tracking.log_parameters({"preset": "cpu"})


def test_scalars_are_written_in_batches(run: MlflowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def count(run_id: str, metrics: list[Any]) -> None:
        sizes.append(len(metrics))

    monkeypatch.setattr(run._client, "log_batch", count)
    monkeypatch.setattr(mlflow_run, "FLUSH_EVERY_S", 1e9)
    for step in range(1500):
        run.scalars({"a": 0.0, "b": 1.0}, step)
    assert sizes == [1000, 1000, 1000]
    run.scalars({"a": 0.0}, 1500)
    run.flush()
    assert sizes[3:] == [1]
    monkeypatch.setattr(mlflow_run, "FLUSH_EVERY_S", 0.0)
    run.scalars({"a": 0.0}, 1501)
    assert sizes[4:] == [1]


def test_parameters_are_cut_to_what_mlflow_holds(run: MlflowRun, client: Any) -> None:
    run.params({f"p{number}": "x" for number in range(120)} | {"long" * 100: "y" * 9000})
    run.params({})
    recorded = client.get_run(run.run_id).data.params
    assert len(recorded) == 121
    assert len(recorded[("long" * 100)[:250]]) == 6000


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_run_ends_with_its_status(
    status: mlflow_run.Status, run: MlflowRun, client: Any, tmp_path: Path
) -> None:
    reporter = tracking.current_reporter(tmp_path)
    reporter.scalars({"loss": 2.0}, 1)
    tracking.end_run(status, "why" if status == "FAILED" else "")
    ended = client.get_run(run.run_id)
    assert ended.info.status == status
    assert ended.data.metrics == {"loss": 2.0}
    assert ended.data.tags.get("error") == ("why" if status == "FAILED" else None)
    assert recorded(tmp_path) == [(1, 2.0)]


def test_stray_run_is_ended_before_the_next(
    run: MlflowRun, store: TrackingSettings, client: Any
) -> None:
    tracking.begin_run(None)
    assert client.get_run(run.run_id).info.status == "KILLED"


def test_without_a_run_only_tensorboard_is_written(tmp_path: Path) -> None:
    tracking.begin_run(None)
    with tracking.current_reporter(tmp_path / "events") as reporter:
        reporter.scalars({"loss": 1.0}, 5)
        reporter.file(tmp_path)
    assert recorded(tmp_path / "events") == [(5, 1.0)]
    silent = tracking.current_reporter(None)
    silent.scalars({"loss": 1.0}, 1)
    silent.close()
    tracking.end_run("FINISHED")


def test_event_file_is_opened_with_the_first_scalars(tmp_path: Path) -> None:
    tracking.begin_run(None)
    events = tmp_path / "events"
    with tracking.current_reporter(events) as reporter:
        assert not events.exists()
        reporter.scalars({"loss": 3.0}, 5)
        reporter.scalars({"loss": 2.0}, 10)
    with tracking.current_reporter(events) as reporter:
        reporter.scalars({"loss": 2.5}, 10)
    tracking.end_run("FINISHED")
    curve = read_curve(events, "loss")
    assert curve[["step", "value"]].to_numpy().tolist() == [[5, 3.0], [10, 2.5]]


def test_store_that_fails_later_warns_once_and_the_work_goes_on(
    run: MlflowRun, client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("database is locked\nlong details")

    with monkeypatch.context() as patched:
        patched.setattr(run._client, "log_batch", refuse)
        patched.setattr(mlflow_run, "FLUSH_EVERY_S", 0.0)
        for step in range(3):
            run.scalars({"loss": 1.0}, step)
        run.file("nowhere")
    tracking.end_run("FINISHED")
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "database is locked" in warnings[0]
    assert "long details" not in warnings[0]
    # The store was only busy: how the run ended is still known.
    assert client.get_run(run.run_id).info.status == "FINISHED"


def test_full_disk_under_an_event_file_does_not_undo_a_finished_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    tracking.current_reporter(tmp_path).scalars({"loss": 1.0}, 1)
    monkeypatch.setattr("os.fsync", refuse)
    tracking.end_run("FINISHED")
    assert "the disk is full" in caplog.text


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "nosuchscheme://x", "sqlite:////dev/null/mlflow.db"]
)
def test_store_that_cannot_be_opened_is_a_warning(
    address: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    settings = TrackingSettings(tracking_uri=address)
    assert MlflowRun.start(settings, "a run", {}) is None
    assert "This run is not tracked" in caplog.text


def runs_of(client: Any, experiment: str) -> list[Any]:
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id], order_by=["attributes.start_time"]))


def test_one_process_at_a_time_makes_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mlflow_run, "STORE_WAIT_S", 0.1)
    settings = resolve_settings({}, {}, tmp_path)
    with FileLock(tmp_path / ".mlflow.db.lock"):
        assert MlflowRun.start(settings, "second", {}) is None
    assert "This run is not tracked: MLflow cannot start" in caplog.text
    assert not (tmp_path / "mlflow.db").exists()


def test_sessions_of_one_process_get_a_run_each_with_parameters_and_provenance(
    kedro_run: Callable[..., Result], store: TrackingSettings, client: Any
) -> None:
    where = f"mlflow.tracking_uri={store.tracking_uri},mlflow.experiment=sessions"
    assert kedro_run("--params", where).exit_code == 0
    assert kedro_run("--params", f"{where},make.count=5", "--pipelines", "make").exit_code == 0
    first, second = runs_of(client, "sessions")
    assert first.info.status == second.info.status == "FINISHED"
    assert first.data.params == {
        "make.count": "3",
        "make.names": '["a", "b"]',
        "make.deep.rate": "0.5",
    }
    assert second.data.params["make.count"] == "5"
    tags = second.data.tags
    assert (tags["pipeline"], tags["environment"], tags["data_root"]) == ("make", "local", "data")
    assert "make" in tags["runtime_params"]
    assert tags["version.amt_pipeline"]


def test_failed_and_interrupted_runs_are_recorded_as_such(
    kedro_run: Callable[..., Result],
    store: TrackingSettings,
    client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = f"mlflow.tracking_uri={store.tracking_uri},mlflow.experiment=endings"
    monkeypatch.setenv("TINY_SIGNAL", "15")
    kedro_run("--params", where, "--pipelines", "make")
    for pipeline in ("refuse", "crash", "wait"):
        kedro_run("--params", where, "--pipelines", pipeline)
    kedro_run("--params", where, "--pipelines", "read")  # refused before it starts: no run
    made, refused, crashed, waited = runs_of(client, "endings")
    assert made.info.status == "FINISHED"
    assert refused.info.status == crashed.info.status == "FAILED"
    assert refused.data.tags["error"].startswith("corpus/index.csv")
    assert crashed.data.tags["error"] == "RuntimeError: a defect"
    assert waited.info.status == "KILLED"


def test_run_goes_on_without_its_server(
    kedro_run: Callable[..., Result], caplog: pytest.LogCaptureFixture
) -> None:
    result = kedro_run("--params", "mlflow.tracking_uri=nosuchscheme://x")
    assert result.exit_code == 0
    assert "This run is not tracked" in caplog.text


@pytest.mark.parametrize("switch", [("--env", "test"), ("--params", "mlflow.enabled=false")])
def test_switched_off_tracking_imports_no_mlflow(
    tiny_project: Path, switch: tuple[str, ...]
) -> None:
    code = (
        "import sys\n"
        "from kedro.framework.cli.cli import main\n"
        f"sys.argv = ['kedro', 'run', *{switch!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "sys.exit('mlflow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tiny_project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tiny_project / "mlflow.db").exists()


def test_project_without_a_tracking_file_is_not_tracked(
    kedro_run: Callable[..., Result], tiny_project: Path
) -> None:
    for environment in ("base", "test"):
        (tiny_project / "conf" / environment / "mlflow.yml").unlink()
    assert kedro_run().exit_code == 0
    assert not (tiny_project / "mlflow.db").exists()


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_git_tags_tell_clean_from_changed(tmp_path: Path) -> None:
    assert provenance.git_tags(tmp_path) == {}
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "untracked").touch()
    tags = provenance.git_tags(tmp_path)
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert tags["git.dirty"] == "false"
    (tmp_path / "a").write_text("2")
    assert provenance.git_tags(tmp_path)["git.dirty"] == "true"


def test_provenance_leaves_out_what_cannot_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nameless)
    monkeypatch.setattr(provenance, "RECORDED_PACKAGES", ("numpy", "no-such-package"))
    run_params = {"pipeline_names": ["b", "a"], "runtime_params": {"data_root": "/big"}}
    tags = provenance.provenance_tags(tmp_path, run_params)
    assert tags["pipeline"] == "a + b"
    assert tags["data_root"] == "/big"
    assert tags["version.numpy"]
    assert "mlflow.user" not in tags
    assert "version.no-such-package" not in tags


def test_metrics_of_two_tasks_stay_apart_in_one_run(
    run: MlflowRun, client: Any, tmp_path: Path
) -> None:
    for task, loss in (("onset", 2.0), ("pitch", 3.0)):
        with tracking.current_reporter(tmp_path / task, task) as reporter:
            reporter.scalars({"train/loss": loss}, 1)
    tracking.end_run("FINISHED")
    metrics = client.get_run(run.run_id).data.metrics
    assert metrics == {"onset/train/loss": 2.0, "pitch/train/loss": 3.0}
    assert recorded(tmp_path / "onset") == [(1, 2.0)]
