"""Nodes of `train_<task>`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from amt_pipeline.pipelines.tasks import open_task


def train_network(checkpoints_folder: Path, **task_inputs: Any) -> dict[str, Any]:
    """Train, or go on training, the task's network, in one process or in several.

    Returns:
        What the run says of itself.
    """
    from amt_pipeline.tracking import current_reporter
    from amt_pipeline.training.launch import start_training
    from amt_pipeline.training.run import EVENTS_FOLDER

    task, _ = open_task(**task_inputs)
    with current_reporter(checkpoints_folder / EVENTS_FOLDER, task.name) as reporter:
        return asdict(start_training(task, checkpoints_folder, reporter))


def draw_training(training: dict[str, Any]) -> Any:
    """Return the figure of loss, running scores and learning rate over steps."""
    import pandas as pd

    from amt_pipeline.reporting.training_curves import training_figure

    history = pd.DataFrame(training["history"])
    return training_figure(history, title=f"Training of the {training['task']} network")
