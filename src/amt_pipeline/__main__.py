"""`python -m amt_pipeline`: `kedro run` of an installed package, as Kedro's deployments call it."""

from __future__ import annotations

from kedro.framework.project import configure_project

from amt_pipeline.cli import run

if __name__ == "__main__":
    configure_project("amt_pipeline")
    run(prog_name="python -m amt_pipeline")
