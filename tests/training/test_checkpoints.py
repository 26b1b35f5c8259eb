from __future__ import annotations

import errno
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from amt_pipeline.core.errors import CheckpointError, StorageError, UserError
from amt_pipeline.training.checkpoints import (
    CheckpointState,
    copy_checkpoint,
    list_checkpoints,
    load_training_state,
    load_weights,
    read_state,
    save_checkpoint,
    verify_checkpoint,
    write_file_list,
)

STATE = CheckpointState(25, True, {"model": {"hidden": 3}}, "f00d", {"loss": 0.5}, "0.1")
HISTORY = [{"step": 10, "loss": 0.75}, {"step": 25, "loss": 0.5}]
FILES = {
    "model.safetensors", "optimiser.safetensors", "random.safetensors", "state.json",
    "history.json", "files.json",
}  # fmt: skip


def parts(hidden: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    network = nn.Sequential(nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 1))
    return network, torch.optim.Adam(network.parameters(), lr=0.01)


def take_steps(network: nn.Module, optimiser: torch.optim.Optimizer, n: int) -> None:
    for _ in range(n):
        optimiser.zero_grad()
        network(torch.randn(8, 4)).square().mean().backward()
        optimiser.step()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    network, optimiser = parts()
    take_steps(network, optimiser, 3)
    return save_checkpoint(
        tmp_path, state=STATE, network=network, optimiser=optimiser, history=HISTORY
    )


def test_round_trip_goes_on_to_the_bit(tmp_path: Path) -> None:
    network, optimiser = parts()
    take_steps(network, optimiser, 3)
    folder = save_checkpoint(
        tmp_path, state=STATE, network=network, optimiser=optimiser, history=HISTORY
    )
    assert folder == tmp_path / "step-0000025"
    assert {path.name for path in folder.iterdir()} == FILES
    take_steps(network, optimiser, 3)
    torch.manual_seed(99)
    other, other_optimiser = parts()
    assert load_training_state(folder, other, other_optimiser) == HISTORY
    take_steps(other, other_optimiser, 3)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert read_state(folder) == STATE


def test_weights_alone(checkpoint: Path) -> None:
    first, second = parts()[0], parts()[0]
    load_weights(checkpoint, first)
    load_weights(checkpoint, second)
    assert torch.equal(first[0].weight, second[0].weight)
    assert int(first[1].num_batches_tracked) == 3


def test_checkpoints_are_listed_in_step_order(tmp_path: Path) -> None:
    for name in ("step-0000200", "step-0000030", "step-10000000", "step-30", "best", ".tmp-step-1"):
        (tmp_path / name).mkdir()
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ["step-0000030", "step-0000200", "step-10000000"]
    assert list_checkpoints(tmp_path / "nowhere") == []


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: is missing.*Delete the folder"):
        load_weights(checkpoint, parts()[0])


@pytest.mark.parametrize("name", sorted(FILES - {"files.json"}))
def test_a_truncated_file_is_named(checkpoint: Path, name: str) -> None:
    content = (checkpoint / name).read_bytes()
    (checkpoint / name).write_bytes(content[:-1])
    words = f"{name}: is truncated: {len(content) - 1} bytes of {len(content)}"
    with pytest.raises(CheckpointError, match=words):
        load_weights(checkpoint, parts()[0])


@pytest.mark.parametrize("name", sorted(FILES - {"files.json"}))
def test_an_altered_byte_is_named(checkpoint: Path, name: str) -> None:
    content = bytearray((checkpoint / name).read_bytes())
    content[len(content) // 2] ^= 1
    (checkpoint / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: was altered"):
        verify_checkpoint(checkpoint)


@pytest.mark.parametrize("listing", ["", "[]", '{"model.safetensors": 3}', '{"a": {"bytes": "x"}}'])
def test_a_damaged_list_is_named(checkpoint: Path, listing: str) -> None:
    (checkpoint / "files.json").write_text(listing)
    with pytest.raises(CheckpointError, match=r"files\.json: is damaged"):
        verify_checkpoint(checkpoint)


def test_a_list_without_weights_is_named(checkpoint: Path) -> None:
    (checkpoint / "files.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"files\.json: does not list model\.safetensors"):
        verify_checkpoint(checkpoint)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="step-0000001: no such checkpoint"):
        verify_checkpoint(tmp_path / "step-0000001")


def test_another_network_is_named(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors: holds the weights of another"):
        load_weights(checkpoint, parts(hidden=5)[0])


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("name", sorted(n for n in FILES if n.endswith(".safetensors")))
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_nothing_is_unpickled(checkpoint: Path, name: str, writer: str, tmp_path: Path) -> None:
    bomb = Bomb(tmp_path / "went-off")
    if writer == "pickle":
        (checkpoint / name).write_bytes(pickle.dumps(bomb))
    else:
        torch.save({"x": bomb}, checkpoint / name)
    write_file_list(checkpoint)
    with pytest.raises(CheckpointError, match=f"{name}: cannot be read.*Delete this checkpoint"):
        load_training_state(checkpoint, *parts())
    assert not (tmp_path / "went-off").exists()
    pickle.loads(pickle.dumps(bomb))
    assert (tmp_path / "went-off").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 1}', "cannot be read"),
        ("{}", "cannot be read"),
        ('{"format": 2}', "another version of the format"),
    ],
)
def test_a_damaged_state_is_named(checkpoint: Path, content: str, words: str) -> None:
    (checkpoint / "state.json").write_text(content)
    with pytest.raises(CheckpointError, match=rf"state\.json: .*{words}"):
        read_state(checkpoint)


def test_a_full_disk_is_named_and_earlier_checkpoints_stay(
    checkpoint: Path, limit_file_size: Any
) -> None:
    network, optimiser = parts(hidden=5000)
    state = CheckpointState(50, True, {}, "", {}, "")
    words = rf"step-0000050: cannot be written \({os.strerror(errno.EFBIG)}\)"
    with pytest.raises(StorageError, match=words), limit_file_size(20_000):
        save_checkpoint(
            checkpoint.parent, state=state, network=network, optimiser=optimiser, history=[]
        )
    assert list(checkpoint.parent.iterdir()) == [checkpoint]
    verify_checkpoint(checkpoint)


def test_what_safetensors_cannot_hold_is_a_defect_of_ours(tmp_path: Path) -> None:
    network, optimiser = parts()
    network[0].bias.data = network[0].weight.data[:, 0]
    network[0].register_buffer("shared", network[0].weight.data)
    with pytest.raises(RuntimeError, match="share memory"):
        save_checkpoint(tmp_path, state=STATE, network=network, optimiser=optimiser, history=[])
    assert list(tmp_path.iterdir()) == []


def test_copy_is_a_checkpoint_with_more_beside(checkpoint: Path, tmp_path: Path) -> None:
    best = tmp_path / "best"
    copy_checkpoint(checkpoint, best, {"best.json": {"threshold": 0.4}})
    assert set(verify_checkpoint(best)) == {
        "model.safetensors", "state.json", "history.json", "best.json",
    }  # fmt: skip
    load_weights(best, parts()[0])
    assert json.loads((best / "best.json").read_text()) == {"threshold": 0.4}
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is missing"):
        copy_checkpoint(checkpoint, best, {})
    verify_checkpoint(best)


def test_a_damaged_history_is_named(checkpoint: Path) -> None:
    (checkpoint / "history.json").write_text("{")
    write_file_list(checkpoint)
    with pytest.raises(UserError, match=r"history\.json: cannot be read"):
        load_training_state(checkpoint, *parts())


@pytest.mark.parametrize(("name", "again"), [("best", "ranking"), ("step-0000010", "training")])
def test_what_makes_a_damaged_checkpoint_anew(tmp_path: Path, name: str, again: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match=f"incomplete. Delete the folder and run the {again}"):
        verify_checkpoint(tmp_path / name)
