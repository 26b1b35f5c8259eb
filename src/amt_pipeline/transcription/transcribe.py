"""Audio, or stored frames, to notes: both networks over the recording, then joint picking.

Recordings are independent jobs, each durable when done: `<id>.res`, `<id>.mid` and, last, an item
file with the key of everything the result depends on. A job whose key is there is not done again.
"""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.files import read_json, write_json
from amt_pipeline.core.hashing import file_sha256, value_sha256
from amt_pipeline.store.frames import FrameStore
from amt_pipeline.training.device import resolve_device, resolve_precision, set_threads
from amt_pipeline.transcription.decode import PickingConfig, pick_notes
from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.note_files import write_midi, write_res
from amt_pipeline.transcription.predict import frames_in_runs, predict_frames
from amt_pipeline.transcription.probabilities import (
    PROBABILITIES_FOLDER,
    Probabilities,
    write_probabilities,
)
from amt_pipeline.transcription.recording_frames import (
    RecordingFrames,
    audio_frames,
    stored_frames,
)

if TYPE_CHECKING:
    import torch

    from amt_pipeline.transcription.inference import Evaluator

ITEMS_FOLDER = "items"
VERSION = 3
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
            long ones. Without effect on a network whose windows all say the same.
        gate: Evaluate the pitch network only where the picker looks, in onset runs. The notes are
            the same; of the probabilities kept, pitch is then zero elsewhere.
        precision: Of the networks' arithmetic: `float32`, `bfloat16` (about twice as fast on a
            processor with AVX512-BF16 or AMX; probabilities differ by some thousandths), or `auto`:
            bfloat16 on CUDA.
        save_probabilities: Keep the networks' outputs beside the notes.
        device: `auto` is CUDA where present.
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
    gate: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    save_probabilities: bool = True
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
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
        model: Key of the weights that the thresholds in `picking` are for; others are refused. None
            takes whatever is there.
    """

    recording_id: str
    models_folder: Path
    out_folder: Path
    picking: PickingConfig
    config: TranscriptionConfig
    audio_path: Path | None = None
    store_folder: Path | None = None
    threads: int | None = 1
    model: str | None = None


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
        CheckpointError: A file of the transcriber is damaged, or it was replaced meanwhile.
        StorageError: The disk refused.
    """
    models = ModelFolder.open(job.models_folder, job.model)
    key = _key(job, models)
    item_path = job.out_folder / ITEMS_FOLDER / f"{job.recording_id}.json"
    known = _known(item_path, key, job)
    if known is not None:
        return known
    seconds = models.onset.features.grid.seconds_per_frame
    gate = job.picking.onset_threshold if job.config.gate else None
    with _recording(job, models) as recording:
        onset, pitch = predict_both(
            models, recording, job.config, gate_threshold=gate, threads=job.threads
        )
        duration_s, warnings = recording.duration_s, recording.warnings
    if _key(job, models) != key:
        raise UserError(job.audio_path or _store_of(job), "changed while it was used", "Run again")
    notes = pick_notes(onset, pitch, seconds, job.picking)
    item_path.unlink(missing_ok=True)
    write_res(job.out_folder / f"{job.recording_id}.res", notes)
    write_midi(job.out_folder / f"{job.recording_id}.mid", notes)
    outputs = job.out_folder / PROBABILITIES_FOLDER / f"{job.recording_id}.npz"
    if job.config.save_probabilities:
        evaluated = np.ones(len(onset), bool) if gate is None else frames_in_runs(onset, gate)
        write_probabilities(outputs, Probabilities(onset, pitch, evaluated, seconds))
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
    return device, resolve_precision(config.precision, device)


def predict_both(
    models: ModelFolder,
    recording: RecordingFrames,
    config: TranscriptionConfig,
    *,
    gate_threshold: float | None = None,
    threads: int | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return onset [frames] and pitch [frames, 88] probabilities of one recording.

    Args:
        models: The trained transcriber.
        recording: Its frames.
        config: Device, precision and voting.
        gate_threshold: Lowest onset threshold that notes will be picked with: the pitch network is
            evaluated in frames above it, and zero elsewhere. None evaluates it everywhere.
        threads: CPU threads; None is all. The outcome does not depend on it.
    """
    device, precision = arithmetic(config)
    count = set_threads(threads)
    # One thread per product, several products at once: see `predict_frames`.
    set_threads(1)
    wanted, found = None, []
    for task in ("onset", "pitch"):
        probability = predict_frames(
            _load_evaluator(models.folder, task, models.key, str(device), precision),
            recording.frames,
            device=device,
            peak=recording.peak,
            only=wanted,
            vote_stride_frames=config.vote_stride_frames,
            threads=count,
            name=task,
        )
        found.append(probability)
        if gate_threshold is not None:
            wanted = frames_in_runs(probability, gate_threshold)
    return found[0], found[1]


def _given(value: float | None, default: float) -> float:
    return default if value is None else value


def _recording(
    job: TranscriptionJob, models: ModelFolder
) -> AbstractContextManager[RecordingFrames]:
    spec = models.onset.features
    if job.audio_path is not None:
        return audio_frames(job.audio_path, spec, job.out_folder)
    return nullcontext(stored_frames(FrameStore.open(_store_of(job), spec), job.recording_id))


def _key(job: TranscriptionJob, models: ModelFolder) -> str:
    if job.audio_path is not None:
        if not job.audio_path.is_file():
            raise UserError(job.audio_path, "no such file")
        content = file_sha256(job.audio_path)
    else:
        content = FrameStore.open(_store_of(job)).entry(job.recording_id).content_sha256
    settings = job.config.model_dump(include={"vote_stride_frames", "save_probabilities"})
    if job.config.save_probabilities:
        settings["gate"] = job.config.gate  # the notes are the same, what is kept is not
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
def _load_evaluator(
    folder: Path, task: str, key: str, device_name: str, precision: str
) -> Evaluator:
    # The key makes retrained weights another entry.
    import torch

    from amt_pipeline.transcription.inference import prepare

    models = ModelFolder.open(folder, key)
    device = torch.device(device_name)
    config = models.onset if task == "onset" else models.pitch
    network = models.load(task, device)
    ModelFolder.open(folder, key)  # still: what was loaded is what the key says
    return prepare(network, config, device, precision)
