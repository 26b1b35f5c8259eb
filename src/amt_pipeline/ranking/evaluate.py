"""Checkpoints over a split: each window is read once for a group of them, unit by unit.

What is kept per checkpoint and unit is a histogram of logits, from which the scores at any
threshold and the area under the ROC curve follow. A checkpoint whose weights, data and evaluation
did not change is not evaluated again, and neither are the units that a killed run had finished.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.progress import Progress
from amt_pipeline.ranking.evaluation_cache import Evaluation, EvaluationCache, UnitHistograms
from amt_pipeline.training.checkpoints import WEIGHTS_FILE, load_weights, verify_checkpoint
from amt_pipeline.training.device import autocast, resolve_device, resolve_precision, set_threads
from amt_pipeline.training.metrics import N_BINS, LogitHistogram, update_histograms
from amt_pipeline.training.task import Batch, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

VERSION = 2
"""Part of the key of every evaluation. Raise it when labels, windows or what is counted change for
the same data and settings, or evaluations by the former code are taken as ours.
"""

GROUP_BYTES = 1 << 30
"""Memory for the weights and the histograms of the checkpoints of one group."""

MOST_AT_ONCE = 16
"""Checkpoints in one group: reading and scaling then cost each a sixteenth, which is nothing."""

KEEP_EVERY_S = 60.0
"""How often the finished units of a group are written down: so much work a killed run loses."""

_HISTOGRAM_BYTES = 2 * N_BINS * np.dtype(np.int64).itemsize


def evaluate_checkpoints(
    task: Task, checkpoints: Sequence[Path], split: str, cache_folder: Path, evaluation: object
) -> Iterator[UnitHistograms]:
    """Evaluate checkpoints over a split, a group of them in one pass.

    A group is as large as `GROUP_BYTES` and `MOST_AT_ONCE` allow; its checkpoints give the same
    results, to the bit, as each in a pass of its own. All are evaluated before the first is
    yielded. Histograms take 32 KB per unit, gigabytes for a long run: keep of each what is needed,
    and ask again for the one that is needed whole; it comes from the cache.

    Args:
        task: Whose network and data.
        checkpoints: Checkpoint folders.
        split: `train`, `validation` or `test`.
        cache_folder: Where evaluations are kept, finished and begun ones.
        evaluation: JSON-able settings that the result depends on beside weights and data.

    Yields:
        For each checkpoint the histogram of every unit, in the split's order.

    Raises:
        CheckpointError: A checkpoint is damaged or of another network; the file is named.
        StorageError: The disk refused to keep an evaluation.
        UserError: A kept evaluation was changed by someone else meanwhile.
    """
    device = resolve_device(task.training.device)
    precision = resolve_precision(task.training.precision, device)
    set_threads(task.training.threads)
    key = value_sha256([VERSION, task.describe(), task.fingerprint(), split, evaluation, precision])
    cache = EvaluationCache(cache_folder, split, key)
    weights = {path: verify_checkpoint(path)[WEIGHTS_FILE] for path in checkpoints}
    missing, n_done = {}, 0
    for path, sha in weights.items():
        known = cache.read(path, sha)
        if not known.complete:
            missing[path] = sha
            n_done += len(known.units)
    if missing:
        _evaluate(_Setting(task, split, device, precision), missing, n_done, cache)
    for path in checkpoints:
        known = cache.read(path, weights[path])
        if not known.complete:
            raise UserError(cache.path(path), "was changed while it was used", "Run again")
        yield known.units


def evaluate_units(
    task: Task,
    networks: Sequence[nn.Module],
    split: str,
    device: torch.device,
    precision: str,
    done: Sequence[UnitHistograms] | None = None,
) -> Iterator[tuple[str, dict[int, LogitHistogram]]]:
    """Evaluate networks over a split in one pass, each batch read, moved and scaled once for all.

    Args:
        task: Whose data.
        networks: Networks on the device, of one shape; they are set to evaluation.
        split: Which recordings.
        device: Where it runs.
        precision: See `training.device.autocast`.
        done: Per network the units to be left out (their batches are read over); none by default.

    Yields:
        `(unit, histogram by position of the network)` when a unit is finished, in the split's
        order.

    Raises:
        ValueError: The task broke its contract: batches of a unit lie apart, or logits do not have
            the targets' shape.
    """
    from amt_pipeline.ranking.several import SeveralNetworks

    seen: set[str] = set()
    pairs = itertools.groupby(task.evaluation_batches(split), key=itemgetter(0))
    for unit, batches in pairs:
        if unit in seen:
            raise ValueError(f"the batches of {unit} do not follow one another")
        seen.add(unit)
        wanted = [n for n in range(len(networks)) if not done or unit not in done[n]]
        if not wanted:
            continue
        several = SeveralNetworks(networks[n] for n in wanted).eval()
        histograms = [LogitHistogram() for _ in wanted]
        for _, batch in batches:
            moved = batch.to(device)
            logits = _logits(task, several, moved, device, precision)
            update_histograms(histograms, logits, moved.targets, moved.valid)
        yield unit, dict(zip(wanted, histograms, strict=True))


def mean_f1(units: UnitHistograms, threshold: float = 0.5) -> float:
    """Return the mean F1 over units at a threshold; NaN without units."""
    scores = [histogram.scores(threshold)["f1"] for histogram in units.values()]
    return float(np.mean(scores)) if scores else float("nan")


def group_size(n_checkpoints: int, n_units: int, network_bytes: int) -> int:
    """Return how many checkpoints are evaluated in one pass; groups are of nearly one size.

    Args:
        n_checkpoints: How many there are to evaluate.
        n_units: Units of the split.
        network_bytes: Weights and buffers of one network.
    """
    each = network_bytes + n_units * _HISTOGRAM_BYTES
    most = min(MOST_AT_ONCE, max(1, GROUP_BYTES // each))
    n_groups = -(-n_checkpoints // most)
    return -(-n_checkpoints // n_groups)


class _Setting:
    """What the evaluations of a split have in common, and one network as a template."""

    def __init__(self, task: Task, split: str, device: torch.device, precision: str) -> None:
        self.task, self.split, self.device, self.precision = task, split, device, precision
        self.units = task.evaluation_units(split)
        self._template = task.build_network()
        tensors = itertools.chain(self._template.parameters(), self._template.buffers())
        self.network_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def network(self, checkpoint: Path, sha256: str) -> nn.Module:
        """Return a network with the weights of a checkpoint, of this hash, on the device."""
        network = copy.deepcopy(self._template)
        load_weights(checkpoint, network, sha256)
        return network.to(self.device)


def _evaluate(
    setting: _Setting, missing: dict[Path, str], n_done: int, cache: EvaluationCache
) -> None:
    """Evaluate checkpoints (with the hashes of their weights) group by group into the cache."""
    task, n_units, rows = setting.task, len(setting.units), list(missing.items())
    cache.tidy()
    size = group_size(len(rows), n_units, setting.network_bytes)
    label = f"{task.label}, {setting.split}, {len(rows)} checkpoints, {size} at once"
    with Progress(label, len(rows) * n_units, task.unit, n_done) as progress:
        for first in range(0, len(rows), size):
            _evaluate_group(setting, rows[first : first + size], cache, progress)


def _evaluate_group(
    setting: _Setting, group: list[tuple[Path, str]], cache: EvaluationCache, progress: Progress
) -> None:
    """Evaluate the checkpoints of a group, each from where a former run left it."""
    kept = [cache.read(path, sha).units for path, sha in group]
    networks = [setting.network(path, sha) for path, sha in group]
    # A unit without a frame to score has no batch, and is no more to be waited for than one done.
    n_waiting = sum(len(setting.units) - len(units) for units in kept)
    written_s = time.monotonic()
    for unit, histograms in evaluate_units(
        setting.task, networks, setting.split, setting.device, setting.precision, kept
    ):
        for position, histogram in histograms.items():
            kept[position][unit] = histogram
        n_waiting -= len(histograms)
        progress.advance(len(histograms))
        if time.monotonic() - written_s >= KEEP_EVERY_S:
            _write(cache, group, kept, complete=False)
            written_s = time.monotonic()
    order = {unit: position for position, unit in enumerate(setting.units)}
    whole = [dict(sorted(units.items(), key=lambda item: order[item[0]])) for units in kept]
    _write(cache, group, whole, complete=True)
    progress.advance(n_waiting, f"last F1 {mean_f1(whole[-1]):.4f}")


def _write(
    cache: EvaluationCache,
    group: list[tuple[Path, str]],
    kept: list[UnitHistograms],
    *,
    complete: bool,
) -> None:
    for (path, sha), units in zip(group, kept, strict=True):
        cache.write(path, sha, Evaluation(units, complete))


def _logits(
    task: Task, several: nn.Module, batch: Batch, device: torch.device, precision: str
) -> Tensor:
    """Return the logits of several networks on a batch, `[networks, *shape of the targets]`."""
    import torch

    with torch.inference_mode(), autocast(precision, device):
        logits = task.forward(several, batch).float()
    if logits.shape[1:] != batch.targets.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} of targets {tuple(batch.targets.shape)}: Task.forward "
            "must return what the network answers, with its leading axes"
        )
    return logits
