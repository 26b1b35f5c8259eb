"""`TableDataset`: tables as Parquet or CSV."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro_datasets._typing import TablePreview

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.core.files import atomic_path
from amt_pipeline.datasets.base import MAKE_AGAIN, FileDataset
from amt_pipeline.store.tables import read_parquet

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".parquet", ".csv")
ID_COLUMNS = (
    *("recording_id", "unit", "variant", "settings", "note"),
    *("speaker", "truth", "name", "mistaken_for"),
)
"""Columns of names or words: text in a CSV too, where `01` would be a number, `NA` missing."""


class TableDataset(FileDataset["pd.DataFrame", "pd.DataFrame"]):
    """A pandas table; the index is not stored.

    Args:
        filepath: `.parquet` (keeps all types) or `.csv` (for people and spreadsheets).
        metadata: For Kedro-Viz.

    Raises:
        ConfigError: Another suffix.
    """

    def __init__(
        self, *, filepath: str | PathLike[str], metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        require_table_suffix(self._filepath)

    def preview(self, nrows: int = 20) -> TablePreview:
        """Show the first rows.

        Args:
            nrows: Number of rows.
        """
        return self._safe_preview(
            lambda: _as_preview(read_table(self._filepath).head(nrows)), _one_cell
        )

    def _read(self, path: Path) -> pd.DataFrame:
        return read_table(path)

    def _write(self, path: Path, data: pd.DataFrame) -> None:
        write_table(path, data)


def require_table_suffix(path: Path) -> None:
    """Refuse a path that is neither Parquet nor CSV.

    Raises:
        ConfigError: It is not.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(path, f"not a table format: {path.suffix!r}", f"Use {SUFFIXES}")


def read_table(path: Path) -> pd.DataFrame:
    """Read a Parquet or CSV file, by its suffix; ids (`ID_COLUMNS`) are text in both."""
    import pandas as pd

    if path.suffix.lower() == ".csv":
        table = pd.read_csv(path)
        ids = [name for name in ID_COLUMNS if name in table.columns]
        if ids:
            # Read apart: pandas switches its words for missing values only for a whole file.
            table[ids] = pd.read_csv(path, usecols=ids, dtype=str, keep_default_na=False)[ids]
        return table
    return read_parquet(path, MAKE_AGAIN)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet or CSV file, by its suffix, atomically."""
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".csv":
            table.to_csv(temporary, index=False, lineterminator="\n")
        else:
            table.to_parquet(temporary, index=False)


def _as_preview(table: pd.DataFrame) -> TablePreview:
    # Through JSON, since a cell may hold what the site's JSON does not know (dates, lists, NaN).
    text = table.reset_index(drop=True).to_json(orient="split", date_format="iso")
    return TablePreview(json.loads(text))


def _one_cell(text: str) -> TablePreview:
    return TablePreview({"columns": ["note"], "index": [0], "data": [[text]]})
