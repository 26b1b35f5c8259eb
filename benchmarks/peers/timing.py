"""What every system's script here is asked, and what it answers. Standard library only.

A script runs inside the system's own environment:

    <python> basic_pitch_notes.py --out FOLDER --threads N --warm-up FILE AUDIO...

It loads its model, transcribes the warm-up file unmeasured, then every audio file by itself, and
leaves FOLDER/<stem>.mid per file and FOLDER/seconds.json. A file's seconds are from audio file to
MIDI file. With `--check` it loads its model and does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

SECONDS_FILE = "seconds.json"

Transcribe = Callable[[Path, Path], None]
"""Reads the audio of the first path and writes the MIDI file of the second."""
Load = Callable[[int, Path | None], Transcribe]
"""Loads the model for so many CPU threads, from a path of one's own where one was given."""


def serve(load: Load, packages: Sequence[str]) -> None:
    """Do what the command line asks for.

    Args:
        load: See `Load`.
        packages: Installed packages whose versions belong to the answer.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("audio", nargs="*", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warm-up", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        load(options.threads, options.model)
        return
    if not (options.audio and options.out and options.warm_up):
        parser.error("needs audio files, --out and --warm-up")
    options.out.mkdir(parents=True, exist_ok=True)
    began_s = time.perf_counter()
    transcribe = load(options.threads, options.model)
    load_s = time.perf_counter() - began_s
    transcribe(options.warm_up, options.out / "warm-up.mid")
    (options.out / "warm-up.mid").unlink(missing_ok=True)
    files = {path.stem: _timed(transcribe, path, options.out) for path in options.audio}
    versions = {name: metadata.version(name) for name in packages}
    answer = {"load_s": load_s, "peak_mb": _peak_mb(), "versions": versions, "files": files}
    (options.out / SECONDS_FILE).write_text(json.dumps(answer, indent=1) + "\n")


def _timed(transcribe: Transcribe, audio: Path, out: Path) -> dict[str, float]:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    transcribe(audio, out / f"{audio.stem}.mid")
    return {"wall_s": time.perf_counter() - wall_s, "cpu_s": time.process_time() - cpu_s}


def _peak_mb() -> float | None:
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    lines = status.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


def quiet() -> None:
    """Send what libraries print to nowhere; errors still come out."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
