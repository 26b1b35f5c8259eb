"""Where every record of a folder of TFRecord files begins, kept beside them.

The walk over the files (`record_walk`) checks every record, so it is done once: its result holds
for as long as sizes and modification times of the files stay what they are.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.arrays import ArrayError, Wanted, read_arrays
from amt_pipeline.core.errors import RecordError, StorageError
from amt_pipeline.core.files import atomic_path
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.parallel import LOCAL, Failure, ParallelConfig, map_items
from amt_pipeline.store.record_walk import WalkedFile, walk_file
from amt_pipeline.store.records import FRAMING_BYTES, RecordFiles, RecordLayout

logger = logging.getLogger(__name__)

INDEX_FILE = "records-index.npz"
VERSION = 1

MAX_BYTES = 2**31
"""Of the index itself; it takes 16 bytes per record."""

_WANTED = {
    "key": Wanted("U", 0),
    "counts": Wanted("i", 1),
    "offsets": Wanted("i", 1),
    "lengths": Wanted("i", 1),
    "largest": Wanted("iu", 0),
    "digest": Wanted("U", 0),
}

PARALLEL_BYTES = 2**30
"""Smaller sets are checked without worker processes, whose start takes longer."""


@dataclass(frozen=True)
class RecordIndex:
    """Where the records of some files are, and what they hold.

    Attributes:
        layout: What every record holds.
        names: The files, in order.
        counts: Records per file.
        offsets: [n] first byte of each record in its file.
        lengths: [n] bytes of each record's data.
        largest: Largest integer of all records.
        digest: Hash of all records in order, wherever they lie.
    """

    layout: RecordLayout
    names: list[str]
    counts: list[int]
    offsets: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    largest: int
    digest: str


def open_records(folder: Path, names: Sequence[str], layout: RecordLayout) -> RecordFiles:
    """Open record files for reading; those not indexed yet are checked from end to end.

    Args:
        folder: Where they lie; the index is kept there, if it may be written.
        names: The files, in the order in which their records count.
        layout: What every record has to hold.

    Raises:
        RecordError: A file is missing, damaged, empty or holds other examples; it is named, and the
            record.
        ConfigError: TensorFlow is needed and not installed.
    """
    stats = [_stat(folder / name) for name in names]
    key = value_sha256([VERSION, asdict(layout), list(names), stats])
    index = _stored(folder / INDEX_FILE, key, layout, names, [size for size, *_ in stats])
    if index is None:
        small = sum(size for size, *_ in stats) < PARALLEL_BYTES
        walked = _walk_files(folder, names, layout, LOCAL.inline() if small else LOCAL)
        if [_stat(folder / name) for name in names] != stats:
            raise RecordError(folder, "changed while it was read", "Run again when it is complete")
        index = _joined(layout, names, walked)
        _store(folder / INDEX_FILE, key, index)
    return RecordFiles(folder, index, [(size, time_ns) for size, time_ns, _ in stats])


def _walk_files(
    folder: Path, names: Sequence[str], layout: RecordLayout, parallel: ParallelConfig
) -> list[WalkedFile]:
    outcomes = dict(
        map_items(
            functools.partial(_walk_named, folder=folder, layout=layout),
            list(names),
            label="Checking records",
            unit="file",
            parallel=parallel,
        )
    )
    walked = []
    for name in names:
        outcome = outcomes[name]
        if isinstance(outcome, Failure):
            raise outcome.error
        walked.append(outcome)
    return walked


def _walk_named(name: str, *, folder: Path, layout: RecordLayout) -> WalkedFile:
    return walk_file(folder / name, layout)


def _joined(
    layout: RecordLayout, names: Sequence[str], walked: Sequence[WalkedFile]
) -> RecordIndex:
    lengths = np.concatenate([file.lengths for file in walked])
    checksums = np.concatenate([file.checksums for file in walked])
    return RecordIndex(
        layout,
        list(names),
        [len(file.offsets) for file in walked],
        np.concatenate([file.offsets for file in walked]),
        lengths,
        max(file.largest for file in walked),
        hashlib.sha256(lengths.tobytes() + checksums.tobytes()).hexdigest(),
    )


def _stored(
    path: Path, key: str, layout: RecordLayout, names: Sequence[str], sizes: Sequence[int]
) -> RecordIndex | None:
    """Return what is kept, if it is whole and fits files of these sizes."""
    try:
        file = read_arrays(path, _WANTED, max_bytes=MAX_BYTES)
    except ArrayError as error:  # whatever is wrong, it is made again
        if path.exists():
            logger.info("%s", error)
        return None
    if str(file["key"]) != key:
        return None
    offsets, lengths = file["offsets"].astype(np.int64), file["lengths"].astype(np.int64)
    counts = file["counts"].tolist()
    n_records = sum(counts) if len(counts) == len(names) and min(counts) >= 0 else -1
    fits = len(offsets) == len(lengths) == n_records
    if fits:
        ends = np.repeat(np.array(sizes, np.int64), counts) - FRAMING_BYTES
        fits = bool(((offsets >= 0) & (offsets <= ends)).all())
        fits = fits and bool(((lengths >= 0) & (lengths <= ends - offsets)).all())
    if not fits:
        logger.info("%s does not fit its files and is made again", path)
        return None
    return RecordIndex(
        layout, list(names), counts, offsets, lengths, int(file["largest"]), str(file["digest"])
    )


def _store(path: Path, key: str, index: RecordIndex) -> None:
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                key=key,
                counts=index.counts,
                offsets=index.offsets,
                lengths=index.lengths,
                largest=index.largest,
                digest=index.digest,
            )
    except StorageError as error:
        logger.warning(
            "The index of these records is not kept, so each start checks them: %s", error
        )


def _stat(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError as error:
        raise RecordError(path, f"cannot be read ({error.strerror})", "Export it again") from error
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
