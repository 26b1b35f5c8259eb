"""The systems that `peers.py` compares, and one run of them: pieces in, seconds and notes out."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
from measure import THREAD_SETTINGS

from amt_pipeline.core.errors import CorpusError, UserError
from amt_pipeline.transcription.corpus import read_corpus

FOLDER = Path(__file__).resolve().parent
ENVIRONMENTS = FOLDER / ".envs"
SCRIPTS = FOLDER / "peers"
SECONDS_FILE = "seconds.json"
SETUP = "benchmarks/peers/setup.sh"
THREADS = (1, 2)
WARM_UP_S = 10


@dataclass(frozen=True)
class System:
    """A transcriber.

    Attributes:
        name: Of its script, `peers/<name>_notes.py`, and of its environment.
        label: What people call it.
        turns: Runs per setting: slow ones get one.
    """

    name: str
    label: str
    turns: int


OURS = System("ours", "ours", 3)
PEERS = (
    System("basic_pitch", "basic-pitch", 3),
    System("transkun", "Transkun V2", 1),
    System("kong", "Kong et al.", 1),
)


@dataclass(frozen=True)
class Piece:
    """A recording to transcribe: its name in all results, its audio and its truth."""

    name: str
    audio: Path
    midi: Path
    duration_s: float


@dataclass(frozen=True)
class Run:
    """One process of one system over all pieces; seconds are sums over them.

    Attributes:
        folder: Where its notes are, `<piece>.mid`.
        wall_s: Elapsed seconds from audio files to MIDI files, loading left out.
        cpu_s: CPU seconds of the process in that time.
        load_s: Elapsed seconds to import and load.
        peak_mb: Largest resident memory, 10^6 bytes; None where the system does not tell.
        versions: Versions of its main packages.
    """

    folder: Path
    wall_s: float
    cpu_s: float
    load_s: float
    peak_mb: float | None
    versions: dict[str, str]


Runs = dict[int, list[Run]]
"""Runs of one system, by number of threads."""


def is_installed(peer: System) -> bool:
    """Tell whether a peer's environment is there, and say how to make it where it is not."""
    if python_of(peer).is_file():
        return True
    print(f"{peer.label}: not installed: {SETUP} {peer.name}", flush=True)
    return False


def python_of(system: System) -> Path:
    """Return the interpreter that a system runs in."""
    if system is OURS:
        return Path(sys.executable)
    return ENVIRONMENTS / system.name / "bin" / "python"


def choose_pieces(corpus: Path, limit: int) -> list[Piece]:
    """Return at most `limit` recordings of the test split, evenly spaced over it.

    Raises:
        CorpusError: The corpus cannot be read, or has no test split.
    """
    manifest = read_corpus(corpus, missing="quarantine").manifest
    rows = manifest[manifest["split"] == "test"].to_dict(orient="records")
    if not rows:
        raise CorpusError(corpus, "has no recording in its test split")
    count = min(limit, len(rows))
    chosen = [rows[number * len(rows) // count] for number in range(count)]
    return [
        Piece(
            r["recording_id"], Path(r["audio_path"]), Path(r["midi_path"]), float(r["duration_s"])
        )
        for r in chosen
    ]


def link_pieces(pieces: Sequence[Piece], folder: Path) -> list[Piece]:
    """Return the pieces with links to their audio, each under the piece's own plain name."""
    folder.mkdir(parents=True)
    linked = []
    for piece in pieces:
        link = folder / f"{piece.name}{piece.audio.suffix}"
        link.symlink_to(piece.audio.resolve())
        linked.append(Piece(piece.name, link, piece.midi, piece.duration_s))
    return linked


def run_all(
    systems: Sequence[System],
    pieces: Sequence[Piece],
    scratch: Path,
    weights: dict[str, Path | None],
    *,
    most_turns: int,
) -> dict[System, Runs]:
    """Let the systems take turns over the pieces; a peer that fails is named and left out.

    Raises:
        UserError: Ours failed.
    """
    warm_up = scratch / "warm-up.wav"
    rate = soundfile.info(pieces[0].audio).samplerate
    samples, _ = soundfile.read(pieces[0].audio, frames=WARM_UP_S * rate)
    soundfile.write(warm_up, samples, rate)
    runs: dict[System, Runs] = {system: {threads: [] for threads in THREADS} for system in systems}
    for turn, threads in itertools.product(range(most_turns), THREADS):
        for system in [system for system in runs if turn < system.turns]:
            print(f"{system.label}, threads: {threads}, turn {turn + 1}", flush=True)
            out = scratch / f"{system.name}-{threads}-{turn}"
            try:
                run = run_once(system, pieces, out, warm_up, threads, weights.get(system.name))
            except UserError as error:
                if system is OURS:
                    raise
                print(f"{system.label}: left out: {error}", file=sys.stderr, flush=True)
                del runs[system]
                continue
            runs[system][threads].append(run)
    return runs


def run_once(
    system: System,
    pieces: Sequence[Piece],
    out: Path,
    warm_up: Path,
    threads: int,
    weights: Path | None,
) -> Run:
    """Run a system's script in its environment.

    Raises:
        UserError: It failed; the end of what it said is part of the message.
    """
    script = SCRIPTS / f"{system.name}_notes.py"
    command = [python_of(system), script, "--out", out, "--warm-up", warm_up]
    command += ["--threads", str(threads), *(["--model", weights] if weights else [])]
    command += [piece.audio for piece in pieces]
    environment = os.environ | dict.fromkeys(THREAD_SETTINGS, str(threads))
    words = [str(part) for part in command]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-5:])
        anew = f"Delete {python_of(system).parents[1]}, then {SETUP} {system.name}"
        remedy = "" if system is OURS else anew
        raise UserError(script, f"ended with {done.returncode}: {said}", remedy)
    return read_run(out, pieces)


def read_run(folder: Path, pieces: Sequence[Piece]) -> Run:
    """Read the answer of a script.

    Raises:
        UserError: It is missing, or not about these pieces.
    """
    path = folder / SECONDS_FILE
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
        seconds = [answer["files"][piece.name] for piece in pieces]
        wall_s, cpu_s = (sum(float(s[clock]) for s in seconds) for clock in ("wall_s", "cpu_s"))
        load_s, versions = float(answer["load_s"]), dict(answer["versions"])
        return Run(folder, wall_s, cpu_s, load_s, answer["peak_mb"], versions)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(path, f"is no answer about these pieces: {error!r}") from error
