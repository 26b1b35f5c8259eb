"""One of the processes that train together: `python -m amt_pipeline.training.worker SPEC.json`.

Started by torchrun, which `training.launch` starts; on further machines and in SLURM jobs by the
line that it prints. Everything that is needed to begin is in the specification, which lies beside
the files by which the processes speak (`training.channel`).
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.files import read_json
from amt_pipeline.core.threads import yield_while_waiting
from amt_pipeline.training import channel

logger = logging.getLogger(__name__)

PIPE_VARIABLE = "AMT_LAUNCHER_PIPE"
"""Set where standard input comes from the process that started the training."""

STOP_BYTE = b"s"

PEER_LOST = "a process that trains with this one is gone"
"""First line of a failure that only says that another process failed."""


def main(arguments: Sequence[str]) -> int:
    """Train until done; return the exit code.

    Args:
        arguments: The path of the specification.

    Returns:
        0 when there is nothing left to do (also when the training was stopped meanwhile), else 1:
        torchrun then starts all processes again.
    """
    if len(arguments) != 1:
        sys.stderr.write("usage: torchrun ... -m amt_pipeline.training.worker SPEC.json\n")
        return 2
    spec_path = Path(arguments[0])
    folder = spec_path.parent
    if PIPE_VARIABLE in os.environ:
        _obey_launcher()
    if any((folder / name).exists() for name in (channel.ERROR_FILE, channel.STOP_FILE)):
        return 0
    yield_while_waiting()
    # Signals come from torchrun; what they lead to is said by the process that started us.
    logging.getLogger("amt_pipeline.training.interrupt").setLevel(logging.ERROR)
    try:
        _work(folder, read_json(spec_path))
    except UserError as error:
        channel.write_error(folder, error)
        return 1
    except Exception as error:
        _write_failure(folder, error)
        return 1
    return 0


def _work(folder: Path, spec: dict[str, Any]) -> None:
    from amt_pipeline.core.reporter import NullReporter
    from amt_pipeline.training.device import resolve_device
    from amt_pipeline.training.distributed import join_group
    from amt_pipeline.training.loop import train

    task = channel.open_task(spec["recipe"])
    with join_group(resolve_device(task.training.device)) as group:
        if not group.is_main:
            train(task, Path(spec["folder"]), NullReporter(), group)
            return
        with channel.EventWriter(folder) as events:
            if restart := int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")):
                logger.warning(
                    "%s: a training process ended unexpectedly; all go on from the last "
                    "checkpoint (restart %d of %d)",
                    task.label, restart, task.training.max_restarts,
                )  # fmt: skip
            begun = channel.has_scalars(folder)
            train(task, Path(spec["folder"]), events, group, begun=begun)


def _obey_launcher() -> None:
    """Watch standard input: a byte asks to stop and save; its end says that nobody waits for us."""
    if select.select([0], [], [], 0)[0]:
        # Taken, so that the next start finds the file `stop` and no byte. Nobody else sees the
        # byte, and who was faster waits for this process: as it fails, torchrun ends them all.
        os.read(0, 1)
        os._exit(1)

    def watch() -> None:
        while os.read(0, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _write_failure(folder: Path, error: Exception) -> None:
    start, rank = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), os.environ.get("RANK", "0")
    path = folder / channel.FAILURES_FOLDER / f"{start}-{rank}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(traceback.format_exception(error))
    path.write_text(f"{PEER_LOST}\n{text}" if _says_that_peer_is_gone(error) else text)


def _says_that_peer_is_gone(error: Exception) -> bool:
    """Whether it was raised by torch.distributed: that is how the death of another one shows."""
    last: TracebackType | None = error.__traceback__
    name = ""
    while last is not None:
        name = str(last.tb_frame.f_globals.get("__name__", ""))
        last = last.tb_next
    return name.startswith("torch.distributed")


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # The threads of gloo do not always survive an orderly end; all files are closed.
    os._exit(code)
