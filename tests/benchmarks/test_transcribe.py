"""The benchmark of transcription measures what a user would run, and one result on any threads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import transcribe
from transcribers import write_piece, write_transcriber

from amt_pipeline.transcription.transcribe import transcribe_recording


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A piece, and the transcriber of the cpu preset."""
    write_piece(tmp_path / "cpu.flac", 1.5)
    write_transcriber(tmp_path / "cpu", "cpu", {})
    return tmp_path


def test_threads_give_the_same_notes(folder: Path) -> None:
    audio = folder / "cpu.flac"
    threshold, seen, inside = transcribe.chosen_threshold(folder, "cpu", audio, 1.5)
    assert 0 < threshold < 1
    assert 0 < inside <= seen
    texts = []
    for threads in (1, 2):
        job = replace(transcribe.job_of(folder, "cpu", audio, threshold), threads=threads)
        transcribe_recording(job)
        texts.append((job.out_folder / "piece.res").read_bytes())
    assert texts[0] == texts[1]
    assert transcribe.transcription_work(folder, "cpu", audio, threshold, 1)() == pytest.approx(1.5)


def test_stages_are_all_there(folder: Path) -> None:
    spent = transcribe.stages(folder, "cpu", folder / "cpu.flac", 0.5)
    assert list(spent) == ["decoding and CQT", "pitch network", "onset network", "picking, files"]
    assert all(value >= 0 for value in spent.values())


def test_the_hour_is_transcribed_once(folder: Path) -> None:
    work = transcribe.once(folder, "cpu", folder / "cpu.flac", 0.5)
    assert [work(), work()] == [0.0, pytest.approx(1.5)]
