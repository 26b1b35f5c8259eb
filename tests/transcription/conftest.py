"""Small corpora and small trained networks for the tests of the transcription system."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.ranking.rank import BEST_FILE
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.training.checkpoints import copy_checkpoint, list_checkpoints
from amt_pipeline.training.loop import train
from amt_pipeline.transcription.corpus_ingest import CorpusIngestion, ingest_corpus
from amt_pipeline.transcription.ingest import IngestConfig
from amt_pipeline.transcription.metadata import COLUMNS
from amt_pipeline.transcription.note_files import write_midi
from amt_pipeline.transcription.note_table import write_note_table
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.task_config import FrameTaskConfig
from amt_pipeline.transcription.tasks import FrameTask

INLINE = ParallelConfig(workers=1)
RATE_HZ = 16000
SPLITS = ("train", "train", "validation", "test")

# One bin per semitone and 62.5 frames per second: everything is small, nothing is special.
SPEC = FeatureSpec(sample_rate=RATE_HZ, hop_samples=256, bins=88, bins_per_octave=12)

MODELS: dict[str, dict[str, Any]] = {
    "onset": {
        "kind": "onset",
        "label_frames": 31,
        "channels": (8, 16),
        "dense_units": 32,
        "recurrent_units": 16,
        "prior": 0.2,
    },
    "pitch": {"kind": "harmonic", "label_frames": 31, "channels": (4, 8), "prior": 0.02},
}


@dataclass
class FrameCorpus:
    """Frames and note tables on disk, without audio."""

    store_folder: Path
    notes_folder: Path
    notes: dict[str, Notes]
    frames: dict[str, np.ndarray]
    splits: dict[str, list[str]] = field(default_factory=dict)


def random_notes(rng: np.random.Generator, seconds: float, count: int) -> Notes:
    onset_s = np.sort(rng.uniform(0.1, seconds - 0.3, count))
    return Notes.from_arrays(onset_s, onset_s + 0.3, rng.integers(33, 85, count))


def frames_of(notes: Notes, n_frames: int, spec: FeatureSpec = SPEC) -> np.ndarray:
    """Draw each note, soft or loud, as a decaying line in the bins of its key and its octave."""
    rng = np.random.default_rng(int(notes.pitch.sum()))
    frames = 0.005 * rng.random((n_frames, spec.bins, spec.channels), np.float32)
    for first, pitch in zip(spec.grid.frames_of(notes.onset_s), notes.pitch, strict=True):
        loudness = 10 ** rng.uniform(-1, 0)
        decay = np.exp(-np.arange(n_frames - first) / 12.0)[:, None]
        for above, level in ((0, loudness), (12, 0.5 * loudness)):
            at = (int(pitch) - 21 + above) * spec.bins_per_octave // 12
            if at < spec.bins:
                frames[first:, at] += (level * decay).astype(np.float32)
    return frames.astype(spec.dtype)


def write_frame_corpus(
    folder: Path, *, seconds: float = 6.0, splits: Sequence[str] = SPLITS, spec: FeatureSpec = SPEC
) -> FrameCorpus:
    corpus = FrameCorpus(folder / "frames", folder / "notes", {}, {})
    store = FrameStore.create(corpus.store_folder, spec)
    for number, split in enumerate(splits):
        name = f"piece-{number}"
        notes = random_notes(np.random.default_rng(number), seconds, round(4 * seconds))
        frames = frames_of(notes, round(seconds / spec.grid.seconds_per_frame), spec)
        store.write(name, frames, f"content of {name}")
        write_note_table(corpus.notes_folder / f"{name}.parquet", notes)
        corpus.notes[name], corpus.frames[name] = notes, frames
        corpus.splits.setdefault(split, []).append(name)
    return corpus


def make_config(name: str, **changes: Any) -> FrameTaskConfig:
    """Return a small task; `changes` are blocks whose values replace the small ones."""
    blocks: dict[str, Any] = {
        "features": SPEC.model_dump(),
        "input": {"normalisation": "recording", "scale": "log"},
        "labels": {"widening": 1, "sampling": "runs", "end": "recording"},
        "model": MODELS[name],
        "training": {
            "epochs": 4,
            "batch_size": 4,
            "learning_rate": 0.01,
            "schedule": {"kind": "step", "decay_rate": 0.9, "decay_steps": 10},
            "dense_l2": 0.0,
            "save_every_steps": 1000,
            "threads": 1,
        },
        "augment": {},
        "evaluation": {},
    }
    for block, values in changes.items():
        blocks[block] = {**blocks[block], **values}
    return FrameTaskConfig.model_validate({"name": name, **blocks})


def make_task(
    config: FrameTaskConfig,
    corpus: FrameCorpus,
    fingerprint: str = "",
    records_folder: Path | None = None,
) -> FrameTask:
    return FrameTask(
        config,
        store_folder=corpus.store_folder,
        notes_folder=corpus.notes_folder,
        splits=corpus.splits,
        data_fingerprint=fingerprint,
        records_folder=records_folder,
    )


def write_corpus(
    folder: Path,
    *,
    pieces: int = 3,
    seconds: float = 2.0,
    splits: Sequence[str] = ("train", "validation", "test"),
) -> Path:
    """Write a corpus in MAESTRO's layout: tones as FLAC, MIDI and the index."""
    (folder / "2004").mkdir(parents=True)
    rows = []
    for number in range(pieces):
        rng = np.random.default_rng(100 + number)
        notes = random_notes(rng, seconds, 6)
        write_midi(folder / "2004" / f"piece-{number}.midi", notes)
        write_tones(folder / "2004" / f"piece-{number}.flac", notes, seconds)
        names = (f"2004/piece-{number}.midi", f"2004/piece-{number}.flac")
        split = splits[number % len(splits)]
        rows.append(("C. Omposer", f"Piece {number}", split, 2004, *names, seconds))
    with (folder / "maestro-v3.0.0.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    return folder


def write_tones(path: Path, notes: Notes, seconds: float, rate_hz: int = RATE_HZ) -> None:
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    sound = np.zeros_like(time_s)
    for onset_s, pitch in zip(notes.onset_s, notes.pitch, strict=True):
        since_s = np.maximum(time_s - onset_s, 0.0)
        hz = 440.0 * 2 ** ((int(pitch) - 69) / 12)
        sound += np.sin(2 * np.pi * hz * since_s) * np.exp(-4 * since_s) * (time_s >= onset_s)
    soundfile.write(path, np.stack([0.15 * sound, 0.1 * sound], axis=1), rate_hz)


@pytest.fixture
def spec() -> FeatureSpec:
    """One bin per semitone, 62.5 frames per second."""
    return SPEC


@pytest.fixture(name="make_config")
def _make_config() -> Callable[..., FrameTaskConfig]:
    return make_config


@pytest.fixture(name="make_task")
def _make_task() -> Callable[..., FrameTask]:
    return make_task


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Writes a corpus of short tones with audio and MIDI."""

    def make(name: str = "maestro", **options: Any) -> Path:
        return write_corpus(tmp_path / name, **options)

    return make


@pytest.fixture
def ingest(tmp_path: Path) -> Callable[..., CorpusIngestion]:
    """Ingests a corpus into the test's folder, inline."""

    def run(
        root: Path, into: str = "data", parallel: ParallelConfig = INLINE, **settings: Any
    ) -> CorpusIngestion:
        return ingest_corpus(
            root,
            None,
            store_folder=tmp_path / into / "frames",
            notes_folder=tmp_path / into / "notes",
            spec=SPEC,
            config=IngestConfig.model_validate(settings),
            parallel=parallel,
        )

    return run


@pytest.fixture
def tones() -> Callable[..., None]:
    """Writes a sound file of decaying sines."""
    return write_tones


@pytest.fixture(scope="session")
def frame_corpus(tmp_path_factory: pytest.TempPathFactory) -> FrameCorpus:
    """Frames of four pieces; to be read only."""
    return write_frame_corpus(tmp_path_factory.mktemp("frame-corpus"))


@pytest.fixture
def make_frame_corpus(tmp_path: Path) -> Callable[..., FrameCorpus]:
    """Writes a corpus of frames of one's own."""

    def make(name: str = "corpus", **options: Any) -> FrameCorpus:
        return write_frame_corpus(tmp_path / name, **options)

    return make


@pytest.fixture(scope="session")
def trained_models(tmp_path_factory: pytest.TempPathFactory, frame_corpus: FrameCorpus) -> Path:
    """A models folder whose small networks learned the frames of `frame_corpus`; read only."""
    folder = tmp_path_factory.mktemp("models")
    for name, epochs in (("onset", 20), ("pitch", 10)):
        task = make_task(
            make_config(name, training={"epochs": epochs, "save_every_steps": 20}), frame_corpus
        )
        train(task, folder / name)
        newest = list_checkpoints(folder / name)[-1]
        copy_checkpoint(newest, folder / name / "best", {BEST_FILE: {"threshold": 0.4}})
    return folder


@pytest.fixture
def models_folder(tmp_path: Path, trained_models: Path) -> Path:
    """A copy of `trained_models` that a test may damage."""
    for name in ("onset", "pitch"):
        shutil.copytree(trained_models / name / "best", tmp_path / "models" / name / "best")
    return tmp_path / "models"
