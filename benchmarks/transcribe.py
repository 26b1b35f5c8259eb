"""From an audio file to notes on disk: how many times faster than it plays, and on what.

Stereo FLAC of random piano music as dense as MAESTRO's, untrained networks of both presets. Their
onset threshold is set so that the pitch network sees as many windows as the true notes would have
it see. Elapsed time, one file, on one thread and on two.

    .venv/bin/python benchmarks/transcribe.py [--quick]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from measure import Claim, Figure, Sample, Work, arguments, measure, show
from transcribers import (
    piano_notes,
    runs_of,
    threshold_for,
    windows_seen,
    write_piece,
    write_transcriber,
)

from amt_pipeline.transcription.model_folder import ModelFolder
from amt_pipeline.transcription.recording_frames import audio_frames
from amt_pipeline.transcription.transcribe import (
    TranscriptionConfig,
    TranscriptionJob,
    predict_both,
    transcribe_recording,
)

RECORDING = {"input": {"normalisation": "recording"}}
LONG_RUNS = {"model": {"label_frames": 101}, **RECORDING}


@dataclass(frozen=True)
class Way:
    """Networks, and how they are evaluated.

    Attributes:
        label: What the table says.
        preset: Whose networks.
        changes: Blocks laid over the preset's, by task.
        settings: Of the transcription.
        target: Times real time that is aimed at.
    """

    label: str
    preset: str
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    target: float | None = None


SHARED = {"onset": RECORDING, "pitch": RECORDING}
WAYS = {
    "window": Way("reference, as published", "reference"),
    "recording": Way("reference, recording maximum", "reference", SHARED, target=15),
    "bfloat16": Way(
        "reference, recording maximum, bfloat16", "reference", SHARED, {"precision": "bfloat16"}, 15
    ),
    "stride": Way(
        "reference, recording maximum, every third window", "reference", SHARED,
        {"vote_stride_frames": 3}, 15,
    ),
    "runs": Way(
        "reference sizes, 101 labelled frames", "reference",
        {"onset": LONG_RUNS, "pitch": LONG_RUNS}, target=15,
    ),
    "cpu": Way("cpu preset", "cpu"),
}  # fmt: skip


def main(quick: bool = False) -> list[Claim | Figure]:
    """Measure all ways; the peak memory of an hour only if there is time."""
    seconds = {"reference": 2.0 if quick else 15.0, "cpu": 5.0 if quick else 150.0}
    repeats = 1 if quick else 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for key, way in WAYS.items():
            write_transcriber(folder / key, way.preset, way.changes)
        for preset, length_s in seconds.items():
            write_piece(folder / f"{preset}.flac", length_s)
        results: list[Claim | Figure] = []
        for key, way in WAYS.items():
            if quick and key in ("window", "runs"):
                continue
            results += figures(folder, key, seconds[way.preset], repeats)
        if not quick:
            write_piece(folder / "hour.flac", 3600)
            results.append(hour(folder))
        return results


def figures(folder: Path, key: str, seconds: float, repeats: int) -> list[Figure]:
    """Return the speed of a way on one thread and on two, and where the time goes."""
    way, found = WAYS[key], []
    audio = folder / f"{way.preset}.flac"
    threshold, seen, inside = chosen_threshold(folder, key, audio, seconds)
    gate = f"{seen:.0%} of windows touch a run, {inside:.0%} of frames are in one"
    aim = "" if way.target is None else f"; aim {way.target:g} on two threads"
    for threads in (1, 2):
        factory = partial(transcription_work, folder, key, audio, threshold, threads)
        # OMP_NUM_THREADS says how many threads a job may have.
        speeds = [speed(measure(factory, threads=threads)) for _ in range(repeats)]
        found.append(
            Figure(
                f"{way.label}, {threads} thread{'s' if threads > 1 else ''}",
                statistics.median(speeds), "times real time", min(speeds), max(speeds),
                note=f"{seconds:g} s, {gate}{aim}",
            )
        )  # fmt: skip
    spent = stages(folder, key, audio, threshold)
    total_s = sum(spent.values())
    shares = ", ".join(f"{stage} {value / total_s:.0%}" for stage, value in spent.items())
    found.append(
        Figure(f"{way.label}, CPU", total_s / seconds * 3600, "CPU s per hour of audio",
               note=shares)
    )  # fmt: skip
    return found


def speed(sample: Sample) -> float:
    """Return seconds of audio per elapsed second."""
    return sample.rate("wall")


def job_of(folder: Path, key: str, audio: Path, threshold: float) -> TranscriptionJob:
    """Return a job with a folder of its own for the results."""
    config = TranscriptionConfig.model_validate({"device": "cpu", **WAYS[key].settings})
    out = Path(tempfile.mkdtemp(dir=folder))
    picking = config.picking(threshold, 0.5)
    return TranscriptionJob("piece", folder / key, out, picking, config, audio)


def chosen_threshold(
    folder: Path, key: str, audio: Path, seconds: float
) -> tuple[float, float, float]:
    """Return the onset threshold; what windows touch a run then, what frames are in one (shares).

    The runs of an untrained network are longer than those of true notes, a quarter of the frames.
    """
    models = ModelFolder.open(folder / key)
    length = models.pitch.model.label_frames
    with audio_frames(audio, models.onset.features, folder) as recording:
        config = TranscriptionConfig(device="cpu", precision="float32")
        # Above every probability: the pitch network is not asked.
        onset, _ = predict_both(models, recording, config, gate_threshold=1.0, threads=1)
    once_s = min(seconds, 60.0)
    n_frames = round(once_s / models.onset.features.grid.seconds_per_frame)
    wanted = windows_seen(runs_of(piano_notes(once_s)[0], n_frames, models.onset.features), length)
    threshold = threshold_for(onset, length, wanted)
    in_runs = onset > threshold
    return threshold, windows_seen(in_runs, length), float(in_runs.mean())


def transcription_work(folder: Path, key: str, audio: Path, threshold: float, threads: int) -> Work:
    """Audio file to notes on disk; units are seconds of audio."""

    def work() -> float:
        job = replace(job_of(folder, key, audio, threshold), threads=threads)
        return transcribe_recording(job).duration_s

    return work


def stages(folder: Path, key: str, audio: Path, threshold: float) -> dict[str, float]:
    """Return CPU seconds by stage, on one thread."""
    models = ModelFolder.open(folder / key)
    job = job_of(folder, key, audio, threshold)
    config, spent = job.config, {}
    began_s = time.process_time()
    with audio_frames(audio, models.onset.features, folder) as recording:
        spent["decoding and CQT"] = time.process_time() - began_s
        for stage, gate in (("onset", 1.0), ("onset, pitch", threshold)):
            predict_both(models, recording, config, gate_threshold=gate, threads=1)  # warm
            began_s = time.process_time()
            predict_both(models, recording, config, gate_threshold=gate, threads=1)
            spent[stage] = time.process_time() - began_s
    began_s = time.process_time()
    transcribe_recording(job)
    whole_s = time.process_time() - began_s
    both_s = spent.pop("onset, pitch")
    spent["pitch network"] = max(0.0, both_s - spent["onset"])
    spent["onset network"] = spent.pop("onset")
    spent["picking, files"] = max(0.0, whole_s - sum(spent.values()))
    return spent


def hour(folder: Path) -> Figure:
    """Return the peak memory of a 60-minute file, by the cpu preset on two threads."""
    audio = folder / "hour.flac"
    factory = partial(once, folder, "cpu", audio, 0.5)
    sample = measure(factory, threads=2)
    note = f"whole process; elapsed {sample.wall_s:.0f} s; aim 700 MB"
    return Figure("60-minute file, cpu preset, peak memory", sample.peak_mb, "MB", note=note)


def once(folder: Path, key: str, audio: Path, threshold: float) -> Work:
    """Transcribe once, when it is asked for the second time: the measuring warms up first."""
    calls = iter((False, True))

    def work() -> float:
        if not next(calls):
            return 0.0
        return transcription_work(folder, key, audio, threshold, 2)()

    return work


if __name__ == "__main__":
    show(main(arguments(__doc__).quick))
