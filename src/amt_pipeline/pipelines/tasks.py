"""How nodes meet the engine: parameters to a task on the ingested corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.transcription.parameters import PresetName, ResolvedTask
    from amt_pipeline.transcription.tasks import FrameTask

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
) -> tuple[FrameTask, ResolvedTask]:
    """Return the task that `settings` names, on the ingested corpus, with its settings."""
    from amt_pipeline.store.manifest import Manifest
    from amt_pipeline.transcription.parameters import choose_preset, resolve_task
    from amt_pipeline.transcription.tasks import FrameTask

    resolved = resolve_task(presets[choose_preset(preset)], features, settings)
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
    )
    return task, resolved
