"""A corpus of speech, in either layout, to manifest, packed frames, labels and quarantine."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import ConfigError, CorpusError, UserError
from amt_pipeline.core.parallel import LOCAL, Failure, ParallelConfig, map_items
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.config import LibrispeechConfig
from amt_pipeline.phonemes.corpus import read_corpus
from amt_pipeline.phonemes.corpus_summary import shared_speakers, summarise
from amt_pipeline.phonemes.ingest import IngestedPack, IngestedUtterance, PackJob, ingest_pack
from amt_pipeline.phonemes.label_store import remove_label_packs
from amt_pipeline.phonemes.utterances import CorpusReading, list_positions, name_some
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.manifest import check_bad_fraction, quarantine_table, validate_manifest

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusIngestion:
    """What ingesting a corpus gives.

    Attributes:
        manifest: One row per usable utterance, sorted by id: recording_id, split, duration_s,
            feature_path or audio_path and alignment_path, content hashes, label_sha256, speaker,
            chapter, n_frames, pack, has_labels, list_position (place in the list of training or
            test, from 0; those left out leave gaps), warnings.
        quarantine: One row per utterance that was left out, with the reason and the remedy.
        summary: JSON-able figures, see `corpus_summary.summarise`.
    """

    manifest: pd.DataFrame
    quarantine: pd.DataFrame
    summary: dict[str, Any]


def ingest_corpus(
    root: Path,
    *,
    config: LibrispeechConfig,
    spec: MfccSpec,
    store_folder: Path,
    labels_folder: Path,
    parallel: ParallelConfig = LOCAL,
) -> CorpusIngestion:
    """Ingest every utterance of a corpus; packs that are current already are not done again.

    Args:
        root: The corpus folder.
        config: How the corpus is read and split.
        spec: What frames hold.
        store_folder: Where frames go.
        labels_folder: Where the classes of frames go.
        parallel: Where packs are worked on.

    Raises:
        CorpusError: The corpus cannot be used, or too many of its utterances are bad.
        ConfigError: The features are none that the tensors of the corpus have, or the split leaves
            nothing to train or validate on.
        StorageError: The disk refused; what was done is kept.
    """
    started_s = time.monotonic()
    root = Path(root).expanduser().absolute()
    reading = read_corpus(root, config)
    if reading.layout == "libriphone":
        _require_course_features(spec)
    for warning in reading.warnings:
        logger.warning("%s", warning)
    for name, error in reading.failures:
        logger.warning("Quarantined %s: %s", name, error)
    FrameStore.create(store_folder, spec)
    done, failures, n_reused = _ingest_packs(
        root, reading, config, spec, store_folder, labels_folder, parallel
    )
    quarantine = quarantine_table([*reading.failures, *failures])
    n_bad = len(quarantine["recording_id"].unique())
    n_all = len({u.recording_id for u in reading.utterances} | {n for n, _ in reading.failures})
    check_bad_fraction(
        n_bad,
        n_all,
        config.max_bad_fraction,
        reasons=[f"{row.path}: {row.reason}" for row in quarantine.itertuples()],
        where=root,
        parameter="librispeech.max_bad_fraction",
        noun="utterances",
    )
    manifest = _manifest(reading, done)
    _check_manifest(manifest, root, reading, config)
    summary = summarise(root, reading, manifest, n_bad, spec, config, labels_folder)
    logger.info(
        "Ingested %d utterances (%.2f h, %d frames; %d unchanged, %d quarantined) in %.0f s",
        len(manifest), summary["hours"], summary["frames"], n_reused, n_bad,
        time.monotonic() - started_s,
    )  # fmt: skip
    if n_bad:
        logger.warning(
            "%d of %d utterances were left out; the quarantine table says why", n_bad, n_all
        )
    return CorpusIngestion(manifest, quarantine, summary)


def _ingest_packs(
    root: Path,
    reading: CorpusReading,
    config: LibrispeechConfig,
    spec: MfccSpec,
    store_folder: Path,
    labels_folder: Path,
    parallel: ParallelConfig,
) -> tuple[dict[str, IngestedUtterance], list[tuple[str, UserError]], int]:
    """Return what is stored, what failed, and how many utterances had not changed."""
    done: dict[str, IngestedUtterance] = {}
    failures: list[tuple[str, UserError]] = []
    n_reused = 0
    outcomes = map_items(
        ingest_pack,
        _jobs(reading, config.pack_size, store_folder, labels_folder, spec),
        label="Ingest",
        unit="pack",
        parallel=parallel,
        shared=(store_folder, labels_folder),
        sources=(root, root / Path(config.alignments).expanduser())
        if config.alignments
        else (root,),
    )
    for _, outcome in outcomes:
        if isinstance(outcome, Failure):
            raise outcome.error  # what is wrong with an utterance is in the pack's own list
        failures += outcome.failures
        _report(outcome)
        done |= {one.recording_id: one for one in outcome.utterances}
        n_reused += len(outcome.utterances) if outcome.reused else 0
    keep = {one.pack for one in done.values()}
    remove_label_packs(labels_folder, keep)
    FrameStore.create(store_folder, spec).remove_packs(keep)
    return done, failures, n_reused


def _jobs(
    reading: CorpusReading, pack_size: int, store_folder: Path, labels_folder: Path, spec: MfccSpec
) -> list[PackJob]:
    # By id: the packs stay what they are when lists are sorted otherwise or splits drawn anew.
    utterances = sorted(reading.utterances, key=lambda one: one.recording_id)
    groups = [utterances[at : at + pack_size] for at in range(0, len(utterances), pack_size)]
    return [
        PackJob(
            f"pack-{number:05d}", tuple(group), store_folder, labels_folder, spec, reading.classes
        )
        for number, group in enumerate(groups)
    ]


def _report(pack: IngestedPack) -> None:
    for name, error in pack.failures:
        logger.warning("Quarantined %s: %s", name, error)
    for one in () if pack.reused else pack.utterances:
        for warning in one.warnings:
            logger.warning("%s: %s", one.recording_id, warning)


def _require_course_features(spec: MfccSpec) -> None:
    """Refuse features that the published tensors do not have: they are taken as they are."""
    published = MfccSpec().model_dump()
    other = [
        f"{name}={value} (they have {published[name]})"
        for name, value in spec.model_dump().items()
        if value != published[name]
    ]
    if other:
        raise ConfigError(
            "features",
            f"the tensors of layout libriphone are taken as they are, not with {', '.join(other)}",
            "Leave these at their defaults, or ingest audio: librispeech.layout=librispeech",
        )


def _manifest(reading: CorpusReading, done: dict[str, IngestedUtterance]) -> pd.DataFrame:
    import pandas as pd

    kept = sorted(
        (one for one in reading.utterances if one.recording_id in done),
        key=lambda one: one.recording_id,
    )
    position = list_positions(reading)
    stored = [done[one.recording_id] for one in kept]
    is_tensor = bool(kept) and kept[0].feature_path is not None
    hashes = [one.content_sha256 for one in stored]
    if is_tensor:
        source = {"feature_path": [str(u.feature_path) for u in kept], "feature_sha256": hashes}
    else:
        source = {
            "audio_path": [str(u.audio_path) for u in kept],
            "audio_sha256": hashes,
            "alignment_path": [str(u.alignment_path or "") for u in kept],
        }
    return pd.DataFrame(
        {
            "recording_id": [one.recording_id for one in kept],
            "split": [one.split for one in kept],
            "duration_s": [one.duration_s for one in stored],
            **source,
            "label_sha256": [one.label_sha256 for one in stored],
            "speaker": [one.speaker for one in kept],
            "chapter": [one.chapter for one in kept],
            "n_frames": [one.n_frames for one in stored],
            "pack": [one.pack for one in stored],
            "has_labels": [bool(one.label_sha256) for one in stored],
            "list_position": [position[one.recording_id] for one in kept],
            "warnings": ["; ".join(one.warnings) for one in stored],
        }
    )


def _check_manifest(
    manifest: pd.DataFrame, root: Path, reading: CorpusReading, config: LibrispeechConfig
) -> None:
    validate_manifest(manifest, where=root)
    if config.split.by == "speaker" and reading.drawn:
        drawn = manifest[manifest["split"].isin(reading.drawn)]
        validate_manifest(drawn, where=root, allow_shared_speakers=False)
    lacking = [name for name in ("train", "validation") if name not in set(manifest["split"])]
    if lacking:
        problem = f"no utterance for {' and '.join(lacking)} can be used"
        raise CorpusError(root, problem, "The log says what is wrong with each")
    both = shared_speakers(manifest, "train", "test")
    if both:
        logger.warning(
            "%d speakers are in training and in test, so test says little about unknown voices: %s",
            len(both), name_some(both),
        )  # fmt: skip
