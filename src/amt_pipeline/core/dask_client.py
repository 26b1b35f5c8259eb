"""The way to a Dask cluster: one that runs somewhere, or one that is started here."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from amt_pipeline.core.errors import ClusterError, ConfigError
from amt_pipeline.core.files import read_json

logger = logging.getLogger(__name__)

PARAMETER = "parallel.scheduler"
SCHEDULER_PORT = 8786


@contextmanager
def connected(scheduler: str | None, workers: int, wait_s: float) -> Iterator[tuple[Any, str]]:
    """Yield a client of a cluster, and the scheduler's address.

    Args:
        scheduler: Address or scheduler file; None starts a cluster here and ends it afterwards.
        workers: Processes of the cluster that is started here.
        wait_s: Seconds to wait for the scheduler.

    Raises:
        ClusterError: The scheduler cannot be reached.
        ConfigError: The package `distributed` is not installed, or the address is none.
    """
    try:
        import distributed
    except ImportError as error:
        raise ConfigError(
            "parallel.backend=dask", "needs Dask", 'Run `pip install "amt_pipeline[dask]"`'
        ) from error
    from amt_pipeline.core.dask_local import local_cluster, quiet_logs

    make_client: Any = distributed.Client  # has no types
    with quiet_logs(), ExitStack() as stack:
        if scheduler is None:
            address = stack.enter_context(local_cluster(workers))
        else:
            address = resolve_address(scheduler)
        # It shows a traceback when a scheduler goes; that is said in our words.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            client = stack.enter_context(make_client(address, timeout=wait_s, set_as_default=False))
        except (OSError, ValueError, RuntimeError) as error:
            raise ClusterError(
                f"{PARAMETER}={scheduler}",
                f"no Dask scheduler answers at {address} within {wait_s:g} s",
                "Start one (`dask scheduler`), or correct the address",
            ) from error
        if scheduler is not None:
            logger.info("Dask cluster %s: %d workers", address, len(client.nthreads()))
        yield client, address


def resolve_address(scheduler: str) -> str:
    """Return the address of a scheduler that is given by address, name or scheduler file.

    Args:
        scheduler: `tcp://host:8786`, `tls://host:8786`, `host:8786`, `host`, or
            `file:///shared/scheduler.json` as `dask scheduler --scheduler-file` writes it.

    Raises:
        ConfigError: It is neither.
        UserError: There is no such file, or it is not JSON.
    """
    if scheduler.startswith("file://"):
        path = Path(scheduler.removeprefix("file://"))
        found = read_json(path)
        address = found.get("address") if isinstance(found, dict) else None
        if not isinstance(address, str):
            raise ConfigError(
                path, "is not a scheduler file", "`dask scheduler --scheduler-file` writes one"
            )
        return address
    match = re.fullmatch(r"(?:(tcp|tls)://)?(\[[0-9a-fA-F:]+\]|[\w.-]+)(?::(\d+))?/?", scheduler)
    if match is None:
        raise ConfigError(
            f"{PARAMETER}={scheduler}",
            "is no address of a scheduler",
            "Write tcp://host:8786, or file:///path/of/scheduler.json",
        )
    protocol, host, port = match.groups()
    return f"{protocol or 'tcp'}://{host}:{port or SCHEDULER_PORT}"
