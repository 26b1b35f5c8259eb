"""Small text files of a corpus: lists, label lines, alignments; read whole, within a bound."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from amt_pipeline.core.errors import CorpusError

MAX_BYTES = 256 << 20
"""The label list of the course has 6 MB; all of LibriSpeech's would have 0.3 GB."""

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Line:
    """A line with something in it.

    Attributes:
        number: Counted from 1, blank lines included.
        text: Without line end and surrounding blanks.
    """

    number: int
    text: str


def read_text(path: Path, max_bytes: int = MAX_BYTES) -> str:
    """Return a text file: UTF-8, with or without a byte order mark, or UTF-16 with one.

    Raises:
        CorpusError: It is missing, empty, too large, or in another encoding.
    """
    data = read_bytes(path, max_bytes)
    if not data.strip():
        raise CorpusError(path, "is empty", "Fetch the file again")
    marks = [name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)]
    encoding = marks[0] if marks else "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start] if error.start < len(data) else 0
        raise CorpusError(
            path,
            f"its encoding is not {encoding} (byte 0x{byte:02x} in line {line})",
            "Save it as UTF-8",
        ) from error
    if "\0" in text:
        raise CorpusError(path, "is not a text file", "Fetch the file again")
    return text


def read_lines(path: Path, max_bytes: int = MAX_BYTES) -> list[Line]:
    """Return the lines of a text file that are not blank; the errors are those of `read_text`."""
    text = read_text(path, max_bytes).replace("\r\n", "\n").replace("\r", "\n")
    # Not splitlines, which also breaks at form feeds and separators that editors do not count.
    lines = (line.strip() for line in text.split("\n"))
    return [Line(number, line) for number, line in enumerate(lines, start=1) if line]


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a file.

    Raises:
        CorpusError: It is missing, cannot be read, or has more than `max_bytes`.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise CorpusError(path, "no such file", "Restore it from the archive") from error
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise CorpusError(path, problem, "Check its permissions") from error
    if len(data) > max_bytes:
        raise CorpusError(path, f"has more than {max_bytes / 1e6:.0f} MB", "Fetch the file again")
    return data
