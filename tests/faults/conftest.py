"""What the tests of faults share with those of the engine and of the transcription system."""

from __future__ import annotations

import sys
from pathlib import Path

# Test modules are imported by file, so what folders share is found by the path of `tests`.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from engine_fixtures import limit_file_size, make_task, store_folder  # noqa: F401
