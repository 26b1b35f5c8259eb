"""`ImageDataset`: PNG images."""

from __future__ import annotations

import base64
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from kedro_datasets._typing import ImagePreview

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.files import atomic_path
from amt_pipeline.datasets.base import FileDataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ImageDataset(FileDataset[Union[bytes, "Figure"], Path]):
    """A PNG: saved from its bytes or a matplotlib figure, loaded as its path.

    Whoever embeds an image wants its path; whoever needs pixels opens that.

    Args:
        filepath: The `.png` file.
        metadata: For Kedro-Viz.

    Raises:
        ConfigError: Another suffix.
    """

    def __init__(
        self, *, filepath: str | PathLike[str], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        if self._filepath.suffix.lower() != ".png":
            raise ConfigError(self._filepath, "an image is stored as PNG", "End it with .png")

    def preview(self) -> ImagePreview:
        """Show the image."""
        return self._safe_preview(
            lambda: _encoded(self._filepath.read_bytes()), lambda text: _encoded(_drawn(text))
        )

    def _read(self, path: Path) -> Path:
        return path

    def _write(self, path: Path, data: bytes | Figure) -> None:
        if isinstance(data, bytes):
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
        else:
            from amt_pipeline.reporting.style import save_png

            save_png(data, path)


def _encoded(png: bytes) -> ImagePreview:
    return ImagePreview(base64.b64encode(png).decode("ascii"))


def _drawn(text: str) -> bytes:
    from amt_pipeline.datasets.listening import text_png

    return text_png(text)
