"""Audio, or stored frames, to notes: both networks over the recording, then joint picking.

Recordings are independent jobs, each durable when done: `<id>.res`, `<id>.mid` and, last, an item
file with the key of everything the result depends on. A job whose key is there is not done again.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.audio.io import read_audio
from amt_pipeline.core.errors import UserError
from amt_pipeline.core.files import atomic_path, read_json, write_json
from amt_pipeline.core.hashing import file_sha256, value_sha256
from amt_pipeline.features.extract import extract_frames
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.training.device import resolve_device, resolve_precision, set_threads
from amt_pipeline.transcription.decode import PickingConfig, pick_notes
from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.note_files import write_midi, write_res
from amt_pipeline.transcription.predict import predict_frames

if TYPE_CHECKING:
    import torch

    from amt_pipeline.transcription.models import FrameNetwork

ITEMS_FOLDER = "items"
PROBABILITIES_FOLDER = "probabilities"
VERSION = 1
"""Part of every item's key. Raise it when what follows from the same model, audio and settings
changes (features, voting, picker, file formats), or results of the former code are taken as ours.
"""


class TranscriptionConfig(BaseModel):
    """How networks' outputs become notes.

    Attributes:
        onset_threshold: Probability above which a frame belongs to an onset run; null is the one
            tuned on validation notes (the reference uses 0.5).
        pitch_threshold: Probability that a key's peak in a run must exceed; null likewise (0.6).
        threshold_margin: Validation F1 given up at most for a lower, more sensitive pitch threshold
            when thresholds are tuned (see `joint.choose_pair`).
        adjacent_s: A repeat of a key within this time is dropped.
        drop_last_run: Parity with the published picker, which never emits a piece's last run.
        time_offset_frames: Added to each note's frame; labels put an onset at the start of its
            frame, so half a frame centres the error.
        vote_stride_frames: Step between windows; null is 1 for short windows and half a window for
            long ones.
        save_probabilities: Keep the networks' outputs beside the notes.
        device: `auto` is CUDA where present.
        workers: Processes on a CPU; null is one per processor.
        audio_folder: A folder of audio to transcribe beside the test split; null is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    onset_threshold: float | None = Field(None, gt=0, lt=1)
    pitch_threshold: float | None = Field(None, gt=0, lt=1)
    threshold_margin: float = Field(0.005, ge=0, le=1)
    adjacent_s: float = Field(0.05, ge=0)
    drop_last_run: bool = False
    time_offset_frames: float = 0.0
    vote_stride_frames: int | None = Field(None, ge=1)
    save_probabilities: bool = True
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    workers: int | None = Field(None, ge=1)
    audio_folder: str | None = None

    def decoding(self) -> dict[str, Any]:
        """Return what belongs to a model beside its thresholds: how its outputs are read."""
        names = {"adjacent_s", "drop_last_run", "time_offset_frames", "vote_stride_frames"}
        return self.model_dump(include=names)

    def picking(self, onset_threshold: float, pitch_threshold: float) -> PickingConfig:
        """Return the picker's settings; thresholds given here win over the tuned ones."""
        return PickingConfig(
            onset_threshold=_given(self.onset_threshold, onset_threshold),
            pitch_threshold=_given(self.pitch_threshold, pitch_threshold),
            adjacent_s=self.adjacent_s,
            drop_last_run=self.drop_last_run,
            time_offset_frames=self.time_offset_frames,
        )


@dataclass(frozen=True)
class TranscriptionJob:
    """One recording to transcribe; picklable.

    Attributes:
        recording_id: Name of the results.
        models_folder: The trained transcriber.
        out_folder: Where results go.
        picking: The picker's settings.
        config: Everything else.
        audio_path: The audio file, or None to take frames from the store.
        store_folder: The FrameStore, when frames are taken from it.
        threads: CPU threads of this job; None is all.
    """

    recording_id: str
    models_folder: Path
    out_folder: Path
    picking: PickingConfig
    config: TranscriptionConfig
    audio_path: Path | None = None
    store_folder: Path | None = None
    threads: int | None = 1


@dataclass(frozen=True)
class Transcript:
    """What became of a job.

    Attributes:
        recording_id: Name of the results.
        n_notes: Notes found.
        duration_s: Length of the recording.
        warnings: What is odd about the audio.
        reused: Nothing had changed since it was transcribed.
    """

    recording_id: str
    n_notes: int
    duration_s: float
    warnings: tuple[str, ...]
    reused: bool


def transcribe_recording(job: TranscriptionJob) -> Transcript:
    """Transcribe one recording and write `.res`, MIDI and probabilities.

    Raises:
        AudioError: The audio cannot be used.
        StoreError: The store lacks the recording, or has another grid than the networks.
        CheckpointError: A file of the transcriber is damaged.
        StorageError: The disk refused.
    """
    models = ModelFolder.open(job.models_folder)
    key = _key(job, models)
    item_path = job.out_folder / ITEMS_FOLDER / f"{job.recording_id}.json"
    known = _known(item_path, key, job)
    if known is not None:
        return known
    frames, duration_s, warnings = _frames(job, models)
    probabilities = predict_both(models, frames, job.config, threads=job.threads)
    grid = models.onset.features.grid
    notes = pick_notes(*probabilities, grid.seconds_per_frame, job.picking)
    item_path.unlink(missing_ok=True)
    write_res(job.out_folder / f"{job.recording_id}.res", notes)
    write_midi(job.out_folder / f"{job.recording_id}.mid", notes)
    outputs = job.out_folder / PROBABILITIES_FOLDER / f"{job.recording_id}.npz"
    if job.config.save_probabilities:
        write_probabilities(outputs, *probabilities, grid.seconds_per_frame)
    else:
        outputs.unlink(missing_ok=True)  # an earlier run's: they would not belong to these notes
    transcript = Transcript(job.recording_id, len(notes), duration_s, warnings, reused=False)
    write_json(item_path, {"key": key, **vars(transcript)})
    return transcript


def arithmetic(config: TranscriptionConfig) -> tuple[torch.device, str]:
    """Return the device, and the precision (`float32` or `bfloat16`) that results depend on.

    Raises:
        ConfigError: A CUDA device was asked for and there is none.
    """
    device = resolve_device(config.device, "transcribe.device")
    return device, resolve_precision("auto", device)


def predict_both(
    models: ModelFolder,
    frames: npt.NDArray[Any],
    config: TranscriptionConfig,
    *,
    threads: int | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return onset [frames] and pitch [frames, 88] probabilities of one recording."""
    set_threads(threads)
    device, precision = arithmetic(config)
    onset, pitch = (
        predict_frames(
            _load_network(models.folder, task, models.key, str(device)),
            frames,
            models.onset if task == "onset" else models.pitch,
            device=device,
            precision=precision,
            vote_stride_frames=config.vote_stride_frames,
        )
        for task in ("onset", "pitch")
    )
    return onset, pitch


def write_probabilities(
    path: Path,
    onset: npt.NDArray[np.float32],
    pitch: npt.NDArray[np.float32],
    seconds_per_frame: float,
) -> None:
    """Keep both networks' outputs in half precision, with the time grid."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            onset=onset.astype(np.float16),
            pitch=pitch.astype(np.float16),
            seconds_per_frame=seconds_per_frame,
        )


def read_probabilities(
    path: Path,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], float]:
    """Read what `write_probabilities` wrote.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            onset, pitch = (stored[name].astype(np.float32) for name in ("onset", "pitch"))
            return onset, pitch, float(stored["seconds_per_frame"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise UserError(
            path,
            f"cannot be read ({error})",
            "Delete it and run `kedro run --pipelines transcribe`",
        ) from error


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _frames(
    job: TranscriptionJob, models: ModelFolder
) -> tuple[npt.NDArray[Any], float, tuple[str, ...]]:
    spec = models.onset.features
    if job.audio_path is not None:
        audio = read_audio(job.audio_path, sample_rate=spec.sample_rate, channels=spec.channels)
        frames = extract_frames(audio.samples, spec)
        return frames, len(audio.samples) / spec.sample_rate, audio.warnings
    store = FrameStore.open(_store_of(job), spec)
    frames = store.frames(job.recording_id)
    return frames, len(frames) * spec.grid.seconds_per_frame, ()


def _key(job: TranscriptionJob, models: ModelFolder) -> str:
    if job.audio_path is not None:
        if not job.audio_path.is_file():
            raise UserError(job.audio_path, "no such file")
        content = file_sha256(job.audio_path)
    else:
        content = FrameStore.open(_store_of(job)).entry(job.recording_id).content_sha256
    settings = job.config.model_dump(include={"vote_stride_frames", "save_probabilities"})
    picking, (_, precision) = job.picking.model_dump(), arithmetic(job.config)
    return value_sha256([VERSION, models.key, content, picking, settings, precision])


def _store_of(job: TranscriptionJob) -> Path:
    if job.store_folder is None:
        raise ValueError("a job needs an audio_path or a store_folder")
    return job.store_folder


def _known(item_path: Path, key: str, job: TranscriptionJob) -> Transcript | None:
    results = [job.out_folder / f"{job.recording_id}{suffix}" for suffix in (".res", ".mid")]
    if job.config.save_probabilities:
        results.append(job.out_folder / PROBABILITIES_FOLDER / f"{job.recording_id}.npz")
    if not all(path.is_file() for path in (item_path, *results)):
        return None
    try:
        values = read_json(item_path)
        if values.pop("key") != key:
            return None
        return Transcript(**{**values, "warnings": tuple(values["warnings"]), "reused": True})
    except (UserError, AttributeError, KeyError, TypeError):
        return None  # damaged, or of another version: done again


@functools.lru_cache(maxsize=4)
def _load_network(folder: Path, task: str, key: str, device: str) -> FrameNetwork:
    # The key makes retrained weights another entry.
    import torch

    models = ModelFolder.open(folder)
    if models.key != key:
        raise UserError(folder, "changed while it was used", "Run again when training is done")
    return models.load(task, torch.device(device))
