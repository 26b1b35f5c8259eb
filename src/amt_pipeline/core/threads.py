"""How the threads of numerical libraries wait for each other."""

from __future__ import annotations

import os


def yield_while_waiting() -> None:
    """Let OpenMP threads sleep instead of spin; to be called before torch is imported.

    A spinning thread burns the core that its partner needs as soon as anything else runs on the
    machine: a training step on two threads beside one other process took 3.1 s spinning and 1.7 s
    sleeping (and half the CPU seconds). The user's own OMP_WAIT_POLICY wins.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
