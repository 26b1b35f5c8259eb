"""Starting is cheap: commands that compute nothing import nothing that computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "tensorflow", "mlflow", "librosa", "matplotlib", "sklearn", "lightning")
HEAVY += ("dask", "distributed")

IMPORTED = """
import runpy, sys
sys.argv = {argv!r}
try:
    {run}
except SystemExit as end:
    assert not end.code, end.code
found = sorted(set({heavy!r}) & set(sys.modules))
sys.exit("imported: " + ", ".join(found) if found else 0)
"""


@pytest.mark.parametrize(
    ("argv", "run"),
    [
        ([], "import amt_pipeline.cli"),
        ([], "import amt_pipeline.settings"),
        (["amt", "--help"], "from amt_pipeline.commands import main; main()"),
        (["amt", "--version"], "from amt_pipeline.commands import main; main()"),
        (["kedro", "registry", "list"], "from kedro.framework.cli.cli import main; main()"),
    ],
    ids=["import cli", "import settings", "amt --help", "amt --version", "kedro registry list"],
)
def test_nothing_heavy_is_imported(argv: list[str], run: str) -> None:
    code = IMPORTED.format(argv=argv, run=run, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_amt_does_not_load_kedro() -> None:
    code = IMPORTED.format(
        argv=["amt", "--help"],
        run="from amt_pipeline.commands import main; main()",
        heavy=("kedro", "numpy", "pandas"),
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
