"""The pipelines `train_<task>`, one for every task."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from amt_pipeline.pipelines.tasks import TASK_INPUTS, TASKS, instantiate
from amt_pipeline.pipelines.training.nodes import draw_training, train_network


def create_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines of this family by name."""
    base = Pipeline(
        [
            Node(
                train_network,
                inputs={
                    "checkpoints_folder": "checkpoints_folder",
                    "records_folder": "records_folder",
                    **TASK_INPUTS,
                },
                outputs="training",
                name="train_network",
                tags=["gpu"],
            ),
            Node(
                draw_training,
                inputs="training",
                outputs="training_figure",
                name="draw_training",
                tags=["report"],
            ),
        ]
    )
    return {
        f"train_{task}": instantiate(base, task, outputs={"training": f"{task}_training"})
        for task in TASKS
    }
