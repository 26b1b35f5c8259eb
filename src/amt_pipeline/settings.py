"""Settings that Kedro reads: configuration loader, hooks, plugins."""

from amt_pipeline.core.threads import yield_while_waiting
from amt_pipeline.hooks import (
    ParametersCheckHook,
    PredecessorHook,
    RunSummaryHook,
    RunTrackingHook,
)
from amt_pipeline.pipelines.studies.check import StudiesCheckHook
from amt_pipeline.run_lock import RunLockHook

# Kedro reads the settings before any node imports torch.
yield_while_waiting()

HOOKS = (
    ParametersCheckHook(),
    PredecessorHook(),
    StudiesCheckHook(),
    RunLockHook(),
    RunSummaryHook(),
    RunTrackingHook(),
)

# kedro-telemetry comes with kedro; this project sends nothing anywhere.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_telemetry", "kedro-telemetry")

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "config_patterns": {"mlflow": ["mlflow*"]},
    # An environment may then override one parameter without repeating its whole group.
    "merge_strategy": {"parameters": "soft"},
}
