"""A training of a study as a job for any process, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from amt_pipeline.core.errors import UserError
from amt_pipeline.core.files import read_json
from amt_pipeline.core.hashing import value_sha256
from amt_pipeline.ranking.evaluate import VERSION as EVALUATION_VERSION
from amt_pipeline.ranking.rank import RankingConfig
from amt_pipeline.search.study import Variant
from amt_pipeline.training.config import TrainingConfig
from amt_pipeline.training.device import resolve_device, resolve_precision
from amt_pipeline.training.task import Task

VERSION = 2
"""Part of the key of every result. Raise it when the same data and settings give other results."""

RESULT_FILE = "result.json"

Status = Literal["finished", "diverged", "failed"]


@dataclass(frozen=True)
class VariantJob:
    """A variant to be trained with one seed; any process can do it.

    Attributes:
        name: Of the variant.
        seed: Of this training.
        settings: What makes the variant, by dotted name.
        recipe: Of the task (`Task.recipe`).
        folder: Where checkpoints, events and the result go; of this variant and seed alone.
        ranking: How its checkpoints are ranked.
        evaluation: The task's evaluation settings.
        label: The variant's name on progress lines.
        key: What the result depends on, hashed; see `job_key`.
        device: The task's device setting.
    """

    name: str
    seed: int
    settings: dict[str, Any]
    recipe: dict[str, Any]
    folder: Path
    ranking: RankingConfig
    evaluation: dict[str, Any]
    label: str
    key: str
    device: str

    @classmethod
    def of(
        cls,
        variant: Variant,
        task: Task,
        ranking: RankingConfig,
        evaluation: Mapping[str, Any],
        study_folder: Path,
    ) -> VariantJob:
        """Return the job of a variant, whose task was opened."""
        return cls(
            name=variant.name,
            seed=variant.seed,
            settings=variant.settings,
            recipe=task.recipe(),
            folder=(study_folder / folder_name(variant.name) / f"seed-{variant.seed}").absolute(),
            ranking=ranking,
            evaluation=dict(evaluation),
            label=f"{task.label}, {variant.name}, seed {variant.seed}",
            key=job_key(task, ranking, evaluation),
            device=task.training.device,
        )


@dataclass(frozen=True)
class VariantResult:
    """What a training of a study came to; JSON-able by `as_json`.

    Attributes:
        name: Of the variant.
        seed: Of the training.
        settings: What makes the variant, by dotted name.
        status: `finished`; `diverged`, which it would again; `failed`, by a fault that may pass.
        reason: Why it did not finish.
        task: Name of the task.
        unit: What scores are per (`piece`).
        metric: The score that counts; higher is better.
        parameters: Trainable weights.
        steps: Steps of the training.
        windows: Training windows per epoch.
        batch_size: Windows per step.
        seconds: Spent on training, over all its starts.
        chosen_step: Of the checkpoint that the ranking chose.
        validation: Its mean scores on validation.
        train: Its mean scores on the training split.
        per_unit: Its score on every validation unit.
        history: Scalars logged in training, as in `training.json`.
        curve: The score of every ranked checkpoint: `{step, <metric>}`.
        warnings: Of the ranking.
        config: Resolved task and training configuration.
        data: Hash of the training data (`Task.fingerprint`).
        device: Device and precision that it was trained with.
        version: Of the package that trained it.
        key: See `job_key`.
        reused: Whether an earlier run had finished it.
    """

    name: str
    seed: int
    settings: dict[str, Any]
    status: Status
    reason: str = ""
    task: str = ""
    unit: str = "unit"
    metric: str = ""
    parameters: int | None = None
    steps: int | None = None
    windows: int | None = None
    batch_size: int | None = None
    seconds: float | None = None
    chosen_step: int | None = None
    validation: dict[str, float | None] = field(default_factory=dict)
    train: dict[str, float | None] = field(default_factory=dict)
    per_unit: dict[str, float | None] = field(default_factory=dict)
    history: list[dict[str, float | None]] = field(default_factory=list)
    curve: list[dict[str, float | None]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    device: str = ""
    version: str = ""
    key: str = ""
    reused: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)


def job_key(task: Task, ranking: RankingConfig, evaluation: Mapping[str, Any]) -> str:
    """Return a hash of all that a result depends on.

    Settings, data and versions; not device (but for the precision that it leads to), threads or
    where the data lies.
    """
    settings = [ranking.model_dump(), dict(evaluation)]
    return value_sha256([training_key(task), EVALUATION_VERSION, settings])


def training_key(task: Task) -> str:
    """Return a hash of what the checkpoints of a training depend on, which ranking chooses from.

    A training alone may be gone on with for more epochs or with another `keep`; the checkpoints
    that are then there depend on what was before, so here both count.
    """
    training = task.training
    own = {**training.identity(), "epochs": training.epochs, "keep": training.keep}
    own["precision"] = _precision(training)
    return value_sha256([VERSION, task.describe(), own, task.fingerprint()])


def _precision(training: TrainingConfig) -> str:
    """Return the precision that `auto` comes to here.

    A study begun on a CPU and finished on a GPU must not have seeds of both in one mean. A device
    that is named is not looked for: results may be read where it is not.
    """
    if training.precision != "auto":
        return training.precision
    import torch

    device = torch.device(training.device) if training.device != "auto" else resolve_device()
    return resolve_precision("auto", device)


def read_result(job: VariantJob) -> VariantResult | None:
    """Return what an earlier run made of a job; None if nothing, or of other settings or data."""
    path = job.folder / RESULT_FILE
    if not path.is_file():
        return None
    try:
        known = VariantResult(**read_json(path))
    except (UserError, TypeError):  # damaged, or of an older version: done again
        return None
    if known.key != job.key:
        return None
    # The same training may be another variant's by now.
    fields = {**known.as_json(), "name": job.name, "settings": job.settings, "reused": True}
    return VariantResult(**fields)


def folder_name(name: str) -> str:
    """Return a variant's folder: its name where that may be one, else made so and kept apart."""
    safe = re.sub(r"[^\w.=+-]+", "_", name, flags=re.ASCII).strip("._")[:80]
    return safe if safe == name else f"{safe or 'variant'}-{value_sha256(name)[:6]}"
