"""What is said after a run, and when it is an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from amt_pipeline.core.values import finite_or_none
from amt_pipeline.transcription.notes import Notes
from amt_pipeline.transcription.scoring import score_notes, summarise

SCRIPT = Path(__file__).parents[2] / "scripts" / "show_results.py"
TRUTH = Notes.from_arrays([0.5, 1.0, 1.5, 2.0], [0.9, 1.4, 1.9, 2.4], [60, 62, 64, 65])
FOUND = Notes.from_arrays([0.5, 1.04, 1.5], [0.6, 1.14, 1.6], [60, 62, 70])


def show(data_root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, "--data-root", data_root],
        capture_output=True,
        text=True,
        check=False,
    )


def write_summary(data_root: Path, content: str) -> Path:
    path = data_root / "08_reporting" / "transcription" / "summary.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return path


def real_summary(*estimates: Notes) -> str:
    scores = [(f"piece-{n}", score_notes(TRUTH, found)) for n, found in enumerate(estimates)]
    _, summary = summarise(scores)
    return json.dumps({**finite_or_none(summary), "model": "f1", "settings": {"scoring": {}}})


def test_scores_and_places_are_shown(tmp_path: Path) -> None:
    write_summary(tmp_path, real_summary(FOUND, TRUTH))
    done = show(tmp_path)
    assert done.returncode == 0, done.stderr
    # Two of three found notes are right, of four true ones; the other piece is perfect.
    for line in (
        "onset precision  0.8333  95 % interval 0.6667 to 1.0000",
        "onset recall     0.7500  95 % interval 0.5000 to 1.0000",
        "onset f1         0.7857  95 % interval 0.5714 to 1.0000",
    ):
        assert line in done.stdout
    for place in (
        "08_reporting/transcription/record.html",
        "08_reporting/onset/ranking.png",
        "08_reporting/pitch/ranking.png",
        "06_models",
    ):
        assert f" {tmp_path / place}\n" in done.stdout
    assert "make viz" in done.stdout
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db" in done.stdout
    assert f"tensorboard --logdir {tmp_path / '06_models'}" in done.stdout


def test_single_piece_has_no_interval(tmp_path: Path) -> None:
    write_summary(tmp_path, real_summary(FOUND))
    done = show(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "onset f1         0.5714\n" in done.stdout


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "Expecting"),
        ("[]", "no table of scores"),
        ('{"onset/precision": 0.5, "onset/recall": 0.5}', "no number is called onset/f1"),
        ('{"onset/precision": null}', "no number is called onset/precision"),
        ('{"onset/precision": NaN}', "onset/precision is not between 0 and 1"),
        ('{"onset/precision": 1.5}', "onset/precision is not between 0 and 1"),
        ('{"onset/precision": "0.5"}', "no number is called onset/precision"),
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
    assert "summary.json: no such file. Run: make demo" in done.stderr
