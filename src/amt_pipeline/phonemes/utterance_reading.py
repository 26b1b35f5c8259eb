"""The files of one utterance become its frames and the classes of these."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from amt_pipeline.audio.io import audio_info, read_audio
from amt_pipeline.core.errors import AudioError
from amt_pipeline.features.mfcc import mfcc_frames
from amt_pipeline.features.mfcc_spec import MfccSpec
from amt_pipeline.phonemes.alignments import read_alignment
from amt_pipeline.phonemes.classes import PhoneClasses
from amt_pipeline.phonemes.labels import frame_classes, require_as_many
from amt_pipeline.phonemes.tensor_reading import read_tensor
from amt_pipeline.phonemes.utterances import Utterance

MAX_UTTERANCE_S = 900.0
"""Longest recording that counts as an utterance; LibriSpeech's longest has 35 s."""


@dataclass(frozen=True, eq=False)
class UtteranceFrames:
    """What an utterance consists of.

    Attributes:
        frames: float32 `[n_frames, bins]`, at least one.
        classes: uint8 `[n_frames]`; None where it has no labels.
        duration_s: Length of the audio; for tensors, of what their frames span.
        warnings: What is odd about it.
    """

    frames: npt.NDArray[np.float32]
    classes: npt.NDArray[np.uint8] | None
    duration_s: float
    warnings: tuple[str, ...] = ()


def read_utterance(one: Utterance, spec: MfccSpec, classes: PhoneClasses) -> UtteranceFrames:
    """Read an utterance: its tensor and listed labels, or its audio and alignment.

    Args:
        one: Where its parts are.
        spec: What frames hold.
        classes: What the labels number.

    Raises:
        TensorError: The tensor cannot be used.
        AudioError: The audio cannot be used.
        CorpusError: The alignment cannot be used, or labels that are needed are not
            as many as frames.
    """
    if one.feature_path is None:
        return _from_audio(one, spec, classes)
    frames = read_tensor(one.feature_path, spec.bins)
    listed, warnings = one.classes, tuple[str, ...]()
    if listed is not None and one.optional_labels and len(listed) != len(frames):
        text = f"{one.optional_labels} has {len(listed)} labels for {len(frames)} frames"
        listed, warnings = None, (f"{text}: it counts as unlabelled",)
    if listed is not None:
        require_as_many(str(one.feature_path), len(listed), len(frames))
    n_samples = (len(frames) - 1) * spec.hop_samples + spec.frame_samples
    return UtteranceFrames(frames, listed, n_samples / spec.sample_rate, warnings)


def _from_audio(one: Utterance, spec: MfccSpec, classes: PhoneClasses) -> UtteranceFrames:
    samples, warnings = _read_samples(one.source_path, spec)
    frames = mfcc_frames(samples, spec)
    duration_s = len(samples) / spec.sample_rate
    if one.alignment_path is None:
        return UtteranceFrames(frames, None, duration_s, warnings)
    alignment = read_alignment(one.alignment_path, classes, duration_s)
    labels = frame_classes(alignment, len(frames), spec.grid, classes.silence or 0)
    return UtteranceFrames(frames, labels, duration_s, warnings + alignment.warnings)


def _read_samples(path: Path, spec: MfccSpec) -> tuple[npt.NDArray[np.float32], tuple[str, ...]]:
    """Return the samples of an audio file, mixed to one channel, and warnings about them."""
    if (seconds := audio_info(path).duration_s) > MAX_UTTERANCE_S:
        problem = f"lasts {seconds:.0f} s: an utterance has at most {MAX_UTTERANCE_S:.0f} s"
        raise AudioError(path, problem, "Cut it into utterances")
    # Both channels, so that opposite ones are noticed; the mean of a copied mono is the same again.
    audio = read_audio(path, sample_rate=spec.sample_rate, channels=2)
    samples: npt.NDArray[np.float32] = audio.samples.mean(axis=1)
    if spec.grid.frame_count(len(samples)) == 0:
        problem = f"has {len(samples)} samples, less than one frame of {spec.frame_samples}"
        raise AudioError(path, problem, "Leave it out")
    warnings = audio.warnings
    if audio.source_rate != spec.sample_rate:
        warnings += (f"resampled from {audio.source_rate} to {spec.sample_rate} Hz",)
    return samples, warnings
