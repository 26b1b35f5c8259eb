"""The pipeline `export_tfrecords`: one instance per task; choose one with `--namespaces onset`."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from amt_pipeline.pipelines.records.nodes import export_windows
from amt_pipeline.pipelines.tasks import TASK_INPUTS, TRANSCRIPTION_TASKS, instantiate


def create_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines of this family by name."""
    base = Pipeline(
        [
            Node(
                export_windows,
                inputs={
                    "records_folder": "records_folder",
                    "export": "params:export",
                    "parallel": "params:parallel",
                    **TASK_INPUTS,
                },
                outputs="records_manifest",
                name="export_windows",
                tags=["cpu"],
            )
        ]
    )
    shared = {name: name for name in ("params:export", "params:parallel")}
    instances = [instantiate(base, task, parameters=shared) for task in TRANSCRIPTION_TASKS]
    return {"export_tfrecords": sum(instances, Pipeline([]))}
