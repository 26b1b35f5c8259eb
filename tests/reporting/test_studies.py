"""Figures and pages of a study: what is drawn is what the tables say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from amt_pipeline.core.errors import UserError
from amt_pipeline.reporting import style
from amt_pipeline.reporting.study_curves import (
    learning_curve_figure,
    learning_curve_image,
    learning_rate_figure,
    learning_rate_image,
)
from amt_pipeline.reporting.study_pages import StudyReport, shown_table, study_html, study_markdown
from amt_pipeline.reporting.study_scores import study_scores_figure, study_scores_image


def curves(names: tuple[str, ...] = ("a", "b"), seeds: tuple[int, ...] = (1, 2)) -> pd.DataFrame:
    rows = [
        (name, seed, quantity, 10 * epoch, float(epoch), value)
        for position, name in enumerate(names)
        for seed in seeds
        for epoch in range(1, 21)
        for quantity, value in (
            ("train", 0.5 + 0.02 * epoch - 0.05 * position),
            ("validation", 0.4 + 0.02 * epoch - 0.05 * position + 0.01 * seed),
            ("learning_rate", 1e-3 * (position + 1)),
        )
    ]
    return pd.DataFrame(rows, columns=["variant", "seed", "quantity", "step", "epoch", "value"])


def table() -> pd.DataFrame:
    nothing = float("nan")
    rows = [
        # place, variant, score, low, high, difference, p
        (2, "b", 0.8, 0.7, 0.9, 0.1, 0.01),
        (1, "a", 0.7, 0.6, 0.8, nothing, nothing),
        (3, "lost <i>", nothing, nothing, nothing, nothing, nothing),
    ]
    found = []
    for rank, (place, name, score, low, high, difference, p) in enumerate(rows, start=1):
        found.append({
            "rank": rank, "variant": name, "settings": f"x={name}", "seeds": 2, "place": place,
            "parameters": 31017.0, "steps": 200.0, "chosen_step": 150.0, "seconds": 90.0,
            "train_f1": score, "validation_f1": score, "validation_f1_low": low,
            "validation_f1_high": high, "spread": 0.01, "lowest": score, "highest": score,
            "difference": difference, "difference_low": difference - 0.05,
            "difference_high": difference + 0.05, "p_value": p, "p_corrected": p,
            "note": "" if score == score else "seed 1 diverged: the loss is nan",
        })  # fmt: skip
    return pd.DataFrame(found)


SEEDS = pd.DataFrame(
    [("a", 1, 0.69), ("a", 2, 0.71), ("b", 1, 0.8)], columns=["variant", "seed", "score"]
)


def report(**more: Any) -> StudyReport:
    given: dict[str, Any] = {
        "title": "My study", "question": "Which | one?", "task": "onset", "metric": "f1",
        "unit": "piece", "n_units": 12, "reference": "a", "seeds": [1, 2], "table": table(),
        "warnings": ["one <b>seed</b> only"], "base": {"training.epochs": "3"},
    }  # fmt: skip
    return StudyReport(**{**given, **more})


def test_every_variant_has_a_line_and_a_band_in_both_panels() -> None:
    figure = learning_curve_figure(curves(), metric="accuracy", title="<b>T")
    named = [trace for trace in figure.data if trace.name in ("a", "b")]
    assert len(named) == 4
    assert len(figure.data) == 12  # each with the two edges of its band
    assert [trace.name for trace in named if trace.showlegend] == ["a", "b"]
    validation, training = named[0], named[2]
    assert validation.line.color == training.line.color
    assert validation.y[0] == pytest.approx(100 * (0.42 + 0.015))  # the mean of two seeds
    assert figure.layout.yaxis.title.text == "validation accuracy (%)"
    assert figure.layout.title.text == "&lt;b&gt;T"


def test_the_axis_leaves_out_the_first_steps() -> None:
    low, high = learning_curve_figure(curves(), metric="f1").layout.yaxis.range
    lowest_best = 100 * (0.4 + 0.4 - 0.05 + 0.015)
    assert 0.7 * lowest_best < low < 0.8 * lowest_best
    assert high > 100 * (0.4 + 0.4 + 0.02)


def fallen(last: float, epochs: int = 20) -> pd.DataFrame:
    """Curves of which seed 2 of variant `a` ends low after it was high."""
    table = curves()
    table = table[table["epoch"] <= epochs]
    is_last = (table["variant"] == "a") & (table["seed"] == 2) & (table["epoch"] == epochs)
    table.loc[is_last & (table["quantity"] != "learning_rate"), "value"] = last
    return table


def test_what_a_training_ended_with_is_on_the_axis() -> None:
    layout = learning_curve_figure(fallen(0.1), metric="f1").layout
    for axis in (layout.yaxis, layout.yaxis2):
        assert 0 < axis.range[0] < 9  # of 10 %, the low end of the band
    image = learning_curve_image(fallen(0.1), metric="f1")
    assert all(axes.get_ylim()[0] < 9 for axes in image.axes)


@pytest.mark.parametrize("epochs", [4, 8, 12])
def test_no_marker_is_cut_by_the_edge_of_the_axes(epochs: int) -> None:
    table = curves()
    # Early scores of every height, so that some lie at the edge.
    for early in np.linspace(0.1, 0.5, 41):
        table.loc[(table["epoch"] == 1) & (table["quantity"] == "validation"), "value"] = early
        figure = learning_curve_image(table[table["epoch"] <= epochs], metric="f1")
        figure.draw_without_rendering()
        for axes in figure.axes:
            low, high = axes.get_ylim()
            marks = np.concatenate([np.asarray(line.get_ydata()) for line in axes.lines])
            margin = 0.02 * (high - low)
            assert not ((marks > low - margin) & (marks < low + margin)).any()
            assert marks.max() < high - margin


@pytest.mark.parametrize("highest", [2e-3, 1e-1])
def test_the_highest_learning_rate_is_below_the_top(highest: float) -> None:
    table = curves()
    rates = table["quantity"] == "learning_rate"
    table.loc[rates & (table["variant"] == "b"), "value"] = highest
    axes = learning_rate_image(table[table["epoch"] <= 6]).axes[0]
    (_, bottom), (_, top) = axes.transAxes.inverted().transform(
        axes.transData.transform([(1, 1e-3), (1, highest)])
    )
    assert 0.03 < bottom < top < 0.97
    assert (axes.get_yscale() == "log") == (highest > 1e-2)


def test_one_seed_has_no_band_and_a_short_training_does_not_bend_the_mean() -> None:
    assert len(learning_curve_figure(curves(seeds=(1,)), metric="f1").data) == 4
    short = curves(("a",))
    short = short[(short["seed"] == 1) | (short["epoch"] <= 5)]
    figure = learning_curve_figure(short, metric="f1")
    assert max(figure.data[-1].x) == 5


def test_many_variants_are_told_apart() -> None:
    figure = learning_rate_figure(curves(tuple("abcdefghij")))
    looks = {(trace.line.color, trace.line.dash) for trace in figure.data if trace.name}
    assert len(looks) == 10


def test_equal_learning_rates_are_one_line() -> None:
    same = curves()
    same.loc[same["quantity"] == "learning_rate", "value"] = 1e-3
    assert [t.name for t in learning_rate_figure(same).data if t.name] == ["all 2 variants"]
    three = pd.concat([same, curves(("x", "y"))[lambda t: t["variant"] == "y"]])
    assert [t.name for t in learning_rate_figure(three).data if t.name] == ["a = b", "y"]


def test_equal_variants_are_one_line_in_both_panels() -> None:
    same = curves(("a", "b", "c"))
    rows = same["variant"].isin(["a", "b"])
    same.loc[rows, "value"] = same.loc[same["variant"] == "a", "value"].tolist() * 2
    figure = learning_curve_figure(same, metric="f1")
    assert [trace.name for trace in figure.data if trace.name] == ["a = b", "c"] * 2
    assert figure.data[-1].line.color == style.CYCLE[2]


def test_noisy_training_scores_are_averaged_over_epochs() -> None:
    rng = np.random.default_rng(0)
    rows = [("a", 1, "train", step, step / 10, 0.5 + rng.normal(0, 0.1)) for step in range(1, 401)]
    noisy = pd.DataFrame(rows, columns=["variant", "seed", "quantity", "step", "epoch", "value"])
    (line,) = learning_curve_figure(noisy, metric="f1").data
    assert list(line.x) == list(range(1, 41))
    assert line.y[0] == pytest.approx(100 * np.mean([row[-1] for row in rows[:10]]))
    short = noisy.assign(epoch=noisy["epoch"] / 100)
    (line,) = learning_curve_figure(short, metric="f1").data
    assert len(line.x) == 80


def test_rates_decades_apart_have_a_logarithmic_axis() -> None:
    assert learning_rate_figure(curves()).layout.yaxis.type != "log"
    apart = curves()
    rates = (apart["quantity"] == "learning_rate") & (apart["variant"] == "b")
    apart.loc[rates, "value"] = 1e-5
    assert learning_rate_figure(apart).layout.yaxis.type == "log"
    assert learning_rate_image(apart).axes[0].get_yscale() == "log"


def test_images_show_every_variant(pixels: Callable[[Any, str], int]) -> None:
    for image in (
        learning_curve_image(curves(), metric="f1", title="$T"),
        learning_rate_image(curves(), title="$T"),
        study_scores_image(table(), SEEDS, metric="f1", reference="a", title="$T"),
    ):
        for colour in style.CYCLE[:2]:
            assert pixels(image, colour) > 50


def test_scores_are_in_the_order_of_the_study_with_the_reference_marked() -> None:
    figure = study_scores_figure(table(), SEEDS, metric="f1", reference="a")
    assert list(figure.layout.yaxis.ticktext) == ["b", "a (reference)"]  # from below
    seeds, means = figure.data
    assert list(means.x) == pytest.approx([80, 70])
    assert list(means.error_x.array) == pytest.approx([10, 10])
    assert list(means.marker.color) == [style.VERMILLION, style.BLUE]
    assert sorted(seeds.x) == pytest.approx([69, 71, 80])
    assert "p = 0.01" in means.text[0] and "+" not in means.text[1]


def test_nothing_to_draw_is_an_error() -> None:
    empty = curves().iloc[:0]
    lost = table().assign(validation_f1=np.nan)
    for draw in (
        lambda: learning_curve_figure(empty, metric="f1"),
        lambda: learning_rate_image(empty),
        lambda: study_scores_figure(lost, SEEDS, metric="f1", reference="a"),
    ):
        with pytest.raises(UserError, match="draw"):
            draw()


def test_table_for_people() -> None:
    shown = shown_table(report()).set_index("variant")
    assert shown.loc["b", "validation F1 (%)"] == "80.00"
    assert shown.loc["b", "to the reference"] == "+10.00 [5.00, 15.00]"
    assert shown.loc["b", "p"] == "0.0100 *"
    assert shown.loc["a", "p"] == style.UNKNOWN
    assert shown.loc["b", "parameters"] == "31,017"
    assert shown.loc["b", "time"] == "90.0 s"
    assert shown.loc["lost <i>", "note"] == "seed 1 diverged: the loss is nan"
    whole = table().assign(note="")
    assert "note" not in shown_table(report(table=whole))
    small = replace(report(), table=table().assign(p_corrected=1e-6, seconds=7300.0))
    assert shown_table(small)["p"].iloc[0] == "< 0.0001 *"
    assert shown_table(small)["time"].iloc[0] == "2.0 h"


def test_pages_say_it_all_and_escape_names(tmp_path: Path) -> None:
    image = style.save_png(learning_rate_image(curves()), tmp_path / "rates.png")
    page = study_html(report(), {"Rates": image}, {"Table": "table.csv"})
    markdown = study_markdown(report(), {"Rates": "rates.png"})
    for text in (page, markdown):
        assert "Highest: b, 80.00 % validation F1" in text
        assert "tested against a." in text
        assert "training.epochs" in text
        assert "Holm" in text
        assert "<i>" not in text and "<b>" not in text
    assert "![Rates](rates.png)" in markdown
    assert "Which \\| one?" in markdown
    assert "data:image/png;base64" in page
    assert 'href="table.csv"' in page
    assert page.count("<tr class=mark>") == 1
