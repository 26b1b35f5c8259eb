from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.curves import as_ranking, ranking_figure, ranking_image

Count = Callable[[Figure, str], int]


def ranking(n: int = 12, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    step = 2500 * np.arange(1, n + 1)
    f1 = 0.87 * (1 - np.exp(-step / 6000)) + rng.normal(0, 0.002, n)
    table = pd.DataFrame({"step": step, "precision": f1 + 0.01, "recall": f1 - 0.01, "f1": f1})
    table = table.assign(auc=0.98, f1_low=f1 - 0.012, f1_high=f1 + 0.011)
    table["difference_from_leader"] = f1 - f1.max()
    table["difference_low"] = table["difference_from_leader"] - 0.004
    table["difference_high"] = table["difference_from_leader"] + 0.004
    table["tied"] = table["difference_high"] >= 0
    table["chosen"] = table["step"] == table.loc[table["tied"], "step"].min()
    table["rank"] = table["f1"].rank(ascending=False).astype(int)
    return table.sort_values("rank", ignore_index=True)


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data if trace.name}


def test_figure_shows_curve_interval_leader_ties_and_choice() -> None:
    table = ranking()
    figure = ranking_figure(table, title="onset <net>")
    shown = traces(figure)
    n_tied = int(table["tied"].sum())
    assert set(shown) == {
        "95 % interval", "precision", "recall", "F1", f"tied with the leader ({n_tied})",
        "leader", "chosen",
    }  # fmt: skip
    assert list(shown["F1"].x) == sorted(table["step"])
    by_step = table.sort_values("step")
    assert np.allclose(shown["F1"].y, 100 * by_step["f1"])
    assert list(shown["leader"].x) == [table["step"][0]]
    chosen = table[table["chosen"]].iloc[0]
    assert list(shown["chosen"].x) == [chosen["step"]]
    text = figure.layout.annotations[0].text
    assert text == f"chosen: step {chosen['step']:,}, F1 {100 * chosen['f1']:.2f} %"
    assert figure.layout.title.text == "onset &lt;net&gt;"


def test_hover_tells_everything_of_a_checkpoint() -> None:
    table = ranking()
    figure = ranking_figure(table)
    leader_text = next(text for text in traces(figure)["F1"].text if "rank 1<" in text)
    row = table.iloc[0]
    for expected in (
        f"step {row['step']:,}",
        f"F1 {100 * row['f1']:.2f} [{100 * row['f1_low']:.2f}, {100 * row['f1_high']:.2f}]",
        f"precision {100 * row['precision']:.2f}",
        f"recall {100 * row['recall']:.2f}",
        "AUC 98.00",
        "to the leader 0.00 [-0.40, 0.40]",
        "tied",
    ):
        assert expected in leader_text


def test_axis_leaves_out_the_first_bad_checkpoints() -> None:
    table = ranking(40)
    low, high = ranking_figure(table).layout.yaxis.range
    assert 100 * table["f1"].min() < low < 100 * 0.8 * table["f1"].max()
    assert high > 100 * table["f1_high"].max()
    assert ranking_image(table).axes[0].get_ylim() == pytest.approx((low, high))


def test_image_marks_leader_and_choice(pixels: Count) -> None:
    table = ranking()
    figure = ranking_image(table, title="onset")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[0] == "F1" and {"leader", "chosen", "95 % interval"} <= set(labels)
    assert pixels(figure, style.COLOURS["leader"]) > 20
    notes = [text.get_text() for text in figure.axes[0].texts]
    assert notes and notes[0].startswith("chosen: step ")


@pytest.mark.parametrize("late", [False, True])
def test_label_of_the_choice_stays_inside(late: bool) -> None:
    table = ranking()
    table["chosen"] = table["step"] == (table["step"].max() if late else table["step"].min())
    note = ranking_image(table).axes[0].texts[0]
    assert note.get_horizontalalignment() == ("right" if late else "left")
    assert ranking_figure(table).layout.annotations[0].xanchor == ("right" if late else "left")


def test_single_checkpoint_without_interval_and_companions() -> None:
    table = ranking(1)[["rank", "step", "f1", "tied", "chosen"]]
    assert "95 % interval" not in traces(ranking_figure(table))
    assert len(ranking_image(table).axes[0].get_legend().get_texts()) == 4


def test_single_checkpoint_has_its_companions_as_points(pixels: Count) -> None:
    figure = ranking_image(ranking(1))
    assert pixels(figure, style.COLOURS["precision"]) > 30


def test_other_metric_and_undefined_scores() -> None:
    table = ranking().rename(columns={"f1": "accuracy", "f1_low": "accuracy_low"})
    table = table.rename(columns={"f1_high": "accuracy_high"})
    assert "accuracy" in traces(ranking_figure(table, metric="accuracy"))
    undefined = table.assign(accuracy=np.nan)
    assert ranking_figure(undefined, metric="accuracy").layout.yaxis.range == (0, 100)


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(UserError, match="no checkpoint"):
        ranking_figure(ranking().head(0))
    with pytest.raises(UserError, match="chosen, tied"):
        ranking_image(ranking().drop(columns=["tied", "chosen"]))


@pytest.mark.parametrize("values", [[0.31, 0.12, 0.15], [31.0, 12.0, 15.0], [-1.0, -3.0, -2.0]])
def test_a_loss_keeps_its_scale_and_its_name(values: list[float]) -> None:
    curve = pd.DataFrame({"rank": [3, 1, 2], "step": [100, 200, 300], "value": values})
    table = as_ranking(curve)
    figure = ranking_figure(table, metric="value")
    axes = ranking_image(table, metric="value").axes[0]
    assert figure.layout.yaxis.title.text == axes.get_ylabel() == "value"
    assert list(traces(figure)["value"].y) == list(axes.lines[0].get_ydata()) == values
    low, high = figure.layout.yaxis.range
    span = max(values) - min(values)
    assert min(values) - 0.2 * span < low < min(values) < max(values) < high
    assert high < max(values) + 0.2 * span
    said = f"chosen: step 200, value {values[1]:g}"
    assert figure.layout.annotations[0].text == axes.texts[0].get_text() == said
    assert f"value {values[1]:g}" in traces(figure)["value"].text[1]


def test_a_score_is_in_percent() -> None:
    table = as_ranking(pd.DataFrame({"rank": [2, 1], "step": [1, 2], "value": [0.8, 0.9]}))
    axes = ranking_image(table, metric="value").axes[0]
    assert axes.get_ylabel() == "validation score (%)"
    assert list(axes.lines[0].get_ydata()) == pytest.approx([80, 90])
    assert axes.texts[0].get_text() == "chosen: step 2, value 90.00 %"
