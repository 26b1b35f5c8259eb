"""Nodes of `export_tfrecords`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amt_pipeline.pipelines.transcription.task import open_frame_task


def export_windows(
    records_folder: Path, export: dict[str, Any], parallel: dict[str, Any], **task_inputs: Any
) -> dict[str, Any]:
    """Write the task's windows as TFRecords; return the manifest of the export."""
    from amt_pipeline.core.parallel import ParallelConfig
    from amt_pipeline.transcription.record_export import ExportConfig, export_records

    config = ExportConfig.model_validate(export)
    task, _ = open_frame_task(**task_inputs, splits=config.splits)
    manifest = export_records(task, records_folder, config, ParallelConfig.model_validate(parallel))
    return manifest.model_dump(mode="json")
