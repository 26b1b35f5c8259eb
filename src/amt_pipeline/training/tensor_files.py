"""Tensors of a checkpoint on disk: safetensors, which hold no code, checked for what they are."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

DELETE_IT = "Delete this checkpoint"
_MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
"""What Adam keeps of a parameter; the first is a number, the others have its shape."""


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors to a file.

    Raises:
        OSError: The disk refused.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path)
    except SafetensorError as error:
        # The library hides the operating system's refusal in its text: "... (os error 28)".
        found = re.search(r"os error (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def load_tensors(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Return the tensors of a file.

    Args:
        path: The file.
        sha256: Hash that its bytes must have, where it is known.

    Raises:
        CheckpointError: It is missing, damaged or another.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = path.read_bytes()
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise CheckpointError(path, "changed while it was used", "Run again")
        return dict(load(data))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(path, f"cannot be read ({error})", DELETE_IT) from error


def contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as a file can hold them: on the CPU, in one piece."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def optimiser_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser keeps, named by the position of the parameter."""
    state: dict[int, dict[str, Tensor]] = optimiser.state_dict()["state"]
    return contiguous(
        {
            f"{position}.{key}": tensor
            for position, parts in state.items()
            for key, tensor in parts.items()
        }
    )


def random_states() -> dict[str, Tensor]:
    """Return the states of torch's generators, by device."""
    import torch

    states = {"cpu": torch.get_rng_state()}
    for position in range(torch.cuda.device_count()):
        states[f"cuda{position}"] = torch.cuda.get_rng_state(position)
    return states


def read_moments(path: Path, optimiser: Optimizer) -> dict[int, dict[str, Tensor]]:
    """Return what an optimiser file keeps, by position of the parameter.

    Raises:
        CheckpointError: It is damaged, or does not fit the parameters of the optimiser.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_tensors(path).items():
        position, _, key = name.partition(".")
        known = position.isascii() and position.isdecimal() and int(position) < len(parameters)
        shape = parameters[int(position)].shape if known and key != "step" else ()
        if not known or key not in _MOMENTS or tensor.shape != shape or tensor.is_complex():
            raise CheckpointError(path, f"holds {name!r}, which fits no parameter", DELETE_IT)
        found.setdefault(int(position), {})[key] = tensor
    if any(set(parts) != _MOMENTS for parts in found.values()):
        raise CheckpointError(path, "lacks moments of a parameter", DELETE_IT)
    return found


def restore_random(path: Path) -> None:
    """Put torch's generators into the states of a file.

    Raises:
        CheckpointError: It is damaged, or holds no such states.
    """
    import torch

    states = load_tensors(path)
    try:
        torch.set_rng_state(states["cpu"])
        for position in range(torch.cuda.device_count()):
            if f"cuda{position}" in states:
                torch.cuda.set_rng_state(states[f"cuda{position}"], position)
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(path, "holds no generator states", DELETE_IT) from error
