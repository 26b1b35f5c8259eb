"""The pipelines `rank_<task>`, one for every task, and `rank_curve`."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from amt_pipeline.pipelines.ranking.nodes import draw_ranking, rank_network, rank_outside_curve
from amt_pipeline.pipelines.tasks import TASK_INPUTS, TASKS, instantiate


def create_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines of this family by name."""
    base = Pipeline(
        [
            Node(
                rank_network,
                inputs={
                    "training": "training",
                    "checkpoints_folder": "checkpoints_folder",
                    "best_folder": "best_folder",
                    **TASK_INPUTS,
                },
                outputs=["ranking", "ranking_units", "best"],
                name="rank_network",
                tags=["gpu"],
            ),
            Node(
                draw_ranking,
                inputs=["ranking", "best"],
                outputs=["ranking_figure", "ranking_image"],
                name="draw_ranking",
                tags=["report"],
            ),
        ]
    )
    pipelines = {
        f"rank_{task}": instantiate(
            base,
            task,
            inputs={"training": f"{task}_training"},
            outputs={"best": f"{task}_best", "ranking_image": f"{task}_ranking_image"},
        )
        for task in TASKS
    }
    curve = Node(
        rank_outside_curve,
        inputs="params:curve",
        outputs=["curve_ranking", "curve_figure", "curve_image"],
        name="rank_outside_curve",
        tags=["report"],
    )
    return {**pipelines, "rank_curve": Pipeline([curve])}
