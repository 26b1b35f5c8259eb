"""The pitch network where the picker looks, and maps that windows share computed once.

Networks of the reference's size, untrained, stepped by one frame over random piano music as dense
as MAESTRO's; onset runs are those of the true notes. What is equal, to the bit or to rounding, is
tested (tests/transcription/test_predict.py, test_inference.py).

    .venv/bin/python benchmarks/gated_pitch.py [--quick]
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from corpus import preset_config
from measure import Claim, Work, arguments, compare, show
from transcribers import piano_notes, runs_of, untrained, windows_seen, write_piece

from amt_pipeline.audio.io import read_audio
from amt_pipeline.features.extract import extract_frames
from amt_pipeline.transcription.decode import VoteAccumulator
from amt_pipeline.transcription.inference import Setting, WindowEvaluator, fold_batch_norms, prepare
from amt_pipeline.transcription.predict import frame_peak, predict_frames, window_starts
from amt_pipeline.transcription.task_config import FrameTaskConfig

PLAIN_BATCH = 64
"""Windows per batch where nothing is shared: the fastest of 16, 64 and 256."""


def main(quick: bool = False) -> list[Claim]:
    """Measure gating and sharing, each alone and both."""
    seconds, repeats = (2.0, 1) if quick else (6.0, 3)
    with tempfile.TemporaryDirectory() as name:
        piece = Path(name, "piece.flac")
        write_piece(piece, seconds)
        return measured(piece, seconds, repeats)


def measured(piece: Path, seconds: float, repeats: int) -> list[Claim]:
    """Return the claims on one piece."""
    config = task_config("reference", "pitch", "window")
    onset_s, _ = piano_notes(seconds)
    in_runs = runs_of(onset_s, round(seconds * 86.13), config.features)
    note = (
        f"{seconds:g} s, {len(onset_s) / seconds:.1f} notes/s; {in_runs.mean():.0%} of frames in "
        f"runs, {windows_seen(in_runs, config.model.label_frames):.0%} of windows touch one"
    )
    shared, plain = partial(shared_work, piece, seconds), partial(plain_work, piece)
    window = partial(window_work, piece, seconds)
    pairs: list[tuple[str, tuple[str, Any], tuple[str, Any], float | None]] = [
        ("pitch network, gated and shared (recording maximum)",
         ("gated, shared", partial(shared, "pitch", "recording", True)),
         ("every window, everywhere", partial(plain, "pitch", "recording")), 4.0),
        ("pitch network, gated (window maximum)",
         ("gated", partial(shared, "pitch", "window", True)),
         ("every window, everywhere", partial(plain, "pitch", "window")), None),
        ("pitch network, the gate alone",
         ("gated, shared", partial(shared, "pitch", "recording", True)),
         ("everywhere, shared", partial(shared, "pitch", "recording", False)), None),
        ("pitch network, sharing alone",
         ("shared", partial(shared, "pitch", "recording", False)),
         ("every window", partial(window, "reference", "pitch")), None),
        ("onset network, sharing alone",
         ("shared", partial(shared, "onset", "recording", False)),
         ("every window", partial(window, "reference", "onset")), None),
        ("harmonic network, once per frame",
         ("in stretches", partial(shared, "harmonic", "recording", False)),
         ("half-overlapping windows", partial(window, "cpu", "pitch")), None),
    ]  # fmt: skip
    return [
        compare(name, a, b, unit="seconds of audio", target=target, repeats=repeats, note=note)
        for name, a, b, target in pairs
    ]


def task_config(preset: str, name: str, normalisation: str) -> FrameTaskConfig:
    """Return a preset's task with another normalisation."""
    return preset_config(preset, name, input={"normalisation": normalisation})


def frames_of(piece: Path, config: FrameTaskConfig) -> Any:
    """Return the frames of the piece."""
    audio = read_audio(piece, sample_rate=44100, channels=2)
    return extract_frames(audio.samples, config.features)


def shared_work(piece: Path, seconds: float, kind: str, normalisation: str, gated: bool) -> Work:
    """As transcription does it; gated by the runs of the true notes."""
    import torch

    torch.set_num_threads(1)
    preset, name = ("cpu", "pitch") if kind == "harmonic" else ("reference", kind)
    config, device = task_config(preset, name, normalisation), torch.device("cpu")
    frames = frames_of(piece, config)
    evaluator = prepare(untrained(config), config, device, "float32")
    only = runs_of(piano_notes(seconds)[0], len(frames), config.features) if gated else None

    def work() -> float:
        predict_frames(evaluator, frames, device=device, only=only)
        return len(frames) * config.features.grid.seconds_per_frame

    return work


def window_work(piece: Path, seconds: float, preset: str, name: str) -> Work:
    """Every window on its own, the network otherwise as well prepared."""
    import torch

    torch.set_num_threads(1)
    config, device = task_config(preset, name, "recording"), torch.device("cpu")
    frames = frames_of(piece, config)
    setting = Setting(config, device, torch.float32)
    evaluator = WindowEvaluator(fold_batch_norms(untrained(config)), setting, in_stretches=False)

    def work() -> float:
        predict_frames(evaluator, frames, device=device)
        return len(frames) * config.features.grid.seconds_per_frame

    return work


def plain_work(piece: Path, name: str, normalisation: str) -> Work:
    """Every window on its own, through the network as it was trained."""
    config = task_config("reference", name, normalisation)
    frames = frames_of(piece, config)

    def work() -> float:
        plain_probabilities(config, frames)
        return len(frames) * config.features.grid.seconds_per_frame

    return work


def plain_probabilities(config: FrameTaskConfig, frames: Any) -> Any:
    """Return what all windows together say: batches of windows, nothing prepared or shared."""
    import torch

    torch.set_num_threads(1)
    network, length = untrained(config), config.model.label_frames
    size = length + 2 * network.context_frames
    starts = window_starts(len(frames), length, 1)
    edge = ((size, size), (0, 0), (0, 0))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(frames, edge), size, axis=0)
    peak = torch.from_numpy(frame_peak(frames))[None]
    votes = VoteAccumulator(len(frames), None if config.name == "onset" else 88)
    with torch.inference_mode():
        for first in range(0, len(starts), PLAIN_BATCH):
            own = starts[first : first + PLAIN_BATCH]
            batch = windows[own + size - network.context_frames].transpose(0, 3, 1, 2)
            raw = torch.from_numpy(np.ascontiguousarray(batch))
            scaled = config.input.apply(raw, peak.expand(len(own), -1), config.features.kind)
            votes.add(own, torch.sigmoid(network(scaled)).numpy())
    return votes.mean()


if __name__ == "__main__":
    show(list(main(arguments(__doc__).quick)))
