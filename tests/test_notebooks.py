"""The notebooks run from top to bottom on a finished run, and are kept without outputs.

The run is a real one of the whole way, as small as it can be while notes are still found: one
minute of demo corpus, networks of a few thousand weights.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))

TINY = {
    "maestro.demo.minutes": 1.0,
    "maestro.demo.pieces": 6,
    "onset.training.epochs": 8,
    "onset.training.batch_size": 2,
    "onset.training.warmup_steps": 5,
    "onset.training.schedule.kind": "none",
    # At the fixed threshold of 0.5 these few steps find no onset yet, so all checkpoints tie at 0.
    "onset.ranking.rule": "latest_tied",
    "pitch.training.epochs": 8,
    "pitch.training.batch_size": 2,
    "pitch.training.warmup_steps": 5,
    "pitch.training.schedule.kind": "none",
    "transcribe.onset_threshold": 0.15,
    "transcribe.pitch_threshold": 0.1,
    "parallel.workers": 1,
}


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data root of a finished run of all pipelines."""
    root = tmp_path_factory.mktemp("finished") / "data"
    parameters = ",".join(f"{name}={value}" for name, value in {"data_root": root, **TINY}.items())
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--params", parameters]
    # A process of its own: Kedro keeps one project per process, and other tests have theirs here.
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return root


def execute(
    notebook: Path, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> nbformat.NotebookNode:
    """Run a notebook in its folder, as `make notebook` does, and return it with its outputs."""
    monkeypatch.setenv("AMT_DATA_ROOT", str(data_root))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    node = nbformat.read(notebook, as_version=4)
    place = {"metadata": {"path": str(notebook.parent)}}
    NotebookClient(node, timeout=120, kernel_name="python3", resources=place).execute()
    return node


def outputs(node: nbformat.NotebookNode, kind: str) -> list[str]:
    """Return everything of one MIME type that the cells displayed."""
    data = [output.get("data", {}) for cell in node.cells for output in cell.get("outputs", [])]
    return [str(shown[kind]) for shown in data if kind in shown]


@pytest.mark.slow
def test_finished_run_is_shown(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = pd.read_csv(finished_run / "08_reporting/transcription/note_scores.csv")
    assert scores["n_matched"].sum() > 0, "the tiny run found nothing, so nothing would be shown"
    notebook = REPOSITORY / "notebooks/finished_run.ipynb"
    node = execute(notebook, finished_run, tmp_path, monkeypatch)
    # Two trainings, two rankings, scores, two piano rolls, errors, the networks' outputs.
    assert len(outputs(node, "image/png")) == 9
    players = [html for html in outputs(node, "text/html") if "<audio" in html]
    assert len(players) == 2
    printed = "".join(
        output["text"]
        for cell in node.cells
        for output in cell.get("outputs", [])
        if "text" in output
    )
    assert f"{scores['n_reference'].sum():,} true notes" in printed
    assert f"{scores['n_matched'].sum():,} found" in printed
    false_alarms = (scores["n_estimate"] - scores["n_matched"]).sum()
    assert f"{false_alarms:,} false alarms" in printed
    assert "first run" in outputs(node, "text/html")[-1]


def test_without_a_run_the_notebook_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = REPOSITORY / "notebooks/finished_run.ipynb"
    with pytest.raises(CellExecutionError, match=r"holds no finished run\. Run `make demo` first"):
        execute(notebook, tmp_path / "nothing", tmp_path, monkeypatch)


def test_every_notebook_is_tested_here() -> None:
    assert [path.name for path in NOTEBOOKS] == ["finished_run.ipynb"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(notebook: Path) -> None:
    node = nbformat.read(notebook, as_version=4)
    nbformat.validate(node)
    for cell in node.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [], f"clear the outputs of {notebook.name} before committing it"
            assert cell.execution_count is None
