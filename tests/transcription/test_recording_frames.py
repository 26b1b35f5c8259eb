"""Frames of a recording: the same from audio as from the store, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.audio.io import read_audio
from amt_pipeline.core.errors import AudioError, StorageError, StoreError
from amt_pipeline.features.extract import extract_frames
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.recording_frames import audio_frames, stored_frames

NOTES = Notes.from_arrays([0.2, 0.7], [0.6, 1.1], [60, 64])


def test_audio_becomes_frames_in_a_file_of_their_own(
    tmp_path: Path, tones: Callable[..., None], spec: FeatureSpec
) -> None:
    tones(tmp_path / "own.flac", NOTES, 1.5)
    with audio_frames(tmp_path / "own.flac", spec, tmp_path / "out") as recording:
        assert isinstance(recording.frames, np.memmap)
        assert Path(str(recording.frames.filename)).is_relative_to(tmp_path / "out")
        samples = read_audio(tmp_path / "own.flac", sample_rate=16000).samples
        np.testing.assert_array_equal(recording.frames, extract_frames(samples, spec))
        largest = recording.frames.max(axis=(0, 1)).astype(np.float32)
        assert recording.peak.tolist() == largest.tolist()
        assert recording.duration_s == pytest.approx(1.5)
        assert recording.warnings == ()
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_left_when_the_work_or_the_audio_fails(
    tmp_path: Path, tones: Callable[..., None], spec: FeatureSpec
) -> None:
    tones(tmp_path / "own.flac", NOTES, 0.5)
    with (
        pytest.raises(ZeroDivisionError),
        audio_frames(tmp_path / "own.flac", spec, tmp_path / "out"),
    ):
        raise ZeroDivisionError
    (tmp_path / "text.flac").write_text("no music")
    with (
        pytest.raises(AudioError, match="not audio"),
        audio_frames(tmp_path / "text.flac", spec, tmp_path / "out"),
    ):
        pass
    assert list((tmp_path / "out").iterdir()) == []


def test_place_that_cannot_be_written_is_named(
    tmp_path: Path, tones: Callable[..., None], spec: FeatureSpec
) -> None:
    tones(tmp_path / "own.flac", NOTES, 0.5)
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="file"),
        audio_frames(tmp_path / "own.flac", spec, tmp_path / "file" / "out"),
    ):
        pass


def test_stored_frames_come_with_their_peak(frame_corpus: Any) -> None:
    store = FrameStore.open(frame_corpus.store_folder)
    recording = stored_frames(store, "piece-2")
    np.testing.assert_array_equal(recording.frames, frame_corpus.frames["piece-2"])
    largest = frame_corpus.frames["piece-2"].max(axis=(0, 1)).astype(np.float32)
    assert recording.peak.tolist() == largest.tolist()
    assert recording.duration_s == pytest.approx(6.0)
    with pytest.raises(StoreError, match="is not in the store"):
        stored_frames(store, "nobody")
