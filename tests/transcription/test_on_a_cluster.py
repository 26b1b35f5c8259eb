"""The same files and numbers from a Dask cluster as from this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.transcription.joint import tune_thresholds
from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.parameters import ScoringConfig
from amt_pipeline.transcription.run import transcribe_folder, transcribe_split
from amt_pipeline.transcription.split_scoring import score_split
from amt_pipeline.transcription.transcribe import TranscriptionConfig

INLINE = ParallelConfig(workers=1)
CONFIG = TranscriptionConfig(device="cpu")


@pytest.fixture
def cluster(dask_cluster: Any) -> ParallelConfig:
    return ParallelConfig(backend="dask", scheduler=dask_cluster.scheduler_address)


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder, leftovers of any kind included."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_ingestion(
    make_corpus: Callable[..., Path],
    ingest: Callable[..., Any],
    cluster: ParallelConfig,
    tmp_path: Path,
) -> None:
    root = make_corpus(pieces=6, seconds=0.6)
    for number in (2, 4):
        (root / "2004" / f"piece-{number}.flac").write_bytes(b"")
    here = ingest(root, "here", max_bad_fraction=0.5)
    there = ingest(root, "there", parallel=cluster, max_bad_fraction=0.5)
    assert len(contents(tmp_path / "here")) > 12
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert there.manifest.equals(here.manifest)
    assert there.quarantine.equals(here.quarantine)
    assert len(there.quarantine) == 2
    assert there.summary == here.summary


def test_transcription_tuning_and_scoring(
    models_folder: Path,
    frame_corpus: Any,
    tones: Callable[..., None],
    cluster: ParallelConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # workers are elsewhere
    places = {
        "store_folder": frame_corpus.store_folder,
        "notes_folder": frame_corpus.notes_folder,
    }
    pieces = ["piece-3", "piece-2"]
    (tmp_path / "music").mkdir()
    tones(tmp_path / "music" / "a.flac", frame_corpus.notes["piece-2"], 2.0)
    results = {}
    for name, parallel in (("here", INLINE), ("there", cluster)):
        common: Any = {"config": CONFIG, "parallel": parallel}
        joint = tune_thresholds(ModelFolder.open(models_folder), pieces, **places, **common)
        common |= {"models_folder": models_folder, "thresholds": joint}
        store = {"store_folder": frame_corpus.store_folder, "out_folder": tmp_path / name}
        index = transcribe_split(pieces, **store, **common).index()
        audio = transcribe_folder(
            Path("music"), out_folder=tmp_path / name / "audio", **common
        ).index()
        table, summary = score_split(
            tmp_path / name, frame_corpus.notes_folder, pieces, ScoringConfig(), parallel
        )
        results[name] = joint, index, audio, table.to_dict(), summary
    assert results["there"] == results["here"]
    assert len(results["here"][1]["recordings"]) == 2
    assert len(results["here"][2]["recordings"]) == 1
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
