"""A row's result is the same to the bit wherever the row stands, and right."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from amt_pipeline.transcription.steady import SteadyLinear, sigmoid


@pytest.mark.parametrize(
    ("into", "out"), [(66, 8), (10, 1), (64, 88), (5120, 33), (16, 16), (1, 1)]
)
def test_dense_layer_is_that_of_torch_and_steady(into: int, out: int) -> None:
    torch.manual_seed(1)
    weight, bias = torch.randn(out, into), torch.randn(out)
    layer, rows = SteadyLinear(weight, bias), torch.randn(40, into)
    whole = layer(rows)
    wanted = functional.linear(rows.double(), weight.double(), bias.double())
    torch.testing.assert_close(whole.double(), wanted, rtol=1e-4, atol=1e-4)
    for count in (1, 2, 3, 7, 16, 33):
        for first in range(0, 40 - count, 5):
            assert torch.equal(layer(rows[first : first + count]), whole[first : first + count])
    stacked = layer(rows.reshape(8, 5, into))
    assert torch.equal(stacked, whole.reshape(8, 5, out))


def test_sigmoid_is_that_of_torch_and_steady() -> None:
    logits = torch.randn(1000) * 5
    whole = sigmoid(logits)
    torch.testing.assert_close(whole, torch.sigmoid(logits), rtol=1e-6, atol=1e-7)
    for count in (1, 7, 31, 64, 100):
        for first in range(0, 900, 37):
            part = sigmoid(logits[first : first + count].reshape(1, count))
            assert torch.equal(part[0], whole[first : first + count])
    assert sigmoid(torch.zeros(2, 3, dtype=torch.bfloat16)).dtype == torch.float32
