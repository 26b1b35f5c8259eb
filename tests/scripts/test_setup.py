"""The set-up script, run for real in a copy of what it needs, says what is wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a bash script")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Make the smallest project that the script can install."""
    folder = tmp_path / "a project"
    (folder / "scripts").mkdir(parents=True)
    for name in ("setup.sh", "warm_up.py"):
        shutil.copy(REPOSITORY / "scripts" / name, folder / "scripts" / name)
    (folder / "constraints.txt").write_text("")
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "tiny"\nversion = "1"\n'
        "[project.optional-dependencies]\ndev = []\ndask = []\ntfrecords = []\n"
    )
    return folder


def set_up(project: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the script with the given settings, and without any of this machine's for pip and uv."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "PYTHON"))}
    return subprocess.run(
        ["bash", "scripts/setup.sh"],
        cwd=project,
        env={**kept, "PYTHON": sys.executable, "MIN_FREE_GB": "0", **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def write_python(path: Path, version: str, *, modules: bool) -> Path:
    """Write a stand-in interpreter that answers what the script asks before it installs."""
    path.write_text(
        "#!/bin/sh\n"
        f'case "$2" in *version_info*|*python_version*) echo {version} ;;\n'
        f"*ensurepip*) exit {0 if modules else 1} ;; *) exit 1 ;; esac\n"
    )
    path.chmod(0o755)
    return path


def test_old_python_is_named_with_what_is_needed(project: Path) -> None:
    old = write_python(project / "python3.9", "3.9", modules=True)
    done = set_up(project, PYTHON=str(old))
    assert done.returncode == 1
    assert f"Python 3.11 or newer is needed; found: {old} is 3.9\n" in done.stderr
    assert "make setup PYTHON=" in done.stderr


def test_absent_python_is_named(project: Path) -> None:
    done = set_up(project, PYTHON="python-of-nobody")
    assert done.returncode == 1
    assert "nothing that starts under the name python-of-nobody" in done.stderr


def test_missing_venv_module_names_the_system_package(project: Path) -> None:
    python = write_python(project / "python3", "3.12", modules=False)
    done = set_up(project, PYTHON=str(python))
    assert done.returncode == 1
    assert "apt install python3.12-venv" in done.stderr


def test_newer_python_than_supported_is_noted(project: Path) -> None:
    python = write_python(project / "python3", "3.15", modules=True)
    done = set_up(project, PYTHON=str(python))
    assert "3.11 to 3.13 are supported" in done.stdout


def test_small_disk_is_told_in_figures(project: Path) -> None:
    done = set_up(project, MIN_FREE_GB="900000")
    assert done.returncode == 1
    assert "900000 GB of free disk are needed" in done.stderr
    assert "there are" in done.stderr
    assert not (project / ".venv").exists()


def test_missing_package_is_named_and_nothing_is_stamped(project: Path) -> None:
    done = set_up(project, INSTALLER="pip", PIP_NO_INDEX="1")
    assert done.returncode == 1
    assert "pip install: no suitable package: setuptools" in done.stderr
    assert "The full log is .make/setup.log" in done.stderr
    assert (project / ".make" / "setup.log").read_text()
    assert not (project / ".venv" / ".stamp").exists()
