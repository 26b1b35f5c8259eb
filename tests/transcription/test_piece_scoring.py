from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from amt_pipeline.core.errors import MidiError
from amt_pipeline.core.parallel import LOCAL, ParallelConfig
from amt_pipeline.transcription import piece_scoring
from amt_pipeline.transcription.note_files import write_midi, write_res
from amt_pipeline.transcription.note_table import write_note_table
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.piece_scoring import Piece, score_pieces
from amt_pipeline.transcription.scoring import score_notes


def some_notes(seed: int) -> Notes:
    rng = np.random.default_rng(seed)
    onset_s = rng.integers(0, 20_000, 40) / 1000
    return Notes.from_arrays(onset_s, onset_s + 0.5, rng.integers(21, 109, 40))


@pytest.fixture
def pieces(tmp_path: Path) -> list[Piece]:
    """Seven pieces, named against the alphabet, the longest first."""
    found = []
    for number in range(7):
        name = f"{9 - number}"
        truth, heard = tmp_path / f"{name}.parquet", tmp_path / f"{name}.res"
        notes = some_notes(number)
        write_note_table(truth, notes)
        write_res(heard, notes.within(0, 20 - 2 * number))
        found.append((name, truth, heard))
    return found


def test_processes_give_what_one_gives_in_the_same_order(pieces: list[Piece]) -> None:
    alone = score_pieces(pieces, parallel=ParallelConfig(workers=1), with_offsets=True)
    together = score_pieces(pieces, parallel=ParallelConfig(workers=2), with_offsets=True)
    assert [name for name, _ in alone] == [name for name, _, _ in pieces]
    assert [(n, asdict(s)) for n, s in together] == [(n, asdict(s)) for n, s in alone]
    assert alone[0][1].f1 == 1 > alone[-1][1].f1


def test_each_kind_of_file_is_read(tmp_path: Path) -> None:
    notes = some_notes(0)
    write_note_table(tmp_path / "a.parquet", notes)
    write_res(tmp_path / "a.txt", notes)
    write_midi(tmp_path / "a.midi", notes)
    pieces = [("a", tmp_path / f"a{suffix}", tmp_path / "a.txt") for suffix in (".parquet", ".txt")]
    pieces.append(("a", tmp_path / "a.midi", tmp_path / "a.midi"))
    assert [score.f1 for _, score in score_pieces(pieces)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("kind", "n_bytes", "workers", "inline"),
    [
        (".res", 24_000_000, None, True),
        (".res", 26_000_000, None, False),
        (".midi", 1_900_000, None, True),
        (".midi", 2_100_000, None, False),
        (".res", 10, 2, False),
        (".res", 26_000_000, 1, True),
    ],
)
def test_little_work_starts_no_process(
    kind: str,
    n_bytes: int,
    workers: int | None,
    inline: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def listen(
        function: object, items: list[Piece], *, parallel: ParallelConfig, **_: object
    ) -> Any:
        asked.append(parallel)
        score = score_notes(Notes.empty(), Notes.empty())
        return [(item, score) for item in items]

    monkeypatch.setattr(piece_scoring, "map_items", listen)
    path = tmp_path / f"large{kind}"
    with path.open("wb") as stream:
        stream.truncate(n_bytes)
    where = LOCAL if workers is None else ParallelConfig(workers=workers)
    missing = tmp_path / "missing.res"
    assert len(score_pieces([("a", path, missing)], parallel=where)) == 1
    assert [config.is_inline for config in asked] == [inline]


def test_a_broken_file_is_named(pieces: list[Piece], tmp_path: Path) -> None:
    (tmp_path / "7.res").write_text("0.5\t0.6\tC4\n")
    with pytest.raises(MidiError, match=r"7\.res, line 1: 'C4' is not a number"):
        score_pieces(pieces)
