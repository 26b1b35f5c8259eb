"""Is a file shorter than it declares? Decoders read what is there and mostly keep silent."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO


def is_cut_short(path: Path) -> bool:
    """Tell whether a WAV or Ogg file ends before its declared end; False for other formats.

    Raises:
        OSError: The file cannot be opened.
    """
    with path.open("rb") as stream:
        magic = stream.read(4)
        if magic == b"RIFF":
            return _riff_is_cut(stream)
        return magic == b"OggS" and _ogg_is_cut(stream)


def _riff_is_cut(stream: BinaryIO) -> bool:
    """Tell whether the data chunk promises more than the file holds.

    Sizes 0 and 0xFFFFFFFF are what programs leave that write to a pipe: length unknown.
    """
    size = stream.seek(0, 2)
    place = 12
    while place + 8 <= size:
        stream.seek(place)
        name, length = stream.read(4), int.from_bytes(stream.read(4), "little")
        place += 8 + length + length % 2
        if name == b"data":
            return length != 0xFFFFFFFF and place - length % 2 > size
    return False


def _ogg_is_cut(stream: BinaryIO) -> bool:
    """Tell whether the last page lacks the end-of-stream flag (RFC 3533, section 6)."""
    size = stream.seek(0, 2)
    stream.seek(max(0, size - (1 << 17)))  # a page has at most 65307 bytes
    tail = stream.read()
    page = tail.rfind(b"OggS")
    if page < 0 or page + 27 > len(tail):
        return True
    table = tail[page + 27 : page + 27 + tail[page + 26]]
    complete = page + 27 + tail[page + 26] + sum(table) <= len(tail)
    return not (complete and tail[page + 5] & 4)
