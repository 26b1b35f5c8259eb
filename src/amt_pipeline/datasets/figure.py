"""`FigureDataset`: Plotly figures, for Kedro-Viz and as a page of their own."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro_datasets._typing import PlotlyPreview

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.files import read_json, write_text
from amt_pipeline.datasets.base import FileDataset

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class FigureDataset(FileDataset["Figure", "Figure"]):
    """A Plotly figure as JSON, with an HTML page beside that opens without network.

    The JSON is written last: where it is, the page is complete.

    Args:
        filepath: The `.json` file; the page is the same name with `.html`.
        metadata: For Kedro-Viz.

    Raises:
        ConfigError: Another suffix.
    """

    def __init__(
        self, *, filepath: str | PathLike[str], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        if self._filepath.suffix.lower() != ".json":
            raise ConfigError(self._filepath, "a figure is stored as JSON", "End it with .json")

    def preview(self) -> PlotlyPreview:
        """Show the figure."""
        return self._safe_preview(lambda: PlotlyPreview(read_json(self._filepath)), _titled)

    def _read(self, path: Path) -> Figure:
        import plotly.io

        return plotly.io.from_json(json.dumps(read_json(path)))

    def _write(self, path: Path, data: Figure) -> None:
        from amt_pipeline.reporting.style import save_html

        save_html(data, path.with_suffix(".html"), title=path.stem.replace("_", " "))
        write_text(path, data.to_json())


def _titled(text: str) -> PlotlyPreview:
    return PlotlyPreview({"data": [], "layout": {"title": {"text": text}}})
