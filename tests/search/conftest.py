"""What the tests of studies share with those of the engine."""

from __future__ import annotations

import sys
from pathlib import Path

# Test modules are imported by file, so what folders share is found by the path of `tests`; worker
# processes get this path, too.
sys.path.extend([str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)])

from engine_fixtures import store_folder  # noqa: F401
