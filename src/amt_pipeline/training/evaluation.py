"""Networks over a split, unit by unit: what validation, ranking and studies are made of."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from amt_pipeline.training.device import autocast
from amt_pipeline.training.objective import Tally
from amt_pipeline.training.task import Batch, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

UnitTallies = dict[str, Any]
"""What is kept of a network's answers by unit (piece, utterance, track)."""


def evaluate_units(
    task: Task,
    networks: Sequence[nn.Module],
    split: str,
    device: torch.device,
    precision: str,
    done: Sequence[UnitTallies] | None = None,
) -> Iterator[tuple[str, dict[int, Tally]]]:
    """Evaluate networks over a split in one pass, each batch read, moved and scaled once for all.

    Args:
        task: Whose data.
        networks: Networks on the device, of one shape; they are set to evaluation.
        split: Which recordings.
        device: Where it runs.
        precision: See `training.device.autocast`.
        done: Per network the units to be left out (their batches are read over); none by default.

    Yields:
        `(unit, tally by position of the network)` when a unit is finished, in the split's order.

    Raises:
        ValueError: The task broke its contract: batches of a unit lie apart, or logits do not have
            the targets' shape.
    """
    from amt_pipeline.training.several import SeveralNetworks

    objective, seen = task.objective, set[str]()
    pairs = itertools.groupby(task.evaluation_batches(split), key=itemgetter(0))
    for unit, batches in pairs:
        if unit in seen:
            raise ValueError(f"the batches of {unit} do not follow one another")
        seen.add(unit)
        wanted = [n for n in range(len(networks)) if not done or unit not in done[n]]
        if not wanted:
            continue
        several = SeveralNetworks(networks[n] for n in wanted).eval()
        tallies = [objective.new_tally() for _ in wanted]
        for _, batch in batches:
            moved = batch.to(device)
            objective.update(tallies, _logits(task, several, moved, device, precision), moved)
        yield unit, dict(zip(wanted, tallies, strict=True))


def validation_scores(
    task: Task, network: nn.Module, device: torch.device, precision: str
) -> dict[str, float]:
    """Return a network's mean scores over the units of the validation split; empty without units.

    The network is in training again afterwards.
    """
    units = [
        tallies[0].scores()
        for _, tallies in evaluate_units(task, [network], "validation", device, precision)
    ]
    network.train()
    names = units[0] if units else {}
    return {name: float(np.mean([scores[name] for scores in units])) for name in names}


def mean_score(units: UnitTallies, name: str) -> float:
    """Return the mean of a score over units; NaN without units."""
    scores = [tally.scores()[name] for tally in units.values()]
    return float(np.mean(scores)) if scores else float("nan")


def _logits(
    task: Task, several: nn.Module, batch: Batch, device: torch.device, precision: str
) -> Tensor:
    """Return the logits of several networks on a batch, `[networks, *shape of the targets, ...]`.

    Logits of classes have one axis more at the end.
    """
    import torch

    with torch.inference_mode(), autocast(precision, device):
        logits = task.forward(several, batch).float()
    shape = logits.shape[1 : logits.ndim - task.objective.class_axes]
    if shape != batch.targets.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} of targets {tuple(batch.targets.shape)}: Task.forward "
            "must return what the network answers, with its leading axes"
        )
    return logits
