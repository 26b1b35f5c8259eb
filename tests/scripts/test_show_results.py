"""What is said after a run, and when it is an error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "show_results.py"


def show(data_root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, "--data-root", data_root],
        capture_output=True,
        text=True,
        check=False,
    )


def write_summary(data_root: Path, content: str, run: str = "run") -> Path:
    path = data_root / "08_reporting" / run / "summary.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return path


def test_scores_and_places_are_shown(tmp_path: Path) -> None:
    summary = write_summary(tmp_path, json.dumps({"notes": {"f1": 0.5}, "name": "x", "ok": True}))
    report = summary.with_name("report.html")
    report.write_text("")
    done = show(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "notes.f1  0.5\n" in done.stdout
    assert str(report) in done.stdout
    assert str(tmp_path / "06_models") in done.stdout


def test_the_newest_summary_counts(tmp_path: Path) -> None:
    old = write_summary(tmp_path, '{"f1": 0.25}', run="b")
    os.utime(old, (0, 0))
    write_summary(tmp_path, '{"f1": 0.75}', run="a")
    assert "f1  0.75\n" in show(tmp_path).stdout


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "Expecting"),
        ('{"precision": 0.5}', "no number is called f1"),
        ('{"f1": NaN}', "not between 0 and 1"),
        ('{"f1": 1.5}', "not between 0 and 1"),
        ('{"f1": "0.5"}', "no number is called f1"),
    ],
)
def test_unusable_summary_is_an_error(tmp_path: Path, content: str, problem: str) -> None:
    summary = write_summary(tmp_path, content)
    done = show(tmp_path)
    assert done.returncode == 1
    assert str(summary) in done.stderr
    assert problem in done.stderr


def test_absent_summary_is_an_error(tmp_path: Path) -> None:
    done = show(tmp_path)
    assert done.returncode == 1
    assert "no summary.json" in done.stderr
