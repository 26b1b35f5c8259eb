"""Work in a forked child that is killed at a drawn point, and what its files are afterwards."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
LEFT_OUT = (".locks", "events", "events_validation")
"""Folders not compared: who held a lock and when, and curves over time with one file per start."""

TIMES = ("audio_stat", "midi_stat")
"""Keys of JSON files not compared: modification times of the corpus, which is made twice."""


@dataclass
class Attempt:
    """One start of a stage.

    Attributes:
        killed: Whether the kill met running work.
        seconds: From the start of the work to its end.
        operations: File operations counted; known only where the stage ended by itself.
    """

    killed: bool
    seconds: float
    operations: int = 0


def attempt(
    root: Path,
    log: Path,
    work: Callable[[], None],
    *,
    after_s: float | None = None,
    at: int | None = None,
) -> Attempt:
    """Do work in a forked child, and kill it.

    Args:
        root: Where it writes.
        log: What it says goes here.
        work: What it does.
        after_s: Kill it so long after its start.
        at: Kill it before this file operation (from 0).

    Raises:
        RuntimeError: It failed by itself; with its log.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work_and_exit(root, log, work, writing, at)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        pipe.read(1)  # it begins
        started_s = time.monotonic()
        if after_s is not None:
            time.sleep(after_s)
            os.kill(child, signal.SIGKILL)
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    seconds = time.monotonic() - started_s
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        # The count is the last thing said: whoever said it had done the work.
        return Attempt(killed=not said, seconds=seconds)
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"exit {status}:\n" + log.read_text()[-4000:])
    return Attempt(killed=False, seconds=seconds, operations=int(said))


def _work_and_exit(
    root: Path, log: Path, work: Callable[[], None], pipe: int, at: int | None
) -> None:
    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    counter = _Operations(root, at)
    code = 1
    try:
        os.write(pipe, b"!")
        sys.addaudithook(counter)
        work()
        counter.at = None
        os.write(pipe, str(counter.count).encode())
        code = 0
    except BaseException as error:
        from amt_pipeline.cli import explain_run

        line = explain_run(error)  # what a user gets to read
        sys.stderr.write(f"Error: {line}\n" if line else traceback.format_exc())
        sys.stderr.flush()
    os._exit(code)


class _Operations:
    """Audit hook: counts file operations below a folder and dies before one of them."""

    def __init__(self, root: Path, at: int | None) -> None:
        self.root, self.at, self.count = str(root), at, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(arguments[2], int) or not arguments[2] & WRITES:
                return
        elif event not in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"):
            return
        if not str(arguments[0]).startswith(self.root):
            return
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


def tree(root: Path) -> dict[str, str]:
    """Return the content hash of every file that is a result, by its place."""
    from amt_pipeline.core.hashing import file_sha256, value_sha256

    found = {}
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root)
        if path.is_dir() or set(place.parts) & set(LEFT_OUT):
            continue
        digest = file_sha256(path)
        if path.suffix == ".json":
            digest = value_sha256(_without_times(json.loads(path.read_text())))
        found[str(place)] = digest
    return found


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(own) for key, own in value.items() if key not in TIMES}
    return [_without_times(own) for own in value] if isinstance(value, list) else value


def changes(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return which files are missing, new or different."""
    return [
        f"{name}: "
        + ("missing" if name not in found else "new" if name not in expected else "differs")
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]
