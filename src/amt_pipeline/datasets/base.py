"""What all datasets of this project share: local files, written whole, errors with a remedy."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from kedro.io import AbstractDataset, DatasetError

from amt_pipeline.core.errors import ConfigError, UserError

logger = logging.getLogger(__name__)

Saved = TypeVar("Saved")
Loaded = TypeVar("Loaded")
Preview = TypeVar("Preview")

MAKE_AGAIN = "Delete it and run the pipeline that makes it again"


class DatasetUserError(UserError, DatasetError):
    """A `UserError` that passes through Kedro, which wraps every other exception of a dataset."""

    @classmethod
    def of(cls, error: UserError) -> DatasetUserError:
        """Return the same error as one that Kedro leaves alone."""
        return cls(error.where, error.problem, error.remedy)


class FileDataset(AbstractDataset[Saved, Loaded]):
    """A local file or folder; subclasses say how it is read and written.

    Subclasses define their own `__init__`, which passes on: Kedro records the arguments of the
    outermost one, and an inherited one would be recorded as `args, kwargs`.

    Args:
        filepath: Path of the file; Kedro makes it absolute under the project.
        metadata: For Kedro-Viz, unused here.

    Raises:
        ConfigError: The path is an address of a remote store.
    """

    def __init__(
        self, *, filepath: str | PathLike[str], metadata: dict[str, Any] | None = None
    ) -> None:
        if "://" in str(filepath):
            raise ConfigError(str(filepath), "is not a local path", "Mount it, or copy it here")
        self._filepath = Path(filepath)
        self.metadata = metadata

    @property
    def filepath(self) -> Path:
        """Path of the file or folder."""
        return self._filepath

    def load(self) -> Loaded:
        """Read the file.

        Raises:
            DatasetUserError: It is missing or cannot be read.
        """
        if not self._exists():
            raise DatasetUserError(
                self._filepath, "no such file", "Run the pipeline that makes it first"
            )
        try:
            return self._read(self._filepath)
        except UserError as error:
            raise DatasetUserError.of(error) from error
        except (OSError, ValueError) as error:
            raise DatasetUserError(
                self._filepath, f"cannot be read ({error})", MAKE_AGAIN
            ) from error

    def save(self, data: Saved) -> None:
        """Write the file, whole or not at all.

        Raises:
            DatasetUserError: The disk refused.
        """
        try:
            self._write(self._filepath, data)
        except UserError as error:
            raise DatasetUserError.of(error) from error

    @abstractmethod
    def _read(self, path: Path) -> Loaded:
        """Read what `_write` wrote."""

    @abstractmethod
    def _write(self, path: Path, data: Saved) -> None:
        """Write atomically."""

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}

    def _safe_preview(
        self, make: Callable[[], Preview], explain: Callable[[str], Preview]
    ) -> Preview:
        """Return `make()`, or `explain(reason)` when there is nothing to show or it fails.

        Reasons name the file without its folder: built sites are published.
        """
        if not self._exists():
            return explain(f"{self._filepath.name}: not made yet")
        try:
            return make()
        except Exception as error:
            logger.debug("no preview of %s", self._filepath, exc_info=True)
            reason = str(error).replace(str(self._filepath), self._filepath.name)
            return explain(f"{self._filepath.name}: no preview ({reason})")
