"""Thresholds tuned together: the best pair of the grid, found once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.errors import CorpusError, StoreError
from amt_pipeline.core.files import write_json
from amt_pipeline.ranking.rank import BEST_FILE
from amt_pipeline.training.checkpoints import checkpoint_folder, copy_checkpoint
from amt_pipeline.transcription.decode import PickingConfig, pick_notes
from amt_pipeline.transcription.joint import GRID, TuningJob, note_f1_grid, tune_thresholds
from amt_pipeline.transcription.model_folder import JOINT_FILE, ModelFolder
from amt_pipeline.transcription.scoring import score_notes
from amt_pipeline.transcription.transcribe import TranscriptionConfig, predict_both

CONFIG = TranscriptionConfig(device="cpu", workers=1, adjacent_s=0.03)
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
        )

    return run


def naive(models: ModelFolder, corpus: Any, name: str, onset: float, pitch: float) -> float:
    probabilities = predict_both(models, corpus.frames[name], CONFIG, threads=1)
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


def test_best_mean_over_the_recordings_wins(
    tune: Any, models_folder: Path, frame_corpus: Any
) -> None:
    best = tune(PIECES)
    folders = (models_folder, frame_corpus.store_folder, frame_corpus.notes_folder)
    mean = np.mean([note_f1_grid(TuningJob(n, *folders, CONFIG)) for n in PIECES], axis=0)
    assert best["validation_f1"] == pytest.approx(mean.max())
    pairs = {(o, p): mean[i, j] for i, o in enumerate(GRID) for j, p in enumerate(GRID)}
    assert pairs[best["onset"], best["pitch"]] == pytest.approx(mean.max())
    # Of equals it is the one nearest to the published 0.5 and 0.6.
    equals = [pair for pair, f1 in pairs.items() if f1 > mean.max() - 1e-9]
    far = {pair: abs(pair[0] - 0.5) ** 2 + abs(pair[1] - 0.6) ** 2 for pair in equals}
    assert far[best["onset"], best["pitch"]] == pytest.approx(min(far.values()))
    assert best["recordings"] == 2
    assert best["model"] == ModelFolder.open(models_folder).key


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
    assert tune(["piece-2"], CONFIG.model_copy(update={"workers": 3}))["recordings"] == 77
    assert tune(["piece-3"])["recordings"] == 1
    assert tune(["piece-2"], CONFIG.model_copy(update={"adjacent_s": 0.2}))["recordings"] == 1
    (models_folder / JOINT_FILE).write_text("{")
    assert tune(["piece-2"]) == first


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
