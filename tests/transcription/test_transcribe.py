"""One recording to notes on disk: what is written, what is done again, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from amt_pipeline.audio.io import read_audio
from amt_pipeline.core.errors import AudioError, ConfigError, StoreError, UserError
from amt_pipeline.core.files import read_json
from amt_pipeline.core.parallel import LOCAL
from amt_pipeline.features.extract import extract_frames
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.training.checkpoints import write_file_list
from amt_pipeline.training.device import resolve_device
from amt_pipeline.transcription import transcribe
from amt_pipeline.transcription.decode import pick_notes
from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.note_files import read_notes
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.probabilities import read_probabilities
from amt_pipeline.transcription.recording_frames import RecordingFrames, stored_frames
from amt_pipeline.transcription.run import share_of
from amt_pipeline.transcription.scoring import score_notes
from amt_pipeline.transcription.transcribe import (
    TranscriptionConfig,
    TranscriptionJob,
    predict_both,
    transcribe_recording,
)

CONFIG = TranscriptionConfig(device="cpu")


@pytest.fixture
def job(models_folder: Path, frame_corpus: Any, tmp_path: Path) -> TranscriptionJob:
    """A piece that the networks have not seen, from the store."""
    return TranscriptionJob(
        "piece-3",
        models_folder,
        tmp_path / "out",
        CONFIG.picking(0.5, 0.4),
        CONFIG,
        store_folder=frame_corpus.store_folder,
    )


@pytest.fixture
def audio_job(
    job: TranscriptionJob, tones: Callable[..., None], tmp_path: Path
) -> TranscriptionJob:
    """A recording on disk."""
    tones(tmp_path / "own.flac", Notes.from_arrays([0.2, 0.7], [0.6, 1.1], [60, 64]), 1.5)
    path = tmp_path / "own.flac"
    return replace(job, recording_id="own", audio_path=path, store_folder=None)


def test_piece_is_transcribed_to_text_midi_and_probabilities(
    job: TranscriptionJob, frame_corpus: Any
) -> None:
    done = transcribe_recording(job)
    truth = frame_corpus.notes["piece-3"]
    found = read_notes(job.out_folder / "piece-3.res")
    assert score_notes(truth, found).f1 > 0.7
    assert done.n_notes == len(found)
    assert done.duration_s == pytest.approx(6.0)
    assert (done.reused, done.warnings) == (False, ())
    midi = read_notes(job.out_folder / "piece-3.mid")
    assert midi.pitch.tolist() == found.pitch.tolist()
    np.testing.assert_allclose(midi.onset_s, found.onset_s, atol=1e-4)
    first = (job.out_folder / "piece-3.res").read_text().splitlines()[0].split("\t")
    assert [len(part.partition(".")[2]) for part in first] == [6, 6, 0]
    assert float(first[1]) - float(first[0]) == pytest.approx(0.1, abs=2e-6)
    said = read_probabilities(job.out_folder / "probabilities" / "piece-3.npz")
    shapes = (said.onset.shape, said.pitch.shape, said.seconds_per_frame)
    assert shapes == ((375,), (375, 88), 0.016)
    models = ModelFolder.open(job.models_folder)
    wanted = predict_both(models, recording(frame_corpus), CONFIG, threads=1)
    np.testing.assert_array_equal(said.onset, wanted[0].astype(np.float16))
    in_runs = wanted[0] > 0.5
    assert 20 < in_runs.sum() < 200
    np.testing.assert_array_equal(said.evaluated, in_runs)
    np.testing.assert_array_equal(said.pitch[in_runs], wanted[1][in_runs].astype(np.float16))
    assert not said.pitch[~in_runs].any()
    assert wanted[1][~in_runs].max() > 0.01
    same = pick_notes(*wanted, said.seconds_per_frame, job.picking)
    np.testing.assert_allclose(same.onset_s, found.onset_s, atol=1e-6)


def recording(frame_corpus: Any, name: str = "piece-3") -> RecordingFrames:
    return stored_frames(FrameStore.open(frame_corpus.store_folder), name)


def test_ungated_run_gives_the_same_notes_and_all_probabilities(
    job: TranscriptionJob, frame_corpus: Any, tmp_path: Path
) -> None:
    everywhere = replace(
        job, out_folder=tmp_path / "all", config=CONFIG.model_copy(update={"gate": False})
    )
    for one in (job, everywhere):
        transcribe_recording(one)
    for suffix in (".res", ".mid"):
        texts = [(one.out_folder / f"piece-3{suffix}").read_bytes() for one in (job, everywhere)]
        assert texts[0] == texts[1]
        assert texts[0]
    gated, full = (
        read_probabilities(one.out_folder / "probabilities" / "piece-3.npz")
        for one in (job, everywhere)
    )
    assert full.evaluated.all()
    np.testing.assert_array_equal(full.pitch[gated.evaluated], gated.pitch[gated.evaluated])
    assert full.pitch[~gated.evaluated].any()


def test_gating_makes_another_result_only_where_probabilities_are_kept(
    job: TranscriptionJob,
) -> None:
    open_gate = CONFIG.model_copy(update={"gate": False})
    transcribe_recording(job)
    assert not transcribe_recording(replace(job, config=open_gate)).reused
    quiet = {"save_probabilities": False}
    assert not transcribe_recording(replace(job, config=CONFIG.model_copy(update=quiet))).reused
    assert transcribe_recording(replace(job, config=open_gate.model_copy(update=quiet))).reused


def test_audio_is_transcribed_like_its_stored_frames(
    audio_job: TranscriptionJob, spec: FeatureSpec, tmp_path: Path
) -> None:
    done = transcribe_recording(audio_job)
    assert done.duration_s == pytest.approx(1.5)
    assert audio_job.audio_path is not None
    frames = extract_frames(read_audio(audio_job.audio_path, sample_rate=16000).samples, spec)
    FrameStore.create(tmp_path / "own-store", spec).write("own", frames, "hash")
    stored = replace(audio_job, audio_path=None, store_folder=tmp_path / "own-store",
                     out_folder=tmp_path / "out-2")  # fmt: skip
    transcribe_recording(stored)
    results = [
        (folder / "own.res").read_bytes() for folder in (tmp_path / "out", tmp_path / "out-2")
    ]
    assert results[0] == results[1]


def test_current_transcription_is_not_done_again(job: TranscriptionJob) -> None:
    first = transcribe_recording(job)
    before = {p: p.stat().st_mtime_ns for p in job.out_folder.rglob("*") if p.is_file()}
    again = transcribe_recording(job)
    assert again == replace(first, reused=True)
    assert {p: p.stat().st_mtime_ns for p in job.out_folder.rglob("*") if p.is_file()} == before


def other_weights(job: TranscriptionJob) -> None:
    weights = job.models_folder / "onset" / "best" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2] ^= 1
    weights.write_bytes(data)
    write_file_list(weights.parent)


def other_results(name: str) -> Callable[[TranscriptionJob], None]:
    return lambda job: (job.out_folder / name).unlink()


def damage_item(text: str) -> Callable[[TranscriptionJob], Any]:
    return lambda job: (job.out_folder / "items" / "piece-3.json").write_text(text)


CHANGES: dict[str, Callable[[TranscriptionJob], Any]] = {
    "retrained": other_weights,
    "lost text": other_results("piece-3.res"),
    "lost midi": other_results("piece-3.mid"),
    "lost probabilities": other_results("probabilities/piece-3.npz"),
    "lost item": other_results("items/piece-3.json"),
    "empty item": damage_item(""),
    "item of another kind": damage_item("[]"),
    "item of another version": damage_item('{"key": "x", "notes": 3}'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_or_was_lost_is_done_again(change: str, job: TranscriptionJob) -> None:
    transcribe_recording(job)
    CHANGES[change](job)
    assert not transcribe_recording(job).reused
    assert transcribe_recording(job).reused


def test_other_settings_and_other_audio_are_done_again(
    audio_job: TranscriptionJob, tones: Callable[..., None]
) -> None:
    transcribe_recording(audio_job)
    strict = replace(audio_job, picking=CONFIG.picking(0.9, 0.9))
    assert not transcribe_recording(strict).reused
    votes = replace(strict, config=CONFIG.model_copy(update={"vote_stride_frames": 5}))
    assert not transcribe_recording(votes).reused
    assert transcribe_recording(replace(votes, threads=2)).reused
    assert audio_job.audio_path is not None
    tones(audio_job.audio_path, Notes.from_arrays([0.3], [0.5], [70]), 1.5)
    assert not transcribe_recording(votes).reused


@pytest.mark.parametrize("change", ["version", "precision"])
def test_other_code_and_other_precision_are_done_again(
    change: str, job: TranscriptionJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcribe_recording(job)
    assert transcribe_recording(job).reused
    if change == "version":
        monkeypatch.setattr(transcribe, "VERSION", transcribe.VERSION + 1)
    else:
        cpu = resolve_device("cpu")
        monkeypatch.setattr(transcribe, "arithmetic", lambda config: (cpu, "bfloat16"))
    assert not transcribe_recording(job).reused


def test_half_precision_is_another_result_with_nearly_the_same_notes(job: TranscriptionJob) -> None:
    full = transcribe_recording(job)
    half = replace(job, config=CONFIG.model_copy(update={"precision": "bfloat16"}))
    assert transcribe.arithmetic(half.config) == (torch.device("cpu"), "bfloat16")
    found = transcribe_recording(half)
    assert not found.reused
    assert abs(found.n_notes - full.n_notes) <= 2
    # As is, on a CPU, means float32.
    single = replace(job, config=CONFIG.model_copy(update={"precision": "float32"}))
    assert not transcribe_recording(job).reused
    assert transcribe_recording(single).reused


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_device_is_named_with_its_parameter(job: TranscriptionJob) -> None:
    config = CONFIG.model_copy(update={"device": "cuda"})
    for refused in (
        lambda: transcribe_recording(replace(job, config=config)),
        lambda: share_of(LOCAL, config, 2),
    ):
        with pytest.raises(ConfigError, match=r"^transcribe\.device=cuda: no such device"):
            refused()


def test_probabilities_are_kept_only_when_asked_for(job: TranscriptionJob) -> None:
    quiet = replace(job, config=CONFIG.model_copy(update={"save_probabilities": False}))
    transcribe_recording(quiet)
    assert not (job.out_folder / "probabilities").exists()
    assert transcribe_recording(quiet).reused
    transcribe_recording(job)
    assert (job.out_folder / "probabilities" / "piece-3.npz").is_file()
    transcribe_recording(quiet)
    assert not (job.out_folder / "probabilities" / "piece-3.npz").exists()


def test_silence_and_very_short_audio_give_empty_results(
    audio_job: TranscriptionJob, tones: Callable[..., None]
) -> None:
    assert audio_job.audio_path is not None
    tones(audio_job.audio_path, Notes.empty(), 1.0)
    done = transcribe_recording(audio_job)
    assert (done.n_notes, done.warnings) == (0, ("silent",))
    assert (audio_job.out_folder / "own.res").read_bytes() == b""
    assert transcribe_recording(audio_job).warnings == ("silent",)
    tones(audio_job.audio_path, Notes.empty(), 10 / 16000)
    assert transcribe_recording(audio_job).n_notes == 0


def test_what_cannot_be_transcribed_is_named(
    job: TranscriptionJob, audio_job: TranscriptionJob, frame_corpus: Any, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match=r"nobody\.npy: is not in the store"):
        transcribe_recording(replace(job, recording_id="nobody"))
    with pytest.raises(StoreError, match="holds no frames"):
        transcribe_recording(replace(job, store_folder=tmp_path / "nowhere"))
    other = FrameStore.create(tmp_path / "other", FeatureSpec())
    other.write("piece-3", np.zeros((9, 356, 2), np.float16), "x")
    with pytest.raises(StoreError, match=r"44100 Hz, hop 512.*wanted is.*16000 Hz, hop 256"):
        transcribe_recording(replace(job, store_folder=other.folder))
    with pytest.raises(ValueError, match="needs an audio_path or a store_folder"):
        transcribe_recording(replace(job, store_folder=None))
    with pytest.raises(UserError, match=r"gone\.flac: no such file"):
        transcribe_recording(replace(audio_job, audio_path=tmp_path / "gone.flac"))
    (tmp_path / "text.flac").write_text("no music")
    with pytest.raises(AudioError, match="not audio"):
        transcribe_recording(replace(audio_job, audio_path=tmp_path / "text.flac"))
    assert not list((tmp_path / "out").rglob("*.res"))


def test_model_that_changes_meanwhile_is_noticed(job: TranscriptionJob, frame_corpus: Any) -> None:
    models = ModelFolder.open(job.models_folder)
    other_weights(job)
    with pytest.raises(UserError, match="changed while it was used"):
        predict_both(models, recording(frame_corpus), CONFIG)


def test_given_thresholds_win_over_tuned_ones() -> None:
    tuned = CONFIG.picking(0.3, 0.4)
    assert (tuned.onset_threshold, tuned.pitch_threshold) == (0.3, 0.4)
    given = TranscriptionConfig(onset_threshold=0.5, adjacent_s=0.1, drop_last_run=True)
    picking = given.picking(0.3, 0.4)
    assert (picking.onset_threshold, picking.pitch_threshold) == (0.5, 0.4)
    assert (picking.adjacent_s, picking.drop_last_run) == (0.1, True)


@pytest.mark.parametrize("harm", [lambda data: data[:-30], lambda data: data[:100], lambda _: b""])
def test_damaged_probabilities_are_named(
    harm: Callable[[bytes], bytes], job: TranscriptionJob
) -> None:
    transcribe_recording(job)
    path = job.out_folder / "probabilities" / "piece-3.npz"
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(UserError, match=r"piece-3\.npz: cannot be read") as refused:
        read_probabilities(path)
    assert "transcribe" in refused.value.remedy
    assert read_json(job.out_folder / "items" / "piece-3.json")["recording_id"] == "piece-3"
