"""Alignments: csv and TextGrid, and every way their times may be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.phonemes.alignments import Alignment, read_alignment
from amt_pipeline.phonemes.classes import ARPABET, PhoneClasses

Read = Callable[..., Alignment]
HEADER = "start_s,end_s,phone\n"
LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.5
tiers? <exists>
size = 2
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "say ""a"" 5"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 0.5
        intervals: size = 3
        intervals [1]:
            xmin = 0.0
            xmax = 0.1
            text = ""
        intervals [2]:
            xmin = 0.1
            xmax = 0.3
            text = "AH0" ! a comment with "quotes" and 7
        intervals [3]:
            xmin = 0.3
            xmax = 5e-1
            text = "spn"
"""
SHORT = """File type = "ooTextFile"
"TextGrid"

0
0.5
<exists>
3
"TextTier"
"clicks"
0
0.5
1
0.25
"click"
"IntervalTier"
"Anna - words"
0
0.5
1
0
0.5
"a
word"
"IntervalTier"
"Anna - phones"
0
0.5
3
0
0.1
""
0.1
0.3
"AH0"
0.3
0.5
"spn"
"""


def numbers(*names: str) -> list[int]:
    return [ARPABET.names.index(name) for name in names]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def run(
        text: str, name: str = "a.csv", seconds: float = 0.5, encoding: str = "utf-8"
    ) -> Alignment:
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return read_alignment(path, ARPABET, seconds)

    return run


def refusal(read: Read, text: str, name: str = "a.csv") -> str:
    with pytest.raises(CorpusError) as refused:
        read(text, name)
    text = str(refused.value)
    assert name in text
    assert "\n" not in text
    return text


def test_csv(read: Read) -> None:
    alignment = read(HEADER + "0.00,0.10,SIL\n0.10,0.30,AH0\n\n0.30,0.50,sp\n")
    assert alignment.start_s.tolist() == [0.0, 0.1, 0.3]
    assert alignment.end_s.tolist() == [0.1, 0.3, 0.5]
    assert alignment.classes.dtype == np.uint8
    assert alignment.classes.tolist() == numbers("SIL", "AH", "SIL")
    assert alignment.warnings == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_columns_and_line_ends_of_a_csv(read: Read, encoding: str) -> None:
    text = "word, phone ,end_s,start_s\r\né, K ,0.1,0\r\né,T,0.5,.1\r\n"
    assert read(text, encoding=encoding).classes.tolist() == numbers("K", "T")


@pytest.mark.parametrize("form", [LONG, SHORT])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "crlf"])
def test_both_forms_of_a_textgrid(read: Read, form: str, encoding: str) -> None:
    if encoding == "crlf":
        form, encoding = form.replace("\n", "\r\n"), "utf-8"
    alignment = read(form, "a.TextGrid", encoding=encoding)
    assert alignment.start_s.tolist() == [0.0, 0.1, 0.3]
    assert alignment.end_s.tolist() == [0.1, 0.3, 0.5]
    assert alignment.classes.tolist() == numbers("SIL", "AH", "SPN")


def test_utf16_of_praat_is_big_endian(tmp_path: Path) -> None:
    path = tmp_path / "a.textgrid"
    path.write_bytes(b"\xfe\xff" + LONG.encode("utf-16-be"))
    assert len(read_alignment(path, ARPABET, 0.5).classes) == 3


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ("0,0.3,K\n0.2,0.5,T\n", "overlaps the segment before it (line 3: 0.2 to 0.5 s after"),
        ("0.2,0.3,K\n0,0.1,T\n", "overlaps the segment before it (line 3"),
        ("0.3,0.2,K\n", "end before start (line 2: 0.3 to 0.2 s)"),
        ("0,0.1,zz\n0.1,0.2,AH\n0.2,0.3,ax\n", "unknown phone (line 2: 'zz', line 4: 'ax')"),
        ("0,0.53,K\n", "beyond the end of the audio (0.500 s) (line 2: 0 to 0.53 s)"),
        ("-0.1,0.5,K\n", "start below 0 (line 2"),
        ("0,x,K\n", "line 2: end_s is not a number of seconds: 'x'"),
        ("nan,0.1,K\n", "line 2: start_s is not a number"),
        ("0,inf,K\n", "line 2: end_s is not a number"),
        ("0,0.1\n", "line 2: has 2 columns, the header 3"),
        ("0,0.1,K,T\n", "line 2: has 4 columns, the header 3"),
        ('0,0.1,"K\n', "not a well-formed csv"),
        ("", "has no segments"),
    ],
)
def test_wrong_rows_are_named(read: Read, rows: str, problem: str) -> None:
    assert problem in refusal(read, HEADER + rows)


def test_all_faults_are_told_at_once(read: Read) -> None:
    text = refusal(read, HEADER + "0,0.3,zz\n0.2,0.1,K\n0.5,9,T\n")
    for part in ("unknown phone", "end before start", "overlaps", "beyond the end"):
        assert part in text


def test_csv_without_its_columns(read: Read) -> None:
    assert "lacks the columns end_s" in refusal(read, "start_s,phone\n0,K\n")
    assert "lacks the columns" in refusal(read, "0,0.1,K\n")
    assert "is empty" in refusal(read, "")


def test_rounded_times_and_a_frame_beyond_the_end_are_accepted(read: Read) -> None:
    assert len(read(HEADER + "0,0.30005,K\n0.3,0.525,T\n").classes) == 2
    assert len(read(HEADER + "0,0.3,K\n0.3,0.3,T\n0.3,0.5,K\n").classes) == 3


def test_long_gaps_are_told(read: Read) -> None:
    rows = HEADER + "0.2,1.0,K\n1.6,2.0,T\n"
    (warning,) = read(rows, seconds=2.2).warnings
    assert warning == (
        "a.csv leaves 1.00 s without a phone, which count as silence; "
        "the longest gap has 0.60 s from 1.00 s on"
    )
    (warning,) = read(rows, seconds=3.0).warnings
    assert "1.00 s from 2.00 s on" in warning
    assert read(HEADER + "0.4,1.0,K\n1.5,2.0,T\n", seconds=2.4).warnings == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LONG.partition('text = "AH0"')[0], "line 31: the file ends where a text in quotes should"),
        (LONG[:-2], "line 36: a text whose quote is never closed"),
        (
            LONG.replace('"phones"', '"tones"'),
            "no tier of phones (interval tiers: 'words', 'tones'",
        ),
        (LONG.replace('"words"', '"phone"'), "several tiers of phones"),
        (LONG.replace("IntervalTier", "Pitch"), "line 10: 'Pitch' is no kind of tier"),
        (LONG.replace("size = 3", "size = 3.5"), "3.5 is no count"),
        (LONG.replace("size = 3", "size = -1"), "-1 is no count"),
        (LONG.replace("xmax = 0.1", 'xmax = "b"'), "has the text 'b' where a number should be"),
        (LONG.replace('"AH0"', "3"), "line 32: has the number 3 where a text in quotes should be"),
        (LONG.replace("0.1", "1e999"), "1e999 is beyond any time"),
        (LONG.replace("TextGrid", "PitchTier"), "is not a TextGrid in text form"),
        ("ooBinaryFile\x08TextGrid", "the file ends where"),
        (LONG.replace("xmax = 0.3", "xmax = 0.05"), "end before start (line 30: 0.1 to 0.05 s)"),
        (LONG.replace("size = 3", "size = 0"), "has no segments"),
    ],
)
def test_wrong_textgrids_are_named(read: Read, text: str, problem: str) -> None:
    assert problem in refusal(read, text, "a.TextGrid")


def test_symbols_follow_the_classes_of_the_corpus(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "0,0.1,b\n0.1,0.2,sil\n")
    assert read_alignment(path, PhoneClasses(("A", "B", "SIL")), 0.2).classes.tolist() == [1, 2]
