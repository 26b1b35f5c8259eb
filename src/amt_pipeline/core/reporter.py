"""How the engine tells the world what it does, without knowing who listens.

The shell connects a reporter to MLflow and TensorBoard; tests use `NullReporter` or their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Protocol, runtime_checkable


@runtime_checkable
class Reporter(Protocol):
    """Receives scalars per step and finished files."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record metrics, keyed by path such as `train/loss`, at a training step."""

    def file(self, path: str | PathLike[str], folder: str = "") -> None:
        """Record a finished file or folder as an artefact, under `folder`."""


class NullReporter:
    """Listens and forgets."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Ignore the values."""

    def file(self, path: str | PathLike[str], folder: str = "") -> None:
        """Ignore the file."""
