"""A disk that is full, or cannot be written to: named in one line, and nothing half is left."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from amt_pipeline.core.errors import StorageError
from amt_pipeline.training.loop import train

REPOSITORY = Path(__file__).resolve().parents[2]
HARNESS = Path(__file__).with_name("harness.py")
IN_TMPFS = 'mount -t tmpfs -o size=1g tmpfs "$0" && exec "$@"'


@functools.cache
def may_mount() -> bool:
    """Whether this user may mount a file system of his own, in a name space of his own."""
    if shutil.which("unshare") is None:
        return False
    tried = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@pytest.mark.slow
def test_disk_that_refuses_is_named_and_the_same_command_with_room_ends_the_same(
    tmp_path: Path,
) -> None:
    if not may_mount():
        pytest.skip("no right to mount a small file system here (unshare -rm)")
    root = tmp_path / "data"
    root.mkdir()
    command = ["unshare", "-rm", "sh", "-c", IN_TMPFS, str(root)]
    command += [sys.executable, str(HARNESS), str(tmp_path), "--disk"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert len(report) == 9
    for stage, (read_only, said, differences) in report.items():
        assert read_only.startswith(f"Error: {root}"), (stage, read_only)
        assert "the file system is read-only. Choose a writable place" in read_only, stage
        place, _, remedy = said.removeprefix("Error: ").partition(": ")
        assert said.startswith(f"Error: {root}"), (stage, said)
        assert ".tmp-" not in place, (stage, said)
        assert "Free space" in remedy, (stage, said)
        assert differences == [], stage


def test_read_only_folder_is_named(make_task: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    train(make_task(epochs=1), folder)
    before = sorted(path.name for path in folder.iterdir())
    folder.chmod(0o555)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(StorageError, match="no permission to write here"):
            train(make_task(epochs=4), folder)
    finally:
        folder.chmod(0o755)
    assert sorted(path.name for path in folder.iterdir()) == before
    assert train(make_task(epochs=4), folder).steps == 16
