"""A stand-in for MAESTRO that the project makes itself: made-up piano music, rendered.

The folder has the published layout of MAESTRO v3 (`maestro-v3.0.0.csv`, `<year>/<name>.midi` and
audio), so that everything that reads MAESTRO reads it. Pieces are written one by one, each complete
or absent; the metadata table is written last and marks the corpus as complete.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from amt_pipeline.audio.io import audio_info, write_flac
from amt_pipeline.audio.render import render_notes
from amt_pipeline.core.errors import ConfigError, CorpusError, storage_error
from amt_pipeline.core.files import read_json, remove_leftovers, write_json, write_text
from amt_pipeline.core.parallel import Failure, ParallelConfig, map_items
from amt_pipeline.core.seeding import derive_rng
from amt_pipeline.transcription.demo_harmony import harmony
from amt_pipeline.transcription.demo_performance import perform
from amt_pipeline.transcription.demo_textures import TEXTURES
from amt_pipeline.transcription.metadata import COLUMNS

METADATA_NAME = "maestro-v3.0.0.csv"
PARAMETERS_NAME = "demo.json"
SAMPLE_RATE = 44100
NOISE_FLOOR = 10 ** (-70 / 20)

_VERSION = 1  # counts up when the same parameters give other files
_KEYS = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
_SPLITS = ("train", "validation", "test", "train", "train", "train", "train")
_PROGRAMS = (0, 1, 0, 2, 1, 0, 1, 3)
_TAIL_S = 1.5
_SILENCE_S = 2.5  # of a piece: lead-in, last rest and tail


@dataclass(frozen=True)
class Piece:
    """One piece to be made: everything but the notes, which follow from its seed and name."""

    folder: Path
    seed: int
    index: int
    number: int
    split: str
    program: int
    duration_s: float

    @property
    def name(self) -> str:
        """File name without suffix, relative to the corpus."""
        texture = TEXTURES[self.index % len(TEXTURES)]
        return f"{2001 + self.number}/demo-{self.index:03d}-{texture.name}"

    @property
    def key(self) -> tuple[int, bool]:
        """Tonic as pitch class, and whether it is minor; all 24 keys take turns."""
        return (self.index * 7 + self.number * 2) % 12, (self.index + self.number) % 2 == 1

    @property
    def title(self) -> str:
        """A title that no other piece has."""
        tonic, minor = self.key
        texture = TEXTURES[self.index % len(TEXTURES)]
        mode = "minor" if minor else "major"
        return f"{texture.title} No. {self.number + 1} in {_KEYS[tonic]} {mode}"

    @property
    def midi_path(self) -> Path:
        """Where the keys and the pedal are."""
        return self.folder / f"{self.name}.midi"

    @property
    def audio_path(self) -> Path:
        """Where the sound is; written after the MIDI file, so it marks the piece as complete."""
        return self.folder / f"{self.name}.flac"


def make_demo_corpus(
    folder: Path,
    *,
    seed: int = 0,
    minutes: float = 25.0,
    n_pieces: int = 36,
    workers: int | None = None,
) -> Path:
    """Make the demo corpus, or the missing part of it; a complete one is returned at once.

    The same parameters give the same bytes, however many workers make them. Other parameters than
    those of an earlier run replace its pieces.

    Args:
        folder: Where the corpus goes.
        seed: Of everything that is left to chance.
        minutes: Length of all pieces together, about.
        n_pieces: At least 3; from 18 on every split has every texture. Splits are about
            70/15/15 and share no piece.
        workers: Processes; None is one per processor.

    Returns:
        `folder`.

    Raises:
        ConfigError: Too few pieces, or too short ones.
        CorpusError: The folder holds a corpus that is not a demo.
        StorageError: The disk refused.
    """
    if n_pieces < 3 or not 5 * n_pieces <= minutes * 60 < math.inf:
        raise ConfigError(
            "demo corpus",
            f"n_pieces={n_pieces}, minutes={minutes} cannot be split",
            "Ask for 3 pieces or more, of 5 s or more each",
        )
    folder = Path(folder)
    wanted = {"version": _VERSION, "seed": seed, "minutes": minutes, "n_pieces": n_pieces}
    pieces = _plan(folder, seed, minutes, n_pieces)
    _forget_other_corpus(folder, wanted)
    remove_leftovers(folder, deep=True)
    missing = [p for p in pieces if not (p.midi_path.is_file() and p.audio_path.is_file())]
    if not missing and (folder / METADATA_NAME).is_file():
        return folder
    _remove([folder / METADATA_NAME])
    if missing:
        local = ParallelConfig(workers=workers)
        for _, outcome in map_items(
            make_piece, missing, label="Demo corpus", unit="piece", parallel=local
        ):
            if isinstance(outcome, Failure):
                raise outcome.error
    write_text(folder / METADATA_NAME, _metadata(pieces))
    return folder


def make_piece(piece: Piece) -> None:
    """Write the MIDI file and the recording of one piece.

    Raises:
        StorageError: The disk refused.
    """
    rng = derive_rng(piece.seed, "demo", piece.name)
    texture = TEXTURES[piece.index % len(TEXTURES)]
    meter = int(rng.choice(texture.meters))
    nominal_bpm = rng.uniform(*texture.bpm)
    music_s = piece.duration_s - _SILENCE_S
    bars = max(2, round(music_s * nominal_bpm / 60 / meter))
    bpm = float(np.clip(bars * meter * 60 / music_s, *texture.bpm))
    chords = harmony(rng, *piece.key, bars, meter)
    performance = perform(
        rng,
        texture.write(rng, chords),
        chords,
        bpm=bpm,
        phrase_beats=4.0 * meter,
        pedalled=bool(rng.random() < texture.pedalled),
    )
    performance.write_midi(piece.midi_path)
    samples = render_notes(
        performance.seconds(performance.onset),
        performance.seconds(performance.sounding_end()),
        performance.pitch,
        performance.velocity,
        program=piece.program,
        sample_rate=SAMPLE_RATE,
        tail_s=_TAIL_S,
    )
    write_flac(piece.audio_path, _record(rng, samples), SAMPLE_RATE)


def _record(rng: np.random.Generator, samples: np.ndarray) -> np.ndarray:
    """Set level and balance as a recording would have them, and add its noise floor."""
    balance = 10 ** (rng.uniform(-1.5, 1.5) * np.array([0.5, -0.5]) / 20)
    peak = 10 ** (rng.uniform(-9, -1.5) / 20)
    placed = samples * balance.astype(np.float32)
    placed *= np.float32(peak / max(float(np.abs(placed).max()), 1e-9))
    noise = rng.standard_normal(placed.shape, dtype=np.float32)
    return np.asarray(placed + np.float32(NOISE_FLOOR) * noise)


def _plan(folder: Path, seed: int, minutes: float, n_pieces: int) -> list[Piece]:
    shares = derive_rng(seed, "demo", "lengths").uniform(0.75, 1.25, n_pieces)
    durations = shares / shares.sum() * minutes * 60
    pieces = []
    for index, duration_s in enumerate(durations):
        number = index // len(TEXTURES)
        # Rounds through all textures go to one split, so that each split has every texture.
        turn = number if n_pieces >= 3 * len(TEXTURES) else index
        split = _SPLITS[turn % len(_SPLITS)]
        program = _PROGRAMS[(index + number) % len(_PROGRAMS)]
        pieces.append(Piece(folder, seed, index, number, split, program, float(duration_s)))
    return pieces


def _forget_other_corpus(folder: Path, wanted: dict[str, float]) -> None:
    """Remove pieces made with other parameters, then note the wanted ones."""
    parameters, metadata = folder / PARAMETERS_NAME, folder / METADATA_NAME
    if not parameters.is_file():
        if metadata.exists():
            raise CorpusError(
                folder, "holds a corpus that is not a demo", "Choose another folder for the demo"
            )
    elif read_json(parameters) == wanted:
        return
    _remove([metadata, *folder.glob("*/demo-*.midi"), *folder.glob("*/demo-*.flac")])
    write_json(parameters, wanted)


def _remove(paths: list[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(path, error) from error


def _metadata(pieces: list[Piece]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for piece in sorted(pieces, key=lambda p: p.title):
        duration_s = audio_info(piece.audio_path).duration_s
        year = piece.name.split("/")[0]
        names = (f"{piece.name}.midi", f"{piece.name}.flac")
        writer.writerow(("Demo", piece.title, piece.split, year, *names, duration_s))
    return table.getvalue()
