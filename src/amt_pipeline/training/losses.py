"""Losses: cross-entropies of outputs and of classes, L2 for convolutions and dense layers apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def weighted_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    pos_weight: float | None = None,
    valid: Tensor | None = None,
    count: Tensor | None = None,
) -> Tensor:
    """Return the sigmoid cross-entropy, mean over all (valid) outputs.

    Args:
        logits: Of any shape, any precision; the mean is taken in 32 bits.
        targets: 0 or 1, of the same shape.
        pos_weight: Factor on the positive term (recall against precision); None is 1.
        valid: Which outputs count; None is all.
        count: What the sum is divided by; None is the number of outputs that count. Processes that
            share a batch give that of the whole batch: the sum of their losses is its mean.
    """
    # Filled there: a number that is copied to a GPU waits until that has done all work before.
    weight = None if pos_weight is None else torch.full((), pos_weight, device=logits.device)
    losses = functional.binary_cross_entropy_with_logits(
        logits.float(), targets.float(), pos_weight=weight, reduction="none"
    )
    if valid is None:
        return losses.mean() if count is None else losses.sum() / count
    mask = valid.expand_as(losses)
    return (losses * mask).sum() / (mask.sum() if count is None else count).clamp(min=1)


def class_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    label_smoothing: float = 0.0,
    valid: Tensor | None = None,
    count: Tensor | None = None,
) -> Tensor:
    """Return the softmax cross-entropy in nats, mean over all (valid) targets.

    Args:
        logits: `[*shape, classes]`, any precision; the mean is taken in 32 bits.
        targets: `[*shape]` class numbers.
        label_smoothing: Share of the target that goes to all classes alike.
        valid: `[*shape]`, which targets count; None is all.
        count: What the sum is divided by; see `weighted_cross_entropy`.
    """
    losses = functional.cross_entropy(
        logits.float().flatten(0, -2),
        targets.flatten(),
        label_smoothing=label_smoothing,
        reduction="none",
    )
    if valid is None:
        return losses.mean() if count is None else losses.sum() / count
    mask = valid.flatten()
    return (losses * mask).sum() / (mask.sum() if count is None else count).clamp(min=1)


def count_outputs(targets: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return how many outputs count."""
    if valid is None:
        return torch.full((), targets.numel(), device=targets.device)
    return valid.expand_as(targets).sum()


class L2Penalty:
    """l2 / 2 x the sum of squared weights, with one factor per kind of layer.

    Biases, batch norm and recurrent weights are left out, as in the reference.
    """

    def __init__(self, network: nn.Module, conv_l2: float, dense_l2: float) -> None:
        layers = list(network.modules())
        convolutions = [m.weight for m in layers if isinstance(m, nn.Conv1d | nn.Conv2d)]
        dense = [m.weight for m in layers if isinstance(m, nn.Linear)]
        self._terms = [(l2, w) for l2, w in ((conv_l2, convolutions), (dense_l2, dense)) if l2 > 0]

    def __call__(self) -> Tensor | float:
        """Return the penalty of the current weights."""
        total: Tensor | float = 0.0
        for l2, weights in self._terms:
            for weight in weights:
                total = total + 0.5 * l2 * weight.square().sum()
        return total
