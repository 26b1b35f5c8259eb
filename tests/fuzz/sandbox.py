"""A child process in which readers meet hostile files: it may crash, hang or run out of memory."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import logging
import multiprocessing
import os
import resource
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MEMORY_BYTES = 1536 * 2**20
"""What reading one small file may need beside what the libraries hold."""
LIMIT_S = 30.0
"""A reader takes milliseconds; this much is a hang, on a busy machine too."""
START_S = 300.0
"""Importing the libraries and making the seeds."""
NOISE = "noise.txt"
"""What a child prints; the end of it tells why it died."""
REGISTRY = "readers"
"""The module whose `READERS` the child knows."""
CANARY = "PWNED"
"""The file that code hidden in a payload would make."""


@dataclass(frozen=True)
class Outcome:
    """What became of one reading.

    Attributes:
        kind: `read`, `refused` (by a UserError), or a finding: `escaped` (another exception, or a
            value that breaks the contract), `executed` (hidden code ran), `died`, `hung`.
        text: The refusal or the traceback.
    """

    kind: str
    text: str = ""

    @property
    def is_good(self) -> bool:
        return self.kind in ("read", "refused")


class Sandbox:
    """Runs readers in a child, and starts another one when it is lost."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: Any = None
        self._connection: Connection | None = None
        self._child_folder = str(folder)
        self._warm: set[str] = set()

    def seeds(self, reader: str) -> list[bytes]:
        """Return the valid files of a reader; they are made in the child."""
        found = self._ask("seeds", reader, b"", START_S)
        if not isinstance(found, list):
            raise RuntimeError(f"{reader}: no seeds: {found}")
        self._warm.add(reader)
        return found

    def read(self, reader: str, data: bytes) -> Outcome:
        """Let a reader read a file."""
        if reader not in self._warm:  # what is loaded then must not count as a hang
            self.seeds(reader)
        answer = self._ask("read", reader, data, LIMIT_S)
        if not isinstance(answer, Outcome):
            raise RuntimeError(f"{reader}: {answer}")
        return answer

    def close(self) -> None:
        """End the child."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.join(5)
            if self._process.is_alive():
                self._process.kill()
                self._process.join()
        self._process = self._connection = None
        self._warm.clear()

    def _ask(self, what: str, reader: str, data: bytes, limit_s: float) -> Any:
        connection = self._connection or self._start()
        try:
            connection.send((what, reader, data))
            if not connection.poll(limit_s):
                self._process.kill()
                self.close()
                return Outcome("hung", f"longer than {limit_s:g} s")
            return connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            process = self._process
            process.join(10)
            code = process.exitcode
            self.close()
            noise = Path(self._child_folder, NOISE).read_text(errors="replace")[-1000:]
            return Outcome("died", f"exit code {code}\n{noise}")

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._connection, far = context.Pipe()
        self._child_folder = tempfile.mkdtemp(dir=self._folder)
        self._process = context.Process(
            target=_serve, args=(far, self._child_folder, REGISTRY), daemon=True
        )
        self._process.start()
        far.close()
        return self._connection


def _serve(connection: Connection, folder: str, registry: str) -> None:
    """Answer until the parent closes its end."""
    readers = importlib.import_module(registry).READERS
    os.chdir(folder)
    noise = os.open(NOISE, os.O_CREAT | os.O_RDWR | os.O_APPEND)
    for stream in (1, 2):  # decoders print what they think of a file
        os.dup2(noise, stream)
    faulthandler.enable()
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.filterwarnings("error", category=RuntimeWarning, module="amt_pipeline")
    seeds_of: dict[str, list[bytes]] = {}
    while True:
        try:
            what, name, data = connection.recv()
        except EOFError:
            return
        reader = readers[name]
        if name not in seeds_of:
            seeds_of[name] = _warm_up(reader)
        if what == "seeds":
            connection.send(seeds_of[name])
        else:
            os.ftruncate(noise, 0)
            connection.send(_outcome(reader, data))


def _warm_up(reader: Any) -> list[bytes]:
    """Load what the reader loads, then limit the memory to a little more."""
    _limit_memory(None)
    seeds: list[bytes] = reader.seeds()
    for seed in seeds:
        reader.read(seed)
    gc.collect()
    _limit_memory(int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE"))
    return seeds


def _limit_memory(base_bytes: int | None) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    soft = hard if base_bytes is None else base_bytes + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _outcome(reader: Any, data: bytes) -> Outcome:
    from amt_pipeline.core.errors import UserError

    canary = Path(CANARY)
    try:
        reader.read(data)
        outcome = Outcome("read")
    except UserError as error:
        outcome = _refusal(error)
    except BaseException:
        outcome = Outcome("escaped", traceback.format_exc(limit=-8))
    if canary.exists():
        canary.unlink()
        return Outcome("executed", outcome.text)
    return outcome


def _refusal(error: Exception) -> Outcome:
    """A refusal can be shown to a person: it names a place, and any terminal can print it."""
    text = str(error)
    try:
        text.encode()
    except UnicodeEncodeError:
        return Outcome("escaped", f"a message that cannot be printed: {text!r}")
    where = getattr(error, "where", "")
    return Outcome("refused" if where and getattr(error, "problem", "") else "escaped", text)
