"""Arithmetic whose result for one row does not depend on where the row stands, to the bit.

Fast routines treat what is left over beside whole vectors or tiles in another way than the rest,
and choose kernels by size and alignment; so the same numbers give another last bit at the end of an
array than in its middle. A network that is evaluated in some windows only has to say of those what
it says when all are evaluated, or other notes would be picked. Here everything is filled up to
whole vectors. (Convolutions and LSTMs were found to be steady as they are.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

VECTOR = 64
"""Numbers that the vector routines of torch take at once, at most (four registers of 16)."""
TILE = 16
"""Rows and columns that matrix products take at once."""


class SteadyLinear(nn.Linear):
    """A dense layer, filled up with zeros to whole tiles.

    Args:
        weight: [units out, units in].
        bias: [units out].
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        out, into = weight.shape
        more_out, more_in = -out % TILE, -into % TILE
        super().__init__(into + more_in, out + more_out, device=weight.device, dtype=weight.dtype)
        self.requires_grad_(False)
        self.units = out
        with torch.no_grad():
            self.weight.copy_(functional.pad(weight, (0, more_in, 0, more_out)))
            self.bias.copy_(functional.pad(bias, (0, more_out)))

    def forward(self, values: Tensor) -> Tensor:
        """Return [..., units out] of values [..., units in]."""
        flat = values.flatten(0, -2)
        count = len(flat)
        more_rows, more_columns = -count % TILE, self.in_features - flat.shape[1]
        if more_rows or more_columns:
            flat = functional.pad(flat, (0, more_columns, 0, more_rows))
        found = super().forward(flat)[:count, : self.units]
        return found.reshape(*values.shape[:-1], self.units)


def sigmoid(logits: Tensor) -> Tensor:
    """Return the float32 sigmoid of every number."""
    flat = logits.float().flatten()
    filled = torch.sigmoid(functional.pad(flat, (0, -len(flat) % VECTOR)))
    return filled[: len(flat)].reshape(logits.shape)
