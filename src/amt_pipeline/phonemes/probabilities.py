"""What a network said of the frames of an utterance, on disk.

<out>/probabilities/<id>.npy   float16 [frames, classes]
<out>/items/<id>.json          the key of all that it depends on; written last

The item says that the probabilities are there, and by its key whether they are current.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from amt_pipeline.core.arrays import ArrayError, map_array
from amt_pipeline.core.errors import StoreError, UserError, storage_error
from amt_pipeline.core.files import atomic_path, read_json, write_json

PROBABILITIES_FOLDER, ITEMS_FOLDER = "probabilities", "items"
AGAIN = "Run `kedro run --pipelines predict_phoneme`; it predicts only what is missing"


_BITS_OF_ONE = 0x3C00


class PredictionItem(BaseModel):
    """What is known of the probabilities of an utterance.

    Attributes:
        key: Hash of the model, the frames and the arithmetic that they come from.
        n_frames: Rows.
        file_bytes: Size of the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    key: str
    n_frames: int = Field(ge=0, le=1 << 40)
    file_bytes: int = Field(ge=0)


def to_half(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Return probabilities in half precision, with the same class on top of every frame.

    Rounding makes ties of nearly equal probabilities; there the one on top goes one step up.
    """
    half = probabilities.astype(np.float16)
    said = probabilities.argmax(axis=1)
    rows = np.flatnonzero(top_class(half) != said)
    half[rows, said[rows]] = np.nextafter(half[rows, said[rows]], np.float16(1))
    return half


def top_class(probabilities: npt.NDArray[np.float16]) -> npt.NDArray[np.int64]:
    """Return the class on top of every frame, `[frames]`."""
    top: npt.NDArray[np.int64] = _bits(probabilities).argmax(axis=1)
    return top


def write_probabilities(
    out_folder: Path, recording_id: str, probabilities: npt.NDArray[np.float16], key: str
) -> None:
    """Keep the probabilities `[frames, classes]` of an utterance.

    Raises:
        StorageError: The disk refused.
    """
    data_path, item_path = _paths(out_folder, recording_id)
    with atomic_path(data_path) as temporary:
        # The item goes first on a rewrite: without it the old probabilities no longer count.
        item_path.unlink(missing_ok=True)
        with temporary.open("wb") as stream:
            np.lib.format.write_array(stream, probabilities, allow_pickle=False)
    size = data_path.stat().st_size
    item = PredictionItem(key=key, n_frames=len(probabilities), file_bytes=size)
    write_json(item_path, item.model_dump())


def is_current(out_folder: Path, recording_id: str, key: str) -> bool:
    """Tell whether the probabilities of an utterance are there and depend on what `key` stands for.

    Damaged ones are not.
    """
    data_path, _ = _paths(out_folder, recording_id)
    try:
        item = _read_item(out_folder, recording_id)
        return item.key == key and data_path.stat().st_size == item.file_bytes
    except (UserError, OSError):
        return False


def read_probabilities(out_folder: Path, recording_id: str) -> npt.NDArray[np.float16]:
    """Return the probabilities `[frames, classes]` of an utterance, as a read-only memory map.

    Raises:
        StoreError: They are not there, or damaged.
    """
    path, _ = _paths(out_folder, recording_id)
    item = _read_item(out_folder, recording_id)
    try:
        found: npt.NDArray[np.float16] = map_array(path, "float16")
    except ArrayError as error:
        raise StoreError(path, error.problem, f"Delete it. {AGAIN}") from error
    if found.ndim != 2 or len(found) != item.n_frames or (_bits(found) > _BITS_OF_ONE).any():
        raise StoreError(path, "holds other numbers than probabilities of its frames", AGAIN)
    return found


def remove_others(out_folder: Path, keep: Collection[str]) -> list[str]:
    """Remove what was predicted of utterances that are not asked for; return their ids.

    Only results with an item of ours go.

    Raises:
        StorageError: The disk refused.
    """
    removed = []
    for item_path in sorted((out_folder / ITEMS_FOLDER).glob("*.json")):
        name = item_path.name.removesuffix(".json")
        if name in keep or name.startswith("."):
            continue
        try:
            # The item last: by it the file is found, should we be killed between.
            for path in _paths(out_folder, name):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(item_path, error) from error
        removed.append(name)
    return removed


def _bits(probabilities: npt.NDArray[np.float16]) -> npt.NDArray[np.uint16]:
    """Return half-precision numbers as whole ones, ten times as fast to compare.

    From zero up they are in the same order; negative and infinite numbers, and those that are none,
    lie above one.
    """
    return np.ascontiguousarray(probabilities).view(np.uint16)


def _read_item(out_folder: Path, recording_id: str) -> PredictionItem:
    path = _paths(out_folder, recording_id)[1]
    if not path.is_file():
        raise StoreError(path, "there are no probabilities of this utterance", AGAIN)
    try:
        return PredictionItem.model_validate(read_json(path))
    except ValidationError as error:
        raise StoreError(path, "is no item of a prediction", AGAIN) from error


def _paths(out_folder: Path, recording_id: str) -> tuple[Path, Path]:
    # Not with_suffix: an id may contain dots.
    return (
        Path(out_folder) / PROBABILITIES_FOLDER / f"{recording_id}.npy",
        Path(out_folder) / ITEMS_FOLDER / f"{recording_id}.json",
    )
