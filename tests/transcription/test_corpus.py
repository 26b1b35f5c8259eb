from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core.errors import CorpusError, MidiError
from amt_pipeline.store.manifest import SPLITS
from amt_pipeline.transcription.corpus import (
    check_recording,
    read_corpus,
    recording_ids,
)
from amt_pipeline.transcription.metadata import COLUMNS
from amt_pipeline.transcription.note_files import write_midi
from amt_pipeline.transcription.notes import Notes

N_RECORDINGS = 6


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A corpus of six recordings, two per split; the audio is a placeholder, nobody reads it."""
    folder = tmp_path / "maestro"
    notes = Notes.from_arrays([0.5, 8.0], [1.0, 9.0], [60, 64])
    for number in range(N_RECORDINGS):
        write_midi(folder / "2004" / f"piece {number}.midi", notes)
        (folder / "2004" / f"piece {number}.wav").write_bytes(b"sound %d" % number)
    write_index(folder)
    return folder


def write_index(folder: Path, name: str = "maestro-v3.0.0.csv", **cells: Any) -> None:
    """Write the index; `cells` replaces cells of the first row."""
    with (folder / name).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        for number in range(N_RECORDINGS):
            row: dict[str, Any] = {
                "canonical_composer": "C. Omposer",
                "canonical_title": f"Piece {number}",
                "split": SPLITS[number % 3],
                "year": 2004,
                "midi_filename": f"2004/piece {number}.midi",
                "audio_filename": f"2004/piece {number}.wav",
                "duration": 10.0,
            }
            writer.writerow(row | (cells if number == 0 else {}))


def first_row(root: Path) -> dict[str, Any]:
    return read_corpus(root).manifest.to_dict("records")[0]


def test_corpus_becomes_a_manifest(root: Path) -> None:
    reading = read_corpus(root)
    frame = reading.manifest
    assert frame["recording_id"].tolist() == [f"piece_{number}" for number in range(N_RECORDINGS)]
    assert frame["split"].tolist() == [*SPLITS, *SPLITS]
    assert frame["audio_path"][3] == str(root / "2004" / "piece 3.wav")
    assert frame["midi_path"][3] == str(root / "2004" / "piece 3.midi")
    assert frame["title"][5] == "Piece 5"
    assert set(frame["audio_sha256"]) == set(frame["midi_sha256"]) == {""}
    assert reading.warnings == ()
    assert reading.quarantine.empty


def test_paths_are_absolute(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert Path(read_corpus("maestro").manifest["audio_path"][0]).is_absolute()


def test_missing_files_are_all_listed_and_refused(root: Path) -> None:
    absent = [root / "2004" / "piece 1.wav", root / "2004" / "piece 4.midi"]
    for path in absent:
        path.unlink()
    with pytest.raises(CorpusError, match="2 of 6 recordings lack a file") as caught:
        read_corpus(root)
    assert all(str(path) in str(caught.value) for path in absent)
    assert "ingest.missing=quarantine" in str(caught.value)


def test_missing_files_can_be_quarantined(root: Path) -> None:
    (root / "2004" / "piece 1.wav").unlink()
    (root / "2004" / "piece 1.midi").unlink()
    (root / "2004" / "piece 4.midi").unlink()
    reading = read_corpus(root, missing="quarantine")
    assert reading.manifest["recording_id"].tolist() == ["piece_0", "piece_2", "piece_3", "piece_5"]
    assert reading.quarantine["recording_id"].tolist() == ["piece_1", "piece_1", "piece_4"]
    assert set(reading.quarantine["reason"]) == {"no such file"}
    assert reading.quarantine["path"][2] == str(root / "2004" / "piece 4.midi")


@pytest.mark.parametrize("missing", ["refuse", "quarantine"])
def test_no_audio_at_all_is_another_mistake(root: Path, missing: Any) -> None:
    for path in root.rglob("*.wav"):
        path.unlink()
    with pytest.raises(CorpusError, match=r"none of the 6 audio files.*MIDI-only download"):
        read_corpus(root, missing=missing)


def test_non_ascii_names_are_reported_readable(root: Path) -> None:
    write_index(root, audio_filename="2004/Étude nº 3.wav")
    with pytest.raises(CorpusError, match=r"2004/Étude nº 3\.wav"):
        read_corpus(root)


def test_audio_that_is_not_in_the_index_is_told(root: Path) -> None:
    for number in range(5):
        (root / "2004" / f"extra{number}.flac").write_bytes(b"")
    (root / "2004" / "._piece 0.wav").write_bytes(b"")
    (warning,) = read_corpus(root).warnings
    assert warning.startswith("5 audio files")
    assert "2004/extra0.flac, 2004/extra1.flac, 2004/extra2.flac, ..." in warning
    (root / "2004" / "extra0.flac").unlink()
    for number in range(2, 5):
        (root / "2004" / f"extra{number}.flac").unlink()
    (warning,) = read_corpus(root).warnings
    assert warning.endswith("left out: 2004/extra1.flac")


def test_one_of_several_indices(root: Path) -> None:
    write_index(root, "maestro-v1.0.0.csv", year=1999)
    (warning,) = read_corpus(root).warnings
    assert "maestro-v3.0.0.csv is used" in warning
    chosen = read_corpus(root, "maestro-v1.0.0.csv")
    assert chosen.manifest["year"][0] == 1999
    assert chosen.warnings == ()


def test_index_outside_the_folder(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "maestro-v3.0.0.csv", tmp_path / "mine.csv")
    assert len(read_corpus(root, str(tmp_path / "mine.csv")).manifest) == N_RECORDINGS


def test_a_piece_in_two_splits(root: Path) -> None:
    write_index(root, canonical_title="Piece 1")
    with pytest.raises(
        CorpusError, match=r"Piece 1 is in train \(piece_0\), validation \(piece_1\)"
    ):
        read_corpus(root)
    assert len(read_corpus(root, allow_shared_pieces=True).manifest) == N_RECORDINGS


def test_faults_of_the_index_come_before_anything_else(root: Path) -> None:
    write_index(root, split="valid", audio_filename="2004/absent.wav")
    with pytest.raises(CorpusError, match=r"'valid' \(row 1\)"):
        read_corpus(root)


def test_ids_are_unique_safe_and_independent_of_order() -> None:
    names = [
        "2004/Étude nº 3.wav",
        "2004/same.wav",
        "2006/Same.wav",
        "2006/東京.wav",
        f"2006/{'x' * 150}.wav",
        "2006/..wav",
    ]
    ids = recording_ids(names)
    assert ids[0] == "Etude_no_3"
    assert len({name.lower() for name in ids}) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzEtudS_-.0123456789") for name in ids)
    assert max(map(len, ids)) <= 109
    assert recording_ids(names[::-1]) == ids[::-1]


def test_recording_that_fits(root: Path) -> None:
    checked = check_recording(first_row(root), 10.2)
    assert checked.notes.pitch.tolist() == [60, 64]
    assert checked.warnings == ()


def test_audio_that_ends_before_the_last_note(root: Path) -> None:
    row = first_row(root)
    assert len(check_recording(row, 7.0).notes) == 2
    with pytest.raises(
        CorpusError, match=r"ends at 6\.5 s, but its MIDI has a note at 8\.0 s"
    ) as e:
        check_recording(row, 6.5)
    assert e.value.where == row["audio_path"]


def test_long_tails_and_wrong_durations_are_told(root: Path) -> None:
    row = first_row(root)
    assert check_recording(row, 13.9).warnings == ("the index says 10.0 s, the audio lasts 13.9 s",)
    assert "goes on for 6.0 s after the last note" in check_recording(row, 15.0).warnings[1]
    write_midi(row["midi_path"], Notes.from_arrays([0.0], [500.0], [60]))
    assert check_recording(row | {"duration_s": 555.0}, 555.0).warnings == ()
    (warning,) = check_recording(row | {"duration_s": 565.0}, 565.0).warnings
    assert "goes on for 65.0 s" in warning


def test_recording_without_notes_and_with_odd_ones(root: Path) -> None:
    row = first_row(root)
    write_midi(row["midi_path"], Notes.empty())
    assert check_recording(row, 10.0).warnings == ("no notes",)
    write_midi(row["midi_path"], Notes.from_arrays([1.0, 2.0], [2.0, 9.0], [12, 60]))
    checked = check_recording(row, 10.0)
    assert checked.notes.pitch.tolist() == [60]
    assert checked.warnings == ("1 note outside the piano (21-108) left out",)


def test_damaged_midi_is_named(root: Path) -> None:
    row = first_row(root)
    Path(row["midi_path"]).write_bytes(b"MThd")
    with pytest.raises(MidiError, match="cut off") as caught:
        check_recording(row, 10.0)
    assert caught.value.where == row["midi_path"]
