"""Nodes of `predict_phoneme` and `test_phoneme`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import MissingPredecessorError
from amt_pipeline.pipelines.tasks import warn_of_former_training

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

INDEX_FILE = "index.json"
PREDICTION_FILE = "prediction.csv"
"""Class of every frame of the test list, as the course's competition takes it."""


def predict_frames(
    best: dict[str, Any],
    models_folder: Path,
    manifest: pd.DataFrame,
    summary: dict[str, Any],
    frames_folder: Path,
    predictions_folder: Path,
    predict: dict[str, Any],
) -> dict[str, Any]:
    """Predict the test list; return the index of what was predicted.

    The log names a network that was chosen before the latest training, and what quarantine holds.

    Raises:
        StoreError: Frames were made from other files than the manifest's.
    """
    from amt_pipeline.phonemes.contents import check_frames
    from amt_pipeline.phonemes.predict import PredictionConfig, predict_utterances
    from amt_pipeline.phonemes.prediction_file import list_order
    from amt_pipeline.store.manifest import Manifest
    from amt_pipeline.tracking import log_parameters

    warn_of_former_training(best, models_folder / best["task"])
    config = PredictionConfig.model_validate(predict)
    log_parameters({"phoneme_predict": config})
    corpus = Manifest(manifest)
    check_frames(corpus.split("test"), frames_folder)
    # From here on until all is done, predictions of two models may lie side by side.
    (predictions_folder / INDEX_FILE).unlink(missing_ok=True)
    names = list_order(manifest)
    best_folder = models_folder / best["task"] / "best"
    places = {"store_folder": frames_folder, "out_folder": predictions_folder}
    outcome = predict_utterances(names, best_folder=best_folder, config=config, **places)
    about = {"chosen": best.get("training"), "step": best["step"], "data": corpus.fingerprint()}
    about["warning"] = _write_answers(predictions_folder, names, summary["test_list"])
    return {**outcome.index(), **about}


def _write_answers(folder: Path, names: list[str], test_list: dict[str, Any]) -> str:
    """Write the class of every frame; return (and log) what is wrong with the list, if anything."""
    from amt_pipeline.phonemes.prediction_file import shift_warning, write_prediction_file

    path = folder / PREDICTION_FILE
    rows = write_prediction_file(path, folder, names)
    logger.info("%s: class of %d frames of %d utterances", path, rows, len(names))
    if warning := shift_warning(test_list["left_out"], test_list["utterances"]):
        logger.warning("%s: %s", path, warning)
    return warning


def score_predictions(
    predictions: dict[str, Any],
    predictions_folder: Path,
    labels_folder: Path,
    manifest: pd.DataFrame,
    summary: dict[str, Any],
    scoring: dict[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return scores per utterance and per class, the confusions, and the figures of the test list.

    The summary says too what was scored: the model's key and the corpus.

    Raises:
        MissingPredecessorError: The predictions are of another corpus than is ingested now.
        StoreError: Labels are others than the manifest's.
    """
    from amt_pipeline.phonemes import scoring as phonemes
    from amt_pipeline.phonemes.contents import check_labels
    from amt_pipeline.store.manifest import Manifest

    corpus = Manifest(manifest)
    config = phonemes.ScoringConfig.model_validate(scoring)
    if predictions.get("data") != corpus.fingerprint():
        raise MissingPredecessorError(
            predictions_folder / INDEX_FILE,
            "predictions are of another corpus than is ingested now",
            "Run `kedro run --pipelines predict_phoneme,test_phoneme`",
        )
    rows = corpus.split("test")
    check_labels(rows, labels_folder)
    scores = phonemes.score_predictions(predictions_folder, labels_folder, rows, summary, config)
    found = scores.summary
    for warning in found["warnings"]:
        logger.warning("Test list: %s", warning)
    if found["n_frames"]:
        logger.info("%s", _headline(found))
    about = {"model": predictions["model"], "data": corpus.fingerprint()}
    return scores.per_utterance, scores.per_class, scores.confusion, {**found, **about}


def _headline(found: dict[str, Any]) -> str:
    """Return the accuracy of a test list in one line; of one utterance there is no interval."""
    parts = [
        f"{found['n_frames']} frames of {found['n_utterances']} test utterances: "
        f"accuracy {found['accuracy']:.4f}"
    ]
    if found["accuracy_low"] is not None:
        ends = f"{found['accuracy_low']:.4f} to {found['accuracy_high']:.4f}"
        parts.append(f"{100 * found['level']:g} % interval by utterance {ends}")
    if majority := found["majority"]:
        parts.append(f"always {majority['name']} {majority['accuracy']:.4f}")
    return ", ".join(parts)


def draw_confusion(confusion: pd.DataFrame) -> tuple[Any, Any]:
    """Return the confusion matrix, interactive and as an image."""
    from amt_pipeline.phonemes.classes import by_manner
    from amt_pipeline.phonemes.confusion import matrix_of
    from amt_pipeline.reporting.confusion import confusion_figure, confusion_image
    from amt_pipeline.reporting.style import note_figure, note_image

    matrix, names = matrix_of(confusion)
    if not matrix.any():
        return note_figure(NO_LABELS), note_image(NO_LABELS)
    shown: Any = {"groups": by_manner(names), "title": "Test list: true class and class said"}
    return confusion_figure(matrix, names, **shown), confusion_image(matrix, names, **shown)


def draw_class_scores(class_scores: pd.DataFrame) -> tuple[Any, Any]:
    """Return the recall of every class, interactive and as an image."""
    from amt_pipeline.phonemes.classes import by_manner
    from amt_pipeline.reporting.recalls import recall_figure, recall_image
    from amt_pipeline.reporting.style import note_figure, note_image

    if not class_scores["frames"].any():
        return note_figure(NO_LABELS), note_image(NO_LABELS)
    groups = by_manner(class_scores["name"].astype(str).tolist())
    shown: Any = {"groups": groups, "title": "Test list: recall of every class"}
    return recall_figure(class_scores, **shown), recall_image(class_scores, **shown)


NO_LABELS = "The test list has no labels: nothing was scored"
