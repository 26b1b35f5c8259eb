"""Several networks of one shape behind one input."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class SeveralNetworks(nn.Module):
    """Runs networks one after the other on the same input.

    What comes before the network (moving the batch, scaling it) is then done once for all of them.
    Each network computes what it computes alone, to the bit: nothing is batched over networks.

    Args:
        networks: Modules that take the same inputs and answer in the same shape.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return `[networks, *shape of one answer]`."""
        return torch.stack([network(*inputs) for network in self.networks])
