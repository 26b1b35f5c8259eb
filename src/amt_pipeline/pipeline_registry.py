"""The registered pipelines: what every family under `pipelines/` contributes.

A family is a folder `pipelines/<family>/` whose module `pipeline` has `create_pipelines()`, which
returns pipelines by their public names: verbs with objects (`ingest_maestro`, `train_onset`). The
names are the commands of this project, so they are chosen by the family, not by its folder.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from kedro.pipeline import Pipeline

from amt_pipeline import pipelines

DEFAULT_PIPELINE = "transcription"


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by name, and `__default__`.

    Raises:
        ImportError: A family cannot be imported; nothing is left out silently.
        ValueError: Two families give a pipeline the same name, or there is no default.
    """
    registered = collect_pipelines(pipelines)
    if DEFAULT_PIPELINE not in registered:
        raise ValueError(f"no family provides the default pipeline {DEFAULT_PIPELINE!r}")
    return registered | {"__default__": registered[DEFAULT_PIPELINE]}


def collect_pipelines(package: ModuleType) -> dict[str, Pipeline]:
    """Merge `create_pipelines()` of every family in `package`, in the order of their names.

    Raises:
        ImportError: A family cannot be imported.
        ValueError: A name is given twice; the message says by whom.
    """
    origin: dict[str, str] = {}
    merged: dict[str, Pipeline] = {}
    families = sorted(item.name for item in pkgutil.iter_modules(package.__path__) if item.ispkg)
    for family in families:
        module = importlib.import_module(f"{package.__name__}.{family}.pipeline")
        for name, pipeline in module.create_pipelines().items():
            if name in merged:
                raise ValueError(
                    f"pipeline {name!r} is created by both {origin[name]!r} and {family!r}"
                )
            merged[name], origin[name] = pipeline, family
    return merged
