"""Corpora of random frames and notes, and tasks on them, for benchmarks that need no sound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.transcription.note_table import write_note_table
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.parameters import resolve_task
from amt_pipeline.transcription.task_config import FrameTaskConfig
from amt_pipeline.transcription.tasks import FrameTask

PRESETS = Path(__file__).parents[1] / "conf/base/parameters_transcription_presets.yml"
SHARE_OF_ONSET_FRAMES = 0.094
"""Of MAESTRO's training split: 4.06 million frames with an onset in 43 million."""


def preset_config(preset: str, name: str, **changes: Mapping[str, Any]) -> FrameTaskConfig:
    """Return a preset's task; `changes` are blocks (`model`, `training`) laid over it."""
    presets = yaml.safe_load(PRESETS.read_text(encoding="utf-8"))["presets"]
    features = changes.pop("features", {})
    return resolve_task(presets[preset], features, {"name": name, **changes}).task


def write_corpus(folder: Path, spec: FeatureSpec, n_recordings: int, n_frames: int) -> list[str]:
    """Write recordings of noise with notes as dense as MAESTRO's; return their ids."""
    rng = np.random.default_rng(0)
    store = FrameStore.create(folder / "frames", spec)
    noise = rng.random((n_frames, spec.bins, spec.channels), np.float32).astype(spec.dtype)
    ids = [f"recording-{number:04d}" for number in range(n_recordings)]
    for number, name in enumerate(ids):
        store.write(name, np.roll(noise, number, axis=0), name)
        struck = np.flatnonzero(rng.random(n_frames) < SHARE_OF_ONSET_FRAMES)
        struck = np.sort(np.concatenate([struck, rng.choice(struck, len(struck) // 2)]))
        onset_s = (struck + 0.5) * spec.grid.seconds_per_frame
        notes = Notes.from_arrays(onset_s, onset_s + 0.2, rng.integers(21, 109, len(struck)))
        write_note_table(folder / "notes" / f"{name}.parquet", notes)
    return ids


def open_task(config: FrameTaskConfig, folder: Path, ids: list[str]) -> FrameTask:
    """Return the task on the recordings of `write_corpus`, all of them for training."""
    return FrameTask(
        config,
        store_folder=folder / "frames",
        notes_folder=folder / "notes",
        splits={"train": ids},
        data_fingerprint="benchmark",
    )
