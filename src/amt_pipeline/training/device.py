"""Where the arithmetic runs: device, precision and threads, decided at run time."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.parallel import cpu_count

if TYPE_CHECKING:
    import torch


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


def asked_threads() -> int | None:
    """Return what OMP_NUM_THREADS asks for; None where it is unset or no number."""
    # OpenMP allows a list, one number per nesting level.
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else None
