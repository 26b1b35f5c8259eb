"""Nodes of `predict_phoneme`, `test_phoneme` and `report_phonemes`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


def predict_frames(
    best: dict[str, Any],
    training: dict[str, Any],
    models_folder: Path,
    manifest: pd.DataFrame,
    summary: dict[str, Any],
    frames_folder: Path,
    predictions_folder: Path,
    settings: dict[str, Any],
) -> dict[str, Any]:
    raise NotImplementedError


def score_predictions(
    predictions: dict[str, Any],
    predictions_folder: Path,
    labels_folder: Path,
    manifest: pd.DataFrame,
    summary: dict[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    raise NotImplementedError


def draw_confusion(confusion: pd.DataFrame) -> tuple[Any, Any]:
    raise NotImplementedError


def draw_class_scores(class_scores: pd.DataFrame) -> tuple[Any, Any]:
    raise NotImplementedError


def write_phoneme_record(**parts: Any) -> tuple[dict[str, Any], str, str]:
    raise NotImplementedError
