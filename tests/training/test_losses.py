from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from amt_pipeline.training.losses import L2Penalty, weighted_cross_entropy

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [-3.0, 0.0, 4.0]])
TARGETS = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


def by_hand(pos_weight: float = 1.0) -> list[list[float]]:
    rows = []
    for logits, targets in zip(LOGITS.tolist(), TARGETS.tolist(), strict=True):
        rows.append([])
        for x, t in zip(logits, targets, strict=True):
            p = 1 / (1 + math.exp(-x))
            rows[-1].append(-pos_weight * t * math.log(p) - (1 - t) * math.log(1 - p))
    return rows


@pytest.mark.parametrize("pos_weight", [None, 1.0, 2.5])
def test_mean_over_all_outputs(pos_weight: float | None) -> None:
    expected = sum(map(sum, by_hand(pos_weight or 1.0))) / 6
    assert float(weighted_cross_entropy(LOGITS, TARGETS, pos_weight)) == pytest.approx(expected)


def test_mean_over_valid_outputs_of_the_same_shape() -> None:
    valid = torch.tensor([[True, False, True], [False, True, False]])
    rows = by_hand(3.0)
    expected = (rows[0][0] + rows[0][2] + rows[1][1]) / 3
    assert float(weighted_cross_entropy(LOGITS, TARGETS, 3.0, valid)) == pytest.approx(expected)


def test_a_mask_without_the_last_axis_counts_for_all_of_it() -> None:
    valid = torch.tensor([[False], [True]])
    expected = sum(by_hand()[1]) / 3
    assert float(weighted_cross_entropy(LOGITS, TARGETS, None, valid)) == pytest.approx(expected)


def test_nothing_valid_is_zero_not_nan() -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = weighted_cross_entropy(logits, TARGETS, None, torch.zeros(2, 1, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_bool_targets_and_half_logits() -> None:
    loss = weighted_cross_entropy(LOGITS.bfloat16(), TARGETS.bool())
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(sum(map(sum, by_hand())) / 6)


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.Conv1d(1, 1, 3), nn.BatchNorm2d(2), nn.Linear(4, 3), nn.LSTM(3, 2)
    )


def test_penalty_by_kind_of_layer_without_biases() -> None:
    layers = network()
    squares = [
        float((layer.weight.detach() ** 2).sum()) for layer in (layers[0], layers[1], layers[3])
    ]
    penalty = L2Penalty(layers, conv_l2=0.3, dense_l2=0.05)()
    assert float(penalty.detach()) == pytest.approx(
        0.15 * (squares[0] + squares[1]) + 0.025 * squares[2], rel=1e-5
    )
    assert float(L2Penalty(layers, 0, 0.05)().detach()) == pytest.approx(
        0.025 * squares[2], rel=1e-5
    )
    assert L2Penalty(layers, 0, 0)() == 0


def test_penalty_follows_the_weights_and_pulls_them_to_zero() -> None:
    layer = nn.Linear(3, 2)
    penalty = L2Penalty(layer, 0.5, 0.1)
    penalty().backward()  # type: ignore[union-attr]
    torch.testing.assert_close(layer.weight.grad, 0.1 * layer.weight)
    assert layer.bias.grad is None
    with torch.no_grad():
        layer.weight.zero_()
    assert float(penalty().detach()) == 0
