"""How nodes open the task `phoneme`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from amt_pipeline.phonemes.parameters import ResolvedPhonemeTask
    from amt_pipeline.phonemes.tasks import PhonemeTask
    from amt_pipeline.transcription.parameters import PresetName

logger = logging.getLogger(__name__)


def open_phoneme_task(
    *,
    preset: PresetName,
    presets: dict[str, Any],
    features: dict[str, Any],
    settings: dict[str, Any],
    manifest: pd.DataFrame,
    summary: dict[str, Any],
    truth_folder: Path,
    frames_folder: Path,
    records_folder: Path | None = None,
    splits: Sequence[str] = ("train", "validation"),
    tracked: bool = True,
    reference: dict[str, Any] | None = None,
) -> tuple[PhonemeTask, ResolvedPhonemeTask]:
    """Return the task on the ingested corpus (its labelled utterances), with its settings.

    `reference` are overrides of the task whose size a width `matched` is made for. What the
    settings came to is a parameter of the MLflow run if it is `tracked`. Frames and labels of
    `splits` are checked to be those of the manifest.

    Raises:
        StoreError: Frames or labels are missing, or were made from other files than the manifest's.
    """
    from amt_pipeline.phonemes.contents import check_frames, check_labels
    from amt_pipeline.phonemes.parameters import DEFAULT_LEVEL, resolve_task
    from amt_pipeline.phonemes.tasks import PhonemeTask
    from amt_pipeline.store.manifest import SPLITS, Manifest
    from amt_pipeline.tracking import log_parameters

    size = choose_size(preset)
    n_classes = len(summary["classes"])
    resolved = resolve_task(presets[size], features, settings, reference, n_classes)
    corpus = Manifest(manifest)
    rows = {name: corpus.split(name) for name in SPLITS}
    labelled = {name: table[table["has_labels"]] for name, table in rows.items()}
    task = PhonemeTask(
        resolved.task,
        store_folder=frames_folder,
        labels_folder=truth_folder,
        splits={name: table["recording_id"].tolist() for name, table in labelled.items()},
        n_classes=n_classes,
        data_fingerprint=corpus.fingerprint(),
    )
    for split in splits:
        check_frames(labelled[split], frames_folder)
        check_labels(rows[split], truth_folder)
    if tracked:
        level = settings.get("preset", DEFAULT_LEVEL)
        announce_level(level, size, tuple(presets[size]))
        log_parameters({"preset": size, "level": level, task.name: resolved})
    return task, resolved


@functools.lru_cache
def announce_level(level: str, size: str, levels: tuple[str, ...]) -> None:
    """Say in the log which preset the settings were laid over: once per process, as of the size."""
    logger.info(
        "Preset %s of size %s; choose with --params phoneme.preset=%s",
        level, size, " or ".join(levels),
    )  # fmt: skip


def choose_size(preset: PresetName) -> str:
    """Return which sizes of presets are taken: `reference` where a CUDA device is, else `cpu`."""
    from amt_pipeline.transcription.parameters import choose_preset

    return choose_preset(preset)
