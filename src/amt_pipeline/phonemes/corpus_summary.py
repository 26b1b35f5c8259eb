"""What a corpus of speech consists of, in figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.config import LibrispeechConfig
from amt_pipeline.phonemes.label_store import read_labels
from amt_pipeline.phonemes.utterances import CorpusReading
from amt_pipeline.store.manifest import SPLITS, Manifest

if TYPE_CHECKING:
    import pandas as pd


def summarise(
    root: Path,
    reading: CorpusReading,
    manifest: pd.DataFrame,
    n_quarantined: int,
    spec: MfccSpec,
    config: LibrispeechConfig,
    labels_folder: Path,
) -> dict[str, Any]:
    """Return the figures of an ingested corpus; JSON-able.

    Returns:
        corpus, layout, utterances, splits (utterances each), frames, frames_per_split, hours,
        speakers (per split), speakers_shared (per pair of splits), classes (names), class_counts
        (per split, frames of each class), majority (class of most training frames, its share per
        split), unlabelled, quarantined, test_list (utterances; left_out: place in the list by id),
        split (how it was drawn), fingerprint, features.
    """
    counts = class_counts(manifest, labels_folder, len(reading.classes))
    by_split = manifest.groupby("split")
    return {
        "corpus": root.name,
        "layout": reading.layout,
        "utterances": len(manifest),
        "splits": {str(name): len(rows) for name, rows in by_split},
        "frames": int(manifest["n_frames"].sum()),
        "frames_per_split": {str(name): int(rows["n_frames"].sum()) for name, rows in by_split},
        "hours": float(manifest["duration_s"].sum() / 3600),
        "speakers": {
            str(name): int(rows["speaker"][rows["speaker"] != ""].nunique())
            for name, rows in by_split
        },
        "speakers_shared": {
            f"{one}/{other}": len(shared_speakers(manifest, one, other))
            for number, one in enumerate(SPLITS)
            for other in SPLITS[number + 1 :]
        },
        "classes": list(reading.classes.names),
        "class_counts": {name: values.tolist() for name, values in counts.items()},
        "majority": _majority(counts, reading.classes.names),
        "unlabelled": int((~manifest["has_labels"]).sum()),
        "quarantined": n_quarantined,
        "test_list": _test_list(reading, manifest),
        "split": {**config.split.model_dump(), "drawn": list(reading.drawn)},
        "fingerprint": Manifest(manifest).fingerprint(),
        "features": spec.model_dump(),
    }


def _test_list(reading: CorpusReading, manifest: pd.DataFrame) -> dict[str, Any]:
    """Return the length of the test list, and who of it could not be used."""
    usable, listed = set(manifest["recording_id"]), reading.order("test")
    left_out = {name: place for place, name in enumerate(listed) if name not in usable}
    return {"utterances": len(listed), "left_out": left_out}


def class_counts(
    manifest: pd.DataFrame, labels_folder: Path, n_classes: int
) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the frames of each class `[n_classes]` per split that has labels."""
    labelled = manifest[manifest["has_labels"]]
    return {
        str(name): np.bincount(
            read_labels(labels_folder, rows["recording_id"].tolist()).classes, minlength=n_classes
        ).astype(np.int64)
        for name, rows in labelled.groupby("split")
    }


def shared_speakers(manifest: pd.DataFrame, one: str, other: str) -> set[str]:
    """Return the speakers that two splits share; unknown ones count as none."""
    speakers = [set(manifest["speaker"][manifest["split"] == name]) for name in (one, other)]
    return (speakers[0] & speakers[1]) - {""}


def _majority(
    counts: dict[str, np.ndarray[Any, np.dtype[np.int64]]], names: tuple[str, ...]
) -> dict[str, Any]:
    if "train" not in counts:
        return {}
    number = int(counts["train"].argmax())
    return {
        "class": number,
        "name": names[number],
        "share": {
            split: float(values[number] / max(1, values.sum())) for split, values in counts.items()
        },
    }
