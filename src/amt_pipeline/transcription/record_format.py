"""What a training example is as a TFRecord, and what an export of them says of itself.

One record is one window: under `spec` its magnitudes, flattened from [bins, frames, channels],
under `label` its grades (0 to 3), flattened from [frames] (onset) or [frames, 88] (pitch). Keys and
order are those of itec-hust/transition-aware on GitHub, code/tools.py, and of
xk-wang/transition-aware, code/wav2tfrd.py; see docs/transcription.md, section 10.

<folder>/manifest.json               what was exported, written last
<folder>/train/0000.tfrecord         shards, each with a .json that marks it as complete
<folder>/train/windows.npz           which window each record holds
<folder>/test/<recording>.tfrecord   the test split has one file per recording
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from amt_pipeline.core.errors import ConfigError, MissingPredecessorError, RecordError
from amt_pipeline.core.files import read_json
from amt_pipeline.features.spec import FeatureSpec
from amt_pipeline.store.records import RecordLayout
from amt_pipeline.transcription.labels import TOP_GRADE
from amt_pipeline.transcription.notes import N_KEYS

if TYPE_CHECKING:
    from amt_pipeline.transcription.task_config import FrameTaskConfig

SPEC_KEY = "spec"
LABEL_KEY = "label"
LABEL_KEYS = (LABEL_KEY, "pitch_label", "frame_label")
"""Keys that labels have in published records; the first that a record has is read."""

MANIFEST_FILE = "manifest.json"
WINDOWS_FILE = "windows.npz"
FORMAT = 1

ExportSplit = Literal["train", "validation", "test"]
Grades = npt.NDArray[np.integer[Any]]


class RecordFile(BaseModel):
    """A finished record file.

    Attributes:
        name: Its file name.
        records: How many it holds.
        bytes: Its size.
        sha256: Hash of its bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    records: int
    bytes: int
    sha256: str


class SplitManifest(BaseModel):
    """The records of one split.

    Attributes:
        records: How many.
        bytes: Of all files.
        recordings: Recording ids; `windows.npz` counts them in this order.
        windows_sha256: Hash of `windows.npz`.
        files: The record files, in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    records: int
    bytes: int
    recordings: list[str]
    windows_sha256: str
    files: list[RecordFile]


class ExportManifest(BaseModel):
    """What an export holds.

    Attributes:
        format: Version of this layout.
        task: `onset` or `pitch`.
        settings: What a task must share to train from it; see `record_settings`.
        features: The feature specification.
        shapes: Shape of each key's numbers before they were flattened.
        record_bytes: Of one record on disk.
        splits: The records by split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(FORMAT, ge=FORMAT, le=FORMAT)
    task: str
    settings: dict[str, Any]
    features: FeatureSpec
    shapes: dict[str, list[int]]
    record_bytes: int
    splits: dict[ExportSplit, SplitManifest]

    @classmethod
    def read(cls, folder: Path) -> ExportManifest:
        """Read the manifest of an export.

        Raises:
            MissingPredecessorError: There is none: nothing was exported, or not to the end.
            RecordError: It cannot be understood.
        """
        remedy = "Run `kedro run --pipelines export_tfrecords`"
        path = folder / MANIFEST_FILE
        if not path.is_file():
            raise MissingPredecessorError(folder, "holds no complete export of records", remedy)
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise RecordError(
                path, f"is no manifest of an export ({error.error_count()} faults)", remedy
            ) from error


def check_source(config: FrameTaskConfig) -> None:
    """Check that training windows can come from where `training.source` says.

    Raises:
        ConfigError: Names the setting that has to change.
    """
    training, labels = config.training, config.labels
    if training.source == "frames":
        if training.records_folder is not None:
            raise ConfigError(
                "training.records_folder",
                "is not read from training.source=frames",
                f"Use {config.name}.training.source=tfrecords, or leave the folder out",
            )
    elif training.records_folder is not None:
        if config.input.normalisation == "recording":
            raise ConfigError(
                "input.normalisation",
                "is recording, but records made elsewhere do not hold a recording's maximum",
                f"Use {config.name}.input.normalisation=window",
            )
    elif labels.sampling == "runs" and labels.phase == "moving":
        raise ConfigError(
            "training.source",
            "is tfrecords, but labels.sampling=runs moves its windows in every epoch, and records "
            "cannot move",
            f"Use {config.name}.labels.phase=fixed",
        )


def record_shapes(config: FrameTaskConfig, context: int) -> dict[str, list[int]]:
    """Return the shape of each key's numbers: `spec` [bins, frames, channels], `label`.

    Args:
        config: The task.
        context: Frames that its network needs on either side of the labelled ones.
    """
    length, features = config.model.label_frames, config.features
    keys = [] if config.name == "onset" else [N_KEYS]
    return {
        SPEC_KEY: [features.bins, length + 2 * context, features.channels],
        LABEL_KEY: [length, *keys],
    }


def record_layout(
    config: FrameTaskConfig, context: int, label_key: str = LABEL_KEY
) -> RecordLayout:
    """Return the layout of a task's records; `label_key` is where published ones have labels."""
    sizes = [int(np.prod(shape)) for shape in record_shapes(config, context).values()]
    return RecordLayout(SPEC_KEY, sizes[0], label_key, sizes[1], TOP_GRADE)


def record_settings(config: FrameTaskConfig, context: int, fingerprint: str) -> dict[str, Any]:
    """Return the settings that a task shares with an export made for it.

    Only those that decide what is in the records: labels are stored as grades, so the widening is
    free, and a seed counts where it draws something.

    Args:
        config: The task.
        context: Frames that its network needs on either side of the labelled ones.
        fingerprint: Hash of the corpus and its features.
    """
    labels = config.labels
    drawn: dict[str, Any] = {}
    if labels.sampling == "onset_plus":
        drawn = {
            "labels.negative_fraction": labels.negative_fraction,
            "training.seed": config.training.seed,
        }
    elif labels.sampling == "runs":
        drawn = {"labels.phase": labels.phase, "training.seed": config.training.seed}
    return {
        "corpus and features": fingerprint,
        "labels.sampling": labels.sampling,
        "labels.end": labels.end,
        "model.label_frames": config.model.label_frames,
        "context frames": context,
        **drawn,
    }


def to_examples(
    frames: npt.NDArray[Any], grades: Grades
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Flatten windows as records have them.

    Args:
        frames: [n, frames, bins, channels] magnitudes.
        grades: [n, label_frames] or [n, label_frames, 88].

    Returns:
        Floats [n, bins x frames x channels] and integers [n, label_frames (x 88)].
    """
    bins_first = _swapped(np.ascontiguousarray(frames, np.float32))
    count = len(frames)
    return bins_first.reshape(count, -1), grades.astype(np.uint8).reshape(count, -1)


def from_examples(
    floats: npt.NDArray[np.float32], integers: Grades, shapes: dict[str, list[int]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Undo `to_examples`: return frames [n, frames, bins, channels] and grades, both writable."""
    count = len(floats)
    frames = _swapped(floats.reshape(count, *shapes[SPEC_KEY]))
    return frames, integers.astype(np.uint8).reshape(count, *shapes[LABEL_KEY])


def _swapped(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return a copy of [n, a, b, channels] as [n, b, a, channels]."""
    count, first, second, channels = values.shape
    # Both channels move as one number of twice the size: four times as fast.
    dtype, numbers = (np.float64, 1) if channels == 2 else (np.float32, channels)
    cells = values.view(dtype).reshape(count, first, second, numbers)
    swapped = np.array(cells.transpose(0, 2, 1, 3), order="C")
    return swapped.view(np.float32).reshape(count, second, first, channels)
