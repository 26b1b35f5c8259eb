"""One recording: what is stored, what is done again, what is refused."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.audio.io import read_audio
from amt_pipeline.core.errors import AudioError, CorpusError, MidiError, StorageError
from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.features import spec as spec_module
from amt_pipeline.features.extract import extract_blocks, extract_frames
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.transcription import ingest as ingest_module
from amt_pipeline.transcription.corpus import read_corpus
from amt_pipeline.transcription.ingest import IngestJob, ingest_recording
from amt_pipeline.transcription.midi_reading import read_midi_notes
from amt_pipeline.transcription.note_files import write_midi
from amt_pipeline.transcription.note_table import read_note_table
from amt_pipeline.transcription.notes import NOTE_COLUMNS, Notes


@pytest.fixture
def job(make_corpus: Callable[..., Path], tmp_path: Path, spec: FeatureSpec) -> IngestJob:
    row = read_corpus(make_corpus(seconds=1.0)).manifest.to_dict("records")[0]
    return IngestJob(row, tmp_path / "frames", tmp_path / "notes", spec, "sustain")


def audio(job: IngestJob) -> Path:
    return Path(job.row["audio_path"])


def midi(job: IngestJob) -> Path:
    return Path(job.row["midi_path"])


def results(job: IngestJob) -> dict[str, Path]:
    root = job.notes_folder.parent
    found = [p for folder in (job.store_folder, job.notes_folder) for p in folder.rglob("*")]
    return {str(path.relative_to(root)): path for path in found if path.is_file()}


def changed(job: IngestJob, act: Callable[[], Any]) -> set[str]:
    """Return which results an action writes, whether or not their content differs."""
    kept = job.notes_folder.parent / "kept"
    kept.mkdir()
    # A second name keeps the old file, so that a new one cannot be taken for it.
    before = {}
    for number, (name, path) in enumerate(results(job).items()):
        before[name] = kept / str(number)
        before[name].hardlink_to(path)
    act()
    after = results(job)
    written = {n for n, path in after.items() if n not in before or not path.samefile(before[n])}
    shutil.rmtree(kept)
    return written


FRAMES = {"frames/recordings/piece-0.npy", "frames/recordings/piece-0.json"}
NOTES = {"notes/piece-0.parquet", "notes/piece-0.json"}


def test_frames_and_notes_are_those_of_the_files(job: IngestJob, spec: FeatureSpec) -> None:
    done = ingest_recording(job)
    samples = read_audio(audio(job), sample_rate=16000).samples
    stored = FrameStore.open(job.store_folder, spec).frames("piece-0")
    assert np.array_equal(stored, extract_frames(samples, spec))
    found = read_note_table(job.notes_folder / "piece-0.parquet")
    truth = read_midi_notes(midi(job)).notes
    assert all(np.array_equal(getattr(found, n), getattr(truth, n)) for n in NOTE_COLUMNS)
    assert (done.recording_id, done.n_notes, done.n_frames) == ("piece-0", 6, 63)
    assert (done.duration_s, done.reused, done.warnings) == (1.0, False, ())
    assert done.audio_sha256 == file_sha256(audio(job))
    assert done.midi_sha256 == file_sha256(midi(job))


def test_current_recording_is_not_done_again(job: IngestJob) -> None:
    first = ingest_recording(job)
    again = []
    assert changed(job, lambda: again.append(ingest_recording(job))) == set()
    assert again == [replace(first, reused=True)]


def test_touched_files_with_the_same_content_are_not_done_again(job: IngestJob) -> None:
    ingest_recording(job)
    for path in (audio(job), midi(job)):
        os.utime(path, (1, 1))
    again = []
    # Only the times are noted, so that the next run need not look into the files again.
    noted = {"frames/recordings/piece-0.json", "notes/piece-0.json"}
    assert changed(job, lambda: again.append(ingest_recording(job))) == noted
    assert again[0].reused
    assert changed(job, lambda: again.append(ingest_recording(job))) == set()


def test_changed_midi_redoes_only_the_notes(job: IngestJob) -> None:
    ingest_recording(job)
    write_midi(midi(job), Notes.from_arrays([0.25], [0.5], [60]))
    again = []
    assert changed(job, lambda: again.append(ingest_recording(job))) == NOTES
    assert (again[0].n_notes, again[0].reused) == (1, False)
    assert read_note_table(job.notes_folder / "piece-0.parquet").onset_s.tolist() == [0.25]


def test_facts_that_cannot_be_replaced_are_named(job: IngestJob) -> None:
    (job.notes_folder / "piece-0.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"notes/piece-0\.json: cannot be written"):
        ingest_recording(job)


def test_changed_audio_redoes_the_frames(
    job: IngestJob, tones: Callable[..., None], spec: FeatureSpec
) -> None:
    before = ingest_recording(job)
    tones(audio(job), Notes.from_arrays([0.1], [0.5], [50]), 1.0)
    again = []
    assert changed(job, lambda: again.append(ingest_recording(job))) == FRAMES
    assert again[0].audio_sha256 == file_sha256(audio(job)) != before.audio_sha256
    # The same length: what the notes are checked against did not change.
    tones(audio(job), Notes.from_arrays([0.1], [0.5], [50]), 1.5)
    assert changed(job, lambda: again.append(ingest_recording(job))) == FRAMES | NOTES
    assert again[1].duration_s == 1.5


def test_other_pedal_rule_redoes_only_the_notes(job: IngestJob) -> None:
    ingest_recording(job)
    ignoring = replace(job, pedal="ignore")
    again = []
    assert changed(job, lambda: again.append(ingest_recording(ignoring))) == NOTES
    assert not again[0].reused
    assert ingest_recording(ignoring).reused


def test_other_features_redo_the_frames(job: IngestJob, spec: FeatureSpec) -> None:
    ingest_recording(job)
    other = replace(job, spec=spec.model_copy(update={"dtype": "float32"}))
    assert changed(job, lambda: ingest_recording(other)) == {"frames/spec.json", *FRAMES}
    assert FrameStore.open(job.store_folder).frames("piece-0").dtype == np.float32


def test_frames_of_an_earlier_transform_are_redone(
    job: IngestJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest_recording(job)
    monkeypatch.setitem(spec_module._TRANSFORM_VERSION, "cqt", 99)
    assert changed(job, lambda: ingest_recording(job)) == FRAMES
    assert ingest_recording(job).reused


def test_audio_that_changes_while_it_is_read_is_refused(
    job: IngestJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meddle(blocks: Iterable[Any], spec: FeatureSpec) -> Iterator[Any]:
        yield from extract_blocks(blocks, spec)
        with audio(job).open("ab") as stream:
            stream.write(b"more")

    monkeypatch.setattr(ingest_module, "extract_blocks", meddle)
    with pytest.raises(CorpusError, match=r"piece-0\.flac: changed while it was read"):
        ingest_recording(job)
    assert [path.name for path in job.store_folder.rglob("*") if path.is_file()] == ["spec.json"]


def test_ingestion_compiles_nothing(job: IngestJob) -> None:
    # librosa brings numba, whose compilation takes seconds in every worker process.
    code = """
import pickle, sys
from amt_pipeline.transcription.ingest import ingest_recording
print(ingest_recording(pickle.load(sys.stdin.buffer)).n_frames, {"numba", "torch"} & {*sys.modules})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(job), capture_output=True, check=True
    )
    assert done.stdout.split() == [b"63", b"set()"]


@pytest.mark.parametrize(
    ("name", "redone"),
    [("piece-0.npy", FRAMES), ("piece-0.parquet", NOTES)],
)
def test_what_was_lost_is_made_again(name: str, redone: set[str], job: IngestJob) -> None:
    ingest_recording(job)
    (lost,) = [*job.store_folder.rglob(name), *job.notes_folder.rglob(name)]
    lost.unlink()
    assert changed(job, lambda: ingest_recording(job)) == redone
    assert ingest_recording(job).reused


@pytest.mark.parametrize("text", ["", "[1]", '{"key": '])
def test_damaged_facts_are_made_again(text: str, job: IngestJob) -> None:
    ingest_recording(job)
    (job.notes_folder / "piece-0.json").write_text(text)
    assert changed(job, lambda: ingest_recording(job)) == NOTES
    (job.store_folder / "recordings" / "piece-0.json").write_text(text)
    assert changed(job, lambda: ingest_recording(job)) == FRAMES
    assert ingest_recording(job).reused


def test_oddities_are_kept_for_the_next_run(job: IngestJob) -> None:
    row = {**job.row, "duration_s": 9.0}
    first, again = (ingest_recording(replace(job, row=row)) for _ in range(2))
    assert first.warnings == again.warnings == ("the index says 9.0 s, the audio lasts 1.0 s",)
    assert (first.reused, again.reused) == (False, True)


def test_audio_much_shorter_than_its_midi_is_refused(job: IngestJob) -> None:
    write_midi(midi(job), Notes.from_arrays([0.25, 40.0], [0.5, 41.0], [60, 60]))
    with pytest.raises(CorpusError, match=r"ends at 1\.0 s, but its MIDI has a note at 40\.0 s"):
        ingest_recording(job)
    assert not list(job.notes_folder.glob("*"))


def test_broken_files_are_named(job: IngestJob) -> None:
    good = midi(job).read_bytes()
    midi(job).write_bytes(b"MThd")
    with pytest.raises(MidiError) as refused:
        ingest_recording(job)
    assert refused.value.where == str(midi(job))
    midi(job).write_bytes(good)
    audio(job).write_bytes(audio(job).read_bytes()[:3000])
    with pytest.raises(AudioError) as refused_audio:
        ingest_recording(job)
    assert refused_audio.value.where == str(audio(job))


@pytest.mark.parametrize("which", [audio, midi])
def test_files_that_cannot_be_read_are_named(
    which: Callable[[IngestJob], Path], job: IngestJob
) -> None:
    ingest_recording(job)
    which(job).unlink()
    with pytest.raises(CorpusError, match=r"cannot be read \(No such file"):
        ingest_recording(job)
    hole = Path("/proc/self/mem")
    if not hole.is_file():
        pytest.skip("needs a file that can be found but not read")
    which(job).symlink_to(hole)
    with pytest.raises(CorpusError, match=r"cannot be read \(Input/output error\)\. Check its"):
        ingest_recording(job)
