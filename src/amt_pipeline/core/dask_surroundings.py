"""What a worker of a cluster must share with the process that asks: libraries and folders.

Before its first item a worker makes sure that it sees the same folders and has the same libraries
as the process that asks; otherwise results would differ by where an item happened to run.
"""

from __future__ import annotations

import functools
import os
import platform
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from amt_pipeline.core.errors import ClusterError
from amt_pipeline.core.files import TEMPORARY_PREFIX, claimed_file

SAME_LIBRARIES = (
    "amt_pipeline", "distributed", "librosa", "numpy", "scipy", "soundfile", "soxr", "torch",
)  # fmt: skip
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Surroundings:
    """What a worker must share with the process that asks; sent with every item.

    Attributes:
        versions: Name and version of Python and of the libraries that results depend on.
        tokens: Files that stand in the shared folders for as long as the work lasts.
    """

    versions: tuple[tuple[str, str], ...]
    tokens: tuple[str, ...]


@functools.lru_cache(maxsize=16)  # an error is not kept: it is looked at again
def check_surroundings(expected: Surroundings) -> None:
    """Make sure, in a worker, that items may be run here; and hold libraries to one thread.

    Raises:
        ClusterError: Another version of a library, a folder that is not there, several threads.
    """
    here, remedy = _this_worker(), "Start workers from the environment that this runs in"
    found = dict(library_versions())
    for name, wanted in expected.versions:
        if found.get(name) != wanted:
            problem = f"has {name} {found.get(name) or '(none)'}, this process has {wanted}"
            raise ClusterError(here, problem, remedy)
    for token in map(Path, expected.tokens):
        if not token.exists():
            folder = token.parent if token.name.startswith(TEMPORARY_PREFIX) else token
            raise ClusterError(
                folder,
                f"is not seen by {here}",
                "Corpus and data root have to be on a file system that all machines share, under "
                "the same path",
            )
    _require_one_thread(here)


def _require_one_thread(here: str) -> None:
    from distributed import get_worker
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threads = get_worker().state.nthreads
    if threads != 1:
        raise ClusterError(
            here,
            f"runs {threads} items at once in one process, which the libraries do not bear",
            "Start it with `--nthreads 1 --nworkers <processes>`",
        )
    # For what is loaded later, and for what is loaded already.
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))
    threadpool_limits(1)


def _this_worker() -> str:
    from distributed import get_worker

    return f"Dask worker {get_worker().address} on {socket.gethostname()}"


@functools.lru_cache(maxsize=1)
def library_versions() -> tuple[tuple[str, str], ...]:
    """Return what results depend on; a build (`+cu126`) is not told from another (`+cpu`)."""
    found = [("python", ".".join(platform.python_version_tuple()[:2]))]
    for name in SAME_LIBRARIES:
        try:
            found.append((name, version(name).split("+")[0]))
        except PackageNotFoundError:
            found.append((name, ""))
    return tuple(found)


@contextmanager
def mark_folders(
    folders: Sequence[Path], sources: Sequence[Path] = ()
) -> Iterator[tuple[str, ...]]:
    """Put a file of a name of its own into each folder, by which workers know it is this one.

    Args:
        folders: Folders of ours. One that does not exist yet is known by the folder it will be made
            in, and one where nothing may be written by its path.
        sources: Folders that are only read, and nothing is put into; known by their paths.

    Yields:
        What a worker has to see.
    """
    name = f"{TEMPORARY_PREFIX}shared-{uuid.uuid4().hex}"
    tokens = [folder.absolute() for folder in sources]
    with ExitStack() as stack:
        for folder in dict.fromkeys(_existing(folder) for folder in folders):
            token = folder / name
            try:
                stack.enter_context(claimed_file(token))
            except OSError:
                token = folder
            tokens.append(token)
        yield tuple(map(str, tokens))


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
