"""A task that several processes can train, and that can come to grief in one of them.

Started processes import it by the folder of `tests`, as tests do.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from amt_pipeline.core.errors import StoreError
from engine_support import SyntheticTask


class SharedTask(SyntheticTask):
    """The synthetic task without dropout, which every process would draw for itself.

    Args:
        store_folder: Its store.
        trouble: What happens: `kill`, `mistake` or `defect`.
        where: Rank and step of it.
        marker: File that is left then; where it is, nothing happens any more. None is every time.
    """

    def __init__(
        self,
        store_folder: Path,
        *,
        trouble: str = "",
        where: tuple[int, int] = (1, 9),
        marker: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(store_folder, **settings)
        self.trouble = {"trouble": trouble, "where": tuple(where), "marker": marker}
        self.before_step = self._come_to_grief

    def recipe(self) -> dict[str, Any]:
        found = super().recipe()
        found["arguments"]["settings"] |= self.trouble
        return found

    def build_network(self) -> nn.Module:
        network = super().build_network()
        network.layers[3].p = 0.0
        return network

    def _come_to_grief(self, step: int) -> None:
        trouble, marker = self.trouble["trouble"], self.trouble["marker"]
        here = int(os.environ.get("RANK", "0")), step
        if not trouble or here != self.trouble["where"] or (marker and Path(marker).exists()):
            return
        if marker:
            Path(marker).touch()
        if trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if trouble == "mistake":
            raise StoreError("frames/a.npy", "was ingested again meanwhile", "Run again")
        raise ZeroDivisionError("a defect")


def run_together(code: str, arguments: Sequence[object], size: int = 2) -> None:
    """Run code in processes that meet each other, as torchrun starts them; all must succeed."""
    # As the worker does: the threads of gloo do not always survive an orderly end.
    code += "\nimport os\nos._exit(0)\n"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    common = {**os.environ, **meeting, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    errors = [process.communicate(timeout=180)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * size, errors
