"""Two runs never do the same work on the same data root at once.

Every node has a lock below `<data root>/.locks/`, held from the start of a run that contains the
node until its process ends, however it ends: the system lets go of the lock of a killed process.
Runs without a common node may go on side by side (`train_onset` on one GPU, `train_pitch` on
another); the second of two that share one is refused, and told who holds it.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from kedro.framework.hooks import hook_impl

from amt_pipeline.core.errors import UserError, storage_error
from amt_pipeline.core.files import read_json, remove_leftovers, write_json

logger = logging.getLogger(__name__)

LOCKS_FOLDER = ".locks"

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What file systems without locks say; filelock answers the second one itself."""


class DataRootBusyError(UserError):
    """Another run does the same work on this data root."""


class RunLock:
    """The locks of one run's nodes.

    Args:
        data_root: Where the run reads and writes.
        nodes: Names of its nodes, in the order they run.
    """

    def __init__(self, data_root: Path, nodes: Iterable[str]) -> None:
        self._folder, self._nodes = Path(data_root) / LOCKS_FOLDER, list(nodes)
        self._held: list[FileLock] = []

    def acquire(self) -> None:
        """Take all locks or none.

        Raises:
            DataRootBusyError: Another run holds one; the message says which, who and since when.
            StorageError: The data root cannot be written to.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for node in self._nodes:
                self._take(node)
        except OSError as error:
            self.release()
            raise storage_error(self._folder, error) from error
        except UserError:
            self.release()
            raise

    def release(self) -> None:
        """Let go of what is held; a second call does nothing."""
        while self._held:
            self._held.pop().release()

    def _take(self, node: str) -> None:
        # Not thread-local: a runner may end the run in another thread than it began in.
        lock = FileLock(self._folder / f"{node}.lock", timeout=0, thread_local=False)
        holder = self._folder / f"{node}.json"
        try:
            lock.acquire()
        except Timeout as error:
            raise DataRootBusyError(
                self._folder.parent,
                f"another run is at {node} here{_described(holder)}",
                "Wait until it ends, stop it, or work in another place: --params data_root=...",
            ) from error
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            logger.warning(
                "%s: this file system has no locks; see to it that only one run writes here",
                self._folder.parent,
            )
            return
        self._held.append(lock)
        write_json(holder, _myself())


class RunLockHook:
    """Keeps two runs from doing the same work on one data root."""

    def __init__(self) -> None:
        self._data_root = Path("data")
        self._lock: RunLock | None = None

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Note where the data lies."""
        root = (context.config_loader.runtime_params or {}).get("data_root", "data")
        self._data_root = Path(context.project_path) / str(root)

    @hook_impl
    def before_pipeline_run(self, pipeline: Any) -> None:
        """Take the locks of all nodes, and clear away what killed runs left half written.

        Raises:
            DataRootBusyError: Another run holds one of them.
        """
        self._release()
        lock = RunLock(self._data_root, (node.name for node in pipeline.nodes))
        lock.acquire()
        self._lock = lock
        # What other runs are writing just now stays.
        remove_leftovers(self._data_root, deep=True)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Let go of the locks."""
        self._release()

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Let go of the locks."""
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _myself() -> dict[str, Any]:
    return {
        "process": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def _described(holder: Path) -> str:
    try:
        who = read_json(holder)
        return (
            f" (process {who['process']} on {who['host']} since {who['since']}: {who['command']})"
        )
    except (UserError, KeyError, TypeError):
        return ""  # it has only just begun
