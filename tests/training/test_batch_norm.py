"""Batch norm over two processes against torch's own over all rows in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from amt_pipeline.training.batch_norm import SharedBatchNorm, share_batch_norm

# Each process trains on its own rows, an uneven share, and saves what it got.
SHARED = """
import sys, torch
from amt_pipeline.training.batch_norm import share_batch_norm
from amt_pipeline.training.distributed import join_group

given, out = torch.load(sys.argv[1] + "/given.pt", weights_only=False), {}
with join_group(torch.device("cpu")) as group:
    for name, (network, steps) in given.items():
        network, found = share_batch_norm(network.train()), []
        for values in steps:
            rows = values[group.rows(len(values))].detach().requires_grad_()
            network.zero_grad()
            answer = network(rows)
            answer.square().sum().backward()
            gradients = [p.grad for p in network.parameters()]
            group.sum_all(gradients)
            found.append([answer.detach(), rows.grad, *gradients])
        out[name] = found, network.state_dict()
    torch.save(out, f"{sys.argv[1]}/{group.rank}.pt")
"""


def layers() -> dict[str, tuple[nn.Module, list[Tensor]]]:
    torch.manual_seed(1)
    maps = [4 + 3 * torch.randn(5, 3, 4, 6, dtype=torch.float64) for _ in range(3)]
    found: dict[str, tuple[nn.Module, list[Tensor]]] = {
        "maps": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).double(), maps),
        "plain": (nn.BatchNorm2d(3, affine=False, momentum=0.3).double(), maps),
        "average": (nn.BatchNorm2d(3, momentum=None).double(), maps),
        "rows": (nn.BatchNorm1d(4).double(), [torch.randn(7, 4, dtype=torch.float64)]),
        # Far from zero, where a sum of squares would lose all digits.
        "far": (nn.BatchNorm1d(2), [300 + torch.randn(9, 2)]),
    }
    return found


def on_all_rows(network: nn.Module, steps: list[Tensor]) -> list[list[Tensor]]:
    found = []
    for values in steps:
        rows = values.clone().requires_grad_()
        network.zero_grad()
        answer = network(rows)
        answer.square().sum().backward()
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        assert rows.grad is not None
        found.append([answer.detach(), rows.grad, *gradients])
    return found


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes got."""
    from distributed_support import run_together

    folder = tmp_path_factory.mktemp("shares")
    torch.save(layers(), folder / "given.pt")
    run_together(SHARED, [folder])
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("name", list(layers()))
def test_two_processes_agree_with_one(name: str, shares: list[dict[str, Any]]) -> None:
    network, steps = layers()[name]
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if name == "far" else {"rtol": 1e-10, "atol": 1e-10}
    ours = [share[name][0] for share in shares]
    for own, other, expected in zip(*ours, on_all_rows(network, steps), strict=True):
        for position, values in enumerate(expected):
            joined = [own[position], other[position]]
            found = torch.cat(joined) if position < 2 else joined[0]
            torch.testing.assert_close(found, values, **tolerance)
    for _, state in (share[name] for share in shares):
        assert state.keys() == network.state_dict().keys()
        for key, values in network.state_dict().items():
            torch.testing.assert_close(state[key], values, rtol=1e-6, atol=1e-8, msg=key)


def test_layers_are_replaced_wherever_they_are(make_task: Callable[..., Any]) -> None:
    network = nn.ModuleDict({"deep": nn.Sequential(nn.BatchNorm2d(3)), "loud": nn.Linear(2, 2)})
    before = {name: tensor.data_ptr() for name, tensor in network.state_dict().items()}
    shared = share_batch_norm(network)
    assert isinstance(shared["deep"][0], SharedBatchNorm)
    assert {name: t.data_ptr() for name, t in shared.state_dict().items()} == before
    assert isinstance(share_batch_norm(nn.BatchNorm1d(2)), SharedBatchNorm)


def test_evaluation_needs_no_other_process(tmp_path: Path) -> None:
    layer = nn.BatchNorm2d(3)
    layer.running_mean = torch.tensor([1.0, 2.0, 3.0])
    values = torch.randn(2, 3, 4, 4)
    expected = layer.eval()(values)
    assert torch.equal(share_batch_norm(layer)(values), expected)
