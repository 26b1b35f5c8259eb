"""Ingestion: the constant-Q transform against librosa's, what the pipeline adds, workers, memory.

The sound is synthetic: struck tones with partials and a little noise, 44.1 kHz stereo, as FLAC; the
notes are as many as MAESTRO has in that time. Frames are those of the reference: 356 bins, a frame
every 512 samples, half precision.

    .venv/bin/python benchmarks/ingest.py [--quick]
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
from measure import Claim, Figure, Work, arguments, compare, measure, show

from amt_pipeline.core.parallel import ParallelConfig, map_items
from amt_pipeline.features.cqt import constant_q
from amt_pipeline.features.extract import extract_frames
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.transcription.ingest import IngestedRecording, IngestJob, ingest_recording
from amt_pipeline.transcription.note_files import write_midi
from amt_pipeline.transcription.notes import Notes

SPEC = FeatureSpec()
RATE = SPEC.sample_rate
NOTES_PER_SECOND = 10  # MAESTRO: 7 million in 200 hours
PATTERN_S = 20
MOST_MB = 700


def main(quick: bool = False) -> list[Claim | Figure]:
    """Measure all claims of ingestion."""
    seconds, minutes, turns, pieces = (20, 1, 2, 2) if quick else (60, 20, 5, 6)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        five, long, many = 5 * seconds, minutes * 60, 2 * seconds
        for file, length in (("five", five), ("long", long), ("many", many)):
            write_recording(folder / file, length)
        memory = measure(partial(ingest_work, folder / "long", long))
        return [
            compare(
                "constant-Q transform",
                ("ours", partial(cqt_work, seconds)),
                ("librosa.cqt", partial(librosa_work, seconds)),
                unit="s of audio", target=1.5, repeats=turns,
                note=f"magnitudes of {seconds} s of stereo in memory, float32",
            ),
            compare(
                "ingestion of one recording",
                ("ingest_recording", partial(ingest_work, folder / "five", five)),
                ("decode + CQT alone", partial(floor_work, folder / "five", five)),
                unit="s of audio", target=1 / 1.3, repeats=turns,
                note=f"{five} s of stereo FLAC to stored frames and notes, hashes included",
            ),
            compare(
                "ingestion by two workers",
                ("2 workers", partial(workers_work, folder / "many", many, pieces, 2)),
                ("1 worker", partial(workers_work, folder / "many", many, pieces, 1)),
                unit="s of audio", clock="wall", target=1.8, repeats=min(turns, 3),
                note=f"{pieces} recordings of {many} s, workers already started",
            ),
            Figure(
                "peak memory of ingestion", memory.peak_mb, "MB",
                note=f"whole process, one stereo recording of {minutes} min; at most {MOST_MB} MB",
            ),
        ]  # fmt: skip


def synthetic_sound(seconds: int) -> npt.NDArray[np.float32]:
    """Return `[seconds * RATE, 2]`: twenty seconds of struck tones, repeated; peak 0.7."""
    rng = np.random.default_rng(0)
    time_s = np.arange(2 * RATE) / RATE
    sound = rng.normal(0, 3e-4, (PATTERN_S * RATE, 2))
    for first in rng.integers(0, (PATTERN_S - 2) * RATE, PATTERN_S * NOTES_PER_SECOND):
        hz = 27.5 * 2 ** (rng.integers(0, 80) / 12)
        for harmonic in range(1, 7):
            if harmonic * hz < RATE / 2:
                wave = np.exp(-3 * time_s) * np.sin(2 * np.pi * harmonic * hz * time_s) / harmonic
                sound[first : first + 2 * RATE] += wave[:, None] * rng.uniform(0.3, 1, 2)
    pattern = (0.7 * sound / np.abs(sound).max()).astype(np.float32)
    return np.resize(pattern, (seconds * RATE, 2))


def write_recording(stem: Path, seconds: int) -> None:
    """Write `<stem>.flac` and `<stem>.midi`, block by block."""
    pattern = synthetic_sound(PATTERN_S)
    with soundfile.SoundFile(stem.with_suffix(".flac"), "w", RATE, 2, subtype="PCM_16") as stream:
        for start in range(0, seconds, PATTERN_S):
            stream.write(pattern[: min(PATTERN_S, seconds - start) * RATE])
    rng = np.random.default_rng(1)
    n_notes = seconds * NOTES_PER_SECOND
    onset_s = np.sort(rng.uniform(0, seconds - 1, n_notes))
    write_midi(
        stem.with_suffix(".midi"),
        Notes.from_arrays(onset_s, onset_s + 0.08, rng.integers(21, 109, n_notes)),
    )


def cqt_work(seconds: int) -> Work:
    """Frames of a waveform in memory, by our transform."""
    sound, spec = synthetic_sound(seconds), SPEC.model_copy(update={"dtype": "float32"})
    return lambda: len(extract_frames(sound, spec)) and float(seconds)


def librosa_work(seconds: int) -> Work:
    """The same by librosa, channel by channel; it compiles in the unmeasured call."""
    import librosa

    channels = np.ascontiguousarray(synthetic_sound(seconds).T)

    def work() -> float:
        for channel in channels:
            np.abs(
                librosa.cqt(
                    channel, sr=RATE, hop_length=SPEC.hop_samples, fmin=SPEC.fmin_hz,
                    n_bins=SPEC.bins, bins_per_octave=SPEC.bins_per_octave,
                )
            )  # fmt: skip
        return float(seconds)

    return work


def floor_work(stem: Path, seconds: int) -> Work:
    """Decode a file and transform its blocks: nothing is checked, kept or written."""
    transform = constant_q(SPEC)
    step = transform.step_frames * SPEC.hop_samples
    overlap = transform.block_samples - step

    def work() -> float:
        block = np.zeros((2, transform.block_samples), np.float32)
        with soundfile.SoundFile(stem.with_suffix(".flac")) as stream:
            while len(decoded := stream.read(step, dtype="float32")):
                block[:, :overlap] = block[:, step:]
                block[:, overlap : overlap + len(decoded)] = decoded.T
                transform(block)
        return float(seconds)

    return work


def ingest_job(stem: Path, into: Path, name: str = "piece") -> IngestJob:
    """Return the job of a recording that `write_recording` wrote."""
    row = {
        "recording_id": name,
        "audio_path": str(stem.with_suffix(".flac")),
        "midi_path": str(stem.with_suffix(".midi")),
        "duration_s": soundfile.info(stem.with_suffix(".flac")).duration,
    }
    return IngestJob(row, into / "frames", into / "notes", SPEC, "sustain")


def ingest_work(stem: Path, seconds: int) -> Work:
    """Ingest a recording into an empty store."""
    folder = stem.parent / f"{stem.name}-stored"

    def work() -> float:
        shutil.rmtree(folder, ignore_errors=True)
        ingest_recording(ingest_job(stem, folder))
        return float(seconds)

    return work


def workers_work(stem: Path, seconds: int, pieces: int, workers: int) -> Work:
    """Ingest copies of a recording into an empty store, by worker processes."""
    folder = stem.parent / f"{stem.name}-stored-by-{workers}"

    def work() -> float:
        shutil.rmtree(folder, ignore_errors=True)
        job = ingest_job(stem, folder)
        jobs = [replace(job, row={**job.row, "recording_id": str(n)}) for n in range(pieces)]
        outcomes = map_items(
            ingest_recording, jobs, label="Ingest", parallel=ParallelConfig(workers=workers)
        )
        done = [outcome for _, outcome in outcomes if isinstance(outcome, IngestedRecording)]
        return float(len(done) * seconds)

    return work


if __name__ == "__main__":
    show(main(arguments(str(__doc__).partition("\n")[0]).quick))
