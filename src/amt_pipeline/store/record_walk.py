"""One walk over a TFRecord file that checks every record and tells where it is.

The walk follows the framing (length, checksum of the length, data, checksum of the data), then has
TensorFlow verify the checksums and parse every example. So whatever is wrong is named with its file
and record before training starts: a file that is cut off, rotten, empty or no record file at all,
an example of another shape, a number that is none.

Framing: tensorflow.org/tutorials/load_data/tfrecord, "TFRecords format details".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import RecordError
from amt_pipeline.store.records import FRAMING_BYTES, HEAD_BYTES, RecordLayout
from amt_pipeline.store.tensorflow import import_tensorflow

BATCH_BYTES = 16 * 2**20
"""Read and checked at once."""

LARGEST_RECORD_BYTES = 2**28
"""No record may claim more; memory stays bounded whatever a length says."""

GZIP = b"\x1f\x8b"

REMEDY = "Export or copy this file again"


@dataclass(frozen=True)
class WalkedFile:
    """What a walk over one file found.

    Attributes:
        offsets: [n] first byte of each record.
        lengths: [n] bytes of its data.
        checksums: [n] of its data.
        largest: Largest integer of all records.
    """

    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    checksums: npt.NDArray[np.uint32]
    largest: int


def walk_file(path: Path, layout: RecordLayout) -> WalkedFile:
    """Check every record of a file and return where they are.

    Raises:
        RecordError: The file is damaged, empty or of another layout; the record is named.
    """
    # Integers take up to ten bytes; what else a record may hold is not read, so it stays small.
    limit = 16 * (4 * layout.n_floats + 10 * layout.n_integers) + 2**20
    offsets, lengths, checksums = _framing(path, limit)
    tf = import_tensorflow()
    size = max(1, BATCH_BYTES // max(1, int(lengths.max())))
    first = largest = 0
    try:
        for serialized in tf.data.TFRecordDataset([str(path)]).batch(size):
            integers = _checked(path, first, serialized, layout)
            first, largest = first + len(integers), max(largest, int(integers.max(initial=0)))
    except tf.errors.DataLossError as error:
        raise _rotten(path) from error
    except tf.errors.OpError as error:
        raise RecordError(path, f"cannot be read ({error.message})") from error
    if first != len(offsets):
        raise RecordError(path, "changed while it was read", "Run again when it is complete")
    return WalkedFile(offsets, lengths, checksums, largest)


def first_keys(path: Path) -> list[str]:
    """Return the keys of a file's first record, sorted.

    Raises:
        RecordError: The file is missing, empty or damaged, or holds no examples.
    """
    _framing(path, LARGEST_RECORD_BYTES)
    tf = import_tensorflow()
    try:
        data = next(iter(tf.data.TFRecordDataset([str(path)]))).numpy()
    except tf.errors.OpError as error:
        raise RecordError(path, "record 0 is damaged", REMEDY) from error
    return sorted(_example(path, 0, data).features.feature)


def _framing(
    path: Path, limit: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Follow the lengths. TensorFlow would do it too, but trusts any length with memory."""
    found: list[tuple[int, int, int]] = []
    try:
        with path.open("rb", buffering=0) as stream:
            found.extend(_records(path, stream.fileno(), limit))
    except OSError as error:
        raise RecordError(path, f"cannot be read ({error.strerror or error})", REMEDY) from error
    columns = np.array(found, np.int64).reshape(-1, 3)
    return columns[:, 0].copy(), columns[:, 1].copy(), columns[:, 2].astype(np.uint32)


def _records(path: Path, descriptor: int, limit: int) -> Iterator[tuple[int, int, int]]:
    """Yield offset, data length and data checksum of every record."""
    size, at, number = os.fstat(descriptor).st_size, 0, 0
    if size == 0:
        raise RecordError(path, "is empty", REMEDY)
    head = os.pread(descriptor, HEAD_BYTES, 0)
    if head[: len(GZIP)] == GZIP:
        raise RecordError(path, "is compressed", "Write it without compression")
    while at < size:
        length = int.from_bytes(head[:8], "little")
        end = at + length + FRAMING_BYTES
        if len(head) < HEAD_BYTES or end > size:
            raise _cut_off(path, number)
        if length > min(limit, LARGEST_RECORD_BYTES):
            problem = f"record {number} has {length} bytes, far more than the shape needs"
            raise RecordError(path, problem, REMEDY)
        # The end of this record and the head of the next in one go.
        after = os.pread(descriptor, 4 + HEAD_BYTES, end - 4)
        yield at, length, int.from_bytes(after[:4], "little")
        at, head, number = end, after[4:], number + 1


def _cut_off(path: Path, number: int) -> RecordError:
    problem = f"is cut off within record {number}"
    if number == 0:
        problem = "is not a TFRecord file, or cut off within its first record"
    return RecordError(path, problem, REMEDY)


def _checked(path: Path, first: int, serialized: Any, layout: RecordLayout) -> Any:
    """Return the integers of a batch of serialized examples that begins at record `first`."""
    tf = import_tensorflow()
    try:
        floats, integers = layout.parse(serialized)
    except tf.errors.InvalidArgumentError as error:
        raise _misfit(path, first, serialized.numpy(), layout) from error
    fits = integers.min(initial=0) >= 0 and integers.max(initial=0) <= layout.largest
    if not (fits and np.isfinite(floats).all()):
        raise _misfit(path, first, serialized.numpy(), layout)
    return integers


def _rotten(path: Path) -> RecordError:
    tf, good = import_tensorflow(), 0
    try:
        for _ in tf.data.TFRecordDataset([str(path)]):
            good += 1
    except tf.errors.OpError:
        pass
    return RecordError(path, f"record {good} is damaged: its checksum is wrong", REMEDY)


def _misfit(path: Path, first: int, batch: Sequence[bytes], layout: RecordLayout) -> RecordError:
    """Name the record of a batch that does not have the layout, and what it holds instead."""
    wanted = (
        (layout.floats_key, "float_list", layout.n_floats),
        (layout.integers_key, "int64_list", layout.n_integers),
    )
    for number, data in enumerate(batch, first):
        features = _example(path, number, data).features.feature
        for problem in _problems(features, wanted, layout.largest):
            return RecordError(
                path,
                f"record {number} {problem}",
                "Use the features, the label length and the network that the records were made for",
            )
    return RecordError(path, f"a record from {first} on cannot be parsed", REMEDY)


def _problems(features: Any, wanted: Sequence[tuple[str, str, int]], largest: int) -> Iterator[str]:
    for key, kind, count in wanted:
        if key not in features:
            yield f"has no key {key!r}, only {', '.join(sorted(features)) or 'nothing'}"
            continue
        found = features[key].WhichOneof("kind")
        if found != kind:
            yield f"holds {found or 'nothing'} under {key!r}, expected {kind}"
            continue
        values = np.array(getattr(features[key], kind).value)
        if len(values) != count:
            yield f"holds {len(values)} numbers under {key!r}, expected {count}"
        elif not np.isfinite(values).all():
            yield f"holds NaN or infinity under {key!r}"
        elif kind == "int64_list" and (values.min() < 0 or values.max() > largest):
            yield f"holds {values.min()} to {values.max()} under {key!r}, expected 0 to {largest}"


def _example(path: Path, number: int, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return import_tensorflow().train.Example.FromString(data)
    except DecodeError as error:
        raise RecordError(path, f"record {number} is not a tf.train.Example", REMEDY) from error
