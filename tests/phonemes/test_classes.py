from __future__ import annotations

from pathlib import Path

import pytest

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.phonemes.classes import (
    ARPABET,
    CLASSES_FILE,
    PhoneClasses,
    by_manner,
    read_classes,
)


def test_there_are_41_classes_silence_and_noise_first() -> None:
    assert len(ARPABET) == 41
    assert ARPABET.names[:4] == ("SIL", "SPN", "AA", "AE")
    assert ARPABET.names[-1] == "ZH"
    assert ARPABET.silence == 0


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("AH0", "AH"), ("ER1", "ER"), ("iy2", "IY"), ("AH", "AH"), ("AH0_B", "AH"), ("T_I", "T"),
        ("zh", "ZH"), ("", "SIL"), ("sil", "SIL"), ("sp", "SIL"), ("SIL_S", "SIL"), ("spn", "SPN"),
        ("<eps>", "SIL"), ("SPN_S", "SPN"), (" K ", "K"),
    ],
)  # fmt: skip
def test_symbols_of_aligners_are_known(symbol: str, name: str) -> None:
    assert ARPABET.find(symbol) == ARPABET.names.index(name)


@pytest.mark.parametrize("symbol", ["zz", "AH3", "AH00", "\u0251", "1", "AH_X", "h#"])
def test_other_symbols_are_not(symbol: str) -> None:
    assert ARPABET.find(symbol) is None


def test_a_corpus_may_name_its_classes(tmp_path: Path) -> None:
    assert read_classes(tmp_path) == ARPABET
    (tmp_path / CLASSES_FILE).write_bytes(b"\xef\xbb\xbf2 SIL\r\n\r\n0 AH\r\n1 K\r\n")
    classes = read_classes(tmp_path)
    assert classes == PhoneClasses(("AH", "K", "SIL"))
    assert (classes.find("ah1"), classes.find("sp"), classes.find("spn")) == (0, 2, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0 A\n2 B\n", "does not number"),
        ("0 A\n", "does not number"),
        ("0 A\n0 B\n", "line 2: class 0 is named twice"),
        ("0 A\n1 a\n", "one name to two classes"),
        ("0 A B\n", "line 1: has no number and name"),
        ("A 0\n", "line 1: has no number and name"),
        ("0 A\n256 B\n", "beyond 255"),
        ("0 A\n" + "9" * 5000 + " B\n", "beyond 255"),
        ("\n", "is empty"),
    ],
)
def test_classes_that_are_no_numbering_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / CLASSES_FILE).write_text(text)
    with pytest.raises(CorpusError, match=problem):
        read_classes(tmp_path)


def test_manners_hold_every_class_once():
    groups = by_manner(ARPABET.names)
    members = [number for numbers in groups.values() for number in numbers]
    assert sorted(members) == list(range(41)) and "other" not in groups
    assert [ARPABET.names[number] for number in groups["nasals"]] == ["M", "N", "NG"]
    assert by_manner(("x", "sil", "AA")) == {"vowels": [2], "no phone": [1], "other": [0]}
