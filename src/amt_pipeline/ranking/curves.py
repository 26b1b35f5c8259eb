"""Validation curves from elsewhere: TensorBoard event files, and the CSV that TensorBoard exports.

Event files are read with the record reader and the protocol buffers of the `tensorboard` package.
Its higher loaders are passed over for two reasons: they import TensorFlow where it is installed
(seconds, for a few numbers), and they end silently where a file is damaged.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

Point = tuple[int, float, float]
"""Step, value, wall time in seconds since 1970."""

MAX_STEP = 2**53
"""Largest step in a CSV; numbers beyond are no longer exact."""

_EVENT_FILE = "*tfevents*"
_CSV_COLUMNS = ("step", "value", "wall_time")


def read_curve(path: str | PathLike[str], tag: str | None = None) -> pd.DataFrame:
    """Read one curve.

    A step that occurs more than once (a run that was resumed a little before it was killed) keeps
    the value of the latest wall time; a warning says how many there were.

    Args:
        path: A TensorBoard event file; a folder with event files of one run; or a `.csv` file with
            the columns Wall time, Step, Value, as TensorBoard exports it.
        tag: Which scalar, for instance `eval/f1`; may be None where there is only one. A CSV file
            holds one curve and has no tag.

    Returns:
        Columns step (int), value (float), wall_time (float, seconds), one row per step, ascending.

    Raises:
        UserError: The file is missing, damaged, empty or lacks a column; the folder holds several
            runs; or the tag is not there, or not given where there are several.
    """
    import pandas as pd

    path = Path(path)
    if not path.exists():
        raise UserError(path, "no such file or folder", "Give an event file, its folder, or a CSV")
    points = _csv_points(path) if path.suffix.lower() == ".csv" else _event_points(path, tag)
    points.sort(key=lambda point: (point[0], point[2]))
    latest = {step: (step, value, wall_time) for step, value, wall_time in points}
    if len(latest) < len(points):
        logger.warning(
            "%s: %d values for steps that occur more than once (a resumed run); "
            "the latest of each step counts",
            path,
            len(points) - len(latest),
        )
    return pd.DataFrame(list(latest.values()), columns=list(_CSV_COLUMNS))


def _csv_points(path: Path) -> list[Point]:
    """Read the rows of a CSV file, whatever the case of its column names."""
    import csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(path, f"cannot be read as CSV ({error})") from error
    names = [name.strip().lower().replace(" ", "_") for name in rows[0]] if rows else []
    if not any(rows[1:]):
        raise UserError(path, "holds no curve", "Export it again from TensorBoard")
    missing = [name for name in _CSV_COLUMNS if name not in names]
    if missing:
        raise UserError(
            path,
            f"lacks the column {', '.join(missing)}; its columns are {', '.join(rows[0])}",
            "TensorBoard exports Wall time, Step, Value",
        )
    where = [names.index(name) for name in _CSV_COLUMNS]
    numbered = enumerate(rows[1:], start=2)
    return [_csv_point(path, number, row, where) for number, row in numbered if row]


def _csv_point(path: Path, number: int, row: list[str], where: Sequence[int]) -> Point:
    try:
        step, value, wall_time = (float(row[index]) for index in where)
        if not step.is_integer() or abs(step) > MAX_STEP or not math.isfinite(wall_time):
            raise ValueError("the step is not a whole number, or the time is not finite")
    except (ValueError, IndexError) as error:
        raise UserError(
            path, f"line {number} is no point of a curve ({error})", "Export it again"
        ) from error
    return int(step), value, wall_time


def _event_points(path: Path, tag: str | None) -> list[Point]:
    """Read the points of one tag from an event file or the files of one run."""
    curves: dict[str, list[Point]] = defaultdict(list)
    for file in _run_files(path) if path.is_dir() else [path]:
        for name, point in _scalars(file):
            curves[name].append(point)
    tags = ", ".join(sorted(curves))
    if not curves:
        raise UserError(path, "holds no scalars", "Give the event file of the validation")
    if tag is None and len(curves) > 1:
        raise UserError(
            path,
            f"holds several curves: {tags}",
            "Say which one: --params curve.tag=NAME, or --tag NAME",
        )
    chosen = tag if tag is not None else next(iter(curves))
    if chosen not in curves:
        raise UserError(path, f"holds no curve {chosen!r}", f"There is: {tags}")
    return curves[chosen]


def _run_files(folder: Path) -> list[Path]:
    """Return the event files of the one run in a folder; a run is a folder, as in TensorBoard."""
    files = sorted(file for file in folder.glob(_EVENT_FILE) if file.is_file())
    if files:
        return files
    below = sorted(file for file in folder.rglob(_EVENT_FILE) if file.is_file())
    runs = sorted({file.parent for file in below})
    if not runs:
        raise UserError(folder, "holds no TensorBoard event file (*tfevents*)")
    if len(runs) > 1:
        names = ", ".join(str(run.relative_to(folder)) for run in runs)
        raise UserError(folder, f"holds several runs: {names}", "Give the folder of one of them")
    return below


def _scalars(file: Path) -> Iterator[tuple[str, Point]]:
    """Yield tag and point of every scalar in an event file, of both TensorFlow 1 and 2 style."""
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto import event_pb2

    scalar_tags: set[str] = set()
    for number, record in enumerate(_records(file)):
        try:
            event = event_pb2.Event.FromString(record)
        except DecodeError as error:
            raise UserError(file, f"record {number} is no TensorBoard event") from error
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                scalar_tags.add(value.tag)
            try:
                number_or_none = _scalar(value, value.tag in scalar_tags)
            except (TypeError, ValueError, OverflowError) as error:
                raise UserError(
                    file, f"record {number} holds no number under {value.tag!r}", "Write it again"
                ) from error
            if number_or_none is not None:
                yield value.tag, (int(event.step), number_or_none, float(event.wall_time))


def _scalar(value: Any, declared: bool) -> float | None:
    """Return the number in a summary value; None for images, histograms, texts.

    Only the first value of a TensorFlow 2 tag declares its kind.
    """
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if declared and value.HasField("tensor"):
        from tensorboard.util.tensor_util import make_ndarray

        # One number may stand for a tensor of any size, which would be filled with it.
        if any(dimension.size != 1 for dimension in value.tensor.tensor_shape.dim):
            raise ValueError("more than one number")
        return float(make_ndarray(value.tensor).item())
    return None


def _records(file: Path) -> Iterator[bytes]:
    """Yield the records of an event file, checksums checked."""
    from tensorboard.compat.tensorflow_stub import errors
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    number = 0
    try:
        reader = PyRecordReader_New(str(file))
        while True:
            reader.GetNext()
            yield reader.record()
            number += 1
    except errors.OutOfRangeError:
        return
    except errors.DataLossError as error:
        what = "is not a TensorBoard event file" if number == 0 else "is damaged or cut short"
        raise UserError(
            file, f"{what} (after {number} whole records)", "Write or copy it again"
        ) from error
    except OSError as error:
        raise UserError(file, f"cannot be read ({error.strerror or error})") from error
