"""Checkpoints: a folder `step-0002500/` that is complete or absent.

Tensors are safetensors, the rest JSON; loading never unpickles code. `files.json` names every file
with its size and SHA-256, so that a missing or truncated one is told from a good one before any of
it is used.

    model.safetensors       weights and batch-norm statistics
    optimiser.safetensors   Adam's moments, by parameter position
    random.safetensors      torch's generator states
    state.json              step, metrics, resolved configuration, fingerprint, code version
    history.json            scalars logged so far
    files.json              the list above with sizes and hashes
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amt_pipeline.core.errors import CheckpointError, UserError
from amt_pipeline.core.files import atomic_folder, read_json, write_json
from amt_pipeline.core.hashing import file_sha256
from amt_pipeline.training.tensor_files import (
    DELETE_IT,
    contiguous,
    load_tensors,
    optimiser_tensors,
    random_states,
    read_moments,
    restore_random,
    save_tensors,
)

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
OPTIMISER_FILE = "optimiser.safetensors"
RANDOM_FILE = "random.safetensors"
STATE_FILE = "state.json"
HISTORY_FILE = "history.json"
LIST_FILE = "files.json"
_NAME = re.compile(r"step-(\d{7,})")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class CheckpointState:
    """What a checkpoint says of itself.

    Attributes:
        step: Steps done.
        regular: False for one saved out of turn when a run was interrupted.
        config: Resolved task and training configuration.
        fingerprint: Hash of the training data.
        metrics: Scores at that step, as far as known.
        code_version: Version of the package that wrote it.
    """

    step: int
    regular: bool
    config: dict[str, Any]
    fingerprint: str
    metrics: dict[str, float]
    code_version: str


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Return where the checkpoint of `step` lies."""
    return Path(folder) / f"step-{step:07d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """Return all checkpoint folders in step order (their content is not looked at)."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    found = [(int(m[1]), path) for path in folder.iterdir() if (m := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def save_checkpoint(
    folder: Path,
    *,
    state: CheckpointState,
    network: nn.Module,
    optimiser: Optimizer,
    history: list[dict[str, float]],
) -> Path:
    """Write the checkpoint of a step below `folder`, complete or not at all.

    Returns:
        The folder of the checkpoint.

    Raises:
        StorageError: The disk refused; earlier checkpoints are untouched.
    """
    target = checkpoint_folder(folder, state.step)
    with atomic_folder(target) as temporary:
        save_tensors(contiguous(network.state_dict()), temporary / WEIGHTS_FILE)
        save_tensors(optimiser_tensors(optimiser), temporary / OPTIMISER_FILE)
        save_tensors(random_states(), temporary / RANDOM_FILE)
        write_json(temporary / STATE_FILE, {"format": FORMAT, **vars(state)})
        write_json(temporary / HISTORY_FILE, history)
        write_file_list(temporary)
    return target


def write_file_list(folder: Path) -> None:
    """Write the list of files with sizes and hashes that `verify_checkpoint` checks."""
    names = sorted(path.name for path in folder.iterdir() if path.name != LIST_FILE)
    listing = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)}
        for name in names
    }
    write_json(folder / LIST_FILE, listing)


def verify_checkpoint(folder: Path) -> dict[str, str]:
    """Check that every file of a checkpoint is there and whole.

    Returns:
        SHA-256 by file name.

    Raises:
        CheckpointError: A file is missing, truncated or altered; it is named.
    """
    folder = Path(folder)
    remedy = "Delete the folder and run the training again; it resumes from the one before"
    if not _NAME.fullmatch(folder.name):  # a copy of the chosen one
        remedy = "Delete the folder and run the ranking again, which copies the checkpoint anew"
    if not folder.is_dir():
        raise CheckpointError(folder, "no such checkpoint")
    if not (folder / LIST_FILE).is_file():
        raise CheckpointError(
            folder / LIST_FILE, "is missing, so the checkpoint is incomplete", remedy
        )
    try:
        listing = {
            name: (int(f["bytes"]), str(f["sha256"]))
            for name, f in read_json(folder / LIST_FILE).items()
        }
        if not all(_FILE_NAME.fullmatch(name) for name in listing):
            raise ValueError("a name that no file of a checkpoint has")
    except (
        UserError, AttributeError, KeyError, TypeError, ValueError, OverflowError
    ) as error:  # fmt: skip
        raise CheckpointError(folder / LIST_FILE, "is damaged", remedy) from error
    for name in (WEIGHTS_FILE, STATE_FILE, HISTORY_FILE):
        if name not in listing:
            raise CheckpointError(folder / LIST_FILE, f"does not list {name}", remedy)
    for name, (size, digest) in listing.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(path, "is missing", remedy)
        if (found := path.stat().st_size) != size:
            raise CheckpointError(path, f"is truncated: {found} bytes of {size}", remedy)
        if file_sha256(path) != digest:
            raise CheckpointError(path, "was altered: its hash does not match", remedy)
    return {name: digest for name, (_, digest) in listing.items()}


def read_state(folder: Path) -> CheckpointState:
    """Return what a checkpoint says of itself.

    Raises:
        CheckpointError: The state file is missing or not understood.
    """
    path = Path(folder) / STATE_FILE
    try:
        values = read_json(path)
        if values.pop("format") != FORMAT:
            raise CheckpointError(path, "was written by another version of the format")
        return _checked_state(CheckpointState(**values))
    except CheckpointError:
        raise
    except (UserError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(path, "cannot be read", DELETE_IT) from error


def _checked_state(state: CheckpointState) -> CheckpointState:
    """Return a state as it is.

    Raises:
        TypeError: A value is of another type than it should be.
    """
    whole = isinstance(state.step, int) and isinstance(state.regular, bool) and state.step >= 0
    mappings = isinstance(state.config, dict) and isinstance(state.metrics, dict)
    texts = isinstance(state.fingerprint, str) and isinstance(state.code_version, str)
    if not (whole and mappings and texts):
        raise TypeError("a value of another type")
    return state


def load_weights(folder: Path, network: nn.Module, sha256: str | None = None) -> None:
    """Load the weights of a verified checkpoint into a network of the same shape.

    Args:
        folder: The checkpoint.
        network: Takes the weights.
        sha256: Of the weights file, where the caller verified it before.

    Raises:
        CheckpointError: A file is damaged or was replaced, or the weights are those of another
            network.
    """
    path = Path(folder) / WEIGHTS_FILE
    wanted = sha256 or verify_checkpoint(folder)[WEIGHTS_FILE]
    # What is checked is what is used: read once, since the file may be replaced at any moment.
    tensors = load_tensors(path, wanted)
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise CheckpointError(path, f"holds the weights of another network ({first})") from error


def load_training_state(
    folder: Path, network: nn.Module, optimiser: Optimizer
) -> list[dict[str, float]]:
    """Load weights, optimiser and random states for an exact resume; return the history.

    Raises:
        CheckpointError: A file is damaged or does not fit.
    """
    folder = Path(folder)
    load_weights(folder, network)
    moments = read_moments(folder / OPTIMISER_FILE, optimiser)
    optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
    restore_random(folder / RANDOM_FILE)
    history: list[dict[str, float]] = read_json(folder / HISTORY_FILE)
    rows = history if isinstance(history, list) else [None]
    if not all(isinstance(row, dict) and all(map(_is_number, row.values())) for row in rows):
        raise CheckpointError(folder / HISTORY_FILE, "is no history of scalars", DELETE_IT)
    return history


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def copy_checkpoint(source: Path, target: Path, extra: Mapping[str, Any]) -> None:
    """Copy a verified checkpoint as a whole, with further JSON files beside it.

    Args:
        source: The checkpoint.
        target: Where the copy goes; replaced as a whole.
        extra: File name to JSON-able content.
    """
    hashes = verify_checkpoint(source)
    with atomic_folder(target) as temporary:
        for name in (WEIGHTS_FILE, STATE_FILE, HISTORY_FILE):
            shutil.copyfile(source / name, temporary / name)
            if file_sha256(temporary / name) != hashes[name]:
                raise CheckpointError(source / name, "changed while it was used", "Run again")
        for name, value in extra.items():
            write_json(temporary / name, value)
        write_file_list(temporary)
