"""Locks on a data root: two runs of the same nodes, in one process and in two."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from amt_pipeline.core.errors import StorageError
from amt_pipeline.run_lock import DataRootBusyError, RunLock

HOLD = """
import sys, time
from pathlib import Path
from amt_pipeline.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]), ["train"])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_second_run_is_told_who_holds_the_node(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path, ["ingest", "train"]), RunLock(tmp_path, ["train", "rank"])
    first.acquire()
    with pytest.raises(DataRootBusyError, match=r"another run is at train here \(process \d+ on"):
        second.acquire()
    # None of its locks is kept: a third run may have what the first does not hold.
    RunLock(tmp_path, ["rank"]).acquire()
    first.release()
    first.release()
    RunLock(tmp_path, ["ingest", "train"]).acquire()
    assert {path.name for path in (tmp_path / ".locks").glob("*.json")} == {
        "ingest.json", "train.json", "rank.json",
    }  # fmt: skip


def test_runs_without_a_common_node_go_side_by_side(tmp_path: Path) -> None:
    onset, pitch = RunLock(tmp_path, ["onset.train"]), RunLock(tmp_path, ["pitch.train"])
    onset.acquire()
    pitch.acquire()
    with pytest.raises(DataRootBusyError, match=r"pitch\.train"):
        RunLock(tmp_path, ["pitch.train"]).acquire()


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(DataRootBusyError, match=f"process {holder.pid} on"):
            RunLock(tmp_path, ["train"]).acquire()
        holder.send_signal(signal.SIGKILL)
    lock = RunLock(tmp_path, ["train"])
    lock.acquire()
    lock.release()


def test_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        RunLock(tmp_path / "file", ["train"]).acquire()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_used_with_a_warning(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    RunLock(tmp_path, ["train"]).acquire()
    assert "this file system has no locks" in caplog.text
