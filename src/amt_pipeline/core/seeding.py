"""Seeds: every random choice is a pure function of the run's seed and of what it is for.

A generator that is derived rather than carried needs no state in a checkpoint: the batch of step
2500 is the same whether the run got there in one go or was killed twice on the way.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive a 63-bit seed for `purpose` (for instance `"epoch", 3`) from the run's seed."""
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive_rng(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a numpy generator for `purpose`; see `derive_seed`."""
    return np.random.default_rng(derive_seed(seed, *purpose))
