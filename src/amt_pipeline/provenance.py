"""Where a result comes from: code version, command line, versions of what computed it.

Cheap on purpose: two calls of git and package metadata, no import of torch.
"""

from __future__ import annotations

import getpass
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

GIT_TIMEOUT_S = 10.0
RECORDED_PACKAGES = ("amt_pipeline", "torch", "scipy", "librosa", "kedro", "numpy")


def provenance_tags(project_path: Path, run_params: Mapping[str, Any]) -> dict[str, str]:
    """Describe a run by text tags, in MLflow's own names where it has one.

    Args:
        project_path: Root of the Kedro project; its git repository is looked at.
        run_params: What Kedro hands to `before_pipeline_run`.

    Returns:
        Tag names and values; what cannot be found out is left out.
    """
    runtime_params = run_params.get("runtime_params") or {}
    tags = {
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": project_path.name,
        "mlflow.user": _user(),
        "pipeline": pipeline_label(run_params),
        "environment": str(run_params.get("env") or "local"),
        "command": command_line(),
        "runtime_params": ", ".join(f"{key}={value}" for key, value in runtime_params.items()),
        "data_root": str(runtime_params.get("data_root", "data")),
        "python": platform.python_version(),
        **{f"version.{name}": _package_version(name) for name in RECORDED_PACKAGES},
        **git_tags(project_path),
    }
    return {name: value for name, value in tags.items() if value}


def pipeline_label(run_params: Mapping[str, Any]) -> str:
    """Return the names of the pipelines that were asked for, for people."""
    names = run_params.get("pipeline_names") or ["__default__"]
    return " + ".join(sorted(names))


def command_line() -> str:
    """Return the command of this process, with the program's name instead of its path."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def git_tags(folder: Path) -> dict[str, str]:
    """Return commit and state of the repository that holds `folder`; empty without one."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {
        "mlflow.source.git.commit": commit,
        "git.dirty": "unknown" if changed is None else str(bool(changed)).lower(),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return ""


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
