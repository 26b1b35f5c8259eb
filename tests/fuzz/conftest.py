from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Test modules are imported by file, so what they share is found by the path of this folder.
sys.path.append(str(Path(__file__).resolve().parent))

from sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A child process that reads hostile files."""
    box = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield box
    box.close()
