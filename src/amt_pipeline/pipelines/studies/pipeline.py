"""The pipelines `compare_<study>`, one per study in the parameters."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from amt_pipeline.pipelines.studies.configured import configured_studies
from amt_pipeline.pipelines.studies.families import FAMILIES
from amt_pipeline.pipelines.studies.nodes import (
    compare_variants,
    draw_study,
    run_study,
    write_study_page,
)


def create_pipelines() -> dict[str, Pipeline]:
    """Return a pipeline for every study that is configured where this process works."""
    return {f"compare_{name}": _compare(name, task) for name, task in configured_studies().items()}


def _compare(name: str, task: str) -> Pipeline:
    # A study of an unknown task has its pipeline too, which says so when it is run.
    inputs = FAMILIES[task].inputs if task in FAMILIES else {}
    parameters = {name: item for name, item in inputs.items() if item.startswith("params:")}
    datasets = {name: item for name, item in inputs.items() if name not in parameters}
    run = Node(
        run_study,
        inputs={
            "study_folder": "study_folder",
            "study": "params:study",
            "parallel": "params:parallel",
            **{name: f"params:{name}" for name in parameters},
            **{name: name for name in datasets},
        },
        outputs="study_results",
        name="run_study",
        tags=["gpu"],
    )
    return Pipeline(
        [run, *_report()],
        namespace=name,
        inputs=datasets,
        parameters={
            **{f"params:{name}": item for name, item in parameters.items()},
            "params:study": f"params:studies.{name}",
            "params:parallel": "params:parallel",
        },
    )


def _report() -> list[Node]:
    compare = Node(
        compare_variants,
        inputs="study_results",
        outputs=["study_table", "study_units", "study_curves", "study_summary"],
        name="compare_variants",
        tags=["report"],
    )
    draw = Node(
        draw_study,
        inputs=["study_table", "study_curves", "study_summary"],
        outputs=[
            "study_learning_figure",
            "study_learning_image",
            "study_rates_figure",
            "study_rates_image",
            "study_scores_figure",
            "study_scores_image",
        ],
        name="draw_study",
        tags=["report"],
    )
    write = Node(
        write_study_page,
        inputs=[
            "study_table",
            "study_summary",
            "study_scores_image",
            "study_learning_image",
            "study_rates_image",
        ],
        outputs=["study_markdown", "study_html"],
        name="write_study_page",
        tags=["report"],
    )
    return [compare, draw, write]
