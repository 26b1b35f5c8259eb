"""MIDI bytes to events, within bounds: no crafted file hangs a worker or fills its memory."""

from __future__ import annotations

import io
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import MidiError

if TYPE_CHECKING:
    import mido

# The longest pieces of MAESTRO take about half a megabyte. Parsed, a byte takes up to 150 bytes, so
# the most that a crafted file can cost is some seconds and about 600 MB.
MAX_FILE_BYTES = 4_000_000
# A delta time has at most four bytes, so 28 bits. mido takes any length, and a run of a million
# continuation bytes would keep it busy for minutes; text in meta events has no such runs.
MAX_DELTA_TICKS = (1 << 28) - 1
INTACT_COPY = "Replace it with an intact copy"
_ENDLESS_NUMBER = re.compile(rb"[\x80-\xff]{1024}")


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a MIDI or note file.

    Raises:
        MidiError: The file cannot be opened, or holds more than `max_bytes`.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise MidiError(path, "no such file") from error
    except OSError as error:
        remedy = "Check the file and its permissions"
        raise MidiError(path, f"cannot be read ({error.strerror or error})", remedy) from error
    if len(data) > max_bytes:
        problem = f"is larger than {max_bytes / 1e6:g} MB, no piano piece is"
        raise MidiError(path, problem, "Leave it out")
    return data


def parse_midi(path: Path) -> mido.MidiFile:
    """Parse a MIDI file whose tracks play together.

    Raises:
        MidiError: The file is missing, damaged, too large, or not a MIDI file of format 0 or 1.
    """
    import mido

    data = read_bounded(path, MAX_FILE_BYTES)
    if not data:
        raise MidiError(path, "is empty", INTACT_COPY)
    if not data.startswith(b"MThd"):
        raise MidiError(path, "is not a MIDI file (no MThd header)", INTACT_COPY)
    if _ENDLESS_NUMBER.search(data):
        raise MidiError(path, "is damaged (a number of more than 1000 bytes)", INTACT_COPY)
    try:
        midi = mido.MidiFile(file=io.BytesIO(data))
    except EOFError as error:
        raise MidiError(path, "is cut off: it ends inside a track", INTACT_COPY) from error
    except Exception as error:  # mido lets many types escape from damaged events
        reason = textwrap.shorten(str(error) or type(error).__name__, 100, placeholder="...")
        raise MidiError(path, f"is damaged ({reason})", INTACT_COPY) from error
    if midi.type not in (0, 1):
        raise MidiError(path, f"is of format {midi.type}", "Save it as format 0 or 1")
    if not midi.tracks:
        raise MidiError(path, "has no tracks", INTACT_COPY)
    if midi.ticks_per_beat == 0 or (midi.ticks_per_beat < 0 and not midi.ticks_per_beat & 0xFF):
        raise MidiError(path, "is damaged (0 ticks per beat)", INTACT_COPY)
    return midi
