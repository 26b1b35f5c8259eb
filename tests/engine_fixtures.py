"""Fixtures that several folders of engine tests share; their conftest files import them by name."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def limit_file_size() -> Callable[[int], AbstractContextManager[None]]:
    """Let the operating system refuse files of more than so many bytes, as a full disk would."""

    @contextmanager
    def limit(n_bytes: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a store with the synthetic recordings."""
    from engine_support import fill_store

    folder = tmp_path_factory.mktemp("engine") / "store"
    fill_store(folder)
    return folder


@pytest.fixture
def make_task(store_folder: Path) -> Callable[..., Any]:
    """Make a synthetic task with settings of its own."""
    from engine_support import SyntheticClassTask, SyntheticTask

    def make(*, classes: bool = False, **settings: Any) -> Any:
        kind = SyntheticClassTask if classes else SyntheticTask
        return kind(settings.pop("store_folder", store_folder), **settings)

    return make
