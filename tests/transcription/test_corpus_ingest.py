"""A corpus: manifest, quarantine, what a second run does, every kind of bad file at once."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from amt_pipeline.core.errors import CorpusError, StorageError
from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.store.manifest import QUARANTINE_COLUMNS
from amt_pipeline.transcription.corpus_ingest import CorpusIngestion
from amt_pipeline.transcription.note_files import write_midi
from amt_pipeline.transcription.note_table import read_note_table
from amt_pipeline.transcription.notes import Notes

Ingest = Callable[..., CorpusIngestion]
Make = Callable[..., Path]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_corpus_becomes_manifest_frames_and_notes(
    make_corpus: Make,
    ingest: Ingest,
    tmp_path: Path,
    spec: FeatureSpec,
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = make_corpus(pieces=3, seconds=1.0)
    (root / "cover.ogg").write_bytes(b"not listed")
    done = ingest(root)
    assert "1 audio files" in caplog.text
    assert "are not in the index and are left out: cover.ogg" in caplog.text
    table = done.manifest.set_index("recording_id")
    assert table.index.tolist() == ["piece-0", "piece-1", "piece-2"]
    assert table["split"].tolist() == ["train", "validation", "test"]
    store = FrameStore.open(tmp_path / "data" / "frames", spec)
    for name, row in table.iterrows():
        assert row["audio_sha256"] == file_sha256(row["audio_path"])
        assert row["midi_sha256"] == file_sha256(row["midi_path"])
        assert row["n_frames"] == len(store.frames(name)) == 63
        assert row["n_notes"] == len(read_note_table(tmp_path / "data/notes" / f"{name}.parquet"))
        assert (row["duration_s"], row["warnings"]) == (1.0, "")
    assert done.quarantine.empty
    assert tuple(done.quarantine.columns) == QUARANTINE_COLUMNS
    assert done.summary["recordings"] == 3
    assert done.summary["splits"] == {"test": 1, "train": 1, "validation": 1}
    assert done.summary["hours"] == pytest.approx(3 / 3600)
    assert (done.summary["frames"], done.summary["notes"]) == (189, table["n_notes"].sum())
    assert (done.summary["corpus"], done.summary["pedal"]) == ("maestro", "sustain")
    assert FeatureSpec.model_validate(done.summary["features"]) == spec


def test_second_run_does_only_what_changed(
    make_corpus: Make, ingest: Ingest, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO)
    root = make_corpus(pieces=3, seconds=1.0)
    first = ingest(root)
    assert "3 recordings" in caplog.text
    assert "0 unchanged, 0 quarantined" in caplog.text
    before = files(tmp_path / "data")
    again = ingest(root)
    assert "3 unchanged" in caplog.text
    assert files(tmp_path / "data") == before
    assert again.manifest.equals(first.manifest)
    assert again.summary == first.summary
    write_midi(root / "2004" / "piece-1.midi", Notes.from_arrays([0.25], [0.5], [60]))
    changed = ingest(root)
    assert "2 unchanged" in caplog.text
    assert changed.summary["fingerprint"] != first.summary["fingerprint"]
    after = files(tmp_path / "data")
    assert {name for name in after if after[name] != before[name]} == {
        "notes/piece-1.parquet",
        "notes/piece-1.json",
    }


def test_number_of_workers_does_not_matter(
    make_corpus: Make, ingest: Ingest, tmp_path: Path
) -> None:
    root = make_corpus(pieces=4, seconds=0.6, splits=("train", "validation"))
    one, two = ingest(root, "one"), ingest(root, "two", parallel=ParallelConfig(workers=2))
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert one.manifest.equals(two.manifest)
    assert one.summary == two.summary


def test_too_many_bad_recordings_stop_the_run_but_lose_nothing(
    make_corpus: Make, ingest: Ingest, tmp_path: Path, spec: FeatureSpec
) -> None:
    root = make_corpus(pieces=4, seconds=0.5)
    good = (root / "2004" / "piece-2.flac").read_bytes()
    (root / "2004" / "piece-2.flac").write_bytes(b"")
    with pytest.raises(CorpusError) as refused:
        ingest(root, max_bad_fraction=0.24)
    assert "1 of 4 recordings cannot be used, at most 24.0% may" in str(refused.value)
    assert "piece-2.flac: empty file" in str(refused.value)
    assert len(ingest(root, max_bad_fraction=0.25).manifest) == 3
    store = FrameStore.open(tmp_path / "data" / "frames", spec)
    before = store.folder.joinpath("recordings", "piece-0.npy").stat().st_mtime_ns
    (root / "2004" / "piece-2.flac").write_bytes(good)
    assert len(ingest(root).manifest) == 4
    assert store.folder.joinpath("recordings", "piece-0.npy").stat().st_mtime_ns == before


def test_missing_files_are_refused_or_quarantined(make_corpus: Make, ingest: Ingest) -> None:
    root = make_corpus(pieces=3, seconds=0.5)
    (root / "2004" / "piece-1.flac").unlink()
    with pytest.raises(CorpusError, match="1 of 3 recordings lack a file"):
        ingest(root)
    done = ingest(root, missing="quarantine", max_bad_fraction=0.5)
    assert done.quarantine["recording_id"].tolist() == ["piece-1"]
    assert len(done.manifest) == 2
    with pytest.raises(CorpusError, match="1 of 3 recordings cannot be used"):
        ingest(root, missing="quarantine")


def test_one_recording_under_two_names_in_two_splits_is_leakage(
    make_corpus: Make, ingest: Ingest
) -> None:
    root = make_corpus(pieces=3, seconds=0.5)
    for suffix in ("flac", "midi"):
        shutil.copy(root / "2004" / f"piece-0.{suffix}", root / "2004" / f"piece-2.{suffix}")
    with pytest.raises(CorpusError, match="the same audio_sha256 in two splits") as refused:
        ingest(root)
    assert "train (piece-0), test (piece-2)" in str(refused.value)


def test_corpus_that_is_not_there_is_refused(tmp_path: Path, ingest: Ingest) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        ingest(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="the folder is empty"):
        ingest(tmp_path / "empty")


def test_disk_that_refuses_stops_the_run(make_corpus: Make, ingest: Ingest, tmp_path: Path) -> None:
    root = make_corpus(pieces=3, seconds=0.5)
    ingest(root)
    shutil.rmtree(tmp_path / "data" / "frames" / "recordings")
    (tmp_path / "data" / "frames" / "recordings").write_text("in the way")
    with pytest.raises(StorageError, match="recordings"):
        ingest(root)
    with pytest.raises(StorageError):
        ingest(root, into="data/frames/recordings/below")


def test_notes_folder_that_cannot_be_made_is_named(
    make_corpus: Make, ingest: Ingest, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes").write_text("in the way")
    with pytest.raises(StorageError, match="data/notes/"):
        ingest(make_corpus(pieces=1, seconds=1.0))
