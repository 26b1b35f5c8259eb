"""Which studies the project's configuration has; asked while pipelines are registered."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

TOP_LEVEL = re.compile(r"""^[{\s]*["']?studies["']?\s*:""", re.MULTILINE)
"""Block or flow style, quoted or not."""


def configured_studies(start: Path | None = None) -> dict[str, str]:
    """Return the task of every study in the parameter files, by study.

    Kedro does not say which environment pipelines are registered for, so those of all environments
    are returned. Nothing is checked here (`check` does): what has no name to be registered by
    is left out. Every command pays for this, so only files with studies are parsed, and not by
    Kedro's loader, which takes 0.1 s: names and tasks need no interpolation.

    Args:
        start: Where to look for the project from; None is the working folder. Outside a project
            there are no studies.
    """
    from kedro.framework.project import settings
    from kedro.utils import find_kedro_project

    from amt_pipeline.search.study import NAME

    project = find_kedro_project(start or Path.cwd())
    if project is None:
        return {}
    found: dict[str, str] = {}
    for _, studies in study_blocks(project / str(settings.CONF_SOURCE)):
        if not isinstance(studies, Mapping):
            continue
        for name, study in studies.items():
            if isinstance(name, str) and NAME.fullmatch(name):
                # An environment may change a study of `base` without naming its task again.
                task = study.get("task") if isinstance(study, Mapping) else None
                found[name] = str(task) if task is not None else found.get(name, "")
    return dict(sorted(found.items()))


def study_blocks(conf: Path) -> Iterator[tuple[Path, Any]]:
    """Yield every parameter file below `conf` that has `studies`, and their value, `base` first."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = [path for suffix in ("yml", "yaml") for path in conf.rglob(f"*.{suffix}")]
    for path in sorted(files, key=lambda path: (path.relative_to(conf).parts[0] != "base", path)):
        below = path.relative_to(conf).parts[1:]
        if not any(step.startswith("parameters") for step in below):
            continue
        try:
            text = path.read_text(encoding="utf-8")
            values = yaml.load(text, loader) if TOP_LEVEL.search(text) else {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            # Whoever runs a pipeline is told by Kedro.
            logger.debug("%s: %s", path, error)
            continue
        if isinstance(values, Mapping) and "studies" in values:
            yield path, values["studies"]
