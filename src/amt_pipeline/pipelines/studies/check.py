"""Which studies of the parameters are at fault: a run that needs one is refused, others only warn.

A study that somebody is in the middle of writing is no reason to stop an ingestion.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.framework.hooks import hook_impl

from amt_pipeline.core.errors import ConfigError
from amt_pipeline.pipelines.studies.configured import study_blocks

if TYPE_CHECKING:
    from amt_pipeline.search.study import StudyConfig

logger = logging.getLogger(__name__)

WHERE_TO_LOOK = "See conf/base/parameters_studies.yml for what there is"
PARAMETER = "params:studies"
EVERY = ""
"""What a fault of the whole group `studies` is kept under."""


class StudiesCheckHook:
    """Checks all studies before a run, of which only those that it trains can stop it."""

    # Before a lock is taken or a run recorded.
    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Refuse a run of a study that is at fault; warn of every other one.

        Raises:
            ConfigError: Names the study, the key and the file.
        """
        if PARAMETER not in catalog:
            return
        faults = study_faults(catalog.get(PARAMETER).load())
        needed = {name for name in pipeline.inputs() if name.startswith(f"{PARAMETER}.")}
        warnings = []
        for name, fault in faults.items():
            found = _with_place(fault, name, run_params)
            if f"{PARAMETER}.{name}" in needed or (name == EVERY and needed):
                raise found
            warnings.append((f"study {name}" if name != EVERY else "all studies", found))
        for what, found in warnings:
            logger.warning("Left out, and not needed by this run: %s: %s", what, found)


def study_faults(studies: Any) -> dict[str, ConfigError]:
    """Return what is wrong with the parameter `studies`, by study; `EVERY` is the whole group."""
    if not isinstance(studies, Mapping):
        problem = f"is no group of studies by name (got {studies!r})"
        return {EVERY: ConfigError("parameter studies", problem, WHERE_TO_LOOK)}
    faults = {}
    for name, study in studies.items():
        try:
            check_study(str(name), study)
        except ConfigError as fault:
            faults[str(name)] = fault
    return faults


def check_study(name: str, study: Any) -> StudyConfig:
    """Return a study's configuration; settings of its task are checked when they are resolved.

    Raises:
        ConfigError: Names every key that is unknown or ill-typed, or what makes it no study.
    """
    from pydantic import ValidationError

    from amt_pipeline.core.config_errors import name_faults
    from amt_pipeline.pipelines.studies.families import family_of
    from amt_pipeline.search.study import StudyConfig, VariantConfig

    where = f"studies.{name}"
    if not isinstance(study, Mapping):
        problem = f"is no study, which is a group with task and grid (got {study!r})"
        raise ConfigError(f"parameter {where}", problem, WHERE_TO_LOOK)
    try:
        config = StudyConfig.model_validate(dict(study))
    except ValidationError as error:
        raise name_faults(error, where, [StudyConfig, VariantConfig], WHERE_TO_LOOK) from error
    family_of(config.task, name)
    config.expand(name)
    return config


def _with_place(fault: ConfigError, name: str, run_params: Mapping[str, Any]) -> ConfigError:
    """Return a fault that names the files, too, that the study is written in."""
    places = _places(fault, name, run_params)
    if not places:
        return fault
    return ConfigError(f"{', '.join(places)}, {fault.where}", fault.problem, fault.remedy)


def _places(fault: ConfigError, name: str, run_params: Mapping[str, Any]) -> list[str]:
    """Return where the study is written: with the key at fault, if that is anywhere."""
    key = re.match(rf"parameter studies\.{re.escape(name)}\.(\w+)", fault.where)
    project = Path(run_params.get("project_path") or Path.cwd())
    written = _written(project, run_params)
    if name == EVERY:
        return [place for place, studies in written if not isinstance(studies, Mapping)]
    found = [
        (place, study)
        for place, studies in written
        if isinstance(studies, Mapping)
        for key_of, study in studies.items()
        if str(key_of) == name
    ]
    exact = [p for p, study in found if key and isinstance(study, Mapping) and key[1] in study]
    return exact or [place for place, _ in found]


def _written(project: Path, run_params: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return everything that this run's `studies` are made of: place and value."""
    from kedro.framework.project import settings

    conf = project / str(settings.CONF_SOURCE)
    environments = ("base", run_params.get("env") or "local")
    found = [
        (path.relative_to(project).as_posix(), studies)
        for path, studies in study_blocks(conf)
        if path.relative_to(conf).parts[0] in environments
    ]
    runtime = run_params.get("runtime_params") or {}
    return found + ([("--params", runtime["studies"])] if "studies" in runtime else [])
