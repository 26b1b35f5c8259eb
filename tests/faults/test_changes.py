"""Files that change under a run, and clocks that jump: nothing stale is taken, nothing mixed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.errors import CheckpointError, CorpusError, StoreError
from amt_pipeline.core.files import (
    atomic_folder,
    atomic_path,
    read_json,
    remove_folder,
    remove_leftovers,
)
from amt_pipeline.ranking.evaluate import evaluate_checkpoints
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.training.checkpoints import (
    checkpoint_folder,
    copy_checkpoint,
    list_checkpoints,
    load_weights,
    verify_checkpoint,
)
from amt_pipeline.training.loop import train
from amt_pipeline.training.run import MOVING_FILE, find_resume_point, set_aside
from amt_pipeline.transcription import ingest
from engine_support import SPEC, SyntheticTask, fill_store, weights

MakeTask = Callable[..., Any]


def test_frames_ingested_again_under_a_training_end_it(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    fill_store(folder)
    task = SyntheticTask(folder)
    # Other frames of the same size: only that the file is another one tells them.
    task.before_step = lambda step: fill_store(folder, "second") if step == 0 else None
    with pytest.raises(StoreError, match=r"changed while it was used.*ingestion is done"):
        train(task, tmp_path / "run")
    assert list_checkpoints(tmp_path / "run") == []


def test_frames_opened_before_stay_what_they_were(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    fill_store(folder)
    task = SyntheticTask(folder)
    calm = task.training_batch(task.training_windows(0), 0).inputs[0]
    fill_store(folder, "second")
    assert np.array_equal(task.training_batch(task.training_windows(0), 0).inputs[0], calm)
    other = SyntheticTask(folder)
    assert other.fingerprint() != task.fingerprint()
    assert not np.array_equal(other.training_batch(other.training_windows(0), 0).inputs[0], calm)


@pytest.fixture
def run(make_task: MakeTask, tmp_path: Path) -> Path:
    train(make_task(), tmp_path / "run")
    return tmp_path / "run"


def test_weights_replaced_between_check_and_use_are_refused(
    run: Path, make_task: MakeTask, tmp_path: Path
) -> None:
    first, second = (checkpoint_folder(run, step) for step in (4, 8))
    known = verify_checkpoint(first)["model.safetensors"]
    network = make_task().build_network()
    load_weights(first, network, known)
    with pytest.raises(CheckpointError, match="changed while it was used"):
        load_weights(second, network, known)
    loaded = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    assert all(np.array_equal(loaded[name], own) for name, own in weights(first).items())


def test_ranking_does_not_keep_scores_of_replaced_weights(
    run: Path, make_task: MakeTask, tmp_path: Path
) -> None:
    task, paths = make_task(), list_checkpoints(run)[:2]
    build = task.build_network

    def replace_and_build() -> Any:
        shutil.rmtree(paths[0])
        shutil.copytree(paths[1], paths[0])
        return build()

    task.build_network = replace_and_build
    with pytest.raises(CheckpointError, match="changed while it was used"):
        list(evaluate_checkpoints(task, paths, "validation", tmp_path / "cache", {}))
    assert not (tmp_path / "cache").exists()


def test_chosen_checkpoint_replaced_while_it_is_copied_is_refused(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = checkpoint_folder(run, 4), checkpoint_folder(run, 8)
    monkeypatch.setattr(
        shutil, "copyfile", lambda _, to: to.write_bytes((other / to.name).read_bytes())
    )
    with pytest.raises(CheckpointError, match="changed while it was used"):
        copy_checkpoint(source, tmp_path / "best", {})
    assert not (tmp_path / "best").exists()


def test_former_run_half_moved_is_moved_on(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sorted(path.name for path in run.iterdir())
    move, moved = shutil.move, []

    def move_three(source: Path, target: Path) -> None:
        if len(moved) == 3:
            raise KeyboardInterrupt
        moved.append(source)
        move(source, target)

    monkeypatch.setattr(shutil, "move", move_three)
    with pytest.raises(KeyboardInterrupt):
        set_aside(run)
    monkeypatch.undo()
    assert (run / MOVING_FILE).is_file()
    assert find_resume_point(run, identity={"other": 1}, total_steps=4) is None
    assert sorted(path.name for path in (run / "previous" / "001").iterdir()) == whole
    assert [path.name for path in run.iterdir()] == ["previous"]


def test_checkpoints_beyond_keep_are_removed_after_a_kill(
    make_task: MakeTask, run: Path, tmp_path: Path
) -> None:
    # As a run leaves them that was killed after its last save, before the old ones went.
    assert len(list_checkpoints(run)) == 4
    assert train(make_task(keep=2), run).checkpoints == ["step-0000012", "step-0000016"]


def test_leftovers_go_and_work_in_progress_stays(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / ".tmp-notes-1.parquet").write_bytes(b"half")
    (tmp_path / ".tmp-step-1").mkdir()
    (tmp_path / ".tmp-step-1" / "model.safetensors").write_bytes(b"half")
    with atomic_path(tmp_path / "deep" / "a.txt") as file, atomic_folder(tmp_path / "b") as folder:
        file.write_text("whole")
        (folder / "c.txt").write_text("whole")
        remove_leftovers(tmp_path, deep=True)
        assert {p.name for p in tmp_path.glob(".tmp-*")} == {folder.parent.name}
        assert {p.name for p in (tmp_path / "deep").glob(".tmp-*")} == {file.name}
    assert (tmp_path / "deep" / "a.txt").read_text() == "whole"
    assert (tmp_path / "b" / "c.txt").read_text() == "whole"
    remove_folder(tmp_path / "b")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.txt", "deep"]


@pytest.fixture
def job(tmp_path: Path) -> ingest.IngestJob:
    """A recording of noise with a note, and where it is ingested to."""
    from amt_pipeline.transcription.note_files import write_midi
    from amt_pipeline.transcription.notes import Notes

    write_noise(tmp_path / "a.wav", 1)
    write_midi(tmp_path / "a.midi", Notes.from_arrays([0.1], [0.5], [60]))
    row = {"recording_id": "a", "audio_path": str(tmp_path / "a.wav"), "duration_s": 1.0}
    row["midi_path"] = str(tmp_path / "a.midi")
    return ingest.IngestJob(row, tmp_path / "frames", tmp_path / "notes", SPEC, "sustain")


def write_noise(path: Path, seed: int) -> None:
    """Write a second of noise; every seed makes a file of the same size."""
    import soundfile

    sound = 0.1 * np.random.default_rng(seed).standard_normal(SPEC.sample_rate)
    soundfile.write(path, sound, SPEC.sample_rate)


def frames_of(job: ingest.IngestJob) -> Any:
    return np.array(FrameStore.open(job.store_folder, SPEC).frames("a"))


def test_audio_rewritten_while_it_is_read_is_refused(
    job: ingest.IngestJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio, read = Path(job.row["audio_path"]), ingest.extract_blocks

    def rewrite(*arguments: Any) -> Iterator[Any]:
        yield from read(*arguments)
        write_noise(audio, 2)

    monkeypatch.setattr(ingest, "extract_blocks", rewrite)
    with pytest.raises(CorpusError, match=r"a\.wav: changed while it was read"):
        ingest.ingest_recording(job)
    monkeypatch.undo()
    assert not ingest.ingest_recording(job).reused
    first = frames_of(job)
    write_noise(audio, 1)
    ingest.ingest_recording(job)
    assert not np.array_equal(frames_of(job), first)


@pytest.mark.parametrize("jump_s", [-10 * 365 * 86400.0, 10 * 365 * 86400.0])
def test_nothing_stale_is_reused_when_the_clock_jumps(
    job: ingest.IngestJob, jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio, now_s = Path(job.row["audio_path"]), time.time()
    os.utime(audio, (now_s + jump_s,) * 2)
    ingest.ingest_recording(job)
    before = frames_of(job)
    monkeypatch.setattr(time, "time", lambda: now_s + jump_s)
    assert ingest.ingest_recording(job).reused
    # Another sound of the same length, with the time of the former one.
    stat = audio.stat()
    write_noise(audio, 2)
    os.utime(audio, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert audio.stat().st_size == stat.st_size
    assert not ingest.ingest_recording(job).reused
    assert not np.array_equal(frames_of(job), before)


@pytest.mark.parametrize("jump_s", [-1e9, 1e9])
def test_training_goes_on_whatever_the_clock_says(
    make_task: MakeTask, run: Path, tmp_path: Path, jump_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "jumping"
    train(make_task(epochs=2), folder)
    now, monotonic = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: now() + jump_s)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + jump_s)
    for path in folder.rglob("*"):
        os.utime(path, (now() - jump_s,) * 2)
    taken: list[int] = []
    task = make_task()
    task.before_step = taken.append
    train(task, folder)
    assert taken[0] == 8
    names = [checkpoint_folder(root, 16) / "files.json" for root in (folder, run)]
    assert read_json(names[0]) == read_json(names[1])
