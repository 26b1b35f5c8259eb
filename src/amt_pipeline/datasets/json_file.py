"""`JsonDataset`: JSON files, for metrics, choices and records."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

from kedro_datasets._typing import JSONPreview

from amt_pipeline.core.files import read_json, write_json
from amt_pipeline.datasets.base import FileDataset


class JsonDataset(FileDataset[Any, Any]):
    """Plain data as indented JSON; NaN is refused, since it is not JSON.

    Args:
        filepath: The `.json` file.
        metadata: For Kedro-Viz.
    """

    def __init__(
        self, *, filepath: str | PathLike[str], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)

    def preview(self) -> JSONPreview:
        """Show the content."""
        return self._safe_preview(
            lambda: JSONPreview(json.dumps(read_json(self._filepath))),
            lambda text: JSONPreview(json.dumps(text)),
        )

    def _read(self, path: Path) -> Any:
        return read_json(path)

    def _write(self, path: Path, data: Any) -> None:
        write_json(path, data)
