"""The index file of MAESTRO: which recordings there are, in which split, under which names.

MAESTRO v1, v2 and v3 come with the same seven columns, as `maestro-v<version>.csv` and as `.json`
(v1 and v2: a list of records; v3: one object per column, keyed by row number). A corpus of one's
own is read in the same way if it brings such a file.

Everything is checked before any work starts, and all faults are named at once. Rows are counted
from 1, without the header. Composer, title and year may be empty, the other columns may not.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import CorpusError
from amt_pipeline.store.manifest import SPLITS
from amt_pipeline.store.nearby import suggest_corpus

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "canonical_composer",
    "canonical_title",
    "split",
    "year",
    "midi_filename",
    "audio_filename",
    "duration",
)
LATEST_YEAR = 9999
NEEDED_IN_EACH_ROW = ("split", "midi_filename", "audio_filename", "duration")
EXPECTED = "Expected the unpacked archive: maestro-v<version>.csv beside one folder per year"
_FILE_NAME = re.compile(r"maestro-v(\d+(?:\.\d+)*)\.(csv|json)", re.IGNORECASE)


def find_metadata(root: Path) -> Path:
    """Return the index file in a corpus folder: the newest version, and of it the csv if there.

    Raises:
        CorpusError: There is no such folder, or no index file in it.
    """
    found = list_metadata(root)
    if found:
        return found[0]
    problem = "has no maestro-v*.csv or .json" if any(root.iterdir()) else "the folder is empty"
    raise CorpusError(root, problem, _suggest(root) or EXPECTED)


def list_metadata(root: Path) -> list[Path]:
    """Return the index files in a corpus folder, the newest version first, csv before json.

    Raises:
        CorpusError: There is no such folder, or it cannot be listed.
    """
    if not root.is_dir():
        problem = "is a file, not a corpus folder" if root.exists() else "no such folder"
        raise CorpusError(root, problem, (root.exists() and _suggest(root)) or EXPECTED)
    try:
        matches = [(_FILE_NAME.fullmatch(path.name), path) for path in root.iterdir()]
    except OSError as error:
        raise CorpusError(root, f"cannot be listed ({error.strerror or error})") from error
    ranked = [
        ([-int(part) for part in match[1].split(".")], match[2].lower(), path.name, path)
        for match, path in matches
        if match
    ]
    return [path for *_, path in sorted(ranked)]


def read_maestro_metadata(path: Path) -> pd.DataFrame:
    """Read an index file, csv or json, of any version of MAESTRO.

    Returns:
        The columns `COLUMNS` in the order of the file's rows: `duration` float64 in seconds, `year`
        a nullable integer, the rest text; file names relative to the corpus, with slashes.

    Raises:
        CorpusError: The file cannot be read; names every faulty row and column.
    """
    import pandas as pd

    text = _read_text(path)
    rows = _json_rows(path, text) if path.suffix.lower() == ".json" else _csv_rows(path, text)
    if not rows:
        raise CorpusError(path, "has no rows: the corpus is empty", "Download it again")
    faults = list(_faults(rows))
    if faults:
        raise CorpusError(path, "; ".join(faults), "Nothing was started; correct these rows")
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["duration"] = frame["duration"].astype(float)
    frame["year"] = pd.array([_year(value) for value in frame["year"]], dtype="Int64")
    for name in ("midi_filename", "audio_filename"):
        frame[name] = [str(PurePosixPath(value)) for value in frame[name]]
    return frame


def _suggest(root: Path) -> str:
    """Return which corpus may have been meant, as a question; nothing if there is none."""
    return suggest_corpus(root.absolute(), lambda path: bool(list_metadata(path)))


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise CorpusError(path, "no such file", EXPECTED) from error
    except OSError as error:
        raise CorpusError(path, f"cannot be read ({error.strerror or error})") from error
    if not data.strip():
        raise CorpusError(path, "is empty", "Download it again")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CorpusError(
            path,
            f"its encoding is not UTF-8 (byte 0x{data[error.start]:02x} in line {line})",
            "It may be Latin-1 or Windows-1252; save it as UTF-8",
        ) from error


def _csv_rows(path: Path, text: str) -> list[dict[str, str]]:
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise CorpusError(path, f"is not a well-formed csv file ({error})") from error
    header = [name.strip() for name in lines[0]] if lines else []
    hint = "Columns must be separated by commas" if len(header) == 1 and ";" in header[0] else ""
    _check_columns(path, header, hint)
    ragged = [
        f"{len(line)} (row {number})"
        for number, line in enumerate(lines[1:], start=1)
        if len(line) != len(header)
    ]
    if ragged:
        problem = f"rows must have {len(header)} columns like the header, not {', '.join(ragged)}"
        raise CorpusError(path, problem, "Nothing was started; correct these rows")
    cells = (dict(zip(header, line, strict=True)) for line in lines[1:])
    return [{name: row[name].strip() for name in COLUMNS} for row in cells]


def _json_rows(path: Path, text: str) -> list[dict[str, str]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorpusError(
            path, f"is not well-formed JSON ({error})", "Download it again"
        ) from error
    if isinstance(value, dict) and all(isinstance(column, dict) for column in value.values()):
        _check_columns(path, value)
        keys = list(value["audio_filename"])
        uneven = [name for name in COLUMNS if set(value[name]) != set(keys)]
        if uneven:
            raise CorpusError(path, f"columns with other rows than the rest: {', '.join(uneven)}")
        value = [{name: value[name][key] for name in COLUMNS} for key in keys]
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise CorpusError(path, "is neither a list of records nor an object of columns", EXPECTED)
    _check_columns(path, set.intersection(*map(set, value)) if value else COLUMNS)
    return [{name: _cell(row[name]) for name in COLUMNS} for row in value]


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _check_columns(path: Path, names: Iterable[str], hint: str = "") -> None:
    missing = sorted(set(COLUMNS) - set(names))
    if missing:
        remedy = hint or f"An index file has the columns {', '.join(COLUMNS)}"
        raise CorpusError(path, f"lacks the columns: {', '.join(missing)}", remedy)


def _faults(rows: list[dict[str, str]]) -> Iterable[str]:
    """Yield one text per kind of fault, with every value and row that has it."""
    for column in NEEDED_IN_EACH_ROW:
        yield from _fault(rows, column, "is empty", lambda value: not value)
    yield from _fault(
        rows, "split", f"is none of {', '.join(SPLITS)}", lambda v: bool(v) and v not in SPLITS
    )
    yield from _fault(
        rows,
        "duration",
        "is not a number of seconds above 0",
        lambda v: bool(v) and not _seconds(v),
    )
    yield from _fault(rows, "year", "is not a year", lambda v: bool(v) and _year(v) is None)
    for column in ("midi_filename", "audio_filename"):
        yield from _fault(rows, column, "leads out of the corpus folder", _escapes)
        yield from _repetitions(rows, column)


def _fault(rows: list[dict[str, str]], column: str, what: str, is_bad: Any) -> Iterable[str]:
    bad = [
        f"{row[column]!r} (row {number})" if row[column] else f"row {number}"
        for number, row in enumerate(rows, start=1)
        if is_bad(row[column])
    ]
    if bad:
        yield f"{column} {what}: {', '.join(bad)}"


def _repetitions(rows: list[dict[str, str]], column: str) -> Iterable[str]:
    """Yield files named in several rows; recordings of one split may share a MIDI file."""
    members: dict[str, list[tuple[int, str]]] = {}
    for number, row in enumerate(rows, start=1):
        if row[column]:
            name = str(PurePosixPath(row[column]))
            members.setdefault(name, []).append((number, row["split"]))
    for name, where in members.items():
        listed = ", ".join(f"row {number} {split}" for number, split in where)
        if len({split for _, split in where}) > 1:
            yield f"{column} in two splits (leakage): {name!r} ({listed})"
        elif len(where) > 1 and column == "audio_filename":
            yield f"{column} more than once: {name!r} ({listed})"


def _seconds(text: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and value > 0


def _year(text: str) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() and 0 <= value <= LATEST_YEAR else None


def _escapes(name: str) -> bool:
    # Checked by the names alone: links inside the folder may well lead to another disk.
    return any(
        path.anchor or ".." in path.parts for path in (PurePosixPath(name), PureWindowsPath(name))
    )
