"""How nodes meet the engine: parameters to a task on an ingested corpus.

Training and ranking are one modular pipeline each, instantiated per task by namespace. Their inputs
have the names of `TASK_INPUTS`; `TASKS` says which datasets and parameters these are for each task.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Pipeline

if TYPE_CHECKING:
    from amt_pipeline.phonemes.parameters import ResolvedPhonemeTask
    from amt_pipeline.phonemes.tasks import PhonemeTask
    from amt_pipeline.transcription.parameters import ResolvedTask
    from amt_pipeline.transcription.tasks import FrameTask

logger = logging.getLogger(__name__)

TASK_INPUTS = {
    "preset": "params:preset",
    "presets": "params:presets",
    "features": "params:features",
    "settings": "params:settings",
    "manifest": "manifest",
    "summary": "corpus_summary",
    "truth_folder": "truth_folder",
    "frames_folder": "frames_folder",
}
"""Inputs of `open_task`, as every modular pipeline names them: complete settings by preset and what
is overridden, the corpus, what the network has to say (notes, classes) and what it sees."""


@dataclass(frozen=True)
class TaskFamily:
    """What the inputs of a modular pipeline are for a task.

    Attributes:
        datasets: Dataset by name of the input.
        parameters: Parameter by name of the input, all but `params:settings`.
    """

    datasets: Mapping[str, str]
    parameters: Mapping[str, str]


TRANSCRIPTION = TaskFamily(
    datasets={
        "manifest": "manifest",
        "corpus_summary": "corpus_summary",
        "truth_folder": "notes_folder",
        "frames_folder": "frames_folder",
    },
    parameters={name: name for name in ("params:preset", "params:presets", "params:features")},
)
PHONEMES = TaskFamily(
    datasets={
        "manifest": "librispeech_manifest",
        "corpus_summary": "librispeech_summary",
        "truth_folder": "librispeech_labels_folder",
        "frames_folder": "librispeech_frames_folder",
    },
    parameters={
        "params:preset": "params:preset",
        "params:presets": "params:phoneme_presets",
        "params:features": "params:phoneme_features",
    },
)
TASKS = {"onset": TRANSCRIPTION, "pitch": TRANSCRIPTION, "phoneme": PHONEMES}
TRANSCRIPTION_TASKS = tuple(name for name, family in TASKS.items() if family is TRANSCRIPTION)


def inputs_of(task: str) -> dict[str, str]:
    """Return the datasets and parameters of a task by the argument of `open_task`."""
    family = TASKS[task]
    names = {**family.datasets, **family.parameters, "params:settings": f"params:{task}"}
    return {argument: names[name] for argument, name in TASK_INPUTS.items()}


def instantiate(
    base: Pipeline,
    task: str,
    *,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Pipeline:
    """Return a modular pipeline for one task.

    Args:
        base: The pipeline, with the inputs of `TASK_INPUTS`.
        task: Its name, which becomes the namespace.
        inputs: Further inputs that lie outside the namespace.
        outputs: Outputs that lie outside the namespace.
        parameters: Further parameters that are shared by all tasks.
    """
    family = TASKS[task]
    return Pipeline(
        base,
        namespace=task,
        inputs={**family.datasets, **(inputs or {})},
        outputs=dict(outputs or {}),
        parameters={
            **family.parameters,
            **(parameters or {}),
            "params:settings": f"params:{task}",
        },
    )


def open_task(
    *, settings: dict[str, Any], **inputs: Any
) -> tuple[FrameTask | PhonemeTask, ResolvedTask | ResolvedPhonemeTask]:
    """Return the task that `settings` names, on the ingested corpus, with its settings.

    What is read of the corpus is checked to be that of the manifest.

    Args:
        settings: Overrides of the task, with its `name`.
        **inputs: The other `TASK_INPUTS`; `splits` (which are checked), `records_folder`.

    Raises:
        StoreError: Frames or labels are missing, or were made from other files than the manifest's.
    """
    if TASKS[settings["name"]] is PHONEMES:
        from amt_pipeline.pipelines.phonemes.task import open_phoneme_task

        return open_phoneme_task(settings=settings, **inputs)
    from amt_pipeline.pipelines.transcription.task import open_frame_task

    return open_frame_task(settings=settings, **inputs)


def training_key(training: dict[str, Any]) -> str:
    """Return a hash of what a training run learned from, by which its ranking knows it.

    Args:
        training: What the run says of itself (`training.TrainingResult`).
    """
    from amt_pipeline.core.hashing import value_sha256
    from amt_pipeline.training.config import NOT_IDENTITY

    own = training["config"]["training"]
    settings = {name: value for name, value in own.items() if name not in NOT_IDENTITY}
    config = {**training["config"], "training": settings}
    return value_sha256([config, training["fingerprint"], training["checkpoints"]])


def warn_of_former_training(best: dict[str, Any], folder: Path) -> None:
    """Say it in the log if a chosen checkpoint is not of the training that lies in its folder.

    It is used all the same: the chosen one stays in use until a ranking replaces it. Where no
    training lies (a model that was copied from elsewhere) there is nothing to say.

    Args:
        best: What the ranking says of the checkpoint that it chose.
        folder: Of the task, with the result of its latest training.
    """
    from amt_pipeline.training.run import RESULT_FILE

    result = folder / RESULT_FILE
    if result.is_file() and _key_in(result) != best.get("training"):
        logger.warning(
            "%s network: the chosen checkpoint (step %d) comes from an earlier training run than "
            "the one in %s; to use the latest, choose anew with `kedro run --pipelines rank_%s`",
            best["task"].capitalize(), best["step"], result, best["task"],
        )  # fmt: skip


def _key_in(result: Path) -> str | None:
    """Return the key of a training's result, or None: one that is damaged is no reason to stop."""
    from amt_pipeline.core.errors import UserError
    from amt_pipeline.core.files import read_json

    try:
        return training_key(read_json(result))
    except (UserError, KeyError, TypeError, AttributeError):
        return None
