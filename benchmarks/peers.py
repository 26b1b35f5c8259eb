"""Beside published systems, on the same files: from audio file to notes, speed and note F1.

    benchmarks/peers/setup.sh                                  once: their environments
    .venv/bin/python benchmarks/peers.py                       demo corpus, models of data/06_models
    .venv/bin/python benchmarks/peers.py --corpus FOLDER       test split of a corpus like MAESTRO
    .venv/bin/python benchmarks/peers.py --quick               one short piece, fast systems

Every system runs in its own environment by its script in `benchmarks/peers`: a fresh process loads
the model, transcribes ten seconds unmeasured, then each file by itself. They take turns, with one
thread and with two; loading is left out. All notes are scored by our scorer, onset only within
50 ms, against the MIDI of the corpus. A system that is not installed is named and left out.

CPU seconds on one thread say what many files cost on many cores, one process per core; the clock on
two threads says how long one waits for a single file.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from measure import Claim, Figure, show
from peer_runs import (
    OURS,
    PEERS,
    THREADS,
    Piece,
    Run,
    Runs,
    System,
    choose_pieces,
    is_installed,
    link_pieces,
    run_all,
)

from amt_pipeline.core.errors import UserError
from amt_pipeline.transcription.demo import make_demo_corpus
from amt_pipeline.transcription.note_files import read_notes
from amt_pipeline.transcription.scoring import score_notes
from amt_pipeline.transcription_commands import find_models

DEMO_SEED = 1  # the models may have been trained on the pieces of seed 0
F1_MARGIN = 0.15


def main(
    quick: bool = False,
    *,
    corpus: Path | None = None,
    models: Path | None = None,
    limit: int = 8,
    names: Sequence[str] = (),
    kong_weights: Path | None = None,
) -> list[Claim | Figure]:
    """Measure ours and those of the peers that are installed.

    Args:
        quick: One short piece, one turn, only the peers that are fast.
        corpus: A folder like MAESTRO; None makes a small demo corpus.
        models: Our models folder; see `amt transcribe --models`.
        limit: Pieces of the test split at most, evenly spaced over it.
        names: Peers to compare with; none is all.
        kong_weights: Checkpoint of Kong's network; None times it with random weights.

    Raises:
        UserError: The corpus, the models or a script's answer cannot be used.
    """
    weights = {"ours": find_models(models).resolve(), "kong": kong_weights}
    wanted = [peer for peer in PEERS if not names or peer.name in names]
    installed = [peer for peer in wanted if not (quick and peer.turns == 1) and is_installed(peer)]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        if corpus is None:
            minutes, count = (0.45, 3) if quick else (2.5, 10)
            print("making a demo corpus", flush=True)
            corpus = make_demo_corpus(
                scratch / "demo", seed=DEMO_SEED, minutes=minutes, n_pieces=count
            )
        pieces = link_pieces(choose_pieces(corpus, limit), scratch / "audio")
        runs = run_all([OURS, *installed], pieces, scratch, weights, most_turns=1 if quick else 3)
        return report(runs, pieces)


def mean_f1(folder: Path, pieces: Sequence[Piece]) -> float | None:
    """Return the mean onset-only note F1 of a folder of notes, None where it holds none at all.

    Raises:
        UserError: Some pieces have notes and others have not.
    """
    found = [folder / f"{piece.name}.mid" for piece in pieces]
    absent = [path for path in found if not path.is_file()]
    if len(absent) == len(found):
        return None
    if absent:
        raise UserError(absent[0], "was not written, though others were")
    pairs = zip(pieces, found, strict=True)
    return statistics.fmean(
        score_notes(read_notes(piece.midi), read_notes(path)).f1 for piece, path in pairs
    )


def report(runs: dict[System, Runs], pieces: Sequence[Piece]) -> list[Claim | Figure]:
    """Return the ratios to every peer, then every system's F1 and costs."""
    audio_s = sum(piece.duration_s for piece in pieces)
    note = f"{audio_s:.0f} s of audio in {len(pieces)} files, loading left out"
    f1 = {system: mean_f1(found[1][-1].folder, pieces) for system, found in runs.items()}
    results: list[Claim | Figure] = []
    for peer in (system for system in runs if system is not OURS):
        target = 1.0 if peer is PEERS[0] else None
        results += [
            claim(peer, runs[OURS][threads], runs[peer][threads], audio_s, threads, target, note)
            for threads in THREADS
        ]
    for system, found in runs.items():
        results += figures(system, found, audio_s, f1[system])
    reached, peers_f1 = f1[OURS], f1.get(PEERS[0])
    if reached is not None and peers_f1 is not None:
        aim = f"{F1_MARGIN:g} is aimed at, on real recordings"
        results.append(
            Figure("note F1, ours above basic-pitch", reached - peers_f1, "F1", note=aim)
        )
    return results


def claim(
    peer: System,
    ours: Sequence[Run],
    theirs: Sequence[Run],
    audio_s: float,
    threads: int,
    target: float | None,
    note: str,
) -> Claim:
    """Return how much faster ours is: in CPU time on one thread, by the clock on several."""
    clock = "cpu" if threads == 1 else "wall"
    mine, other = ([getattr(run, f"{clock}_s") for run in side] for side in (ours, theirs))
    # A peer with fewer turns is compared with its last one.
    other += other[-1:] * (len(mine) - len(other))
    return Claim(
        f"audio file to notes, {threads} thread{'s' if threads > 1 else ''}, against {peer.label}",
        "ours", peer.label, "s of audio", clock,
        audio_s / statistics.median(mine), audio_s / statistics.median(other),
        [b / a for a, b in zip(mine, other, strict=True)], target,
        median_peak_mb(ours), median_peak_mb(theirs), note,
    )  # fmt: skip


def median_peak_mb(runs: Sequence[Run]) -> float | None:
    """Return the median of the peaks of resident memory, None where the system does not tell."""
    peaks_mb = [run.peak_mb for run in runs if run.peak_mb is not None]
    return statistics.median(peaks_mb) if peaks_mb else None


def figures(system: System, runs: Runs, audio_s: float, f1: float | None) -> list[Figure]:
    """Return a system's F1, its CPU seconds per second of audio, and its speed by the clock."""
    cpu = [run.cpu_s / audio_s for run in runs[1]]
    speed = [audio_s / run.wall_s for run in runs[2]]
    versions = ", ".join(f"{name} {version}" for name, version in runs[1][0].versions.items())
    load_s = statistics.median(run.load_s for run in runs[1])
    if f1 is None:
        versions += "; random weights: no notes"
    costs = [
        Figure(f"{system.label}, CPU, 1 thread", statistics.median(cpu), "CPU s per s of audio",
               min(cpu), max(cpu), f"{versions}; {load_s:.1f} s to load"),
        Figure(f"{system.label}, speed, 2 threads", statistics.median(speed), "times real time",
               min(speed), max(speed)),
    ]  # fmt: skip
    return costs if f1 is None else [Figure(f"{system.label}, note F1", f1, "F1"), *costs]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare with published systems.")
    parser.add_argument("--quick", action="store_true", help="one short piece, fast systems")
    parser.add_argument("--corpus", type=Path, help="folder like MAESTRO; default: a demo corpus")
    parser.add_argument("--models", type=Path, help="our models; default: data/06_models")
    parser.add_argument("--pieces", type=int, default=8, dest="limit", help="of the test split")
    parser.add_argument("--kong-weights", type=Path, help="its published checkpoint")
    choices = [peer.name for peer in PEERS]
    parser.add_argument("--peers", nargs="+", choices=choices, default=[], dest="names")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        show(main(**vars(_arguments())))
    except UserError as mistake:
        raise SystemExit(f"peers: {mistake}") from None
