"""The pipelines `train_onset` and `train_pitch`."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from amt_pipeline.pipelines.tasks import (
    SHARED_INPUTS,
    SHARED_PARAMETERS,
    TASK_INPUTS,
    TRANSCRIPTION_TASKS,
)
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
        f"train_{task}": Pipeline(
            base,
            namespace=task,
            inputs=SHARED_INPUTS,
            outputs={"training": f"{task}_training"},
            parameters={
                **{name: name for name in SHARED_PARAMETERS},
                "params:settings": f"params:{task}",
            },
        )
        for task in TRANSCRIPTION_TASKS
    }
