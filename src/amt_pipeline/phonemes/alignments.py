"""Phone alignments: which phone is spoken from when to when; csv files and TextGrids.

A csv has the columns `start_s,end_s,phone` (others are left alone). A TextGrid has a tier of
phones as the Montreal Forced Aligner writes it. Segments are in order and do not overlap; what none
of them covers is silence.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.phonemes.classes import PhoneClasses
from amt_pipeline.phonemes.text_files import read_text
from amt_pipeline.phonemes.textgrid import Interval, read_phone_tier

MAX_BYTES = 16 << 20
SUFFIXES = (".csv", ".textgrid")
"""In lower case: the Montreal aligner writes `.TextGrid`."""
OVERLAP_TOLERANCE_S = 1e-4
"""Times are decimals, rounded by whoever wrote them."""
END_TOLERANCE_S = 0.025
"""How far the last segment may reach beyond the audio: one frame, as aligners count in frames."""
NOTABLE_GAP_S = 0.5
"""Silence that no segment names and that is worth a word: a cut file looks like this."""

_COLUMNS = ("start_s", "end_s", "phone")


@dataclass(frozen=True, eq=False)
class Alignment:
    """The phones of one utterance.

    Attributes:
        start_s: float64 `[n]`, ascending.
        end_s: float64 `[n]`; not after the next start, but for rounding.
        classes: uint8 `[n]`.
        warnings: Oddities, one sentence each.
    """

    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    classes: npt.NDArray[np.uint8]
    warnings: tuple[str, ...]


def read_alignment(path: Path, classes: PhoneClasses, duration_s: float) -> Alignment:
    """Read the alignment of an utterance and check that it fits the audio.

    Args:
        path: A `.csv` or `.TextGrid` file.
        classes: What symbols mean.
        duration_s: Length of the audio.

    Raises:
        CorpusError: The file cannot be read, or a segment is not in order, overlaps the one before,
            ends before it starts or after the audio, or has an unknown symbol; with the lines.
    """
    text = read_text(path, MAX_BYTES)
    is_grid = path.suffix.lower() == ".textgrid"
    segments = read_phone_tier(text, path) if is_grid else list(_csv_segments(text, path))
    if not segments:
        raise CorpusError(path, "has no segments", "Align the utterance again")
    faults = list(_faults(segments, classes, duration_s))
    if faults:
        raise CorpusError(path, "; ".join(faults), "Align the utterance again, or correct the file")
    start_s = np.array([segment.start_s for segment in segments])
    end_s = np.array([segment.end_s for segment in segments])
    numbers = [classes.find(segment.text) for segment in segments]
    warnings = tuple(_gap_warnings(path, start_s, end_s, duration_s))
    return Alignment(start_s, end_s, np.array(numbers, np.uint8), warnings)


def _csv_segments(text: str, path: Path) -> Iterator[Interval]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if not header:
                header = [cell.strip() for cell in row]
                _check_header(header, path)
                continue
            where = f"{path} line {reader.line_num}"
            if len(row) != len(header):
                raise CorpusError(where, f"has {len(row)} columns, the header {len(header)}")
            cells = dict(zip(header, row, strict=True))
            start_s, end_s = (_seconds(cells[name], name, where) for name in _COLUMNS[:2])
            yield Interval(start_s, end_s, cells["phone"].strip(), reader.line_num)
    except csv.Error as error:
        raise CorpusError(path, f"is not a well-formed csv file ({error})") from error


def _check_header(header: list[str], path: Path) -> None:
    missing = [name for name in _COLUMNS if name not in header]
    if missing:
        problem = f"lacks the columns {', '.join(missing)}"
        raise CorpusError(path, problem, f"An alignment has the columns {','.join(_COLUMNS)}")


def _seconds(text: str, column: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise CorpusError(where, f"{column} is not a number of seconds: {text[:40]!r}")
    return value


def _faults(segments: list[Interval], classes: PhoneClasses, duration_s: float) -> Iterable[str]:
    """Yield one text per kind of fault, with the lines that have it."""
    odd = [(s.line, repr(s.text[:20])) for s in segments if classes.find(s.text) is None]
    yield from _fault("unknown phone", odd)
    times = [(s, f"{s.start_s:g} to {s.end_s:g} s") for s in segments]
    yield from _fault("end before start", [(s.line, t) for s, t in times if s.end_s < s.start_s])
    yield from _fault("start below 0", [(s.line, t) for s, t in times if s.start_s < 0])
    before = [
        (s.line, f"{t} after {former.end_s:g} s")
        for former, (s, t) in zip(segments, times[1:], strict=False)
        if s.start_s < max(former.start_s, former.end_s - OVERLAP_TOLERANCE_S)
    ]
    yield from _fault("overlaps the segment before it", before)
    limit_s = duration_s + END_TOLERANCE_S
    beyond = [(s.line, t) for s, t in times if s.end_s > limit_s]
    yield from _fault(f"beyond the end of the audio ({duration_s:.3f} s)", beyond)


def _fault(what: str, found: list[tuple[int, str]], most: int = 5) -> Iterable[str]:
    if found:
        shown = ", ".join(f"line {line}: {text}" for line, text in found[:most])
        yield f"{what} ({shown}{', ...' if len(found) > most else ''})"


def _gap_warnings(
    path: Path,
    start_s: npt.NDArray[np.float64],
    end_s: npt.NDArray[np.float64],
    duration_s: float,
) -> Iterable[str]:
    gaps_s = np.append(start_s, duration_s) - np.insert(end_s, 0, 0.0)
    longest = int(gaps_s.argmax())
    if gaps_s[longest] > NOTABLE_GAP_S:
        at_s = 0.0 if longest == 0 else float(end_s[longest - 1])
        total_s = float(gaps_s[gaps_s > 0].sum())
        yield (
            f"{path.name} leaves {total_s:.2f} s without a phone, which count as silence; "
            f"the longest gap has {gaps_s[longest]:.2f} s from {at_s:.2f} s on"
        )
