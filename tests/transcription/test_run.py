"""Many recordings: a split, files, what fails, how many processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.errors import (
    CheckpointError,
    CorpusError,
    MissingPredecessorError,
    StoreError,
    UserError,
)
from amt_pipeline.core.files import TEMPORARY_PREFIX
from amt_pipeline.core.parallel import ParallelConfig
from amt_pipeline.ranking.rank import BEST_FILE
from amt_pipeline.training.checkpoints import copy_checkpoint, list_checkpoints
from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.note_files import read_notes, write_res
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.parameters import ScoringConfig
from amt_pipeline.transcription.run import (
    audio_files,
    remove_others,
    run_jobs,
    share_of,
    transcribe_files,
    transcribe_split,
)
from amt_pipeline.transcription.scoring import score_notes
from amt_pipeline.transcription.split_scoring import score_split
from amt_pipeline.transcription.transcribe import TranscriptionConfig

CONFIG = TranscriptionConfig(device="cpu")
THRESHOLDS = {"onset": 0.5, "pitch": 0.4, "validation_f1": 0.9}
PIECES = ["piece-3", "piece-2"]


@pytest.fixture
def folders(models_folder: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "models_folder": models_folder,
        "out_folder": tmp_path / "out",
        "thresholds": THRESHOLDS,
        "config": CONFIG,
        "parallel": ParallelConfig(workers=1),
    }


@pytest.fixture
def split(folders: dict[str, Any], frame_corpus: Any) -> Callable[..., Any]:
    def run(recordings: list[str] = PIECES, **changes: Any) -> Any:
        store = frame_corpus.store_folder
        return transcribe_split(recordings, store_folder=store, **{**folders, **changes})

    return run


def test_split_is_transcribed_in_its_order(split: Callable[..., Any], tmp_path: Path) -> None:
    outcome = split()
    assert list(outcome.transcripts) == PIECES
    assert not outcome.failures
    rows = outcome.index()["recordings"]
    assert [row["recording_id"] for row in rows] == PIECES
    for row in rows:
        found = read_notes(tmp_path / "out" / f"{row['recording_id']}.res")
        assert row["n_notes"] == len(found) > 0
        assert row["duration_s"] == pytest.approx(6.0)
    assert all(transcript.reused for transcript in split().transcripts.values())
    assert split([]).index() == {"recordings": [], "failed": {}}


def test_log_tells_new_work_from_old(
    split: Callable[..., Any], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("INFO", "amt_pipeline.transcription.run")
    split(["piece-3"])
    split()
    split()
    with pytest.raises(StoreError):
        split([*PIECES, "nobody"])
    counts = [line.removeprefix(f"{tmp_path / 'out'}: ") for line in caplog.messages]
    assert counts[:3] == [
        "1 recordings transcribed, 0 up to date",
        "1 recordings transcribed, 1 up to date",
        "0 recordings transcribed, 2 up to date",
    ]
    assert counts[-1] == "0 recordings transcribed, 2 up to date, 1 failed"


def test_split_must_be_whole(split: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nobody\.npy: is not in the store"):
        split(["piece-3", "nobody"])
    assert (tmp_path / "out" / "piece-3.res").is_file()


def test_number_of_processes_does_not_matter(split: Callable[..., Any], tmp_path: Path) -> None:
    split()
    outcome = split(out_folder=tmp_path / "two", parallel=ParallelConfig(workers=2))
    assert not any(transcript.reused for transcript in outcome.transcripts.values())
    for name in PIECES:
        for suffix in (".res", ".mid"):
            one, other = (tmp_path / where / f"{name}{suffix}" for where in ("out", "two"))
            assert one.read_bytes() == other.read_bytes()


def test_leftovers_of_a_killed_run_are_removed(split: Callable[..., Any], tmp_path: Path) -> None:
    left = tmp_path / "out" / f"{TEMPORARY_PREFIX}killed"
    left.mkdir(parents=True)
    (left / "frames.npy").write_bytes(b"half")
    assert list(split(["piece-2"]).transcripts) == ["piece-2"]
    assert not left.exists()
    assert (tmp_path / "out" / "piece-2.res").is_file()


def test_networks_replaced_between_two_pieces_are_refused(
    split: Callable[..., Any], models_folder: Path, trained_models: Path, tmp_path: Path
) -> None:
    thresholds = {**THRESHOLDS, "model": ModelFolder.open(models_folder).key}
    assert list(split(["piece-3"], thresholds=thresholds).transcripts) == ["piece-3"]
    first = list_checkpoints(trained_models / "onset")[0]
    copy_checkpoint(first, models_folder / "onset" / "best", {BEST_FILE: {"threshold": 0.4}})
    with pytest.raises(CheckpointError, match="changed while it was used"):
        split(thresholds=thresholds)
    assert not (tmp_path / "out" / "piece-2.res").exists()


def test_results_of_a_former_split_go_even_if_we_are_killed_meanwhile(
    split: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split()
    unlink, left = Path.unlink, [1]

    def killed_later(path: Path, missing_ok: bool = False) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", killed_later)
    with pytest.raises(KeyboardInterrupt):
        remove_others(tmp_path / "out", ["piece-3"])
    monkeypatch.undo()
    assert remove_others(tmp_path / "out", ["piece-3"]) == ["piece-2"]
    assert not list((tmp_path / "out").rglob("piece-2*"))


def test_processes_are_started_only_where_they_gain() -> None:
    two = ParallelConfig(workers=2)
    assert share_of(two, CONFIG, 1) == ParallelConfig(workers=1)
    assert share_of(two, CONFIG, 9) == two
    cluster = ParallelConfig(backend="dask")
    assert share_of(cluster, CONFIG, 1) == cluster
    assert not run_jobs([]).transcripts


def test_file_that_cannot_be_read_does_not_stop_the_others(
    folders: dict[str, Any],
    tones: Callable[..., None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    music = tmp_path / "music"
    (music / "more").mkdir(parents=True)
    notes = Notes.from_arrays([0.2], [0.6], [60])
    tones(music / "a piece.wav", notes, 1.0)
    tones(music / "more" / "a piece.flac", Notes.empty(), 1.0)
    (music / "broken.ogg").write_bytes(b"OggS")
    (music / "notes.txt").write_text("no audio")
    (music / ".hidden.wav").write_bytes(b"")
    found = audio_files(music)
    assert [str(path.relative_to(music)) for path in found] == [
        "a piece.wav",
        "broken.ogg",
        "more/a piece.flac",
    ]
    outcome = transcribe_files(found, **folders)
    index = outcome.index()
    assert list(index["failed"]) == ["broken"]
    assert "broken.ogg: " in index["failed"]["broken"]
    assert "Not transcribed: " in caplog.text
    assert "a piece.flac: silent" in caplog.text
    names = [row["recording_id"] for row in index["recordings"]]
    # Two files of one name are told apart.
    assert len(set(names)) == 2
    assert all(name.startswith("a_piece-") for name in names)
    assert all((tmp_path / "out" / f"{name}.mid").is_file() for name in names)


def test_folder_without_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        audio_files(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"holds no audio\. Known are \.wav, \.flac"):
        audio_files(tmp_path)


def test_split_is_scored_against_the_notes_of_the_corpus(
    split: Callable[..., Any], frame_corpus: Any, tmp_path: Path
) -> None:
    split()
    config = ScoringConfig(onset_tolerance_s=0.03)
    table, summary = score_split(tmp_path / "out", frame_corpus.notes_folder, PIECES, config)
    assert table["recording_id"].tolist() == PIECES
    for row in table.itertuples():
        found = read_notes(tmp_path / "out" / f"{row.recording_id}.res")
        truth = frame_corpus.notes[row.recording_id]
        wanted = score_notes(truth, found, onset_tolerance_s=0.03)
        assert (row.precision, row.recall, row.f1) == (wanted.precision, wanted.recall, wanted.f1)
    assert summary["onset/f1"] == pytest.approx(np.mean(table["f1"]))
    assert summary["onset/f1_low"] <= summary["onset/f1"] <= summary["onset/f1_high"]


def test_pieces_without_transcription_are_counted_and_named(
    frame_corpus: Any, tmp_path: Path
) -> None:
    write_res(tmp_path / "piece-2.res", Notes.empty())
    with pytest.raises(MissingPredecessorError) as missing:
        score_split(tmp_path, frame_corpus.notes_folder, [*PIECES, "piece-0"], ScoringConfig())
    assert "lacks the transcription of 2 test pieces (piece-3, piece-0)" in str(missing.value)
    assert "kedro run --pipelines transcribe" in missing.value.remedy
    with pytest.raises(UserError, match="there is no piece to score"):
        score_split(tmp_path, frame_corpus.notes_folder, [], ScoringConfig())
