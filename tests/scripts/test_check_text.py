"""The commit hook for text files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_text.py"


def check(*paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *paths], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a \nb\n", "file:1: trailing blanks"),
        (b"a\nb\t\n", "file:2: trailing blanks"),
        (b"a", "should end with one newline"),
        (b"a\n\n", "should end with one newline"),
        (b"a" * 1_500_000 + b"\n", "1.5 MB"),
        (b"\0" * 1_500_000, "1.5 MB"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: bytes, fault: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    done = check(path)
    assert done.returncode == 1
    assert fault in done.stdout


@pytest.mark.parametrize("content", [b"", b"a\n", b"a\n\nb\n", b"\0binary "])
def test_clean_files_pass(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    done = check(path)
    assert done.returncode == 0
    assert done.stdout == ""
