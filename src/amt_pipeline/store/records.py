"""Examples as TFRecord files: what one record holds, how it is written, how many are read at once.

A TFRecord file is a sequence of records, each framed by its length and checksums, so the position
of a record is known only after a walk over those before it. The walk is done once (`record_index`);
after that a batch in any order costs a read per record and one call of TensorFlow's parser.

Nothing here knows what the numbers mean: a record has a list of floats and a list of small
integers, each under its key, in a `tf.train.Example`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.errors import RecordError
from amt_pipeline.core.files import atomic_path
from amt_pipeline.store.open_files import open_limit
from amt_pipeline.store.tensorflow import import_tensorflow

if TYPE_CHECKING:
    from amt_pipeline.store.record_index import RecordIndex

SUFFIXES = (".tfrecord", ".tfrecords")
"""How record files end; ours have the first."""

FRAMING_BYTES = 16
"""Of a record beside its data: length (8), checksum of the length (4), checksum of the data (4)."""

HEAD_BYTES = 12
"""Bytes of the framing that lie before the data."""

LARGEST_INTEGER = 127
"""Integers up to this take one byte each, which makes all records of a layout equally long."""

Examples = tuple[npt.NDArray[np.float32], npt.NDArray[np.integer[Any]]]
"""Floats [n, n_floats] and integers [n, n_integers] of n records."""


@dataclass(frozen=True)
class RecordLayout:
    """What every record of a set holds.

    Attributes:
        floats_key: Key of the floats.
        n_floats: How many there are.
        integers_key: Key of the integers.
        n_integers: How many there are.
        largest: Largest integer allowed; the smallest is 0.
    """

    floats_key: str
    n_floats: int
    integers_key: str
    n_integers: int
    largest: int = LARGEST_INTEGER

    def parse(self, serialized: Any) -> Examples:
        """Return the examples of a string tensor or a list of serialized ones.

        Raises:
            tensorflow.errors.InvalidArgumentError: One of them does not have this layout.
        """
        tf = import_tensorflow()
        features = {
            self.floats_key: tf.io.FixedLenFeature([self.n_floats], tf.float32),
            self.integers_key: tf.io.FixedLenFeature([self.n_integers], tf.int64),
        }
        try:
            parsed = tf.io.parse_example(serialized, features)
        except UnicodeDecodeError as error:
            # TensorFlow's message quotes the example, which need not be text.
            raise tf.errors.InvalidArgumentError(None, None, "not an example") from error
        return np.asarray(parsed[self.floats_key]), np.asarray(parsed[self.integers_key])


class RecordFrame:
    """The bytes that all records of a layout have in common, with room for the numbers.

    Building each record through protobuf's Python lists is ten times slower than everything else
    that writing takes. TensorFlow's own serialisation of one example tells where the numbers lie.

    Args:
        layout: What records hold.
    """

    def __init__(self, layout: RecordLayout) -> None:
        tf = import_tensorflow()
        self.layout = layout

        def serialized(byte: int, integer: int) -> npt.NDArray[np.uint8]:
            floats = np.full(4 * layout.n_floats, byte, np.uint8).view("<f4")
            integers = np.full(layout.n_integers, integer)
            lists = {
                layout.floats_key: tf.train.Feature(float_list=tf.train.FloatList(value=floats)),
                layout.integers_key: tf.train.Feature(
                    int64_list=tf.train.Int64List(value=integers)
                ),
            }
            example = tf.train.Example(features=tf.train.Features(feature=lists))
            return np.frombuffer(example.SerializeToString(deterministic=True), np.uint8)

        # The numbers are the bytes that change with them; a length may look like one of them.
        self._bytes = serialized(1, 0)
        self._floats = _differing(self._bytes, serialized(2, 0))
        self._integers = _differing(self._bytes, serialized(1, LARGEST_INTEGER))

    @property
    def record_bytes(self) -> int:
        """Bytes of one record on disk, with its framing."""
        return len(self._bytes) + FRAMING_BYTES

    def serialize(
        self, floats: npt.NDArray[np.float32], integers: npt.NDArray[np.uint8]
    ) -> list[bytes]:
        """Return serialized examples.

        Args:
            floats: [n, n_floats].
            integers: [n, n_integers], up to `LARGEST_INTEGER`.
        """
        rows = np.repeat(self._bytes[None], len(floats), axis=0)
        rows[:, self._floats] = np.ascontiguousarray(floats, "<f4").view(np.uint8)
        rows[:, self._integers] = integers
        return [row.tobytes() for row in rows]


def _differing(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> slice:
    at = np.flatnonzero(one != other)
    return slice(int(at[0]), int(at[-1]) + 1)


def write_records(path: Path, frame: RecordFrame, batches: Iterable[Examples]) -> int:
    """Write a record file, whole or not at all; the same examples make the same bytes.

    Args:
        path: The file.
        frame: What records hold.
        batches: Floats and integers of the records, in order.

    Returns:
        The number of records.

    Raises:
        StorageError: The disk refused.
    """
    tf = import_tensorflow()
    count = 0
    with atomic_path(path) as temporary:
        try:
            with tf.io.TFRecordWriter(str(temporary)) as writer:
                for floats, integers in batches:
                    for data in frame.serialize(floats, integers.astype(np.uint8)):
                        writer.write(data)
                    count += len(floats)
        except tf.errors.OpError as error:
            # As the rest of the project knows it.
            raise OSError(error.message) from error
        expected = count * frame.record_bytes
        if (size := temporary.stat().st_size) != expected:
            raise OSError(f"{expected} bytes requested and {size} written")
    return count


class RecordFiles:
    """The records of an index, readable in any order.

    Args:
        folder: Where the files lie.
        index: What is in them; see `record_index.open_records`.
        stats: Size and time of modification of each file, as it was indexed.
    """

    def __init__(self, folder: Path, index: RecordIndex, stats: Sequence[tuple[int, int]]) -> None:
        self.folder, self.index, self.layout = folder, index, index.layout
        self._first = np.cumsum([0, *index.counts])

        @functools.lru_cache(maxsize=open_limit())
        def opened(number: int) -> FileIO:
            path = folder / index.names[number]
            try:
                file = path.open("rb", buffering=0)
            except OSError as error:
                raise _changed(path, str(error.strerror or error)) from error
            status = os.fstat(file.fileno())
            # All records are equally long: those of another export would be read as if indexed.
            if (status.st_size, status.st_mtime_ns) != stats[number]:
                raise _changed(path, "it is not the file that was indexed")
            return file

        self._opened = opened

    def __len__(self) -> int:
        return int(self._first[-1])

    def read(self, positions: npt.NDArray[np.int64]) -> Examples:
        """Return the examples at positions (counted over all files, in the order of the index).

        Returns:
            Floats [n, n_floats] and integers [n, n_integers]; read-only.

        Raises:
            RecordError: A file was changed, cut or removed since it was indexed.
        """
        if len(positions) == 0:
            return (
                np.zeros((0, self.layout.n_floats), np.float32),
                np.zeros((0, self.layout.n_integers), np.int64),
            )
        files = np.searchsorted(self._first, positions, side="right") - 1
        data = [
            self._data(*record)
            for record in zip(
                files.tolist(),
                self.index.offsets[positions].tolist(),
                self.index.lengths[positions].tolist(),
                strict=True,
            )
        ]
        tf = import_tensorflow()
        try:
            return self.layout.parse(tf.constant(data, tf.string))
        except tf.errors.InvalidArgumentError as error:
            names = sorted({self.index.names[number] for number in files.tolist()})
            raise _changed(self.folder / names[0], "other examples than indexed") from error

    def _data(self, file: int, offset: int, length: int) -> bytes:
        path = self.folder / self.index.names[file]
        opened = self._opened(file)  # held, so that no other thread's opening closes it
        try:
            data = os.pread(opened.fileno(), length, offset + HEAD_BYTES)
        except OSError as error:
            raise _changed(path, str(error.strerror or error)) from error
        if len(data) != length:
            raise _changed(path, f"{length} bytes wanted, {len(data)} there")
        return data


def _changed(path: Path, how: str) -> RecordError:
    return RecordError(
        path, f"changed while it was used ({how})", "Run again when nobody writes there"
    )
