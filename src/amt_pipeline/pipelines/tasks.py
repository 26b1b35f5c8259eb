"""How nodes meet the engine: parameters to a task on the ingested corpus."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.transcription.parameters import PresetName, ResolvedTask
    from amt_pipeline.transcription.tasks import FrameTask

logger = logging.getLogger(__name__)

TRANSCRIPTION_TASKS = ("onset", "pitch")

TASK_INPUTS = {
    "preset": "params:preset",
    "presets": "params:presets",
    "features": "params:features",
    "settings": "params:settings",
    "manifest": "manifest",
    "notes_folder": "notes_folder",
    "frames_folder": "frames_folder",
}
"""Inputs of `open_task`, as every modular pipeline names them."""

SHARED_INPUTS = {"manifest", "notes_folder", "frames_folder"}
SHARED_PARAMETERS = {"params:preset", "params:presets", "params:features"}


def open_task(
    *,
    preset: PresetName,
    presets: dict[str, Any],
    features: dict[str, Any],
    settings: dict[str, Any],
    manifest: pd.DataFrame,
    notes_folder: Path,
    frames_folder: Path,
    records_folder: Path | None = None,
    splits: Sequence[str] = ("train", "validation"),
) -> tuple[FrameTask, ResolvedTask]:
    """Return the task that `settings` names, on the ingested corpus, with its settings.

    Frames and notes of `splits` are checked to be those of the manifest. From `records_folder`
    training windows are read with `training.source=tfrecords`.

    Raises:
        StoreError: Frames or notes are missing, or were made from other files than the manifest's.
    """
    from amt_pipeline.store.manifest import Manifest
    from amt_pipeline.tracking import log_parameters
    from amt_pipeline.transcription.contents import check_frames, check_notes
    from amt_pipeline.transcription.parameters import choose_preset, resolve_task
    from amt_pipeline.transcription.tasks import FrameTask

    chosen = choose_preset(preset)
    resolved = resolve_task(presets[chosen], features, settings)
    corpus = Manifest(manifest)
    task = FrameTask(
        resolved.task,
        store_folder=frames_folder,
        notes_folder=notes_folder,
        splits={
            name: corpus.split(name)["recording_id"].tolist()
            for name in ("train", "validation", "test")
        },
        data_fingerprint=corpus.fingerprint(),
        records_folder=records_folder,
    )
    for split in splits:
        rows = corpus.split(split)
        check_frames(rows, frames_folder)
        check_notes(rows, notes_folder)
    log_parameters({"preset": chosen, task.name: resolved})
    return task, resolved


def training_key(training: dict[str, Any]) -> str:
    """Return a hash of what a training run learned from, by which its ranking knows it.

    Args:
        training: What the run says of itself (`training.TrainingResult`).
    """
    from amt_pipeline.core.hashing import value_sha256
    from amt_pipeline.training.config import NOT_IDENTITY

    own = training["config"]["training"]
    settings = {name: value for name, value in own.items() if name not in NOT_IDENTITY}
    config = {**training["config"], "training": settings}
    return value_sha256([config, training["fingerprint"], training["checkpoints"]])


def warn_of_former_training(best: dict[str, Any], folder: Path) -> None:
    """Say it in the log if a chosen checkpoint is not of the training that lies in its folder.

    It is used all the same: the chosen one stays in use until a ranking replaces it. Where no
    training lies (a model that was copied from elsewhere) there is nothing to say.

    Args:
        best: What the ranking says of the checkpoint that it chose.
        folder: Of the task, with the result of its latest training.
    """
    from amt_pipeline.training.run import RESULT_FILE

    result = folder / RESULT_FILE
    if result.is_file() and _key_in(result) != best.get("training"):
        logger.warning(
            "%s network: the chosen checkpoint (step %d) comes from an earlier training run than "
            "the one in %s; to use the latest, choose anew with `kedro run --pipelines rank_%s`",
            best["task"].capitalize(), best["step"], result, best["task"],
        )  # fmt: skip


def _key_in(result: Path) -> str | None:
    """Return the key of a training's result, or None: one that is damaged is no reason to stop."""
    from amt_pipeline.core.errors import UserError
    from amt_pipeline.core.files import read_json

    try:
        return training_key(read_json(result))
    except (UserError, KeyError, TypeError, AttributeError):
        return None
