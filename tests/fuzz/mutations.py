"""Damage done to valid files: edits of bytes and of text, drawn by hypothesis so that they shrink.

An edit takes the draw function, the bytes and all seeds of the reader, and returns other bytes.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

Draw = Callable[..., Any]
Edit = Callable[[Draw, bytes, Sequence[bytes]], bytes]

MAX_EDITS = 4
LARGEST_CHUNK = 64
LARGEST_FILE = 1 << 20
INTERESTING_BYTES = (0, 1, 0x7F, 0x80, 0xFF)
FIELD_FORMATS = ("<H", ">H", "<I", ">I", "<Q", ">Q")
FIELD_VALUES = (0, 1, 2, 0x7F, 0xFF, 0x1000, 0x7FFF, 0x8000, 0xFFFF, 1 << 20, 1 << 27, 1 << 28,
                (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63,
                (1 << 64) - 1)  # fmt: skip
DEEP = 5_000
TOKEN = re.compile(rb'"[^"\n]*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[A-Za-z_]+')
ODD_TOKENS = (
    b"", b"0", b"-1", b"-0.0", b"1e999", b"-1e999", b"1e300", b"1e18", b"1e-320", b"0.5", b"128",
    b"2147483648", b"9223372036854775807", b"9223372036854775808", b"9" * 400, b"9" * 5000,
    b"NaN", b"Infinity", b"-Infinity", b"nan", b"inf", b"null", b"true", b"[]", b"{}", b"[[]]",
    b'""', b'"a"', b'"\\ud800"', b'"\\u0000"', b'"../../x"', b'"/etc/passwd"',
    b'"' + b"x" * 300 + b'"',
    b"1_0", b"0x10", "\u0663".encode(), "\u00b2".encode(), b"\x00", b"\xff", b"\xe2\x80\xa8", b"#",
    b'"', b",", b";", b":", b"=1+1", b"[1, 2, 3]", b'{"a": 1}', b"01", b"1 2",
)  # fmt: skip


def _span(draw: Draw, data: bytes) -> tuple[int, int]:
    first = draw(st.integers(0, len(data)))
    return first, min(len(data), first + draw(st.integers(1, LARGEST_CHUNK)))


def _place(draw: Draw, data: bytes) -> int:
    """Draw a position: in the first bytes or the last, where headers are, or anywhere."""
    last = max(0, len(data) - 1)
    head, tail = st.integers(0, min(last, 100)), st.integers(max(0, last - 300), last)
    return int(draw(st.one_of(head, tail, st.integers(0, last))))


def flip_bit(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    at, changed = _place(draw, data), bytearray(data)
    changed[at : at + 1] = bytes(
        byte ^ (1 << draw(st.integers(0, 7))) for byte in data[at : at + 1]
    )
    return bytes(changed)


def set_byte(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _place(draw, data)
    value = draw(st.one_of(st.sampled_from(INTERESTING_BYTES), st.integers(0, 255)))
    return data[:at] + bytes([value]) + data[at + 1 :]


def set_field(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Overwrite what may be a length with a number that no length should be."""
    at, layout = _place(draw, data), draw(st.sampled_from(FIELD_FORMATS))
    size = struct.calcsize(layout)
    value = draw(st.sampled_from(FIELD_VALUES)) % (1 << 8 * size)
    return data[:at] + struct.pack(layout, value) + data[at + size :]


def truncate(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def insert(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _place(draw, data)
    return data[:at] + draw(st.binary(max_size=LARGEST_CHUNK)) + data[at:]


def insert_run(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    at, length = _place(draw, data), draw(st.sampled_from((100, 1000, 3000, 70_000)))
    return data[:at] + bytes([draw(st.sampled_from(INTERESTING_BYTES))]) * length + data[at:]


def delete(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    first, stop = _span(draw, data)
    return data[:first] + data[stop:]


def duplicate(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    first, stop = _span(draw, data)
    return data[:stop] + data[first:stop] * draw(st.sampled_from((1, 2, 50))) + data[stop:]


def move(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    first, stop = _span(draw, data)
    rest = data[:first] + data[stop:]
    at = draw(st.integers(0, len(rest)))
    return rest[:at] + data[first:stop] + rest[at:]


def splice(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Go on with the end of another valid file."""
    other = draw(st.sampled_from(seeds))
    return data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :]


def replace_token(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Put something odd in the place of a number, a string or a word."""
    found = list(TOKEN.finditer(data))
    if not found:
        return data
    token = draw(st.sampled_from(found))
    odd = draw(st.one_of(st.sampled_from(ODD_TOKENS), st.sampled_from(found).map(lambda t: t[0])))
    return data[: token.start()] + odd + data[token.end() :]


def swap_tokens(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    found = list(TOKEN.finditer(data))
    if len(found) < 2:
        return data
    one, two = sorted(draw(st.lists(st.integers(0, len(found) - 1), min_size=2, max_size=2)))
    a, b = found[one], found[two]
    if one == two:
        return data
    return data[: a.start()] + b[0] + data[a.end() : b.start()] + a[0] + data[b.end() :]


def drop_member(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Leave out a member of a JSON object, or a line."""
    found = list(re.finditer(rb'"[^"\n]*": [^,\n{}\[\]]*,?|(?m:^)[^\n]+\n', data))
    if not found:
        return data
    one = draw(st.sampled_from(found))
    return data[: one.start()] + data[one.end() :]


def nest_deeply(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    opening, closing = draw(st.sampled_from(((b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"))))
    token = next(iter(TOKEN.finditer(data, draw(st.integers(0, len(data))))), None)
    first, stop = (token.start(), token.end()) if token else (0, len(data))
    deep = opening * DEEP + data[first:stop] + closing * DEEP
    return data[:first] + deep + data[stop:]


def encode_otherwise(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    name = draw(st.sampled_from(("utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-7", "cp037")))
    return data.decode("latin-1").encode(name, "replace")


def change_line_ends(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    ends = (b"\r\n", b"\r", b"\n\n", b"\x00\n", b"", b"\x0b", b"\x85")
    return data.replace(b"\n", draw(st.sampled_from(ends)))


def edit_zip_member(draw: Draw, data: bytes, seeds: Sequence[bytes]) -> bytes:
    """Damage what is inside an archive, whose own checksums stay right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:  # it was damaged beyond opening by an edit before
        return data
    if not members:
        return data
    chosen = draw(st.integers(0, len(members) - 1))
    edit = draw(st.sampled_from((*BINARY, replace_token, replace_token, nest_deeply)))
    others = [content for _, content in members]
    packing = draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", packing) as archive:
        for number, (name, content) in enumerate(members):
            archive.writestr(name, edit(draw, content, others) if number == chosen else content)
    return target.getvalue()


BINARY: tuple[Edit, ...] = (
    flip_bit, set_byte, set_field, set_field, truncate, insert, insert_run, delete, duplicate, move,
    splice,
)  # fmt: skip
TEXT: tuple[Edit, ...] = (
    replace_token, replace_token, replace_token, swap_tokens, drop_member, nest_deeply,
    encode_otherwise, change_line_ends, flip_bit, set_byte, truncate, insert, delete, duplicate,
    move, splice,
)  # fmt: skip
ZIP: tuple[Edit, ...] = (edit_zip_member,) * 12 + BINARY


@st.composite
def mutated(draw: Draw, seeds: Sequence[bytes], edits: Sequence[Edit]) -> bytes:
    """Draw a valid file, then a few edits of it."""
    data: bytes = draw(st.sampled_from(seeds))
    for edit in draw(st.lists(st.sampled_from(edits), min_size=1, max_size=MAX_EDITS)):
        data = edit(draw, data, seeds)[:LARGEST_FILE]
    return data
