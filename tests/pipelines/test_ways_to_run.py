"""What users do with the pipelines: overrides, other inputs, mistakes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from amt_pipeline.core.errors import (
    CheckpointError,
    ConfigError,
    MissingPredecessorError,
    StoreError,
)
from amt_pipeline.training.checkpoints import list_checkpoints, read_state

Run = Callable[..., Any]
Copy = Callable[..., Path]

INGESTED = ("02_intermediate", "03_primary", "04_feature")
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def ingested(copy_of_run: Copy, whole_run: Path) -> Path:
    """A data root where only the corpus was ingested (its audio stays with the finished run)."""
    root = copy_of_run(*INGESTED)
    (root / "01_raw").symlink_to(whole_run / "01_raw")
    return root


def test_overrides_reach_the_training(run_pipeline: Run, ingested: Path) -> None:
    onset = {"training": {"epochs": 1, "save_every_steps": 5}, "model": {"label_frames": 9}}
    run_pipeline("train_onset", ingested, onset=onset)
    folder = ingested / "06_models" / "onset"
    result = json.loads((folder / "training.json").read_text())
    assert result["config"]["model"]["label_frames"] == 9
    assert result["config"]["training"]["epochs"] == 1
    # Runs of 9 frames over six pieces, 4 to a batch, rounded up to whole save intervals.
    steps = -(-result["windows"] // 4)
    assert result["steps"] == -(-steps // 5) * 5
    assert [read_state(p).step for p in list_checkpoints(folder)][:2] == [5, 10]
    assert not (ingested / "06_models" / "pitch").exists()


def test_other_settings_set_a_finished_run_aside(run_pipeline: Run, copy_of_run: Copy) -> None:
    root = copy_of_run(*INGESTED, "06_models")
    folder = root / "06_models" / "onset"
    events = [path.name for path in (folder / "events").iterdir()]
    onset = {"training": {"epochs": 0.5, "learning_rate": 0.005}}
    run_pipeline("train_onset", root, onset=onset)
    assert [read_state(p).step for p in list_checkpoints(folder)] == [7]
    former = folder / "previous" / "001"
    assert [read_state(p).step for p in list_checkpoints(former)] == [60, 120]
    assert [path.name for path in (former / "events").iterdir()] == events
    assert len(list((folder / "events").iterdir())) == 1
    run_pipeline("rank_onset", root, onset=onset)
    assert json.loads((folder / "best.json").read_text())["step"] == 7


def test_more_epochs_go_on_from_the_finished_run(run_pipeline: Run, copy_of_run: Copy) -> None:
    root = copy_of_run(*INGESTED, "06_models")
    run_pipeline("train_pitch", root, pitch={"training": {"epochs": 7}})
    folder = root / "06_models" / "pitch"
    assert [read_state(p).step for p in list_checkpoints(folder)] == [45, 90, 135]
    assert not (folder / "previous").exists()


def test_namespace_of_a_task_can_be_run(open_session: Callable[..., Any], ingested: Path) -> None:
    with open_session(ingested, {"onset": {"training": {"epochs": 0.3}}}) as session:
        session.run(pipeline_names=["transcription"], namespaces=["onset"])
    assert (ingested / "08_reporting" / "onset" / "ranking.csv").is_file()
    assert not (ingested / "06_models" / "pitch").exists()


def test_corpus_of_ones_own_is_named_by_its_root(
    run_pipeline: Run, whole_run: Path, tmp_path: Path
) -> None:
    corpus = whole_run / "01_raw" / "maestro-demo"
    run_pipeline(
        "ingest_maestro",
        tmp_path,
        maestro={"root": str(corpus), "metadata": "maestro-v3.0.0.csv"},
        ingest={"pedal": "ignore"},
    )
    facts = json.loads((tmp_path / "03_primary" / "maestro" / "summary.json").read_text())
    assert (facts["corpus"], facts["recordings"], facts["pedal"]) == ("maestro-demo", 10, "ignore")
    assert not (tmp_path / "01_raw" / "maestro-demo").exists()
    known = json.loads((tmp_path / "01_raw" / "corpus.json").read_text())
    assert known == {"root": str(corpus), "metadata": "maestro-v3.0.0.csv"}


def test_folder_of_audio_is_transcribed_beside_the_split(
    run_pipeline: Run, copy_of_run: Copy, whole_run: Path, tmp_path: Path
) -> None:
    root = copy_of_run(*INGESTED, "06_models", "07_model_output")
    music = tmp_path / "music"
    music.mkdir()
    (source,) = (whole_run / "01_raw" / "maestro-demo").glob("*/demo-002-*.flac")
    shutil.copy(source, music / "own.flac")
    (music / "broken.wav").write_bytes(b"RIFF")
    run_pipeline("transcribe", root, transcribe={"audio_folder": str(music)})
    out = root / "07_model_output" / "transcription"
    assert (out / "audio" / "own.mid").is_file()
    index = json.loads((out / "index.json").read_text())
    assert [row["recording_id"] for row in index["audio"]["recordings"]] == ["own"]
    assert "broken.wav" in index["audio"]["failed"]["broken"]
    assert len(index["recordings"]) == 2
    # The same audio, by way of the store: the same notes.
    stored = next(out.glob("demo-002-*.res"))
    assert (out / "audio" / "own.res").read_bytes() == stored.read_bytes()


def test_outside_curve_is_ranked(run_pipeline: Run, tmp_path: Path) -> None:
    curve = tmp_path / "f1.csv"
    curve.write_text("Wall time,Step,Value\n1.0,2500,0.81\n2.0,5000,0.86\n3.0,7500,0.84\n")
    run_pipeline("rank_curve", tmp_path / "data", curve={"path": str(curve)})
    table = pd.read_csv(tmp_path / "data" / "08_reporting" / "curve" / "ranking.csv")
    assert table["step"].tolist() == [5000, 7500, 2500]
    assert (tmp_path / "data" / "08_reporting" / "curve" / "ranking.png").stat().st_size > 0
    with pytest.raises(ConfigError, match=r"curve\.path: is not set"):
        run_pipeline("rank_curve", tmp_path / "data")


MISSING = (
    ((), "train_onset", "ingest_maestro"),
    ((), "transcribe", "ingest_maestro"),
    ((), "test_notes", "ingest_maestro"),
    ((), "report_transcription", "ingest_maestro"),
    (INGESTED, "rank_pitch", "train_pitch"),
    (INGESTED, "transcribe", "rank_onset"),
    ((*INGESTED, "06_models"), "test_notes", "transcribe"),
    ((*INGESTED, "06_models"), "report_transcription", "test_notes"),
)


@pytest.mark.parametrize(("layers", "name", "before"), MISSING)
def test_missing_predecessor_is_named(
    layers: tuple[str, ...], name: str, before: str, run_pipeline: Run, copy_of_run: Copy
) -> None:
    with pytest.raises(MissingPredecessorError) as missing:
        run_pipeline(name, copy_of_run(*layers))
    assert f"--pipelines {before}` first" in missing.value.remedy


def test_wrong_parameter_stops_before_anything_runs(run_pipeline: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"epoch: unknown parameter \(did you mean epochs"):
        run_pipeline("transcription", tmp_path / "data", onset={"training": {"epoch": 2}})
    with pytest.raises(ConfigError, match=r"onset\.training\.epochs: .*got 'two'"):
        run_pipeline("transcription", tmp_path / "data", onset={"training": {"epochs": "two"}})
    assert not (tmp_path / "data").exists()


def test_wrong_parameter_of_the_command_line_is_one_line(tmp_path: Path) -> None:
    parameters = f"onset.training.epoch=2,data_root={tmp_path / 'data'}"
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "run", "--env", "test", "--params", parameters],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Error: parameter onset.training.epoch: unknown parameter" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_run_with_another_grid_than_the_store_names_both(run_pipeline: Run, ingested: Path) -> None:
    with pytest.raises(StoreError, match=r"16000 Hz, hop 256.*wanted is.*16000 Hz, hop 512"):
        run_pipeline("train_onset", ingested, features={"hop_samples": 512})


def test_ranking_of_a_run_on_other_data_is_refused(run_pipeline: Run, copy_of_run: Copy) -> None:
    root = copy_of_run("01_raw", *INGESTED, "06_models")
    (piece,) = (root / "01_raw" / "maestro-demo").glob("*/demo-000-*.midi")
    shutil.copy(next((root / "01_raw" / "maestro-demo").glob("*/demo-006-*.midi")), piece)
    run_pipeline("ingest_maestro", root)
    with pytest.raises(CheckpointError, match="trained on other data or features"):
        run_pipeline("rank_onset", root)


def test_damaged_checkpoint_is_named_by_the_ranking(run_pipeline: Run, copy_of_run: Copy) -> None:
    root = copy_of_run(*INGESTED, "06_models")
    weights = root / "06_models" / "onset" / "step-0000060" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"step-0000060/model\.safetensors: is truncated"):
        run_pipeline("rank_onset", root)
