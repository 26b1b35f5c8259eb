"""Files that are complete or absent.

Everything the project writes goes through here: written beside its place under a temporary name,
flushed to the disk, then renamed. A process that is killed at any point leaves either the old file,
the new one, or a leftover whose name starts with `.tmp-`, which no reader takes for data. Whoever
writes holds a lock on the temporary file meanwhile, so leftovers are told from work in progress.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amt_pipeline.core.errors import StorageError, UserError, storage_error

logger = logging.getLogger(__name__)

TEMPORARY_PREFIX = ".tmp-"
LOCK_FILE = "lock"
"""In a temporary folder: locked as long as its maker is alive."""


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `target` that becomes `target` when the block ends well.

    The temporary name keeps the suffix, for writers that go by it.

    Raises:
        StorageError: The disk refused (full, read-only, no permission).
    """
    target = Path(target)
    temporary = claim = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary, claim = _new_file(target)
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
        if claim is not None:
            os.close(claim)


@contextmanager
def atomic_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder that replaces `target` as a whole when the block ends well.

    Raises:
        StorageError: The disk refused (full, read-only, no permission).
    """
    target = Path(target)
    try:
        with scratch_folder(target.parent, target.name) as scratch:
            temporary, former = scratch / "new", scratch / "former"
            temporary.mkdir()
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file():
                    _flush(path)
            if target.exists():
                # Moved away whole: deleting it in place would leave half a folder if killed here.
                target.replace(former)
            temporary.replace(target)
    except StorageError as error:
        # A file within was refused; its temporary place says nothing to anyone.
        raise StorageError(target, error.problem, error.remedy) from error
    except OSError as error:
        raise storage_error(target, error) from error


@contextmanager
def scratch_folder(beside: Path, name: str = "scratch") -> Iterator[Path]:
    """Yield a new folder in `beside` (made when missing) that is gone when the block ends.

    Raises:
        OSError: The disk refused.
    """
    beside.mkdir(parents=True, exist_ok=True)
    folder, claim = _new_folder(beside, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(claim)


@contextmanager
def claimed_file(path: Path) -> Iterator[None]:
    """Make an empty file that is no leftover while the block lasts, and gone after it.

    Raises:
        OSError: It is there already, or the disk refused.
    """
    claim = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        _lock(claim, wait=True)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(claim)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file (made when missing, and left there) while the block lasts.

    Another process that asks for it waits. On a file system without locks nobody waits.

    Raises:
        StorageError: The disk refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        claim = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        _lock(claim, wait=True)
        yield
    finally:
        os.close(claim)


def remove_folder(path: Path) -> None:
    """Remove a folder so that it is there as a whole or not at all, whenever we are killed.

    Raises:
        OSError: The disk refused.
    """
    with scratch_folder(path.parent, path.name) as scratch:
        path.replace(scratch / "former")


def remove_leftovers(folder: str | os.PathLike[str], *, deep: bool = False) -> None:
    """Remove what killed processes left in a folder.

    Others may be writing there: a process holds a lock on what it is writing, and the system lets
    go of the lock of a killed one. On a file system without locks leftovers stay.

    Args:
        folder: Where to look.
        deep: Look into the folders below, too.
    """
    # Not Path.rglob, which raises when another process removes a folder that it walks through.
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if name.startswith(TEMPORARY_PREFIX):
                _remove_if_abandoned(Path(place, name))
        # What is in the temporary folder of a living process is its own matter.
        folders[:] = [name for name in folders if deep and not name.startswith(TEMPORARY_PREFIX)]


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
        return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise UserError(path, "no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            path, f"cannot be read as JSON ({error})", "Delete it and run again"
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _new_file(target: Path) -> tuple[Path, int]:
    """Return a new file beside `target`, and the descriptor that holds its lock until closed."""
    while True:
        claim, name = tempfile.mkstemp(
            prefix=f"{TEMPORARY_PREFIX}{target.stem}-", suffix=target.suffix, dir=target.parent
        )
        _lock(claim, wait=True)
        if os.fstat(claim).st_nlink:
            return Path(name), claim
        os.close(claim)  # taken for a leftover before it was locked


def _new_folder(beside: Path, name: str) -> tuple[Path, int]:
    """Return a new folder, and the descriptor that holds the lock in it until closed."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{name}-", dir=beside))
        try:
            folder.chmod(0o777 & ~_umask())
            claim = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            continue  # taken for a leftover before it was locked
        _lock(claim, wait=True)
        if os.fstat(claim).st_nlink:
            return folder, claim
        os.close(claim)


def _remove_if_abandoned(path: Path) -> None:
    is_folder = path.is_dir() and not path.is_symlink()
    try:
        # A folder cannot be locked on every file system, so there the lock is on a file within.
        claim = (
            os.open(path / LOCK_FILE, os.O_RDWR | os.O_CREAT)
            if is_folder
            else os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        )
    except OSError:
        return  # gone meanwhile, or not ours to touch
    try:
        if not _lock(claim, wait=False):
            return
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    except OSError:
        logger.debug("%s stays", path, exc_info=True)
    finally:
        os.close(claim)


def _lock(claim: int, *, wait: bool) -> bool:
    """Lock an open file; return whether that succeeded (a file system may have no locks)."""
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


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
