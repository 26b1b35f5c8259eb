"""A MAESTRO folder to manifest, stored frames, note tables and quarantine."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.parallel import LOCAL, Failure, ParallelConfig, map_items
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.manifest import (
    Manifest,
    check_bad_fraction,
    quarantine_table,
    validate_manifest,
)
from amt_pipeline.transcription.corpus import read_corpus
from amt_pipeline.transcription.ingest import (
    IngestConfig,
    IngestedRecording,
    IngestJob,
    ingest_recording,
)

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusIngestion:
    """What ingesting a corpus gives.

    Attributes:
        manifest: One row per usable recording, with content hashes, n_frames and n_notes.
        quarantine: One row per recording that was left out, with the reason and the remedy.
        summary: JSON-able figures: recordings, hours, notes, frames, fingerprint, features.
    """

    manifest: pd.DataFrame
    quarantine: pd.DataFrame
    summary: dict[str, Any]


def ingest_corpus(
    root: Path,
    metadata: str | None,
    *,
    store_folder: Path,
    notes_folder: Path,
    spec: FeatureSpec,
    config: IngestConfig,
    parallel: ParallelConfig = LOCAL,
) -> CorpusIngestion:
    """Ingest every recording of a corpus; what is current already is not done again.

    Args:
        root: The corpus folder.
        metadata: Its index file; None takes the newest.
        store_folder: Where frames go.
        notes_folder: Where note tables go.
        spec: What frames hold.
        config: How the corpus is read.
        parallel: Where recordings are worked on.

    Raises:
        CorpusError: The corpus cannot be used, or too many of its recordings are bad.
        StorageError: The disk refused; what was done is kept.
    """
    started_s = time.monotonic()
    missing = cast(Literal["refuse", "quarantine"], config.missing)
    reading = read_corpus(
        root, metadata, missing=missing, allow_shared_pieces=config.allow_shared_pieces
    )
    for warning in reading.warnings:
        logger.warning("%s", warning)
    FrameStore.create(store_folder, spec)
    rows = cast(list[dict[str, Any]], reading.manifest.to_dict("records"))
    jobs = [IngestJob(row, store_folder, notes_folder, spec, config.pedal) for row in rows]
    done: dict[str, IngestedRecording] = {}
    failures: list[tuple[str, UserError]] = []
    outcomes = map_items(
        ingest_recording,
        jobs,
        label="Ingest",
        unit="recording",
        parallel=parallel,
        shared=(store_folder, notes_folder),
        sources=(root,),
    )
    for job, outcome in outcomes:
        name = str(job.row["recording_id"])
        if isinstance(outcome, Failure):
            failures.append((name, outcome.error))
            logger.warning("Quarantined %s: %s", name, outcome.error)
        else:
            done[name] = outcome
            for warning in outcome.warnings if not outcome.reused else ():
                logger.warning("%s: %s", name, warning)
    quarantine = _joined(reading.quarantine, quarantine_table(failures))
    n_bad = len(quarantine["recording_id"].unique())
    reasons = [f"{row.path}: {row.reason}" for row in quarantine.itertuples()]
    n_all = len(rows) + len(reading.quarantine["recording_id"].unique())
    check_bad_fraction(n_bad, n_all, config.max_bad_fraction, reasons=reasons, where=root)
    manifest = _completed(reading.manifest, done)
    validate_manifest(manifest, where=root, allow_shared_pieces=config.allow_shared_pieces)
    summary = _summary(root, manifest, quarantine, spec, config)
    logger.info(
        "Ingested %d recordings (%.2f h, %d notes; %d unchanged, %d quarantined) in %.0f s",
        len(manifest), summary["hours"], summary["notes"],
        sum(recording.reused for recording in done.values()), n_bad,
        time.monotonic() - started_s,
    )  # fmt: skip
    if n_bad:
        logger.warning(
            "%d of %d recordings were left out; the quarantine table says why", n_bad, n_all
        )
    return CorpusIngestion(manifest, quarantine, summary)


def _completed(manifest: pd.DataFrame, done: dict[str, IngestedRecording]) -> pd.DataFrame:
    table = manifest[manifest["recording_id"].isin(list(done))].reset_index(drop=True)
    for column in ("duration_s", "audio_sha256", "midi_sha256", "n_frames", "n_notes"):
        table[column] = [getattr(done[name], column) for name in table["recording_id"]]
    table["warnings"] = ["; ".join(done[name].warnings) for name in table["recording_id"]]
    return table


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([first, second], ignore_index=True)


def _summary(
    root: Path,
    manifest: pd.DataFrame,
    quarantine: pd.DataFrame,
    spec: FeatureSpec,
    config: IngestConfig,
) -> dict[str, Any]:
    return {
        "corpus": root.name,
        "recordings": len(manifest),
        "splits": {
            name: int(n) for name, n in manifest["split"].value_counts().sort_index().items()
        },
        "hours": float(manifest["duration_s"].sum() / 3600),
        "notes": int(manifest["n_notes"].sum()),
        "frames": int(manifest["n_frames"].sum()),
        "quarantined": len(quarantine["recording_id"].unique()),
        "pedal": config.pedal,
        "fingerprint": Manifest(manifest).fingerprint(),
        "features": spec.model_dump(),
    }
