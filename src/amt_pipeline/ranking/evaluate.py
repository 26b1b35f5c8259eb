"""Checkpoints over a split: each window is read once for a group of them, unit by unit.

What is kept per checkpoint and unit is a tally of the task's objective (a histogram of logits, from
which the scores at any threshold and the area under the ROC curve follow, or counts of right
answers). A checkpoint whose weights, data and evaluation did not change is not evaluated again, and
neither are the units that a killed run had finished.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.core.progress import Progress
from amt_pipeline.ranking.evaluation_cache import Evaluation, EvaluationCache, tally_arrays
from amt_pipeline.training.checkpoints import WEIGHTS_FILE, load_weights, verify_checkpoint
from amt_pipeline.training.device import prepare_processor, resolve_device, resolve_precision
from amt_pipeline.training.evaluation import UnitTallies, evaluate_units, mean_score
from amt_pipeline.training.task import Task

if TYPE_CHECKING:
    import torch
    from torch import nn

VERSION = 2
"""Part of the key of every evaluation. Raise it when labels, windows or what is counted change for
the same data and settings, or evaluations by the former code are taken as ours.
"""

GROUP_BYTES = 1 << 30
"""Memory for the weights and the tallies of the checkpoints of one group."""

MOST_AT_ONCE = 16
"""Checkpoints in one group: reading and scaling then cost each a sixteenth, which is nothing."""

KEEP_EVERY_S = 60.0
"""How often the finished units of a group are written down: so much work a killed run loses."""


def evaluate_checkpoints(
    task: Task, checkpoints: Sequence[Path], split: str, cache_folder: Path, evaluation: object
) -> Iterator[UnitTallies]:
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
        For each checkpoint the tally of every unit, in the split's order.

    Raises:
        CheckpointError: A checkpoint is damaged or of another network; the file is named.
        StorageError: The disk refused to keep an evaluation.
        UserError: A kept evaluation was changed by someone else meanwhile.
    """
    device = resolve_device(task.training.device)
    precision = resolve_precision(task.training.precision, device)
    prepare_processor(task.training.threads)
    key = value_sha256([VERSION, task.describe(), task.fingerprint(), split, evaluation, precision])
    cache = EvaluationCache(cache_folder, split, key, task.objective.new_tally)
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


def group_size(n_checkpoints: int, n_units: int, network_bytes: int, tally_bytes: int) -> int:
    """Return how many checkpoints are evaluated in one pass; groups are of nearly one size.

    Args:
        n_checkpoints: How many there are to evaluate.
        n_units: Units of the split.
        network_bytes: Weights and buffers of one network.
        tally_bytes: What is kept of one checkpoint on one unit.
    """
    each = network_bytes + n_units * tally_bytes
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
        arrays = tally_arrays(task.objective.new_tally()).values()
        self.tally_bytes = sum(array.nbytes for array in arrays)

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
    size = group_size(len(rows), n_units, setting.network_bytes, setting.tally_bytes)
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
    for unit, tallies in evaluate_units(
        setting.task, networks, setting.split, setting.device, setting.precision, kept
    ):
        for position, tally in tallies.items():
            kept[position][unit] = tally
        n_waiting -= len(tallies)
        progress.advance(len(tallies))
        if time.monotonic() - written_s >= KEEP_EVERY_S:
            _write(cache, group, kept, complete=False)
            written_s = time.monotonic()
    order = {unit: position for position, unit in enumerate(setting.units)}
    whole = [dict(sorted(units.items(), key=lambda item: order[item[0]])) for units in kept]
    _write(cache, group, whole, complete=True)
    metric = setting.task.objective.metric
    progress.advance(n_waiting, f"last {metric} {mean_score(whole[-1], metric):.4f}")


def _write(
    cache: EvaluationCache,
    group: list[tuple[Path, str]],
    kept: list[UnitTallies],
    *,
    complete: bool,
) -> None:
    for (path, sha), units in zip(group, kept, strict=True):
        cache.write(path, sha, Evaluation(units, complete))
