"""What is on disk belongs together, or the run says what does not; what was done is written down.

Everything starts from copies of the one finished run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core.errors import ConfigError, MissingPredecessorError, StoreError, UserError
from amt_pipeline.ranking.rank import BEST_FILE
from amt_pipeline.training.checkpoints import copy_checkpoint

Run = Callable[..., Any]
Copy = Callable[..., Path]
Open = Callable[..., Any]

INGESTED = ("02_intermediate", "03_primary", "04_feature")
OUT = Path("07_model_output", "transcription")
REPORTS = Path("08_reporting", "transcription")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "show_results.py"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**read(path), **values}))


def run_node(open_session: Open, root: Path, name: str, **parameters: Any) -> None:
    with open_session(root, parameters) as session:
        session.run(pipeline_names=["transcription"], node_names=[name])


def choose_other(root: Path) -> None:
    """Choose the onset checkpoint that was not chosen."""
    folder = root / "06_models" / "onset"
    best = read(folder / BEST_FILE)
    (other,) = {"step-0000060", "step-0000120"} - {best["checkpoint"]}
    copy_checkpoint(folder / other, folder / "best", {BEST_FILE: best})


def test_results_of_a_finished_run_are_shown(whole_run: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--data-root", whole_run],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{read(whole_run / REPORTS / 'summary.json')['onset/f1']:.4f}" in done.stdout
    places = [Path(line.split()[-1]) for line in done.stdout.splitlines() if str(whole_run) in line]
    assert len(places) >= 5
    assert all(place.exists() for place in places[1:])


@pytest.mark.parametrize(
    ("kind", "split", "pipeline"),
    [
        ("frames", "train", "train_onset"),
        ("notes", "validation", "rank_pitch"),
        ("notes", "validation", "transcribe"),
        ("frames", "validation", "transcribe"),
        ("frames", "test", "transcribe"),
        ("notes", "test", "test_notes"),
    ],
)
def test_stored_content_of_other_files_is_refused(
    kind: str, split: str, pipeline: str, run_pipeline: Run, copy_of_run: Copy
) -> None:
    import pandas as pd

    root = copy_of_run(*INGESTED, "06_models", "07_model_output")
    table = pd.read_parquet(root / "03_primary" / "maestro" / "manifest.parquet")
    name = table.loc[table["split"] == split, "recording_id"].iloc[0]
    if kind == "frames":
        entry = root / "04_feature" / "maestro" / "recordings" / f"{name}.json"
        change(entry, content_sha256="0" * 64)
    else:
        change(root / "02_intermediate" / "maestro" / "notes" / f"{name}.json", midi_sha256="0")
    with pytest.raises(StoreError, match=f"other files than the manifest lists.*{name}"):
        run_pipeline(pipeline, root)


def test_half_done_transcription_is_not_complete(run_pipeline: Run, copy_of_run: Copy) -> None:
    root = copy_of_run(*INGESTED, "06_models", "07_model_output")
    index = root / OUT / "index.json"
    assert index.is_file()
    # A folder in the place of a result stops the transcription in the middle.
    names = [row["recording_id"] for row in read(index)["recordings"]]
    (root / OUT / f"{names[-1]}.res").unlink()
    (root / OUT / f"{names[-1]}.res").mkdir()
    with pytest.raises((UserError, OSError)):
        run_pipeline("transcribe", root, transcribe={"adjacent_s": 0.2})
    assert not index.exists()
    with pytest.raises(MissingPredecessorError, match=r"transcription"):
        run_pipeline("test_notes", root)


def test_thresholds_of_other_networks_are_refused(open_session: Open, copy_of_run: Copy) -> None:
    root = copy_of_run(*INGESTED, "06_models")
    choose_other(root)
    with pytest.raises(MissingPredecessorError, match=r"joint\.json.*other networks") as refused:
        run_node(open_session, root, "transcribe_recordings")
    assert "--pipelines transcribe`" in refused.value.remedy


def spoil_networks(root: Path) -> None:
    choose_other(root)


def spoil_scores(root: Path) -> None:
    change(root / REPORTS / "summary.json", model="another")


def spoil_corpus_of_scores(root: Path) -> None:
    change(root / REPORTS / "summary.json", data="another")


def spoil_choice(root: Path) -> None:
    path = root / "06_models" / "pitch" / "training.json"
    config = read(path)["config"]
    config["training"]["learning_rate"] = 0.5
    change(path, config=config)


def spoil_old_choice(root: Path) -> None:
    path = root / "06_models" / "onset" / "best.json"
    path.write_text(json.dumps({k: v for k, v in read(path).items() if k != "training"}))


def spoil_corpus(root: Path) -> None:
    change(root / "03_primary" / "maestro" / "summary.json", fingerprint="another")


SPOILT: dict[Callable[[Path], None], str] = {
    spoil_networks: "transcribe",
    spoil_scores: "test_notes",
    spoil_corpus_of_scores: "test_notes",
    spoil_choice: "rank_pitch",
    spoil_old_choice: "rank_onset",
    spoil_corpus: "train_onset",
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_record_of_parts_that_do_not_belong_together_is_refused(
    spoil: Callable[[Path], None], run_pipeline: Run, copy_of_run: Copy
) -> None:
    root = copy_of_run("03_primary", "06_models", "08_reporting")
    spoil(root)
    before = (root / REPORTS / "record.json").read_bytes()
    with pytest.raises(MissingPredecessorError) as refused:
        run_pipeline("report_transcription", root)
    assert f"--pipelines {SPOILT[spoil]}`" in refused.value.remedy
    assert (root / REPORTS / "record.json").read_bytes() == before


@pytest.mark.parametrize(
    ("spoil", "task"), [(spoil_choice, "pitch"), (spoil_old_choice, "onset"), (None, None)]
)
def test_choice_of_an_earlier_training_is_used_and_named(
    spoil: Callable[[Path], None] | None,
    task: str | None,
    open_session: Open,
    copy_of_run: Copy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = copy_of_run(*INGESTED, "06_models")
    if spoil is not None:
        spoil(root)
    run_node(open_session, root, "tune_joint_thresholds")
    lines = [line for line in caplog.messages if "earlier training run" in line]
    assert len(lines) == (task is not None)
    for line in lines:
        assert line.startswith(f"{str(task).capitalize()} network: the chosen checkpoint (step ")
        assert str(root / "06_models" / str(task) / "training.json") in line
        assert line.endswith(f"`kedro run --pipelines rank_{task}`")


@pytest.mark.parametrize(("content", "warned"), [(None, False), ("{", True), ("[]", True)])
def test_chosen_model_needs_no_training_beside_it(
    content: str | None,
    warned: bool,
    open_session: Open,
    copy_of_run: Copy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = copy_of_run(*INGESTED, "06_models")
    result = root / "06_models" / "onset" / "training.json"
    result.unlink() if content is None else result.write_text(content)
    run_node(open_session, root, "tune_joint_thresholds")
    assert ("Onset network: the chosen checkpoint" in caplog.text) is warned


def test_history_shows_settings_of_every_stage(run_pipeline: Run, copy_of_run: Copy) -> None:
    root = copy_of_run("01_raw", *INGESTED, "06_models", "07_model_output", "08_reporting")
    settings = read(root / REPORTS / "record.json")["hyper_parameters"]
    assert settings["ingest"]["pedal"] == "sustain"
    assert settings["pitch"]["ranking"]["rule"] == "best"
    assert settings["onset"]["evaluation"]["frames"] == "all"
    run_pipeline("transcribe", root, transcribe={"adjacent_s": 0.07})
    run_pipeline("test_notes", root, scoring={"onset_tolerance_s": 0.03})
    # The record takes what was used, not what the parameters of this last run say.
    run_pipeline("report_transcription", root)
    history = (root / REPORTS / "history.md").read_text()
    assert "transcribe.adjacent_s: 0.05 → 0.07" in history
    assert "scoring.onset_tolerance_s: 0.05 → 0.03" in history


def test_outputs_that_are_not_kept_do_not_stop_the_run(
    run_pipeline: Run, copy_of_run: Copy
) -> None:
    root = copy_of_run(*INGESTED, "06_models", "07_model_output")
    assert list((root / OUT / "probabilities").glob("*.npz"))
    run_pipeline("transcribe", root, transcribe={"save_probabilities": False})
    assert not list((root / OUT / "probabilities").glob("*.npz"))
    run_pipeline("test_notes", root)
    assert (root / REPORTS / "posterior.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("maestro", [{"root": "/elsewhere"}, {"demo": {"minutes": 2.0}}])
def test_another_corpus_than_was_located_is_refused(
    maestro: dict[str, Any], open_session: Open, copy_of_run: Copy
) -> None:
    root = copy_of_run("01_raw")
    # Copied: the corpus of the finished run lies elsewhere.
    change(root / "01_raw" / "corpus.json", root=str(root / "01_raw" / "maestro-demo"))
    with pytest.raises(ConfigError, match=r"maestro: names the corpus .*, but located was") as no:
        run_node(open_session, root, "ingest_recordings", maestro=maestro)
    assert "--pipelines ingest_maestro` as a whole" in no.value.remedy
    assert not (root / "03_primary").exists()
    run_node(open_session, root, "ingest_recordings")
    assert (root / "03_primary" / "maestro" / "manifest.parquet").is_file()


def test_resolved_settings_are_tracked(
    run_pipeline: Run, copy_of_run: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = f"sqlite:///{tmp_path / 'runs.db'}"
    tracked = {"mlflow": {"enabled": True, "tracking_uri": uri, "artifact_location": str(tmp_path)}}
    root = copy_of_run(*INGESTED, "06_models", "07_model_output")
    run_pipeline("rank_onset", root, preset="auto", **tracked)
    run_pipeline("transcribe", root, preset="auto", **tracked)
    client = MlflowClient(tracking_uri=uri)
    (experiment,) = client.search_experiments(filter_string="name = 'amt_pipeline'")
    ranked, transcribed = sorted(
        client.search_runs([experiment.experiment_id]), key=lambda run: run.info.start_time
    )
    parameters = ranked.data.params
    assert parameters["preset"] == "auto"
    assert parameters["resolved.preset"] in ("cpu", "reference")
    assert parameters["resolved.onset.task.model.label_frames"] == "51"
    assert parameters["resolved.onset.task.training.batch_size"] == "4"
    assert parameters["resolved.onset.ranking.rule"] == "best"
    assert transcribed.data.params["resolved.transcribe.adjacent_s"] == "0.05"
    assert transcribed.info.status == "FINISHED"
