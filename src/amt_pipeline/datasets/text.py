"""`TextDataset`: Markdown, HTML and other text."""

from __future__ import annotations

import html
from os import PathLike
from pathlib import Path
from typing import Any

from kedro_datasets._typing import HTMLPreview

from amt_pipeline.core.files import write_text
from amt_pipeline.datasets.base import FileDataset

HTML_SUFFIXES = (".html", ".htm")
SHOWN_CHARS = 20_000
SHOWN_HTML_CHARS = 1_000_000


class TextDataset(FileDataset[str, str]):
    """Text as UTF-8 with unix line ends.

    Args:
        filepath: The file; `.html` is shown as a page, everything else as it is written.
        metadata: For Kedro-Viz.
    """

    def __init__(
        self, *, filepath: str | PathLike[str], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)

    def preview(self) -> HTMLPreview:
        """Show the text; Kedro-Viz drops scripts from pages."""
        return self._safe_preview(self._page, lambda text: HTMLPreview(as_page(text)))

    def _page(self) -> HTMLPreview:
        text = self._read(self._filepath)
        if self._filepath.suffix.lower() not in HTML_SUFFIXES:
            return HTMLPreview(as_page(text))
        if len(text) > SHOWN_HTML_CHARS:
            return HTMLPreview(as_page(f"{self._filepath.name}: too long to show; open the file"))
        return HTMLPreview(text)

    def _read(self, path: Path) -> str:
        return path.read_text(encoding="utf-8")

    def _write(self, path: Path, data: str) -> None:
        write_text(path, data)


def as_page(text: str) -> str:
    """Return HTML that shows `text` as it is written, cut when it is long."""
    shown = text if len(text) <= SHOWN_CHARS else text[:SHOWN_CHARS] + "\n..."
    return f"<pre>{html.escape(shown)}</pre>"
