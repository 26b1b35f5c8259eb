from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.transcription.metadata import (
    COLUMNS,
    find_metadata,
    list_metadata,
    read_maestro_metadata,
)

Row = dict[str, Any]


def rows() -> list[Row]:
    names = ["Étude", "Prélude, op. 3", 'Finale "à la"']
    return [
        {
            "canonical_composer": f"Composer {number}",
            "canonical_title": name,
            "split": ("train", "validation", "test")[number],
            "year": 2004 + number,
            "midi_filename": f"2004/{number}.midi",
            "audio_filename": f"2004/{number}.wav",
            "duration": 10.5 + number,
        }
        for number, name in enumerate(names)
    ]


def write_csv(path: Path, table: list[Row], encoding: str = "utf-8", newline: str = "\n") -> Path:
    with path.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(table[0]), lineterminator=newline)
        writer.writeheader()
        writer.writerows(table)
    return path


def fault(path: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        read_maestro_metadata(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    return text


def changed(index: int, **cells: Any) -> list[Row]:
    table = rows()
    table[index] |= cells
    return table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "maestro-v3.0.0.csv"


def test_csv_is_read_with_types(path: Path) -> None:
    frame = read_maestro_metadata(write_csv(path, rows()))
    assert tuple(frame.columns) == COLUMNS
    assert frame["canonical_title"].tolist() == ["Étude", "Prélude, op. 3", 'Finale "à la"']
    assert frame["duration"].tolist() == [10.5, 11.5, 12.5]
    assert frame["year"].tolist() == [2004, 2005, 2006]


def test_windows_csv_with_byte_order_mark(path: Path) -> None:
    write_csv(path, rows(), encoding="utf-8-sig", newline="\r\n")
    frame = read_maestro_metadata(path)
    assert frame.columns[0] == "canonical_composer"
    assert frame["duration"].tolist() == [10.5, 11.5, 12.5]


def test_further_columns_and_blank_lines_do_no_harm(path: Path) -> None:
    write_csv(path, [{"extra": "x", **row} for row in rows()])
    path.write_text(path.read_text() + "\n\n")
    assert len(read_maestro_metadata(path)) == 3


def test_json_of_all_versions_gives_the_same_table(tmp_path: Path, path: Path) -> None:
    expected = read_maestro_metadata(write_csv(path, rows()))
    records = tmp_path / "maestro-v1.0.0.json"
    records.write_text(json.dumps(rows()))
    columns = tmp_path / "maestro-v3.0.0.json"
    by_column = {name: {str(i): row[name] for i, row in enumerate(rows())} for name in COLUMNS}
    columns.write_text(json.dumps(by_column))
    assert read_maestro_metadata(records).equals(expected)
    assert read_maestro_metadata(columns).equals(expected)


def test_composer_title_and_year_may_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    cells = {"canonical_composer": None, "canonical_title": "", "year": None}
    path.write_text(json.dumps(changed(0, **cells)))
    frame = read_maestro_metadata(path)
    assert frame["canonical_composer"][0] == ""
    assert frame["year"].isna().tolist() == [True, False, False]


def test_file_names_are_normalised(path: Path) -> None:
    frame = read_maestro_metadata(write_csv(path, changed(0, audio_filename="./2004//0.wav")))
    assert frame["audio_filename"][0] == "2004/0.wav"


def test_missing_columns_are_named(path: Path, tmp_path: Path) -> None:
    table = [{k: v for k, v in row.items() if k not in ("split", "year")} for row in rows()]
    assert "lacks the columns: split, year" in fault(write_csv(path, table))
    as_json = tmp_path / "a.json"
    as_json.write_text(json.dumps([*rows()[:2], table[2]]))
    assert "lacks the columns: split, year" in fault(as_json)


def test_semicolons_are_guessed(path: Path) -> None:
    path.write_text(write_csv(path, rows()).read_text().replace(",", ";"))
    assert "separated by commas" in fault(path)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"split": "valid"}, "split is none of train, validation, test: 'valid' (row 2)"),
        ({"split": ""}, "split is empty: row 2"),
        ({"midi_filename": ""}, "midi_filename is empty: row 2"),
        ({"duration": "abc"}, "duration is not a number of seconds above 0: 'abc' (row 2)"),
        ({"duration": -3}, "'-3' (row 2)"),
        ({"duration": 0}, "'0' (row 2)"),
        ({"duration": "nan"}, "'nan' (row 2)"),
        ({"duration": "inf"}, "'inf' (row 2)"),
        ({"year": "MMIV"}, "year is not a year: 'MMIV' (row 2)"),
        ({"year": "2004.5"}, "year is not a year: '2004.5' (row 2)"),
        ({"audio_filename": "../../x.wav"}, "audio_filename leads out of the corpus folder"),
        ({"midi_filename": "/x.midi"}, "midi_filename leads out of the corpus folder"),
        ({"audio_filename": "C:\\x.wav"}, "leads out of the corpus folder"),
        ({"audio_filename": "..\\x.wav"}, "leads out of the corpus folder"),
        (
            {"audio_filename": "2004/0.wav"},
            "audio_filename in two splits (leakage): '2004/0.wav' (row 1 train, row 2 validation)",
        ),
        ({"midi_filename": "2004/./0.midi"}, "midi_filename in two splits (leakage)"),
        (
            {"audio_filename": "2004/0.wav", "split": "train"},
            "audio_filename more than once: '2004/0.wav' (row 1 train, row 2 train)",
        ),
    ],
)
def test_faulty_cell_is_named(path: Path, cells: Row, expected: str) -> None:
    assert expected in fault(write_csv(path, changed(1, **cells)))


def test_recordings_of_one_split_may_share_a_midi_file(path: Path) -> None:
    write_csv(path, changed(1, midi_filename="2004/0.midi", split="train"))
    assert len(read_maestro_metadata(path)) == 3


def test_all_faults_are_named_at_once(path: Path) -> None:
    table = rows()
    table[0] |= {"split": "valid", "duration": "abc"}
    table[2] |= {"split": "dev", "audio_filename": ""}
    text = fault(write_csv(path, table))
    for part in ("'valid' (row 1)", "'dev' (row 3)", "'abc' (row 1)", "audio_filename is empty"):
        assert part in text


def test_ragged_rows_are_named(path: Path) -> None:
    lines = write_csv(path, rows()).read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "a,b,c", *lines[2:], "a,b,c,d,e,f,g,h"]))
    assert "must have 7 columns like the header, not 3 (row 2), 8 (row 5)" in fault(path)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n \n", "is empty"),
        ("a.json", b"", "is empty"),
        ("a.csv", ",".join(COLUMNS).encode(), "the corpus is empty"),
        ("a.json", b"[]", "the corpus is empty"),
        ("a.csv", (",".join(COLUMNS) + "\nFr\u00e9d").encode("latin-1"), "byte 0xe9 in line 2"),
        ("a.csv", b'a,b\n"open', "not a well-formed csv"),
        ("a.json", b"{", "not well-formed JSON"),
        ("a.json", b"[" * 100_000, "not well-formed JSON"),
        ("a.json", b"3", "neither a list of records nor an object of columns"),
        ("a.json", b"[3]", "neither a list of records"),
        ("a.json", b"{}", "lacks the columns"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, data: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert expected in fault(tmp_path / name)


def test_json_columns_with_other_rows(tmp_path: Path) -> None:
    by_column = {name: {str(i): row[name] for i, row in enumerate(rows())} for name in COLUMNS}
    del by_column["year"]["1"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(by_column))
    assert "columns with other rows than the rest: year" in fault(path)


def test_missing_file_and_folder_in_its_place(tmp_path: Path) -> None:
    assert "no such file" in fault(tmp_path / "absent.csv")
    assert "cannot be read" in fault(tmp_path)


def test_newest_version_wins_and_csv_before_json(tmp_path: Path) -> None:
    names = ["maestro-v1.0.0.csv", "maestro-v3.0.0.json", "maestro-v3.0.0.csv", "maestro-v10.json"]
    for name in [*names[:3], "maestro-vX.csv", "other.csv"]:
        (tmp_path / name).write_text("")
    assert find_metadata(tmp_path).name == "maestro-v3.0.0.csv"
    (tmp_path / names[3]).write_text("")
    assert [path.name for path in list_metadata(tmp_path)] == [
        names[3],
        names[2],
        names[1],
        names[0],
    ]


def test_folders_without_metadata(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no such folder"):
        find_metadata(tmp_path / "absent")
    with pytest.raises(CorpusError, match=r"the folder is empty\. Expected the unpacked archive"):
        find_metadata(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(CorpusError, match=r"has no maestro-v\*\.csv or \.json"):
        find_metadata(tmp_path)
    with pytest.raises(CorpusError, match="is a file, not a corpus folder"):
        find_metadata(tmp_path / "notes.txt")
    inner = tmp_path / "maestro-v3.0.0"
    inner.mkdir()
    (inner / "maestro-v3.0.0.csv").write_text("")
    with pytest.raises(
        CorpusError, match=rf"has no maestro-v\*\.csv or \.json\. Did you mean {inner}\?"
    ):
        find_metadata(tmp_path)
    (inner / "2004").mkdir()
    for below in ("2004", "maestro-v3.0.0.csv"):
        with pytest.raises(CorpusError, match=rf"Did you mean {inner}\?"):
            find_metadata(inner / below)


def test_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(CorpusError, match="cannot be listed"):
        find_metadata(tmp_path)
