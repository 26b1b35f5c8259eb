"""Files that are complete or absent.

Everything the project writes goes through here: written beside its place under a temporary name,
flushed to the disk, then renamed. A process that is killed at any point leaves either the old file,
the new one, or a leftover whose name starts with `.tmp-`, which no reader takes for data.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amt_pipeline.core.errors import UserError, storage_error

TEMPORARY_PREFIX = ".tmp-"


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` when the block ends well.

    The temporary name keeps the suffix, for writers that go by it.

    Raises:
        StorageError: The disk refused (full, read-only, no permission).
    """
    target = Path(target)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f"{TEMPORARY_PREFIX}{target.stem}-", suffix=target.suffix, dir=target.parent
        )
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _flush(temporary)
        # mkstemp makes files private; results are meant to be shared like any other file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise storage_error(target, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder that replaces `target` as a whole when the block ends well.

    Raises:
        StorageError: The disk refused (full, read-only, no permission).
    """
    target = Path(target)
    temporary = former = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(
            tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{target.name}-", dir=target.parent)
        )
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                _flush(path)
        temporary.chmod(0o777 & ~_umask())
        if target.exists():
            # Moved away whole: deleting it in place would leave half a folder if killed here.
            former = Path(
                tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{target.name}-", dir=target.parent)
            )
            target.replace(former)
        temporary.replace(target)
    except OSError as error:
        raise storage_error(target, error) from error
    finally:
        for leftover in (temporary, former):
            if leftover is not None:
                shutil.rmtree(leftover, ignore_errors=True)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes left in a folder that only this process writes to."""
    for path in Path(folder).glob(f"{TEMPORARY_PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(target: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 with unix line ends, atomically."""
    with atomic_path(target) as path:
        path.write_text(text, encoding="utf-8", newline="\n")


def write_json(target: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically; NaN is refused, it is not JSON."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        UserError: The file is missing, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(path, "no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(
            path, f"cannot be read as JSON ({error})", "Delete it and run again"
        ) from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # The umask can only be read by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
