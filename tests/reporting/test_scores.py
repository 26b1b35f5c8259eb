from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.scores import scores_figure, scores_image

Count = Callable[[Figure, str], int]


def per_piece(n: int) -> pd.DataFrame:
    f1 = 0.97 - 0.2 * np.random.default_rng(0).random(n) ** 3
    names = [f"composer_{i:03d}_${i}$_{'x' * 40}_end{i:03d}" for i in range(n)]
    return pd.DataFrame(
        {"recording_id": names, "precision": f1 + 0.01, "recall": f1 - 0.01, "f1": f1}
    )


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_pieces_are_sorted_and_named_when_few() -> None:
    table = per_piece(12)
    figure = scores_figure(table, interval=(0.93, 0.96), title="notes")
    shown = traces(figure)
    mean = 100 * table["f1"].mean()
    assert f"mean F1 {mean:.2f} % [93.00, 96.00]" in shown
    assert np.allclose(shown["F1"].x, 100 * np.sort(table["f1"]))
    worst = table.loc[table["f1"].idxmin(), "recording_id"]
    assert shown["F1"].text[0] == worst
    assert len(figure.layout.yaxis.ticktext) == 12
    band = figure.layout.shapes[0]
    assert (band.x0, band.x1) == pytest.approx((93.0, 96.0))

    axes = scores_image(table, interval=(0.93, 0.96), title="notes").axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[0] == style.shorten(worst, 40) and len(labels) == 12
    assert axes.get_title(loc="left") == "notes"


def test_of_many_pieces_the_lowest_are_listed() -> None:
    table = per_piece(125)
    figure = scores_figure(table)
    assert figure.layout.yaxis.showticklabels is False
    assert f"mean F1 {100 * table['f1'].mean():.2f} %" in traces(figure)
    axes = scores_image(table).axes[0]
    listed = axes.texts[0].get_text().splitlines()
    assert len(listed) == 6
    assert listed[1].startswith(f"{100 * table['f1'].min():.1f}  composer_")
    assert list(axes.get_yticks()) == []


def test_interval_is_drawn_as_a_band(pixels: Count) -> None:
    band = "#D9E9F3"
    table = per_piece(12)
    assert pixels(scores_image(table, interval=(0.93, 0.96)), band) > 2000
    assert pixels(scores_image(table), band) < 200


def test_no_piece_is_an_error() -> None:
    with pytest.raises(UserError, match="no piece to draw"):
        scores_figure(per_piece(0))
    with pytest.raises(UserError, match="no piece to draw"):
        scores_image(per_piece(0))
