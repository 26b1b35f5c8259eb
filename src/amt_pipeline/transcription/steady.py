"""Arithmetic whose result for one row does not depend on where the row stands, to the bit.

Fast routines treat what is left over beside whole vectors or tiles in another way than the rest,
and choose kernels by size and alignment; so the same numbers give another last bit at the end of an
array than in its middle. A network that is evaluated in some windows only has to say of those what
it says when all are evaluated, or other notes would be picked. Here everything is filled up to
whole vectors. (Convolutions were found to be steady as they are.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

VECTOR = 64
"""Numbers that the vector routines of torch take at once, at most (four registers of 16)."""
TILE, LEAST = 16, 64
"""Rows and columns that matrix products take at once, and how many there have to be: MKL has other
kernels for fewer where there are no 512-bit vectors (tried with MKL_ENABLE_INSTRUCTIONS=AVX2)."""


def filled(count: int) -> int:
    """Return up to how many rows or columns so many are filled up."""
    return max(LEAST, -(-count // TILE) * TILE)


class SteadyLinear(nn.Linear):
    """A dense layer, filled up with zeros (`filled`).

    Args:
        weight: [units out, units in].
        bias: [units out].
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        out, into = weight.shape
        more_out, more_in = filled(out) - out, -into % TILE
        super().__init__(into + more_in, out + more_out, device=weight.device, dtype=weight.dtype)
        self.requires_grad_(False)
        self.units = out
        with torch.no_grad():
            self.weight.copy_(functional.pad(weight, (0, more_in, 0, more_out)))
            self.bias.copy_(functional.pad(bias, (0, more_out)))

    def forward(self, values: Tensor) -> Tensor:
        """Return [..., units out] of values [..., units in]."""
        found = self.together([values.flatten(0, -2)])[0]
        return found.reshape(*values.shape[:-1], self.units)

    def together(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return the outputs [n, units out] for several [n, units in], in one product.

        A product of many rows takes less time than several of few.
        """
        counts, width = [len(part) for part in parts], parts[0].shape[1]
        count = sum(counts)
        if len(parts) == 1 and count == filled(count) and width == self.in_features:
            rows = parts[0]
        else:
            rows = parts[0].new_empty(filled(count), self.in_features)
            torch.cat(list(parts), out=rows[:count, :width])
            rows[count:] = 0
            rows[:, width:] = 0
        found = super().forward(rows)[:count, : self.units]
        return list(torch.split(found, counts))


def sigmoid(logits: Tensor) -> Tensor:
    """Return the float32 sigmoid of every number."""
    flat = logits.float().flatten()
    found = torch.sigmoid(functional.pad(flat, (0, -len(flat) % VECTOR)))
    return found[: len(flat)].reshape(logits.shape)
