"""Index entries of the FrameStore, and the errors of its files."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from amt_pipeline.core.errors import StoreError, UserError
from amt_pipeline.core.files import read_json

INGEST_AGAIN = "Run the ingest pipeline again; it redoes only what is missing"

Peak = tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...]


class StoreEntry(BaseModel):
    """What the index knows of one recording.

    Attributes:
        recording_id: Name within the corpus.
        n_frames: Number of frames.
        peak: Largest absolute value per channel, for per-recording normalisation.
        content_sha256: Hash of the source the frames were made from.
        spec_sha256: Hash of the feature specification.
        file_bytes: Size of the `.npy` file; another size on disk means damage.
        extra: Whatever the corpus wants to keep beside (duration, warnings).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recording_id: str
    n_frames: int = Field(ge=0)
    peak: Peak
    content_sha256: str
    spec_sha256: str
    file_bytes: int
    extra: dict[str, Any] = {}


class PackedEntry(StoreEntry):
    """The entry of a recording that shares a file with others.

    Attributes:
        pack: Name of the pack; `file_bytes` is the size of its file.
        first_frame: Where the recording begins in the file.
        pack_frames: Frames of the whole file.
    """

    pack: str
    first_frame: int
    pack_frames: int


def read_index(path: Path, model: type[BaseModel]) -> Any:
    """Return a file of the index as its model.

    Raises:
        StoreError: It holds something else, or cannot be opened for lack of descriptors.
        UserError: It is missing or no JSON.
    """
    try:
        return model.model_validate(read_json(path))
    except ValidationError as error:
        raise StoreError(path, "is not an index entry", INGEST_AGAIN) from error
    except UserError as error:
        if _too_many_open(error.__cause__):
            raise unreadable(path, error.__cause__) from error
        raise


def has_size(path: Path, file_bytes: int) -> bool:
    """Return whether a file is there and has the size that its entry says."""
    try:
        return path.stat().st_size == file_bytes
    except OSError:
        return False


def require_size(path: Path, file_bytes: int) -> None:
    """Refuse a file that has another size than its entry says.

    Raises:
        StoreError: It has, or is missing.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise StoreError(path, "is not in the store", INGEST_AGAIN) from error
    if size != file_bytes:
        problem = f"is damaged: {size} bytes, written were {file_bytes}"
        raise StoreError(path, problem, INGEST_AGAIN)


def unreadable(path: Path, error: BaseException | None) -> StoreError:
    """Return the error of a file that the operating system did not give."""
    if _too_many_open(error):
        remedy = "The file is not at fault: raise the limit (`ulimit -n 4096`) and run again"
        return StoreError(path, "cannot be opened: too many files are open", remedy)
    return StoreError(path, f"cannot be read ({error})", "Delete it and ingest again")


def _too_many_open(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
