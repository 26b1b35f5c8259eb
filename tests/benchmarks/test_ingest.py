"""What the ingestion benchmark compares does the same work."""

from __future__ import annotations

from pathlib import Path

import ingest
import numpy as np
import soundfile

from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.features.extract import extract_frames
from amt_pipeline.store.frames import FrameStore


def test_stored_frames_are_those_of_the_sound(tmp_path: Path) -> None:
    ingest.write_recording(tmp_path / "a", 3)
    assert ingest.ingest_work(tmp_path / "a", 3)() == 3.0
    stored = FrameStore.open(tmp_path / "a-stored" / "frames", ingest.SPEC).frames("piece")
    samples, rate = soundfile.read(tmp_path / "a.flac", dtype="float32")
    assert (rate, samples.shape) == (ingest.RATE, (3 * ingest.RATE, 2))
    assert np.abs(samples - ingest.synthetic_sound(3)).max() <= 1 / 32768
    assert np.array_equal(stored, extract_frames(samples, ingest.SPEC))
    assert ingest.floor_work(tmp_path / "a", 3)() == 3.0


def test_both_numbers_of_workers_store_the_same(tmp_path: Path) -> None:
    ingest.write_recording(tmp_path / "a", 2)
    stored = []
    for workers in (1, 2):
        assert ingest.workers_work(tmp_path / "a", 2, 3, workers)() == 6.0
        folder = tmp_path / f"a-stored-by-{workers}"
        files = [path for path in folder.rglob("*") if path.is_file()]
        stored.append({path.relative_to(folder): file_sha256(path) for path in files})
    assert len(stored[0]) == 13  # frames, entry, notes and facts of each; the specification
    assert stored[0] == stored[1]
