from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.training_curves import training_figure, training_image


def history(n: int = 40) -> pd.DataFrame:
    step = 500 * np.arange(1, n + 1)
    fall = np.exp(-step / 4000)
    table = pd.DataFrame({"step": step, "train/loss": 0.02 + 0.4 * fall, "train/f1": 1 - fall})
    table["validation/f1"] = np.where(step % 2500 == 0, 0.9 - fall, np.nan)
    return table.assign(**{"train/learning_rate": 1e-3 * 0.98 ** (step // 500), "empty": np.nan})


def test_one_panel_per_kind_and_gaps_closed() -> None:
    figure = training_figure(history(), title="onset")
    shown = {trace.name: trace for trace in figure.data}
    assert set(shown) == {"train loss", "train F1", "validation F1", "train learning rate"}
    assert list(shown["validation F1"].x) == list(range(2500, 20001, 2500))
    assert shown["train F1"].line.color == shown["validation F1"].line.color
    assert shown["train F1"].line.dash != shown["validation F1"].line.dash
    assert max(shown["train F1"].y) > 90
    titles = [axis.title.text for axis in (figure.layout.yaxis, figure.layout.yaxis2)]
    assert titles == ["loss", "score (%)"]
    assert figure.layout.yaxis.type == "log" and figure.layout.yaxis2.type != "log"
    assert figure.layout.yaxis3.type != "log"


def test_image_has_the_same_panels() -> None:
    figure = training_image(history(), title="onset")
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "score (%)", "learning rate"]
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear", "linear"]
    assert figure.axes[0].get_title(loc="left") == "onset"
    assert figure.axes[-1].get_xlabel() == "training step"


def test_title_stands_over_a_panel_of_several_curves() -> None:
    table = history().drop(columns=["train/loss"])
    figure = training_image(table, title="pitch")
    assert figure.axes[0].get_title(loc="left") == "pitch"
    assert len(figure.axes[0].get_legend().get_texts()) == 2


def test_plain_and_unknown_columns() -> None:
    table = pd.DataFrame({"step": [1, 2], "loss": [1.0, 0.5], "gradient_norm": [3.0, 2.0]})
    labels = [axes.get_ylabel() for axes in training_image(table).axes]
    assert labels == ["loss", "gradient norm"]
    colours = {trace.name: trace.line.color for trace in training_figure(table).data}
    assert colours == {"loss": style.BLUE, "gradient norm": style.BLUE}


def test_diverged_loss_and_single_row_can_be_drawn() -> None:
    diverged = pd.DataFrame({"step": [1, 2, 3], "loss": [1.0, np.inf, np.nan]})
    training_image(diverged).canvas.draw()
    single = training_image(pd.DataFrame({"step": [1], "loss": [1.0]}))
    assert single.axes[0].lines[0].get_marker() == "o"


def test_wide_learning_rate_has_decades_only() -> None:
    table = pd.DataFrame({"step": [1, 2], "learning_rate": [1e-3, 1e-8]})
    figure = training_image(table)
    figure.canvas.draw()
    labels = {text.get_text() for text in figure.axes[0].get_yticklabels()}
    assert "1e\N{MINUS SIGN}05" in labels and not any(text.startswith("2") for text in labels)


def test_nothing_logged_is_an_error() -> None:
    with pytest.raises(UserError, match="nothing was logged"):
        training_figure(pd.DataFrame({"step": [1], "loss": [np.nan]}))
