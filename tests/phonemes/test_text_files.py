from __future__ import annotations

from pathlib import Path

import pytest

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.phonemes.text_files import Line, read_lines, read_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(end.join(["é 1", "  ", " 2 "]).encode(encoding))
    assert read_lines(path) == [Line(1, "é 1"), Line(3, "2")]


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for data, problem in (
        (b"", "is empty"),
        (b" \n\r\n", "is empty"),
        (b"a\nb\xe9c", "not utf-8 .byte 0xe9 in line 2"),
        ("a".encode("utf-16-le"), "is not a text file"),
        (b"\xff\xfea", "not utf-16"),
    ):
        path.write_bytes(data)
        with pytest.raises(CorpusError, match=problem):
            read_text(path)
    path.write_bytes(b"four")
    with pytest.raises(CorpusError, match="has more than"):
        read_text(path, max_bytes=3)
    with pytest.raises(CorpusError, match="no such file"):
        read_text(tmp_path / "absent.txt")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_text(tmp_path)
