"""Where the arithmetic runs: device, precision and threads, decided at run time."""

from __future__ import annotations

import ctypes
import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.parallel import cpu_count

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt: free bytes at the heap's top that are kept; sizes beyond which a block is
the system's own."""
KEPT_BYTES = (1 << 31) - 1
OLD_LIMIT_BYTES = 1 << 25
"""The largest blocks that an older glibc keeps."""


def resolve_device(name: str = "auto", parameter: str = "training.device") -> torch.device:
    """Return the device that a setting names.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:<index>`.
        parameter: Whose value it is, for the error.

    Raises:
        ConfigError: A CUDA device was asked for and there is none.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"{parameter}={name}",
            f"no such device ({torch.cuda.device_count()} CUDA devices found)",
            f"Use {parameter}=auto",
        )
    return device


def resolve_precision(name: str, device: torch.device) -> str:
    """Return `bfloat16` or `float32`; `auto` is bf16 on CUDA."""
    if name != "auto":
        return name
    return "bfloat16" if device.type == "cuda" else "float32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which the network is evaluated."""
    import torch

    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def set_threads(threads: int | None = None) -> int:
    """Set torch's CPU threads: as asked, else OMP_NUM_THREADS, else one per usable processor."""
    import torch

    count = threads or asked_threads() or cpu_count()
    torch.set_num_threads(count)
    return count


def prepare_processor(threads: int | None = None) -> int:
    """Set the threads and keep freed memory, for long work here; return the number of threads."""
    keep_freed_memory()
    return set_threads(threads)


def keep_freed_memory() -> bool:
    """Have what tensors free on the CPU kept for the next ones; return whether that could be done.

    glibc hands large blocks back to the system when they are freed and gets them, cleared page by
    page, at the next step again: a tenth of a step of the networks here. A process holds as much as
    it needed at its peak, then. Other C libraries have no such setting.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = any(mallopt(M_MMAP_THRESHOLD, size) for size in (KEPT_BYTES, OLD_LIMIT_BYTES))
    return bool(mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)) and kept


def asked_threads() -> int | None:
    """Return what OMP_NUM_THREADS asks for; None where it is unset or no number."""
    # OpenMP allows a list, one number per nesting level.
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else None
