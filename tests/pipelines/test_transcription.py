"""One real run of the whole way: what lies where afterwards, and what a second run does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.training.checkpoints import list_checkpoints, read_state, verify_checkpoint
from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.note_files import read_notes
from amt_pipeline.transcription.note_table import read_note_table
from amt_pipeline.transcription.scoring import score_notes

Run = Callable[..., Any]

REPORTS = Path("08_reporting", "transcription")
TRANSCRIPTS = Path("07_model_output", "transcription")

ALONE = (
    "ingest_maestro",
    "train_onset",
    "rank_onset",
    "train_pitch",
    "rank_pitch",
    "transcribe",
    "test_notes",
    "report_transcription",
)

PLACES = (
    "01_raw/corpus.json",
    "01_raw/maestro-demo/maestro-v3.0.0.csv",
    "03_primary/maestro/manifest.parquet",
    "03_primary/maestro/quarantine.csv",
    "03_primary/maestro/summary.json",
    "04_feature/maestro/spec.json",
    "06_models/transcription/joint.json",
    "07_model_output/transcription/index.json",
    *(
        f"{layer}/{task}/{name}"
        for task in ("onset", "pitch")
        for layer, names in {
            "06_models": ("training.json", "best.json", "best/model.safetensors", "best/best.json"),
            "08_reporting": (
                "ranking.csv",
                "ranking_per_piece.csv",
                "ranking_figure.json",
                "ranking.png",
                "training_figure.json",
            ),
        }.items()
        for name in names
    ),
    *(
        f"08_reporting/transcription/{name}"
        for name in (
            *("note_scores.csv", "summary.json", "note_scores_figure.json", "note_scores.png"),
            *("piano_roll.png", "piano_roll_figure.json", "posterior.png"),
            *("record.json", "record.md", "record.html"),
            *("history.md", "history.html", "history_figure.json"),
        )
    ),
)


def manifest(root: Path) -> pd.DataFrame:
    return pd.read_parquet(root / "03_primary" / "maestro" / "manifest.parquet")


def scored_ids(root: Path) -> list[str]:
    table = manifest(root)
    return table.loc[table["split"] == "test", "recording_id"].tolist()


def summary(root: Path) -> dict[str, Any]:
    return dict(json.loads((root / REPORTS / "summary.json").read_text()))


@pytest.mark.parametrize("place", PLACES)
def test_results_lie_at_fixed_places(place: str, whole_run: Path) -> None:
    assert (whole_run / place).stat().st_size > 0


def test_nothing_unfinished_is_left(whole_run: Path) -> None:
    assert not list(whole_run.rglob(".tmp-*"))


def test_corpus_is_in_the_store(whole_run: Path) -> None:
    table = manifest(whole_run)
    assert table["split"].value_counts().to_dict() == {"train": 6, "validation": 2, "test": 2}
    store = FrameStore.open(whole_run / "04_feature" / "maestro")
    for row in table.itertuples():
        assert len(store.frames(row.recording_id)) == row.n_frames
        notes = whole_run / "02_intermediate" / "maestro" / "notes" / f"{row.recording_id}.parquet"
        assert len(read_note_table(notes)) == row.n_notes > 0
        assert file_sha256(row.audio_path) == row.audio_sha256
    facts = json.loads((whole_run / "03_primary" / "maestro" / "summary.json").read_text())
    assert (facts["recordings"], facts["quarantined"]) == (10, 0)


@pytest.mark.parametrize(("task", "steps"), [("onset", [60, 120]), ("pitch", [45, 90])])
def test_checkpoints_are_ranked_and_the_best_is_copied(
    task: str, steps: list[int], whole_run: Path
) -> None:
    folder = whole_run / "06_models" / task
    assert [read_state(path).step for path in list_checkpoints(folder)] == steps
    table = pd.read_csv(whole_run / "08_reporting" / task / "ranking.csv")
    assert {"precision", "recall", "f1", "auc", "f1_low", "f1_high", "tied", "chosen"} <= set(table)
    assert table["rank"].tolist() == [1, 2]
    assert table["f1"].is_monotonic_decreasing
    best = json.loads((folder / "best.json").read_text())
    assert best["step"] == table["step"][0]
    copied = json.loads((folder / "best" / "best.json").read_text())
    assert copied == {name: best[name] for name in copied}
    assert best.keys() - copied.keys() == {"training", "settings"}
    chosen, copy = (verify_checkpoint(folder / n) for n in (best["checkpoint"], "best"))
    assert chosen["model.safetensors"] == copy["model.safetensors"]
    units = pd.read_csv(whole_run / "08_reporting" / task / "ranking_per_piece.csv")
    assert units["unit"].nunique() == 2
    by_step = units.groupby("step")["f1"].mean()
    assert by_step[best["step"]] == pytest.approx(table["f1"][0])
    assert by_step[best["step"]] == pytest.approx(best["validation"]["f1"])
    assert 0 <= best["train"]["f1"] <= 1


def test_notes_are_scored_against_the_midi_of_the_corpus(whole_run: Path) -> None:
    table = pd.read_csv(whole_run / REPORTS / "note_scores.csv")
    assert list(table)[:4] == ["recording_id", "precision", "recall", "f1"]
    assert table["recording_id"].tolist() == scored_ids(whole_run)
    notes_folder = whole_run / "02_intermediate" / "maestro" / "notes"
    for row in table.itertuples():
        found = read_notes(whole_run / TRANSCRIPTS / f"{row.recording_id}.res")
        assert len(found) == row.n_estimate
        wanted = score_notes(read_note_table(notes_folder / f"{row.recording_id}.parquet"), found)
        assert row.f1 == pytest.approx(wanted.f1)
        assert (whole_run / TRANSCRIPTS / f"{row.recording_id}.mid").is_file()
    found_summary = summary(whole_run)
    for measure in ("precision", "recall", "f1"):
        assert found_summary[f"onset/{measure}"] == pytest.approx(table[measure].mean())
        low, high = (found_summary[f"onset/{measure}_{end}"] for end in ("low", "high"))
        assert low <= found_summary[f"onset/{measure}"] <= high
    assert found_summary["onset/n_pieces"] == 2
    assert found_summary["onset/f1"] > 0.3  # even these tiny networks learn something


def test_index_names_thresholds_and_pieces(whole_run: Path) -> None:
    index = json.loads((whole_run / TRANSCRIPTS / "index.json").read_text())
    joint = json.loads((whole_run / "06_models" / "transcription" / "joint.json").read_text())
    assert index["thresholds"] == {name: joint[name] for name in ("onset", "pitch")}
    assert [row["recording_id"] for row in index["recordings"]] == scored_ids(whole_run)
    models = ModelFolder.open(whole_run / "06_models")
    assert models.joint_thresholds() == index["thresholds"]
    assert index["model"] == summary(whole_run)["model"] == models.key


def test_record_holds_scores_and_settings(whole_run: Path) -> None:
    record = json.loads((whole_run / REPORTS / "record.json").read_text())
    assert record["joint"]["f1"] == summary(whole_run)["onset/f1"]
    for task in ("onset", "pitch"):
        best = json.loads((whole_run / "06_models" / task / "best.json").read_text())
        assert record["networks"][task]["validation"]["f1"] == best["validation"]["f1"]
        assert record["networks"][task]["train"]["recall"] == best["train"]["recall"]
        assert record["networks"][task]["step"] == best["step"]
    assert record["hyper_parameters"]["onset"]["model"]["label_frames"] == 51
    facts = json.loads((whole_run / "03_primary" / "maestro" / "summary.json").read_text())
    assert record["data_fingerprint"] == facts["fingerprint"]
    page = (whole_run / REPORTS / "record.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "label_frames" in page
    assert len(list((whole_run / REPORTS / "history").glob("*.json"))) == 1


HEAVY = ("04_feature", "06_models/onset", "06_models/pitch", "07_model_output", "02_intermediate")
# Summaries of what is there are written at every run.
LIGHT = {"training.json", "best.json", "index.json"}


def heavy(root: Path) -> dict[str, tuple[int, int]]:
    # Each ranking writes its curve anew, and that the copy's files have other times than those
    # ingested is noted in their entries; both cost nothing.
    files = [
        p
        for layer in HEAVY
        for p in (root / layer).rglob("*")
        if p.is_file() and p.parent.name != "events_validation"
        if p.suffix != ".json" or layer not in ("04_feature", "02_intermediate")
    ]
    return {
        str(p.relative_to(root)): (p.stat().st_ino, p.stat().st_mtime_ns)
        for p in files
        if p.name not in LIGHT and "best" not in p.relative_to(root).parts
    }


def test_every_pipeline_runs_alone_and_redoes_nothing_heavy(
    run_pipeline: Run, copy_of_run: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    layers = ("01_raw", "02_intermediate", "03_primary", "04_feature", "06_models")
    root = copy_of_run(*layers, "07_model_output", "08_reporting")
    before, scores = heavy(root), summary(root)
    caplog.set_level("INFO")
    for name in ALONE:
        run_pipeline(name, root)
    assert heavy(root) == before
    assert "10 unchanged, 0 quarantined" in caplog.text
    assert "Onset network: complete at step 120 of 120, nothing is left to train" in caplog.text
    assert "Pitch network: complete at step 90 of 90, nothing is left to train" in caplog.text
    assert "tuned before" in caplog.text
    assert summary(root) == scores
    # Nothing changed, so the history has no second row.
    assert len(list((root / REPORTS / "history").glob("*.json"))) == 1
    assert "(1 runs so far)" in caplog.text


def test_umbrella_goes_on_where_the_parts_stopped(
    run_pipeline: Run, copy_of_run: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    root = copy_of_run("01_raw", "02_intermediate", "03_primary", "04_feature", "06_models")
    before = heavy(root)
    run_pipeline("__default__", root, scoring={"onset_tolerance_s": 0.2})
    after = heavy(root)
    assert {name: after[name] for name in before} == before
    assert summary(root)["onset/f1"] > 0.3
    assert len(list((root / REPORTS / "history").glob("*.json"))) == 1
