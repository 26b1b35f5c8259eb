"""What surrounds every run: parameters are checked, inputs are there, the run is recorded."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl

from amt_pipeline.core.errors import ConfigError, MissingPredecessorError, UserError
from amt_pipeline.mlflow_run import MlflowRun, TrackingSettings, flatten, resolve_settings
from amt_pipeline.provenance import pipeline_label, provenance_tags
from amt_pipeline.tracking import begin_run, end_run

logger = logging.getLogger(__name__)

# Runtime parameters that belong to the shell; the rest belongs to the pipeline families.
SHELL_PARAMETERS = ("data_root", "mlflow")


class ParametersCheckHook:
    """Checks all parameters as soon as they are known, before the catalog is made."""

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Hand the merged parameters to `check_parameters` of the package's module `parameters`.

        Raises:
            ConfigError: A parameter is unknown, ill-typed or contradicts another.
        """
        from kedro.framework.project import PACKAGE_NAME

        module = f"{PACKAGE_NAME}.parameters"
        if importlib.util.find_spec(module) is None:
            return
        parameters = context.config_loader["parameters"]
        importlib.import_module(module).check_parameters(
            {name: value for name, value in parameters.items() if name not in SHELL_PARAMETERS}
        )


class PredecessorHook:
    """Refuses a run whose inputs nobody has made yet, and says who makes them."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Check that every free input exists.

        Raises:
            ConfigError: A parameter that a node takes is in no parameters file.
            MissingPredecessorError: A file or folder is missing.
        """
        if run_params.get("only_missing_outputs"):
            return  # which nodes run, and so which inputs are needed, is decided later
        missing = [name for name in sorted(pipeline.inputs()) if not _is_there(catalog, name)]
        if missing:
            raise _missing_input(missing, catalog, _registered_pipelines())


class RunSummaryHook:
    """Says when a node is done and how long it took, and when the run is."""

    def __init__(self) -> None:
        self._nodes_total = 0
        self._nodes_done = 0
        self._run_started_s = 0.0
        self._node_started_s: dict[str, float] = {}

    @hook_impl
    def before_pipeline_run(self, pipeline: Any) -> None:
        """Start the clock."""
        self._nodes_total, self._nodes_done = len(pipeline.nodes), 0
        self._run_started_s = time.monotonic()

    @hook_impl
    def before_node_run(self, node: Any) -> None:
        """Start the clock of a node."""
        self._node_started_s[node.name] = time.monotonic()

    @hook_impl
    def after_node_run(self, node: Any) -> None:
        """Log the node's duration and place in the run."""
        self._nodes_done += 1
        taken_s = time.monotonic() - self._node_started_s.pop(node.name, time.monotonic())
        logger.info(
            "Finished node %s in %.1f s (%d of %d)",
            node.name,
            taken_s,
            self._nodes_done,
            self._nodes_total,
        )

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Log the duration of the run, and how many nodes had nothing to do."""
        skipped = self._nodes_total - self._nodes_done
        note = f"; {skipped} of {self._nodes_total} nodes had their outputs" if skipped else ""
        taken_s = time.monotonic() - self._run_started_s
        logger.info("Finished %s in %.1f s%s", pipeline_label(run_params), taken_s, note)


class RunTrackingHook:
    """Records each run in MLflow: parameters, provenance, how it ended."""

    def __init__(self) -> None:
        self._settings = TrackingSettings(enabled=False)
        self._project_path = Path()
        # A run that is left by another way than success or error was killed.
        atexit.register(end_run, "KILLED")

    @hook_impl
    def after_context_created(self, context: Any) -> None:
        """Read `mlflow.yml` of the environment, and `--params mlflow...`.

        Raises:
            ConfigError: An unknown or ill-typed tracking setting.
        """
        self._project_path = Path(context.project_path)
        try:
            conf = context.config_loader["mlflow"]
        except MissingConfigException:
            conf = {"enabled": False}
        runtime = (context.config_loader.runtime_params or {}).get("mlflow", {})
        if not isinstance(runtime, Mapping):
            raise ConfigError(
                "--params mlflow", "is a group", "Say, for instance, mlflow.enabled=no"
            )
        self._settings = resolve_settings(conf, runtime, self._project_path)

    @hook_impl(trylast=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Any, catalog: Any) -> None:
        """Start the MLflow run, when every other hook agrees that the pipeline may run."""
        if not self._settings.enabled:
            begin_run(None)
            return
        tags = provenance_tags(self._project_path, run_params)
        run = MlflowRun.start(self._settings, pipeline_label(run_params), tags)
        begin_run(run)
        if run is not None:
            run.params(used_parameters(pipeline, catalog))

    @hook_impl
    def after_pipeline_run(self) -> None:
        """End the run as finished."""
        end_run("FINISHED")

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """End the run as failed, with the reason."""
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        end_run("FAILED", reason)


def used_parameters(pipeline: Any, catalog: Any) -> dict[str, str]:
    """Return the parameters that a pipeline takes, flattened to `group.name: text`.

    Args:
        pipeline: The Kedro pipeline; its inputs named `params:...` or `parameters` count.
        catalog: Holds their values, as plain data or as typed models.
    """
    values: dict[str, str] = {}
    for name in sorted(pipeline.inputs()):
        if name == "parameters":
            values |= flatten("", catalog.load(name))
        elif name.startswith("params:"):
            values |= flatten(name.removeprefix("params:"), catalog.load(name))
    return values


def _is_there(catalog: Any, name: str) -> bool:
    if name.startswith("params:") or name == "parameters":
        return name in catalog
    dataset = catalog.get(name)
    if dataset is None:
        return False
    return getattr(dataset, "made_on_demand", False) or bool(dataset.exists())


def _registered_pipelines() -> Mapping[str, Any]:
    from kedro.framework.project import pipelines

    return pipelines


def _missing_input(missing: list[str], catalog: Any, registered: Mapping[str, Any]) -> UserError:
    name = missing[0]
    if name.startswith("params:"):
        return ConfigError(
            name.removeprefix("params:"), "no such parameter", "Add it to conf/base/parameters*.yml"
        )
    dataset = catalog.get(name)
    if dataset is None:
        return _never_stored(name, registered)
    where = getattr(dataset, "_filepath", None) or name
    problem = f"no such file or folder (input {name!r}"
    problem += f" and {len(missing) - 1} more)" if len(missing) > 1 else ")"
    producers = [
        (len(pipeline.nodes), label)
        for label, pipeline in registered.items()
        if label != "__default__" and name in pipeline.all_outputs()
    ]
    if producers:
        remedy = f"Run `kedro run --pipelines {min(producers)[1]}` first"
    else:
        remedy = "Put it there, or name another place with --params data_root=..."
    return MissingPredecessorError(where, problem, remedy)


def _never_stored(name: str, registered: Mapping[str, Any]) -> UserError:
    makers = {
        node.name
        for pipeline in registered.values()
        for node in pipeline.nodes
        if name in node.outputs
    }
    if makers:
        remedy = f"Begin at the node that makes it: --from-nodes {min(makers)}"
    else:
        remedy = "Add it to conf/base/catalog*.yml"
    return MissingPredecessorError(
        name, "is not stored on disk, so no run can begin with it", remedy
    )
