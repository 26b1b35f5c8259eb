"""Untrained transcribers on disk, and demo music to try them on, for benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from corpus import preset_config

from amt_pipeline import __version__
from amt_pipeline.audio.io import write_flac
from amt_pipeline.audio.render import render_notes
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.ranking.rank import BEST_FILE
from amt_pipeline.training.checkpoints import CheckpointState, copy_checkpoint, save_checkpoint
from amt_pipeline.transcription.models import FrameNetwork
from amt_pipeline.transcription.networks import build_network
from amt_pipeline.transcription.predict import touching, window_starts
from amt_pipeline.transcription.task_config import FrameTaskConfig

ONSETS_PER_S = 8.1
"""Frames with an onset per second of MAESTRO: 4.06 million in 43 million frames of 11.6 ms."""
KEYS_PER_ONSET = 1.5
RUN_FRAMES = 3
"""Frames of an onset run: what the onset network is trained to mark."""


def piano_notes(seconds: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return onsets (seconds) and pitches of random music as dense as MAESTRO's."""
    rng = np.random.default_rng(0)
    struck = np.sort(rng.uniform(0, max(seconds - 0.5, 0.1), round(ONSETS_PER_S * seconds)))
    both = rng.random(len(struck)) < KEYS_PER_ONSET - 1
    onset_s = np.repeat(struck, 1 + both)
    return onset_s, rng.integers(33, 97, len(onset_s))


def write_piece(path: Path, seconds: float) -> None:
    """Write random piano music as stereo FLAC, 44.1 kHz; long music repeats itself."""
    once_s = min(seconds, 60.0)
    onset_s, pitch = piano_notes(once_s)
    velocity = np.random.default_rng(1).integers(40, 110, len(pitch))
    samples = render_notes(
        onset_s, onset_s + 0.4, pitch, velocity, program=0, sample_rate=44100, tail_s=0.1
    )
    wanted = round(seconds * 44100)
    whole = np.resize(0.5 * samples / np.abs(samples).max(), (wanted, 2))
    write_flac(path, whole, 44100)


def runs_of(onset_s: npt.NDArray[np.float64], n_frames: int, spec: FeatureSpec) -> Any:
    """Return which frames a faultless onset network would put into runs, [frames]."""
    struck = np.floor(onset_s / spec.grid.seconds_per_frame).astype(np.int64)
    in_runs = np.zeros(n_frames, bool)
    for beside in range(-(RUN_FRAMES // 2), RUN_FRAMES // 2 + 1):
        at = struck + beside
        in_runs[at[(at >= 0) & (at < n_frames)]] = True
    return in_runs


def windows_seen(in_runs: npt.NDArray[np.bool_], length: int) -> float:
    """Return the share of windows, stepped by one frame, that touch a run."""
    return float(touching(window_starts(len(in_runs), length, 1), length, in_runs).mean())


def untrained(config: FrameTaskConfig) -> FrameNetwork:
    """Return the network of a configuration, ready to predict."""
    import torch

    torch.manual_seed(0)
    return build_network(config.features, config.model).eval()


def write_transcriber(folder: Path, preset: str, changes: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the chosen checkpoints of both networks of a preset, untrained.

    Args:
        folder: The models folder.
        preset: `reference` or `cpu`.
        changes: By task, blocks laid over the preset (`model`, `input`).
    """
    import torch

    for name in ("onset", "pitch"):
        config = preset_config(preset, name, **changes.get(name, {}))
        network = untrained(config)
        values = config.model_dump(mode="json", exclude={"evaluation"})
        path = save_checkpoint(
            folder / name,
            state=CheckpointState(1, True, values, "none", {}, __version__),
            network=network,
            optimiser=torch.optim.SGD(network.parameters(), lr=0.1),
            history=[],
        )
        copy_checkpoint(path, folder / name / "best", {BEST_FILE: {"threshold": 0.5}})


def threshold_for(onset: npt.NDArray[np.float32], length: int, share: float) -> float:
    """Return the onset threshold at which a share of the pitch network's windows touch a run."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        seen = windows_seen(onset > middle, length)
        low, high = (middle, high) if seen > share else (low, middle)
    return min(max(low, 1e-6), 1 - 1e-6)
