"""Unit costs: what an hour of audio, a window, a checkpoint costs; `docs/scaling.md` adds them up.

Figures, compared with nothing: CPU seconds of one process with one thread, bytes on disk. Sound and
notes are those of the demo corpus; frames for the networks are noise, which costs the same. Weights
are untrained, so transcription is given the onset threshold at which as many frames are in onset
runs as in MAESTRO.

    .venv/bin/python benchmarks/units.py [--quick]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from corpus import preset_config, write_corpus
from measure import Figure, Work, arguments, show
from unit_networks import Sizes, figure, network_figures, size_of

from amt_pipeline.core.parallel import ParallelConfig, map_items
from amt_pipeline.transcription.corpus_ingest import CorpusIngestion, ingest_corpus
from amt_pipeline.transcription.demo import make_demo_corpus
from amt_pipeline.transcription.ingest import IngestConfig
from amt_pipeline.transcription.note_files import write_res
from amt_pipeline.transcription.note_table import write_note_table
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.parameters import ScoringConfig
from amt_pipeline.transcription.probabilities import read_probabilities
from amt_pipeline.transcription.split_scoring import score_split
from amt_pipeline.transcription.transcribe import (
    TranscriptionConfig,
    TranscriptionJob,
    transcribe_recording,
)

INLINE = ParallelConfig(workers=1)
NOTES_PER_PIECE = 5500
"""Of MAESTRO: 7 million notes in 1,276 pieces."""
SHARE_IN_RUNS = 0.25
"""Of frames: 9.4 % of MAESTRO's hold an onset, and a run is such a frame with its neighbours."""


FULL = Sizes(1.5, 3000, 2, pieces=4, items=400, repeats=2, presets=("reference", "cpu"))
QUICK = Sizes(0.3, 700, 1, pieces=1, items=40, repeats=1, presets=("cpu",))


def main(quick: bool = False) -> list[Figure]:
    """Measure all unit costs."""
    sizes = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_demo_corpus(folder / "demo", minutes=sizes.minutes, n_pieces=3, workers=1)
        for preset in sizes.presets:
            spec = preset_config(preset, "onset").features
            write_corpus(folder / preset, spec, 2, sizes.frames)
        return [
            *ingest_figures(folder, sizes),
            *network_figures(folder, sizes),
            *transcription_figures(folder, sizes),
            *scoring_figures(folder, sizes),
            scheduling_figure(sizes),
        ]


def ingest(folder: Path, into: Path) -> CorpusIngestion:
    """Ingest the demo corpus into a new folder, in this process."""
    spec = preset_config("reference", "onset").features
    return ingest_corpus(
        folder / "demo", None, store_folder=into / "frames", notes_folder=into / "notes",
        spec=spec, config=IngestConfig(), parallel=INLINE,
    )  # fmt: skip


def ingest_work(folder: Path) -> Work:
    """Ingestion of the demo corpus; units are seconds of audio."""
    into = (Path(tempfile.mkdtemp(dir=folder)) / str(number) for number in count())
    return lambda: float(ingest(folder, next(into)).manifest["duration_s"].sum())


def ingest_figures(folder: Path, sizes: Sizes) -> list[Figure]:
    """Ingestion: CPU seconds and frames per hour of audio."""
    cost = figure(
        "ingestion", "CPU s per hour of audio", partial(ingest_work, folder), sizes, 3600,
        per_unit=True, note=f"{sizes.minutes:g} min of stereo FLAC",
    )  # fmt: skip
    hours = float(ingest(folder, folder / "stored").manifest["duration_s"].sum()) / 3600
    bytes_per_hour = size_of(folder / "stored" / "frames") / hours
    return [cost, Figure("frames", bytes_per_hour / 1e9, "GB per hour of audio")]


def transcription_job(folder: Path, preset: str, out: Path, threshold: float) -> TranscriptionJob:
    """Return the job of transcribing a demo piece with an onset threshold."""
    config = TranscriptionConfig(device="cpu", save_probabilities=threshold > 0.9)
    audio = min(folder.glob("demo/*/*.flac"))
    picking = config.picking(threshold, 0.5)
    return TranscriptionJob("piece", folder / "models" / preset, out, picking, config, audio)


def transcription_work(folder: Path, preset: str) -> Work:
    """Audio file to notes; units are seconds of audio."""
    first = Path(tempfile.mkdtemp(dir=folder))
    # At this threshold nothing is an onset: all that is wanted are the probabilities.
    transcribe_recording(transcription_job(folder, preset, first, 0.999))
    onset = read_probabilities(first / "probabilities" / "piece.npz").onset
    threshold = float(np.clip(np.quantile(onset, 1 - SHARE_IN_RUNS), 0.01, 0.89))

    def work() -> float:
        out = Path(tempfile.mkdtemp(dir=folder))
        return transcribe_recording(transcription_job(folder, preset, out, threshold)).duration_s

    return work


def transcription_figures(folder: Path, sizes: Sizes) -> list[Figure]:
    """Transcription: CPU seconds per hour of audio."""
    note = f"audio file to notes, {SHARE_IN_RUNS:.0%} of frames in onset runs"
    return [
        figure(
            f"transcription, {preset}", "CPU s per hour of audio",
            partial(transcription_work, folder, preset), sizes, 3600, per_unit=True, note=note,
        )
        for preset in sizes.presets
    ]  # fmt: skip


def scoring_work(folder: Path, pieces: int) -> Work:
    """Scoring of transcriptions against note tables; units are pieces."""
    rng, names = np.random.default_rng(0), [f"piece-{number}" for number in range(pieces)]
    for name in names:
        onset_s = np.sort(rng.uniform(0, 600, NOTES_PER_PIECE))
        pitch = rng.integers(21, 109, NOTES_PER_PIECE)
        write_note_table(
            folder / "truth" / f"{name}.parquet", Notes.from_arrays(onset_s, onset_s + 0.3, pitch)
        )
        found_s = np.maximum(onset_s + rng.normal(0, 0.02, NOTES_PER_PIECE), 0)
        found = Notes.from_arrays(found_s, found_s + 0.3, pitch)
        write_res(folder / "found" / f"{name}.res", found)

    def work() -> float:
        score_split(folder / "found", folder / "truth", names, ScoringConfig(), INLINE)
        return pieces

    return work


def scoring_figures(folder: Path, sizes: Sizes) -> list[Figure]:
    """Scoring: CPU seconds per 1,000 pieces; and the tables that are read."""
    note = f"{NOTES_PER_PIECE:,} notes each"
    cost = figure(
        "scoring", "CPU s per 1,000 pieces", partial(scoring_work, folder, sizes.pieces), sizes,
        1000, per_unit=True, note=note,
    )  # fmt: skip
    bytes_per_note = size_of(folder / "truth") / sizes.pieces / NOTES_PER_PIECE
    return [cost, Figure("note tables", bytes_per_note, "bytes per note", note=note)]


def scheduling_figure(sizes: Sizes) -> Figure:
    """What an item costs on a Dask cluster beside its own work."""
    from distributed import LocalCluster

    with LocalCluster(
        2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        there = ParallelConfig(backend="dask", scheduler=cluster.scheduler_address)
        values = []
        for _ in range(sizes.repeats):
            began_s = time.perf_counter()
            items = [str(number) for number in range(sizes.items)]
            n_done = sum(1 for _ in map_items(str.upper, items, label="Nothing", parallel=there))
            values.append(1000 * (time.perf_counter() - began_s) / n_done)
    note = "two workers, scheduler and all on one machine; elapsed time"
    return Figure("Dask, one item", statistics.median(values), "ms", min(values), max(values), note)


if __name__ == "__main__":
    show(main(arguments(__doc__).quick))
