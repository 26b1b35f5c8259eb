"""Training windows from TFRecord files: our own export, or records made elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from amt_pipeline.core.arrays import Wanted, read_arrays
from amt_pipeline.core.errors import ConfigError, RecordError
from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.store.record_index import open_records
from amt_pipeline.store.record_walk import first_keys
from amt_pipeline.store.records import SUFFIXES, RecordFiles
from amt_pipeline.store.windows import Windows
from amt_pipeline.training.run import differences
from amt_pipeline.transcription.labels import TOP_GRADE
from amt_pipeline.transcription.record_format import (
    LABEL_KEYS,
    WINDOWS_FILE,
    ExportManifest,
    SplitManifest,
    from_examples,
    record_layout,
    record_settings,
    record_shapes,
)

if TYPE_CHECKING:
    from amt_pipeline.transcription.task_config import FrameTaskConfig

_WINDOWS = {"recording": Wanted("i", 1), "start": Wanted("i", 1)}
EXPORT_AGAIN = "Run `kedro run --pipelines export_tfrecords`; it redoes only what is missing"


class RecordSource:
    """Windows read from records instead of the FrameStore.

    Args:
        files: The records.
        config: The task they are for.
        context: Frames that its network needs on either side of the labelled ones.
        held: Which window each record holds; None where nobody knows, and `Windows.start` is the
            position of the record.
    """

    def __init__(
        self, files: RecordFiles, config: FrameTaskConfig, context: int, held: Windows | None
    ) -> None:
        self.files, self._shapes = files, record_shapes(config, context)
        self._order = self._keys = None
        if held is not None:
            keys = _key(held)
            self._order = np.argsort(keys, kind="stable")
            self._keys = keys[self._order]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def digest(self) -> str:
        """Hash of all records."""
        return self.files.index.digest

    def windows(self) -> Windows:
        """Return every record as a window, for records of which nobody knows more."""
        return Windows(np.zeros(len(self), np.int64), np.arange(len(self), dtype=np.int64))

    def gather(self, windows: Windows) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Return frames [n, frames, bins, channels] and grades [n, label_frames (, 88)] of windows.

        Raises:
            RecordError: A file changed, or no record holds one of the windows.
        """
        floats, integers = self.files.read(self._positions(windows))
        return from_examples(floats, integers, self._shapes)

    def _positions(self, windows: Windows) -> npt.NDArray[np.int64]:
        if self._keys is None or self._order is None:
            return windows.start
        wanted = _key(windows)
        at = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        if (missing := self._keys[at] != wanted).any():
            raise RecordError(
                self.files.folder,
                f"lacks {int(missing.sum())} of the windows to be trained on",
                EXPORT_AGAIN,
            )
        positions: npt.NDArray[np.int64] = self._order[at]
        return positions


def open_export(
    folder: Path,
    config: FrameTaskConfig,
    *,
    context: int,
    fingerprint: str,
    recording_ids: Sequence[str],
) -> RecordSource:
    """Open the training windows of an export that was made for this task.

    Args:
        folder: The export.
        config: The task.
        context: Frames that its network needs on either side of the labelled ones.
        fingerprint: Hash of the corpus and its features.
        recording_ids: The training split, in the order that windows count.

    Raises:
        MissingPredecessorError: Nothing was exported.
        RecordError: The export was made for other settings (they are named), or is damaged.
    """
    manifest = ExportManifest.read(folder)
    changed = differences(manifest.settings, record_settings(config, context, fingerprint))
    if manifest.task != config.name:
        changed.insert(0, f"task: {manifest.task} -> {config.name}")
    split = manifest.splits.get("train")
    if split is None:
        changed.append("export.splits: train is not among them")
    elif split.recordings != list(recording_ids) and not changed:
        changed.append("the recordings of the training split")
    if split is None or changed:
        raise RecordError(
            folder,
            f"was exported with other settings ({'; '.join(changed)})",
            "Run `kedro run --pipelines export_tfrecords` with these parameters",
        )
    place = folder / "train"
    _check_files(place, split)
    names = [file.name for file in split.files]
    files = open_records(place, names, record_layout(config, context))
    held = read_held_windows(place / WINDOWS_FILE, split.windows_sha256, len(files))
    return RecordSource(files, config, context, held)


def open_outside(folder: Path, config: FrameTaskConfig, *, context: int) -> RecordSource:
    """Open records made elsewhere: all those of all files in a folder.

    Args:
        folder: Files ending in .tfrecord or .tfrecords, with `spec` and one of `LABEL_KEYS`.
        config: The task; its features and label length are those of the records.
        context: Frames that its network needs on either side of the labelled ones.

    Raises:
        RecordError: There are none, one is damaged, or they are of another shape.
        ConfigError: Under the task's widening no label would count as positive.
    """
    found_files = (path.name for path in _listing(folder) if path.suffix in SUFFIXES)
    # Hidden files are what somebody is writing, or was when he was killed.
    names = sorted(name for name in found_files if not name.startswith("."))
    if not names:
        raise RecordError(
            folder, "holds no record files", f"They have to end in {' or '.join(SUFFIXES)}"
        )
    keys = first_keys(folder / names[0])
    found = [key for key in LABEL_KEYS if key in keys]
    if not found:
        raise RecordError(
            folder / names[0],
            f"has labels under none of {', '.join(LABEL_KEYS)} (there are {', '.join(keys)})",
            "Write them again under one of these keys",
        )
    files = open_records(folder, names, record_layout(config, context, found[0]))
    largest, needed = files.index.largest, TOP_GRADE - config.labels.widening
    if largest < needed:
        remedy = "Use labels.widening=2, which counts every label above 0"
        raise ConfigError(
            "labels.widening",
            f"{config.labels.widening} counts labels from {needed} up, those in {folder} go up to "
            f"{largest}",
            remedy if largest else "Write records that have labels",
        )
    return RecordSource(files, config, context, None)


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise RecordError(
            folder, f"cannot be read ({error.strerror})", "Check training.records_folder"
        ) from error


def _check_files(folder: Path, split: SplitManifest) -> None:
    for file in split.files:
        path = folder / file.name
        size = path.stat().st_size if path.is_file() else None
        if size != file.bytes:
            problem = (
                "is missing" if size is None else f"has {size} bytes, written were {file.bytes}"
            )
            raise RecordError(path, problem, EXPORT_AGAIN)


def read_held_windows(path: Path, sha256: str, count: int) -> Windows:
    """Return the windows that the records of an export hold.

    Args:
        path: `windows.npz` of the split.
        sha256: Hash of that file, as the manifest has it.
        count: How many records there are.

    Raises:
        RecordError: The file is missing, damaged or of another export.
    """
    try:
        if file_sha256(path) != sha256:
            raise RecordError(path, "is of another export, or damaged", EXPORT_AGAIN)
    except OSError as error:
        raise RecordError(path, f"cannot be read ({error.strerror})", EXPORT_AGAIN) from error
    max_bytes = 16 * count + 2**16
    arrays = read_arrays(path, _WINDOWS, max_bytes=max_bytes, remedy=EXPORT_AGAIN)
    windows = Windows(*(arrays[name].astype(np.int64) for name in _WINDOWS))
    if not len(windows.start) == len(windows.recording) == count:
        raise RecordError(path, f"does not hold {count} windows", EXPORT_AGAIN)
    return windows


def _key(windows: Windows) -> Any:
    # A start may be negative by less than a window; no recording has 2^31 frames.
    return windows.recording * 2**33 + (windows.start + 2**32)
