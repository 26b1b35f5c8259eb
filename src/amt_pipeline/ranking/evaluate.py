"""Every checkpoint over a split, unit by unit, durable checkpoint by checkpoint.

What is kept per checkpoint and unit is a histogram of logits, from which the scores at any
threshold and the area under the ROC curve follow; a checkpoint whose weights, data and evaluation
did not change is not evaluated again.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from amt_pipeline.core.files import atomic_path
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.progress import Progress
from amt_pipeline.training.checkpoints import WEIGHTS_FILE, load_weights, verify_checkpoint
from amt_pipeline.training.device import autocast, resolve_device, resolve_precision, set_threads
from amt_pipeline.training.metrics import LogitHistogram
from amt_pipeline.training.task import Task

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

UnitHistograms = dict[str, LogitHistogram]

VERSION = 1
"""Part of the key of every evaluation. Raise it when labels, windows or what is counted change for
the same data and settings, or evaluations by the former code are taken as ours.
"""


def evaluate_checkpoints(
    task: Task, checkpoints: Sequence[Path], split: str, cache_folder: Path, evaluation: object
) -> Iterator[UnitHistograms]:
    """Evaluate checkpoints over a split, one at a time.

    Histograms take 32 KB per unit, gigabytes for a long run: keep of each what is needed, and ask
    again for the one that is needed whole; it comes from the cache.

    Args:
        task: Whose network and data.
        checkpoints: Checkpoint folders.
        split: `train`, `validation` or `test`.
        cache_folder: Where finished evaluations are kept.
        evaluation: JSON-able settings that the result depends on beside weights and data.

    Yields:
        For each checkpoint the histogram of every unit, in the split's order.

    Raises:
        CheckpointError: A checkpoint is damaged or of another network; the file is named.
    """
    device = resolve_device(task.training.device)
    precision = resolve_precision(task.training.precision, device)
    set_threads(task.training.threads)
    network = task.build_network().to(device)
    key = value_sha256([VERSION, task.describe(), task.fingerprint(), split, evaluation, precision])
    with Progress(f"{task.label}, {split}", len(checkpoints), "checkpoint") as progress:
        for checkpoint in checkpoints:
            weights = verify_checkpoint(checkpoint)[WEIGHTS_FILE]
            cache = cache_folder / f"{split}-{checkpoint.name}.npz"
            known = _read_cache(cache, f"{key}-{weights}")
            if known is None:
                load_weights(checkpoint, network)
                known = evaluate_network(task, network, split, device, precision)
                _write_cache(cache, f"{key}-{weights}", known)
            progress.advance(1, f"last F1 {mean_f1(known):.4f}")
            yield known


def evaluate_network(
    task: Task, network: nn.Module, split: str, device: torch.device, precision: str
) -> UnitHistograms:
    """Return the logit histogram of every unit of a split."""
    import torch

    network.eval()
    units: UnitHistograms = {}
    with torch.inference_mode(), autocast(precision, device):
        for unit, batch in task.evaluation_batches(split):
            moved = batch.to(device)
            logits = task.forward(network, moved).float()
            everything = torch.ones_like(logits, dtype=torch.bool)
            keep = everything if moved.valid is None else moved.valid.bool().expand_as(logits)
            histogram = units.setdefault(unit, LogitHistogram())
            histogram.update(logits[keep].cpu().numpy(), moved.targets[keep].bool().cpu().numpy())
    return units


def mean_f1(units: UnitHistograms, threshold: float = 0.5) -> float:
    """Return the mean F1 over units at a threshold; NaN without units."""
    scores = [histogram.scores(threshold)["f1"] for histogram in units.values()]
    return float(np.mean(scores)) if scores else float("nan")


def _read_cache(path: Path, key: str) -> UnitHistograms | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            rows = zip(stored["units"], stored["positive"], stored["negative"], strict=True)
            return {
                str(unit): LogitHistogram(positive.astype(np.int64), negative.astype(np.int64))
                for unit, positive, negative in rows
            }
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        logger.warning("%s: evaluated again, the kept evaluation is damaged (%s)", path, error)
        return None


def _write_cache(path: Path, key: str, units: UnitHistograms) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(
            stream,
            key=np.array(key),
            units=np.array(list(units)),
            positive=np.array([h.positive for h in units.values()], np.int32),
            negative=np.array([h.negative for h in units.values()], np.int32),
        )
