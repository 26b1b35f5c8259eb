"""A reader that fails as it is told, for the tests of the sandbox."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from reader_kit import Reader
from sandbox import CANARY

from amt_pipeline.core.errors import UserError


def fail(data: bytes) -> None:
    """Do what the data says."""
    if data == b"refuse":
        raise UserError("a", "is refused")
    if data == b"raise":
        raise KeyError("escapes")
    if data == b"memory":
        np.ones(1 << 32, np.uint8)
    if data == b"unprintable":
        raise UserError("a", "\ud800")
    if data == b"execute":
        Path(CANARY).touch()
    if data == b"die":
        os.abort()
    if data == b"hang":
        time.sleep(100)


READERS = {"failing": Reader(lambda: [b"read"], fail, ())}
