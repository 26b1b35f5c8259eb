"""Thresholds tuned together: the best pair of the grid, found once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.errors import CorpusError, StoreError
from amt_pipeline.core.files import write_json
from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.ranking.rank import BEST_FILE
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.training.checkpoints import checkpoint_folder, copy_checkpoint
from amt_pipeline.transcription import joint
from amt_pipeline.transcription.decode import PickingConfig, pick_notes
from amt_pipeline.transcription.joint import (
    GRID,
    TuningJob,
    choose_pair,
    note_f1_grid,
    tune_thresholds,
)
from amt_pipeline.transcription.model_folder import JOINT_FILE, ModelFolder
from amt_pipeline.transcription.recording_frames import stored_frames
from amt_pipeline.transcription.scoring import score_notes
from amt_pipeline.transcription.transcribe import TranscriptionConfig, predict_both

CONFIG = TranscriptionConfig(device="cpu", adjacent_s=0.03)
PIECES = ["piece-2", "piece-3"]


@pytest.fixture(autouse=True)
def _half_trained(models_folder: Path, trained_models: Path) -> None:
    """Give the models of an early step: what they say depends on the thresholds."""
    for task, step in (("onset", 80), ("pitch", 40)):
        early = checkpoint_folder(trained_models / task, step)
        copy_checkpoint(early, models_folder / task / "best", {BEST_FILE: {"threshold": 0.5}})


@pytest.fixture
def tune(models_folder: Path, frame_corpus: Any) -> Any:
    def run(recordings: list[str], config: TranscriptionConfig = CONFIG) -> dict[str, Any]:
        return tune_thresholds(
            ModelFolder.open(models_folder),
            recordings,
            store_folder=frame_corpus.store_folder,
            notes_folder=frame_corpus.notes_folder,
            config=config,
            parallel=ParallelConfig(workers=1),
        )

    return run


def naive(models: ModelFolder, corpus: Any, name: str, onset: float, pitch: float) -> float:
    frames = stored_frames(FrameStore.open(corpus.store_folder), name)
    probabilities = predict_both(models, frames, CONFIG, threads=1)
    picking = PickingConfig(onset_threshold=onset, pitch_threshold=pitch, adjacent_s=0.03)
    return score_notes(corpus.notes[name], pick_notes(*probabilities, 0.016, picking)).f1


def test_grid_holds_the_score_of_every_pair(models_folder: Path, frame_corpus: Any) -> None:
    folders = (models_folder, frame_corpus.store_folder, frame_corpus.notes_folder)
    grid = note_f1_grid(TuningJob("piece-2", *folders, CONFIG))
    assert grid.shape == (15, 15)
    models = ModelFolder.open(models_folder)
    for row, column in ((0, 0), (3, 9), (14, 2), (8, 8)):
        wanted = naive(models, frame_corpus, "piece-2", GRID[row], GRID[column])
        assert grid[row, column] == pytest.approx(wanted)
    assert grid.max() > 0.5
    assert len(np.unique(grid)) > 5


def test_gated_networks_give_the_same_scores(models_folder: Path, frame_corpus: Any) -> None:
    folders = (models_folder, frame_corpus.store_folder, frame_corpus.notes_folder)
    for update in ({}, {"onset_threshold": 0.37}):
        gated, whole = (
            note_f1_grid(
                TuningJob("piece-3", *folders, CONFIG.model_copy(update={"gate": gate, **update}))
            )
            for gate in (True, False)
        )
        assert gated.tolist() == whole.tolist()
        assert gated.max() > 0.5


def test_chosen_pair_is_scored_on_all_recordings(
    tune: Any, models_folder: Path, frame_corpus: Any
) -> None:
    chosen = tune(PIECES)
    folders = (models_folder, frame_corpus.store_folder, frame_corpus.notes_folder)
    scores = np.array([note_f1_grid(TuningJob(n, *folders, CONFIG)) for n in PIECES])
    row, column = choose_pair(scores, CONFIG.threshold_margin)
    assert (chosen["onset"], chosen["pitch"]) == (GRID[row], GRID[column])
    assert chosen["validation_f1"] == pytest.approx(scores.mean(axis=0)[row, column])
    assert chosen["recordings"] == 2
    assert chosen["model"] == ModelFolder.open(models_folder).key


def test_most_sensitive_pair_within_the_margin_is_chosen() -> None:
    mean = np.array([[0.80, 0.880, 0.885], [0.85, 0.895, 0.900], [0.84, 0.899, 0.890]])
    scores = np.stack([mean - 0.01, mean + 0.01])
    assert choose_pair(scores, 0.01) == (2, 1)
    assert choose_pair(scores, 0.0) == (1, 2)
    assert choose_pair(scores, 0.06) == (1, 0)


def test_of_equal_onset_thresholds_the_middle_is_taken() -> None:
    assert choose_pair(np.full((2, 5, 1), 0.5), 0.0) == (2, 0)


def test_given_thresholds_are_taken(tune: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    both = tune([], CONFIG.model_copy(update={"onset_threshold": 0.5, "pitch_threshold": 0.6}))
    assert (both["onset"], both["pitch"], both["validation_f1"]) == (0.5, 0.6, None)
    assert "onset 0.50, pitch 0.60, as given" in caplog.text
    one = tune(["piece-2"], CONFIG.model_copy(update={"onset_threshold": 0.37}))
    assert one["onset"] == 0.37
    assert one["pitch"] in GRID


def test_what_was_tuned_before_is_taken_while_it_holds(
    tune: Any, models_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = tune(["piece-2"])
    # Marked, to tell what is taken from what is tuned again.
    write_json(models_folder / JOINT_FILE, {**first, "recordings": 77})
    assert tune(["piece-2"])["recordings"] == 77
    assert "tuned before" in caplog.text
    other_place = CONFIG.model_copy(update={"save_probabilities": False})
    assert tune(["piece-2"], other_place)["recordings"] == 77
    assert tune(["piece-2"], CONFIG.model_copy(update={"gate": False}))["recordings"] == 77
    assert tune(["piece-3"])["recordings"] == 1
    assert tune(["piece-2"], CONFIG.model_copy(update={"adjacent_s": 0.2}))["recordings"] == 1
    (models_folder / JOINT_FILE).write_text("{")
    assert tune(["piece-2"]) == first


@pytest.mark.parametrize("change", ["VERSION", "TRANSCRIPTION_VERSION", "arithmetic"])
def test_other_code_and_other_precision_are_tuned_again(
    change: str, tune: Any, models_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tune(["piece-2"])
    write_json(models_folder / JOINT_FILE, {**first, "recordings": 77})
    other = (lambda config: ("cpu", "bfloat16")) if change == "arithmetic" else 99
    monkeypatch.setattr(joint, change, other)
    assert tune(["piece-2"])["recordings"] == 1


def test_nothing_to_tune_on_and_missing_data_are_named(tune: Any) -> None:
    with pytest.raises(CorpusError, match="validation: holds no recording to tune"):
        tune([])
    with pytest.raises(StoreError, match=r"nobody\.npy"):
        tune(["nobody"])


def test_note_table_of_a_validation_piece_is_needed(
    make_frame_corpus: Any, models_folder: Path
) -> None:
    corpus = make_frame_corpus(seconds=2.0, splits=("validation",))
    (corpus.notes_folder / "piece-0.parquet").unlink()
    with pytest.raises(StoreError, match="no such note table"):
        tune_thresholds(
            ModelFolder.open(models_folder),
            ["piece-0"],
            store_folder=corpus.store_folder,
            notes_folder=corpus.notes_folder,
            config=CONFIG,
        )


def test_broken_model_stops_the_tuning(tune: Any, models_folder: Path, frame_corpus: Any) -> None:
    models = ModelFolder.open(models_folder)
    (models_folder / "onset" / "best" / "model.safetensors").unlink()
    with pytest.raises(Exception, match=r"model\.safetensors: is missing"):
        tune_thresholds(
            models,
            ["piece-2"],
            store_folder=frame_corpus.store_folder,
            notes_folder=frame_corpus.notes_folder,
            config=CONFIG,
        )
