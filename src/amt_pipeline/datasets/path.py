"""`PathDataset`: hands a node a place on disk instead of its content."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

from kedro_datasets._typing import JSONPreview

from amt_pipeline.datasets.base import DatasetUserError, FileDataset

SHOWN_NAMES = 20


class PathDataset(FileDataset[NoReturn, Path]):
    """Loads as `pathlib.Path`; nothing is read or made.

    For corpora, and for folders that a node fills item by item.

    Args:
        filepath: The file or folder.
        made_on_demand: The nodes that take this path make what is there, so a run may start without
            it. Otherwise a run is refused while it is missing.
        metadata: For Kedro-Viz.
    """

    def __init__(
        self,
        *,
        filepath: str | PathLike[str],
        made_on_demand: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self.made_on_demand = made_on_demand

    def load(self) -> Path:
        """Return the path, whether or not anything is there."""
        return self._filepath

    def save(self, data: NoReturn) -> None:
        """Refuse: a path is not produced by returning it.

        Raises:
            DatasetUserError: Always.
        """
        raise DatasetUserError(
            self._filepath,
            "a PathDataset names a place and cannot be saved to",
            "Let the node write there, and return something that another dataset saves",
        )

    def preview(self) -> JSONPreview:
        """Show what lies there: kind, and the first names of a folder."""
        return self._safe_preview(self._listing, lambda text: JSONPreview(json.dumps(text)))

    def _listing(self) -> JSONPreview:
        if self._filepath.is_file():
            found: dict[str, Any] = {"file": self._filepath.name}
            found["bytes"] = self._filepath.stat().st_size
        else:
            names = sorted(path.name for path in self._filepath.iterdir())
            found = {"folder": self._filepath.name, "entries": len(names)}
            found["first"] = names[:SHOWN_NAMES]
        return JSONPreview(json.dumps(found))

    def _read(self, path: Path) -> Path:
        return path

    def _write(self, path: Path, data: NoReturn) -> None:
        self.save(data)

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "made_on_demand": self.made_on_demand}
