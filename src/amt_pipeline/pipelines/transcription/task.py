"""How nodes open the tasks `onset` and `pitch`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.transcription.parameters import PresetName, ResolvedTask
    from amt_pipeline.transcription.tasks import FrameTask


def open_frame_task(
    *,
    preset: PresetName,
    presets: dict[str, Any],
    features: dict[str, Any],
    settings: dict[str, Any],
    manifest: pd.DataFrame,
    truth_folder: Path,
    frames_folder: Path,
    summary: dict[str, Any] | None = None,
    records_folder: Path | None = None,
    splits: Sequence[str] = ("train", "validation"),
    tracked: bool = True,
) -> tuple[FrameTask, ResolvedTask]:
    """Return the task that `settings` names, on the ingested corpus, with its settings.

    Frames and notes of `splits` are checked to be those of the manifest. From `records_folder`
    training windows are read with `training.source=tfrecords`. What the settings came to is a
    parameter of the MLflow run if it is `tracked`.

    Raises:
        StoreError: Frames or notes are missing, or were made from other files than the manifest's.
    """
    from amt_pipeline.store.manifest import SPLITS, Manifest
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
        notes_folder=truth_folder,
        splits={name: corpus.split(name)["recording_id"].tolist() for name in SPLITS},
        data_fingerprint=corpus.fingerprint(),
        records_folder=records_folder,
    )
    for split in splits:
        rows = corpus.split(split)
        check_frames(rows, frames_folder)
        check_notes(rows, truth_folder)
    if tracked:
        log_parameters({"preset": chosen, task.name: resolved})
    return task, resolved
